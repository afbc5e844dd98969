//! The ordered log: every event gets its place here, and a place is all that a reader needs to go on.

mod control;
mod playhead;
mod progress;
mod schedule;
mod writer;

pub use control::{Attachment, Control, Detached, Playing, Step};
pub use playhead::{OnFault, Playhead, opening};
pub use progress::{Progress, Timeline};
pub use writer::{Publication, Publisher, Reader, Writer};

use crate::market::{Event, Timestamp};

/// A place on the tape: the number of batches before and including it. 0 is the beginning, before any batch.
/// Only grows; comparable only within one [`Epoch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

/// One life of a tape. Not `Ord`: two epochs are the same or they are different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

/// Events that were put on the tape together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub position: Position,
    /// The tape's clock: wall time for a live feed, recorded time for a replay. Runs back only with [`Event::Reset`].
    pub time: Timestamp,
    /// May be empty: then only time has passed.
    pub events: Vec<Event>,
}

impl Position {
    pub const START: Self = Self(0);
    /// After every batch.
    pub const MAX: Self = Self(u64::MAX);

    #[must_use]
    pub const fn new(batches: u64) -> Self {
        Self(batches)
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Epoch {
    /// Below 2^53, so that JavaScript reads it exactly.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number & ((1 << 53) - 1))
    }

    /// One that no other tape has.
    #[must_use]
    pub fn random() -> Self {
        Self::new(rand::random())
    }

    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}
