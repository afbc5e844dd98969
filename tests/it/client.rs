//! The client's session against the server's own hub and encoder, without sockets: whatever happens, its
//! images are the server's, and no trade is lost or repeated without an exact gap.

use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tickcast::client::{Change, Command, Event, Input, Options, Output, Session as Client};
use tickcast::hub::{Flush, Replica, Session, Topic, ViewKey, ViewOptions, Views, tell};
use tickcast::market::{
    Conditions, Counts, Event as MarketEvent, Instrument, InstrumentId, Instruments, Price, Quote, Side,
    Size, Symbol, Timestamp, Trade,
};
use tickcast::tape::{Batch, Epoch, Position};
use tickcast::wire::{Answer, Form, Limits, Op, Request, TopicAnswer, UpdateEncoder};

const SYMBOLS: [&str; 3] = ["A", "B", "C"];
const TOPICS: [&str; 7] =
    ["quote:A", "trades:A", "trades:*", "bars.1s:B", "bars.1m:*", "day:@x", "trades:LATER"];
const SECOND: i64 = 1_000_000_000;

/// A server and a client of it.
struct World {
    replica: Replica,
    views: Views,
    /// The server's side of the connection, while there is one.
    session: Option<Session>,
    encoder: UpdateEncoder,
    instruments: Instruments,
    client: Client,
    now: Instant,
    /// What the client tells of the trades of each instrument: the number that should come next.
    counted: Vec<Option<u64>>,
    /// Trades of each instrument on the tape.
    traded: Vec<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Quote {
        symbol: usize,
        bid: i64,
        ask: i64,
    },
    /// So many trades in one batch.
    Trades {
        symbol: usize,
        price: i64,
        count: usize,
    },
    /// Prices or sizes get a digit.
    Refine {
        symbol: usize,
        price: u8,
        size: u8,
    },
    Time {
        nanos: i64,
    },
    /// The server tells what it owes, unless `parts` cut it short.
    Flush {
        parts: usize,
    },
    Subscribe {
        topic: usize,
    },
    Unsubscribe {
        topic: usize,
    },
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let symbol = || 0..SYMBOLS.len();
    prop_oneof![
        6 => (symbol(), 90..110_i64, 90..110_i64).prop_map(|(symbol, bid, ask)| Step::Quote { symbol, bid, ask }),
        6 => (symbol(), 90..110_i64, 1..4_usize)
            .prop_map(|(symbol, price, count)| Step::Trades { symbol, price, count }),
        // More than a ring holds.
        1 => (symbol(), 90..110_i64, 1000..1100_usize)
            .prop_map(|(symbol, price, count)| Step::Trades { symbol, price, count }),
        1 => (symbol(), 0..2_u8, 0..2_u8).prop_map(|(symbol, price, size)| Step::Refine { symbol, price, size }),
        2 => (0..3 * SECOND).prop_map(|nanos| Step::Time { nanos }),
        8 => (1..4_usize).prop_map(|parts| Step::Flush { parts }),
        3 => (0..TOPICS.len()).prop_map(|topic| Step::Subscribe { topic }),
        1 => (0..TOPICS.len()).prop_map(|topic| Step::Unsubscribe { topic }),
        2 => Just(Step::Reconnect),
    ]
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let mut world = Self {
            replica: Replica::new(Epoch::new(7)),
            views: Views::default(),
            session: None,
            encoder: UpdateEncoder::new(tickcast::wire::FULL_BYTES),
            instruments: Instruments::default(),
            client: Client::new(1, now),
            now,
            counted: Vec::new(),
            traded: Vec::new(),
        };
        world.define("A");
        world.define("B");
        world.connect();
        world
    }

    fn define(&mut self, symbol: &str) -> InstrumentId {
        let unknown = Instrument::unknown(Symbol::new(symbol).unwrap());
        let definition = Instrument { sector: "x".to_owned(), previous_close: Price::new(100), ..unknown };
        let mut events = Vec::new();
        let id = self.instruments.define(definition, &mut events);
        self.counted.push(None);
        self.traded.push(0);
        self.batch(0, events);
        id
    }

    /// Puts events on the tape, as the server's shard does.
    fn batch(&mut self, nanos: i64, events: Vec<MarketEvent>) {
        let (position, time) = (self.replica.position().next(), self.replica.time().plus_nanos(nanos));
        let before = self.replica.books().len();
        let mut touched = Vec::new();
        self.replica.apply(&Batch { position, time, events }, &mut touched);
        for book in self.replica.books().skip(before) {
            self.views.welcome(&book.definition);
        }
        self.views.touch(&touched);
        self.views.settle();
    }

    fn connect(&mut self) {
        let options = ViewOptions::new(Form::MSGPACK.id());
        self.session = Some(Session::open(0, options, &self.replica, &mut self.views));
        self.now += Duration::from_secs(40);
        assert!(self.input(Input::Tick).contains(&Output::Connect));
        self.input(Input::Connected);
        self.answer(&Answer::Welcome {
            protocol: "tickcast.v1".to_owned(),
            server: "test".to_owned(),
            epoch: self.replica.epoch().get(),
            begins: 0,
            position: self.replica.position().get(),
            time: self.replica.time().micros(),
            heartbeat_ms: 5000,
            limits: Limits { topics: 1024, message_bytes: 65_536, requests_per_second: 50, max_hz: 1000.0 },
        });
    }

    fn answer(&mut self, answer: &Answer) {
        self.input(Input::Binary(&answer.to_msgpack()));
    }

    fn input(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut outputs = Vec::new();
        // So slowly that no request waits for its turn.
        self.now += Duration::from_millis(40);
        self.client.handle(self.now, input, &mut outputs);
        for output in &outputs {
            match output {
                Output::Send(text) => self.request(&Request::from_json(text).unwrap()),
                Output::Event(Event::Update { changes, .. }) => changes.iter().for_each(|c| self.count(c)),
                Output::Event(Event::Unsubscribed { .. }) => self.forget(),
                Output::Connect | Output::Event(_) => {}
                Output::Disconnect => panic!("the client finds fault with the server: {outputs:?}"),
            }
        }
        outputs
    }

    /// Trades come in order, each once, and gaps are exact.
    fn count(&mut self, change: &Change) {
        match change {
            Change::Trade { instrument, number, trade } => {
                let counted = &mut self.counted[instrument.id.index()];
                assert_eq!(*number, counted.unwrap_or(*number), "the next trade of {}", instrument.symbol);
                assert_eq!(
                    trade.ts_event.micros(),
                    i64::try_from(*number).unwrap(),
                    "it is the one of that number"
                );
                *counted = Some(number + 1);
            }
            Change::Gap { instrument, kind, missed } if kind.name() == "trades" => {
                let counted = &mut self.counted[instrument.id.index()];
                *counted = Some(counted.unwrap_or_default() + missed);
            }
            _ => {}
        }
    }

    /// A topic that was given up begins anew.
    fn forget(&mut self) {
        let topics = self.topics();
        for book in self.replica.books() {
            let covered = topics.iter().any(|t| t.kind.name() == "trades" && t.covers(&book.definition));
            if !covered {
                self.counted[book.definition.id.index()] = None;
            }
        }
    }

    fn topics(&self) -> Vec<Topic> {
        let session = self.session.as_ref().expect("connected");
        session.view(&self.views).key.topics.to_vec()
    }

    /// What the server does with a request.
    fn request(&mut self, request: &Request) {
        let mut topics = self.topics();
        let (asked, since) = match &request.op {
            Op::Subscribe { topics: asked, since, .. } => {
                topics.extend(asked.iter().map(|topic| Topic::parse(topic).unwrap()));
                (asked, *since)
            }
            Op::Unsubscribe { topics: asked } => {
                topics.retain(|topic| !asked.contains(&topic.to_string()));
                (asked, None)
            }
            other => panic!("{other:?}"),
        };
        topics.sort_unstable();
        topics.dedup();
        let key = ViewKey { topics: topics.into(), options: ViewOptions::new(Form::MSGPACK.id()) };
        let from = since.map(|since| (Epoch::new(since.epoch), Position::new(since.position)));
        let session = self.session.as_mut().expect("connected");
        let subscribed = session.resubscribe(0, key, from, &self.replica, &mut self.views);
        let topics = asked.iter().cloned().map(TopicAnswer::granted).collect();
        let (id, epoch) = (request.id.clone(), self.replica.epoch().get());
        let position = self.replica.position().get();
        let resumed = since.map(|_| subscribed.resumed);
        self.answer(&match request.op {
            Op::Subscribe { .. } => Answer::Subscribed { id, epoch, position, resumed, topics },
            _ => Answer::Unsubscribed { id, topics },
        });
    }

    /// Tells what is owed in at most so many updates; returns whether that was all.
    fn flush(&mut self, parts: usize) -> bool {
        for _ in 0..parts {
            let mut session = self.session.take().expect("connected");
            let Flush { next, from, upto } = session.flush(&self.replica);
            let view = session.view(&self.views);
            self.encoder.begin(Form::MSGPACK, false, from, upto);
            // All topics, because this harness does not tell steady sessions from others.
            let topics = view.topics().iter().copied().enumerate().skip(next);
            let rest = tell(&self.replica, topics, |t| session.since(t), upto.position, &mut self.encoder);
            let mut frame = Vec::new();
            let delivered = self.encoder.finish(rest.is_none(), &mut frame);
            match rest {
                Some(next) => session.told(next, upto, delivered, view),
                None => session.reached(upto, delivered, view),
            };
            self.session = Some(session);
            self.input(Input::Binary(payload(&frame)));
            if rest.is_none() {
                return true;
            }
        }
        false
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Quote { symbol, bid, ask } => {
                let at = Timestamp::default();
                let id = self.id(SYMBOLS[symbol]);
                let size = Size::new(bid + ask);
                let quote = Quote {
                    bid: Price::new(bid),
                    bid_size: size,
                    ask: if ask % 7 == 0 { Price::NONE } else { Price::new(ask) },
                    ask_size: size,
                    ts_event: at,
                    ts_recv: at,
                };
                self.batch(1000, vec![MarketEvent::Quote(id, quote)]);
            }
            Step::Trades { symbol, price, count } => {
                let symbol = if price == 109 { "LATER" } else { SYMBOLS[symbol] };
                let id = self.id(symbol);
                let first = self.traded[id.index()];
                self.traded[id.index()] += count as u64;
                let trade = |number: u64| Trade {
                    price: Price::new(price + i64::try_from(number % 3).unwrap()),
                    size: Size::new(i64::try_from(number % 5).unwrap()),
                    side: Side::Buy,
                    conditions: Conditions::default(),
                    counts: Counts::EVERYTHING,
                    booked: 0,
                    // By which the trade is known again.
                    ts_event: Timestamp::from_micros(i64::try_from(number).unwrap()),
                    ts_recv: Timestamp::default(),
                };
                let trades = (first..first + count as u64).map(|n| MarketEvent::Trade(id, trade(n)));
                self.batch(1000, trades.collect());
            }
            Step::Refine { symbol, price, size } => {
                let id = self.id(SYMBOLS[symbol]);
                let known = self.instruments.get(id).expect("just defined");
                if known.price_scale < 8 && known.size_scale < 6 {
                    let (finer, mut events) = (known.refined(price, size), Vec::new());
                    self.instruments.define(finer, &mut events);
                    self.batch(0, events);
                }
            }
            Step::Time { nanos } => self.batch(nanos, Vec::new()),
            Step::Flush { parts } => drop(self.flush(parts)),
            Step::Subscribe { topic } => {
                let topics = vec![TOPICS[topic].to_owned()];
                self.input(Input::Command(Command::Subscribe { topics, options: Options::default() }));
            }
            Step::Unsubscribe { topic } => {
                let topics = vec![TOPICS[topic].to_owned()];
                self.input(Input::Command(Command::Unsubscribe { topics }));
            }
            Step::Reconnect => {
                let session = self.session.take().expect("connected");
                session.close(0, &mut self.views);
                self.input(Input::Closed { code: None, reason: "cut".to_owned() });
                self.connect();
            }
        }
    }

    fn id(&mut self, symbol: &str) -> InstrumentId {
        match self.instruments.by_symbol(symbol) {
            Some(instrument) => instrument.id,
            None => self.define(symbol),
        }
    }

    /// The client knows what the server knows of every topic, and has counted every trade.
    fn check(&mut self) {
        while !self.flush(1) {}
        let topics = self.topics();
        let subscribed = |kind: &str, instrument: &Arc<Instrument>| {
            topics.iter().any(|t| t.kind.name() == kind && t.covers(instrument))
        };
        for theirs in self.replica.books() {
            let symbol = theirs.definition.symbol.as_str();
            let ours = self.client.image().book(symbol);
            if subscribed("quote", &theirs.definition)
                && let Some(quote) = theirs.quote.get()
            {
                let ours = ours.expect("a book").quote;
                let known = (ours.bid, ours.bid_size, ours.ask, ours.ask_size);
                assert_eq!(
                    known,
                    (Some(quote.bid), Some(quote.bid_size), Some(quote.ask), Some(quote.ask_size))
                );
            }
            for kind in ["bars.1s", "bars.1m", "day"] {
                let (theirs_image, ours) = match kind {
                    "bars.1s" => (&theirs.bars_1s.latest, ours.map(|book| book.bars_1s)),
                    "bars.1m" => (&theirs.bars_1m.latest, ours.map(|book| book.bars_1m)),
                    _ => (&theirs.day, ours.map(|book| book.day)),
                };
                if let Some(bar) = theirs_image.get()
                    && subscribed(kind, &theirs.definition)
                {
                    let mask = if kind == "day" { 511 } else { 255 };
                    let theirs =
                        tickcast::wire::BarFields::of(mask, Some(bar), theirs_image.previous_close());
                    assert_eq!(ours, Some(theirs), "{kind}:{symbol}");
                }
            }
            let traded = self.traded[theirs.definition.id.index()];
            if subscribed("trades", &theirs.definition) && traded > 0 {
                assert_eq!(self.counted[theirs.definition.id.index()], Some(traded), "trades:{symbol}");
            }
        }
    }
}

/// What is behind a frame's header.
fn payload(frame: &[u8]) -> &[u8] {
    match frame[1] {
        126 => &frame[4..],
        127 => &frame[10..],
        _ => &frame[2..],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn images_are_the_servers_and_trades_are_counted_whatever_happens(
        first in 0..TOPICS.len(),
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let mut world = World::new();
        world.apply(&Step::Subscribe { topic: first });
        for step in &steps {
            world.apply(step);
        }
        world.check();
    }
}

/// Runs the steps; the gaps that the client tells of trades of A.
#[track_caller]
fn check_gaps(steps: &[Step], expected: &[u64]) {
    let mut world = World::new();
    let mut gaps = Vec::new();
    for step in steps {
        let before = world.counted[0];
        world.apply(step);
        if let (Step::Flush { .. }, Some(before), Some(after)) = (step, before, world.counted[0]) {
            // Of what was counted on, the ring holds at most its capacity.
            let kept = u64::try_from(tickcast::hub::TRADES_KEPT).unwrap();
            gaps.extend((after - before).checked_sub(kept).filter(|&gap| gap > 0));
        }
    }
    world.check();
    assert_eq!(gaps, expected);
}

const TRADES_OF_A: usize = 1;

fn trades(count: usize) -> Step {
    Step::Trades { symbol: 0, price: 100, count }
}

const FLUSH: Step = Step::Flush { parts: usize::MAX };

#[test]
fn a_reconnect_within_the_ring_loses_and_repeats_nothing() {
    let subscribe = Step::Subscribe { topic: TRADES_OF_A };
    check_gaps(&[subscribe, trades(5), FLUSH, trades(3), Step::Reconnect, trades(2), FLUSH], &[]);
}

#[test]
fn a_client_that_was_away_for_longer_than_the_ring_holds_is_told_how_many_it_missed() {
    let subscribe = Step::Subscribe { topic: TRADES_OF_A };
    check_gaps(&[subscribe, trades(5), FLUSH, trades(1500), Step::Reconnect, FLUSH], &[476]);
}

#[test]
fn a_ring_that_was_empty_when_it_was_subscribed_is_counted_from_its_start() {
    let subscribe = Step::Subscribe { topic: TRADES_OF_A };
    let mut world = World::new();
    for step in [subscribe, Step::Time { nanos: 1 }, FLUSH, trades(1500), Step::Reconnect, FLUSH] {
        world.apply(&step);
    }
    assert_eq!(world.counted[0], Some(1500));
    let image = world.client.image();
    assert!(image.book("A").is_some());
    world.check();
}
