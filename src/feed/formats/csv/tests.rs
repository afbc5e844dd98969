use super::*;
use crate::feed::formats::show::show;
use crate::feed::formats::timeline::Timeline;
use crate::feed::formats::times::TimeForm;

fn about(zone: Option<&str>) -> About {
    About {
        file: "x.csv".to_owned(),
        symbol: Symbol::new("STEM"),
        times: Times { form: TimeForm::Stated, zone: zone.map(|zone| zone.parse().unwrap()), order: None },
        best_quotes: false,
        dialect: Dialect::default(),
        mends: Mends::default(),
        sample: String::new(),
    }
}

fn open(text: &str, columns: Option<&str>) -> Result<Csv, HeaderError> {
    open_as(text, columns, about(None))
}

fn open_as(text: &str, columns: Option<&str>, about: About) -> Result<Csv, HeaderError> {
    let columns = columns.map(|text| ColumnMapping::parse(text).unwrap());
    let input = Box::new(std::io::Cursor::new(text.to_owned()));
    let about = About { sample: text.to_owned(), ..about };
    match columns {
        Some(columns) if columns.is_numbered() => {
            Csv::without_header(input, text.lines().next().unwrap(), &columns, about)
        }
        columns => Csv::new(input, columns.as_ref(), about),
    }
}

#[track_caller]
fn check(text: &str, expected: &[&str]) {
    assert_eq!(show(&mut Timeline::new(open(text, None).unwrap())), expected);
}

#[track_caller]
fn check_line(header: &str, line: &str, expected: &str) {
    check(&format!("{header}\n{line}\n"), &[expected]);
}

const OWN_TRADES: &str = "time,symbol,price,size,side";

#[test]
fn taq_quotes_are_in_round_lots_and_a_zero_is_an_empty_side() {
    check(
        "DT,EX,BID,BIDSIZ,OFR,OFRSIZ,SYMBOL\n\
         2018-01-02T09:04:13.125000Z,P,156.57,1,158.85,2,XXX\n\
         2018-01-02T09:04:14Z,P,0,0,158.85,2,XXX\n\
         2018-01-02T09:04:15Z,P,159.01,3,158.85,2,XXX\n",
        &[
            "2018-01-02T09:04:13.125Z quote XXX 156.57 x 100 / 158.85 x 200",
            "2018-01-02T09:04:14Z quote XXX - x 0 / 158.85 x 200",
            "2018-01-02T09:04:15Z quote XXX 159.01 x 300 / 158.85 x 200",
        ],
    );
}

#[test]
fn what_a_trade_counts_for_is_what_its_conditions_say_where_it_is_known_whose_they_are() {
    check(
        "DT,EX,SYMBOL,COND,SIZE,PRICE,CORR\n\
         2018-01-02T21:00:00Z,N,XXX,6,443901,157.04,0\n\
         2018-01-02T21:00:01Z,N,XXX,M,443901,157.04,0\n\
         2018-01-02T21:00:02Z,D,XXX,FT,9,157.04,0\n",
        &[
            "2018-01-02T21:00:00Z trade XXX 157.04 x 443901 none \"6\"",
            "2018-01-02T21:00:01Z trade XXX 157.04 x 443901 none \"M\", counts for nothing",
            "2018-01-02T21:00:02Z trade XXX 157.04 x 9 none \"FT\", counts for volume bars_high_low bars_last",
        ],
    );
    // Letters without a tape have no meaning, and words override letters.
    check(
        "time,symbol,price,size,conditions,tape,counts\n1,X,1,1,M,,\n1,X,1,1,B,A,\n1,X,1,1,B,C,\n1,X,1,1,I,C,everything\n\
         1,X,1,1,,,volume last\n1,X,1,1,,D,\n1,X,1,1,,,size\n",
        &[
            "1970-01-01T00:00:01Z trade X 1 x 1 none \"M\"",
            "1970-01-01T00:00:01Z trade X 1 x 1 none \"B\", counts for volume",
            "1970-01-01T00:00:01Z trade X 1 x 1 none \"B\"",
            "1970-01-01T00:00:01Z trade X 1 x 1 none \"I\"",
            "1970-01-01T00:00:01Z trade X 1 x 1 none, counts for volume last",
            "x.csv line 7: tape: \"D\" is none of A, B or C, or cta, utp, or us where it may be either",
            "x.csv line 8: counts: unknown thing to count for \"size\": expected one of volume, high_low, last, \
             bars_high_low, bars_last, day_high_low, day_last, break, correction",
        ],
    );
    let columns = "time=t,symbol=s,price=p,size=q,conditions=c,conditions_of=utp";
    let mut file = open("t,s,p,q,c\n1,X,1,1,@4 B\n", Some(columns)).unwrap();
    let expected = ["1970-01-01T00:00:01Z trade X 1 x 1 none \"@4 B\", counts for volume day_high_low"];
    assert_eq!(show(&mut file), expected);
}

#[test]
fn conditions_that_do_not_fit_cost_themselves_and_not_the_trade() {
    let columns = "time=time,symbol=symbol,price=price,size=size,conditions=conditions,conditions_of=us";
    let text = "time,symbol,price,size,conditions\n1,A,1,2,\"12,37\"\n2,A,1,2,OddLot\n3,A,1,2,@FTIX\n";
    let expected = [
        "1970-01-01T00:00:01Z trade A 1 x 2 none \"12\"",
        "1970-01-01T00:00:02Z trade A 1 x 2 none",
        "1970-01-01T00:00:03Z trade A 1 x 2 none, counts for volume",
    ];
    let mut file = open(text, Some(&columns.replace(",conditions_of=us", ""))).unwrap();
    let shown = show(&mut file);
    assert_eq!(shown[..2], expected[..2]);
    let mut file = open(text, Some(columns)).unwrap();
    assert_eq!(show(&mut file)[2], expected[2]);
}

#[test]
fn taq_trades_keep_the_blanks_of_their_conditions_and_fractions_of_a_cent() {
    check(
        "DT,EX,SYMBOL,COND,SIZE,PRICE,CORR\r\n\
         2018-01-02T10:01:21.479000Z,P,XXX,F I,2,157.8,0\r\n\
         2018-01-02T10:01:22Z,D,XXX,,130,159.3988,0\r\n",
        &[
            "2018-01-02T10:01:21.479Z trade XXX 157.8 x 2 none \"F I\", counts for volume",
            "2018-01-02T10:01:22Z trade XXX 159.3988 x 130 none",
        ],
    );
}

#[test]
fn tardis_files_have_the_venues_time_and_the_arrival() {
    check_line(
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
        "bitmex,XBTUSD,1583020803145000,1583020803307160,c3,sell,8531.5,2152",
        "2020-03-01T00:00:03.30716Z trade XBTUSD 8531.5 x 2152 sell, event 2020-03-01T00:00:03.145Z",
    );
    check_line(
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
        "h,BTC-USD,1588291201099000,1588291201234268,5494,8629.3,8629.2,806",
        "2020-05-01T00:00:01.234268Z quote BTC-USD 8629.2 x 806 / 8629.3 x 5494, \
         event 2020-05-01T00:00:01.099Z",
    );
}

#[test]
fn a_file_without_symbols_or_sizes_has_its_name_and_size_zero() {
    check_line(
        "timestamp,bid,ask",
        "2013-01-01 22:00:00.295000+00:00,86.655,86.728",
        "2013-01-01T22:00:00.295Z quote STEM 86.655 x 0 / 86.728 x 0",
    );
}

#[test]
fn an_empty_cell_is_an_empty_side_and_a_zero_is_a_price() {
    check_line("time,bid,ask", "1,,0", "1970-01-01T00:00:01Z quote STEM - x 0 / 0 x 0");
}

#[test]
fn quoted_cells_are_unquoted() {
    let expected = "1970-01-01T00:00:01Z trade BRK.B 1.5 x 2 buy";
    check_line(OWN_TRADES, "1,\"BRK.B\",\"1.5\",2,buy", expected);
}

#[test]
fn a_bad_line_is_named_and_the_next_is_read() {
    let bad = |line: &str, reason: &str| check_line(OWN_TRADES, line, &format!("x.csv line 2: {reason}"));
    bad("1,A,x,1,", "price: \"x\" is no decimal number");
    bad("1,A,,1,", "price: \"\" is no decimal number");
    bad("1,A,1,-1,", "-1 is a negative size");
    bad("1,A,NaN,1,", "price: \"NaN\" is no decimal number");
    bad("1,A,1,x,", "size: \"x\" is no decimal number");
    bad("1,A,1", "3 columns where the first line has 5");
    bad("1,A,1,1,buy,2", "6 columns where the first line has 5");
    bad("1,A,1,1,buy,,2", "7 columns where the first line has 5");
    bad(
        "noon,A,1,1,",
        "time: \"noon\" is no time: expected RFC 3339, or whole seconds, ms, us or ns since 1970",
    );
    bad("1,,1,1,", "symbol is empty");
    bad("1,A\u{202e},1,1,", "symbol \"A\\u{202e}\" contains '\\u{202e}', which a symbol must not");
    bad("1,A,1e26,1,", "100000000000000000000000000 cannot be held at 2 decimals");
    check(
        &format!("{OWN_TRADES}\n\n1,A,x,1,\n2,A,3,1,sell\n"),
        &["x.csv line 3: price: \"x\" is no decimal number", "1970-01-01T00:00:02Z trade A 3 x 1 sell"],
    );
}

#[test]
fn moments_never_run_back_but_events_keep_their_times() {
    check(
        "time,bid,ask\n5,1,2\n4,1,2\n6,1,2\n",
        &[
            "1970-01-01T00:00:05Z quote STEM 1 x 0 / 2 x 0",
            "1970-01-01T00:00:05Z quote STEM 1 x 0 / 2 x 0, event 1970-01-01T00:00:04Z, \
             recv 1970-01-01T00:00:04Z",
            "1970-01-01T00:00:06Z quote STEM 1 x 0 / 2 x 0",
        ],
    );
}

#[test]
fn a_mapping_reads_what_is_not_recognised() {
    let text = "when,p,q\n7,1.25,3\n";
    let error = open(text, None).err().unwrap().to_string();
    assert!(error.starts_with("header \"when,p,q\" is of no known form"), "{error}");
    let mut feed = open(text, Some("time=when,price=p,size=q")).unwrap();
    assert_eq!(show(&mut feed), ["1970-01-01T00:00:07Z trade STEM 1.25 x 3 none"]);
    let error = open(text, Some("time=wen,price=p")).err().unwrap();
    assert_eq!(error.to_string(), "there is no column \"wen\" for time: did you mean \"when\"?");
}

const TAQ_QUOTES: &str = "DT,EX,BID,BIDSIZ,OFR,OFRSIZ,SYMBOL";

#[test]
fn quotes_of_several_exchanges_are_folded_where_asked() {
    let text = format!(
        "{TAQ_QUOTES}\n\
         2018-01-02T09:04:13Z,P,156.57,1,158.85,2,XXX\n\
         2018-01-02T09:04:14Z,N,156.50,1,158.90,2,XXX\n\
         2018-01-02T09:04:15Z,N,156.57,4,158.80,1,XXX\n\
         2018-01-02T09:04:15Z,N,156.57,4,158.80,1,YYY\n\
         2018-01-02T09:04:16Z,P,0,0,0,0,XXX\n"
    );
    let input = Box::new(std::io::Cursor::new(text));
    let mut feed = Csv::new(input, None, About { best_quotes: true, ..about(None) }).unwrap();
    assert_eq!(
        show(&mut feed),
        [
            "2018-01-02T09:04:13Z quote XXX 156.57 x 100 / 158.85 x 200",
            "2018-01-02T09:04:15Z quote XXX 156.57 x 500 / 158.8 x 100",
            "2018-01-02T09:04:15Z quote YYY 156.57 x 400 / 158.8 x 100",
            "2018-01-02T09:04:16Z quote XXX 156.57 x 400 / 158.8 x 100",
        ]
    );
}

#[test]
fn taq_trades_that_were_cancelled_are_left_out_and_counted() {
    let mut feed = open(
        "DT,EX,SYMBOL,COND,SIZE,PRICE,CORR\n\
         2018-01-02T10:01:21Z,P,XXX,,2,157.8,00\n\
         2018-01-02T10:01:22Z,P,XXX,,2,157.9,1\n\
         2018-01-02T10:01:23Z,P,XXX,,2,999,08\n\
         2018-01-02T10:01:24Z,P,XXX,,2,999,10\n\
         2018-01-02T10:01:25Z,P,XXX,,2,157.9,x\n",
        None,
    )
    .unwrap();
    assert_eq!(
        show(&mut feed),
        [
            "2018-01-02T10:01:21Z trade XXX 157.8 x 2 none",
            "2018-01-02T10:01:22Z trade XXX 157.9 x 2 none",
            "x.csv line 6: correction: \"x\" is none of the numbers from 0 to 12",
        ]
    );
    assert_eq!(feed.left_out(), 2);
}

const LEVELS: &str = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount";

#[test]
fn price_levels_of_one_message_make_one_quote_of_the_book() {
    let mut feed = open(
        &format!(
            "{LEVELS}\n\
             d,X,1,1,false,bid,99,1\n\
             d,X,2,3,true,bid,10,1\n\
             d,X,2,3,true,ask,12,2\n\
             d,X,2,3,true,ask,11,2\n\
             d,Y,2,3,true,ask,5,1\n\
             d,X,4,5,false,ask,11,0\n\
             d,X,4,5,false,bid,9,7\n\
             d,X,6,7,false,bid,8,7\n\
             d,X,8,9,true,bid,7,1\n\
             d,X,8,9,true,hold,7,1\n"
        ),
        None,
    )
    .unwrap();
    assert_eq!(
        show(&mut feed),
        [
            "1970-01-01T00:00:03Z quote X 10 x 1 / 11 x 2, event 1970-01-01T00:00:02Z",
            "1970-01-01T00:00:03Z quote Y - x 0 / 5 x 1, event 1970-01-01T00:00:02Z",
            "1970-01-01T00:00:05Z quote X 10 x 1 / 12 x 2, event 1970-01-01T00:00:04Z",
            "x.csv line 11: side: \"hold\" is none of buy, sell, or empty",
            "1970-01-01T00:00:09Z quote X 7 x 1 / - x 0, event 1970-01-01T00:00:08Z",
        ]
    );
    assert_eq!(feed.left_out(), 1, "the row before the first snapshot");
}

#[test]
fn snapshots_of_books_are_quotes_of_their_best_level() {
    check_line(
        "exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,\
         asks[1].price,asks[1].amount,bids[1].price,bids[1].amount",
        "b,BTCUSDT,1,2,11657.08,1.714,11657.07,10.896,11657.54,5.4,,",
        "1970-01-01T00:00:02Z quote BTCUSDT 11657.07 x 10.896 / 11657.08 x 1.714, event 1970-01-01T00:00:01Z",
    );
}

#[test]
fn times_without_a_zone_are_read_in_the_one_that_is_given() {
    let text = "time,bid,ask\n2024-07-01 12:00:00.5,1,2\n";
    let message = "x.csv line 2: time: \"2024-07-01 12:00:00.5\" is no time: \
                   expected one with its zone, such as a Z at its end (or say --time-zone)";
    assert_eq!(show(&mut open(text, None).unwrap()), [message]);
    let input = Box::new(std::io::Cursor::new(text));
    let mut feed = Csv::new(input, None, about(Some("America/New_York"))).unwrap();
    assert_eq!(show(&mut feed), ["2024-07-01T16:00:00.5Z quote STEM 1 x 0 / 2 x 0"]);
}

#[test]
fn a_file_whose_newest_row_comes_first_is_read_from_its_end() {
    let rows = ["3,A,103,1,", "2,A,102,1,", "2,A,x,1,", "1,A,101,1,"].join("\n");
    check(
        &format!("{OWN_TRADES}\n{rows}\n"),
        &[
            "1970-01-01T00:00:01Z trade A 101 x 1 none",
            "x.csv line 4: price: \"x\" is no decimal number",
            "1970-01-01T00:00:02Z trade A 102 x 1 none",
            "1970-01-01T00:00:03Z trade A 103 x 1 none",
        ],
    );
    // More rows than are looked at, and one of them out of order.
    let mut times: Vec<u32> = (0..300).rev().collect();
    times.swap(4, 5);
    let rows: Vec<String> = times.iter().map(|time| format!("{time},A,{},1,", time + 1)).collect();
    let shown = show(&mut open(&format!("{OWN_TRADES}\n{}", rows.join("\n")), None).unwrap());
    assert_eq!(shown[0], "1970-01-01T00:00:00Z trade A 1 x 1 none");
    assert_eq!(shown[299], "1970-01-01T00:04:59Z trade A 300 x 1 none");
}

#[test]
fn a_file_that_only_begins_with_rows_out_of_order_keeps_its_order() {
    let rows: Vec<String> = [2, 1]
        .into_iter()
        .chain(std::iter::repeat_n(1, 70))
        .chain([9])
        .map(|time| format!("{time},A,1,1,"))
        .collect();
    let shown = show(&mut open(&format!("{OWN_TRADES}\n{}", rows.join("\n")), None).unwrap());
    assert_eq!(shown[0], "1970-01-01T00:00:02Z trade A 1 x 1 none");
    assert_eq!(shown[72], "1970-01-01T00:00:09Z trade A 1 x 1 none");
}

#[test]
fn a_trade_of_one_id_counts_once() {
    let header = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount";
    let row = |time: u64, id: &str| format!("x,A,{time},{time},{id},buy,10,1\n");
    let start = 1_700_000_000_000_000;
    let rows =
        [row(start, "7"), row(start + 1, "8"), row(start + 1, "7"), row(start + 2, ""), row(start + 3, "")];
    let mut feed = open(&format!("{header}\n{}", rows.concat()), None).unwrap();
    assert_eq!(show(&mut feed).len(), 4);
    assert_eq!(feed.left_out_by_kind().to_string(), "trades that were told before (1)");
}

#[test]
fn taq_quotes_count_shares_since_november_2025() {
    check(
        "DT,EX,BID,BIDSIZ,OFR,OFRSIZ,SYMBOL\n\
         2025-10-31T14:00:00Z,P,156.57,1,158.85,2,XXX\n\
         2025-11-03T14:30:00Z,P,156.57,100,158.85,250,XXX\n",
        &[
            "2025-10-31T14:00:00Z quote XXX 156.57 x 100 / 158.85 x 200",
            "2025-11-03T14:30:00Z quote XXX 156.57 x 100 / 158.85 x 250",
        ],
    );
}

#[test]
fn archives_of_bybit_and_binance_are_read() {
    check(
        "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional\n\
         1733011200.1234,BTCUSDT,Buy,0.010,96400.10,PlusTick,00000000-0000-0000-0000-000000000001,9.64001e+10,0.01,964.001\n\
         1733011200.5,BTCUSDT,Sell,0.002,96400.00,MinusTick,00000000-0000-0000-0000-000000000002,1.928e+10,0.002,192.8\n",
        &[
            "2024-12-01T00:00:00.1234Z trade BTCUSDT 96400.1 x 0.01 buy",
            "2024-12-01T00:00:00.5Z trade BTCUSDT 96400 x 0.002 sell",
        ],
    );
    check(
        "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n\
         9,42000.1,0.5,10,12,1704067200123,true\n10,42000.2,0.25,13,13,1704067200124,false\n",
        &[
            "2024-01-01T00:00:00.123Z trade STEM 42000.1 x 0.5 sell",
            "2024-01-01T00:00:00.124Z trade STEM 42000.2 x 0.25 buy",
        ],
    );
}
mod cells;
