use crate::server::support::{Client, PING, PONG, RawClient, TEXT, TestServer, frame, quote, soon, trade};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

const ROUNDS: u64 = 50;
const PER_ROUND: u64 = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stops_reading_gets_the_newest_quote_and_an_exact_gap_and_harms_nobody() {
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2000000") + &trade("A", "1", 1))).await;
    let mut slow = Client::connect_narrow(&server, "topics=quote:A,trades:A").await;
    let mut neighbour = Client::connect(&server, "topics=quote:A").await;
    for client in [&mut slow, &mut neighbour] {
        client.answer("subscribed").await;
        client.until("the snapshot", |seen| seen.told.contains_key("quote:A")).await;
    }
    let mut published = Value::Null;
    for round in 0..ROUNDS {
        let mut lines = String::new();
        for number in round * PER_ROUND..(round + 1) * PER_ROUND {
            lines += &quote("A", &(number + 2).to_string(), "2000000");
            lines += &trade("A", "1", number + 1);
        }
        published = server.publish(&lines).await;
        // The neighbour has each round before the next one is sent.
        neighbour.reach(&published["position"]).await;
    }
    let newest = format!("{}.00", ROUNDS * PER_ROUND + 1);
    assert_eq!(neighbour.seen.field("quote:A", "bid"), newest.as_str());

    slow.reach(&published["position"]).await;
    assert_eq!(slow.seen.field("quote:A", "bid"), newest.as_str());
    // 100,000 updates are some 6 MB. What it gets: what the kernel held, the frame in hand, and one merged
    // frame.
    assert!(slow.seen.bytes < 1 << 20, "{} bytes", slow.seen.bytes);
    let numbers = slow.seen.numbers("trades:A");
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "each at most once and in order");
    let total = ROUNDS * PER_ROUND + 1;
    assert_eq!(numbers.last(), Some(&(total - 1)));
    assert!(numbers.len() < 20_000, "the ring was overrun: {}", numbers.len());
    let newest_1024: Vec<u64> = (total - 1024..total).collect();
    assert!(numbers.ends_with(&newest_1024), "all that the ring holds");
    let stats = slow.ask(json!({"op": "stats"}), "stats").await;
    assert!(stats["bytes"].as_u64().unwrap() < 1 << 20, "{stats}");
    assert_eq!(stats["lag"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_asks_and_does_not_read_is_cut_off() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    let topics: Vec<String> = (0..1024).map(|number| format!("nonsense:{number:0>40}")).collect();
    let request = frame(0x81, json!({"op": "subscribe", "topics": topics}).to_string().as_bytes());
    // Each answer is longer than its request; the server must not keep them all.
    let flood = async { while client.stream.write_all(&request).await.is_ok() {} };
    soon("the end of it", flood).await;
    let mut neighbour = Client::connect(&server, "").await;
    neighbour.ask(json!({"op": "ping"}), "pong").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sends_without_end_does_not_keep_the_shard_to_itself() {
    let server = TestServer::start().await;
    // Empty fragments complete no message, so no limit of requests ends this.
    let flood = [frame(0x01, b""), frame(0x00, b"").repeat(20_000)].concat();
    let rest = frame(0x00, b"").repeat(20_000);
    let mut senders = Vec::new();
    for _ in 0..4 {
        let mut client = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
        let (flood, rest) = (flood.clone(), rest.clone());
        senders.push(tokio::spawn(async move {
            client.send(&flood).await;
            while client.stream.write_all(&rest).await.is_ok() {}
        }));
    }
    let mut neighbour = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    neighbour.text().await;
    for _ in 0..20 {
        neighbour.send(&frame(PING, b"?")).await;
        // Where the machine is busy, an update that only tells the time comes between.
        let mut answer = neighbour.frame().await;
        while matches!(answer, Some((TEXT, _))) {
            answer = neighbour.frame().await;
        }
        assert_eq!(answer, Some((PONG, b"?".to_vec())));
    }
    senders.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_makes_room() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        let client = Client::connect(&server, "topics=quote:*").await;
        drop(client);
    }
    server.publish(&quote("A", "1", "2")).await;
    let gone = async {
        while server.get("/readyz").await.json()["connections"] != 0 {
            tokio::task::yield_now().await;
        }
    };
    soon("their end", gone).await;
}
