use super::*;
use crate::feed::formats::show::show;
use dbn::encode::{DbnEncodable, EncodeRecord, dbn::Encoder};
use dbn::{FlagSet, MappingInterval, MetadataBuilder, SType, SymbolMapping, UNDEF_PRICE, UNDEF_TIMESTAMP};
use std::io::Cursor;

const DAY: u64 = 1_704_067_200_000_000_000; // 2024-01-01T00:00:00Z

fn header<T: dbn::HasRType>(rtype: u8, nanos: u64) -> RecordHeader {
    RecordHeader::new::<T>(rtype, 1, 42, DAY + nanos)
}

fn level(bid_px: i64, ask_px: i64) -> BidAskPair {
    BidAskPair { bid_px, ask_px, bid_sz: 3, ask_sz: 4, ..BidAskPair::default() }
}

fn char(letter: char) -> std::ffi::c_char {
    std::ffi::c_char::try_from(letter as u32).unwrap()
}

fn mbp1(nanos: u64, action: char, side: char, level: BidAskPair) -> Mbp1Msg {
    Mbp1Msg {
        hd: header::<Mbp1Msg>(dbn::rtype::MBP_1, nanos),
        price: 100_250_000_000,
        size: 7,
        action: char(action),
        side: char(side),
        flags: FlagSet::default(),
        depth: 0,
        ts_recv: DAY + nanos + 5,
        ts_in_delta: 0,
        sequence: 1,
        levels: [level],
    }
}

fn trade(nanos: u64, price: i64) -> TradeMsg {
    TradeMsg {
        hd: header::<TradeMsg>(dbn::rtype::MBP_0, nanos),
        price,
        size: 7,
        action: char('T'),
        side: char('N'),
        flags: FlagSet::default(),
        depth: 0,
        ts_recv: DAY + nanos,
        ts_in_delta: 0,
        sequence: 1,
    }
}

/// A file of instrument 42, which is called ESH4 on 2024-01-01 and ESM4 on the next day.
fn file<T: DbnEncodable>(schema: Schema, records: &[T]) -> Vec<u8> {
    let mut metadata = MetadataBuilder::new()
        .dataset("GLBX.MDP3".to_owned())
        .schema(Some(schema))
        .start(DAY)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .build();
    let mut start_date = metadata.start().date();
    for symbol in ["ESH4", "ESM4"] {
        let end_date = start_date.next_day().unwrap();
        let interval = MappingInterval { start_date, end_date, symbol: "42".to_owned() };
        metadata.mappings.push(SymbolMapping { raw_symbol: symbol.to_owned(), intervals: vec![interval] });
        start_date = end_date;
    }
    let mut encoder = Encoder::new(Vec::new(), &metadata).unwrap();
    encoder.encode_records(records).unwrap();
    encoder.get_ref().clone()
}

fn open(file: Vec<u8>) -> Result<Dbn, DbnError> {
    Dbn::new("x.dbn".to_owned(), Box::new(Cursor::new(file)))
}

#[track_caller]
fn check(file: Vec<u8>, expected: &[&str]) {
    assert_eq!(show(&mut open(file).unwrap()), expected);
}

#[test]
fn mbp_1_is_a_quote_a_record_with_the_trade_that_led_to_it_in_front() {
    let records = [
        mbp1(0, 'A', 'B', level(100_250_000_000, 100_500_000_000)),
        mbp1(10, 'T', 'A', level(UNDEF_PRICE, 100_500_000_000)),
    ];
    check(
        file(Schema::Mbp1, &records),
        &[
            "2024-01-01T00:00:00.000000005Z quote ESH4 100.25 x 3 / 100.5 x 4, event 2024-01-01T00:00:00Z",
            "2024-01-01T00:00:00.000000015Z trade ESH4 100.25 x 7 sell, event 2024-01-01T00:00:00.00000001Z",
            "2024-01-01T00:00:00.000000015Z quote ESH4 - x 0 / 100.5 x 4, event 2024-01-01T00:00:00.00000001Z",
        ],
    );
}

#[test]
fn tbbo_is_the_quote_that_a_trade_met_and_then_the_trade() {
    let mut record = mbp1(0, 'T', 'B', level(100_250_000_000, 100_500_000_000));
    record.hd.ts_event = UNDEF_TIMESTAMP;
    check(
        file(Schema::Tbbo, &[record]),
        &[
            "2024-01-01T00:00:00.000000005Z quote ESH4 100.25 x 3 / 100.5 x 4",
            "2024-01-01T00:00:00.000000005Z trade ESH4 100.25 x 7 buy",
        ],
    );
}

#[test]
fn an_instrument_id_has_the_symbol_of_its_day() {
    let day = 86_400_000_000_000;
    check(
        file(Schema::Trades, &[trade(0, 1_000_000_001), trade(day, -5_000_000_000), trade(2 * day, 1)]),
        &[
            "2024-01-01T00:00:00Z trade ESH4 1.000000001 x 7 none",
            "2024-01-02T00:00:00Z trade ESM4 -5 x 7 none",
            "x.dbn record 3: instrument id 42 has no symbol at 2024-01-03T00:00:00Z",
        ],
    );
}

#[test]
fn a_bad_record_is_named_and_the_next_is_read() {
    check(
        file(Schema::Trades, &[trade(0, UNDEF_PRICE), trade(1, 2_000_000_000)]),
        &["x.dbn record 1: the trade has no price", "2024-01-01T00:00:00.000000001Z trade ESH4 2 x 7 none"],
    );
}

#[test]
fn a_record_shorter_than_its_kind_is_refused() {
    let mut bytes = file(Schema::Trades, &[trade(0, 2_000_000_000)]);
    let start = bytes.len() - std::mem::size_of::<TradeMsg>();
    bytes[start] = 6; // 24 bytes
    bytes.truncate(start + 24);
    let shown = show(&mut open(bytes).unwrap());
    assert!(shown.len() == 1 && shown[0].starts_with("x.dbn record 1: "), "{shown:?}");
}

#[test]
fn a_file_cut_anywhere_is_read_up_to_there() {
    let whole = file(Schema::Trades, &[trade(0, 1_000_000_000), trade(1, 2_000_000_000)]);
    let all = show(&mut open(whole.clone()).unwrap());
    let record = std::mem::size_of::<TradeMsg>();
    for cut in 0..whole.len() {
        let left = whole.len() - cut;
        match open(whole[..cut].to_vec()) {
            Err(_) => assert!(left > 2 * record, "metadata is whole at {cut}"),
            Ok(mut feed) => {
                let read = (cut - (whole.len() - 2 * record)) / record;
                let mut expected = all[..read].to_vec();
                if !left.is_multiple_of(record) {
                    expected.push(format!("x.dbn record {}: the file breaks off in a record", read + 1));
                }
                assert_eq!(show(&mut feed), expected, "cut at {cut}");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_is_named() {
    let error = |file| open(file).err().unwrap().to_string();
    assert_eq!(
        error(file::<TradeMsg>(Schema::Mbo, &[])),
        "schema mbo is not supported: expected mbp-1, tbbo, trades, bbo-1s or bbo-1m"
    );
    let huge = b"DBN\x03\xff\xff\xff\xff";
    assert_eq!(error(huge.to_vec()), "4294967295 bytes of metadata exceed the limit of 67108864");
    assert_eq!(error(b"DBN\x03\xff\x00\x00\x00".to_vec()), "the file breaks off in its metadata");
}
