//! Alpaca: arrays of messages whose kind is `T`, of stocks and of crypto. Trades of stocks have the tape's
//! conditions, and are corrected and cancelled by later messages. Bars, statuses and price bands are not
//! read.

use super::MessageError;
use super::session::Session;
use super::values::{Number, side_named};
use crate::feed::Tape;
use crate::feed::formats::known::SHARES_SINCE;
use crate::feed::formats::seen::TradeId;
use crate::feed::formats::sink::{Print, Sink};
use crate::feed::text::parse_time;
use crate::market::{Conditions, Counts, NumberError, QuoteValues, Side, Timestamp};
use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

const VENUE: &str = "Alpaca";
/// The start of each line of a session that is messages only.
const BEGINNING: &str = "[{\"T\":\"";

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "T", borrow)]
    kind: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Trade<'a> {
    #[serde(rename = "S", borrow)]
    symbol: Cow<'a, str>,
    /// Only the exchange's own.
    #[serde(rename = "i", borrow)]
    id: Option<Number<'a>>,
    #[serde(rename = "x", borrow)]
    exchange: Option<Cow<'a, str>>,
    #[serde(rename = "p", borrow)]
    price: Number<'a>,
    #[serde(rename = "s", borrow)]
    size: Number<'a>,
    #[serde(rename = "c")]
    conditions: Option<Vec<String>>,
    #[serde(rename = "t", borrow)]
    time: Cow<'a, str>,
    #[serde(rename = "z", borrow)]
    tape: Option<Cow<'a, str>>,
    /// Of crypto: the side of the taker.
    #[serde(rename = "tks", borrow)]
    taker: Option<Cow<'a, str>>,
}

/// A price of 0 is an empty side.
#[derive(Deserialize)]
struct Quote<'a> {
    #[serde(rename = "S", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "bp", borrow)]
    bid: Number<'a>,
    #[serde(rename = "bs", borrow)]
    bid_size: Number<'a>,
    #[serde(rename = "ap", borrow)]
    ask: Number<'a>,
    #[serde(rename = "as", borrow)]
    ask_size: Number<'a>,
    #[serde(rename = "t", borrow)]
    time: Cow<'a, str>,
    /// Of stocks.
    #[serde(rename = "z", borrow)]
    tape: Option<Cow<'a, str>>,
}

/// Its time is that of the message, not of the trade.
#[derive(Deserialize)]
struct Correction<'a> {
    #[serde(rename = "S", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "x", borrow)]
    exchange: Cow<'a, str>,
    #[serde(rename = "oi", borrow)]
    original: Number<'a>,
    #[serde(rename = "ci", borrow)]
    id: Number<'a>,
    #[serde(rename = "cp", borrow)]
    price: Number<'a>,
    #[serde(rename = "cs", borrow)]
    size: Number<'a>,
    #[serde(rename = "cc")]
    conditions: Option<Vec<String>>,
    #[serde(rename = "z", borrow)]
    tape: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Cancellation<'a> {
    #[serde(rename = "S", borrow)]
    symbol: Cow<'a, str>,
    #[serde(rename = "i", borrow)]
    id: Number<'a>,
    #[serde(rename = "x", borrow)]
    exchange: Cow<'a, str>,
}

pub(super) fn is_message(line: &str) -> bool {
    line.starts_with(BEGINNING)
}

/// The time of the last message of a line that states one.
pub(super) fn time(line: &str) -> Option<Timestamp> {
    let (_, behind) = line.rsplit_once("\"t\":\"")?;
    parse_time(behind.split('"').next()?).ok()
}

pub(super) fn read(session: &mut Session, messages: &str, sink: &mut Sink) -> Result<(), MessageError> {
    for message in serde_json::from_str::<Vec<&RawValue>>(messages)? {
        let message = message.get();
        match serde_json::from_str(message)? {
            Kind { kind: None } => sink.leave("arrays of", "objects"),
            Kind { kind: Some(kind) } => match &*kind {
                "t" => read_trade(&serde_json::from_str(message)?, sink)?,
                "q" => read_quote(session, &serde_json::from_str(message)?, sink)?,
                "c" => read_correction(&serde_json::from_str(message)?, sink)?,
                "x" => read_cancellation(&serde_json::from_str(message)?, sink)?,
                "b" | "d" | "u" => sink.leave(VENUE, "bars"),
                "l" => sink.leave(VENUE, "price bands"),
                "s" => sink.leave(VENUE, "statuses"),
                "i" => sink.leave(VENUE, "order imbalances"),
                "o" => sink.leave(VENUE, "orderbooks"),
                other => sink.leave(VENUE, other),
            },
        }
    }
    Ok(())
}

fn read_trade(trade: &Trade, sink: &mut Sink) -> Result<(), MessageError> {
    let name = trade.id.map(|id| name(trade.exchange.as_deref().unwrap_or_default(), id));
    let conditions = trade.conditions.as_deref().unwrap_or_default();
    let print = Print {
        venue: VENUE,
        symbol: &trade.symbol,
        price: trade.price.decimal()?,
        size: trade.size.decimal()?,
        side: trade.taker.as_deref().map_or(Ok(Side::None), side_named)?,
        conditions: letters(conditions),
        // An exchange restarts its numbers each day.
        id: name.as_deref().map(|name| TradeId::text(&format!("{name} {}", trade.time))),
        time: Some(parse_time(&trade.time)?),
    };
    let counts = counts(conditions, trade.tape.as_deref());
    match name {
        Some(name) => sink.named_trade(&print, counts, &name)?,
        None => sink.trade(&print)?,
    }
    Ok(())
}

fn read_quote(session: &mut Session, quote: &Quote, sink: &mut Sink) -> Result<(), MessageError> {
    let time = parse_time(&quote.time)?;
    let unit = Decimal::from(if quote.tape.is_some() && time < SHARES_SINCE { 100 } else { 1 });
    let size = |size: Number| {
        let size = size.size()?;
        size.checked_mul(unit).ok_or(NumberError::TooLarge { value: size })
    };
    let values = QuoteValues {
        bid: quote.bid.price()?,
        bid_size: size(quote.bid_size)?,
        ask: quote.ask.price()?,
        ask_size: size(quote.ask_size)?,
    };
    session.best_quote(&quote.symbol, &values, Some(time), sink)
}

fn read_correction(correction: &Correction, sink: &mut Sink) -> Result<(), MessageError> {
    let Correction { symbol, exchange, original, id, price, size, conditions, tape } = correction;
    let conditions = conditions.as_deref().unwrap_or_default();
    let print = Print {
        venue: VENUE,
        symbol,
        price: price.decimal()?,
        size: size.decimal()?,
        side: Side::None,
        conditions: letters(conditions),
        id: None,
        time: None,
    };
    let counts = counts(conditions, tape.as_deref());
    let correction = Some((&print, counts, &*name(exchange, *id)));
    if !sink.take_back(symbol, &name(exchange, *original), correction)? {
        sink.leave(VENUE, "corrections of trades that were not told");
    }
    Ok(())
}

fn read_cancellation(cancellation: &Cancellation, sink: &mut Sink) -> Result<(), MessageError> {
    let Cancellation { symbol, id, exchange } = cancellation;
    if !sink.take_back(symbol, &name(exchange, *id), None)? {
        sink.leave(VENUE, "cancellations of trades that were not told");
    }
    Ok(())
}

/// The identity of a trade.
fn name(exchange: &str, id: Number) -> String {
    format!("{exchange}/{}", id.text())
}

/// The conditions of a trade without the blanks that mean none, as many as fit.
fn letters(conditions: &[String]) -> Conditions {
    let letters: String = conditions.iter().flat_map(|condition| condition.trim().chars()).take(4).collect();
    Conditions::new(&letters).unwrap_or_default()
}

/// By the rules of the tape; those of over-the-counter trades are tape C's.
fn counts(conditions: &[String], tape: Option<&str>) -> Counts {
    let tape = match tape {
        Some("A" | "B") => Tape::Cta,
        Some("C" | "O") => Tape::Utp,
        _ => return Counts::EVERYTHING,
    };
    conditions.iter().fold(Counts::EVERYTHING, |counts, letters| counts & tape.counts(letters.trim()))
}
