//! The heartbeat of a connection that its door has. Pure.
//!
//! Sessions send heartbeats of their own, by which they are paced; the door sends one where none of them did.
//!
//! Invariant: an answer names no heartbeat, and clients answer in order, so it is for whoever sent the oldest
//! one that is open.

use crate::wire::engineio::Timing;
use std::collections::VecDeque;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Heartbeat {
    timing: Timing,
    /// When the client last answered, or began.
    answered: Instant,
    /// When the last one was sent.
    sent: Instant,
    /// Whose those in flight are, the oldest first: a slot's by its number, or the door's.
    open: VecDeque<Option<u32>>,
}

impl Heartbeat {
    pub fn new(timing: Timing, now: Instant) -> Self {
        Self { timing, answered: now, sent: now, open: VecDeque::new() }
    }

    /// When the door sends the next one, unless a session does before. Not while one is unanswered.
    pub fn due(&self) -> Instant {
        if self.open.is_empty() {
            self.answered.max(self.sent) + self.timing.ping_interval
        } else {
            self.ends()
        }
    }

    /// When the client is taken for gone.
    pub fn ends(&self) -> Instant {
        self.answered + self.timing.ping_interval + self.timing.ping_timeout
    }

    /// One was sent, by a slot of that number or by the door.
    pub fn sent(&mut self, by: Option<u32>, now: Instant) {
        self.sent = now;
        self.open.push_back(by);
    }

    /// The client has answered one. Returns the slot that has sent it.
    pub fn answered(&mut self, now: Instant) -> Option<u32> {
        self.answered = now;
        self.open.pop_front().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn answers_go_to_whoever_has_sent_the_oldest_heartbeat() {
        let second = Duration::from_secs(1);
        let timing = Timing { ping_interval: 25 * second, ping_timeout: 20 * second };
        let began = Instant::now();
        let mut heartbeat = Heartbeat::new(timing, began);
        assert_eq!((heartbeat.due(), heartbeat.ends()), (began + 25 * second, began + 45 * second));
        heartbeat.sent(Some(7), began + second);
        heartbeat.sent(None, began + 2 * second);
        heartbeat.sent(Some(8), began + 3 * second);
        assert_eq!((heartbeat.due(), heartbeat.ends()), (began + 45 * second, began + 45 * second));
        let answers: Vec<_> = (4..8).map(|after| heartbeat.answered(began + after * second)).collect();
        assert_eq!(answers, [Some(7), None, Some(8), None]);
        assert_eq!((heartbeat.due(), heartbeat.ends()), (began + 32 * second, began + 52 * second));
    }
}
