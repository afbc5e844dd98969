//! One session of each venue that has come since the first five: a trade, a quote, depth, and how it is lost.

use super::{capture, check_session};
use crate::feed::Feed;
use crate::feed::formats::show::show;

#[track_caller]
fn check(lines: &[&str], expected: &[&str]) {
    check_session(false, lines, expected);
}

/// What is left out of a session, by name.
#[track_caller]
fn check_left_out(lines: &[&str], expected: &str) {
    let mut feed = capture(&lines.join("\n"));
    show(&mut feed);
    assert_eq!(feed.left_out_by_kind().to_string(), expected);
}

#[test]
fn kraken_v2_trades_come_once_and_tickers_are_quotes() {
    let status = |second: u64, id: u64| {
        format!(
            r#"{second}000000000 {{"channel":"status","type":"update","data":[{{"connection_id":{id},"system":"online"}}]}}"#
        )
    };
    let trades = |second: u64, kind: &str, ids: &[u64]| {
        let rows: Vec<String> = ids
            .iter()
            .map(|id| {
                format!(r#"{{"symbol":"BTC/USD","side":"sell","price":37000.10,"qty":0.25,"trade_id":{id},"timestamp":"1970-01-01T00:00:01Z"}}"#)
            })
            .collect();
        format!(r#"{second}000000000 {{"channel":"trade","type":"{kind}","data":[{}]}}"#, rows.join(","))
    };
    let lines = [
        status(1, 7),
        trades(2, "snapshot", &[10, 11]),
        r#"3000000000 {"channel":"ticker","type":"update","data":[{"symbol":"BTC/USD","bid":36999.9,"bid_qty":1.2,"ask":37000.0,"ask_qty":0.8,"last":1}]}"#.to_owned(),
        status(4, 8),
        trades(5, "snapshot", &[11, 12]),
    ];
    let lines = lines.each_ref().map(String::as_str);
    let trade = |second: u64| {
        format!("1970-01-01T00:00:0{second}Z trade BTC/USD 37000.1 x 0.25 sell, event 1970-01-01T00:00:01Z")
    };
    check(
        &lines,
        &[
            &trade(2),
            &trade(2),
            "1970-01-01T00:00:03Z quote BTC/USD 36999.9 x 1.2 / 37000 x 0.8",
            "1970-01-01T00:00:04Z quote BTC/USD - x 0 / - x 0",
            &trade(5),
        ],
    );
    check_left_out(&lines, "Kraken v2 status (2), Kraken v2 trade that was told before (1)");
}

#[test]
fn a_kraken_v2_book_is_checked_by_its_checksum_also_where_a_recorder_has_dropped_zeros() {
    let book = |second: u64, kind: &str, bids: &str, asks: &str, checksum: u32| {
        format!(
            r#"{second}000000000 {{"channel":"book","type":"{kind}","data":[{{"symbol":"X/USD","bids":[{bids}],"asks":[{asks}],"checksum":{checksum}}}]}}"#
        )
    };
    // CRC-32 of 1002 50000000 1001 125000000, and of 1002 50000000 1003 100000000 1001 200000000.
    let snapshot = book(
        1,
        "snapshot",
        r#"{"price":100.1,"qty":1.25000000}"#,
        r#"{"price":100.2,"qty":0.5}"#,
        2_248_280_639,
    );
    let update =
        book(2, "update", r#"{"price":100.1,"qty":2.0}"#, r#"{"price":100.3,"qty":1.0}"#, 2_425_704_063);
    let wrong = book(3, "update", r#"{"price":100.1,"qty":3.0}"#, "", 2_425_704_063);
    check(
        &[&snapshot, &update, &wrong, &update],
        &[
            "1970-01-01T00:00:01Z quote X/USD 100.1 x 1.25 / 100.2 x 0.5",
            "1970-01-01T00:00:02Z quote X/USD 100.1 x 2 / 100.2 x 0.5",
            "1970-01-01T00:00:03Z quote X/USD - x 0 / - x 0",
            "x line 3: X/USD: the checksum does not match: its book is unknown until the next snapshot",
        ],
    );
}

/// A message of Coinbase Advanced Trade, of that second and number.
fn advanced(second: u64, number: u64, channel: &str, event: &str) -> String {
    format!(
        r#"{second}000000000 {{"channel":"{channel}","client_id":"","timestamp":"1970-01-01T00:00:0{second}Z","sequence_num":{number},"events":[{event}]}}"#
    )
}

#[test]
fn coinbase_advanced_names_the_makers_side_and_tells_old_trades_newest_first() {
    let trade = |id: u64, price: u64, side: &str| {
        format!(
            r#"{{"trade_id":"{id}","product_id":"ETH-USD","price":"{price}","size":"0.3","side":"{side}","time":"1970-01-01T00:00:00.{id}Z"}}"#
        )
    };
    let trades =
        format!(r#"{{"type":"snapshot","trades":[{},{}]}}"#, trade(5, 2001, "SELL"), trade(4, 2000, "BUY"));
    let ticker = r#"{"type":"update","tickers":[{"type":"ticker","product_id":"ETH-USD","price":"2000.10","best_bid":"2000.00","best_bid_quantity":"1","best_ask":"2000.20","best_ask_quantity":"2"}]}"#;
    let lines = [
        advanced(1, 0, "market_trades", &trades),
        advanced(2, 1, "ticker", ticker),
        advanced(3, 2, "heartbeats", "{}"),
        advanced(4, 5, "market_trades", &trades),
    ];
    check(
        &lines.each_ref().map(String::as_str),
        &[
            "1970-01-01T00:00:01Z trade ETH-USD 2000 x 0.3 sell, event 1970-01-01T00:00:00.4Z",
            "1970-01-01T00:00:01Z trade ETH-USD 2001 x 0.3 buy, event 1970-01-01T00:00:00.5Z",
            "1970-01-01T00:00:02Z quote ETH-USD 2000 x 1 / 2000.2 x 2",
            "1970-01-01T00:00:04Z quote ETH-USD - x 0 / - x 0",
            "x line 4: messages 3 to 4 are missing: all books are unknown until their next snapshots",
        ],
    );
}

#[test]
fn a_coinbase_advanced_book_is_lost_with_a_number_or_a_connection() {
    let level = |side: &str, price: &str, size: &str| {
        format!(r#"{{"side":"{side}","event_time":"x","price_level":"{price}","new_quantity":"{size}"}}"#)
    };
    let depth = |kind: &str, levels: &[String]| {
        format!(r#"{{"type":"{kind}","product_id":"A-B","updates":[{}]}}"#, levels.join(","))
    };
    let whole = depth("snapshot", &[level("bid", "9", "1"), level("offer", "11", "2")]);
    let change = depth("update", &[level("bid", "9", "0"), level("bid", "8", "4")]);
    let lines = [
        advanced(1, 0, "l2_data", &whole),
        advanced(2, 1, "l2_data", &change),
        advanced(3, 3, "l2_data", &change),
        advanced(4, 4, "l2_data", &whole),
        advanced(5, 0, "l2_data", &whole),
    ];
    let quote = |second: u64, bid: &str| format!("1970-01-01T00:00:0{second}Z quote A-B {bid} / 11 x 2");
    let empty = |second: u64| format!("1970-01-01T00:00:0{second}Z quote A-B - x 0 / - x 0");
    check(
        &lines.each_ref().map(String::as_str),
        &[
            &quote(1, "9 x 1"),
            &quote(2, "8 x 4"),
            &empty(3),
            "x line 3: messages 2 to 2 are missing: all books are unknown until their next snapshots",
            &quote(4, "9 x 1"),
            &empty(5),
            &quote(5, "9 x 1"),
        ],
    );
}

#[test]
fn okx_has_trades_and_the_best_prices() {
    check(
        &[
            r#"1000000000 {"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}"#,
            r#"2000000000 {"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","bidPx":"99","bidSz":"1","askPx":"","askSz":"","ts":"2000"}]}"#,
            r#"3000000000 {"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["100.2","1","0","1"]],"bids":[["100.1","2","0","1"]],"ts":"3000","seqId":1}]}"#,
            r#"4000000000 {"arg":{"channel":"tickers","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","bidPx":"99","bidSz":"1","askPx":"","askSz":"","ts":"2000"}]}"#,
            r#"5000000000 {"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"1","px":"100.1","sz":"0.1","side":"buy","ts":"4950"}]}"#,
        ],
        &[
            "1970-01-01T00:00:02Z quote BTC-USDT 99 x 1 / - x 0",
            "1970-01-01T00:00:03Z quote BTC-USDT 100.1 x 2 / 100.2 x 1",
            "1970-01-01T00:00:05Z trade BTC-USDT 100.1 x 0.1 buy, event 1970-01-01T00:00:04.95Z",
        ],
    );
}

#[test]
fn an_okx_book_follows_its_numbers_and_its_checksum() {
    let book = |second: u64, action: &str, (seq, previous): (i64, i64), levels: &str, checksum: i64| {
        format!(
            r#"{second}000000000 {{"arg":{{"channel":"books","instId":"X"}},"action":"{action}","data":[{{{levels},"ts":"{second}000","seqId":{seq},"prevSeqId":{previous},"checksum":{checksum}}}]}}"#
        )
    };
    let whole = r#""bids":[["100.1","2","0","1"],["100.0","5","0","1"]],"asks":[["100.2","1","0","1"]]"#;
    let change = r#""bids":[["100.1","0","0","0"]],"asks":[["100.2","1.50","0","1"]]"#;
    // CRC-32 of 100.1:2:100.2:1:100.0:5, and of 100.0:5:100.2:1.50; 0 is none.
    let snapshot = book(1, "snapshot", (5, -1), whole, -912_978_250);
    let update = book(2, "update", (9, 5), change, 1_771_040_999);
    let gap = book(3, "update", (20, 11), change, 0);
    let again = book(4, "snapshot", (30, -1), whole, 0);
    let wrong = book(5, "update", (31, 30), change, 5);
    check(
        &[&snapshot, &update, &gap, &update, &again, &wrong],
        &[
            "1970-01-01T00:00:01Z quote X 100.1 x 2 / 100.2 x 1",
            "1970-01-01T00:00:02Z quote X 100 x 5 / 100.2 x 1.5",
            "1970-01-01T00:00:03Z quote X - x 0 / - x 0",
            "x line 3: X: depth updates are missing between 9 and 11: its book is unknown until the next snapshot",
            "1970-01-01T00:00:04Z quote X 100.1 x 2 / 100.2 x 1",
            "1970-01-01T00:00:05Z quote X - x 0 / - x 0",
            "x line 6: X: the checksum does not match: its book is unknown until the next snapshot",
        ],
    );
}

#[test]
fn bybit_has_trades_and_the_best_prices_by_their_changes() {
    check(
        &[
            r#"1000000000 {"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":950,"data":[{"T":949,"s":"BTCUSDT","S":"Sell","v":"0.001","p":"37000.10","L":"PlusTick","i":"b5a0-x","BT":false}]}"#,
            r#"2000000000 {"topic":"orderbook.1.BTCUSDT","type":"snapshot","ts":1950,"data":{"s":"BTCUSDT","b":[["36999.90","1.2"]],"a":[["37000.10","0.8"]],"u":1,"seq":1},"cts":1949}"#,
            r#"3000000000 {"topic":"orderbook.1.BTCUSDT","type":"delta","ts":2950,"data":{"s":"BTCUSDT","b":[["36999.90","0"],["36999.80","3"]],"a":[],"u":2,"seq":2}}"#,
            r#"4000000000 {"topic":"tickers.BTCUSDT","type":"snapshot","ts":3950,"data":{"symbol":"BTCUSDT","bid1Price":"1","bid1Size":"1","ask1Price":"2","ask1Size":"1"}}"#,
            r#"5000000000 {"success":true,"ret_msg":"","conn_id":"x","op":"subscribe"}"#,
        ],
        &[
            "1970-01-01T00:00:01Z trade BTCUSDT 37000.1 x 0.001 sell, event 1970-01-01T00:00:00.949Z",
            "1970-01-01T00:00:02Z quote BTCUSDT 36999.9 x 1.2 / 37000.1 x 0.8, event 1970-01-01T00:00:01.949Z",
            "1970-01-01T00:00:03Z quote BTCUSDT 36999.8 x 3 / 37000.1 x 0.8, event 1970-01-01T00:00:02.95Z",
        ],
    );
}

#[test]
fn tickers_of_bybit_say_only_what_has_changed() {
    check(
        &[
            r#"1000000000 {"topic":"tickers.X","type":"snapshot","ts":1000,"data":{"symbol":"X","bid1Price":"1","bid1Size":"5","ask1Price":"2","ask1Size":"6"}}"#,
            r#"2000000000 {"topic":"tickers.X","type":"delta","ts":2000,"data":{"symbol":"X","markPrice":"1.5"}}"#,
            r#"3000000000 {"topic":"tickers.X","type":"delta","ts":3000,"data":{"symbol":"X","bid1Price":"1.1"}}"#,
        ],
        &["1970-01-01T00:00:01Z quote X 1 x 5 / 2 x 6", "1970-01-01T00:00:03Z quote X 1.1 x 5 / 2 x 6"],
    );
}

#[test]
fn a_bybit_book_follows_its_numbers() {
    let book = |second: u64, depth: u64, kind: &str, number: u64, levels: &str| {
        format!(
            r#"{second}000000000 {{"topic":"orderbook.{depth}.X","type":"{kind}","ts":{second}000,"data":{{"s":"X",{levels},"u":{number},"seq":1}}}}"#
        )
    };
    let whole = r#""b":[["10","1"],["9","1"]],"a":[["12","1"]]"#;
    let change = r#""b":[["10","0"]],"a":[["11","4"]]"#;
    let lines = [
        book(1, 50, "delta", 1000, change),
        book(2, 50, "snapshot", 100, whole),
        book(2, 200, "snapshot", 7, whole),
        book(3, 50, "delta", 101, change),
        book(4, 50, "delta", 103, whole),
        book(5, 50, "delta", 104, whole),
        book(6, 50, "snapshot", 200, whole),
        book(7, 50, "snapshot", 1, whole),
        book(8, 50, "delta", 2, change),
    ];
    check(
        &lines[1..].iter().map(String::as_str).collect::<Vec<_>>(),
        &[
            "1970-01-01T00:00:02Z quote X 10 x 1 / 12 x 1",
            "1970-01-01T00:00:03Z quote X 9 x 1 / 11 x 4",
            "1970-01-01T00:00:04Z quote X - x 0 / - x 0",
            "x line 4: X: depth updates are missing between 101 and 103: its book is unknown until the next snapshot",
            "1970-01-01T00:00:06Z quote X 10 x 1 / 12 x 1",
            "1970-01-01T00:00:08Z quote X 9 x 1 / 11 x 4",
        ],
    );
    let left_out = "Bybit depth before its snapshot (1), Bybit depth beside another of the same symbol (1)";
    check_left_out(&lines[1..6].iter().map(String::as_str).collect::<Vec<_>>(), left_out);
}

#[test]
fn hyperliquid_has_trades_the_best_prices_and_whole_books() {
    let trade = |tid: u64, time: u64| {
        format!(
            r#"{{"coin":"@107","side":"A","px":"40.1","sz":"2","time":{time},"hash":"0x0","tid":{tid},"users":["0x1","0x2"]}}"#
        )
    };
    let trades = format!(
        r#"2000000000 {{"channel":"trades","data":[{},{},{}]}}"#,
        trade(7, 1900),
        trade(6, 1800),
        trade(7, 1900)
    );
    // Names with an @ are as the symbol's rules have them: here a plain coin.
    let trades = trades.replace("@107", "HYPE");
    check(
        &[
            r#"1000000000 {"channel":"l2Book","data":{"coin":"BTC","time":990,"levels":[[{"px":"10","sz":"1","n":1}],[{"px":"11","sz":"2","n":3}]]}}"#,
            &trades,
            r#"3000000000 {"channel":"bbo","data":{"coin":"HYPE","time":3000,"bbo":[{"px":"40","sz":"5","n":1},null]}}"#,
            r#"4000000000 {"channel":"subscriptionResponse","data":{"method":"subscribe"}}"#,
        ],
        &[
            "1970-01-01T00:00:01Z quote BTC 10 x 1 / 11 x 2, event 1970-01-01T00:00:00.99Z",
            "1970-01-01T00:00:02Z trade HYPE 40.1 x 2 sell, event 1970-01-01T00:00:01.8Z",
            "1970-01-01T00:00:02Z trade HYPE 40.1 x 2 sell, event 1970-01-01T00:00:01.9Z",
            "1970-01-01T00:00:03Z quote BTC - x 0 / - x 0",
            "1970-01-01T00:00:03Z quote HYPE 40 x 5 / - x 0",
        ],
    );
}

/// A notification of Deribit.
fn deribit(second: u64, channel: &str, data: &str) -> String {
    format!(
        r#"{second}000000000 {{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}"#
    )
}

#[test]
fn deribit_has_trades_and_the_best_prices() {
    let trade = r#"[{"trade_seq":1,"trade_id":"ETH-48","timestamp":1990,"tick_direction":1,"price":0.05,"instrument_name":"ETH-31DEC21-4000-C","index_price":1.0,"direction":"sell","amount":10.0}]"#;
    let quote = r#"{"timestamp":2990,"instrument_name":"BTC-PERPETUAL","best_bid_price":100.5,"best_bid_amount":10.0,"best_ask_price":null,"best_ask_amount":0.0}"#;
    let lines = [
        r#"1000000000 {"jsonrpc":"2.0","id":0,"result":["trades.BTC-PERPETUAL.raw"]}"#.to_owned(),
        deribit(2, "trades.ETH-31DEC21-4000-C.raw", trade),
        deribit(3, "quote.BTC-PERPETUAL", quote),
        deribit(4, "ticker.BTC-PERPETUAL.raw", quote),
    ];
    let lines = lines.each_ref().map(String::as_str);
    check(
        &lines,
        &[
            "1970-01-01T00:00:02Z trade ETH-31DEC21-4000-C 0.05 x 10 sell, event 1970-01-01T00:00:01.99Z",
            "1970-01-01T00:00:03Z quote BTC-PERPETUAL 100.5 x 10 / - x 0, event 1970-01-01T00:00:02.99Z",
        ],
    );
    check_left_out(&lines, "JSON-RPC answer (1), tickers beside a stream of quotes (1)");
}

#[test]
fn a_deribit_book_follows_its_changes() {
    let book = |kind: &str, id: u64, previous: &str, levels: &str| {
        format!(
            r#"{{"type":"{kind}","timestamp":500,"instrument_name":"X","change_id":{id},{previous}{levels}}}"#
        )
    };
    let whole = r#""bids":[["new",10.0,1.0],["new",9.0,1.0]],"asks":[["new",12.0,1.0]]"#;
    let change = r#""bids":[["delete",10.0,0.0]],"asks":[["new",11.0,4.0]]"#;
    let lines = [
        deribit(1, "book.X.raw", &book("snapshot", 5, "", whole)),
        deribit(2, "book.X.raw", &book("change", 9, r#""prev_change_id":5,"#, change)),
        deribit(3, "book.X.raw", &book("change", 12, r#""prev_change_id":10,"#, change)),
        deribit(4, "book.X.raw", &book("change", 13, r#""prev_change_id":12,"#, change)),
    ];
    check(
        &lines.each_ref().map(String::as_str),
        &[
            "1970-01-01T00:00:01Z quote X 10 x 1 / 12 x 1, event 1970-01-01T00:00:00.5Z",
            "1970-01-01T00:00:02Z quote X 9 x 1 / 11 x 4, event 1970-01-01T00:00:00.5Z",
            "1970-01-01T00:00:03Z quote X - x 0 / - x 0",
            "x line 3: X: changes are missing between 9 and 10: its book is unknown until the next snapshot",
        ],
    );
    let grouped =
        r#"{"timestamp":500,"instrument_name":"Y","change_id":1,"bids":[[10.5,3.0]],"asks":[[11.5,2.0]]}"#;
    let quote = "1970-01-01T00:00:01Z quote Y 10.5 x 3 / 11.5 x 2, event 1970-01-01T00:00:00.5Z";
    check(&[&deribit(1, "book.Y.none.10.100ms", grouped)], &[quote]);
}

#[test]
fn binance_trades_count_once_singly_or_aggregated() {
    let trade = |second: u64, id: u64| {
        format!(
            r#"{second}000000000 {{"stream":"a@trade","data":{{"e":"trade","s":"A","t":{id},"p":"1","q":"1","T":{second}000,"m":true}}}}"#
        )
    };
    let aggregate = |second: u64, id: u64, last: u64| {
        format!(
            r#"{second}000000000 {{"stream":"a@aggTrade","data":{{"e":"aggTrade","s":"A","a":{id},"p":"1","q":"3","f":1,"l":{last},"T":{second}000,"m":false}}}}"#
        )
    };
    let sold = |second: u64| format!("1970-01-01T00:00:0{second}Z trade A 1 x 1 sell");
    let bought = |second: u64| format!("1970-01-01T00:00:0{second}Z trade A 1 x 3 buy");
    // Without single ones, and twice.
    check(&[&aggregate(1, 1, 3), &aggregate(2, 1, 3), &aggregate(3, 2, 5)], &[&bought(1), &bought(3)]);
    // The aggregate comes first, and then what it is made of: from there on the single ones count.
    let lines = [aggregate(1, 1, 3), trade(2, 3), trade(3, 4), aggregate(4, 2, 4), trade(5, 5)];
    check(&lines.each_ref().map(String::as_str), &[&bought(1), &sold(3), &sold(5)]);
    // The client has asked for single ones.
    let opened = "wss://stream.binance.com:9443/stream?streams=a@aggTrade/a@trade <-> 0.5";
    let lines = [opened, &aggregate(1, 1, 3), &trade(2, 3)];
    check(&lines, &[&sold(2)]);
}

#[test]
fn binance_trades_that_are_none_are_left_out_by_name() {
    let trade = |second: u64, kind: &str| {
        format!(
            r#"{second}000000000 {{"stream":"a@trade","data":{{"e":"trade","s":"A","t":{second},"p":"1","q":"1","X":"{kind}","T":{second}000,"m":true}}}}"#
        )
    };
    let lines = [trade(1, "MARKET"), trade(2, "INSURANCE_FUND"), trade(3, "NA"), trade(4, "ADL")];
    let lines = lines.each_ref().map(String::as_str);
    check(&lines, &["1970-01-01T00:00:01Z trade A 1 x 1 sell"]);
    check_left_out(
        &lines,
        "Binance trade of ADL (1), Binance trade of INSURANCE_FUND (1), Binance trade of NA (1)",
    );
}

#[test]
fn binance_times_are_ms_or_us_by_their_magnitude() {
    let line = r#"1735689600123456789 {"stream":"a@trade","data":{"s":"A","t":1,"p":"1","q":"1","T":1735689600120000,"m":true}}"#;
    check(&[line], &["2025-01-01T00:00:00.123456789Z trade A 1 x 1 sell, event 2025-01-01T00:00:00.12Z"]);
}

#[test]
fn partial_depth_of_binance_is_the_whole_of_the_best_levels() {
    let spot = |second: u64, bid: &str| {
        format!(
            r#"{second}000000000 {{"stream":"btcusdt@depth5@100ms","data":{{"lastUpdateId":160,"bids":[["{bid}","1"],["9","2"]],"asks":[["12","3"]]}}}}"#
        )
    };
    let futures = r#"3000000000 {"stream":"ethusdt@depth5","data":{"e":"depthUpdate","E":2990,"T":2980,"s":"ETHUSDT","U":1,"u":5,"pu":0,"b":[["1","2"]],"a":[["3","4"]]}}"#;
    let ticker = r#"4000000000 {"stream":"btcusdt@bookTicker","data":{"s":"BTCUSDT","b":"10.6","B":"1","a":"12","A":"1"}}"#;
    check(
        &[&spot(1, "10"), &spot(2, "10.5"), futures, ticker, &spot(5, "10.7")],
        &[
            "1970-01-01T00:00:01Z quote BTCUSDT 10 x 1 / 12 x 3",
            "1970-01-01T00:00:02Z quote BTCUSDT 10.5 x 1 / 12 x 3",
            "1970-01-01T00:00:03Z quote ETHUSDT 1 x 2 / 3 x 4, event 1970-01-01T00:00:02.98Z",
            "1970-01-01T00:00:04Z quote BTCUSDT - x 0 / - x 0",
            "1970-01-01T00:00:04Z quote ETHUSDT - x 0 / - x 0",
            "1970-01-01T00:00:04Z quote BTCUSDT 10.6 x 1 / 12 x 1",
        ],
    );
}

#[test]
fn the_last_match_after_a_reconnect_is_the_trade_that_was_there() {
    let print = |second: u64, kind: &str, id: u64| {
        format!(
            r#"{second}: {{"type":"{kind}","trade_id":{id},"size":"1","price":"2000","side":"sell","product_id":"A-B","sequence":1,"time":"1970-01-01T00:00:00.{id}Z"}}"#
        )
    };
    let opened = |second: u64| format!("wss://c <-> {second}.0");
    let lines = [
        opened(0),
        print(1, "last_match", 100),
        print(2, "match", 101),
        opened(3),
        print(4, "last_match", 101),
        print(5, "match", 102),
    ];
    let trade = |second: u64, id: u64| {
        format!("1970-01-01T00:00:0{second}Z trade A-B 2000 x 1 buy, event 1970-01-01T00:00:00.{id}Z")
    };
    check(
        &lines.each_ref().map(String::as_str),
        &[&trade(1, 100).replace("00.100", "00.1"), &trade(2, 101), &trade(5, 102)],
    );
    check_left_out(&lines.each_ref().map(String::as_str), "Coinbase trade that was told before (1)");
}

#[test]
fn what_nobody_reads_is_told_by_name() {
    check_left_out(
        &[
            r#"1000000000 [{"T":"success","msg":"connected"}]"#,
            r#"2000000000 [{"T":"b","S":"AAPL","o":185.5,"c":185.6},{"T":"l","S":"AAPL","u":190}]"#,
            "3000000000 [17,[[1,2,3]]]",
            r#"4000000000 {"topic":"/market/ticker:BTC-USDT","type":"message","data":{}}"#,
            r#"5000000000 {"ch":"market.btcusdt.bbo","ts":1,"tick":{}}"#,
            r#"6000000000 {"channel":"heartbeat"}"#,
            "https://api.binance.com/api/v3/depth?symbol=NKNUSDT&limit=1000 -> 7.5: {\"lastUpdateId\":1}",
        ],
        "Alpaca bars (1), Alpaca price bands (1), Alpaca success (1), KuCoin /market/ticker (1), answer of https://api.binance.com/api/v3/depth (1), \
         arrays of a channel's number and content (1), channel heartbeat (1), \
         messages of ch, tick, ts (1)",
    );
}

#[test]
fn raw_lines_of_tardis_begin_with_their_time_and_an_empty_one_is_a_lost_connection() {
    let line = |second: u64, bid: &str| {
        format!(
            r#"2023-11-14T22:13:2{second}.1234567Z {{"stream":"a@bookTicker","data":{{"s":"A","b":"{bid}","B":"1","a":"12","A":"2"}}}}"#
        )
    };
    assert!(super::is_capture(&line(0, "10")));
    let quote =
        |second: u64, bid: &str| format!("2023-11-14T22:13:2{second}.1234567Z quote A {bid} x 1 / 12 x 2");
    let empty = |second: u64| format!("2023-11-14T22:13:2{second}.1234567Z quote A - x 0 / - x 0");
    let lines = [&line(0, "10"), &line(1, "11"), "", &line(3, "9"), "", ""];
    let expected = [quote(0, "10"), quote(1, "11"), empty(1), quote(3, "9"), empty(3)];
    check(&lines, &expected.each_ref().map(String::as_str));
}

#[test]
fn messages_that_tardis_has_normalized_are_read() {
    let message = |kind: &str, second: u64, fields: &str| {
        format!(
            r#"{{"type":"{kind}","symbol":"X","exchange":"binance",{fields},"timestamp":"1970-01-01T00:00:00.049Z","localTimestamp":"1970-01-01T00:00:0{second}.123Z"}}"#
        )
    };
    let trade = |second: u64, id: u64| {
        message("trade", second, &format!(r#""id":"{id}","price":37000.1,"amount":0.5,"side":"buy""#))
    };
    let change = |second: u64, whole: bool, bids: &str| {
        message(
            "book_change",
            second,
            &format!(r#""isSnapshot":{whole},"bids":[{bids}],"asks":[{{"price":12,"amount":1}}]"#),
        )
    };
    let level = |price: u64, amount: u64| format!(r#"{{"price":{price},"amount":{amount}}}"#);
    let lines = [
        trade(1, 7),
        trade(2, 7),
        change(3, true, &level(10, 1)),
        change(4, false, &format!("{},{}", level(10, 0), level(9, 5))),
        r#"{"type":"disconnect","exchange":"binance","localTimestamp":"1970-01-01T00:00:05.123Z","symbols":["X"]}"#.to_owned(),
        change(6, false, &level(8, 1)),
        message("book_snapshot", 7, r#""name":"book_snapshot_2_0ms","depth":2,"interval":0,"bids":[{"price":7,"amount":1}],"asks":[]"#),
        message("book_ticker", 8, r#""bidPrice":6.5,"bidAmount":2,"askPrice":null,"askAmount":null"#),
        message("book_snapshot", 8, r#""name":"quote","depth":1,"interval":0,"bids":[{"price":7,"amount":1}],"asks":[]"#),
        message("derivative_ticker", 9, r#""lastPrice":1"#),
    ];
    let lines = lines.each_ref().map(String::as_str);
    assert!(super::is_capture(&lines[2][..60]));
    let event = ", event 1970-01-01T00:00:00.049Z";
    check(
        &lines,
        &[
            &format!("1970-01-01T00:00:01.123Z trade X 37000.1 x 0.5 buy{event}"),
            &format!("1970-01-01T00:00:03.123Z quote X 10 x 1 / 12 x 1{event}"),
            &format!("1970-01-01T00:00:04.123Z quote X 9 x 5 / 12 x 1{event}"),
            "1970-01-01T00:00:05.123Z quote X - x 0 / - x 0",
            &format!("1970-01-01T00:00:07.123Z quote X 7 x 1 / - x 0{event}"),
            &format!("1970-01-01T00:00:08.123Z quote X 6.5 x 2 / - x 0{event}"),
        ],
    );
    check_left_out(
        &lines,
        "Tardis book_change before its snapshot (1), Tardis derivative_ticker (1), Tardis trade that was told before (1), \
         tickers beside a stream of quotes (1)",
    );
}

#[test]
fn alpaca_trades_count_as_their_tapes_say_and_quotes_are_in_shares() {
    let lines = [
        r#"1700000000000000000 [{"T":"success","msg":"authenticated"}]"#,
        r#"1700000001000000000 [{"T":"q","S":"AMD","bx":"U","bp":87.66,"bs":1,"ax":"Q","ap":0,"as":0,"c":["R"],"t":"2023-11-14T22:13:20.9Z","z":"C"}]"#,
        r#"1700000002000000000 [{"T":"t","S":"AAPL","i":628,"x":"K","p":162.92,"s":3,"c":["@","F","T","I"],"t":"2023-11-14T22:13:22Z","z":"C"},{"T":"t","S":"IBM","i":628,"x":"K","p":150.1,"s":200,"c":[" ","B"],"t":"2023-11-14T22:13:22Z","z":"A"},{"T":"t","S":"AMD","i":5,"x":"K","p":87.67,"s":200,"c":["@","B"],"t":"2023-11-14T22:13:22Z","z":"C"}]"#,
        r#"1700000003000000000 [{"T":"t","S":"AAPL","i":628,"x":"K","p":162.92,"s":3,"c":["@","F","T","I"],"t":"2023-11-14T22:13:22Z","z":"C"},{"T":"t","S":"AAPL","i":628,"x":"Q","p":162.93,"s":3,"c":null,"t":"2023-11-14T22:13:23Z","z":"C"}]"#,
        r#"1762200000000000000 [{"T":"q","S":"AMD","bx":"U","bp":87.66,"bs":120,"ax":"Q","ap":87.68,"as":40,"c":["R"],"t":"2025-11-03T20:00:00Z","z":"C"}]"#,
        r#"1762200001000000000 [{"T":"t","S":"BTC/USD","i":7,"p":103000.5,"s":0.00025,"tks":"S","t":"2025-11-03T20:00:01Z"},{"T":"q","S":"BTC/USD","bp":103000.1,"bs":0.5,"ap":103000.9,"as":1.25,"t":"2025-11-03T20:00:01Z"}]"#,
    ];
    check(
        &lines,
        &[
            "2023-11-14T22:13:21Z quote AMD 87.66 x 100 / - x 0, event 2023-11-14T22:13:20.9Z",
            "2023-11-14T22:13:22Z trade AAPL 162.92 x 3 none \"@FTI\", counts for volume",
            "2023-11-14T22:13:22Z trade IBM 150.1 x 200 none \"B\", counts for volume",
            "2023-11-14T22:13:22Z trade AMD 87.67 x 200 none \"@B\"",
            "2023-11-14T22:13:23Z trade AAPL 162.93 x 3 none",
            "2025-11-03T20:00:00Z quote AMD 87.66 x 120 / 87.68 x 40",
            "2025-11-03T20:00:01Z trade BTC/USD 103000.5 x 0.00025 sell",
            "2025-11-03T20:00:01Z quote BTC/USD 103000.1 x 0.5 / 103000.9 x 1.25",
        ],
    );
    check_left_out(&lines, "Alpaca success (1), Alpaca trade that was told before (1)");
}

#[test]
fn alpaca_trades_are_corrected_and_cancelled_by_their_exchange_and_number() {
    // As a program writes them that keeps what it was sent and nothing else: they arrive when they say.
    let lines = [
        r#"[{"T":"success","msg":"connected"}]"#,
        r#"[{"T":"t","S":"EEM","i":1,"x":"M","p":39.15,"s":100,"c":[" "],"t":"2023-04-06T14:25:01Z","z":"B"},{"T":"t","S":"EEM","i":1,"x":"D","p":39.16,"s":10,"c":[" "],"t":"2023-04-06T14:25:02Z","z":"B"}]"#,
        r#"[{"T":"c","S":"EEM","x":"M","oi":1,"op":39.15,"os":100,"oc":[" "],"ci":9,"cp":39.1809,"cs":90,"cc":[" ","7"],"z":"B","t":"2023-04-06T14:25:03Z"}]"#,
        r#"[{"T":"x","S":"EEM","i":9,"x":"M","p":39.1809,"s":90,"a":"C","z":"B","t":"2023-04-06T14:25:04Z"}]"#,
        r#"[{"T":"x","S":"EEM","i":9,"x":"M","p":39.1809,"s":90,"a":"C","z":"B","t":"2023-04-06T14:25:05Z"},{"T":"c","S":"GOOGL","x":"D","oi":465,"op":1,"os":1,"oc":[],"ci":466,"cp":2,"cs":2,"cc":[],"z":"C","t":"2023-04-06T14:25:05Z"}]"#,
    ];
    assert!(super::is_capture(lines[0]));
    check(
        &lines,
        &[
            "2023-04-06T14:25:02Z trade EEM 39.15 x 100 none, event 2023-04-06T14:25:01Z",
            "2023-04-06T14:25:02Z trade EEM 39.16 x 10 none",
            "2023-04-06T14:25:03Z trade EEM 39.15 x 100 none, counts for volume high_low last break, event 2023-04-06T14:25:01Z",
            "2023-04-06T14:25:03Z trade EEM 39.1809 x 90 none \"7\", counts for volume correction, event 2023-04-06T14:25:01Z",
            "2023-04-06T14:25:04Z trade EEM 39.1809 x 90 none \"7\", counts for volume break, event 2023-04-06T14:25:01Z",
        ],
    );
    check_left_out(
        &lines,
        "Alpaca cancellations of trades that were not told (1), Alpaca corrections of trades that were not told (1), Alpaca success (1)",
    );
}
