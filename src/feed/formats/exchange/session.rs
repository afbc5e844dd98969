//! The state of a session from message to message, and the detection of a message's venue.

use super::line::Line;
use super::{
    MessageError, alpaca, binance, bitmex, bitstamp, bybit, coinbase, coinbase_advanced, deribit,
    hyperliquid, kraken, kraken_v2, okx, tardis,
};
use crate::feed::formats::book::DepthBook;
use crate::feed::formats::sink::Sink;
use crate::market::{QuoteValues, Side, Timestamp};
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The state of a session that its next message depends on.
#[derive(Default)]
pub(super) struct Session {
    /// Whether depth makes the quotes even if there is a stream of quotes.
    pub(super) best_quotes: bool,
    /// Whether there is a stream of quotes: the client has requested one, or one has arrived.
    has_quotes: bool,
    /// Whether one of them has each change of the best bid and ask, so that those that repeat it now and then
    /// are not needed.
    has_best: bool,
    books: FxHashMap<Box<str>, Book>,
    pub(super) binance: binance::Trades,
    pub(super) coinbase: coinbase_advanced::Sequences,
    pub(super) kraken: kraken_v2::Connection,
}

/// The order book of one symbol.
#[derive(Default)]
pub(super) struct Book {
    pub(super) depth: DepthBook,
    /// The stream it is made of: another one of the same symbol has a depth or a pace of its own.
    stream: Option<Box<str>>,
    /// The number of the last message applied to it, if the venue numbers them.
    pub(super) last: Option<i64>,
    /// Its state within Binance's numbered updates.
    pub(super) updates: binance::Updates,
    /// BitMEX's price levels by their numbers.
    pub(super) levels: FxHashMap<u64, (Side, Decimal)>,
    /// Bybit's best bid and ask, and those of its tickers, which are sent as changes.
    pub(super) best: DepthBook,
    pub(super) ticker: QuoteValues,
}

/// The fields that distinguish the messages of the exchanges, except arrays.
#[derive(Deserialize)]
struct Envelope<'a> {
    /// Binance: absent in single streams, and in the answers of its REST interface.
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    /// Binance, where there is no stream: the kind of event.
    #[serde(borrow)]
    e: Option<&'a RawValue>,
    #[serde(rename = "lastUpdateId")]
    last_update_id: Option<u64>,
    /// Coinbase, Kraken, Bybit.
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    /// Coinbase, before its Advanced Trade.
    #[serde(borrow)]
    product_id: Option<&'a RawValue>,
    /// Coinbase Advanced Trade.
    sequence_num: Option<u64>,
    #[serde(borrow)]
    events: Option<&'a RawValue>,
    /// BitMEX.
    #[serde(borrow)]
    table: Option<Cow<'a, str>>,
    #[serde(borrow)]
    action: Option<Cow<'a, str>>,
    /// Bitstamp, Kraken, Coinbase Advanced Trade, Hyperliquid.
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    /// Bybit.
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    /// OKX.
    #[serde(borrow)]
    arg: Option<&'a RawValue>,
    /// Deribit.
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// How Binance's messages of several streams are wrapped: most lines there are begin so.
#[derive(Deserialize)]
struct Stream<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Session {
    pub(super) fn new(best_quotes: bool) -> Self {
        Self { best_quotes, ..Self::default() }
    }

    pub(super) fn read_line(&mut self, line: &Line, sink: &mut Sink) -> Result<(), MessageError> {
        match *line {
            Line::Received(arrival, message) => {
                sink.arrival = arrival;
                self.read(message, sink)
            }
            Line::Normalized(arrival, message) => {
                sink.arrival = arrival;
                tardis::read(self, message, sink)
            }
            Line::Stated(time, message) => {
                sink.arrival = sink.arrival.max(time.unwrap_or_default());
                self.read(message, sink)
            }
            Line::Sent(arrival, message) => {
                sink.arrival = arrival;
                self.asks_for(message);
                Ok(())
            }
            Line::Opened(arrival, url) => {
                sink.arrival = arrival;
                self.asks_for_streams(url);
                self.begin_anew(sink)
            }
            Line::Answer(arrival, url) => {
                sink.arrival = arrival;
                sink.leave("answer of", url.split('?').next().unwrap_or(url));
                Ok(())
            }
        }
    }

    /// Drops all state when a connection broke off: what was missed is unknown.
    pub(super) fn begin_anew(&mut self, sink: &mut Sink) -> Result<(), MessageError> {
        self.books.clear();
        self.coinbase = coinbase_advanced::Sequences::default();
        Ok(sink.empty_quotes()?)
    }

    /// Reads the requested streams from a message of the client.
    fn asks_for(&mut self, message: &str) {
        const QUOTES: [&str; 8] = [
            "\"ticker\"",
            "\"ticker_batch\"",
            "\"spread\"",
            "\"quote:",
            "\"quote\"",
            "\"tickers",
            "\"bbo",
            "\"quote.",
        ];
        self.has_quotes |= QUOTES.iter().any(|name| message.contains(name));
        self.asks_for_streams(message);
    }

    /// Binance's streams are in the address, or in the client's messages.
    fn asks_for_streams(&mut self, text: &str) {
        self.has_quotes |= text.contains("@bookTicker");
        if text.contains("@trade") {
            self.binance.expect_single();
        }
    }

    fn read(&mut self, message: &str, sink: &mut Sink) -> Result<(), MessageError> {
        if message.starts_with('[') {
            return self.read_array(message, sink);
        }
        if message.starts_with("{\"stream\":\"")
            && let Ok(Stream { stream, data }) = serde_json::from_str(message)
        {
            return binance::read_stream(self, &stream, data.get(), sink);
        }
        match serde_json::from_str(message)? {
            Envelope { stream: Some(stream), data: Some(data), .. } => {
                binance::read_stream(self, &stream, data.get(), sink)
            }
            Envelope { e: Some(event), .. } => binance::read(self, word(event), message, sink),
            Envelope { last_update_id: Some(_), .. } => binance::read_snapshot(self, message, sink),
            Envelope { table: Some(table), action: Some(action), data: Some(data), .. } => {
                bitmex::read(self, &table, &action, data.get(), sink)
            }
            Envelope { jsonrpc: Some(_), method, params, .. } => {
                deribit::read(self, method.map_or("answer", word), params.map(RawValue::get), sink)
            }
            Envelope { topic: Some(topic), data: Some(_), .. } if topic.starts_with('/') => {
                sink.leave("KuCoin", topic.split(':').next().unwrap_or_default());
                Ok(())
            }
            Envelope { topic: Some(topic), kind, data: Some(data), .. } => {
                bybit::read(self, (&topic, kind.map_or("", word)), data.get(), message, sink)
            }
            Envelope { arg: Some(arg), event, action, data, .. } => {
                let action = action.as_deref().unwrap_or_default();
                match data {
                    Some(data) if event.is_none() => okx::read(self, arg.get(), action, data.get(), sink),
                    _ => {
                        sink.leave("OKX", event.map_or("answer", word));
                        Ok(())
                    }
                }
            }
            Envelope { channel: Some(channel), events: Some(events), sequence_num, .. } => {
                coinbase_advanced::read(self, word(channel), (sequence_num, events.get()), message, sink)
            }
            Envelope { channel: Some(channel), event: Some(_), data: Some(data), .. } => {
                bitstamp::read(self, word(channel), data.get(), sink)
            }
            Envelope { channel: Some(channel), event: None, kind, data: Some(data), .. } => match kind {
                Some(kind) => kraken_v2::read(self, word(channel), word(kind), data.get(), sink),
                None => hyperliquid::read(self, word(channel), data.get(), sink),
            },
            Envelope { channel: Some(channel), .. } => {
                sink.leave("channel", word(channel));
                Ok(())
            }
            Envelope { kind: Some(kind), product_id: Some(_), .. } => {
                coinbase::read(self, word(kind), message, sink)
            }
            Envelope { kind: Some(kind), .. } => {
                sink.leave("messages of type", word(kind));
                Ok(())
            }
            Envelope { event: Some(event), .. } => {
                sink.leave("messages of event", word(event));
                Ok(())
            }
            Envelope { method: Some(method), .. } => {
                sink.leave("answers to", word(method));
                Ok(())
            }
            _ => {
                let fields: BTreeMap<Cow<str>, &RawValue> = serde_json::from_str(message)?;
                let names: Vec<&str> = fields.keys().map(|name| &**name).collect();
                {
                    sink.leave("messages of", &names.join(", "));
                    Ok(())
                }
            }
        }
    }

    fn read_array(&mut self, message: &str, sink: &mut Sink) -> Result<(), MessageError> {
        if message.starts_with("[{") {
            return alpaca::read(self, message, sink);
        }
        let parts: Vec<&RawValue> = serde_json::from_str(message)?;
        match &parts[..] {
            // Kraken's have at least four, of which the last two are names.
            [number, _] | [number, _, _] if number.get().parse::<u64>().is_ok() => {
                sink.leave("arrays of", "a channel's number and content");
                Ok(())
            }
            _ => kraken::read(self, &parts, sink),
        }
    }

    pub(super) fn book(&mut self, symbol: &str) -> &mut Book {
        if !self.books.contains_key(symbol) {
            self.books.insert(symbol.into(), Book::default());
        }
        self.books.get_mut(symbol).expect("it is there now")
    }

    pub(super) fn books(&self) -> impl Iterator<Item = (&str, &Book)> {
        self.books.iter().map(|(symbol, book)| (&**symbol, book))
    }

    /// A symbol's book, if it is made of that stream or has no stream yet: then it gets this one.
    pub(super) fn book_of(&mut self, symbol: &str, stream: &str) -> Option<&mut Book> {
        let book = self.book(symbol);
        let owner = book.stream.get_or_insert_with(|| stream.into());
        (**owner == *stream).then_some(book)
    }

    /// Whether depth is of use.
    pub(super) fn folds(&self) -> bool {
        self.best_quotes || !self.has_quotes
    }

    /// Takes a quote of a stream, unless the depth of that symbol makes the quotes.
    pub(super) fn quote(
        &mut self,
        symbol: &str,
        values: &QuoteValues,
        venue: Option<Timestamp>,
        sink: &mut Sink,
    ) -> Result<(), MessageError> {
        if !self.has_quotes {
            self.has_quotes = true;
            if !self.best_quotes && self.books.values().any(|book| book.depth.is_whole()) {
                // Depth is not followed from here on, and its last quotes will soon be outdated.
                self.books.values_mut().for_each(|book| book.depth.lose());
                sink.empty_quotes()?;
            }
        }
        if self.best_quotes && self.books.get(symbol).is_some_and(|book| book.depth.is_whole()) {
            sink.leave("quotes", "of symbols whose depth makes them");
            return Ok(());
        }
        Ok(sink.quote(symbol, values, venue)?)
    }

    /// The same, of a stream with each change of the best prices.
    pub(super) fn best_quote(
        &mut self,
        symbol: &str,
        values: &QuoteValues,
        venue: Option<Timestamp>,
        sink: &mut Sink,
    ) -> Result<(), MessageError> {
        self.has_best = true;
        self.quote(symbol, values, venue, sink)
    }

    /// The same, of a stream that repeats the best prices among other things: used only if there is no better
    /// one.
    pub(super) fn ticker(
        &mut self,
        symbol: &str,
        values: &QuoteValues,
        venue: Option<Timestamp>,
        sink: &mut Sink,
    ) -> Result<(), MessageError> {
        if self.has_best {
            sink.leave("tickers", "beside a stream of quotes");
            return Ok(());
        }
        self.quote(symbol, values, venue, sink)
    }

    /// Emits the top of a symbol's book if it has changed.
    pub(super) fn told(
        &mut self,
        symbol: &str,
        venue: Option<Timestamp>,
        sink: &mut Sink,
    ) -> Result<(), MessageError> {
        if let Some(values) = self.book(symbol).depth.changed() {
            sink.quote(symbol, &values, venue)?;
        }
        Ok(())
    }

    /// Drops a book that has missed an update: an old price must not look current.
    pub(super) fn lost(&mut self, symbol: &str, reason: String, sink: &mut Sink) -> MessageError {
        let book = self.book(symbol);
        let (depth, stream) = (std::mem::take(&mut book.depth), book.stream.take());
        *book = Book { depth, stream, ..Book::default() };
        book.depth.lose();
        match self.told(symbol, None, sink) {
            Ok(()) => MessageError::Lost { symbol: symbol.to_owned(), reason },
            Err(error) => error,
        }
    }
}

/// A JSON text without its quotation marks, unescaped: names of channels and kinds have nothing to escape.
fn word(value: &RawValue) -> &str {
    value.get().trim_matches('"')
}
