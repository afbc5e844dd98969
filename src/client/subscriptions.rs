use crate::hub::Topic;
use crate::tape::Position;
use std::collections::BTreeMap;

/// The topics that a client subscribes, and the state of each:
///
/// ```text
///          request sent          granted            end of flush
/// Wanted ───────────────> Asked ─────────> Granted ──────────────> Settled
///   ^                       │ refused: removed ^                      │
///   │                                          └──── tape reset ──────┘
///   └──────────────────────── connection lost (from any) ─────────────┘
/// ```
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

#[derive(Debug)]
struct Subscription {
    topic: String,
    /// An earlier connection delivered everything up to here; `None`: a snapshot is needed.
    since: Option<Position>,
    phase: Phase,
}

/// The state of one topic in this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Wanted,
    /// By requests from `first` to `last`: answers to earlier ones are about a subscription that has ended.
    Asked {
        first: u64,
        last: u64,
    },
    /// The next complete flush delivers its snapshot.
    Granted,
    /// That flush is complete, so the session's position holds for this topic from now on.
    Settled,
}

/// What the server knows, in this connection, of a topic that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Nothing: no request was sent yet.
    Unsent,
    Sent,
}

impl Subscriptions {
    /// Adds topics; returns those that are new.
    pub(super) fn add(&mut self, topics: Vec<String>) -> Vec<String> {
        let mut new = Vec::new();
        for topic in topics {
            if !self.0.iter().any(|known| known.topic == topic) {
                self.0.push(Subscription { topic: topic.clone(), since: None, phase: Phase::Wanted });
                new.push(topic);
            }
        }
        new
    }

    /// `None`: it was not subscribed.
    pub(super) fn remove(&mut self, topic: &str) -> Option<Taken> {
        let index = self.0.iter().position(|known| known.topic == topic)?;
        let taken = self.0.remove(index);
        Some(if taken.phase == Phase::Wanted { Taken::Unsent } else { Taken::Sent })
    }

    /// A request was sent. A topic granted before stays so: it does not wait for this answer.
    pub(super) fn asked(&mut self, topics: &[String], request: u64) {
        for known in self.0.iter_mut().filter(|known| topics.contains(&known.topic)) {
            match &mut known.phase {
                Phase::Wanted => known.phase = Phase::Asked { first: request, last: request },
                Phase::Asked { last, .. } => *last = request,
                Phase::Granted | Phase::Settled => {}
            }
        }
    }

    pub(super) fn grant(&mut self, topic: &str, request: u64) {
        for known in self.0.iter_mut().filter(|known| known.topic == topic) {
            if matches!(known.phase, Phase::Asked { first, .. } if first <= request) {
                known.phase = Phase::Granted;
            }
        }
    }

    /// A refusal is final only if no later request asked for the topic.
    pub(super) fn refuse(&mut self, topic: &str, request: u64) {
        let refused = |phase| matches!(phase, Phase::Asked { last, .. } if last == request);
        self.0.retain(|known| known.topic != topic || !refused(known.phase));
    }

    /// A flush ended; returns the topics it settled.
    pub(super) fn settle(&mut self) -> Vec<Topic> {
        let granted = self.0.iter_mut().filter(|known| known.phase == Phase::Granted);
        granted
            .filter_map(|known| {
                known.phase = Phase::Settled;
                Topic::parse(&known.topic).ok()
            })
            .collect()
    }

    /// The tape was reset: snapshots follow again.
    pub(super) fn begin_anew(&mut self) {
        self.restart();
        for known in self.0.iter_mut().filter(|known| known.phase == Phase::Settled) {
            known.phase = Phase::Granted;
        }
    }

    /// The connection was lost at the position `reached`.
    pub(super) fn lost(&mut self, reached: Position) {
        for known in &mut self.0 {
            if known.phase == Phase::Settled {
                // Before the tape's first batch there is nothing to resume: a partial flush after it is sent
                // again.
                known.since = (reached > Position::START).then_some(reached);
            }
            known.phase = Phase::Wanted;
        }
    }

    /// What was received is void: every topic needs a snapshot.
    pub(super) fn restart(&mut self) {
        self.0.iter_mut().for_each(|known| known.since = None);
    }

    /// What to request in a new connection: topics, and the position to resume from.
    pub(super) fn requests(&self) -> Vec<(Option<Position>, Vec<String>)> {
        let mut groups: BTreeMap<Option<Position>, Vec<String>> = BTreeMap::new();
        for known in &self.0 {
            groups.entry(known.since).or_default().push(known.topic.clone());
        }
        // Those with a position first: the position of a set then holds for its members that have none.
        groups.into_iter().rev().collect()
    }

    /// Those of which an earlier connection delivered everything up to some position.
    pub(super) fn resumable(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|known| known.since.is_some()).map(|known| &*known.topic)
    }
}
