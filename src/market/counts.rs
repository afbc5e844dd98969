use super::{Interval, UnknownName};
use std::fmt;
use std::ops::BitAnd;
use std::str::FromStr;

/// What a trade counts for in bars and days. `trades:` topics deliver every trade, whatever it counts for.
///
/// Bars of a second and a minute have rules of their own, different from the day's, as on the consolidated
/// tapes: a print of the extended hours is a price of its minute, and none of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts(u8);

impl Counts {
    /// Only `trades:` topics show it.
    pub const NOTHING: Self = Self(0);
    /// Its size is part of the volume, and so of the VWAP, and it is one of the trades that are counted.
    pub const VOLUME: Self = Self(1);
    /// It may be the high or the low of its second and minute.
    pub const BARS_HIGH_LOW: Self = Self(2);
    /// It may be the open or the close of its second and minute.
    pub const BARS_LAST: Self = Self(4);
    /// It may be the high or the low of its day.
    pub const DAY_HIGH_LOW: Self = Self(8);
    /// It may be the open or the close of its day.
    pub const DAY_LAST: Self = Self(16);
    /// [`Self::BARS_HIGH_LOW`] and [`Self::DAY_HIGH_LOW`].
    pub const HIGH_LOW: Self = Self(2 | 8);
    /// [`Self::BARS_LAST`] and [`Self::DAY_LAST`].
    pub const LAST: Self = Self(4 | 16);
    /// Volume, and high, low and last of both widths; no break and no correction.
    pub const EVERYTHING: Self = Self(31);
    /// It is no trade but takes one back: its other bits are what that one counted for.
    pub const BREAK: Self = Self(32);
    /// It replaces one that was taken back: it counts in the bars of its time even if they are closed.
    pub const CORRECTION: Self = Self(64);

    /// All names; `high_low` and `last` come first because each means both widths.
    pub const NAMES: [(&str, Self); 9] = [
        ("volume", Self::VOLUME),
        ("high_low", Self::HIGH_LOW),
        ("last", Self::LAST),
        ("bars_high_low", Self::BARS_HIGH_LOW),
        ("bars_last", Self::BARS_LAST),
        ("day_high_low", Self::DAY_HIGH_LOW),
        ("day_last", Self::DAY_LAST),
        ("break", Self::BREAK),
        ("correction", Self::CORRECTION),
    ];

    /// `None` if a bit of `bits` is undefined.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 128 { Some(Self(bits)) } else { None }
    }

    /// 1 volume, 2 high and low of bars, 4 last of bars, 8 high and low of the day, 16 last of the day; 32 a
    /// break, 64 a correction.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// All that either counts for.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it counts for all of `other`.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether it is exactly [`Self::EVERYTHING`].
    #[must_use]
    pub const fn is_everything(self) -> bool {
        self.0 == Self::EVERYTHING.0
    }

    /// Whether it takes a trade back.
    #[must_use]
    pub const fn is_break(self) -> bool {
        self.has(Self::BREAK)
    }

    /// Without the bits of a break and a correction.
    #[must_use]
    pub const fn plain(self) -> Self {
        Self(self.0 & Self::EVERYTHING.0)
    }

    /// Whether it may be the high or the low in an interval.
    #[must_use]
    pub const fn sets_high_low(self, interval: Interval) -> bool {
        self.has(match interval {
            Interval::Second | Interval::Minute => Self::BARS_HIGH_LOW,
            Interval::Day => Self::DAY_HIGH_LOW,
        })
    }

    /// Whether it may be the open or the close in an interval.
    #[must_use]
    pub const fn sets_last(self, interval: Interval) -> bool {
        self.has(match interval {
            Interval::Second | Interval::Minute => Self::BARS_LAST,
            Interval::Day => Self::DAY_LAST,
        })
    }

    /// The fewest names that describe it.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let mut told = Self::NOTHING;
        Self::NAMES.into_iter().filter_map(move |(name, what)| {
            let is_new = self.has(what) && !told.has(what);
            told = if is_new { told.and(what) } else { told };
            is_new.then_some(name)
        })
    }
}

impl Default for Counts {
    /// A trade counts for everything unless stated otherwise.
    fn default() -> Self {
        Self::EVERYTHING
    }
}

impl BitAnd for Counts {
    type Output = Self;
    /// The stricter of two rules.
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for Counts {
    /// Its names, separated by spaces, or `nothing`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NOTHING {
            return f.write_str("nothing");
        }
        for (index, name) in self.names().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

impl FromStr for Counts {
    type Err = UnknownName;

    /// Names separated by spaces, in any order; `nothing` and `everything` may be combined with others.
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        text.split_whitespace().try_fold(Self::NOTHING, |counts, word| {
            let known = Self::NAMES.iter().find(|(name, _)| *name == word).map(|&(_, what)| what);
            let known = known.or(match word {
                "nothing" => Some(Self::NOTHING),
                "everything" => Some(Self::EVERYTHING),
                _ => None,
            });
            known.map(|what| counts.and(what)).ok_or_else(|| UnknownName {
                what: "thing to count for",
                text: word.chars().take(40).collect(),
                expected: Self::NAMES.map(|(name, _)| name).join(", "),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_trade_counts_for_has_names_that_read_back() {
        let check = |counts: Counts, text: &str| {
            assert_eq!(counts.to_string(), text);
            assert_eq!(text.parse(), Ok(counts));
        };
        check(Counts::NOTHING, "nothing");
        check(Counts::VOLUME, "volume");
        check(Counts::EVERYTHING, "volume high_low last");
        check(Counts::VOLUME.and(Counts::DAY_HIGH_LOW), "volume day_high_low");
        check(Counts::VOLUME.and(Counts::HIGH_LOW).and(Counts::BARS_LAST), "volume high_low bars_last");
        for bits in 0..128 {
            let counts = Counts::from_bits(bits).unwrap();
            assert_eq!(counts.to_string().parse(), Ok(counts));
        }
        check(Counts::EVERYTHING.and(Counts::BREAK), "volume high_low last break");
        assert_eq!(Counts::from_bits(128), None);
        assert_eq!("everything".parse(), Ok(Counts::EVERYTHING));
        let wrong = "volume hihg".parse::<Counts>().unwrap_err().to_string();
        assert!(wrong.starts_with("unknown thing to count for \"hihg\": expected one of volume, high_low"));
    }
}
