//! NASDAQ TotalView-ITCH 5.0: every order of every stock, folded to trades and the best bid and ask.

mod framing;
mod message;
mod packets;
mod prints;

pub use packets::CaptureError;

use self::framing::{Framed, Framing, FramingError};
use self::message::{Message, MessageError};
use self::prints::{Print, Prints, Traded};
use super::orders::{Order, OrderBook, Top};
use super::times::Zone;
use super::unpack::Input;
use crate::feed::text::intern;
use crate::feed::{Feed, FeedError, LeftOut};
use crate::market::{
    Conditions, Counts, Event, FeedKind, InstrumentId, Instruments, NumberError, QuoteValues, Side, Status,
    SymbolError, Timestamp, Trade, TradingState,
};
use jiff::civil::Date;
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;

/// A day of NASDAQ, one message a batch, as the exchange publishes it (each message after its length) or as
/// captured packets.
///
/// Trades are executions of orders in the book (`E`, and `C` unless it is not to be printed), of hidden
/// orders (`P`) and crosses (`Q`, whose kind is the trade's condition); `B` breaks a trade. Quotes are the
/// best prices of the visible orders, with the sum of their sizes. Trading states come from `S` and `H`. All
/// else is left out and counted, and so are changes of orders from before the record began.
///
/// Times are of the day in New York. Captured messages also have the time of the packet, as the time of
/// arrival.
pub struct Itch {
    file: String,
    framing: Framing<Input>,
    date: Option<Date>,
    midnight: Option<Timestamp>,
    stocks: Stocks,
    left_out: LeftOut,
    ended: bool,
    /// The error of a message whose events were returned first.
    fault: Option<FeedError>,
}

#[derive(Default)]
struct Stocks {
    /// By NASDAQ's number of the day.
    by_number: FxHashMap<u16, Stock>,
    /// Whether the record has the day's beginning, so that every order is known.
    is_whole: bool,
    prints: Prints,
}

#[derive(Default)]
struct Stock {
    symbol: String,
    book: OrderBook,
}

/// Why a message is wrong.
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
    #[error("trade {0} is broken, and was never told, or too many trades ago")]
    NoTrade(u64),
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    #[error("{0}")]
    Number(#[from] NumberError),
}

/// Whether the first bytes are of such a record.
pub(super) fn is_itch(head: &[u8]) -> bool {
    is_packets(head) || framing::is_binary_file(head)
}

/// Whether they are of captured packets.
pub(super) fn is_packets(head: &[u8]) -> bool {
    packets::is_capture(head)
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
            left_out: LeftOut::default(),
            ended: false,
            fault: None,
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
        let kind = message.first().copied().unwrap_or_default();
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
            self.left_out.add("ITCH messages", char::from(kind).encode_utf8(&mut [0; 4]));
        }
        Ok(sink.told.then_some(sink.arrival))
    }
}

impl Stocks {
    /// Drops all orders, as some may have changed unseen: a quote made of them would be outdated.
    fn lose(&mut self, sink: &mut Sink) -> Result<(), ReadError> {
        self.is_whole = false;
        let mut numbers: Vec<u16> = self.by_number.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(stock) = self.by_number.get_mut(&number) else { continue };
            stock.book.lose();
            sink.top(number, stock)?;
        }
        Ok(())
    }

    /// Applies a message; false if it holds nothing that is kept.
    fn apply(&mut self, number: u16, message: Message, sink: &mut Sink) -> Result<bool, ReadError> {
        let stock = self.by_number.entry(number).or_default();
        if let Some(symbol) = message.symbol()
            && stock.symbol != symbol
        {
            symbol.clone_into(&mut stock.symbol);
        }
        // The change of an order that was there before the record began cannot be known, and is no fault of
        // the record.
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
            Message::Executed { order, shares, number: trade } => {
                let Some(resting) = stock.book.reduce(order, shares.into()) else { return unknown(order) };
                let print = sink.print(resting.price, shares.into(), opposite(resting.side), None);
                self.prints.note(trade, Traded::Told(print));
                sink.trade(number, stock, &print)?;
                sink.top(number, stock)?;
            }
            Message::ExecutedAt { order, shares, printable, price, number: trade } => {
                let Some(resting) = stock.book.reduce(order, shares.into()) else { return unknown(order) };
                // A non-printable execution is part of a cross, which is reported as one trade.
                let print = sink.print(price.into(), shares.into(), opposite(resting.side), None);
                self.prints.note(trade, if printable { Traded::Told(print) } else { Traded::Nothing });
                if printable {
                    sink.trade(number, stock, &print)?;
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
            // Its side has no meaning since 2014.
            Message::Hidden { shares, price, number: trade, .. } => {
                let print = sink.print(price.into(), shares.into(), Side::None, None);
                self.prints.note(trade, Traded::Told(print));
                sink.trade(number, stock, &print)?;
            }
            // A cross takes place even if nothing trades in it.
            Message::Cross { shares: 0, .. } | Message::Named { .. } | Message::Other => return Ok(false),
            Message::Cross { shares, price, kind, number: trade, .. } => {
                let print = sink.print(price.into(), shares, Side::None, Some(kind));
                self.prints.note(trade, Traded::Told(print));
                sink.trade(number, stock, &print)?;
            }
            Message::Broken { number: trade } => match self.prints.take(trade) {
                Some(Traded::Told(print)) => sink.take_back(number, stock, &print)?,
                None if is_whole => return Err(ReadError::NoTrade(trade)),
                Some(Traded::Nothing) | None => return Ok(false),
            },
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
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        while !self.ended {
            let mut sink = Sink {
                venue: Timestamp::default(),
                arrival: Timestamp::default(),
                told: false,
                instruments: &mut *instruments,
                out: &mut *out,
            };
            match self.read(&mut sink) {
                Ok(Some(arrival)) => return Ok(Some(arrival)),
                Ok(None) => {}
                Err(error) => {
                    // After a broken frame the next one cannot be found.
                    self.ended = matches!(&error, ReadError::Framing(error) if error.ends());
                    let mut emptied = Ok(());
                    if matches!(error, ReadError::Framing(FramingError::Missing { .. })) {
                        sink.arrival = self.framing.captured().unwrap_or_default();
                        sink.venue = sink.arrival;
                        emptied = self.stocks.lose(&mut sink);
                    }
                    let (is_told, arrival) = (sink.told, sink.arrival);
                    let error = emptied.err().unwrap_or(error);
                    if is_told {
                        self.fault = Some(FeedError { place: self.place(), reason: error.to_string() });
                        return Ok(Some(arrival));
                    }
                    return Err(FeedError { place: self.place(), reason: error.to_string() });
                }
            }
        }
        Ok(None)
    }

    fn left_out(&self) -> u64 {
        self.left_out.total() + self.framing.left_out().total()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        let mut all = self.left_out.clone();
        all.merge(self.framing.left_out());
        all
    }
}

impl Itch {
    /// Of the last record.
    fn place(&self) -> String {
        format!("{} {}", self.file, self.framing.place())
    }
}

/// Receives the events of one message.
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

    /// What is traded now.
    fn print(&self, units: i64, shares: u64, side: Side, cross: Option<u8>) -> Print {
        let conditions = cross.and_then(|kind| Conditions::new(char::from(kind).encode_utf8(&mut [0; 4])));
        Print { units, shares, side, conditions: conditions.unwrap_or_default(), time: self.venue }
    }

    fn trade(&mut self, number: u16, stock: &Stock, print: &Print) -> Result<(), ReadError> {
        self.tell(number, stock, print, Counts::EVERYTHING)
    }

    fn take_back(&mut self, number: u16, stock: &Stock, print: &Print) -> Result<(), ReadError> {
        self.tell(number, stock, print, Counts::EVERYTHING.and(Counts::BREAK))
    }

    fn tell(&mut self, number: u16, stock: &Stock, print: &Print, counts: Counts) -> Result<(), ReadError> {
        let id = self.instrument(number, stock)?;
        let numbers = (price(print.units), print.shares.into());
        let times = (print.time, self.arrival);
        let trade = self.instruments.trade(id, numbers, (print.side, print.conditions), times, self.out)?;
        self.out.push(Event::Trade(id, Trade { counts, ..trade }));
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
mod captures;
#[cfg(test)]
mod tests;
