use super::RecordError;
use super::names::OtherNames;
use crate::feed::LeftOut;
use crate::feed::formats::best::BestQuotes;
use crate::feed::formats::orders::{Order, OrderBook, Top};
use crate::feed::text::intern;
use crate::market::{
    Conditions, Event, Instrument, InstrumentId, Instruments, Price, QuoteValues, Side, Status, Symbol,
    Timestamp, TradingState,
};
use dbn::{
    Action, BboMsg, BidAskPair, CbboMsg, Cmbp1Msg, ConsolidatedBidAskPair, InstrumentDefMsg, MboMsg, Mbp1Msg,
    Mbp10Msg, PitSymbolMap, RecordHeader, RecordRef, Schema, StatusAction, StatusMsg, SymbolMappingMsg,
    TradeMsg, TsSymbolMap,
};
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;

/// Turns the records of one file into events.
pub(in crate::feed::formats) struct Records {
    /// `None` in live sessions, which have records of several.
    schema: Option<Schema>,
    names: Names,
    best: Option<BestQuotes>,
    pub(super) others: OtherNames,
    books: FxHashMap<Venue, OrderBook>,
    /// For schemas that repeat the best level: the last value emitted.
    told: FxHashMap<Venue, QuoteValues>,
    pub(in crate::feed::formats) left_out: LeftOut,
}

/// One instrument at one publisher.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Venue {
    publisher: u16,
    instrument: u32,
}

/// Names of instruments: by the metadata and the day, in live sessions by records of their own.
struct Names {
    by_day: TsSymbolMap,
    live: PitSymbolMap,
    /// As a record of the instrument states it.
    stated: FxHashMap<u32, Box<str>>,
}

impl Records {
    pub(in crate::feed::formats) fn new(
        schema: Option<Schema>,
        symbols: TsSymbolMap,
        best_quotes: bool,
    ) -> Self {
        Self {
            schema,
            names: Names { by_day: symbols, live: PitSymbolMap::new(), stated: FxHashMap::default() },
            best: best_quotes.then(BestQuotes::default),
            others: OtherNames::default(),
            books: FxHashMap::default(),
            told: FxHashMap::default(),
            left_out: LeftOut::default(),
        }
    }

    /// Names an instrument from now on.
    pub(in crate::feed::formats) fn name(&mut self, instrument: u32, symbol: &str) {
        if self.names.stated.get(&instrument).is_none_or(|known| **known != *symbol) {
            self.names.stated.insert(instrument, symbol.into());
        }
    }

    /// Appends a record's events to `out`; returns its time of arrival, or `None` if it holds nothing that is
    /// kept.
    pub(in crate::feed::formats) fn read(
        &mut self,
        record: RecordRef,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, RecordError> {
        // `has` then `try_get`: a plain `get` panics if a record is shorter than its kind must be.
        if record.has::<SymbolMappingMsg>() {
            let mapping = record.try_get::<SymbolMappingMsg>()?;
            self.names.live.on_symbol_mapping(mapping)?;
            return Ok(None);
        }
        let events = out.len();
        let mut sink = Sink { names: &self.names, best: self.best.as_mut(), instruments, out };
        let (kept, arrival) = if record.has::<Mbp1Msg>() {
            let record = record.try_get::<Mbp1Msg>()?;
            let at = sink.at(&record.hd, record.ts_recv)?;
            let trade = (record.price, record.size, record.side().ok());
            if self.schema == Some(Schema::Tbbo) {
                sink.quote(&at, level(&record.levels[0]))?;
                sink.trade(&at, trade)?;
            } else {
                if matches!(record.action(), Ok(Action::Trade)) {
                    sink.trade(&at, trade)?;
                }
                sink.quote(&at, level(&record.levels[0]))?;
            }
            (true, at.arrival)
        } else if record.has::<Cmbp1Msg>() {
            let record = record.try_get::<Cmbp1Msg>()?;
            let at = sink.at(&record.hd, record.ts_recv)?;
            let trade = (record.price, record.size, record.side().ok());
            if self.schema == Some(Schema::Tcbbo) {
                sink.quote(&at, consolidated(&record.levels[0]))?;
                sink.trade(&at, trade)?;
            } else {
                if matches!(record.action(), Ok(Action::Trade)) {
                    sink.trade(&at, trade)?;
                }
                sink.quote(&at, consolidated(&record.levels[0]))?;
            }
            (true, at.arrival)
        } else if record.has::<Mbp10Msg>() {
            let record = record.try_get::<Mbp10Msg>()?;
            let at = sink.at(&record.hd, record.ts_recv)?;
            if matches!(record.action(), Ok(Action::Trade)) {
                sink.trade(&at, (record.price, record.size, record.side().ok()))?;
            }
            let now = level(&record.levels[0]);
            if self.told.insert(at.venue, now) != Some(now) {
                sink.quote(&at, now)?;
            }
            (true, at.arrival)
        } else if record.has::<TradeMsg>() {
            let record = record.try_get::<TradeMsg>()?;
            let at = sink.at(&record.hd, record.ts_recv)?;
            sink.trade(&at, (record.price, record.size, record.side().ok()))?;
            (true, at.arrival)
        } else if record.has::<BboMsg>() {
            let record = record.try_get::<BboMsg>()?;
            let at = sink.at_interval(&record.hd, record.ts_recv)?;
            sink.quote(&at, level(&record.levels[0]))?;
            (true, at.arrival)
        } else if record.has::<CbboMsg>() {
            let record = record.try_get::<CbboMsg>()?;
            let at = sink.at_interval(&record.hd, record.ts_recv)?;
            sink.quote(&at, consolidated(&record.levels[0]))?;
            (true, at.arrival)
        } else if record.has::<MboMsg>() {
            let record = record.try_get::<MboMsg>()?;
            let at = sink.at(&record.hd, record.ts_recv)?;
            let book = self.books.entry(at.venue).or_default();
            (read_order(record, &at, book, &mut sink)?, at.arrival)
        } else if record.has::<StatusMsg>() {
            let record = record.try_get::<StatusMsg>()?;
            let at = sink.at(&record.hd, record.ts_recv)?;
            (sink.status(&at, record.action().ok()), at.arrival)
        } else if record.has::<InstrumentDefMsg>() {
            let record = record.try_get::<InstrumentDefMsg>()?;
            (true, sink.definition(record)?)
        } else {
            (false, Timestamp::default())
        };
        if !self.others.is_empty() {
            self.others.repeat(record.header().instrument_id, arrival, events, instruments, out)?;
        }
        let told = out.len() > events;
        if !kept {
            self.left_out.add("records of", record.header().rtype().map_or("an unknown kind", kind_name));
        }
        Ok(told.then_some(arrival))
    }
}

fn kind_name(kind: dbn::RType) -> &'static str {
    match kind {
        dbn::RType::Mbo => "orders from before the record began",
        dbn::RType::Status => "status that says nothing of trading",
        _ => "other kinds",
    }
}

/// Puts a record of `mbo` into its book; false if it changes an order from before the record began.
fn read_order(record: &MboMsg, at: &At, book: &mut OrderBook, sink: &mut Sink) -> Result<bool, RecordError> {
    let side = side(record.side().ok());
    let order = Order { side, price: record.price, size: defined(record.size).into() };
    let known = match record.action() {
        Ok(Action::Clear) => {
            book.begin();
            true
        }
        Ok(Action::Add) => {
            // A venue that sends only its best prices replaces the one before.
            if record.flags.is_tob() {
                book.clear_side(side);
            }
            if record.flags.is_snapshot() {
                book.make_whole();
            }
            if record.price != dbn::UNDEF_PRICE {
                book.add(record.order_id, order);
            }
            true
        }
        // It states the full order, so an unknown one can be added.
        Ok(Action::Modify) if record.price != dbn::UNDEF_PRICE => {
            book.add(record.order_id, order);
            true
        }
        Ok(Action::Cancel) => book.reduce(record.order_id, record.size.into()).is_some(),
        Ok(Action::Trade) => {
            sink.trade(at, (record.price, record.size, record.side().ok()))?;
            true
        }
        // A fill names the order that a trade met; a cancellation reduces it.
        _ => true,
    };
    // Within an event the book may be crossed, and within a snapshot it is incomplete.
    if record.flags.is_last()
        && let Some(Top { bid, ask }) = book.changed()
    {
        let best =
            |top: Option<(i64, u64)>| top.map_or((None, Decimal::ZERO), |(p, size)| (price(p), size.into()));
        let ((bid, bid_size), (ask, ask_size)) = (best(bid), best(ask));
        sink.quote(at, QuoteValues { bid, bid_size, ask, ask_size })?;
    }
    if !known && book.is_whole() {
        let symbol = sink.instruments.get(at.id).map_or_else(String::new, |known| known.symbol.to_string());
        return Err(RecordError::NoOrder { id: record.order_id, symbol });
    }
    Ok(known)
}

/// Receives the events of one record.
struct Sink<'a> {
    names: &'a Names,
    best: Option<&'a mut BestQuotes>,
    instruments: &'a mut Instruments,
    out: &'a mut Vec<Event>,
}

/// The instrument and the times of a record.
struct At {
    venue: Venue,
    id: InstrumentId,
    event: Timestamp,
    arrival: Timestamp,
}

impl Sink<'_> {
    fn at(&mut self, header: &RecordHeader, ts_recv: u64) -> Result<At, RecordError> {
        let (event, arrival) = times(header, ts_recv)?;
        let instrument = header.instrument_id;
        let symbol = self
            .names
            .find(arrival, instrument)
            .ok_or(RecordError::NoSymbol { id: instrument, time: arrival })?;
        let id = intern(symbol, self.instruments, self.out)?;
        Ok(At { venue: Venue { publisher: header.publisher_id, instrument }, id, event, arrival })
    }

    /// For the quote at the end of an interval: its venue's time is that of the last trade.
    fn at_interval(&mut self, header: &RecordHeader, ts_recv: u64) -> Result<At, RecordError> {
        let at = self.at(header, ts_recv)?;
        Ok(At { event: at.arrival, ..at })
    }

    fn quote(&mut self, at: &At, values: QuoteValues) -> Result<(), RecordError> {
        let values = match &mut self.best {
            None => values,
            Some(best) => match best.fold(at.id, &at.venue.publisher.to_le_bytes(), values) {
                Some(best) => best,
                None => return Ok(()),
            },
        };
        let quote = self.instruments.quote(at.id, &values, (at.event, at.arrival), self.out)?;
        self.out.push(Event::Quote(at.id, quote));
        Ok(())
    }

    fn trade(
        &mut self,
        at: &At,
        (units, size, aggressor): (i64, u32, Option<dbn::Side>),
    ) -> Result<(), RecordError> {
        let numbers = (price(units).ok_or(RecordError::NoPrice)?, self::size(size));
        let kind = (side(aggressor), Conditions::default());
        let trade = self.instruments.trade(at.id, numbers, kind, (at.event, at.arrival), self.out)?;
        self.out.push(Event::Trade(at.id, trade));
        Ok(())
    }

    /// False if it does not state whether there is trading.
    fn status(&mut self, at: &At, action: Option<StatusAction>) -> bool {
        let state = match action {
            Some(StatusAction::PreOpen | StatusAction::PreCross | StatusAction::Quoting) => {
                TradingState::PreOpen
            }
            Some(StatusAction::Trading) => TradingState::Open,
            Some(StatusAction::Halt | StatusAction::Pause | StatusAction::Suspend) => TradingState::Halted,
            Some(StatusAction::Close | StatusAction::PostClose | StatusAction::NotAvailableForTrading) => {
                TradingState::Closed
            }
            _ => return false,
        };
        self.out.push(Event::Status(Some(at.id), Status { state, ts_event: at.event }));
        true
    }

    /// Takes over an instrument's tick size and currency.
    fn definition(&mut self, record: &InstrumentDefMsg) -> Result<Timestamp, RecordError> {
        let (_, arrival) = times(&record.hd, record.ts_recv)?;
        let symbol = match self.names.find(arrival, record.hd.instrument_id) {
            Some(symbol) => Symbol::new(symbol)?,
            None => Symbol::new(record.raw_symbol()?)?,
        };
        let known = self.instruments.by_symbol(symbol.as_str()).map(|known| (**known).clone());
        let known = known.unwrap_or_else(|| Instrument::unknown(symbol));
        let mut definition = Instrument { currency: record.currency()?.to_owned(), ..known };
        // Prices are never coarser than cents, so the tick is counted in cents, or finer.
        let tick =
            price(record.min_price_increment).filter(|tick| tick.is_sign_positive() && !tick.is_zero());
        if let Some(tick) = tick {
            let scale = u8::try_from(tick.scale()).unwrap_or(u8::MAX).max(definition.price_scale);
            if let Ok(units) = Price::from_decimal(tick, scale) {
                definition = definition.refined(scale - definition.price_scale, 0);
                definition.tick_size = units.units();
            }
        }
        self.instruments.define(definition, self.out);
        Ok(arrival)
    }
}

impl Names {
    fn find(&self, time: Timestamp, instrument: u32) -> Option<&str> {
        let by_day = self.by_day.get_for_ts(time.nanos().unsigned_abs(), instrument);
        let by_id = by_day.or_else(|| self.live.get(instrument)).map(String::as_str);
        by_id.or_else(|| self.stated.get(&instrument).map(|symbol| &**symbol))
    }
}

/// The venue's time and the time of arrival; if one is undefined, both are the other.
fn times(header: &RecordHeader, ts_recv: u64) -> Result<(Timestamp, Timestamp), RecordError> {
    match (time(header.ts_event), time(ts_recv)) {
        (Some(venue), Some(arrival)) => Ok((venue, arrival)),
        (Some(both), None) | (None, Some(both)) => Ok((both, both)),
        (None, None) => Err(RecordError::NoTime),
    }
}

fn level(level: &BidAskPair) -> QuoteValues {
    QuoteValues {
        bid: price(level.bid_px),
        bid_size: size(level.bid_sz),
        ask: price(level.ask_px),
        ask_size: size(level.ask_sz),
    }
}

fn consolidated(level: &ConsolidatedBidAskPair) -> QuoteValues {
    QuoteValues {
        bid: price(level.bid_px),
        bid_size: size(level.bid_sz),
        ask: price(level.ask_px),
        ask_size: size(level.ask_sz),
    }
}

fn side(aggressor: Option<dbn::Side>) -> Side {
    match aggressor {
        Some(dbn::Side::Ask) => Side::Sell,
        Some(dbn::Side::Bid) => Side::Buy,
        Some(dbn::Side::None) | None => Side::None,
    }
}

/// `None` if undefined, or past the year 2261.
fn time(nanos: u64) -> Option<Timestamp> {
    i64::try_from(nanos).ok().map(Timestamp::from_nanos)
}

/// 0 if it is not known.
fn size(size: u32) -> Decimal {
    defined(size).into()
}

fn defined(size: u32) -> u32 {
    if size == dbn::UNDEF_ORDER_SIZE { 0 } else { size }
}

/// DBN writes prices in units of 1e-9. The trailing zeros go, so that an instrument's scale is what its
/// prices need.
fn price(units: i64) -> Option<Decimal> {
    if units == dbn::UNDEF_PRICE {
        return None;
    }
    let (mut units, mut scale) = (units, 9);
    while scale > 0 && units % 10 == 0 {
        units /= 10;
        scale -= 1;
    }
    Some(Decimal::new(units, scale))
}
