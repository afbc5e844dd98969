use crate::hub::Topic;
use crate::tape::Position;
use std::collections::BTreeMap;

/// Topics in one request. Symbols have at most 64 bytes, so this stays well below the limit of a message.
const TOPICS_PER_REQUEST: usize = 256;

/// The topics a client wants, and how far it has got with each.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

#[derive(Debug)]
struct Subscription {
    topic: String,
    /// Up to where everything of it was had in an earlier connection; `None`: a snapshot is needed.
    since: Option<Position>,
    phase: Phase,
}

/// How far one topic has got in this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Wanted,
    /// By the requests from the one number to the other: answers to earlier ones speak of what was given up since.
    Asked {
        first: u64,
        last: u64,
    },
    /// Granted: the next whole flush brings what is owed of it.
    Granted,
    /// That flush is in, so from here on the session's position speaks for it.
    Settled,
}

impl Subscriptions {
    /// Adds topics; gives those that are new.
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

    pub(super) fn remove(&mut self, topic: &str) {
        self.0.retain(|known| known.topic != topic);
    }

    /// A request was sent. What runs already, and is asked for once more, does not wait for its answer.
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

    /// A refusal is the last word only where nothing was asked after it.
    pub(super) fn refuse(&mut self, topic: &str, request: u64) {
        let refused = |phase| matches!(phase, Phase::Asked { last, .. } if last == request);
        self.0.retain(|known| known.topic != topic || !refused(known.phase));
    }

    /// A flush ended; gives the topics it settled.
    pub(super) fn settle(&mut self) -> Vec<Topic> {
        let granted = self.0.iter_mut().filter(|known| known.phase == Phase::Granted);
        granted
            .filter_map(|known| {
                known.phase = Phase::Settled;
                Topic::parse(&known.topic).ok()
            })
            .collect()
    }

    /// The tape began anew: first images are on the way once more.
    pub(super) fn begin_anew(&mut self) {
        self.restart();
        for known in self.0.iter_mut().filter(|known| known.phase == Phase::Settled) {
            known.phase = Phase::Granted;
        }
    }

    /// The connection is lost when `reached` was reached.
    pub(super) fn lost(&mut self, reached: Position) {
        for known in &mut self.0 {
            if known.phase == Phase::Settled {
                known.since = Some(reached);
            }
            known.phase = Phase::Wanted;
        }
    }

    /// All that was had is worth nothing any more.
    pub(super) fn restart(&mut self) {
        self.0.iter_mut().for_each(|known| known.since = None);
    }

    /// What to ask for in a new connection: topics, and from where.
    pub(super) fn requests(&self) -> Vec<(Option<Position>, Vec<String>)> {
        let mut groups: BTreeMap<Option<Position>, Vec<String>> = BTreeMap::new();
        for known in &self.0 {
            groups.entry(known.since).or_default().push(known.topic.clone());
        }
        // Those with a position first: a set that has one speaks for its members that have none.
        let groups = groups.into_iter().rev();
        groups.flat_map(|(since, topics)| in_requests(topics).map(move |topics| (since, topics))).collect()
    }

    /// Those of which an earlier connection had everything up to some position.
    pub(super) fn resumable(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|known| known.since.is_some()).map(|known| &*known.topic)
    }
}

/// Cuts a list of topics into what fits a request each.
pub(super) fn in_requests(mut topics: Vec<String>) -> impl Iterator<Item = Vec<String>> {
    std::iter::from_fn(move || {
        let count = topics.len().min(TOPICS_PER_REQUEST);
        (count > 0).then(|| topics.drain(..count).collect())
    })
}
