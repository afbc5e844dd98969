//! Sources of events: the simulator, recorded files, a user's own publisher. All give the same batches.

mod filter;
pub mod formats;
mod left_out;
mod looped;
mod mends;
mod merge;
mod preload;
pub mod publish;
mod recordings;
mod sale_conditions; // what trades of the US tapes count for
#[cfg(test)]
mod script;
pub mod sim; // a market of invented prices that never closes
mod source;
mod stop;
mod strict;
mod text;
mod translate;

pub use filter::{AllPrints, Between, Only};
pub use left_out::LeftOut;
pub use looped::Looped;
pub use mends::{Mend, Mended, Mends};
pub use merge::Merged;
pub use preload::{Playback, Preloaded};
pub use recordings::Recordings;
pub use sale_conditions::Tape;
pub use source::{Scripted, Simulation, Source, SourceError, Span};
pub use stop::Stop;
pub use strict::Strict;
pub use text::{TimeError, parse_time};
pub use translate::{TranslateError, Translator};

use crate::market::{Event, FeedKind, Instruments, Printable, Timestamp};

/// A source of events on its own timeline. It never waits and knows no wall clock: the caller decides when to
/// release each batch, so the same feed runs in real time, faster, or as fast as the machine can.
pub trait Feed: Send {
    fn kind(&self) -> FeedKind;

    /// How much later its moments are now than they were recorded, in ns: it grows with each round of a loop.
    fn shift(&self) -> i64 {
        0
    }

    /// Appends the next events to `out`, all of one moment of the feed's timeline, and returns that moment;
    /// `None` when the feed has ended. Definitions are made through `instruments` and precede the first event
    /// that needs them.
    ///
    /// Moments never run backwards: a record with an earlier time than the one before gets the later moment
    /// (its events keep their own times).
    ///
    /// # Errors
    /// [`FeedError`] for one record that cannot be read. The feed stays usable: the next call continues after
    /// it. `out` may hold definitions all the same, and they count.
    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError>;

    /// A copy of the feed in its present state, to be played independently; `None` if it cannot be copied, as
    /// for a file that is being read.
    fn fork(&self) -> Option<Box<dyn Feed>> {
        None
    }

    /// Well-formed records so far that a tape does not hold: other streams of a session, trades cancelled
    /// later.
    fn left_out(&self) -> u64 {
        0
    }

    /// The same by name: streams, channels, kinds of messages.
    fn left_out_by_kind(&self) -> LeftOut {
        LeftOut::default()
    }
}

/// A record that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", Printable(place), Printable(reason))]
pub struct FeedError {
    /// File and line, or file and offset.
    pub place: String,
    pub reason: String,
}
