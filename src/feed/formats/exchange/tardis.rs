//! Messages as tardis-machine normalizes them: `trade`, `book_ticker`, `book_snapshot` and `book_change`,
//! each with its time of arrival.

use super::MessageError;
use super::session::Session;
use super::values::{Number, side_named};
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::feed::text::parse_time;
use crate::market::{Conditions, QuoteValues, Side, Timestamp};
use rust_decimal::Decimal;
use serde::Deserialize;
use std::borrow::Cow;

const VENUE: &str = "Tardis";

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    price: Number<'a>,
    #[serde(borrow)]
    amount: Number<'a>,
    /// Of the taker: buy, sell or unknown.
    #[serde(borrow)]
    side: Option<Cow<'a, str>>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ticker<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    bid_price: Option<Number<'a>>,
    #[serde(borrow)]
    bid_amount: Option<Number<'a>>,
    #[serde(borrow)]
    ask_price: Option<Number<'a>>,
    #[serde(borrow)]
    ask_amount: Option<Number<'a>>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
}

/// A full book of some depth, the best first, or changes of one; 0 removes a level.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Book<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    exchange: Cow<'a, str>,
    is_snapshot: Option<bool>,
    #[serde(borrow)]
    bids: Vec<Option<Level<'a>>>,
    #[serde(borrow)]
    asks: Vec<Option<Level<'a>>>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
}

/// A grouped or short book may have a level without either.
#[derive(Deserialize)]
struct Level<'a> {
    #[serde(borrow)]
    price: Option<Number<'a>>,
    #[serde(borrow)]
    amount: Option<Number<'a>>,
}

const ARRIVAL: &str = "\"localTimestamp\":\"";

/// Whether a line, perhaps truncated, is such a message: they name their exchange.
pub(super) fn is_normalized(line: &str) -> bool {
    line.starts_with("{\"type\":\"") && line.contains("\"exchange\":\"")
}

/// When a message arrived.
pub(super) fn arrival(line: &str) -> Option<Timestamp> {
    let (_, rest) = line.rsplit_once(ARRIVAL)?;
    parse_time(rest.split('"').next()?).ok()
}

pub(super) fn read(session: &mut Session, message: &str, sink: &mut Sink) -> Result<(), MessageError> {
    let Kind { kind } = serde_json::from_str(message)?;
    match &*kind {
        "trade" => read_trade(&serde_json::from_str(message)?, sink),
        "book_ticker" => read_ticker(session, &serde_json::from_str(message)?, sink),
        "book_snapshot" => read_snapshot(session, &serde_json::from_str(message)?, sink),
        "book_change" if session.folds() => read_change(session, &serde_json::from_str(message)?, sink),
        "disconnect" => session.begin_anew(sink),
        other => {
            sink.leave(VENUE, other);
            Ok(())
        }
    }
}

fn read_trade(trade: &Trade, sink: &mut Sink) -> Result<(), MessageError> {
    let side = match trade.side.as_deref() {
        None | Some("unknown") => Side::None,
        Some(side) => side_named(side)?,
    };
    Ok(sink.trade(&Print {
        venue: VENUE,
        symbol: &trade.symbol,
        price: trade.price.decimal()?,
        size: trade.amount.decimal()?,
        side,
        conditions: Conditions::default(),
        id: trade.id.as_deref().map(TradeId::text),
        time: Some(parse_time(&trade.timestamp)?),
    })?)
}

fn read_ticker(session: &mut Session, ticker: &Ticker, sink: &mut Sink) -> Result<(), MessageError> {
    let (bid, bid_size) = side(ticker.bid_price, ticker.bid_amount)?;
    let (ask, ask_size) = side(ticker.ask_price, ticker.ask_amount)?;
    let values = QuoteValues { bid, bid_size, ask, ask_size };
    session.best_quote(&ticker.symbol, &values, Some(parse_time(&ticker.timestamp)?), sink)
}

fn read_snapshot(session: &mut Session, book: &Book, sink: &mut Sink) -> Result<(), MessageError> {
    let best = |levels: &[Option<Level>]| match levels.first() {
        Some(Some(level)) => side(level.price, level.amount),
        _ => Ok((None, Decimal::ZERO)),
    };
    let ((bid, bid_size), (ask, ask_size)) = (best(&book.bids)?, best(&book.asks)?);
    let values = QuoteValues { bid, bid_size, ask, ask_size };
    session.ticker(&book.symbol, &values, Some(parse_time(&book.timestamp)?), sink)
}

fn read_change(session: &mut Session, stated: &Book, sink: &mut Sink) -> Result<(), MessageError> {
    let bids = stated.bids.iter().flatten().map(|level| (Side::Buy, level));
    let asks = stated.asks.iter().flatten().map(|level| (Side::Sell, level));
    let mut rows = Vec::new();
    for (side, level) in bids.chain(asks) {
        if let (Some(price), Some(amount)) = (level.price, level.amount) {
            rows.push((side, price.decimal()?, amount.decimal()?));
        }
    }
    let venue = parse_time(&stated.timestamp)?;
    let Some(book) = session.book_of(&stated.symbol, &stated.exchange) else {
        sink.leave(VENUE, "book_change of another exchange's book of that symbol");
        return Ok(());
    };
    if stated.is_snapshot == Some(true) {
        book.depth.begin_snapshot();
    } else if !book.depth.is_whole() {
        sink.leave(VENUE, "book_change before its snapshot");
        return Ok(());
    }
    book.depth.set_all(rows);
    session.told(&stated.symbol, Some(venue), sink)
}

fn side(price: Option<Number>, amount: Option<Number>) -> Result<(Option<Decimal>, Decimal), MessageError> {
    let price = price.map(Number::price).transpose()?.flatten();
    Ok((price, amount.map_or(Ok(Decimal::ZERO), Number::size)?))
}
