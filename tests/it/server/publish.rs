use crate::server::support::{Client, Response, TestServer, quote, request, trade};
use serde_json::{Value, json};

async fn post(server: &TestServer, headers: &[(&str, &str)], body: &[u8]) -> Response {
    request(server.address, "POST", "/v1/publish", headers, body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn good_lines_go_through_and_bad_ones_are_told_by_number() {
    let server = TestServer::start().await;
    let body = [
        quote("A", "1", "2"),
        "\n".to_owned(),
        "{\"type\":\"quot\",\"symbol\":\"A\"}\n".to_owned(),
        "nonsense\r\n".to_owned(),
        trade("A", "-1e30", 1),
        trade("A", "1", 1),
        "{\"type\":\"trade\",\"symbol\":\"A\",\"price\":1}".to_owned(),
    ];
    let response = post(&server, &[("Content-Type", "application/x-ndjson")], body.concat().as_bytes()).await;
    assert_eq!(response.status, 200);
    let answer = response.json();
    assert_eq!(answer["accepted"], 2);
    let rejected = answer["rejected"].as_array().unwrap();
    let lines: Vec<&Value> = rejected.iter().map(|bad| &bad["line"]).collect();
    assert_eq!(lines, [3, 4, 5, 7]);
    assert!(rejected[0]["reason"].as_str().unwrap().contains("did you mean \"quote\"?"));
    assert!(rejected[3]["reason"].as_str().unwrap().contains("size is missing"));
    let mut client = Client::connect(&server, "topics=quote:A,trades:A").await;
    client.answer("subscribed").await;
    client.reach(&answer["position"]).await;
    assert_eq!(client.seen.numbers("trades:A"), [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_can_be_read_at_the_position_told() {
    let server = TestServer::start().await;
    let mut before = 0;
    for number in 1..=50 {
        let position =
            server.publish(&quote("A", &number.to_string(), "100")).await["position"].as_u64().unwrap();
        assert!(position > before);
        before = position;
    }
    let mut client = Client::connect(&server, "topics=quote:A").await;
    client.answer("subscribed").await;
    client.reach(&json!(before)).await;
    assert_eq!(client.seen.field("quote:A", "bid"), "50.00");
}

#[tokio::test(flavor = "multi_thread")]
async fn messagepack_is_read_as_maps_or_as_an_array_of_them() {
    let server = TestServer::start().await;
    let event = json!({"type": "trade", "symbol": "A", "price": "1.25", "size": 10, "side": "buy", "conditions": "I"});
    let one = rmp_serde::to_vec_named(&event).unwrap();
    let many = rmp_serde::to_vec_named(&json!([event, event])).unwrap();
    let kind = [("Content-Type", "application/msgpack")];
    for (body, accepted) in [(one.clone(), 1), ([one.clone(), one].concat(), 2), (many, 2)] {
        let response = post(&server, &kind, &body).await;
        assert_eq!((response.status, &response.json()["accepted"]), (200, &json!(accepted)));
    }
    let broken = post(&server, &kind, b"\x92\x81").await.json();
    assert_eq!((&broken["accepted"], &broken["rejected"][0]["line"]), (&json!(0), &json!(1)));
    let trades = server.get("/v1/trades/A").await.json();
    assert_eq!(trades["trades"].as_array().unwrap().len(), 5);
    assert_eq!(trades["trades"][0]["conditions"], "I");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_symbol_is_made_with_the_scales_of_its_numbers() {
    let server = TestServer::start().await;
    server
        .publish(
            &json!({"type": "trade", "symbol": "TINY", "price": "0.00012345", "size": "2.5"}).to_string(),
        )
        .await;
    let instruments = server.get("/v1/instruments").await.json();
    let tiny = &instruments["instruments"][0];
    assert_eq!(
        (&tiny["symbol"], &tiny["price_scale"], &tiny["size_scale"]),
        (&json!("TINY"), &json!(8), &json!(1))
    );
    // A finer price later on leaves everything exact.
    server.publish(&trade("TINY", "0.000123456", 1)).await;
    let trades = server.get("/v1/trades/TINY").await.json();
    let prices: Vec<&Value> =
        trades["trades"].as_array().unwrap().iter().map(|trade| &trade["price"]).collect();
    assert_eq!(prices, ["0.000123450", "0.000123456"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quote_may_have_an_empty_side() {
    let server = TestServer::start().await;
    server.publish(r#"{"type":"quote","symbol":"A","ask":"5.5","ask_size":3,"bid":null}"#).await;
    let quotes = server.get("/v1/quotes?symbols=A").await.json();
    let quote = &quotes["quotes"][0];
    assert_eq!((&quote["bid"], &quote["bid_size"]), (&Value::Null, &json!("0")));
    assert_eq!((&quote["ask"], &quote["ask_size"]), (&json!("5.50"), &json!("3")));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_another_kind_are_refused() {
    let server = TestServer::start().await;
    let response = post(&server, &[("Content-Type", "text/csv; charset=utf-8")], b"a,b").await;
    response.check_problem(415, "application/x-ndjson or application/msgpack");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_over_the_limit_are_refused() {
    let server = TestServer::start().await;
    post(&server, &[], &vec![b'\n'; 9 << 20]).await.check_problem(413, "8 MiB");
    assert_eq!(post(&server, &[], &vec![b'\n'; 8 << 20]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_strangers_may_not_publish() {
    let server = TestServer::start().await;
    let origin = [("Origin", "https://evil.example"), ("Content-Type", "text/plain")];
    post(&server, &origin, quote("A", "1", "2").as_bytes()).await.check_problem(403, "origin");
    assert_eq!(server.get("/v1/instruments").await.json()["instruments"], json!([]));
    let own = format!("http://{}", server.address);
    assert_eq!(post(&server, &[("Origin", &own)], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_bad_lines_are_counted_and_not_all_told() {
    let server = TestServer::start().await;
    let answer = post(&server, &[], "x\n".repeat(3000).as_bytes()).await.json();
    assert_eq!(answer["rejected"].as_array().unwrap().len(), 1000);
    assert_eq!(answer["rejected_total"], 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn published_trades_count_as_they_say_unless_the_server_lets_all_count() {
    let trade = |id: &str, price: &str, more: Value| {
        let mut event = json!({"type": "trade", "symbol": "A", "id": id, "price": price, "size": 10});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("{event}\n")
    };
    let published = [
        trade("a", "1", json!({})),
        trade("b", "2", json!({"conditions": "I", "tape": "C"})),
        trade("c", "9", json!({"counts": "nothing"})),
        "{\"type\":\"cancel\",\"symbol\":\"A\",\"id\":\"b\"}\n".to_owned(),
        "{\"type\":\"correct\",\"symbol\":\"A\",\"original_id\":\"c\",\"price\":5,\"size\":1,\"counts\":\"volume\"}\n".to_owned(),
    ];
    for (all_prints, high, volume) in [(false, "1.00", "11"), (true, "5.00", "11")] {
        let server = TestServer::start_with(|config| config.all_prints = all_prints).await;
        let position = server.publish(&published.concat()).await["position"].clone();
        let mut client = Client::connect(&server, "topics=day:A").await;
        client.answer("subscribed").await;
        client.reach(&position).await;
        assert_eq!(client.seen.field("day:A", "high"), high);
        assert_eq!(client.seen.field("day:A", "volume"), volume);
    }
}
