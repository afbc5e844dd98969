//! The server that the public test suites of both protocols talk to: what comes is sent back. Pure.
//!
//! It is behind the same transports, heartbeats and packets as sessions are.

use crate::wire::engineio::{self, Data};
use crate::wire::socketio::{Packet, PacketError, Parser};
use serde_json::{Value, json};

/// The namespaces that there are.
const NAMESPACES: [&str; 2] = ["/", "/custom"];

/// What is behind one connection.
#[derive(Debug)]
pub(super) enum Echo {
    /// Messages of Engine.IO, whatever they are.
    Engine,
    /// Events of Socket.IO.
    Events(Events),
}

#[derive(Debug, Default)]
pub(super) struct Events {
    /// Those that the client is in.
    namespaces: Vec<String>,
    /// Binary messages that belong to the last event, and have not come yet.
    attachments: usize,
}

impl Echo {
    /// Takes a message, and appends what goes back.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, data: Data, parser: Parser, sid: &str, out: &mut Vec<Data>) -> Result<(), String> {
        match (self, data) {
            (Self::Engine, data) => out.push(data),
            (Self::Events(events), Data::Binary(bytes)) => {
                events.attachments =
                    events.attachments.checked_sub(1).ok_or("binary data that no event has announced")?;
                out.push(Data::Binary(bytes));
            }
            (Self::Events(events), Data::Text(text)) => {
                if events.attachments > 0 {
                    return Err("a packet before the attachments of the last one".to_owned());
                }
                events.take(&text, parser, sid, out)?;
            }
        }
        Ok(())
    }
}

impl Events {
    fn take(&mut self, text: &str, parser: Parser, sid: &str, out: &mut Vec<Data>) -> Result<(), String> {
        let wrong = |error: PacketError| error.to_string();
        let engineio::Packet::Message(message) = engineio::Packet::read(text).map_err(|e| wrong(e.into()))?
        else {
            return Ok(());
        };
        match Packet::read(parser, message).map_err(wrong)? {
            Packet::Connect { namespace, .. } if !NAMESPACES.contains(&&*namespace) => {
                out.push(parser.refused(&namespace, super::INVALID_NAMESPACE, Value::Null));
            }
            Packet::Connect { namespace, auth } => {
                let auth = if auth.is_null() { json!({}) } else { auth };
                out.push(parser.connected(&namespace, sid));
                out.push(parser.event(&namespace, &json!(["auth", auth])));
                self.namespaces.push(namespace);
            }
            Packet::Disconnect { namespace } => self.namespaces.retain(|joined| *joined != namespace),
            Packet::Event { namespace, .. } if !self.namespaces.contains(&namespace) => {
                return Err("an event of a namespace that is not connected".to_owned());
            }
            Packet::Event { namespace, ack, mut args, attachments } => {
                self.attachments = attachments;
                let ack = match (args[0].as_str(), ack) {
                    (Some("message"), _) => {
                        args[0] = "message-back".into();
                        None
                    }
                    (Some("message-with-ack"), Some(ack)) => {
                        args.remove(0);
                        Some(ack)
                    }
                    _ => return Ok(()),
                };
                out.push(Parser::with_attachments(&namespace, ack, &Value::Array(args), attachments));
            }
            Packet::Ack => {}
        }
        Ok(())
    }
}
