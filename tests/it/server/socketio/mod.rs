//! `/socket.io/`: the same sessions as over our own protocol, by WebSocket, by polls, and from one to the
//! other.

mod channels;
mod namespaces;
mod refusals;
mod suites;
mod transports;

use crate::server::support::{
    BINARY, PATIENCE, RawClient, Response, Seen, TEXT, TestServer, frame, handshake, quote, request,
    request_over, soon, trade,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;

pub const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";
pub const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
pub const MSGPACK_WEBSOCKET: &str = "/socket.io/msgpack/?EIO=4&transport=websocket";
pub const MSGPACK_POLLING: &str = "/socket.io/msgpack/?EIO=4&transport=polling";
/// Separates packets in a body.
const BETWEEN: char = '\u{1e}';

/// A client as the libraries are, with every packet to be seen.
pub struct Client {
    address: SocketAddr,
    path: String,
    transport: Transport,
    sid: String,
    /// That it is in.
    namespace: String,
    packets: VecDeque<Packet>,
    seen: Seen,
    /// As for [`RawClient`], over all its polls.
    breaks_after: Option<usize>,
}

enum Transport {
    WebSocket(RawClient),
    Polling,
}

/// A packet of Engine.IO.
#[derive(Clone, Debug, PartialEq)]
enum Packet {
    Text(String),
    Binary(Vec<u8>),
}

/// A packet of Socket.IO, whatever its parser.
#[derive(Debug)]
pub struct Said {
    pub kind: u8,
    namespace: String,
    id: Option<u64>,
    pub data: Value,
}

impl Client {
    async fn open(server: &TestServer, target: &str) -> Self {
        let mut client = Self {
            address: server.address,
            path: target.split('?').next().unwrap().to_owned(),
            transport: Transport::Polling,
            sid: String::new(),
            namespace: "/".to_owned(),
            packets: VecDeque::new(),
            seen: Seen::default(),
            breaks_after: None,
        };
        if target.contains("websocket") {
            client.transport = Transport::WebSocket(RawClient::connect(server, target, b"").await);
        } else {
            let response = server.get(target).await;
            assert_eq!((response.status, response.header("cache-control")), (200, Some("no-store")));
            client.packets.extend(payload(&response));
        }
        let opened: Value = serde_json::from_str(client.text().await.strip_prefix('0').unwrap()).unwrap();
        let mut names: Vec<&str> = opened.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"], "{opened}");
        opened["sid"].as_str().unwrap().clone_into(&mut client.sid);
        client
    }

    /// In the public market.
    pub async fn connect(server: &TestServer, target: &str, auth: Value) -> Self {
        let mut client = Self::open(server, target).await;
        client.say(0, "/", None, &auth).await;
        let Said { kind, namespace, id, data } = client.said().await;
        assert_eq!((kind, &*namespace, id, data), (0, "/", None, json!({ "sid": client.sid })));
        client
    }

    fn is_msgpack(&self) -> bool {
        self.path.ends_with("/msgpack/")
    }

    async fn post(&self, body: &str) -> Response {
        request(self.address, "POST", &self.polling(), &[], body.as_bytes()).await
    }

    async fn poll(&self) -> Response {
        request(self.address, "GET", &self.polling(), &[], b"").await
    }

    /// Polls, unless its connection breaks meanwhile.
    async fn try_poll(&mut self) -> Option<Response> {
        let mut poll = RawClient::dial(self.address).await;
        poll.breaks_after = self.breaks_after;
        let response = request_over(&mut poll, "GET", &self.polling(), &[], b"").await;
        self.breaks_after = poll.breaks_after;
        response
    }

    /// Its connection breaks once it has read so many bytes more, whichever its transport.
    pub fn break_after(&mut self, bytes: Option<usize>) {
        match &mut self.transport {
            Transport::WebSocket(socket) => socket.breaks_after = bytes,
            Transport::Polling => self.breaks_after = bytes,
        }
    }

    fn polling(&self) -> String {
        format!("{}?EIO=4&transport=polling&sid={}", self.path, self.sid)
    }

    async fn send(&mut self, packet: &str) {
        self.send_packet(&Packet::Text(packet.to_owned())).await;
    }

    async fn send_packet(&mut self, packet: &Packet) {
        match &mut self.transport {
            Transport::WebSocket(socket) => {
                let frame = match packet {
                    Packet::Text(text) => frame(TEXT, text.as_bytes()),
                    Packet::Binary(bytes) => frame(BINARY, bytes),
                };
                socket.send(&frame).await;
            }
            Transport::Polling => {
                let response = match packet {
                    Packet::Text(text) => self.post(text).await,
                    Packet::Binary(bytes) => self.post(&format!("b{}", BASE64_STANDARD.encode(bytes))).await,
                };
                assert_eq!((response.status, response.text().as_str()), (200, "ok"));
            }
        }
    }

    /// Sends a packet of Socket.IO as its parser writes it.
    async fn say(&mut self, kind: u8, namespace: &str, id: Option<u64>, data: &Value) {
        let packet = if self.is_msgpack() {
            let mut packet = json!({ "type": kind, "nsp": namespace, "options": { "compress": true } });
            if !data.is_null() {
                packet["data"] = data.clone();
            }
            if let Some(id) = id {
                packet["id"] = id.into();
            }
            Packet::Binary(rmp_serde::to_vec(&packet).unwrap())
        } else {
            let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
            let id = id.map_or_else(String::new, |id| id.to_string());
            let data = if data.is_null() { String::new() } else { data.to_string() };
            Packet::Text(format!("4{kind}{namespace}{id}{data}"))
        };
        self.send_packet(&packet).await;
    }

    /// The next packet that is no heartbeat; those are answered.
    async fn packet(&mut self) -> Packet {
        self.try_packet().await.expect("it goes on")
    }

    /// The same; `None` if its connection is over.
    async fn try_packet(&mut self) -> Option<Packet> {
        loop {
            let packet = match (self.packets.pop_front(), &mut self.transport) {
                (Some(packet), _) => packet,
                (None, Transport::WebSocket(socket)) => match socket.data().await? {
                    (TEXT, text) => Packet::Text(String::from_utf8(text).unwrap()),
                    (BINARY, bytes) => Packet::Binary(bytes),
                    other => panic!("{other:?}"),
                },
                (None, Transport::Polling) => {
                    let response = self.try_poll().await?;
                    assert_eq!(response.status, 200, "{}", response.text());
                    self.packets.extend(payload(&response));
                    continue;
                }
            };
            match &packet {
                Packet::Text(text) if text == "2" => Box::pin(self.send("3")).await,
                Packet::Text(text) if text == "6" => {}
                _ => return Some(packet),
            }
        }
    }

    async fn text(&mut self) -> String {
        match self.packet().await {
            Packet::Text(text) => text,
            other @ Packet::Binary(_) => panic!("{other:?}"),
        }
    }

    /// The next packet of Socket.IO.
    async fn said(&mut self) -> Said {
        self.try_said().await.expect("it goes on")
    }

    /// The same; `None` if its connection is over.
    pub async fn try_said(&mut self) -> Option<Said> {
        let said = match self.try_packet().await? {
            Packet::Binary(bytes) if self.is_msgpack() => {
                let mut map: Value = rmp_serde::from_slice(&bytes).expect("a map");
                Said {
                    kind: u8::try_from(map["type"].as_u64().unwrap()).unwrap(),
                    namespace: map["nsp"].as_str().unwrap().to_owned(),
                    id: map["id"].as_u64(),
                    data: map["data"].take(),
                }
            }
            Packet::Text(text) if !self.is_msgpack() => {
                let rest = text.strip_prefix('4').unwrap_or_else(|| panic!("{text}"));
                let (kind, mut rest) = rest.split_at(1);
                let mut namespace = "/";
                if rest.starts_with('/') {
                    (namespace, rest) = rest.split_once(',').unwrap();
                }
                let data = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
                let id = &rest[..rest.len() - data.len()];
                Said {
                    kind: kind.parse().unwrap(),
                    namespace: namespace.to_owned(),
                    id: (!id.is_empty()).then(|| id.parse().unwrap()),
                    data: if data.is_empty() {
                        Value::Null
                    } else {
                        serde_json::from_str(data).expect("JSON")
                    },
                }
            }
            other => panic!("{other:?}"),
        };
        Some(said)
    }

    /// The next event, or the next acknowledgement as `ack`.
    async fn event(&mut self) -> (String, Value) {
        let said = self.said().await;
        assert_eq!(said.namespace, self.namespace, "{said:?}");
        let (name, value) = match (said.kind, said.data.as_array().map(Vec::as_slice)) {
            (2, Some([Value::String(name), value])) => (name.clone(), value.clone()),
            (3, Some([value])) => ("ack".to_owned(), value.clone()),
            _ => panic!("{said:?}"),
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
    pub async fn begin_upgrade(&mut self) -> RawClient {
        let mut socket = self.dial_with_sid().await;
        socket.send(&frame(TEXT, b"2probe")).await;
        assert_eq!(socket.data().await, Some((TEXT, b"3probe".to_vec())));
        socket
    }

    /// A WebSocket of its own, beside the transport that it has.
    async fn dial_with_sid(&self) -> RawClient {
        let target = format!("{}?EIO=4&transport=websocket&sid={}", self.path, self.sid);
        let mut socket = RawClient::dial(self.address).await;
        socket.send(handshake(self.address, &target, &[]).as_bytes()).await;
        assert_eq!(socket.response("GET").await.status, 101);
        socket
    }

    pub async fn end_upgrade(&mut self, mut socket: RawClient) {
        socket.send(&frame(TEXT, b"5")).await;
        self.transport = Transport::WebSocket(socket);
    }

    /// How the server closes its WebSocket.
    async fn closed(self) -> (u16, String) {
        let Transport::WebSocket(mut socket) = self.transport else { panic!("it polls") };
        socket.closed().await
    }
}

/// The packets of an answer to a poll.
fn payload(response: &Response) -> Vec<Packet> {
    let read = |part: &str| match part.strip_prefix('b') {
        Some(binary) => Packet::Binary(BASE64_STANDARD.decode(binary).expect("base64")),
        None => Packet::Text(part.to_owned()),
    };
    response.text().split(BETWEEN).map(read).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_the_same_by_either_transport_and_parser() {
    let server = TestServer::start().await;
    server.publish(&(quote("A", "1", "2") + &trade("A", "1", 1))).await;
    for target in [WEBSOCKET, POLLING, MSGPACK_WEBSOCKET, MSGPACK_POLLING] {
        let mut client = Client::connect(&server, target, json!({ "topics": ["quote:A"] })).await;
        assert_eq!(client.next("welcome").await["protocol"], "tickcast.v1");
        assert_eq!(client.next("subscribed").await["topics"][0]["topic"], "quote:A");
        let subscribe = json!(["subscribe", ["trades:A", "quote:B"], { "max_hz": 1000 }]);
        client.say(2, "/", Some(0), &subscribe).await;
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
        client.say(2, "/", None, &json!(["subscrbe", "hello"])).await;
        assert_eq!(client.next("error").await["code"], "unknown_op");
        client.say(2, "/", Some(7), &json!(["subscribe", "quote:A", 5])).await;
        assert_eq!(client.next("ack").await["code"], "bad_request");
        client.say(2, "/", None, &json!(["unsubscribe", "quote:A"])).await;
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
