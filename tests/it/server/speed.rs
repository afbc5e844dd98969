//! How fast the feed's clock runs is told alike on every door, and asked for within the same range.

use crate::server::support::{Client, RawClient, TestServer, handshake, request, soon};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use tickcast::feed::formats::OpenOptions;
use tickcast::feed::sim::{SimConfig, default_universe};
use tickcast::feed::{Recordings, Simulation, Source};
use tickcast::market::{Speed, Timestamp};
use tickcast::server::Config;

/// What each door says, of the public market or of a room.
async fn told(server: &TestServer, room: Option<&str>) -> Vec<(&'static str, Value)> {
    let of_room = room.map_or_else(String::new, |room| format!("room={room}"));
    let mut client = Client::connect(server, &format!("topics=status,stats&{of_room}")).await;
    client.answer("subscribed").await;
    let is_there = |seen: &crate::server::support::Seen| {
        !seen.field("status", "feed").is_null() && !seen.field("stats", "stats").is_null()
    };
    client.until("status and stats", is_there).await;
    let speed = |value: Value| value["speed"].clone();
    let mut packed = RawClient::connect(server, &format!("/v1/ws?topics=status&{of_room}"), b"").await;
    let packed = loop {
        // `..., nil, 61, kind, state, speed, ...`
        if let Value::Array(update) = packed.binary().await
            && let Some(at) = update.windows(2).position(|two| two[0].is_null() && two[1] == 61)
        {
            break update[at + 4].clone();
        }
    };
    let mut doors = vec![
        ("status", speed(client.seen.field("status", "feed"))),
        ("MessagePack", packed),
        ("/v1/feed", speed(server.get(&format!("/v1/feed?{of_room}")).await.json())),
        ("/v1/replay", speed(server.get(&format!("/v1/replay?{of_room}")).await.json())),
        ("replay", speed(client.ask(json!({"op": "replay"}), "replay").await)),
    ];
    if room.is_none() {
        // Wherever it is watched it is of the public market.
        doors.push(("stats", speed(client.seen.field("stats", "stats")["feed"].clone())));
    }
    doors
}

async fn check(change: impl FnOnce(&mut Config), until: &str, expected: Value) {
    let server = TestServer::start_with(change).await;
    server.until_ready().await;
    let reached = async { while server.state().await["state"] != until {} };
    soon(until, reached).await;
    for (door, speed) in told(&server, None).await {
        assert_eq!(speed, expected, "{door}, {until}");
    }
}

fn simulation() -> Arc<Simulation> {
    let start = Timestamp::from_micros(1_000_000);
    let config = SimConfig { symbols: 1, rate: NonZeroU32::MIN, seed: 1, start };
    Arc::new(Simulation { universe: default_universe(), config })
}

#[tokio::test(flavor = "multi_thread")]
async fn all_doors_tell_the_same() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds/binance-spot-60s.tape");
    let minute =
        || -> Arc<dyn Source> { Arc::new(Recordings::new(vec![path.clone()], OpenOptions::default())) };
    check(|_| (), "stale", json!(1.0)).await;
    check(|config| config.source = Some(simulation()), "playing", json!(1.0)).await;
    check(
        |config| (config.source, config.speed) = (Some(minute()), Speed::Times(0.001)),
        "playing",
        json!(0.001),
    )
    .await;
    check(|config| (config.source, config.speed) = (Some(minute()), Speed::Max), "ended", json!("max")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_and_the_remote_control_take_what_flags_take() {
    let server = TestServer::start_with(|config| config.source = Some(simulation())).await;
    server.until_ready().await;
    for (given, asked, expected) in [
        ("0.001", json!(0.001), json!(0.001)),
        ("1000000", json!(1_000_000), json!(1_000_000.0)),
        ("max", json!("max"), json!("max")),
    ] {
        assert_eq!(json!(given.parse::<Speed>().unwrap()), expected);
        let _opener = Client::connect(&server, &format!("room=of-{given}&seed=1&speed={given}")).await;
        for (door, speed) in told(&server, Some(&format!("of-{given}"))).await {
            assert_eq!(speed, expected, "{door} of a room at {given}");
        }
        let answer = server.post(&json!({"action": "speed", "speed": asked})).await;
        assert_eq!((answer.status, &answer.json()["speed"]), (200, &expected));
    }
    for (given, asked) in [
        ("0", json!(0)),
        ("-1", json!(-1)),
        ("0.0001", json!(0.0001)),
        ("1000001", json!(1_000_001)),
        ("nan", Value::Null),
        ("Max", json!("Max")),
    ] {
        assert!(given.parse::<Speed>().is_err(), "{given}");
        let mut raw = RawClient::dial(server.address).await;
        let path = format!("/v1/ws?room=refused&seed=1&speed={given}");
        raw.send(handshake(server.address, &path, &[]).as_bytes()).await;
        raw.response("GET").await.check_problem(400, Speed::EXPECTED);
        let body = json!({"action": "speed", "speed": asked}).to_string();
        let answer = request(server.address, "POST", "/v1/replay", &[], body.as_bytes()).await;
        answer.check_problem(400, Speed::EXPECTED);
        let mut client = Client::connect(&server, "").await;
        let asked = json!({"op": "replay", "action": "speed", "speed": asked});
        let error = client.ask(asked, "error").await;
        assert!(error["message"].as_str().unwrap().contains(Speed::EXPECTED), "{error}");
    }
}
