use super::cursor::Cursor;
use super::snapshot::read_snapshot;
use super::{FORMAT, MAX_BATCH, MAX_EVENTS, RecordingHeader, VERSION, kind};
use crate::market::{
    Conditions, Event, FeedStatus, Instrument, InstrumentId, MAX_SCALE, MAX_UNITS, Price, Quote, Side, Size,
    Status, Symbol, Timestamp, Trade,
};
use rustc_hash::FxHashMap;
use std::io::{self, Read};
use std::sync::Arc;

/// Reads a recording back, exactly as it was written: positions, times, and the recorded instrument numbers.
pub struct RecordingReader<R> {
    input: Input<R>,
    header: RecordingHeader,
    anchors: Anchors,
    batches: u64,
    ended: bool,
}

/// What prices are told from, by instrument.
pub(super) type Anchors = FxHashMap<u32, i64>;

/// Why a recording cannot be read on. Nothing after such a place can be trusted, so reading ends there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    #[error("the recording breaks off here, as after a crash: all before is intact")]
    Truncated,
    #[error("cannot read on: {0}")]
    Io(io::Error),
    #[error("{what}: expected {expected}")]
    Unexpected { what: &'static str, expected: &'static str },
    #[error("{what} is {value:?}, which is none")]
    Value { what: &'static str, value: String },
    #[error("{what} exceeds the limit of {max}")]
    TooLarge { what: &'static str, max: usize },
    #[error("version {0} of the form is newer than this reader, which knows {VERSION}")]
    Version(u64),
}

type Result<T> = std::result::Result<T, RecordingError>;

impl<R: Read> RecordingReader<R> {
    /// Reads the header. `unpacked` is the stream inside the zstd frames.
    ///
    /// # Errors
    /// [`RecordingError`] where this is no recording, or of a later version.
    pub fn new(unpacked: R) -> Result<Self> {
        let mut input = Input::new(unpacked);
        let header = input.value(header)?;
        let header = header.ok_or(RecordingError::Truncated)?;
        Ok(Self::behind(header, input))
    }

    /// Goes on in the middle of a recording, at a place where every instrument is defined again: a checkpoint.
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

    /// How many batches were read so far.
    #[must_use]
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Appends the events of the next batch to `events` and gives its position and time; `None` at the end.
    ///
    /// # Errors
    /// [`RecordingError`], once: afterwards the recording has ended. `events` is then as it was.
    pub fn next(&mut self, events: &mut Vec<Event>) -> Result<Option<(u64, Timestamp)>> {
        if self.ended {
            return Ok(None);
        }
        let (before, anchors) = (events.len(), &mut self.anchors);
        let batch = self.input.value(|cursor| {
            // Where the bytes at hand ended within the batch, it is read once more.
            events.truncate(before);
            batch(cursor, anchors, events)
        });
        if matches!(batch, Ok(Some(_))) {
            self.batches += 1;
        } else {
            self.ended = true;
            events.truncate(before);
        }
        batch
    }
}

/// A stream of values, of which as much is in memory as one value needs, and [`MAX_BATCH`] at the most: no length field makes it more.
struct Input<R> {
    source: R,
    buffer: Vec<u8>,
    /// The part of the buffer that is not read yet.
    start: usize,
    end: usize,
}

impl<R: Read> Input<R> {
    const BUFFER: usize = 128 << 10;

    fn new(source: R) -> Self {
        Self { source, buffer: vec![0; Self::BUFFER], start: 0, end: 0 }
    }

    /// Reads a value; `None` at the end of the stream. `read` may be called several times, each time with more bytes.
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

    /// Reads more; whether there was any.
    fn fill(&mut self) -> Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.end > MAX_BATCH {
            return Err(too_large());
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(got) => {
                    self.end += got;
                    return Ok(got > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(RecordingError::Truncated);
                }
                Err(error) => return Err(RecordingError::Io(error)),
            }
        }
    }
}

fn too_large() -> RecordingError {
    RecordingError::TooLarge { what: "batch", max: MAX_BATCH }
}

pub(super) fn header(cursor: &mut Cursor) -> Result<RecordingHeader> {
    let mut header = RecordingHeader::default();
    let (mut format, mut version) = ("", None);
    for _ in 0..cursor.map_len("header")? {
        match cursor.text("key of the header")? {
            "format" => format = cursor.text("format")?,
            "version" => version = Some(cursor.uint("version")?),
            "epoch" => header.epoch = cursor.uint("epoch")?,
            "created" => header.created = Timestamp::from_nanos(cursor.int("created")?),
            "source" => cursor.text("source")?.clone_into(&mut header.source),
            _ => {
                return Err(RecordingError::Unexpected {
                    what: "key of the header",
                    expected: "a known one",
                });
            }
        }
        // The first two entries decide whether the rest can be understood.
        match version {
            _ if format != FORMAT => {
                return Err(RecordingError::Unexpected { what: "format", expected: FORMAT });
            }
            Some(version) if version != VERSION => return Err(RecordingError::Version(version)),
            _ => {}
        }
    }
    version.map(|_| header).ok_or(RecordingError::Unexpected { what: "header", expected: "a version" })
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
        events.push(event(cursor, anchors, time)?);
    }
    Ok((position, time))
}

fn event(cursor: &mut Cursor, anchors: &mut Anchors, time: Timestamp) -> Result<Event> {
    if cursor.is_map()? {
        let definition = definition(cursor)?;
        anchors.insert(definition.id.0, definition.anchor_units());
        return Ok(Event::Instrument(Arc::new(definition)));
    }
    let len = cursor.array_len("event")?;
    let kind = cursor.uint("kind of event")?;
    match (u8::try_from(kind).unwrap_or(0), len) {
        (kind::QUOTE, 6 | 8) => {
            let (id, anchor) = instrument(cursor, anchors)?;
            quote(cursor, anchor, time, len == 8).map(|quote| Event::Quote(id, quote))
        }
        (kind::TRADE, 5 | 7 | 8) => {
            let (id, anchor) = instrument(cursor, anchors)?;
            trade(cursor, anchor, time, len - 2).map(|trade| Event::Trade(id, trade))
        }
        (kind::STATUS, 4) => {
            let id = if cursor.take_nil()? { None } else { Some(InstrumentId(cursor.number("instrument")?)) };
            Ok(Event::Status(id, status(cursor, time)?))
        }
        (kind::FEED, 4) => feed(cursor).map(Event::Feed),
        (kind::SNAPSHOT, 9) => {
            let (id, anchor) = instrument(cursor, anchors)?;
            read_snapshot(cursor, anchor, time).map(|snapshot| Event::Snapshot(id, Arc::new(snapshot)))
        }
        _ => Err(RecordingError::Unexpected { what: "event", expected: "a known kind and its length" }),
    }
}

/// An instrument's number, and what its prices are told from.
fn instrument(cursor: &mut Cursor, anchors: &Anchors) -> Result<(InstrumentId, i64)> {
    let id = cursor.number("instrument")?;
    Ok((InstrumentId(id), anchors.get(&id).copied().unwrap_or(0)))
}

pub(super) fn quote(cursor: &mut Cursor, anchor: i64, time: Timestamp, with_times: bool) -> Result<Quote> {
    let bid = price(cursor, "bid", anchor)?;
    let bid_size = size(cursor, "bid size")?;
    let ask = price(cursor, "ask", anchor)?;
    let ask_size = size(cursor, "ask size")?;
    let (ts_recv, ts_event) = if with_times { times(cursor, time)? } else { (time, time) };
    Ok(Quote { bid, bid_size, ask, ask_size, ts_event, ts_recv })
}

/// A trade of so many values: 3, or 5 with its times, or 6 with conditions as well.
pub(super) fn trade(cursor: &mut Cursor, anchor: i64, time: Timestamp, values: usize) -> Result<Trade> {
    let price = price(cursor, "price", anchor)?;
    let size = size(cursor, "size")?;
    let side = side(cursor)?;
    let (ts_recv, ts_event) = if values >= 5 { times(cursor, time)? } else { (time, time) };
    let conditions = if values == 6 { conditions(cursor)? } else { Conditions::default() };
    Ok(Trade { price, size, side, conditions, ts_event, ts_recv })
}

pub(super) fn status(cursor: &mut Cursor, time: Timestamp) -> Result<Status> {
    let state = name(cursor, "trading state")?;
    Ok(Status { state, ts_event: after(time, cursor.int("time")?) })
}

fn feed(cursor: &mut Cursor) -> Result<FeedStatus> {
    let kind = name(cursor, "feed kind")?;
    let state = name(cursor, "feed state")?;
    let speed = if cursor.is_float()? {
        let factor = cursor.float()?.to_string();
        // By way of its text, because that is where the range of speeds is known.
        factor.parse().map_err(|_| RecordingError::Value { what: "speed", value: factor })?
    } else {
        name(cursor, "speed")?
    };
    Ok(FeedStatus { kind, state, speed })
}

fn definition(cursor: &mut Cursor) -> Result<Instrument> {
    let (mut id, mut symbol) = (None, None);
    let placeholder = Symbol::new("-").expect("a symbol");
    let mut definition = Instrument::unknown(placeholder);
    for _ in 0..cursor.map_len("definition")? {
        match cursor.text("key of a definition")? {
            "id" => id = Some(InstrumentId(cursor.number("id")?)),
            "symbol" => {
                let value = cursor.text("symbol")?;
                let wrong = |_| RecordingError::Value { what: "symbol", value: value.to_owned() };
                symbol = Some(Symbol::new(value).map_err(wrong)?);
            }
            "name" => cursor.text("name")?.clone_into(&mut definition.name),
            "sector" => cursor.text("sector")?.clone_into(&mut definition.sector),
            "currency" => cursor.text("currency")?.clone_into(&mut definition.currency),
            "price_scale" => definition.price_scale = scale(cursor, "price_scale")?,
            "size_scale" => definition.size_scale = scale(cursor, "size_scale")?,
            "tick_size" => definition.tick_size = in_range(cursor.int("tick_size")?, "tick_size")?,
            "anchor" => definition.anchor = price(cursor, "anchor", 0)?,
            "previous_close" => definition.previous_close = price(cursor, "previous_close", 0)?,
            _ => {
                return Err(RecordingError::Unexpected {
                    what: "key of a definition",
                    expected: "a known one",
                });
            }
        }
    }
    if definition.tick_size < 1 {
        return Err(RecordingError::Unexpected { what: "tick_size", expected: "1 or more" });
    }
    match (id, symbol) {
        (Some(id), Some(symbol)) => Ok(Instrument { id, symbol, ..definition }),
        _ => Err(RecordingError::Unexpected { what: "definition", expected: "an id and a symbol" }),
    }
}

/// The time of arrival, from the batch's; and the venue's time, from the arrival.
pub(super) fn times(cursor: &mut Cursor, time: Timestamp) -> Result<(Timestamp, Timestamp)> {
    let arrival = after(time, cursor.int("arrival")?);
    Ok((arrival, after(arrival, cursor.int("event time")?)))
}

pub(super) fn after(time: Timestamp, nanos: i64) -> Timestamp {
    Timestamp::from_nanos(time.nanos().wrapping_add(nanos))
}

pub(super) fn price(cursor: &mut Cursor, what: &'static str, anchor: i64) -> Result<Price> {
    if cursor.take_nil()? {
        return Ok(Price::NONE);
    }
    in_range(cursor.int(what)?.wrapping_add(anchor), what).map(Price::new)
}

pub(super) fn size(cursor: &mut Cursor, what: &'static str) -> Result<Size> {
    match cursor.int(what)? {
        units @ 0.. => in_range(units, what).map(Size::new),
        _ => Err(RecordingError::Unexpected { what, expected: "0 or more" }),
    }
}

/// What comes from a file is held to the limit that every price and size on a tape keeps.
fn in_range(units: i64, what: &'static str) -> Result<i64> {
    if units.unsigned_abs() > MAX_UNITS.unsigned_abs() {
        return Err(RecordingError::Unexpected { what, expected: "less than 2^53 units" });
    }
    Ok(units)
}

fn side(cursor: &mut Cursor) -> Result<Side> {
    if cursor.take_nil()? {
        return Ok(Side::None);
    }
    match cursor.text("side")? {
        "b" => Ok(Side::Buy),
        "s" => Ok(Side::Sell),
        _ => Err(RecordingError::Unexpected { what: "side", expected: "b, s or nil" }),
    }
}

fn conditions(cursor: &mut Cursor) -> Result<Conditions> {
    let value = cursor.text("conditions")?;
    let wrong = || RecordingError::Value { what: "conditions", value: value.to_owned() };
    Conditions::new(value).ok_or_else(wrong)
}

fn scale(cursor: &mut Cursor, what: &'static str) -> Result<u8> {
    let value = cursor.uint(what)?;
    u8::try_from(value)
        .ok()
        .filter(|&scale| scale <= MAX_SCALE)
        .ok_or(RecordingError::TooLarge { what, max: MAX_SCALE.into() })
}

fn name<T: std::str::FromStr>(cursor: &mut Cursor, what: &'static str) -> Result<T> {
    let value = cursor.text(what)?;
    value.parse().map_err(|_| RecordingError::Value { what, value: value.to_owned() })
}
