use super::*;
use crate::feed::formats::show::show;
use dbn::encode::{DbnEncodable, EncodeRecord, dbn::Encoder};
use dbn::{
    BidAskPair, CbboMsg, Cmbp1Msg, ConsolidatedBidAskPair, FlagSet, InstrumentDefMsg, MappingInterval,
    MboMsg, Mbp1Msg, Mbp10Msg, MetadataBuilder, RecordHeader, SType, StatusMsg, SymbolMapping,
    SymbolMappingMsg, TradeMsg, UNDEF_PRICE, UNDEF_TIMESTAMP,
};
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
fn file<T: DbnEncodable>(schema: impl Into<Option<Schema>>, records: &[T]) -> Vec<u8> {
    let mut metadata = MetadataBuilder::new()
        .dataset("GLBX.MDP3".to_owned())
        .schema(schema.into())
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
    Dbn::new("x.dbn".to_owned(), Box::new(Cursor::new(file)), false)
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
    check(
        bytes,
        &[
            "x.dbn record 1: it says to be of kind 0x00 and of 24 bytes, and such records have 48: the file cannot be read on",
        ],
    );
}

#[test]
fn a_record_that_lies_about_itself_ends_the_file_in_one_line() {
    let whole = file(Schema::Trades, &[trade(0, 1_000_000_000), trade(1, 2_000_000_000)]);
    let second = whole.len() - std::mem::size_of::<TradeMsg>();
    for (at, value, reason) in [
        (0, 0, "it says to be of 0 bytes, less than a record's header"),
        (0, 3, "it says to be of 12 bytes, less than a record's header"),
        (0, 255, "it says to be of kind 0x00 and of 1020 bytes, and such records have 48"),
        // A definition of 48 bytes, and a mapping.
        (1, 0x13, "it says to be of kind 0x13 and of 48 bytes, and such records have 520"),
        (1, 0x16, "it says to be of kind 0x16 and of 48 bytes, and such records have 176"),
    ] {
        let mut bytes = whole.clone();
        bytes[second + at] = value;
        let shown = show(&mut open(bytes).unwrap());
        assert!(shown.len() == 2 && shown[1].starts_with(&format!("x.dbn record 2: {reason}")), "{shown:?}");
    }
}

#[test]
fn records_of_the_first_version_are_read_and_those_of_another_length_refused() {
    let metadata = MetadataBuilder::new()
        .version(1)
        .dataset("GLBX.MDP3".to_owned())
        .schema(None)
        .start(DAY)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .build();
    let start = Encoder::new(Vec::new(), &metadata).unwrap().get_ref().clone();
    let mut mapping = vec![0; std::mem::size_of::<dbn::v1::SymbolMappingMsg>()];
    mapping[0] = u8::try_from(mapping.len() / 4).unwrap();
    mapping[1] = dbn::rtype::SYMBOL_MAPPING;
    mapping[4] = 42;
    mapping[38..42].copy_from_slice(b"ESH4");
    let trade = trade(0, 2_000_000_000);
    let trade: &[u8] = trade.as_ref();
    check([&start[..], &mapping, trade].concat(), &["2024-01-01T00:00:00Z trade ESH4 2 x 7 none"]);
    mapping[0] -= 1;
    check(
        [&start[..], &mapping[..mapping.len() - 4], trade].concat(),
        &[
            "x.dbn record 1: it says to be of kind 0x16 and of 76 bytes, and such records have 80: the file cannot be read on",
        ],
    );
}

#[test]
fn what_is_not_printable_in_a_file_is_not_printed() {
    let mut mapping = SymbolMappingMsg {
        hd: header::<SymbolMappingMsg>(dbn::rtype::SYMBOL_MAPPING, 0),
        ..SymbolMappingMsg::default()
    };
    mapping.stype_out_symbol[..6]
        .copy_from_slice(&"\x1b[31mX".bytes().take(6).map(u8::cast_signed).collect::<Vec<_>>());
    let mut bytes = file(None, &[mapping]);
    bytes.extend(
        &file(Schema::Trades, &[trade(3 * 86_400_000_000_000, 1)])
            [file::<TradeMsg>(Schema::Trades, &[]).len()..],
    );
    let shown = show(&mut open(bytes).unwrap());
    assert!(shown.len() == 1 && shown[0].contains(r"\u{1b}[31mX") && !shown[0].contains('\x1b'), "{shown:?}");
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
    let message = error(file::<TradeMsg>(Schema::Ohlcv1S, &[]));
    assert!(
        message.starts_with("schema ohlcv-1s holds bars, and neither quotes nor trades: expected mbp-1,"),
        "{message}"
    );
    for schema in [Schema::Statistics, Schema::Imbalance] {
        assert!(error(file::<TradeMsg>(schema, &[])).contains("neither quotes nor trades"));
    }
    let huge = b"DBN\x03\xff\xff\xff\xff";
    assert_eq!(error(huge.to_vec()), "4294967295 bytes of metadata exceed the limit of 67108864");
    assert_eq!(error(b"DBN\x03\xff\x00\x00\x00".to_vec()), "the file breaks off in its metadata");
}

fn mbo(nanos: u64, action: char, (id, side, price, size): (u64, char, i64, u32), last: bool) -> MboMsg {
    MboMsg {
        hd: header::<MboMsg>(dbn::rtype::MBO, nanos),
        order_id: id,
        price: if price == UNDEF_PRICE { price } else { price * 1_000_000_000 },
        size,
        flags: FlagSet::from(if last { 0x80 } else { 0 }),
        channel_id: 0,
        action: char(action),
        side: char(side),
        ts_recv: DAY + nanos,
        ts_in_delta: 0,
        sequence: 1,
    }
}

#[test]
fn orders_are_folded_to_their_best_prices_at_the_end_of_each_event() {
    let none = (0, 'N', UNDEF_PRICE, 0);
    let records = [
        mbo(1, 'C', (9, 'B', 50, 1), true),
        mbo(2, 'R', none, false),
        mbo(3, 'A', (1, 'B', 100, 5), false),
        mbo(4, 'A', (2, 'B', 100, 2), false),
        mbo(5, 'A', (3, 'A', 102, 4), true),
        mbo(6, 'A', (4, 'B', 99, 1), true),
        mbo(7, 'T', (0, 'A', 100, 5), false),
        mbo(7, 'F', (1, 'B', 100, 5), false),
        mbo(7, 'C', (1, 'B', 100, 5), true),
        mbo(8, 'M', (2, 'B', 101, 3), true),
        mbo(9, 'C', (7, 'B', 101, 3), true),
    ];
    check(
        file(Schema::Mbo, &records),
        &[
            "2024-01-01T00:00:00.000000005Z quote ESH4 100 x 7 / 102 x 4",
            "2024-01-01T00:00:00.000000007Z trade ESH4 100 x 5 sell",
            "2024-01-01T00:00:00.000000007Z quote ESH4 100 x 2 / 102 x 4",
            "2024-01-01T00:00:00.000000008Z quote ESH4 101 x 3 / 102 x 4",
            "x.dbn record 11: order 7 is not in the book of ESH4",
        ],
    );
}

#[test]
fn mbp_10_is_a_quote_where_the_best_level_changes() {
    let mbp10 = |nanos: u64, action: char, first: BidAskPair| {
        let mut levels = std::array::from_fn(|_| level(UNDEF_PRICE, UNDEF_PRICE));
        levels[0] = first;
        Mbp10Msg {
            hd: header::<Mbp10Msg>(dbn::rtype::MBP_10, nanos),
            price: 5_000_000_000,
            size: 7,
            action: char(action),
            side: char('B'),
            flags: FlagSet::default(),
            depth: 0,
            ts_recv: DAY + nanos,
            ts_in_delta: 0,
            sequence: 1,
            levels,
        }
    };
    let same = level(1_000_000_000, 2_000_000_000);
    check(
        file(
            Schema::Mbp10,
            &[
                mbp10(0, 'A', same.clone()),
                mbp10(1, 'A', same.clone()),
                mbp10(2, 'T', same),
                mbp10(3, 'A', level(1_500_000_000, 2_000_000_000)),
            ],
        ),
        &[
            "2024-01-01T00:00:00Z quote ESH4 1 x 3 / 2 x 4",
            "2024-01-01T00:00:00.000000002Z trade ESH4 5 x 7 buy",
            "2024-01-01T00:00:00.000000003Z quote ESH4 1.5 x 3 / 2 x 4",
        ],
    );
}

#[test]
fn consolidated_quotes_are_read_as_those_of_one_venue() {
    let level = ConsolidatedBidAskPair {
        bid_px: 1_000_000_000,
        ask_px: 2_000_000_000,
        bid_sz: 3,
        ask_sz: 4,
        bid_pb: 20,
        ask_pb: 21,
        ..ConsolidatedBidAskPair::default()
    };
    let cmbp1 = Cmbp1Msg {
        hd: header::<Cmbp1Msg>(dbn::rtype::CMBP_1, 0),
        price: 1_500_000_000,
        size: 7,
        action: char('T'),
        side: char('B'),
        ts_recv: DAY,
        levels: [level.clone()],
        ..Cmbp1Msg::default_for_schema(Schema::Cmbp1)
    };
    let (quote, trade) =
        ("2024-01-01T00:00:00Z quote ESH4 1 x 3 / 2 x 4", "2024-01-01T00:00:00Z trade ESH4 1.5 x 7 buy");
    check(file(Schema::Cmbp1, std::slice::from_ref(&cmbp1)), &[trade, quote]);
    check(file(Schema::Tcbbo, &[cmbp1]), &[quote, trade]);
    let cbbo = CbboMsg {
        hd: header::<CbboMsg>(dbn::rtype::CBBO_1S, 0),
        ts_recv: DAY,
        levels: [level],
        ..CbboMsg::default_for_schema(Schema::Cbbo1S)
    };
    check(file(Schema::Cbbo1S, &[cbbo]), &[quote]);
}

#[test]
fn quotes_of_several_publishers_are_folded_where_asked() {
    let of = |publisher: u16, nanos: u64, bid: i64, ask: i64| {
        let mut record = mbp1(nanos, 'A', 'B', level(bid * 1_000_000_000, ask * 1_000_000_000));
        record.hd.publisher_id = publisher;
        record.ts_recv = DAY + nanos;
        record
    };
    let bytes = file(Schema::Mbp1, &[of(1, 0, 10, 13), of(2, 1, 9, 12), of(2, 2, 9, 13), of(1, 3, 8, 13)]);
    let mut feed = Dbn::new("x.dbn".to_owned(), Box::new(Cursor::new(bytes)), true).unwrap();
    assert_eq!(
        show(&mut feed),
        [
            "2024-01-01T00:00:00Z quote ESH4 10 x 3 / 13 x 4",
            "2024-01-01T00:00:00.000000001Z quote ESH4 10 x 3 / 12 x 4",
            "2024-01-01T00:00:00.000000002Z quote ESH4 10 x 3 / 13 x 8",
            "2024-01-01T00:00:00.000000003Z quote ESH4 9 x 3 / 13 x 8",
        ]
    );
}

#[test]
fn status_and_definitions_say_what_they_can() {
    let status = |nanos: u64, action: u16| StatusMsg {
        hd: header::<StatusMsg>(dbn::rtype::STATUS, nanos),
        ts_recv: DAY + nanos,
        action,
        ..StatusMsg::default()
    };
    let mut feed =
        open(file(Schema::Status, &[status(0, 1), status(1, 7), status(2, 14), status(3, 8)])).unwrap();
    let states: Vec<_> =
        show(&mut feed).iter().map(|line| line.split("state: ").nth(1).unwrap().to_owned()).collect();
    assert!(
        states[0].starts_with("PreOpen") && states[1].starts_with("Open") && states[2].starts_with("Halted"),
        "{states:?}"
    );
    assert_eq!((states.len(), feed.left_out()), (3, 1));

    let mut definition = InstrumentDefMsg {
        hd: header::<InstrumentDefMsg>(dbn::rtype::INSTRUMENT_DEF, 0),
        ts_recv: DAY,
        min_price_increment: 250_000_000,
        ..InstrumentDefMsg::default()
    };
    for (slot, letter) in definition.currency.iter_mut().zip("USD".chars()) {
        *slot = char(letter);
    }
    let mut feed = open(file(Schema::Definition, &[definition])).unwrap();
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    assert!(feed.next(&mut instruments, &mut out).unwrap().is_some());
    let known = instruments.by_symbol("ESH4").unwrap();
    assert_eq!((known.tick_size_decimal().to_string(), &*known.currency), ("0.25".to_owned(), "USD"));
}

#[test]
fn a_live_session_names_its_instruments_as_it_goes() {
    let mapping =
        SymbolMappingMsg::new(7, DAY, SType::RawSymbol, "NQZ4", SType::RawSymbol, "NQZ4", DAY, DAY).unwrap();
    let mut record = trade(0, 3_000_000_000);
    record.hd.instrument_id = 7;
    let unnamed = file::<TradeMsg>(None, std::slice::from_ref(&record));
    check(unnamed, &["x.dbn record 1: instrument id 7 has no symbol at 2024-01-01T00:00:00Z"]);
    let mut named = file::<SymbolMappingMsg>(None, &[mapping]);
    let records = file::<TradeMsg>(None, &[record]);
    named.extend(&records[records.len() - std::mem::size_of::<TradeMsg>()..]);
    check(named, &["2024-01-01T00:00:00Z trade NQZ4 3 x 7 none"]);
}

#[test]
fn an_instrument_of_two_names_is_told_by_both_and_by_no_other() {
    let mut metadata = MetadataBuilder::new()
        .dataset("GLBX.MDP3".to_owned())
        .schema(Some(Schema::Trades))
        .start(DAY)
        .stype_in(Some(SType::Continuous))
        .stype_out(SType::InstrumentId)
        .build();
    let start_date = metadata.start().date();
    let next = start_date.next_day().unwrap();
    let days = [
        ("ES.c.0", start_date, next),
        ("ES.v.0", start_date, next),
        ("ES.n.0", next, next.next_day().unwrap()),
    ];
    for (symbol, start_date, end_date) in days {
        let interval = MappingInterval { start_date, end_date, symbol: "42".to_owned() };
        metadata.mappings.push(SymbolMapping { raw_symbol: symbol.to_owned(), intervals: vec![interval] });
    }
    let mut encoder = Encoder::new(Vec::new(), &metadata).unwrap();
    encoder.encode_records(&[trade(0, 1_250_000_000)]).unwrap();
    check(
        encoder.get_ref().clone(),
        &[
            "2024-01-01T00:00:00Z trade ES.v.0 1.25 x 7 none",
            "2024-01-01T00:00:00Z trade ES.c.0 1.25 x 7 none",
        ],
    );
}

#[test]
fn sizes_that_are_not_known_are_none() {
    let mut quote = mbp1(0, 'A', 'B', level(1_000_000_000, 2_000_000_000));
    quote.levels[0].bid_sz = dbn::UNDEF_ORDER_SIZE;
    let event = "event 2024-01-01T00:00:00Z";
    let expected = format!("2024-01-01T00:00:00.000000005Z quote ESH4 1 x 0 / 2 x 4, {event}");
    check(file(Schema::Mbp1, &[quote]), &[&expected]);
    let unknown = TradeMsg { size: dbn::UNDEF_ORDER_SIZE, ..trade(0, 1_000_000_000) };
    check(file(Schema::Trades, &[unknown]), &["2024-01-01T00:00:00Z trade ESH4 1 x 0 none"]);
}

#[test]
fn a_quote_of_an_interval_is_of_its_end_and_not_of_the_last_trade() {
    let bbo = dbn::BboMsg {
        hd: header::<dbn::BboMsg>(dbn::rtype::BBO_1M, 12_000_000_000),
        ts_recv: DAY + 60_000_000_000,
        levels: [level(1_000_000_000, 2_000_000_000)],
        ..dbn::BboMsg::default_for_schema(Schema::Bbo1M)
    };
    check(file(Schema::Bbo1M, &[bbo]), &["2024-01-01T00:01:00Z quote ESH4 1 x 3 / 2 x 4"]);
}

#[test]
fn a_version_that_is_not_known_is_refused_by_its_number() {
    let file = Box::new(std::io::Cursor::new(b"DBN\x04\x10\0\0\0".to_vec()));
    let refused = Dbn::new("x.dbn".to_owned(), file, false).err().expect("it is refused");
    assert_eq!(refused.to_string(), "it is of version 4 of DBN: expected 1, 2 or 3");
}
