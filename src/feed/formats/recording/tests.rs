use super::*;
use crate::feed::formats::show::show;
use crate::market::{
    Bar, BarsSnapshot, Conditions, FeedState, FeedStatus, Instrument, InstrumentId, MAX_UNITS, Price, Quote,
    Side, Size, Snapshot, Speed, Status, Symbol, Tail, Trade, TradingState,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::BTreeMap;
use std::io::Write as _;
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
    prop_oneof![Just(Price::NONE), (-MAX_UNITS..=MAX_UNITS).prop_map(Price::new)]
}

fn size() -> impl Strategy<Value = Size> {
    (0..=MAX_UNITS).prop_map(Size::new)
}

fn id() -> impl Strategy<Value = InstrumentId> {
    prop_oneof![0..3_u32, any::<u32>()].prop_map(InstrumentId)
}

fn definition() -> impl Strategy<Value = Instrument> {
    let texts = ("[!-)+?A-~]{1,64}", "\\PC{0,20}", "[a-z]{0,9}", "[A-Z]{0,4}");
    let numbers = (0..=18_u8, 0..=18_u8, 1..=MAX_UNITS, price(), price());
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
    (price(), size(), select(Side::ALL), conditions, time(), time()).prop_map(
        |(price, size, side, conditions, ts_event, ts_recv)| Trade {
            price,
            size,
            side,
            conditions,
            ts_event,
            ts_recv,
        },
    )
}

fn bar() -> impl Strategy<Value = Bar> {
    let prices = (price(), price(), price(), price()).prop_map(|(a, b, c, d)| [a, b, c, d]);
    let turnover = prop_oneof![any::<i128>(), (-9..9_i128)];
    (time(), prices, size(), any::<u64>(), turnover)
        .prop_map(|(start, prices, volume, trades, sum)| Bar::from_parts(start, prices, volume, trades, sum))
}

fn tail<T: std::fmt::Debug>(entry: impl Strategy<Value = T>) -> impl Strategy<Value = Tail<T>> {
    (any::<u64>(), vec(entry, 0..4)).prop_map(|(first, entries)| Tail { first, entries })
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
    (of(quote()), of(status), tail(any_trade()), bars(), bars(), of(bar()), price()).prop_map(
        |(quote, status, trades, bars_1s, bars_1m, day, previous_close)| Snapshot {
            quote,
            status,
            trades,
            bars_1s,
            bars_1m,
            day,
            previous_close,
        },
    )
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
    fn a_file_cut_anywhere_gives_whole_batches_and_says_once_that_it_breaks_off(
        batches in batches(), cut in any::<prop::sample::Index>()
    ) {
        let file = write(&batches);
        let cut = &file[..cut.index(file.len())];
        let (got, error) = read(zstd::Decoder::new(cut).unwrap());
        prop_assert_eq!(&got[..], &batches[..got.len()]);
        // A cut between two frames cannot be told from an end.
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
            // Prices behind it are told from the anchors that it states.
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
            let (read_header, unpacked) =
                index::open_checkpoint(file.try_clone().unwrap(), checkpoint).unwrap();
            prop_assert_eq!(&read_header, &header);
            let mut reader = RecordingReader::from_checkpoint(read_header, unpacked);
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
fn what_a_server_told_of_itself_is_not_recorded() {
    let at = Timestamp::from_micros(5);
    let status = || Event::Status(None, Status { state: TradingState::Open, ts_event: at });
    let stats = || Event::Stats(Some(Arc::default()));
    let file = write(&[(1, at, vec![stats(), status()]), (2, at, vec![stats()])]);
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
    let huge = [&[0x93, 1, 1, 0x91, 0x95, 2, 0, 0xd3][..], &i64::MIN.to_be_bytes(), &[1, 0xc0]].concat();
    check_refused(&huge, "price: expected less than 2^53 units");
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

#[test]
fn a_batch_that_no_reader_would_take_is_not_written() {
    let mut writer = RecordingWriter::new(Vec::new(), &RecordingHeader::default()).unwrap();
    let (_, time, events) = trade(0, 1, 1);
    let error = writer.append(1, time, &vec![events[0].clone(); MAX_EVENTS + 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    writer.append(2, time, &events).unwrap();
    let file = writer.finish().unwrap();
    assert_eq!(read(zstd::Decoder::new(&file[..]).unwrap()).0, [(2, time, events)]);
}

#[test]
fn a_recording_is_a_feed_that_goes_on_behind_an_undefined_instrument() {
    let batches = [define(5, "X"), trade(5, 100, 1), trade(6, 101, 2), trade(5, 102, 3)];
    let file = zstd::decode_all(&write(&batches)[..]).unwrap();
    let mut feed = Recording::new("x.tape".to_owned(), &file[..]).unwrap();
    assert_eq!(
        show(&mut feed),
        [
            "1970-01-01T00:00:01Z trade X 1 x 3 buy",
            "x.tape batch 3: instrument 6 is used before it is defined",
            "1970-01-01T00:00:03Z trade X 1.02 x 3 buy",
        ]
    );
}
