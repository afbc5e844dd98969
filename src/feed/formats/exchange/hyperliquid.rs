//! Hyperliquid: `trades`, `bbo` and `l2Book`, which is always the full book. Nothing is numbered.

use super::MessageError;
use super::session::Session;
use super::values::{Number, side_named};
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::market::{Conditions, QuoteValues, Side};
use rust_decimal::Decimal;
use serde::Deserialize;
use std::borrow::Cow;

const VENUE: &str = "Hyperliquid";
/// Channels that no other venue has.
const OWN: [&str; 4] = ["subscriptionResponse", "allMids", "webData2", "pong"];

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(borrow)]
    coin: Cow<'a, str>,
    /// Of the taker: `B` has bought, `A` has sold.
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    px: Number<'a>,
    #[serde(borrow)]
    sz: Number<'a>,
    #[serde(borrow)]
    time: Number<'a>,
    tid: Option<u64>,
}

#[derive(Deserialize)]
struct Level<'a> {
    #[serde(borrow)]
    px: Number<'a>,
    #[serde(borrow)]
    sz: Number<'a>,
}

/// Bid and ask, null where there is none.
#[derive(Deserialize)]
struct Best<'a> {
    #[serde(borrow)]
    coin: Cow<'a, str>,
    #[serde(borrow)]
    time: Number<'a>,
    #[serde(borrow)]
    bbo: [Option<Level<'a>>; 2],
}

/// Bids and asks, the best first.
#[derive(Deserialize)]
struct Depth<'a> {
    #[serde(borrow)]
    coin: Cow<'a, str>,
    #[serde(borrow)]
    time: Number<'a>,
    #[serde(borrow)]
    levels: [Vec<Level<'a>>; 2],
}

pub(super) fn read(
    session: &mut Session,
    channel: &str,
    data: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    // Other venues have channels of such names.
    if !data.contains("\"coin\"") && !OWN.contains(&channel) {
        sink.leave("channel", channel);
        return Ok(());
    }
    match channel {
        "trades" => read_trades(&serde_json::from_str::<Vec<Trade>>(data)?, sink),
        "bbo" => {
            let best: Best = serde_json::from_str(data)?;
            let side = |level: &Option<Level>| match level {
                Some(level) => Ok::<_, MessageError>((level.px.price()?, level.sz.size()?)),
                None => Ok((None, Decimal::ZERO)),
            };
            let ((bid, bid_size), (ask, ask_size)) = (side(&best.bbo[0])?, side(&best.bbo[1])?);
            let values = QuoteValues { bid, bid_size, ask, ask_size };
            session.best_quote(&best.coin, &values, Some(best.time.millis()?), sink)
        }
        "l2Book" if session.folds() => {
            let stated: Depth = serde_json::from_str(data)?;
            let [bids, asks] = &stated.levels;
            let bids = bids.iter().map(|level| (Side::Buy, level));
            let asks = asks.iter().map(|level| (Side::Sell, level));
            let rows: Vec<_> = bids
                .chain(asks)
                .map(|(side, level)| Ok((side, level.px.decimal()?, level.sz.decimal()?)))
                .collect::<Result<_, MessageError>>()?;
            let venue = stated.time.millis()?;
            let book = &mut session.book(&stated.coin).depth;
            book.begin_snapshot();
            book.set_all(rows);
            session.told(&stated.coin, Some(venue), sink)
        }
        other => {
            sink.leave(VENUE, other);
            Ok(())
        }
    }
}

fn read_trades(trades: &[Trade], sink: &mut Sink) -> Result<(), MessageError> {
    let print = |trade: &Trade| -> Result<(crate::market::Timestamp, Decimal, Decimal, Side), MessageError> {
        Ok((trade.time.millis()?, trade.px.decimal()?, trade.sz.decimal()?, side_named(&trade.side)?))
    };
    let mut prints: Vec<_> =
        trades.iter().map(|trade| Ok((print(trade)?, trade))).collect::<Result<_, MessageError>>()?;
    // The first message has what was before the session, in an order that is not promised.
    prints.sort_by_key(|((time, ..), _)| *time);
    for ((time, price, size, side), trade) in prints {
        sink.trade(&Print {
            venue: VENUE,
            symbol: &trade.coin,
            price,
            size,
            side,
            conditions: Conditions::default(),
            id: trade.tid.map(TradeId::number),
            time: Some(time),
        })?;
    }
    Ok(())
}
