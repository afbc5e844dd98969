use crate::server::support::{Client, PATIENCE, TestServer, quote, request, soon, trade};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;
use tickcast::feed::Simulation;
use tickcast::feed::sim::{SimConfig, default_universe};
use tickcast::market::{Speed, Timestamp};

/// A server with two symbols whose replica has folded what was published.
async fn filled() -> TestServer {
    let server = TestServer::start().await;
    let mut lines = quote("AAA", "1", "2") + &quote("BBB/X", "3", "4");
    for size in 1..=150 {
        lines += &trade("AAA", "1.5", size);
    }
    let position = server.publish(&lines).await["position"].as_u64().unwrap();
    // HTTP is answered from a replica of its own, which may be a moment behind.
    let folded = async {
        while server.get("/v1/instruments").await.json()["position"].as_u64().unwrap() < position {
            tokio::task::yield_now().await;
        }
    };
    soon("the replica", folded).await;
    server
}

async fn check(path: &str, status: u16, detail: &str) {
    filled().await.get(path).await.check_problem(status, detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_say_when_they_are_of() {
    let server = filled().await;
    for path in ["/v1/instruments", "/v1/quotes", "/v1/trades/AAA", "/v1/bars/AAA"] {
        let response = server.get(path).await;
        assert_eq!(response.header("content-type"), Some("application/json"));
        let list = response.json();
        assert!(list["position"].as_u64().unwrap() > 0 && list["epoch"].is_u64(), "{path}");
        assert!(list["time"].as_str().unwrap().ends_with('Z'), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quotes_come_for_all_or_for_those_asked() {
    let server = filled().await;
    let symbols = |answer: Value| -> Vec<String> {
        let quotes = answer["quotes"].as_array().unwrap();
        quotes.iter().map(|quote| quote["symbol"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(symbols(server.get("/v1/quotes").await.json()), ["AAA", "BBB/X"]);
    assert_eq!(symbols(server.get("/v1/quotes?symbols=BBB%2FX,AAA").await.json()), ["BBB/X", "AAA"]);
    let thousand = "AAA,".repeat(1001);
    server.get(&format!("/v1/quotes?symbols={thousand}")).await.check_problem(400, "at most 1000");
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_come_newest_last_up_to_the_limit() {
    let server = filled().await;
    let sizes = |answer: Value| -> Vec<Value> {
        answer["trades"].as_array().unwrap().iter().map(|trade| trade["size"].clone()).collect()
    };
    assert_eq!(sizes(server.get("/v1/trades/AAA?limit=2").await.json()), ["149", "150"]);
    assert_eq!(sizes(server.get("/v1/trades/AAA").await.json()).len(), 100);
    assert_eq!(sizes(server.get("/v1/trades/AAA?limit=1024").await.json()).len(), 150);
    assert_eq!(server.get("/v1/trades/BBB/X").await.json()["trades"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn bars_end_with_the_open_one() {
    let server = filled().await;
    for (path, interval) in [("/v1/bars/AAA", "1m"), ("/v1/bars/AAA?interval=1s&limit=1", "1s")] {
        let bars = server.get(path).await.json();
        assert_eq!((&bars["symbol"], &bars["interval"]), (&json!("AAA"), &json!(interval)));
        assert_eq!(bars["bars"][0]["trades"], 150, "{bars}");
        assert!(bars["bars"][0]["closed"].is_boolean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mistake_is_told_what_would_be_right() {
    check("/v1/trades/AAB", 404, "did you mean \"AAA\"?").await;
    check("/v1/trades/ZZZZZZZZ", 404, "/v1/instruments lists all").await;
    check("/v1/quotes?symbols=AAA,AAB", 404, "AAB").await;
    check("/v1/quotes?symbol=AAA", 400, "there are symbols").await;
    check("/v1/instruments?x=1", 400, "there are format, room").await;
    check("/v1/trades/AAA?limit=0", 400, "from 1 to 1024").await;
    check("/v1/trades/AAA?limit=1025", 400, "from 1 to 1024").await;
    check("/v1/trades/AAA?limit=ten", 400, "limit=\"ten\"").await;
    check("/v1/bars/AAA?interval=2s", 400, "1s or 1m").await;
    check("/v1/trades/%FF", 400, "UTF-8").await;
    check("/v1/quote", 404, "did you mean /v1/quotes?").await;
    check("/nothing/like/this", 404, "there are /").await;
    check("/../../etc/passwd", 404, "nothing at").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_told_the_right_ones() {
    let server = TestServer::start().await;
    for (method, path, allowed) in [
        ("GET", "/v1/publish", "POST"),
        ("POST", "/v1/quotes", "GET,HEAD"),
        ("DELETE", "/v1/ws", "GET"),
        ("PUT", "/readyz", "GET,HEAD"),
    ] {
        let response = request(server.address, method, path, &[], b"").await;
        response.check_problem(405, method);
        assert_eq!(response.header("allow"), Some(allowed), "{path}");
    }
    request(server.address, "POST", "/", &[], b"x").await.check_problem(405, "POST");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_say_that_it_lives_and_serves() {
    let server = filled().await;
    let _client = Client::connect(&server, "").await;
    assert_eq!(server.get("/healthz").await.text(), "ok\n");
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
    assert_eq!(ready.json()["connections"], 1);
    assert_eq!(server.get("/version").await.json()["protocol"], "tickcast.v1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboard_is_sent_once() {
    let server = TestServer::start().await;
    let page = server.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert!(page.text().contains("<title>Tickcast"), "{}", page.text());
    assert!(page.header("content-security-policy").unwrap().contains("default-src 'self'"));
    assert_eq!(page.header("cache-control"), Some("no-cache"));
    let tag = page.header("etag").unwrap();
    for known in [tag.to_owned(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let again = request(server.address, "GET", "/", &[("If-None-Match", &known)], b"").await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag)), "{known}");
    }
    let changed = request(server.address, "GET", "/", &[("If-None-Match", "\"other\"")], b"").await;
    assert_eq!((changed.status, changed.body.len()), (200, page.body.len()));
    let head = request(server.address, "HEAD", "/index.html", &[], b"").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    for (path, beside) in [("/ops/", "../ops"), ("/docs/", "../docs")] {
        let moved = server.get(path).await;
        assert_eq!((moved.status, moved.header("location")), (308, Some(beside)));
    }
    for path in ["/ops", "/ops.html", "/docs"] {
        let ops = server.get(path).await;
        assert_eq!(ops.status, 200, "{path}");
        assert!(ops.header("content-type").unwrap().starts_with("text/html"), "{path}");
        assert!(ops.header("content-security-policy").unwrap().contains("default-src 'self'"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_feeds_the_tape_is_told_with_its_clock() {
    let config =
        SimConfig { symbols: 3, rate: NonZeroU32::MIN, seed: 7, start: Timestamp::from_micros(1_000) };
    let server = TestServer::start_with(|server| {
        server.source = Some(Arc::new(Simulation { universe: default_universe(), config }));
        server.speed = Speed::Times(2.0);
    })
    .await;
    server.until_ready().await;
    let feed = server.get("/v1/feed").await.json();
    let simulator = json!({"symbols": 3, "rate": 1, "seed": 7, "start": "1970-01-01T00:00:00.001Z"});
    assert_eq!(feed["simulator"], simulator);
    assert_eq!(
        (&feed["kind"], &feed["state"], &feed["speed"]),
        (&json!("simulator"), &json!("live"), &json!(2.0))
    );
    assert_eq!((&feed["reanchored"], &feed["behind_ms"]), (&json!(0), &json!(0)));
    // The market opened just now, whatever the time of its first moment.
    assert_eq!(feed["clock"]["feed_us"], 1_000);
    let wall = feed["clock"]["wall_us"].as_i64().unwrap();
    let age = Timestamp::now().micros() - wall;
    assert!((0..i64::try_from(PATIENCE.as_micros()).unwrap()).contains(&age), "{feed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_has_ended_is_told_with_the_clock_that_runs_on() {
    let config =
        SimConfig { symbols: 0, rate: NonZeroU32::MIN, seed: 7, start: Timestamp::from_micros(1_000) };
    let server = TestServer::start_with(|server| {
        server.source = Some(Arc::new(Simulation { universe: default_universe(), config }));
        server.speed = Speed::Max;
    })
    .await;
    let ended = async {
        loop {
            let feed = server.get("/v1/feed").await.json();
            if feed["state"] == "ended" {
                break feed;
            }
        }
    };
    let feed = soon("the end of the feed", ended).await;
    assert_eq!((&feed["speed"], &feed["reanchored"]), (&json!("max"), &json!(1)), "{feed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_told_at_the_walls_pace() {
    let server = TestServer::start().await;
    let feed = server.get("/v1/feed").await.json();
    assert_eq!((&feed["kind"], &feed["state"]), (&json!("publisher"), &json!("stale")));
    assert_eq!((&feed["speed"], &feed["simulator"]), (&json!(1.0), &Value::Null));
    server.publish(&quote("A", "1", "2")).await;
    assert_eq!(server.get("/v1/feed").await.json()["state"], "live");
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_beyond_2_53_units_are_exact() {
    let server = TestServer::start().await;
    let one = |price: &str, size: &str| {
        let trade = json!({ "type": "trade", "symbol": "SHIB", "price": price, "size": size });
        format!("{trade}\n")
    };
    let lines = one("0.0780000", "60000000.00000001")
        + &one("0.0790000", "50000000.12345678")
        + &one("0.0800000", "40000000.00000000")
        + &one("0.080", "9000000000000000");
    let published = server.publish(&lines).await;
    assert_eq!(published["accepted"], 4, "{published}");
    let mut client = Client::connect(&server, "topics=day:SHIB,trades:SHIB").await;
    let told = |seen: &crate::server::support::Seen| seen.field("day:SHIB", "trades") == 4;
    client.until("the day", told).await;
    let position = published["position"].as_u64().unwrap();
    let folded = async {
        while server.get("/v1/instruments").await.json()["position"].as_u64().unwrap() < position {
            tokio::task::yield_now().await;
        }
    };
    soon("the replica", folded).await;
    let bars = server.get("/v1/bars/SHIB").await.json();
    assert_eq!(bars["bars"][0]["volume"], "9000000150000000.12345679");
    assert_eq!(bars["bars"][0]["vwap"], "0.08000");
    let trades = server.get("/v1/trades/SHIB").await.json();
    assert_eq!(trades["trades"][3]["size"], "9000000000000000.00000000");
}
