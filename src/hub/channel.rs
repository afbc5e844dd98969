//! The messages of a channel, and the states in it. Pure; any thread.
//!
//! Invariant: what a channel keeps fits one update. A state that has ended is kept as such until
//! [`STATES_KEPT`] others are, so that a subscriber that lags misses no end.

use super::ring::{Ring, Run};
use super::topic::Kind;
use crate::market::{Json, Message, Posted, State, Symbol, Word};
use crate::tape::Position;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most messages kept of a channel.
pub const MESSAGES_KEPT: usize = 256;
/// The most bytes of them.
const BYTES_KEPT: usize = 32 * 1024;
/// The most states of a channel, those that have ended included.
const STATES_KEPT: usize = 64;

/// A channel of a tape.
#[derive(Clone, Debug)]
pub struct Channel {
    pub name: Symbol,
    pub messages: Ring<Arc<Message>>,
    /// Bytes of the messages kept.
    bytes: usize,
    states: BTreeMap<Word, Kept>,
    /// When the newest state that is not kept any more ended.
    forgotten: Position,
}

/// A state, and when it last changed; without data it has ended.
#[derive(Clone, Debug)]
struct Kept {
    data: Option<Json>,
    changed_at: Position,
}

/// The states of a channel that are pending from some position.
#[derive(Debug)]
pub struct StateRun<'a> {
    /// Whether these are all there are: what the subscriber knows besides has ended.
    pub whole: bool,
    /// By key; `None`: it has ended.
    pub states: Vec<(&'a Word, Option<&'a Json>)>,
}

/// What is pending of a channel's topic.
#[derive(Debug)]
pub enum ChannelEntries<'a> {
    Messages(Run<'a, Arc<Message>>),
    States(StateRun<'a>),
}

impl ChannelEntries<'_> {
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Messages(run) => run.len() as u64,
            Self::States(run) => run.states.len() as u64,
        }
    }
}

impl Channel {
    pub(super) fn new(name: Symbol) -> Self {
        Self {
            name,
            messages: Ring::new(MESSAGES_KEPT),
            bytes: 0,
            states: BTreeMap::new(),
            forgotten: Position::START,
        }
    }

    /// Takes an event in. Returns the kind of topic that has changed.
    pub(super) fn take(&mut self, at: Position, posted: &Posted) -> Option<Kind> {
        match posted {
            Posted::Message(message) => {
                self.push(at, message);
                Some(Kind::Messages)
            }
            Posted::State(state) => self.set(at, state).then_some(Kind::States),
        }
    }

    fn push(&mut self, at: Position, message: &Arc<Message>) {
        self.bytes += message.weight();
        while self.bytes > BYTES_KEPT || self.messages.len() >= MESSAGES_KEPT {
            let Some(oldest) = self.messages.pop() else { break };
            self.bytes -= oldest.weight();
        }
        self.messages.push(at, Arc::clone(message));
    }

    /// Returns whether anything changed: a state that is set again as it was is no news.
    fn set(&mut self, at: Position, state: &State) -> bool {
        let known = self.states.get(&state.key);
        if known.map_or(state.data.is_none(), |known| known.data == state.data) {
            return false;
        }
        let kept = Kept { data: state.data.clone(), changed_at: at };
        self.states.insert(state.key.clone(), kept);
        if self.states.len() > STATES_KEPT {
            self.forget_one();
        }
        true
    }

    /// The oldest one that has ended; where none has, the one that changed least recently ends so.
    fn forget_one(&mut self) {
        let age = |(_, kept): &(&Word, &Kept)| (kept.data.is_some(), kept.changed_at);
        let Some(key) = self.states.iter().min_by_key(age).map(|(key, _)| key.clone()) else { return };
        if let Some(kept) = self.states.remove(&key) {
            // One that was live ends with this change.
            let newest = self.states.values().map(|kept| kept.changed_at).max();
            let ended = if kept.data.is_some() { newest } else { Some(kept.changed_at) };
            self.forgotten = self.forgotten.max(ended.unwrap_or(kept.changed_at));
        }
    }

    /// What is pending of its topic of that kind, if anything is.
    pub(super) fn owed(&self, kind: Kind, since: Position, upto: Position) -> Option<ChannelEntries<'_>> {
        if kind == Kind::Messages {
            let run = self.messages.owed(since, upto);
            // Their number is news also to one to whom they are new.
            let is_told = !run.is_empty() || run.gap || (run.broken && since == Position::START);
            is_told.then_some(ChannelEntries::Messages(run))
        } else {
            self.states_since(since).map(ChannelEntries::States)
        }
    }

    /// The states that changed after `since`; `None` where none did.
    #[must_use]
    pub fn states_since(&self, since: Position) -> Option<StateRun<'_>> {
        let whole = since < self.forgotten || since == Position::START;
        let is_pending = |kept: &Kept| if whole { kept.data.is_some() } else { kept.changed_at > since };
        let states: Vec<_> = self
            .states
            .iter()
            .filter(|(_, kept)| is_pending(kept))
            .map(|(key, kept)| (key, kept.data.as_ref()))
            .collect();
        (since < self.forgotten || !states.is_empty()).then_some(StateRun { whole, states })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Timestamp;
    use serde_json::json;

    fn channel() -> Channel {
        Channel::new(Symbol::new("desk").unwrap())
    }

    fn set(channel: &mut Channel, at: u64, key: &str, data: Option<i64>) -> bool {
        let state = State {
            channel: channel.name.clone(),
            key: Word::new(key).unwrap(),
            data: data.map(|data| Json::new(&json!(data), 100).unwrap()),
        };
        channel.set(Position::new(at), &state)
    }

    fn since(channel: &Channel, at: u64) -> String {
        let Some(run) = channel.states_since(Position::new(at)) else { return "nothing".to_owned() };
        let states = run.states.iter();
        let states: Vec<_> =
            states.map(|(key, data)| format!("{key}={}", data.map_or("-", |data| data.as_str()))).collect();
        format!("{}{}", if run.whole { "all: " } else { "" }, states.join(" "))
    }

    #[test]
    fn states_are_pending_from_their_last_change() {
        let mut desk = channel();
        assert_eq!(since(&desk, 0), "nothing");
        assert!(set(&mut desk, 1, "ann", Some(1)));
        assert!(set(&mut desk, 2, "bob", Some(2)));
        assert!(!set(&mut desk, 3, "bob", Some(2)));
        assert_eq!((since(&desk, 0), since(&desk, 1)), ("all: ann=1 bob=2".to_owned(), "bob=2".to_owned()));
        assert_eq!(since(&desk, 2), "nothing");
        assert!(set(&mut desk, 4, "ann", None));
        assert!(!set(&mut desk, 5, "eve", None));
        assert_eq!((since(&desk, 0), since(&desk, 2)), ("all: bob=2".to_owned(), "ann=-".to_owned()));
    }

    #[test]
    fn a_subscriber_that_missed_an_end_gets_all_that_is() {
        let mut desk = channel();
        set(&mut desk, 1, "first", Some(0));
        set(&mut desk, 2, "first", None);
        for (at, n) in (3..).zip(0..STATES_KEPT) {
            set(&mut desk, at, &format!("{n:02}"), Some(0));
        }
        assert!(since(&desk, 1).starts_with("all: 00=0 "));
        assert!(since(&desk, 2).starts_with("00=0 "));
        // No more may live: the oldest ends, for those as well who have everything before.
        set(&mut desk, 100, "one more", Some(0));
        assert!(since(&desk, 99).starts_with("all: 01=0 "));
        assert_eq!(since(&desk, 100), "nothing");
    }

    #[test]
    fn what_is_kept_of_messages_is_bounded_by_number_and_bytes() {
        let say = |desk: &mut Channel, at: u64, len: usize| {
            let data = Json::new(&json!("x".repeat(len)), Message::MAX_DATA).unwrap();
            let (channel, ts_event) = (desk.name.clone(), Timestamp::default());
            let message =
                Message { channel, from: None, event: None, data, is_spread: false, except: None, ts_event };
            desk.push(Position::new(at), &Arc::new(message));
        };
        let mut desk = channel();
        (1..=1000).for_each(|at| say(&mut desk, at, 1));
        assert_eq!((desk.messages.len(), desk.messages.count()), (MESSAGES_KEPT, 1000));
        (1001..=1100).for_each(|at| say(&mut desk, at, 4000));
        assert_eq!((desk.messages.len(), desk.messages.count()), (BYTES_KEPT / 4002, 1100));
        assert!(desk.bytes <= BYTES_KEPT);
        let run = desk.messages.owed(Position::new(1000), Position::new(1100));
        assert_eq!((run.number, run.broken), (1092, true));
    }
}
