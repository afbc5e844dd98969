//! Requests of clients, and all messages of a server except `update`. Pure; any thread.
//!
//! Invariant: a [`Request`] was checked in form: its op has only fields that it knows, its numbers are in
//! range.

use super::fault::{Fault, FaultFields};
use super::framing::{Encoding, MAX_SESSIONS, SessionNumber};
use super::loose::Loose;
use super::post::PostFields;
use super::replay::{ReplayAction, ReplayFields, ReplayState};
use super::schema::OPS;
use crate::hint::hint;
use crate::market::{Post, Speed};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::time::Duration;

/// The least `max_hz`, updates a second.
pub const MIN_HZ: f64 = 0.1;
/// The largest `max_hz`, updates a second.
pub const MAX_HZ: f64 = 1000.0;

/// Checks a cap against [`MIN_HZ`] and [`MAX_HZ`].
///
/// # Errors
/// What is wrong with a cap that is out of its range.
pub fn check_hz(max_hz: Option<f64>) -> Result<(), String> {
    match max_hz.filter(|hz| !(MIN_HZ..=MAX_HZ).contains(hz)) {
        Some(hz) => Err(format!("max_hz {hz} is not from {MIN_HZ} to {MAX_HZ}")),
        None => Ok(()),
    }
}

/// A client's request, checked in form.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Repeated in the answer.
    pub id: Option<Id>,
    /// The session of the connection that it is for.
    pub session: SessionNumber,
    /// What is asked.
    pub op: Op,
}

/// A request's `op` with its fields.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Opens one more session on the connection.
    Open,
    /// Ends a session that is not the first.
    Close,
    /// Adds topics, and changes the session's options.
    Subscribe {
        /// As the client wrote them; at least one.
        topics: Vec<String>,
        /// Position to resume from.
        since: Option<Resume>,
        /// Updates a second. `None`: unchanged; `Some(None)`: no cap.
        max_hz: Option<Option<f64>>,
        /// Whether quotes carry `ts_event`. `None`: unchanged.
        times: Option<bool>,
    },
    /// Removes topics.
    Unsubscribe {
        /// As the client wrote them; at least one.
        topics: Vec<String>,
    },
    /// Asks for a `pong`.
    Ping,
    /// Starts or ends the session's own `stats`, once a second.
    Stats {
        /// Default true.
        enabled: bool,
    },
    /// Asks for the checksums of images.
    Checksum {
        /// Topics of one instrument each; at least one.
        topics: Vec<String>,
    },
    /// Controls the replay.
    Replay(ReplayAction),
    /// Impairs the connection, for tests of clients.
    Fault {
        /// It replaces the one before.
        fault: Fault,
        /// `None`: until the next fault.
        lasts: Option<Duration>,
    },
    /// Posts a message or a state to a channel.
    Publish(Box<Post>),
}

/// A client's own name for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Id {
    /// Below 2^53.
    Number(u64),
    /// At most 64 bytes.
    Text(String),
}

/// A position to resume from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// Of the tape, from `welcome`.
    pub epoch: u64,
    /// Up to here the client has everything.
    pub position: u64,
}

/// A request that cannot be read; the answer is an `error` with these fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    /// The request's, where it could be read.
    pub id: Option<Id>,
    /// `BadRequest` or `UnknownOp`.
    pub code: ErrorCode,
    /// For people: what is wrong.
    pub message: String,
}

macro_rules! error_codes {
    ($($(#[$doc:meta])* $code:ident),+) => {
        /// Why a request, or one topic of it, failed; in snake case on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum ErrorCode { $($(#[$doc])* $code),+ }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$code),+];
        }
    };
}

error_codes! {
    /// Malformed, or a field is missing, unknown or out of range.
    BadRequest,
    /// No such `op`.
    UnknownOp,
    /// No such topic.
    UnknownTopic,
    /// More topics than the limit.
    TooManyTopics,
    /// The session does not have the topic.
    NotSubscribed,
    /// The server does not offer it.
    NotSupported,
    /// The client has no right to it.
    NotAllowed,
    /// The request exceeds a limit of size.
    TooLarge,
    /// It cannot be done now.
    Unavailable
}

/// Every message of the server except `update`. `id` is that of the request that it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    /// The first message of a connection.
    Welcome {
        /// `tickcast.v1`.
        protocol: String,
        /// Name and version: `tickcast/0.1.0`.
        server: String,
        /// Of the tape: positions of another epoch do not compare.
        epoch: u64,
        /// Position at which the tape was last reset, as by a seek; 0 if it never was. What a client knows
        /// from before does not hold.
        #[serde(default, skip_serializing_if = "is_zero")]
        begins: u64,
        /// The tape's end.
        position: u64,
        /// The tape's clock, µs.
        time: i64,
        /// The longest silence of the server.
        heartbeat_ms: u64,
        /// Limits of this session.
        limits: Limits,
    },
    /// The start of a session that is not the first, in the epoch of the connection's `welcome`.
    Opened {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// The tape's end.
        position: u64,
        /// The tape's clock, µs.
        time: i64,
    },
    /// The last message of a session that was closed.
    Closed {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
    },
    /// The tape was reset, for a connection with several sessions: what each of them knows from before is
    /// void.
    Reset {
        /// Position of the reset.
        begins: u64,
    },
    /// The answer to `subscribe`.
    Subscribed {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// Of the tape.
        epoch: u64,
        /// The tape's end.
        position: u64,
        /// Whether the client's position was one of this tape; `None`: it gave none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumed: Option<bool>,
        /// In the order of the request.
        topics: Vec<TopicAnswer>,
    },
    /// The answer to `unsubscribe`.
    Unsubscribed {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// In the order of the request.
        topics: Vec<TopicAnswer>,
    },
    /// The answer to `ping`.
    Pong {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// The server's wall clock, µs.
        time: i64,
        /// The tape's end.
        position: u64,
    },
    /// How a session keeps up; counts since it asked for `stats`.
    Stats {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// The tape's end.
        position: u64,
        /// Positions that the session lags.
        lag: u64,
        /// The same by the tape's clock.
        lag_ms: u64,
        /// Frames sent, answers included.
        frames: u64,
        /// Bytes of these frames.
        bytes: u64,
        /// Changes of the session's topics.
        events: u64,
        /// Values and ring entries sent; fewer than `events` by what was merged.
        delivered: u64,
    },
    /// The answer to `checksum`.
    Checksum {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// The images at this position; the session has received it.
        position: u64,
        /// In the order of the request.
        topics: Vec<TopicChecksum>,
    },
    /// The fault that begins with this message.
    Fault {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// Name of the fault.
        fault: String,
        /// When it ends by itself; `None`: with the next fault.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_ms: Option<u64>,
    },
    /// The answer to `publish`: it is on the tape.
    Published {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// Where it is.
        position: u64,
    },
    /// A request failed, or could not be read.
    Error {
        /// The request's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// For programs.
        code: ErrorCode,
        /// For people.
        message: String,
    },
    /// What this session reads is old: its connection or its client is slower than the market.
    Lag {
        /// How long the last ping took to come back, which is the age of what was sent before it when it is
        /// read. Below a second: the session has caught up.
        lag_ms: u64,
    },
    /// The answer to `replay`.
    Replay(ReplayState),
    /// The server is about to close the connection.
    Goodbye {
        /// The close code that follows.
        code: u16,
        /// For people.
        reason: String,
        /// The client may come back after this time.
        retry_after_ms: u64,
        /// And a random time up to this one.
        jitter_ms: u64,
    },
}

/// Limits of a session.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Limits {
    /// Topics; a set counts as one.
    pub topics: usize,
    /// Bytes of one message of a client.
    pub message_bytes: usize,
    /// Requests a second, on average.
    pub requests_per_second: u32,
    /// The largest `max_hz`.
    pub max_hz: f64,
}

/// The result for one topic of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct TopicAnswer {
    /// As the client wrote it.
    pub topic: String,
    /// The instrument's number, for a single topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<u32>,
    /// The symbol or sector is unknown so far; the topic delivers when it appears.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// For a pending topic: the nearest one that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    /// `None`: granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// The checksum of one topic of a request, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct TopicChecksum {
    /// As the client wrote it.
    pub topic: String,
    /// A hash of the image's fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<u32>,
    /// `None`: there is a checksum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// Why one topic was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Refusal {
    /// For programs.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// A topic that may have been meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

/// All fields of any op.
#[derive(Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Fields {
    op: String,
    /// The client's own name for the request, which its answer repeats.
    #[serde(default)]
    id: Option<Id>,
    /// The session of the connection that it is for; without it, or 0, the first.
    #[serde(default)]
    session: Option<u64>,
    /// At least one.
    #[serde(default)]
    topics: Option<Vec<String>>,
    /// Where to go on.
    #[serde(default)]
    since: Option<Resume>,
    /// The most updates a second, from 0.1 to 1000; null lifts it.
    #[serde(default, deserialize_with = "present")]
    #[expect(clippy::option_option, reason = "absent, null and a number differ")]
    max_hz: Option<Option<f64>>,
    /// Whether quotes have `ts_event`.
    #[serde(default)]
    times: Option<bool>,
    /// Default true.
    #[serde(default)]
    enabled: Option<bool>,
    /// Without one only the state is asked for.
    #[serde(default)]
    action: Option<String>,
    /// With the action `speed`.
    #[serde(default)]
    speed: Option<Speed>,
    /// With the action `seek`: the moment, RFC 3339.
    #[serde(default)]
    to: Option<String>,
    /// With the action `step`: `event`, or an interval from `1ms` to `10m`.
    #[serde(default)]
    by: Option<String>,
    /// It replaces the one before.
    #[serde(default)]
    fault: Option<String>,
    /// When the fault ends by itself.
    #[serde(default)]
    for_ms: Option<u64>,
    /// With the fault `delay`.
    #[serde(default)]
    by_ms: Option<u64>,
    /// With the fault `slow`.
    #[serde(default)]
    bytes_per_second: Option<u32>,
    /// With the fault `drop`: of the Close frame.
    #[serde(default)]
    code: Option<u16>,
    /// With the fault `garble`: `message` or `frame`.
    #[serde(default)]
    what: Option<String>,
    /// `messages:CHANNEL` or `states:CHANNEL`.
    // Any value: a request of another op that has it is told that it has no such field.
    #[serde(default)]
    topic: Option<Value>,
    /// Of a message: the sender's own word for itself.
    #[serde(default)]
    from: Option<String>,
    /// Of a message: the sender's own word for what it is.
    #[serde(default)]
    event: Option<String>,
    /// Of a message, any JSON value; of a state, null ends it.
    #[serde(default, deserialize_with = "present")]
    data: Option<Value>,
    /// Of a state: whose it is.
    #[serde(default)]
    key: Option<String>,
    /// Of a state: when it ends by itself.
    #[serde(default)]
    ttl_ms: Option<u64>,
}

impl TopicAnswer {
    /// A topic that was granted, without more about it.
    #[must_use]
    pub fn granted(topic: String) -> Self {
        Self { topic, instrument: None, pending: false, nearest: None, error: None }
    }

    /// A topic that was refused.
    #[must_use]
    pub fn refused(topic: String, error: Refusal) -> Self {
        Self { error: Some(error), ..Self::granted(topic) }
    }
}

impl Answer {
    /// As a MessagePack map with named fields.
    #[must_use]
    pub fn to_msgpack(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("answers have no part that cannot be written")
    }

    /// As a JSON map, on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("answers have no part that cannot be written")
    }
}

const NO_MAP: &str = "malformed request: a request is a map, not a list";

impl Request {
    /// Reads a request of that encoding.
    ///
    /// # Errors
    /// As [`Self::from_json`] and [`Self::from_msgpack`].
    pub fn read(encoding: Encoding, payload: &[u8]) -> Result<Self, RequestError> {
        match encoding {
            Encoding::MessagePack => Self::from_msgpack(payload),
            Encoding::Json => match std::str::from_utf8(payload) {
                Ok(text) => Self::from_json(text),
                Err(error) => Err(RequestError::bad(None, format!("a request is UTF-8: {error}"))),
            },
        }
    }

    /// Reads a request in JSON.
    ///
    /// # Errors
    /// [`RequestError`], which is the answer.
    pub fn from_json(text: &str) -> Result<Self, RequestError> {
        // A list would be read by the order of the fields, which is no part of the protocol.
        if text.trim_start().starts_with('[') {
            return Err(RequestError::bad(None, NO_MAP.to_owned()));
        }
        let fields = serde_json::from_str::<Fields>(text).or_else(|error| {
            let loose = || serde_json::from_str::<Loose>(text).ok();
            loose().and_then(Loose::into_request).ok_or_else(|| {
                let id = loose().and_then(Loose::into_request).and_then(|IdOnly { id }| id);
                RequestError::bad(id, format!("malformed request: {error}"))
            })
        })?;
        Self::check(fields)
    }

    /// Reads a request in MessagePack.
    ///
    /// # Errors
    /// [`RequestError`], which is the answer.
    pub fn from_msgpack(bytes: &[u8]) -> Result<Self, RequestError> {
        if matches!(bytes.first(), Some(0x90..=0x9f | 0xdc | 0xdd)) {
            return Err(RequestError::bad(None, NO_MAP.to_owned()));
        }
        let mut reader = bytes;
        let fields: Fields = read_msgpack(&mut reader).or_else(|error| {
            reader = bytes;
            let loose: Option<Loose> = read_msgpack(&mut reader).ok();
            loose.and_then(Loose::into_request).ok_or_else(|| {
                let loose = read_msgpack(&mut &*bytes).ok();
                let id = loose.and_then(Loose::into_request).and_then(|IdOnly { id }| id);
                RequestError::bad(id, format!("malformed request: {error}"))
            })
        })?;
        if !reader.is_empty() {
            let message = format!("malformed request: {} bytes after its end", reader.len());
            return Err(RequestError::bad(fields.id, message));
        }
        Self::check(fields)
    }

    fn check(fields: Fields) -> Result<Self, RequestError> {
        let Fields { op, id, topics, since, max_hz, times, enabled, action, speed, to, by, .. } = fields;
        let Fields { session, fault, for_ms, by_ms, bytes_per_second, code, what, .. } = fields;
        let Fields { topic, from, event, data, key, ttl_ms, .. } = fields;
        let fault = FaultFields { fault, for_ms, by_ms, bytes_per_second, code, what };
        let post = PostFields { topic, from, event, data, key, ttl_ms };
        let bad = |message: String| RequestError::bad(id.clone(), message);
        if let Some(Id::Text(text)) = &id
            && text.len() > 64
        {
            return Err(RequestError::bad(None, "id is longer than 64 bytes".to_owned()));
        }
        if let Some(Id::Number(number)) = id
            && number >= 1 << 53
        {
            return Err(RequestError::bad(None, format!("id {number} is 2^53 or more")));
        }
        // A field that the op does not know is a misunderstanding: an error is better than silence.
        let given = [
            ("session", session.is_some()),
            ("topics", topics.is_some()),
            ("since", since.is_some()),
            ("max_hz", max_hz.is_some()),
            ("times", times.is_some()),
            ("enabled", enabled.is_some()),
            ("action", action.is_some()),
            ("speed", speed.is_some()),
            ("to", to.is_some()),
            ("by", by.is_some()),
        ];
        let mut given = given.into_iter().chain(fault.given()).chain(post.given());
        if let Some(known) = OPS.iter().find(|known| known.name == op)
            && let Some((field, _)) = given.find(|(field, there)| *there && !known.fields.contains(field))
        {
            return Err(bad(format!("{op:?} has no field {field:?}")));
        }
        check_hz(max_hz.flatten()).map_err(bad)?;
        let number = session.unwrap_or_default();
        let out_of_range = || bad(format!("session {number} is not from 0 to {}", MAX_SESSIONS - 1));
        let session = SessionNumber::new(number).ok_or_else(out_of_range)?;
        if session == SessionNumber::FIRST && matches!(&*op, "open" | "close") {
            return Err(bad(format!("{op:?} needs a \"session\" from 1 to {}", MAX_SESSIONS - 1)));
        }
        let named = |topics: Option<Vec<String>>| match topics {
            Some(topics) if !topics.is_empty() => Ok(topics),
            Some(_) => Err(bad(format!("{op:?} needs at least one topic"))),
            None => Err(bad(format!("{op:?} needs \"topics\""))),
        };
        let op = match &*op {
            "open" => Op::Open,
            "close" => Op::Close,
            "subscribe" => Op::Subscribe { topics: named(topics)?, since, max_hz, times },
            "unsubscribe" => Op::Unsubscribe { topics: named(topics)? },
            "ping" => Op::Ping,
            "stats" => Op::Stats { enabled: enabled.unwrap_or(true) },
            "checksum" => Op::Checksum { topics: named(topics)? },
            "replay" => {
                let fields = ReplayFields { action, speed, to, by };
                Op::Replay(ReplayAction::check(fields).map_err(&bad)?)
            }
            "fault" => {
                let (fault, lasts) = fault.check().map_err(&bad)?;
                Op::Fault { fault, lasts }
            }
            "publish" => Op::Publish(Box::new(post.check().map_err(&bad)?)),
            other => {
                let hint = hint(other, "ops", OPS.iter().map(|op| op.name));
                let other: String = other.chars().take(40).collect();
                let message = format!("unknown op {other:?}: {hint}");
                return Err(RequestError { id, code: ErrorCode::UnknownOp, message });
            }
        };
        Ok(Self { id, session, op })
    }
}

impl Op {
    /// Its index in [`OPS`].
    #[must_use]
    pub const fn index(&self) -> usize {
        match self {
            Self::Open => 0,
            Self::Close => 1,
            Self::Subscribe { .. } => 2,
            Self::Unsubscribe { .. } => 3,
            Self::Ping => 4,
            Self::Stats { .. } => 5,
            Self::Checksum { .. } => 6,
            Self::Replay(_) => 7,
            Self::Fault { .. } => 8,
            Self::Publish(_) => 9,
        }
    }
}

impl RequestError {
    fn bad(id: Option<Id>, message: String) -> Self {
        Self { id, code: ErrorCode::BadRequest, message }
    }
}

/// Reads only the `id` of a malformed request, for its error.
#[derive(Deserialize)]
struct IdOnly {
    #[serde(default)]
    id: Option<Id>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Distinguishes `null` from absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// How deep a request may nest. Known ones need three; the library's own bound of 1,024 takes more stack than
/// a thread may have.
const MAX_DEPTH: usize = 16;

pub(super) fn read_msgpack<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, rmp_serde::decode::Error> {
    let mut reader = rmp_serde::Deserializer::new(bytes);
    reader.set_max_depth(MAX_DEPTH);
    T::deserialize(&mut reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &str) {
        let shown = |result: Result<Request, RequestError>| match result {
            Ok(request) => format!("{:?} {:?}", request.id, request.op),
            Err(error) => format!("{:?} {:?}: {error}", error.id, error.code),
        };
        assert_eq!(shown(Request::from_json(json)), expected);
    }

    #[test]
    fn requests_are_read_with_what_they_leave_out() {
        check(
            r#"{"op":"subscribe","id":7,"topics":["quote:A"],"max_hz":null}"#,
            "Some(Number(7)) Subscribe { topics: [\"quote:A\"], since: None, max_hz: Some(None), times: None }",
        );
        check(r#"{"op":"ping"}"#, "None Ping");
        let value = serde_json::json!({"op": "unsubscribe", "topics": ["status"], "id": "x"});
        let request = Request::from_msgpack(&rmp_serde::to_vec_named(&value).unwrap()).unwrap();
        assert_eq!(request.op, Op::Unsubscribe { topics: vec!["status".to_owned()] });
    }

    #[test]
    fn whole_numbers_may_be_floats_and_fields_undefined() {
        let subscribe = r#"{"op":"subscribe","id":7.0,"topics":["quote:A"],"since":{"epoch":8.765432109876e15,"position":12.0},"max_hz":5}"#;
        let expected = "Some(Number(7)) Subscribe { topics: [\"quote:A\"], \
                        since: Some(Resume { epoch: 8765432109876000, position: 12 }), max_hz: Some(Some(5.0)), times: None }";
        check(subscribe, expected);
        check(
            r#"{"op":"fault","fault":"slow","bytes_per_second":100.0,"for_ms":2e3}"#,
            "None Fault { fault: Slow(100), lasts: Some(2s) }",
        );
        // As msgpackr packs it: each number beyond 2^32 is a float, and all of them may be.
        let mut packed = vec![0x86, 0xa2, b'o', b'p', 0xa9];
        packed.extend(b"subscribe\xa2id\xcb");
        packed.extend(7_f64.to_be_bytes());
        packed.extend(b"\xa6topics\x91\xa7quote:A\xa5since\x82\xa5epoch\xcb");
        packed.extend(8_765_432_109_876_543_f64.to_be_bytes());
        packed.extend(b"\xa8position\xcb");
        packed.extend(12_f64.to_be_bytes());
        packed.extend(b"\xa6max_hz\xd4\x00\x00\xa5times\xd4\x00\x00");
        let Request { id, op, .. } = Request::from_msgpack(&packed).unwrap();
        let since = Some(Resume { epoch: 8_765_432_109_876_543, position: 12 });
        let topics = vec!["quote:A".to_owned()];
        assert_eq!(id, Some(Id::Number(7)));
        assert_eq!(op, Op::Subscribe { topics, since, max_hz: None, times: None });
        packed.push(0xc0);
        assert_eq!(
            Request::from_msgpack(&packed).unwrap_err().message,
            "malformed request: 1 bytes after its end"
        );
        let twice = "None BadRequest: malformed request: duplicate field `op` at line 1 column 17";
        check(r#"{"op":"ping","op":"ping"}"#, twice);
        let fraction = r#"{"op":"subscribe","id":1,"topics":["quote:A"],"since":{"epoch":1.5,"position":2}}"#;
        check(
            fraction,
            "Some(Number(1)) BadRequest: malformed request: invalid type: floating point `1.5`, expected u64 at line 1 column 66",
        );
        let moment = b"\x83\xa2op\xa6replay\xa6action\xa4seek\xa2to\xd6\xff\x65\xe1\x1a\x80";
        let Op::Replay(action) = Request::from_msgpack(moment).unwrap().op else { panic!("it is a seek") };
        assert_eq!(action, ReplayAction::Seek("2024-03-01T00:00:00Z".parse().unwrap()));
    }

    #[test]
    fn every_refusal_names_the_reason_and_the_request() {
        check(
            r#"{"op":"subscrbe","id":1}"#,
            "Some(Number(1)) UnknownOp: unknown op \"subscrbe\": did you mean \"subscribe\"?",
        );
        check(r#"{"op":"subscribe","id":1}"#, "Some(Number(1)) BadRequest: \"subscribe\" needs \"topics\"");
        check(r#"{"op":"ping","topics":["x"]}"#, "None BadRequest: \"ping\" has no field \"topics\"");
        check(
            r#"{"op":"subscribe","topics":["quote:A"],"max_hz":5000}"#,
            "None BadRequest: max_hz 5000 is not from 0.1 to 1000",
        );
        check(
            r#"{"id":3}"#,
            "Some(Number(3)) BadRequest: malformed request: missing field `op` at line 1 column 8",
        );
        check(r#"{"op":"ping","session":1}"#, "None BadRequest: \"ping\" has no field \"session\"");
        check(
            r#"{"op":"open","id":2}"#,
            "Some(Number(2)) BadRequest: \"open\" needs a \"session\" from 1 to 15",
        );
        check(r#"{"op":"close","session":0}"#, "None BadRequest: \"close\" needs a \"session\" from 1 to 15");
        check(r#"{"op":"open","session":16}"#, "None BadRequest: session 16 is not from 0 to 15");
        check("{", "None BadRequest: malformed request: EOF while parsing an object at line 1 column 1");
        for list in ["[", r#" ["ping",7]"#] {
            check(list, "None BadRequest: malformed request: a request is a map, not a list");
        }
        let list = rmp_serde::to_vec(&("ping", 7)).unwrap();
        assert_eq!(Request::from_msgpack(&list).unwrap_err().message, NO_MAP);
        let error = Request::from_msgpack(&[0xdf, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest);
    }

    #[test]
    fn an_op_is_counted_by_its_name() {
        for (index, known) in OPS.iter().enumerate() {
            let mut request = serde_json::json!({
                "op": known.name,
                "session": (known.name == "open" || known.name == "close").then_some(1),
                "topics": known.fields.contains(&"topics").then_some(["status"]),
                "fault": known.fields.contains(&"fault").then_some("none"),
                "topic": known.fields.contains(&"topic").then_some("messages:desk"),
            });
            if known.fields.contains(&"data") {
                request["data"] = 1.into();
            }
            assert_eq!(Request::from_json(&request.to_string()).unwrap().op.index(), index, "{}", known.name);
        }
    }

    #[test]
    fn answers_say_only_what_there_is_to_say() {
        let answer = Answer::Pong { id: None, time: 5, position: 6 };
        assert_eq!(answer.to_json(), r#"{"type":"pong","time":5,"position":6}"#);
        let back: Answer = rmp_serde::from_slice(&answer.to_msgpack()).unwrap();
        assert_eq!(back, answer);
    }
}
