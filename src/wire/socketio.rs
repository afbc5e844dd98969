//! Packets of Engine.IO 4 and Socket.IO 5 in their text form. Pure; any thread.
//!
//! Invariant: what is written has one message per WebSocket frame, so a payload is shared by all who are in
//! the same namespace, whatever their transport.
//!
//! Sources: `docs/engine.io-protocol` and `docs/socket.io-protocol` of `socketio/socket.io`, versions 4 and
//! 5.

use super::frame::{Opcode, write_frame, write_header};
use super::message::{Answer, ErrorCode, Id, RequestError};
use serde_json::{Map, Value};

/// The version of Engine.IO that is spoken, as `EIO` has it.
pub const ENGINE_VERSION: &str = "4";

/// Separates the packets in the body of an HTTP poll.
pub const SEPARATOR: char = '\u{1e}';

/// The longest namespace, bytes; a room's name with a slash is shorter.
const MAX_NAMESPACE: usize = 128;

/// A packet of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// The probe of an upgrade, or a heartbeat, which only servers send.
    Ping {
        /// Whether it is an upgrade's.
        is_probe: bool,
    },
    /// The answer to a heartbeat.
    Pong,
    /// The end of the connection.
    Close,
    /// The end of an upgrade.
    Upgrade,
    /// Nothing.
    Noop,
    /// Joins a namespace.
    Connect {
        /// With its slash.
        namespace: String,
        /// What the client says of itself; null if nothing.
        auth: Value,
    },
    /// Leaves a namespace.
    Disconnect {
        /// With its slash.
        namespace: String,
    },
    /// An event.
    Event {
        /// With its slash.
        namespace: String,
        /// The number to acknowledge it with.
        ack: Option<u64>,
        /// Its name and arguments.
        args: Vec<Value>,
        /// Whether binary frames follow it.
        has_attachments: bool,
    },
    /// The answer to an event with a number. None is sent, so none is expected.
    Ack,
}

/// Why a text is no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    #[error("an empty packet")]
    Empty,
    #[error("unknown Engine.IO packet type {0:?}")]
    UnknownType(char),
    #[error("unknown Socket.IO packet type {0:?}")]
    UnknownMessage(String),
    #[error("a namespace of more than {MAX_NAMESPACE} bytes")]
    LongNamespace,
    #[error("malformed JSON: {0}")]
    Json(String),
    #[error("an event is a list that begins with its name")]
    NoEvent,
    #[error("a binary packet says how many attachments follow, at most {MAX_ATTACHMENTS}")]
    Attachments,
}

/// The most attachments of a packet: as many as the clients' own parser takes.
const MAX_ATTACHMENTS: u32 = 10;

impl Packet {
    /// Reads the text of one packet.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, PacketError> {
        let mut letters = text.chars();
        let kind = letters.next().ok_or(PacketError::Empty)?;
        let rest = letters.as_str();
        match kind {
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping { is_probe: rest == "probe" }),
            '3' => Ok(Self::Pong),
            '4' => Self::read_message(rest),
            '5' => Ok(Self::Upgrade),
            '6' => Ok(Self::Noop),
            other => Err(PacketError::UnknownType(other)),
        }
    }

    fn read_message(text: &str) -> Result<Self, PacketError> {
        let mut letters = text.chars();
        let kind = letters.next();
        let mut rest = letters.as_str();
        let has_attachments = matches!(kind, Some('5' | '6'));
        if has_attachments {
            let (count, behind) = rest.split_once('-').ok_or(PacketError::Attachments)?;
            let count = count.parse().ok().filter(|count| (1..=MAX_ATTACHMENTS).contains(count));
            count.ok_or(PacketError::Attachments)?;
            rest = behind;
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
            // A query was part of it once; it means nothing.
            namespace = namespace.split('?').next().unwrap_or_default();
        }
        if namespace.len() > MAX_NAMESPACE {
            return Err(PacketError::LongNamespace);
        }
        let namespace = namespace.to_owned();
        let digits = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let (ack, body) = rest.split_at(digits);
        match kind {
            Some('0') => Ok(Self::Connect { namespace, auth: json(rest)? }),
            Some('1') => Ok(Self::Disconnect { namespace }),
            Some('2' | '5') => {
                let ack = (!ack.is_empty()).then(|| ack.parse()).transpose();
                let ack = ack.map_err(|error| PacketError::Json(format!("{error}")))?;
                let Value::Array(args) = json(body)? else { return Err(PacketError::NoEvent) };
                if !args.first().is_some_and(|name| name.is_string() || name.is_number()) {
                    return Err(PacketError::NoEvent);
                }
                Ok(Self::Event { namespace, ack, args, has_attachments })
            }
            Some('3' | '6') => match json(body)? {
                Value::Array(_) => Ok(Self::Ack),
                _ => Err(PacketError::NoEvent),
            },
            // Only servers refuse a namespace.
            _ => Err(PacketError::UnknownMessage(text.chars().take(1).collect())),
        }
    }
}

fn json(text: &str) -> Result<Value, PacketError> {
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|error| PacketError::Json(error.to_string()))
}

/// An event as a request in JSON: `subscribe` with topics, a list of topics or a map of fields.
///
/// # Errors
/// [`RequestError`], which is the answer.
pub fn request(ack: Option<u64>, args: &[Value]) -> Result<String, RequestError> {
    let id = ack.map(Id::Number);
    let refuse = |code, message| Err(RequestError { id: id.clone(), code, message });
    let [Value::String(name), args @ ..] = args else {
        return refuse(ErrorCode::BadRequest, "the name of an event is a text".to_owned());
    };
    if matches!(name.as_str(), "open" | "close") {
        let message = format!("{name}: a namespace has one session; connect to another one instead");
        return refuse(ErrorCode::NotSupported, message);
    }
    let (mut fields, mut topics) = (Map::new(), Vec::new());
    for arg in args {
        match arg {
            Value::String(_) => topics.push(arg.clone()),
            Value::Array(more) => topics.extend_from_slice(more),
            Value::Object(more) => fields.extend(more.clone()),
            Value::Null => {}
            other => {
                let message = format!("{name}: {other} is neither a topic, nor topics, nor a map of fields");
                return refuse(ErrorCode::BadRequest, message);
            }
        }
    }
    if !topics.is_empty() {
        fields.insert("topics".to_owned(), Value::Array(topics));
    }
    for taken in ["op", "id", "session"] {
        if fields.contains_key(taken) {
            let message =
                format!("{name}: unknown field {taken:?}: the event and its acknowledgement say it");
            return refuse(ErrorCode::BadRequest, message);
        }
    }
    fields.insert("op".to_owned(), name.clone().into());
    if let Some(ack) = ack {
        fields.insert("id".to_owned(), ack.into());
    }
    Ok(Value::Object(fields).to_string())
}

/// The packet that opens a connection of Engine.IO.
#[must_use]
pub fn handshake(sid: &str, upgrades: &[&str], max_payload: usize) -> String {
    let open = serde_json::json!({
        "sid": sid,
        "upgrades": upgrades,
        "pingInterval": PING_INTERVAL_MS,
        "pingTimeout": PING_TIMEOUT_MS,
        "maxPayload": max_payload,
    });
    format!("0{open}")
}

/// A client gives up if it hears no heartbeat for the sum of both. Ours come more often.
const PING_INTERVAL_MS: u32 = 25_000;
const PING_TIMEOUT_MS: u32 = 20_000;

/// The packet that answers [`Packet::Connect`].
#[must_use]
pub fn connected(namespace: &str, sid: &str) -> String {
    format!("40{}{}", prefix(namespace), serde_json::json!({ "sid": sid }))
}

/// The packet that refuses [`Packet::Connect`].
#[must_use]
pub fn refused(namespace: &str, message: &str, data: &Value) -> String {
    format!("44{}{}", prefix(namespace), serde_json::json!({ "message": message, "data": data }))
}

/// The part of a packet that names its namespace.
fn prefix(namespace: &str) -> String {
    if matches!(namespace, "" | "/") { String::new() } else { format!("{namespace},") }
}

/// Appends an event with one argument, `payload`, in a frame.
pub(super) fn write_event(namespace: &str, name: &str, payload: &[u8], out: &mut Vec<u8>) {
    let comma = if matches!(namespace, "" | "/") { "" } else { "," };
    let namespace = if comma.is_empty() { "" } else { namespace };
    let around = ["42", namespace, comma, "[\"", name, "\","];
    let len = around.iter().map(|part| part.len()).sum::<usize>() + payload.len() + 1;
    write_header(Opcode::Text, len, out);
    for part in around {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(payload);
    out.push(b']');
}

/// Appends an answer in a frame: an acknowledgement if it answers an event that asked for one, else an event
/// by the answer's own name.
pub(super) fn write_answer(namespace: &str, answer: &Answer, out: &mut Vec<u8>) {
    let payload = serde_json::to_value(answer).expect("answers have no part that cannot be written");
    if let Some(ack) = payload.get("id").and_then(Value::as_u64) {
        let packet = format!("43{}{ack}[{payload}]", prefix(namespace));
        return write_frame(Opcode::Text, packet.as_bytes(), out);
    }
    let name = payload.get("type").and_then(Value::as_str).unwrap_or("answer");
    write_event(namespace, name, payload.to_string().as_bytes(), out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Op, Request};
    use serde_json::json;

    #[test]
    fn packets_of_clients_are_read() {
        let connect = |namespace: &str, auth| Packet::Connect { namespace: namespace.to_owned(), auth };
        let event = |namespace: &str, ack, args: Value, has_attachments| Packet::Event {
            namespace: namespace.to_owned(),
            ack,
            args: args.as_array().unwrap().clone(),
            has_attachments,
        };
        for (text, packet) in [
            ("2probe", Packet::Ping { is_probe: true }),
            ("3", Packet::Pong),
            ("5", Packet::Upgrade),
            ("40", connect("/", Value::Null)),
            ("40{\"a\":1}", connect("/", json!({ "a": 1 }))),
            ("40/desk,", connect("/desk", Value::Null)),
            ("40/desk", connect("/desk", Value::Null)),
            ("40/desk?x=1,{}", connect("/desk", json!({}))),
            ("41/desk,", Packet::Disconnect { namespace: "/desk".to_owned() }),
            ("42[\"x\",1]", event("/", None, json!(["x", 1]), false)),
            ("42/desk,12[\"x\"]", event("/desk", Some(12), json!(["x"]), false)),
            (
                "451-[\"x\",{\"_placeholder\":true,\"num\":0}]",
                event("/", None, json!(["x", { "_placeholder": true, "num": 0 }]), true),
            ),
            ("430[]", Packet::Ack),
        ] {
            assert_eq!(Packet::read(text), Ok(packet), "{text}");
        }
        for (text, says) in [
            ("", "empty"),
            ("9", "Engine.IO packet type '9'"),
            ("4", "Socket.IO packet type \"\""),
            ("44{}", "Socket.IO packet type \"4\""),
            ("42", "begins with its name"),
            ("42[]", "begins with its name"),
            ("42{\"a\":1}", "begins with its name"),
            ("42[\"a\"", "malformed JSON"),
            ("40{", "malformed JSON"),
            ("45[\"x\"]", "attachments"),
            ("4510000-[\"x\"]", "attachments"),
            ("4299999999999999999999[\"x\"]", "too large"),
        ] {
            let error = Packet::read(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert_eq!(Packet::read(&format!("40/{},", "n".repeat(200))), Err(PacketError::LongNamespace));
    }

    #[test]
    fn an_event_is_a_request_however_its_topics_are_given() {
        let read = |ack, args: Value| {
            request(ack, args.as_array().unwrap()).and_then(|text| Request::from_json(&text))
        };
        let topics = vec!["quote:A".to_owned(), "trades:A".to_owned()];
        let subscribe = Op::Subscribe { topics: topics.clone(), since: None, max_hz: None, times: None };
        for args in [
            json!(["subscribe", "quote:A", "trades:A"]),
            json!(["subscribe", ["quote:A", "trades:A"]]),
            json!(["subscribe", { "topics": ["quote:A", "trades:A"] }]),
            json!(["subscribe", null, ["quote:A"], "trades:A"]),
        ] {
            let Request { id, op, .. } = read(Some(3), args).unwrap();
            assert_eq!((id, op), (Some(Id::Number(3)), subscribe.clone()));
        }
        let capped = read(None, json!(["subscribe", topics, { "max_hz": 2 }])).unwrap();
        assert!(matches!(capped.op, Op::Subscribe { max_hz: Some(Some(2.0)), .. }));
        for (args, code, says) in [
            (json!(["open"]), ErrorCode::NotSupported, "one session"),
            (json!(["subscribe", 5]), ErrorCode::BadRequest, "5 is neither a topic"),
            (json!([7]), ErrorCode::BadRequest, "is a text"),
            (json!(["subscribe", { "id": 1 }]), ErrorCode::BadRequest, "\"id\""),
            (json!(["shout", "hello"]), ErrorCode::UnknownOp, "shout"),
            (json!(["subscribe"]), ErrorCode::BadRequest, "topics"),
        ] {
            let error = read(Some(9), args.clone()).unwrap_err();
            assert_eq!((error.id, error.code), (Some(Id::Number(9)), code), "{args}");
            assert!(error.message.contains(says), "{args}: {}", error.message);
        }
    }

    #[test]
    fn answers_are_acknowledgements_where_one_was_asked_for() {
        let written = |namespace: &str, answer: &Answer| {
            let mut frame = Vec::new();
            write_answer(namespace, answer, &mut frame);
            String::from_utf8(frame[2..].to_vec()).unwrap()
        };
        let pong = |id| Answer::Pong { id, time: 1, position: 2 };
        assert_eq!(
            written("/", &pong(Some(Id::Number(4)))),
            r#"434[{"type":"pong","id":4,"time":1,"position":2}]"#
        );
        assert_eq!(
            written("/desk", &pong(None)),
            r#"42/desk,["pong",{"type":"pong","time":1,"position":2}]"#
        );
    }
}
