use super::Timestamp;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// A value of an extension type of `MessagePack`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// JavaScript's `undefined`, as msgpackr writes it (type 0, one byte 0) and `@msgpack/msgpack` can: no
    /// value.
    Undefined,
    /// The predefined type -1.
    Timestamp(Timestamp),
}

impl<'de> Deserialize<'de> for Extension {
    /// Reads the type and the bytes that `rmp_serde` passes as a newtype's content.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, Content(bytes, len)) = <(i8, Content)>::deserialize(deserializer)?;
        let bytes = bytes.get(..len).unwrap_or_default();
        match (kind, bytes) {
            (0, [0]) => Ok(Self::Undefined),
            (-1, bytes) => {
                let time = timestamp(bytes).ok_or_else(|| D::Error::custom("a timestamp out of range"))?;
                Ok(Self::Timestamp(time))
            }
            _ => Err(D::Error::custom(format!("extension type {kind} means nothing here"))),
        }
    }
}

/// 32, 64 or 96 bits: seconds; nanoseconds and seconds; nanoseconds, then seconds with a sign.
fn timestamp(bytes: &[u8]) -> Option<Timestamp> {
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, &byte| (number << 8) | u64::from(byte));
    let (seconds, nanos) = match bytes.len() {
        4 => (i64::try_from(number(bytes)).ok()?, 0),
        8 => (i64::try_from(number(bytes) & ((1 << 34) - 1)).ok()?, number(bytes) >> 34),
        12 => (number(&bytes[4..]).cast_signed(), number(&bytes[..4])),
        _ => return None,
    };
    let nanos = i64::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos).map(Timestamp::from_nanos)
}

/// The first bytes of an extension, and its length: no known one has more than twelve.
struct Content([u8; 12], usize);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Content;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the bytes of an extension")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Content, E> {
                let mut first = [0; 12];
                let len = bytes.len().min(12);
                first[..len].copy_from_slice(&bytes[..len]);
                Ok(Content(first, bytes.len()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_of_each_width_are_exact() {
        let check = |bytes: &[u8], expected: Option<&str>| {
            assert_eq!(timestamp(bytes).map(|time| time.to_string()).as_deref(), expected);
        };
        check(&[0, 0, 0, 1], Some("1970-01-01T00:00:01Z"));
        check(&[0xff; 4], Some("2106-02-07T06:28:15Z"));
        let both = ((123_456_789_u64 << 34) + 1_709_251_200).to_be_bytes();
        check(&both, Some("2024-03-01T00:00:00.123456789Z"));
        check(
            &[&500_000_000_u32.to_be_bytes()[..], &(-1_i64).to_be_bytes()].concat(),
            Some("1969-12-31T23:59:59.5Z"),
        );
        check(&[&1_000_000_000_u32.to_be_bytes()[..], &0_i64.to_be_bytes()].concat(), None);
        check(&[&0_u32.to_be_bytes()[..], &i64::MAX.to_be_bytes()].concat(), None);
        check(&[0; 5], None);
    }
}
