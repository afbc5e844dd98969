//! A fan-out core with sessions on sockets of its user's kind, and turns of ticks for it.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::sync::Arc;
use std::time::Duration;
use tickcast::market::{
    Conditions, Counts, Event, Instrument, InstrumentId, Price, Quote, Side, Size, Symbol, Timestamp, Trade,
};
use tickcast::server::fanout::{Fanout, Opening};
use tickcast::server::link::Link;
use tickcast::server::rights::Rights;
use tickcast::tape::{Batch, Epoch, Position};
use tickcast::wire::{Form, Incoming};

/// A core, and the tape it reads: batches that are made once and repeated with a new position and new prices.
pub struct Workload<L> {
    pub fanout: Fanout<L>,
    turn: Vec<Batch>,
    position: Position,
    /// Of the tape's clock.
    micros: i64,
    /// Of the core's clock.
    millis: u32,
    keys: Vec<usize>,
}

/// More pongs than a session must answer soon before it is in step with its cohort.
const PONGS: u32 = 50;

impl<L: Link + Default> Workload<L> {
    /// With instruments `S0`, `S1` and so on, each with a quote and `history` trades, and a session for each
    /// list of topics.
    pub fn new(symbols: u32, history: u32, sessions: impl IntoIterator<Item = Vec<String>>) -> Self {
        let mut workload = Self {
            fanout: Fanout::new(Epoch::new(1)),
            turn: Vec::new(),
            position: Position::START,
            micros: 1_700_000_000_000_000,
            millis: 0,
            keys: Vec::new(),
        };
        let define = |n| {
            let symbol = Symbol::new(&format!("S{n}")).expect("a symbol");
            Event::Instrument(Arc::new(Instrument {
                id: InstrumentId(n),
                anchor: Price::new(15_000),
                ..Instrument::unknown(symbol)
            }))
        };
        workload.turn = vec![batch((0..symbols).map(define).chain((0..symbols).map(quote)).collect())];
        workload.apply();
        for topics in sessions {
            workload.open(topics);
        }
        workload.turn = vec![batch((0..symbols).map(trade).collect())];
        for _ in 0..history {
            workload.apply();
        }
        workload.fanout.flush();
        workload
    }

    pub fn open(&mut self, topics: Vec<String>) -> usize {
        let opening = Opening { topics, ..Opening::new(Form::MSGPACK, Rights::ALL) };
        let key = self.fanout.open(&opening, |_| L::default());
        self.keys.push(key);
        key
    }

    /// Every later turn consists of these events, in batches of so many.
    pub fn set_turn(&mut self, events: &[Event], batch_events: usize) {
        self.turn = events.chunks(batch_events).map(|events| batch(events.to_vec())).collect();
        self.earn_trust();
    }

    /// Turns in which each session answers the ping at once. After them all are in step, and the core's clock
    /// stops.
    fn earn_trust(&mut self) {
        for _ in 0..PONGS {
            self.millis += 1;
            self.fanout.tick(Duration::from_millis(self.millis.into()));
            self.turn();
            // The payload is the moment it was sent at.
            let pong = self.millis.to_be_bytes().to_vec();
            for &key in &self.keys {
                self.fanout.received(key, [Incoming::Pong(pong.clone())], None);
            }
        }
    }

    /// Folds a turn in.
    pub fn apply(&mut self) {
        self.apply_to(None);
    }

    /// To the core, or to the one given, which is the core while it flushes.
    fn apply_to(&mut self, flushing: Option<&mut Fanout<L>>) {
        let fanout = flushing.unwrap_or(&mut self.fanout);
        for batch in &mut self.turn {
            self.position = self.position.next();
            self.micros += 1;
            batch.position = self.position;
            batch.time = Timestamp::from_nanos(self.micros * 1000);
            let (odd, now) = (i64::from(self.position.get() % 2 == 1), batch.time);
            for event in &mut batch.events {
                match event {
                    Event::Quote(_, quote) => {
                        (quote.bid, quote.ask) = (Price::new(15_010 + odd), Price::new(15_012 + odd));
                        (quote.ts_event, quote.ts_recv) = (now, now);
                    }
                    Event::Trade(_, trade) => {
                        trade.price = Price::new(15_011 + odd);
                        (trade.ts_event, trade.ts_recv) = (now, now);
                    }
                    _ => {}
                }
            }
            fanout.apply(batch);
        }
    }

    /// Folds a turn in, sends it to all, and folds another in whenever a cohort has been served.
    pub fn busy_turn(&mut self) {
        self.apply();
        let mut fanout = std::mem::replace(&mut self.fanout, Fanout::new(Epoch::new(1)));
        fanout.flush_with(|fanout| self.apply_to(Some(fanout)));
        self.fanout = fanout;
    }

    /// Folds a turn in and sends it to all.
    pub fn turn(&mut self) {
        self.apply();
        self.fanout.flush();
    }
}

fn batch(events: Vec<Event>) -> Batch {
    Batch { position: Position::START, time: Timestamp::default(), events }
}

pub fn quote(instrument: u32) -> Event {
    let at = Timestamp::default();
    let size = Size::new(300);
    let (bid, ask) = (Price::new(15_010), Price::new(15_012));
    let quote = Quote { bid, bid_size: size, ask, ask_size: size, ts_event: at, ts_recv: at };
    Event::Quote(InstrumentId(instrument), quote)
}

pub fn trade(instrument: u32) -> Event {
    let at = Timestamp::default();
    let trade = Trade {
        price: Price::new(15_011),
        size: Size::new(100),
        side: Side::Buy,
        conditions: Conditions::default(),
        counts: Counts::EVERYTHING,
        booked: 0,
        ts_event: at,
        ts_recv: at,
    };
    Event::Trade(InstrumentId(instrument), trade)
}

/// Topics of `kind` of `count` of the first `of` symbols, each symbol as popular as the next (`zipf`: false),
/// or the nth one as one in n (`zipf`: true).
pub fn watchlist(random: &mut Random, kind: &str, count: usize, of: u32, zipf: bool) -> Vec<String> {
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let symbol = if zipf { random.zipf(of) } else { random.below(of) };
        if !chosen.contains(&symbol) {
            chosen.push(symbol);
        }
    }
    chosen.into_iter().map(|symbol| format!("{kind}:S{symbol}")).collect()
}

/// The same numbers on every run.
pub struct Random(Pcg64Mcg);

impl Random {
    pub fn new() -> Self {
        Self(Pcg64Mcg::seed_from_u64(1))
    }

    pub fn below(&mut self, n: u32) -> u32 {
        u32::try_from((u64::from(self.0.next_u32()) * u64::from(n)) >> 32).expect("below n")
    }

    /// From 0 to `n - 1`, each number k in proportion to 1 / (k + 1).
    pub fn zipf(&mut self, n: u32) -> u32 {
        let weights = || (1..=n).map(|k| 1.0 / f64::from(k));
        let mut left = f64::from(self.0.next_u32()) / 2_f64.powi(32) * weights().sum::<f64>();
        for (k, weight) in (0..n).zip(weights()) {
            left -= weight;
            if left < 0.0 {
                return k;
            }
        }
        n - 1
    }
}
