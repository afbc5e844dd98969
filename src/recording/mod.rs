//! The `.tape` format: batches of events, written as they happen and read back one by one.
//! `docs/recording.md` specifies it. Any thread, without a thread of its own.
//! Invariant: it depends on the market's types and nothing else, so that the log, the recorder and the replay
//! share it; a reader accepts all that a writer writes.

mod cursor;
mod decode;
mod encode;
mod error;
mod index;
mod reader;
mod snapshot;
mod writer;

pub use error::RecordingError;
pub use index::{Checkpoint, RecordingIndex, Totals, open_checkpoint};
pub use reader::RecordingReader;
pub use writer::RecordingWriter;

use crate::market::Timestamp;

/// The start of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingHeader {
    /// The epoch that the positions belong to.
    pub epoch: u64,
    /// When the recording was begun.
    pub created: Timestamp,
    /// Where the events come from, for people; may be empty.
    pub source: String,
}

/// The value of the key `format`, the first one of every recording.
const FORMAT: &str = "tickcast.tape";
const VERSION: u64 = 1;
/// The most events of one batch.
const MAX_EVENTS: usize = 1 << 18;
/// The most bytes of one batch, unpacked.
const MAX_BATCH: usize = 16 << 20;
/// The longest text anywhere.
const MAX_TEXT: usize = 4096;
/// The most bytes of a checkpoint, packed: it is made and read in memory, and the length of its frame has 32
/// bits.
const MAX_CHECKPOINT: usize = 512 << 20;

/// A writer's limits, so that every reader accepts what it writes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of one batch.
    events: usize,
    /// Of one batch, unpacked.
    bytes: usize,
    /// Of one checkpoint, packed; a larger one is left out.
    checkpoint: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: MAX_EVENTS, bytes: MAX_BATCH, checkpoint: MAX_CHECKPOINT }
    }
}

/// The first element of each event's array. Definitions are maps and need none.
mod kind {
    pub const QUOTE: u8 = 1;
    pub const TRADE: u8 = 2;
    pub const STATUS: u8 = 3;
    pub const FEED: u8 = 4;
    pub const SNAPSHOT: u8 = 5;
}

#[cfg(test)]
mod tests;
