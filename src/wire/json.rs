use super::update::FULL_BYTES;
use crate::hub::{Kind, Owed, Run, Topic, Upto, bar_field};
use crate::market::{Bar, FeedStatus, Instrument, Price, Quote, Size, Speed, Status, Timestamp, Trade};
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
    pub(super) delivered: u64,
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
    use bar_field as field;
    let fields = [
        (field::START, "start", second(bar.start)),
        (field::OPEN, "open", price(definition, bar.open)),
        (field::HIGH, "high", price(definition, bar.high)),
        (field::LOW, "low", price(definition, bar.low)),
        (field::CLOSE, "close", price(definition, bar.close)),
        (field::VOLUME, "volume", size(definition, bar.volume)),
        (field::TRADES, "trades", bar.trades.into()),
        (field::VWAP, "vwap", bar.vwap(definition.price_scale).to_string().into()),
    ];
    let named = fields.into_iter().filter(|(field, ..)| mask & field != 0);
    named.map(|(_, name, value)| (name.to_owned(), value)).collect()
}

impl JsonUpdate {
    pub(super) fn begin(&mut self, times: bool, from: Upto, upto: Upto) {
        self.entries.clear();
        self.delivered = 0;
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
        self.payload.extend_from_slice(b"]}");
        &self.payload
    }

    fn push(&mut self, entry: &Value) {
        if !self.entries.is_empty() {
            self.entries.push(b',');
        }
        serde_json::to_writer(&mut self.entries, entry).expect("a Vec takes every byte");
    }

    /// An entry of a topic with these fields.
    fn topic(&mut self, kind: Kind, instrument: Option<&Instrument>, fields: Map<String, Value>) {
        let topic = match instrument {
            Some(instrument) => Topic::of(kind, &instrument.symbol).to_string(),
            None => kind.name().to_owned(),
        };
        let mut entry = Map::from_iter([("topic".to_owned(), topic.into())]);
        entry.extend(fields);
        self.push(&Value::Object(entry));
    }
}

impl Owed for JsonUpdate {
    fn definition(&mut self, definition: &Instrument) {
        self.push(&json!({ "instrument": instrument(definition) }));
    }

    fn quote(&mut self, instrument: &Instrument, mask: u8, quote: &Quote) {
        let fields = [
            (1, "bid", price(instrument, quote.bid)),
            (2, "bid_size", size(instrument, quote.bid_size)),
            (4, "ask", price(instrument, quote.ask)),
            (8, "ask_size", size(instrument, quote.ask_size)),
            (if self.times { mask } else { 0 }, "ts_event", moment(quote.ts_event)),
        ];
        let changed = fields.into_iter().filter(|(field, ..)| mask & field != 0);
        let fields = changed.map(|(_, name, value)| (name.to_owned(), value)).collect();
        self.topic(Kind::Quote, Some(instrument), fields);
        self.delivered += 1;
    }

    fn trades(&mut self, instrument: &Instrument, _: bool, run: &Run<'_, Trade>) {
        let trades: Vec<Value> =
            (run.number..).zip(run.iter()).map(|(number, entry)| trade(instrument, number, entry)).collect();
        if trades.is_empty() {
            return;
        }
        self.delivered += trades.len() as u64;
        let fields = Map::from_iter([("trades".to_owned(), trades.into())]);
        self.topic(Kind::Trades, Some(instrument), fields);
    }

    fn bar(
        &mut self,
        instrument: &Instrument,
        kind: Kind,
        mask: u16,
        latest: Option<&Bar>,
        previous_close: Price,
    ) {
        let mut fields = latest.map_or_else(Map::new, |latest| bar(instrument, mask, latest));
        if kind == Kind::Day {
            if mask & bar_field::PREVIOUS_CLOSE != 0 {
                fields.insert("previous_close".to_owned(), price(instrument, previous_close));
            }
        } else {
            fields = Map::from_iter([("bar".to_owned(), Value::Object(fields))]);
        }
        self.topic(kind, Some(instrument), fields);
        self.delivered += 1;
    }

    fn closed_bars(&mut self, instrument: &Instrument, kind: Kind, _: bool, run: &Run<'_, Bar>) {
        let numbered = |(number, entry): (u64, &Bar)| {
            let mut fields = Map::from_iter([("number".to_owned(), number.into())]);
            fields.extend(bar(instrument, bar_field::BAR, entry));
            Value::Object(fields)
        };
        let closed: Vec<Value> = (run.number..).zip(run.iter()).map(numbered).collect();
        if closed.is_empty() {
            return;
        }
        self.delivered += closed.len() as u64;
        self.topic(kind, Some(instrument), Map::from_iter([("closed".to_owned(), closed.into())]));
    }

    fn status(&mut self, instrument: Option<&Instrument>, status: &Status) {
        let fields = Map::from_iter([
            ("state".to_owned(), status.state.name().into()),
            ("ts_event".to_owned(), moment(status.ts_event)),
        ]);
        self.topic(Kind::Status, instrument, fields);
        self.delivered += 1;
    }

    fn feed(&mut self, feed: &FeedStatus) {
        let speed = match feed.speed {
            Speed::Times(factor) => json!(factor),
            Speed::Max => Value::Null,
        };
        let feed = json!({ "kind": feed.kind.name(), "state": feed.state.name(), "speed": speed });
        self.topic(Kind::Status, None, Map::from_iter([("feed".to_owned(), feed)]));
        self.delivered += 1;
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= FULL_BYTES
    }
}
