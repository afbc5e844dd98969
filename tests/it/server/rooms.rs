//! Private markets: each on a clock of its own, under the control of whoever opened it.

use crate::server::support::{Client, RawClient, TestServer, handshake, request, soon};
use crate::server::trap::{Market, Trap, moment};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tickcast::feed::Recordings;
use tickcast::feed::formats::OpenOptions;
use tickcast::market::Speed;

pub const HOUR: Duration = Duration::from_hours(1);

/// A server that plays the recorded minute, and lets three rooms be opened.
pub async fn server(idle: Duration) -> TestServer {
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
    let differs = |seen: &crate::server::support::Seen| {
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
    let publish = request(server.address, "POST", "/v1/publish?room=two", &[], b"{}").await;
    publish.check_problem(404, "no room \"two\"");
}

/// A server that plays a market with a trap so slowly that the public one never comes to it.
async fn trapped(market: Market) -> TestServer {
    let server = TestServer::start_with(|config| {
        config.source = Some(Arc::new(market));
        config.speed = Speed::Times(0.001);
        config.allow_faults = true;
    })
    .await;
    server.until_ready().await;
    server
}

/// Threads of this process that are called so, with the processor time they took and how far they step back.
fn threads(name: &str) -> Vec<(Duration, i64)> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    // One that ends meanwhile is not there.
    let stat = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (head, fields) = stat.rsplit_once(')')?;
        let (_, comm) = head.split_once('(')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |at: usize| fields[at].parse::<i64>().expect("a number");
        let ticks = u64::try_from(number(11) + number(12)).expect("not negative");
        let per_second = rustix::param::clock_ticks_per_second();
        // The kernel keeps 15 bytes of a name.
        let is_so = comm == &name[..name.len().min(15)];
        is_so.then(|| (Duration::from_millis(ticks * 1000 / per_second), number(16)))
    };
    tasks.filter_map(stat).collect()
}

async fn until_no_threads(room: &str) {
    let gone = async {
        while ["tape", "shard-0", "seek"].iter().any(|what| !threads(&format!("{what}@{room}")).is_empty()) {
            tokio::task::yield_now().await;
        }
    };
    soon("the end of its threads", gone).await;
}

/// Breaks a connection as the kernel does for a process that is killed, with something unread.
fn kill(client: &RawClient) {
    socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_whose_market_panics_ends_alone_with_a_goodbye() {
    let server = trapped(Market { trap: Some((2_000, Trap::Panics)), ..Market::default() }).await;
    let mut outside = Client::connect(&server, "topics=trades:A").await;
    let mut other = Client::connect(&server, "room=other&speed=0.01&topics=trades:A").await;
    let mut client = Client::connect(&server, "room=bad&speed=max&topics=trades:A").await;
    client.answer("subscribed").await;
    let goodbye = client.answer("goodbye").await;
    assert_eq!(
        (&goodbye["code"], &goodbye["reason"]),
        (&json!(4410), &json!("this room has failed: what it plays cannot be played on"))
    );
    assert_eq!(client.message().await, Err(Some(4410)));
    until_rooms(&server, 1).await;
    server.get("/v1/quotes?room=bad").await.check_problem(404, "no room \"bad\"");
    for client in [&mut outside, &mut other] {
        client.answer("subscribed").await;
        let trades = client.seen.numbers("trades:A").len();
        client.until("trades", |seen| seen.numbers("trades:A").len() > trades).await;
    }
    assert_eq!(server.get("/readyz").await.status, 200);
    // Its name is free again.
    let again = Client::connect(&server, "room=bad&speed=0.01").await;
    until_rooms(&server, 2).await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_cannot_be_opened_is_refused_and_leaves_nothing() {
    let opening = Some(Trap::Panics);
    let server = trapped(Market { opening, ..Market::default() }).await;
    let mut raw = RawClient::dial(server.address).await;
    raw.send(handshake(server.address, "/v1/ws?room=bad", &[]).as_bytes()).await;
    raw.response("GET").await.check_problem(503, "the room cannot be opened");
    until_rooms(&server, 0).await;
    until_no_threads("bad").await;
    // Nor is what plays something else affected.
    drop(Client::connect(&server, "room=bad&seed=1").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_left_while_it_opens_is_not_opened() {
    let market = Market { opening: Some(Trap::Reads), ..Market::default() };
    let opened = Arc::clone(&market.opened);
    let server = trapped(market).await;
    let mut raw = RawClient::dial(server.address).await;
    raw.send(handshake(server.address, "/v1/ws?room=left", &[]).as_bytes()).await;
    let opening = async {
        while opened.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
    };
    soon("its opening", opening).await;
    until_rooms(&server, 1).await;
    kill(&raw);
    drop(raw);
    until_rooms(&server, 0).await;
    until_no_threads("left").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_left_burns_nothing_whatever_it_was_at() {
    // What reads for ever, and what plays for ever: three ways to be busy.
    let server = trapped(Market { trap: Some((2_000, Trap::Reads)), ..Market::default() }).await;
    for (room, query, seek) in [
        ("playing", "&seed=1&speed=max", None),
        ("sought", "", Some(moment(3_000))),
        ("begun", "&start=2026-01-05T12:00:03Z", None),
    ] {
        let path = format!("/v1/ws?room={room}{query}&format=json");
        let mut raw = RawClient::connect(&server, &path, b"").await;
        let begun = if room == "playing" { "tape" } else { "seek" };
        if let Some(to) = seek {
            let seek = json!({"op": "replay", "action": "seek", "to": to.to_string()}).to_string();
            raw.send(&crate::server::support::frame(crate::server::support::TEXT, seek.as_bytes())).await;
        }
        let busy = async {
            while threads(&format!("{begun}@{room}")).is_empty() {
                tokio::task::yield_now().await;
            }
        };
        soon("the beginning", busy).await;
        kill(&raw);
        drop(raw);
        until_rooms(&server, 0).await;
        until_no_threads(room).await;
    }
    assert_eq!(server.get("/readyz").await.json()["connections"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_without_a_pace_take_half_of_the_machine_and_step_back() {
    let server = trapped(Market::default()).await;
    let rooms = ["fast-1", "fast-2", "fast-3"];
    let mut clients = Vec::new();
    for room in rooms {
        clients.push(Client::connect(&server, &format!("room={room}&seed=1&speed=max")).await);
    }
    let taken = || -> Duration {
        let names = rooms.iter().flat_map(|room| ["tape", "shard-0"].map(|what| format!("{what}@{room}")));
        names.flat_map(|name| threads(&name)).map(|(time, _)| time).sum()
    };
    // So long that a tick of the kernel's clock in each thread does not matter; a machine with other work
    // gives them less.
    let (begun, before) = (Instant::now(), taken());
    let measured = async {
        while begun.elapsed() < Duration::from_secs(2) || taken() == before {
            tokio::task::yield_now().await;
        }
    };
    soon("some time of the processor", measured).await;
    let (time, took) = (taken().saturating_sub(before), begun.elapsed());
    let cores = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    assert!(time < took * cores * 3 / 4, "{time:?} within {took:?} on {cores} cores");
    for room in rooms {
        for what in ["tape", "shard-0"] {
            let found = threads(&format!("{what}@{room}"));
            assert!(found.len() == 1 && found[0].1 > threads("tape")[0].1, "{what}@{room}: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_room_sessions_may_do_what_they_may_outside() {
    let server = trapped(Market::default()).await;
    let mut client = Client::connect(&server, "room=ops&topics=stats").await;
    client.answer("subscribed").await;
    let told = |seen: &crate::server::support::Seen| seen.field("stats", "stats")["sessions"]["open"] == 1;
    client.until("the server's stats", told).await;
    let stats = client.seen.field("stats", "stats");
    assert_eq!(stats["sessions"]["opened"], 1);
    let fault = json!({"op": "fault", "fault": "mute", "for_ms": 1});
    assert_eq!(client.ask(fault, "fault").await["fault"], "mute");

    let strict = TestServer::start_with(|config| {
        config.source = Some(Arc::new(Market::default()));
        config.ops = Some(false);
    })
    .await;
    let mut client = Client::connect(&strict, "room=ops&topics=stats").await;
    let refused = client.answer("subscribed").await;
    assert!(refused["topics"][0]["error"]["message"].as_str().unwrap().contains("--ops"), "{refused}");
    let error = client.ask(json!({"op": "fault", "fault": "mute"}), "error").await;
    assert!(error["message"].as_str().unwrap().contains("--allow-faults"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_in_the_metrics_and_stay_counted_when_they_are_gone() {
    let server = trapped(Market::default()).await;
    let shows = async |lines: &[&str]| {
        let reached = async {
            loop {
                let page = server.get("/metrics").await.text();
                if lines.iter().all(|line| page.contains(&format!("tickcast_{line}\n"))) {
                    break;
                }
            }
        };
        soon(&lines.join(", "), reached).await;
    };
    let outside = Client::connect(&server, "").await;
    let mut inside = [Client::connect(&server, "room=one").await, Client::connect(&server, "room=two").await];
    for client in &mut inside {
        client.ask(json!({"op": "ping"}), "pong").await;
    }
    let one = "connections{shard=\"0\"} 1";
    let ping = "requests_total{op=\"ping\"} 2";
    shows(&[one, "connections{shard=\"rooms\"} 2", ping, "rooms 2"]).await;
    assert_eq!(server.get("/readyz").await.json()["connections"], 3);
    drop(inside);
    shows(&[
        one,
        "connections{shard=\"rooms\"} 0",
        "connections_opened_total{shard=\"rooms\"} 2",
        "connections_closed_total{code=\"1006\"} 2",
        ping,
        "rooms 0",
    ])
    .await;
    drop(outside);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_says_goodbye_in_rooms_too() {
    let server = trapped(Market::default()).await;
    let mut client = Client::connect(&server, "room=one").await;
    let stopped = tokio::spawn(server.shutdown());
    assert_eq!(client.answer("goodbye").await["code"], 1012);
    assert_eq!(client.message().await, Err(Some(1012)));
    soon("shutdown", stopped).await.unwrap();
    until_no_threads("one").await;
}
