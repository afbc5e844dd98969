//! Random histories, polled at random positions: who polls has in the end what a session has, and of trades
//! each one, in order, or a hole of exactly those that were no longer kept.

use crate::fanout::{Pipe, SYMBOLS, TOPICS, Tick, World, tick, watcher};
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::{Map, Value};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tickcast::hub::{Replica, Topic, Upto};
use tickcast::market::Timestamp;
use tickcast::tape::Position;
use tickcast::wire::{Form, PollAnswer, PollQuery, PollSince};

#[derive(Clone, Debug)]
enum Op {
    Publish(Vec<Tick>),
    /// So many trades of one symbol: more than a ring keeps, if it comes often.
    Burst(usize, u16),
    Pass(u16),
    Reset,
    /// Up to how far into what has come since the last poll, in 255ths.
    Poll(u8),
    /// One more topic, of which the client has nothing.
    Add(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => proptest::collection::vec(tick(), 0..6).prop_map(Op::Publish),
        1 => (0..SYMBOLS.len(), 1..1500_u16).prop_map(|(symbol, count)| Op::Burst(symbol, count)),
        3 => (0..3000_u16).prop_map(Op::Pass),
        1 => proptest::option::weighted(0.3, Just(Op::Reset)).prop_map(|op| op.unwrap_or(Op::Pass(10))),
        8 => any::<u8>().prop_map(Op::Poll),
        1 => (0..TOPICS.len()).prop_map(Op::Add),
    ]
}

/// A client that polls, and keeps what it is told as plainly as can be.
struct Poller {
    query: PollQuery,
    since: Option<PollSince>,
    full: usize,
    images: BTreeMap<String, Map<String, Value>>,
    /// Numbers of the next entries of rings.
    next: BTreeMap<String, u64>,
}

impl Poller {
    fn new(topics: &[&str], form: Form, full: usize) -> Self {
        let query = PollQuery { topics: parsed(topics), new: Vec::new(), form, times: false };
        Self { query, since: None, full, images: BTreeMap::new(), next: BTreeMap::new() }
    }

    /// Returns the entries of the answer; `None` if nothing was pending.
    fn poll(&mut self, replica: &Replica, upto: Position) -> Option<Vec<Value>> {
        let upto = Upto { position: upto, time: Timestamp::default() };
        let before = self.since;
        let PollAnswer { body, since, is_empty } = self.query.answer(replica, before, upto, self.full);
        assert_eq!(since.to_string().parse(), Ok(since), "it is read as it is written");
        let answer: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(answer["since"], since.to_string());
        assert_eq!(answer["more"] == true, since.rest.is_some());
        let updates = answer["updates"].as_array().expect("a list").clone();
        if is_empty {
            assert!(updates.is_empty(), "{answer}");
            assert!(before.is_none_or(|before| before == since), "nothing was had");
        }
        self.since = Some(since);
        updates.iter().for_each(|entry| self.take(entry, replica));
        if since.rest.is_none() {
            let new = std::mem::take(&mut self.query.new);
            self.query.topics = sorted([&*self.query.topics, &*new].concat());
        }
        (!is_empty).then_some(updates)
    }

    fn take(&mut self, entry: &Value, replica: &Replica) {
        if entry["reset"] == true {
            self.images.clear();
            self.next.clear();
        }
        let Some(topic) = entry["topic"].as_str() else { return };
        if entry["joined"] == true || entry["left"] == true {
            self.images.remove(topic);
            self.next.remove(topic);
            return;
        }
        if let Some(list) = entry["trades"].as_array().or(entry["closed"].as_array()) {
            for ringed in list {
                let number = ringed["number"].as_u64().expect("a number");
                if let Some(next) = self.next.insert(topic.to_owned(), number + 1) {
                    assert!(number >= next, "{topic}: {number} a second time");
                    let kept = oldest(topic, replica);
                    assert!(
                        number == next || number == kept,
                        "{topic}: {number} behind {next}, kept from {kept}"
                    );
                }
            }
            return;
        }
        let fields = entry.get("bar").unwrap_or(entry).as_object().expect("a map");
        let fields = fields.iter().map(|(name, value)| (name.clone(), plain(value)));
        self.images.entry(topic.to_owned()).or_default().extend(fields);
    }

    /// Polls until it has all.
    fn catch_up(&mut self, replica: &Replica) {
        while self.poll(replica, replica.position()).is_some() {}
    }
}

/// A number without the zeros at its end, of which there are more when its instrument's scale has grown.
fn plain(value: &Value) -> Value {
    let number = value.as_str().and_then(|text| text.parse::<Decimal>().ok());
    number.map_or_else(|| value.clone(), |number| number.normalize().to_string().into())
}

/// Number of the oldest entry that a ring holds.
fn oldest(topic: &str, replica: &Replica) -> u64 {
    let (kind, symbol) = topic.split_once(':').expect("of a symbol");
    let book = replica.by_symbol(symbol).expect("it was told");
    match kind {
        "trades" => book.trades.newest(usize::MAX).next().map_or(0, |(number, _)| number),
        "bars.1s" => book.bars_1s.closed.newest(usize::MAX).next().map_or(0, |(number, _)| number),
        other => panic!("{other} has no ring here"),
    }
}

fn parsed(topics: &[&str]) -> Vec<Topic> {
    sorted(topics.iter().map(|topic| Topic::parse(topic).unwrap()).collect())
}

fn sorted(mut topics: Vec<Topic>) -> Vec<Topic> {
    topics.sort();
    topics.dedup();
    topics
}

/// What a session was sent since the last time, but for what is no update.
fn entries(pipe: &RefCell<Pipe>) -> Vec<Value> {
    let bytes: Vec<u8> = pipe.borrow_mut().bytes.drain(..).collect();
    let messages = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let messages = messages.map(|line| serde_json::from_slice::<Value>(line).expect("JSON"));
    messages.filter_map(|message| message["updates"].as_array().cloned()).flatten().collect()
}

/// Definitions are told once in each message.
fn told(entries: &[Value]) -> BTreeSet<String> {
    entries.iter().map(Value::to_string).collect()
}

impl World {
    fn evolve(&mut self, op: &Op) {
        match op {
            Op::Publish(ticks) => self.publish(ticks),
            Op::Burst(symbol, count) => self.burst(*symbol, *count),
            Op::Pass(millis) => self.pass(Duration::from_millis((*millis).into())),
            Op::Reset => self.reset(),
            Op::Poll(_) | Op::Add(_) => {}
        }
    }
}

#[test]
fn who_asks_again_before_there_is_another_end_is_told_nothing_twice() {
    let mut world = World::new();
    let bid = |world: &mut World, bid| world.publish(&[Tick::Quote(0, Some(bid), 1, None, 0, false)]);
    bid(&mut world, 100);
    let end = world.prompt().replica().position();
    bid(&mut world, 101);
    let replica = world.prompt().replica();
    let mut poller = Poller::new(&["quote:A"], Form::LINES, usize::MAX);
    assert!(poller.poll(replica, end).is_some());
    // The quote has changed since, and comes with the next end.
    assert_eq!(poller.poll(replica, end), None);
    assert_eq!(poller.poll(replica, replica.position()).map(|entries| entries.len()), Some(1));
    assert_eq!(poller.images["quote:A"]["bid"], "1.01");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(256),
        ..ProptestConfig::default()
    })]

    #[test]
    fn who_polls_when_a_session_is_flushed_is_told_the_same(
        topics in proptest::sample::subsequence(&TOPICS[..], 1..4),
        images in any::<bool>(),
        ops in proptest::collection::vec(op(), 0..60),
    ) {
        let form = if images { Form::LINES.of_images() } else { Form::LINES };
        let mut world = World::new();
        world.publish(&[Tick::Quote(0, Some(100), 1, Some(101), 1, false)]);
        let mut poller = Poller::new(&topics, form, usize::MAX);
        let session = watcher(&mut world, form, &topics.join(","), None);
        for op in [&Op::Poll(0)].into_iter().chain(&ops) {
            world.evolve(op);
            world.prompt().flush();
            let (replica, sent) = (world.prompt().replica(), entries(&session));
            let polled = poller.poll(replica, replica.position()).unwrap_or_default();
            prop_assert_eq!(told(&polled), told(&sent), "after {:?}", op);
        }
    }

    #[test]
    fn who_polls_now_and_then_has_all_in_the_end_and_each_trade_once(
        topics in proptest::sample::subsequence(&TOPICS[..], 1..4),
        images in any::<bool>(),
        full in prop_oneof![1..200_usize, Just(usize::MAX)],
        ops in proptest::collection::vec(op(), 0..100),
    ) {
        let form = if images { Form::LINES.of_images() } else { Form::LINES };
        let mut world = World::new();
        let mut poller = Poller::new(&topics, form, full);
        let mut point = Position::START;
        for op in &ops {
            world.evolve(op);
            let replica = world.prompt().replica();
            match op {
                Op::Poll(part) => {
                    // As of a moment that may be over, though never before the last one.
                    let ahead = replica.position().get() - point.get();
                    point = Position::new(point.get() + ahead * u64::from(*part) / 255);
                    poller.poll(replica, point);
                }
                Op::Add(topic) if poller.since.is_some_and(|since| since.rest.is_none()) => {
                    poller.query.new = parsed(&[TOPICS[*topic]]);
                }
                _ => {}
            }
        }
        let replica = world.prompt().replica();
        poller.catch_up(replica);
        let mut fresh = Poller::new(&[], form, usize::MAX);
        fresh.query.topics.clone_from(&poller.query.topics);
        fresh.catch_up(replica);
        prop_assert_eq!(&poller.images, &fresh.images);
        // A ring that has nothing is not told.
        let counted: BTreeMap<String, u64> = poller.next.into_iter().collect();
        prop_assert_eq!(counted, fresh.next);
    }
}
