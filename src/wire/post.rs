//! The `publish` request: what a session posts to a channel. Pure; any thread.
//!
//! Invariant: a [`Post`] that was checked is within the limits of its channel.

use crate::hub::{Kind, Scope, Topic};
use crate::market::{Json, Message, Post, State, Symbol, Word};
use serde_json::Value;
use std::time::Duration;

/// The fields of a `publish` request.
#[derive(Clone, Debug, Default)]
pub(super) struct PostFields {
    pub topic: Option<Value>,
    pub from: Option<String>,
    pub event: Option<String>,
    pub data: Option<Value>,
    pub key: Option<String>,
    pub ttl_ms: Option<u64>,
}

impl PostFields {
    /// Each field by name, and whether it was given.
    pub fn given(&self) -> [(&'static str, bool); 6] {
        [
            ("topic", self.topic.is_some()),
            ("from", self.from.is_some()),
            ("event", self.event.is_some()),
            ("data", self.data.is_some()),
            ("key", self.key.is_some()),
            ("ttl_ms", self.ttl_ms.is_some()),
        ]
    }

    /// The post; `Err` says what is wrong.
    pub fn check(self) -> Result<Post, String> {
        let Some(text) = self.topic.as_ref().and_then(Value::as_str) else {
            return Err("\"publish\" needs a \"topic\": messages:CHANNEL or states:CHANNEL".to_owned());
        };
        let topic = Topic::parse(text).map_err(|error| error.message)?;
        match topic {
            Topic { kind: Kind::Messages, scope: Scope::Symbol(channel) } => self.message(channel),
            Topic { kind: Kind::States, scope: Scope::Symbol(channel) } => self.state(channel),
            _ => {
                let text: String = text.chars().take(100).collect();
                Err(format!("{text:?} takes no posts: only messages:CHANNEL and states:CHANNEL do"))
            }
        }
    }

    fn message(self, channel: Symbol) -> Result<Post, String> {
        for (field, is_given) in [("key", self.key.is_some()), ("ttl_ms", self.ttl_ms.is_some())] {
            if is_given {
                return Err(format!("a message has no {field:?}: a state has"));
            }
        }
        let data = self.data.ok_or("a message needs \"data\"")?;
        let data = Json::new(&data, Message::MAX_DATA).map_err(|error| format!("data: {error}"))?;
        let mut post = Post::message(channel, data);
        if let Post::Message { message, .. } = &mut post {
            message.from = self.from.map(|text| word("from", &text)).transpose()?;
            message.event = self.event.map(|text| word("event", &text)).transpose()?;
        }
        Ok(post)
    }

    fn state(self, channel: Symbol) -> Result<Post, String> {
        for (field, is_given) in [("from", self.from.is_some()), ("event", self.event.is_some())] {
            if is_given {
                return Err(format!("a state has no {field:?}: a message has"));
            }
        }
        let key = word("key", &self.key.ok_or("a state needs \"key\"")?)?;
        let ttl = match self.ttl_ms {
            Some(ms) if !(1..=State::MAX_TTL_MS).contains(&ms) => {
                return Err(format!("ttl_ms {ms} is not from 1 to {}", State::MAX_TTL_MS));
            }
            ms => ms.map(Duration::from_millis),
        };
        let data = self.data.filter(|data| !data.is_null());
        let data = data.map(|data| Json::new(&data, State::MAX_DATA)).transpose();
        let data = data.map_err(|error| format!("data: {error}"))?;
        Ok(Post::State { state: State { channel, key, data }, ttl })
    }
}

fn word(field: &str, text: &str) -> Result<Word, String> {
    Word::new(text).ok_or_else(|| format!("{field}: expected {}", Word::EXPECTED))
}
