mod venues;

use super::*;
use crate::feed::formats::show::show;

fn capture(text: &str) -> ExchangeCapture {
    ExchangeCapture::new("x.gz".to_owned(), Box::new(std::io::Cursor::new(text.to_owned())), false)
}

#[track_caller]
fn check(text: &str, expected: &[&str], left_out: u64) {
    let mut feed = capture(text);
    assert_eq!(show(&mut feed), expected);
    assert_eq!(feed.left_out(), left_out);
}

const SPOT_QUOTE: &str = r#"1723161254087891268 {"stream":"btcusdt@bookTicker","data":{"u":5,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}"#;
const SPOT_TRADE: &str = r#"1723161254087896568 {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":37,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#;
const FUTURES_QUOTE: &str = r#"1723161255088169167 {"stream":"btcusdt@bookTicker","data":{"e":"bookTicker","u":51,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256314}}"#;
const FUTURES_TRADE: &str = r#"1723161255088176367 {"stream":"btcusdt@trade","data":{"e":"trade","E":1723161256322,"T":1723161256321,"s":"BTCUSDT","t":52,"p":"61800.30","q":"0.006","X":"MARKET","m":false}}"#;

#[test]
fn quotes_and_trades_keep_both_clocks_as_recorded() {
    check(
        &[SPOT_QUOTE, SPOT_TRADE, FUTURES_QUOTE, FUTURES_TRADE].join("\n"),
        &[
            "2024-08-08T23:54:14.087891268Z quote BTCUSDT 61837.63 x 3.78826 / 61837.64 x 1.54698",
            "2024-08-08T23:54:14.087896568Z trade BTCUSDT 61837.63 x 0.02 sell, \
             event 2024-08-08T23:54:15.342Z",
            "2024-08-08T23:54:15.088169167Z quote BTCUSDT 61800.2 x 2.507 / 61800.3 x 2.51, \
             event 2024-08-08T23:54:16.313Z",
            "2024-08-08T23:54:15.088176367Z trade BTCUSDT 61800.3 x 0.006 buy, \
             event 2024-08-08T23:54:16.321Z",
        ],
        0,
    );
}

#[test]
fn other_messages_are_counted_and_skipped() {
    let others = [
        r#"1 {"lastUpdateId":5,"bids":[["1","2"]],"asks":[]}"#,
        r#"2 {"stream":"btcusdt@depth@100ms","data":{"b":[],"a":[]}}"#,
        r#"3 {"result":null,"id":1}"#,
        r#"4 {"stream":"btcusdt@trade","data":{"s":"A","p":"0","q":"0","T":1,"m":true,"X":"NA"}}"#,
    ];
    check(&others.join("\n"), &[], 4);
}

#[test]
fn an_empty_side_is_written_as_price_zero() {
    let line =
        r#"1000000000 {"stream":"a@bookTicker","data":{"s":"A","b":"0.00","B":"0.00","a":"2","A":"1"}}"#;
    check(line, &["1970-01-01T00:00:01Z quote A - x 0 / 2 x 1"], 0);
}

#[test]
fn a_bad_line_is_named_and_the_next_is_read() {
    let bad = |line: &str, reason: &str| {
        let expected = format!("x.gz line 1: {reason}");
        check(&format!("{line}\n{SPOT_TRADE}\n"), &[&expected, &show(&mut capture(SPOT_TRADE))[0]], 0);
    };
    bad(
        "noon {}",
        "expected a time of arrival in ns, a blank, and a JSON message (or in seconds, with a colon)",
    );
    bad("1", "expected a time of arrival in ns, a blank, and a JSON message (or in seconds, with a colon)");
    bad("1 {\"stream\":", "EOF while parsing a value at line 1 column 10");
    let trade =
        |fields: &str| format!(r#"1 {{"stream":"a@trade","data":{{"s":"A","T":1,"m":true,{fields}}}}}"#);
    bad(&trade(r#""p":"x","q":"1""#), "\"x\" is no decimal number");
    bad(&trade(r#""p":"1","q":"-1""#), "-1 is a negative size");
    bad(&trade(r#""p":"1""#), "missing field `q` at line 1 column 32");
}

/// The output of a session with depth requested, or with depth only.
#[track_caller]
fn check_session(best_quotes: bool, lines: &[&str], expected: &[&str]) {
    let input = Box::new(std::io::Cursor::new(lines.join("\n")));
    let mut feed = ExchangeCapture::new("x".to_owned(), input, best_quotes);
    assert_eq!(show(&mut feed), expected);
}

#[test]
fn cryptofeed_lines_are_told_from_what_the_client_sent() {
    assert!(is_capture("wss://ws.kraken.com <-> 1618678132.368463"));
    assert!(is_capture("wss://ws.kraken.com <- 1618678132.83097: {\"event\":\"subscribe\"}"));
    assert!(is_capture("1618678142.592855: [993,[],\"trade\",\"XMR/USD\"]"));
    assert!(!is_capture("wss://ws.kraken.com -> 1618678132.368463"));
    assert!(!is_capture("1618678142.592855 {}"));
    assert!(!is_capture("noon: {}"));
    assert!(!is_capture("1.5: none"));
}

#[test]
fn coinbase_names_the_makers_side_and_starts_with_the_last_trade() {
    check_session(
        false,
        &[
            "wss://ws-feed.pro.coinbase.com <-> 1.8434298",
            r#"wss://c <- 1.9: {"type":"subscribe","channels":["ticker"]}"#,
            r#"2.0000001: {"type":"snapshot","product_id":"BAND-GBP","bids":[["9","1"]],"asks":[]}"#,
            r#"2.5: {"type":"ticker","product_id":"BAND-GBP","price":"14.7775","best_bid":"14.7550","best_ask":"14.8060","time":"1970-01-01T00:00:01.244075Z"}"#,
            r#"3: {"type":"last_match","trade_id":8,"side":"sell","size":"0.04","price":"14.7775","product_id":"BAND-GBP","time":"1970-01-01T00:00:01Z"}"#,
            r#"4.25: {"type":"match","trade_id":9,"side":"buy","size":"1","price":"14.7","product_id":"BAND-GBP","time":"1970-01-01T00:00:04.25Z"}"#,
            r#"5: {"type":"match","trade_id":9,"side":"hold","size":"1","price":"14.7","product_id":"BAND-GBP","time":"1970-01-01T00:00:04.25Z"}"#,
            "",
        ],
        &[
            "1970-01-01T00:00:02.5Z quote BAND-GBP 14.755 x 0 / 14.806 x 0, event 1970-01-01T00:00:01.244075Z",
            "1970-01-01T00:00:03Z trade BAND-GBP 14.7775 x 0.04 buy, event 1970-01-01T00:00:01Z",
            "1970-01-01T00:00:04.25Z trade BAND-GBP 14.7 x 1 sell",
            "x line 7: side \"hold\" is neither buy nor sell",
        ],
    );
}

const COINBASE_DEPTH: &[&str] = &[
    r#"1: {"type":"l2update","product_id":"A-B","changes":[["buy","99","1"]],"time":"1970-01-01T00:00:01Z"}"#,
    r#"2: {"type":"snapshot","product_id":"A-B","bids":[["9","1"],["8","2"]],"asks":[["11","1"]]}"#,
    r#"3: {"type":"l2update","product_id":"A-B","changes":[["buy","9","0"],["sell","10.5","3"]],"time":"1970-01-01T00:00:02Z"}"#,
    r#"4: {"type":"l2update","product_id":"A-B","changes":[["buy","7","1"]],"time":"1970-01-01T00:00:03Z"}"#,
    r#"5: {"type":"ticker","product_id":"A-B","best_bid":"8","best_ask":"10.5"}"#,
];

#[test]
fn depth_is_folded_where_there_is_no_stream_of_quotes_or_where_asked() {
    let folded = [
        "1970-01-01T00:00:02Z quote A-B 9 x 1 / 11 x 1",
        "1970-01-01T00:00:03Z quote A-B 8 x 2 / 10.5 x 3, event 1970-01-01T00:00:02Z",
    ];
    check_session(true, COINBASE_DEPTH, &folded);
    check_session(false, &COINBASE_DEPTH[..4], &folded);
    let sent = r#"wss://c <- 0.5: {"type":"subscribe","channels":["ticker"]}"#;
    let quotes = ["1970-01-01T00:00:05Z quote A-B 8 x 0 / 10.5 x 0"];
    check_session(false, &[&[sent], COINBASE_DEPTH].concat(), &quotes);
}

#[test]
fn a_new_connection_forgets_the_books_of_the_old_one() {
    let mut lines = COINBASE_DEPTH[..2].to_vec();
    lines.extend(["wss://c <-> 2.5", COINBASE_DEPTH[2]]);
    let quotes =
        ["1970-01-01T00:00:02Z quote A-B 9 x 1 / 11 x 1", "1970-01-01T00:00:02.5Z quote A-B - x 0 / - x 0"];
    check_session(false, &lines, &quotes);
}

#[test]
fn kraken_arrays_are_read_from_their_end() {
    check_session(
        false,
        &[
            r#"1: {"event":"heartbeat"}"#,
            r#"2: [993,[["354.11","0.89594024","1.557535","s","l",""],["354.2","1","1.6","b","m",""]],"trade","XMR/USD"]"#,
            r#"3: [996,{"a":["355.24",27,"27.19106411"],"b":["354.32",6,"6.87748868"],"c":["355.23","1.2"]},"ticker","XMR/USD"]"#,
            r#"4: [996,["354.3","355","3.5","1","2"],"spread","XMR/USD"]"#,
            r#"5: [993,[["354.11","0.89594024"]],"trade","XMR/USD"]"#,
            r#"6: ["trade","XMR/USD"]"#,
            r#"7: [5,{"a":["355.24"]},"ohlc-5","XMR/USD"]"#,
        ],
        &[
            "1970-01-01T00:00:02Z trade XMR/USD 354.11 x 0.89594024 sell, event 1970-01-01T00:00:01.557535Z",
            "1970-01-01T00:00:02Z trade XMR/USD 354.2 x 1 buy, event 1970-01-01T00:00:01.6Z",
            "1970-01-01T00:00:03Z quote XMR/USD 354.32 x 6.87748868 / 355.24 x 27.19106411",
            "1970-01-01T00:00:04Z quote XMR/USD 354.3 x 1 / 355 x 2, event 1970-01-01T00:00:03.5Z",
            "x line 5: a trade has fewer than 4 values",
            "x line 6: expected an array of channel, payload, channel name and pair",
        ],
    );
}

#[test]
fn a_kraken_book_is_checked_by_its_checksum() {
    // After the update: asks 0.05005 x 1.00, bids 0.05000 x 2.00; what is beyond two levels is gone.
    let mut crc = flate2::Crc::new();
    crc.update(b"50051005000200");
    let update = |checksum: u32| {
        format!(
            r#"3: [1,{{"a":[["0.05010","0","2.5"]]}},{{"b":[["0.05000","2.00","2.6"]],"c":"{checksum}"}},"book-2","X/Y"]"#
        )
    };
    let (right, wrong) = (update(crc.sum()), update(7));
    let snapshot = r#"2: [1,{"as":[["0.05005","1.00","1.5"],["0.05010","1.00","1.6"],["0.05020","1.00","1.6"]],"bs":[["0.05000","1.00","1.7"]]},"book-2","X/Y"]"#;
    check_session(
        false,
        &[snapshot, &right, &wrong, &right],
        &[
            "1970-01-01T00:00:02Z quote X/Y 0.05 x 1 / 0.05005 x 1, event 1970-01-01T00:00:01.7Z",
            "1970-01-01T00:00:03Z quote X/Y 0.05 x 2 / 0.05005 x 1, event 1970-01-01T00:00:02.6Z",
            "1970-01-01T00:00:03Z quote X/Y - x 0 / - x 0",
            "x line 3: X/Y: the checksum does not match: its book is unknown until the next snapshot",
        ],
    );
}

#[test]
fn bitstamp_trades_and_whole_books_are_read_and_changes_left_out() {
    check_session(
        false,
        &[
            r#"1: {"event":"bts:subscription_succeeded","channel":"live_trades_ethusd","data":{}}"#,
            r#"2: {"data":{"id":2,"timestamp":"1","amount":0.0792,"amount_str":"0.07920000","price":3805.44,"price_str":"3805.44","type":0,"microtimestamp":"1596000"},"channel":"live_trades_ethusd","event":"trade"}"#,
            r#"3: {"data":{"timestamp":"1","microtimestamp":"1700000","bids":[["1.15979","993.02588113"]],"asks":[]},"channel":"diff_order_book_bateur","event":"data"}"#,
            r#"4: {"data":{"timestamp":"1","microtimestamp":"1800000","bids":[["1.1","9"]],"asks":[["1.2","8"]]},"channel":"order_book_bateur","event":"data"}"#,
            r#"5: {"data":{"amount_str":"1","price_str":"1","type":2,"microtimestamp":"1"},"channel":"live_trades_ethusd","event":"trade"}"#,
        ],
        &[
            "1970-01-01T00:00:02Z trade ethusd 3805.44 x 0.0792 buy, event 1970-01-01T00:00:01.596Z",
            "1970-01-01T00:00:04Z quote bateur 1.1 x 9 / 1.2 x 8, event 1970-01-01T00:00:01.8Z",
            "x line 5: side \"2\" is neither buy nor sell",
        ],
    );
}

#[test]
fn bitmex_prices_with_an_exponent_are_exact() {
    check_session(
        false,
        &[
            r#"1: {"table":"quote","action":"partial","data":[{"timestamp":"1970-01-01T00:00:01Z","symbol":"X","bidSize":15,"bidPrice":3.5e-7,"askPrice":null}]}"#,
            r#"2: {"table":"trade","action":"insert","data":[{"timestamp":"1970-01-01T00:00:01Z","symbol":"X","side":"Sell","size":3,"price":1.6425E-6},{"timestamp":"1970-01-01T00:00:02Z","symbol":"Y","side":"Buy","size":1,"price":32175}]}"#,
            r#"3: {"table":"trade","action":"insert","data":[{"timestamp":"1970-01-01T00:00:01Z","symbol":"X","side":"Sell","size":3,"price":"x"}]}"#,
            r#"4: {"table":"instrument","action":"update","data":[{"symbol":"X"}]}"#,
        ],
        &[
            "1970-01-01T00:00:01Z quote X 0.00000035 x 15 / - x 0",
            "1970-01-01T00:00:02Z trade X 0.0000016425 x 3 sell, event 1970-01-01T00:00:01Z",
            "1970-01-01T00:00:02Z trade Y 32175 x 1 buy",
            "x line 3: \"\\\"x\\\"\" is no decimal number",
        ],
    );
}

#[test]
fn a_bitmex_book_is_its_numbered_levels() {
    let message = |second: u8, action: &str, rows: &str| {
        format!(r#"{second}: {{"table":"orderBookL2","action":"{action}","data":[{rows}]}}"#)
    };
    let lines = [
        message(1, "update", r#"{"symbol":"X","id":1,"side":"Buy","size":9}"#),
        message(
            2,
            "partial",
            r#"{"symbol":"X","id":1,"side":"Buy","size":9,"price":10},{"symbol":"X","id":2,"side":"Sell","size":8,"price":11}"#,
        ),
        message(3, "update", r#"{"symbol":"X","id":1,"side":"Buy","size":5}"#),
        message(4, "insert", r#"{"symbol":"X","id":3,"side":"Sell","size":1,"price":10.5}"#),
        message(5, "delete", r#"{"symbol":"X","id":1,"side":"Buy"}"#),
        message(6, "update", r#"{"symbol":"X","id":7,"side":"Buy","size":5}"#),
        message(7, "delete", r#"{"symbol":"X","id":2,"side":"Sell"}"#),
    ];
    check_session(
        false,
        &lines.each_ref().map(String::as_str),
        &[
            "1970-01-01T00:00:02Z quote X 10 x 9 / 11 x 8",
            "1970-01-01T00:00:03Z quote X 10 x 5 / 11 x 8",
            "1970-01-01T00:00:04Z quote X 10 x 5 / 10.5 x 1",
            "1970-01-01T00:00:05Z quote X - x 0 / 10.5 x 1",
            "1970-01-01T00:00:06Z quote X - x 0 / - x 0",
            "x line 6: X: level 7 is not known: its book is unknown until the next snapshot",
        ],
    );
}

fn depth(ms: u32, (first, last): (u64, u64), bids: &str, asks: &str) -> String {
    format!(
        r#"{ms}000000 {{"stream":"a@depth@100ms","data":{{"e":"depthUpdate","E":{ms},"s":"A","U":{first},"u":{last},"b":[{bids}],"a":[{asks}]}}}}"#
    )
}

#[test]
fn a_binance_book_starts_at_its_snapshot_and_what_came_before_is_not_lost() {
    let snapshot = r#"3000000 {"lastUpdateId":15,"bids":[["10","1"]],"asks":[["12","1"],["11","0"]]}"#;
    let lines = [
        &depth(1, (8, 12), r#"["10","7"]"#, ""),
        &depth(2, (13, 18), r#"["10","2"]"#, ""),
        snapshot,
        &depth(4, (19, 20), "", r#"["11","3"]"#),
        r#"5000000 {"stream":"a@bookTicker","data":{"s":"A","b":"1","B":"1","a":"2","A":"1"}}"#,
        &depth(6, (22, 23), "", r#"["10.5","3"]"#),
        &depth(7, (24, 25), "", r#"["10.6","3"]"#),
        &snapshot.replace("3000000", "8000000").replace("15", "25"),
    ];
    check_session(
        true,
        &lines,
        &[
            "1970-01-01T00:00:00.003Z quote A 10 x 2 / 12 x 1",
            "1970-01-01T00:00:00.004Z quote A 10 x 2 / 11 x 3",
            "1970-01-01T00:00:00.006Z quote A - x 0 / - x 0",
            "x line 6: A: depth updates are missing between 20 and 22: its book is unknown until the next snapshot",
            "1970-01-01T00:00:00.008Z quote A 10 x 1 / 12 x 1",
        ],
    );
    check_session(false, &lines, &["1970-01-01T00:00:00.005Z quote A 1 x 1 / 2 x 1"]);
}
