//! Kraken, first version of its protocol: arrays of channel number, one or more payloads, channel name and
//! pair. Read from the end, since an update of both sides of a book has two payloads.

use super::MessageError;
use super::session::Session;
use super::values::{from_seconds, side_named};
use crate::feed::formats::book::DepthBook;
use crate::feed::formats::sink::{Print, Sink};
use crate::market::{Conditions, QuoteValues, Side, Timestamp, parse_decimal};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

const VENUE: &str = "Kraken";

/// The best ask and bid: price, whole lots, and the size exactly. No time is stated.
#[derive(Deserialize)]
struct Ticker<'a> {
    #[serde(borrow)]
    a: (Cow<'a, str>, &'a RawValue, Cow<'a, str>),
    #[serde(borrow)]
    b: (Cow<'a, str>, &'a RawValue, Cow<'a, str>),
}

/// Price, size, time, then for trades side, type of order and more; for levels, an `r` if it is repeated.
type Row<'a> = Vec<Cow<'a, str>>;

#[derive(Default, Deserialize)]
struct Levels<'a> {
    /// A snapshot.
    #[serde(rename = "as", borrow)]
    all_asks: Option<Vec<Row<'a>>>,
    #[serde(rename = "bs", borrow)]
    all_bids: Option<Vec<Row<'a>>>,
    #[serde(rename = "a", borrow)]
    asks: Option<Vec<Row<'a>>>,
    #[serde(rename = "b", borrow)]
    bids: Option<Vec<Row<'a>>>,
    #[serde(rename = "c", borrow)]
    checksum: Option<Cow<'a, str>>,
}

const SHAPE: MessageError =
    MessageError::Shape("expected an array of channel, payload, channel name and pair");

pub(super) fn read(session: &mut Session, parts: &[&RawValue], sink: &mut Sink) -> Result<(), MessageError> {
    let [_, payloads @ .., channel, pair] = parts else { return Err(SHAPE) };
    let payload = payloads.first().ok_or(SHAPE)?.get();
    let channel: Cow<str> = text(channel)?;
    let pair: Cow<str> = text(pair)?;
    match channel.split_once('-').map_or(&*channel, |(name, _)| name) {
        "trade" => read_trades(&pair, &serde_json::from_str::<Vec<Row>>(payload)?, sink),
        "ticker" => read_ticker(session, &pair, &serde_json::from_str(payload)?, sink),
        "spread" => read_spread(session, &pair, &serde_json::from_str::<Row>(payload)?, sink),
        "book" if session.folds() => {
            let depth =
                channel.split_once('-').and_then(|(_, depth)| depth.parse().ok()).unwrap_or(usize::MAX);
            read_book(session, &pair, depth, payloads, sink)
        }
        other => {
            sink.leave(VENUE, other);
            Ok(())
        }
    }
}

fn text(value: &RawValue) -> Result<Cow<'_, str>, MessageError> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    Ok(serde_json::from_str::<Text>(value.get())?.0)
}

fn read_trades(pair: &str, trades: &[Row], sink: &mut Sink) -> Result<(), MessageError> {
    for trade in trades {
        let [price, size, time, side, ..] = &trade[..] else {
            return Err(MessageError::Shape("a trade has fewer than 4 values"));
        };
        sink.trade(&Print {
            venue: VENUE,
            symbol: pair,
            price: parse_decimal(price)?,
            size: parse_decimal(size)?,
            side: side_named(side)?,
            conditions: Conditions::default(),
            // The first protocol has none.
            id: None,
            time: Some(from_seconds(time)?),
        })?;
    }
    Ok(())
}

fn read_ticker(
    session: &mut Session,
    pair: &str,
    ticker: &Ticker,
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let values = QuoteValues {
        bid: Some(parse_decimal(&ticker.b.0)?),
        bid_size: parse_decimal(&ticker.b.2)?,
        ask: Some(parse_decimal(&ticker.a.0)?),
        ask_size: parse_decimal(&ticker.a.2)?,
    };
    session.quote(pair, &values, None, sink)
}

fn read_spread(session: &mut Session, pair: &str, spread: &Row, sink: &mut Sink) -> Result<(), MessageError> {
    let [bid, ask, time, bid_size, ask_size, ..] = &spread[..] else {
        return Err(MessageError::Shape("a spread has fewer than 5 values"));
    };
    let values = QuoteValues {
        bid: Some(parse_decimal(bid)?),
        bid_size: parse_decimal(bid_size)?,
        ask: Some(parse_decimal(ask)?),
        ask_size: parse_decimal(ask_size)?,
    };
    session.quote(pair, &values, Some(from_seconds(time)?), sink)
}

fn read_book(
    session: &mut Session,
    pair: &str,
    depth: usize,
    payloads: &[&RawValue],
    sink: &mut Sink,
) -> Result<(), MessageError> {
    let (mut rows, mut is_snapshot, mut checksum) = (Vec::new(), false, None);
    let mut venue: Option<Timestamp> = None;
    for payload in payloads {
        let levels: Levels = serde_json::from_str(payload.get())?;
        is_snapshot |= levels.all_asks.is_some() || levels.all_bids.is_some();
        let asks = levels.all_asks.into_iter().chain(levels.asks).flatten().map(|row| (Side::Sell, row));
        let bids = levels.all_bids.into_iter().chain(levels.bids).flatten().map(|row| (Side::Buy, row));
        for (side, row) in asks.chain(bids) {
            let [price, size, time, ..] = &row[..] else {
                return Err(MessageError::Shape("a price level has fewer than 3 values"));
            };
            venue = venue.max(Some(from_seconds(time)?));
            rows.push((side, parse_decimal(price)?, parse_decimal(size)?));
        }
        if let Some(stated) = levels.checksum {
            checksum =
                Some(stated.parse::<u32>().map_err(|_| MessageError::Shape("the checksum is no number"))?);
        }
    }
    let book = &mut session.book(pair).depth;
    if is_snapshot {
        book.begin_snapshot();
    } else if !book.is_whole() {
        sink.leave(VENUE, "book before its snapshot");
        return Ok(());
    }
    book.set_all(rows);
    book.trim(depth);
    if let Some(stated) = checksum
        && stated != self::checksum(book)
    {
        return Err(session.lost(pair, "the checksum does not match".to_owned(), sink));
    }
    session.told(pair, venue, sink)
}

/// CRC-32 of the ten best asks and bids: the digits of price and size as written, without the point and
/// leading zeros.
fn checksum(book: &DepthBook) -> u32 {
    fn add(crc: &mut flate2::Crc, number: Decimal) {
        crc.update(number.mantissa().to_string().as_bytes());
    }
    let mut crc = flate2::Crc::new();
    for (&price, &size) in book.asks().take(10).chain(book.bids().take(10)) {
        add(&mut crc, price);
        add(&mut crc, size);
    }
    crc.sum()
}
