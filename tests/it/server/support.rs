//! A server, and clients that share no code with it.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;
use tickcast::market::{Speed, Symbol};
use tickcast::server::{Config, ControlRule, PublishRule, Server};
use tickcast::tape::{Epoch, MemoryLog};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{WebSocketStream, client_async};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for something that has to happen.
pub async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, happens).await else {
        panic!("{what}: not within {PATIENCE:?}")
    };
    value
}

/// A server on a free port of this machine that serves what is published to it.
pub struct TestServer {
    server: Server,
    pub address: SocketAddr,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            shards: NonZeroUsize::MIN,
            max_connections: 100,
            max_http_connections: 100,
            allowed_origins: Vec::new(),
            source: None,
            speed: Speed::Times(1.0),
            start: None,
            control: ControlRule::Local,
            publish: PublishRule::Direct,
            all_prints: false,
            max_rooms: 3,
            max_gap: None,
            room_idle: Duration::from_mins(30),
            log: Box::new(MemoryLog::new(Epoch::random())),
            record: None,
            ops: Some(true),
            allow_faults: false,
            protocol_echo: None,
        };
        change(&mut config);
        let server = Server::start(config).await.expect("a server on a free port");
        let address = server.address();
        Self { server, address }
    }

    pub async fn get(&self, path: &str) -> Response {
        request(self.address, "GET", path, &[], b"").await
    }

    /// Waits until the tape has begun.
    pub async fn until_ready(&self) {
        let ready = async { while self.get("/readyz").await.status != 200 {} };
        soon("the beginning of the tape", ready).await;
    }

    /// Publishes good lines of JSON.
    pub async fn publish(&self, lines: &str) -> Value {
        let response = request(self.address, "POST", "/v1/publish", &[], lines.as_bytes()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let answer = response.json();
        assert_eq!(answer["rejected"], json!([]), "{lines}");
        answer
    }

    /// Asks something of what is played.
    pub async fn post(&self, body: &Value) -> Response {
        request(self.address, "POST", "/v1/replay", &[], body.to_string().as_bytes()).await
    }

    /// How what is played stands.
    pub async fn state(&self) -> Value {
        self.get("/v1/replay").await.json()
    }

    pub async fn shutdown(self) {
        soon("shutdown", self.server.shutdown()).await;
    }
}

pub fn quote(symbol: &str, bid: &str, ask: &str) -> String {
    json!({"type": "quote", "symbol": symbol, "bid": bid, "bid_size": 1, "ask": ask, "ask_size": 2})
        .to_string()
        + "\n"
}

pub fn trade(symbol: &str, price: &str, size: u64) -> String {
    json!({"type": "trade", "symbol": symbol, "price": price, "size": size}).to_string() + "\n"
}

/// An HTTP response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// A header by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// That it is a refusal in the form of RFC 9457, with this in its detail.
    #[track_caller]
    pub fn check_problem(&self, status: u16, detail: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert!(!problem["title"].as_str().unwrap().is_empty());
        let told = problem["detail"].as_str().unwrap();
        assert!(told.contains(detail), "{told:?} does not say {detail:?}");
    }
}

/// One request on a connection of its own, which does not break.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    request_over(&mut RawClient::dial(address).await, method, path, headers, body)
        .await
        .expect("a whole answer")
}

/// One request on that connection; `None` if it breaks before the answer is whole.
pub async fn request_over(
    client: &mut RawClient,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Response> {
    let address = client.stream.peer_addr().expect("it is connected");
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if !body.is_empty() {
        write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    head.push_str("\r\n");
    client.send(head.as_bytes()).await;
    // A server that refuses may stop reading in the middle.
    let _ = client.stream.write_all(body).await;
    client.try_response(method).await
}

/// A WebSocket handshake as the RFC has it, the extra headers behind it.
pub fn handshake(address: SocketAddr, path: &str, extra: &[(&str, &str)]) -> String {
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    for (name, value) in extra {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head + "\r\n"
}

/// A frame as a client sends it, `first` being its first byte: FIN, reserved bits and opcode.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            frame.push(0xff);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let key = [0x37, 0xfa, 0x21, 0x3d];
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

/// A client that may do anything with its bytes.
pub struct RawClient {
    pub stream: TcpStream,
    unread: Vec<u8>,
    /// Its connection breaks once it has read so many bytes more.
    pub breaks_after: Option<usize>,
}

impl RawClient {
    pub async fn dial(address: SocketAddr) -> Self {
        let stream = soon("connect", TcpStream::connect(address)).await.expect("a connection");
        Self { stream, unread: Vec::new(), breaks_after: None }
    }

    /// One whose kernel keeps little for it.
    pub async fn dial_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = soon("connect", socket.connect(address)).await.expect("a connection");
        Self { stream, unread: Vec::new(), breaks_after: None }
    }

    /// A client with its handshake done; `early` goes out in one piece with it.
    pub async fn connect(server: &TestServer, path: &str, early: &[u8]) -> Self {
        let mut client = Self::dial(server.address).await;
        let mut head = handshake(server.address, path, &[]).into_bytes();
        head.extend_from_slice(early);
        client.send(&head).await;
        let response = client.response("GET").await;
        assert_eq!(response.status, 101, "{}", response.text());
        client
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        soon("send", self.stream.write_all(bytes)).await.expect("the server reads");
    }

    /// Reads the head of a response, and its body where it has one.
    pub async fn response(&mut self, method: &str) -> Response {
        let response = self.try_response(method).await;
        response.unwrap_or_else(|| panic!("no whole response: {:?}", String::from_utf8_lossy(&self.unread)))
    }

    /// The same; `None` if the connection ends before.
    pub async fn try_response(&mut self, method: &str) -> Option<Response> {
        let head = String::from_utf8(self.through(b"\r\n\r\n").await?).expect("headers are text");
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut response = Response { status, headers, body: Vec::new() };
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        if method != "HEAD" && status != 304 {
            if response.header("transfer-encoding") == Some("chunked") {
                response.body = self.chunks().await?;
            } else {
                response.body = self.take(length).await?;
            }
        }
        Some(response)
    }

    /// A body that does not say how long it is.
    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.through(b"\r\n").await?;
            let size = std::str::from_utf8(&size).unwrap().trim_end();
            let size = usize::from_str_radix(size, 16).unwrap();
            body.extend_from_slice(&self.take(size).await?);
            assert_eq!(self.take(2).await?, b"\r\n");
            if size == 0 {
                return Some(body);
            }
        }
    }

    /// The bytes up to these and with them; `None` if the connection ends before.
    pub async fn through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let mut searched = 0;
        loop {
            let found = self.unread[searched..].windows(end.len()).position(|bytes| bytes == end);
            if let Some(at) = found {
                return Some(self.unread.drain(..searched + at + end.len()).collect());
            }
            searched = self.unread.len().saturating_sub(end.len() - 1);
            if !self.read().await {
                return None;
            }
        }
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.unread.len() < length {
            if !self.read().await {
                return None;
            }
        }
        Some(self.unread.drain(..length).collect())
    }

    /// The next frame that is no ping. Pings are answered, as any library does that reads.
    pub async fn data(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.frame().await? {
                (PING, payload) => self.send(&frame(PONG, &payload)).await,
                frame => return Some(frame),
            }
        }
    }

    /// The next frame: its first byte and payload; `None` at the connection's end.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((first, header, length)) = header(&self.unread)
                && self.unread.len() >= header + length
            {
                let payload = self.unread[header..header + length].to_vec();
                self.unread.drain(..header + length);
                return Some((first, payload));
            }
            if !self.read().await {
                return None;
            }
        }
    }

    /// The next text frame.
    pub async fn text(&mut self) -> Value {
        match self.data().await.expect("the server goes on") {
            (TEXT, payload) => serde_json::from_slice(&payload).expect("JSON"),
            (other, payload) => panic!("frame {other:#x}: {payload:?}"),
        }
    }

    /// The next MessagePack message, which for our purpose says the same as JSON.
    pub async fn binary(&mut self) -> Value {
        match self.data().await.expect("the server goes on") {
            (BINARY, payload) => rmp_serde::from_slice(&payload).expect("MessagePack"),
            (other, payload) => panic!("frame {other:#x}: {payload:?}"),
        }
    }

    /// Reads up to the server's Close frame; its code and reason. Nothing may follow it but the end.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            let (first, payload) = self.frame().await.expect("a Close frame before the end");
            if first == CLOSE {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                assert_eq!(self.frame().await, None, "something behind the Close frame");
                return (code, String::from_utf8(payload[2..].to_vec()).expect("reasons are UTF-8"));
            }
        }
    }

    /// Returns whether there was more.
    async fn read(&mut self) -> bool {
        let mut buffer = vec![0; self.breaks_after.unwrap_or(usize::MAX).min(16 * 1024)];
        if buffer.is_empty() {
            return false;
        }
        match soon("read", self.stream.read(&mut buffer)).await {
            Ok(0) => false,
            Ok(read) => {
                self.unread.extend_from_slice(&buffer[..read]);
                self.breaks_after = self.breaks_after.map(|left| left - read);
                true
            }
            Err(error) => panic!("the connection broke: {error}"),
        }
    }
}

/// First byte, length of the header and of the payload, if the header is whole.
fn header(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let &[first, short, ..] = bytes else { return None };
    assert_eq!(short & 0x80, 0, "a server does not mask");
    match short {
        126 => bytes[2..].first_chunk().map(|&l| (first, 4, usize::from(u16::from_be_bytes(l)))),
        127 => {
            bytes[2..].first_chunk().map(|&l| (first, 10, usize::try_from(u64::from_be_bytes(l)).unwrap()))
        }
        short => Some((first, 2, usize::from(short))),
    }
}

/// A well-behaved client of the JSON form that keeps what it is told.
pub struct Client {
    socket: WebSocketStream<TcpStream>,
    pub welcome: Value,
    pub seen: Seen,
}

/// What a client was told.
#[derive(Debug, Default)]
pub struct Seen {
    pub position: u64,
    /// Fields by topic.
    pub images: BTreeMap<String, Map<String, Value>>,
    /// Entries by topic.
    pub rings: BTreeMap<String, Vec<Value>>,
    pub instruments: BTreeMap<String, Value>,
    /// Entries of updates by topic.
    pub told: BTreeMap<String, usize>,
    pub updates: usize,
    /// How often the tape began anew.
    pub resets: usize,
    /// Bytes of the updates.
    pub bytes: usize,
}

impl Client {
    pub async fn connect(server: &TestServer, query: &str) -> Self {
        let stream = soon("connect", TcpStream::connect(server.address)).await.expect("a connection");
        Self::over(stream, server, query).await
    }

    /// A client whose kernel keeps little for it.
    pub async fn connect_narrow(server: &TestServer, query: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = soon("connect", socket.connect(server.address)).await.expect("a connection");
        Self::over(stream, server, query).await
    }

    async fn over(stream: TcpStream, server: &TestServer, query: &str) -> Self {
        let url = format!("ws://{}/v1/ws?{query}", server.address);
        let mut request = url.into_client_request().unwrap();
        let form = "tickcast.v1.json".parse().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", form);
        let (socket, _) = soon("handshake", client_async(request, stream)).await.expect("let in");
        let mut client = Self { socket, welcome: Value::Null, seen: Seen::default() };
        client.welcome = client.answer("welcome").await;
        client
    }

    pub async fn send(&mut self, request: &Value) {
        soon("send", self.socket.send(Message::text(request.to_string()))).await.expect("the server reads");
    }

    /// Sends a request and returns the first answer of that type.
    pub async fn ask(&mut self, request: Value, kind: &str) -> Value {
        self.send(&request).await;
        self.answer(kind).await
    }

    /// Subscribes with those fields besides `op`.
    pub async fn subscribe(&mut self, fields: Value) -> Value {
        let mut request = fields;
        request["op"] = "subscribe".into();
        self.ask(request, "subscribed").await
    }

    /// The next message that is not an update, which must be of that type. Updates on the way are taken in.
    pub async fn answer(&mut self, kind: &str) -> Value {
        loop {
            let message = self.message().await.expect("the server goes on");
            // That it reads slowly it may be told at any time.
            if message["type"] != "update" && message["type"] != "lag" {
                assert_eq!(message["type"], kind, "{message}");
                return message;
            }
        }
    }

    /// Takes the next message in, whatever it is; `Err` is how the connection ended.
    pub async fn message(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match soon("a message", self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).expect("JSON");
                    if message["type"] == "update" {
                        self.seen.bytes += text.len();
                        self.seen.take(&message);
                    }
                    return Ok(message);
                }
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(Message::Close(close))) => return Err(close.map(|close| close.code.into())),
                None => return Err(None),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes updates in until what was seen satisfies a condition.
    pub async fn until(&mut self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let reached = async {
            while !condition(&self.seen) {
                self.message().await.expect("the server goes on");
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        assert!(in_time, "{what}: not seen within {PATIENCE:?}: {:?}", self.seen);
    }

    /// Takes updates in until it has everything up to a position of the tape.
    pub async fn reach(&mut self, position: &Value) {
        let position = position.as_u64().expect("a position");
        self.until("a position", |seen| seen.position >= position).await;
    }
}

impl Seen {
    pub fn take(&mut self, update: &Value) {
        let position = update["position"].as_u64().unwrap();
        assert!(position >= self.position, "positions only grow");
        self.position = position;
        self.updates += 1;
        for entry in update["updates"].as_array().unwrap() {
            let entry = entry.as_object().unwrap();
            if entry.contains_key("reset") {
                self.resets += 1;
                self.instruments.clear();
                self.images.retain(|topic, _| is_of_channel(topic));
                self.rings.retain(|topic, _| is_of_channel(topic));
                continue;
            }
            if let Some(instrument) = entry.get("instrument") {
                self.instruments
                    .insert(instrument["symbol"].as_str().unwrap().to_owned(), instrument.clone());
                continue;
            }
            let topic = entry["topic"].as_str().unwrap();
            assert!(
                topic == "status"
                    || topic == "stats"
                    || is_of_channel(topic)
                    || self.instruments.contains_key(symbol_of(topic).as_str()),
                "{topic} before its definition"
            );
            *self.told.entry(topic.to_owned()).or_default() += 1;
            for list in
                ["trades", "closed", "messages"].into_iter().filter_map(|name| entry.get(name)?.as_array())
            {
                self.rings.entry(topic.to_owned()).or_default().extend(list.iter().cloned());
            }
            if let Some(states) = entry.get("states").and_then(Value::as_object) {
                let image = self.images.entry(topic.to_owned()).or_default();
                if entry.get("whole") == Some(&Value::Bool(true)) {
                    image.clear();
                }
                image.extend(states.clone());
                image.retain(|_, state| !state.is_null());
                continue;
            }
            let fields = entry.get("bar").map_or(entry, |bar| bar.as_object().unwrap());
            let image = self.images.entry(topic.to_owned()).or_default();
            let values = fields.iter().filter(|(name, value)| *name != "topic" && !value.is_array());
            image.extend(values.map(|(name, value)| (name.clone(), value.clone())));
        }
    }

    /// A field of an image, `null` where there is none.
    pub fn field(&self, topic: &str, field: &str) -> Value {
        self.images.get(topic).and_then(|image| image.get(field)).cloned().unwrap_or_default()
    }

    /// Numbers of the entries of a ring, as they came.
    pub fn numbers(&self, topic: &str) -> Vec<u64> {
        self.rings.get(topic).into_iter().flatten().map(|entry| entry["number"].as_u64().unwrap()).collect()
    }
}

/// Whether a topic is of a channel, which has no definition.
fn is_of_channel(topic: &str) -> bool {
    topic.starts_with("messages:") || topic.starts_with("states:")
}

/// The symbol that a topic names, which it may escape.
fn symbol_of(topic: &str) -> Symbol {
    topic.split_once(':').expect("it is of a symbol").1.parse().expect("a symbol")
}
