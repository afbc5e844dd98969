use super::fields::BarFields;
use crate::hub::bar_field;
use crate::market::{
    FeedKind, FeedState, FeedStatus, Instrument, InstrumentId, MAX_SCALE, MAX_UNITS, Price, ServerStats,
    Size, Speed, Symbol, Timestamp,
};
use rmp::decode::{self, NumValueReadError};

/// Why bytes are no update. Elements are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    #[error("not an update: its first byte begins no array")]
    NotAnUpdate,
    #[error("update ends within element {element}")]
    Truncated { element: usize },
    #[error("update has {bytes} bytes behind its last element")]
    Trailing { bytes: usize },
    #[error("element {element} is no {expected}")]
    WrongType { element: usize, expected: &'static str },
    #[error("element {element} is out of range for {what}")]
    OutOfRange { element: usize, what: &'static str },
    #[error("element {element}: unknown tag {tag}")]
    UnknownTag { element: usize, tag: i64 },
    #[error("element {element}: instrument {instrument} was never defined")]
    UnknownInstrument { element: usize, instrument: u32 },
    #[error("element {element}: {count} entries are announced and {left} elements are left")]
    Count { element: usize, count: u64, left: usize },
    #[error("element {element}: bad definition: {reason}")]
    Definition { element: usize, reason: String },
    #[error("element {element}: bad stats: {reason}")]
    Stats { element: usize, reason: String },
}

/// The elements of an update's array.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    /// Of the next one.
    pub(super) element: usize,
    /// How many elements of the array are not read yet; never more than there are bytes.
    pub(super) left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut rest = bytes;
        let len = decode::read_array_len(&mut rest).map_err(|_| DecodeError::NotAnUpdate)?;
        let left = usize::try_from(len).unwrap_or(usize::MAX);
        if left > rest.len() {
            return Err(DecodeError::Truncated { element: rest.len() });
        }
        Ok(Self { rest, element: 0, left })
    }

    /// Steps on to the next element; to be called before its bytes are read.
    fn step(&mut self) -> Result<usize, DecodeError> {
        let element = self.element;
        self.left = self.left.checked_sub(1).ok_or(DecodeError::Truncated { element })?;
        self.element += 1;
        Ok(element)
    }

    /// That the element just read is no good.
    pub(super) fn out_of_range(&self, what: &'static str) -> DecodeError {
        DecodeError::OutOfRange { element: self.element - 1, what }
    }

    /// Takes a nil, if there is one.
    pub(super) fn nil(&mut self) -> Result<bool, DecodeError> {
        const NIL: u8 = 0xc0;
        if self.left == 0 || self.rest.first() != Some(&NIL) {
            return Ok(false);
        }
        self.step()?;
        self.rest = &self.rest[1..];
        Ok(true)
    }

    pub(super) fn int(&mut self) -> Result<i64, DecodeError> {
        let element = self.step()?;
        int(&mut self.rest, element)
    }

    pub(super) fn uint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let value = self.int()?;
        u64::try_from(value).map_err(|_| self.out_of_range(what))
    }

    pub(super) fn small<T: TryFrom<i64>>(&mut self, what: &'static str) -> Result<T, DecodeError> {
        let value = self.int()?;
        T::try_from(value).map_err(|_| self.out_of_range(what))
    }

    pub(super) fn choice<T: Copy>(&mut self, all: &[T], what: &'static str) -> Result<T, DecodeError> {
        let number = self.small::<u8>(what)?;
        all.get(usize::from(number)).copied().ok_or_else(|| self.out_of_range(what))
    }

    /// A price told as its distance from another, in units.
    pub(super) fn price(&mut self, from: i64) -> Result<Price, DecodeError> {
        if self.nil()? {
            return Ok(Price::NONE);
        }
        self.units(from, "a price").map(Price::new)
    }

    pub(super) fn size(&mut self) -> Result<Size, DecodeError> {
        let units = self.units(0, "a size")?;
        if units < 0 { Err(self.out_of_range("a size")) } else { Ok(Size::new(units)) }
    }

    fn units(&mut self, from: i64, what: &'static str) -> Result<i64, DecodeError> {
        let value = self.int()?;
        from.checked_add(value)
            .filter(|units| (-MAX_UNITS..=MAX_UNITS).contains(units))
            .ok_or_else(|| self.out_of_range(what))
    }

    /// A count of entries of at least `each` elements, none of which is given memory before it is known to be there.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = self.uint("a count")?;
        let fits = usize::try_from(count).ok().filter(|&count| count <= self.left / each);
        fits.ok_or(DecodeError::Count { element: self.element - 1, count, left: self.left })
    }

    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let element = self.step()?;
        text(&mut self.rest, element)
    }

    pub(super) fn bar(&mut self, instrument: &Instrument, mask: u16) -> Result<BarFields, DecodeError> {
        use bar_field as field;
        let told = |field: u16| mask & field != 0;
        let anchor = instrument.anchor_units();
        Ok(BarFields {
            start: told(field::START).then(|| self.second()).transpose()?,
            open: told(field::OPEN).then(|| self.price(instrument.anchor_units())).transpose()?,
            high: told(field::HIGH).then(|| self.price(instrument.anchor_units())).transpose()?,
            low: told(field::LOW).then(|| self.price(instrument.anchor_units())).transpose()?,
            close: told(field::CLOSE).then(|| self.price(instrument.anchor_units())).transpose()?,
            volume: told(field::VOLUME).then(|| self.size()).transpose()?,
            trades: told(field::TRADES).then(|| self.uint("a count of trades")).transpose()?,
            vwap: told(field::VWAP).then(|| self.units(anchor.saturating_mul(100), "a price")).transpose()?,
            previous_close: told(field::PREVIOUS_CLOSE)
                .then(|| self.price(instrument.anchor_units()))
                .transpose()?,
        })
    }

    fn second(&mut self) -> Result<Timestamp, DecodeError> {
        let nanos = self.int()?.checked_mul(1_000_000_000);
        nanos.map(Timestamp::from_nanos).ok_or_else(|| self.out_of_range("a moment"))
    }

    pub(super) fn feed(&mut self) -> Result<FeedStatus, DecodeError> {
        let kinds = [FeedKind::Simulator, FeedKind::Replay, FeedKind::Publisher];
        let states = [FeedState::Live, FeedState::Stale, FeedState::Paused, FeedState::Ended];
        let kind = self.choice(&kinds, "a kind of feed")?;
        let state = self.choice(&states, "a feed's state")?;
        let speed = if self.nil()? { Speed::Max } else { Speed::Times(self.float()?) };
        Ok(FeedStatus { kind, state, speed })
    }

    /// A map: one element of the array, whatever it holds.
    pub(super) fn stats(&mut self) -> Result<ServerStats, DecodeError> {
        let element = self.step()?;
        let from = self.rest;
        // First to its end: so that what it announces is known to be there before memory is taken for it.
        skip(&mut self.rest, element)?;
        let bytes = &from[..from.len() - self.rest.len()];
        rmp_serde::from_slice(bytes)
            .map_err(|error| DecodeError::Stats { element, reason: error.to_string() })
    }

    /// Any number.
    fn float(&mut self) -> Result<f64, DecodeError> {
        let element = self.step()?;
        let truncated = |_| DecodeError::Truncated { element };
        match self.rest.first() {
            Some(0xca) => decode::read_f32(&mut self.rest).map(f64::from).map_err(truncated),
            Some(0xcb) => decode::read_f64(&mut self.rest).map_err(truncated),
            _ => {
                let whole = int(&mut self.rest, element)?;
                i32::try_from(whole)
                    .map(f64::from)
                    .map_err(|_| DecodeError::OutOfRange { element, what: "a speed" })
            }
        }
    }

    /// A map: one element of the array, whatever it holds.
    pub(super) fn definition(&mut self, id: InstrumentId) -> Result<Instrument, DecodeError> {
        let element = self.step()?;
        let bad = |reason: String| DecodeError::Definition { element, reason };
        let rest = &mut self.rest;
        let fields = decode::read_map_len(rest)
            .map_err(|_| DecodeError::WrongType { element, expected: "map of a definition" })?;
        let mut symbol = None;
        let mut definition = Instrument::unknown(Symbol::new("?").expect("a symbol"));
        for _ in 0..fields {
            let scale = |value: i64| {
                u8::try_from(value)
                    .ok()
                    .filter(|&scale| scale <= MAX_SCALE)
                    .ok_or_else(|| bad(format!("{value} is no scale")))
            };
            let units = |value: Option<i64>| match value {
                Some(value) if !(-MAX_UNITS..=MAX_UNITS).contains(&value) => {
                    Err(bad(format!("{value} is beyond 2^53 units")))
                }
                value => Ok(value.map_or(Price::NONE, Price::new)),
            };
            match text(rest, element)? {
                "symbol" => {
                    symbol = Some(Symbol::new(text(rest, element)?).map_err(|e| bad(e.to_string()))?);
                }
                "name" => text(rest, element)?.clone_into(&mut definition.name),
                "sector" => text(rest, element)?.clone_into(&mut definition.sector),
                "currency" => text(rest, element)?.clone_into(&mut definition.currency),
                "price_scale" => definition.price_scale = scale(int(rest, element)?)?,
                "size_scale" => definition.size_scale = scale(int(rest, element)?)?,
                "tick_size" => definition.tick_size = units(Some(int(rest, element)?))?.units(),
                "anchor" => definition.anchor = units(optional_int(rest, element)?)?,
                "previous_close" => definition.previous_close = units(optional_int(rest, element)?)?,
                // Fields that a later server may add.
                _ => skip(rest, element)?,
            }
        }
        let symbol = symbol.ok_or_else(|| bad("it has no symbol".to_owned()))?;
        Ok(Instrument { id, symbol, ..definition })
    }
}

/// µs since 1970 that a `Timestamp` can hold.
pub(super) fn moment(from: i64, value: i64, element: usize) -> Result<i64, DecodeError> {
    from.checked_add(value)
        .filter(|micros| micros.checked_mul(1000).is_some())
        .ok_or(DecodeError::OutOfRange { element, what: "a moment" })
}

fn int(rest: &mut &[u8], element: usize) -> Result<i64, DecodeError> {
    decode::read_int(rest).map_err(|error| match error {
        NumValueReadError::TypeMismatch(_) => DecodeError::WrongType { element, expected: "integer" },
        NumValueReadError::OutOfRange => DecodeError::OutOfRange { element, what: "an integer" },
        _ => DecodeError::Truncated { element },
    })
}

fn optional_int(rest: &mut &[u8], element: usize) -> Result<Option<i64>, DecodeError> {
    match rest {
        [0xc0, after @ ..] => {
            *rest = after;
            Ok(None)
        }
        _ => int(rest, element).map(Some),
    }
}

fn text<'a>(rest: &mut &'a [u8], element: usize) -> Result<&'a str, DecodeError> {
    let wrong = DecodeError::WrongType { element, expected: "string" };
    let len = decode::read_str_len(rest).map_err(|_| wrong.clone())?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let (text, after) = rest.split_at_checked(len).ok_or(DecodeError::Truncated { element })?;
    *rest = after;
    std::str::from_utf8(text).map_err(|_| wrong)
}

/// Passes over one value of any type, without recursion.
fn skip(rest: &mut &[u8], element: usize) -> Result<(), DecodeError> {
    use rmp::Marker;
    let truncated = DecodeError::Truncated { element };
    let mut values = 1_u64;
    while values > 0 {
        values -= 1;
        let marker = decode::read_marker(rest).map_err(|_| truncated.clone())?;
        let mut length = |bytes: usize| -> Result<u64, DecodeError> {
            let (length, after) = rest.split_at_checked(bytes).ok_or(truncated.clone())?;
            *rest = after;
            Ok(length.iter().fold(0, |length, &byte| length << 8 | u64::from(byte)))
        };
        let bytes = match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => 0,
            Marker::U8 | Marker::I8 => 1,
            Marker::U16 | Marker::I16 | Marker::FixExt1 => 2,
            Marker::FixExt2 => 3,
            Marker::U32 | Marker::I32 | Marker::F32 => 4,
            Marker::FixExt4 => 5,
            Marker::U64 | Marker::I64 | Marker::F64 => 8,
            Marker::FixExt8 => 9,
            Marker::FixExt16 => 17,
            Marker::FixStr(len) => u64::from(len),
            Marker::Str8 | Marker::Bin8 => length(1)?,
            Marker::Str16 | Marker::Bin16 => length(2)?,
            Marker::Str32 | Marker::Bin32 => length(4)?,
            Marker::Ext8 => length(1)? + 1,
            Marker::Ext16 => length(2)? + 1,
            Marker::Ext32 => length(4)? + 1,
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                values += match marker {
                    Marker::FixArray(len) => u64::from(len),
                    Marker::Array16 => length(2)?,
                    _ => length(4)?,
                };
                0
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                values += 2 * match marker {
                    Marker::FixMap(len) => u64::from(len),
                    Marker::Map16 => length(2)?,
                    _ => length(4)?,
                };
                0
            }
            Marker::Reserved => {
                return Err(DecodeError::WrongType { element, expected: "MessagePack value" });
            }
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        *rest = rest.get(bytes..).ok_or(truncated.clone())?;
    }
    Ok(())
}
