//! The machine's clocks, as a trait so that tests can set them. Tape thread.
//! Invariant: [`Clock::both`] reads both clocks within 1 ms.

use crate::market::Timestamp;
use std::time::{Duration, Instant};

/// The two clocks of a machine: a monotonic one, which stops while the machine sleeps; and the wall clock,
/// which goes on meanwhile and can be set.
pub(super) trait Clock: Send {
    fn now(&self) -> Instant;

    /// Both at one moment.
    fn both(&self) -> (Instant, Timestamp);
}

/// This machine's.
#[derive(Debug)]
pub(super) struct Machine;

/// If two readings of one clock are further apart, the reading of the other one in between is too vague.
const SAME_MOMENT: Duration = Duration::from_millis(1);

impl Clock for Machine {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn both(&self) -> (Instant, Timestamp) {
        let mut before = Instant::now();
        loop {
            let (wall, after) = (Timestamp::now(), Instant::now());
            if after - before < SAME_MOMENT {
                return (before, wall);
            }
            // This thread was preempted in between.
            before = after;
        }
    }
}
