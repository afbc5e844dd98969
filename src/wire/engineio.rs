//! Packets of Engine.IO 4, which carry those of Socket.IO. Pure; any thread.
//!
//! Invariant: what is written has one packet per WebSocket frame, or per part of a poll.
//!
//! Source: `docs/engine.io-protocol` of `socketio/socket.io`, version 4.

use super::frame::{Opcode, write_frame};
use std::time::Duration;

/// The version that is spoken, as `EIO` has it.
pub const VERSION: &str = "4";

/// Separates the packets in the body of an HTTP poll.
pub const SEPARATOR: char = '\u{1e}';

/// A packet as a transport carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// With the digit of its type.
    Text(String),
    /// A message: nothing else is binary.
    Binary(Vec<u8>),
}

/// A packet that came as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The probe of an upgrade, or a heartbeat, which only servers send.
    Ping {
        /// Whether it is an upgrade's.
        is_probe: bool,
    },
    /// The answer to a heartbeat.
    Pong,
    /// The end of the connection.
    Close,
    /// A message of the application.
    Message(&'a str),
    /// The end of an upgrade.
    Upgrade,
    /// Nothing.
    Noop,
}

/// Why a text is no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// It has no type.
    #[error("an empty packet")]
    Empty,
    /// It begins with something else than a type's digit.
    #[error("unknown Engine.IO packet type {0:?}")]
    UnknownType(char),
}

/// What a handshake tells a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// From the answer to a heartbeat to the next one, at the latest.
    pub ping_interval: Duration,
    /// How long a client may take to answer one. It gives up itself if it hears none for the sum of both.
    pub ping_timeout: Duration,
}

impl Timing {
    /// Sessions send heartbeats of their own, more often than that.
    pub const USUAL: Self =
        Self { ping_interval: Duration::from_secs(25), ping_timeout: Duration::from_secs(20) };
    /// As the public test suites expect it.
    pub const OF_SUITES: Self =
        Self { ping_interval: Duration::from_millis(300), ping_timeout: Duration::from_millis(200) };
}

impl<'a> Packet<'a> {
    /// Reads the text of one packet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &'a str) -> Result<Self, PacketError> {
        let mut letters = text.chars();
        let kind = letters.next().ok_or(PacketError::Empty)?;
        let rest = letters.as_str();
        match kind {
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping { is_probe: rest == "probe" }),
            '3' => Ok(Self::Pong),
            '4' => Ok(Self::Message(rest)),
            '5' => Ok(Self::Upgrade),
            '6' => Ok(Self::Noop),
            other => Err(PacketError::UnknownType(other)),
        }
    }
}

impl Data {
    /// The end of the connection.
    #[must_use]
    pub fn close() -> Self {
        Self::Text("1".to_owned())
    }

    /// A heartbeat.
    #[must_use]
    pub fn ping() -> Self {
        Self::Text("2".to_owned())
    }

    /// Nothing, for a poll that is sent home.
    #[must_use]
    pub fn noop() -> Self {
        Self::Text("6".to_owned())
    }

    /// Its length, bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a packet has at least its type")]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Appends it in a frame, as a server sends it.
    pub fn write_frame(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => write_frame(Opcode::Text, text.as_bytes(), out),
            Self::Binary(bytes) => write_frame(Opcode::Binary, bytes, out),
        }
    }
}

/// The packet that opens a connection. `max_payload`: bytes that a client may post.
#[must_use]
pub fn handshake(sid: &str, upgrades: &[&str], timing: Timing, max_payload: usize) -> Data {
    let open = serde_json::json!({
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": timing.ping_interval.as_millis(),
        "pingTimeout": timing.ping_timeout.as_millis(),
        "maxPayload": max_payload,
    });
    Data::Text(format!("0{open}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_clients_are_read() {
        for (text, packet) in [
            ("1", Packet::Close),
            ("2", Packet::Ping { is_probe: false }),
            ("2probe", Packet::Ping { is_probe: true }),
            ("3", Packet::Pong),
            ("40/desk,", Packet::Message("0/desk,")),
            ("4", Packet::Message("")),
            ("5", Packet::Upgrade),
            ("6", Packet::Noop),
        ] {
            assert_eq!(Packet::read(text), Ok(packet), "{text}");
        }
        assert_eq!(Packet::read(""), Err(PacketError::Empty));
        assert_eq!(Packet::read("9"), Err(PacketError::UnknownType('9')));
    }
}
