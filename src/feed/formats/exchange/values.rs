//! How venues write numbers, sides and times.

use super::MessageError;
use crate::feed::text::nanos_from_seconds;
use crate::market::{NumberError, Side, Timestamp, parse_decimal};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A number in JSON, in quotation marks or not. It is read from its text, never through a float, to keep its
/// decimals.
#[derive(Clone, Copy, Deserialize)]
#[serde(transparent)]
pub(super) struct Number<'a>(#[serde(borrow)] &'a RawValue);

impl<'a> Number<'a> {
    pub(super) fn text(self) -> &'a str {
        let text = self.0.get();
        text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
    }

    pub(super) fn decimal(self) -> Result<Decimal, NumberError> {
        parse_decimal(self.text())
    }

    /// `None` for an empty text, `null` and 0, as venues write a side without an order.
    pub(super) fn price(self) -> Result<Option<Decimal>, NumberError> {
        match self.text() {
            "" | "null" => Ok(None),
            text => price_unless_zero(text),
        }
    }

    pub(super) fn size(self) -> Result<Decimal, NumberError> {
        match self.text() {
            "" | "null" => Ok(Decimal::ZERO),
            text => parse_decimal(text),
        }
    }

    pub(super) fn millis(self) -> Result<Timestamp, MessageError> {
        let error = || MessageError::Unit { text: self.text().chars().take(40).collect(), expected: "ms" };
        self.text().parse().map_err(|_| error()).and_then(from_millis)
    }
}

/// Price, size, and a venue's further values of a level.
pub(super) type Row<'a> = Vec<Number<'a>>;
pub(super) type Levels = Vec<(Side, Decimal, Decimal)>;

/// All numbers of a message, before any of them is used.
pub(super) fn levels(bids: &[Row], asks: &[Row]) -> Result<Levels, MessageError> {
    let bids = bids.iter().map(|row| (Side::Buy, row));
    let asks = asks.iter().map(|row| (Side::Sell, row));
    bids.chain(asks)
        .map(|(side, row)| match &row[..] {
            [price, size, ..] => Ok((side, price.decimal()?, size.decimal()?)),
            _ => Err(MessageError::Shape("a price level has fewer than 2 values")),
        })
        .collect()
}

/// A price of 0 is how several exchanges write an empty side.
pub(super) fn price_unless_zero(text: &str) -> Result<Option<Decimal>, NumberError> {
    parse_decimal(text).map(|price| Some(price).filter(|price| !price.is_zero()))
}

pub(super) fn side_named(text: &str) -> Result<Side, MessageError> {
    match text {
        "buy" | "Buy" | "BUY" | "b" | "B" | "bid" => Ok(Side::Buy),
        "sell" | "Sell" | "SELL" | "s" | "S" | "A" | "ask" | "offer" => Ok(Side::Sell),
        other => Err(MessageError::Side(other.chars().take(40).collect())),
    }
}

pub(super) fn opposite(side: Side) -> Side {
    match side {
        Side::Buy => Side::Sell,
        Side::Sell => Side::Buy,
        Side::None => Side::None,
    }
}

/// Milliseconds since 1970. From 10^14 on, which would be the year 5138, they are us, as Binance sends them
/// where it is asked to; from 10^17 on ns.
pub(super) fn from_millis(ms: i64) -> Result<Timestamp, MessageError> {
    let unit = match ms.unsigned_abs() {
        ..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    let error = || MessageError::Unit { text: ms.to_string(), expected: "ms" };
    ms.checked_mul(unit).map(Timestamp::from_nanos).ok_or_else(error)
}

pub(super) fn from_seconds(text: &str) -> Result<Timestamp, MessageError> {
    let error = || MessageError::Unit { text: text.chars().take(40).collect(), expected: "seconds" };
    nanos_from_seconds(text).map(Timestamp::from_nanos).ok_or_else(error)
}
