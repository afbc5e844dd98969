//! Coinbase Exchange: `ticker`, `match` and `last_match`, and depth as `snapshot` and `l2update`.

use super::MessageError;
use super::session::Session;
use super::values::{opposite, price_unless_zero, side_named};
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::feed::text::parse_time;
use crate::market::{Conditions, QuoteValues, Side, parse_decimal};
use rust_decimal::Decimal;
use serde::Deserialize;
use std::borrow::Cow;

const VENUE: &str = "Coinbase";

#[derive(Deserialize)]
struct Ticker<'a> {
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    #[serde(borrow)]
    best_bid: Cow<'a, str>,
    #[serde(borrow)]
    best_ask: Cow<'a, str>,
    /// Since 2022.
    #[serde(borrow)]
    best_bid_size: Option<Cow<'a, str>>,
    #[serde(borrow)]
    best_ask_size: Option<Cow<'a, str>>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Match<'a> {
    trade_id: Option<u64>,
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    #[serde(borrow)]
    price: Cow<'a, str>,
    #[serde(borrow)]
    size: Cow<'a, str>,
    /// Of the order that was in the book.
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    #[serde(borrow)]
    bids: Vec<[Cow<'a, str>; 2]>,
    #[serde(borrow)]
    asks: Vec<[Cow<'a, str>; 2]>,
}

#[derive(Deserialize)]
struct Update<'a> {
    #[serde(borrow)]
    product_id: Cow<'a, str>,
    /// Side, price, size.
    #[serde(borrow)]
    changes: Vec<[Cow<'a, str>; 3]>,
    #[serde(borrow)]
    time: Option<Cow<'a, str>>,
}

pub(super) fn read(
    session: &mut Session,
    kind: &str,
    message: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    match kind {
        "ticker" => read_quote(session, &serde_json::from_str(message)?, sink),
        // The last trade before the session comes first; its time shows that. After a reconnect it is a
        // duplicate.
        "match" | "last_match" => read_trade(&serde_json::from_str(message)?, sink),
        "snapshot" if session.folds() => read_snapshot(session, &serde_json::from_str(message)?, sink),
        "l2update" if session.folds() => read_update(session, &serde_json::from_str(message)?, sink),
        "snapshot" | "l2update" | "heartbeat" | "status" | "received" | "open" | "done" | "change"
        | "activate" => {
            sink.leave(VENUE, kind);
            Ok(())
        }
        // Other venues have products.
        other => {
            sink.leave("messages of type", other);
            Ok(())
        }
    }
}

fn read_quote(session: &mut Session, ticker: &Ticker, sink: &mut Sink) -> Result<(), MessageError> {
    let size = |text: &Option<Cow<str>>| text.as_deref().map_or(Ok(Decimal::ZERO), parse_decimal);
    let values = QuoteValues {
        bid: price_unless_zero(&ticker.best_bid)?,
        bid_size: size(&ticker.best_bid_size)?,
        ask: price_unless_zero(&ticker.best_ask)?,
        ask_size: size(&ticker.best_ask_size)?,
    };
    let venue = ticker.time.as_deref().map(parse_time).transpose()?;
    session.quote(&ticker.product_id, &values, venue, sink)
}

fn read_trade(trade: &Match, sink: &mut Sink) -> Result<(), MessageError> {
    Ok(sink.trade(&Print {
        venue: VENUE,
        symbol: &trade.product_id,
        price: parse_decimal(&trade.price)?,
        size: parse_decimal(&trade.size)?,
        side: opposite(side_named(&trade.side)?),
        conditions: Conditions::default(),
        id: trade.trade_id.map(TradeId::number),
        time: Some(parse_time(&trade.time)?),
    })?)
}

fn read_snapshot(session: &mut Session, snapshot: &Snapshot, sink: &mut Sink) -> Result<(), MessageError> {
    let rows = |side, rows: &[[Cow<str>; 2]]| -> Result<Vec<_>, MessageError> {
        rows.iter().map(|[price, size]| Ok((side, parse_decimal(price)?, parse_decimal(size)?))).collect()
    };
    let (bids, asks) = (rows(Side::Buy, &snapshot.bids)?, rows(Side::Sell, &snapshot.asks)?);
    let book = &mut session.book(&snapshot.product_id).depth;
    book.begin_snapshot();
    book.set_all(bids.into_iter().chain(asks));
    session.told(&snapshot.product_id, None, sink)
}

fn read_update(session: &mut Session, update: &Update, sink: &mut Sink) -> Result<(), MessageError> {
    let rows: Vec<_> = update
        .changes
        .iter()
        .map(|[side, price, size]| Ok((side_named(side)?, parse_decimal(price)?, parse_decimal(size)?)))
        .collect::<Result<_, MessageError>>()?;
    let venue = update.time.as_deref().map(parse_time).transpose()?;
    let book = &mut session.book(&update.product_id).depth;
    if !book.is_whole() {
        sink.leave(VENUE, "l2update before its snapshot");
        return Ok(());
    }
    book.set_all(rows);
    session.told(&update.product_id, venue, sink)
}
