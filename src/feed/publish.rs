//! Events as a user's own publisher states them: JSON objects or `MessagePack` maps, one an event.
//!
//! Numbers may be numbers or text; both are exact. A quote states both sides: one that is absent or null is empty.

mod fields;
mod framing;

use self::fields::{FieldError, Fields, Scalar};
use self::framing::value_len;
use super::text::{nearest, parse_time, time_from_integer};
use crate::market::{
    Conditions, Event, Instrument, InstrumentId, Instruments, MAX_SCALE, NumberError, Price, QuoteValues,
    Side, Status, Symbol, Timestamp, TradingState, parse_decimal,
};
use rust_decimal::Decimal;

/// The longest JSON line or `MessagePack` map.
pub const MAX_EVENT_BYTES: usize = 64 * 1024;
/// Symbols of one tape beyond which publishing makes up no new ones.
pub const MAX_INSTRUMENTS: usize = 100_000;
/// Levels of arrays and maps in `MessagePack`, the outermost array included. Events are flat, so nothing needs more.
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
}

#[derive(Clone, Copy, Debug)]
pub struct PublishedTrade {
    pub price: Decimal,
    pub size: Decimal,
    pub side: Side,
    pub conditions: Conditions,
}

/// Reference data; what is `None` stays as it is known.
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

/// Why an event is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    #[error("{0}")]
    Malformed(String),
    #[error("{symbol} is unknown, and there are {MAX_INSTRUMENTS} symbols already")]
    TooManyInstruments { symbol: Symbol },
    #[error("event of {len} bytes exceeds the limit of {MAX_EVENT_BYTES}")]
    TooLong { len: usize },
    #[error("type is missing: expected one of quote, trade, status, instrument")]
    NoType,
    #[error("unknown type {name:?}: did you mean {nearest:?}?")]
    UnknownType { name: String, nearest: &'static str },
    #[error("unknown field {name:?} of a {kind}: did you mean {nearest:?}?")]
    UnknownField { kind: &'static str, name: String, nearest: &'static str },
    #[error("{field} is missing")]
    Missing { field: &'static str },
    #[error("{field}: {reason}")]
    Field { field: &'static str, reason: String },
    #[error("{symbol}: {error}")]
    Number { symbol: Symbol, error: NumberError },
}

/// What a body of events came to.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// The good ones, each with its number as in [`LineError::line`].
    pub events: Vec<(usize, Published)>,
    pub errors: Vec<LineError>,
}

/// One bad event among others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineError {
    /// The line, or the event's place in the sequence; both counted from 1.
    pub line: usize,
    pub reason: PublishError,
}

/// One type of event: its name, its fields, and what reads them.
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
        fields: &["symbol", "price", "size", "side", "conditions", "ts_event", "ts_recv"],
        read: Published::trade,
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
];

/// # Errors
/// [`PublishError`] with the first thing wrong.
pub fn parse_json_line(line: &str) -> Result<Published, PublishError> {
    if line.len() > MAX_EVENT_BYTES {
        return Err(PublishError::TooLong { len: line.len() });
    }
    Published::from_fields(Fields::from_json(line)?)
}

/// Reads newline-delimited JSON. Good lines go through, each bad one is told; blank ones are nothing.
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
            Err(reason) => read.errors.push(LineError { line: index + 1, reason }),
        }
    }
    read
}

/// Reads one map, an array of maps, or maps one after the other. Good ones go through, each bad one is told. What
/// breaks the framing of `MessagePack` itself ends the reading.
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
            read.errors.push(LineError { line, reason });
            return read;
        };
        let (event, after) = rest.split_at(len);
        rest = after;
        match parse_msgpack_event(event) {
            Ok(event) => read.events.push((line, event)),
            Err(reason) => read.errors.push(LineError { line, reason }),
        }
    }
    if let Some(expected) = expected.filter(|&expected| expected as usize != line) {
        let reason = PublishError::Malformed(format!("the array ends after {line} of {expected} events"));
        read.errors.push(LineError { line: line + 1, reason });
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
    /// Appends the event to `out`, with the definition it needs in front. Where it states no time it is of `arrival`.
    ///
    /// # Errors
    /// [`PublishError::Number`] where a number fits no scale of the instrument; only its definition is appended then.
    pub fn apply(
        self,
        arrival: Timestamp,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<(), PublishError> {
        if let Some(symbol) = self.symbol()
            && instruments.len() >= MAX_INSTRUMENTS
            && instruments.by_symbol(symbol.as_str()).is_none()
        {
            return Err(PublishError::TooManyInstruments { symbol: symbol.clone() });
        }
        match self {
            Self::Quote { symbol, values, ts_event, .. } => {
                let id = instruments.intern(&symbol, out);
                let times = (ts_event.unwrap_or(arrival), arrival);
                let quote = instruments.quote(id, &values, times, out);
                out.push(Event::Quote(id, quote.map_err(|error| PublishError::Number { symbol, error })?));
            }
            Self::Trade { symbol, trade, ts_event, .. } => {
                let id = instruments.intern(&symbol, out);
                let times = (ts_event.unwrap_or(arrival), arrival);
                let kind = (trade.side, trade.conditions);
                let trade = instruments.trade(id, (trade.price, trade.size), kind, times, out);
                out.push(Event::Trade(id, trade.map_err(|error| PublishError::Number { symbol, error })?));
            }
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
        }
        Ok(())
    }

    /// When it arrived, where it says so: of use only to who reads it back, as what is published arrives when it does. Else its own time.
    pub(super) fn moment(&self) -> Option<Timestamp> {
        match self {
            Self::Quote { ts_event, ts_recv, .. } | Self::Trade { ts_event, ts_recv, .. } => {
                ts_recv.or(*ts_event)
            }
            Self::Status { ts_event, .. } => *ts_event,
            Self::Instrument(_) => None,
        }
    }

    /// Reads fields that are texts; empty ones are not there.
    pub(super) fn from_texts(fields: impl Iterator<Item = (String, String)>) -> Result<Self, PublishError> {
        Self::from_fields(Fields::from_texts(fields)?)
    }

    fn symbol(&self) -> Option<&Symbol> {
        match self {
            Self::Quote { symbol, .. } | Self::Trade { symbol, .. } => Some(symbol),
            Self::Status { symbol, .. } => symbol.as_ref(),
            Self::Instrument(published) => Some(&published.symbol),
        }
    }

    fn from_fields(mut fields: Fields) -> Result<Self, PublishError> {
        let kind =
            fields.parsed("type", |text| Ok::<_, &str>(text.to_owned()))?.ok_or(PublishError::NoType)?;
        let Some(kind) = KINDS.iter().find(|known| known.name == kind) else {
            let nearest = nearest(&kind, KINDS.iter().map(|known| known.name));
            return Err(PublishError::UnknownType { name: cut(&kind), nearest });
        };
        // Unknown fields come before missing ones: a misspelt field often is the missing one.
        if let Some(name) = fields.first_besides(kind.fields) {
            let nearest = nearest(name, kind.fields.iter().copied());
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
        let trade = PublishedTrade {
            price: fields.number("price")?.ok_or(PublishError::Missing { field: "price" })?,
            size: fields.number("size")?.ok_or(PublishError::Missing { field: "size" })?,
            side: fields.parsed("side", str::parse::<Side>)?.unwrap_or_default(),
            conditions: fields
                .parsed("conditions", |text| {
                    Conditions::new(text).ok_or("expected up to 4 printable ASCII characters")
                })?
                .unwrap_or_default(),
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
            if text.len() <= MAX_NAME && is_word(text) {
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

impl PublishedInstrument {
    fn definition(self, instruments: &Instruments) -> Result<Instrument, PublishError> {
        let known = instruments.by_symbol(self.symbol.as_str());
        let mut definition =
            known.map_or_else(|| Instrument::unknown(self.symbol.clone()), |known| (**known).clone());
        let decimals = |value: Option<Decimal>| {
            value.map_or(0, |value| u8::try_from(value.normalize().scale()).unwrap_or(u8::MAX))
        };
        let needed = decimals(self.tick_size).max(decimals(self.previous_close));
        // Without a word about it, the scale of a new instrument is what its reference data needs.
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
        Self::Malformed(error.to_string())
    }
}

fn required_symbol(fields: &mut Fields) -> Result<Symbol, PublishError> {
    fields.parsed("symbol", Symbol::new)?.ok_or(PublishError::Missing { field: "symbol" })
}

fn short(text: &str) -> Result<String, &'static str> {
    if text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err("expected at most 256 bytes without control characters");
    }
    Ok(text.to_owned())
}

impl Fields<'_> {
    /// A text, read by `parse`; `None` where it is absent or null.
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
            Some(Scalar::Number(text)) => match text.parse() {
                Ok(since_epoch) => Ok(Some(time_from_integer(since_epoch))),
                Err(_) => Err(wrong(field, "expected whole seconds, ms, us or ns since 1970")),
            },
            Some(other) => Err(wrong(field, format_args!("expected a time, got {}", other.what()))),
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(40).collect()
}

fn wrong(field: &'static str, reason: impl std::fmt::Display) -> PublishError {
    PublishError::Field { field, reason: reason.to_string() }
}

#[cfg(test)]
mod tests;
