//! The JSON form of an update, from what a decoder made of the MessagePack form: to hold the two forms equal.
//! It shares nothing with the encoder but the names and units of the schema.

use serde_json::{Value, json};
use tickcast::hub::{Kind, Topic};
use tickcast::market::{Instrument, Message, Price, Timestamp, Trade, decimal_text};
use tickcast::wire::schema::{self, Field};
use tickcast::wire::{Entry, Fields, Numbered, States, Update};

pub fn update_json(update: &Update) -> Value {
    let updates: Vec<Value> = update.entries.iter().filter_map(entry_json).collect();
    let mut told = json!({
        "type": "update",
        "position": update.position.get(),
        "time": moment(update.time.micros()),
        "updates": updates,
    });
    if !update.whole {
        told["more"] = true.into();
    }
    told
}

/// `None` where there is nothing to tell people: a number without entries.
fn entry_json(entry: &Entry) -> Option<Value> {
    Some(match entry {
        Entry::Reset => json!({ "reset": true }),
        Entry::Definition(definition) => json!({ "instrument": definition_json(definition) }),
        Entry::Image(x, kind, fields) if schema::ring(*kind).is_some() => {
            of(*kind, Some(x), schema::image(*kind)?.name, &fields_json(x, fields))
        }
        Entry::Image(x, kind, fields) => {
            let mut told = json!({ "topic": topic(*kind, Some(x)) });
            told.as_object_mut()?.extend(fields_json(x, fields).as_object()?.clone());
            told
        }
        Entry::Trades(x, trades) => {
            ring(Kind::Trades, x, trades, |_, number, trade| trade_json(x, number, trade))?
        }
        Entry::ClosedBars(x, kind, bars) => ring(*kind, x, bars, |_, number, bar| {
            let mut fields = fields_json(x, &Fields::Bar(*bar));
            fields["number"] = number.into();
            fields
        })?,
        Entry::Status(x, status) => json!({
            "topic": topic(Kind::Status, x.as_deref()),
            "state": status.state.name(),
            "ts_event": moment(status.ts_event.micros()),
        }),
        Entry::Feed(feed) => {
            let told = json!({ "kind": feed.kind.name(), "state": feed.state.name(), "speed": feed.speed });
            of(Kind::Status, None, "feed", &told)
        }
        Entry::Stats(stats) => of(Kind::Stats, None, "stats", &serde_json::to_value(stats).unwrap()),
        Entry::Messages(channel, run) => {
            let list = run.iter().map(|(number, message)| message_json(number, message));
            let mut told =
                json!({ "topic": format!("messages:{channel}"), "messages": list.collect::<Value>() });
            if run.entries.is_empty() {
                told["next"] = run.number.into();
            }
            told
        }
        Entry::States(channel, States { whole, states }) => {
            let values = states.iter().map(|(key, data)| {
                let value = data.as_ref().map(|data| serde_json::from_str(data.as_str()).unwrap());
                (key.as_str().to_owned(), value.unwrap_or(Value::Null))
            });
            let mut told = json!({ "topic": format!("states:{channel}") });
            if *whole {
                told["whole"] = true.into();
            }
            told["states"] = Value::Object(values.collect());
            told
        }
        Entry::Joined(x, kind) => of(*kind, Some(x), "joined", &true.into()),
        Entry::Left(x, kind) => of(*kind, Some(x), "left", &true.into()),
    })
}

fn of(kind: Kind, instrument: Option<&Instrument>, name: &str, what: &Value) -> Value {
    json!({ "topic": topic(kind, instrument), name: what })
}

fn topic(kind: Kind, instrument: Option<&Instrument>) -> String {
    instrument.map_or_else(|| kind.name().to_owned(), |x| Topic::of(kind, &x.symbol).to_string())
}

fn ring<T>(
    kind: Kind,
    x: &Instrument,
    entries: &Numbered<T>,
    show: impl Fn(&Instrument, u64, &T) -> Value,
) -> Option<Value> {
    let list: Vec<Value> = entries.iter().map(|(number, entry)| show(x, number, entry)).collect();
    (!list.is_empty()).then(|| of(kind, Some(x), schema::ring(kind).unwrap().list, &list.into()))
}

fn fields_json(x: &Instrument, fields: &Fields) -> Value {
    let named = fields
        .values()
        .into_iter()
        .map(|(field, value)| (field.name.to_owned(), value_json(x, field, value)));
    Value::Object(named.collect())
}

fn value_json(x: &Instrument, field: &Field, value: Option<i128>) -> Value {
    let Some(value) = value else { return Value::Null };
    let whole = || i64::try_from(value).unwrap();
    match field.unit {
        "price" => decimal_text(value, x.price_scale).into(),
        "size" => decimal_text(value, x.size_scale).into(),
        "hundredth" => decimal_text(value, x.price_scale + 2).into(),
        "count" => whole().into(),
        "second" => moment(whole() * 1_000_000).as_str().unwrap().replace(".000000", "").into(),
        "moment" => moment(whole()),
        other => panic!("unknown unit {other}"),
    }
}

fn trade_json(x: &Instrument, number: u64, trade: &Trade) -> Value {
    let mut told = json!({
        "number": number,
        "price": price(x, trade.price),
        "size": decimal_text(trade.size.units(), x.size_scale),
        "side": trade.side.name(),
        "ts_event": moment(trade.ts_event.micros()),
    });
    if !trade.conditions.is_empty() {
        told["conditions"] = trade.conditions.as_str().into();
    }
    if !trade.counts.is_everything() {
        told["counts"] = trade.counts.names().collect();
    }
    if trade.counts.is_break() && trade.booked > 0 {
        told["breaks"] = number.saturating_sub(trade.booked.into()).into();
    }
    told
}

fn message_json(number: u64, message: &Message) -> Value {
    let mut told = json!({ "number": number });
    if let Some(from) = &message.from {
        told["from"] = from.as_str().into();
    }
    if let Some(event) = &message.event {
        told["event"] = event.as_str().into();
    }
    told["data"] = serde_json::from_str(message.data.as_str()).unwrap();
    told["ts_event"] = moment(message.ts_event.micros());
    told
}

fn definition_json(x: &Instrument) -> Value {
    json!({
        "symbol": x.symbol.as_str(),
        "name": x.name,
        "sector": x.sector,
        "currency": x.currency,
        "price_scale": x.price_scale,
        "size_scale": x.size_scale,
        "tick_size": decimal_text(x.tick_size, x.price_scale),
        "previous_close": price(x, x.previous_close),
    })
}

fn price(x: &Instrument, price: Price) -> Value {
    price.some().map_or(Value::Null, |price| decimal_text(price.units(), x.price_scale).into())
}

/// RFC 3339 in UTC with whole microseconds.
fn moment(micros: i64) -> Value {
    // A `Timestamp` shows no zeros at its end, which the form has.
    let text = Timestamp::from_micros(micros).to_string();
    let text = text.trim_end_matches('Z');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}.{fraction:0<6}Z").into()
}
