use crate::support::{Client, Seen, TestServer};
use serde_json::json;
use std::sync::Arc;
use tickcast::feed::Scripted;
use tickcast::feed::sim::scenario::Scenario;
use tickcast::market::{Speed, Timestamp};

const OUTAGE: &str = r#"
end = "1m"

[market]
symbols = 3
rate = 100

[[phase]]
at = "0s"
is = "pre-open"

[[phase]]
at = "10s"
is = "continuous"

[[fault.stall]]
at = "20s"
for = "20s"
"#;

#[tokio::test]
async fn clients_see_phases_a_stalled_feed_and_its_end() {
    let scenario = Scenario::parse(OUTAGE).unwrap();
    let script = Scripted { name: "outage".to_owned(), scenario, start: Timestamp::now(), looped: false };
    let server = TestServer::start_with(|config| {
        config.source = Some(Arc::new(script));
        config.speed = Speed::Times(20.0);
    })
    .await;
    let mut client = Client::connect(&server, "topics=status,trades:*,quote:AAPL").await;
    let mut seen: Vec<String> = Vec::new();
    while seen.last().is_none_or(|last| !last.ends_with("ended")) {
        client.until("a state", |now| now.told.contains_key("status")).await;
        let field = |field| client.seen.field("status", field);
        let state = format!("{} {}", field("state"), field("feed")["state"]).replace('"', "");
        if seen.last() != Some(&state) {
            seen.push(state);
        }
        client.message().await.expect("the server goes on");
    }
    let expected = ["pre-open live", "open live", "open stale", "open live", "open ended"];
    assert_eq!(seen, expected);
    assert_eq!(client.seen.field("status", "feed")["kind"], "simulator");
    assert_eq!(client.seen.field("status", "feed")["speed"], json!(20.0));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scenario_is_named_and_controlled_and_played_in_rooms_with_other_seeds() {
    let start: Timestamp = "2026-01-05T15:00:00Z".parse().unwrap();
    let mut scenario = Scenario::parse(OUTAGE).unwrap();
    scenario.start = Some(start);
    let script = Scripted { name: "outage".to_owned(), scenario, start, looped: false };
    let server = TestServer::start_with(|config| config.source = Some(Arc::new(script))).await;
    server.until_ready().await;
    let feed = async |query: &str| server.get(&format!("/v1/feed{query}")).await.json();
    let public = feed("").await;
    assert_eq!(public["simulator"]["scenario"], "outage", "{public}");

    let mut one = Client::connect(&server, "topics=quote:AAPL,status&room=one").await;
    let mut other = Client::connect(&server, "topics=quote:AAPL,status&room=other&seed=99").await;
    for (room, client) in [("one", &mut one), ("other", &mut other)] {
        client.answer("subscribed").await;
        client.ask(json!({"op": "replay", "action": "pause"}), "replay").await;
        let seek = json!({"op": "replay", "action": "seek", "to": "2026-01-05T15:00:15Z"});
        assert_eq!(client.ask(seek, "replay").await["state"], "paused");
        let is_open = |seen: &Seen| seen.resets > 0 && seen.field("status", "state") == "open";
        client.until("the phase of then", is_open).await;
        assert_eq!(feed(&format!("?room={room}")).await["simulator"]["scenario"], "outage", "{room}");
    }
    assert_eq!(feed("?room=other").await["simulator"]["seed"], 99);
    assert_ne!(one.seen.field("quote:AAPL", "bid"), other.seen.field("quote:AAPL", "bid"));
    // Back to before it opened.
    one.ask(json!({"op": "replay", "action": "seek", "to": "2026-01-05T15:00:05Z"}), "replay").await;
    one.until("the phase of then", |seen| seen.field("status", "state") == "pre-open").await;
    server.shutdown().await;
}
