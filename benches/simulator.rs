//! How many ticks a second the simulator makes on one core. A rate of a million must leave CPU time for the
//! rest.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, num::NonZeroU32};
use tickcast::feed::{Feed, sim};
use tickcast::hub::Replica;
use tickcast::market::{Event, Instruments, Timestamp};
use tickcast::tape::{Batch, Epoch, Position};

const TICKS: u32 = 10_000;

fn ticks(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulator");
    group.throughput(Throughput::Elements(u64::from(TICKS)));
    let universe = sim::default_universe();
    for (symbols, rate) in [(1, 1_000_000), (550, 10_000), (550, 1_000_000), (100_000, 1_000_000)] {
        let config = sim::SimConfig {
            symbols,
            rate: NonZeroU32::new(rate).expect("above 0"),
            seed: 1,
            start: Timestamp::from_nanos(1_700_000_000_000_000_000),
        };
        let mut simulator = sim::Simulator::new(&universe, config);
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        simulator.next(&mut instruments, &mut out).expect("the simulator never fails");
        group.bench_function(BenchmarkId::from_parameter(format!("{symbols} symbols at {rate}/s")), |b| {
            b.iter(|| {
                out.clear();
                for _ in 0..TICKS {
                    black_box(simulator.next(&mut instruments, &mut out)).expect("the simulator never fails");
                }
            });
        });
    }
    group.finish();
}

/// From nothing to an open market, with the hours before it or without: a server's work before it listens.
fn opening(c: &mut Criterion) {
    let universe = sim::default_universe();
    let mut group = c.benchmark_group("opening of 550 symbols");
    for with_past in [true, false] {
        let open = || {
            let config = sim::SimConfig::starting(Timestamp::from_nanos(1_700_031_757_500_000_000));
            let mut simulator = sim::Simulator::new(&universe, config);
            let (mut instruments, mut events) = (Instruments::default(), Vec::new());
            let time = simulator.next(&mut instruments, &mut events).expect("the simulator never fails");
            events.retain(|event| with_past || !matches!(event, Event::Snapshot(..)));
            let mut replica = Replica::new(Epoch::new(1));
            let batch = Batch { position: Position::new(1), time: time.expect("it never ends"), events };
            replica.apply(&batch, &mut Vec::new());
            (simulator, replica)
        };
        let name = if with_past { "with the hours before" } else { "without what is told of them" };
        group.bench_function(name, |b| b.iter_with_large_drop(open));
    }
    group.finish();
}

criterion_group!(benches, ticks, opening);
criterion_main!(benches);
