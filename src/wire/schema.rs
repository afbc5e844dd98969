//! The words of `tickcast.v1`, each in one table. Codecs, requests, close codes and clients use it;
//! `tests/vectors/schema.json` is written from it for clients in other languages. Pure data; any thread.
//!
//! Invariant: each name and number of the protocol is here once. Names that the market has anyway (states,
//! sides, kinds of topics) are not repeated here; their numbers are.

use super::fields::{
    CountUnit, HundredthUnit, MomentUnit, PriceUnit, SecondUnit, SizeUnit, Unit as _, fields, images,
};
use super::msgpack::MsgpackUpdate;
use super::reader::{DecodeError, Reader};
use crate::hub::{Image, Kind, bar_field, quote_field, watchers_field};
use crate::market::{Bar, Instrument, Price, Quote, Side, Size, Timestamp};
use serde_json::{Map, Value};
use std::time::Duration;

/// Tags of an update's entries in MessagePack form.
pub mod tag {
    /// Plus the mask of fields, 1 to 15.
    pub const QUOTE: u8 = 0;
    /// Plus the mask of fields, 1 to 15; `ts_event` follows the fields.
    pub const QUOTE_WITH_TIME: u8 = 16;
    /// Trades that follow those before; a count, then the run.
    pub const TRADES: u8 = 32;
    /// The same with the number of the first one before the count.
    pub const TRADES_NUMBERED: u8 = 33;
    /// The latest bar of one second; a mask, then its fields.
    pub const BAR_1S: u8 = 40;
    /// The latest bar of one minute; likewise.
    pub const BAR_1M: u8 = 41;
    /// The bar of the day; likewise.
    pub const DAY: u8 = 42;
    /// How many sessions watch the instrument; a mask, then its field.
    pub const WATCHERS: u8 = 43;
    /// Closed bars of one second that follow those before; a count, then all fields of each.
    pub const CLOSED_1S: u8 = 44;
    /// Closed bars of one minute; likewise.
    pub const CLOSED_1M: u8 = 45;
    /// As [`CLOSED_1S`], with the number of the first one before the count.
    pub const CLOSED_1S_NUMBERED: u8 = 46;
    /// As [`CLOSED_1M`], with the number of the first one before the count.
    pub const CLOSED_1M_NUMBERED: u8 = 47;
    /// Messages of a channel; without an instrument. The channel, the number of the first one, a count, then
    /// the moment, sender, event and content of each.
    pub const MESSAGES: u8 = 48;
    /// States in a channel; without an instrument. The channel, 1 if these are all (else 0), a count, then
    /// key and content of each.
    pub const STATES: u8 = 49;
    /// A topic left the session's sets; its kind.
    pub const LEFT: u8 = 57;
    /// A topic joined the session's sets; its kind.
    pub const JOINED: u8 = 58;
    /// The tape was reset; without an instrument, first in its update.
    pub const RESET: u8 = 59;
    /// Trading state and its moment; without an instrument the market's.
    pub const STATUS: u8 = 60;
    /// Kind, state and speed of the feed; without an instrument.
    pub const FEED: u8 = 61;
    /// Figures of the server, a map; without an instrument.
    pub const STATS: u8 = 62;
    /// Reference data of an instrument, a map.
    pub const DEFINITION: u8 = 63;
}

/// A kind of topic, and its parts that are lists of fields.
#[derive(Clone, Copy, Debug)]
pub struct TopicSchema {
    /// The kind described.
    pub kind: Kind,
    /// `None`: no part of it is replaced by newer values.
    pub image: Option<ImageSchema>,
    /// `None`: no part of it is delivered entry by entry.
    pub ring: Option<RingSchema>,
}

/// An image as a list of fields.
#[derive(Clone, Copy, Debug)]
pub struct ImageSchema {
    /// Tag of its entries. A quote has its mask in the tag, others have the mask after it.
    pub tag: u8,
    /// Name of the fields as a group.
    pub name: &'static str,
    /// In the order of the wire.
    pub fields: &'static [Field],
    /// The bits of its fields: what a checksum is made of.
    pub all: u16,
}

/// The entries of a ring. Each kind has two tags: without a number, and with it.
#[derive(Clone, Copy, Debug)]
pub struct RingSchema {
    /// Where the entries follow those before.
    pub tag: u8,
    /// Where the number of the first entry is stated.
    pub numbered: u8,
    /// Name of the list of entries in JSON form.
    pub list: &'static str,
    /// Name of one entry's fields as a group.
    pub entry: &'static str,
    /// The fewest elements of an entry.
    pub least: usize,
}

/// One field of an image, in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// In JSON form.
    pub name: &'static str,
    /// Its bit in a mask.
    pub bit: u16,
    /// `price`, `size`, `count`, `second`, `moment` or `hundredth`.
    pub unit: &'static str,
}

/// The bit of a quote's time, which is in its tag, next to the mask.
const QUOTE_TIME: u16 = 16;

fields! {
    /// Some fields of a quote: those of an update, or all that a client knows. `Some(Price::NONE)` is an
    /// empty side.
    QuoteFields {
        /// Best bid.
        bid: Price, PriceUnit = quote_field::BID;
        /// Size at the best bid.
        bid_size: Size, SizeUnit = quote_field::BID_SIZE;
        /// Best ask.
        ask: Price, PriceUnit = quote_field::ASK;
        /// Size at the best ask.
        ask_size: Size, SizeUnit = quote_field::ASK_SIZE;
        /// Only where the session asked for `times`.
        ts_event: Timestamp, MomentUnit = QUOTE_TIME;
    }
}

fields! {
    /// Some fields of a bar: those of an update, or all that a client knows.
    BarFields {
        /// In complete seconds.
        start: Timestamp, SecondUnit = bar_field::START;
        /// First price.
        open: Price, PriceUnit = bar_field::OPEN;
        /// Highest price.
        high: Price, PriceUnit = bar_field::HIGH;
        /// Lowest price.
        low: Price, PriceUnit = bar_field::LOW;
        /// Last price.
        close: Price, PriceUnit = bar_field::CLOSE;
        /// Sum of sizes.
        volume: Size, SizeUnit = bar_field::VOLUME;
        /// Number of trades.
        trades: u64, CountUnit = bar_field::TRADES;
        /// Hundredths of a price unit.
        vwap: i128, HundredthUnit = bar_field::VWAP;
        /// Days only.
        previous_close: Price, PriceUnit = bar_field::PREVIOUS_CLOSE;
    }
}

fields! {
    /// How many sessions watch an instrument.
    WatchersFields {
        /// Sessions that named it; sets do not count.
        watchers: u64, CountUnit = watchers_field::WATCHERS;
    }
}

impl WatchersFields {
    /// The fields of `change` replace those known before.
    pub fn merge(&mut self, change: &Self) {
        self.take(change);
    }
}

impl QuoteFields {
    /// The fields in `mask`, as bits of [`quote_field`]; `times`: and the time.
    #[must_use]
    pub fn of(mask: u16, times: bool, quote: &Quote) -> Self {
        let all = Self {
            bid: Some(quote.bid),
            bid_size: Some(quote.bid_size),
            ask: Some(quote.ask),
            ask_size: Some(quote.ask_size),
            ts_event: Some(quote.ts_event),
        };
        all.only(if times { mask | QUOTE_TIME } else { mask })
    }

    /// The fields of `change` replace those known before; the others stay.
    pub fn merge(&mut self, change: &Self) {
        self.take(change);
    }
}

impl BarFields {
    /// The fields in `mask`, as bits of [`bar_field`].
    #[must_use]
    pub fn of(mask: u16, bar: Option<&Bar>, previous_close: Price) -> Self {
        let previous_close = Some(previous_close);
        let Some(bar) = bar else { return Self { previous_close, ..Self::default() }.only(mask) };
        let all = Self {
            start: Some(bar.start),
            open: Some(bar.open),
            high: Some(bar.high),
            low: Some(bar.low),
            close: Some(bar.close),
            volume: Some(bar.volume),
            trades: Some(bar.trades),
            // Only on demand, as it takes a division.
            vwap: (mask & bar_field::VWAP != 0).then(|| bar.vwap_hundredths()),
            previous_close,
        };
        all.only(mask)
    }

    /// The fields of `change` replace those known before; a `start` begins a new bar, of which nothing else
    /// is known.
    pub fn merge(&mut self, change: &Self) {
        if change.start.is_some() {
            *self = Self { previous_close: self.previous_close, ..Self::default() };
        }
        self.take(change);
    }
}

images! { Quote(QuoteFields), Bar(BarFields), Watchers(WatchersFields) }

impl Fields {
    /// The fields of an image in `mask`; `times`: and the time of a quote.
    #[must_use]
    pub fn of(image: Image<'_>, mask: u16, times: bool) -> Self {
        match image {
            Image::Quote(quote) => Self::Quote(QuoteFields::of(mask, times, quote)),
            Image::Bar(bar, previous_close) => Self::Bar(BarFields::of(mask, bar, previous_close)),
            Image::Watchers(watchers) => {
                Self::Watchers(WatchersFields { watchers: Some(watchers) }.only(mask))
            }
        }
    }

    pub(super) fn read(
        kind: Kind,
        mask: u16,
        instrument: &Instrument,
        micros: i64,
        from: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        match kind {
            Kind::Quote => QuoteFields::read(mask, instrument, micros, from).map(Self::Quote),
            Kind::Bars1s | Kind::Bars1m | Kind::Day => {
                BarFields::read(mask, instrument, micros, from).map(Self::Bar)
            }
            Kind::Watchers => WatchersFields::read(mask, instrument, micros, from).map(Self::Watchers),
            Kind::Trades | Kind::Status | Kind::Stats | Kind::Messages | Kind::States => {
                Err(from.out_of_range("a kind of image"))
            }
        }
    }
}

const QUOTE: ImageSchema =
    ImageSchema { tag: tag::QUOTE, name: "quote", fields: QuoteFields::FIELDS, all: quote_field::ALL };

const WATCHERS: ImageSchema = ImageSchema {
    tag: tag::WATCHERS,
    name: "watchers",
    fields: WatchersFields::FIELDS,
    all: watchers_field::WATCHERS,
};

const fn bar(tag: u8, all: u16) -> ImageSchema {
    ImageSchema { tag, name: "bar", fields: BarFields::FIELDS, all }
}

const TRADES: RingSchema =
    RingSchema { tag: tag::TRADES, numbered: tag::TRADES_NUMBERED, list: "trades", entry: "trade", least: 4 };

const fn closed(tag: u8, numbered: u8) -> RingSchema {
    RingSchema { tag, numbered, list: "closed", entry: "bar", least: 8 }
}

/// By [`Kind::index`]. Trading states, stats, and what channels have, are entries of their own.
pub const TOPICS: [TopicSchema; Kind::ALL.len()] = [
    TopicSchema { kind: Kind::Quote, image: Some(QUOTE), ring: None },
    TopicSchema { kind: Kind::Trades, image: None, ring: Some(TRADES) },
    TopicSchema {
        kind: Kind::Bars1s,
        image: Some(bar(tag::BAR_1S, bar_field::BAR)),
        ring: Some(closed(tag::CLOSED_1S, tag::CLOSED_1S_NUMBERED)),
    },
    TopicSchema {
        kind: Kind::Bars1m,
        image: Some(bar(tag::BAR_1M, bar_field::BAR)),
        ring: Some(closed(tag::CLOSED_1M, tag::CLOSED_1M_NUMBERED)),
    },
    TopicSchema { kind: Kind::Day, image: Some(bar(tag::DAY, bar_field::DAY)), ring: None },
    TopicSchema { kind: Kind::Status, image: None, ring: None },
    TopicSchema { kind: Kind::Watchers, image: Some(WATCHERS), ring: None },
];

/// The image of a kind, where it is a list of fields.
#[must_use]
pub fn image(kind: Kind) -> Option<&'static ImageSchema> {
    TOPICS.get(kind.index())?.image.as_ref()
}

/// The ring of a kind.
#[must_use]
pub fn ring(kind: Kind) -> Option<&'static RingSchema> {
    TOPICS.get(kind.index())?.ring.as_ref()
}

/// The flags of a trade: the side that took liquidity, and what follows the size.
pub mod trade_flag {
    /// The bits of its number in [`SIDES`](super::SIDES).
    pub const SIDE: u8 = 3;
    /// A text of the venue's conditions follows.
    pub const CONDITIONS: u8 = 4;
    /// What the trade counts for follows; without it, everything.
    pub const COUNTS: u8 = 8;
}

/// Sides by their numbers. Trading states, kinds of feeds and their states are numbered by their `ALL`.
pub const SIDES: [Side; 3] = [Side::None, Side::Buy, Side::Sell];

/// The ops of requests, and the fields of each in addition to `op` and `id`.
pub const OPS: [OpSchema; 10] = [
    OpSchema { name: "open", about: "Opens one more session on the connection.", fields: &["session"] },
    OpSchema { name: "close", about: "Ends a session that is not the first.", fields: &["session"] },
    OpSchema {
        name: "subscribe",
        about: "Adds topics, and changes the session's options.",
        fields: &["session", "topics", "since", "max_hz", "times"],
    },
    OpSchema { name: "unsubscribe", about: "Removes topics.", fields: &["session", "topics"] },
    OpSchema { name: "ping", about: "Asks for a `pong`.", fields: &[] },
    OpSchema {
        name: "stats",
        about: "Starts or ends the session's own `stats`, once a second.",
        fields: &["session", "enabled"],
    },
    OpSchema { name: "checksum", about: "Asks for the checksums of images.", fields: &["session", "topics"] },
    OpSchema {
        name: "replay",
        about: "Controls what is played, or asks for its state.",
        fields: &["action", "speed", "to", "by"],
    },
    OpSchema {
        name: "fault",
        about: "Impairs the connection, for tests of clients.",
        fields: &["fault", "for_ms", "by_ms", "bytes_per_second", "code", "what"],
    },
    OpSchema {
        name: "publish",
        about: "Publishes a message, a state or a stroke of a channel.",
        fields: &["topic", "from", "event", "data", "key", "ttl_ms"],
    },
];

/// The actions of a `replay` request, and the fields of each.
pub const ACTIONS: [OpSchema; 5] = [
    OpSchema { name: "play", about: "Goes on, or begins again where it has ended.", fields: &[] },
    OpSchema { name: "pause", about: "Stands still.", fields: &[] },
    OpSchema { name: "speed", about: "Changes how fast it is played.", fields: &["speed"] },
    OpSchema { name: "seek", about: "Goes to a moment.", fields: &["to"] },
    OpSchema { name: "step", about: "Pauses, and goes on by a little.", fields: &["by"] },
];

/// The faults of a `fault` request, and the fields of each.
pub const FAULTS: [OpSchema; 6] = [
    OpSchema { name: "none", about: "All is well again.", fields: &[] },
    OpSchema { name: "mute", about: "Nothing comes.", fields: &["for_ms"] },
    OpSchema { name: "delay", about: "Everything comes later.", fields: &["for_ms", "by_ms"] },
    OpSchema { name: "slow", about: "Few bytes a second come.", fields: &["for_ms", "bytes_per_second"] },
    OpSchema { name: "drop", about: "The connection ends.", fields: &["code"] },
    OpSchema { name: "garble", about: "One thing that cannot be read comes.", fields: &["what"] },
];

/// An op, action or fault by name, and its fields.
#[derive(Clone, Copy, Debug)]
pub struct OpSchema {
    /// As requests have it.
    pub name: &'static str,
    /// For people.
    pub about: &'static str,
    /// Names of the fields that it may have.
    pub fields: &'static [&'static str],
}

/// The `type` of each message of a server except `update`.
pub const ANSWERS: [&str; 15] = [
    "welcome",
    "opened",
    "closed",
    "subscribed",
    "unsubscribed",
    "pong",
    "stats",
    "checksum",
    "fault",
    "published",
    "error",
    "lag",
    "replay",
    "reset",
    "goodbye",
];

/// How a client reconnects. `docs/protocol.md` has the rule.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The span that the first wait is drawn from.
    pub first: Duration,
    /// The same after a code that is [slower](super::Return::Slower).
    pub first_when_busy: Duration,
    /// The longest span that a wait is drawn from.
    pub longest: Duration,
    /// The longest wait that a server may ask for, and the longest jitter.
    pub longest_asked: Duration,
}

/// The backoff of every client of this protocol.
pub const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(250),
    first_when_busy: Duration::from_secs(5),
    longest: Duration::from_secs(30),
    longest_asked: Duration::from_hours(1),
};
