//! Binance, spot and futures: `bookTicker`, `trade`, `aggTrade`, and depth, partial depth too. Spot's best
//! quotes and depth snapshots state no time. Times are in ms, or in us where the session has asked for that.

use super::MessageError;
use super::session::Session;
use super::values::{Levels, Row, from_millis, levels, price_unless_zero};
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::market::{Conditions, QuoteValues, Side, parse_decimal};
use rustc_hash::FxHashMap;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::VecDeque;

const VENUE: &str = "Binance";

/// Most depth updates kept until their snapshot arrives. A recorder requests it after subscribing, and has it
/// within a second, in which there are at most a hundred updates.
const MAX_EARLY: usize = 1000;

/// The state of a book within the numbered updates of its symbol.
#[derive(Default)]
pub(super) struct Updates {
    /// The number of the last one that is in the book, by a snapshot or an update.
    last: Option<u64>,
    /// Whether that was a snapshot, which an update may overlap.
    after_snapshot: bool,
    early: VecDeque<Box<str>>,
}

/// The best bid and ask. Spot states no time.
#[derive(Deserialize)]
struct BookTicker<'a> {
    #[serde(rename = "s", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "b", borrow)]
    bid: Cow<'a, str>,
    #[serde(rename = "B", borrow)]
    bid_size: Cow<'a, str>,
    #[serde(rename = "a", borrow)]
    ask: Cow<'a, str>,
    #[serde(rename = "A", borrow)]
    ask_size: Cow<'a, str>,
    #[serde(rename = "T")]
    time_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(rename = "s", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "p", borrow)]
    price: Cow<'a, str>,
    #[serde(rename = "q", borrow)]
    size: Cow<'a, str>,
    #[serde(rename = "t")]
    id: Option<u64>,
    #[serde(rename = "T")]
    time_ms: i64,
    #[serde(rename = "m")]
    buyer_is_maker: bool,
    /// Futures: all but `MARKET` is no trade of the market, such as the insurance fund taking a position
    /// over, or `NA`.
    #[serde(rename = "X", borrow)]
    execution: Option<Cow<'a, str>>,
}

/// All that one order took at one price, or at one moment of futures.
#[derive(Deserialize)]
struct AggregateTrade<'a> {
    #[serde(rename = "s", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "p", borrow)]
    price: Cow<'a, str>,
    #[serde(rename = "q", borrow)]
    size: Cow<'a, str>,
    /// The last of its trades.
    #[serde(rename = "l")]
    last: u64,
    #[serde(rename = "T")]
    time_ms: i64,
    #[serde(rename = "m")]
    buyer_is_maker: bool,
}

/// Whether trades come singly, aggregated, or both: then they would count twice.
#[derive(Default)]
pub(super) struct Trades {
    /// The client has requested single ones.
    are_single: bool,
    by_symbol: FxHashMap<Box<str>, Told>,
}

/// What was received of a symbol's trades.
#[derive(Default)]
struct Told {
    /// Single ones have arrived.
    are_single: bool,
    /// The last one that is in an aggregate.
    aggregated: Option<u64>,
}

#[derive(Deserialize)]
struct DepthUpdate<'a> {
    #[serde(rename = "s", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "U")]
    first: u64,
    #[serde(rename = "u")]
    last: u64,
    /// Futures: the last number of the update before.
    #[serde(rename = "pu")]
    previous: Option<u64>,
    #[serde(rename = "b", borrow)]
    bids: Vec<Row<'a>>,
    #[serde(rename = "a", borrow)]
    asks: Vec<Row<'a>>,
    #[serde(rename = "T")]
    time_ms: Option<i64>,
    #[serde(rename = "E")]
    event_ms: Option<i64>,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    #[serde(rename = "lastUpdateId")]
    last: u64,
    #[serde(borrow)]
    bids: Vec<Row<'a>>,
    #[serde(borrow)]
    asks: Vec<Row<'a>>,
    #[serde(rename = "T")]
    time_ms: Option<i64>,
}

/// All of the best levels of a book, as spot sends them: without the symbol, which is in the stream.
#[derive(Deserialize)]
struct PartialDepth<'a> {
    #[serde(borrow)]
    bids: Vec<Row<'a>>,
    #[serde(borrow)]
    asks: Vec<Row<'a>>,
}

impl Trades {
    pub(super) fn expect_single(&mut self) {
        self.are_single = true;
    }

    fn of(&mut self, symbol: &str) -> &mut Told {
        if !self.by_symbol.contains_key(symbol) {
            self.by_symbol.insert(symbol.into(), Told::default());
        }
        self.by_symbol.get_mut(symbol).expect("it is there now")
    }
}

/// A message of the stream `btcusdt@depth5@100ms`.
pub(super) fn read_stream(
    session: &mut Session,
    stream: &str,
    data: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let (symbol, name) = stream.split_once('@').unwrap_or_default();
    let kind = name.split('@').next().unwrap_or_default();
    if kind.strip_prefix("depth").is_some_and(|levels| levels.parse::<u32>().is_ok()) {
        return read_partial_depth(session, (symbol, name), data, sink);
    }
    read(session, if name.starts_with("depth@") { "depth" } else { kind }, data, sink)
}

pub(super) fn read(
    session: &mut Session,
    kind: &str,
    data: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    match kind {
        "bookTicker" => read_quote(session, &serde_json::from_str(data)?, sink),
        "trade" => read_trade(session, &serde_json::from_str(data)?, sink),
        "aggTrade" => read_aggregate(session, &serde_json::from_str(data)?, sink),
        // A session nearly always has quotes in addition to depth, without announcing them.
        "depth" | "depthUpdate" if session.best_quotes => read_depth(session, data, sink),
        "depth" | "depthUpdate" => {
            sink.leave(VENUE, "depth, which --best-quotes folds to quotes");
            Ok(())
        }
        other => {
            sink.leave(VENUE, other);
            Ok(())
        }
    }
}

fn read_quote(session: &mut Session, ticker: &BookTicker, sink: &mut Sink) -> Result<(), MessageError> {
    let values = QuoteValues {
        bid: price_unless_zero(&ticker.bid)?,
        bid_size: parse_decimal(&ticker.bid_size)?,
        ask: price_unless_zero(&ticker.ask)?,
        ask_size: parse_decimal(&ticker.ask_size)?,
    };
    let venue = ticker.time_ms.map(from_millis).transpose()?;
    session.quote(&ticker.symbol, &values, venue, sink)
}

fn read_trade(session: &mut Session, trade: &Trade, sink: &mut Sink) -> Result<(), MessageError> {
    if let Some(other) = trade.execution.as_deref().filter(|&execution| execution != "MARKET") {
        sink.leave(VENUE, &format!("trade of {other}"));
        return Ok(());
    }
    let print = print(&trade.symbol, (&trade.price, &trade.size), trade.buyer_is_maker, trade.time_ms)?;
    let told = session.binance.of(&trade.symbol);
    told.are_single = true;
    if trade.id.is_some_and(|id| told.aggregated.is_some_and(|last| id <= last)) {
        sink.leave(VENUE, "trade that an aggTrade has told");
        return Ok(());
    }
    Ok(sink.trade(&Print { id: trade.id.map(TradeId::number), ..print })?)
}

fn read_aggregate(
    session: &mut Session,
    trade: &AggregateTrade,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let are_single = session.binance.are_single;
    let told = session.binance.of(&trade.symbol);
    if are_single || told.are_single {
        sink.leave(VENUE, "aggTrade beside trade");
        return Ok(());
    }
    let print = print(&trade.symbol, (&trade.price, &trade.size), trade.buyer_is_maker, trade.time_ms)?;
    told.aggregated = told.aggregated.max(Some(trade.last));
    Ok(sink.trade(&Print { id: Some(TradeId::number(trade.last)), ..print })?)
}

fn print<'a>(
    symbol: &'a str,
    (price, size): (&str, &str),
    buyer_is_maker: bool,
    time: i64,
) -> Result<Print<'a>, MessageError> {
    Ok(Print {
        venue: VENUE,
        symbol,
        price: parse_decimal(price)?,
        size: parse_decimal(size)?,
        side: if buyer_is_maker { Side::Sell } else { Side::Buy },
        conditions: Conditions::default(),
        id: None,
        time: Some(from_millis(time)?),
    })
}

fn read_depth(session: &mut Session, data: &str, sink: &mut Sink) -> Result<(), MessageError> {
    let update: DepthUpdate = serde_json::from_str(data)?;
    let Some(book) = session.book_of(&update.symbol, "depth") else {
        sink.leave(VENUE, "depth beside partial depth");
        return Ok(());
    };
    if book.updates.last.is_none() {
        if book.updates.early.len() == MAX_EARLY {
            book.updates.early.pop_front();
        }
        book.updates.early.push_back(data.into());
        return Ok(());
    }
    apply(session, &update, sink)?;
    let venue = update.time_ms.or(update.event_ms).map(from_millis).transpose()?;
    session.told(&update.symbol, venue, sink)
}

/// Futures send it in the form of an update, spot without a symbol.
fn read_partial_depth(
    session: &mut Session,
    (symbol, name): (&str, &str),
    data: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    if !session.folds() {
        sink.leave(VENUE, "partial depth beside a stream of quotes");
        return Ok(());
    }
    let (symbol, rows, time): (Cow<str>, Levels, _) =
        if let Ok(update) = serde_json::from_str::<DepthUpdate>(data) {
            (update.symbol, levels(&update.bids, &update.asks)?, update.time_ms.or(update.event_ms))
        } else {
            let whole: PartialDepth = serde_json::from_str(data)?;
            (Cow::Owned(symbol.to_uppercase()), levels(&whole.bids, &whole.asks)?, None)
        };
    let venue = time.map(from_millis).transpose()?;
    let Some(book) = session.book_of(&symbol, name) else {
        sink.leave(VENUE, "partial depth beside another");
        return Ok(());
    };
    book.depth.begin_snapshot();
    book.depth.set_all(rows);
    session.told(&symbol, venue, sink)
}

/// The answer of the REST interface that a book starts from. It names no symbol: it is for the book that
/// waits for it.
pub(super) fn read_snapshot(
    session: &mut Session,
    message: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let waits = session.books().filter(|(_, book)| !book.updates.early.is_empty());
    let mut symbols = waits.map(|(symbol, _)| symbol.to_owned());
    let symbol = match (symbols.next(), symbols.next()) {
        (Some(only), None) => only,
        (None, _) => {
            sink.leave(VENUE, "snapshot of a depth that is not there");
            return Ok(());
        }
        (Some(_), Some(_)) => {
            return Err(MessageError::Shape("a depth snapshot names no symbol, and several wait for one"));
        }
    };
    drop(symbols);
    let snapshot: Snapshot = serde_json::from_str(message)?;
    let rows = levels(&snapshot.bids, &snapshot.asks)?;
    let book = session.book(&symbol);
    book.depth.begin_snapshot();
    book.depth.set_all(rows);
    book.updates.last = Some(snapshot.last);
    book.updates.after_snapshot = true;
    for early in std::mem::take(&mut book.updates.early) {
        apply(session, &serde_json::from_str(&early)?, sink)?;
    }
    session.told(&symbol, snapshot.time_ms.map(from_millis).transpose()?, sink)
}

/// Puts an update into its book, which has a snapshot.
fn apply(session: &mut Session, update: &DepthUpdate, sink: &mut Sink) -> Result<(), MessageError> {
    let rows = levels(&update.bids, &update.asks)?;
    let book = session.book(&update.symbol);
    let Some(last) = book.updates.last else { return Ok(()) };
    if update.last <= last {
        return Ok(());
    }
    let next = last.saturating_add(1);
    let follows = match update.previous {
        _ if book.updates.after_snapshot => update.first <= next,
        Some(previous) => previous == last,
        None => update.first == next,
    };
    if !follows {
        let reason = format!("depth updates are missing between {last} and {}", update.first);
        return Err(session.lost(&update.symbol, reason, sink));
    }
    book.depth.set_all(rows);
    book.updates.last = Some(update.last);
    book.updates.after_snapshot = false;
    Ok(())
}
