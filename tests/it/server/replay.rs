//! What is played is controlled from outside, over HTTP; and those who watch see what it does.

use crate::server::support::{Client, Response, TestServer, request, soon};
use crate::server::trap::{Gate, Market, Trap, moment};
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
    async fn seek(&self, to: &str) -> Value {
        check_state(&self.post(&json!({"action": "seek", "to": to})).await, "paused")
    }

    /// What REST tells of one symbol's trades, but for positions.
    async fn market_of(&self, symbol: &str) -> Value {
        self.get(&format!("/v1/trades/{symbol}?limit=1000")).await.json()["trades"].clone()
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
async fn a_trade_that_comes_late_counts_alike_however_it_is_come_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("late.csv");
    let row = |time: &str, arrival: &str, price: u32| {
        format!("2024-01-02T14:30:{time}Z,2024-01-02T14:30:{arrival}Z,XYZ,{price},100\n")
    };
    let rows =
        [row("00.1", "00.1", 50), row("05.1", "05.1", 51), row("01.1", "15.1", 70), row("16.1", "16.1", 52)];
    std::fs::write(&file, format!("time,ts_recv,symbol,price,size\n{}", rows.concat())).unwrap();
    let at = |speed| {
        let source = Recordings::new(vec![file.clone()], OpenOptions::default());
        TestServer::start_with(move |config| {
            config.source = Some(Arc::new(source));
            config.speed = speed;
        })
    };
    let bars = async |server: &TestServer| {
        let mut told = Vec::new();
        for interval in ["1s", "1m"] {
            let bars = server.get(&format!("/v1/bars/XYZ?interval={interval}")).await.json();
            let of = |bar: &Value| {
                let fields = ["start", "high", "close", "volume"].map(|name| bar[name].as_str().unwrap());
                format!("{} of {}", fields.join(" "), bar["trades"])
            };
            told.extend(bars["bars"].as_array().unwrap().iter().map(of));
        }
        told
    };
    let expected = [
        "2024-01-02T14:30:00Z 50.00 50.00 100 of 1",
        "2024-01-02T14:30:05Z 51.00 51.00 100 of 1",
        "2024-01-02T14:30:16Z 52.00 52.00 100 of 1",
        "2024-01-02T14:30:00Z 70.00 52.00 400 of 4",
    ];
    let played = at(Speed::Times(1.0)).await;
    played.until_ready().await;
    check_state(&played.post(&json!({"action": "pause"})).await, "paused");
    for _ in 0..32 {
        // Each tells the time, as playing does in a silence.
        played.post(&json!({"action": "step", "by": "500ms"})).await;
    }
    check_state(&played.post(&json!({"action": "step", "by": "1s"})).await, "ended");
    assert_eq!(bars(&played).await, expected);
    let to = "2024-01-02T14:30:16.1Z";
    assert_eq!(played.post(&json!({"action": "seek", "to": to})).await.status, 200);
    assert_eq!(bars(&played).await, expected, "sought");
    let at_once = at(Speed::Max).await;
    let ended = async { while at_once.state().await["state"] != "ended" {} };
    soon("the end", ended).await;
    assert_eq!(bars(&at_once).await, expected, "as fast as it can");
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
    let is =
        |expected: Value| move |seen: &crate::server::support::Seen| seen.field("status", "feed") == expected;
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

/// A market that plays so slowly that it does not come to its trap by itself, and what stands there.
async fn trapped(trap: Trap) -> TestServer {
    let market = Market { trap: Some((2_000, trap)), ..Market::default() };
    let server = TestServer::start_with(|config| {
        config.source = Some(Arc::new(market));
        config.speed = Speed::Times(0.01);
    })
    .await;
    server.until_ready().await;
    server
}

fn seek_to(millis: u64) -> Value {
    json!({"action": "seek", "to": moment(millis).to_string()})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seek_over_more_than_can_be_gone_over_is_refused_at_once() {
    let start: Timestamp = "2026-01-05T12:00:00Z".parse().unwrap();
    let config = SimConfig::starting(start);
    let server = TestServer::start_with(|server| {
        server.source = Some(Arc::new(Simulation { universe: default_universe(), config }));
    })
    .await;
    server.until_ready().await;
    check_state(&server.post(&json!({"action": "pause"})).await, "paused");
    let before = server.state().await;
    let far = server.post(&json!({"action": "seek", "to": "2026-02-04T12:00:00Z"})).await;
    far.check_problem(400, "events away, and a seek goes over 200000000 at the most");
    assert_eq!(server.state().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_seeks_every_door_says_so_and_the_market_goes_on() {
    let gate = Gate::default();
    let server = trapped(Trap::Waits(gate.clone())).await;
    let mut client = Client::connect(&server, "topics=status,trades:A").await;
    let to = moment(3_000).to_string();
    let seek = json!({"op": "replay", "id": 1, "action": "seek", "to": to});
    client.send(&seek).await;
    let seeking = json!({"kind": "replay", "state": "seeking", "speed": 0.01});
    client.until("seeking", |seen| seen.field("status", "feed") == seeking).await;
    let reached = async {
        loop {
            let state = server.state().await;
            assert_eq!((&state["state"], &state["seeking"]["to"]), (&json!("seeking"), &json!(to)));
            if let Some(reached) = state["seeking"]["reached"].as_str() {
                break reached.parse::<Timestamp>().unwrap();
            }
        }
    };
    let reached = soon("how far it has come", reached).await;
    assert!(reached < moment(2_000), "{reached}");
    assert_eq!(server.get("/v1/feed").await.json()["state"], "seeking");
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, &ready.json()["feed"]), (200, &json!("seeking")));
    let trades = client.seen.numbers("trades:A").len();
    client.until("trades", |seen| seen.numbers("trades:A").len() > trades + 2).await;
    // What does not depend on where it stands need not wait.
    check_state(&server.post(&json!({"action": "pause"})).await, "seeking");
    check_state(&server.post(&json!({"action": "speed", "speed": 2})).await, "seeking");
    gate.open();
    let done = client.answer("replay").await;
    assert_eq!((&done["now"], &done["state"], &done["speed"]), (&json!(to), &json!("paused"), &json!(2.0)));
    assert_eq!(server.state().await["seeking"], Value::Null);
    client.until("paused", |seen| seen.field("status", "feed")["state"] == "paused").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_seek_ends_the_one_under_way() {
    let gate = Gate::default();
    let server = trapped(Trap::Waits(gate.clone())).await;
    let mut client = Client::connect(&server, "topics=status").await;
    client.answer("subscribed").await;
    for (id, millis) in [(1, 3_000), (2, 1_500)] {
        let to = moment(millis).to_string();
        client.send(&json!({"op": "replay", "id": id, "action": "seek", "to": to})).await;
        client.until("seeking", |seen| seen.field("status", "feed")["state"] == "seeking").await;
    }
    // Only the first one had to pass it: once it can, it finds that it is not wanted any more.
    let superseded = async { while server.state().await["seeking"]["to"] == moment(3_000).to_string() {} };
    gate.open();
    soon("the second one", superseded).await;
    let mut answered = Vec::new();
    for _ in 0..2 {
        let done = client.answer("replay").await;
        answered.push(done["id"].as_u64());
        let now: Timestamp = done["now"].as_str().unwrap().parse().unwrap();
        assert!((moment(1_500)..moment(2_000)).contains(&now), "{done}");
    }
    answered.sort_unstable();
    assert_eq!(answered, [Some(1), Some(2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_panics_on_the_way_changes_nothing() {
    let server = trapped(Trap::Panics).await;
    check_state(&server.post(&json!({"action": "speed", "speed": 0.5})).await, "playing");
    check_state(&server.post(&json!({"action": "pause"})).await, "paused");
    let before = server.state().await;
    let (market, ready) = (server.market_of("A").await, server.get("/readyz").await);
    server.post(&seek_to(3_000)).await.check_problem(503, "the seek failed");
    assert_eq!(server.state().await, before);
    assert_eq!(server.market_of("A").await, market);
    assert_eq!(server.get("/readyz").await.json()["feed"], ready.json()["feed"]);
    // And it can be played, and sought elsewhere.
    check_state(&server.post(&seek_to(1_000)).await, "paused");
    check_state(&server.post(&json!({"action": "play"})).await, "playing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_market_that_has_failed_is_not_ready() {
    let server = trapped(Trap::Panics).await;
    // Now it comes to its trap by itself.
    server.post(&json!({"action": "speed", "speed": "max"})).await;
    let not_ready = async { while server.get("/readyz").await.status == 200 {} };
    soon("not ready", not_ready).await;
    server.get("/readyz").await.check_problem(503, "the market has failed");
    server.get("/v1/replay").await.check_problem(503, "the market has failed");
    server.post(&seek_to(1_000)).await.check_problem(503, "the market has failed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_begin_where_it_should_is_not_ready_until_it_is_there() {
    let gate = Gate::default();
    let market = Market { trap: Some((2_000, Trap::Waits(gate.clone()))), ..Market::default() };
    let server = TestServer::start_with(|config| {
        config.source = Some(Arc::new(market));
        config.start = Some(moment(3_000));
        config.speed = Speed::Times(0.01);
    })
    .await;
    let said = async {
        loop {
            let ready = server.get("/readyz").await;
            if ready.text().contains("brought to where it is to begin") {
                break ready;
            }
        }
    };
    soon("what it waits for", said).await.check_problem(503, "is being brought to where it is to begin");
    assert_eq!(server.state().await["state"], "seeking");
    gate.open();
    server.until_ready().await;
    let now: Timestamp = server.state().await["now"].as_str().unwrap().parse().unwrap();
    assert!(now >= moment(3_000));
}
