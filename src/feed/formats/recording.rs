//! The `.tape` form: a recorded tape, written as it happens and read back batch by batch.
//!
//! `docs/recording.md` specifies it.

mod cursor;
mod index;
mod reader;
mod snapshot;
mod writer;

pub use index::{Checkpoint, RecordingIndex, Totals};
pub use reader::{RecordingError, RecordingReader};
pub use writer::RecordingWriter;

use super::clock::Clock;
use crate::feed::translate::Translator;
use crate::feed::{Feed, FeedError};
use crate::market::{Event, FeedKind, Instruments, Timestamp};
use std::fs::File;
use std::io::Read;

/// What stands at the start of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordingHeader {
    /// The epoch that the positions belong to.
    pub epoch: u64,
    /// When the recording was begun.
    pub created: Timestamp,
    /// Where the events come from, for people; may be empty.
    pub source: String,
}

/// The word that every recording starts with, under the key `format`.
const FORMAT: &str = "tickcast.tape";
const VERSION: u64 = 1;
/// The most events of one batch.
const MAX_EVENTS: usize = 1 << 18;
/// The most bytes of one batch, unpacked.
const MAX_BATCH: usize = 16 << 20;
/// The longest text anywhere.
const MAX_TEXT: usize = 4096;

/// The first element of each event's array. Definitions are maps and need none.
mod kind {
    pub const QUOTE: u8 = 1;
    pub const TRADE: u8 = 2;
    pub const STATUS: u8 = 3;
    pub const FEED: u8 = 4;
    pub const SNAPSHOT: u8 = 5;
}

/// A recording as a feed: its instruments get the numbers that the tape at hand gives them.
pub struct Recording<R> {
    file: String,
    reader: RecordingReader<R>,
    translator: Translator,
    clock: Clock,
    batch: Vec<Event>,
    /// What was wrong in the batch before, told after the rest of that batch.
    refused: Option<FeedError>,
}

impl<R: Read + Send> Recording<R> {
    /// # Errors
    /// As [`RecordingReader::new`].
    pub(super) fn new(file: String, unpacked: R) -> Result<Self, RecordingError> {
        Ok(Self::reading(file, RecordingReader::new(unpacked)?))
    }

    fn reading(file: String, reader: RecordingReader<R>) -> Self {
        let (translator, clock) = (Translator::default(), Clock::default());
        Self { file, reader, translator, clock, batch: Vec::new(), refused: None }
    }

    fn error(&self, reason: &dyn std::fmt::Display) -> FeedError {
        let place = format!("{} batch {}", self.file, self.reader.batches());
        FeedError { place, reason: reason.to_string() }
    }
}

/// A recording as a feed from a checkpoint on.
pub(super) fn open_checkpoint(
    name: String,
    file: File,
    checkpoint: &Checkpoint,
) -> Result<Recording<impl Read + Send + use<>>, RecordingError> {
    let (header, unpacked) = index::open_checkpoint(file, checkpoint)?;
    Ok(Recording::reading(name, RecordingReader::from_checkpoint(header, unpacked)))
}

impl<R: Read + Send> Feed for Recording<R> {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        self.batch.clear();
        let Some((_, time)) = self.reader.next(&mut self.batch).map_err(|error| self.error(&error))? else {
            return Ok(None);
        };
        let mut refused = None;
        // What fed the recorded tape does not feed this one.
        let events = self.batch.drain(..).filter(|event| !matches!(event, Event::Feed(_)));
        for event in events {
            if let Err(error) = self.translator.translate(event, instruments, out) {
                refused = refused.or(Some(error));
            }
        }
        self.refused = refused.map(|error| self.error(&error));
        Ok(Some(self.clock.at(time)))
    }
}

#[cfg(test)]
mod tests;
