//! `/socket.io/`: the same sessions as over our own protocol, by WebSocket, by polls, and from one to the
//! other.

use crate::server::support::{
    BINARY, PATIENCE, RawClient, Response, Seen, TEXT, TestServer, frame, handshake, quote, request, soon,
    trade,
};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;

const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
/// Separates packets in a body.
const BETWEEN: char = '\u{1e}';

/// A client as the libraries are, with every packet to be seen.
struct Client {
    address: SocketAddr,
    transport: Transport,
    sid: String,
    /// With its comma, as packets have it.
    namespace: String,
    packets: VecDeque<String>,
    seen: Seen,
}

enum Transport {
    WebSocket(RawClient),
    Polling,
}

impl Client {
    async fn open(server: &TestServer, target: &str) -> Self {
        let mut client = Self {
            address: server.address,
            transport: Transport::Polling,
            sid: String::new(),
            namespace: String::new(),
            packets: VecDeque::new(),
            seen: Seen::default(),
        };
        if target.contains("websocket") {
            client.transport = Transport::WebSocket(RawClient::connect(server, target, b"").await);
        } else {
            let response = server.get(target).await;
            assert_eq!((response.status, response.header("cache-control")), (200, Some("no-store")));
            client.packets.extend(response.text().split(BETWEEN).map(str::to_owned));
        }
        let opened: Value = serde_json::from_str(client.packet().await.strip_prefix('0').unwrap()).unwrap();
        let mut names: Vec<&str> = opened.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"], "{opened}");
        opened["sid"].as_str().unwrap().clone_into(&mut client.sid);
        client
    }

    /// In the public market.
    async fn connect(server: &TestServer, target: &str, auth: Value) -> Self {
        let mut client = Self::open(server, target).await;
        client.send(&format!("40{auth}")).await;
        assert_eq!(client.packet().await, format!(r#"40{{"sid":"{}"}}"#, client.sid));
        client
    }

    async fn post(&self, body: &str) -> Response {
        let target = format!("{POLLING}&sid={}", self.sid);
        request(self.address, "POST", &target, &[], body.as_bytes()).await
    }

    async fn poll(&self) -> Response {
        request(self.address, "GET", &format!("{POLLING}&sid={}", self.sid), &[], b"").await
    }

    async fn send(&mut self, packet: &str) {
        match &mut self.transport {
            Transport::WebSocket(socket) => socket.send(&frame(TEXT, packet.as_bytes())).await,
            Transport::Polling => {
                let response = self.post(packet).await;
                assert_eq!((response.status, response.text().as_str()), (200, "ok"));
            }
        }
    }

    /// The next packet that is no heartbeat; those are answered.
    async fn packet(&mut self) -> String {
        loop {
            let packet = match (self.packets.pop_front(), &mut self.transport) {
                (Some(packet), _) => packet,
                (None, Transport::WebSocket(socket)) => match socket.data().await.expect("it goes on") {
                    (TEXT, text) => String::from_utf8(text).unwrap(),
                    other => panic!("{other:?}"),
                },
                (None, Transport::Polling) => {
                    let response = self.poll().await;
                    assert_eq!(response.status, 200, "{}", response.text());
                    self.packets.extend(response.text().split(BETWEEN).map(str::to_owned));
                    continue;
                }
            };
            match &*packet {
                "2" => Box::pin(self.send("3")).await,
                "6" => {}
                _ => return packet,
            }
        }
    }

    /// The next event, or the next acknowledgement as `ack`.
    async fn event(&mut self) -> (String, Value) {
        let packet = self.packet().await;
        let (kind, rest) = packet.split_at(2);
        let rest = rest.strip_prefix(&self.namespace).expect("of its namespace");
        let body = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
        let args: Vec<Value> = serde_json::from_str(body).expect("a list");
        let (name, value) = match (kind, &args[..]) {
            ("42", [Value::String(name), value]) => (name.clone(), value.clone()),
            ("43", [value]) => ("ack".to_owned(), value.clone()),
            _ => panic!("{packet}"),
        };
        if name == "update" {
            self.seen.take(&value);
        }
        (name, value)
    }

    async fn next(&mut self, name: &str) -> Value {
        let read = async {
            loop {
                let (found, value) = self.event().await;
                if found == name {
                    return value;
                }
            }
        };
        soon(name, read).await
    }

    async fn reach(&mut self, published: &Value) {
        let position = published["position"].as_u64().unwrap();
        let reached = async {
            while self.seen.position < position {
                self.event().await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, reached).await.is_ok(), "{position}: {:?}", self.seen);
    }

    /// Tries a WebSocket, and leaves the polls once it answers.
    async fn begin_upgrade(&mut self) -> RawClient {
        let target = format!("{WEBSOCKET}&sid={}", self.sid);
        let mut socket = RawClient::dial(self.address).await;
        socket.send(handshake(self.address, &target, &[]).as_bytes()).await;
        assert_eq!(socket.response("GET").await.status, 101);
        socket.send(&frame(TEXT, b"2probe")).await;
        assert_eq!(socket.data().await, Some((TEXT, b"3probe".to_vec())));
        socket
    }

    async fn end_upgrade(&mut self, mut socket: RawClient) {
        socket.send(&frame(TEXT, b"5")).await;
        self.transport = Transport::WebSocket(socket);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_the_same_by_either_transport() {
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2") + &trade("A", "1", 1))).await;
    for target in [WEBSOCKET, POLLING] {
        let mut client = Client::connect(&server, target, json!({ "topics": ["quote:A"] })).await;
        assert_eq!(client.next("welcome").await["protocol"], "tickcast.v1");
        assert_eq!(client.next("subscribed").await["topics"][0]["topic"], "quote:A");
        client.send(r#"420["subscribe",["trades:A","quote:B"],{"max_hz":1000}]"#).await;
        let answer = client.next("ack").await;
        assert_eq!((&answer["type"], &answer["id"]), (&json!("subscribed"), &json!(0)), "{answer}");
        assert_eq!(answer["topics"][1]["pending"], true, "{answer}");

        // All of a quote is sent when any of it changes.
        let published = server.publish(&(quote("A", "1.50", "2") + &trade("A", "1", 2))).await;
        client.reach(&published).await;
        assert_eq!(client.seen.field("quote:A", "bid"), "1.50", "{target}");
        let first = client.seen.numbers("trades:A")[0];
        let last = first + client.seen.numbers("trades:A").len() as u64;
        assert_eq!(client.seen.numbers("trades:A"), (first..last).collect::<Vec<u64>>());

        // What is wrong is answered where it was asked, else it is an event.
        client.send(r#"42["shout","hello"]"#).await;
        assert_eq!(client.next("error").await["code"], "unknown_op");
        client.send(r#"427["subscribe","quote:A",5]"#).await;
        assert_eq!(client.next("ack").await["code"], "bad_request");
        client.send(r#"42["unsubscribe","quote:A"]"#).await;
        assert_eq!(client.next("unsubscribed").await["topics"], json!([{ "topic": "quote:A" }]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn halts_are_events_of_their_own_and_so_are_gaps() {
    let server = TestServer::start().await;
    server.publish(&trade("A", "1", 1)).await;
    let mut client = Client::connect(&server, POLLING, json!({ "topics": "trades:A,status:A" })).await;
    client.next("update").await;
    server.publish("{\"type\":\"status\",\"symbol\":\"A\",\"state\":\"halted\"}\n").await;
    let status = client.next("status").await;
    assert_eq!((&status["topic"], &status["state"]), (&json!("status:A"), &json!("halted")), "{status}");

    // More than the ring and the slot hold.
    for round in 0..20_u64 {
        server
            .publish(&(round * 1000..(round + 1) * 1000).map(|n| trade("A", "1", n + 1)).collect::<String>())
            .await;
    }
    let gap = client.next("gap").await;
    assert_eq!(gap["topic"], "trades:A", "{gap}");
    client.next("update").await;
    let number = client.seen.numbers("trades:A").last().copied().unwrap();
    assert!(number >= gap["next"].as_u64().unwrap(), "it is told before the trades behind it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_loses_nothing_and_sends_nothing_twice() {
    let server = TestServer::start().await;
    let mut size = 0;
    let mut more = async || {
        let lines: String = (size + 1..=size + 100).map(|size| trade("A", "1", size)).collect();
        size += 100;
        server.publish(&lines).await
    };
    more().await;
    for fetched_before in [false, true] {
        let mut client = Client::connect(&server, POLLING, json!({ "topics": ["trades:A"] })).await;
        if fetched_before {
            let published = more().await;
            client.reach(&published).await;
        }
        // What is in the slot, what comes while the WebSocket is tried, and what comes after.
        more().await;
        let socket = client.begin_upgrade().await;
        more().await;
        // A client posts meanwhile, and its last poll ends without anything.
        assert_eq!(client.post(r#"425["ping"]"#).await.status, 200);
        client.end_upgrade(socket).await;
        let published = more().await;
        client.reach(&published).await;
        let numbers = client.seen.numbers("trades:A");
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<u64>>(), "{fetched_before}");
        client.send(r#"426["ping"]"#).await;
        client.next("ack").await;
        // Its polls are over.
        assert_eq!(client.poll().await.json()["code"], 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_waits_is_sent_home_by_an_upgrade() {
    let server = TestServer::start().await;
    let mut client = Client::open(&server, POLLING).await;
    let target = format!("{POLLING}&sid={}", client.sid);
    let waiting = server.get(&target);
    let upgrading = async {
        let socket = client.begin_upgrade().await;
        client.end_upgrade(socket).await;
        // As Python's client does, it connects only now.
        client.send("40").await;
        client.packet().await
    };
    let (waited, connected) = tokio::join!(waiting, upgrading);
    assert_eq!(waited.text(), "6");
    assert!(connected.starts_with("40{\"sid\":"), "{connected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_its_position_has_each_trade_once() {
    let server = TestServer::start().await;
    server.publish(&trade("A", "1", 1)).await;
    for target in [WEBSOCKET, POLLING] {
        let mut client = Client::connect(&server, target, json!({ "topics": ["trades:A"] })).await;
        let epoch = client.next("welcome").await["epoch"].as_u64().unwrap();
        client.next("update").await;
        let (position, instruments) = (client.seen.position, client.seen.instruments.clone());
        let first = *client.seen.numbers("trades:A").last().unwrap() + 1;
        client.send("41").await;
        drop(client);
        let missed: String = (2..=40).map(|size| trade("A", "1", size)).collect();
        let published = server.publish(&missed).await;
        let map = json!({ "epoch": epoch, "position": position });
        for since in [map, json!(format!("{epoch}-{position}"))] {
            let auth = json!({ "topics": ["trades:A"], "since": since });
            let mut client = Client::connect(&server, target, auth).await;
            client.seen.instruments.clone_from(&instruments);
            assert_eq!(client.next("subscribed").await["resumed"], true);
            client.reach(&published).await;
            assert_eq!(client.seen.numbers("trades:A"), (first..first + 39).collect::<Vec<u64>>());
        }
        let auth = json!({ "topics": ["trades:A"], "since": "1-1" });
        let mut client = Client::connect(&server, target, auth).await;
        assert_eq!(client.next("subscribed").await["resumed"], false);
        client.reach(&published).await;
        assert_eq!(client.seen.numbers("trades:A")[0], 0, "a position of another tape begins anew");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_polls_seldom_gets_the_newest_quote() {
    let server = TestServer::start().await;
    server.publish(&quote("A", "1", "2000000")).await;
    let mut client = Client::connect(&server, POLLING, json!({ "topics": ["quote:A", "trades:A"] })).await;
    client.next("update").await;
    let mut published = Value::Null;
    for round in 0..20_u64 {
        let of_round = round * 1000..(round + 1) * 1000;
        let lines: String =
            of_round.map(|n| quote("A", &(n + 2).to_string(), "2000000") + &trade("A", "1", n + 1)).collect();
        published = server.publish(&lines).await;
    }
    client.reach(&published).await;
    assert_eq!(client.seen.field("quote:A", "bid"), "20001.00");
    let numbers = client.seen.numbers("trades:A");
    assert!(numbers.windows(2).all(|two| two[0] < two[1]), "each at most once and in order");
    assert!(numbers.ends_with(&(20_000 - 1024..20_000).collect::<Vec<u64>>()), "all that the ring holds");
    assert!(client.seen.updates < 200, "{} updates", client.seen.updates);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_a_namespace() {
    let server = TestServer::start_with(|config| config.max_rooms = 2).await;
    for target in [WEBSOCKET, POLLING] {
        let mut client = Client::open(&server, target).await;
        client.send("40/no room,{}").await;
        let refused = client.packet().await;
        assert!(refused.starts_with("44/no room,{") && refused.contains("\"status\":400"), "{refused}");
        // It may try another.
        let room = if target == WEBSOCKET { "/one" } else { "/two" };
        client.send(&format!(r#"40{room},{{"topics":["quote:*"],"seed":7}}"#)).await;
        assert_eq!(client.packet().await, format!(r#"40{room},{{"sid":"{}"}}"#, client.sid));
        client.namespace = format!("{room},");
        let epoch = client.next("welcome").await["epoch"].clone();
        let instruments = server.get(&format!("/v1/instruments?room={}", &room[1..])).await;
        assert_eq!(instruments.json()["epoch"], epoch);
        client.next("update").await;
        client.send(&format!(r#"42{room},3["ping"]"#)).await;
        assert_eq!(client.next("ack").await["id"], 3);
        // An event of a namespace that it is not in means nothing, and another namespace has no place.
        client.send(r#"424["ping"]"#).await;
        client.send("40").await;
        let refused = loop {
            let packet = client.packet().await;
            if !packet.starts_with("42") {
                break packet;
            }
        };
        assert!(refused.starts_with("44{") && refused.contains("forceNew"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_handshake_gets_the_errors_of_engine_io() {
    let server = TestServer::start().await;
    let check =
        async |method: &str, target: &str, headers: &[(&str, &str)], status: u16, code: u8, says: &str| {
            let response = request(server.address, method, target, headers, b"").await;
            response.check_problem(status, says);
            let body = response.json();
            assert_eq!(body["code"], code, "{method} {target}: {body}");
            assert!(body["message"].is_string(), "{body}");
        };
    check("GET", "/socket.io/", &[], 400, 5, "EIO=\"\": version 4").await;
    check("GET", "/socket.io/?EIO=3&transport=polling", &[], 400, 5, "EIO=\"3\"").await;
    check("GET", "/socket.io/?EIO=4", &[], 400, 0, "transport=\"\"").await;
    check("GET", "/socket.io/?EIO=4&transport=webtransport", &[], 400, 0, "polling and websocket").await;
    check("POST", POLLING, &[], 400, 2, "POST does not begin").await;
    check("PUT", &format!("{POLLING}&sid=x"), &[], 400, 2, "PUT").await;
    check("GET", &format!("{POLLING}&sid=nobody"), &[], 400, 1, "sid=\"nobody\"").await;
    check("POST", &format!("{POLLING}&sid=nobody"), &[], 400, 1, "no such connection").await;
    check("GET", POLLING, &[("Origin", "https://stranger.example")], 403, 4, "not let in").await;
    server.get(WEBSOCKET).await.check_problem(426, "speaks WebSocket");
    assert_eq!(request(server.address, "OPTIONS", POLLING, &[], b"").await.status, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packet_that_breaks_the_protocol_ends_its_connection() {
    let server = TestServer::start().await;
    for (packet, says) in [
        ("", "empty"),
        ("x", "Engine.IO packet type 'x'"),
        ("4", "Socket.IO packet type"),
        ("42[]", "begins with its name"),
        ("42[\"subscribe\"", "malformed JSON"),
        ("45[\"x\"]", "attachments"),
        ("4510000-[\"x\"]", "attachments"),
    ] {
        for is_connected in [false, true] {
            let mut client = if is_connected {
                Client::connect(&server, WEBSOCKET, Value::Null).await
            } else {
                Client::open(&server, WEBSOCKET).await
            };
            client.send(packet).await;
            let Transport::WebSocket(mut socket) = client.transport else { unreachable!() };
            let (code, reason) = socket.closed().await;
            assert!(code == 1008 && reason.contains(says), "{packet:?}: {code} {reason:?}");
        }
        // Bodies of HTTP are never empty.
        if packet.is_empty() {
            continue;
        }
        let client = Client::open(&server, POLLING).await;
        client.post(packet).await.check_problem(400, says);
        assert_eq!(client.poll().await.json()["code"], 1, "{packet:?}");
    }
    let mut early = Client::open(&server, WEBSOCKET).await;
    early.send("42[\"ping\"]").await;
    let Transport::WebSocket(mut socket) = early.transport else { unreachable!() };
    assert_eq!(socket.closed().await, (1008, "an event before its namespace was connected".to_owned()));
    let early = Client::open(&server, POLLING).await;
    early.post("42[\"ping\"]").await.check_problem(400, "before its namespace");
    let large = Client::open(&server, POLLING).await;
    large.post(&"4".repeat(70_000)).await.check_problem(413, "64 KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_data_is_refused_and_passed_over() {
    let server = TestServer::start().await;
    let event = r#"451-9["ping",{"_placeholder":true,"num":0}]"#;
    let mut client = Client::connect(&server, WEBSOCKET, Value::Null).await;
    client.send(event).await;
    let Transport::WebSocket(socket) = &mut client.transport else { unreachable!() };
    socket.send(&frame(BINARY, b"abc")).await;
    let refused = client.next("ack").await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!(9), &json!("bad_request")), "{refused}");
    let mut client = Client::connect(&server, POLLING, Value::Null).await;
    client.send(&format!("{event}{BETWEEN}bYWJj")).await;
    assert_eq!(client.next("ack").await, refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_of_itself_is_checked() {
    let server = TestServer::start().await;
    for (auth, says) in [
        (json!({ "topics": ["quote:A"], "max_hz": 0 }), "expected a number from 0.1 to 1000"),
        (json!({ "since": "yesterday" }), "an epoch and a position"),
        (json!({ "since": { "epoch": 1 } }), "an epoch and a position"),
        (json!({ "topics": [1] }), "1 is not a text"),
        (json!({ "topic": "quote:A" }), "did you mean \\\"topics\\\"?"),
        (json!(["quote:A"]), "expected a map"),
        (json!({ "key": "k" }), "are of a room"),
    ] {
        for target in [WEBSOCKET, POLLING] {
            let mut client = Client::open(&server, target).await;
            client.send(&format!("40{auth}")).await;
            let refused = client.packet().await;
            assert!(refused.starts_with("44{") && refused.contains(says), "{auth}: {refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_nobody_fetches_do_not_pile_up() {
    let server = TestServer::start().await;
    let client = Client::open(&server, POLLING).await;
    let many = vec!["40/no room,"; 1000].join(&BETWEEN.to_string());
    client.post(&many).await.check_problem(400, "16 namespaces were refused");
    assert_eq!(client.poll().await.json()["code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_poll_ends_both() {
    let server = TestServer::start().await;
    let client = Client::connect(&server, POLLING, Value::Null).await;
    client.poll().await;
    // Both wait: whichever is the second is refused.
    let (one, two) = tokio::join!(client.poll(), client.poll());
    let (ended, refused) = if one.status == 200 { (one, two) } else { (two, one) };
    assert_eq!(ended.text(), "1");
    refused.check_problem(400, "another poll");
    assert_eq!(client.poll().await.json()["code"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_goes_away_leaves_nothing_behind() {
    let server = TestServer::start().await;
    let gone = async |server: &TestServer| {
        let is_gone = async {
            loop {
                let text = server.get("/metrics").await.text();
                let none = ["tickcast_connections{shard=\"0\"} 0\n", "tickcast_polling_clients 0\n"];
                if none.iter().all(|line| text.contains(line)) {
                    break;
                }
            }
        };
        soon("it is gone", is_gone).await;
    };
    // By its own packets, and by a poll whose connection breaks.
    for packet in ["41", "1"] {
        let mut client = Client::connect(&server, POLLING, Value::Null).await;
        client.next("welcome").await;
        client.send(packet).await;
        if packet == "41" {
            while client.poll().await.status == 200 {}
        }
        gone(&server).await;
        let mut client = Client::connect(&server, WEBSOCKET, Value::Null).await;
        client.send(packet).await;
        let Transport::WebSocket(mut socket) = client.transport else { unreachable!() };
        assert_eq!(socket.closed().await.0, 1000);
        gone(&server).await;
    }
    let mut client = Client::connect(&server, POLLING, Value::Null).await;
    client.next("welcome").await;
    let mut poll = RawClient::dial(server.address).await;
    let head = format!("GET {POLLING}&sid={} HTTP/1.1\r\nHost: x\r\n\r\n", client.sid);
    poll.send(head.as_bytes()).await;
    drop(poll);
    // Whether that came before it went or not: a poll that is answered shows that it is not there any more.
    while client.poll().await.status == 200 {
        client.post("41").await;
    }
    gone(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_leaves_closes_the_transport_so_that_clients_come_back() {
    let server = TestServer::start().await;
    let mut client = Client::connect(&server, WEBSOCKET, Value::Null).await;
    client.next("welcome").await;
    let Transport::WebSocket(mut socket) = client.transport else { unreachable!() };
    let ((), closed) = tokio::join!(server.shutdown(), socket.closed());
    // Not by `41`: no client comes back after that.
    assert_eq!(closed, (1012, "server is shutting down".to_owned()));
}
