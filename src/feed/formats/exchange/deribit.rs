//! Deribit: `trades`, `quote`, `ticker`, and `book`, by consecutive changes, or in full if it is grouped.

use super::MessageError;
use super::session::Session;
use super::values::{Number, Row, levels, side_named};
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::market::{Conditions, QuoteValues, Side};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

const VENUE: &str = "Deribit";

#[derive(Deserialize)]
struct Subscription<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(borrow)]
    instrument_name: Cow<'a, str>,
    #[serde(rename = "trade_id", borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    price: Number<'a>,
    #[serde(borrow)]
    amount: Number<'a>,
    /// Of the taker.
    #[serde(borrow)]
    direction: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Number<'a>,
}

/// Of `quote` and of `ticker`; a side without an order is null or 0.
#[derive(Deserialize)]
struct Prices<'a> {
    #[serde(borrow)]
    instrument_name: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Number<'a>,
    #[serde(borrow)]
    best_bid_price: Option<Number<'a>>,
    #[serde(borrow)]
    best_bid_amount: Option<Number<'a>>,
    #[serde(borrow)]
    best_ask_price: Option<Number<'a>>,
    #[serde(borrow)]
    best_ask_amount: Option<Number<'a>>,
}

/// Levels of changes are `new`, `change` or `delete`, price and amount; grouped ones have no word in front.
#[derive(Deserialize)]
struct Book<'a> {
    #[serde(borrow)]
    instrument_name: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Number<'a>,
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    change_id: Option<i64>,
    prev_change_id: Option<i64>,
    #[serde(borrow)]
    bids: Vec<Row<'a>>,
    #[serde(borrow)]
    asks: Vec<Row<'a>>,
}

pub(super) fn read(
    session: &mut Session,
    method: &str,
    params: Option<&str>,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    // Other venues speak JSON-RPC, too.
    let ("subscription", Some(params)) = (method, params) else {
        sink.leave("JSON-RPC", method);
        return Ok(());
    };
    let Subscription { channel, data } = serde_json::from_str(params)?;
    match channel.split('.').next().unwrap_or_default() {
        "trades" => read_trades(&serde_json::from_str::<Vec<Trade>>(data.get())?, sink),
        kind @ ("quote" | "ticker" | "incremental_ticker") => {
            let best: Prices = serde_json::from_str(data.get())?;
            let (bid, bid_size) = (best.best_bid_price, best.best_bid_amount);
            let (ask, ask_size) = (best.best_ask_price, best.best_ask_amount);
            let size = |size: Option<Number>| size.map_or(Ok(rust_decimal::Decimal::ZERO), Number::size);
            let values = QuoteValues {
                bid: bid.map(Number::price).transpose()?.flatten(),
                bid_size: size(bid_size)?,
                ask: ask.map(Number::price).transpose()?.flatten(),
                ask_size: size(ask_size)?,
            };
            let (symbol, venue) = (&best.instrument_name, Some(best.timestamp.millis()?));
            match kind {
                "quote" => session.best_quote(symbol, &values, venue, sink),
                // A field that is absent has not changed; it may be the price.
                "incremental_ticker" => {
                    sink.leave(VENUE, kind);
                    Ok(())
                }
                _ => session.ticker(symbol, &values, venue, sink),
            }
        }
        "book" if session.folds() => read_book(session, &channel, &serde_json::from_str(data.get())?, sink),
        other => {
            sink.leave(VENUE, other);
            Ok(())
        }
    }
}

fn read_trades(trades: &[Trade], sink: &mut Sink) -> Result<(), MessageError> {
    for trade in trades {
        sink.trade(&Print {
            venue: VENUE,
            symbol: &trade.instrument_name,
            price: trade.price.decimal()?,
            size: trade.amount.decimal()?,
            side: side_named(&trade.direction)?,
            conditions: Conditions::default(),
            id: trade.id.as_deref().map(TradeId::text),
            time: Some(trade.timestamp.millis()?),
        })?;
    }
    Ok(())
}

fn read_book(
    session: &mut Session,
    channel: &str,
    stated: &Book,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let symbol = &*stated.instrument_name;
    let (rows, is_whole) = match stated.kind.as_deref() {
        None => (levels(&stated.bids, &stated.asks)?, true),
        Some(kind) => (changes(stated)?, kind == "snapshot"),
    };
    let venue = stated.timestamp.millis()?;
    let Some(book) = session.book_of(symbol, channel) else {
        sink.leave(VENUE, "book beside another of the same instrument");
        return Ok(());
    };
    if is_whole {
        book.depth.begin_snapshot();
    } else if !book.depth.is_whole() {
        sink.leave(VENUE, "book before its snapshot");
        return Ok(());
    } else if let (Some(last), Some(previous)) = (book.last, stated.prev_change_id)
        && previous != last
    {
        let reason = format!("changes are missing between {last} and {previous}");
        return Err(session.lost(symbol, reason, sink));
    }
    book.depth.set_all(rows);
    book.last = stated.change_id.or(book.last);
    session.told(symbol, Some(venue), sink)
}

fn changes(stated: &Book) -> Result<super::values::Levels, MessageError> {
    let bids = stated.bids.iter().map(|row| (Side::Buy, row));
    let asks = stated.asks.iter().map(|row| (Side::Sell, row));
    bids.chain(asks)
        .map(|(side, row)| match &row[..] {
            [word, price, _, ..] if word.text() == "delete" => Ok((side, price.decimal()?, 0.into())),
            [_, price, amount, ..] => Ok((side, price.decimal()?, amount.decimal()?)),
            _ => Err(MessageError::Shape("a price level has fewer than 3 values")),
        })
        .collect()
}
