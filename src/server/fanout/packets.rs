//! What clients of Socket.IO send once they are in their namespace. On the shard thread.
//!
//! Invariant: a packet that breaks the protocol ends its connection; an event that asks for what is not there
//! gets an answer.

use super::pace::Millis;
use super::{Fanout, second};
use crate::server::link::Link;
use crate::wire::socketio::{self, Packet};
use crate::wire::{CloseCode, Encoding, ErrorCode, Framing, Id, Opcode, Request, RequestError, write_frame};
use serde_json::Value;

impl<L: Link> Fanout<L> {
    /// Whether that is the answer to a heartbeat, which is the pong of a ping that it does not name.
    pub(super) fn answered_heartbeat(&mut self, key: usize, packet: &[u8]) -> bool {
        let now = Millis::of(self.now);
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if connection.form.framing() != Framing::SocketIo || packet != b"3" {
            return false;
        }
        let pings = self.pings.get(connection.session.cohort_id().index()).copied().unwrap_or_default();
        if let Some(ping) = connection.pace.ponged_without_name(&pings, now) {
            self.ponged(key, &ping.get().to_be_bytes());
        }
        true
    }

    /// Handles any other packet.
    pub(super) fn packet(&mut self, key: usize, encoding: Encoding, packet: &[u8]) {
        let now = second(self.now);
        let text = match encoding {
            Encoding::Json => String::from_utf8_lossy(packet),
            // An attachment: the event that it belongs to was refused.
            Encoding::MessagePack => return,
        };
        match Packet::read(&text) {
            Ok(Packet::Event { namespace, ack, args, has_attachments }) if *namespace == *self.namespace => {
                let request = if has_attachments {
                    let message = "no event here takes binary data".to_owned();
                    Err(RequestError { id: ack.map(Id::Number), code: ErrorCode::BadRequest, message })
                } else {
                    socketio::request(ack, &args).and_then(|request| Request::from_json(&request))
                };
                self.request(key, request);
            }
            Ok(Packet::Connect { namespace, .. }) => {
                let message = "a connection has one namespace: connect to another with forceNew";
                let refused = socketio::refused(&namespace, message, &Value::Null);
                let mut frame = Vec::new();
                write_frame(Opcode::Text, refused.as_bytes(), &mut frame);
                self.connections[key].say(&frame, now);
            }
            Ok(Packet::Disconnect { namespace }) if *namespace == *self.namespace => {
                self.connections[key].close(CloseCode::NORMAL, "", now);
            }
            Ok(Packet::Close) => self.connections[key].close(CloseCode::NORMAL, "", now),
            // Events of a namespace that it is not in are dropped, as the protocol has it.
            Ok(_) => {}
            Err(error) => {
                let reason: String = error.to_string().chars().filter(char::is_ascii).collect();
                self.connections[key].close(CloseCode::POLICY, &reason, now);
            }
        }
    }
}
