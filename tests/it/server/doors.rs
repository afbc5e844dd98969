use crate::server::support::{
    Client, RawClient, Response, TestServer, handshake, quote, request, soon, trade,
};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use tickcast::feed::Simulation;
use tickcast::feed::sim::{SimConfig, default_universe};
use tickcast::server::{ControlRule, PublishRule};

/// The head of a request that a proxy has passed on.
const PROXIED: [(&str, &str); 2] =
    [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Host", "market.example")];
const DESK: &str = "https://desk.example";

async fn post(server: &TestServer, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
    request(server.address, "POST", path, headers, body.as_bytes()).await
}

async fn counted(server: &TestServer, metric: &str) -> u64 {
    let page = server.get("/metrics").await.text();
    let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {metric} in {page}")).parse().expect("a count")
}

async fn simulated(control: ControlRule) -> TestServer {
    let server = TestServer::start_with(|config| {
        let rate = NonZeroU32::MIN;
        let config_of_market =
            SimConfig { symbols: 3, rate, ..SimConfig::starting(tickcast::market::Timestamp::now()) };
        config.source = Some(Arc::new(Simulation { universe: default_universe(), config: config_of_market }));
        config.control = control;
        config.ops = None;
    })
    .await;
    server.until_ready().await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_proxy_passes_on_may_neither_control_nor_publish() {
    let server = simulated(ControlRule::Local).await;
    let pause = r#"{"action":"pause"}"#;
    for headers in [PROXIED.as_slice(), &[("Via", "1.1 proxy")], &[("Forwarded", "for=127.0.0.1")]] {
        post(&server, "/v1/replay", headers, pause).await.check_problem(403, "--control all");
        post(&server, "/v1/publish", headers, &quote("A", "1", "2"))
            .await
            .check_problem(403, "--publish all");
        let looked = request(server.address, "GET", "/v1/replay", headers, b"").await.json();
        assert_eq!((&looked["controllable"], &looked["state"]), (&json!(false), &json!("playing")));
    }
    // A proxy may leave no trace but the name by which it was asked. (Two `Host` lines are no good request.)
    let mut client = RawClient::dial(server.address).await;
    let head = format!(
        "POST /v1/replay HTTP/1.1\r\nHost: market.example\r\nContent-Length: {}\r\n\r\n{pause}",
        pause.len()
    );
    client.send(head.as_bytes()).await;
    client.response("POST").await.check_problem(403, "another name");
    assert_eq!(counted(&server, "tickcast_http_requests_refused_total{reason=\"proxied\"}").await, 7);
    assert_eq!(server.get("/v1/quotes?symbols=AAPL").await.status, 200);

    // Whoever asks the server itself may do both.
    assert_eq!(post(&server, "/v1/replay", &[], pause).await.json()["state"], "paused");
    assert_eq!(server.publish(&quote("MINE", "1", "2")).await["accepted"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_may_allow_to_strangers_what_is_of_this_machine() {
    let server = simulated(ControlRule::All).await;
    assert_eq!(
        post(&server, "/v1/replay", &PROXIED, r#"{"action":"pause"}"#).await.json()["state"],
        "paused"
    );
    let server = TestServer::start_with(|config| config.publish = PublishRule::All).await;
    assert_eq!(post(&server, "/v1/publish", &PROXIED, &quote("A", "1", "2")).await.json()["accepted"], 1);
    let server = TestServer::start_with(|config| config.publish = PublishRule::Off).await;
    post(&server, "/v1/publish", &[], &quote("A", "1", "2")).await.check_problem(403, "--publish direct");
}

/// What a session is answered that asks for the topic `stats`, and to pause.
async fn session_asks(server: &TestServer, headers: &[(&str, &str)]) -> (Value, Value) {
    let mut client = RawClient::dial(server.address).await;
    let path = "/v1/ws?format=json&topics=stats";
    client.send(handshake(server.address, path, headers).as_bytes()).await;
    assert_eq!(client.response("GET").await.status, 101);
    let mut subscribed = client.text().await;
    while subscribed["type"] != "subscribed" {
        subscribed = client.text().await;
    }
    let ask = json!({"op": "replay", "action": "pause"}).to_string();
    client.send(&crate::server::support::frame(crate::server::support::TEXT, ask.as_bytes())).await;
    loop {
        let answer = client.text().await;
        if answer["type"] == "replay" || answer["type"] == "error" {
            return (subscribed["topics"][0].clone(), answer);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_through_a_proxy_neither_controls_nor_watches_the_server() {
    let server = simulated(ControlRule::Local).await;
    let (stats, pause) = session_asks(&server, &PROXIED).await;
    assert_eq!((&stats["error"]["code"], &pause["code"]), (&json!("not_allowed"), &json!("not_allowed")));
    let (stats, pause) = session_asks(&server, &[]).await;
    assert_eq!((&stats, &pause["state"]), (&json!({"topic": "stats"}), &json!("paused")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_may_subscribe_may_read_every_answer_and_no_other_may() {
    let server =
        TestServer::start_with(|config| config.allowed_origins = vec!["desk.example".to_owned()]).await;
    let paths = [
        "/v1/quotes",
        "/v1/instruments",
        "/v1/bars/NONE",
        "/nothing",
        "/v1/publish",
        "/metrics",
        "/readyz",
        "/",
        "/v1/ws",
        "/v1/quotes?x=1",
    ];
    for path in paths {
        let ask = async |origin: &str| {
            let answer = request(server.address, "GET", path, &[("Origin", origin)], b"").await;
            assert!(answer.headers.iter().any(|(name, value)| name == "vary" && value == "Origin"), "{path}");
            answer.header("access-control-allow-origin").map(str::to_owned)
        };
        assert_eq!(ask(DESK).await.as_deref(), Some(DESK), "{path}");
        assert_eq!(ask("http://localhost:5173").await.as_deref(), Some("http://localhost:5173"), "{path}");
        assert_eq!(ask("https://evil.example").await, None, "{path}");
        let plain = server.get(path).await;
        assert_eq!(plain.header("access-control-allow-origin"), None, "{path}");
    }
    let too_long = post(&server, "/v1/replay", &[("Origin", DESK)], &" ".repeat(20 * 1024)).await;
    too_long.check_problem(413, "16 KiB");
    assert_eq!(too_long.header("access-control-allow-origin"), Some(DESK));
}

#[tokio::test(flavor = "multi_thread")]
async fn options_say_what_may_be_asked() {
    let server = TestServer::start_with(|config| config.allowed_origins = vec![DESK.to_owned()]).await;
    for (path, allowed) in [
        ("/", "GET, HEAD, OPTIONS"),
        ("*", "GET, HEAD, POST, OPTIONS"),
        ("/v1/bars/A/B", "GET, HEAD, OPTIONS"),
        ("/v1/publish", "POST, OPTIONS"),
        ("/v1/ws", "GET, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ] {
        let answer = request(server.address, "OPTIONS", path, &[], b"").await;
        assert_eq!((answer.status, answer.header("allow")), (204, Some(allowed)), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), None);
    }
    request(server.address, "OPTIONS", "/nothing", &[], b"").await.check_problem(404, "nothing at");
    // As HAProxy asks by default.
    let mut check = RawClient::dial(server.address).await;
    check.send(b"OPTIONS / HTTP/1.0\r\n\r\n").await;
    assert_eq!(check.response("OPTIONS").await.status, 204);

    let preflight = |origin| {
        [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type"),
            ("Access-Control-Request-Private-Network", "true"),
        ]
    };
    let answer = request(server.address, "OPTIONS", "/v1/publish", &preflight(DESK), b"").await;
    assert_eq!(answer.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", DESK),
        ("access-control-allow-methods", "POST, OPTIONS"),
        ("access-control-allow-headers", "content-type"),
        ("access-control-allow-private-network", "true"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(answer.header(name), Some(value));
    }
    let stranger =
        request(server.address, "OPTIONS", "/v1/publish", &preflight("https://evil.example"), b"").await;
    stranger.check_problem(403, "--allow-origin");
    assert_eq!(stranger.header("access-control-allow-origin"), None);
    assert_eq!(counted(&server, "tickcast_http_requests_refused_total{reason=\"origin\"}").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_answers_head_with_the_same_head() {
    let server = TestServer::start().await;
    server.publish(&trade("A", "1", 1)).await;
    for path in [
        "/v1/quotes",
        "/v1/trades/A",
        "/v1/feed",
        "/v1/replay",
        "/healthz",
        "/readyz",
        "/version",
        "/",
        "/nothing",
    ] {
        let (head, get) = (request(server.address, "HEAD", path, &[], b"").await, server.get(path).await);
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert!(head.header("content-length").is_some(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let server = TestServer::start().await;
    let ask = async |accept| request(server.address, "GET", "/metrics", &[("Accept", accept)], b"").await;
    let plain = ask("text/plain").await;
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let page = plain.text();
    assert!(page.contains("# TYPE tickcast_connections_opened_total counter\n"), "{page}");
    assert!(page.contains("# TYPE tickcast_build_info gauge\n"), "{page}");
    assert!(!page.contains("# EOF") && page.ends_with('\n'), "{page}");
    let open = ask("application/openmetrics-text;version=1.0.0,text/plain;q=0.5").await;
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.text().ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_listens_at_all_its_addresses_with_one_port() {
    let server = TestServer::start_with(|config| {
        config.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0)), SocketAddr::from(([127, 0, 0, 2], 0))];
    })
    .await;
    let other = SocketAddr::from(([127, 0, 0, 2], server.address.port()));
    for address in [server.address, other] {
        assert_eq!(request(address, "GET", "/healthz", &[], b"").await.status, 200, "{address}");
    }
    server.shutdown().await;
    assert!(tokio::net::TcpStream::connect(other).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_bodies_are_unpacked_and_others_refused() {
    let server = TestServer::start().await;
    let lines = trade("A", "1", 1).repeat(1000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(lines.as_bytes()).unwrap();
    for (name, body) in
        [("gzip", gzip.finish().unwrap()), ("zstd", zstd::encode_all(lines.as_bytes(), 3).unwrap())]
    {
        let answer =
            request(server.address, "POST", "/v1/publish", &[("Content-Encoding", name)], &body).await;
        assert_eq!(answer.json()["accepted"], 1000, "{name}");
    }
    let refused = post(&server, "/v1/publish", &[("Content-Encoding", "br")], "x").await;
    refused.check_problem(415, "send gzip, zstd, or none");
    assert_eq!(refused.header("accept-encoding"), Some("gzip, zstd"));
    let bomb = zstd::encode_all(&*vec![b'\n'; 9 << 20], 3).unwrap();
    let refused =
        request(server.address, "POST", "/v1/publish", &[("Content-Encoding", "zstd")], &bomb).await;
    refused.check_problem(413, "8 MiB");
    post(&server, "/v1/replay", &[("Content-Encoding", "gzip")], "x").await.check_problem(415, "without");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_makes_no_symbol_and_no_sign_of_life_and_is_counted() {
    let server = TestServer::start().await;
    server.until_ready().await;
    let before = server.get("/readyz").await.json()["position"].clone();
    let lines = trade("NOISE", "0.30000000000000004", 1)
        + &trade("FINE", "0.00000000000000000012", 1)
        + &quote("WIDE", "1", "1e26")
        + "[1]\n"
        + "{\"type\":\"trad\",\"symbol\":\"A\"}\n"
        + "{\"type\":\"trade\",\"symbol\":\"A\",\"price\":1}\n"
        + "{\"type\":\"trade\",\"symbol\":\"A\",\"prise\":1}\n";
    let answer = post(&server, "/v1/publish", &[], &lines).await.json();
    assert_eq!((&answer["accepted"], answer["rejected"].as_array().unwrap().len()), (&json!(0), 7));
    let reason = answer["rejected"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("round before sending (0.3)"), "{reason}");
    assert_eq!(answer["position"], before, "nothing came on the tape");
    assert_eq!(server.get("/v1/instruments").await.json()["instruments"], json!([]));
    assert_eq!(server.get("/v1/feed").await.json()["state"], "stale");
    for (reason, count) in
        [("value", 3), ("malformed", 1), ("type", 1), ("missing_field", 1), ("unknown_field", 1)]
    {
        let metric = format!("tickcast_events_rejected_total{{reason=\"{reason}\"}}");
        assert_eq!(counted(&server, &metric).await, count, "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_names_as_many_topics_as_a_session_may_have() {
    let server = TestServer::start().await;
    let topics = |count: usize| vec!["a"; count].join(",");
    let mut client = RawClient::dial(server.address).await;
    let path = format!("/v1/ws?topics={}&topics=a", topics(1024));
    client.send(handshake(server.address, &path, &[]).as_bytes()).await;
    client.response("GET").await.check_problem(400, "at most 1024");
    let mut client = Client::connect(&server, &format!("topics={}", topics(1024))).await;
    assert_eq!(client.answer("subscribed").await["topics"].as_array().unwrap().len(), 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_http_connection_too_many_is_told_to_come_back_and_probes_are_answered() {
    let server = TestServer::start_with(|config| config.max_http_connections = 2).await;
    server.until_ready().await;
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut client = RawClient::dial(server.address).await;
        client.send(ask("/version").as_bytes()).await;
        assert_eq!(client.response("GET").await.status, 200);
        kept.push(client);
    }
    for path in ["/v1/quotes", "/v1/ws"] {
        let refused = server.get(path).await;
        refused.check_problem(503, "as many HTTP connections");
        assert!(refused.header("retry-after").is_some());
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(counted(&server, "tickcast_http_connections_max").await, 2);
    assert_eq!(counted(&server, "tickcast_http_connections_cut_total{reason=\"full\"}").await, 2);
    kept.clear();
    let free = async { while server.get("/v1/quotes").await.status != 200 {} };
    soon("a free place", free).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_does_not_read_an_answer_or_does_not_end_a_request_is_cut_and_counted() {
    let server = TestServer::start().await;
    // Several MiB, of which the kernels of both sides take the first.
    let lines: String =
        (0..10_000).map(|number| trade(&format!("SYMBOL-WITH-A-LONG-NAME-{number}"), "1.25", 1)).collect();
    server.publish(&lines).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let unread = socket.connect(server.address).await.unwrap();
    unread.try_write(b"GET /v1/instruments HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut half = RawClient::dial(server.address).await;
    half.send(b"GET /v1/instruments HTTP/1.1\r\nHo").await;
    let _silent = RawClient::dial(server.address).await;
    for reason in ["unread", "head", "silent"] {
        let metric = format!("tickcast_http_connections_cut_total{{reason=\"{reason}\"}}");
        soon(reason, async { while counted(&server, &metric).await == 0 {} }).await;
    }
    // A head that is too long is told so at once.
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(80 * 1024));
    let mut client = RawClient::dial(server.address).await;
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, long.as_bytes()).await;
    assert_eq!(client.response("GET").await.status, 431);
}
