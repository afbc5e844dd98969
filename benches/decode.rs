//! A client's cost of reading updates and keeping its images: single quotes, as on a quiet connection, and
//! quotes merged into full frames, as for a client that lags. Bounds the ticks a second that one Rust client
//! can watch.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, io, num::NonZeroU32, time::Duration};
use tickcast::client::Image;
use tickcast::feed::{Feed, sim};
use tickcast::market::{Instruments, Timestamp};
use tickcast::server::fanout::{Fanout, Opening};
use tickcast::server::link::Link;
use tickcast::server::rights::Rights;
use tickcast::tape::{Batch, Epoch, Position};
use tickcast::wire::{Form, UpdateDecoder};

/// Keeps each frame that the server sends.
#[derive(Default)]
struct Frames(Vec<Vec<u8>>);

impl Link for Frames {
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn finish(&mut self) {}
}

/// A session that begins with the snapshot of its topics and continues with updates.
struct Recorded {
    begins: (Position, Timestamp),
    snapshot: Vec<Vec<u8>>,
    /// Where the updates begin.
    goes_on: (Position, Timestamp),
    updates: Vec<Vec<u8>>,
}

/// Records a session on `quote:*` of a simulated market; it is flushed every `merged` ticks.
fn record(symbols: usize, ticks: usize, merged: usize) -> Recorded {
    let start = Timestamp::from_nanos(1_700_000_000_000_000_000);
    let config = sim::SimConfig { symbols, rate: NonZeroU32::MIN.saturating_add(999_999), seed: 1, start };
    let mut simulator = sim::Simulator::new(&sim::default_universe(), config);
    let mut instruments = Instruments::default();
    let mut fanout = Fanout::<Frames>::new(Epoch::new(1));
    let begins = place(&fanout);
    let topics = vec!["quote:*".to_owned()];
    let opening = Opening { topics, ..Opening::new(Form::MSGPACK, Rights::ALL) };
    let key = fanout.open(&opening, |_| Frames::default());
    let mut tick = |fanout: &mut Fanout<Frames>| {
        let mut events = Vec::new();
        let time = simulator.next(&mut instruments, &mut events).expect("the simulator never fails");
        let time = time.expect("the simulator never ends");
        fanout.apply(&Batch { position: fanout.replica().position().next(), time, events });
    };
    let take = |fanout: &mut Fanout<Frames>| -> Vec<Vec<u8>> {
        let frames = std::mem::take(&mut fanout.link(key).expect("it is open").0);
        frames.iter().map(|frame| payload(frame).to_vec()).filter(|payload| is_update(payload)).collect()
    };
    tick(&mut fanout);
    fanout.flush();
    let snapshot = take(&mut fanout);
    let goes_on = place(&fanout);
    for number in 1..=ticks {
        tick(&mut fanout);
        if number % merged == 0 {
            fanout.flush();
        }
    }
    Recorded { begins, snapshot, goes_on, updates: take(&mut fanout) }
}

fn place(fanout: &Fanout<Frames>) -> (Position, Timestamp) {
    (fanout.replica().position(), fanout.replica().time())
}

/// The payload of a server's frame, which is not masked and under 64 KiB.
fn payload(frame: &[u8]) -> &[u8] {
    if frame[1] < 126 { &frame[2..] } else { &frame[4..] }
}

/// Updates are arrays, all other messages maps.
fn is_update(payload: &[u8]) -> bool {
    matches!(payload[0], 0x90..=0x9f | 0xdc | 0xdd)
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for (name, symbols, ticks, merged) in
        [("lone quotes", 550, 10_000, 1), ("merged into full frames", 10_000, 500_000, 100_000)]
    {
        let Recorded { begins, snapshot, goes_on, updates } = record(symbols, ticks, merged);
        let (mut decoder, mut image) = (UpdateDecoder::new(begins.0, begins.1), Image::default());
        for update in &snapshot {
            image.apply(&decoder.decode(update).expect("the server's own"));
        }
        decoder.reconnect(goes_on.0, goes_on.1);
        let quotes: usize = updates
            .iter()
            .map(|update| decoder.decode(update).expect("the server's own").entries.len())
            .sum();
        let bytes: usize = updates.iter().map(Vec::len).sum();
        println!(
            "{name}: {quotes} quotes in {} updates of {} bytes on average",
            updates.len(),
            bytes / updates.len()
        );
        group.throughput(Throughput::ElementsAndBytes { elements: quotes as u64, bytes: bytes as u64 });
        group.bench_function(BenchmarkId::new("update only", name), |b| {
            b.iter(|| {
                decoder.reconnect(goes_on.0, goes_on.1);
                for update in &updates {
                    black_box(decoder.decode(update).expect("the server's own"));
                }
            });
        });
        group.bench_function(BenchmarkId::new("update and image", name), |b| {
            b.iter(|| {
                decoder.reconnect(goes_on.0, goes_on.1);
                for update in &updates {
                    black_box(image.apply(&decoder.decode(update).expect("the server's own")));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
