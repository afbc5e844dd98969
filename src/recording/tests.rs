//! Tests of writing and reading recordings: round trips, broken files, limits.

use super::*;
use crate::market::{
    Bar, BarsSnapshot, Conditions, Counts, Event, FeedKind, FeedState, FeedStatus, Instrument, InstrumentId,
    Newest, Price, Quote, Side, Size, Snapshot, Speed, Status, Symbol, Tail, Trade, TradingState, Turnover,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::sync::Arc;

type Batch = (u64, Timestamp, Vec<Event>);

fn write(batches: &[Batch]) -> Vec<u8> {
    let header = RecordingHeader { epoch: 7, created: Timestamp::from_nanos(1), source: "tests".to_owned() };
    let mut writer = RecordingWriter::new(Vec::new(), &header).unwrap();
    for (position, time, events) in batches {
        writer.append(*position, *time, events).unwrap();
    }
    writer.finish().unwrap()
}

/// What can be read of `unpacked`, and the error that ended it.
fn read(unpacked: impl Read) -> (Vec<Batch>, Option<String>) {
    let mut batches = Vec::new();
    let mut reader = match RecordingReader::new(unpacked) {
        Ok(reader) => reader,
        Err(error) => return (batches, Some(error.to_string())),
    };
    loop {
        let mut events = Vec::new();
        match reader.next(&mut events) {
            Ok(Some((position, time))) => batches.push((position, time, events)),
            Ok(None) => return (batches, None),
            Err(error) => {
                assert!(events.is_empty(), "a broken batch gives nothing");
                assert!(matches!(reader.next(&mut events), Ok(None)), "an error is told once");
                return (batches, Some(error.to_string()));
            }
        }
    }
}

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![any::<i64>(), 0_i64..2_000_000_000].prop_map(Timestamp::from_nanos)
}

fn price() -> impl Strategy<Value = Price> {
    let wide = (1 - Price::LIMIT..Price::LIMIT).prop_map(|units| Price::from_units(units).unwrap());
    prop_oneof![Just(Price::NONE), any::<i64>().prop_map(Price::new), wide]
}

fn size() -> impl Strategy<Value = Size> {
    let wide = (0..=i128::MAX).prop_map(|units| Size::from_units(units).unwrap());
    prop_oneof![(0..=i64::MAX).prop_map(Size::new), wide]
}

fn id() -> impl Strategy<Value = InstrumentId> {
    prop_oneof![0..3_u32, any::<u32>()].prop_map(InstrumentId)
}

fn definition() -> impl Strategy<Value = Instrument> {
    let texts = ("[!-)+?A-~]{1,64}", "\\PC{0,20}", "[a-z]{0,9}", "[A-Z]{0,4}");
    let numbers = (0..=18_u8, 0..=18_u8, 1..Price::LIMIT, price(), price());
    (id(), texts, numbers).prop_map(|(id, (symbol, name, sector, currency), numbers)| {
        let (price_scale, size_scale, tick_size, anchor, previous_close) = numbers;
        let symbol = Symbol::new(&symbol.replace(',', ".")).unwrap();
        #[rustfmt::skip]
        let definition = Instrument {
            id, symbol, name, sector, currency, price_scale, size_scale, tick_size, anchor, previous_close,
        };
        definition
    })
}

fn quote() -> impl Strategy<Value = Quote> {
    (price(), size(), price(), size(), time(), time()).prop_map(
        |(bid, bid_size, ask, ask_size, ts_event, ts_recv)| Quote {
            bid,
            bid_size,
            ask,
            ask_size,
            ts_event,
            ts_recv,
        },
    )
}

fn any_trade() -> impl Strategy<Value = Trade> {
    let conditions = "[ -~]{0,4}".prop_map(|text| Conditions::new(&text).unwrap());
    let counts =
        prop_oneof![Just(Counts::EVERYTHING), (0..128_u8).prop_map(|bits| Counts::from_bits(bits).unwrap())];
    (price(), size(), select(Side::ALL), conditions, counts, time(), time()).prop_map(
        |(price, size, side, conditions, counts, ts_event, ts_recv)| Trade {
            price,
            size,
            side,
            conditions,
            counts,
            booked: 0,
            ts_event,
            ts_recv,
        },
    )
}

fn bar() -> impl Strategy<Value = Bar> {
    let prices = (price(), price(), price(), price()).prop_map(|(a, b, c, d)| [a, b, c, d]);
    let bytes = any::<[u8; 32]>().prop_map(Turnover::from_bytes);
    let turnover =
        prop_oneof![any::<i128>().prop_map(Turnover::from), (-9..9_i128).prop_map(Turnover::from), bytes];
    (time(), prices, size(), any::<u64>(), turnover)
        .prop_map(|(start, prices, volume, trades, sum)| Bar::from_parts(start, prices, volume, trades, sum))
}

fn tail<T: std::fmt::Debug>(entry: impl Strategy<Value = T>) -> impl Strategy<Value = Tail<T>> {
    (any::<u64>(), vec(entry, 0..4)).prop_map(|(first, entries)| Tail::of(first, entries))
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    use proptest::option::of;
    let bars = || {
        (of(bar()), any::<bool>(), tail(bar())).prop_map(|(latest, is_open, closed)| BarsSnapshot {
            latest,
            is_open,
            closed,
        })
    };
    let status = (select(TradingState::ALL), time()).prop_map(|(state, ts_event)| Status { state, ts_event });
    let newest = (time(), any::<i64>(), of(time()), of(time()))
        .prop_map(|(time, late, bars_last, day_last)| Newest { time, late, bars_last, day_last });
    (
        of(quote()),
        of(status),
        tail(
            (any_trade(), prop_oneof![Just(7), any::<u16>()])
                .prop_map(|(trade, booked)| Trade { booked, ..trade }),
        ),
        bars(),
        bars(),
        of(bar()),
        price(),
        of(newest),
    )
        .prop_map(|(quote, status, trades, bars_1s, bars_1m, day, previous_close, newest)| Snapshot {
            quote,
            status,
            trades,
            bars_1s,
            bars_1m,
            day,
            previous_close,
            newest,
        })
}

fn event() -> impl Strategy<Value = Event> {
    let speed = prop_oneof![Just(Speed::Max), (0.001..1e6).prop_map(Speed::Times)];
    let state = select(TradingState::ALL);
    prop_oneof![
        definition().prop_map(|definition| Event::Instrument(Arc::new(definition))),
        (id(), quote()).prop_map(|(id, quote)| Event::Quote(id, quote)),
        (id(), any_trade()).prop_map(|(id, trade)| Event::Trade(id, trade)),
        (id(), snapshot()).prop_map(|(id, snapshot)| Event::Snapshot(id, Arc::new(snapshot))),
        (proptest::option::of(id()), state, time())
            .prop_map(|(id, state, ts_event)| Event::Status(id, Status { state, ts_event })),
        (select(FeedKind::ALL), select(FeedState::ALL), speed)
            .prop_map(|(kind, state, speed)| Event::Feed(FeedStatus { kind, state, speed })),
    ]
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    vec((any::<u64>(), time(), vec(event(), 0..8)), 0..20)
}

proptest! {
    #[test]
    fn any_batches_are_read_back_exactly(batches in batches()) {
        let file = write(&batches);
        prop_assert_eq!(read(zstd::Decoder::new(&file[..]).unwrap()), (batches, None));
    }

    #[test]
    fn batches_that_come_in_pieces_are_read_back_exactly(batches in vec((any::<u64>(), time(), vec(event(), 0..8)), 0..3)) {
        let unpacked = zstd::decode_all(&write(&batches)[..]).unwrap();
        prop_assert_eq!(read(Drip(&unpacked)), (batches, None));
    }

    #[test]
    fn batches_beyond_the_limits_are_read_back_in_parts(batches in batches(), events in 1..4_usize) {
        let limits = Limits { events, bytes: 64 << 10, ..Limits::default() };
        let mut writer = RecordingWriter::within(limits, Vec::new(), &RecordingHeader::default()).unwrap();
        for (position, time, events) in &batches {
            writer.append(*position, *time, events).unwrap();
        }
        let totals = *writer.totals();
        let (got, error) = read(zstd::Decoder::new(&writer.finish().unwrap()[..]).unwrap());
        prop_assert_eq!(error, None);
        prop_assert!(got.iter().all(|batch| batch.2.len() <= events));
        prop_assert_eq!(totals.batches, got.len() as u64);
        let flat = |batches: Vec<Batch>| -> Vec<(u64, Timestamp, Event)> {
            batches.into_iter().flat_map(|(at, time, all)| all.into_iter().map(move |event| (at, time, event))).collect()
        };
        prop_assert_eq!(flat(got), flat(batches));
    }

    #[test]
    fn a_file_cut_anywhere_gives_whole_batches_and_says_once_that_it_breaks_off(
        batches in batches(), cut in any::<prop::sample::Index>()
    ) {
        let file = write(&batches);
        let cut = &file[..cut.index(file.len())];
        let (got, error) = read(zstd::Decoder::new(cut).unwrap());
        prop_assert_eq!(&got[..], &batches[..got.len()]);
        // A cut between two frames looks like an end.
        prop_assert!(error.is_none() || error.as_deref() == Some(&RecordingError::Truncated.to_string()));
    }

    #[test]
    fn a_recording_is_read_on_from_each_checkpoint_with_or_without_its_index(
        parts in vec((batches(), vec(event(), 0..8)), 1..4), cut in 0..3_usize
    ) {
        let header = RecordingHeader { epoch: 7, ..RecordingHeader::default() };
        let mut writer = RecordingWriter::new(Vec::new(), &header).unwrap();
        let (mut time, mut position) = (0, 0);
        let (mut written, mut checkpoints) = (Vec::new(), Vec::new());
        let mut definitions = BTreeMap::new();
        for (batches, mut state) in parts {
            for (_, _, events) in batches {
                (time, position) = (time + 300_000_000, position + 1);
                let at = Timestamp::from_nanos(time);
                writer.append(position, at, &events).unwrap();
                definitions.extend(events.iter().filter_map(|event| match event {
                    Event::Instrument(x) => Some((x.id, Arc::clone(x))),
                    _ => None,
                }));
                written.push((position, at, events));
            }
            let at = Timestamp::from_nanos(time);
            // Prices after it are relative to the anchors that it states.
            state.retain(|event| !matches!(event, Event::Instrument(_)));
            state.splice(0..0, definitions.values().map(|x| Event::Instrument(Arc::clone(x))));
            writer.checkpoint(at, state.clone().into_iter()).unwrap();
            checkpoints.push((position, at, state, written.len()));
        }
        let mut bytes = writer.finish().unwrap();
        // Without the end of the index, or all but its magic number, checkpoints are found by their frames.
        let index = bytes.windows(6).rposition(|bytes| bytes == b"\xa5index").unwrap() - 9;
        match cut {
            0 => {}
            1 => bytes.truncate(bytes.len() - 1),
            _ => bytes.truncate(index + 4),
        }
        prop_assert_eq!(&read(zstd::Decoder::new(&bytes[..index]).unwrap()), &(written.clone(), None));
        if cut == 0 {
            prop_assert_eq!(&read(zstd::Decoder::new(&bytes[..]).unwrap()), &(written.clone(), None));
        }

        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let index = RecordingIndex::read(&file).unwrap();
        prop_assert_eq!(index.totals.is_some(), cut == 0);
        let places = index.checkpoints.iter().map(|checkpoint| (checkpoint.position, checkpoint.time));
        prop_assert!(places.eq(checkpoints.iter().map(|&(position, time, ..)| (position, time))));
        for (checkpoint, (position, time, state, done)) in index.checkpoints.iter().zip(checkpoints) {
            let mut reader = open_checkpoint(file.try_clone().unwrap(), checkpoint).unwrap();
            prop_assert_eq!(reader.header(), &header);
            let mut events = Vec::new();
            prop_assert_eq!(reader.next(&mut events).unwrap(), Some((position, time)));
            prop_assert_eq!(events, state);
            for (position, time, expected) in &written[done..] {
                let mut events = Vec::new();
                let got = reader.next(&mut events);
                if cut == 2 && got.is_err() {
                    break;
                }
                prop_assert_eq!(got.unwrap(), Some((*position, *time)));
                prop_assert_eq!(&events, expected);
            }
        }
    }

    #[test]
    fn any_bytes_after_a_header_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let mut file = zstd::decode_all(&write(&[])[..]).unwrap();
        file.extend(bytes);
        read(&file[..]);
    }
}

#[test]
fn a_reset_is_not_recorded() {
    let at = Timestamp::from_micros(5);
    let status = || Event::Status(None, Status { state: TradingState::Open, ts_event: at });
    let file = write(&[(1, at, vec![Event::Reset, status()]), (2, at, vec![Event::Reset])]);
    let recorded = vec![(1, at, vec![status()]), (2, at, vec![])];
    assert_eq!(read(zstd::Decoder::new(&file[..]).unwrap()), (recorded, None));
}

/// Reads the header of an empty recording and then `bytes`.
#[track_caller]
fn check_refused(bytes: &[u8], expected: &str) {
    let mut file = zstd::decode_all(&write(&[])[..]).unwrap();
    file.extend(bytes);
    assert_eq!(read(&file[..]), (vec![], Some(expected.to_owned())));
}

#[test]
fn a_length_from_outside_is_not_believed() {
    let huge = [0xff; 4];
    check_refused(&[&[0x93, 1, 1, 0xdd][..], &huge].concat(), "number of events exceeds the limit of 262144");
    let text = [&[0x93, 1, 1, 0x91, 0x81, 0xdb][..], &huge].concat();
    check_refused(&text, "key of a definition exceeds the limit of 4096");
    let truncated = RecordingError::Truncated.to_string();
    check_refused(&[0x93, 1, 1, 0xdd, 0, 3, 0, 0], &truncated);
}

#[test]
fn what_is_no_batch_is_named() {
    check_refused(&[1], "batch: expected an array");
    check_refused(&[0x92, 1, 1], "batch: expected an array of 3");
    check_refused(&[0x93, 0xc0], "position: expected a whole number");
    check_refused(&[0x93, 0xff], "position: expected a whole number in its range");
    check_refused(&[0x93, 1, 1, 0x91, 0x91, 9], "event: expected a known kind and its length");
    check_refused(&[0x93, 1, 1, 0x91, 0x94, 3, 0xc0, 0xa1, b'x'], "trading state is \"x\", which is none");
    let huge = [&[0x93, 1, 1, 0x91, 0x95, 2, 0, 0xc4, 16][..], &i128::MIN.to_be_bytes(), &[1, 0xc0]].concat();
    check_refused(&huge, "price: expected less than 10^28 units");
    check_refused(&[0x93, 1, 1, 0x91, 0x95, 2, 0, 0xc4, 15], "price: expected 16 bytes");
    check_refused(&[0x93, 1, 1, 0x91, 0x95, 2, 0, 1, 0xff], "size: expected 0 or more");
    check_refused(&[0x93, 1, 1, 0x91, 0x80], "definition: expected an id and a symbol");
}

#[test]
fn what_is_no_recording_is_named() {
    let error = |bytes: &[u8]| read(bytes).1.unwrap();
    assert_eq!(error(b"\x90"), "header: expected a map");
    assert_eq!(error(b"\x81\xa6format\xa1x"), "format: expected tickcast.tape");
    let later = b"\x82\xa6format\xadtickcast.tape\xa7version\x02";
    assert_eq!(error(later), "version 2 of the form is newer than this reader, which knows 1");
}

fn trade(id: u32, price: i64, seconds: i64) -> Batch {
    let time = Timestamp::from_nanos(seconds * 1_000_000_000);
    let trade = Trade {
        price: Price::new(price),
        size: Size::new(3),
        side: Side::Buy,
        conditions: Conditions::default(),
        counts: Counts::EVERYTHING,
        booked: 0,
        ts_event: time,
        ts_recv: time,
    };
    (1, time, vec![Event::Trade(InstrumentId(id), trade)])
}

fn define(id: u32, symbol: &str) -> Batch {
    let symbol = Symbol::new(symbol).unwrap();
    let definition = Instrument { id: InstrumentId(id), ..Instrument::unknown(symbol) };
    (1, Timestamp::default(), vec![Event::Instrument(Arc::new(definition))])
}

#[test]
fn every_second_has_a_frame_of_its_own() {
    let file = write(&[define(0, "X"), trade(0, 100, 1), trade(0, 101, 1), trade(0, 102, 2)]);
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    assert_eq!(file.windows(4).filter(|bytes| *bytes == magic).count(), 3);
}

#[test]
fn a_closed_frame_outlives_a_writer_that_never_finishes() {
    let mut file = Vec::new();
    let mut writer = RecordingWriter::new(&mut file, &RecordingHeader::default()).unwrap();
    let (position, time, events) = define(0, "X");
    writer.append(position, time, &events).unwrap();
    writer.close_frame().unwrap();
    writer.append(position, time, &events).unwrap();
    drop(writer);
    let (batches, _) = read(zstd::Decoder::new(&file[..]).unwrap());
    assert_eq!(batches, [(position, time, events)]);
}

/// `count` different trades of one instrument, of one moment.
fn many(count: usize) -> Batch {
    let (position, time, events) = trade(0, 1, 1);
    let trades = (0..count).map(|n| match &events[0] {
        Event::Trade(id, trade) => {
            Event::Trade(*id, Trade { price: Price::new(i64::try_from(n).unwrap()), ..*trade })
        }
        other => panic!("{other:?}"),
    });
    (position, time, trades.collect())
}

#[test]
fn a_batch_of_more_than_a_reader_takes_is_written_as_several() {
    let (position, time, events) = many(2 * MAX_EVENTS + 1);
    let file = write(&[(position, time, events.clone())]);
    let (batches, error) = read(zstd::Decoder::new(&file[..]).unwrap());
    assert_eq!(error, None);
    assert_eq!(batches.iter().map(|batch| batch.2.len()).collect::<Vec<_>>(), [MAX_EVENTS, MAX_EVENTS, 1]);
    assert!(batches.iter().all(|batch| (batch.0, batch.1) == (position, time)));
    assert!(batches.into_iter().flat_map(|batch| batch.2).eq(events));
}

#[test]
fn an_event_that_no_reader_would_take_is_refused() {
    let trades = many(MAX_BATCH / 8).2.into_iter();
    let trades =
        trades.filter_map(|event| if let Event::Trade(_, trade) = event { Some(trade) } else { None });
    let trades = Tail::of(0, trades.collect());
    let event = Event::Snapshot(InstrumentId(0), Arc::new(Snapshot { trades, ..Snapshot::default() }));
    let mut writer = RecordingWriter::new(Vec::new(), &RecordingHeader::default()).unwrap();
    let (position, time, events) = trade(0, 1, 1);
    let error = writer.append(position, time, &[events[0].clone(), event]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    // What came before it is still there.
    let file = writer.finish().unwrap();
    assert_eq!(read(zstd::Decoder::new(&file[..]).unwrap()), (vec![(position, time, events)], None));
}

#[test]
fn a_text_longer_than_a_reader_takes_is_cut() {
    let (position, time, events) = define(0, "X");
    let Event::Instrument(definition) = &events[0] else { panic!("{events:?}") };
    let long = |name: &str| {
        vec![Event::Instrument(Arc::new(Instrument { name: name.to_owned(), ..(**definition).clone() }))]
    };
    let file = write(&[(position, time, long(&"\u{e9}".repeat(MAX_TEXT)))]);
    let expected = long(&"\u{e9}".repeat(MAX_TEXT / 2));
    assert_eq!(read(zstd::Decoder::new(&file[..]).unwrap()), (vec![(position, time, expected)], None));
}

#[test]
fn a_checkpoint_that_is_too_large_is_left_out() {
    let limits = Limits { checkpoint: 100, ..Limits::default() };
    let mut writer = RecordingWriter::within(limits, Vec::new(), &RecordingHeader::default()).unwrap();
    let batch = many(1000);
    writer.append(batch.0, batch.1, &batch.2).unwrap();
    writer.checkpoint(batch.1, batch.2.clone().into_iter()).unwrap();
    assert!(!writer.wants_checkpoint(batch.1), "it is not tried again at once");
    let file = writer.finish().unwrap();
    assert_eq!(read(zstd::Decoder::new(&file[..]).unwrap()), (vec![batch], None));
    let mut there = tempfile::tempfile().unwrap();
    there.write_all(&file).unwrap();
    assert_eq!(RecordingIndex::read(&there).unwrap(), RecordingIndex::default());
}

/// Returns a byte at a time.
struct Drip<'a>(&'a [u8]);

impl Read for Drip<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let some = into.len().min(1);
        self.0.read(&mut into[..some])
    }
}
