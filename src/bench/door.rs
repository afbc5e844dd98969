//! The doors of a server as a client of each speaks them: how it asks for topics, where a message ends, and
//! what an update in it says of the session. Pure.

use super::session::MAX_FRAME;
use crate::market::Timestamp;
use crate::wire::{Opcode, PROTOCOL_MSGPACK};
use clap::ValueEnum;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

/// A door of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Door {
    /// Binary frames of `/v1/ws`
    #[default]
    Websocket,
    /// Events of `/socket.io/` over a WebSocket
    #[value(name = "socket.io")]
    SocketIo,
    /// Server-Sent Events of `/v1/sse`
    Sse,
    /// JSON lines of `/v1/lines`
    Lines,
}

/// What a client sends to subscribe.
#[derive(Debug, Default)]
pub struct Greeting {
    pub request: Vec<u8>,
    /// Once the server has accepted it.
    pub then: Vec<u8>,
}

/// What a server has sent, by what a client has to do about it.
#[derive(Debug)]
pub enum Received<'a> {
    /// The server has accepted the request, and waits for the rest of the greeting.
    Accepted,
    /// In the form of the door.
    Update(&'a [u8]),
    /// Any other message, in MessagePack on the WebSocket, else in JSON.
    Answer(&'a [u8]),
    /// To be answered with these bytes.
    Asked(Vec<u8>),
    Nothing,
}

impl Door {
    /// Subscribes to these topics.
    #[must_use]
    pub fn greeting(self, authority: &str, topics: &[String], max_hz: Option<f64>) -> Greeting {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let mut then = Vec::new();
        if self == Self::SocketIo {
            query.append_pair("EIO", "4").append_pair("transport", "websocket");
            let auth = json!({ "topics": topics, "max_hz": max_hz });
            then = client_frame(Opcode::Text, format!("40{auth}").as_bytes());
        } else {
            query.append_pair("topics", &topics.join(","));
            if let Some(hz) = max_hz {
                query.append_pair("max_hz", &hz.to_string());
            }
        }
        let (path, query) = (self.path(), query.finish());
        // The key is for the server to prove that it is one; that it does is tested elsewhere.
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let fields = match self {
            Self::Websocket => format!("{upgrade}Sec-WebSocket-Protocol: {PROTOCOL_MSGPACK}\r\n"),
            Self::SocketIo => upgrade.to_owned(),
            Self::Sse | Self::Lines => String::new(),
        };
        let request = format!("GET {path}?{query} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n");
        Greeting { request: request.into_bytes(), then }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Websocket => "/v1/ws",
            Self::SocketIo => "/socket.io/",
            Self::Sse => "/v1/sse",
            Self::Lines => "/v1/lines",
        }
    }

    /// How the answer to an accepted request begins.
    #[must_use]
    pub fn accepted(self) -> &'static str {
        match self {
            Self::Websocket | Self::SocketIo => "HTTP/1.1 101 ",
            Self::Sse | Self::Lines => "HTTP/1.1 200 ",
        }
    }

    /// Length of the message that `bytes` begin with, and where in it its payload begins; `None` while it is
    /// incomplete. `searched`: so many bytes are known not to hold its end.
    ///
    /// # Errors
    /// It is longer than any the server may send, or no frame.
    pub fn extent(self, bytes: &[u8], searched: usize) -> Result<Option<(usize, usize)>, String> {
        let ends_with: &[u8] = match self {
            Self::Websocket | Self::SocketIo => return frame_extent(bytes),
            Self::Sse => b"\n\n",
            Self::Lines => b"\n",
        };
        let from = searched.saturating_sub(ends_with.len());
        match memchr::memmem::find(&bytes[from..], ends_with) {
            Some(end) => Ok(Some((0, from + end + ends_with.len()))),
            None if bytes.len() > MAX_FRAME => Err(format!("a message of {} bytes and more", bytes.len())),
            None => Ok(None),
        }
    }

    /// # Errors
    /// Why the server has ended the session, or what cannot be read.
    pub fn read(self, message: &[u8], payload: usize) -> Result<Received<'_>, String> {
        let payload = &message[payload..];
        match self {
            Self::Websocket | Self::SocketIo => self.read_frame(message[0], payload),
            Self::Sse => {
                // Its only other fields are the id and the delay to come back after.
                let data = payload.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"data: "));
                Ok(data.map_or(Received::Nothing, read_json))
            }
            Self::Lines => Ok(payload.strip_suffix(b"\n").map_or(Received::Nothing, read_json)),
        }
    }

    fn read_frame(self, first: u8, payload: &[u8]) -> Result<Received<'_>, String> {
        const TEXT: u8 = 0x80 | Opcode::Text as u8;
        const BINARY: u8 = 0x80 | Opcode::Binary as u8;
        const PING: u8 = 0x80 | Opcode::Ping as u8;
        const CLOSE: u8 = 0x80 | Opcode::Close as u8;
        match first {
            // Updates are arrays, answers are maps.
            BINARY if matches!(payload.first(), Some(0x90..=0x9f | 0xdc | 0xdd)) => {
                Ok(Received::Update(payload))
            }
            BINARY => Ok(Received::Answer(payload)),
            TEXT if self == Self::SocketIo => read_packet(payload),
            PING => Ok(Received::Asked(client_frame(Opcode::Pong, payload))),
            CLOSE => {
                let code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                Err(format!(
                    "the server closed with {code} {}",
                    String::from_utf8_lossy(payload.get(2..).unwrap_or_default())
                ))
            }
            other => Err(format!("a frame that begins with {other:#x}")),
        }
    }

    /// Position and µs on the tape's clock after an update, from those before it.
    #[must_use]
    pub fn advance(self, update: &[u8], (position, micros): (u64, i64)) -> Option<(u64, i64)> {
        if self == Self::Websocket {
            let (positions, more) = head(update)?;
            return Some((position + positions, micros + more));
        }
        let digits = field(update, b"\"position\":")?;
        let position = digits.iter().take_while(|byte| byte.is_ascii_digit());
        let position = position.fold(0, |position: u64, digit| 10 * position + u64::from(digit - b'0'));
        let time = field(update, b"\"time\":\"")?;
        let time = std::str::from_utf8(&time[..time.iter().position(|&byte| byte == b'"')?]).ok()?;
        Some((position, time.parse::<Timestamp>().ok()?.micros()))
    }
}

/// A packet of Engine.IO 4, with one of Socket.IO 5 in it.
fn read_packet(packet: &[u8]) -> Result<Received<'_>, String> {
    match packet {
        [b'0', ..] => Ok(Received::Accepted),
        [b'2'] => Ok(Received::Asked(client_frame(Opcode::Text, b"3"))),
        [b'4', b'0', ..] => Ok(Received::Nothing),
        [b'4', b'2', event @ ..] => {
            let args = event.strip_suffix(b"]").and_then(|event| event.strip_prefix(b"[\""));
            let args = args.and_then(|args| Some((args, memchr::memmem::find(args, b"\",")?)));
            Ok(args.map_or(Received::Nothing, |(args, name)| read_json(&args[name + 2..])))
        }
        other => Err(format!("the server sent {}", String::from_utf8_lossy(other))),
    }
}

fn read_json(message: &[u8]) -> Received<'_> {
    if message.starts_with(br#"{"type":"update""#) {
        Received::Update(message)
    } else {
        Received::Answer(message)
    }
}

/// What follows the first of these names, which stands near the beginning.
fn field<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let near = &json[..json.len().min(128)];
    let at = memchr::memmem::find(near, name)?;
    Some(&json[at + name.len()..])
}

/// Masked with zeros, which change nothing.
fn client_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode as u8];
    match u16::try_from(payload.len()) {
        Ok(len @ ..126) => frame.push(0x80 + len.to_be_bytes()[1]),
        Ok(len) => {
            frame.push(0x80 + 126);
            frame.extend(len.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 + 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Where the payload of the frame begins that `bytes` begin with, and where it ends.
fn frame_extent(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let (header, len) = match bytes {
        [_, len @ 0..=125, ..] => (2, usize::from(*len)),
        [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
        [_, 127, rest @ ..] => match rest.first_chunk::<8>() {
            Some(len) => (10, usize::try_from(u64::from_be_bytes(*len)).unwrap_or(usize::MAX)),
            None => return Ok(None),
        },
        [_, masked, ..] if masked & 0x80 != 0 => return Err("a masked frame".to_owned()),
        _ => return Ok(None),
    };
    if len > MAX_FRAME {
        return Err(format!("a frame of {len} bytes"));
    }
    Ok((bytes.len() >= header + len).then_some((header, header + len)))
}

/// By how many positions and µs an update in MessagePack advances.
fn head(mut payload: &[u8]) -> Option<(u64, i64)> {
    rmp::decode::read_array_len(&mut payload).ok()?;
    let positions = match payload.first()? {
        0xc0 => {
            payload = &payload[1..];
            0
        }
        _ => rmp::decode::read_int(&mut payload).ok()?,
    };
    Some((positions, rmp::decode::read_int(&mut payload).ok()?))
}

/// What a client of a JSON form knows of its rings: the number that each goes on with.
#[derive(Debug, Default)]
pub struct Rings {
    next: FxHashMap<String, u64>,
}

/// Entries of rings in an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    pub delivered: u64,
    /// By their numbers.
    pub missed: u64,
}

impl Rings {
    /// # Errors
    /// The update cannot be read.
    pub fn apply(&mut self, update: &[u8]) -> Result<Entries, String> {
        let update: Value = serde_json::from_slice(update).map_err(|error| error.to_string())?;
        let mut entries = Entries::default();
        for change in update["updates"].as_array().ok_or("an update without a list")? {
            if change["reset"] == true {
                self.next.clear();
            }
            let Some(topic) = change["topic"].as_str() else { continue };
            for ring in ["trades", "closed", "messages"] {
                for entry in change[ring].as_array().into_iter().flatten() {
                    let number = entry["number"].as_u64().ok_or("an entry without a number")?;
                    let next = self.next.entry(topic.to_owned()).or_insert(number);
                    // What a flush that was given up has brought comes again.
                    if number >= *next {
                        entries.delivered += 1;
                        entries.missed += number - *next;
                        *next = number + 1;
                    }
                }
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPDATE: &str = r#"{"type":"update","position":7,"time":"1970-01-01T00:00:00.000009Z","updates":[{"topic":"trades:A","trades":[{"number":3},{"number":5}]}]}"#;

    /// The update above as each door sends it, but the WebSocket.
    fn updates() -> [(Door, Vec<u8>); 3] {
        let packet = format!("42[\"update\",{UPDATE}]");
        let len = u16::try_from(packet.len()).unwrap().to_be_bytes();
        [
            (Door::SocketIo, [&[0x81, 126], &len[..], packet.as_bytes()].concat()),
            (Door::Sse, format!("id: 1-7\ndata: {UPDATE}\n\n").into_bytes()),
            (Door::Lines, format!("{UPDATE}\n").into_bytes()),
        ]
    }

    #[test]
    fn an_update_is_found_where_it_ends_and_says_where_the_session_is() {
        for (door, message) in updates() {
            for len in 0..message.len() {
                assert_eq!(door.extent(&message[..len], len.saturating_sub(1)), Ok(None), "{door:?} {len}");
            }
            let twice = message.repeat(2);
            let (payload, len) = door.extent(&twice, 0).unwrap().unwrap();
            assert_eq!(len, message.len(), "{door:?}");
            let Ok(Received::Update(update)) = door.read(&message, payload) else { panic!("{door:?}") };
            assert_eq!(door.advance(update, (1, 2)), Some((7, 9)), "{door:?}");
            let mut rings = Rings::default();
            assert_eq!(rings.apply(update), Ok(Entries { delivered: 2, missed: 1 }), "{door:?}");
            assert_eq!(rings.apply(update), Ok(Entries::default()), "{door:?}");
        }
    }

    #[test]
    fn heartbeats_are_answered_and_endings_are_told() {
        let ping = Door::SocketIo.read(b"\x81\x012", 2).unwrap();
        assert!(matches!(ping, Received::Asked(pong) if pong == b"\x81\x81\0\0\0\x003"));
        let comment = Door::Sse.read(b":\n\n", 0).unwrap();
        assert!(matches!(comment, Received::Nothing));
        let end = Door::Websocket.read(b"\x88\x05\x03\xe9bye", 2).unwrap_err();
        assert_eq!(end, "the server closed with 1001 bye");
        assert!(Door::SocketIo.read(b"\x81\x011", 2).unwrap_err().contains("sent 1"));
    }
}
