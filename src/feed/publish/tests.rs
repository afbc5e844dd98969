use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use rmp::encode as mp;

/// An event in words, as it is applied to a new tape at second 9.
fn show(published: Published) -> String {
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    let arrival = Timestamp::from_nanos(9_000_000_000);
    if let Err(error) = published.apply(arrival, &mut instruments, &mut out) {
        return error.to_string();
    }
    let x = |id: InstrumentId| instruments.get(id).unwrap();
    let price = |price: Price, id| {
        price
            .to_decimal(x(id).price_scale)
            .map_or_else(|| "-".to_owned(), |price| price.normalize().to_string())
    };
    let size = |size: crate::market::Size, id| size.to_decimal(x(id).size_scale).normalize();
    match out.pop() {
        Some(Event::Quote(id, quote)) => {
            assert_eq!(quote.ts_recv, arrival);
            let [bid, ask] = [quote.bid, quote.ask].map(|side| price(side, id));
            let [bid_size, ask_size] = [quote.bid_size, quote.ask_size].map(|side| size(side, id));
            format!("{} quote {} {bid} x {bid_size} / {ask} x {ask_size}", quote.ts_event, x(id).symbol)
        }
        Some(Event::Trade(id, trade)) => {
            assert_eq!(trade.ts_recv, arrival);
            let (symbol, price, size) = (&x(id).symbol, price(trade.price, id), size(trade.size, id));
            let conditions = trade.conditions.as_str();
            format!("{} trade {symbol} {price} x {size} {} {conditions:?}", trade.ts_event, trade.side)
        }
        Some(Event::Status(id, status)) => {
            let symbol = id.map_or("market", |id| x(id).symbol.as_str());
            format!("{} {symbol} is {}", status.ts_event, status.state)
        }
        Some(Event::Instrument(x)) => {
            let (tick, close) = (x.tick_size_decimal(), x.previous_close.to_decimal(x.price_scale));
            let close = close.map_or_else(|| "-".to_owned(), |close| close.to_string());
            let scales = format!("{} {}", x.price_scale, x.size_scale);
            format!(
                "{} {:?} {:?} {:?} {scales} tick {tick} close {close}",
                x.symbol, x.name, x.sector, x.currency
            )
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check(line: &str, expected: &str) {
    assert_eq!(parse_json_line(line).map_or_else(|error| error.to_string(), show), expected);
}

#[test]
fn a_quote_states_both_sides() {
    let all = r#"{"type":"quote","symbol":"X","bid":"1.20","bid_size":3,"ask":1.3,"ask_size":"0.5","ts_event":"2024-01-01T00:00:00Z"}"#;
    check(all, "2024-01-01T00:00:00Z quote X 1.2 x 3 / 1.3 x 0.5");
    let arrival = "1970-01-01T00:00:09Z";
    check(r#"{"type":"quote","symbol":"X","bid":null,"ask":2}"#, &format!("{arrival} quote X - x 0 / 2 x 0"));
    check(r#"{"type":"quote","symbol":"X","bid_size":3}"#, &format!("{arrival} quote X - x 0 / - x 0"));
}

#[test]
fn numbers_keep_their_digits_whatever_a_float_would_make_of_them() {
    let trade = |price: &str, expected: &str| {
        let line =
            format!(r#"{{"type":"trade","symbol":"X","price":{price},"size":1,"ts_event":1704067200123}}"#);
        check(&line, &format!("2024-01-01T00:00:00.123Z trade X {expected} x 1 none \"\""));
    };
    trade("0.1", "0.1");
    trade("45035996273704.95", "45035996273704.95");
    trade("\"0.1234567891\"", "0.1234567891");
    trade("3.5e-7", "0.00000035");
    trade("-37.63", "-37.63");
}

#[test]
fn a_trade_has_a_side_and_conditions() {
    check(
        r#"{"type":"trade","symbol":"X","price":1,"size":2,"side":"sell","conditions":"F I"}"#,
        "1970-01-01T00:00:09Z trade X 1 x 2 sell \"F I\"",
    );
}

#[test]
fn a_status_is_of_the_market_or_of_an_instrument() {
    check(r#"{"type":"status","state":"halted"}"#, "1970-01-01T00:00:09Z market is halted");
    check(r#"{"type":"status","symbol":"X","state":"open","ts_event":7}"#, "1970-01-01T00:00:07Z X is open");
}

#[test]
fn a_definition_has_the_scale_of_its_steps() {
    check(
        r#"{"type":"instrument","symbol":"X","name":"Xenon","sector":"gas","currency":"USD","tick_size":0.25,"previous_close":"10.5"}"#,
        r#"X "Xenon" "gas" "USD" 2 0 tick 0.25 close 10.50"#,
    );
    check(
        r#"{"type":"instrument","symbol":"X","tick_size":5,"size_scale":3}"#,
        r#"X "" "" "" 0 3 tick 5 close -"#,
    );
    check(r#"{"type":"instrument","symbol":"X","price_scale":4}"#, r#"X "" "" "" 4 0 tick 0.0001 close -"#);
}

#[test]
fn a_later_definition_changes_only_what_it_states() {
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    for line in [
        r#"{"type":"instrument","symbol":"X","name":"Xenon","tick_size":0.25}"#,
        r#"{"type":"trade","symbol":"X","price":10.125,"size":1}"#,
        r#"{"type":"instrument","symbol":"X","sector":"gas","previous_close":9}"#,
    ] {
        parse_json_line(line).unwrap().apply(Timestamp::default(), &mut instruments, &mut out).unwrap();
    }
    let x = instruments.by_symbol("X").unwrap();
    assert_eq!((x.name.as_str(), x.sector.as_str(), x.price_scale), ("Xenon", "gas", 3));
    assert_eq!((x.tick_size, x.anchor, x.previous_close), (250, Price::new(10_125), Price::new(9_000)));
}

#[test]
fn what_is_unknown_is_told_with_the_nearest_name() {
    check(r#"{"type":"qoute","symbol":"X"}"#, "unknown type \"qoute\": did you mean \"quote\"?");
    check(
        r#"{"type":"trade","symbol":"X","prize":1,"size":1}"#,
        "unknown field \"prize\" of a trade: did you mean \"price\"?",
    );
    check(
        r#"{"type":"quote","symbol":"X","bidSize":1}"#,
        "unknown field \"bidSize\" of a quote: did you mean \"bid_size\"?",
    );
}

#[test]
fn what_is_wrong_is_told_by_its_field() {
    let trade = |fields: &str, expected| check(&format!(r#"{{"type":"trade",{fields}}}"#), expected);
    trade(r#""price":1,"size":1"#, "symbol is missing");
    trade(r#""symbol":"X","size":1"#, "price is missing");
    trade(r#""symbol":"X","price":1"#, "size is missing");
    trade(r#""symbol":"A ","price":1"#, "symbol: symbol \"A \" contains ' ', which a symbol must not");
    trade(r#""symbol":7,"price":1"#, "symbol: expected text, got a number");
    trade(r#""symbol":"X","price":true"#, "price: expected a number, got a boolean");
    trade(r#""symbol":"X","price":[1]"#, "price: expected a number, got a nested value");
    trade(r#""symbol":"X","price":"dear""#, "price: \"dear\" is no decimal number");
    trade(r#""symbol":"X","price":1,"size":-1"#, "X: -1 is a negative size");
    trade(r#""symbol":"X","price":1,"size":1e20"#, "X: 100000000000000000000 is no size below 10^20");
    trade(
        r#""symbol":"X","price":1,"size":1,"side":"hold""#,
        "side: unknown side \"hold\": expected one of buy, sell, none",
    );
    trade(
        r#""symbol":"X","price":1,"size":1,"tape":"D""#,
        "tape: A, B or C, or cta, utp, or us where it may be either",
    );
    trade(
        r#""symbol":"X","price":1,"size":1,"ts_event":1e30"#,
        "ts_event: expected seconds, ms, us or ns since 1970",
    );
    trade(r#""symbol":"X","symbol":"Y""#, "field \"symbol\" stands twice");
    check(
        "{}",
        "type is missing: expected one of quote, trade, status, instrument, cancel, correct, \
         message, state",
    );
    check(r#"{"type":"instrument","symbol":"X","sector":"A b"}"#, "sector: expected a lower-case word");
    check(r#"{"type":"instrument","symbol":"X","tick_size":0}"#, "tick_size: must be above 0");
    check(
        r#"{"type":"instrument","symbol":"X","price_scale":1.5}"#,
        "price_scale: expected a whole number from 0 to 18",
    );
    check("[1]", "an array: send one event a line, without brackets around them and commas between");
    check("7", "no JSON object: invalid type: integer `7`, expected a map of fields at line 1 column 1");
    let deep = format!(r#"{{"type":{}"#, "[".repeat(60_000));
    assert!(parse_json_line(&deep).unwrap_err().to_string().starts_with("no JSON object: "));
    let long = format!("{{\"type\":\"{}\"}}", "x".repeat(MAX_EVENT_BYTES));
    check(&long, "event of 65547 bytes exceeds the limit of 65536");
    let many: Vec<_> = (0..17).map(|n| format!("\"f{n}\":1")).collect();
    check(&format!("{{{}}}", many.join(",")), "17 fields exceed the limit of 16");
}

#[track_caller]
fn check_all(Parsed { events, mut rejected }: Parsed, expected: &[&str], expected_errors: &[&str]) {
    assert_eq!(events.into_iter().map(|(_, event)| show(event)).collect::<Vec<_>>(), expected);
    let errors: Vec<_> =
        rejected.first().iter().map(|error| format!("{}: {}", error.line, error.reason)).collect();
    assert_eq!(errors, expected_errors);
}

const HALTED: &str = "1970-01-01T00:00:09Z market is halted";

#[test]
fn good_lines_go_through_and_each_bad_one_is_told_by_its_number() {
    let body = b"{\"type\":\"status\",\"state\":\"halted\"}\r\n\n{\"type\":\"status\"}\n\xff\n{\"type\":\"status\",\"state\":\"halted\"}";
    check_all(parse_ndjson(body), &[HALTED, HALTED], &["3: state is missing", "4: line is not UTF-8 text"]);
    check_all(parse_ndjson(b""), &[], &[]);
}

/// A map of `type` and fields that `put` writes.
fn map(kind: &str, fields: u32, put: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut to = Vec::new();
    mp::write_map_len(&mut to, fields + 1).unwrap();
    mp::write_str(&mut to, "type").unwrap();
    mp::write_str(&mut to, kind).unwrap();
    put(&mut to);
    to
}

fn text(to: &mut Vec<u8>, key: &str, value: &str) {
    mp::write_str(to, key).unwrap();
    mp::write_str(to, value).unwrap();
}

fn halted() -> Vec<u8> {
    map("status", 1, |to| text(to, "state", "halted"))
}

fn trade() -> Vec<u8> {
    map("trade", 4, |to| {
        text(to, "symbol", "X");
        mp::write_str(to, "price").unwrap();
        mp::write_f64(to, 0.1).unwrap();
        mp::write_str(to, "size").unwrap();
        mp::write_f32(to, 2.3).unwrap();
        mp::write_str(to, "ts_event").unwrap();
        mp::write_uint(to, 1_704_067_200_000_000_001).unwrap();
    })
}

#[test]
fn messagepack_comes_as_a_map_an_array_or_one_after_the_other() {
    let traded = "2024-01-01T00:00:00.000000001Z trade X 0.1 x 2.3 none \"\"";
    check_all(parse_msgpack(&trade()), &[traded], &[]);
    check_all(parse_msgpack(&[trade(), halted()].concat()), &[traded, HALTED], &[]);
    check_all(parse_msgpack(&[vec![0x92], trade(), halted()].concat()), &[traded, HALTED], &[]);
    check_all(parse_msgpack(&[]), &[], &[]);
    check_all(parse_msgpack(&[0x90]), &[], &[]);
}

#[test]
fn a_bad_map_is_told_and_the_next_one_is_read() {
    let nested = map("status", 1, |to| {
        mp::write_str(to, "state").unwrap();
        to.extend([0x91, 0x81, 0xa1, b'k', 0x07]);
    });
    check_all(
        parse_msgpack(&[halted(), nested, vec![0x07], halted()].concat()),
        &[HALTED, HALTED],
        &[
            "2: state: expected text, got a nested value",
            "3: no MessagePack map: invalid type: integer `7`, expected a map of fields",
        ],
    );
    let nan = map("quote", 2, |to| {
        text(to, "symbol", "X");
        mp::write_str(to, "bid").unwrap();
        mp::write_f64(to, f64::NAN).unwrap();
    });
    check_all(parse_msgpack(&nan), &[], &["1: bid: \"NaN\" is no decimal number"]);
}

#[test]
fn messagepack_that_breaks_its_own_framing_ends_there() {
    let broken = "MessagePack breaks off or nests too deeply here";
    let half = halted();
    let body = [halted(), half[..half.len() - 1].to_vec()].concat();
    check_all(parse_msgpack(&body), &[HALTED], &[&format!("2: {broken}")]);
    check_all(
        parse_msgpack(&[vec![0x93], halted()].concat()),
        &[HALTED],
        &["2: the array ends after 1 of 3 events"],
    );
    check_all(parse_msgpack(&[0x91; 100]), &[], &[&format!("1: {broken}")]);
    // A map that says it has four billion entries.
    check_all(parse_msgpack(&[0xdf, 0xff, 0xff, 0xff, 0xff]), &[], &[&format!("1: {broken}")]);
}

/// Any outside input is either refused or gives exactly one event, after its definitions.
fn apply_all(parsed: Parsed) {
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    for (_, event) in parsed.events {
        out.clear();
        let is_definition = matches!(event, Published::Instrument(_));
        let applied = event.apply(Timestamp::default(), &mut instruments, &mut out);
        let events = out.iter().filter(|event| !matches!(event, Event::Instrument(_))).count();
        assert_eq!(events, usize::from(applied.is_ok() && !is_definition));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        apply_all(parse_ndjson(&bytes));
        apply_all(parse_msgpack(&bytes));
    }

    #[test]
    fn any_text_in_place_of_a_number_is_taken_or_refused(
        price in "-?[0-9]{0,12}[.]?[0-9]{0,20}(e-?[0-9]{1,10})?", size in "[0-9.e-]{1,9}", tick in "[0-9.]{1,9}"
    ) {
        let trade = format!(r#"{{"type":"trade","symbol":"X","price":"{price}","size":"{size}"}}"#);
        let definition =
            format!(r#"{{"type":"instrument","symbol":"X","tick_size":"{tick}","previous_close":"{price}"}}"#);
        apply_all(parse_ndjson(format!("{trade}\n{definition}\n{trade}").as_bytes()));
    }
}

#[test]
fn a_definition_whose_scale_could_not_hold_what_is_there_is_refused() {
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    let mut publish = |line: &str| {
        let event = parse_json_line(line).unwrap();
        event.apply(Timestamp::default(), &mut instruments, &mut out).map_err(|error| error.to_string())
    };
    publish(r#"{"type":"trade","symbol":"X","price":20000000000,"size":1}"#).unwrap();
    assert_eq!(
        publish(r#"{"type":"instrument","symbol":"X","price_scale":18}"#),
        Err("scale: X has numbers that such a scale cannot hold".to_owned())
    );
}

/// The result of an event of an unknown symbol, and the symbols known then.
#[track_caller]
fn check_unknown(line: &str, expected: Result<(), &str>) {
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    let applied = parse_json_line(line).unwrap().apply(Timestamp::default(), &mut instruments, &mut out);
    assert_eq!(applied.map_err(|error| error.to_string()), expected.map_err(str::to_owned));
    assert_eq!(instruments.len(), usize::from(expected.is_ok()), "what is refused makes no symbol: {line}");
    assert_eq!(out.is_empty(), expected.is_err(), "nor anything on the tape: {out:?}");
}

#[test]
fn numbers_as_programs_write_them_are_taken_or_told_how_to_mend() {
    let trade = |price: &str| format!(r#"{{"type":"trade","symbol":"X","price":{price},"size":1}}"#);
    check_unknown(&trade("1e-08"), Ok(()));
    check_unknown(&trade("-37.63"), Ok(()));
    for (price, plain) in [
        ("0.30000000000000004", "0.3"),
        ("110.00000000000001", "110"),
        ("0.7999999999999999", "0.8"),
        ("1.2100000000000002", "1.21"),
    ] {
        let told = format!(
            "X: {price} has more than 10 decimals: if that is the noise of a binary float, round before sending \
             ({plain}); else an instrument event may ask for finer scales, up to 18 decimals"
        );
        check_unknown(&trade(price), Err(&told));
    }
    check_unknown(&trade("0.000000000012"), Ok(()));
    check_unknown(&trade("1850.123456789012345678"), Ok(()));
    check_unknown(&trade("1.2e-19"), Err("X: 0.00000000000000000012 has more than 18 decimals: round it"));
    check_unknown(&trade("1e26"), Err("X: 100000000000000000000000000 cannot be held at 2 decimals"));
    check_unknown(
        r#"{"type":"quote","symbol":"X","bid":1,"bid_size":-1,"ask":2,"ask_size":1}"#,
        Err("X: -1 is a negative size"),
    );
}

#[test]
fn of_millions_of_bad_lines_the_first_are_kept_and_the_rest_counted() {
    let mut parsed = parse_ndjson("x\n".repeat(10 * REJECTIONS_TOLD).as_bytes());
    let rejected = &mut parsed.rejected;
    assert!(rejected.kept.len() <= 2 * REJECTIONS_TOLD);
    assert_eq!((rejected.total(), rejected.counts()[0]), (10_000, 10_000));
    assert_eq!(rejected.first().len(), REJECTIONS_TOLD);
    // A later rejection of an earlier line is among the first all the same.
    rejected.push(0, PublishError::NoType);
    let lines: Vec<usize> = rejected.first().iter().map(|error| error.line).collect();
    assert_eq!((lines[0], lines[1], lines.last()), (0, 1, Some(&(REJECTIONS_TOLD - 1))));
}

#[test]
fn what_is_wrong_is_told_briefly_however_long_the_line() {
    let long = format!("\"{}\"", "x".repeat(60_000));
    let told = parse_json_line(&long).unwrap_err().to_string();
    assert!(told.starts_with("no JSON object: ") && told.chars().count() <= MAX_REASON + 1, "{told}");
}

/// What a published trade with these fields, in addition to the usual ones, counts for.
#[track_caller]
fn check_counts(fields: &str, conditions: &str, counts: &str) {
    let line = format!(r#"{{"type":"trade","symbol":"X","price":1,"size":1,{fields}}}"#);
    let Ok(Published::Trade { trade, .. }) = parse_json_line(&line) else { panic!("{line}") };
    assert_eq!(
        (trade.conditions.as_str(), trade.counts.to_string().as_str()),
        (conditions, counts),
        "{line}"
    );
}

#[test]
fn a_publisher_says_what_a_trade_counts_for_or_whose_its_conditions_are() {
    check_counts(r#""conditions":"I""#, "I", "volume high_low last");
    check_counts(r#""conditions":["@","F","I"],"tape":"C""#, "@FI", "volume");
    check_counts(r#""conditions":[" ","T"],"tape":"A""#, " T", "volume bars_high_low bars_last");
    check_counts(r#""conditions":"B","tape":"utp""#, "B", "volume high_low last");
    check_counts(r#""conditions":"M","tape":"us","counts":["volume"]"#, "M", "volume");
    check_counts(r#""counts":"volume high_low""#, "", "volume high_low");
    check_counts(r#""counts":[]"#, "", "nothing");
    check_counts(r#""conditions":[12,37]"#, "", "volume high_low last");
    check_counts(r#""conditions":"FINES","tape":"A""#, "", "volume");
}

#[test]
fn a_correction_with_more_decimals_leaves_what_it_corrects_as_it_was() {
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    for event in [
        r#"{"type":"trade","symbol":"X","id":"a","price":"1.50","size":"2","ts_event":"2024-01-02T00:00:00Z"}"#,
        r#"{"type":"correct","symbol":"X","original_id":"a","price":"1.5025","size":"2.5"}"#,
    ] {
        let published = parse_json_line(event).unwrap();
        published.apply(Timestamp::default(), &mut instruments, &mut out).unwrap();
    }
    let known = instruments.by_symbol("X").unwrap();
    let trades = out.iter().filter_map(|event| match event {
        Event::Trade(_, trade) => Some(trade),
        _ => None,
    });
    let told: Vec<_> = trades
        .skip(1)
        .map(|trade| {
            let price = trade.price.to_decimal(known.price_scale).unwrap();
            (price.to_string(), trade.size.text(known.size_scale), trade.counts.to_string())
        })
        .collect();
    let expected = [
        ("1.5000", "2.0", "volume high_low last break"),
        ("1.5025", "2.5", "volume high_low last correction"),
    ];
    assert_eq!(
        told,
        expected.map(|(price, size, counts)| (price.to_owned(), size.to_owned(), counts.to_owned()))
    );
}

#[test]
fn what_is_tried_out_comes_to_what_it_would_come_to() {
    let lines = [
        r#"{"type":"cancel","symbol":"X","id":"a"}"#,
        r#"{"type":"trade","symbol":"X","price":"1.25","size":1,"id":"a"}"#,
        r#"{"type":"trade","symbol":"Y","price":"7","size":1,"id":"b"}"#,
        r#"{"type":"cancel","symbol":"X","id":"b"}"#,
        r#"{"type":"correct","symbol":"X","original_id":"a","price":"0.30000000000000004","size":1}"#,
        r#"{"type":"cancel","symbol":"X","id":"a"}"#,
        r#"{"type":"cancel","symbol":"X","id":"a"}"#,
        r#"{"type":"trade","symbol":"X","price":"1e26","size":1}"#,
        r#"{"type":"trade","symbol":"X","price":"1","size":"9e24"}"#,
        r#"{"type":"trade","symbol":"X","price":"1","size":"9e24"}"#,
        r#"{"type":"instrument","symbol":"X","price_scale":18,"size_scale":18}"#,
        r#"{"type":"instrument","symbol":"Z","price_scale":9}"#,
        r#"{"type":"quote","symbol":"Z","bid":"1","bid_size":1,"ask":"0.123456789","ask_size":2}"#,
        r#"{"type":"quote","symbol":"Z","bid":"1e24","bid_size":1}"#,
        r#"{"type":"status","symbol":"Q","state":"halted"}"#,
        r#"{"type":"status","state":"open"}"#,
    ];
    let (mut instruments, mut out, mut refused) = (Instruments::default(), Vec::new(), 0);
    for line in lines {
        let event = parse_json_line(line).unwrap();
        let tried = event.check(Timestamp::default(), &instruments);
        let before = (instruments.len(), out.len());
        let applied = event.apply(Timestamp::default(), &mut instruments, &mut out);
        assert_eq!(tried, applied, "{line}");
        if applied.is_err() {
            refused += 1;
            assert_eq!((instruments.len(), out.len()), before, "{line}");
        }
    }
    assert!((4..12).contains(&refused), "{refused}");
}
