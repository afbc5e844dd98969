use super::fields::{BarFields, QuoteFields};
use crate::hub::{Kind, Owed, Run, Topic, Upto, bar_field};
use crate::market::{
    Bar, FeedStatus, Instrument, Price, Quote, ServerStats, Size, Speed, Status, Timestamp, Trade,
};
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use std::io::Write;

/// Builds one update in JSON form. For people: it is written for ease, not speed.
#[derive(Debug, Default)]
pub(super) struct JsonUpdate {
    /// The entries, separated by commas.
    entries: Vec<u8>,
    payload: Vec<u8>,
    times: bool,
    from: Option<Upto>,
    upto: Option<Upto>,
    /// Bytes of entries from which on it takes no more.
    full: usize,
    pub(super) delivered: u64,
    pub(super) gaps: u64,
}

/// RFC 3339 in UTC with whole microseconds.
pub(crate) fn moment(at: Timestamp) -> Value {
    let micros = jiff::Timestamp::from_microsecond(at.micros());
    micros.map_or(Value::Null, |at| Value::String(format!("{at:.6}")))
}

/// RFC 3339 in UTC with whole seconds: where bars start.
pub(crate) fn second(at: Timestamp) -> Value {
    let second = jiff::Timestamp::from_second(at.nanos().div_euclid(1_000_000_000));
    second.map_or(Value::Null, |at| Value::String(at.to_string()))
}

pub(crate) fn price(instrument: &Instrument, price: Price) -> Value {
    price.to_decimal(instrument.price_scale).map_or(Value::Null, |d| Value::String(d.to_string()))
}

pub(crate) fn size(instrument: &Instrument, size: Size) -> Value {
    Value::String(size.to_decimal(instrument.size_scale).to_string())
}

/// Reference data as people read it.
pub(crate) fn instrument(instrument: &Instrument) -> Value {
    json!({
        "symbol": instrument.symbol.as_str(),
        "name": instrument.name,
        "sector": instrument.sector,
        "currency": instrument.currency,
        "price_scale": instrument.price_scale,
        "size_scale": instrument.size_scale,
        "tick_size": instrument.tick_size_decimal().to_string(),
        "previous_close": price(instrument, instrument.previous_close),
    })
}

pub(crate) fn trade(instrument: &Instrument, number: u64, trade: &Trade) -> Value {
    let mut value = json!({
        "number": number,
        "price": price(instrument, trade.price),
        "size": size(instrument, trade.size),
        "side": trade.side.name(),
        "ts_event": moment(trade.ts_event),
    });
    if !trade.conditions.is_empty() {
        value["conditions"] = trade.conditions.as_str().into();
    }
    value
}

/// The fields of a bar that `mask` names.
pub(crate) fn bar(definition: &Instrument, mask: u16, bar: &Bar) -> Map<String, Value> {
    bar_fields(definition, &BarFields::of(mask, Some(bar), Price::NONE))
}

pub(crate) fn bar_fields(definition: &Instrument, bar: &BarFields) -> Map<String, Value> {
    let cents = |price: i64| Decimal::new(price, u32::from(definition.price_scale) + 2);
    named([
        ("start", bar.start.map(second)),
        ("open", bar.open.map(|open| price(definition, open))),
        ("high", bar.high.map(|high| price(definition, high))),
        ("low", bar.low.map(|low| price(definition, low))),
        ("close", bar.close.map(|close| price(definition, close))),
        ("volume", bar.volume.map(|volume| size(definition, volume))),
        ("trades", bar.trades.map(Value::from)),
        ("vwap", bar.vwap.map(|vwap| cents(vwap).to_string().into())),
        ("previous_close", bar.previous_close.map(|close| price(definition, close))),
    ])
}

/// A closed bar with its number.
pub(crate) fn closed_bar(definition: &Instrument, number: u64, bar: &BarFields) -> Value {
    let mut fields = Map::from_iter([("number".to_owned(), number.into())]);
    fields.extend(bar_fields(definition, bar));
    Value::Object(fields)
}

pub(crate) fn quote_fields(instrument: &Instrument, quote: &QuoteFields) -> Map<String, Value> {
    named([
        ("bid", quote.bid.map(|bid| price(instrument, bid))),
        ("bid_size", quote.bid_size.map(|bid_size| size(instrument, bid_size))),
        ("ask", quote.ask.map(|ask| price(instrument, ask))),
        ("ask_size", quote.ask_size.map(|ask_size| size(instrument, ask_size))),
        ("ts_event", quote.ts_event.map(moment)),
    ])
}

pub(crate) fn status_fields(status: &Status) -> Map<String, Value> {
    named([("state", Some(status.state.name().into())), ("ts_event", Some(moment(status.ts_event)))])
}

pub(crate) fn feed(feed: &FeedStatus) -> Value {
    let speed = match feed.speed {
        Speed::Times(factor) => json!(factor),
        Speed::Max => Value::Null,
    };
    json!({ "kind": feed.kind.name(), "state": feed.state.name(), "speed": speed })
}

pub(crate) fn stats(stats: &ServerStats) -> Value {
    serde_json::to_value(stats).expect("a map of numbers and texts")
}

/// The topic of that kind by name; without an instrument that of the whole market.
pub(crate) fn topic(kind: Kind, instrument: Option<&Instrument>) -> String {
    match instrument {
        Some(instrument) => Topic::of(kind, &instrument.symbol).to_string(),
        None => kind.name().to_owned(),
    }
}

/// The entry of an update that tells this of a topic.
pub(super) fn entry(kind: Kind, instrument: Option<&Instrument>, fields: Map<String, Value>) -> Value {
    let mut entry = Map::from_iter([("topic".to_owned(), topic(kind, instrument).into())]);
    entry.extend(fields);
    Value::Object(entry)
}

/// As [`entry`], for the latest bar: days have their fields in the entry itself.
pub(super) fn bar_entry(instrument: &Instrument, kind: Kind, bar: &BarFields) -> Value {
    let fields = bar_fields(instrument, bar);
    let fields = match kind {
        Kind::Day => fields,
        _ => one("bar", Value::Object(fields)),
    };
    entry(kind, Some(instrument), fields)
}

/// A map of one field.
pub(super) fn one(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value.into())])
}

/// Those that are there.
fn named<const N: usize>(fields: [(&str, Option<Value>); N]) -> Map<String, Value> {
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

impl JsonUpdate {
    pub(super) fn new(full: usize) -> Self {
        Self { full, ..Self::default() }
    }

    pub(super) fn begin(&mut self, times: bool, from: Upto, upto: Upto) {
        self.entries.clear();
        self.delivered = 0;
        self.gaps = 0;
        self.times = times;
        (self.from, self.upto) = (Some(from), Some(upto));
    }

    pub(super) fn finish(&mut self, whole: bool) -> &[u8] {
        let (Some(from), Some(upto)) = (self.from, self.upto) else { return &[] };
        let position = if whole { upto.position } else { from.position };
        self.payload.clear();
        write!(
            self.payload,
            r#"{{"type":"update","position":{},"time":{},"updates":["#,
            position.get(),
            moment(upto.time)
        )
        .expect("a Vec takes every byte");
        self.payload.extend_from_slice(&self.entries);
        self.payload.extend_from_slice(if whole { b"]}" } else { b"],\"more\":true}" });
        &self.payload
    }

    fn push(&mut self, entry: &Value) {
        if !self.entries.is_empty() {
            self.entries.push(b',');
        }
        serde_json::to_writer(&mut self.entries, entry).expect("a Vec takes every byte");
    }
}

impl Owed for JsonUpdate {
    fn reset(&mut self) {
        self.push(&json!({ "reset": true }));
    }

    fn definition(&mut self, definition: &Instrument) {
        self.push(&json!({ "instrument": instrument(definition) }));
    }

    fn quote(&mut self, instrument: &Instrument, mask: u8, quote: &Quote) {
        let fields = quote_fields(instrument, &QuoteFields::of(mask, self.times, quote));
        self.push(&entry(Kind::Quote, Some(instrument), fields));
        self.delivered += 1;
    }

    fn trades(&mut self, instrument: &Instrument, _: bool, run: &Run<'_, Trade>) {
        let trades: Vec<Value> =
            (run.number..).zip(run.iter()).map(|(number, entry)| trade(instrument, number, entry)).collect();
        if trades.is_empty() {
            return;
        }
        self.delivered += trades.len() as u64;
        self.gaps += u64::from(run.gap);
        self.push(&entry(Kind::Trades, Some(instrument), one("trades", trades)));
    }

    fn bar(
        &mut self,
        instrument: &Instrument,
        kind: Kind,
        mask: u16,
        latest: Option<&Bar>,
        previous_close: Price,
    ) {
        self.push(&bar_entry(instrument, kind, &BarFields::of(mask, latest, previous_close)));
        self.delivered += 1;
    }

    fn closed_bars(&mut self, instrument: &Instrument, kind: Kind, _: bool, run: &Run<'_, Bar>) {
        let fields = |bar: &Bar| BarFields::of(bar_field::BAR, Some(bar), Price::NONE);
        let numbered = |(number, bar): (u64, &Bar)| closed_bar(instrument, number, &fields(bar));
        let closed: Vec<Value> = (run.number..).zip(run.iter()).map(numbered).collect();
        if closed.is_empty() {
            return;
        }
        self.delivered += closed.len() as u64;
        self.gaps += u64::from(run.gap);
        self.push(&entry(kind, Some(instrument), one("closed", closed)));
    }

    fn status(&mut self, instrument: Option<&Instrument>, status: &Status) {
        self.push(&entry(Kind::Status, instrument, status_fields(status)));
        self.delivered += 1;
    }

    fn feed(&mut self, status: &FeedStatus) {
        self.push(&entry(Kind::Status, None, one("feed", feed(status))));
        self.delivered += 1;
    }

    fn stats(&mut self, told: &ServerStats) {
        self.push(&entry(Kind::Stats, None, one("stats", stats(told))));
        self.delivered += 1;
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.full
    }
}
