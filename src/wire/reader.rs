//! The elements of an update's array, read one by one. Pure; any thread.
//!
//! Invariant: what bytes announce is known to be there before memory is taken for it.

use crate::hub::ServerStats;
use crate::market::{
    FeedKind, FeedState, FeedStatus, Instrument, InstrumentId, MAX_SCALE, Price, SAFE_INTEGER, Size, Speed,
    Symbol, Timestamp,
};
use rmp::decode::{self, NumValueReadError};

/// Why bytes are no update. Elements are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are no array.
    #[error("not an update: its first byte begins no array")]
    NotAnUpdate,
    /// The bytes end too early, or the array has too few elements.
    #[error("update ends within element {element}")]
    Truncated { element: usize },
    /// The bytes go on after the array.
    #[error("update has {bytes} bytes behind its last element")]
    Trailing { bytes: usize },
    /// An element has another type than its entry says.
    #[error("element {element} is no {expected}")]
    WrongType { element: usize, expected: &'static str },
    /// An element has the right type, and no valid value.
    #[error("element {element} is out of range for {what}")]
    OutOfRange { element: usize, what: &'static str },
    /// No entry has this tag.
    #[error("element {element}: unknown tag {tag}")]
    UnknownTag { element: usize, tag: i64 },
    /// An entry of an instrument comes before its definition.
    #[error("element {element}: instrument {instrument} was never defined")]
    UnknownInstrument { element: usize, instrument: u32 },
    /// An entry announces more than the array has.
    #[error("element {element}: {count} entries are announced and {left} elements are left")]
    Count { element: usize, count: u64, left: usize },
    /// The map of a definition is malformed.
    #[error("element {element}: bad definition: {reason}")]
    Definition { element: usize, reason: String },
    /// The map of `stats` is malformed.
    #[error("element {element}: bad stats: {reason}")]
    Stats { element: usize, reason: String },
}

/// The elements of an update's array, one after the other.
pub(super) struct Reader<'a> {
    pub(super) rest: &'a [u8],
    /// Index of the next one.
    pub(super) element: usize,
    /// Elements not read yet; never more than there are bytes.
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

    /// Counts the next element; call it before its bytes are read.
    fn step(&mut self) -> Result<usize, DecodeError> {
        let element = self.element;
        self.left = self.left.checked_sub(1).ok_or(DecodeError::Truncated { element })?;
        self.element += 1;
        Ok(element)
    }

    /// The error for the element just read.
    pub(super) fn out_of_range(&self, what: &'static str) -> DecodeError {
        DecodeError::OutOfRange { element: self.element - 1, what }
    }

    /// Reads a nil, if it is the next element.
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

    /// A price as its distance from `from`, in units; nil is none.
    pub(super) fn price(&mut self, from: i128) -> Result<Price, DecodeError> {
        if self.nil()? {
            return Ok(Price::NONE);
        }
        let price = from.checked_add(self.units()?).and_then(Price::from_units);
        price.ok_or_else(|| self.out_of_range("a price"))
    }

    pub(super) fn size(&mut self) -> Result<Size, DecodeError> {
        let units = self.units()?;
        Size::from_units(units).ok_or_else(|| self.out_of_range("a size"))
    }

    /// A number of units: an integer, or its digits as a string.
    fn units(&mut self) -> Result<i128, DecodeError> {
        let element = self.step()?;
        units(&mut self.rest, element)
    }

    /// Hundredths of a price unit, as their distance from 100 times `anchor`.
    pub(super) fn hundredths(&mut self, anchor: i128) -> Result<i128, DecodeError> {
        let value = self.units()?.checked_add(anchor * 100).filter(|value| value.abs() <= Price::LIMIT * 100);
        value.ok_or_else(|| self.out_of_range("a price"))
    }

    /// A moment as µs from `from`.
    pub(super) fn moment(&mut self, from: i64) -> Result<Timestamp, DecodeError> {
        let value = self.int()?;
        moment(from, value, self.element - 1).map(Timestamp::from_micros)
    }

    /// A count of entries of at least `each` elements, checked to be there before memory is taken.
    pub(super) fn count(&mut self, each: usize) -> Result<usize, DecodeError> {
        let count = self.uint("a count")?;
        let fits = usize::try_from(count).ok().filter(|&count| count <= self.left / each);
        fits.ok_or(DecodeError::Count { element: self.element - 1, count, left: self.left })
    }

    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        let element = self.step()?;
        text(&mut self.rest, element)
    }

    /// Complete seconds since 1970.
    pub(super) fn second(&mut self) -> Result<Timestamp, DecodeError> {
        let nanos = self.int()?.checked_mul(1_000_000_000);
        nanos.map(Timestamp::from_nanos).ok_or_else(|| self.out_of_range("a moment"))
    }

    pub(super) fn feed(&mut self) -> Result<FeedStatus, DecodeError> {
        let kind = self.choice(FeedKind::ALL, "a kind of feed")?;
        let state = self.choice(FeedState::ALL, "a feed's state")?;
        let speed = self.speed()?;
        Ok(FeedStatus { kind, state, speed })
    }

    /// A map: one element of the array, whatever is in it.
    pub(super) fn stats(&mut self) -> Result<ServerStats, DecodeError> {
        let element = self.step()?;
        let from = self.rest;
        // Skipped first, so that what it announces is known to be there before memory is taken for it.
        skip(&mut self.rest, element)?;
        let bytes = &from[..from.len() - self.rest.len()];
        rmp_serde::from_slice(bytes)
            .map_err(|error| DecodeError::Stats { element, reason: error.to_string() })
    }

    /// A number, or `max`.
    fn speed(&mut self) -> Result<Speed, DecodeError> {
        let element = self.step()?;
        let truncated = |_| DecodeError::Truncated { element };
        let out_of_range = DecodeError::OutOfRange { element, what: "a speed" };
        let factor = match self.rest.first() {
            Some(0xca) => decode::read_f32(&mut self.rest).map(f64::from).map_err(truncated)?,
            Some(0xcb) => decode::read_f64(&mut self.rest).map_err(truncated)?,
            Some(0xa0..=0xbf | 0xd9..=0xdb) => {
                return text(&mut self.rest, element)?.parse().map_err(|_| out_of_range);
            }
            _ => {
                let whole = int(&mut self.rest, element)?;
                i32::try_from(whole).map(f64::from).map_err(|_| out_of_range.clone())?
            }
        };
        Speed::times(factor).ok_or(out_of_range)
    }

    /// A map: one element of the array, whatever is in it.
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
            let price = |value: Option<i128>| {
                let Some(value) = value else { return Ok(Price::NONE) };
                Price::from_units(value).ok_or_else(|| bad(format!("{value} is beyond 10^28 units")))
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
                "tick_size" => definition.tick_size = price(Some(units(rest, element)?))?.units(),
                "anchor" => definition.anchor = price(optional_units(rest, element)?)?,
                "previous_close" => definition.previous_close = price(optional_units(rest, element)?)?,
                // Fields that a later server may add.
                _ => skip(rest, element)?,
            }
        }
        let symbol = symbol.ok_or_else(|| bad("it has no symbol".to_owned()))?;
        Ok(Instrument { id, symbol, ..definition })
    }
}

/// `from` plus `value`, in µs since 1970, if a `Timestamp` can hold it.
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

fn units(rest: &mut &[u8], element: usize) -> Result<i128, DecodeError> {
    match rest.first() {
        Some(0xa0..=0xbf | 0xd9..=0xdb) => {
            let digits = text(rest, element)?.parse().ok();
            // A number has one form only: digits where an integer does not fit.
            let is_large = |value: &i128| value.unsigned_abs() > SAFE_INTEGER.unsigned_abs().into();
            digits.filter(is_large).ok_or(DecodeError::OutOfRange { element, what: "an integer" })
        }
        _ => int(rest, element).map(i128::from),
    }
}

fn optional_units(rest: &mut &[u8], element: usize) -> Result<Option<i128>, DecodeError> {
    match rest {
        [0xc0, after @ ..] => {
            *rest = after;
            Ok(None)
        }
        _ => units(rest, element).map(Some),
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

/// Skips one value of any type, without recursion.
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
