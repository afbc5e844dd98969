//! Where events come from: the simulator, recorded files, a user's own publisher. All give the same batches.

mod filter;
pub mod formats;
mod looped;
mod merge;
mod preload;
pub mod publish;
mod recordings;
#[cfg(test)]
mod script;
pub mod sim; // a market of invented prices that never closes
mod source;
mod strict;
mod text;
mod translate;

pub use filter::{Between, Only};
pub use looped::Looped;
pub use merge::Merged;
pub use preload::{Playback, Preloaded};
pub use recordings::Recordings;
pub use source::{Scripted, Simulation, Source, SourceError, Span};
pub use strict::Strict;
pub use translate::{TranslateError, Translator};

use crate::market::{Event, FeedKind, Instruments, Timestamp};
use sim::SimConfig;

/// A source of events on its own timeline. It never waits and knows no wall clock: whoever pulls decides when
/// each batch is let out, so the same feed runs in real time, faster, or as fast as the machine can.
pub trait Feed: Send {
    fn kind(&self) -> FeedKind;

    /// What is simulated; `None` where it is a record of something.
    fn simulation(&self) -> Option<SimConfig> {
        None
    }

    /// How much later its present moments are than they were recorded, in ns: more with each round of what is played again and again.
    fn shift(&self) -> i64 {
        0
    }

    /// Appends the next events to `out`, all of one moment of the feed's timeline, and says which; `None` when the
    /// feed has ended. Definitions go into `out` before the first event that needs them, by way of `instruments`.
    ///
    /// Moments never run backwards: a feed whose record has an earlier time than the one before repeats the later one
    /// (the events keep their own times).
    ///
    /// # Errors
    /// [`FeedError`] for one record that cannot be read. The feed stays good: the next call goes on behind it. `out` may hold definitions
    /// all the same, and they count.
    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError>;

    /// Records so far that are well formed, but nothing a tape holds: other streams of a session, trades that were cancelled later.
    fn left_out(&self) -> u64 {
        0
    }
}

/// A record that could not be read: where, and why.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct FeedError {
    /// File and line, or file and offset.
    pub place: String,
    pub reason: String,
}
