//! The fan-out core's cost in user time: sockets here take everything at no cost, so the kernel's part is
//! left out.
//!
//! Throughput is in deliveries: values and ring entries, times the sessions that receive them. Turns are
//! folded, published and sent.

mod workload;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use tickcast::hub::{COHORT, Kind, Since, TopicKey, Upto, tell};
use tickcast::market::InstrumentId;
use tickcast::server::link::Link;
use tickcast::wire::{FULL_BYTES, Form, UpdateEncoder};
use workload::{Random, quote, trade, watchlist};

type Workload = workload::Workload<NullSocket>;

/// Takes every byte and forgets it.
#[derive(Debug, Default)]
struct NullSocket;

impl Link for NullSocket {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(black_box(bytes).len())
    }

    fn finish(&mut self) {}
}

/// A turn of 2,000 trades: ten of each of 200 symbols, in batches of 100.
const SYMBOLS: u32 = 200;
const TRADES: u32 = 2000;
const BATCH: usize = 100;

fn measure(c: &mut Criterion, name: &str, parameter: impl std::fmt::Display, mut workload: Workload) {
    // Buffers that grow to a limit are grown before.
    for _ in 0..20 {
        workload.turn();
    }
    let before = workload.fanout.counters().delivered;
    workload.turn();
    let mut group = c.benchmark_group("fanout");
    group.throughput(Throughput::Elements(workload.fanout.counters().delivered - before));
    group.bench_function(BenchmarkId::new(name, parameter), |b| b.iter(|| workload.turn()));
    group.finish();
}

fn one_quote(c: &mut Criterion) {
    for sessions in [1000, 10_000] {
        let mut workload = Workload::new(1, 0, vec![vec!["quote:S0".to_owned()]; sessions]);
        workload.set_turn(&[quote(0)], 1);
        measure(c, "one quote, same topic, sessions", sessions, workload);
    }
}

fn many_trades(c: &mut Criterion) {
    let turn: Vec<_> = (0..TRADES).map(|n| trade(n % SYMBOLS)).collect();
    let mut workload = Workload::new(SYMBOLS, 1024, vec![vec!["trades:*".to_owned()]; 1000]);
    workload.set_turn(&turn, BATCH);
    measure(c, "2000 trades, same topics, sessions", 1000, workload);

    let mut random = Random::new();
    let lists: Vec<_> = (0..1000).map(|_| watchlist(&mut random, "trades", 100, SYMBOLS, false)).collect();
    let mut workload = Workload::new(SYMBOLS, 1024, lists);
    workload.set_turn(&turn, BATCH);
    measure(c, "2000 trades, different topics, sessions", 1000, workload);
}

fn watchlists(c: &mut Criterion) {
    let mut random = Random::new();
    let lists: Vec<_> = (0..5000).map(|_| watchlist(&mut random, "quote", 20, 500, true)).collect();
    let mut workload = Workload::new(500, 0, lists);
    let turn: Vec<_> = (0..20).map(|_| quote(random.zipf(500))).collect();
    workload.set_turn(&turn, turn.len());
    measure(c, "20 quotes, watchlists, sessions", 5000, workload);
}

/// The universe of very many dashboards: turns that arrive while they are served one after the other are
/// folded in between.
fn universe(c: &mut Criterion) {
    let mut workload = Workload::new(10_000, 0, vec![vec!["quote:*".to_owned()]; 10_000]);
    let turn: Vec<_> = (0..1000).map(|n| quote(n * 7 % 10_000)).collect();
    workload.set_turn(&turn, turn.len());
    let mut group = c.benchmark_group("fanout");
    group.sample_size(20);
    group.throughput(Throughput::Elements(1000 * u64::try_from(10_000_usize.div_ceil(COHORT)).expect("few")));
    group.bench_function("1000 quotes of 10000 folded behind each cohort, sessions/10000", |b| {
        b.iter(|| workload.busy_turn());
    });
    group.finish();
}

/// Connections join one view and leave it again, all of them each time.
fn churn(c: &mut Criterion) {
    let mut group = c.benchmark_group("churn");
    group.sample_size(10);
    for sessions in [1000, 10_000] {
        let mut workload = Workload::new(1, 0, []);
        group.throughput(Throughput::Elements(sessions));
        group.bench_function(BenchmarkId::new("sessions of one view", sessions), |b| {
            b.iter(|| {
                let keys: Vec<_> =
                    (0..sessions).map(|_| workload.open(vec!["quote:S0".to_owned()])).collect();
                keys.into_iter().for_each(|key| workload.fanout.closed(key));
            });
        });
    }
    group.finish();
}

/// The bytes of one frame: what is pending for one reader of everything after a turn, without any session.
fn frame(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for (name, kind, turn, batch) in [
        ("1 quote", Kind::Quote, vec![quote(0)], 1),
        ("2000 trades", Kind::Trades, (0..TRADES).map(|n| trade(n % SYMBOLS)).collect(), BATCH),
    ] {
        let mut workload = Workload::new(SYMBOLS, 1024, []);
        let replica = |workload: &Workload| {
            let replica = workload.fanout.replica();
            Upto { position: replica.position(), time: replica.time() }
        };
        workload.set_turn(&turn, batch);
        let from = replica(&workload);
        workload.turn();
        let upto = replica(&workload);
        let (mut encoder, mut out) = (UpdateEncoder::new(FULL_BYTES), Vec::new());
        group.throughput(Throughput::Elements(turn.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                encoder.begin(Form::MSGPACK, false, from, upto);
                let topics = (0..turn.len().min(SYMBOLS as usize))
                    .zip(0..)
                    .map(|(number, id)| (number, TopicKey::of(InstrumentId(id), kind)));
                let since = |_| Since { position: from.position, numbered: false };
                tell(workload.fanout.replica(), topics, since, upto.position, &mut encoder);
                encoder.finish(true, &mut out);
                black_box(&out);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, one_quote, many_trades, watchlists, universe, churn, frame);
criterion_main!(benches);
