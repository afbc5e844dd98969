//! Bitstamp: `live_trades_PAIR`, and the full books of `order_book_PAIR`. The changes of
//! `diff_order_book_PAIR` are left out: they do not state the book that they change.

use super::MessageError;
use super::session::Session;
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::market::{Conditions, Side, Timestamp, parse_decimal};
use serde::Deserialize;
use std::borrow::Cow;

const VENUE: &str = "Bitstamp";

#[derive(Deserialize)]
struct Trade<'a> {
    id: Option<u64>,
    #[serde(borrow)]
    price_str: Cow<'a, str>,
    #[serde(borrow)]
    amount_str: Cow<'a, str>,
    /// 0 is a buy, 1 a sell, by the side of the order that came later.
    #[serde(rename = "type")]
    kind: u8,
    #[serde(borrow)]
    microtimestamp: Cow<'a, str>,
}

#[derive(Deserialize)]
struct OrderBook<'a> {
    #[serde(borrow)]
    bids: Vec<[Cow<'a, str>; 2]>,
    #[serde(borrow)]
    asks: Vec<[Cow<'a, str>; 2]>,
    #[serde(borrow)]
    microtimestamp: Cow<'a, str>,
}

pub(super) fn read(
    session: &mut Session,
    channel: &str,
    data: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    // The answer to a subscription.
    if data == "{}" {
        sink.leave(VENUE, "answers");
        return Ok(());
    }
    if let Some(pair) = channel.strip_prefix("live_trades_") {
        let trade: Trade = serde_json::from_str(data)?;
        let side = match trade.kind {
            0 => Side::Buy,
            1 => Side::Sell,
            other => return Err(MessageError::Side(other.to_string())),
        };
        Ok(sink.trade(&Print {
            venue: VENUE,
            symbol: pair,
            price: parse_decimal(&trade.price_str)?,
            size: parse_decimal(&trade.amount_str)?,
            side,
            conditions: Conditions::default(),
            id: trade.id.map(TradeId::number),
            time: Some(time(&trade.microtimestamp)?),
        })?)
    } else if let Some(pair) = channel.strip_prefix("order_book_") {
        let stated: OrderBook = serde_json::from_str(data)?;
        let bids = stated.bids.iter().map(|row| (Side::Buy, row));
        let asks = stated.asks.iter().map(|row| (Side::Sell, row));
        let rows = bids
            .chain(asks)
            .map(|(side, [price, size])| Ok((side, parse_decimal(price)?, parse_decimal(size)?)));
        let rows: Vec<_> = rows.collect::<Result<_, MessageError>>()?;
        let book = &mut session.book(pair).depth;
        book.begin_snapshot();
        book.set_all(rows);
        session.told(pair, Some(time(&stated.microtimestamp)?), sink)
    } else {
        sink.leave(VENUE, channel.rsplit_once('_').map_or(channel, |(name, _)| name));
        Ok(())
    }
}

fn time(micros: &str) -> Result<Timestamp, MessageError> {
    let error = || MessageError::Unit { text: micros.chars().take(40).collect(), expected: "us" };
    let micros: i64 = micros.parse().map_err(|_| error())?;
    micros.checked_mul(1000).map(Timestamp::from_nanos).ok_or_else(error)
}
