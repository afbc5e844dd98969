//! One bad cell costs one field, not the record.

use super::*;
use crate::feed::formats::{DateOrder, DecimalSign};

const QUOTES: &str = "time,symbol,bid,bid_size,ask,ask_size";

/// Reads rows below a header; what they give, and what was made right on the way.
#[track_caller]
fn check_mended(header: &str, rows: &[&str], expected: &[&str], mended: &[(Mend, u64)]) {
    let about = about(None);
    let mends = about.mends.clone();
    let text = format!("{header}\n{}\n", rows.join("\n"));
    assert_eq!(show(&mut open_as(&text, None, about).unwrap()), expected);
    let all: Vec<_> = mends.all().into_iter().map(|(_, mend, mended)| (mend, mended.count)).collect();
    assert_eq!(all, mended);
}

#[test]
fn cells_that_mean_nothing_are_empty_sides_and_sizes() {
    let empty_bid = "1970-01-01T00:00:01Z quote A - x 0 / 1.09 x 1";
    for cells in [
        "NaN,NaN",
        "NA,0",
        "null,0",
        "\\N,0",
        "nan,nan",
        "None,",
        "9223372036.854775807,3",
        "1.7976931348623157e308,1",
    ] {
        check_mended(QUOTES, &[&format!("1,A,{cells},1.09,1")], &[empty_bid], &[]);
    }
    check_line(QUOTES, "1,A,1.08,NaN,1.09,4294967295", "1970-01-01T00:00:01Z quote A 1.08 x 0 / 1.09 x 0");
    check_line(OWN_TRADES, "1,A,2.5,NaN,None", "1970-01-01T00:00:01Z trade A 2.5 x 0 none");
    // A symbol may be called so.
    check_line(OWN_TRADES, "1,NA,2.5,1,buy", "1970-01-01T00:00:01Z trade NA 2.5 x 1 buy");
    check_line("time,ts_recv,bid,ask", "NaT,2,1,2", "1970-01-01T00:00:02Z quote STEM 1 x 0 / 2 x 0");
}

#[test]
fn others_are_given() {
    let dialect =
        Dialect { nulls: crate::feed::formats::Nulls::new(["-999".to_owned()]), ..Dialect::default() };
    let text = format!("{QUOTES}\n1,A,-999.00,0,1.5,1\n1,A,-998,0,1.5,1\n");
    let mut feed = open_as(&text, None, About { dialect, ..about(None) }).unwrap();
    let expected =
        ["1970-01-01T00:00:01Z quote A - x 0 / 1.5 x 1", "1970-01-01T00:00:01Z quote A -998 x 0 / 1.5 x 1"];
    assert_eq!(show(&mut feed), expected);
}

#[test]
fn the_noise_of_floats_and_decimals_that_do_not_fit_are_rounded_and_counted() {
    check_mended(
        QUOTES,
        &["1,A,1.0850000000000002,1,1.0851,0.30000000000000004", "2,A,1.0851,1,1.12345678901234567891,1"],
        &[
            "1970-01-01T00:00:01Z quote A 1.085 x 1 / 1.0851 x 0.3",
            "1970-01-01T00:00:02Z quote A 1.0851 x 1 / 1.123456789012345679 x 1",
        ],
        &[(Mend::Noise, 2), (Mend::Rounded, 1)],
    );
    let about = about(None);
    let mends = about.mends.clone();
    show(&mut open_as("time,price\n1,2\n2,0.7999999999999999\n", None, about).unwrap());
    let told = "x.csv: 1 cell with the noise of binary floats, rounded; first in line 3, price: 0.7999999999999999 is read as 0.8";
    assert_eq!(mends.to_string(), told);
}

#[test]
fn what_cannot_be_read_costs_its_field_and_is_told_behind_the_record() {
    let check = |row: &str, quote: &str, fault: &str| {
        let expected = [format!("1970-01-01T00:00:01Z quote A {quote}"), format!("x.csv line 2: {fault}")];
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        check(&format!("{QUOTES}\n{row}\n"), &expected);
    };
    check("1,A,x,1,1.09,1", "- x 0 / 1.09 x 1", "bid: \"x\" is no decimal number");
    check("1,A,1.08,many,1.09,1", "1.08 x 0 / 1.09 x 1", "bid_size: \"many\" is no decimal number");
    check("1,A,1.08,1,1.09,-1", "1.08 x 1 / 1.09 x 0", "ask_size: -1 is a negative size");
    let too_large = "bid: 100000000000000000000000000 cannot be held at 2 decimals";
    check("1,A,1e26,1,1.09,1", "- x 0 / 1.09 x 1", too_large);
    super::check(
        &format!("{OWN_TRADES}\n1,A,1,1,hold\n2,A,1,1,buy\n"),
        &[
            "1970-01-01T00:00:01Z trade A 1 x 1 none",
            "x.csv line 2: side: \"hold\" is none of buy, sell, or empty",
            "1970-01-01T00:00:02Z trade A 1 x 1 buy",
        ],
    );
    super::check(
        "time,ts_recv,bid,ask\n1,noon,1,2\n",
        &[
            "1970-01-01T00:00:01Z quote STEM 1 x 0 / 2 x 0",
            "x.csv line 2: ts_recv: \"noon\" is no time: expected RFC 3339, or whole seconds, ms, us or ns since 1970",
        ],
    );
}

#[test]
fn blanks_and_quotation_marks_around_cells_are_none_of_theirs() {
    super::check(
        "time, symbol, price, size, side, conditions\n1, \"A B\" , 1.5 ,\"2\", buy , F I\n2,B,\"1,000.5\",\t3 ,,\" I\"\n",
        &[
            "1970-01-01T00:00:01Z trade A B 1.5 x 2 buy \"F I\"",
            "1970-01-01T00:00:02Z trade B 1000.5 x 3 none \"I\"",
        ],
    );
}

#[test]
fn truths_are_spelled_in_many_ways() {
    let header = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount";
    for truth in ["True", "TRUE", "true", "1", "t"] {
        let rows = [
            format!("b,X,1700000000000000,1700000000000000,{truth},bid,100,1"),
            format!("b,X,1700000000000000,1700000000000000,{truth},ask,101,1"),
        ];
        check(
            &format!("{header}\n{}\n", rows.join("\n")),
            &["2023-11-14T22:13:20Z quote X 100 x 1 / 101 x 1"],
        );
    }
}

#[test]
fn conditions_that_do_not_fit_cost_themselves() {
    let trade = |conditions: &str| format!("1970-01-01T00:00:01Z trade A 1 x 2 none{conditions}");
    check_mended(
        "time,symbol,price,size,conditions",
        &[
            "1,A,1,2,\"12,37\"",
            "1,A,1,2,\"12,37,41\"",
            "1,A,1,2,OddLot",
            "1,A,1,2,ü",
            "1,A,1,2,nan",
            "1,A,1,2,F I",
        ],
        &[&trade(" \"12\""), &trade(" \"12\""), &trade(""), &trade(""), &trade(""), &trade(" \"F I\"")],
        &[(Mend::Conditions, 4)],
    );
}

#[test]
fn delimiters_decimal_commas_and_dates_are_as_the_file_looks() {
    let utc = || About { times: about(Some("UTC")).times, ..about(None) };
    let text = "When;Bid;Ask\n02.01.2024 00:00:00.101;1,10420;1,10427\n";
    let mut feed = open_as(text, Some("time=When,bid=Bid,ask=Ask"), utc()).unwrap();
    assert_eq!(show(&mut feed), ["2024-01-02T00:00:00.101Z quote STEM 1.1042 x 0 / 1.10427 x 0"]);
    let text = "day|clock|bid|ask\n2024/01/02|09:30:00.5|1.5|2\n";
    let mut feed = open_as(text, Some("date=day,time=clock,bid=bid,ask=ask"), utc()).unwrap();
    assert_eq!(show(&mut feed), ["2024-01-02T09:30:00.5Z quote STEM 1.5 x 0 / 2 x 0"]);
    let text = "t\tp\n01/02/2024 09:30:00\t1\n13/02/2024 09:30:00\t2\n";
    let mut feed = open_as(text, Some("time=t,price=p"), utc()).unwrap();
    let expected =
        ["2024-02-01T09:30:00Z trade STEM 1 x 0 none", "2024-02-13T09:30:00Z trade STEM 2 x 0 none"];
    assert_eq!(show(&mut feed), expected);
    let text = "t,p\n01/02/2024 09:30:00,\"1,5\"\n";
    let mut feed = open_as(text, Some("time=t,price=p"), utc()).unwrap();
    let ambiguous = "x.csv line 2: time: \"01/02/2024 09:30:00\" is no time: expected a date that can be only one (or say --date-order dmy or mdy)";
    assert_eq!(show(&mut feed), [ambiguous]);
    let dialect = Dialect {
        date_order: Some(DateOrder::MonthFirst),
        decimal: Some(DecimalSign::Comma),
        ..Dialect::default()
    };
    let mut feed = open_as(text, Some("time=t,price=p"), About { dialect, ..utc() }).unwrap();
    assert_eq!(show(&mut feed), ["2024-01-02T09:30:00Z trade STEM 1.5 x 0 none"]);
}

#[test]
fn metatrader_says_what_has_changed() {
    let about = About { times: about(Some("UTC")).times, ..about(None) };
    let text = "<DATE>\t<TIME>\t<BID>\t<ASK>\t<LAST>\t<VOLUME>\t<FLAGS>\n\
                2024.01.02\t00:05:00.123\t1.10427\t1.10442\t\t\t6\n\
                2024.01.02\t00:05:01.001\t1.10428\t\t\t\t2\n\
                2024.01.02\t00:05:02.000\t\t\t1.1043\t3\t56\n\
                2024.01.02\t00:05:03.000\t\t1.10444\t0.00000\t0\t4\n";
    let mut feed = open_as(text, None, about).unwrap();
    let expected = [
        "2024-01-02T00:05:00.123Z quote STEM 1.10427 x 0 / 1.10442 x 0",
        "2024-01-02T00:05:01.001Z quote STEM 1.10428 x 0 / 1.10442 x 0",
        "2024-01-02T00:05:02Z trade STEM 1.1043 x 3 buy",
        "2024-01-02T00:05:03Z quote STEM 1.10428 x 0 / 1.10444 x 0",
    ];
    assert_eq!(show(&mut feed), expected);
}

#[test]
fn a_row_may_have_a_quote_and_a_trade() {
    let text = "1;1.5;1.4;1.6;10\n2;;1.4;1.7;\n3;1.6;1.4;1.7;5\n";
    let mut feed = open_as(text, Some("time=1,price=2,bid=3,ask=4,size=5"), about(None)).unwrap();
    let expected = [
        "1970-01-01T00:00:01Z quote STEM 1.4 x 0 / 1.6 x 0",
        "1970-01-01T00:00:01Z trade STEM 1.5 x 10 none",
        "1970-01-01T00:00:02Z quote STEM 1.4 x 0 / 1.7 x 0",
        "1970-01-01T00:00:03Z trade STEM 1.6 x 5 none",
    ];
    assert_eq!(show(&mut feed), expected);
}

#[test]
fn a_delimiter_too_many_at_the_end_of_each_line_is_nothing() {
    check_line(OWN_TRADES, "1,A,1,2,buy,", "1970-01-01T00:00:01Z trade A 1 x 2 buy");
}
