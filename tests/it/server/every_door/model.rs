//! What was published, kept as plainly as can be, and what a client of it knows by what it was told.

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tickcast::hub::TRADES_KEPT;

pub const SYMBOLS: [&str; 2] = ["A", "B"];
pub const CHANNELS: [&str; 2] = ["a", "b"];
/// Sets, singles, and overlaps of both.
pub const TOPICS: [&str; 10] = [
    "quote:*",
    "quote:A",
    "trades:*",
    "trades:B",
    "day:*",
    "status:*",
    "messages:a",
    "messages:b",
    "states:a",
    "states:b",
];
/// Of the messages of a channel, and the states in it, as the protocol bounds them.
const MESSAGES_KEPT: usize = 256;
const MESSAGE_BYTES_KEPT: usize = 32 * 1024;
const STATES_KEPT: usize = 64;

/// One event, by the number of its symbol or channel.
#[derive(Clone, Debug)]
pub enum Tick {
    /// Bid and ask in hundredths, `None` for an empty side; their sizes; whether the bid has a finer digit.
    Quote(usize, [Option<u16>; 2], [u8; 2], bool),
    /// Price in hundredths, and size.
    Trade(usize, u16, u8),
    Status(usize, bool),
    /// With so many bytes of padding.
    Message(usize, u16),
    /// By the number of its key; `None`: it ends.
    State(usize, u8, Option<u8>),
}

/// The tape of one server.
#[derive(Default)]
pub struct Model {
    epoch: u64,
    /// Of the newest batch.
    position: u64,
    /// Per image its values, each with the position from which on it was so.
    images: BTreeMap<String, Vec<(u64, Value)>>,
    /// Per ring its entries, each with its position and the bytes that are kept of it.
    rings: BTreeMap<String, Vec<(u64, Value, usize)>>,
    /// Per channel its states with the position of their last change, those that have ended included.
    states: BTreeMap<String, BTreeMap<String, (Option<Value>, u64)>>,
    /// How many trades, and messages of each channel, were written.
    trades: u64,
    messages: [usize; CHANNELS.len()],
}

/// Where a client was.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    pub epoch: u64,
    pub position: u64,
}

/// What a client is told.
#[derive(Debug)]
pub enum Told {
    /// All that it knows is void.
    Reset,
    /// So it is, as the tape is another one.
    Replaced,
    Defined(String),
    /// Fields of an image: those that changed, or all.
    Fields(String, Map<String, Value>),
    /// States by key; with `true` there are no others.
    States(String, bool, Map<String, Value>),
    Entries(String, Vec<(u64, Value)>),
    /// A ring goes on with that number: what is before it is lost.
    Next(String, u64),
    /// So many entries of a ring are lost.
    Missed(String, u64),
}

/// What a client knows.
#[derive(Default)]
pub struct Known {
    /// Up to which it has all.
    pub position: u64,
    images: BTreeMap<String, Value>,
    /// Per image the number of the value that it was told.
    told: BTreeMap<String, usize>,
    /// Per ring the number of the next entry.
    next: BTreeMap<String, u64>,
    defined: BTreeSet<String>,
    /// The epoch that it knows all this to be of, from its first update on.
    epoch: Option<u64>,
}

impl Model {
    /// Of that epoch.
    pub fn new(epoch: u64) -> Self {
        Self { epoch, ..Self::default() }
    }

    /// The line to publish.
    pub fn line(&mut self, tick: &Tick) -> Value {
        match *tick {
            Tick::Quote(symbol, prices, sizes, is_fine) => {
                let mut line = json!({ "type": "quote", "symbol": SYMBOLS[symbol] });
                for (side, price, size, is_fine) in
                    [("bid", prices[0], sizes[0], is_fine), ("ask", prices[1], sizes[1], false)]
                {
                    if let Some(price) = price {
                        line[side] = text(i64::from(price) * 10 + i64::from(is_fine), 3);
                        line[format!("{side}_size")] = text(size.into(), 0);
                    }
                }
                line
            }
            Tick::Trade(symbol, price, size) => {
                self.trades += 1;
                json!({
                    "type": "trade",
                    "symbol": SYMBOLS[symbol],
                    "price": text(price.into(), 2),
                    "size": text(i64::from(size) + 1, 0),
                    "ts_event": moment(self.trades),
                })
            }
            Tick::Status(symbol, is_halted) => {
                let state = if is_halted { "halted" } else { "open" };
                json!({ "type": "status", "symbol": SYMBOLS[symbol], "state": state })
            }
            Tick::Message(channel, padding) => {
                let number = self.messages[channel];
                self.messages[channel] += 1;
                let channel = CHANNELS[channel];
                let data =
                    json!({ "channel": channel, "number": number, "padding": "x".repeat(padding.into()) });
                json!({ "type": "message", "channel": channel, "event": "news", "data": data })
            }
            Tick::State(channel, key, value) => {
                json!({ "type": "state", "channel": CHANNELS[channel], "key": key.to_string(), "data": value })
            }
        }
    }

    /// Takes in a published line, in a batch of that position.
    pub fn take(&mut self, line: &Value, position: u64) {
        self.position = position;
        let text = |field: &str| line[field].as_str().expect("a text").to_owned();
        match line["type"].as_str().expect("a type") {
            "quote" => {
                let sides = ["bid", "ask"].into_iter().flat_map(|side| {
                    let size = format!("{side}_size");
                    let amount = line.get(&size).map_or_else(|| "0".into(), plain);
                    let price = line.get(side).map_or(Value::Null, plain);
                    [(side.to_owned(), price), (size, amount)]
                });
                self.becomes(format!("quote:{}", text("symbol")), Value::Object(sides.collect()));
            }
            "trade" => {
                let topic = format!("trades:{}", text("symbol"));
                let fields = ["price", "size", "ts_event"].map(|name| (name.to_owned(), plain(&line[name])));
                let entry = (position, Value::Object(Map::from_iter(fields)), 0);
                self.rings.entry(topic.clone()).or_default().push(entry);
                let day = day(&self.rings[&topic]);
                self.becomes(format!("day:{}", text("symbol")), day);
            }
            "status" => self.becomes(format!("status:{}", text("symbol")), json!({ "state": line["state"] })),
            "message" => {
                let bytes = line["data"].to_string().len() + text("event").len();
                let ring = self.rings.entry(format!("messages:{}", text("channel"))).or_default();
                ring.push((position, line["data"].clone(), bytes));
            }
            "state" => self.set(&text("channel"), text("key"), &line["data"]),
            other => panic!("{other}"),
        }
    }

    /// What a batch ends with counts.
    fn becomes(&mut self, topic: String, value: Value) {
        let values = self.images.entry(topic).or_default();
        values.retain(|&(since, _)| since < self.position);
        if values.last().is_none_or(|(_, before)| *before != value) {
            values.push((self.position, value));
        }
    }

    fn set(&mut self, channel: &str, key: String, data: &Value) {
        let data = Some(data.clone()).filter(|data| !data.is_null());
        let states = self.states.entry(channel.to_owned()).or_default();
        if states.get(&key).map_or(&None, |(known, _)| known) == &data {
            return;
        }
        states.insert(key, (data, self.position));
        if states.len() > STATES_KEPT {
            // One that has ended, else the one that changed least recently.
            let oldest = states.iter().min_by_key(|(_, (data, changed))| (data.is_some(), *changed));
            let oldest = oldest.expect("there are some").0.clone();
            states.remove(&oldest);
        }
        let live = states.iter().filter_map(|(key, (data, _))| Some((key.clone(), data.clone()?)));
        let live = Value::Object(live.collect());
        self.becomes(format!("states:{channel}"), live);
    }

    /// The last position at which anything of these topics changed.
    pub fn last_change(&self, topics: &[&str]) -> u64 {
        let images = self.images.iter().filter_map(|(topic, values)| Some((topic, values.last()?.0)));
        let rings = self.rings.iter().filter_map(|(topic, entries)| Some((topic, entries.last()?.0)));
        let changes = images.chain(rings).filter(|(topic, _)| covers(topics, topic));
        changes.map(|(_, at)| at).max().unwrap_or_default()
    }

    /// How many entries a ring had at a position.
    fn count(&self, topic: &str, position: u64) -> u64 {
        let entries = self.rings.get(topic).map_or(&[][..], Vec::as_slice);
        entries.partition_point(|&(at, ..)| at <= position) as u64
    }

    /// The number of the oldest entry that a ring holds.
    fn oldest(&self, topic: &str) -> u64 {
        let (most, most_bytes) = if topic.starts_with("trades:") {
            (TRADES_KEPT, usize::MAX)
        } else {
            (MESSAGES_KEPT, MESSAGE_BYTES_KEPT)
        };
        let entries = self.rings.get(topic).map_or(&[][..], Vec::as_slice);
        let mut bytes = 0;
        let kept = entries.iter().rev().take(most).take_while(|(_, _, more)| {
            bytes += more;
            bytes <= most_bytes
        });
        (entries.len() - kept.count()) as u64
    }

    /// The number of the value that an image had at a position, if it had any.
    fn number_at(&self, topic: &str, position: u64) -> Option<usize> {
        self.images.get(topic)?.iter().rposition(|&(since, _)| since <= position)
    }
}

impl Known {
    /// A connection has begun. `since`: from where its client asked to go on; `resumed`: what it was told of
    /// that.
    pub fn begin(&mut self, since: Option<Since>, resumed: Option<bool>, model: &Model) {
        assert_eq!(resumed, since.map(|since| since.epoch == model.epoch), "from {since:?}");
        match since {
            Some(since) if resumed == Some(true) => {
                // What comes is what came after that position, each once.
                for (topic, next) in &mut self.next {
                    *next = model.count(topic, since.position);
                }
            }
            _ => *self = Self::default(),
        }
    }

    /// The client found out that the tape is another one.
    fn replaced(&mut self, model: &Model) {
        assert_ne!(self.epoch, Some(model.epoch), "it is the same tape");
        *self = Self::default();
    }

    /// Takes in an update. `position`: up to which the client has all after it, where it says so.
    /// `tells_gaps`: whether what is lost is told, and not only seen by the numbers.
    pub fn take(
        &mut self,
        told: Vec<Told>,
        position: Option<u64>,
        tells_gaps: bool,
        topics: &[&str],
        model: &Model,
    ) {
        let mut changed = BTreeSet::new();
        for told in told {
            match told {
                Told::Reset => *self = Self::default(),
                Told::Replaced => self.replaced(model),
                Told::Defined(symbol) => drop(self.defined.insert(symbol)),
                Told::Fields(topic, fields) => {
                    self.check_topic(&topic, topics);
                    let known = self.images.entry(topic.clone()).or_insert_with(|| json!({}));
                    for (name, value) in fields {
                        known[name] = plain(&value);
                    }
                    changed.insert(topic);
                }
                Told::States(topic, is_whole, states) => {
                    self.check_topic(&topic, topics);
                    let known = self.images.entry(topic.clone()).or_insert_with(|| json!({}));
                    let known = known.as_object_mut().expect("a map");
                    if is_whole {
                        known.clear();
                    }
                    known.extend(states);
                    known.retain(|_, state| !state.is_null());
                    changed.insert(topic);
                }
                Told::Entries(topic, entries) => {
                    self.check_topic(&topic, topics);
                    for (number, entry) in entries {
                        self.entry(&topic, number, &entry, tells_gaps, model);
                    }
                }
                // A number of its own needs no definition.
                Told::Next(topic, next) => {
                    assert!(covers(topics, &topic), "{topic} was not asked for");
                    self.lose(&topic, next, model);
                }
                Told::Missed(topic, count) => {
                    let next = self.next.get(&topic).unwrap_or(&0) + count;
                    self.lose(&topic, next, model);
                }
            }
        }
        for topic in &changed {
            self.check_image(topic, 0, model);
        }
        if let Some(position) = position {
            assert!(position >= self.position, "from {} back to {position}", self.position);
            self.position = position;
            let epoch = *self.epoch.get_or_insert(model.epoch);
            assert_eq!(epoch, model.epoch, "it was not told that the tape is another one");
            self.check_has_all(topics, model);
        }
    }

    fn check_topic(&self, topic: &str, topics: &[&str]) {
        assert!(covers(topics, topic), "{topic} was not asked for");
        let (kind, name) = topic.split_once(':').expect("of a symbol or a channel");
        let is_defined = matches!(kind, "messages" | "states") || self.defined.contains(name);
        assert!(is_defined, "{topic} before its definition");
    }

    fn entry(&mut self, topic: &str, number: u64, entry: &Value, tells_gaps: bool, model: &Model) {
        let published = &model.rings[topic];
        let (_, expected, _) = &published[usize::try_from(number).unwrap()];
        let as_published = |(name, value): (&String, &Value)| plain(&entry[name]) == *value;
        let is_equal = expected.as_object().expect("a map").iter().all(as_published);
        assert!(is_equal, "{topic} {number}: {entry}, not {expected}");
        match self.next.get(topic) {
            Some(&next) if number != next => {
                assert!(!tells_gaps, "{topic}: {number} in place of {next} without a word");
                self.lose(topic, number, model);
            }
            Some(_) => {}
            None => assert!(number <= model.oldest(topic), "{topic} begins with {number}"),
        }
        self.next.insert(topic.to_owned(), number + 1);
    }

    /// What is lost was not kept any more.
    fn lose(&mut self, topic: &str, number: u64, model: &Model) {
        if let Some(next) = self.next.insert(topic.to_owned(), number) {
            assert!(number > next, "{topic}: {number} again, {next} is next");
        }
        let oldest = model.oldest(topic);
        assert!(number <= oldest, "{topic}: lost up to {number}, and kept from {oldest}");
    }

    /// What is known of an image it was at some time: not before `position`, nor before what was told.
    fn check_image(&mut self, topic: &str, position: u64, model: &Model) {
        let Some(known) = self.images.get(topic) else { panic!("{topic} is missing at {position}") };
        let values = &model.images[topic];
        let first = self.told.get(topic).copied().unwrap_or_default();
        let first = first.max(model.number_at(topic, position).unwrap_or_default());
        let is_known = |(_, value): &(u64, Value)| {
            let is_of_states = topic.starts_with("states:");
            let fields = value.as_object().expect("a map");
            if is_of_states {
                value == known
            } else {
                fields.iter().all(|(name, value)| known[name] == *value)
            }
        };
        let found = values[first..].iter().position(is_known);
        let Some(found) = found else {
            panic!("{topic}: {known} at {position} is none of {:?}", &values[first..]);
        };
        self.told.insert(topic.to_owned(), first + found);
    }

    /// Nothing that came up to its position is missing.
    fn check_has_all(&mut self, topics: &[&str], model: &Model) {
        for topic in model.images.keys().filter(|topic| covers(topics, topic)) {
            // States that have ended before may never have been told.
            let nothing =
                |number: usize| model.images[topic][number].1.as_object().is_some_and(Map::is_empty);
            let is_known = self.images.contains_key(topic);
            if model.number_at(topic, self.position).is_some_and(|number| is_known || !nothing(number)) {
                self.check_image(topic, self.position, model);
            }
        }
        for kind in ["trades", "messages"] {
            let names = if kind == "trades" { SYMBOLS } else { CHANNELS };
            for topic in names.map(|name| format!("{kind}:{name}")) {
                if covers(topics, &topic) {
                    let count = model.count(&topic, self.position);
                    // If more is lost than came up to there, that is said with what follows.
                    if model.oldest(&topic) <= count {
                        // A ring that had no entry begins at 0.
                        let next = *self.next.entry(topic.clone()).or_default();
                        assert!(next >= count, "{topic}: {next} of {count} at {}", self.position);
                    }
                }
            }
        }
    }
}

/// Whether any of these topics covers that one.
fn covers(topics: &[&str], topic: &str) -> bool {
    let (kind, _) = topic.split_once(':').expect("of a symbol or a channel");
    topics.contains(&topic) || topics.contains(&&*format!("{kind}:*"))
}

/// An entry of an update in JSON form.
pub fn told(entry: &Value) -> Told {
    if entry["reset"] == true {
        return Told::Reset;
    }
    if let Some(instrument) = entry.get("instrument") {
        return Told::Defined(instrument["symbol"].as_str().expect("a symbol").to_owned());
    }
    let topic = entry["topic"].as_str().expect("a topic").to_owned();
    if let Some(next) = entry.get("next") {
        return Told::Next(topic, next.as_u64().expect("a number"));
    }
    let number = |it: &Value| it["number"].as_u64().expect("a number");
    if let Some(list) = entry.get("trades").and_then(Value::as_array) {
        return Told::Entries(topic, list.iter().map(|it| (number(it), it.clone())).collect());
    }
    if let Some(list) = entry.get("messages").and_then(Value::as_array) {
        return Told::Entries(topic, list.iter().map(|it| (number(it), it["data"].clone())).collect());
    }
    if let Some(states) = entry.get("states").and_then(Value::as_object) {
        return Told::States(topic, entry["whole"] == true, states.clone());
    }
    let mut fields = entry.as_object().expect("a map").clone();
    fields.remove("topic");
    Told::Fields(topic, fields)
}

fn day(trades: &[(u64, Value, usize)]) -> Value {
    let number = |value: &Value| value.as_str().expect("a text").parse::<Decimal>().expect("a number");
    let prices = || trades.iter().map(|(_, trade, _)| number(&trade["price"]));
    let text = |number: Option<Decimal>| Value::from(number.expect("one at least").normalize().to_string());
    json!({
        "open": text(prices().next()),
        "high": text(prices().max()),
        "low": text(prices().min()),
        "close": text(prices().next_back()),
        "volume": text(Some(trades.iter().map(|(_, trade, _)| number(&trade["size"])).sum())),
        "trades": trades.len(),
    })
}

/// A number without the zeros at its end, of which there are more when its instrument's scale has grown.
fn plain(value: &Value) -> Value {
    let number = value.as_str().and_then(|text| text.parse::<Decimal>().ok());
    number.map_or_else(|| value.clone(), |number| number.normalize().to_string().into())
}

fn text(units: i64, scale: u32) -> Value {
    Decimal::new(units, scale).to_string().into()
}

/// Moments of one day, a millisecond from each to the next.
fn moment(number: u64) -> String {
    format!("2026-01-02T12:{:02}:{:02}.{:03}000Z", number / 60_000, number / 1000 % 60, number % 1000)
}
