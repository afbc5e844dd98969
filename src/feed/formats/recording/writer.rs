use super::index::{Checkpoint, RecordingIndex, Totals, checkpoint_frame};
use super::snapshot::put_snapshot;
use super::{FORMAT, MAX_BATCH, MAX_EVENTS, MAX_TEXT, RecordingHeader, VERSION, kind};
use crate::market::{Event, Instrument, InstrumentId, Price, Quote, Side, Speed, Status, Timestamp, Trade};
use rmp::encode::{self as mp, ByteBuf};
use rustc_hash::FxHashMap;
use std::io::{self, Write};

/// How long a zstd frame stays open, in recorded time: what a crash may cost.
const FRAME_NANOS: i64 = 1_000_000_000;
/// zstd level. Higher ones save little on such small frames: their prices and times are differences already.
const LEVEL: i32 = 3;
/// A checkpoint's events are cut into batches of so many bytes.
const CHECKPOINT_BATCH: usize = 1 << 20;
/// A checkpoint is due when so many bytes were written since the one before: as many times its size, and no fewer than these.
const CHECKPOINT_RATIO: u64 = 4;
const MIN_CHECKPOINT_GAP: u64 = 64 << 10;

/// Writes a tape to a file as it happens.
pub struct RecordingWriter<W: Write> {
    packer: Packer<Counted<W>>,
    /// When the open frame was begun.
    frame_start: Option<Timestamp>,
    anchors: FxHashMap<InstrumentId, i64>,
    batch: ByteBuf,
    index: RecordingIndex,
    totals: Totals,
    /// Bytes of the file that are whole frames.
    whole: u64,
    /// Bytes of the file at which the next checkpoint is due.
    checkpoint_at: u64,
}

/// Where bytes go: into the open frame, or to the writer that the next frame will be opened on.
enum Packer<W: Write> {
    Open(zstd::Encoder<'static, W>),
    Closed(W),
    /// A frame could not be finished, and the writer went with it.
    Lost,
}

/// Counts what is written.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> RecordingWriter<W> {
    /// Writes the header. Give a file through a buffer: frames leave in small pieces.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(writer: W, header: &RecordingHeader) -> io::Result<Self> {
        let mut recording = Self {
            packer: Packer::Closed(Counted { inner: writer, bytes: 0 }),
            frame_start: None,
            anchors: FxHashMap::default(),
            batch: ByteBuf::new(),
            index: RecordingIndex::default(),
            totals: Totals::default(),
            whole: 0,
            checkpoint_at: MIN_CHECKPOINT_GAP,
        };
        put_header(&mut recording.batch, header);
        recording.write_batch()?;
        Ok(recording)
    }

    /// Appends a batch. A frame that was begun a second or more before `time` is closed first.
    ///
    /// # Errors
    /// Those of the writer; [`io::ErrorKind::InvalidInput`] for a batch beyond what a reader takes (262,144 events,
    /// 16 MiB, texts of 4 KiB), of which nothing is written.
    pub fn append(&mut self, position: u64, time: Timestamp, events: &[Event]) -> io::Result<()> {
        let too_long = |definition: &Instrument| {
            let texts = [&definition.name, &definition.sector, &definition.currency];
            texts.iter().any(|text| text.len() > MAX_TEXT)
        };
        let is_refused = |event: &Event| matches!(event, Event::Instrument(x) if too_long(x));
        if events.len() > MAX_EVENTS || events.iter().any(is_refused) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "batch or text too large to record"));
        }
        if self.frame_start.is_some_and(|start| is_over(start, time)) {
            self.close_frame()?;
        }
        self.frame_start.get_or_insert(time);

        put_array(&mut self.batch, 3);
        put_uint(&mut self.batch, position);
        put_int(&mut self.batch, time.nanos());
        // A recording is of the market; what the server told of itself is not for a later one to tell.
        let market = || events.iter().filter(|event| !matches!(event, Event::Stats(_) | Event::Reset));
        let count = market().count();
        put_array(&mut self.batch, count);
        for event in market() {
            put_event(&mut self.batch, event, &mut self.anchors, time);
        }
        self.write_batch()?;

        let totals = &mut self.totals;
        if totals.batches == 0 {
            totals.first = time;
        }
        totals.batches += 1;
        totals.events += count as u64;
        (totals.last, totals.last_position) = (time, position);
        Ok(())
    }

    /// Whether a checkpoint is worth its room before a batch of `time` is appended: where a frame ends anyway, and enough was written
    /// since the last one, so that checkpoints take a fifth of a recording at most.
    #[must_use]
    pub fn wants_checkpoint(&self, time: Timestamp) -> bool {
        self.frame_start.is_none_or(|start| is_over(start, time)) && self.bytes() >= self.checkpoint_at
    }

    /// Writes a checkpoint behind what was appended so far: the events that bring a reader there who has read nothing before. `time` is
    /// that of the last batch.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn checkpoint(&mut self, time: Timestamp, events: impl Iterator<Item = Event>) -> io::Result<()> {
        self.close_frame()?;
        let position = self.totals.last_position;
        let frame = checkpoint_frame(position, time, &pack_checkpoint(position, time, events)?);
        let Packer::Closed(writer) = &mut self.packer else { return Err(lost()) };
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

    /// Bytes written so far that are whole frames.
    #[must_use]
    pub fn whole_bytes(&self) -> u64 {
        self.whole
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

    /// Closes the open frame and flushes: what was appended so far outlives a crash of the process. For an owner
    /// whose feed falls silent; otherwise [`Self::append`] sees to it.
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
        self.whole = writer.bytes;
        Ok(())
    }

    /// Closes the last frame, writes the index where there are checkpoints, and gives the writer back. A recording that is dropped
    /// instead lacks its last frame.
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

    fn write_batch(&mut self) -> io::Result<()> {
        if self.batch.as_slice().len() > MAX_BATCH {
            self.batch.as_mut_vec().clear();
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "batch too large to record"));
        }
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
        let written = frame.write_all(self.batch.as_slice());
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

/// A checkpoint's events in batches of a bearable size, packed.
fn pack_checkpoint(
    position: u64,
    time: Timestamp,
    events: impl Iterator<Item = Event>,
) -> io::Result<Vec<u8>> {
    let mut packer = zstd::Encoder::new(Vec::new(), LEVEL)?;
    packer.include_checksum(true)?;
    let (mut anchors, mut batch, mut count) = (FxHashMap::default(), ByteBuf::new(), 0);
    let mut write = |batch: &mut ByteBuf, count: &mut usize| {
        let mut head = ByteBuf::new();
        put_array(&mut head, 3);
        put_uint(&mut head, position);
        put_int(&mut head, time.nanos());
        put_array(&mut head, std::mem::take(count));
        packer.write_all(head.as_slice())?;
        packer.write_all(batch.as_slice())?;
        batch.as_mut_vec().clear();
        io::Result::Ok(())
    };
    for event in events {
        put_event(&mut batch, &event, &mut anchors, time);
        count += 1;
        if batch.as_slice().len() >= CHECKPOINT_BATCH {
            write(&mut batch, &mut count)?;
        }
    }
    write(&mut batch, &mut count)?;
    packer.finish()
}

fn put_event(to: &mut ByteBuf, event: &Event, anchors: &mut FxHashMap<InstrumentId, i64>, time: Timestamp) {
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
            put_array(to, 2 + trade_values(trade, with_times));
            put_uint(to, kind::TRADE.into());
            put_uint(to, id.0.into());
            put_trade_values(to, trade, anchor(id), time, with_times);
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
        // It was left out before.
        Event::Stats(_) | Event::Reset => {}
        Event::Snapshot(id, snapshot) => put_snapshot(to, *id, snapshot, anchor(id), time),
    }
}

fn put_header(to: &mut ByteBuf, header: &RecordingHeader) {
    put_map(to, 5);
    put_text(to, "format");
    put_text(to, FORMAT);
    put_text(to, "version");
    put_uint(to, VERSION);
    put_text(to, "epoch");
    put_uint(to, header.epoch);
    put_text(to, "created");
    put_int(to, header.created.nanos());
    put_text(to, "source");
    put_text(to, cut(&header.source));
}

fn put_definition(to: &mut ByteBuf, definition: &Instrument) {
    put_map(to, 10);
    put_text(to, "id");
    put_uint(to, definition.id.0.into());
    for (key, text) in [
        ("symbol", definition.symbol.as_str()),
        ("name", &definition.name),
        ("sector", &definition.sector),
        ("currency", &definition.currency),
    ] {
        put_text(to, key);
        put_text(to, text);
    }
    put_text(to, "price_scale");
    put_uint(to, definition.price_scale.into());
    put_text(to, "size_scale");
    put_uint(to, definition.size_scale.into());
    put_text(to, "tick_size");
    put_int(to, definition.tick_size);
    put_text(to, "anchor");
    put_price(to, definition.anchor, 0);
    put_text(to, "previous_close");
    put_price(to, definition.previous_close, 0);
}

pub(super) fn put_quote_values(to: &mut ByteBuf, quote: &Quote, anchor: i64) {
    put_price(to, quote.bid, anchor);
    put_int(to, quote.bid_size.units());
    put_price(to, quote.ask, anchor);
    put_int(to, quote.ask_size.units());
}

/// How many values tell a trade.
pub(super) fn trade_values(trade: &Trade, with_times: bool) -> usize {
    match (trade.conditions.is_empty(), with_times) {
        (true, false) => 3,
        (true, true) => 5,
        (false, _) => 6,
    }
}

pub(super) fn put_trade_values(
    to: &mut ByteBuf,
    trade: &Trade,
    anchor: i64,
    time: Timestamp,
    with_times: bool,
) {
    put_price(to, trade.price, anchor);
    put_int(to, trade.size.units());
    match trade.side {
        Side::None => put_nil(to),
        Side::Buy => put_text(to, "b"),
        Side::Sell => put_text(to, "s"),
    }
    let values = trade_values(trade, with_times);
    if values > 3 {
        put_times(to, trade.ts_recv, trade.ts_event, time);
    }
    if values > 5 {
        put_text(to, trade.conditions.as_str());
    }
}

/// The time of arrival, from `time`; and the venue's time, from the arrival.
pub(super) fn put_times(to: &mut ByteBuf, arrival: Timestamp, event: Timestamp, time: Timestamp) {
    put_int(to, difference(arrival, time));
    put_int(to, difference(event, arrival));
}

pub(super) fn put_status(to: &mut ByteBuf, status: &Status, time: Timestamp) {
    put_text(to, status.state.name());
    put_int(to, difference(status.ts_event, time));
}

/// Wraps where two times are further apart than 2^63 ns; the reader wraps back.
pub(super) fn difference(time: Timestamp, from: Timestamp) -> i64 {
    time.nanos().wrapping_sub(from.nanos())
}

pub(super) fn put_price(to: &mut ByteBuf, price: Price, anchor: i64) {
    match price.some() {
        None => put_nil(to),
        Some(price) => put_int(to, price.units().wrapping_sub(anchor)),
    }
}

/// At most [`MAX_TEXT`] bytes of `text`, whole characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

fn lost() -> io::Error {
    io::Error::other("an earlier write failed: the recording has ended")
}

// A `ByteBuf` takes every write: its error type has no values.

pub(super) fn put_nil(to: &mut ByteBuf) {
    let Ok(()) = mp::write_nil(to);
}

pub(super) fn put_bool(to: &mut ByteBuf, value: bool) {
    let Ok(()) = mp::write_bool(to, value);
}

pub(super) fn put_uint(to: &mut ByteBuf, value: u64) {
    mp::write_uint(to, value).expect("memory takes every write");
}

pub(super) fn put_int(to: &mut ByteBuf, value: i64) {
    mp::write_sint(to, value).expect("memory takes every write");
}

/// An integer that may need 128 bits, as 16 bytes where it does.
pub(super) fn put_wide(to: &mut ByteBuf, value: i128) {
    match i64::try_from(value) {
        Ok(value) => put_int(to, value),
        Err(_) => mp::write_bin(to, &value.to_be_bytes()).expect("memory takes every write"),
    }
}

fn put_float(to: &mut ByteBuf, value: f64) {
    mp::write_f64(to, value).expect("memory takes every write");
}

pub(super) fn put_text(to: &mut ByteBuf, text: &str) {
    mp::write_str(to, text).expect("memory takes every write");
}

pub(super) fn put_array(to: &mut ByteBuf, len: usize) {
    mp::write_array_len(to, u32::try_from(len).expect("bounded by MAX_EVENTS"))
        .expect("memory takes every write");
}

fn put_map(to: &mut ByteBuf, len: u32) {
    mp::write_map_len(to, len).expect("memory takes every write");
}
