//! Controls of a tape that plays a feed, and their answer. Any thread: plain data. Built without `server`,
//! too.
//! Invariant: every control has the same answer, the state after it.

use crate::market::{FeedStatus, Speed, Timestamp};
use std::time::Duration;

/// What may be asked of a tape that plays a feed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Control {
    /// Changes nothing; the answer is the state.
    Look,
    /// Goes on.
    Play,
    /// Stands still.
    Pause,
    /// Plays at another pace.
    Speed(Speed),
    /// Pauses, then advances by this much.
    Step(Step),
}

/// How far a step goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One quote, trade or status.
    Event,
    /// All that happens within this much of the feed's time.
    Interval(Duration),
}

/// What a tape plays, and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Playing {
    /// Its kind, state and speed.
    pub status: FeedStatus,
    /// The tape's clock.
    pub now: Timestamp,
    /// How much later than recorded that is, in ns. It grows with each round of a feed that is played in a
    /// loop.
    pub shift: i64,
}
