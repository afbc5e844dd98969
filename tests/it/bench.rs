//! `tickcast bench`, run as people run it: a server of its own, few clients, little time.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

fn bench(args: &[&str]) -> Output {
    let mut quick = vec!["bench", "--clients", "20", "--warm-up", "100ms", "--no-pin"];
    if !args.contains(&"--idle") {
        quick.extend(["--duration", "500ms"]);
    }
    Command::new(env!("CARGO_BIN_EXE_tickcast")).args(quick).args(args).output().expect("the program runs")
}

/// What a good run prints with `--json`.
#[track_caller]
fn report(args: &[&str]) -> Value {
    let output = bench(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[track_caller]
fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number {path} in {report:#}"))
}

#[track_caller]
fn check_error(args: &[&str], code: i32, expected: &str) {
    let output = bench(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    assert!(said.contains(expected), "{args:?}: {said}");
}

/// A server on a free port.
struct Serving {
    child: Child,
    url: String,
}

impl Serving {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tickcast"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let url = lines
            .map_while(Result::ok)
            .find_map(|line| Some("ws://".to_owned() + line.split_once("http://")?.1));
        Self { child, url: url.expect("the server tells its address") }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("the server was there to the end");
    }
}

#[test]
fn every_tick_is_delivered_timed_and_set_beside_the_floor() {
    let report = report(&["--symbols", "3", "--rate", "400", "--rounds", "2", "--lossless"]);
    // 400 ticks/s for 20 clients, of which a few change nothing or come together.
    let ticks = number(&report, "/median/ticks_per_s");
    assert!((6_000.0..=8_100.0).contains(&ticks), "{report:#}");
    assert!(number(&report, "/median/ticks_per_frame") >= 0.9, "{report:#}");
    assert!((3.0..25.0).contains(&number(&report, "/median/bytes_per_tick")), "{report:#}");
    assert!(number(&report, "/median/latency_p50_ms") > 0.0, "{report:#}");
    assert!(number(&report, "/median/server/rss_mib_connected") > 1.0, "{report:#}");
    assert!(number(&report, "/median/floor/latency_p50_ms") > 0.0, "{report:#}");
    assert_eq!(report["rounds"].as_array().map(Vec::len), Some(2));
    assert_eq!(report["verdict"]["passed"], true);
}

#[test]
fn trades_are_counted_one_by_one_by_those_that_read_everything() {
    let trades = ["--symbols", "5", "--rate", "2000", "--only-trades", "--topics", "trades:*", "--no-floor"];
    let report = report(&[&trades[..], &["--lossless", "--rounds", "2"]].concat());
    assert_eq!(number(&report, "/median/entries_untold"), 0.0, "{report:#}");
    assert_eq!(number(&report, "/median/sessions_short"), 0.0, "{report:#}");
}

#[test]
fn server_and_floor_take_turns_in_a_market_that_pauses() {
    let report = report(&["--symbols", "3", "--rate", "400", "--turns", "50ms", "--lossless"]);
    // Half of the time there is nothing to tell.
    let ticks = number(&report, "/median/ticks_per_s");
    assert!((3_000.0..=4_050.0).contains(&ticks), "{report:#}");
    assert!(number(&report, "/median/floor/latency_p50_ms") > 0.0, "{report:#}");
    // Whoever sent in the other's turn would be 50 ms late or more.
    assert!(number(&report, "/median/floor/latency_p50_ms") < 50.0, "{report:#}");
    assert!(number(&report, "/median/floor/cpu_ratio") > 0.0, "{report:#}");
}

#[test]
fn clients_with_watchlists_of_their_own_are_told_of_their_symbols_only() {
    let args = ["--symbols", "40", "--rate", "2000", "--no-floor", "--lossless"];
    let all = report(&args);
    let some = report(&[&args[..], &["--watchlist", "3"]].concat());
    assert!(number(&some, "/median/ticks_per_s") > 0.0, "{some:#}");
    assert!(
        number(&some, "/median/ticks_per_s") < number(&all, "/median/ticks_per_s") / 2.0,
        "{some:#} {all:#}"
    );
}

#[test]
fn what_a_rate_cap_merges_is_counted_as_merged_and_timed_until_it_came() {
    let report =
        report(&["--symbols", "2", "--rate", "2000", "--max-hz", "10", "--topics", "quote:*", "--no-floor"]);
    assert!(number(&report, "/median/ticks_per_frame") > 50.0, "{report:#}");
    assert!(number(&report, "/median/server/ticks_merged_per_s") > 1_000.0, "{report:#}");
    // On average a tick waits for half of the 100 ms between two updates.
    assert!(number(&report, "/median/latency_p50_ms") > 20.0, "{report:#}");
}

#[test]
fn slow_clients_are_measured_and_come_back_to_the_present() {
    let report = report(&["--symbols", "5", "--rate", "2000", "--stall", "5:500ms", "--no-floor"]);
    assert!(number(&report, "/median/slow/healthy_frames_ratio") > 0.5, "{report:#}");
    assert!(number(&report, "/median/slow/ms_until_present") < 10_000.0, "{report:#}");
}

#[test]
fn memory_of_idle_connections_is_measured_in_rounds() {
    let report = report(&["--idle", "--rounds", "2", "--topics", "quote:AAPL"]);
    assert_eq!(number(&report, "/median/clients"), 20.0);
    assert!(number(&report, "/median/server/rss_mib_disconnected") > 1.0, "{report:#}");
}

#[test]
fn a_ramp_finds_what_is_kept_up_with() {
    let output = bench(&["--ramp", "--rate", "200", "--max-p99", "0.001", "--json"]);
    // Nothing is delivered within a microsecond: so no rate is kept up with, which fails.
    assert_eq!(output.status.code(), Some(6), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert!(report["saturation_ticks_per_s"].is_null(), "{report:#}");
    assert!(report["steps"][0]["limit"].is_string(), "{report:#}");
}

#[test]
fn a_server_that_runs_already_is_measured_with_or_without_its_feed() {
    let feed = concat!(env!("CARGO_MANIFEST_DIR"), "/feeds/binance-spot-60s.tape");
    // A round of the recording is over within 3 s: whatever the server is at, what is due then is known.
    let server = Serving::start(&["--feed", feed, "--loop", "--speed", "20"]);
    let ticks = report(&["--url", &server.url, "--feed", feed, "--rounds", "3", "--lossless"]);
    assert!(number(&ticks, "/median/ticks_per_s") > 0.0, "{ticks:#}");
    assert!(number(&ticks, "/median/latency_p50_ms") > 0.0, "{ticks:#}");
    assert!(ticks["median"].get("server").is_none(), "its CPU is not seen from here: {ticks:#}");

    let updates = report(&["--url", &server.url, "--max-p99", "60000"]);
    assert!(number(&updates, "/median/frames_per_s") > 0.0, "{updates:#}");
    assert!(number(&updates, "/median/latency_p99_ms") > 0.0, "{updates:#}");
    assert!(updates["median"]["ticks_per_s"].is_null(), "{updates:#}");
    let output = bench(&["--url", &server.url, "--lossless", "--max-bytes-per-tick", "1"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert!(said.contains("bytes per tick was not measured"), "{said}");
    assert!(said.contains("ticks undelivered was not measured: the feed is not known"), "{said}");

    // What it does not play is not due.
    let other = concat!(env!("CARGO_MANIFEST_DIR"), "/feeds/burst-10s.tape");
    check_error(&["--url", &server.url, "--feed", other], 1, "plays another recording: that begins at 20");
    let simulated = Serving::start(&[]);
    check_error(&["--url", &simulated.url, "--feed", other], 1, "plays a simulated market, not a recording");
}

#[test]
fn a_limit_that_is_not_held_is_exit_code_6() {
    let output = bench(&["--no-floor", "--max-p99", "0.001"]);
    assert_eq!(output.status.code(), Some(6));
    assert!(String::from_utf8_lossy(&output.stdout).contains("FAILED  latency p99 ms"));
}

#[test]
fn nonsense_is_told_what_is_wrong_with_it() {
    check_error(&["--topics", "qoute:X"], 2, "did you mean \"quote:X\"?");
    check_error(&["--stall", "20:1s"], 1, "some must go on reading");
    check_error(&["--stall", "many"], 2, "100:20s");
    check_error(&["--feed", "nowhere.tape"], 1, "nowhere.tape: No such file");
    check_error(&["--url", "ws://127.0.0.1:1"], 1, "Connection refused");
    check_error(&["--url", "ws://127.0.0.1:1", "--watchlist", "2"], 1, "give it with --feed");
    check_error(&["--turns", "1ms"], 2, "from 20ms to 10s");
    check_error(&["--turns", "300ms"], 1, "--duration must hold four turns");
    check_error(&["--turns", "50ms", "--feed", "day.tape"], 1, "a recording does not pause");
    check_error(&["--speed", "0"], 2, "no number from 0.001 to 1000000");
    check_error(&["--speed", "2"], 1, "--speed is of a recording");
    check_error(&["--feed", "day.tape", "--symbols", "2"], 1, "day.tape is a recording");
    check_error(&["--idle", "--watchlist", "2"], 2, "cannot be used with");
    check_error(&["--idle", "--feed", "day.tape"], 2, "cannot be used with");
    check_error(&["--idle", "--duration", "5s"], 2, "cannot be used with");
    check_error(&["--watchlist", "0"], 2, "not in 1..");
    check_error(&["--decode", "0"], 2, "not in 1..");
    check_error(&["--url", "ws://127.0.0.1:1/v1/ws?room=x"], 1, "leave the path out");
    check_error(&["--url", "ws://127.0.0.1:1", "--feed", "sim"], 1, "leave --feed out");
    check_error(&["--url", "ws://127.0.0.1:1", "--rate", "7"], 2, "cannot be used with");
    check_error(&["--topics", "quote:NOPE"], 1, "nothing is due");
}
