//! `MessagePack` values read from memory. Any thread: pure.
//! Invariant: it never reads past the bytes given to it; more may follow, so their end is an error of its
//! own.

use super::MAX_TEXT;
use super::RecordingError;
use crate::market::Turnover;

/// Reads `MessagePack` from memory. A value that goes past the end is [`RecordingError::Truncated`]: more
/// bytes may follow.
///
/// By hand, because a replay at full speed mostly does this, and `rmp` reads any source a byte at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

type Result<T> = std::result::Result<T, RecordingError>;

const NIL: u8 = 0xc0;
const F64: u8 = 0xcb;
const BIN: u8 = 0xc4;

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    /// The first byte of the next value.
    pub fn peek(&self) -> Result<u8> {
        self.rest.first().copied().ok_or(RecordingError::Truncated)
    }

    /// Whether a map is next.
    pub fn is_map(&self) -> Result<bool> {
        Ok(matches!(self.peek()?, 0x80..=0x8f | 0xde | 0xdf))
    }

    /// Whether an integer of more than 64 bits is next, which [`Self::wide`] reads.
    #[inline]
    pub fn is_wide(&self) -> Result<bool> {
        Ok(self.peek()? == BIN)
    }

    /// Whether a float is next.
    pub fn is_float(&self) -> Result<bool> {
        Ok(self.peek()? == F64)
    }

    /// Consumes a nil, if one is next.
    #[inline]
    pub fn take_nil(&mut self) -> Result<bool> {
        let is_nil = self.peek()? == NIL;
        if is_nil {
            self.rest = &self.rest[1..];
        }
        Ok(is_nil)
    }

    #[inline]
    pub fn int(&mut self, what: &'static str) -> Result<i64> {
        let marker = self.byte()?;
        Ok(match marker {
            0x00..=0x7f => marker.into(),
            0xe0..=0xff => marker.cast_signed().into(),
            0xcc => self.byte()?.into(),
            0xcd => u16::from_be_bytes(self.bytes()?).into(),
            0xce => u32::from_be_bytes(self.bytes()?).into(),
            0xcf => i64::try_from(u64::from_be_bytes(self.bytes()?)).map_err(|_| out_of_range(what))?,
            0xd0 => self.byte()?.cast_signed().into(),
            0xd1 => i16::from_be_bytes(self.bytes()?).into(),
            0xd2 => i32::from_be_bytes(self.bytes()?).into(),
            0xd3 => i64::from_be_bytes(self.bytes()?),
            _ => return Err(RecordingError::Unexpected { what, expected: "a whole number" }),
        })
    }

    #[inline]
    pub fn uint(&mut self, what: &'static str) -> Result<u64> {
        if self.rest.first() == Some(&0xcf) {
            self.rest = &self.rest[1..];
            return Ok(u64::from_be_bytes(self.bytes()?));
        }
        u64::try_from(self.int(what)?).map_err(|_| out_of_range(what))
    }

    #[inline]
    pub fn number(&mut self, what: &'static str) -> Result<u32> {
        u32::try_from(self.int(what)?).map_err(|_| out_of_range(what))
    }

    /// An integer of any size that [`super::writer::put_wide`] wrote.
    pub fn wide(&mut self, what: &'static str) -> Result<i128> {
        if !self.is_wide()? {
            return self.int(what).map(Into::into);
        }
        match self.bytes::<2>()? {
            [_, 16] => Ok(i128::from_be_bytes(self.bytes()?)),
            _ => Err(RecordingError::Unexpected { what, expected: "16 bytes" }),
        }
    }

    /// A turnover of any size that [`super::snapshot`] wrote.
    pub fn turnover(&mut self, what: &'static str) -> Result<Turnover> {
        if self.rest.starts_with(&[BIN, 32]) {
            self.rest = &self.rest[2..];
            return Ok(Turnover::from_bytes(self.bytes()?));
        }
        self.wide(what).map(Turnover::from)
    }

    pub fn boolean(&mut self, what: &'static str) -> Result<bool> {
        match self.byte()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(RecordingError::Unexpected { what, expected: "true or false" }),
        }
    }

    pub fn float(&mut self) -> Result<f64> {
        self.byte()?;
        self.bytes().map(f64::from_be_bytes)
    }

    #[inline]
    pub fn array_len(&mut self, what: &'static str) -> Result<usize> {
        let marker = self.byte()?;
        Ok(match marker {
            0x90..=0x9f => usize::from(marker & 0x0f),
            0xdc => u16::from_be_bytes(self.bytes()?).into(),
            0xdd => u32::from_be_bytes(self.bytes()?) as usize,
            _ => return Err(RecordingError::Unexpected { what, expected: "an array" }),
        })
    }

    pub fn map_len(&mut self, what: &'static str) -> Result<usize> {
        let marker = self.byte()?;
        Ok(match marker {
            0x80..=0x8f => usize::from(marker & 0x0f),
            0xde => u16::from_be_bytes(self.bytes()?).into(),
            0xdf => u32::from_be_bytes(self.bytes()?) as usize,
            _ => return Err(RecordingError::Unexpected { what, expected: "a map" }),
        })
    }

    #[inline]
    pub fn text(&mut self, what: &'static str) -> Result<&'a str> {
        let marker = self.byte()?;
        let len = match marker {
            0xa0..=0xbf => usize::from(marker & 0x1f),
            0xd9 => self.byte()?.into(),
            0xda => u16::from_be_bytes(self.bytes()?).into(),
            0xdb => u32::from_be_bytes(self.bytes()?) as usize,
            _ => return Err(RecordingError::Unexpected { what, expected: "text" }),
        };
        if len > MAX_TEXT {
            return Err(RecordingError::TooLarge { what, max: MAX_TEXT });
        }
        let (text, rest) = self.rest.split_at_checked(len).ok_or(RecordingError::Truncated)?;
        self.rest = rest;
        std::str::from_utf8(text).map_err(|_| RecordingError::Unexpected { what, expected: "UTF-8 text" })
    }

    #[inline]
    fn byte(&mut self) -> Result<u8> {
        let (&byte, rest) = self.rest.split_first().ok_or(RecordingError::Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(RecordingError::Truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }
}

#[cold]
fn out_of_range(what: &'static str) -> RecordingError {
    RecordingError::Unexpected { what, expected: "a whole number in its range" }
}
