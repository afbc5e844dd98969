use super::{Counts, Instrument, InstrumentId, Posted, Price, Size, Snapshot, Timestamp};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::ops::RangeInclusive;
use std::{fmt, str::FromStr, sync::Arc};

/// One event on the tape.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new instrument, or changed reference data of a known one. Comes before the first event that needs
    /// it.
    Instrument(Arc<Instrument>),
    /// The best bid and offer of one instrument, in place of the one before.
    Quote(InstrumentId, Quote),
    /// A trade in one instrument, or one that takes a trade back.
    Trade(InstrumentId, Trade),
    /// The trading state of one instrument, or of the whole market (`None`).
    Status(Option<InstrumentId>, Status),
    /// The feed of this tape, and its state.
    Feed(FeedStatus),
    /// All that is known of an instrument, in place of the events before: where reading a recording begins in
    /// the middle.
    Snapshot(InstrumentId, Arc<Snapshot>),
    /// A message of a channel, or a state in one, which are no part of the market.
    Posted(Posted),
    /// The tape goes on at another moment of what it plays: everything known of the market before is void,
    /// including the numbers of instruments. Comes first in its batch, whose other events rebuild the market
    /// there.
    Reset,
}

/// The best bid and offer. Both sides are given; an empty side has [`Price::NONE`] and size 0.
/// Crossed quotes (bid above ask) are kept as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// In units of the instrument's price scale.
    pub bid: Price,
    /// In units of the instrument's size scale.
    pub bid_size: Size,
    /// In units of the instrument's price scale.
    pub ask: Price,
    /// In units of the instrument's size scale.
    pub ask_size: Size,
    /// The venue's time; the time of arrival if the venue gives none.
    pub ts_event: Timestamp,
    /// The time of arrival.
    pub ts_recv: Timestamp,
}

/// One trade, or one that takes a trade back ([`Counts::is_break`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    /// In units of the instrument's price scale.
    pub price: Price,
    /// In units of the instrument's size scale.
    pub size: Size,
    /// The aggressor's, if known.
    pub side: Side,
    /// The venue's sale conditions; may be empty.
    pub conditions: Conditions,
    /// What it counts for in bars and days.
    pub counts: Counts,
    /// Set by a replica, 0 before. Of a trade: in which bars it counted (1 seconds, 2 minutes, 4 the day). Of
    /// a break: how many trades before it is the one that it takes back, if that is known.
    pub booked: u16,
    /// The venue's time; the time of arrival if the venue gives none.
    pub ts_event: Timestamp,
    /// The time of arrival.
    pub ts_recv: Timestamp,
}

/// Who took liquidity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The buyer did.
    Buy,
    /// The seller did.
    Sell,
    /// Unknown, or a cross.
    #[default]
    None,
}

/// Up to four letters of sale conditions as in NYSE TAQ; inner blanks count (`F I`), trailing ones do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions([u8; 4]);

/// The trading state of a market or an instrument, since `ts_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What holds from `ts_event` on.
    pub state: TradingState,
    /// The venue's time; the time of arrival if the venue gives none.
    pub ts_event: Timestamp,
}

/// Whether there is trading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradingState {
    /// Orders are collected before the open.
    PreOpen,
    /// Continuous trading.
    Open,
    /// Interrupted during the day.
    Halted,
    /// Until the next trading day.
    Closed,
}

/// What feeds a tape. Clients show it so that nobody takes a simulation for the market.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedStatus {
    /// Its source.
    pub kind: FeedKind,
    /// Whether it runs.
    pub state: FeedState,
    /// How fast it is played; always 1 for publishers.
    pub speed: Speed,
}

/// The source of a tape's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedKind {
    /// A generated market.
    Simulator,
    /// A recording.
    Replay,
    /// Programs that publish, and no feed.
    Publisher,
}

/// Whether a feed runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedState {
    /// Events come as they are due.
    Live,
    /// Events are due and none comes.
    Stale,
    /// By a control; its clock does not run.
    Paused,
    /// A recording was played to its end.
    Ended,
    /// A seek to another moment is running; the feed goes on as it was until that ends.
    Seeking,
}

/// How fast a feed's clock runs against the wall clock. It is written as a number, or the word `max`: in
/// flags and URLs, on every wire, in files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// 1 is real time; within [`Speed::RANGE`].
    Times(f64),
    /// As fast as possible.
    Max,
}

/// A word that is none of the expected names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {text:?}: expected one of {expected}")]
pub struct UnknownName {
    /// The kind of name, such as `feed kind`.
    pub what: &'static str,
    /// The word, up to its 40th character.
    pub text: String,
    /// All valid names, separated by commas.
    pub expected: String,
}

impl Event {
    /// The instrument of the event; `None` if it concerns the whole market or the server, or is a definition.
    #[must_use]
    pub fn instrument(&self) -> Option<InstrumentId> {
        match self {
            &Self::Quote(id, _) | &Self::Trade(id, _) | &Self::Snapshot(id, _) => Some(id),
            &Self::Status(id, _) => id,
            Self::Instrument(_) | Self::Feed(_) | Self::Posted(_) | Self::Reset => None,
        }
    }

    /// Whether it is of the market: what recordings and exports hold.
    #[must_use]
    pub fn is_of_market(&self) -> bool {
        !matches!(self, Self::Posted(_))
    }

    /// Passes each time in it to `change`. Those of a snapshot stay.
    pub fn each_time(&mut self, mut change: impl FnMut(&mut Timestamp)) {
        match self {
            Self::Quote(_, quote) => [&mut quote.ts_event, &mut quote.ts_recv].into_iter().for_each(change),
            Self::Trade(_, trade) => [&mut trade.ts_event, &mut trade.ts_recv].into_iter().for_each(change),
            Self::Status(_, status) => change(&mut status.ts_event),
            Self::Posted(posted) => drop(posted.ts_event_mut().map(change)),
            Self::Instrument(_) | Self::Feed(_) | Self::Snapshot(..) | Self::Reset => {}
        }
    }

    /// Moves its times this much later, in ns.
    pub fn put_off(&mut self, nanos: i64) {
        self.each_time(|time| *time = time.plus_nanos(nanos));
    }
}

impl Quote {
    /// The same quote with prices `price` and sizes `size` digits finer.
    #[must_use]
    pub fn refined(&self, price: u8, size: u8) -> Self {
        Self {
            bid: self.bid.refined(price),
            bid_size: self.bid_size.refined(size),
            ask: self.ask.refined(price),
            ask_size: self.ask_size.refined(size),
            ..*self
        }
    }
}

impl Trade {
    /// The same trade with prices `price` and sizes `size` digits finer.
    #[must_use]
    pub fn refined(&self, price: u8, size: u8) -> Self {
        Self { price: self.price.refined(price), size: self.size.refined(size), ..*self }
    }
}

impl Conditions {
    /// `None` if `text` is longer than four bytes or not printable ASCII.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim_end().as_bytes();
        if text.len() > 4 || text.iter().any(|b| !(b' '..=b'~').contains(b)) {
            return None;
        }
        let mut bytes = [0; 4];
        bytes[..text.len()].copy_from_slice(text);
        Some(Self(bytes))
    }

    /// As many codes of a list as fit, from the first on: `12` of `12,37,41`, and none of `OddLot`.
    /// Separators are commas, semicolons and bars.
    #[must_use]
    pub fn fitting(text: &str) -> Self {
        let text = text.trim();
        let ends = text.match_indices([',', ';', '|']).map(|(at, _)| at).chain([text.len()]);
        ends.filter_map(|end| Self::new(&text[..end])).next_back().unwrap_or_default()
    }

    /// Without trailing blanks.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(4);
        std::str::from_utf8(&self.0[..len]).unwrap_or_default()
    }

    /// Whether it has no code.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }
}

/// Gives each value of an enum its one word, the same on every wire and in every file.
macro_rules! names {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// In the order in which errors list them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its word on every wire and in every file.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $type {
            type Err = UnknownName;
            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|v| v.name() == text).ok_or_else(|| UnknownName {
                    what: $what,
                    text: text.chars().take(40).collect(),
                    expected: Self::ALL.iter().map(|v| v.name()).collect::<Vec<_>>().join(", "),
                })
            }
        }
    };
}

names!(Side, "side", Buy = "buy", Sell = "sell", None = "none");
names!(
    TradingState,
    "trading state",
    PreOpen = "pre-open",
    Open = "open",
    Halted = "halted",
    Closed = "closed"
);
names!(FeedKind, "feed kind", Simulator = "simulator", Replay = "replay", Publisher = "publisher");
names!(
    FeedState,
    "feed state",
    Live = "live",
    Stale = "stale",
    Paused = "paused",
    Ended = "ended",
    Seeking = "seeking"
);

impl Speed {
    /// Valid factors.
    pub const RANGE: RangeInclusive<f64> = 0.001..=1_000_000.0;
    /// What a speed may be, for errors.
    pub const EXPECTED: &str = "a number from 0.001 to 1000000, or \"max\"";

    /// `None` if the factor is outside of [`Self::RANGE`].
    #[must_use]
    pub fn times(factor: f64) -> Option<Self> {
        Self::RANGE.contains(&factor).then_some(Self::Times(factor))
    }

    fn of_word(word: &str) -> Option<Self> {
        (word == "max").then_some(Self::Max)
    }
}

impl Default for Speed {
    /// Real time.
    fn default() -> Self {
        Self::Times(1.0)
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(factor) => write!(f, "{factor}"),
            Self::Max => f.write_str("max"),
        }
    }
}

impl FromStr for Speed {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let times = || Self::times(text.parse().ok()?);
        Self::of_word(text).or_else(times).ok_or_else(|| UnknownName {
            what: "speed",
            text: text.chars().take(40).collect(),
            expected: Self::EXPECTED.to_owned(),
        })
    }
}

impl Serialize for Speed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Times(factor) => to.serialize_f64(*factor),
            Self::Max => to.serialize_str("max"),
        }
    }
}

impl<'de> Deserialize<'de> for Speed {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reads;

        impl Visitor<'_> for Reads {
            type Value = Speed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Speed::EXPECTED)
            }

            fn visit_f64<E: de::Error>(self, factor: f64) -> Result<Speed, E> {
                let wrong = || E::invalid_value(Unexpected::Float(factor), &self);
                Speed::times(factor).ok_or_else(wrong)
            }

            #[expect(clippy::cast_precision_loss, reason = "what is beyond 2^53 is out of range")]
            fn visit_u64<E: de::Error>(self, factor: u64) -> Result<Speed, E> {
                let wrong = || E::invalid_value(Unexpected::Unsigned(factor), &self);
                Speed::times(factor as f64).ok_or_else(wrong)
            }

            fn visit_i64<E: de::Error>(self, factor: i64) -> Result<Speed, E> {
                let wrong = || E::invalid_value(Unexpected::Signed(factor), &self);
                u64::try_from(factor).map_err(|_| wrong()).and_then(|factor| self.visit_u64(factor))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Speed, E> {
                let shown: String = word.chars().take(40).collect();
                let wrong = || E::invalid_value(Unexpected::Str(&shown), &self);
                Speed::of_word(word).ok_or_else(wrong)
            }
        }

        from.deserialize_any(Reads)
    }
}
