//! On the way of a tick from a batch to the sockets nothing is allocated, and nothing is done twice: counted,
//! not timed.

#[path = "../../benches/fanout/workload.rs"]
mod workload;

use crate::allocator::{Watch, calls};
use std::cell::Cell;
use tickcast::feed::Feed;
use tickcast::feed::sim::{SimConfig, Simulator, default_universe};
use tickcast::hub::{COHORT, Replica};
use tickcast::market::{Event, Instruments, Timestamp};
use tickcast::server::fanout::Counters;
use tickcast::server::link::Link;
use tickcast::tape::{Batch, Epoch};
use workload::{Random, quote, trade, watchlist};

type Workload = workload::Workload<CountingSocket>;

thread_local! {
    static SENDS: Cell<u64> = const { Cell::new(0) };
}

/// Takes everything, and counts for itself how often it is asked to, which the core need not tell.
#[derive(Debug, Default)]
struct CountingSocket;

impl Link for CountingSocket {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        SENDS.set(SENDS.get() + 1);
        Ok(bytes.len())
    }

    fn finish(&mut self) {}
}

const SESSIONS: usize = 200;
const SYMBOLS: u32 = 20;
const TURNS: u64 = 50;

/// What 50 turns of trades and quotes do once everything has grown to its size, and how often they allocate.
fn steady(sessions: Vec<Vec<String>>) -> (Counters, u64) {
    let mut workload = Workload::new(SYMBOLS, 1024, sessions);
    let trades = (0..10 * SYMBOLS).map(|n| trade(n % SYMBOLS));
    let turn: Vec<_> = trades.chain((0..SYMBOLS).map(quote)).collect();
    workload.set_turn(&turn, 20);
    for _ in 0..60 {
        workload.turn();
    }
    let (before, allocated, asked) = (workload.fanout.counters(), calls(), SENDS.get());
    for _ in 0..TURNS {
        workload.turn();
    }
    let (after, allocations) = (workload.fanout.counters(), calls() - allocated);
    let done = Counters {
        built: after.built - before.built,
        sent: after.sent - before.sent,
        bytes: after.bytes - before.bytes,
        delivered: after.delivered - before.delivered,
        gaps: after.gaps - before.gaps,
        events: after.events - before.events,
    };
    assert_eq!(SENDS.get() - asked, done.sent, "a socket is asked once for each frame");
    (done, allocations)
}

#[test]
fn sessions_of_one_view_are_sent_one_frame_without_allocating() {
    let (done, allocations) = steady(vec![vec!["trades:*".to_owned(), "quote:*".to_owned()]; SESSIONS]);
    let sessions = SESSIONS as u64;
    assert_eq!(allocations, 0);
    assert_eq!(done.built, TURNS);
    assert_eq!(done.sent, TURNS * sessions);
    assert_eq!(done.delivered, TURNS * sessions * u64::from(11 * SYMBOLS));
    assert_eq!(done.events, done.delivered, "each change of a turn is there to be told");
    assert_eq!(done.bytes % (TURNS * sessions), 0, "all frames are alike");
}

#[test]
fn sessions_with_different_topics_are_sent_a_frame_each_without_allocating() {
    let mut random = Random::new();
    let mut topics = || {
        let mut topics = watchlist(&mut random, "trades", 10, SYMBOLS, false);
        topics.extend(watchlist(&mut random, "quote", 10, SYMBOLS, true));
        topics
    };
    let lists: Vec<_> = (0..SESSIONS).map(|_| topics()).collect();
    let (done, allocations) = steady(lists);
    let sessions = SESSIONS as u64;
    assert_eq!(allocations, 0);
    assert_eq!((done.built, done.sent), (TURNS * sessions, TURNS * sessions));
    assert_eq!(done.delivered, TURNS * sessions * (10 * 10 + 10));
    assert_eq!(done.events, done.delivered);
}

#[test]
fn what_is_folded_between_cohorts_allocates_nothing() {
    let mut workload = Workload::new(SYMBOLS, 0, vec![vec!["quote:*".to_owned()]; 2 * COHORT + 1]);
    let turn: Vec<_> = (0..SYMBOLS).map(quote).collect();
    workload.set_turn(&turn, 20);
    for _ in 0..10 {
        workload.busy_turn();
    }
    let (asked, allocated) = (SENDS.get(), calls());
    for _ in 0..TURNS {
        workload.busy_turn();
    }
    assert_eq!(calls() - allocated, 0);
    assert_eq!(SENDS.get() - asked, TURNS * (2 * COHORT as u64 + 1));
}

#[test]
fn what_is_merged_is_counted() {
    let mut workload = Workload::new(1, 0, vec![vec!["quote:S0".to_owned()]; SESSIONS]);
    workload.set_turn(&[quote(0)], 1);
    let before = workload.fanout.counters();
    for _ in 0..4 {
        workload.apply();
    }
    workload.fanout.flush();
    let after = workload.fanout.counters();
    let sessions = SESSIONS as u64;
    assert_eq!((after.events - before.events, after.delivered - before.delivered), (4 * sessions, sessions));
}

/// The bytes that a simulated market of 550 symbols and its image take when it has opened, with what was
/// before it or without.
fn held_by_a_market(with_past: bool) -> usize {
    let start = Timestamp::from_nanos(1_700_031_757_500_000_000);
    let watch = Watch::start();
    let mut simulator = Simulator::new(&default_universe(), SimConfig::starting(start));
    let (mut instruments, mut replica) = (Instruments::default(), Replica::new(Epoch::new(1)));
    let (mut events, mut touched) = (Vec::new(), Vec::new());
    let time = simulator.next(&mut instruments, &mut events).unwrap().unwrap();
    events.retain(|event| with_past || !matches!(event, Event::Snapshot(..)));
    replica.apply(&Batch { position: replica.position().next(), time, events }, &mut touched);
    drop(touched);
    assert_eq!(replica.books().len(), 550);
    let has_past = replica.books().all(|book| book.bars_1m.closed.newest(300).count() > 200);
    assert_eq!(has_past, with_past);
    watch.held()
}

#[test]
fn the_hours_before_a_market_take_next_to_no_memory() {
    let (with, without) = (held_by_a_market(true), held_by_a_market(false));
    println!("{with} bytes with the hours before it, {without} without");
    // They are worked out when somebody asks. Kept they would be 240 bars and a minute of trades: some 60 KB
    // a symbol.
    assert!(with - without <= 256 * 550, "{with} bytes with the hours before it, {without} without");
}

#[test]
fn the_counter_counts() {
    let before = calls();
    drop(std::hint::black_box(vec![1]));
    assert_eq!(calls() - before, 1);
}
