//! Coinbase Advanced Trade: `market_trades`, `ticker`, `ticker_batch` and `l2_data`. All messages of a
//! connection are numbered through.

use super::MessageError;
use super::session::Session;
use super::values::{Number, opposite, side_named};
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::feed::text::parse_time;
use crate::market::{Conditions, QuoteValues};
use serde::Deserialize;
use std::borrow::Cow;

const VENUE: &str = "Coinbase Advanced Trade";

/// The number of the last message of each connection: a file may hold several, and messages do not name
/// theirs.
#[derive(Default)]
pub(super) struct Sequences(Vec<u64>);

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Trades<'a> {
    #[serde(borrow)]
    trades: Vec<Trade<'a>>,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(rename = "trade_id", borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    #[serde(borrow)]
    price: Number<'a>,
    #[serde(borrow)]
    size: Number<'a>,
    /// Of the order that was in the book.
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Tickers<'a> {
    #[serde(borrow)]
    tickers: Vec<Ticker<'a>>,
}

#[derive(Deserialize)]
struct Ticker<'a> {
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    #[serde(borrow)]
    best_bid: Number<'a>,
    #[serde(borrow)]
    best_bid_quantity: Option<Number<'a>>,
    #[serde(borrow)]
    best_ask: Number<'a>,
    #[serde(borrow)]
    best_ask_quantity: Option<Number<'a>>,
}

#[derive(Deserialize)]
struct Depth<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    #[serde(borrow)]
    updates: Vec<Level<'a>>,
}

#[derive(Deserialize)]
struct Level<'a> {
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(rename = "price_level", borrow)]
    price: Number<'a>,
    #[serde(borrow)]
    new_quantity: Number<'a>,
}

impl Sequences {
    /// Takes a message's number; returns the range of missing numbers, `None` if there are none or a
    /// connection has begun.
    fn take(&mut self, number: u64) -> Option<(u64, u64)> {
        if let Some(last) = self.0.iter_mut().find(|last| last.saturating_add(1) == number) {
            *last = number;
            return None;
        }
        if let Some(last) = self.0.iter_mut().filter(|last| **last < number).max() {
            let missing = (last.saturating_add(1), number - 1);
            *last = number;
            return Some(missing);
        }
        self.0.push(number);
        None
    }
}

pub(super) fn read(
    session: &mut Session,
    channel: &str,
    (number, events): (Option<u64>, &str),
    message: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let is_begun = number == Some(0) && !session.coinbase.0.is_empty();
    if is_begun {
        session.begin_anew(sink)?;
    }
    let missing = number.and_then(|number| session.coinbase.take(number));
    if missing.is_some() {
        let sequences = std::mem::take(&mut session.coinbase);
        session.begin_anew(sink)?;
        session.coinbase = sequences;
    }
    let read = match channel {
        "market_trades" => read_trades(events, sink),
        "ticker" | "ticker_batch" => read_tickers(session, events, message, sink),
        "l2_data" | "level2" if session.folds() => read_depth(session, events, message, sink),
        other => {
            sink.leave(VENUE, other);
            Ok(())
        }
    };
    match missing {
        Some((from, to)) => read.and(Err(MessageError::Missing { from, to })),
        None => read,
    }
}

fn read_trades(events: &str, sink: &mut Sink) -> Result<(), MessageError> {
    for event in serde_json::from_str::<Vec<Trades>>(events)? {
        let mut prints: Vec<Print> = event.trades.iter().map(print).collect::<Result<_, _>>()?;
        // A snapshot has the newest first.
        prints.sort_by_key(|print| print.time);
        for print in &prints {
            sink.trade(print)?;
        }
    }
    Ok(())
}

fn print<'a>(trade: &'a Trade) -> Result<Print<'a>, MessageError> {
    Ok(Print {
        venue: VENUE,
        symbol: &trade.product_id,
        price: trade.price.decimal()?,
        size: trade.size.decimal()?,
        side: opposite(side_named(&trade.side)?),
        conditions: Conditions::default(),
        id: trade.id.as_deref().map(TradeId::text),
        time: Some(parse_time(&trade.time)?),
    })
}

fn read_tickers(
    session: &mut Session,
    events: &str,
    message: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let message: Message = serde_json::from_str(message)?;
    let venue = message.timestamp.as_deref().map(parse_time).transpose()?;
    for ticker in serde_json::from_str::<Vec<Tickers>>(events)?.iter().flat_map(|event| &event.tickers) {
        let size = |size: Option<Number>| size.map_or(Ok(rust_decimal::Decimal::ZERO), Number::size);
        let values = QuoteValues {
            bid: ticker.best_bid.price()?,
            bid_size: size(ticker.best_bid_quantity)?,
            ask: ticker.best_ask.price()?,
            ask_size: size(ticker.best_ask_quantity)?,
        };
        session.quote(&ticker.product_id, &values, venue, sink)?;
    }
    Ok(())
}

fn read_depth(
    session: &mut Session,
    events: &str,
    message: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let message: Message = serde_json::from_str(message)?;
    let venue = message.timestamp.as_deref().map(parse_time).transpose()?;
    for event in serde_json::from_str::<Vec<Depth>>(events)? {
        let level = |level: &Level| -> Result<_, MessageError> {
            Ok((side_named(&level.side)?, level.price.decimal()?, level.new_quantity.decimal()?))
        };
        let rows: Vec<_> = event.updates.iter().map(level).collect::<Result<_, _>>()?;
        let book = &mut session.book(&event.product_id).depth;
        if event.kind == "snapshot" {
            book.begin_snapshot();
        } else if !book.is_whole() {
            sink.leave(VENUE, "l2_data before its snapshot");
            continue;
        }
        book.set_all(rows);
        session.told(&event.product_id, venue, sink)?;
    }
    Ok(())
}
