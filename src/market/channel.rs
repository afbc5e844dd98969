//! What people and programs tell each other beside the market: messages of a channel, and states in it.
//!
//! A channel is a name. It needs no definition: the first message makes it.

use super::{Event, Symbol, Timestamp};
use serde_json::Value;
use std::sync::Arc;
use std::{fmt, time::Duration};

/// One message of a channel. Each is delivered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The channel's name.
    pub channel: Symbol,
    /// Who sent it, in the sender's own words.
    pub from: Option<Word>,
    /// What kind of message it is, in the sender's own words.
    pub event: Option<Word>,
    /// Its content.
    pub data: Json,
    /// Whether `data` is a list of the arguments of an event, as clients of Socket.IO send several.
    pub is_spread: bool,
    /// The session that does not want its own message back, where one is.
    pub except: Option<Sender>,
    /// When it was sent; the time of arrival if the sender states none.
    pub ts_event: Timestamp,
}

/// A state of somebody in a channel, such as that they are typing. It replaces the one of the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The channel's name.
    pub channel: Symbol,
    /// Whose state it is.
    pub key: Word,
    /// `None`: it has ended.
    pub data: Option<Json>,
}

/// What was posted to a channel, as an event of its tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Posted {
    /// A message.
    Message(Arc<Message>),
    /// A state, or the end of one.
    State(Arc<State>),
}

/// What somebody posts to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Post {
    /// `ts_event` of the message is set when it arrives, if the sender states none.
    Message {
        /// The message.
        message: Message,
        /// When it was sent, in the sender's words.
        ts_event: Option<Timestamp>,
    },
    /// A state, or the end of one.
    State {
        /// The state.
        state: State,
        /// After this time it ends, unless it is set again; `None`: it stays.
        ttl: Option<Duration>,
    },
}

/// A session that sends: random, so that no two of any node are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sender(pub u64);

/// A name that people give: 1 to 64 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Word(Arc<str>);

/// A JSON value that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes of JSON exceed the limit of {most}")]
pub struct TooLong {
    /// Bytes that it has.
    pub len: usize,
    /// Bytes that it may have.
    pub most: usize,
}

/// A JSON value, as text without blanks between its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl Message {
    /// The most bytes of `data`.
    pub const MAX_DATA: usize = 4096;

    /// Bytes that it takes of what its channel keeps.
    #[must_use]
    pub fn weight(&self) -> usize {
        let words = [&self.from, &self.event].into_iter().flatten();
        self.data.as_str().len() + words.map(|word| word.as_str().len()).sum::<usize>()
    }
}

impl State {
    /// The most bytes of `data`.
    pub const MAX_DATA: usize = 512;
    /// The longest time, in ms, that it may last without being set again.
    pub const MAX_TTL_MS: u64 = 24 * 60 * 60 * 1000;
}

impl Posted {
    /// The channel's name.
    #[must_use]
    pub fn channel(&self) -> &Symbol {
        match self {
            Self::Message(message) => &message.channel,
            Self::State(state) => &state.channel,
        }
    }

    /// The time of the venue, where it has one, to be moved.
    pub fn ts_event_mut(&mut self) -> Option<&mut Timestamp> {
        match self {
            Self::Message(message) => Some(&mut Arc::make_mut(message).ts_event),
            Self::State(_) => None,
        }
    }
}

impl Post {
    /// A message without sender and event.
    #[must_use]
    pub fn message(channel: Symbol, data: Json) -> Self {
        let (from, event, except, ts_event) = (None, None, None, Timestamp::default());
        let message = Message { channel, from, event, data, is_spread: false, except, ts_event };
        Self::Message { message, ts_event: None }
    }

    /// The channel's name.
    #[must_use]
    pub fn channel(&self) -> &Symbol {
        match self {
            Self::Message { message, .. } => &message.channel,
            Self::State { state, .. } => &state.channel,
        }
    }

    /// The event on the tape.
    #[must_use]
    pub fn into_event(self, arrival: Timestamp) -> Event {
        Event::Posted(match self {
            Self::Message { message, ts_event } => {
                Posted::Message(Arc::new(Message { ts_event: ts_event.unwrap_or(arrival), ..message }))
            }
            Self::State { state, .. } => Posted::State(Arc::new(state)),
        })
    }
}

impl Word {
    /// In bytes of UTF-8.
    pub const MAX_LEN: usize = 64;
    /// What a word may be, for errors.
    pub const EXPECTED: &str = "1 to 64 bytes without control characters";

    /// `None` if it is none.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let is_word = (1..=Self::MAX_LEN).contains(&text.len()) && !text.chars().any(char::is_control);
        is_word.then(|| Self(text.into()))
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Json {
    /// Of at most that many bytes.
    ///
    /// # Errors
    /// [`TooLong`] if it has more.
    pub fn new(value: &Value, most: usize) -> Result<Self, TooLong> {
        let text = value.to_string();
        if text.len() > most { Err(TooLong { len: text.len(), most }) } else { Ok(Self(text.into())) }
    }

    /// On one line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What it says.
    #[must_use]
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_and_values_are_bounded() {
        assert_eq!(Word::new("Ann").unwrap().as_str(), "Ann");
        assert_eq!(Word::new(""), None);
        assert_eq!(Word::new("a\nb"), None);
        assert_eq!(Word::new(&"x".repeat(65)), None);
        assert_eq!(Json::new(&json!({"a": "1\n2"}), 20).unwrap().as_str(), r#"{"a":"1\n2"}"#);
        assert_eq!(Json::new(&json!("12345"), 6), Err(TooLong { len: 7, most: 6 }));
        assert_eq!(Json::new(&json!([1, null]), 20).unwrap().value(), json!([1, null]));
    }
}
