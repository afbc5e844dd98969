//! `tickcast convert` and `tickcast inspect` as people run them: what goes there comes back the same, and
//! whatever is wrong is told.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tickcast::feed::formats::{OpenOptions, open};
use tickcast::feed::publish::parse_ndjson;
use tickcast::market::{Event, Instruments};

fn tickcast(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tickcast")).args(args).output().expect("the binary starts")
}

/// Runs it, which must go well, and gives what it wrote.
#[track_caller]
fn run(args: &[&str]) -> String {
    let output = tickcast(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn check_refused(args: &[&str], code: i32, expected: &str) {
    let output = tickcast(args);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert!(told.contains(expected), "{told}");
}

fn feed(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds").join(name).display().to_string()
}

/// Everything but definitions that a recording holds, in decimals, a line each; and the last definition of
/// each instrument.
fn content(path: &Path) -> (Vec<String>, Vec<String>) {
    let mut feed = open(path, &OpenOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let (mut instruments, mut events, mut lines) = (Instruments::default(), Vec::new(), Vec::new());
    while feed.next(&mut instruments, &mut events).unwrap_or_else(|error| panic!("{error}")).is_some() {
        for event in events.drain(..) {
            let scale = |id| instruments.get(id).map(|x| (x.symbol.to_string(), x.price_scale, x.size_scale));
            lines.push(match event {
                Event::Quote(id, quote) => {
                    let (symbol, price, size) = scale(id).unwrap();
                    let [bid, ask] = [quote.bid, quote.ask].map(|side| side.to_decimal(price));
                    let sizes = [quote.bid_size, quote.ask_size].map(|side| side.to_decimal(size));
                    format!("{symbol} {bid:?} {ask:?} {sizes:?} {} {}", quote.ts_event, quote.ts_recv)
                }
                Event::Trade(id, trade) => {
                    let (symbol, price, size) = scale(id).unwrap();
                    let (price, size) = (trade.price.to_decimal(price), trade.size.to_decimal(size));
                    let (side, counts) = (trade.side, trade.counts);
                    let conditions = trade.conditions.as_str();
                    format!(
                        "{symbol} {price:?} {size} {side} {conditions:?} {counts} {} {}",
                        trade.ts_event, trade.ts_recv
                    )
                }
                Event::Status(id, status) => format!("{:?} {status:?}", id.and_then(scale)),
                _ => continue,
            });
        }
    }
    let known = instruments.iter().map(|x| {
        let (tick, close) = (x.tick_size_decimal(), x.previous_close.to_decimal(x.price_scale));
        format!("{} {:?} {:?} {:?} {tick} {close:?} {}", x.symbol, x.name, x.sector, x.currency, x.size_scale)
    });
    (lines, known.collect())
}

/// What can be published, with all that a recording may hold.
const EVENTS: &str = r#"{"type":"instrument","symbol":"X","name":"X, of \"Y\"","sector":"tech","currency":"USD","tick_size":"0.005","size_scale":1,"previous_close":"12.345"}
{"type":"status","state":"pre-open","ts_event":"2024-01-01T00:00:00Z"}
{"type":"quote","symbol":"X","bid":"12.34","bid_size":"100.5","ask":"12.35","ask_size":"7","ts_event":"2024-01-01T00:00:01.123456789Z","ts_recv":"2024-01-01T00:00:01.2Z"}
{"type":"trade","symbol":"X","price":"12.345","size":"0.5","side":"sell","conditions":"F I","counts":"volume day_high_low","ts_event":"2024-01-01T00:00:02Z"}
{"type":"quote","symbol":"NEW","ask":"0.00001","ask_size":"3","ts_event":"2024-01-01T00:00:03Z"}
{"type":"trade","symbol":"NEW","price":"-1.5","size":"2","ts_event":"2024-01-01T00:00:02.5Z","ts_recv":"2024-01-01T00:00:04Z"}
{"type":"status","symbol":"NEW","state":"halted","ts_event":"2024-01-01T00:00:05Z"}
"#;

#[test]
fn what_is_converted_comes_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let all = folder.path().join("all.jsonl");
    std::fs::write(&all, EVENTS).unwrap();
    for source in [feed("binance-spot-60s.tape"), all.display().to_string()] {
        let expected = content(Path::new(&source));
        assert!(expected.0.len() > 5);
        let mut last = source.clone();
        for name in ["1.tape", "2.csv", "3.tape", "4.jsonl", "5.csv", "6.jsonl", "7.tape"] {
            let next = folder.path().join(name).display().to_string();
            run(&["convert", "--quiet", "--force", &last, &next]);
            let got = content(Path::new(&next));
            assert_eq!(got.0.len(), expected.0.len(), "{name}");
            assert_eq!(got, expected, "{name}");
            last = next;
        }
    }
}

#[test]
fn lines_can_be_published() {
    let lines = run(&["convert", &feed("binance-spot-60s.tape"), "-", "--to", "jsonl"]);
    let parsed = parse_ndjson(lines.as_bytes());
    assert_eq!(parsed.rejected.total(), 0);
    // 10,440 quotes, 2,501 trades, and the definitions of two instruments, which grew finer.
    assert!((12_943..12_960).contains(&parsed.events.len()), "{}", parsed.events.len());
}

#[test]
fn one_kind_alone_has_the_columns_of_that_kind() {
    let trades = run(&["convert", &feed("example-trades.csv"), "-", "--to", "csv", "--only", "trades"]);
    assert!(trades.starts_with("time,ts_recv,symbol,price,size,side,conditions,counts\n2"), "{trades}");
    assert_eq!(trades.lines().count(), 21);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trades.csv");
    std::fs::write(&path, trades).unwrap();
    assert_eq!(content(&path).0, content(Path::new(&feed("example-trades.csv"))).0);
}

#[test]
fn several_recordings_are_merged_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.tape");
    let [quotes, trades] = ["example-quotes.csv", "example-trades.csv"].map(feed);
    run(&["convert", "-q", &quotes, &trades, path.to_str().unwrap()]);
    let mut expected = [content(Path::new(&quotes)).0, content(Path::new(&trades)).0].concat();
    let mut got = content(&path).0;
    let [quotes, trades] = [got.iter().filter(|line| line.contains('[')).count(), got.len()];
    assert!(quotes > 0 && quotes < trades);
    expected.sort();
    got.sort();
    assert_eq!(got, expected);
}

#[test]
fn what_cannot_be_converted_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let source = feed("example-trades.csv");
    check_refused(&["convert", &source, &path("x.bin")], 2, "does not say its form: end it with .tape");
    check_refused(&["convert", &path("none"), &path("x.tape")], 1, "No such file");
    check_refused(&["convert", &source, &path("no/x.tape")], 1, "cannot write");
    check_refused(&["convert", &source, &source], 2, "would be written to while it is read");
    run(&["convert", &source, &path("x.csv")]);
    check_refused(&["convert", &source, &path("x.csv")], 2, "exists (--force overwrites it)");

    let bad = path("bad.jsonl");
    std::fs::write(&bad, EVENTS.replace("12.34\"", "12.x\"")).unwrap();
    check_refused(
        &["convert", &bad, &path("y.tape")],
        1,
        "bad.jsonl line 3: bid: \"12.x\" is no decimal number",
    );
    assert_eq!(content(Path::new(&path("y.tape"))).0.len(), 5, "the others are there");
}

#[test]
fn a_recording_is_told_in_figures() {
    let told = run(&["inspect", &feed("binance-spot-60s.tape")]);
    for expected in [
        "form      .tape",
        "12,941: 10,440 quotes, 2,501 trades",
        "2024-08-08T23:54:14.024619568Z to 2024-08-08T23:55:",
        "symbols   2",
        "faults    none",
    ] {
        assert!(told.contains(expected), "{expected} in {told}");
    }
    let json: Value =
        serde_json::from_str(&run(&["inspect", "--json", &feed("binance-spot-60s.tape")])).unwrap();
    assert_eq!(
        (&json["events"], &json["quotes"], &json["symbols"]),
        (&12_941.into(), &10_440.into(), &2.into())
    );
    let busiest = json["busiest"].as_array().unwrap();
    let sum: u64 = busiest.iter().map(|x| x["quotes"].as_u64().unwrap()).sum();
    assert_eq!(sum, 10_440);
    let profile: u64 = json["rate"]["profile"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
    assert_eq!(profile, 12_941);
    assert!((11.0..12.5).contains(&json["bytes_per_event"].as_f64().unwrap()), "{json}");
}

#[test]
fn what_cannot_be_read_is_told_beside_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.csv");
    std::fs::write(&path, "time,symbol,price,size\n1,X,2,3\n2,X,y,3\n9,X,2,3\n").unwrap();
    let told = run(&["inspect", path.to_str().unwrap()]);
    assert!(told.contains("bad.csv line 3: price: \"y\" is no decimal number"), "{told}");
    assert!(
        told.contains("2: 0 quotes, 2 trades") && told.contains("1 record that could not be read"),
        "{told}"
    );
    check_refused(&["inspect", "none.tape", &feed("example-trades.csv")], 1, "none.tape: No such file");
    let whole = std::fs::read(feed("binance-spot-60s.tape")).unwrap();
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    let told = run(&["inspect", path.to_str().unwrap()]);
    assert!(told.contains("the recording breaks off here, as after a crash: all before is intact"), "{told}");
}

#[test]
fn whoever_has_seen_enough_may_close_the_pipe() {
    for args in [
        vec!["convert", "feeds/binance-spot-60s.tape", "-", "--to", "csv"],
        vec!["inspect", "feeds/example-quotes.csv", "feeds/binance-spot-60s.tape"],
    ] {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tickcast"))
            .args(&args)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(process.stdout.take());
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn options_may_stand_between_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("x.csv");
    let out = output.to_str().unwrap();
    run(&["convert", &feed("binance-spot-60s.tape"), "--only", "trades", out, "--quiet"]);
    assert!(std::fs::metadata(&output).unwrap().len() > 0);
    check_refused(&["convert", out], 2, "there is nothing to convert it to");
}

/// A file of that name and content in a folder of its own.
fn written(name: &str, content: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("it takes a file");
    let path = path.display().to_string();
    (folder, path)
}

#[test]
fn a_file_of_which_nothing_is_read_says_what_it_is_and_what_it_holds() {
    let lines = [
        r#"1700000000100000000 [{"T":"b","S":"AAPL","o":185.5,"v":100},{"T":"l","S":"AAPL","u":190}]"#,
        r#"1700000000200000000 [{"T":"b","S":"AAPL","o":185.6,"v":100}]"#,
    ];
    let (folder, path) = written("alpaca.ws", &lines.join("\n"));
    let out = folder.path().join("out.jsonl").display().to_string();
    let told = "alpaca.ws: nothing was read of this exchange capture: it holds Alpaca bars (2), Alpaca price bands (1)";
    check_refused(&["convert", &path, &out], 1, told);
    assert!(!Path::new(&out).exists(), "what holds nothing is not written");
    check_refused(&["inspect", &path], 1, told);
    check_refused(&["serve", "--listen", "127.0.0.1:0", "--feed", &path], 1, told);
    check_refused(&["serve", "--listen", "127.0.0.1:0", "--feed", &path, "--strict"], 1, told);
    let inspected: Value = serde_json::from_slice(&tickcast(&["inspect", "--json", &path]).stdout).unwrap();
    assert_eq!(inspected["left_out"], 3);
    assert_eq!(inspected["left_out_by_kind"], serde_json::json!({"Alpaca bars": 2, "Alpaca price bands": 1}));
    // Beside one that holds something it is told, and the other is converted.
    let (_other, trades) = written("A.csv", "time,price,size\n1,2.5,3\n");
    check_refused(&["convert", &path, &trades, &out], 1, told);
    assert!(std::fs::read_to_string(&out).unwrap().contains("\"price\":\"2.50\""));
}

#[test]
fn an_option_that_does_nothing_is_refused_by_name() {
    let (_folder, path) = written("A.csv", "time,price,size\n1,2.5,3\n");
    let columns = "time=time,price=price,size=size";
    let told = "A.csv: --date does nothing for CSV";
    let usual = ["convert", "--to", "jsonl", "--columns", columns];
    check_refused(&[&usual[..], &["--date", "2024-01-02", &path, "-"]].concat(), 2, told);
    check_refused(&["inspect", "--date", "2024-01-02", &path], 2, told);
    check_refused(&["serve", "--listen", "127.0.0.1:0", "--feed", &path, "--date", "2024-01-02"], 1, told);
    assert!(run(&[&usual[..], &[&path, "-"]].concat()).contains("\"size\":\"3\""));
}

#[test]
fn a_lost_book_is_empty_at_the_end_of_the_file() {
    let book = |number: u64, body: &str| {
        format!(r#"{number}000000000 {{"e":"depthUpdate","E":{number}000,"s":"A",{body}}}"#)
    };
    let lines = [
        book(1, r#""U":95,"u":100,"b":[["10","1"]],"a":[["12","1"]]"#),
        r#"2000000000 {"lastUpdateId":100,"bids":[["10","1"]],"asks":[["12","1"]]}"#.to_owned(),
        book(3, r#""U":110,"u":112,"b":[["10","0"]],"a":[]"#),
    ];
    let (_folder, path) = written("hole.ws", &lines.join("\n"));
    let output = tickcast(&["convert", "--to", "jsonl", "--best-quotes", &path, "-"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().last().unwrap(),
        r#"{"type":"quote","symbol":"A","ts_event":"1970-01-01T00:00:03Z"}"#
    );
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("depth updates are missing between 100 and 110"), "{told}");
}
