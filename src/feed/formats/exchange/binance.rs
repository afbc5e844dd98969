//! Binance, spot and USD-M futures: `bookTicker`, `trade` and depth. Spot's best quotes and depth snapshots state no time.

use super::{MessageError, Read, Session, Sink, from_millis, price_unless_zero};
use crate::market::{QuoteValues, Side, parse_decimal};
use rust_decimal::Decimal;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::VecDeque;

/// Depth updates that are kept until the snapshot they belong to comes. A recorder asks for it once it has subscribed, and has it
/// within a second, in which there are at most a hundred.
const MAX_EARLY: usize = 1000;

/// Where a book stands in the numbered updates of its symbol.
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
    #[serde(rename = "T")]
    time_ms: i64,
    #[serde(rename = "m")]
    buyer_is_maker: bool,
    /// Futures: `NA` is no trade of the market, such as a contract's insurance fund taking over.
    #[serde(rename = "X", borrow)]
    execution: Option<Cow<'a, str>>,
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
    bids: Vec<[Cow<'a, str>; 2]>,
    #[serde(rename = "a", borrow)]
    asks: Vec<[Cow<'a, str>; 2]>,
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
    bids: Vec<[Cow<'a, str>; 2]>,
    #[serde(borrow)]
    asks: Vec<[Cow<'a, str>; 2]>,
    #[serde(rename = "T")]
    time_ms: Option<i64>,
}

pub(super) fn read(
    session: &mut Session,
    stream: &str,
    data: &str,
    sink: &mut Sink,
) -> Result<Read, MessageError> {
    match stream.split('@').next().unwrap_or_default() {
        "bookTicker" => read_quote(session, &serde_json::from_str(data)?, sink),
        "trade" => read_trade(&serde_json::from_str(data)?, sink),
        // A session nearly always has quotes beside its depth, and never says beforehand.
        "depth" | "depthUpdate" if session.best_quotes => read_depth(session, data, sink),
        _ => Ok(Read::LeftOut),
    }
}

fn read_quote(session: &mut Session, ticker: &BookTicker, sink: &mut Sink) -> Result<Read, MessageError> {
    let values = QuoteValues {
        bid: price_unless_zero(&ticker.bid)?,
        bid_size: parse_decimal(&ticker.bid_size)?,
        ask: price_unless_zero(&ticker.ask)?,
        ask_size: parse_decimal(&ticker.ask_size)?,
    };
    let venue = ticker.time_ms.map(from_millis).transpose()?;
    session.quote(&ticker.symbol, &values, venue, sink)
}

fn read_trade(trade: &Trade, sink: &mut Sink) -> Result<Read, MessageError> {
    if trade.execution.as_deref() == Some("NA") {
        return Ok(Read::LeftOut);
    }
    let numbers = (parse_decimal(&trade.price)?, parse_decimal(&trade.size)?);
    let side = if trade.buyer_is_maker { Side::Sell } else { Side::Buy };
    sink.trade(&trade.symbol, numbers, side, Some(from_millis(trade.time_ms)?))?;
    Ok(Read::Used)
}

fn read_depth(session: &mut Session, data: &str, sink: &mut Sink) -> Result<Read, MessageError> {
    let update: DepthUpdate = serde_json::from_str(data)?;
    let updates = &mut session.book(&update.symbol).updates;
    if updates.last.is_none() {
        if updates.early.len() == MAX_EARLY {
            updates.early.pop_front();
        }
        updates.early.push_back(data.into());
        return Ok(Read::Used);
    }
    apply(session, &update, sink)?;
    let venue = update.time_ms.or(update.event_ms).map(from_millis).transpose()?;
    session.told(&update.symbol, venue, sink)
}

/// The answer of the REST interface from which a book starts. It names no symbol: it is of the one that waits for it.
pub(super) fn read_snapshot(
    session: &mut Session,
    message: &str,
    sink: &mut Sink,
) -> Result<Read, MessageError> {
    let waits = session.books.iter().filter(|(_, book)| !book.updates.early.is_empty());
    let mut symbols = waits.map(|(symbol, _)| symbol.clone());
    let symbol = match (symbols.next(), symbols.next()) {
        (Some(only), None) => only,
        (None, _) => return Ok(Read::LeftOut),
        (Some(_), Some(_)) => {
            return Err(MessageError::Shape("a depth snapshot names no symbol, and several wait for one"));
        }
    };
    drop(symbols);
    let snapshot: Snapshot = serde_json::from_str(message)?;
    let rows = rows(&snapshot.bids, &snapshot.asks)?;
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
    let rows = rows(&update.bids, &update.asks)?;
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

/// All numbers of a message, before any of them is used.
fn rows(
    bids: &[[Cow<'_, str>; 2]],
    asks: &[[Cow<'_, str>; 2]],
) -> Result<Vec<(Side, Decimal, Decimal)>, MessageError> {
    let bids = bids.iter().map(|row| (Side::Buy, row));
    let asks = asks.iter().map(|row| (Side::Sell, row));
    bids.chain(asks)
        .map(|(side, [price, size])| Ok((side, parse_decimal(price)?, parse_decimal(size)?)))
        .collect()
}
