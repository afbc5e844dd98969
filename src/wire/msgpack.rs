//! Updates in MessagePack form, written on the shard thread. Pure.
//!
//! Invariant: `elements` counts what is in `entries`. With and without [`Told`] and [`Runs`] the bytes are
//! the same.

use super::framing::Form;
use super::runs::Runs;
use super::schema::{self, BarFields, Fields, SIDES, tag, trade_flag};
use super::told::{Told, Written};
use crate::hub::{
    ChannelEntries, Entries, Image, Kind, Owed, Run, ServerStats, StateRun, TopicKey, Upto, bar_field,
    quote_field,
};
use crate::market::{
    Bar, FeedStatus, Instrument, Message, Price, Quote, SAFE_INTEGER, Side, Size, Speed, Status, Symbol,
    Timestamp, Trade,
};
use crate::tape::Position;
use rmp::encode;
use std::{ops::Range, sync::Arc};

/// Builds one update in MessagePack form: a flat array.
#[derive(Debug, Default)]
pub(super) struct MsgpackUpdate {
    /// The elements after `positions` and `micros`.
    entries: Vec<u8>,
    elements: u32,
    /// The payload before the entries.
    head: Vec<u8>,
    times: bool,
    from: Option<Upto>,
    upto: Option<Upto>,
    /// The update's time in µs, which moments are relative to.
    micros: i64,
    /// It is full once entries have this many bytes.
    full: usize,
    pub(super) delivered: u64,
    pub(super) gaps: u64,
    /// `None`: each entry is encoded anew.
    told: Option<Told>,
    runs: Option<Runs>,
}

/// Writing to a `Vec` cannot fail.
const VEC: &str = "a Vec takes every byte";

impl MsgpackUpdate {
    pub(super) fn new(full: usize) -> Self {
        Self { full, ..Self::default() }
    }

    /// An encoder that encodes what is pending for several sessions of one tape only once.
    pub(super) fn sharing(full: usize) -> Self {
        Self { full, told: Some(Told::default()), runs: Some(Runs::default()), ..Self::default() }
    }

    /// The tape was reset: drops what it kept.
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

    /// Whether it has no entries.
    #[cfg(feature = "server")]
    pub(super) fn is_empty(&self) -> bool {
        self.elements == 0
    }

    /// The position to resume from after this update; `None` for a part of a flush, and for an update that
    /// says that nothing happened.
    pub(super) fn resume(&self, whole: bool) -> Option<Position> {
        let (from, upto) = (self.from?.position, self.upto?.position);
        let says_nothing = self.elements == 0 && from == upto;
        (whole && !says_nothing && upto > Position::START).then_some(upto)
    }

    /// Appends the update in the framing of that form.
    pub(super) fn finish(&mut self, whole: bool, form: Form, out: &mut Vec<u8>) {
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
        if form.is_in_base64() {
            head.extend_from_slice(&self.entries);
            form.write(head, out);
            return;
        }
        form.begin(head.len() + self.entries.len(), out);
        out.extend_from_slice(head);
        out.extend_from_slice(&self.entries);
        form.end(out);
    }

    fn written(&self) -> Written {
        let Self { elements, delivered, gaps, .. } = *self;
        Written { bytes: self.entries.len(), elements, delivered, gaps }
    }

    pub(super) fn int(&mut self, value: i64) {
        write_int(value, &mut self.entries);
        self.elements += 1;
    }

    pub(super) fn units(&mut self, value: i128) {
        write_units(value, &mut self.entries);
        self.elements += 1;
    }

    pub(super) fn uint(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(small @ ..128) => self.entries.push(small),
            _ => {
                encode::write_uint(&mut self.entries, value).expect(VEC);
            }
        }
        self.elements += 1;
    }

    fn text(&mut self, text: &str) {
        encode::write_str(&mut self.entries, text).expect(VEC);
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

    pub(super) fn price(&mut self, instrument: &Instrument, price: Price) {
        match price.some() {
            Some(price) => self.units(price.units() - instrument.anchor_units()),
            None => self.nil(),
        }
    }

    pub(super) fn size(&mut self, size: Size) {
        self.units(size.units());
    }

    pub(super) fn moment(&mut self, at: Timestamp) {
        self.int(at.micros().saturating_sub(self.micros).clamp(-SAFE_INTEGER, SAFE_INTEGER));
    }

    /// The same as [`Fields::write`], by hand: nearly all entries are quotes.
    fn quote(&mut self, instrument: &Instrument, mask: u16, quote: &Quote) {
        let with_mask = u8::try_from(mask).expect("a quote has four fields");
        self.entry(instrument, with_mask + if self.times { tag::QUOTE_WITH_TIME } else { tag::QUOTE });
        if mask & quote_field::BID != 0 {
            self.price(instrument, quote.bid);
        }
        if mask & quote_field::BID_SIZE != 0 {
            self.size(quote.bid_size);
        }
        if mask & quote_field::ASK != 0 {
            self.price(instrument, quote.ask);
        }
        if mask & quote_field::ASK_SIZE != 0 {
            self.size(quote.ask_size);
        }
        if self.times {
            self.moment(quote.ts_event);
        }
    }

    fn trades(&mut self, instrument: &Instrument, run: &Run<'_, Trade>) {
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

    fn bars(&mut self, instrument: &Instrument, run: &Run<'_, Bar>) {
        for bar in run.iter() {
            BarFields::of(bar_field::BAR, Some(bar), Price::NONE).write(instrument, self);
        }
    }

    /// An entry without an instrument.
    fn market_entry(&mut self, tag: u8) {
        self.nil();
        self.uint(u64::from(tag));
    }

    fn messages(&mut self, channel: &Symbol, messages: &Run<'_, Arc<Message>>) {
        self.market_entry(tag::MESSAGES);
        self.text(channel.as_str());
        self.uint(messages.number);
        self.uint(messages.len() as u64);
        for message in messages.iter() {
            self.moment(message.ts_event);
            for word in [&message.from, &message.event] {
                match word {
                    Some(word) => self.text(word.as_str()),
                    None => self.nil(),
                }
            }
            self.text(message.data.as_str());
        }
        self.gaps += u64::from(messages.gap);
    }

    fn states(&mut self, channel: &Symbol, states: &StateRun<'_>) {
        self.market_entry(tag::STATES);
        self.text(channel.as_str());
        self.uint(states.whole.into());
        self.uint(states.states.len() as u64);
        for (key, data) in &states.states {
            self.text(key.as_str());
            match data {
                Some(data) => self.text(data.as_str()),
                None => self.nil(),
            }
        }
    }
}

fn write_int(value: i64, out: &mut Vec<u8>) {
    match i8::try_from(value) {
        // Most numbers are small: one byte, the same as the `i8`.
        Ok(small @ -32..) => out.push(small.cast_unsigned()),
        _ => {
            encode::write_sint(out, value).expect(VEC);
        }
    }
}

/// A number of units: an integer where JavaScript reads it exactly, else a string of its decimal digits.
pub(super) fn write_units(value: i128, out: &mut Vec<u8>) {
    match i64::try_from(value) {
        Ok(value) if (-SAFE_INTEGER..=SAFE_INTEGER).contains(&value) => write_int(value, out),
        _ => encode::write_str(out, &value.to_string()).expect(VEC),
    }
}

/// From one trade to the next: the differences of price and moment. Returns how many elements it wrote.
pub(super) fn write_step(instrument: &Instrument, before: &Trade, trade: &Trade, out: &mut Vec<u8>) -> u32 {
    if let Some(price) = trade.price.some() {
        let from = before.price.some().map_or(instrument.anchor_units(), Price::units);
        write_units(price.units() - from, out);
    } else {
        encode::write_nil(out).expect(VEC);
    }
    let micros = trade.ts_event.micros().saturating_sub(before.ts_event.micros());
    write_int(micros.clamp(-SAFE_INTEGER, SAFE_INTEGER), out);
    2
}

/// Its index in [`SIDES`].
const fn side_number(side: Side) -> u8 {
    const NUMBERS: [u8; 3] = {
        let mut numbers = [0; 3];
        let mut number = 0;
        while number < 3 {
            numbers[SIDES[number as usize] as usize] = number;
            number += 1;
        }
        numbers
    };
    NUMBERS[side as usize]
}

/// The elements of a trade that are not relative to another one. Returns how many it wrote.
pub(super) fn write_trade(trade: &Trade, out: &mut Vec<u8>) -> u32 {
    let has_conditions = !trade.conditions.is_empty();
    let has_counts = !trade.counts.is_everything();
    let flags = side_number(trade.side)
        + trade_flag::CONDITIONS * u8::from(has_conditions)
        + trade_flag::COUNTS * u8::from(has_counts);
    write_int(flags.into(), out);
    write_units(trade.size.units(), out);
    if has_conditions {
        encode::write_str(out, trade.conditions.as_str()).expect(VEC);
    }
    if has_counts {
        write_int(trade.counts.bits().into(), out);
    }
    let is_break = trade.counts.is_break();
    if is_break {
        write_int(trade.booked.into(), out);
    }
    2 + u32::from(has_conditions) + u32::from(has_counts) + u32::from(is_break)
}

impl Owed for MsgpackUpdate {
    fn reset(&mut self) {
        self.market_entry(tag::RESET);
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
            ("price_scale", Some(instrument.price_scale.into())),
            ("size_scale", Some(instrument.size_scale.into())),
            ("tick_size", Some(instrument.tick_size)),
            ("anchor", Some(instrument.anchor_units())),
            ("previous_close", instrument.previous_close.some().map(Price::units)),
        ];
        for (key, value) in numbers {
            encode::write_str(out, key).expect(VEC);
            match value {
                Some(value) => write_units(value, out),
                None => encode::write_nil(out).expect(VEC),
            }
        }
    }

    fn image(&mut self, instrument: &Instrument, kind: Kind, mask: u16, image: Image<'_>) {
        self.delivered += 1;
        if let Image::Quote(quote) = image {
            return self.quote(instrument, mask, quote);
        }
        let Some(schema) = schema::image(kind) else { return };
        self.entry(instrument, schema.tag);
        self.uint(mask.into());
        Fields::of(image, mask, false).write(instrument, self);
    }

    fn ring(&mut self, instrument: &Instrument, kind: Kind, numbered: bool, entries: Entries<'_>) {
        let Some(schema) = schema::ring(kind) else { return };
        self.entry(instrument, if numbered { schema.numbered } else { schema.tag });
        if numbered {
            self.uint(entries.number());
        }
        self.uint(entries.count());
        self.delivered += entries.count();
        self.gaps += u64::from(entries.is_gap());
        match entries {
            Entries::Trades(run) => self.trades(instrument, run),
            Entries::Bars(run) => self.bars(instrument, run),
        }
    }

    fn status(&mut self, instrument: Option<&Instrument>, status: &Status) {
        match instrument {
            Some(instrument) => self.entry(instrument, tag::STATUS),
            None => self.market_entry(tag::STATUS),
        }
        self.uint(status.state as u64);
        self.moment(status.ts_event);
        self.delivered += 1;
    }

    fn feed(&mut self, feed: &FeedStatus) {
        self.market_entry(tag::FEED);
        self.uint(feed.kind as u64);
        self.uint(feed.state as u64);
        match feed.speed {
            Speed::Times(factor) => encode::write_f64(&mut self.entries, factor).expect(VEC),
            Speed::Max => encode::write_str(&mut self.entries, "max").expect(VEC),
        }
        self.elements += 1;
        self.delivered += 1;
    }

    fn stats(&mut self, stats: &ServerStats) {
        self.market_entry(tag::STATS);
        rmp_serde::encode::write_named(&mut self.entries, stats).expect(VEC);
        self.elements += 1;
        self.delivered += 1;
    }

    fn channel(&mut self, channel: &Symbol, entries: &ChannelEntries<'_>) {
        self.delivered += entries.count();
        match entries {
            ChannelEntries::Messages(run) => self.messages(channel, run),
            ChannelEntries::States(run) => self.states(channel, run),
        }
    }

    fn joined(&mut self, instrument: &Instrument, kind: Kind) {
        self.entry(instrument, tag::JOINED);
        self.uint(kind.index() as u64);
    }

    fn left(&mut self, instrument: &Instrument, kind: Kind) {
        self.entry(instrument, tag::LEFT);
        self.uint(kind.index() as u64);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Symbol;

    /// The bytes of an update with this.
    fn written(times: bool, tell: impl Fn(&mut MsgpackUpdate)) -> (Vec<u8>, u32) {
        let mut update = MsgpackUpdate::new(usize::MAX);
        let upto = Upto { position: Position::new(1), time: Timestamp::from_micros(1_000) };
        update.begin(times, Upto::default(), upto);
        tell(&mut update);
        (update.entries, update.elements)
    }

    #[test]
    fn the_hand_written_quote_is_the_one_by_the_schema() {
        let instrument =
            Instrument { anchor: Price::new(100), ..Instrument::unknown(Symbol::new("X").unwrap()) };
        let (bid_size, ask_size) = (Size::new(7), Size::new(1_000_000));
        let (ts_event, ts_recv) = (Timestamp::from_micros(900), Timestamp::from_micros(950));
        let quote = Quote { bid: Price::new(99), bid_size, ask: Price::NONE, ask_size, ts_event, ts_recv };
        for mask in 1..=quote_field::ALL {
            for times in [false, true] {
                let fast = written(times, |update| update.quote(&instrument, mask, &quote));
                let plain = written(times, |update| {
                    let tag = if times { tag::QUOTE_WITH_TIME } else { tag::QUOTE };
                    update.entry(&instrument, tag + u8::try_from(mask).unwrap());
                    Fields::of(Image::Quote(&quote), mask, times).write(&instrument, update);
                });
                assert_eq!(fast, plain, "mask {mask}, times {times}");
            }
        }
    }
}
