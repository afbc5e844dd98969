//! Packets of Socket.IO 5, in the form of either of its parsers. Pure; any thread.
//!
//! Invariant: what is written has one message per WebSocket frame, so a payload is shared by all who are in
//! the same namespace and have the same parser, whatever their transport.
//!
//! Source: `docs/socket.io-protocol` of `socketio/socket.io`, version 5.

mod msgpack; // the other parser
mod text; // the usual one

use super::engineio::{self, Data};
use super::message::{Answer, ErrorCode, Id, RequestError};
use super::schema::{ANSWERS, OPS};
use crate::market::{Json, Message, Post, State, Symbol, Word};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The longest namespace, bytes; a room's name with a slash is shorter.
const MAX_NAMESPACE: usize = 128;

/// The most attachments of a packet: as many as the clients' own parser takes.
const MAX_ATTACHMENTS: usize = 10;

/// How packets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Parser {
    /// As JSON in texts. Binary data follows in frames of its own.
    Json,
    /// As maps of `MessagePack` in binary frames.
    Msgpack,
}

/// A packet of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
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
        /// Its name and arguments; of `MessagePack` with binary data, its name alone.
        args: Vec<Value>,
        /// How many binary frames follow it; of `MessagePack`, 1 if it has binary data.
        attachments: usize,
    },
    /// The answer to an event with a number. None is sent, so none is expected.
    Ack,
}

/// Why bytes are no packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PacketError {
    /// It is none of Engine.IO.
    #[error(transparent)]
    Engine(#[from] engineio::PacketError),
    /// Its type is unknown, or only servers send it.
    #[error("unknown Socket.IO packet type {0:?}")]
    UnknownMessage(String),
    /// Its namespace is too long.
    #[error("a namespace of more than {MAX_NAMESPACE} bytes")]
    LongNamespace,
    /// It is not JSON.
    #[error("malformed JSON: {0}")]
    Json(String),
    /// It is not a map of `MessagePack`.
    #[error("malformed MessagePack: {0}")]
    Msgpack(String),
    /// What an event says is missing.
    #[error("an event is a list that begins with its name")]
    NoEvent,
    /// The count of its attachments is missing, or too large.
    #[error("a binary packet says how many attachments follow, at most {MAX_ATTACHMENTS}")]
    Attachments,
    /// It is of the other parser.
    #[error("{0}")]
    OtherParser(&'static str),
}

impl Packet {
    /// Reads a message that came as text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(parser: Parser, text: &str) -> Result<Self, PacketError> {
        match parser {
            Parser::Json => text::read(text),
            Parser::Msgpack => Err(PacketError::OtherParser("here packets are MessagePack in binary frames")),
        }
    }

    /// Reads a binary message; `None` if it is the attachment of another.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read_binary(parser: Parser, bytes: &[u8]) -> Result<Option<Self>, PacketError> {
        match parser {
            Parser::Json => Ok(None),
            Parser::Msgpack => msgpack::read(bytes).map(Some),
        }
    }

    /// Checks what both parsers have in common.
    fn check(self) -> Result<Self, PacketError> {
        match &self {
            Self::Connect { namespace, .. }
            | Self::Disconnect { namespace }
            | Self::Event { namespace, .. }
                if namespace.len() > MAX_NAMESPACE =>
            {
                Err(PacketError::LongNamespace)
            }
            Self::Event { args, .. }
                if !args.first().is_some_and(|name| name.is_string() || name.is_number()) =>
            {
                Err(PacketError::NoEvent)
            }
            _ => Ok(self),
        }
    }
}

impl Parser {
    /// The packet that answers [`Packet::Connect`].
    #[must_use]
    pub fn connected(self, namespace: &str, sid: &str) -> Data {
        self.packet(Kind::Connect, namespace, None, &json!({ "sid": sid }))
    }

    /// The packet that refuses [`Packet::Connect`]. Null `data` are left out.
    #[must_use]
    pub fn refused(self, namespace: &str, message: &str, data: Value) -> Data {
        let mut why = json!({ "message": message });
        if let (Some(why), false) = (why.as_object_mut(), data.is_null()) {
            why.insert("data".to_owned(), data);
        }
        self.packet(Kind::Refused, namespace, None, &why)
    }

    /// The packet that ends a client's stay in a namespace.
    #[must_use]
    pub fn disconnected(self, namespace: &str) -> Data {
        self.packet(Kind::Disconnect, namespace, None, &Value::Null)
    }

    /// An event; `args` begin with its name.
    #[must_use]
    pub fn event(self, namespace: &str, args: &Value) -> Data {
        self.packet(Kind::Event, namespace, None, args)
    }

    /// The acknowledgement of an event.
    #[must_use]
    pub fn ack(self, namespace: &str, number: u64, args: &Value) -> Data {
        self.packet(Kind::Ack, namespace, Some(number), args)
    }

    /// An event in JSON, or with a number an acknowledgement, that so many binary frames follow.
    #[must_use]
    pub fn with_attachments(namespace: &str, ack: Option<u64>, args: &Value, attachments: usize) -> Data {
        let kind = if ack.is_some() { Kind::Ack } else { Kind::Event };
        Data::Text(text::packet(kind, namespace, ack, args, attachments))
    }

    fn packet(self, kind: Kind, namespace: &str, ack: Option<u64>, data: &Value) -> Data {
        match self {
            Self::Json => Data::Text(text::packet(kind, namespace, ack, data, 0)),
            Self::Msgpack => Data::Binary(msgpack::packet(kind, namespace, ack, data)),
        }
    }

    /// Appends an event with one argument, `payload`, which is JSON, in a frame.
    pub(super) fn write_event(self, namespace: &str, name: &str, payload: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Json => text::write_event(namespace, name, payload, out),
            Self::Msgpack => msgpack::write_event(namespace, name, payload, out),
        }
    }

    /// Appends an answer in a frame: an acknowledgement if it answers an event that asked for one, else an
    /// event by the answer's own name.
    pub(super) fn write_answer(self, namespace: &str, answer: &Answer, out: &mut Vec<u8>) {
        let payload = serde_json::to_value(answer).expect("answers have no part that cannot be written");
        let data = if let Some(ack) = payload.get("id").and_then(Value::as_u64) {
            self.ack(namespace, ack, &json!([payload]))
        } else {
            let name = payload.get("type").and_then(Value::as_str).unwrap_or("answer");
            self.event(namespace, &json!([name, payload]))
        };
        data.write_frame(out);
    }
}

/// The types of packets that a server sends.
#[derive(Clone, Copy)]
enum Kind {
    Connect = 0,
    Disconnect = 1,
    Event = 2,
    Ack = 3,
    Refused = 4,
}

/// The channel that every client of a namespace is in, and what plain events go to.
pub const ALL: &str = "all";

/// Events that are a server's, or a library's own: what people post comes under no such name.
const RESERVED: [&str; 9] = [
    "update",
    "gap",
    "state",
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];
/// Events that are no requests of the protocol.
const OF_CHANNELS: [&str; 5] = ["join", "leave", "to", "broadcast", "state"];

/// What an event of a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A request of the protocol, in JSON.
    Request(String),
    /// To be in these channels, from now on.
    Join(Vec<Symbol>),
    /// To be in them no more.
    Leave(Vec<Symbol>),
    /// To tell others. `but_me`: not the one who asks.
    Post { post: Box<Post>, but_me: bool },
    /// That the client is in a state; it is named by who asks.
    State { channel: Symbol, data: Value, ttl: Duration },
}

/// How long a state lasts that does not say so.
const TTL: Duration = Duration::from_secs(10);

/// The event of a message: its name and arguments.
pub(super) fn message(message: &Message) -> Value {
    let name = message.event.as_ref().map(Word::as_str).filter(|name| !is_reserved(name));
    let mut event = vec![name.unwrap_or("message").into()];
    match message.data.value() {
        Value::Array(args) if message.is_spread => event.extend(args),
        data => event.push(data),
    }
    Value::Array(event)
}

fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || ANSWERS.contains(&name)
}

/// What an event asks for. One that is no request, nor nearly one, is for all in the namespace.
///
/// # Errors
/// [`RequestError`], which is the answer.
pub fn said(ack: Option<u64>, args: &[Value]) -> Result<Said, RequestError> {
    let refuse = |message: String| {
        let (id, code) = (ack.map(Id::Number), ErrorCode::BadRequest);
        RequestError { id, code, message }
    };
    let [Value::String(name), rest @ ..] = args else {
        return Err(refuse("the name of an event is a text".to_owned()));
    };
    let channel = |name: &str| Symbol::new(name).map_err(|error| refuse(format!("a room: {error}")));
    let all = || channel(ALL);
    match name.as_str() {
        "join" | "leave" => {
            let named = rest.iter().flat_map(|arg| match arg {
                Value::Array(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            });
            let rooms: Vec<Symbol> = named
                .map(|room| {
                    let room = room.as_str().ok_or_else(|| refuse(format!("{name}: {room} is no room")))?;
                    channel(room)
                })
                .collect::<Result<_, _>>()?;
            if rooms.is_empty() {
                return Err(refuse(format!("{name} needs at least one room")));
            }
            Ok(if name == "join" { Said::Join(rooms) } else { Said::Leave(rooms) })
        }
        "to" => match rest {
            [Value::String(room), Value::String(event), args @ ..] => {
                Ok(Said::Post { post: post(channel(room)?, event, args).map_err(refuse)?, but_me: true })
            }
            _ => Err(refuse("to: expected a room, an event, and its arguments".to_owned())),
        },
        "broadcast" => match rest {
            [Value::String(event), args @ ..] => {
                Ok(Said::Post { post: post(all()?, event, args).map_err(refuse)?, but_me: true })
            }
            _ => Err(refuse("broadcast: expected an event, and its arguments".to_owned())),
        },
        "state" => state(rest, all()?).map_err(refuse),
        name if OPS.iter().any(|op| op.name == name) => request(ack, args).map(Said::Request),
        event => {
            let mut known = OPS.iter().map(|op| op.name).chain(OF_CHANNELS);
            // Whoever misspells a request does not mean to tell everybody.
            let is_slip = |known: &&str| known.len() > 4 && strsim::damerau_levenshtein(event, known) == 1;
            if let Some(near) = known.find(is_slip) {
                let (id, code) = (ack.map(Id::Number), ErrorCode::UnknownOp);
                let message = format!("unknown event {event:?}: did you mean {near:?}?");
                return Err(RequestError { id, code, message });
            }
            Ok(Said::Post { post: post(all()?, event, rest).map_err(refuse)?, but_me: false })
        }
    }
}

fn post(channel: Symbol, event: &str, args: &[Value]) -> Result<Box<Post>, String> {
    if is_reserved(event) {
        return Err(format!("the event {event:?} is the server's: choose another name"));
    }
    let word =
        Word::new(event).ok_or_else(|| format!("the name of an event: expected {}", Word::EXPECTED))?;
    let data = match args {
        [] => Value::Null,
        [one] => one.clone(),
        several => several.into(),
    };
    let data = Json::new(&data, Message::MAX_DATA).map_err(|error| format!("{event}: {error}"))?;
    let mut post = Post::message(channel, data);
    if let Post::Message { message, .. } = &mut post {
        message.event = Some(word);
        message.is_spread = args.len() > 1;
    }
    Ok(Box::new(post))
}

/// `state(DATA)`, or with `{ room, ttl_ms }`.
fn state(args: &[Value], all: Symbol) -> Result<Said, String> {
    let (data, options) = match args {
        [data] => (data, None),
        [data, Value::Object(options)] => (data, Some(options)),
        _ => return Err("state: expected its content, and perhaps { room, ttl_ms }".to_owned()),
    };
    let (mut channel, mut ttl) = (all, TTL);
    for (name, value) in options.into_iter().flatten() {
        match (name.as_str(), value) {
            ("room", Value::String(room)) => {
                channel = Symbol::new(room).map_err(|error| format!("a room: {error}"))?;
            }
            ("ttl_ms", value) if value.as_u64().is_some_and(|ms| (1..=State::MAX_TTL_MS).contains(&ms)) => {
                ttl = Duration::from_millis(value.as_u64().unwrap_or_default());
            }
            ("ttl_ms", value) => {
                return Err(format!("ttl_ms {value} is not from 1 to {}", State::MAX_TTL_MS));
            }
            (name, _) => return Err(format!("state: unknown field {name:?}: there are room and ttl_ms")),
        }
    }
    Ok(Said::State { channel, data: data.clone(), ttl })
}

/// An event as a request in JSON: `subscribe` with topics, a list of topics or a map of fields.
///
/// # Errors
/// [`RequestError`], which is the answer.
fn request(ack: Option<u64>, args: &[Value]) -> Result<String, RequestError> {
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

#[cfg(test)]
mod tests;
