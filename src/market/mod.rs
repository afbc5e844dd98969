//! The market's types: symbols, instruments, prices, quotes, trades, bars. No I/O.
//!
//! At the edges, prices and sizes are [`rust_decimal::Decimal`]s; inside they are integers at their
//! instrument's scale. Only [`Instruments`] converts between the two.

mod bar;
mod channel; // messages beside the market
mod counts; // what a trade counts for in bars and days
mod decimal;
mod event;
mod extension;
mod instrument;
mod instruments;
mod named_trades; // those that can be taken back by name
mod number;
mod printable;
mod recall; // what happened before the tape
mod snapshot; // what a checkpoint keeps of an instrument
mod symbol;
mod time;
mod turnover;
#[cfg(feature = "server")]
mod universe;

pub use bar::{Bar, Interval};
pub use channel::{Json, Message, Post, Posted, Sender, State, TooLong, Word};
pub use counts::Counts;
pub use decimal::{decimal_text, parse_decimal, put_decimal};
pub use event::*; // all of it: a new event is exported by being there
pub use extension::Extension;
pub use instrument::{Instrument, InstrumentId};
pub use instruments::{Instruments, QuoteValues};
pub use named_trades::{NamedTrade, NamedTrades};
pub use number::{MAX_SCALE, NumberError, Price, SAFE_INTEGER, Size};
pub use printable::Printable;
pub use recall::{Recall, Recalled};
pub use snapshot::{BarsSnapshot, Newest, Snapshot, Tail};
pub use symbol::{Symbol, SymbolError};
pub use time::{Timestamp, TimestampError};
pub use turnover::Turnover;
#[cfg(feature = "server")]
pub use universe::{Listing, Universe, UniverseError};
