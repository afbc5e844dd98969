//! The values of a scenario file, each with its range: a value out of range is reported with its line.

use crate::market::Timestamp;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;

/// A length of time, or a moment counted from the start: `90s`, `5m30s`, `1h`, `250ms`. Up to 30 days, in
/// whole nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(i64);

const MAX_LENGTH: i64 = 30 * 86_400 * 1_000_000_000;

impl Length {
    /// `None` beyond 30 days.
    #[must_use]
    pub fn from_nanos(nanos: i64) -> Option<Self> {
        (0..=MAX_LENGTH).contains(&nanos).then_some(Self(nanos))
    }

    #[must_use]
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// May be as long as two of the longest.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = format!("{:#}", jiff::SignedDuration::from_nanos(self.0));
        f.pad(&shown.replace(' ', ""))
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time up to 30 days such as \"5m30s\", \"10s\" or \"250ms\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Length, E> {
                let parsed = text.parse::<jiff::SignedDuration>().ok();
                parsed
                    .and_then(|length| i64::try_from(length.as_nanos()).ok())
                    .and_then(Length::from_nanos)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }
        from.deserialize_str(Text)
    }
}

/// A moment in RFC 3339.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(pub Timestamp);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A number of a range, named by what it is.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident($type:ty), $range:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Serialize)]
        pub(super) struct $name(pub $type);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let number = <$type>::deserialize(from)?;
                if ($range).contains(&number) {
                    return Ok(Self(number));
                }
                Err(D::Error::custom(format!(concat!("{} is out of range: expected ", $expected), number)))
            }
        }
    };
}

number!(
    /// A change of price.
    Percent(f64), -99.0..=1000.0, "a percentage from -99 to 1000"
);
number!(
    /// How many times as much as usual.
    Factor(f64), 0.1..=20.0, "a factor from 0.1 to 20"
);
number!(
    /// Of an event.
    Probability(f64), 0.0..=1.0, "a probability from 0 to 1"
);
number!(
    /// Ticks a second.
    Rate(NonZeroU32), NonZeroU32::MIN..=NonZeroU32::new(1_000_000).unwrap_or(NonZeroU32::MAX), "ticks a second from 1 to 1000000"
);
number!(
    /// How many are listed.
    Symbols(u32), 1..=100_000, "a number of symbols from 1 to 100000"
);

impl Default for Probability {
    fn default() -> Self {
        Self(1.0)
    }
}
