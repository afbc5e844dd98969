//! How many ticks a second the simulator makes on one core. A rate of a million needs to leave room for all else.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, num::NonZeroU32};
use tickcast::feed::{Feed, sim};
use tickcast::market::{Instruments, Timestamp};

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

criterion_group!(benches, ticks);
criterion_main!(benches);
