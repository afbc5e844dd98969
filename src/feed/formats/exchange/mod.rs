//! Captured WebSocket sessions of exchanges: each line a time of arrival and the message as it came.

mod binance;
mod bitmex;
mod bitstamp;
mod coinbase;
mod kraken;

use super::book::DepthBook;
use super::clock::Clock;
use super::lines::{LineError, Lines};
use super::unpack::Input;
use crate::feed::text::{TimeError, intern, nanos_from_seconds};
use crate::feed::{Feed, FeedError};
use crate::market::{
    Conditions, Event, FeedKind, Instruments, NumberError, QuoteValues, Side, SymbolError, Timestamp,
    parse_decimal,
};
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The longest line that is read: the snapshot of a whole order book has several MB.
const MAX_LINE: u64 = 16 << 20;

/// A captured session of Binance, Coinbase, Kraken, Bitstamp or BitMEX, one line a batch. Two forms of lines are known: the time of arrival in
/// ns, a blank, and the message; and cryptofeed's, the time in seconds, a colon and the message, among lines of what the client sent.
///
/// Streams of trades and of best quotes are read; depth is folded to quotes where the session has no stream of them, or where
/// that is asked for. All else is left out and counted. The machine's clock and the exchange's are both kept as recorded, even where they
/// disagree by seconds.
pub struct ExchangeCapture {
    file: String,
    lines: Lines<Input>,
    clock: Clock,
    session: Session,
    left_out: u64,
}

/// What must be known of a session to understand its next message.
#[derive(Default)]
struct Session {
    /// Whether depth makes the quotes even where there is a stream of quotes.
    best_quotes: bool,
    /// Whether there is a stream of quotes: the client has asked for one, or one has come.
    has_quotes: bool,
    books: FxHashMap<Box<str>, Book>,
}

/// The order book of one symbol.
#[derive(Default)]
struct Book {
    depth: DepthBook,
    /// Where it stands in Binance's numbered updates.
    updates: binance::Updates,
    /// What BitMEX's numbers of price levels stand for.
    levels: FxHashMap<u64, (Side, Decimal)>,
}

/// Why a line is no message.
#[derive(Debug, thiserror::Error)]
enum MessageError {
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("expected a time of arrival in ns, a blank, and a JSON message (or in seconds, with a colon)")]
    NotACapture,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    #[error("{0}")]
    Number(#[from] NumberError),
    #[error("{0}")]
    Time(#[from] TimeError),
    #[error("{text:?} is no time: expected {expected} since 1970")]
    Unit { text: String, expected: &'static str },
    #[error("{0}")]
    Shape(&'static str),
    #[error("side {0:?} is neither buy nor sell")]
    Side(String),
    /// The book is not used until the next snapshot.
    #[error("{symbol}: {reason}: its book is unknown until the next snapshot")]
    Lost { symbol: String, reason: String },
}

/// Whether a message was of a kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    Used,
    LeftOut,
}

impl ExchangeCapture {
    pub(super) fn new(file: String, input: Input, best_quotes: bool) -> Self {
        let session = Session { best_quotes, ..Session::default() };
        Self { file, lines: Lines::new(input, MAX_LINE), clock: Clock::default(), session, left_out: 0 }
    }
}

impl Feed for ExchangeCapture {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        loop {
            let mut sink = Sink { arrival: Timestamp::default(), told: false, instruments, out };
            let read = match self.lines.next() {
                Ok(None) => return Ok(None),
                Ok(Some(line)) => self.session.read_line(line, &mut sink),
                Err(error) => Err(error.into()),
            };
            match read {
                Ok(_) if sink.told => return Ok(Some(self.clock.at(sink.arrival))),
                Ok(Read::Used) => {}
                Ok(Read::LeftOut) => self.left_out += 1,
                Err(error) => {
                    let place = format!("{} line {}", self.file, self.lines.number());
                    return Err(FeedError { place, reason: error.to_string() });
                }
            }
        }
    }

    fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// Whether a line could be of such a capture.
pub(super) fn is_capture(line: &str) -> bool {
    match split(line) {
        Some(Line::Received(_, message)) => message.starts_with(['{', '[']),
        Some(Line::Opened | Line::Sent(_)) => true,
        None => false,
    }
}

enum Line<'a> {
    Received(Timestamp, &'a str),
    /// By the client.
    Sent(&'a str),
    /// A connection was opened.
    Opened,
}

fn split(line: &str) -> Option<Line<'_>> {
    let (first, rest) = line.split_once(' ')?;
    if first.starts_with("ws") {
        return match rest.split_once(' ')? {
            ("<->", _) => Some(Line::Opened),
            ("<-", sent) => Some(Line::Sent(sent.split_once(": ")?.1)),
            _ => None,
        };
    }
    let arrival = match first.strip_suffix(':') {
        Some(seconds) => nanos_from_seconds(seconds)?,
        None => first.parse().ok()?,
    };
    Some(Line::Received(Timestamp::from_nanos(arrival), rest))
}

/// What tells the messages of the exchanges apart, but for Kraken's arrays.
#[derive(Deserialize)]
struct Envelope<'a> {
    /// Binance: absent in single streams, and in the answers of its REST interface.
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    /// Binance, where there is no stream: the kind of event.
    #[serde(borrow)]
    e: Option<Cow<'a, str>>,
    #[serde(rename = "lastUpdateId")]
    last_update_id: Option<u64>,
    /// Coinbase.
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    /// BitMEX.
    #[serde(borrow)]
    table: Option<Cow<'a, str>>,
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    /// Bitstamp.
    #[serde(borrow)]
    channel: Option<Cow<'a, str>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl Session {
    fn read_line(&mut self, line: &str, sink: &mut Sink) -> Result<Read, MessageError> {
        match split(line).ok_or(MessageError::NotACapture)? {
            Line::Received(arrival, message) => {
                sink.arrival = arrival;
                self.read(message, sink)
            }
            Line::Sent(message) => {
                let names_quotes = |name: &&str| message.contains(*name);
                self.has_quotes |=
                    ["\"ticker\"", "\"spread\"", "\"quote:", "\"quote\""].iter().any(names_quotes);
                Ok(Read::Used)
            }
            Line::Opened => {
                // What came before the connection broke off does not tell what was missed.
                self.books.clear();
                Ok(Read::Used)
            }
        }
    }

    fn read(&mut self, message: &str, sink: &mut Sink) -> Result<Read, MessageError> {
        if message.starts_with('[') {
            return kraken::read(self, message, sink);
        }
        let envelope: Envelope = serde_json::from_str(message)?;
        match envelope {
            Envelope { stream: Some(stream), data: Some(data), .. } => {
                let name = stream.split_once('@').map(|(_, name)| name).unwrap_or_default();
                binance::read(self, name, data.get(), sink)
            }
            Envelope { e: Some(event), .. } => binance::read(self, &event, message, sink),
            Envelope { last_update_id: Some(_), .. } => binance::read_snapshot(self, message, sink),
            Envelope { table: Some(table), action: Some(action), data: Some(data), .. } => {
                bitmex::read(self, &table, &action, data.get(), sink)
            }
            Envelope { channel: Some(channel), data: Some(data), .. } => {
                bitstamp::read(self, &channel, data.get(), sink)
            }
            Envelope { kind: Some(kind), .. } => coinbase::read(self, &kind, message, sink),
            _ => Ok(Read::LeftOut),
        }
    }

    fn book(&mut self, symbol: &str) -> &mut Book {
        if !self.books.contains_key(symbol) {
            self.books.insert(symbol.into(), Book::default());
        }
        self.books.get_mut(symbol).expect("it is there now")
    }

    /// Whether depth is of use.
    fn folds(&self) -> bool {
        self.best_quotes || !self.has_quotes
    }

    /// Takes a quote of a stream of quotes, unless the depth of that symbol makes them.
    fn quote(
        &mut self,
        symbol: &str,
        values: &QuoteValues,
        venue: Option<Timestamp>,
        sink: &mut Sink,
    ) -> Result<Read, MessageError> {
        self.has_quotes = true;
        if self.best_quotes && self.books.get(symbol).is_some_and(|book| book.depth.is_whole()) {
            return Ok(Read::LeftOut);
        }
        sink.quote(symbol, values, venue)?;
        Ok(Read::Used)
    }

    /// Tells the top of a symbol's book where it has changed.
    fn told(
        &mut self,
        symbol: &str,
        venue: Option<Timestamp>,
        sink: &mut Sink,
    ) -> Result<Read, MessageError> {
        if let Some(values) = self.book(symbol).depth.changed() {
            sink.quote(symbol, &values, venue)?;
        }
        Ok(Read::Used)
    }

    /// Gives up a book that has missed something: an old price must not look like a price of now.
    fn lost(&mut self, symbol: &str, reason: String, sink: &mut Sink) -> MessageError {
        *self.book(symbol) = Book { depth: std::mem::take(&mut self.book(symbol).depth), ..Book::default() };
        self.book(symbol).depth.lose();
        match self.told(symbol, None, sink) {
            Ok(_) => MessageError::Lost { symbol: symbol.to_owned(), reason },
            Err(error) => error,
        }
    }
}

/// Where the quotes and trades of one message go.
struct Sink<'a> {
    arrival: Timestamp,
    /// Whether there were any.
    told: bool,
    instruments: &'a mut Instruments,
    out: &'a mut Vec<Event>,
}

impl Sink<'_> {
    /// `venue` is the exchange's time, where it states one.
    fn quote(
        &mut self,
        symbol: &str,
        values: &QuoteValues,
        venue: Option<Timestamp>,
    ) -> Result<(), MessageError> {
        let id = intern(symbol, self.instruments, self.out)?;
        let times = (venue.unwrap_or(self.arrival), self.arrival);
        let quote = self.instruments.quote(id, values, times, self.out)?;
        self.out.push(Event::Quote(id, quote));
        self.told = true;
        Ok(())
    }

    fn trade(
        &mut self,
        symbol: &str,
        numbers: (Decimal, Decimal),
        side: Side,
        venue: Option<Timestamp>,
    ) -> Result<(), MessageError> {
        let id = intern(symbol, self.instruments, self.out)?;
        let times = (venue.unwrap_or(self.arrival), self.arrival);
        let trade = self.instruments.trade(id, numbers, (side, Conditions::default()), times, self.out)?;
        self.out.push(Event::Trade(id, trade));
        self.told = true;
        Ok(())
    }
}

/// A price of 0 is how several exchanges write an empty side.
fn price_unless_zero(text: &str) -> Result<Option<Decimal>, NumberError> {
    parse_decimal(text).map(|price| Some(price).filter(|price| !price.is_zero()))
}

fn side_named(text: &str) -> Result<Side, MessageError> {
    match text {
        "buy" | "Buy" | "b" => Ok(Side::Buy),
        "sell" | "Sell" | "s" => Ok(Side::Sell),
        other => Err(MessageError::Side(other.chars().take(40).collect())),
    }
}

fn from_millis(ms: i64) -> Result<Timestamp, MessageError> {
    let error = || MessageError::Unit { text: ms.to_string(), expected: "ms" };
    ms.checked_mul(1_000_000).map(Timestamp::from_nanos).ok_or_else(error)
}

fn from_seconds(text: &str) -> Result<Timestamp, MessageError> {
    let error = || MessageError::Unit { text: text.chars().take(40).collect(), expected: "seconds" };
    nanos_from_seconds(text).map(Timestamp::from_nanos).ok_or_else(error)
}

#[cfg(test)]
mod tests;
