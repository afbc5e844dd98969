//! Private markets: each on a clock of its own, under the control of whoever opened it.

use crate::support::{Client, RawClient, TestServer, handshake, request, soon};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tickcast::feed::Recordings;
use tickcast::feed::formats::OpenOptions;

const HOUR: Duration = Duration::from_hours(1);

/// A server that plays the recorded minute, and lets three rooms be opened.
async fn server(idle: Duration) -> TestServer {
    let server = TestServer::start_with(|config| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds/binance-spot-60s.tape");
        config.source = Some(Arc::new(Recordings::new(vec![path], OpenOptions::default())));
        config.room_idle = idle;
    })
    .await;
    server.until_ready().await;
    server
}

async fn seek(client: &mut Client, to: &str) {
    client.ask(json!({"op": "replay", "action": "pause"}), "replay").await;
    let state = client.ask(json!({"op": "replay", "action": "seek", "to": to}), "replay").await;
    assert_eq!((&state["now"], &state["state"]), (&json!(to), &json!("paused")));
}

async fn state(server: &TestServer, room: &str) -> Value {
    server.get(&format!("/v1/replay?room={room}")).await.json()
}

async fn until_rooms(server: &TestServer, count: usize) {
    let line = format!("tickcast_rooms {count}\n");
    let reached = async { while !server.get("/metrics").await.text().contains(&line) {} };
    soon("as many rooms", reached).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rooms_at_different_times_disturb_neither_each_other_nor_the_public_market() {
    let server = server(HOUR).await;
    let (early, late) = ("2024-08-08T23:54:20Z", "2024-08-08T23:55:10Z");
    let mut one = Client::connect(&server, "room=one").await;
    let mut two = Client::connect(&server, "room=two").await;
    for client in [&mut one, &mut two] {
        client.subscribe(json!({"topics": ["quote:*", "status"]})).await;
    }
    assert_ne!(one.welcome["epoch"], two.welcome["epoch"]);
    seek(&mut one, early).await;
    seek(&mut two, late).await;
    one.until("the market of then", |seen| seen.resets > 0 && !seen.field("quote:BTCUSDT", "bid").is_null())
        .await;
    let rest = async |path: &str| server.get(path).await.json();
    let quote = "/v1/quotes?symbols=BTCUSDT&room";
    let (first, second) = (rest(&format!("{quote}=one")).await, rest(&format!("{quote}=two")).await);
    assert_eq!((&first["epoch"], &second["epoch"]), (&one.welcome["epoch"], &two.welcome["epoch"]));
    assert_ne!(first["quotes"][0]["bid"], second["quotes"][0]["bid"]);
    for path in ["instruments", "trades/BTCUSDT", "bars/BTCUSDT"] {
        assert_eq!(rest(&format!("/v1/{path}?room=one")).await["epoch"], one.welcome["epoch"], "{path}");
        server.get(&format!("/v1/{path}?room=none")).await.check_problem(404, "no room \"none\"");
    }
    assert_eq!(rest("/v1/feed?room=one").await["state"], "paused");
    assert_eq!(state(&server, "one").await["now"], early);
    assert_eq!(state(&server, "two").await["now"], late);
    let public = server.get("/v1/replay").await.json();
    assert_eq!((&public["state"], &public["room"]), (&json!("playing"), &json!(null)));
    let bid = one.seen.field("quote:BTCUSDT", "bid");
    let differs = |seen: &crate::support::Seen| {
        let other = seen.field("quote:BTCUSDT", "bid");
        seen.resets > 0 && !other.is_null() && other != bid
    };
    two.until("other prices", differs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_room_watches_unless_the_opener_lets_all_control_it() {
    let server = server(HOUR).await;
    let mut opener = Client::connect(&server, "room=mine&key=secret&start=2024-08-08T23:54:30Z").await;
    let mut guest = Client::connect(&server, "room=mine").await;
    assert_eq!(opener.welcome["epoch"], guest.welcome["epoch"]);
    let pause = || json!({"op": "replay", "action": "pause"});
    assert_eq!(guest.ask(pause(), "error").await["code"], "not_allowed");
    opener.ask(pause(), "replay").await;
    let play = async |path: &str| request(server.address, "POST", path, &[], b"{\"action\":\"play\"}").await;
    play("/v1/replay?room=mine").await.check_problem(403, "room=NAME&key=KEY");
    assert_eq!(play("/v1/replay?room=mine&key=secret").await.json()["state"], "playing");
    play("/v1/replay?room=other").await.check_problem(404, "no room \"other\"");

    let _opener = Client::connect(&server, "room=ours&control=all").await;
    let mut guest = Client::connect(&server, "room=ours").await;
    guest.ask(pause(), "replay").await;
    assert_eq!(play("/v1/replay?room=ours").await.json()["state"], "playing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_closes_with_its_last_session_and_there_are_only_so_many() {
    let server = server(HOUR).await;
    let rooms = [
        Client::connect(&server, "room=a").await,
        Client::connect(&server, "room=b&seed=7").await,
        Client::connect(&server, "room=c").await,
    ];
    until_rooms(&server, 3).await;
    assert_eq!(state(&server, "b").await["kind"], "simulator");
    let refused = async |path: &str| {
        let mut raw = RawClient::dial(server.address).await;
        raw.send(handshake(server.address, path, &[]).as_bytes()).await;
        raw.response("GET").await
    };
    refused("/v1/ws?room=d").await.check_problem(503, "there are 3 rooms");
    refused("/v1/ws?room=a%20b").await.check_problem(400, "letters, digits");
    refused("/v1/ws?seed=7").await.check_problem(400, "name it with room=NAME");
    drop(rooms);
    until_rooms(&server, 0).await;
    let again = Client::connect(&server, "room=d").await;
    until_rooms(&server, 1).await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_in_which_nothing_happens_ends_with_a_goodbye() {
    let server = server(Duration::from_millis(300)).await;
    let mut client = Client::connect(&server, "room=quiet").await;
    client.ask(json!({"op": "replay", "action": "pause"}), "replay").await;
    assert_eq!(client.answer("goodbye").await["code"], 4410);
    assert_eq!(client.message().await, Err(Some(4410)));
    until_rooms(&server, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rest_answers_for_a_room_or_says_that_it_cannot() {
    let server = server(HOUR).await;
    let early = "2024-08-08T23:54:20Z";
    let mut client = Client::connect(&server, "room=one").await;
    seek(&mut client, early).await;
    for path in ["/v1/quotes", "/v1/instruments", "/v1/trades/BTCUSDT", "/v1/bars/BTCUSDT"] {
        let told = server.get(&format!("{path}?room=one")).await.json();
        assert_eq!(
            (&told["time"], &told["epoch"]),
            (&json!("2024-08-08T23:54:20.000000Z"), &client.welcome["epoch"]),
            "{path}"
        );
        assert_ne!(server.get(path).await.json()["epoch"], client.welcome["epoch"], "{path}");
        server.get(&format!("{path}?room=two")).await.check_problem(404, "no room \"two\"");
    }
    let feed = server.get("/v1/feed?room=one").await.json();
    assert_eq!((&feed["state"], &feed["room"]), (&json!("paused"), &json!("one")));
    server.get("/v1/feed?room=two").await.check_problem(404, "no room \"two\"");
    server.get("/metrics?room=one").await.check_problem(400, "not to be had of a room");
    let publish = request(server.address, "POST", "/v1/publish?room=one", &[], b"{}").await;
    publish.check_problem(400, "not to be had of a room");
}
