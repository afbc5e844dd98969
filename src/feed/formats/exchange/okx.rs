//! OKX, fifth version of its protocol: `trades`, `trades-all`, `bbo-tbt`, `tickers`, and depth: `books` and
//! its like by consecutive updates with checksums, `books5` in full.

use super::MessageError;
use super::session::Session;
use super::values::{Number, Row, levels, side_named};
use crate::feed::formats::book::DepthBook;
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::market::{Conditions, QuoteValues};
use serde::Deserialize;
use std::borrow::Cow;

const VENUE: &str = "OKX";

#[derive(Deserialize)]
struct Argument<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(rename = "instId", borrow)]
    instrument: Option<Cow<'a, str>>,
    #[serde(rename = "instType", borrow)]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trade<'a> {
    #[serde(borrow)]
    inst_id: Cow<'a, str>,
    #[serde(rename = "tradeId", borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    px: Number<'a>,
    #[serde(borrow)]
    sz: Number<'a>,
    /// Of the taker.
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    ts: Number<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ticker<'a> {
    #[serde(borrow)]
    inst_id: Cow<'a, str>,
    #[serde(borrow)]
    bid_px: Number<'a>,
    #[serde(borrow)]
    bid_sz: Number<'a>,
    #[serde(borrow)]
    ask_px: Number<'a>,
    #[serde(borrow)]
    ask_sz: Number<'a>,
    #[serde(borrow)]
    ts: Number<'a>,
}

/// Levels are price, size, an obsolete number, and the count of orders.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Depth<'a> {
    #[serde(borrow)]
    bids: Vec<Row<'a>>,
    #[serde(borrow)]
    asks: Vec<Row<'a>>,
    #[serde(borrow)]
    ts: Number<'a>,
    seq_id: Option<i64>,
    prev_seq_id: Option<i64>,
    checksum: Option<i64>,
}

pub(super) fn read(
    session: &mut Session,
    argument: &str,
    action: &str,
    data: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let argument: Argument = serde_json::from_str(argument)?;
    // Bitget's messages are much the same, and name both.
    if argument.instrument.is_some() && argument.kind.is_some() {
        sink.leave("Bitget", &argument.channel);
        return Ok(());
    }
    let of = || argument.instrument.as_deref().ok_or(MessageError::Shape("a message names no instrument"));
    match &*argument.channel {
        "trades" | "trades-all" => read_trades(&serde_json::from_str::<Vec<Trade>>(data)?, sink),
        "bbo-tbt" => {
            for best in serde_json::from_str::<Vec<Depth>>(data)? {
                let side = |rows: &[Row]| match rows.first().map(Vec::as_slice) {
                    Some([price, size, ..]) => Ok::<_, MessageError>((price.price()?, size.size()?)),
                    _ => Ok((None, rust_decimal::Decimal::ZERO)),
                };
                let ((bid, bid_size), (ask, ask_size)) = (side(&best.bids)?, side(&best.asks)?);
                let values = QuoteValues { bid, bid_size, ask, ask_size };
                session.best_quote(of()?, &values, Some(best.ts.millis()?), sink)?;
            }
            Ok(())
        }
        "tickers" => read_tickers(session, &serde_json::from_str::<Vec<Ticker>>(data)?, sink),
        channel @ ("books" | "books5" | "books-l2-tbt" | "books50-l2-tbt") if session.folds() => {
            let is_whole = channel == "books5" || action == "snapshot";
            let depths: Vec<Depth> = serde_json::from_str(data)?;
            depths.iter().try_for_each(|depth| read_depth(session, (of()?, channel), is_whole, depth, sink))
        }
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
            symbol: &trade.inst_id,
            price: trade.px.decimal()?,
            size: trade.sz.decimal()?,
            side: side_named(&trade.side)?,
            conditions: Conditions::default(),
            id: trade.id.as_deref().map(TradeId::text),
            time: Some(trade.ts.millis()?),
        })?;
    }
    Ok(())
}

fn read_tickers(session: &mut Session, tickers: &[Ticker], sink: &mut Sink) -> Result<(), MessageError> {
    for ticker in tickers {
        let values = QuoteValues {
            bid: ticker.bid_px.price()?,
            bid_size: ticker.bid_sz.size()?,
            ask: ticker.ask_px.price()?,
            ask_size: ticker.ask_sz.size()?,
        };
        session.ticker(&ticker.inst_id, &values, Some(ticker.ts.millis()?), sink)?;
    }
    Ok(())
}

fn read_depth(
    session: &mut Session,
    (symbol, channel): (&str, &str),
    is_whole: bool,
    stated: &Depth,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let rows = levels(&stated.bids, &stated.asks)?;
    let venue = stated.ts.millis()?;
    let Some(book) = session.book_of(symbol, channel) else {
        sink.leave(VENUE, "depth beside another of the same instrument");
        return Ok(());
    };
    if is_whole {
        book.depth.begin_snapshot();
    } else if !book.depth.is_whole() {
        sink.leave(VENUE, "depth before its snapshot");
        return Ok(());
    } else if let (Some(last), Some(previous)) = (book.last, stated.prev_seq_id)
        && previous != last
    {
        let reason = format!("depth updates are missing between {last} and {previous}");
        return Err(session.lost(symbol, reason, sink));
    }
    book.depth.set_all(rows);
    // After maintenance it may be smaller than before, and the next one follows it.
    book.last = stated.seq_id.or(book.last);
    // 0 is sent if none is computed.
    let stated_checksum = stated.checksum.filter(|&checksum| checksum != 0);
    if stated_checksum.is_some_and(|stated| stated != i64::from(checksum(&book.depth))) {
        return Err(session.lost(symbol, "the checksum does not match".to_owned(), sink));
    }
    session.told(symbol, Some(venue), sink)
}

/// CRC-32, signed, of the 25 best bids and asks in turn, price and size as written, joined by colons.
fn checksum(book: &DepthBook) -> i32 {
    let (mut bids, mut asks) = (book.bids().take(25), book.asks().take(25));
    let mut texts = Vec::new();
    loop {
        let (bid, ask) = (bids.next(), asks.next());
        if bid.is_none() && ask.is_none() {
            break;
        }
        texts.extend(
            bid.into_iter().chain(ask).flat_map(|(price, size)| [price.to_string(), size.to_string()]),
        );
    }
    let mut crc = flate2::Crc::new();
    crc.update(texts.join(":").as_bytes());
    crc.sum().cast_signed()
}
