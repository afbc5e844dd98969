//! What clients of Socket.IO send once they are in their namespace. On the shard thread.
//!
//! Invariant: a packet that breaks the protocol ends its connection; an event that asks for what is not there
//! gets an answer; and namespaces are the door's: a packet about one takes its connection back there.

use super::pace::Millis;
use super::{Fanout, second};
use crate::server::link::Link;
use crate::wire::socketio::{self, Packet, PacketError, Parser};
use crate::wire::{CloseCode, Encoding, ErrorCode, Id, Incoming, Request, RequestError, engineio};
use serde_json::Value;

/// A connection that its door is to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    pub key: usize,
    /// What its client has sent, from the packet on that names a namespace.
    pub messages: Vec<Incoming>,
}

impl<L: Link> Fanout<L> {
    /// The connection that the last call of [`Self::received`] was about, if its door is to take it back.
    pub fn take_returned(&mut self) -> Option<Returned> {
        self.returned.take()
    }

    /// The link of a connection that [goes back](Self::take_returned) is about to lead elsewhere. Returns
    /// what is still to be sent over the one before, and how many heartbeats its client has not answered.
    pub fn unlink(&mut self, key: usize) -> (Vec<u8>, u8) {
        let Some(connection) = self.alone(key) else { return (Vec::new(), 0) };
        (std::mem::take(&mut connection.backlog), connection.pace.open())
    }

    /// Whether that is the answer to a heartbeat, which is the pong of a ping that it does not name.
    pub(super) fn answered_heartbeat(&mut self, key: usize, packet: &[u8]) -> bool {
        let now = Millis::of(self.now);
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if connection.form.framing().parser().is_none() || packet != b"3" {
            return false;
        }
        let pings = self.pings.get(connection.session.cohort_id().index()).copied().unwrap_or_default();
        if let Some(ping) = connection.pace.ponged_without_name(&pings, now) {
            self.ponged(key, &ping.get().to_be_bytes());
        }
        true
    }

    /// Handles any other packet.
    pub(super) fn packet(&mut self, key: usize, parser: Parser, encoding: Encoding, bytes: Vec<u8>) {
        let now = second(self.now);
        let packet = match encoding {
            Encoding::Json => read_text(parser, &bytes),
            Encoding::MessagePack => match Packet::read_binary(parser, &bytes) {
                Ok(Some(packet)) => Ok(Read::Packet(packet)),
                // An attachment: the event that it belongs to was refused.
                Ok(None) => return,
                Err(error) => Err(error),
            },
        };
        match packet {
            Ok(Read::Packet(Packet::Event { namespace, ack, args, attachments }))
                if *namespace == *self.namespace =>
            {
                self.event(key, ack, &args, attachments);
            }
            // What is under way on an impaired link cannot go another way.
            Ok(Read::Packet(Packet::Connect { namespace, .. }))
                if self.connections[key].link.impaired().is_some() =>
            {
                let message = "this connection is impaired at its own request: end the fault first";
                let mut frame = Vec::new();
                parser.refused(&namespace, message, Value::Null).write_frame(&mut frame);
                self.connections[key].say(&frame, now);
            }
            Ok(Read::Packet(Packet::Disconnect { .. }))
                if self.connections[key].link.impaired().is_some() =>
            {
                self.connections[key].close(CloseCode::NORMAL, "", now);
            }
            Ok(Read::Packet(Packet::Connect { .. } | Packet::Disconnect { .. })) => {
                self.returned = Some(Returned { key, messages: vec![Incoming::Message(encoding, bytes)] });
            }
            Ok(Read::Close) => self.connections[key].close(CloseCode::NORMAL, "", now),
            // Events of a namespace that it is not in are dropped.
            Ok(Read::Packet(_) | Read::Nothing) => {}
            Err(error) => {
                let reason: String = error.to_string().chars().filter(char::is_ascii).collect();
                self.connections[key].close(CloseCode::POLICY, &reason, now);
            }
        }
    }

    /// Handles an event, which is a request.
    fn event(&mut self, key: usize, ack: Option<u64>, args: &[Value], attachments: usize) {
        let request = if attachments > 0 {
            let message = "no event here takes binary data".to_owned();
            Err(RequestError { id: ack.map(Id::Number), code: ErrorCode::BadRequest, message })
        } else {
            socketio::request(ack, args).and_then(|request| Request::from_json(&request))
        };
        self.request(key, request);
    }
}

/// What a text is to a session.
enum Read {
    Packet(Packet),
    Close,
    Nothing,
}

fn read_text(parser: Parser, bytes: &[u8]) -> Result<Read, PacketError> {
    let text = String::from_utf8_lossy(bytes);
    Ok(match engineio::Packet::read(&text)? {
        engineio::Packet::Message(message) => Read::Packet(Packet::read(parser, message)?),
        engineio::Packet::Close => Read::Close,
        _ => Read::Nothing,
    })
}
