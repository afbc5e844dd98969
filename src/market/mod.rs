//! The words the rest is written in: symbols, instruments, prices, quotes, trades, bars. No I/O.
//!
//! Outside, prices and sizes are [`rust_decimal::Decimal`]s; inside they are integers at their
//! instrument's scale. [`Instruments`] is the one door between the two.

mod bar;
mod event;
mod instrument;
mod instruments;
mod number;
mod snapshot; // what a checkpoint keeps of an instrument
mod stats;
mod symbol;
mod time;
mod universe;

pub use bar::{Bar, Interval};
pub use event::{
    Conditions, Event, FeedKind, FeedState, FeedStatus, Quote, Side, Speed, Status, Trade, TradingState,
    UnknownName,
};
pub use instrument::{Instrument, InstrumentId};
pub use instruments::{Instruments, QuoteValues};
pub use number::{MAX_PRICE_UNITS, MAX_SCALE, MAX_UNITS, NumberError, Price, Size, parse_decimal};
pub use snapshot::{BarsSnapshot, Snapshot, Tail};
pub use stats::{
    FeedStats, LatencyStats, ServerStats, SessionStats, ShardStats, SlowSession, TapeStats, TopicStats,
    TopicsStats,
};
pub use symbol::{Symbol, SymbolError};
pub use time::{Timestamp, TimestampError};
pub use universe::{Listing, Universe, UniverseError};
