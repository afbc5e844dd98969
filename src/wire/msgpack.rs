use super::frame::{Opcode, write_header};
use super::runs::Runs;
use super::tag;
use super::told::{Told, Written};
use crate::hub::{Kind, Owed, Run, TopicKey, Upto, bar_field};
use crate::market::{
    Bar, FeedKind, FeedState, FeedStatus, Instrument, MAX_UNITS, Price, Quote, ServerStats, Side, Size,
    Speed, Status, Timestamp, Trade, TradingState,
};
use crate::tape::Position;
use rmp::encode;
use std::ops::Range;

/// Builds one update in MessagePack form: a flat array.
#[derive(Debug, Default)]
pub(super) struct MsgpackUpdate {
    /// The elements behind `positions` and `micros`.
    entries: Vec<u8>,
    elements: u32,
    /// The payload up to the entries.
    head: Vec<u8>,
    times: bool,
    from: Option<Upto>,
    upto: Option<Upto>,
    /// The update's time in µs, from which moments count.
    micros: i64,
    /// Bytes of entries from which on it takes no more.
    full: usize,
    pub(super) delivered: u64,
    pub(super) gaps: u64,
    /// `None`: every entry is encoded anew.
    told: Option<Told>,
    runs: Option<Runs>,
}

/// Writing to a `Vec` cannot fail.
const VEC: &str = "a Vec takes every byte";

impl MsgpackUpdate {
    pub(super) fn new(full: usize) -> Self {
        Self { full, ..Self::default() }
    }

    /// That encodes what several readers of one tape are owed once.
    pub(super) fn sharing(full: usize) -> Self {
        Self { full, told: Some(Told::default()), runs: Some(Runs::default()), ..Self::default() }
    }

    /// Forgets what it keeps of a tape that began anew.
    pub(super) fn forget(&mut self) {
        self.told = self.told.as_ref().map(|_| Told::default());
        self.runs = self.runs.as_ref().map(|_| Runs::default());
    }

    pub(super) fn begin(&mut self, times: bool, from: Upto, upto: Upto) {
        self.entries.clear();
        self.elements = 0;
        self.delivered = 0;
        self.gaps = 0;
        self.times = times;
        self.micros = upto.time.micros();
        (self.from, self.upto) = (Some(from), Some(upto));
    }

    /// Appends the update as a WebSocket frame.
    pub(super) fn finish(&mut self, whole: bool, out: &mut Vec<u8>) {
        let (Some(from), Some(upto)) = (self.from, self.upto) else { return };
        let head = &mut self.head;
        head.clear();
        encode::write_array_len(head, self.elements + 2).expect(VEC);
        if whole {
            encode::write_uint(head, upto.position.get() - from.position.get()).expect(VEC);
        } else {
            encode::write_nil(head).expect(VEC);
        }
        encode::write_sint(head, upto.time.micros() - from.time.micros()).expect(VEC);
        write_header(Opcode::Binary, head.len() + self.entries.len(), out);
        out.extend_from_slice(head);
        out.extend_from_slice(&self.entries);
    }

    fn written(&self) -> Written {
        let Self { elements, delivered, gaps, .. } = *self;
        Written { bytes: self.entries.len(), elements, delivered, gaps }
    }

    fn int(&mut self, value: i64) {
        write_int(value, &mut self.entries);
        self.elements += 1;
    }

    fn uint(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(small @ ..128) => self.entries.push(small),
            _ => {
                encode::write_uint(&mut self.entries, value).expect(VEC);
            }
        }
        self.elements += 1;
    }

    fn nil(&mut self) {
        encode::write_nil(&mut self.entries).expect(VEC);
        self.elements += 1;
    }

    fn entry(&mut self, instrument: &Instrument, tag: u8) {
        self.uint(u64::from(instrument.id.0));
        self.uint(u64::from(tag));
    }

    fn price(&mut self, instrument: &Instrument, price: Price) {
        match price.some() {
            // Prices are bounded so that the difference stays below 2^53; this holds the promise whatever a recording says.
            Some(price) => self.int((price.units() - instrument.anchor_units()).clamp(-MAX_UNITS, MAX_UNITS)),
            None => self.nil(),
        }
    }

    fn size(&mut self, size: Size) {
        self.int(size.units());
    }

    fn moment(&mut self, at: Timestamp) {
        self.int(at.micros().saturating_sub(self.micros).clamp(-MAX_UNITS, MAX_UNITS));
    }

    fn bar_values(&mut self, instrument: &Instrument, mask: u16, bar: &Bar) {
        use bar_field as field;
        if mask & field::START != 0 {
            self.int(bar.start.nanos().div_euclid(1_000_000_000));
        }
        let prices = [
            (field::OPEN, bar.open),
            (field::HIGH, bar.high),
            (field::LOW, bar.low),
            (field::CLOSE, bar.close),
        ];
        for (field, price) in prices {
            if mask & field != 0 {
                self.price(instrument, price);
            }
        }
        if mask & field::VOLUME != 0 {
            self.size(bar.volume);
        }
        if mask & field::TRADES != 0 {
            self.uint(bar.trades);
        }
        if mask & field::VWAP != 0 {
            let anchor = instrument.anchor_units().saturating_mul(100);
            self.int(bar.vwap_hundredths().saturating_sub(anchor).clamp(-MAX_UNITS, MAX_UNITS));
        }
    }
}

fn write_int(value: i64, out: &mut Vec<u8>) {
    match i8::try_from(value) {
        // Most numbers are small, and one byte is what they look like as `i8`.
        Ok(small @ -32..) => out.push(small.cast_unsigned()),
        _ => {
            encode::write_sint(out, value).expect(VEC);
        }
    }
}

/// From one trade to the next: the differences of price and moment. Returns how many elements it wrote.
pub(super) fn write_step(instrument: &Instrument, before: &Trade, trade: &Trade, out: &mut Vec<u8>) -> u32 {
    if let Some(price) = trade.price.some() {
        let from = before.price.some().map_or(instrument.anchor_units(), Price::units);
        // Prices are bounded so that a difference stays below 2^53; this holds the promise whatever a recording says.
        write_int((price.units() - from).clamp(-MAX_UNITS, MAX_UNITS), out);
    } else {
        encode::write_nil(out).expect(VEC);
    }
    let micros = trade.ts_event.micros().saturating_sub(before.ts_event.micros());
    write_int(micros.clamp(-MAX_UNITS, MAX_UNITS), out);
    2
}

/// What a trade says by itself. Returns how many elements it wrote.
pub(super) fn write_trade(trade: &Trade, out: &mut Vec<u8>) -> u32 {
    let side = match trade.side {
        Side::None => 0,
        Side::Buy => 1,
        Side::Sell => 2,
    };
    let has_conditions = !trade.conditions.is_empty();
    write_int(side + if has_conditions { 4 } else { 0 }, out);
    write_int(trade.size.units(), out);
    if !has_conditions {
        return 2;
    }
    encode::write_str(out, trade.conditions.as_str()).expect(VEC);
    3
}

impl Owed for MsgpackUpdate {
    fn reset(&mut self) {
        self.nil();
        self.uint(u64::from(tag::RESET));
    }

    fn definition(&mut self, instrument: &Instrument) {
        self.entry(instrument, tag::DEFINITION);
        self.elements += 1;
        let out = &mut self.entries;
        let pair = |out: &mut Vec<u8>, key: &str, value: &str| {
            encode::write_str(out, key).expect(VEC);
            encode::write_str(out, value).expect(VEC);
        };
        encode::write_map_len(out, 9).expect(VEC);
        pair(out, "symbol", instrument.symbol.as_str());
        pair(out, "name", &instrument.name);
        pair(out, "sector", &instrument.sector);
        pair(out, "currency", &instrument.currency);
        let numbers = [
            ("price_scale", Some(i64::from(instrument.price_scale))),
            ("size_scale", Some(i64::from(instrument.size_scale))),
            ("tick_size", Some(instrument.tick_size)),
            ("anchor", Some(instrument.anchor_units())),
            ("previous_close", instrument.previous_close.some().map(Price::units)),
        ];
        for (key, value) in numbers {
            encode::write_str(out, key).expect(VEC);
            match value {
                Some(value) => {
                    encode::write_sint(out, value).expect(VEC);
                }
                None => encode::write_nil(out).expect(VEC),
            }
        }
    }

    fn quote(&mut self, instrument: &Instrument, mask: u8, quote: &Quote) {
        self.entry(instrument, mask + if self.times { tag::QUOTE_WITH_TIME } else { tag::QUOTE });
        if mask & 1 != 0 {
            self.price(instrument, quote.bid);
        }
        if mask & 2 != 0 {
            self.size(quote.bid_size);
        }
        if mask & 4 != 0 {
            self.price(instrument, quote.ask);
        }
        if mask & 8 != 0 {
            self.size(quote.ask_size);
        }
        if self.times {
            self.moment(quote.ts_event);
        }
        self.delivered += 1;
    }

    fn trades(&mut self, instrument: &Instrument, numbered: bool, run: &Run<'_, Trade>) {
        if numbered {
            self.entry(instrument, tag::TRADES_NUMBERED);
            self.uint(run.number);
        } else {
            self.entry(instrument, tag::TRADES);
        }
        self.uint(run.len() as u64);
        self.delivered += run.len() as u64;
        self.gaps += u64::from(run.gap);
        let Some(first) = run.iter().next() else { return };
        self.price(instrument, first.price);
        self.moment(first.ts_event);
        if let Some(runs) = &mut self.runs {
            self.elements += runs.append(instrument, run, &mut self.entries);
        } else {
            self.elements += write_trade(first, &mut self.entries);
            for (before, trade) in run.iter().zip(run.iter().skip(1)) {
                self.elements += write_step(instrument, before, trade, &mut self.entries);
                self.elements += write_trade(trade, &mut self.entries);
            }
        }
    }

    fn bar(
        &mut self,
        instrument: &Instrument,
        kind: Kind,
        mask: u16,
        bar: Option<&Bar>,
        previous_close: Price,
    ) {
        let tag = match kind {
            Kind::Bars1s => tag::BAR_1S,
            Kind::Bars1m => tag::BAR_1M,
            _ => tag::DAY,
        };
        self.entry(instrument, tag);
        self.uint(u64::from(mask));
        if let Some(bar) = bar {
            self.bar_values(instrument, mask, bar);
        }
        if mask & bar_field::PREVIOUS_CLOSE != 0 {
            self.price(instrument, previous_close);
        }
        self.delivered += 1;
    }

    fn closed_bars(&mut self, instrument: &Instrument, kind: Kind, numbered: bool, run: &Run<'_, Bar>) {
        let tag = match (kind, numbered) {
            (Kind::Bars1s, false) => tag::CLOSED_1S,
            (Kind::Bars1s, true) => tag::CLOSED_1S_NUMBERED,
            (_, false) => tag::CLOSED_1M,
            (_, true) => tag::CLOSED_1M_NUMBERED,
        };
        self.entry(instrument, tag);
        if numbered {
            self.uint(run.number);
        }
        self.uint(run.len() as u64);
        for bar in run.iter() {
            self.bar_values(instrument, bar_field::BAR, bar);
        }
        self.delivered += run.len() as u64;
        self.gaps += u64::from(run.gap);
    }

    fn status(&mut self, instrument: Option<&Instrument>, status: &Status) {
        if let Some(instrument) = instrument {
            self.entry(instrument, tag::STATUS);
        } else {
            self.nil();
            self.uint(u64::from(tag::STATUS));
        }
        self.uint(match status.state {
            TradingState::PreOpen => 0,
            TradingState::Open => 1,
            TradingState::Halted => 2,
            TradingState::Closed => 3,
        });
        self.moment(status.ts_event);
        self.delivered += 1;
    }

    fn feed(&mut self, feed: &FeedStatus) {
        self.nil();
        self.uint(u64::from(tag::FEED));
        self.uint(match feed.kind {
            FeedKind::Simulator => 0,
            FeedKind::Replay => 1,
            FeedKind::Publisher => 2,
        });
        self.uint(match feed.state {
            FeedState::Live => 0,
            FeedState::Stale => 1,
            FeedState::Paused => 2,
            FeedState::Ended => 3,
        });
        match feed.speed {
            Speed::Times(factor) => {
                encode::write_f64(&mut self.entries, factor).expect(VEC);
                self.elements += 1;
            }
            Speed::Max => self.nil(),
        }
        self.delivered += 1;
    }

    fn stats(&mut self, stats: &ServerStats) {
        self.nil();
        self.uint(u64::from(tag::STATS));
        rmp_serde::encode::write_named(&mut self.entries, stats).expect(VEC);
        self.elements += 1;
        self.delivered += 1;
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.full
    }

    fn repeat(&mut self, topic: TopicKey, since: Position) -> bool {
        let (written, times) = (self.written(), self.times);
        let (Some(told), Some(upto)) = (&mut self.told, self.upto) else { return false };
        let Some(entry) = told.get(topic, times, since, upto.position, written) else { return false };
        self.entries.extend_from_slice(entry.bytes);
        self.elements += entry.elements;
        self.delivered += u64::from(entry.delivered);
        self.gaps += u64::from(entry.gaps);
        true
    }

    fn remember(&mut self, topic: TopicKey, since: Range<Position>) {
        let (written, times) = (self.written(), self.times);
        let (Some(told), Some(upto)) = (&mut self.told, self.upto) else { return };
        told.put(topic, times, since, upto.position, written, &self.entries);
    }
}
