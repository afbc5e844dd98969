//! The ordered log: every event gets its position here, and a reader needs only a position to resume.
//!
//! Producers append `Submission`s to a `Log`; what is read back from it is numbered (`Numbering`) and
//! goes to all readers as [`Batch`]es. One thread, the tape thread, does both. The player, which plays a feed
//! at its pace, is one producer; those who publish by a `Handle` are others.
//!
//! Invariant: the same log makes the same batches, at the same positions, on every node.
//!
//! Without the feature `server`, only its types.

#[cfg(feature = "server")]
mod attachment;
#[cfg(feature = "server")]
mod clock;
mod control;
#[cfg(feature = "server")]
mod end;
#[cfg(feature = "server")]
mod handle;
#[cfg(feature = "server")]
mod log; // the promises of every log
#[cfg(feature = "server")]
mod number;
#[cfg(feature = "server")]
mod player; // a feed at its pace
#[cfg(feature = "server")]
mod playhead;
#[cfg(feature = "server")]
mod progress;
#[cfg(feature = "server")]
mod ration;
#[cfg(feature = "server")]
mod run; // the tape thread
#[cfg(feature = "server")]
mod schedule;
#[cfg(feature = "server")]
mod sequencer; // the path over the log, to all readers
#[cfg(feature = "server")]
mod submission;

#[cfg(feature = "server")]
pub use attachment::{Attachment, Fork};
pub use control::{Control, Playing, Step};
#[cfg(feature = "server")]
pub use end::{End, Ending};
#[cfg(feature = "server")]
pub use handle::Handle;
#[cfg(feature = "server")]
pub use log::{Bell, Entry, Log, LogError, MemoryLog};
#[cfg(feature = "server")]
pub use number::Numbering;
#[cfg(feature = "server")]
pub use playhead::{OnFault, Playhead, opening};
#[cfg(feature = "server")]
pub use progress::{Progress, Timeline};
#[cfg(feature = "server")]
pub use ration::{Ration, Share};
#[cfg(feature = "server")]
pub use run::{Memory, Reader, Tape};
#[cfg(feature = "server")]
pub use submission::{Anew, Content, Publication, Receipt, Submission, SubmissionId};

use crate::market::{Event, Timestamp};

/// A position on the tape: the number of batches up to and including it. 0 is the beginning, before any
/// batch. Only grows; comparable only within one [`Epoch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

/// One life of a tape. Not `Ord`: two epochs are the same or they are different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(u64);

/// Events that one submission put on the tape together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its own: the one after the batch before.
    pub position: Position,
    /// The tape's clock: wall time for a live feed, recorded time for a replay. Runs back only with
    /// [`Event::Reset`].
    pub time: Timestamp,
    /// May be empty: then only time has passed.
    pub events: Vec<Event>,
}

impl Position {
    /// Before every batch.
    pub const START: Self = Self(0);
    /// After every batch.
    pub const MAX: Self = Self(u64::MAX);

    /// After this many batches.
    #[must_use]
    pub const fn new(batches: u64) -> Self {
        Self(batches)
    }

    /// In batches.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// One batch later.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// One batch earlier; [`Self::START`] stays.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Epoch {
    /// The lower 53 bits of `number`, so that JavaScript reads it exactly.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number & ((1 << 53) - 1))
    }

    /// A random one, unique for all practical purposes.
    #[must_use]
    pub fn random() -> Self {
        Self::new(rand::random())
    }

    /// Below 2^53.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}
