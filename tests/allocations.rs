//! On the way of a tick from a batch to the sockets nothing is allocated, and nothing is done twice: counted, not timed.

#[path = "../benches/fanout/workload.rs"]
mod workload;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use tickcast::hub::COHORT;
use tickcast::server::fanout::{Counters, Socket};
use workload::{Random, quote, trade, watchlist};

type Workload = workload::Workload<CountingSocket>;

/// The system's allocator, which counts the calls of each thread: the test harness has threads of its own.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static SENDS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may allocate when its locals are gone already.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: each method hands its arguments on to `System` unchanged, whose contract is the same; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Takes everything, and counts for itself how often it is asked to, which the core need not tell.
#[derive(Debug, Default)]
struct CountingSocket;

impl Socket for CountingSocket {
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
    for _ in 0..10 {
        workload.turn();
    }
    let (before, allocated, asked) = (workload.fanout.counters(), ALLOCATIONS.get(), SENDS.get());
    for _ in 0..TURNS {
        workload.turn();
    }
    let (after, allocations) = (workload.fanout.counters(), ALLOCATIONS.get() - allocated);
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
    let (asked, allocated) = (SENDS.get(), ALLOCATIONS.get());
    for _ in 0..TURNS {
        workload.busy_turn();
    }
    assert_eq!(ALLOCATIONS.get() - allocated, 0);
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

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![1]));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
