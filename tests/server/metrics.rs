use crate::support::{
    CLOSE, Client, RawClient, TEXT, TestServer, frame, handshake, quote, request, soon, trade,
};
use serde_json::json;
use std::collections::BTreeMap;

/// What one scrape tells, by the metric's name and labels as they are written.
async fn scrape(server: &TestServer) -> BTreeMap<String, f64> {
    let page = server.get("/metrics").await.text();
    let values = page.lines().filter(|line| !line.starts_with('#'));
    let values = values.map(|line| line.rsplit_once(' ').expect("name and value"));
    values.map(|(name, value)| (name.to_owned(), value.parse().expect("a number"))).collect()
}

/// Waits for a metric to be so: a shard tells of a turn at its end, when clients have what it sent already.
#[track_caller]
fn becomes<'a>(
    server: &'a TestServer,
    metric: &'a str,
    value: impl Into<f64>,
) -> impl Future<Output = ()> + 'a {
    let value = value.into();
    let is_so = async move {
        #[expect(clippy::float_cmp, reason = "counts are whole numbers")]
        while scrape(server).await.get(metric) != Some(&value) {
            tokio::task::yield_now().await;
        }
    };
    async move { soon(&format!("{metric} {value}"), is_so).await }
}

fn count_of(count: usize) -> f64 {
    u32::try_from(count).expect("a test counts less").into()
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
    let described = include_str!("../../docs/http.md");
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
    becomes(&server, "tickcast_connections{shard=\"0\"}", 2).await;
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
    becomes(&server, "tickcast_connections_blocked{shard=\"0\"}", 1).await;
    slow.reach(&published["position"]).await;
    becomes(&server, "tickcast_connections_blocked{shard=\"0\"}", 0).await;

    let counted = scrape(&server).await;
    let count = |metric: &str| counted[&format!("tickcast_{metric}{{shard=\"0\"}}")];
    let [entries, bytes, built, sent] = ["entries_sent", "frames_sent_bytes", "frames_built", "frames_sent"]
        .map(|metric| count(&format!("{metric}_total")));
    let told = |client: &Client| client.seen.told["quote:A"] + client.seen.numbers("trades:A").len();
    assert_eq!(entries, count_of(told(&slow) + told(&quick)));
    // Both quotes and trades of one, quotes of the other, and what was there before they came.
    let ticks = count_of((2 * ROUNDS * PER_ROUND + 2 + ROUNDS * PER_ROUND + 1) as usize);
    assert_eq!(count("events_delivered_total"), ticks);
    assert_eq!(count("events_merged_total"), ticks - entries);
    assert!(ticks > entries, "the slow one was not told all");
    // Each frame has a header besides what is in it.
    let payload = count_of(slow.seen.bytes + quick.seen.bytes);
    assert!(
        bytes > payload && bytes <= payload + 10.0 * sent,
        "{bytes} bytes on the wire, {payload} in frames"
    );
    assert!(built > 0.0 && sent >= built, "{built} built, {sent} sent");
    assert_eq!(count("shard_behind_batches"), 0.0);
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
    becomes(&server, "tickcast_connections{shard=\"0\"}", 0).await;
    let counted = scrape(&server).await;
    for (metric, count) in [
        ("connections_max", 3.0),
        ("connections_opened_total{shard=\"0\"}", 3.0),
        ("connections_closed_total{code=\"1000\"}", 1.0),
        ("connections_closed_total{code=\"1002\"}", 1.0),
        ("connections_closed_total{code=\"1006\"}", 1.0),
        ("connections_closed_total{code=\"1001\"}", 0.0),
        ("connections_refused_total{reason=\"full\"}", 1.0),
        ("connections_refused_total{reason=\"origin\"}", 1.0),
        ("connections_refused_total{reason=\"handshake\"}", 1.0),
    ] {
        assert_eq!(counted.get(&format!("tickcast_{metric}")), Some(&count), "{metric}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_what_they_ask() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    let requests = [
        json!({"op": "ping"}),
        json!({"op": "ping"}),
        json!({"op": "auth", "token": "x"}),
        json!({"op": "?"}),
    ];
    for request in &requests {
        client.send(&frame(TEXT, request.to_string().as_bytes())).await;
    }
    // `auth` is understood, and answered with an error all the same.
    becomes(&server, "tickcast_request_errors_total", 2).await;
    let counted = scrape(&server).await;
    for (op, count) in [("ping", 2.0), ("auth", 1.0), ("subscribe", 0.0)] {
        assert_eq!(counted[&format!("tickcast_requests_total{{op=\"{op}\"}}")], count, "{op}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tape_and_its_feed_are_counted() {
    let server = TestServer::start().await;
    server.until_ready().await;
    let before = scrape(&server).await;
    assert_eq!(before["tickcast_feed_live"], 0.0, "nothing is published yet");
    let published = server.publish(&(quote("A", "1", "2") + &trade("A", "1", 1))).await;
    let after = scrape(&server).await;
    let grown = |metric: &str| after[metric] - before[metric];
    assert!(after["tickcast_tape_position"] >= published["position"].as_f64().unwrap());
    assert_eq!(grown("tickcast_publications_total"), 1.0);
    // That the feed lives, the symbol by its name and with its scales, a quote and a trade.
    assert!(grown("tickcast_tape_events_total") >= 4.0, "{after:?}");
    assert_eq!(after["tickcast_feed_live"], 1.0);
    assert_eq!(after["tickcast_feed_behind_seconds"], 0.0);
    assert!(after["process_start_time_seconds"] > 1.7e9);
}
