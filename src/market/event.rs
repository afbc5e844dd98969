use super::{Instrument, InstrumentId, Price, ServerStats, Size, Snapshot, Timestamp};
use std::{fmt, str::FromStr, sync::Arc};

/// One thing that happened, as it stands on the tape.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A new instrument, or changed reference data of a known one. Stands before the first event that needs it.
    Instrument(Arc<Instrument>),
    Quote(InstrumentId, Quote),
    Trade(InstrumentId, Trade),
    /// The trading state of one instrument, or of the whole market (`None`).
    Status(Option<InstrumentId>, Status),
    /// What feeds this tape and how it does.
    Feed(FeedStatus),
    /// All that is known of an instrument, in place of the events that led to it: where a reader begins in the middle of a recording.
    Snapshot(InstrumentId, Arc<Snapshot>),
    /// The tape goes on at another moment of what it plays: all that was known before is void, the numbers of instruments included.
    /// Stands first in its batch, whose other events say how the market stands there.
    Reset,
    /// What the server at this tape tells of itself; `None` where it stops to, as nobody watches any more.
    Stats(Option<Arc<ServerStats>>),
}

/// The best bid and offer. Both sides are stated; an empty side has [`Price::NONE`] and size 0.
/// Crossed quotes (bid above ask) are kept as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    pub bid: Price,
    pub bid_size: Size,
    pub ask: Price,
    pub ask_size: Size,
    /// The venue's time; the time of arrival where the venue gives none.
    pub ts_event: Timestamp,
    /// The time of arrival.
    pub ts_recv: Timestamp,
}

/// One trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    pub price: Price,
    pub size: Size,
    pub side: Side,
    pub conditions: Conditions,
    /// The venue's time; the time of arrival where the venue gives none.
    pub ts_event: Timestamp,
    /// The time of arrival.
    pub ts_recv: Timestamp,
}

/// Who took liquidity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    Buy,
    Sell,
    /// Not told, or a cross.
    #[default]
    None,
}

/// Up to four letters of sale conditions as in NYSE TAQ; inner blanks count (`F I`), trailing ones do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions([u8; 4]);

/// The trading state of a market or an instrument, since `ts_event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: TradingState,
    pub ts_event: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradingState {
    PreOpen,
    Open,
    Halted,
    Closed,
}

/// What feeds a tape. Clients show it so that nobody takes a simulation for the market.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FeedStatus {
    pub kind: FeedKind,
    pub state: FeedState,
    pub speed: Speed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedKind {
    Simulator,
    Replay,
    Publisher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedState {
    Live,
    /// Events are due and none comes.
    Stale,
    Paused,
    /// A recording was played to its end.
    Ended,
}

/// How fast a feed's clock runs against the wall's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// 1 is real time; above 0.
    Times(f64),
    /// As fast as the machine can.
    Max,
}

/// A word that is none of the names expected here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {text:?}: expected one of {expected}")]
pub struct UnknownName {
    pub what: &'static str,
    pub text: String,
    pub expected: String,
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
    /// `None` where `text` is longer than four bytes or not printable ASCII.
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

    #[must_use]
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(4);
        std::str::from_utf8(&self.0[..len]).unwrap_or_default()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0[0] == 0
    }
}

/// Ties each value of an enum to the one word it has on every wire and in every file.
macro_rules! names {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

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
names!(FeedState, "feed state", Live = "live", Stale = "stale", Paused = "paused", Ended = "ended");

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
        match text {
            "max" => Ok(Self::Max),
            _ => text
                .parse()
                .ok()
                .filter(|factor: &f64| (0.001..=1_000_000.0).contains(factor))
                .map(Self::Times)
                .ok_or_else(|| UnknownName {
                    what: "speed",
                    text: text.chars().take(40).collect(),
                    expected: "max, or a number from 0.001 to 1000000".to_owned(),
                }),
        }
    }
}
