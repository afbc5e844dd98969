use crate::tape::Position;
use serde_json::Value;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Topics in one request. Symbols have at most 64 bytes, so this stays well below the limit of a message.
const TOPICS: usize = 256;
/// The part of the server's limit per second that may be sent at once after a pause.
const BURST: u32 = 5;

/// Requests waiting to be sent. A few go out at once; more go out at no more than half the server's limit,
/// and those that gather meanwhile go out as one: a caller that subscribes row by row must not lose the
/// connection to the limit.
#[derive(Debug)]
pub(super) struct Requests {
    waiting: VecDeque<Waiting>,
    /// Average time between two requests.
    interval: Duration,
    /// By how much `next` may be later than now.
    burst: Duration,
    /// When another request may be sent, without the burst.
    next: Instant,
}

#[derive(Debug, PartialEq)]
pub(super) enum Waiting {
    Subscribe { since: Option<Position>, topics: Vec<String> },
    Unsubscribe(Vec<String>),
    Other(Value),
}

impl Requests {
    pub fn new(now: Instant) -> Self {
        Self::paced(now, 50)
    }

    /// For a server that accepts `per_second` requests a second.
    pub fn paced(now: Instant, per_second: u32) -> Self {
        let interval = Duration::from_secs(2) / per_second.max(1);
        let burst = interval * (per_second / BURST).saturating_sub(1);
        Self { waiting: VecDeque::new(), interval, burst, next: now }
    }

    /// Drops topics that are waiting already.
    pub fn subscribe(&mut self, since: Option<Position>, mut topics: Vec<String>) {
        topics.retain(|topic| {
            let waits =
                |waiting: &Waiting| matches!(waiting, Waiting::Subscribe { topics, .. } if topics.contains(topic));
            !self.waiting.iter().any(waits)
        });
        match self.waiting.back_mut() {
            _ if topics.is_empty() => {}
            Some(Waiting::Subscribe { since: before, topics: waiting }) if *before == since => {
                waiting.append(&mut topics);
            }
            _ => self.waiting.push_back(Waiting::Subscribe { since, topics }),
        }
    }

    /// Removes a topic from the subscribe requests that were not sent yet.
    pub fn withdraw(&mut self, topic: &str) {
        for waiting in &mut self.waiting {
            if let Waiting::Subscribe { topics, .. } = waiting {
                topics.retain(|waiting| waiting != topic);
            }
        }
        self.waiting
            .retain(|waiting| !matches!(waiting, Waiting::Subscribe { topics, .. } if topics.is_empty()));
    }

    /// Takes topics that were withdrawn before: none of them is in the last waiting subscribe request, so the
    /// unsubscribe request may go before it.
    pub fn unsubscribe(&mut self, mut topics: Vec<String>) {
        topics.retain(|topic| {
            let waits =
                |waiting: &Waiting| matches!(waiting, Waiting::Unsubscribe(topics) if topics.contains(topic));
            !self.waiting.iter().any(waits)
        });
        if topics.is_empty() {
            return;
        }
        let subscribed_last = matches!(self.waiting.back(), Some(Waiting::Subscribe { .. }));
        let end = self.waiting.len() - usize::from(subscribed_last);
        match end.checked_sub(1).and_then(|last| self.waiting.get_mut(last)) {
            Some(Waiting::Unsubscribe(waiting)) => waiting.append(&mut topics),
            _ => self.waiting.insert(end, Waiting::Unsubscribe(topics)),
        }
    }

    /// Adds a request that is not about subscriptions.
    pub fn ask(&mut self, request: Value) {
        self.waiting.push_back(Waiting::Other(request));
    }

    /// When the next one may be sent; `None` if none is waiting.
    pub fn due(&self) -> Option<Instant> {
        // A time before the first `Instant` has passed: `next` will do.
        (!self.waiting.is_empty()).then(|| self.next.checked_sub(self.burst).unwrap_or(self.next))
    }

    /// The next request, if it is due.
    pub fn next(&mut self, now: Instant) -> Option<Waiting> {
        self.due().filter(|&due| due <= now)?;
        self.next = self.next.max(now) + self.interval;
        let (Waiting::Subscribe { topics, .. } | Waiting::Unsubscribe(topics)) = self.waiting.front_mut()?
        else {
            return self.waiting.pop_front();
        };
        if topics.len() <= TOPICS {
            return self.waiting.pop_front();
        }
        let first: Vec<String> = topics.drain(..TOPICS).collect();
        Some(match self.waiting.front()? {
            Waiting::Subscribe { since, .. } => Waiting::Subscribe { since: *since, topics: first },
            _ => Waiting::Unsubscribe(first),
        })
    }

    /// The connection is lost: drops all requests and returns the topics that were to be unsubscribed.
    pub fn give_up(&mut self) -> Vec<Vec<String>> {
        let unsubscribed = |waiting| match waiting {
            Waiting::Unsubscribe(topics) => Some(topics),
            Waiting::Subscribe { .. } | Waiting::Other(_) => None,
        };
        self.waiting.drain(..).filter_map(unsubscribed).collect()
    }
}
