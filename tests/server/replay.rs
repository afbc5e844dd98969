//! What is played is controlled from outside, over HTTP; and those who watch see what it does.

use crate::support::{Client, Response, TestServer, request, soon};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tickcast::feed::formats::OpenOptions;
use tickcast::feed::sim::{SimConfig, default_universe};
use tickcast::feed::{Recordings, Simulation};
use tickcast::market::{Speed, Timestamp};
use tickcast::server::{Config, ControlRule};

const FIRST: &str = "2024-08-08T23:54:14.024619568Z";

/// The recorded minute, paused at its beginning.
async fn paused() -> TestServer {
    let server = playing(|_| ()).await;
    // Until it is paused it has played a few milliseconds.
    check_state(&server.post(&json!({"action": "pause"})).await, "paused");
    server.seek(FIRST).await;
    server
}

/// A server that plays the recorded minute.
async fn playing(change: impl FnOnce(&mut Config)) -> TestServer {
    let server = TestServer::start_with(|config| {
        config.source = Some(Arc::new(minute()));
        change(config);
    })
    .await;
    server.until_ready().await;
    // The end is known once the file was read.
    let known = async { while server.state().await["end"].is_null() {} };
    soon("the end of the recording", known).await;
    server
}

fn minute() -> Recordings {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds/binance-spot-60s.tape");
    Recordings::new(vec![path], OpenOptions::default())
}

impl TestServer {
    async fn post(&self, body: &Value) -> Response {
        request(self.address, "POST", "/v1/replay", &[], body.to_string().as_bytes()).await
    }

    async fn seek(&self, to: &str) -> Value {
        check_state(&self.post(&json!({"action": "seek", "to": to})).await, "paused")
    }

    async fn state(&self) -> Value {
        self.get("/v1/replay").await.json()
    }

    /// What REST tells of the market, but for positions.
    async fn market(&self) -> Value {
        let mut market = Vec::new();
        for path in [
            "/v1/instruments",
            "/v1/quotes",
            "/v1/trades/BTCUSDT?limit=1000",
            "/v1/bars/BTCUSDT?interval=1s",
            "/v1/bars/ETHUSDT?interval=1m",
        ] {
            let mut answer = self.get(path).await.json();
            for name in ["position", "epoch"] {
                answer.as_object_mut().unwrap().remove(name);
            }
            market.push(answer);
        }
        market.into()
    }
}

#[track_caller]
fn check_state(response: &Response, state: &str) -> Value {
    assert_eq!(response.status, 200, "{}", response.text());
    let told = response.json();
    assert_eq!(told["state"], state, "{told}");
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_says_what_it_plays_and_where_it_stands() {
    let server = paused().await;
    let expected = json!({
        "kind": "replay",
        "state": "paused",
        "speed": 1.0,
        "now": FIRST,
        "start": FIRST,
        "end": "2024-08-08T23:55:13.964968061Z",
        "loop": false,
        "controllable": true,
        "room": null,
    });
    assert_eq!(server.state().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn time_stands_still_while_it_is_paused_and_goes_on_by_steps() {
    let server = paused().await;
    let step = async |by: Value| {
        let mut body = json!({"action": "step"});
        if !by.is_null() {
            body["by"] = by;
        }
        check_state(&server.post(&body).await, "paused")["now"].as_str().unwrap().to_owned()
    };
    let trades = async || {
        let told = server.get("/v1/trades/BTCUSDT?limit=1000").await.json();
        told["trades"].as_array().map_or(0, Vec::len)
    };
    let before = trades().await;
    let at: Timestamp = step("1s".into()).await.parse().unwrap();
    assert_eq!(at, FIRST.parse::<Timestamp>().unwrap().plus_nanos(1_000_000_000));
    assert!(trades().await > before);
    let one: Timestamp = step(Value::Null).await.parse().unwrap();
    let two: Timestamp = step("event".into()).await.parse().unwrap();
    assert!(at < one && one <= two, "{at} {one} {two}");
    // Nothing has happened meanwhile.
    assert_eq!(server.state().await["now"], two.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_back_shows_what_was_there_and_leaves_nothing_of_later_times() {
    let server = paused().await;
    let (early, late) = ("2024-08-08T23:54:20Z", "2024-08-08T23:55:10Z");
    assert_eq!(server.seek(early).await["now"], early);
    let market = server.market().await;
    assert_eq!(server.seek(late).await["now"], late);
    let later = server.market().await;
    assert_ne!(market, later);
    server.seek(early).await;
    assert_eq!(server.market().await, market);
    check_state(&server.post(&json!({"action": "step", "by": "50s"})).await, "paused");
    assert_eq!(server.market().await, later, "played or sought, it is the same market");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_told_of_a_pause_a_speed_and_a_seek() {
    let server = playing(|config| config.speed = Speed::Times(0.5)).await;
    let mut client = Client::connect(&server, "topics=status,trades:BTCUSDT,quote:*").await;
    let feed = |state: &str, speed: f64| json!({"kind": "replay", "state": state, "speed": speed});
    let is = |expected: Value| move |seen: &crate::support::Seen| seen.field("status", "feed") == expected;
    client.until("live", is(feed("live", 0.5))).await;
    server.post(&json!({"action": "pause"})).await;
    client.until("paused", is(feed("paused", 0.5))).await;
    server.post(&json!({"action": "speed", "speed": 4})).await;
    client.until("faster", is(feed("paused", 4.0))).await;
    server.post(&json!({"action": "seek", "to": "2024-08-08T23:54:30Z"})).await;
    client.until("a reset", |seen| seen.resets == 1).await;
    let quotes = server.get("/v1/quotes").await.json()["quotes"].clone();
    for quote in quotes.as_array().unwrap() {
        let topic = format!("quote:{}", quote["symbol"].as_str().unwrap());
        client.until("the quote of then", |seen| seen.field(&topic, "bid") == quote["bid"]).await;
    }
    server.post(&json!({"action": "play"})).await;
    client.until("live again", is(feed("live", 4.0))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_played_again() {
    let start = "2024-08-08T23:55:13.5Z";
    let server = playing(|config| {
        config.start = Some(start.parse().unwrap());
        config.speed = Speed::Max;
    })
    .await;
    let ended = async { while server.state().await["state"] != "ended" {} };
    soon("the end", ended).await;
    server.post(&json!({"action": "speed", "speed": 0.1})).await;
    let played = check_state(&server.post(&json!({"action": "play"})).await, "playing");
    assert_eq!(played["speed"], 0.1);
    // It plays on while it answers.
    assert!(played["now"].as_str().unwrap().starts_with("2024-08-08T23:55:13.5"), "{played}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_where_it_was_told_to_with_the_market_of_then() {
    let at = "2024-08-08T23:54:40Z";
    let server = playing(|config| {
        config.start = Some(at.parse().unwrap());
        config.speed = Speed::Times(0.1);
    })
    .await;
    check_state(&server.post(&json!({"action": "pause"})).await, "paused");
    let now: Timestamp = server.state().await["now"].as_str().unwrap().parse().unwrap();
    assert!(now >= at.parse().unwrap());
    server.seek(at).await;
    let market = server.market().await;
    let other = paused().await;
    other.seek(at).await;
    assert_eq!(other.market().await, market);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_is_the_same_again_after_a_seek() {
    let start: Timestamp = "2026-01-05T12:00:00Z".parse().unwrap();
    let config = SimConfig { symbols: 5, rate: 1000.try_into().unwrap(), seed: 3, start };
    let server = TestServer::start_with(|server| {
        server.source = Some(Arc::new(Simulation { universe: default_universe(), config }));
    })
    .await;
    server.until_ready().await;
    server.post(&json!({"action": "pause"})).await;
    let state = server.seek("2026-01-05T12:00:30Z").await;
    assert_eq!((&state["kind"], &state["end"]), (&json!("simulator"), &json!(null)));
    let quotes = server.get("/v1/quotes").await.json()["quotes"].clone();
    server.seek("2026-01-05T12:01:30Z").await;
    assert_ne!(server.get("/v1/quotes").await.json()["quotes"], quotes);
    server.seek("2026-01-05T12:00:30Z").await;
    assert_eq!(server.get("/v1/quotes").await.json()["quotes"], quotes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_the_reason() {
    let server = paused().await;
    let check = async |body: &str, detail: &str| {
        let response = request(server.address, "POST", "/v1/replay", &[], body.as_bytes()).await;
        response.check_problem(400, detail);
    };
    check("{}", "\"action\" is missing").await;
    check(r#"{"action":"sek"}"#, "did you mean \"seek\"?").await;
    let outside = format!("is outside of what is played: {FIRST} to 2024-08-08T23:55:13.964968061Z");
    check(r#"{"action":"seek","to":"2024-08-08T23:54:14Z"}"#, &outside).await;
    check(r#"{"action":"seek","to":"2025-01-01T00:00:00Z"}"#, &outside).await;
    assert_eq!(server.state().await["now"], FIRST, "it stands where it was");
    let page = [("Origin", "https://elsewhere.example")];
    let from_page = request(server.address, "POST", "/v1/replay", &page, b"{\"action\":\"play\"}").await;
    from_page.check_problem(403, "pages of this origin may not control the replay");

    let published = TestServer::start().await;
    published.post(&json!({"action": "play"})).await.check_problem(409, "only what is published to it");
    let state = published.state().await;
    assert_eq!((&state["kind"], &state["controllable"]), (&json!("publisher"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_may_be_switched_off() {
    let server = playing(|config| config.control = ControlRule::Off).await;
    server.post(&json!({"action": "pause"})).await.check_problem(403, "--control all");
    let state = server.state().await;
    assert_eq!((&state["state"], &state["controllable"]), (&json!("playing"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_controls_the_replay_by_its_own_requests() {
    let server = paused().await;
    let mut client = Client::connect(&server, "").await;
    let state = client.ask(json!({"op": "replay", "id": 1}), "replay").await;
    assert_eq!((&state["id"], &state["state"], &state["now"]), (&json!(1), &json!("paused"), &json!(FIRST)));
    assert_eq!(state["controllable"], true);
    let to = "2024-08-08T23:54:30Z";
    let state = client.ask(json!({"op": "replay", "id": "s", "action": "seek", "to": to}), "replay").await;
    assert_eq!((&state["id"], &state["now"]), (&json!("s"), &json!(to)));
    let error = client.ask(json!({"op": "replay", "id": 2, "action": "sek"}), "error").await;
    assert_eq!((&error["id"], &error["code"]), (&json!(2), &json!("bad_request")));

    let closed = playing(|config| config.control = ControlRule::Off).await;
    let mut client = Client::connect(&closed, "").await;
    let error = client.ask(json!({"op": "replay", "action": "pause"}), "error").await;
    assert_eq!(error["code"], "not_allowed");
    let state = client.ask(json!({"op": "replay"}), "replay").await;
    assert_eq!((&state["state"], &state["controllable"]), (&json!("playing"), &json!(false)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moment_years_away_is_not_waited_for_longer_than_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("years.csv");
    std::fs::write(&path, "time,symbol,price,size\n2024-01-01T00:00:00Z,A,1,1\n2031-01-01T00:00:00Z,A,2,1\n")
        .unwrap();
    let server = TestServer::start_with(|config| {
        config.source = Some(Arc::new(Recordings::new(vec![path], OpenOptions::default())));
        config.max_gap = Some(Duration::from_millis(200));
    })
    .await;
    let mut client = Client::connect(&server, "topics=trades:A").await;
    client.until("the trade of 2031", |seen| seen.numbers("trades:A").len() == 2).await;
    let now = server.get("/v1/replay").await.json()["now"].clone();
    assert_eq!(now, "2031-01-01T00:00:00Z");
    server.shutdown().await;
}
