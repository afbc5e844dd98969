//! History over HTTP: pages, formats, tags, compression.

use crate::server::support::{Client, RawClient, Response, TestServer, request, soon, trade};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tickcast::feed::Recordings;
use tickcast::feed::formats::OpenOptions;
use tickcast::market::Speed;

/// A symbol that has to be quoted in CSV, and escaped in lists.
const ODD: &str = "C,D \"é\"";
const ODD_IN_QUERY: &str = "C%252CD%20%22%C3%A9%22";

/// A server whose recording has ended: 22 minutes with more trades and bars than are kept.
async fn recorded() -> (TestServer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("day.jsonl");
    std::fs::write(&path, recording()).unwrap();
    let server = TestServer::start_with(|config| {
        config.source = Some(Arc::new(Recordings::new(vec![path], OpenOptions::default())));
        config.speed = Speed::Max;
    })
    .await;
    let ended = async { while server.state().await["state"] != "ended" {} };
    soon("the end of the recording", ended).await;
    let mut lines = String::new();
    for (symbol, sector) in [("AAA", "technology"), ("BBB/X", "energy"), (ODD, "technology"), ("EEE", "")] {
        let line = json!({"type": "instrument", "symbol": symbol, "sector": sector, "size_scale": 2});
        writeln!(lines, "{line}").unwrap();
    }
    server.publish_and_see(&lines).await;
    (server, folder)
}

fn recording() -> String {
    let mut lines = String::new();
    for half in 0..2600 {
        let (minute, second, tenth) = (half / 120, half / 2 % 60, half % 2 * 5);
        let at = format!("2024-08-08T12:{minute:02}:{second:02}.{tenth}Z");
        let mut line = |line: Value| writeln!(lines, "{line}").unwrap();
        let price = format!("{}.{:02}", 100 + half % 7, half % 100);
        line(json!({"type": "trade", "symbol": "AAA", "price": price, "size": half + 1, "ts_event": at}));
        if half % 15 == 0 {
            line(json!({"type": "trade", "symbol": ODD, "price": "1.5", "size": "0.25", "side": "sell",
                "conditions": "F I", "counts": ["volume"], "ts_event": at}));
            line(json!({"type": "trade", "symbol": ODD, "price": "1.25", "size": 1, "counts": [],
                "ts_event": at}));
        }
        if half % 1000 == 0 {
            line(json!({"type": "trade", "symbol": "BBB/X", "price": "7", "size": 1, "ts_event": at}));
        }
    }
    // Time passes: no bar is open any more.
    let last = json!({"type": "quote", "symbol": "BBB/X", "bid": "6", "bid_size": 1, "ask": null,
        "ts_event": "2024-08-08T12:25:00Z"});
    lines + &format!("{last}\n")
}

/// A page as JSON has it: the rows by symbol, in their order.
#[derive(Clone, Debug, PartialEq)]
struct Page {
    rows: Vec<(String, Value)>,
    gap: Value,
    next: Option<String>,
}

impl TestServer {
    /// The rows of an answer, whatever its shape.
    async fn rows(&self, path: &str) -> Vec<Value> {
        self.page(path).await.rows.into_iter().map(|(_, row)| row).collect()
    }

    async fn page(&self, path: &str) -> Page {
        let response = self.get(path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        let answer = response.json();
        let list = ["trades", "bars", "quotes", "instruments"].into_iter().find_map(|name| answer.get(name));
        let of = |symbol: &Value, rows: &Value| -> Vec<(String, Value)> {
            let symbol = symbol.as_str().unwrap();
            rows.as_array().unwrap().iter().map(|row| (symbol.to_owned(), row.clone())).collect()
        };
        let rows = match (list.unwrap(), &answer["symbol"]) {
            (Value::Object(by_symbol), _) => {
                by_symbol.iter().flat_map(|(symbol, rows)| of(&json!(symbol), rows)).collect()
            }
            (Value::Array(rows), Value::Null) => {
                rows.iter().map(|row| (row["symbol"].as_str().unwrap().to_owned(), row.clone())).collect()
            }
            (rows, symbol) => of(symbol, rows),
        };
        let next = answer["next_page_token"].as_str().map(str::to_owned);
        Page { rows, gap: answer["gap"].clone(), next }
    }

    /// The rows of all pages from there on.
    async fn pages(&self, path: &str) -> Vec<(String, Value)> {
        let mut page = self.page(path).await;
        let mut rows = std::mem::take(&mut page.rows);
        while let Some(token) = &page.next {
            page = self.page(&format!("{path}&page_token={token}")).await;
            assert_eq!(page.gap, Value::Null, "{path}");
            assert!(!page.rows.is_empty(), "{path}: a page without rows");
            rows.append(&mut page.rows);
        }
        rows
    }

    /// Publishes, and waits until HTTP answers with it: that is from a replica of its own, which may be a
    /// moment behind.
    async fn publish_and_see(&self, lines: &str) {
        let position = self.publish(lines).await["position"].as_u64().unwrap();
        let folded = async {
            while self.get("/v1/instruments").await.json()["position"].as_u64().unwrap() < position {
                tokio::task::yield_now().await;
            }
        };
        soon("the replica", folded).await;
    }

    async fn with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        request(self.address, "GET", path, headers, b"").await
    }
}

fn numbers(rows: &[(String, Value)]) -> Vec<u64> {
    rows.iter().map(|(_, row)| row["number"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_together_are_the_ring_and_descending_is_ascending_reversed() {
    let (server, _folder) = recorded().await;
    for (path, all) in [
        ("/v1/trades?symbols=*", 1024 + 3 + 348),
        ("/v1/bars?symbols=*&interval=1s", 600 + 3 + 174),
        ("/v1/bars?symbols=*&interval=1m", 22 + 3 + 22),
        ("/v1/bars?symbols=*&interval=1d", 3),
        ("/v1/trades/AAA?", 1024),
        ("/v1/bars/AAA?interval=1s", 600),
    ] {
        let most = if path.contains('*') { 10_000 } else { 600 };
        let whole = server.pages(&format!("{path}&limit={most}&sort=asc")).await;
        assert_eq!(whole.len(), all, "{path}");
        for limit in [7, 100, 333, 599] {
            assert_eq!(
                server.pages(&format!("{path}&limit={limit}&sort=asc")).await,
                whole,
                "{path} {limit}"
            );
            let descending = server.pages(&format!("{path}&limit={limit}&sort=desc")).await;
            // Of each symbol; the symbols come in the same order.
            let mut reversed = whole.clone();
            reversed.reverse();
            let order = ["AAA", ODD, "BBB/X"];
            reversed.sort_by_key(|(symbol, _)| order.iter().position(|known| known == symbol));
            assert_eq!(descending, reversed, "{path} {limit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_what_a_session_is_told_of_the_same_rings() {
    let (server, _folder) = recorded().await;
    let mut client =
        Client::connect(&server, "topics=trades:AAA,bars.1s:AAA,trades:C%252CD%20%22%C3%A9%22").await;
    client.until("the rings", |seen| seen.rings.len() == 3).await;
    let odd = format!("/v1/trades?symbols={ODD_IN_QUERY}");
    assert_eq!(client.seen.rings["trades:AAA"], server.rows("/v1/trades?symbols=AAA&limit=2000").await);
    assert_eq!(client.seen.rings["trades:C%2CD \"é\""], server.rows(&odd).await);
    let mut bars = server.rows("/v1/bars?symbols=AAA&interval=1s").await;
    for bar in &mut bars {
        let closed = bar.as_object_mut().unwrap().remove("closed");
        assert_eq!(closed, Some(json!(true)));
    }
    assert_eq!(client.seen.rings["bars.1s:AAA"], bars);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_has_its_start_and_its_end_in_it() {
    let (server, _folder) = recorded().await;
    let times = async |query: &str| -> Vec<String> {
        let rows = server.rows(&format!("/v1/trades?symbols=AAA&{query}")).await;
        rows.iter().map(|row| row["ts_event"].as_str().unwrap()[14..21].to_owned()).collect()
    };
    let expected = ["20:00.0", "20:00.5", "20:01.0"];
    assert_eq!(times("start=2024-08-08T12:20:00Z&end=2024-08-08T12:20:01Z").await, expected);
    assert_eq!(times("start=1723119600&end=1723119601").await, expected);
    assert_eq!(times("start=1723119600000&end=2024-08-08T14:20:01%2B02:00").await, expected);
    let reversed = times("start=1723119600&end=1723119601&sort=desc").await;
    assert_eq!(reversed.into_iter().rev().collect::<Vec<_>>(), expected);
    assert_eq!(times("end=2024-08-08T12:00:00Z").await, [""; 0]);
    assert_eq!(times("start=2024-08-08T12:21:39.5Z").await, ["21:39.5"]);
    // A bar is in it that starts in it.
    let bars = server.rows("/v1/bars/AAA?interval=1m&start=1723119600&end=1723119660").await;
    let starts: Vec<&Value> = bars.iter().map(|bar| &bar["start"]).collect();
    assert_eq!(starts, ["2024-08-08T12:20:00Z", "2024-08-08T12:21:00Z"]);
    // Pages of a window.
    let window = "/v1/trades?symbols=*&start=1723119300&end=1723119600&limit=50";
    let rows = server.pages(window).await;
    let whole = server.rows(&window.replace("limit=50", "limit=5000")).await;
    assert_eq!(rows.iter().map(|(_, row)| row.clone()).collect::<Vec<_>>(), whole);
    assert!(whole.len() > 600, "{}", whole.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn symbols_are_named_or_all_or_those_of_a_sector() {
    let (server, _folder) = recorded().await;
    let symbols = async |query: &str| -> Vec<String> {
        let mut symbols: Vec<_> =
            server.page(query).await.rows.into_iter().map(|(symbol, _)| symbol).collect();
        symbols.dedup();
        symbols
    };
    let bars = "/v1/bars?interval=1d&symbols=";
    assert_eq!(symbols(&format!("{bars}*")).await, ["AAA", ODD, "BBB/X"]);
    assert_eq!(symbols(&format!("{bars}@technology")).await, ["AAA", ODD]);
    // In the order in which they came to the market, each once.
    assert_eq!(symbols(&format!("{bars}{ODD_IN_QUERY},BBB/X,AAA,AAA,@energy")).await, ["AAA", ODD, "BBB/X"]);
    assert_eq!(symbols("/v1/quotes?symbols=*").await, ["BBB/X"]);
    assert_eq!(symbols("/v1/quotes?symbols=@energy,AAA").await, ["BBB/X"]);
    // One that nothing is known of but its name has no rows.
    assert_eq!(symbols(&format!("{bars}EEE")).await, [""; 0]);
    assert_eq!(server.get(&format!("{bars}EEE")).await.json()["bars"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_has_the_same_rows() {
    let (server, _folder) = recorded().await;
    for path in [
        "/v1/trades?symbols=*&limit=3000",
        "/v1/trades/AAA?limit=5",
        "/v1/bars?symbols=*&interval=1s&limit=3000",
        "/v1/bars?symbols=*&interval=1m&limit=40",
        "/v1/bars?symbols=*&interval=1d",
        "/v1/bars/BBB/X?sort=desc",
        "/v1/quotes?symbols=*",
        "/v1/instruments?",
        "/v1/trades?symbols=EEE",
    ] {
        let page = server.page(path).await;
        let rows: Vec<Map<String, Value>> = page
            .rows
            .into_iter()
            .map(|(symbol, row)| {
                let mut row = row.as_object().unwrap().clone();
                row.insert("symbol".to_owned(), symbol.into());
                row
            })
            .collect();
        let lines = server.get(&format!("{path}&format=ndjson")).await;
        assert_eq!(lines.header("content-type"), Some("application/x-ndjson"));
        let text = lines.text();
        let parsed: Vec<Map<String, Value>> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed, rows, "{path}");
        assert!(text.is_empty() || text.ends_with('\n'), "{path}");

        let sheet = server.get(&format!("{path}&format=csv")).await;
        assert_eq!(sheet.header("content-type"), Some("text/csv; charset=utf-8; header=present"));
        let text = sheet.text();
        assert!(text.ends_with("\r\n") && text.lines().count() == rows.len() + 1, "{path}: {text}");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        for (cells, row) in reader.records().map(Result::unwrap).zip(&rows) {
            let cells: BTreeMap<&str, &str> = names.iter().map(String::as_str).zip(&cells).collect();
            for (name, value) in row {
                assert_eq!(cells[name.as_str()], cell(value), "{path}: {name}");
            }
            let others = cells.iter().filter(|(name, _)| !row.contains_key(**name));
            assert!(others.clone().all(|(_, text)| text.is_empty()), "{path}: {others:?}");
        }
    }
    let odd = server.get(&format!("/v1/trades?symbols={ODD_IN_QUERY}&limit=2&format=csv")).await.text();
    let expected = "symbol,number,price,size,side,ts_event,conditions,counts,breaks\r\n\
        \"C,D \"\"é\"\"\",0,1.50,0.25,sell,2024-08-08T12:00:00.000000Z,F I,volume,\r\n\
        \"C,D \"\"é\"\"\",1,1.25,1.00,none,2024-08-08T12:00:00.000000Z,,nothing,\r\n";
    assert_eq!(odd, expected);
}

/// What CSV has for a value.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(words) if words.is_empty() => "nothing".to_owned(),
        Value::Array(words) => words.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_format_is_the_one_that_is_accepted_most() {
    let (server, _folder) = recorded().await;
    let (json, lines, csv) = ("application/json", "application/x-ndjson", "text/csv");
    for (accept, expected) in [
        ("*/*", json),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", json),
        ("text/csv", csv),
        ("Text/CSV; header=present", csv),
        ("text/*", csv),
        ("application/*", json),
        ("application/json;q=0.5, application/x-ndjson", lines),
        ("application/json;q=0.5, text/csv;q=0.9, */*;q=0.1", csv),
        ("application/json;q=0, */*", lines),
    ] {
        let response = server.with("/v1/bars/AAA", &[("Accept", accept)]).await;
        let media_type = response.header("content-type").unwrap();
        assert_eq!(media_type.split(';').next(), Some(expected), "{accept}");
        assert!(response.header("vary").unwrap().contains("Accept"), "{accept}");
    }
    // A parameter is a word of its own, as links cannot set header fields.
    let named = server.with("/v1/bars/AAA?format=csv", &[("Accept", json)]).await;
    assert!(named.header("content-type").unwrap().starts_with(csv));
    for accept in ["text/plain", "application/json;q=0", "image/*, text/html"] {
        for path in ["/v1/bars/AAA", "/v1/trades?symbols=*", "/v1/quotes", "/v1/instruments"] {
            let refused = server.with(path, &[("Accept", accept)]).await;
            refused.check_problem(406, "there are application/json, application/x-ndjson, text/csv");
        }
    }
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains("refused_total{reason=\"not_acceptable\"} 12\n"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_leads_to_the_next_page_whatever_the_format() {
    let (server, _folder) = recorded().await;
    for format in ["json", "ndjson", "csv"] {
        let path = "/v1/trades";
        let mut query = format!("?symbols=AAA,{ODD_IN_QUERY}&limit=500&format={format}");
        let mut lines = Vec::new();
        loop {
            let response = server.get(&format!("{path}{query}")).await;
            assert_eq!(response.status, 200, "{}", response.text());
            let skip = usize::from(format == "csv");
            lines.extend(response.text().lines().skip(skip).map(str::to_owned));
            // Relative, so that it leads to the same path below whatever a proxy puts in front.
            let Some(link) = response.header("link") else { break };
            link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().clone_into(&mut query);
            assert!(query.starts_with("?symbols="), "{query}");
        }
        if format != "json" {
            assert_eq!(lines.len(), 1024 + 348, "{format}");
        }
    }
}

/// A server with so many trades of AAA, numbered from 0, each with its number as its size.
async fn trades_up_to(count: u64) -> TestServer {
    let server = TestServer::start().await;
    publish(&server, 0, count).await;
    server
}

async fn publish(server: &TestServer, from: u64, to: u64) {
    let lines: String = (from..to).map(|number| trade("AAA", "1.5", number)).collect();
    server.publish_and_see(&lines).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_evicted_between_two_pages_is_told_and_the_rest_comes_once() {
    let server = trades_up_to(1000).await;
    let path = "/v1/trades?symbols=AAA&limit=10";
    let first = server.page(path).await;
    assert_eq!(numbers(&first.rows), (0..10).collect::<Vec<_>>());
    assert_eq!(first.gap, Value::Null);
    let token = first.next.unwrap();
    let path = format!("{path}&page_token={token}");
    // Nothing is evicted yet: the same page, however the ring grows.
    let second = server.page(&path).await;
    publish(&server, 1000, 1024).await;
    assert_eq!(server.page(&path).await, second);
    publish(&server, 1024, 1100).await;
    let third = server.page(&path).await;
    assert_eq!(third.gap, json!({"symbol": "AAA", "expected": 10, "next": 76}));
    assert_eq!(numbers(&third.rows), (76..86).collect::<Vec<_>>());
    // The other formats say it in a header field.
    let sheet = server.get(&format!("{path}&format=csv")).await;
    assert_eq!(sheet.header("tickcast-gap"), Some("symbol=\"AAA\", expected=10, next=76"));
    let rest = server.pages(&format!("/v1/trades?symbols=AAA&limit=100&page_token={token}")).await;
    assert_eq!(numbers(&rest), (76..1100).collect::<Vec<_>>());
    // All that it was to go on with is gone.
    publish(&server, 1100, 3000).await;
    let late = server.page(&path).await;
    assert_eq!(late.gap, json!({"symbol": "AAA", "expected": 10, "next": 1976}));
    assert_eq!(numbers(&late.rows), (1976..1986).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_evicted_before_a_descending_page_reaches_it_is_told() {
    let server = trades_up_to(1024).await;
    let path = "/v1/trades/AAA?sort=desc&limit=1000";
    let first = server.page(path).await;
    assert_eq!(numbers(&first.rows), (24..1024).rev().collect::<Vec<_>>());
    let path = format!("{path}&page_token={}", first.next.unwrap());
    publish(&server, 1024, 1034).await;
    let second = server.page(&path).await;
    assert_eq!(second.gap, json!({"symbol": "AAA", "expected": 0, "next": 10}));
    assert_eq!(numbers(&second.rows), (10..24).rev().collect::<Vec<_>>());
    assert_eq!(second.next, None);
    publish(&server, 1034, 2048).await;
    let gone = server.page(&path).await;
    assert_eq!((gone.gap, gone.rows), (json!({"symbol": "AAA", "expected": 0, "next": 1024}), Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_where_a_list_ends() {
    let server = trades_up_to(50).await;
    let list = server.get("/v1/trades?symbols=AAA&format=ndjson").await;
    assert_eq!(list.text().lines().count(), 50);
    let position = list.header("tickcast-position").unwrap().to_owned();
    let (epoch, position) = position.split_once('-').unwrap();
    publish(&server, 50, 53).await;
    let path = format!("/v1/ws?format=json&topics=trades:AAA&epoch={epoch}&position={position}");
    let mut client = RawClient::connect(&server, &path, b"").await;
    let mut numbers = Vec::new();
    while numbers.last() != Some(&52) {
        let update = client.text().await;
        let trades =
            update["updates"].as_array().into_iter().flatten().filter_map(|e| e["trades"].as_array());
        numbers.extend(trades.flatten().map(|trade| trade["number"].as_u64().unwrap()));
    }
    assert_eq!(numbers, [50, 51, 52]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_not_sent_again_what_it_has() {
    let server = trades_up_to(30).await;
    for path in ["/v1/trades/AAA", "/v1/bars?symbols=*", "/v1/quotes", "/v1/instruments"] {
        let first = server.get(path).await;
        let tag = first.header("etag").unwrap();
        assert!(tag.starts_with("W/\""), "{tag}");
        assert_eq!(first.header("cache-control"), Some("no-cache"));
        let position = first.header("tickcast-position").unwrap();
        let json = first.json();
        assert_eq!(position, format!("{}-{}", json["epoch"], json["position"]));
        for known in [tag, &tag[2..], &format!("\"other\", {tag}"), "*"] {
            let again = server.with(path, &[("If-None-Match", known)]).await;
            assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)), "{path}");
        }
        let other = server.with(path, &[("If-None-Match", tag), ("Accept", "text/csv")]).await;
        assert_eq!(other.status, 200, "{path}: another format is another thing");
    }
    let tag = async |path: &str| server.get(path).await.header("etag").unwrap().to_owned();
    let newest = ["/v1/trades/AAA", "/v1/bars/AAA", "/v1/trades?symbols=AAA&sort=desc"];
    let of_others = ["/v1/quotes", "/v1/instruments", "/v1/trades?symbols=AAA&limit=5"];
    let mut before = Vec::new();
    for path in newest.into_iter().chain(of_others) {
        before.push(tag(path).await);
    }
    publish(&server, 30, 31).await;
    for (path, before) in newest.into_iter().chain(of_others).zip(before) {
        assert_eq!(tag(path).await == before, of_others.contains(&path), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_cannot_change_may_be_kept() {
    let server = trades_up_to(100).await;
    let path = "/v1/trades?symbols=AAA&limit=30";
    let mut page = server.page(path).await;
    let mut kept = Vec::new();
    while let Some(token) = page.next {
        let path = format!("{path}&page_token={token}");
        kept.push(server.get(&path).await.header("cache-control").unwrap().to_owned());
        page = server.page(&path).await;
    }
    // The last one ends with the newest trade.
    assert_eq!(kept, ["max-age=3600", "max-age=3600", "no-cache"]);
    assert_eq!(server.get(path).await.header("cache-control"), Some("no-cache"));
}

fn unpacked(response: &Response) -> Vec<u8> {
    let packed = &*response.body;
    let mut unpacker: Box<dyn Read> = match response.header("content-encoding") {
        None => Box::new(packed),
        Some("gzip") => Box::new(flate2::read::GzDecoder::new(packed)),
        Some("zstd") => Box::new(zstd::Decoder::new(packed).unwrap()),
        Some("br") => Box::new(brotli_decompressor::Decompressor::new(packed, 4096)),
        Some(other) => panic!("{other}"),
    };
    let mut body = Vec::new();
    unpacker.read_to_end(&mut body).unwrap();
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_as_the_client_asks() {
    let (server, _folder) = recorded().await;
    let path = "/v1/trades?symbols=*&limit=2000&format=csv";
    let plain = server.get(path).await;
    assert_eq!(plain.header("content-encoding"), None);
    for (accept, expected) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("zstd", Some("zstd")),
        ("gzip;q=0.5, br;q=0.1", Some("gzip")),
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("deflate", None),
        ("identity", None),
        ("gzip;q=0", None),
    ] {
        let packed = server.with(path, &[("Accept-Encoding", accept)]).await;
        assert_eq!(packed.header("content-encoding"), expected, "{accept}");
        assert_eq!(packed.header("vary"), Some("Accept, Accept-Encoding"), "{accept}");
        assert_eq!(packed.header("etag"), plain.header("etag"), "{accept}");
        assert!(unpacked(&packed) == plain.body, "{accept}: another body");
        if expected.is_some() {
            assert!(packed.body.len() * 4 < plain.body.len(), "{accept}: {} bytes", packed.body.len());
        }
        // As for GET, without a body.
        let head = request(server.address, "HEAD", path, &[("Accept-Encoding", accept)], b"").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["content-encoding", "etag", "vary", "content-type", "content-length"] {
            assert_eq!(head.header(name), packed.header(name), "{accept}: {name}");
        }
    }
    let gzip = [("Accept-Encoding", "gzip")];
    // Nothing is won with these.
    for path in ["/v1/trades/AAA?limit=1", "/healthz", "/v1/feed"] {
        assert_eq!(server.with(path, &gzip).await.header("content-encoding"), None, "{path}");
    }
    let metrics = server.with("/metrics", &gzip).await;
    assert_eq!(metrics.header("content-encoding"), Some("gzip"));
    assert!(unpacked(&metrics).ends_with(b"# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_not_compressed() {
    let (server, _folder) = recorded().await;
    for path in ["/v1/lines?topics=trades:AAA", "/v1/sse?topics=trades:AAA"] {
        let mut stream = RawClient::dial(server.address).await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br, zstd\r\n\r\n");
        stream.send(head.as_bytes()).await;
        // The head of an answer that does not end.
        let response = stream.response("HEAD").await;
        assert_eq!((response.status, response.header("content-encoding")), (200, None), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_of_one_tape_and_of_one_list() {
    let server = trades_up_to(30).await;
    let token = server.page("/v1/trades?symbols=AAA&limit=10").await.next.unwrap();
    let check = async |server: &TestServer, path: &str, detail: &str| {
        server.get(&format!("{path}&page_token={token}")).await.check_problem(400, detail);
    };
    check(&server, "/v1/bars?symbols=AAA", "it continues trades with sort=asc").await;
    check(&server, "/v1/trades?symbols=AAA&sort=desc", "it continues trades with sort=asc").await;
    let other = trades_up_to(30).await;
    check(&other, "/v1/trades?symbols=AAA", "of another epoch").await;
    for broken in ["x", "%21", &token[1..], &token[..token.len() / 2], "dHJhZGVzIGFzYw"] {
        let path = format!("/v1/trades?symbols=AAA&page_token={broken}");
        server.get(&path).await.check_problem(400, "expected the next_page_token of an answer");
    }
    // It goes on with what comes after, if its symbol is not asked for.
    server.publish(&trade("BBB", "2", 1)).await;
    let page = server.page(&format!("/v1/trades?symbols=BBB&page_token={token}")).await;
    assert_eq!((page.gap, page.rows.len()), (Value::Null, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_from_before_a_seek_is_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds/binance-spot-60s.tape");
    let server = TestServer::start_with(|config| {
        config.source = Some(Arc::new(Recordings::new(vec![path], OpenOptions::default())));
    })
    .await;
    server.until_ready().await;
    let seek = json!({"action": "seek", "to": "2024-08-08T23:54:40Z"});
    assert_eq!(server.post(&seek).await.status, 200);
    let list = "/v1/trades?symbols=*&limit=10";
    let token = server.page(list).await.next.expect("more than ten trades in half a minute");
    assert_eq!(server.page(&format!("{list}&page_token={token}")).await.rows.len(), 10);
    assert_eq!(server.post(&seek).await.status, 200);
    let refused = server.get(&format!("{list}&page_token={token}")).await;
    refused.check_problem(400, "the market was reset since, as by a seek: begin without it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_shows_in_the_last_version_of_its_bar_only() {
    let server = TestServer::start().await;
    let line = |value: Value| format!("{value}\n");
    let lines = line(json!({"type": "trade", "symbol": "AAA", "id": "1", "price": "5", "size": 1}))
        + &line(json!({"type": "trade", "symbol": "AAA", "id": "2", "price": "6", "size": 1}));
    server.publish(&lines).await;
    let closed = async {
        loop {
            let bars = server.rows("/v1/bars?symbols=AAA&interval=1s").await;
            if !bars.is_empty() && bars.iter().all(|bar| bar["closed"] == true) {
                break bars;
            }
        }
    };
    let before = soon("the end of its second", closed).await;
    server.publish(&line(json!({"type": "cancel", "symbol": "AAA", "id": "2"}))).await;
    let amended = async {
        loop {
            let bars = server.rows("/v1/bars?symbols=AAA&interval=1s").await;
            if bars != before {
                break bars;
            }
        }
    };
    let after = soon("the corrected bar", amended).await;
    let starts = |bars: &[Value]| bars.iter().map(|bar| bar["start"].clone()).collect::<Vec<_>>();
    assert_eq!(starts(&after), starts(&before));
    let trades: u64 = after.iter().map(|bar| bar["trades"].as_u64().unwrap()).sum();
    assert_eq!(trades, 1, "{after:?}");
    let rows = server.rows("/v1/trades/AAA").await;
    assert_eq!((&rows[2]["breaks"], rows.len()), (&json!(1), 3));
    let sheet = server.get("/v1/trades/AAA?format=csv").await.text();
    assert!(sheet.trim_end().ends_with(",1"), "{sheet}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_in_a_request_for_history_is_told() {
    let (server, _folder) = recorded().await;
    let check = async |path: &str, status: u16, detail: &str| {
        server.get(path).await.check_problem(status, detail);
    };
    check("/v1/trades", 400, "symbols: name some, as A,B, or * for all, or @SECTOR").await;
    check("/v1/bars?symbols=", 400, "symbols: name some").await;
    check("/v1/bars?symbols=,,", 400, "symbols: name some").await;
    check("/v1/trades?symbols=AAA,AAB", 404, "did you mean \"AAA\"?").await;
    check("/v1/trades?symbols=ZZZZZZ", 404, "/v1/instruments lists all").await;
    check("/v1/trades?symbols=@tecnology", 404, "did you mean \"@technology\"?").await;
    check("/v1/quotes?symbols=@nothing-at-all", 404, "no symbol is of sector").await;
    check("/v1/trades?symbols=A%00", 400, "symbols: ").await;
    check(&format!("/v1/trades?symbols={}", "AAA,".repeat(1001)), 400, "at most 1000").await;
    check("/v1/trades?symbols=*&limit=0", 400, "limit=\"0\": expected a number from 1 to 10000").await;
    check("/v1/trades?symbols=*&limit=10001", 400, "from 1 to 10000").await;
    check("/v1/bars/AAA?limit=602", 400, "from 1 to 601").await;
    check("/v1/bars?symbols=*&interval=5m", 400, "interval=\"5m\": expected 1s or 1m, or 1d").await;
    check("/v1/bars?symbols=*&sort=up", 400, "sort=\"up\": expected asc or desc").await;
    check("/v1/bars?symbols=*&format=xml", 400, "format=\"xml\": expected json, ndjson or csv").await;
    check("/v1/bars?symbols=*&start=yesterday", 400, "start=\"yesterday\": expected RFC 3339").await;
    check("/v1/bars?symbols=*&end=2024-08-08", 400, "end=\"2024-08-08\": expected RFC 3339").await;
    let backwards = "/v1/bars?symbols=*&start=2024-08-09T00:00:00Z&end=2024-08-08T00:00:00Z";
    check(backwards, 400, "end: 2024-08-08T00:00:00Z is before start, 2024-08-09T00:00:00Z").await;
    check("/v1/trades?symbols=*&interval=1s", 400, "there are symbols, start, end, limit, sort").await;
    check("/v1/trades/AAA?symbols=BBB", 400, "there are start, end, limit, sort, page_token").await;
    check("/v1/instruments?symbols=*", 400, "there are format, room").await;
    check("/v1/trades?symbols=*&room=none", 404, "there is no room").await;
    check("/v1/trade?symbols=*", 404, "did you mean /v1/trades?").await;
    for path in ["/v1/trades", "/v1/bars", "/v1/trades/AAA"] {
        let options = request(server.address, "OPTIONS", path, &[], b"").await;
        assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS")), "{path}");
        request(server.address, "POST", path, &[], b"").await.check_problem(405, "POST");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_has_a_history_of_its_own() {
    let (server, _folder) = recorded().await;
    let mut client = Client::connect(&server, "room=study&speed=max&topics=trades:AAA").await;
    let last = |seen: &crate::server::support::Seen| {
        seen.rings.get("trades:AAA").and_then(|ring| ring.last()).is_some_and(|last| last["size"] == "2600")
    };
    client.until("the end of the recording", last).await;
    let rows = server.pages("/v1/trades?symbols=AAA&room=study&limit=100").await;
    assert_eq!(numbers(&rows), (2600 - 512..2600).collect::<Vec<_>>());
    let public = server.page("/v1/trades?symbols=AAA&limit=100").await.next.unwrap();
    let mixed = server.get(&format!("/v1/trades?symbols=AAA&room=study&page_token={public}")).await;
    mixed.check_problem(400, "of another epoch");
}
