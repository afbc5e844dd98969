//! Sessions that ask for the way to them to be broken: what comes over it, and that our own client survives
//! each.

use crate::server::support::{BINARY, Client as Raw, RawClient, TEXT, TestServer, frame, quote, soon, trade};
use serde_json::json;
use std::time::{Duration, Instant};
use tickcast::client::{Change, Client, Event, Options};
use tickcast::market::Price;
use tickcast::wire::{CloseCode, Fault, Garbled};
use tokio_stream::StreamExt;

async fn server() -> TestServer {
    TestServer::start_with(|config| config.allow_faults = true).await
}

/// A client and what it knows of the symbol A.
struct Watching {
    client: Client,
    trades: u64,
    ask: Option<i128>,
}

impl Watching {
    fn start(server: &TestServer) -> Self {
        let client = Client::connect(&format!("ws://{}", server.address)).unwrap();
        client.subscribe(["quote:A", "trades:A", "day:A"], Options::default());
        Self { client, trades: 0, ask: None }
    }

    /// The next event, taken in.
    async fn next(&mut self) -> Event {
        let event = soon("an event", self.client.next()).await.expect("the client goes on");
        if event == Event::Replaced {
            (self.trades, self.ask) = (0, None);
        }
        let Event::Update { changes, .. } = &event else { return event };
        for change in changes {
            match change {
                Change::Trade { number, .. } => {
                    assert_eq!(*number, self.trades, "each trade once and in order");
                    self.trades += 1;
                }
                Change::Gap { missed, .. } => panic!("{missed} missed"),
                Change::Quote { quote, .. } => self.ask = quote.ask.map(Price::units),
                _ => {}
            }
        }
        event
    }
}

/// What a client went through from the moment its server took a fault.
struct Survived {
    /// Until the first update, and until it knew everything.
    first: Duration,
    all: Duration,
    /// How often it lost its connection, resumed, and began anew.
    lost: usize,
    resumed: usize,
    replaced: usize,
}

/// Lets a client ask for a fault and then publishes a quote and 200 trades, all of which it must get, each
/// once and in order.
async fn survive(fault: Fault, lasts: Option<Duration>) -> Survived {
    let server = server().await;
    server.publish(&(quote("A", "1.00", "1.01") + &trade("A", "1.00", 1))).await;
    let mut watching = Watching::start(&server);
    while watching.trades < 1 || watching.ask.is_none() {
        watching.next().await;
    }
    watching.client.fault(fault, lasts);
    while !matches!(watching.next().await, Event::Fault { fault: taken } if taken == fault.name()) {}
    let start = Instant::now();
    let lines: String = (0..200).map(|n| trade("A", "1.00", n + 1)).collect();
    server.publish(&(quote("A", "1.00", "1.07") + &lines)).await;
    let (mut first, mut all, mut lost, mut resumed, mut replaced) = (None, None, 0, 0, 0);
    loop {
        match watching.next().await {
            Event::Update { .. } => {
                first.get_or_insert(start.elapsed());
                if watching.trades == 201 && watching.ask == Some(107) && all.is_none() {
                    all = Some(start.elapsed());
                    watching.client.verify(["quote:A", "day:A"]);
                }
            }
            Event::Disconnected { .. } => lost += 1,
            Event::Resumed { .. } => resumed += 1,
            Event::Replaced => replaced += 1,
            Event::Verified { topics, .. } => {
                assert!(topics.iter().all(|(_, equal)| *equal), "{topics:?}");
                break;
            }
            // What comes late, as under some faults, is told as lagging.
            Event::Connected { .. }
            | Event::Subscribed { .. }
            | Event::Settled { .. }
            | Event::Lagging { .. }
            | Event::Live => {}
            other => panic!("{other:?}"),
        }
    }
    server.shutdown().await;
    Survived { first: first.unwrap(), all: all.unwrap(), lost, resumed, replaced }
}

#[tokio::test]
async fn a_mute_session_hears_nothing_and_then_everything() {
    let Survived { first, lost, .. } = survive(Fault::Mute, Some(Duration::from_millis(600))).await;
    assert!(first > Duration::from_millis(500), "{first:?}");
    assert_eq!(lost, 0);
}

#[tokio::test]
async fn a_delayed_session_hears_everything_later() {
    let Survived { first, lost, .. } = survive(Fault::Delay(Duration::from_millis(400)), None).await;
    assert!((400..2000).contains(&first.as_millis()), "{first:?}");
    assert_eq!(lost, 0);
}

#[tokio::test]
async fn a_slow_session_takes_its_time() {
    let Survived { all, lost, .. } = survive(Fault::Slow(1000), None).await;
    // Over a thousand bytes, of which a fifth of a second's may come at once.
    assert!(all > Duration::from_millis(700), "{all:?}");
    assert_eq!(lost, 0);
}

#[tokio::test]
async fn a_dropped_session_comes_back_and_goes_on_where_it_was() {
    for code in [None, Some(CloseCode::RESTART), Some(CloseCode(4000))] {
        let Survived { lost, resumed, replaced, .. } = survive(Fault::Drop(code), None).await;
        assert_eq!((lost, resumed, replaced), (1, 1, 0), "{code:?}");
    }
}

#[tokio::test]
async fn a_session_whose_frame_is_garbled_is_given_up_and_resumed() {
    let Survived { lost, resumed, replaced, .. } = survive(Fault::Garble(Garbled::Frame), None).await;
    assert_eq!((lost, resumed, replaced), (1, 1, 0));
}

#[tokio::test]
async fn a_client_that_is_told_what_makes_no_sense_begins_anew() {
    let Survived { lost, resumed, replaced, .. } = survive(Fault::Garble(Garbled::Message), None).await;
    assert_eq!((lost, resumed, replaced), (1, 0, 1));
}

#[tokio::test]
async fn faults_are_refused_where_they_are_not_turned_on() {
    let server = TestServer::start().await;
    let mut client = Raw::connect(&server, "").await;
    let error = client.ask(json!({"op": "fault", "id": 3, "fault": "mute"}), "error").await;
    assert_eq!((&error["code"], &error["id"]), (&json!("not_supported"), &json!(3)));
    assert!(error["message"].as_str().unwrap().contains("--allow-faults"), "{error}");
    client.ask(json!({"op": "ping"}), "pong").await;
    server.shutdown().await;
}

#[tokio::test]
async fn a_fault_ends_with_the_next_one() {
    let server = server().await;
    let mut client = Raw::connect(&server, "topics=quote:A").await;
    client.answer("subscribed").await;
    let answer = client.ask(json!({"op": "fault", "fault": "mute", "for_ms": 600_000}), "fault").await;
    assert_eq!(answer, json!({"type": "fault", "fault": "mute", "for_ms": 600_000}));
    client.send(&json!({"op": "ping"})).await;
    let published = server.publish(&quote("A", "1", "2")).await;
    client.send(&json!({"op": "fault", "fault": "none"})).await;
    // What was asked meanwhile is answered now, and what was owed comes with it.
    client.answer("pong").await;
    assert_eq!(client.answer("fault").await["fault"], "none");
    client.reach(&published["position"]).await;
    assert_eq!(client.seen.field("quote:A", "ask"), "2.00");
    server.shutdown().await;
}

#[tokio::test]
async fn a_slow_session_gets_the_newest_prices_not_all() {
    let server = server().await;
    server.publish(&quote("A", "1", "2")).await;
    let mut client = Raw::connect(&server, "topics=quote:A").await;
    client.answer("subscribed").await;
    client.ask(json!({"op": "fault", "fault": "slow", "bytes_per_second": 1500}), "fault").await;
    let mut last = json!(null);
    for n in 3..300 {
        last = server.publish(&quote("A", "1", &n.to_string())).await["position"].clone();
    }
    client.reach(&last).await;
    assert_eq!(client.seen.field("quote:A", "ask"), "299.00");
    assert!(client.seen.told["quote:A"] < 150, "{}", client.seen.told["quote:A"]);
    server.shutdown().await;
}

#[tokio::test]
async fn a_session_is_dropped_with_the_code_it_asked_for_or_without() {
    let server = server().await;
    let mut client = Raw::connect(&server, "").await;
    client.ask(json!({"op": "fault", "fault": "drop", "code": 4321}), "fault").await;
    assert_eq!(client.message().await, Err(Some(4321)));
    let mut raw = RawClient::connect(&server, "/v1/ws?format=json", b"").await;
    raw.text().await;
    raw.send(&frame(TEXT, br#"{"op":"fault","fault":"drop"}"#)).await;
    assert_eq!(raw.text().await["type"], "fault");
    assert_eq!(raw.frame().await, None, "no Close frame");
    server.shutdown().await;
}

#[tokio::test]
async fn what_is_garbled_cannot_be_read() {
    let server = server().await;
    let mut raw = RawClient::connect(&server, "/v1/ws", b"").await;
    raw.binary().await;
    raw.send(&frame(TEXT, br#"{"op":"fault","fault":"garble"}"#)).await;
    assert_eq!(raw.binary().await["type"], "fault");
    let (first, payload) = raw.frame().await.unwrap();
    assert_eq!(first, BINARY);
    assert!(rmp_serde::from_slice::<serde_json::Value>(&payload).is_err(), "{payload:?}");
    raw.send(&frame(TEXT, br#"{"op":"fault","fault":"garble","what":"frame"}"#)).await;
    assert_eq!(raw.binary().await["type"], "fault");
    let (first, _) = raw.frame().await.unwrap();
    assert!(first & 0x70 != 0, "reserved bits are set: {first:#x}");
    // The session itself goes on, as long as its client lets it.
    raw.send(&frame(TEXT, br#"{"op":"ping"}"#)).await;
    assert_eq!(raw.binary().await["type"], "pong");
    server.shutdown().await;
}
