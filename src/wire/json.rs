//! Updates in JSON form, and the JSON of market data for HTTP. Written for people: for ease, not speed. Pure;
//! any thread.
//!
//! Invariant: prices and sizes are decimal strings, moments RFC 3339 in UTC, so no price is rounded.

use super::framing::Form;
use super::schema::{self, BarFields, Fields};
use super::socketio::{self, Parser};
use crate::hub::{
    ChannelEntries, Entries, Image, Kind, Owed, Run, ServerStats, StateRun, Topic, Upto, bar_field,
};
use crate::market::{
    Bar, FeedStatus, Instrument, Json, Message, Price, Sender, Size, Status, Symbol, Timestamp, Trade, Word,
    decimal_text,
};
use crate::tape::Position;
use serde_json::{Map, Value, json};
use std::{io::Write, sync::Arc};

/// Builds one update in JSON form.
#[derive(Debug, Default)]
pub(super) struct JsonUpdate {
    /// The entries, separated by commas.
    entries: Vec<u8>,
    payload: Vec<u8>,
    times: bool,
    /// Whether all fields of a changed image are written.
    images: bool,
    /// For Socket.IO: events of their own, with their names, that go before the update.
    notices: Option<(Parser, Vec<Value>)>,
    /// The session whose own messages are left out where it asked for that.
    except: Option<Sender>,
    from: Option<Upto>,
    upto: Option<Upto>,
    /// It is full once entries have this many bytes.
    full: usize,
    pub(super) delivered: u64,
    pub(super) gaps: u64,
}

/// RFC 3339 in UTC with six digits of a second.
pub(crate) fn moment(at: Timestamp) -> Value {
    let micros = jiff::Timestamp::from_microsecond(at.micros());
    micros.map_or(Value::Null, |at| Value::String(format!("{at:.6}")))
}

/// RFC 3339 in UTC with complete seconds: where bars start.
pub(crate) fn second(at: Timestamp) -> Value {
    let second = jiff::Timestamp::from_second(at.nanos().div_euclid(1_000_000_000));
    second.map_or(Value::Null, |at| Value::String(at.to_string()))
}

pub(crate) fn price(instrument: &Instrument, price: Price) -> Value {
    let text = |price: Price| Value::String(decimal_text(price.units(), instrument.price_scale));
    price.some().map_or(Value::Null, text)
}

pub(crate) fn size(instrument: &Instrument, size: Size) -> Value {
    Value::String(size.text(instrument.size_scale))
}

/// Reference data, prices as decimals.
pub(crate) fn instrument(instrument: &Instrument) -> Value {
    json!({
        "symbol": instrument.symbol.as_str(),
        "name": instrument.name,
        "sector": instrument.sector,
        "currency": instrument.currency,
        "price_scale": instrument.price_scale,
        "size_scale": instrument.size_scale,
        "tick_size": decimal_text(instrument.tick_size, instrument.price_scale),
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
    if !trade.counts.is_everything() {
        value["counts"] = trade.counts.names().collect();
    }
    if trade.counts.is_break() && trade.booked > 0 {
        value["breaks"] = number.saturating_sub(trade.booked.into()).into();
    }
    value
}

/// All fields of a quote, with its time.
#[cfg(feature = "server")]
pub(crate) fn quote(definition: &Instrument, quote: &crate::market::Quote) -> Map<String, Value> {
    schema::QuoteFields::of(crate::hub::quote_field::ALL, true, quote).json(definition)
}

/// All fields of a bar.
#[cfg(feature = "server")]
pub(crate) fn bar(definition: &Instrument, bar: &Bar) -> Map<String, Value> {
    BarFields::of(bar_field::BAR, Some(bar), Price::NONE).json(definition)
}

/// A closed bar with its number.
pub(crate) fn closed_bar(definition: &Instrument, number: u64, bar: &BarFields) -> Value {
    let mut fields = Map::from_iter([("number".to_owned(), number.into())]);
    fields.extend(bar.json(definition));
    Value::Object(fields)
}

pub(crate) fn status_fields(status: &Status) -> Map<String, Value> {
    Map::from_iter([
        ("state".to_owned(), status.state.name().into()),
        ("ts_event".to_owned(), moment(status.ts_event)),
    ])
}

/// A message of a channel with its number.
pub(crate) fn message(number: u64, message: &Message) -> Value {
    let mut fields = one("number", number);
    for (name, word) in [("from", &message.from), ("event", &message.event)] {
        if let Some(word) = word {
            fields.insert(name.to_owned(), word.as_str().into());
        }
    }
    fields.insert("data".to_owned(), message.data.value());
    fields.insert("ts_event".to_owned(), moment(message.ts_event));
    Value::Object(fields)
}

pub(crate) fn feed(feed: &FeedStatus) -> Value {
    json!({ "kind": feed.kind.name(), "state": feed.state.name(), "speed": feed.speed })
}

pub(crate) fn stats(stats: &ServerStats) -> Value {
    serde_json::to_value(stats).expect("a map of numbers and texts")
}

/// The topic of that kind by name; without an instrument the market's.
pub(crate) fn topic(kind: Kind, instrument: Option<&Instrument>) -> String {
    match instrument {
        Some(instrument) => Topic::of(kind, &instrument.symbol).to_string(),
        None => kind.name().to_owned(),
    }
}

/// An entry of an update.
fn entry(kind: Kind, instrument: Option<&Instrument>, fields: Map<String, Value>) -> Value {
    let mut entry = Map::from_iter([("topic".to_owned(), topic(kind, instrument).into())]);
    entry.extend(fields);
    Value::Object(entry)
}

/// A map of one field.
fn one(name: &str, value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([(name.to_owned(), value.into())])
}

impl JsonUpdate {
    pub(super) fn new(full: usize) -> Self {
        Self { full, ..Self::default() }
    }

    pub(super) fn begin(&mut self, times: bool, form: Form, from: Upto, upto: Upto) {
        self.entries.clear();
        self.delivered = 0;
        self.gaps = 0;
        self.except = None;
        (self.times, self.images) = (times, form.has_images());
        self.notices = form.framing().parser().map(|parser| (parser, Vec::new()));
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

    /// Appends the events that go before the update.
    pub(super) fn write_notices(&self, namespace: &str, out: &mut Vec<u8>) {
        let Some((parser, notices)) = &self.notices else { return };
        for event in notices {
            parser.event(namespace, event).write_frame(out);
        }
    }

    fn notice(&mut self, name: &'static str, value: impl FnOnce() -> Value) {
        if let Some((_, notices)) = &mut self.notices {
            notices.push(json!([name, value()]));
        }
    }

    /// Leaves out the messages that this session does not want back, until the next update.
    pub(super) fn except(&mut self, sender: Option<Sender>) {
        self.except = sender;
    }

    /// Whether it has no entries.
    #[cfg(feature = "server")]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The position to resume from after this update; `None` for a part of a flush, and for an update that
    /// says that nothing happened.
    pub(super) fn resume(&self, whole: bool) -> Option<Position> {
        let (from, upto) = (self.from?.position, self.upto?.position);
        let says_nothing = self.entries.is_empty() && from == upto;
        (whole && !says_nothing && upto > Position::START).then_some(upto)
    }

    fn push(&mut self, entry: &Value) {
        if !self.entries.is_empty() {
            self.entries.push(b',');
        }
        serde_json::to_writer(&mut self.entries, entry).expect("a Vec takes every byte");
    }

    fn messages(&mut self, channel: &Symbol, messages: &Run<'_, Arc<Message>>) {
        let topic = || one("topic", Topic::of(Kind::Messages, channel).to_string());
        if messages.gap {
            self.gaps += 1;
            self.notice("gap", || {
                let mut gap = topic();
                gap.insert("next".to_owned(), messages.number.into());
                Value::Object(gap)
            });
        }
        if let Some((_, notices)) = &mut self.notices {
            let is_own = |message: &Message| self.except.is_some() && message.except == self.except;
            let others = messages.iter().filter(|message| !is_own(message));
            return notices.extend(others.map(|message| socketio::message(message)));
        }
        let list: Vec<Value> =
            (messages.number..).zip(messages.iter()).map(|(number, it)| message(number, it)).collect();
        let mut entry = topic();
        entry.insert("messages".to_owned(), list.into());
        if messages.is_empty() {
            entry.insert("next".to_owned(), messages.number.into());
        }
        self.push(&Value::Object(entry));
    }

    fn states(&mut self, channel: &Symbol, states: &StateRun<'_>) {
        if let Some((_, notices)) = &mut self.notices {
            let event = |key: Option<&Word>, data: Option<&Json>| {
                json!(["state", key.map(Word::as_str), data.map(Json::value), channel.as_str()])
            };
            let ended = states.whole.then(|| event(None, None));
            let told = states.states.iter().map(|&(key, data)| event(Some(key), data));
            return notices.extend(ended.into_iter().chain(told));
        }
        let values = states
            .states
            .iter()
            .map(|(key, data)| (key.as_str().to_owned(), data.map_or(Value::Null, Json::value)));
        let mut entry = one("topic", Topic::of(Kind::States, channel).to_string());
        if states.whole {
            entry.insert("whole".to_owned(), true.into());
        }
        entry.insert("states".to_owned(), Value::Object(values.collect()));
        self.push(&Value::Object(entry));
    }
}

impl Owed for JsonUpdate {
    fn reset(&mut self) {
        self.push(&json!({ "reset": true }));
    }

    fn definition(&mut self, definition: &Instrument) {
        self.push(&json!({ "instrument": instrument(definition) }));
    }

    fn image(&mut self, instrument: &Instrument, kind: Kind, mask: u16, image: Image<'_>) {
        let Some(schema) = schema::image(kind) else { return };
        let mask = if self.images { schema.all } else { mask };
        let mut fields = Fields::of(image, mask, self.times).json(instrument);
        if schema::ring(kind).is_some() {
            // An image with a ring next to it has a name.
            fields = one(schema.name, fields);
        }
        self.push(&entry(kind, Some(instrument), fields));
        self.delivered += 1;
    }

    fn ring(&mut self, instrument: &Instrument, kind: Kind, _: bool, entries: Entries<'_>) {
        let Some(schema) = schema::ring(kind) else { return };
        if entries.is_gap() {
            self.gaps += 1;
            self.notice("gap", || entry(kind, Some(instrument), one("next", entries.number())));
        }
        if entries.count() == 0 {
            return;
        }
        let list: Vec<Value> = match entries {
            Entries::Trades(run) => (run.number..)
                .zip(run.iter())
                .map(|(number, entry)| trade(instrument, number, entry))
                .collect(),
            Entries::Bars(run) => {
                let fields = |bar: &Bar| BarFields::of(bar_field::BAR, Some(bar), Price::NONE);
                let numbered = |(number, bar): (u64, &Bar)| closed_bar(instrument, number, &fields(bar));
                (run.number..).zip(run.iter()).map(numbered).collect()
            }
        };
        self.delivered += entries.count();
        self.push(&entry(kind, Some(instrument), one(schema.list, list)));
    }

    fn status(&mut self, instrument: Option<&Instrument>, status: &Status) {
        let entry = entry(Kind::Status, instrument, status_fields(status));
        self.push(&entry);
        self.notice("status", || entry);
        self.delivered += 1;
    }

    fn feed(&mut self, status: &FeedStatus) {
        let entry = entry(Kind::Status, None, one("feed", feed(status)));
        self.push(&entry);
        self.notice("status", || entry);
        self.delivered += 1;
    }

    fn stats(&mut self, told: &ServerStats) {
        self.push(&entry(Kind::Stats, None, one("stats", stats(told))));
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
        self.push(&entry(kind, Some(instrument), one("joined", true)));
    }

    fn left(&mut self, instrument: &Instrument, kind: Kind) {
        self.push(&entry(kind, Some(instrument), one("left", true)));
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.full
    }
}
