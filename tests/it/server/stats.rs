use crate::server::support::{Client, TestServer, quote, soon, trade};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use tickcast::market::Timestamp;

/// The next value of the topic that satisfies a condition.
async fn until(client: &mut Client, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    client.until(what, |seen| condition(&seen.field("stats", "stats"))).await;
    client.seen.field("stats", "stats")
}

async fn watcher(server: &TestServer) -> Client {
    let mut client = Client::connect(server, "topics=stats").await;
    client.answer("subscribed").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_sees_sessions_topics_and_rates_move() {
    let server = TestServer::start_with(|config| config.shards = NonZeroUsize::new(2).unwrap()).await;
    server.publish(&(quote("A", "1", "2") + &quote("B", "1", "2"))).await;
    let mut watcher = watcher(&server).await;
    let first = until(&mut watcher, "the first", |stats| stats["sessions"]["open"] == 1).await;
    assert_eq!(first["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(first["feed"]["kind"], "publisher");
    assert_eq!(first["shards"].as_array().unwrap().len(), 2);
    assert_eq!(first["tape"]["instruments"], 2);

    let mut clients = Vec::new();
    for topics in ["quote:*,trades:A", "quote:*", "quote:A"] {
        let mut client = Client::connect(&server, &format!("topics={topics}")).await;
        client.answer("subscribed").await;
        clients.push(client);
    }
    let shared = until(&mut watcher, "four sessions", |stats| stats["sessions"]["open"] == 4).await;
    let by_watchers = shared["topics"]["by_watchers"].as_array().unwrap();
    assert_eq!(by_watchers[0]["topic"], "quote:*", "{by_watchers:?}");
    assert_eq!(by_watchers[0]["watchers"], 2);
    assert_eq!(by_watchers.len(), 4, "{by_watchers:?}");

    let publishing = async {
        let mut bid = 0;
        loop {
            bid = (bid + 1) % 1000;
            let lines = quote("A", &bid.to_string(), "2000") + &trade("A", "1", 1) + &trade("B", "1", 1);
            server.publish(&lines).await;
        }
    };
    let loud = |stats: &Value| {
        let by_rate = stats["topics"]["by_rate"].as_array().map_or(&[][..], Vec::as_slice);
        by_rate.iter().any(|topic| topic["topic"] == "quote:A" && topic["watchers"] == 3)
            && stats["tape"]["events_per_s"].as_f64() > Some(0.0)
            && stats["shards"].as_array().unwrap().iter().all(|shard| {
                ["busy", "turns_per_s", "sends_per_s", "bytes_per_s"]
                    .iter()
                    .all(|rate| shard[rate].as_f64() > Some(0.0))
            })
            && stats["latency"]["p99_us"].as_u64() > Some(0)
    };
    let loud = tokio::select! {
        stats = until(&mut watcher, "rates", loud) => stats,
        () = publishing => unreachable!("it goes on"),
    };
    let counts: Vec<u64> =
        loud["latency"]["counts"].as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).collect();
    assert_eq!(counts.len(), loud["latency"]["bounds_us"].as_array().unwrap().len() + 1);
    assert!(counts.iter().sum::<u64>() > 0);
    drop(clients);
    let after = until(&mut watcher, "their end", |stats| stats["sessions"]["open"] == 1).await;
    assert_eq!(after["sessions"]["closed"], 3);
    assert_eq!(after["sessions"]["opened"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_does_not_read_is_told_of_with_what_conflation_saves_it() {
    const ROUNDS: u32 = 300;
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2000000")).await;
    let mut watcher = watcher(&server).await;
    let mut slow = Client::connect_narrow(&server, "topics=quote:A").await;
    slow.answer("subscribed").await;
    let is_slow = |stats: &Value| {
        let merged = stats["slow"][0]["merged"].as_u64().unwrap_or(0);
        stats["sessions"]["blocked"] == 1 && merged > 1000
    };
    let publishing = async {
        for round in 0.. {
            // One batch each, so that they cannot be merged before they are sent.
            let bid = round % ROUNDS + 2;
            server.publish(&quote("A", &bid.to_string(), "2000000")).await;
        }
    };
    let stats = tokio::select! {
        stats = until(&mut watcher, "a slow session", is_slow) => stats,
        () = publishing => unreachable!("it goes on"),
    };
    let told = &stats["slow"][0];
    assert_eq!((&told["shard"], &told["topics"]), (&json!(0), &json!(1)));
    let count = |field: &str| told[field].as_u64().unwrap();
    assert_eq!(count("waiting") - count("merged"), 1, "of one topic one value is owed: {told}");
    assert!(count("lag") >= count("waiting"), "a position for each: {told}");
    let text = stats.to_string();
    assert!(!text.contains("127.0.0.1"), "nobody's address is told: {text}");

    let position = server.publish(&quote("A", "7", "8")).await["position"].clone();
    slow.reach(&position).await;
    until(&mut watcher, "the end of it", |stats| stats["slow"] == json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tape_that_nobody_watches_from_here_holds_no_stats_and_the_next_watcher_is_told_fresh_ones() {
    let server = TestServer::start().await;
    server.until_ready().await;
    let mut first = watcher(&server).await;
    until(&mut first, "the first", |stats| stats["time"].is_i64()).await;
    first.ask(json!({"op": "unsubscribe", "topics": ["stats"]}), "unsubscribed").await;
    let mut other = Client::connect(&server, "topics=status").await;
    other.answer("subscribed").await;
    // What is no longer watched is taken off the tape's image within a period; the clock of the tape goes on
    // every second.
    let from = other.welcome["position"].as_u64().unwrap();
    other.until("three seconds", |seen| seen.position >= from + 3).await;
    let before = Timestamp::now().micros();
    let mut second = watcher(&server).await;
    let stats = until(&mut second, "a fresh one", |stats| stats["time"].is_i64()).await;
    assert!(stats["time"].as_i64().unwrap() >= before, "{before}: {stats}");
    // Watching is no publishing.
    assert_eq!(stats["feed"]["state"], "stale");
    assert_eq!(stats["tape"]["publications"], 0);
    assert_eq!(stats["tape"]["events"], 2, "that the market is open, and what feeds it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_allow_it_refuses_the_topic_and_goes_on() {
    let server = TestServer::start_with(|config| config.ops = Some(false)).await;
    let mut client = Client::connect(&server, "topics=stats,status").await;
    let answer = client.answer("subscribed").await;
    assert_eq!(answer["topics"][0]["error"]["code"], "not_allowed", "{answer}");
    assert!(answer["topics"][0]["error"]["message"].as_str().unwrap().contains("--ops"), "{answer}");
    assert_eq!(answer["topics"][1], json!({"topic": "status"}));
    soon("the status", client.until("it", |seen| seen.told.contains_key("status"))).await;
}
