//! Bybit, fifth version of its protocol: `publicTrade`, `orderbook.1` as the best bid and ask, deeper ones by
//! numbered changes, and `tickers`.

use super::MessageError;
use super::session::Session;
use super::values::{Number, Row, levels, side_named};
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::market::{Conditions, QuoteValues, Timestamp};
use serde::Deserialize;
use std::borrow::Cow;

const VENUE: &str = "Bybit";

/// When the venue made a message.
#[derive(Deserialize)]
struct Times<'a> {
    #[serde(borrow)]
    ts: Option<Number<'a>>,
    /// When the matching engine made the change.
    #[serde(borrow)]
    cts: Option<Number<'a>>,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(rename = "T", borrow)]
    time: Number<'a>,
    #[serde(rename = "s", borrow)]
    symbol: Cow<'a, str>,
    /// Of the taker.
    #[serde(rename = "S", borrow)]
    side: Cow<'a, str>,
    #[serde(rename = "v", borrow)]
    size: Number<'a>,
    #[serde(rename = "p", borrow)]
    price: Number<'a>,
    #[serde(rename = "i", borrow)]
    id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Depth<'a> {
    #[serde(rename = "s", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "b", borrow)]
    bids: Vec<Row<'a>>,
    #[serde(rename = "a", borrow)]
    asks: Vec<Row<'a>>,
    /// 1 if the service has restarted.
    #[serde(rename = "u")]
    number: Option<i64>,
}

/// Changed fields, or all in a snapshot. Spot has no prices in it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ticker<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    bid1_price: Option<Number<'a>>,
    #[serde(borrow)]
    bid1_size: Option<Number<'a>>,
    #[serde(borrow)]
    ask1_price: Option<Number<'a>>,
    #[serde(borrow)]
    ask1_size: Option<Number<'a>>,
}

pub(super) fn read(
    session: &mut Session,
    (topic, kind): (&str, &str),
    data: &str,
    message: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let (name, rest) = topic.split_once('.').unwrap_or((topic, ""));
    let is_whole = kind == "snapshot";
    match name {
        "publicTrade" => read_trades(&serde_json::from_str::<Vec<Trade>>(data)?, sink),
        "orderbook" if rest.starts_with("1.") => {
            read_best(session, is_whole, &serde_json::from_str(data)?, time(message)?, sink)
        }
        "orderbook" if session.folds() => {
            read_depth(session, (is_whole, topic), &serde_json::from_str(data)?, time(message)?, sink)
        }
        "tickers" => read_ticker(session, is_whole, &serde_json::from_str(data)?, time(message)?, sink),
        other => {
            sink.leave(VENUE, other);
            Ok(())
        }
    }
}

fn time(message: &str) -> Result<Option<Timestamp>, MessageError> {
    let Times { ts, cts } = serde_json::from_str(message)?;
    cts.or(ts).map(Number::millis).transpose()
}

fn read_trades(trades: &[Trade], sink: &mut Sink) -> Result<(), MessageError> {
    for trade in trades {
        sink.trade(&Print {
            venue: VENUE,
            symbol: &trade.symbol,
            price: trade.price.decimal()?,
            size: trade.size.decimal()?,
            side: side_named(&trade.side)?,
            conditions: Conditions::default(),
            id: trade.id.as_deref().map(TradeId::text),
            time: Some(trade.time.millis()?),
        })?;
    }
    Ok(())
}

fn read_best(
    session: &mut Session,
    is_whole: bool,
    stated: &Depth,
    venue: Option<Timestamp>,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let rows = levels(&stated.bids, &stated.asks)?;
    let best = &mut session.book(&stated.symbol).best;
    if is_whole {
        best.begin_snapshot();
    } else if !best.is_whole() {
        sink.leave(VENUE, "orderbook.1 before its snapshot");
        return Ok(());
    }
    best.set_all(rows);
    match best.changed() {
        Some(values) => session.best_quote(&stated.symbol, &values, venue, sink),
        None => Ok(()),
    }
}

fn read_ticker(
    session: &mut Session,
    is_whole: bool,
    ticker: &Ticker,
    venue: Option<Timestamp>,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let book = session.book(&ticker.symbol);
    if is_whole {
        book.ticker = QuoteValues::default();
    }
    let values = &mut book.ticker;
    let before = *values;
    if let Some(price) = ticker.bid1_price {
        values.bid = price.price()?;
    }
    if let Some(size) = ticker.bid1_size {
        values.bid_size = size.size()?;
    }
    if let Some(price) = ticker.ask1_price {
        values.ask = price.price()?;
    }
    if let Some(size) = ticker.ask1_size {
        values.ask_size = size.size()?;
    }
    let values = *values;
    // Most changes are of other things than prices.
    if values == before {
        sink.leave(VENUE, "tickers without another price");
        return Ok(());
    }
    session.ticker(&ticker.symbol, &values, venue, sink)
}

fn read_depth(
    session: &mut Session,
    (is_whole, topic): (bool, &str),
    stated: &Depth,
    venue: Option<Timestamp>,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let rows = levels(&stated.bids, &stated.asks)?;
    let Some(book) = session.book_of(&stated.symbol, topic) else {
        sink.leave(VENUE, "depth beside another of the same symbol");
        return Ok(());
    };
    if is_whole || stated.number == Some(1) {
        book.depth.begin_snapshot();
    } else if !book.depth.is_whole() {
        sink.leave(VENUE, "depth before its snapshot");
        return Ok(());
    } else if let (Some(last), Some(number)) = (book.last, stated.number) {
        if number <= last {
            sink.leave(VENUE, "depth that was told before");
            return Ok(());
        }
        if number > last.saturating_add(1) {
            let reason = format!("depth updates are missing between {last} and {number}");
            return Err(session.lost(&stated.symbol, reason, sink));
        }
    }
    book.depth.set_all(rows);
    book.last = stated.number.or(book.last);
    session.told(&stated.symbol, venue, sink)
}
