//! Reads a recording batch by batch. Any thread: it blocks on its source.
//! Invariant: its buffer is at most twice [`MAX_BATCH`], whatever lengths the input states; after an
//! error it returns nothing more.

use super::cursor::Cursor;
use super::decode::{definition, feed, header, quote, status, trade};
use super::snapshot::read_snapshot;
use super::{MAX_BATCH, MAX_EVENTS, RecordingError, RecordingHeader, kind};
use crate::market::{Event, InstrumentId, Timestamp};
use rustc_hash::FxHashMap;
use std::io::{self, Read};
use std::sync::Arc;

/// Reads a recording back exactly as it was written: positions, times, and the recorded instrument numbers.
pub struct RecordingReader<R> {
    input: Input<R>,
    header: RecordingHeader,
    anchors: Anchors,
    batches: u64,
    ended: bool,
}

/// What prices are relative to, by instrument, in units.
#[derive(Default)]
struct Anchors {
    by_instrument: FxHashMap<u32, i128>,
    /// What the current batch has replaced, in its order: it may have to be read again.
    replaced: Vec<(u32, Option<i128>)>,
}

impl Anchors {
    fn of(&self, instrument: u32) -> i128 {
        self.by_instrument.get(&instrument).copied().unwrap_or(0)
    }

    fn set(&mut self, instrument: u32, anchor: i128) {
        let before = self.by_instrument.insert(instrument, anchor);
        self.replaced.push((instrument, before));
    }

    /// Restores what was there when the batch began.
    fn roll_back(&mut self) {
        for (instrument, before) in self.replaced.drain(..).rev() {
            match before {
                Some(anchor) => self.by_instrument.insert(instrument, anchor),
                None => self.by_instrument.remove(&instrument),
            };
        }
    }
}

type Result<T> = std::result::Result<T, RecordingError>;

impl<R: Read> RecordingReader<R> {
    /// Reads the header. `unpacked` is the stream inside the zstd frames.
    ///
    /// # Errors
    /// [`RecordingError`] if this is no recording, or of a later version.
    pub fn new(unpacked: R) -> Result<Self> {
        let mut input = Input::new(unpacked);
        let header = input.value(header)?;
        let header = header.ok_or(RecordingError::Truncated)?;
        Ok(Self::behind(header, input))
    }

    /// Starts in the middle of a recording, at a checkpoint: it defines every instrument again.
    pub(super) fn from_checkpoint(header: RecordingHeader, unpacked: R) -> Self {
        Self::behind(header, Input::new(unpacked))
    }

    fn behind(header: RecordingHeader, input: Input<R>) -> Self {
        Self { input, header, anchors: Anchors::default(), batches: 0, ended: false }
    }

    #[must_use]
    pub fn header(&self) -> &RecordingHeader {
        &self.header
    }

    /// Batches read so far.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Appends the events of the next batch to `events` and returns its position and time; `None` at the end.
    ///
    /// # Errors
    /// [`RecordingError`], once: afterwards the recording has ended. `events` is then as it was.
    pub fn next(&mut self, events: &mut Vec<Event>) -> Result<Option<(u64, Timestamp)>> {
        if self.ended {
            return Ok(None);
        }
        let (before, anchors) = (events.len(), &mut self.anchors);
        let batch = self.input.value(|cursor| {
            // If the bytes in memory ended within the batch, it is read again.
            events.truncate(before);
            anchors.roll_back();
            batch(cursor, anchors, events)
        });
        if matches!(batch, Ok(Some(_))) {
            self.batches += 1;
            self.anchors.replaced.clear();
        } else {
            self.ended = true;
            events.truncate(before);
        }
        batch
    }
}

/// A stream of values. As much of it is in memory as one value needs, and about [`MAX_BATCH`] at most,
/// whatever a length field says.
struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    /// The part of the buffer that is not read yet.
    start: usize,
    end: usize,
    /// The source's error, returned when all before it is read.
    failed: Option<io::Error>,
}

impl<R: Read> Input<R> {
    const BUFFER: usize = 128 << 10;

    fn new(source: R) -> Self {
        Self { source, buffer: vec![0; Self::BUFFER], start: 0, end: 0, failed: None }
    }

    /// Reads a value; `None` at the end of the stream. `read` may be called several times, with more bytes
    /// each time.
    fn value<T>(&mut self, mut read: impl FnMut(&mut Cursor) -> Result<T>) -> Result<Option<T>> {
        loop {
            if self.start < self.end {
                let mut cursor = Cursor::new(&self.buffer[self.start..self.end]);
                match read(&mut cursor) {
                    Ok(_) if self.end - self.start - cursor.left() > MAX_BATCH => return Err(too_large()),
                    Ok(value) => {
                        self.start = self.end - cursor.left();
                        return Ok(Some(value));
                    }
                    Err(RecordingError::Truncated) => {}
                    Err(error) => return Err(error),
                }
            }
            if !self.fill()? {
                let is_end = self.start == self.end;
                return if is_end { Ok(None) } else { Err(RecordingError::Truncated) };
            }
        }
    }

    /// Reads more; returns whether there was any.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end > MAX_BATCH {
            return Err(too_large());
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let before = self.end;
        // A batch that is larger than the buffer is read from its beginning each time, so the buffer doubles.
        let is_large = before >= Self::BUFFER;
        while self.failed.is_none() && (self.end == before || (is_large && self.end < self.buffer.len())) {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(got) => self.end += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failed = Some(error);
                    break;
                }
            }
        }
        match self.failed.take_if(|_| self.end == before) {
            None => Ok(self.end > before),
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(RecordingError::Truncated),
            Some(error) => Err(RecordingError::Io(error)),
        }
    }
}

fn too_large() -> RecordingError {
    RecordingError::TooLarge { what: "batch", max: MAX_BATCH }
}

fn batch(cursor: &mut Cursor, anchors: &mut Anchors, events: &mut Vec<Event>) -> Result<(u64, Timestamp)> {
    if cursor.array_len("batch")? != 3 {
        return Err(RecordingError::Unexpected { what: "batch", expected: "an array of 3" });
    }
    let position = cursor.uint("position")?;
    let time = Timestamp::from_nanos(cursor.int("time")?);
    let count = cursor.array_len("events")?;
    if count > MAX_EVENTS {
        return Err(RecordingError::TooLarge { what: "number of events", max: MAX_EVENTS });
    }
    for _ in 0..count {
        read_event(cursor, anchors, time, events)?;
    }
    Ok((position, time))
}

/// Appends the next event.
fn read_event(
    cursor: &mut Cursor,
    anchors: &mut Anchors,
    time: Timestamp,
    events: &mut Vec<Event>,
) -> Result<()> {
    if cursor.is_map()? {
        let definition = definition(cursor)?;
        anchors.set(definition.id.0, definition.anchor_units());
        events.push(Event::Instrument(Arc::new(definition)));
        return Ok(());
    }
    let len = cursor.array_len("event")?;
    let kind = cursor.uint("kind of event")?;
    match (u8::try_from(kind).unwrap_or(0), len) {
        (kind::QUOTE, 6 | 8) => {
            let (id, anchor) = instrument(cursor, anchors)?;
            events.push(Event::Quote(id, quote(cursor, anchor, time, len == 8)?));
        }
        (kind::TRADE, 5 | 7..=9) => {
            let (id, anchor) = instrument(cursor, anchors)?;
            events.push(Event::Trade(id, trade(cursor, anchor, time, len - 2)?));
        }
        (kind::STATUS, 4) => {
            let id = if cursor.take_nil()? { None } else { Some(InstrumentId(cursor.number("instrument")?)) };
            events.push(Event::Status(id, status(cursor, time)?));
        }
        (kind::FEED, 4) => events.push(Event::Feed(feed(cursor)?)),
        (kind::SNAPSHOT, 9 | 10) => {
            let (id, anchor) = instrument(cursor, anchors)?;
            let snapshot = read_snapshot(cursor, anchor, time, len == 10)?;
            events.push(Event::Snapshot(id, Arc::new(snapshot)));
        }
        _ => {
            let expected = "a known kind and its length";
            return Err(RecordingError::Unexpected { what: "event", expected });
        }
    }
    Ok(())
}

/// An instrument's number, and what its prices are relative to.
fn instrument(cursor: &mut Cursor, anchors: &Anchors) -> Result<(InstrumentId, i128)> {
    let id = cursor.number("instrument")?;
    Ok((InstrumentId(id), anchors.of(id)))
}
