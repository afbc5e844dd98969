use super::{FORMAT, MAX_BATCH, MAX_EVENTS, MAX_TEXT, RecordingHeader, VERSION, kind};
use crate::market::{
    Conditions, Event, FeedStatus, Instrument, InstrumentId, MAX_SCALE, MAX_UNITS, Price, Quote, Side, Size,
    Speed, Status, Symbol, Timestamp, Trade,
};
use rmp::Marker;
use rmp::decode::{self as mp, NumValueReadError, ValueReadError};
use rustc_hash::FxHashMap;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

/// Reads a recording back, exactly as it was written: positions, times, and the recorded instrument numbers.
pub struct RecordingReader<R> {
    input: Bounded<BufReader<R>>,
    header: RecordingHeader,
    anchors: FxHashMap<u32, i64>,
    batches: u64,
    ended: bool,
}

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

impl<R: Read> RecordingReader<R> {
    /// Reads the header. `unpacked` is the stream inside the zstd frames.
    ///
    /// # Errors
    /// [`RecordingError`] where this is no recording, or of a later version.
    pub fn new(unpacked: R) -> Result<Self, RecordingError> {
        let mut input = Bounded { inner: BufReader::new(unpacked), left: MAX_BATCH };
        let header = header(&mut input)?;
        Ok(Self { input, header, anchors: FxHashMap::default(), batches: 0, ended: false })
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
    pub fn next(&mut self, events: &mut Vec<Event>) -> Result<Option<(u64, Timestamp)>, RecordingError> {
        if self.ended {
            return Ok(None);
        }
        let before = events.len();
        let batch = self.batch(events);
        if !matches!(batch, Ok(Some(_))) {
            self.ended = true;
            events.truncate(before);
        }
        batch
    }

    fn batch(&mut self, events: &mut Vec<Event>) -> Result<Option<(u64, Timestamp)>, RecordingError> {
        self.input.left = MAX_BATCH;
        if self.input.fill_buf().map_err(from_io)?.is_empty() {
            return Ok(None);
        }
        let input = &mut self.input;
        if array_len(input, "batch")? != 3 {
            return Err(RecordingError::Unexpected { what: "batch", expected: "an array of 3" });
        }
        let position = uint(input, "position")?;
        let time = Timestamp::from_nanos(int(input, "time")?);
        let count = array_len(input, "events")?;
        if count > MAX_EVENTS {
            return Err(RecordingError::TooLarge { what: "number of events", max: MAX_EVENTS });
        }
        for _ in 0..count {
            let event = event(input, &mut self.anchors, time)?;
            events.push(event);
        }
        self.batches += 1;
        Ok(Some((position, time)))
    }
}

/// Lets through at most `left` bytes, so that no length field makes one batch endless.
struct Bounded<R> {
    inner: R,
    left: usize,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(to)?;
        self.consumed(got)?;
        Ok(got)
    }

    fn read_exact(&mut self, to: &mut [u8]) -> io::Result<()> {
        self.consumed(to.len())?;
        self.inner.read_exact(to)
    }
}

impl<R: BufRead> Bounded<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    /// Consumes a nil, if one is next.
    fn take_nil(&mut self) -> Result<bool, RecordingError> {
        let is_nil = self.fill_buf().map_err(from_io)?.first() == Some(&Marker::Null.to_u8());
        if is_nil {
            self.inner.consume(1);
            self.consumed(1).map_err(from_io)?;
        }
        Ok(is_nil)
    }

    fn consumed(&mut self, bytes: usize) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("batch exceeds the limit of {MAX_BATCH} bytes"),
            )
        })?;
        Ok(())
    }
}

fn header<R: BufRead>(input: &mut Bounded<R>) -> Result<RecordingHeader, RecordingError> {
    let mut header = RecordingHeader::default();
    let (mut format, mut version) = (String::new(), None);
    for _ in 0..map_len(input, "header")? {
        match text(input, "key of the header")?.as_str() {
            "format" => format = text(input, "format")?,
            "version" => version = Some(uint(input, "version")?),
            "epoch" => header.epoch = uint(input, "epoch")?,
            "created" => header.created = Timestamp::from_nanos(int(input, "created")?),
            "source" => header.source = text(input, "source")?,
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

fn event<R: BufRead>(
    input: &mut Bounded<R>,
    anchors: &mut FxHashMap<u32, i64>,
    time: Timestamp,
) -> Result<Event, RecordingError> {
    let next = input.fill_buf().map_err(from_io)?.first().map(|&byte| Marker::from_u8(byte));
    if let Some(Marker::FixMap(_) | Marker::Map16 | Marker::Map32) = next {
        let definition = definition(input)?;
        anchors.insert(definition.id.0, definition.anchor_units());
        return Ok(Event::Instrument(Arc::new(definition)));
    }
    let len = array_len(input, "event")?;
    let kind = uint(input, "kind of event")?;
    match (u8::try_from(kind).unwrap_or(0), len) {
        (kind::QUOTE, 6 | 8) => quote(input, anchors, time, len),
        (kind::TRADE, 5 | 7 | 8) => trade(input, anchors, time, len),
        (kind::STATUS, 4) => {
            let id = if input.take_nil()? { None } else { Some(InstrumentId(number(input, "instrument")?)) };
            let state = name(input, "trading state")?;
            Ok(Event::Status(id, Status { state, ts_event: after(time, int(input, "time")?) }))
        }
        (kind::FEED, 4) => {
            let kind = name(input, "feed kind")?;
            let state = name(input, "feed state")?;
            Ok(Event::Feed(FeedStatus { kind, state, speed: speed(input)? }))
        }
        _ => Err(RecordingError::Unexpected { what: "event", expected: "a known kind and its length" }),
    }
}

fn quote<R: BufRead>(
    input: &mut Bounded<R>,
    anchors: &FxHashMap<u32, i64>,
    time: Timestamp,
    len: usize,
) -> Result<Event, RecordingError> {
    let id = number(input, "instrument")?;
    let anchor = anchors.get(&id).copied().unwrap_or(0);
    let bid = price(input, "bid", anchor)?;
    let bid_size = size(input, "bid size")?;
    let ask = price(input, "ask", anchor)?;
    let ask_size = size(input, "ask size")?;
    let (ts_recv, ts_event) = if len == 8 { times(input, time)? } else { (time, time) };
    Ok(Event::Quote(InstrumentId(id), Quote { bid, bid_size, ask, ask_size, ts_event, ts_recv }))
}

fn trade<R: BufRead>(
    input: &mut Bounded<R>,
    anchors: &FxHashMap<u32, i64>,
    time: Timestamp,
    len: usize,
) -> Result<Event, RecordingError> {
    let id = number(input, "instrument")?;
    let anchor = anchors.get(&id).copied().unwrap_or(0);
    let price = price(input, "price", anchor)?;
    let size = size(input, "size")?;
    let aggressor = side(input)?;
    let (ts_recv, ts_event) = if len >= 7 { times(input, time)? } else { (time, time) };
    let conditions = if len == 8 { conditions(input)? } else { Conditions::default() };
    Ok(Event::Trade(InstrumentId(id), Trade { price, size, side: aggressor, conditions, ts_event, ts_recv }))
}

fn definition<R: BufRead>(input: &mut Bounded<R>) -> Result<Instrument, RecordingError> {
    let (mut id, mut symbol) = (None, None);
    let placeholder = Symbol::new("-").expect("a symbol");
    let mut definition = Instrument::unknown(placeholder);
    for _ in 0..map_len(input, "definition")? {
        match text(input, "key of a definition")?.as_str() {
            "id" => id = Some(InstrumentId(number(input, "id")?)),
            "symbol" => {
                let value = text(input, "symbol")?;
                let parsed = Symbol::new(&value);
                symbol = Some(parsed.map_err(|_| RecordingError::Value { what: "symbol", value })?);
            }
            "name" => definition.name = text(input, "name")?,
            "sector" => definition.sector = text(input, "sector")?,
            "currency" => definition.currency = text(input, "currency")?,
            "price_scale" => definition.price_scale = scale(input, "price_scale")?,
            "size_scale" => definition.size_scale = scale(input, "size_scale")?,
            "tick_size" => definition.tick_size = in_range(int(input, "tick_size")?, "tick_size")?,
            "anchor" => definition.anchor = price(input, "anchor", 0)?,
            "previous_close" => definition.previous_close = price(input, "previous_close", 0)?,
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
fn times<R: BufRead>(
    input: &mut Bounded<R>,
    time: Timestamp,
) -> Result<(Timestamp, Timestamp), RecordingError> {
    let arrival = after(time, int(input, "arrival")?);
    Ok((arrival, after(arrival, int(input, "event time")?)))
}

fn after(time: Timestamp, nanos: i64) -> Timestamp {
    Timestamp::from_nanos(time.nanos().wrapping_add(nanos))
}

fn price<R: BufRead>(
    input: &mut Bounded<R>,
    what: &'static str,
    anchor: i64,
) -> Result<Price, RecordingError> {
    if input.take_nil()? {
        return Ok(Price::NONE);
    }
    in_range(int(input, what)?.wrapping_add(anchor), what).map(Price::new)
}

fn size<R: BufRead>(input: &mut Bounded<R>, what: &'static str) -> Result<Size, RecordingError> {
    match int(input, what)? {
        units @ 0.. => in_range(units, what).map(Size::new),
        _ => Err(RecordingError::Unexpected { what, expected: "0 or more" }),
    }
}

/// What comes from a file is held to the limit that every price and size on a tape keeps.
fn in_range(units: i64, what: &'static str) -> Result<i64, RecordingError> {
    if units.unsigned_abs() > MAX_UNITS.unsigned_abs() {
        return Err(RecordingError::Unexpected { what, expected: "less than 2^53 units" });
    }
    Ok(units)
}

fn side<R: BufRead>(input: &mut Bounded<R>) -> Result<Side, RecordingError> {
    if input.take_nil()? {
        return Ok(Side::None);
    }
    match text(input, "side")?.as_str() {
        "b" => Ok(Side::Buy),
        "s" => Ok(Side::Sell),
        _ => Err(RecordingError::Unexpected { what: "side", expected: "b, s or nil" }),
    }
}

fn conditions<R: BufRead>(input: &mut Bounded<R>) -> Result<Conditions, RecordingError> {
    let value = text(input, "conditions")?;
    Conditions::new(&value).ok_or(RecordingError::Value { what: "conditions", value })
}

fn speed<R: BufRead>(input: &mut Bounded<R>) -> Result<Speed, RecordingError> {
    let next = input.fill_buf().map_err(from_io)?.first().copied();
    if next != Some(Marker::F64.to_u8()) {
        return name(input, "speed");
    }
    let factor = mp::read_f64(input).map_err(|error| from_value(error, "speed"))?;
    // By way of its text, because that is where the range of speeds is known.
    factor.to_string().parse().map_err(|_| RecordingError::Value { what: "speed", value: factor.to_string() })
}

fn scale<R: BufRead>(input: &mut Bounded<R>, what: &'static str) -> Result<u8, RecordingError> {
    let value = uint(input, what)?;
    u8::try_from(value)
        .ok()
        .filter(|&scale| scale <= MAX_SCALE)
        .ok_or(RecordingError::TooLarge { what, max: MAX_SCALE.into() })
}

fn name<R: BufRead, T: std::str::FromStr>(
    input: &mut Bounded<R>,
    what: &'static str,
) -> Result<T, RecordingError> {
    let value = text(input, what)?;
    value.parse().map_err(|_| RecordingError::Value { what, value })
}

fn text<R: BufRead>(input: &mut Bounded<R>, what: &'static str) -> Result<String, RecordingError> {
    let len = mp::read_str_len(input).map_err(|error| from_value(error, what))? as usize;
    if len > MAX_TEXT {
        return Err(RecordingError::TooLarge { what, max: MAX_TEXT });
    }
    let mut bytes = vec![0; len];
    input.read_exact(&mut bytes).map_err(from_io)?;
    String::from_utf8(bytes).map_err(|_| RecordingError::Unexpected { what, expected: "UTF-8 text" })
}

fn number<R: BufRead>(input: &mut Bounded<R>, what: &'static str) -> Result<u32, RecordingError> {
    mp::read_int(input).map_err(|error| from_number(error, what))
}

fn uint<R: BufRead>(input: &mut Bounded<R>, what: &'static str) -> Result<u64, RecordingError> {
    mp::read_int(input).map_err(|error| from_number(error, what))
}

fn int<R: BufRead>(input: &mut Bounded<R>, what: &'static str) -> Result<i64, RecordingError> {
    mp::read_int(input).map_err(|error| from_number(error, what))
}

fn array_len<R: BufRead>(input: &mut Bounded<R>, what: &'static str) -> Result<usize, RecordingError> {
    mp::read_array_len(input).map(|len| len as usize).map_err(|error| match error {
        ValueReadError::TypeMismatch(_) => RecordingError::Unexpected { what, expected: "an array" },
        other => from_value(other, what),
    })
}

fn map_len<R: BufRead>(input: &mut Bounded<R>, what: &'static str) -> Result<u32, RecordingError> {
    mp::read_map_len(input).map_err(|error| match error {
        ValueReadError::TypeMismatch(_) => RecordingError::Unexpected { what, expected: "a map" },
        other => from_value(other, what),
    })
}

fn from_value(error: ValueReadError, what: &'static str) -> RecordingError {
    match error {
        ValueReadError::InvalidMarkerRead(error) | ValueReadError::InvalidDataRead(error) => from_io(error),
        ValueReadError::TypeMismatch(_) => RecordingError::Unexpected { what, expected: "text" },
    }
}

fn from_number(error: NumValueReadError, what: &'static str) -> RecordingError {
    match error {
        NumValueReadError::InvalidMarkerRead(error) | NumValueReadError::InvalidDataRead(error) => {
            from_io(error)
        }
        NumValueReadError::TypeMismatch(_) => RecordingError::Unexpected { what, expected: "a whole number" },
        NumValueReadError::OutOfRange => {
            RecordingError::Unexpected { what, expected: "a whole number in its range" }
        }
    }
}

fn from_io(error: io::Error) -> RecordingError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => RecordingError::Truncated,
        _ => RecordingError::Io(error),
    }
}
