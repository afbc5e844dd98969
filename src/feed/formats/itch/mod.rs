//! NASDAQ TotalView-ITCH 5.0: every order of every stock, folded to trades and the best bid and ask.

mod framing;
mod message;

pub use framing::CaptureError;

use self::framing::{Framed, Framing, FramingError};
use self::message::{Message, MessageError};
use super::clock::Clock;
use super::orders::{Order, OrderBook, Top};
use super::times::Zone;
use super::unpack::Input;
use crate::feed::text::intern;
use crate::feed::{Feed, FeedError};
use crate::market::{
    Conditions, Event, FeedKind, InstrumentId, Instruments, NumberError, QuoteValues, Side, Status,
    SymbolError, Timestamp, TradingState,
};
use jiff::civil::Date;
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;

/// A day of NASDAQ, one message a batch, as the exchange publishes it (each message behind its length) or as packets that were captured.
///
/// Trades are executions of orders in the book (`E`, and `C` unless it is not to be printed), of hidden orders (`P`) and crosses (`Q`, whose
/// kind is the trade's condition). Quotes are the best prices of the visible orders, with the sum of their sizes. Trading states come from `S` and
/// `H`. All else is left out and counted, and so are changes of orders from before the record began.
///
/// Times are of the day in New York. What was captured also has the time of the packet, as the time of arrival.
pub struct Itch {
    file: String,
    framing: Framing<Input>,
    date: Option<Date>,
    midnight: Option<Timestamp>,
    stocks: Stocks,
    clock: Clock,
    left_out: u64,
    ended: bool,
}

#[derive(Default)]
struct Stocks {
    /// By NASDAQ's number of the day.
    by_number: FxHashMap<u16, Stock>,
    /// Whether the record has the day's beginning, so that every order is known.
    is_whole: bool,
}

#[derive(Default)]
struct Stock {
    symbol: String,
    book: OrderBook,
}

/// Why a message is not what it should be.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("{0}")]
    Framing(#[from] FramingError),
    #[error("{0}")]
    Message(#[from] MessageError),
    #[error("the day that its times belong to is not known: say --date YYYY-MM-DD")]
    NoDate,
    #[error("stock {0} was never named")]
    NoStock(u16),
    #[error("order {0} was never added")]
    NoOrder(u64),
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    #[error("{0}")]
    Number(#[from] NumberError),
}

/// Whether the first bytes are of such a record.
pub(super) fn is_itch(head: &[u8]) -> bool {
    framing::is_pcap(head) || framing::is_binary_file(head)
}

impl Itch {
    /// `date` is the day in New York; without one, that of the first captured packet.
    pub(super) fn new(file: String, input: Input, date: Option<Date>) -> Result<Self, CaptureError> {
        Ok(Self {
            file,
            framing: Framing::new(input)?,
            date,
            midnight: None,
            stocks: Stocks::default(),
            clock: Clock::default(),
            left_out: 0,
            ended: false,
        })
    }

    /// Whether times are stated with their day: packets are, a file of messages is not.
    pub(super) fn needs_date(&self) -> bool {
        self.date.is_none() && !self.framing.has_times()
    }

    fn read(&mut self, sink: &mut Sink) -> Result<Option<Timestamp>, ReadError> {
        let Some(Framed { message, captured }) = self.framing.next()? else {
            self.ended = true;
            return Ok(None);
        };
        let (header, message) = Message::decode(message)?;
        let midnight = if let Some(known) = self.midnight {
            known
        } else {
            let zone = Zone::new_york();
            let date = self.date.or_else(|| zone.date(captured?));
            *self.midnight.insert(date.and_then(|date| zone.midnight(date)).ok_or(ReadError::NoDate)?)
        };
        sink.venue = midnight.plus_nanos(header.nanos);
        sink.arrival = captured.unwrap_or(sink.venue);
        if !self.stocks.apply(header.stock, message, sink)? {
            self.left_out += 1;
        }
        Ok(sink.told.then_some(sink.arrival))
    }
}

impl Stocks {
    /// Does what a message says; false where it says nothing that is kept.
    fn apply(&mut self, number: u16, message: Message, sink: &mut Sink) -> Result<bool, ReadError> {
        let stock = self.by_number.entry(number).or_default();
        if let Some(symbol) = message.symbol()
            && stock.symbol != symbol
        {
            symbol.clone_into(&mut stock.symbol);
        }
        // The change of an order that was there before the record began cannot be known, and is no fault of the record.
        let is_whole = self.is_whole;
        let unknown = |order: u64| if is_whole { Err(ReadError::NoOrder(order)) } else { Ok(false) };
        match message {
            Message::System(b'O') => {
                self.is_whole = true;
                return Ok(false);
            }
            Message::System(event) => {
                let Some(state) = market_state(event) else { return Ok(false) };
                sink.status(None, state);
            }
            Message::Trading { state, .. } => {
                let state = if state == b'T' { TradingState::Open } else { TradingState::Halted };
                let id = sink.instrument(number, stock)?;
                sink.status(Some(id), state);
            }
            Message::Add { order, side, shares, price, .. } => {
                stock.book.add(order, Order { side, price: price.into(), size: shares.into() });
                sink.top(number, stock)?;
            }
            Message::Executed { order, shares } => {
                let Some(resting) = stock.book.reduce(order, shares.into()) else { return unknown(order) };
                sink.trade(number, stock, (resting.price, shares.into()), opposite(resting.side), None)?;
                sink.top(number, stock)?;
            }
            Message::ExecutedAt { order, shares, printable, price } => {
                let Some(resting) = stock.book.reduce(order, shares.into()) else { return unknown(order) };
                // What is not printable is part of a cross, which is told as a whole.
                if printable {
                    sink.trade(number, stock, (price.into(), shares.into()), opposite(resting.side), None)?;
                }
                sink.top(number, stock)?;
            }
            Message::Cancelled { order, shares } => {
                if stock.book.reduce(order, shares.into()).is_none() {
                    return unknown(order);
                }
                sink.top(number, stock)?;
            }
            Message::Deleted { order } => {
                if stock.book.remove(order).is_none() {
                    return unknown(order);
                }
                sink.top(number, stock)?;
            }
            Message::Replaced { old, new, shares, price } => {
                let Some(before) = stock.book.remove(old) else { return unknown(old) };
                stock.book.add(new, Order { side: before.side, price: price.into(), size: shares.into() });
                sink.top(number, stock)?;
            }
            // Its side says nothing since 2014.
            Message::Hidden { shares, price, .. } => {
                sink.trade(number, stock, (price.into(), shares.into()), Side::None, None)?;
            }
            // A cross takes place even where nothing trades in it.
            Message::Cross { shares: 0, .. } | Message::Named { .. } | Message::Other => return Ok(false),
            Message::Cross { shares, price, kind, .. } => {
                sink.trade(number, stock, (price.into(), shares), Side::None, Some(kind))?;
            }
        }
        Ok(true)
    }
}

impl Feed for Itch {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        while !self.ended {
            let mut sink = Sink {
                venue: Timestamp::default(),
                arrival: Timestamp::default(),
                told: false,
                instruments: &mut *instruments,
                out: &mut *out,
            };
            match self.read(&mut sink) {
                Ok(Some(arrival)) => return Ok(Some(self.clock.at(arrival))),
                Ok(None) => {}
                Err(error) => {
                    // Behind a broken frame the next one cannot be found.
                    self.ended = matches!(&error, ReadError::Framing(error) if error.ends());
                    let place = format!("{} {}", self.file, self.framing.place());
                    return Err(FeedError { place, reason: error.to_string() });
                }
            }
        }
        Ok(None)
    }

    fn left_out(&self) -> u64 {
        self.left_out + self.framing.left_out()
    }
}

/// Where the events of one message go.
struct Sink<'a> {
    venue: Timestamp,
    arrival: Timestamp,
    told: bool,
    instruments: &'a mut Instruments,
    out: &'a mut Vec<Event>,
}

impl Sink<'_> {
    fn instrument(&mut self, number: u16, stock: &Stock) -> Result<InstrumentId, ReadError> {
        if stock.symbol.is_empty() {
            return Err(ReadError::NoStock(number));
        }
        Ok(intern(&stock.symbol, self.instruments, self.out)?)
    }

    fn top(&mut self, number: u16, stock: &mut Stock) -> Result<(), ReadError> {
        let Some(Top { bid, ask }) = stock.book.changed() else { return Ok(()) };
        let side = |top: Option<(i64, u64)>| {
            top.map_or((None, Decimal::ZERO), |(p, size)| (Some(price(p)), size.into()))
        };
        let ((bid, bid_size), (ask, ask_size)) = (side(bid), side(ask));
        let id = self.instrument(number, stock)?;
        let values = QuoteValues { bid, bid_size, ask, ask_size };
        let quote = self.instruments.quote(id, &values, (self.venue, self.arrival), self.out)?;
        self.out.push(Event::Quote(id, quote));
        self.told = true;
        Ok(())
    }

    fn trade(
        &mut self,
        number: u16,
        stock: &Stock,
        (units, shares): (i64, u64),
        side: Side,
        cross: Option<u8>,
    ) -> Result<(), ReadError> {
        let id = self.instrument(number, stock)?;
        let conditions = cross.and_then(|kind| Conditions::new(char::from(kind).encode_utf8(&mut [0; 4])));
        let kind = (side, conditions.unwrap_or_default());
        let times = (self.venue, self.arrival);
        let trade = self.instruments.trade(id, (price(units), shares.into()), kind, times, self.out)?;
        self.out.push(Event::Trade(id, trade));
        self.told = true;
        Ok(())
    }

    fn status(&mut self, id: Option<InstrumentId>, state: TradingState) {
        self.out.push(Event::Status(id, Status { state, ts_event: self.venue }));
        self.told = true;
    }
}

/// Dollars; ITCH counts ten-thousandths.
fn price(units: i64) -> Decimal {
    Decimal::new(units, 4).normalize()
}

fn opposite(side: Side) -> Side {
    match side {
        Side::Buy => Side::Sell,
        Side::Sell => Side::Buy,
        Side::None => Side::None,
    }
}

/// What an event of the whole market means for trading.
fn market_state(event: u8) -> Option<TradingState> {
    match event {
        b'S' => Some(TradingState::PreOpen),
        b'Q' => Some(TradingState::Open),
        b'M' => Some(TradingState::Closed),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
