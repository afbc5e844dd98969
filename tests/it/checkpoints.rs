//! A market that is taken up in the middle, from a checkpoint, is the market that was read from its
//! beginning.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::sync::Arc;
use tickcast::feed::formats::{OpenOptions, open, open_at};
use tickcast::feed::{Feed, Recordings, Source, sim};
use tickcast::hub::Replica;
use tickcast::market::{
    Conditions, Counts, Event, FeedKind, FeedState, FeedStatus, Instrument, InstrumentId, Instruments, Price,
    Quote, Side, Size, Speed, Status, Symbol, Timestamp, Trade, TradingState,
};
use tickcast::record::Recorder;
use tickcast::recording::{RecordingHeader, RecordingIndex};
use tickcast::tape::{Batch, Epoch, Position};

const INSTRUMENTS: u32 = 3;

/// What happens, in small numbers, so that bars are met at their edges.
#[derive(Clone, Debug)]
enum Step {
    Quote(u32, i64, i64),
    /// Instrument, price, and how many half seconds its time is behind the clock; many of them at once fill
    /// rings.
    Trades(u32, i64, i64, u16),
    Status(Option<u32>, TradingState),
    Feed(FeedState),
    Refine(u32),
    Close(u32, i64),
    /// So many quarters of a second pass.
    Wait(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..INSTRUMENTS;
    prop_oneof![
        (id.clone(), -5..5_i64, 0..3_i64).prop_map(|(id, bid, size)| Step::Quote(id, bid, size)),
        (id.clone(), 90..110_i64, -4..12_i64, prop_oneof![9 => 1..4_u16, 1 => 700..1500_u16])
            .prop_map(|(id, price, late, count)| Step::Trades(id, price, late, count)),
        (proptest::option::of(id.clone()), select(TradingState::ALL))
            .prop_map(|(id, state)| Step::Status(id, state)),
        select(FeedState::ALL).prop_map(Step::Feed),
        id.clone().prop_map(Step::Refine),
        (id, 80..90_i64).prop_map(|(id, close)| Step::Close(id, close)),
        prop_oneof![9 => 0..12_u16, 1 => 0..2000_u16].prop_map(Step::Wait),
    ]
}

/// The batches that the steps make, the first of which defines the instruments.
fn batches(steps: &[Step]) -> Vec<Batch> {
    let mut definitions: Vec<Instrument> = (0..INSTRUMENTS)
        .map(|id| {
            let symbol = Symbol::new(&format!("S{id}")).unwrap();
            Instrument { id: InstrumentId(id), ..Instrument::unknown(symbol) }
        })
        .collect();
    let mut time = Timestamp::from_nanos(1_700_000_000_000_000_000);
    let define = |definition: &Instrument| Event::Instrument(Arc::new(definition.clone()));
    let mut batches = vec![(time, definitions.iter().map(define).collect::<Vec<_>>())];
    for step in steps {
        let mut events = Vec::new();
        let units = |value: i64, id: u32, definitions: &[Instrument]| {
            let digits = u32::from(definitions[id as usize].price_scale - 2);
            Price::new(value * 10_i64.pow(digits))
        };
        match *step {
            Step::Quote(id, bid, size) => {
                let (bid, ask) = (units(bid, id, &definitions), units(bid + size, id, &definitions));
                let sizes = Size::new(size);
                let quote =
                    Quote { bid, bid_size: sizes, ask, ask_size: sizes, ts_event: time, ts_recv: time };
                events.push(Event::Quote(InstrumentId(id), quote));
            }
            Step::Trades(id, price, late, count) => {
                for number in 0..i64::from(count) {
                    let trade = Trade {
                        price: units(price + number % 3, id, &definitions),
                        size: Size::new(number % 5),
                        side: Side::Buy,
                        conditions: Conditions::default(),
                        counts: Counts::from_bits([31, 31, 1, 9, 7, 0][usize::try_from(price % 6).unwrap()])
                            .unwrap(),
                        booked: 0,
                        ts_event: time.plus_nanos(-late * 500_000_000 + number),
                        ts_recv: time,
                    };
                    events.push(Event::Trade(InstrumentId(id), trade));
                }
            }
            Step::Status(id, state) => {
                events.push(Event::Status(id.map(InstrumentId), Status { state, ts_event: time }));
            }
            Step::Feed(state) => {
                let feed = FeedStatus { kind: FeedKind::Replay, state, speed: Speed::Times(2.0) };
                events.push(Event::Feed(feed));
            }
            Step::Refine(id) => {
                let definition = &mut definitions[id as usize];
                if definition.price_scale < 5 {
                    *definition = definition.refined(1, 1);
                }
                events.push(define(definition));
            }
            Step::Close(id, close) => {
                definitions[id as usize].previous_close = units(close, id, &definitions);
                events.push(define(&definitions[id as usize]));
            }
            Step::Wait(quarters) => time = time.plus_nanos(i64::from(quarters) * 250_000_000),
        }
        batches.push((time, events));
    }
    let numbered = (1..).zip(batches);
    numbered.map(|(number, (time, events))| Batch { position: Position::new(number), time, events }).collect()
}

fn fold(replica: &mut Replica, batches: &[Batch]) {
    for batch in batches {
        replica.apply(batch, &mut Vec::new());
    }
}

fn known(replica: &Replica) -> Vec<Event> {
    replica.checkpoint().collect()
}

proptest! {
    #[test]
    fn a_replica_from_a_checkpoint_goes_on_as_the_one_that_it_was_taken_of(
        steps in vec(step(), 1..80), cut in any::<Index>()
    ) {
        let batches = batches(&steps);
        let (before, after) = batches.split_at(cut.index(batches.len()) + 1);
        let mut whole = Replica::new(Epoch::new(1));
        fold(&mut whole, before);

        let checkpoint = Batch { position: Position::new(1), time: whole.time(), events: known(&whole) };
        let mut restored = Replica::new(Epoch::new(2));
        restored.apply(&checkpoint, &mut Vec::new());
        prop_assert_eq!(known(&restored), known(&whole));

        fold(&mut whole, after);
        fold(&mut restored, after);
        prop_assert_eq!(known(&restored), known(&whole));
    }
}

/// Folds a feed's batches up to a moment.
fn known_at(feed: Box<dyn Feed>, time: Timestamp) -> Vec<Event> {
    known_at_each(feed, &[time]).remove(0)
}

/// Folds a feed's batches, and says what is known at each of these moments, which are in order.
fn known_at_each(mut feed: Box<dyn Feed>, times: &[Timestamp]) -> Vec<Vec<Event>> {
    let (mut instruments, mut replica) = (Instruments::default(), Replica::new(Epoch::new(1)));
    let mut all = Vec::new();
    loop {
        let mut events = Vec::new();
        let next = feed.next(&mut instruments, &mut events).unwrap();
        while all.len() < times.len() && next.is_none_or(|at| at > times[all.len()]) {
            all.push(known(&replica));
        }
        match next {
            Some(time) if all.len() < times.len() => {
                let position = replica.position().next();
                replica.apply(&Batch { position, time, events }, &mut Vec::new());
            }
            _ => return all,
        }
    }
}

/// A busy simulated market of ten minutes, in a file with checkpoints.
fn recorded_market(folder: &std::path::Path) -> (std::path::PathBuf, [Timestamp; 2]) {
    let start = Timestamp::from_nanos(1_704_067_200_123_456_789);
    let rate = std::num::NonZeroU32::new(300).unwrap();
    let config = sim::SimConfig { symbols: 5, rate, seed: 7, start };
    let mut market = sim::Simulator::new(&sim::default_universe(), config);
    let path = folder.join("market.tape");
    let file = std::fs::File::create(&path).unwrap();
    let mut recorder = Recorder::new(file, &RecordingHeader::default()).unwrap();
    let (mut instruments, mut position, mut time) = (Instruments::default(), Position::START, start);
    while time.nanos_since(start) < 600_000_000_000 {
        let mut events = Vec::new();
        time = market.next(&mut instruments, &mut events).unwrap().unwrap();
        position = position.next();
        recorder.append(&Batch { position, time, events }).unwrap();
    }
    recorder.finish().unwrap();
    (path, [start, time])
}

#[test]
fn a_recording_opened_in_the_middle_gives_what_the_whole_of_it_gives() {
    let folder = tempfile::tempdir().unwrap();
    let (path, [start, end]) = recorded_market(folder.path());
    let index = RecordingIndex::read(&std::fs::File::open(&path).unwrap()).unwrap();
    assert!(index.checkpoints.len() > 3, "{} checkpoints", index.checkpoints.len());
    assert_eq!(index.totals.map(|totals| [totals.first, totals.last]), Some([start, end]));

    let options = OpenOptions::default();
    let at = |seconds: i64| start.plus_nanos(seconds * 1_000_000_000);
    let moments = index.checkpoints.iter().flat_map(|place| [place.time, place.time.plus_nanos(-1)]);
    let mut times: Vec<_> =
        [at(-1), at(0), at(1), at(77), at(300), at(599), at(700)].into_iter().chain(moments).collect();
    times.sort_unstable();
    // The whole is read once: it takes the longest.
    let expected = known_at_each(open(&path, &options).unwrap(), &times);
    for (time, expected) in times.into_iter().zip(expected) {
        let sought = known_at(open_at(&path, &options, time).unwrap(), time);
        assert!(sought == expected, "another market at {time}");
    }
}

#[test]
fn a_seek_reads_the_index_and_what_lies_between_the_last_checkpoint_and_the_moment() {
    let folder = tempfile::tempdir().unwrap();
    let (path, [start, end]) = recorded_market(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let index = RecordingIndex::read(&std::fs::File::open(&path).unwrap()).unwrap();
    let places = &index.checkpoints;
    // The header stands in the first frame, with the first second and the hours before it.
    let head = places[0].offset.min(262_144);
    for n in 2..places.len() - 1 {
        let time = places[n].time.plus_nanos(1_500_000_000).min(places[n + 1].time.plus_nanos(-1));
        let expected = known_at(open_at(&path, &OpenOptions::default(), time).unwrap(), time);
        // Whoever read anything else would read nonsense.
        let mut bytes = whole.clone();
        bytes[usize::try_from(head).unwrap()..usize::try_from(places[n].offset).unwrap()].fill(0xff);
        let behind = usize::try_from(places[n + 1].offset).unwrap();
        let tail = usize::try_from(index_len(&whole)).unwrap();
        bytes[behind..whole.len() - tail].fill(0xff);
        let broken = folder.path().join("broken.tape");
        std::fs::write(&broken, bytes).unwrap();
        let sought = known_at(open_at(&broken, &OpenOptions::default(), time).unwrap(), time);
        assert!(sought == expected, "another market at {time}");
        let span = Recordings::new(vec![broken], OpenOptions::default()).span().unwrap();
        assert_eq!([span.start, span.end], [Some(start), Some(end)], "known without reading the file");
    }
}

#[test]
fn what_is_left_between_a_start_and_an_end_is_known_without_reading_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, [start, end]) = recorded_market(folder.path());
    let mut source = Recordings::new(vec![path], OpenOptions::default());
    let at = |seconds: i64| start.plus_nanos(seconds * 1_000_000_000);
    let mut check = |from: Option<Timestamp>, to: Option<Timestamp>, expected: [Option<Timestamp>; 2]| {
        (source.start, source.end) = (from, to);
        let span = source.span().unwrap();
        assert_eq!([span.start, span.end], expected);
    };
    check(Some(at(100)), Some(at(200)), [Some(at(100)), Some(at(200))]);
    check(Some(at(-100)), Some(at(9000)), [Some(start), Some(end)]);
    check(Some(at(9000)), None, [None, None]);
}

/// Of the frame at the end of a file: its length stands in front of its last eight bytes.
fn index_len(file: &[u8]) -> u32 {
    let at = file.len() - 12;
    u32::from_le_bytes(file[at..at + 4].try_into().unwrap())
}
