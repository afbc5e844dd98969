//! The main job on real input: a recorded exchange session is served and watched, and ends with what an
//! independent script computes from the raw file.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

/// A child process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tickcast(args: &[&str]) -> (Running, BufReader<ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tickcast"))
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary was built for this test");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    (Running(child), stdout)
}

/// The address that a server tells it listens on.
fn address(stdout: &mut impl BufRead) -> String {
    let mut line = String::new();
    while stdout.read_line(&mut line).expect("the server speaks UTF-8") > 0 {
        if let Some((_, rest)) = line.split_once("http://") {
            return rest.trim().trim_end_matches('/').to_owned();
        }
        line.clear();
    }
    panic!("the server ended without telling its address");
}

fn get(address: &str, path: &str) -> Value {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (_, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    serde_json::from_str(body).expect("JSON")
}

fn number(value: &Value) -> f64 {
    value.as_str().map_or_else(|| value.as_f64(), |text| text.parse().ok()).expect("a number")
}

/// Serves `file`, watches it for `duration`, which must reach beyond its end, and compares with what
/// `tests/final_image.mjs` computes.
#[track_caller]
fn check(file: &Path, speed: &str, duration: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/final_image.mjs");
    let computed = Command::new("node").arg(script).arg(file).output().expect("Node runs");
    assert!(computed.status.success(), "{}", String::from_utf8_lossy(&computed.stderr));
    let computed: Value = serde_json::from_slice(&computed.stdout).expect("JSON");
    let symbol = computed["symbol"].as_str().expect("a symbol");

    let feed = file.to_str().expect("a UTF-8 path");
    let (_server, mut told) =
        tickcast(&["serve", "--feed", feed, "--speed", speed, "--listen", "127.0.0.1:0"]);
    let address = address(&mut told);
    let (url, quotes) = (format!("ws://{address}"), format!("quote:{symbol}"));
    let (_watch, lines) = tickcast(&["watch", &url, &quotes, "status", "--duration", duration]);
    let (mut last, mut ended) = (Value::Null, false);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(&line.expect("UTF-8")).expect("every line is JSON");
        ended |= line["feed"]["state"] == "ended";
        if line["topic"] == quotes.as_str() {
            last = line;
        }
    }
    assert!(ended, "the watch ended before the recording");
    for field in ["bid", "bid_size", "ask", "ask_size"] {
        assert_eq!(number(&last[field]).to_bits(), number(&computed[field]).to_bits(), "{field}: {last}");
    }
    let trades = get(&address, &format!("/v1/trades/{symbol}?limit=1"));
    assert_eq!(number(&trades["trades"][0]["price"]).to_bits(), number(&computed["last"]).to_bits());
    let count = trades["trades"][0]["number"].as_u64().expect("a number") + 1;
    assert_eq!(Some(count), computed["trades"].as_u64());
}

fn recording(name: &str) -> PathBuf {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data");
    let folder = std::env::var("TICKCAST_DATA").unwrap_or_else(|_| beside.to_owned());
    Path::new(&folder).join("binance-ws").join(name)
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn a_session_played_as_fast_as_can_be_ends_as_recorded() {
    check(&recording("spot/btcusdt_20240808.gz"), "max", "5s");
    check(&recording("usdm/btcusdt_20240808.gz"), "max", "8s");
}

#[test]
#[ignore = "needs the recordings in ../shared/data"]
fn a_session_played_in_its_own_rhythm_ends_as_recorded() {
    // The 346 recorded seconds, each as it was, in 17.
    check(&recording("spot/ethusdt_20240808.gz"), "20", "22s");
}
