//! The cost of publishing one quote into the hub: folding it into the replica and marking the views that
//! watch it, as in a turn, which marks once for all that it folds.
//!
//! Every shard does this for every event, so it bounds the ticks a second of a tape, and may grow with the
//! number of topics only by the cost of memory.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rust_decimal::Decimal;
use std::{hint::black_box, io, time::Duration, time::Instant};
use tickcast::market::{Event, InstrumentId, Instruments, QuoteValues, Symbol, Timestamp};
use tickcast::server::fanout::{Fanout, Opening};
use tickcast::server::link::Link;
use tickcast::server::rights::Rights;
use tickcast::tape::{Batch, Epoch, Position};
use tickcast::wire::Form;

const QUOTES: usize = 20_000;
const TOPICS: [usize; 3] = [1, 1_000, 100_000];
/// No connection has this key.
const NOBODY: usize = usize::MAX;
/// Far apart and without a pattern in so many topics, so that the processor cannot predict the next one.
const STRIDE: usize = 7_919;

/// Takes everything.
struct Sink;

impl Link for Sink {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn finish(&mut self) {}
}

/// The batch that defines so many instruments, and two passes over them; each changes every quote that the
/// other set.
fn market(topics: usize) -> (Batch, [Vec<Batch>; 2]) {
    let time = Timestamp::from_nanos(1_700_000_000_000_000_000);
    let (mut instruments, mut defined) = (Instruments::default(), Vec::new());
    for number in 0..topics {
        let symbol = Symbol::new(&format!("SYM{number}")).expect("a good symbol");
        instruments.intern(&symbol, &mut defined);
    }
    let mut pass = |bid: i64| -> Vec<Batch> {
        let one = |number: usize| {
            let id = InstrumentId(u32::try_from(number * STRIDE % topics).expect("under 2^32"));
            // If a topic comes more than once in a pass, it must be another quote each time.
            let bid = bid + 2 * i64::try_from(number / topics % 1_000).expect("small");
            let values = QuoteValues {
                bid: Some(Decimal::from(bid)),
                bid_size: Decimal::from(bid),
                ask: Some(Decimal::from(10_000)),
                ask_size: Decimal::ONE,
            };
            let quote = instruments.quote(id, &values, (time, time), &mut defined).expect("good numbers");
            Batch { position: Position::START, time, events: vec![Event::Quote(id, quote)] }
        };
        (0..QUOTES).map(one).collect()
    };
    let passes = [pass(100), pass(101)];
    (Batch { position: Position::new(1), time, events: defined }, passes)
}

fn publish(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish a quote");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(QUOTES as u64));
    for topics in TOPICS {
        let (opening, mut passes) = market(topics);
        for watched in [false, true] {
            let mut fanout = Fanout::new(Epoch::new(1));
            fanout.apply(&opening);
            if watched {
                let topics = vec!["quote:*".to_owned()];
                let opening = Opening { topics, ..Opening::new(Form::MSGPACK, Rights::ALL) };
                fanout.open(&opening, |_| Sink);
            }
            let name = if watched { "watched" } else { "unwatched" };
            group.bench_function(BenchmarkId::new(name, format!("{topics} topics")), |b| {
                b.iter_custom(|count| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..count {
                        passes.swap(0, 1);
                        let batches = &mut passes[0];
                        // Advancing the tape and notifying subscribers are not measured.
                        fanout.flush();
                        let mut position = fanout.replica().position();
                        for batch in &mut *batches {
                            position = position.next();
                            batch.position = position;
                        }
                        let begun = Instant::now();
                        for batch in &*batches {
                            fanout.apply(black_box(batch));
                        }
                        // Views are marked first; here, for a connection that does not exist, nothing else is
                        // done.
                        fanout.writable(NOBODY);
                        spent += begun.elapsed();
                    }
                    spent
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, publish);
criterion_main!(benches);
