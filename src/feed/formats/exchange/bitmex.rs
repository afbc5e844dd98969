//! BitMEX: tables `trade`, `quote` and `orderBookL2`, whose rows are inserted, updated and deleted. Prices
//! are JSON numbers, some with an exponent (`3.5e-7`): they are read from their text, never by way of a
//! float.

use super::MessageError;
use super::session::Session;
use super::values::side_named;
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::feed::text::parse_time;
use crate::market::{Conditions, NumberError, QuoteValues, Side, Timestamp, parse_decimal};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

const VENUE: &str = "BitMEX";

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    side: Option<Cow<'a, str>>,
    #[serde(borrow)]
    size: &'a RawValue,
    #[serde(borrow)]
    price: &'a RawValue,
    #[serde(rename = "trdMatchID", borrow)]
    id: Option<Cow<'a, str>>,
}

/// A side without an order is null.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Quote<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    bid_size: Option<&'a RawValue>,
    #[serde(borrow)]
    bid_price: Option<&'a RawValue>,
    #[serde(borrow)]
    ask_price: Option<&'a RawValue>,
    #[serde(borrow)]
    ask_size: Option<&'a RawValue>,
}

/// A price level; an update and a deletion name only the level and its new fields.
#[derive(Deserialize)]
struct Level<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    id: u64,
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    size: Option<&'a RawValue>,
    #[serde(borrow)]
    price: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
}

pub(super) fn read(
    session: &mut Session,
    table: &str,
    action: &str,
    data: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    match (table, action) {
        // The newest one before the session comes first, as a partial; its time shows that.
        ("trade", "partial" | "insert") => read_trades(&serde_json::from_str::<Vec<Trade>>(data)?, sink),
        ("quote", "partial" | "insert") => {
            read_quotes(session, &serde_json::from_str::<Vec<Quote>>(data)?, sink)
        }
        ("orderBookL2" | "orderBookL2_25", _) if session.folds() => {
            read_levels(session, action, &serde_json::from_str::<Vec<Level>>(data)?, sink)
        }
        _ => {
            sink.leave(VENUE, table);
            Ok(())
        }
    }
}

fn read_trades(trades: &[Trade], sink: &mut Sink) -> Result<(), MessageError> {
    for trade in trades {
        let side = match trade.side.as_deref() {
            None | Some("") => Side::None,
            Some(side) => side_named(side)?,
        };
        sink.trade(&Print {
            venue: VENUE,
            symbol: &trade.symbol,
            price: number(trade.price)?,
            size: number(trade.size)?,
            side,
            conditions: Conditions::default(),
            id: trade.id.as_deref().map(TradeId::text),
            time: Some(parse_time(&trade.timestamp)?),
        })?;
    }
    Ok(())
}

fn read_quotes(session: &mut Session, quotes: &[Quote], sink: &mut Sink) -> Result<(), MessageError> {
    for quote in quotes {
        let size = |size: Option<&RawValue>| size.map_or(Ok(Decimal::ZERO), number);
        let values = QuoteValues {
            bid: quote.bid_price.map(number).transpose()?,
            bid_size: size(quote.bid_size)?,
            ask: quote.ask_price.map(number).transpose()?,
            ask_size: size(quote.ask_size)?,
        };
        session.quote(&quote.symbol, &values, Some(parse_time(&quote.timestamp)?), sink)?;
    }
    Ok(())
}

fn read_levels(
    session: &mut Session,
    action: &str,
    levels: &[Level],
    sink: &mut Sink,
) -> Result<(), MessageError> {
    // Rows of one symbol are adjacent.
    for rows in levels.chunk_by(|a, b| a.symbol == b.symbol) {
        let symbol = &*rows[0].symbol;
        let book = session.book(symbol);
        if action == "partial" {
            book.depth.begin_snapshot();
            book.levels.clear();
        } else if !book.depth.is_whole() {
            sink.leave(VENUE, "orderBookL2 before its partial");
            continue;
        }
        let mut venue: Option<Timestamp> = None;
        for row in rows {
            if !set(session, action, row)? {
                let reason = format!("level {} is not known", row.id);
                return Err(session.lost(symbol, reason, sink));
            }
            let time = row.timestamp.as_deref().map(parse_time).transpose()?;
            venue = venue.max(time);
        }
        session.told(symbol, venue, sink)?;
    }
    Ok(())
}

/// Puts a row into its book; false if it is of a level that was never inserted.
fn set(session: &mut Session, action: &str, row: &Level) -> Result<bool, MessageError> {
    let (price, size) = (row.price.map(number).transpose()?, row.size.map(number).transpose()?);
    let side = side_named(&row.side)?;
    let book = session.book(&row.symbol);
    if action == "delete" {
        let Some((side, price)) = book.levels.remove(&row.id) else { return Ok(false) };
        book.depth.set(side, price, Decimal::ZERO);
        return Ok(true);
    }
    let known = book.levels.get(&row.id).copied();
    let Some(price) = price.or(known.map(|(_, price)| price)) else { return Ok(false) };
    // A level that changes its side was one order that went through the other's.
    if let Some((old_side, old_price)) = known.filter(|&known| known != (side, price)) {
        book.depth.set(old_side, old_price, Decimal::ZERO);
    }
    book.levels.insert(row.id, (side, price));
    if let Some(size) = size {
        book.depth.set(side, price, size);
    }
    Ok(true)
}

fn number(value: &RawValue) -> Result<Decimal, NumberError> {
    parse_decimal(value.get())
}
