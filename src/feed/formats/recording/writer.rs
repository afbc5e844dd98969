use super::{FORMAT, MAX_BATCH, MAX_EVENTS, MAX_TEXT, RecordingHeader, VERSION, kind};
use crate::market::{Event, Instrument, InstrumentId, Price, Quote, Side, Speed, Timestamp, Trade};
use rmp::encode::{self as mp, ByteBuf};
use rustc_hash::FxHashMap;
use std::io::{self, Write};

/// How long a zstd frame stays open, in recorded time: what a crash may cost.
const FRAME_NANOS: i64 = 1_000_000_000;
/// zstd level. Higher ones save little on such small frames: their prices and times are differences already.
const LEVEL: i32 = 3;

/// Writes a tape to a file as it happens.
pub struct RecordingWriter<W: Write> {
    packer: Packer<W>,
    /// When the open frame was begun.
    frame_start: Option<Timestamp>,
    anchors: FxHashMap<InstrumentId, i64>,
    batch: ByteBuf,
}

/// Where bytes go: into the open frame, or to the writer that the next frame will be opened on.
enum Packer<W: Write> {
    Open(zstd::Encoder<'static, W>),
    Closed(W),
    /// A frame could not be finished, and the writer went with it.
    Lost,
}

impl<W: Write> RecordingWriter<W> {
    /// Writes the header. Give a file through a buffer: frames leave in small pieces.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(writer: W, header: &RecordingHeader) -> io::Result<Self> {
        let mut recording = Self {
            packer: Packer::Closed(writer),
            frame_start: None,
            anchors: FxHashMap::default(),
            batch: ByteBuf::new(),
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
        let is_due = |start: Timestamp| time.nanos_since(start) >= FRAME_NANOS;
        if self.frame_start.is_some_and(is_due) {
            self.close_frame()?;
        }
        self.frame_start.get_or_insert(time);

        put_array(&mut self.batch, 3);
        put_uint(&mut self.batch, position);
        put_int(&mut self.batch, time.nanos());
        // A recording is of the market; what the server told of itself is not for a later one to tell.
        let market = || events.iter().filter(|event| !matches!(event, Event::Stats(_)));
        put_array(&mut self.batch, market().count());
        for event in market() {
            self.put_event(event, time);
        }
        self.write_batch()
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
        match &mut self.packer {
            Packer::Closed(writer) => writer.flush(),
            _ => Err(lost()),
        }
    }

    /// Closes the last frame and gives the writer back. A recording that is dropped instead lacks its last frame.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.close_frame()?;
        match self.packer {
            Packer::Closed(writer) => Ok(writer),
            _ => Err(lost()),
        }
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

    fn put_event(&mut self, event: &Event, time: Timestamp) {
        let to = &mut self.batch;
        match event {
            Event::Instrument(definition) => {
                self.anchors.insert(definition.id, definition.anchor_units());
                put_definition(to, definition);
            }
            Event::Quote(id, quote) => put_quote(to, *id, quote, self.anchors.get(id), time),
            Event::Trade(id, trade) => put_trade(to, *id, trade, self.anchors.get(id), time),
            Event::Status(id, status) => {
                put_array(to, 4);
                put_uint(to, kind::STATUS.into());
                match id {
                    Some(id) => put_uint(to, id.0.into()),
                    None => put_nil(to),
                }
                put_text(to, status.state.name());
                put_int(to, difference(status.ts_event, time));
            }
            // What a checkpoint is made of: the recording itself has the events.
            Event::Snapshot(..) | Event::Stats(_) | Event::Reset => {}
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
        }
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

fn put_quote(to: &mut ByteBuf, id: InstrumentId, quote: &Quote, anchor: Option<&i64>, time: Timestamp) {
    let anchor = anchor.copied().unwrap_or(0);
    let arrival = difference(quote.ts_recv, time);
    let event = difference(quote.ts_event, quote.ts_recv);
    put_array(to, if (arrival, event) == (0, 0) { 6 } else { 8 });
    put_uint(to, kind::QUOTE.into());
    put_uint(to, id.0.into());
    put_price(to, quote.bid, anchor);
    put_int(to, quote.bid_size.units());
    put_price(to, quote.ask, anchor);
    put_int(to, quote.ask_size.units());
    if (arrival, event) != (0, 0) {
        put_int(to, arrival);
        put_int(to, event);
    }
}

fn put_trade(to: &mut ByteBuf, id: InstrumentId, trade: &Trade, anchor: Option<&i64>, time: Timestamp) {
    let anchor = anchor.copied().unwrap_or(0);
    let arrival = difference(trade.ts_recv, time);
    let event = difference(trade.ts_event, trade.ts_recv);
    let len = match (trade.conditions.is_empty(), (arrival, event)) {
        (true, (0, 0)) => 5,
        (true, _) => 7,
        (false, _) => 8,
    };
    put_array(to, len);
    put_uint(to, kind::TRADE.into());
    put_uint(to, id.0.into());
    put_price(to, trade.price, anchor);
    put_int(to, trade.size.units());
    match trade.side {
        Side::None => put_nil(to),
        Side::Buy => put_text(to, "b"),
        Side::Sell => put_text(to, "s"),
    }
    if len > 5 {
        put_int(to, arrival);
        put_int(to, event);
    }
    if len > 7 {
        put_text(to, trade.conditions.as_str());
    }
}

/// Wraps where two times are further apart than 2^63 ns; the reader wraps back.
fn difference(time: Timestamp, from: Timestamp) -> i64 {
    time.nanos().wrapping_sub(from.nanos())
}

fn put_price(to: &mut ByteBuf, price: Price, anchor: i64) {
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

fn put_nil(to: &mut ByteBuf) {
    let Ok(()) = mp::write_nil(to);
}

fn put_uint(to: &mut ByteBuf, value: u64) {
    mp::write_uint(to, value).expect("memory takes every write");
}

fn put_int(to: &mut ByteBuf, value: i64) {
    mp::write_sint(to, value).expect("memory takes every write");
}

fn put_float(to: &mut ByteBuf, value: f64) {
    mp::write_f64(to, value).expect("memory takes every write");
}

fn put_text(to: &mut ByteBuf, text: &str) {
    mp::write_str(to, text).expect("memory takes every write");
}

fn put_array(to: &mut ByteBuf, len: usize) {
    mp::write_array_len(to, u32::try_from(len).expect("bounded by MAX_EVENTS"))
        .expect("memory takes every write");
}

fn put_map(to: &mut ByteBuf, len: u32) {
    mp::write_map_len(to, len).expect("memory takes every write");
}
