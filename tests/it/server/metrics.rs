use crate::server::support::{
    CLOSE, Client, RawClient, TEXT, TestServer, frame, handshake, quote, request, soon, trade,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use tickcast::feed::Recordings;
use tickcast::feed::formats::OpenOptions;
use tickcast::market::Timestamp;

/// What one scrape tells: values by the metric's name and labels as they are written.
pub struct Scrape(BTreeMap<String, String>);

impl Scrape {
    pub async fn of(server: &TestServer) -> Self {
        let page = server.get("/metrics").await.text();
        let values = page.lines().filter(|line| !line.starts_with('#'));
        let values = values.map(|line| line.rsplit_once(' ').expect("name and value"));
        Self(values.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[track_caller]
    pub fn count(&self, metric: &str) -> u64 {
        let value = self.0.get(metric).unwrap_or_else(|| panic!("no {metric} in {:?}", self.0));
        value.parse().unwrap_or_else(|_| panic!("{metric} is no count: {value}"))
    }

    /// What the only shard counts.
    #[track_caller]
    fn of_shard(&self, metric: &str) -> u64 {
        self.count(&format!("tickcast_{metric}{{shard=\"0\"}}"))
    }
}

/// Waits for what the only shard counts: it tells of a turn at its end, when clients have what it sent
/// already.
async fn becomes(server: &TestServer, metric: &str, count: u64) {
    let is_so = async {
        while Scrape::of(server).await.of_shard(metric) != count {
            tokio::task::yield_now().await;
        }
    };
    soon(&format!("{metric} {count}"), is_so).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_openmetrics_and_every_metric_is_described() {
    let server = TestServer::start().await;
    let response = server.get("/metrics").await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((response.status, response.header("content-type")), (200, Some(kind)));
    let page = response.text();
    assert!(page.ends_with("# EOF\n"), "{page}");
    let names: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(names.len() > 20, "{names:?}");
    let described = include_str!("../../../docs/http.md");
    for name in names {
        let told = page.lines().find(|line| line.starts_with(name)).expect("each has a value");
        let told = told.split(['{', ' ']).next().expect("a name");
        assert!(described.contains(&format!("`{told}`")), "docs/http.md does not describe {told}");
    }
    server.get("/metrics?x=1").await.check_problem(400, "there are none");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_as_sent_is_what_clients_were_told_however_slow_they_read() {
    const ROUNDS: u32 = 10;
    const PER_ROUND: u32 = 1000;
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2000000") + &trade("A", "1", 1))).await;
    let mut slow = Client::connect_narrow(&server, "topics=quote:A,trades:A").await;
    let mut quick = Client::connect(&server, "topics=quote:A").await;
    for client in [&mut slow, &mut quick] {
        client.answer("subscribed").await;
        client.until("the snapshot", |seen| seen.told.contains_key("quote:A")).await;
    }
    becomes(&server, "connections", 2).await;
    let mut published = json!(null);
    for round in 0..ROUNDS {
        let mut lines = String::new();
        for number in round * PER_ROUND..(round + 1) * PER_ROUND {
            lines += &quote("A", &(number + 2).to_string(), "2000000");
            lines += &trade("A", "1", 1);
        }
        published = server.publish(&lines).await;
        quick.reach(&published["position"]).await;
    }
    becomes(&server, "connections_blocked", 1).await;
    slow.reach(&published["position"]).await;
    becomes(&server, "connections_blocked", 0).await;

    let counted = Scrape::of(&server).await;
    let count = |metric: &str| counted.of_shard(&format!("{metric}_total"));
    let told = |client: &Client| client.seen.told["quote:A"] + client.seen.numbers("trades:A").len();
    let entries = (told(&slow) + told(&quick)) as u64;
    assert_eq!(count("entries_sent"), entries);
    // Both quotes and trades of one, quotes of the other, and what was there before they came.
    let ticks = u64::from((2 * ROUNDS * PER_ROUND + 2) + (ROUNDS * PER_ROUND + 1));
    assert_eq!(count("events_delivered"), ticks);
    assert_eq!(count("events_merged"), ticks - entries);
    assert!(ticks > entries, "the slow one was not told all");
    let (built, sent, bytes) = (count("frames_built"), count("frames_sent"), count("frames_sent_bytes"));
    assert!(built > 0 && sent >= built, "{built} built, {sent} sent");
    // Each frame has a header besides what is in it.
    let payload = (slow.seen.bytes + quick.seen.bytes) as u64;
    assert!(bytes > payload && bytes <= payload + 10 * sent, "{bytes} bytes sent, {payload} received");
    assert_eq!(counted.of_shard("shard_behind_batches"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_counted_by_how_they_begin_and_end() {
    let server = TestServer::start_with(|config| config.max_connections = 3).await;
    let mut polite = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    let mut rude = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    let hasty = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    let head = handshake(server.address, "/v1/ws", &[]);
    let mut fourth = RawClient::dial(server.address).await;
    fourth.send(head.as_bytes()).await;
    assert_eq!(fourth.response("GET").await.status, 503);
    request(server.address, "GET", "/v1/ws", &[], b"").await.check_problem(426, "WebSocket");
    let mut foreign = RawClient::dial(server.address).await;
    let head = handshake(server.address, "/v1/ws", &[("Origin", "https://elsewhere.example")]);
    foreign.send(head.as_bytes()).await;
    assert_eq!(foreign.response("GET").await.status, 403);

    polite.send(&frame(CLOSE, &1000_u16.to_be_bytes())).await;
    assert_eq!(polite.closed().await.0, 1000);
    rude.send(&frame(0x83, b"")).await;
    assert_eq!(rude.closed().await.0, 1002);
    drop((polite, rude, hasty));
    becomes(&server, "connections", 0).await;
    let counted = Scrape::of(&server).await;
    for (metric, count) in [
        ("connections_max", 3),
        ("connections_opened_total{shard=\"0\"}", 3),
        ("connections_closed_total{code=\"1000\"}", 1),
        ("connections_closed_total{code=\"1002\"}", 1),
        ("connections_closed_total{code=\"1006\"}", 1),
        ("connections_closed_total{code=\"1001\"}", 0),
        ("connections_refused_total{reason=\"full\"}", 1),
        ("connections_refused_total{reason=\"origin\"}", 1),
        ("connections_refused_total{reason=\"handshake\"}", 1),
    ] {
        assert_eq!(counted.count(&format!("tickcast_{metric}")), count, "{metric}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_what_they_ask() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    let requests = [
        json!({"op": "ping"}),
        json!({"op": "ping"}),
        json!({"op": "fault", "fault": "none"}),
        json!({"op": "?"}),
    ];
    for request in &requests {
        client.send(&frame(TEXT, request.to_string().as_bytes())).await;
    }
    // `fault` is understood, and answered with an error all the same.
    let both = async {
        loop {
            let counted = Scrape::of(&server).await;
            if counted.count("tickcast_request_errors_total") == 2 {
                break counted;
            }
        }
    };
    let counted = soon("two errors", both).await;
    for (op, count) in [("ping", 2), ("fault", 1), ("subscribe", 0)] {
        assert_eq!(counted.count(&format!("tickcast_requests_total{{op=\"{op}\"}}")), count, "{op}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tape_and_its_feed_are_counted() {
    let server = TestServer::start().await;
    server.until_ready().await;
    let before = Scrape::of(&server).await;
    assert_eq!(before.count("tickcast_feed_live"), 0, "nothing is published yet");
    let published = server.publish(&(quote("A", "1", "2") + &trade("A", "1", 1))).await;
    let after = Scrape::of(&server).await;
    assert!(after.count("tickcast_tape_position") >= published["position"].as_u64().unwrap());
    let grown = |metric: &str| after.count(metric) - before.count(metric);
    assert_eq!(grown("tickcast_publications_total"), 1);
    // That the feed lives, the symbol by its name and with its scales, a quote and a trade.
    assert_eq!(grown("tickcast_tape_events_total"), 5);
    assert_eq!(after.count("tickcast_feed_live"), 1);
    assert_eq!(after.0["tickcast_feed_behind_seconds"], "0.0");
    let started: f64 = after.0["process_start_time_seconds"].parse().expect("a number");
    let now = Timestamp::now().micros() / 1_000_000;
    #[expect(clippy::cast_possible_truncation, reason = "seconds since 1970")]
    let age = now - started as i64;
    assert!((0..3600).contains(&age), "started at {started}, now is {now}");
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_batch_takes_to_be_sent_is_counted_in_buckets() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2")).await;
    let mut client = Client::connect(&server, "topics=quote:A").await;
    client.answer("subscribed").await;
    becomes(&server, "connections", 1).await;
    let before = Scrape::of(&server).await.count("tickcast_send_latency_seconds_count");
    let published = server.publish(&quote("A", "1", "3")).await;
    client.reach(&published["position"]).await;
    let counted = async {
        loop {
            let page = Scrape::of(&server).await;
            if page.count("tickcast_send_latency_seconds_count") > before {
                break page;
            }
        }
    };
    let page = soon("a batch that was sent", counted).await;
    let count = page.count("tickcast_send_latency_seconds_count");
    let bucket = |le: &str| page.count(&format!("tickcast_send_latency_seconds_bucket{{le=\"{le}\"}}"));
    assert_eq!(bucket("+Inf"), count);
    assert_eq!(bucket("10.0"), count, "this takes no ten seconds");
    assert!(bucket("0.00001") <= bucket("0.001") && bucket("0.001") <= bucket("10.0"));
    assert!(page.of_shard("shard_turns_total") > 0);
    let busy: f64 = page.0["tickcast_shard_busy_seconds_total{shard=\"0\"}"].parse().expect("seconds");
    assert!(busy > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_nothing_a_tape_holds_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("session.jsonl");
    let other = r#"1723161254087891268 {"result":null,"id":1}"#;
    let quote = r#"1723161254087891269 {"stream":"a@bookTicker","data":{"u":5,"s":"A","b":"1","B":"3","a":"2","A":"1"}}"#;
    std::fs::write(&path, [other, other, quote, "nonsense"].join("\n")).unwrap();
    let server = TestServer::start_with(|config| {
        config.source = Some(Arc::new(Recordings::new(vec![path], OpenOptions::default())));
    })
    .await;
    let ended = async { while server.get("/v1/feed").await.json()["state"] != "ended" {} };
    soon("the end", ended).await;
    let feed = server.get("/v1/feed").await.json();
    assert_eq!(feed["records"], json!({"unreadable": 1, "left_out": 2}), "{feed}");
    let metrics = server.get("/metrics").await.text();
    assert!(metrics.contains("tickcast_feed_left_out 2\n"), "{metrics}");
    server.shutdown().await;
}
