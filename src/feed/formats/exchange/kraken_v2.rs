//! Kraken, second version of its protocol: channels `trade`, `ticker` and `book`, whose checksums are
//! checked.

use super::MessageError;
use super::session::Session;
use super::values::{Number, side_named};
use crate::feed::formats::book::DepthBook;
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::feed::text::parse_time;
use crate::market::{Conditions, QuoteValues, Side};
use rust_decimal::Decimal;
use serde::Deserialize;
use std::borrow::Cow;

const VENUE: &str = "Kraken v2";

/// The number of the connection, which its first message states.
#[derive(Default)]
pub(super) struct Connection(Option<u64>);

#[derive(Deserialize)]
struct Status {
    connection_id: Option<u64>,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    side: Cow<'a, str>,
    #[serde(borrow)]
    price: Number<'a>,
    #[serde(borrow)]
    qty: Number<'a>,
    #[serde(rename = "trade_id")]
    id: Option<u64>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Ticker<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    bid: Number<'a>,
    #[serde(borrow)]
    bid_qty: Number<'a>,
    #[serde(borrow)]
    ask: Number<'a>,
    #[serde(borrow)]
    ask_qty: Number<'a>,
    /// Since 2025.
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Book<'a> {
    #[serde(borrow)]
    symbol: Cow<'a, str>,
    #[serde(borrow)]
    bids: Vec<Level<'a>>,
    #[serde(borrow)]
    asks: Vec<Level<'a>>,
    checksum: Option<u32>,
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Level<'a> {
    #[serde(borrow)]
    price: Number<'a>,
    #[serde(borrow)]
    qty: Number<'a>,
}

pub(super) fn read(
    session: &mut Session,
    channel: &str,
    kind: &str,
    data: &str,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    match channel {
        "trade" => read_trades(&serde_json::from_str::<Vec<Trade>>(data)?, sink),
        "ticker" => read_tickers(session, &serde_json::from_str::<Vec<Ticker>>(data)?, sink),
        "book" if session.folds() => {
            read_books(session, kind == "snapshot", &serde_json::from_str::<Vec<Book>>(data)?, sink)
        }
        "status" => {
            sink.leave(VENUE, channel);
            let connection =
                serde_json::from_str::<Vec<Status>>(data)?.first().and_then(|status| status.connection_id);
            let before = session.kraken.0;
            session.kraken.0 = connection.or(before);
            // The state of the connection before it may be outdated.
            if before.is_some() && session.kraken.0 != before { session.begin_anew(sink) } else { Ok(()) }
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
            symbol: &trade.symbol,
            price: trade.price.decimal()?,
            size: trade.qty.decimal()?,
            side: side_named(&trade.side)?,
            conditions: Conditions::default(),
            id: trade.id.map(TradeId::number),
            time: Some(parse_time(&trade.timestamp)?),
        })?;
    }
    Ok(())
}

fn read_tickers(session: &mut Session, tickers: &[Ticker], sink: &mut Sink) -> Result<(), MessageError> {
    for ticker in tickers {
        let values = QuoteValues {
            bid: ticker.bid.price()?,
            bid_size: ticker.bid_qty.size()?,
            ask: ticker.ask.price()?,
            ask_size: ticker.ask_qty.size()?,
        };
        let venue = ticker.timestamp.as_deref().map(parse_time).transpose()?;
        session.quote(&ticker.symbol, &values, venue, sink)?;
    }
    Ok(())
}

fn read_books(
    session: &mut Session,
    is_snapshot: bool,
    books: &[Book],
    sink: &mut Sink,
) -> Result<(), MessageError> {
    for stated in books {
        let bids = stated.bids.iter().map(|level| (Side::Buy, level));
        let asks = stated.asks.iter().map(|level| (Side::Sell, level));
        let rows: Vec<_> = bids
            .chain(asks)
            .map(|(side, level)| Ok((side, level.price.decimal()?, level.qty.decimal()?)))
            .collect::<Result<_, MessageError>>()?;
        let venue = stated.timestamp.as_deref().map(parse_time).transpose()?;
        let book = session.book(&stated.symbol);
        if is_snapshot {
            book.depth.begin_snapshot();
            // The requested depth: levels that fall out of it are not reported.
            book.last = i64::try_from(depth_of(stated.bids.len().max(stated.asks.len()))).ok();
        } else if !book.depth.is_whole() {
            sink.leave(VENUE, "book before its snapshot");
            continue;
        }
        book.depth.set_all(rows);
        book.depth.trim(book.last.and_then(|depth| usize::try_from(depth).ok()).unwrap_or(usize::MAX));
        if stated.checksum.is_some_and(|stated| stated != checksum(&book.depth)) {
            return Err(session.lost(&stated.symbol, "the checksum does not match".to_owned(), sink));
        }
        session.told(&stated.symbol, venue, sink)?;
    }
    Ok(())
}

/// The smallest depth that can be requested and holds all levels of one side of a snapshot.
fn depth_of(levels: usize) -> usize {
    [10, 25, 100, 500, 1000].into_iter().find(|&depth| depth >= levels).unwrap_or(usize::MAX)
}

/// CRC-32 of the ten best asks and bids: the digits of price and size to the instrument's last decimal,
/// without the point and leading zeros. All have the same decimals on the wire; a recorder that read them as
/// numbers has dropped trailing zeros, which are restored.
fn checksum(book: &DepthBook) -> u32 {
    let best = || book.asks().take(10).chain(book.bids().take(10));
    let finest = |numbers: &mut dyn Iterator<Item = u32>| numbers.max().unwrap_or(0);
    let (price_scale, size_scale) = book.finest();
    let price_scale = price_scale.max(finest(&mut best().map(|(price, _)| price.scale())));
    let size_scale = size_scale.max(finest(&mut best().map(|(_, size)| size.scale())));
    let mut crc = flate2::Crc::new();
    let mut add = |mut number: Decimal, scale: u32| {
        number.rescale(scale);
        crc.update(number.mantissa().to_string().as_bytes());
    };
    for (&price, &size) in best() {
        add(price, price_scale);
        add(size, size_scale);
    }
    crc.sum()
}
