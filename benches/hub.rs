//! What it costs to publish one quote into the hub: fold it into the replica and mark the views that watch it, as a turn does, which
//! marks once for all that it folds.
//!
//! Every shard does this for every event, so it bounds the ticks a second that a tape may carry, and it must not grow with the
//! number of topics by more than what memory costs.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rust_decimal::Decimal;
use std::{hint::black_box, io, time::Duration, time::Instant};
use tickcast::hub::Form;
use tickcast::market::{Event, InstrumentId, Instruments, QuoteValues, Symbol, Timestamp};
use tickcast::server::fanout::{Fanout, Opening, Socket};
use tickcast::tape::{Batch, Epoch, Position};

const QUOTES: usize = 20_000;
const TOPICS: [usize; 3] = [1, 1_000, 100_000];
/// No connection has this key.
const NOBODY: usize = usize::MAX;
/// Far apart and without a pattern in so many topics, so that the processor cannot guess which one comes next.
const STRIDE: usize = 7_919;

/// Takes everything.
struct Sink;

impl Socket for Sink {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn finish(&mut self) {}
}

/// The batch that defines so many instruments, and two passes over them of which each changes every quote that the other set.
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
            // Where a topic comes more than once in a pass, it must be another quote each time.
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
                let opening =
                    Opening { form: Form::MessagePack, topics, max_hz: None, times: false, since: None };
                fanout.open(&opening, &[], |_| Sink);
            }
            let name = if watched { "watched" } else { "unwatched" };
            group.bench_function(BenchmarkId::new(name, format!("{topics} topics")), |b| {
                b.iter_custom(|count| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..count {
                        passes.swap(0, 1);
                        let batches = &mut passes[0];
                        // The tape goes on, and whoever watches has been told: neither is what is measured.
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
                        // Views are marked before anything else is asked of them: here, for a connection that is not there, that is all.
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
