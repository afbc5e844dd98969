//! Writes a recording as it happens. Any thread: it blocks on its writer.
//! Invariant: closed frames are complete, so a crash costs the open one at most, about a second of recorded
//! time; a batch or checkpoint is within the limits of every reader.

use super::encode::{
    put_array, put_definition, put_float, put_header, put_int, put_nil, put_quote_values, put_status,
    put_text, put_times, put_trade_values, put_uint, trade_values,
};
use super::index::{Checkpoint, RecordingIndex, Totals, checkpoint_frame};
use super::snapshot::put_snapshot;
use super::{Limits, RecordingHeader, kind};
use crate::market::{Event, InstrumentId, Speed, Timestamp};
use rmp::encode::ByteBuf;
use rustc_hash::FxHashMap;
use std::io::{self, Write};

/// How long a zstd frame stays open, in ns of recorded time: what a crash may cost.
const FRAME_NANOS: i64 = 1_000_000_000;
/// zstd level. Higher ones save little on such small frames: their prices and times are differences already.
const LEVEL: i32 = 3;
/// The most bytes that [`put_head`] writes.
const MAX_HEAD: usize = 24;
/// A checkpoint's events are cut into batches of this many bytes.
const CHECKPOINT_BATCH: usize = 1 << 20;
/// A checkpoint is due when this many times its size in bytes was written since the one before, and at least
/// [`MIN_CHECKPOINT_GAP`].
const CHECKPOINT_RATIO: u64 = 4;
const MIN_CHECKPOINT_GAP: u64 = 64 << 10;

/// Writes a tape to a file as it happens.
pub struct RecordingWriter<W: Write> {
    packer: Packer<Counted<W>>,
    /// The time of the open frame's first batch.
    frame_start: Option<Timestamp>,
    anchors: FxHashMap<InstrumentId, i128>,
    limits: Limits,
    /// The encoded events of the batch that is written next.
    batch: ByteBuf,
    index: RecordingIndex,
    totals: Totals,
    /// Bytes of the file that are complete frames.
    whole: u64,
    /// Batches in these.
    whole_batches: u64,
    /// Bytes of the file at which the next checkpoint is due.
    checkpoint_at: u64,
}

/// The target of bytes: the open frame, or the writer that the next frame will be opened on.
enum Packer<W: Write> {
    Open(zstd::Encoder<'static, W>),
    Closed(W),
    /// A frame could not be finished, and the writer is lost with it.
    Lost,
}

/// Counts what is written.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> RecordingWriter<W> {
    /// Writes the header. Wrap a file in a buffer: frames are written in small pieces.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(writer: W, header: &RecordingHeader) -> io::Result<Self> {
        Self::within(Limits::default(), writer, header)
    }

    /// As [`Self::new`], for readers with lower limits.
    pub(super) fn within(limits: Limits, writer: W, header: &RecordingHeader) -> io::Result<Self> {
        let mut recording = Self {
            packer: Packer::Closed(Counted { inner: writer, bytes: 0 }),
            frame_start: None,
            anchors: FxHashMap::default(),
            limits,
            batch: ByteBuf::new(),
            index: RecordingIndex::default(),
            totals: Totals::default(),
            whole: 0,
            whole_batches: 0,
            checkpoint_at: MIN_CHECKPOINT_GAP,
        };
        put_header(&mut recording.batch, header);
        recording.write(&[])?;
        Ok(recording)
    }

    /// Appends a batch. A frame that was begun a second or more before `time` is closed first. A batch beyond
    /// a reader's limits (262,144 events, 16 MiB) is written as several consecutive ones, of the same
    /// position and time.
    ///
    /// # Errors
    /// Those of the writer; [`io::ErrorKind::InvalidInput`] for a single event beyond a reader's limits,
    /// which no feed of ours has. Do not append after an error: a reader would not notice the missing part,
    /// and misread what follows it.
    pub fn append(&mut self, position: u64, time: Timestamp, events: &[Event]) -> io::Result<()> {
        if self.frame_start.is_some_and(|start| is_over(start, time)) {
            self.close_frame()?;
        }
        self.frame_start.get_or_insert(time);
        if self.totals.batches == 0 {
            self.totals.first = time;
        }
        (self.totals.last, self.totals.last_position) = (time, position);

        let mut count = 0;
        // A recording begins anew with a checkpoint, or in another file.
        let is_recorded = |event: &&Event| **event != Event::Reset && event.is_of_market();
        for event in events.iter().filter(is_recorded) {
            let before = self.batch.as_slice().len();
            put_event(&mut self.batch, event, &mut self.anchors, time);
            let is_full =
                count == self.limits.events || self.batch.as_slice().len() > self.limits.bytes - MAX_HEAD;
            if is_full && count > 0 {
                // This one begins the next.
                let next = self.batch.as_mut_vec().split_off(before);
                self.write_batch(position, time, std::mem::take(&mut count))?;
                self.batch.as_mut_vec().extend(next);
            }
            count += 1;
        }
        self.write_batch(position, time, count)
    }

    /// Whether a checkpoint is worth its space before a batch of `time` is appended: a frame ends anyway, and
    /// enough was written since the last checkpoint, so that they take at most a fifth of a recording.
    #[must_use]
    pub fn wants_checkpoint(&self, time: Timestamp) -> bool {
        self.frame_start.is_none_or(|start| is_over(start, time)) && self.bytes() >= self.checkpoint_at
    }

    /// Writes a checkpoint after what was appended so far: `events` rebuild the market for a reader that has
    /// read nothing before. `time` is that of the last batch. A checkpoint of more than 512 MiB is left out.
    ///
    /// # Errors
    /// The writer's.
    pub fn checkpoint(&mut self, time: Timestamp, events: impl Iterator<Item = Event>) -> io::Result<()> {
        self.close_frame()?;
        let position = self.totals.last_position;
        let packed = pack_checkpoint(position, time, events, self.limits.checkpoint)?;
        let Packer::Closed(writer) = &mut self.packer else { return Err(lost()) };
        let Some(packed) = packed else {
            self.checkpoint_at = writer.bytes + self.limits.checkpoint as u64 * CHECKPOINT_RATIO;
            return Ok(());
        };
        let frame = checkpoint_frame(position, time, &packed);
        let offset = writer.bytes;
        writer.write_all(&frame)?;
        writer.flush()?;
        self.index.checkpoints.push(Checkpoint { position, time, offset });
        let gap = MIN_CHECKPOINT_GAP.max(frame.len() as u64 * CHECKPOINT_RATIO);
        (self.whole, self.checkpoint_at) = (writer.bytes, writer.bytes + gap);
        Ok(())
    }

    /// What was appended so far.
    #[must_use]
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The time of the open frame's first batch: what a crash would cost.
    #[must_use]
    pub fn frame_start(&self) -> Option<Timestamp> {
        self.frame_start
    }

    /// Bytes written so far that are complete frames.
    #[must_use]
    pub fn whole_bytes(&self) -> u64 {
        self.whole
    }

    /// Batches in these.
    #[must_use]
    pub fn whole_batches(&self) -> u64 {
        self.whole_batches
    }

    /// Bytes written so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match &self.packer {
            Packer::Open(frame) => frame.get_ref().bytes,
            Packer::Closed(writer) => writer.bytes,
            Packer::Lost => 0,
        }
    }

    /// Closes the open frame and flushes: what was appended so far survives a crash of the process. For an
    /// owner whose feed is silent; otherwise [`Self::append`] does it.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn close_frame(&mut self) -> io::Result<()> {
        self.frame_start = None;
        self.packer = match std::mem::replace(&mut self.packer, Packer::Lost) {
            Packer::Open(frame) => Packer::Closed(frame.finish()?),
            other => other,
        };
        let Packer::Closed(writer) = &mut self.packer else { return Err(lost()) };
        writer.flush()?;
        (self.whole, self.whole_batches) = (writer.bytes, self.totals.batches);
        Ok(())
    }

    /// Closes the last frame, writes the index if there are checkpoints, and returns the writer. A recording
    /// that is dropped instead lacks its last frame.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.close_frame()?;
        let Packer::Closed(mut writer) = self.packer else { return Err(lost()) };
        if !self.index.checkpoints.is_empty() {
            self.index.totals = Some(self.totals);
            writer.write_all(&self.index.frame())?;
            writer.flush()?;
        }
        Ok(writer.inner)
    }

    /// Writes the batch of the `count` encoded events.
    fn write_batch(&mut self, position: u64, time: Timestamp, count: usize) -> io::Result<()> {
        let mut head = ByteBuf::new();
        put_head(&mut head, position, time, count);
        let len = head.as_slice().len() + self.batch.as_slice().len();
        if len > self.limits.bytes {
            let reason = format!("an event of {len} bytes is larger than any reader takes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        self.write(head.as_slice())?;
        self.totals.batches += 1;
        self.totals.events += count as u64;
        Ok(())
    }

    /// Writes `head` and the encoded events to the open frame, or to a new one.
    fn write(&mut self, head: &[u8]) -> io::Result<()> {
        if let Packer::Closed(_) = self.packer {
            self.packer = match std::mem::replace(&mut self.packer, Packer::Lost) {
                Packer::Closed(writer) => {
                    let mut frame = zstd::Encoder::new(writer, LEVEL)?;
                    frame.include_checksum(true)?;
                    Packer::Open(frame)
                }
                other => other,
            };
        }
        let Packer::Open(frame) = &mut self.packer else { return Err(lost()) };
        let written = frame.write_all(head).and_then(|()| frame.write_all(self.batch.as_slice()));
        self.batch.as_mut_vec().clear();
        written
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Whether a frame that was begun at `start` ends before a batch of `time`.
fn is_over(start: Timestamp, time: Timestamp) -> bool {
    time.nanos_since(start) >= FRAME_NANOS
}

/// A checkpoint's events in batches of [`CHECKPOINT_BATCH`], packed; `None` if that is more than `most`
/// bytes.
fn pack_checkpoint(
    position: u64,
    time: Timestamp,
    events: impl Iterator<Item = Event>,
    most: usize,
) -> io::Result<Option<Vec<u8>>> {
    let mut packer = zstd::Encoder::new(Vec::new(), LEVEL)?;
    packer.include_checksum(true)?;
    let (mut anchors, mut batch, mut count) = (FxHashMap::default(), ByteBuf::new(), 0);
    let mut write = |batch: &mut ByteBuf, count: &mut usize| {
        let mut head = ByteBuf::new();
        put_head(&mut head, position, time, std::mem::take(count));
        packer.write_all(head.as_slice())?;
        packer.write_all(batch.as_slice())?;
        batch.as_mut_vec().clear();
        io::Result::Ok(packer.get_ref().len() <= most)
    };
    for event in events {
        put_event(&mut batch, &event, &mut anchors, time);
        count += 1;
        if batch.as_slice().len() >= CHECKPOINT_BATCH && !write(&mut batch, &mut count)? {
            return Ok(None);
        }
    }
    write(&mut batch, &mut count)?;
    Ok(Some(packer.finish()?).filter(|packed| packed.len() <= most))
}

/// The start of a batch, before its events.
fn put_head(to: &mut ByteBuf, position: u64, time: Timestamp, count: usize) {
    put_array(to, 3);
    put_uint(to, position);
    put_int(to, time.nanos());
    put_array(to, count);
}

fn put_event(to: &mut ByteBuf, event: &Event, anchors: &mut FxHashMap<InstrumentId, i128>, time: Timestamp) {
    let anchor = |id: &InstrumentId| anchors.get(id).copied().unwrap_or(0);
    match event {
        Event::Instrument(definition) => {
            anchors.insert(definition.id, definition.anchor_units());
            put_definition(to, definition);
        }
        Event::Quote(id, quote) => {
            let with_times = (quote.ts_recv, quote.ts_event) != (time, time);
            put_array(to, if with_times { 8 } else { 6 });
            put_uint(to, kind::QUOTE.into());
            put_uint(to, id.0.into());
            put_quote_values(to, quote, anchor(id));
            if with_times {
                put_times(to, quote.ts_recv, quote.ts_event, time);
            }
        }
        Event::Trade(id, trade) => {
            let with_times = (trade.ts_recv, trade.ts_event) != (time, time);
            let values = trade_values(trade, with_times);
            put_array(to, 2 + values);
            put_uint(to, kind::TRADE.into());
            put_uint(to, id.0.into());
            put_trade_values(to, trade, anchor(id), time, values);
        }
        Event::Status(id, status) => {
            put_array(to, 4);
            put_uint(to, kind::STATUS.into());
            match id {
                Some(id) => put_uint(to, id.0.into()),
                None => put_nil(to),
            }
            put_status(to, status, time);
        }
        Event::Feed(feed) => {
            put_array(to, 4);
            put_uint(to, kind::FEED.into());
            put_text(to, feed.kind.name());
            put_text(to, feed.state.name());
            match feed.speed {
                Speed::Max => put_text(to, "max"),
                Speed::Times(factor) => put_float(to, factor),
            }
        }
        // Filtered out by the caller.
        Event::Posted(_) | Event::Reset => {}
        Event::Snapshot(id, snapshot) => put_snapshot(to, *id, snapshot, anchor(id), time),
    }
}

fn lost() -> io::Error {
    io::Error::other("an earlier write failed: the recording has ended")
}
