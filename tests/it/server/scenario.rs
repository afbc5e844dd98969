use crate::server::support::{Client, TestServer};
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
    // Who connects before the first event is told that the state is not known yet.
    client.until("a phase", |seen| !seen.field("status", "state").is_null()).await;
    let mut seen: Vec<String> = Vec::new();
    while seen.last().is_none_or(|last| !last.ends_with("ended")) {
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
async fn a_scenario_is_named_with_its_phase_and_can_be_sought_in_a_room_with_another_seed() {
    let scenario = Scenario::parse(OUTAGE).unwrap();
    let start: Timestamp = "2024-01-02T14:30:00Z".parse().unwrap();
    let script = Scripted { name: "outage".to_owned(), scenario, start, looped: false };
    let server = TestServer::start_with(|config| config.source = Some(Arc::new(script))).await;
    let mut client = Client::connect(&server, "room=x&seed=7&start=2024-01-02T14:30:00Z").await;
    client.ask(json!({"op": "replay", "action": "pause"}), "replay").await;
    for (to, phase) in [("14:30:30", "continuous"), ("14:30:05", "pre-open"), ("14:30:15", "continuous")] {
        let to = format!("2024-01-02T{to}Z");
        let state = client.ask(json!({"op": "replay", "action": "seek", "to": to}), "replay").await;
        assert_eq!(state["now"], to);
        let feed = server.get("/v1/feed?room=x").await.json();
        assert_eq!(feed["scenario"], json!({"name": "outage", "phase": phase}), "at {to}");
        assert_eq!(feed["simulator"]["seed"], 7);
    }
    let public = server.get("/v1/feed").await.json();
    assert_eq!(public["scenario"]["name"], "outage");
    assert_ne!(public["simulator"]["seed"], 7);
}
