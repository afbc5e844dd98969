//! Events of a user's own publisher: JSON objects or `MessagePack` maps, one per event.
//!
//! Numbers may be numbers or text; both are exact. A quote states both sides: an absent or null side is
//! empty.

mod breaks;
mod fields;
mod framing;

pub use self::breaks::{Cancel, Named};
use self::fields::{FieldError, Fields, Scalar};
use self::framing::value_len;
use super::Tape;
use super::text::parse_time;
use crate::hint::most_like;
use crate::market::{
    Conditions, Counts, Event, Instrument, InstrumentId, Instruments, Json, MAX_SCALE, Message, NamedTrades,
    NumberError, Post, Price, QuoteValues, Side, State, Status, Symbol, SymbolError, Timestamp, Trade,
    TradingState, Word, parse_decimal,
};
use rust_decimal::Decimal;
use std::time::Duration;

/// The longest JSON line or `MessagePack` map.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// Most symbols of a tape: at this count publishing creates no new ones.
pub const MAX_INSTRUMENTS: usize = 100_000;
/// Most channels of a tape.
pub const MAX_CHANNELS: usize = 1000;
/// Bad events of a body that are reported one by one; the rest are counted.
pub const REJECTIONS_TOLD: usize = 1000;
/// The longest error of one, in characters.
const MAX_REASON: usize = 200;
/// Levels of arrays and maps in `MessagePack`, the outermost array included. Events are flat, so nothing
/// needs more.
const MAX_DEPTH: usize = 16;
/// The longest name of an instrument, in bytes.
const MAX_NAME: usize = 256;

/// One event as published: by symbol, in decimals, not yet on any tape.
#[derive(Clone, Debug)]
pub enum Published {
    Quote {
        symbol: Symbol,
        values: QuoteValues,
        ts_event: Option<Timestamp>,
        ts_recv: Option<Timestamp>,
    },
    Trade {
        symbol: Symbol,
        trade: PublishedTrade,
        ts_event: Option<Timestamp>,
        ts_recv: Option<Timestamp>,
    },
    /// Of one instrument, or of the whole market.
    Status {
        symbol: Option<Symbol>,
        state: TradingState,
        ts_event: Option<Timestamp>,
    },
    Instrument(Box<PublishedInstrument>),
    /// A trade is broken, or corrected.
    Cancel(Box<Cancel>),
    /// A message of a channel, or a state in one.
    Post(Box<Post>),
}

#[derive(Clone, Debug)]
pub struct PublishedTrade {
    /// The publisher's name of the trade.
    pub id: Option<String>,
    pub price: Decimal,
    pub size: Decimal,
    pub side: Side,
    pub conditions: Conditions,
    pub counts: Counts,
}

/// Reference data; fields that are `None` stay as they are.
#[derive(Clone, Debug)]
pub struct PublishedInstrument {
    pub symbol: Symbol,
    pub name: Option<String>,
    pub sector: Option<String>,
    pub currency: Option<String>,
    pub tick_size: Option<Decimal>,
    pub price_scale: Option<u8>,
    pub size_scale: Option<u8>,
    pub previous_close: Option<Decimal>,
}

/// Why an event is rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    #[error("{0}")]
    Malformed(String),
    #[error("{symbol} is unknown, and there are {MAX_INSTRUMENTS} symbols already")]
    TooManyInstruments { symbol: Symbol },
    #[error("event of {len} bytes exceeds the limit of {MAX_EVENT_BYTES}")]
    TooLong { len: usize },
    #[error(
        "type is missing: expected one of quote, trade, status, instrument, cancel, correct, message, state"
    )]
    NoType,
    #[error("unknown type {name:?}: did you mean {nearest:?}?")]
    UnknownType { name: String, nearest: &'static str },
    #[error("unknown field {name:?} of a {kind}: did you mean {nearest:?}?")]
    UnknownField { kind: &'static str, name: String, nearest: &'static str },
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field}: {reason}")]
    Field { field: &'static str, reason: String },
    #[error("{symbol} has no such trade, or it is too long ago, or was taken back")]
    UnknownTrade { symbol: Symbol },
    #[error("{channel} is new, and there are {} channels already", crate::feed::publish::MAX_CHANNELS)]
    TooManyChannels { channel: Symbol },
    #[error("{0}")]
    Refused(String),
    #[error("{symbol}: {error}{}", mend(error))]
    Number { symbol: Symbol, error: NumberError },
}

/// The result of reading a body of events.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The good ones, each with its number as in [`LineError::line`].
    pub events: Vec<(usize, Published)>,
    pub rejected: Rejected,
}

/// The bad events of a body. There may be millions, so only the first [`REJECTIONS_TOLD`] are kept.
#[derive(Clone, Debug, Default)]
pub struct Rejected {
    /// Now and then cut down to those of the lowest lines.
    kept: Vec<LineError>,
    counts: [u64; REASONS.len()],
}

/// Names of the reasons for which events are rejected.
pub const REASONS: [&str; 7] =
    ["malformed", "too_long", "type", "unknown_field", "missing_field", "value", "too_many_symbols"];

/// One rejected event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// The line, or the event's index in the sequence; both counted from 1.
    pub line: usize,
    pub reason: PublishError,
}

impl Rejected {
    pub fn push(&mut self, line: usize, reason: PublishError) {
        self.counts[reason.index()] += 1;
        self.kept.push(LineError { line, reason });
        if self.kept.len() >= 2 * REJECTIONS_TOLD {
            self.cut_down();
        }
    }

    /// Adds rejections of the same body from another step.
    pub fn add(&mut self, more: Self) {
        for (count, more) in self.counts.iter_mut().zip(more.counts) {
            *count += more;
        }
        self.kept.extend(more.kept);
        if self.kept.len() >= 2 * REJECTIONS_TOLD {
            self.cut_down();
        }
    }

    /// The first ones in the order of lines, at most [`REJECTIONS_TOLD`].
    pub fn first(&mut self) -> &[LineError] {
        self.cut_down();
        &self.kept
    }

    /// Why that one was rejected, if it is among those that are kept.
    #[must_use]
    pub fn reason(&self, line: usize) -> Option<&PublishError> {
        self.kept.iter().find(|error| error.line == line).map(|error| &error.reason)
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many there are for each of [`REASONS`].
    #[must_use]
    pub fn counts(&self) -> [u64; REASONS.len()] {
        self.counts
    }

    fn cut_down(&mut self) {
        self.kept.sort_by_key(|error| error.line);
        self.kept.truncate(REJECTIONS_TOLD);
    }
}

impl PublishError {
    /// Its index in [`REASONS`].
    fn index(&self) -> usize {
        match self {
            Self::Malformed(_) => 0,
            Self::TooLong { .. } => 1,
            Self::NoType | Self::UnknownType { .. } => 2,
            Self::UnknownField { .. } => 3,
            Self::Missing { .. } => 4,
            Self::Field { .. } | Self::Number { .. } | Self::UnknownTrade { .. } | Self::Refused(_) => 5,
            Self::TooManyInstruments { .. } | Self::TooManyChannels { .. } => 6,
        }
    }
}

/// One type of event: its name, its fields, and the function that reads them.
struct Kind {
    name: &'static str,
    fields: &'static [&'static str],
    read: fn(&mut Fields) -> Result<Published, PublishError>,
}

const KINDS: &[Kind] = &[
    Kind {
        name: "quote",
        fields: &["symbol", "bid", "bid_size", "ask", "ask_size", "ts_event", "ts_recv"],
        read: Published::quote,
    },
    Kind {
        name: "trade",
        fields: &[
            "symbol",
            "id",
            "price",
            "size",
            "side",
            "conditions",
            "tape",
            "counts",
            "ts_event",
            "ts_recv",
        ],
        read: Published::trade,
    },
    Kind {
        name: "cancel",
        fields: &["symbol", "id", "price", "size", "side", "conditions", "counts", "ts_event", "ts_recv"],
        read: Published::cancel,
    },
    Kind {
        name: "correct",
        fields: &[
            "symbol",
            "original_id",
            "original_price",
            "original_size",
            "original_ts_event",
            "id",
            "price",
            "size",
            "side",
            "conditions",
            "tape",
            "counts",
            "ts_event",
            "ts_recv",
        ],
        read: Published::correct,
    },
    Kind { name: "status", fields: &["symbol", "state", "ts_event"], read: Published::status },
    Kind {
        name: "instrument",
        fields: &[
            "symbol",
            "name",
            "sector",
            "currency",
            "tick_size",
            "price_scale",
            "size_scale",
            "previous_close",
        ],
        read: Published::instrument,
    },
    Kind {
        name: "message",
        fields: &["channel", "from", "event", "data", "ts_event"],
        read: Published::message,
    },
    Kind { name: "state", fields: &["channel", "key", "data", "ttl_ms"], read: Published::state },
];

/// # Errors
/// [`PublishError`] with the first thing wrong.
pub fn parse_json_line(line: &str) -> Result<Published, PublishError> {
    if line.len() > MAX_EVENT_BYTES {
        return Err(PublishError::TooLong { len: line.len() });
    }
    Published::from_fields(Fields::from_json(line)?)
}

/// Reads newline-delimited JSON. Good lines are accepted, each bad one is rejected by itself; blank ones are
/// skipped.
#[must_use]
pub fn parse_ndjson(body: &[u8]) -> Parsed {
    let mut read = Parsed::default();
    for (index, line) in body.split(|&b| b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let parsed = str::from_utf8(line)
            .map_err(|_| PublishError::Malformed("line is not UTF-8 text".to_owned()))
            .and_then(parse_json_line);
        match parsed {
            Ok(event) => read.events.push((index + 1, event)),
            Err(reason) => read.rejected.push(index + 1, reason),
        }
    }
    read
}

/// Reads one map, an array of maps, or maps one after the other. Good ones are accepted, each bad one is
/// rejected by itself. An error in the framing of `MessagePack` ends the reading.
#[must_use]
pub fn parse_msgpack(body: &[u8]) -> Parsed {
    let mut read = Parsed::default();
    let mut rest = body;
    // The array's own length says nothing that its content does not.
    let expected = rmp::decode::read_array_len(&mut rest).ok();
    if expected.is_none() {
        rest = body;
    }
    let mut line = 0;
    while !rest.is_empty() {
        line += 1;
        let Some(len) = value_len(rest) else {
            let reason =
                PublishError::Malformed("MessagePack breaks off or nests too deeply here".to_owned());
            read.rejected.push(line, reason);
            return read;
        };
        let (event, after) = rest.split_at(len);
        rest = after;
        match parse_msgpack_event(event) {
            Ok(event) => read.events.push((line, event)),
            Err(reason) => read.rejected.push(line, reason),
        }
    }
    if let Some(expected) = expected.filter(|&expected| expected as usize != line) {
        let reason = PublishError::Malformed(format!("the array ends after {line} of {expected} events"));
        read.rejected.push(line + 1, reason);
    }
    read
}

fn parse_msgpack_event(event: &[u8]) -> Result<Published, PublishError> {
    if event.len() > MAX_EVENT_BYTES {
        return Err(PublishError::TooLong { len: event.len() });
    }
    Published::from_fields(Fields::from_msgpack(event)?)
}

impl Published {
    /// Lets its trades count for everything; a broken trade has counted so, too.
    pub fn count_for_everything(&mut self) {
        match self {
            Self::Trade { trade, .. } => trade.counts = Counts::EVERYTHING,
            Self::Cancel(cancel) => {
                if let Named::Trade { counts, .. } = &mut cancel.trade {
                    *counts = Counts::EVERYTHING;
                }
                if let Some((trade, _)) = &mut cancel.correction {
                    trade.counts = Counts::EVERYTHING;
                }
            }
            Self::Quote { .. } | Self::Status { .. } | Self::Instrument(_) | Self::Post(_) => {}
        }
    }

    /// Appends the event to `out`, after the definition it needs. Without a time of its own it has that of
    /// `arrival`.
    ///
    /// # Errors
    /// [`PublishError`] if a number fits no scale of the instrument, or there are too many symbols. Then
    /// nothing is appended, and no symbol created.
    pub fn apply(
        self,
        arrival: Timestamp,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<(), PublishError> {
        self.check_room(instruments)?;
        match self {
            Self::Quote { symbol, values, ts_event, .. } => {
                let times = (ts_event.unwrap_or(arrival), arrival);
                let quote = instruments.quote_of(&symbol, &values, times, out);
                let (id, quote) = quote.map_err(|error| PublishError::Number { symbol, error })?;
                out.push(Event::Quote(id, quote));
            }
            Self::Trade { symbol, trade, ts_event, .. } => {
                let times = (ts_event.unwrap_or(arrival), arrival);
                let kind = (trade.side, trade.conditions);
                let numbers = (trade.price, trade.size);
                let told = instruments.trade_of(&symbol, numbers, kind, times, out);
                let (id, told) = told.map_err(|error| PublishError::Number { symbol, error })?;
                trade.note(id, told.ts_event, instruments);
                out.push(Event::Trade(id, Trade { counts: trade.counts, ..told }));
            }
            Self::Cancel(cancel) => cancel.apply(arrival, instruments, out)?,
            Self::Status { symbol, state, ts_event } => {
                let id = symbol.map(|symbol| instruments.intern(&symbol, out));
                out.push(Event::Status(id, Status { state, ts_event: ts_event.unwrap_or(arrival) }));
            }
            Self::Instrument(published) => {
                let definition = published.definition(instruments)?;
                let (price_scale, size_scale) = (definition.price_scale, definition.size_scale);
                if let Some(known) = instruments.by_symbol(definition.symbol.as_str())
                    && !instruments.can_hold(known.id, price_scale, size_scale)
                {
                    let reason = format!("{} has numbers that such a scale cannot hold", known.symbol);
                    return Err(PublishError::Field { field: "scale", reason });
                }
                instruments.define(definition, out);
            }
            Self::Post(post) => out.push(post.into_event(arrival)),
        }
        Ok(())
    }

    /// The channel that it needs.
    #[must_use]
    pub fn channel(&self) -> Option<&Symbol> {
        match self {
            Self::Post(post) => Some(post.channel()),
            _ => None,
        }
    }

    /// Whether [`Self::apply`] would accept it.
    ///
    /// # Errors
    /// Those of [`Self::apply`].
    pub fn check(&self, arrival: Timestamp, instruments: &Instruments) -> Result<(), PublishError> {
        self.check_room(instruments)?;
        let mut alone = match self.symbol() {
            Some(symbol) => instruments.alone(symbol, self.taken_back()),
            None => Instruments::default(),
        };
        self.clone().apply(arrival, &mut alone, &mut Vec::new())
    }

    fn check_room(&self, instruments: &Instruments) -> Result<(), PublishError> {
        match self.symbol() {
            Some(symbol)
                if instruments.len() >= MAX_INSTRUMENTS
                    && instruments.by_symbol(symbol.as_str()).is_none() =>
            {
                Err(PublishError::TooManyInstruments { symbol: symbol.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The name of the trade that it breaks, if it states one.
    fn taken_back(&self) -> Option<&str> {
        match self {
            Self::Cancel(cancel) => match &cancel.trade {
                Named::Id(name) => Some(name),
                Named::Trade { .. } => None,
            },
            _ => None,
        }
    }

    /// Its stated time of arrival, else its own time. Only for reading events from a file: a published event
    /// arrives when it is received.
    pub(super) fn moment(&self) -> Option<Timestamp> {
        match self {
            Self::Quote { ts_event, ts_recv, .. } | Self::Trade { ts_event, ts_recv, .. } => {
                ts_recv.or(*ts_event)
            }
            Self::Status { ts_event, .. } => *ts_event,
            Self::Cancel(cancel) => cancel.ts_recv.or(match &cancel.trade {
                Named::Trade { ts_event, .. } => Some(*ts_event),
                Named::Id(_) => None,
            }),
            Self::Post(post) => match &**post {
                Post::Message { ts_event, .. } => *ts_event,
                Post::State { .. } => None,
            },
            Self::Instrument(_) => None,
        }
    }

    /// Reads fields that are texts; an empty one counts as absent.
    pub(super) fn from_texts(fields: impl Iterator<Item = (String, String)>) -> Result<Self, PublishError> {
        Self::from_fields(Fields::from_texts(fields)?)
    }

    fn symbol(&self) -> Option<&Symbol> {
        match self {
            Self::Quote { symbol, .. } | Self::Trade { symbol, .. } => Some(symbol),
            Self::Status { symbol, .. } => symbol.as_ref(),
            Self::Instrument(published) => Some(&published.symbol),
            Self::Cancel(cancel) => Some(&cancel.symbol),
            Self::Post(_) => None,
        }
    }

    fn from_fields(mut fields: Fields) -> Result<Self, PublishError> {
        let kind =
            fields.parsed("type", |text| Ok::<_, &str>(text.to_owned()))?.ok_or(PublishError::NoType)?;
        let Some(kind) = KINDS.iter().find(|known| known.name == kind) else {
            let nearest = most_like(&kind, KINDS.iter().map(|known| known.name));
            return Err(PublishError::UnknownType { name: cut(&kind), nearest });
        };
        // Unknown fields come before missing ones: a misspelt field often is the missing one.
        if let Some(name) = fields.first_besides(kind.fields) {
            let nearest = most_like(name, kind.fields.iter().copied());
            return Err(PublishError::UnknownField { kind: kind.name, name: cut(name), nearest });
        }
        (kind.read)(&mut fields)
    }

    fn quote(fields: &mut Fields) -> Result<Self, PublishError> {
        let symbol = required_symbol(fields)?;
        let values = QuoteValues {
            bid: fields.number("bid")?,
            bid_size: fields.number("bid_size")?.unwrap_or_default(),
            ask: fields.number("ask")?,
            ask_size: fields.number("ask_size")?.unwrap_or_default(),
        };
        let [ts_event, ts_recv] = [fields.time("ts_event")?, fields.time("ts_recv")?];
        Ok(Self::Quote { symbol, values, ts_event, ts_recv })
    }

    fn trade(fields: &mut Fields) -> Result<Self, PublishError> {
        let symbol = required_symbol(fields)?;
        let conditions = fields.conditions()?.unwrap_or_default();
        let tape = fields.parsed("tape", str::parse::<Tape>)?;
        let trade = PublishedTrade {
            id: fields.name("id")?,
            price: fields.number("price")?.ok_or(PublishError::Missing { field: "price" })?,
            size: fields.number("size")?.ok_or(PublishError::Missing { field: "size" })?,
            side: fields.parsed("side", str::parse::<Side>)?.unwrap_or_default(),
            counts: match fields.words("counts")? {
                Some(words) => words.parse().map_err(|error| wrong("counts", error))?,
                None => tape.map_or(Counts::EVERYTHING, |tape| tape.counts(&conditions)),
            },
            // Conditions that do not fit are dropped, and the trade is kept.
            conditions: Conditions::new(&conditions).unwrap_or_default(),
        };
        let [ts_event, ts_recv] = [fields.time("ts_event")?, fields.time("ts_recv")?];
        Ok(Self::Trade { symbol, trade, ts_event, ts_recv })
    }

    fn status(fields: &mut Fields) -> Result<Self, PublishError> {
        let symbol = fields.parsed("symbol", Symbol::new)?;
        let state = fields.parsed("state", str::parse::<TradingState>)?;
        let state = state.ok_or(PublishError::Missing { field: "state" })?;
        Ok(Self::Status { symbol, state, ts_event: fields.time("ts_event")? })
    }

    fn instrument(fields: &mut Fields) -> Result<Self, PublishError> {
        let is_word = |text: &str| {
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        };
        let sector = |text: &str| {
            // A number would be read as a symbol in topics.
            let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if text.len() <= MAX_NAME && is_word(text) && !is_number {
                Ok(text.to_owned())
            } else {
                Err("expected a lower-case word")
            }
        };
        let scale = |value: Decimal| {
            u8::try_from(value)
                .ok()
                .filter(|&scale| value.is_integer() && scale <= MAX_SCALE)
                .ok_or("expected a whole number from 0 to 18")
        };
        Ok(Self::Instrument(Box::new(PublishedInstrument {
            symbol: required_symbol(fields)?,
            name: fields.parsed("name", short)?,
            sector: fields.parsed("sector", sector)?,
            currency: fields.parsed("currency", short)?,
            tick_size: fields.checked("tick_size", |tick| {
                if tick > Decimal::ZERO { Ok(tick) } else { Err("must be above 0") }
            })?,
            price_scale: fields.checked("price_scale", scale)?,
            size_scale: fields.checked("size_scale", scale)?,
            previous_close: fields.number("previous_close")?,
        })))
    }
}

impl Published {
    fn message(fields: &mut Fields) -> Result<Self, PublishError> {
        let channel = required_channel(fields)?;
        let [from, event] = [fields.word("from")?, fields.word("event")?];
        let data = fields.json(Message::MAX_DATA)?.ok_or(PublishError::Missing { field: "data" })?;
        let mut post = Post::message(channel, data);
        if let Post::Message { message, ts_event } = &mut post {
            (message.from, message.event) = (from, event);
            *ts_event = fields.time("ts_event")?;
        }
        Ok(Self::Post(Box::new(post)))
    }

    fn state(fields: &mut Fields) -> Result<Self, PublishError> {
        let channel = required_channel(fields)?;
        let key = fields.word("key")?.ok_or(PublishError::Missing { field: "key" })?;
        let ttl = fields.checked("ttl_ms", |ms| {
            let whole = u64::try_from(ms).ok().filter(|_| ms.is_integer());
            let ms = whole.filter(|ms| (1..=State::MAX_TTL_MS).contains(ms)).map(Duration::from_millis);
            ms.ok_or("expected a whole number from 1 to 86400000")
        })?;
        // A state without content has ended.
        let data = fields.json(State::MAX_DATA)?.filter(|data| data.as_str() != "null");
        Ok(Self::Post(Box::new(Post::State { state: State { channel, key, data }, ttl })))
    }
}

impl PublishedInstrument {
    fn definition(self, instruments: &Instruments) -> Result<Instrument, PublishError> {
        let known = instruments.by_symbol(self.symbol.as_str());
        let mut definition =
            known.map_or_else(|| Instrument::unknown(self.symbol.clone()), |known| (**known).clone());
        let decimals = |value: Option<Decimal>| {
            value.map_or(0, |value| u8::try_from(value.normalize().scale()).unwrap_or(u8::MAX))
        };
        let needed = decimals(self.tick_size).max(decimals(self.previous_close));
        // If it is not stated, the scale of a new instrument is what its reference data needs.
        let stated = self.price_scale.unwrap_or(if known.is_none() && self.tick_size.is_some() {
            needed
        } else {
            definition.price_scale
        });
        let price_scale = stated.max(needed).min(MAX_SCALE);
        if known.is_some() {
            let finer = |new: u8, old: u8| new.saturating_sub(old);
            let size_scale = self.size_scale.unwrap_or(0);
            definition = definition.refined(
                finer(price_scale, definition.price_scale),
                finer(size_scale, definition.size_scale),
            );
        } else {
            definition.price_scale = price_scale;
            definition.size_scale = self.size_scale.unwrap_or(definition.size_scale);
        }
        let scale = definition.price_scale;
        let symbol = &self.symbol;
        let units = |value: Decimal| {
            Price::from_decimal(value, scale)
                .map_err(|error| PublishError::Number { symbol: symbol.clone(), error })
        };
        if let Some(tick_size) = self.tick_size {
            definition.tick_size = units(tick_size)?.units();
        }
        if let Some(close) = self.previous_close {
            definition.previous_close = units(close)?;
        }
        definition.name = self.name.unwrap_or(definition.name);
        definition.sector = self.sector.unwrap_or(definition.sector);
        definition.currency = self.currency.unwrap_or(definition.currency);
        Ok(Instrument { id: InstrumentId(0), ..definition })
    }
}

impl From<FieldError> for PublishError {
    fn from(error: FieldError) -> Self {
        Self::Malformed(brief(&error.to_string()))
    }
}

/// A suggestion for a number, appended to the error.
fn mend(error: &NumberError) -> String {
    const NOISE_DIGITS: u32 = 15;
    let NumberError::TooPrecise { value, scale } = error else { return String::new() };
    let finer = format!("an instrument event may ask for finer scales, up to {MAX_SCALE} decimals");
    // Residues of arithmetic with binary floats are in the sixteenth and seventeenth digit.
    let plain = value.round_sf(NOISE_DIGITS).map(|plain| plain.normalize());
    match plain.filter(|plain| plain != value && plain.scale() <= u32::from(*scale)) {
        Some(plain) => {
            format!(": if that is the noise of a binary float, round before sending ({plain}); else {finer}")
        }
        None => ": round it".to_owned(),
    }
}

fn brief(text: &str) -> String {
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn required_symbol(fields: &mut Fields) -> Result<Symbol, PublishError> {
    fields.parsed("symbol", Symbol::new)?.ok_or(PublishError::Missing { field: "symbol" })
}

fn required_channel(fields: &mut Fields) -> Result<Symbol, PublishError> {
    let channel = |text: &str| Symbol::new(text).map_err(|error| of_channel(&error));
    fields.parsed("channel", channel)?.ok_or(PublishError::Missing { field: "channel" })
}

/// The name of a channel follows the rules of a symbol.
fn of_channel(error: &SymbolError) -> String {
    error.to_string().replace("symbol", "channel")
}

fn short(text: &str) -> Result<String, &'static str> {
    if text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err("expected at most 256 bytes without control characters");
    }
    Ok(text.to_owned())
}

impl Fields<'_> {
    /// A text, read by `parse`; `None` if it is absent or null.
    fn parsed<T, E: std::fmt::Display>(
        &mut self,
        field: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, PublishError> {
        match self.take(field) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => parse(&text).map(Some).map_err(|error| wrong(field, error)),
            Some(other) => Err(wrong(field, format_args!("expected text, got {}", other.what()))),
        }
    }

    /// A name, as text or as a number.
    fn name(&mut self, field: &'static str) -> Result<Option<String>, PublishError> {
        match self.take(field) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(name) | Scalar::Number(name)) if name.len() <= NamedTrades::MAX_NAME => {
                Ok(Some(name.into_owned()))
            }
            Some(Scalar::Text(_) | Scalar::Number(_)) => Err(wrong(field, "expected at most 64 bytes")),
            Some(other) => Err(wrong(field, format_args!("expected text or a number, got {}", other.what()))),
        }
    }

    /// What somebody calls somebody or something.
    fn word(&mut self, field: &'static str) -> Result<Option<Word>, PublishError> {
        self.parsed(field, |text| Word::new(text).ok_or(format!("expected {}", Word::EXPECTED)))
    }

    /// The field `data`.
    fn json(&mut self, most: usize) -> Result<Option<Json>, PublishError> {
        let Some(value) = self.take_data()? else { return Ok(None) };
        Json::new(&value, most).map(Some).map_err(|error| wrong("data", error))
    }

    /// Words with blanks between, as text or as a list.
    fn words(&mut self, field: &'static str) -> Result<Option<String>, PublishError> {
        match self.take(field) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => Ok(Some(text.into_owned())),
            // An empty list means that there is none.
            Some(Scalar::List(words)) if words.is_empty() => Ok(Some("nothing".to_owned())),
            Some(Scalar::List(words)) => Ok(Some(words.join(" "))),
            Some(other) => Err(wrong(field, format_args!("expected a list of words, got {}", other.what()))),
        }
    }

    /// Letters of sale conditions, as text or as a list of them.
    fn conditions(&mut self) -> Result<Option<String>, PublishError> {
        match self.take("conditions") {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => Ok(Some(text.into_owned())),
            Some(Scalar::List(codes)) => {
                let are_letters = codes.iter().all(|code| code.len() <= 1);
                Ok(Some(codes.join(if are_letters { "" } else { "," })))
            }
            Some(other) => {
                let reason =
                    format_args!("expected text or a list of texts, got {}", other.what()).to_string();
                Err(wrong("conditions", reason))
            }
        }
    }

    fn number(&mut self, field: &'static str) -> Result<Option<Decimal>, PublishError> {
        self.checked(field, Ok::<_, &str>)
    }

    /// A number, as a number or as text.
    fn checked<T, E: std::fmt::Display>(
        &mut self,
        field: &'static str,
        check: impl FnOnce(Decimal) -> Result<T, E>,
    ) -> Result<Option<T>, PublishError> {
        match self.take(field) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Number(text) | Scalar::Text(text)) => {
                let value = parse_decimal(&text).map_err(|error| wrong(field, error))?;
                check(value).map(Some).map_err(|error| wrong(field, error))
            }
            Some(other) => Err(wrong(field, format_args!("expected a number, got {}", other.what()))),
        }
    }

    fn time(&mut self, field: &'static str) -> Result<Option<Timestamp>, PublishError> {
        match self.take(field) {
            None | Some(Scalar::Null) => Ok(None),
            Some(Scalar::Text(text)) => parse_time(&text).map(Some).map_err(|error| wrong(field, error)),
            Some(Scalar::Number(text)) => parse_time(&text)
                .map(Some)
                .map_err(|_| wrong(field, "expected seconds, ms, us or ns since 1970")),
            Some(other) => Err(wrong(field, format_args!("expected a time, got {}", other.what()))),
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

fn wrong(field: &'static str, reason: impl std::fmt::Display) -> PublishError {
    PublishError::Field { field, reason: brief(&reason.to_string()) }
}

#[cfg(test)]
mod tests;
