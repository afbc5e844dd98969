use super::fault::{Fault, FaultFields};
use super::replay::{ReplayAction, ReplayFields, ReplaySpeed, ReplayState};
use crate::hub::nearest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use std::time::Duration;

/// Range of `max_hz`, in updates a second.
pub const MIN_HZ: f64 = 0.1;
pub const MAX_HZ: f64 = 1000.0;

/// # Errors
/// What is wrong with a cap that is out of its range.
pub fn check_hz(max_hz: Option<f64>) -> Result<(), String> {
    match max_hz.filter(|hz| !(MIN_HZ..=MAX_HZ).contains(hz)) {
        Some(hz) => Err(format!("max_hz {hz} is not from {MIN_HZ} to {MAX_HZ}")),
        None => Ok(()),
    }
}

/// What a client asks, checked in form.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: Option<Id>,
    pub op: Op,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    Subscribe {
        topics: Vec<String>,
        since: Option<Resume>,
        /// `None`: as it is; `Some(None)`: no cap.
        max_hz: Option<Option<f64>>,
        times: Option<bool>,
    },
    Unsubscribe {
        topics: Vec<String>,
    },
    Ping,
    Stats {
        enabled: bool,
    },
    Checksum {
        topics: Vec<String>,
    },
    /// Controls what is played.
    Replay(ReplayAction),
    Auth,
    Fault {
        fault: Fault,
        /// `None`: until the next one.
        lasts: Option<Duration>,
    },
}

/// A client's own name for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    Number(u64),
    Text(String),
}

/// A moment on the tape to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    pub epoch: u64,
    pub position: u64,
}

/// A request that cannot be read, to be answered with an `error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RequestError {
    pub id: Option<Id>,
    pub code: ErrorCode,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    BadRequest,
    UnknownOp,
    UnknownTopic,
    TooManyTopics,
    NotSubscribed,
    NotSupported,
    NotAllowed,
    TooLarge,
    /// It could not be done now.
    Unavailable,
}

/// Every message of the server but `update`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Answer {
    Welcome {
        protocol: String,
        server: String,
        epoch: u64,
        /// Where the tape last began anew, as by a seek; 0 where it never has. A client that stands before it knows nothing that holds.
        #[serde(default, skip_serializing_if = "is_zero")]
        begins: u64,
        position: u64,
        /// The tape's clock, µs.
        time: i64,
        heartbeat_ms: u64,
        limits: Limits,
    },
    Subscribed {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        epoch: u64,
        position: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resumed: Option<bool>,
        topics: Vec<TopicAnswer>,
    },
    Unsubscribed {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        topics: Vec<TopicAnswer>,
    },
    Pong {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// The server's wall clock, µs.
        time: i64,
        position: u64,
    },
    Stats {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        position: u64,
        lag: u64,
        lag_ms: u64,
        frames: u64,
        bytes: u64,
        events: u64,
        delivered: u64,
    },
    Checksum {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        position: u64,
        topics: Vec<TopicChecksum>,
    },
    /// The fault that is on from here.
    Fault {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        fault: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_ms: Option<u64>,
    },
    Error {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        code: ErrorCode,
        message: String,
    },
    Replay(ReplayState),
    Goodbye {
        code: u16,
        reason: String,
        retry_after_ms: u64,
        jitter_ms: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub topics: usize,
    pub message_bytes: usize,
    pub requests_per_second: u32,
    pub max_hz: f64,
}

/// What became of one topic of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicAnswer {
    pub topic: String,
    /// The instrument's number, for a single topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<u32>,
    /// The symbol is not known yet; the topic delivers when it appears.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    /// For a pending topic: the nearest one that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicChecksum {
    pub topic: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// Why one topic was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<String>,
}

/// All fields that a request may have, whatever its op.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    op: String,
    #[serde(default)]
    id: Option<Id>,
    #[serde(default)]
    topics: Option<Vec<String>>,
    #[serde(default)]
    since: Option<Resume>,
    #[serde(default, deserialize_with = "present")]
    #[expect(clippy::option_option, reason = "absent, null and a number differ")]
    max_hz: Option<Option<f64>>,
    #[serde(default)]
    times: Option<bool>,
    #[serde(default)]
    enabled: Option<bool>,
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    action: Option<String>,
    #[serde(default)]
    speed: Option<ReplaySpeed>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    by: Option<String>,
    #[serde(default)]
    fault: Option<String>,
    #[serde(default)]
    for_ms: Option<u64>,
    #[serde(default)]
    by_ms: Option<u64>,
    #[serde(default)]
    bytes_per_second: Option<u32>,
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    what: Option<String>,
}

const OPS: [&str; 8] = ["subscribe", "unsubscribe", "ping", "stats", "checksum", "replay", "auth", "fault"];

impl TopicAnswer {
    #[must_use]
    pub fn granted(topic: String) -> Self {
        Self { topic, instrument: None, pending: false, nearest: None, error: None }
    }

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

    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("answers have no part that cannot be written")
    }
}

impl Request {
    /// # Errors
    /// [`RequestError`] to be answered.
    pub fn from_json(text: &str) -> Result<Self, RequestError> {
        let fields = serde_json::from_str::<Fields>(text).map_err(|error| {
            let id = serde_json::from_str(text).ok().and_then(|IdOnly { id }| id);
            RequestError::bad(id, format!("malformed request: {error}"))
        })?;
        Self::check(fields)
    }

    /// # Errors
    /// [`RequestError`] to be answered.
    pub fn from_msgpack(bytes: &[u8]) -> Result<Self, RequestError> {
        let mut reader = bytes;
        let fields: Fields = read_msgpack(&mut reader).map_err(|error| {
            let id = read_msgpack(&mut &*bytes).ok().and_then(|IdOnly { id }| id);
            RequestError::bad(id, format!("malformed request: {error}"))
        })?;
        if !reader.is_empty() {
            let message = format!("malformed request: {} bytes after its end", reader.len());
            return Err(RequestError::bad(fields.id, message));
        }
        Self::check(fields)
    }

    fn check(fields: Fields) -> Result<Self, RequestError> {
        let Fields { op, id, topics, since, max_hz, times, enabled, token, action, speed, to, by, .. } =
            fields;
        let Fields { fault, for_ms, by_ms, bytes_per_second, code, what, .. } = fields;
        let fault = FaultFields { fault, for_ms, by_ms, bytes_per_second, code, what };
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
        // A field that the op does not know is a misunderstanding: better told than ignored.
        let strange = [
            ("topics", topics.is_some(), &["subscribe", "unsubscribe", "checksum"][..]),
            ("since", since.is_some(), &["subscribe"]),
            ("max_hz", max_hz.is_some(), &["subscribe"]),
            ("times", times.is_some(), &["subscribe"]),
            ("enabled", enabled.is_some(), &["stats"]),
            ("token", token.is_some(), &["auth"]),
            ("action", action.is_some(), &["replay"]),
            ("speed", speed.is_some(), &["replay"]),
            ("to", to.is_some(), &["replay"]),
            ("by", by.is_some(), &["replay"]),
        ];
        let of_faults = fault.given().map(|(field, there)| (field, there, &["fault"][..]));
        if OPS.contains(&&*op)
            && let Some((field, ..)) =
                strange.iter().chain(&of_faults).find(|(_, there, ops)| *there && !ops.contains(&&*op))
        {
            return Err(bad(format!("{op:?} has no field {field:?}")));
        }
        check_hz(max_hz.flatten()).map_err(bad)?;
        let named = |topics: Option<Vec<String>>| match topics {
            Some(topics) if !topics.is_empty() => Ok(topics),
            Some(_) => Err(bad(format!("{op:?} needs at least one topic"))),
            None => Err(bad(format!("{op:?} needs \"topics\""))),
        };
        let op = match &*op {
            "subscribe" => Op::Subscribe { topics: named(topics)?, since, max_hz, times },
            "unsubscribe" => Op::Unsubscribe { topics: named(topics)? },
            "ping" => Op::Ping,
            "stats" => Op::Stats { enabled: enabled.unwrap_or(true) },
            "checksum" => Op::Checksum { topics: named(topics)? },
            "replay" => {
                let fields = ReplayFields { action, speed, to, by };
                Op::Replay(ReplayAction::check(fields).map_err(&bad)?)
            }
            "auth" => Op::Auth,
            "fault" => {
                let (fault, lasts) = fault.check().map_err(&bad)?;
                Op::Fault { fault, lasts }
            }
            other => {
                let hint = match nearest(other, OPS.into_iter()) {
                    Some(op) => format!("did you mean {op:?}?"),
                    None => format!("ops are {}", OPS.join(", ")),
                };
                let other: String = other.chars().take(40).collect();
                let message = format!("unknown op {other:?}: {hint}");
                return Err(RequestError { id, code: ErrorCode::UnknownOp, message });
            }
        };
        Ok(Self { id, op })
    }
}

impl RequestError {
    fn bad(id: Option<Id>, message: String) -> Self {
        Self { id, code: ErrorCode::BadRequest, message }
    }
}

/// Reads the `id` of a request that is wrong elsewhere, so that the error can name it.
#[derive(Deserialize)]
struct IdOnly {
    #[serde(default)]
    id: Option<Id>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Tells `null` from absent.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// How deep a request may nest. Those that there are need three; the library's own bound of 1,024 takes more stack than a thread may have.
const MAX_DEPTH: usize = 16;

fn read_msgpack<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, rmp_serde::decode::Error> {
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
        check("[", "None BadRequest: malformed request: EOF while parsing a list at line 1 column 1");
        let error = Request::from_msgpack(&[0xdf, 0xff, 0xff, 0xff, 0xff]).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadRequest);
    }

    #[test]
    fn answers_say_only_what_there_is_to_say() {
        let answer = Answer::Pong { id: None, time: 5, position: 6 };
        assert_eq!(answer.to_json(), r#"{"type":"pong","time":5,"position":6}"#);
        let back: Answer = rmp_serde::from_slice(&answer.to_msgpack()).unwrap();
        assert_eq!(back, answer);
    }
}
