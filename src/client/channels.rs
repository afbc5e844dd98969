use super::session::Event;
use crate::hub::Topic;
use crate::market::Symbol;
use crate::wire::Entry;
use rustc_hash::FxHashMap;

/// What a client knows of the channels whose messages it receives: the number of the next one. A reset of the
/// market is none of theirs.
#[derive(Clone, Debug, Default)]
pub(super) struct Channels {
    next: FxHashMap<Symbol, u64>,
}

impl Channels {
    /// The events of an update's entries. What was received before is left out.
    pub fn take(&mut self, entries: &[Entry]) -> Vec<Event> {
        entries.iter().filter_map(|entry| self.entry(entry)).collect()
    }

    fn entry(&mut self, entry: &Entry) -> Option<Event> {
        match entry {
            Entry::Messages(channel, run) => {
                let before = self.next.get(channel).copied();
                // The first ones of a channel begin at the server's number, without a gap.
                let from = before.unwrap_or(run.number);
                self.next.insert(channel.clone(), from.max(run.number + run.entries.len() as u64));
                let missed = run.number.saturating_sub(from);
                let new = run.iter().skip_while(|&(number, _)| number < from);
                let messages: Vec<_> = new.map(|(number, message)| (number, message.clone())).collect();
                let channel = channel.clone();
                (missed > 0 || !messages.is_empty()).then_some(Event::Messages { channel, missed, messages })
            }
            Entry::States(channel, states) => {
                Some(Event::States { channel: channel.clone(), states: states.clone() })
            }
            _ => None,
        }
    }

    /// All that was pending of these topics has come: a channel of which nothing has begins with number 0.
    pub fn settle(&mut self, topics: &[Topic]) {
        for channel in topics.iter().filter_map(Topic::messages_of) {
            self.next.entry(channel.clone()).or_insert(0);
        }
    }

    /// Drops what none of these topics covers.
    pub fn keep(&mut self, topics: &[Topic]) {
        self.next.retain(|channel, _| topics.iter().any(|topic| topic.messages_of() == Some(channel)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Json, Message, Timestamp};
    use crate::wire::Numbered;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn each_message_comes_once_and_gaps_are_exact() {
        let channel = Symbol::new("desk").unwrap();
        let message = Arc::new(Message {
            channel: channel.clone(),
            from: None,
            event: None,
            data: Json::new(&json!(1), 10).unwrap(),
            is_spread: false,
            except: None,
            ts_event: Timestamp::default(),
        });
        let mut channels = Channels::default();
        let told = |channels: &mut Channels, number: u64, count: usize| {
            let run = Numbered { number, stated: true, entries: vec![Arc::clone(&message); count] };
            match &channels.take(&[Entry::Messages(channel.clone(), run)])[..] {
                [] => "nothing".to_owned(),
                [Event::Messages { missed, messages, .. }] => {
                    let numbers: Vec<u64> = messages.iter().map(|(number, _)| *number).collect();
                    format!("{missed} missed, {numbers:?}")
                }
                other => format!("{other:?}"),
            }
        };
        assert_eq!(told(&mut channels, 7, 2), "0 missed, [7, 8]", "what came before it subscribed is no gap");
        assert_eq!(told(&mut channels, 8, 2), "0 missed, [9]");
        assert_eq!(told(&mut channels, 8, 2), "nothing");
        assert_eq!(told(&mut channels, 12, 1), "2 missed, [12]");
        assert_eq!(told(&mut channels, 20, 0), "7 missed, []");
        channels.keep(&[Topic::parse("states:desk").unwrap()]);
        assert!(channels.next.is_empty());
        // Of a channel that had none when all had come, those before the first that comes are missed.
        channels.settle(&[Topic::parse("messages:desk").unwrap()]);
        assert_eq!(told(&mut channels, 7, 2), "7 missed, [7, 8]");
    }
}
