//! The doors, each with the plainest client that its protocol describes.

use super::model::{Since, Told, told};
use crate::server::socketio::{self, MSGPACK_WEBSOCKET, POLLING, WEBSOCKET};
use crate::server::support::{BINARY, RawClient, TEXT, TestServer, frame, handshake, request_over};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tickcast::client::{Change, Command, Event, Input, Options, Output, Session};
use tickcast::market::{Json, Timestamp};
use tickcast::tape::Position;

/// How a client comes.
#[derive(Clone, Debug)]
pub struct Way {
    pub topics: Vec<&'static str>,
    /// Whether it asks for changes alone, where it has the choice.
    pub delta: bool,
    /// Not where it has a rate of its own.
    pub max_hz: Option<u32>,
    /// Whether its kernel keeps little for it.
    pub is_narrow: bool,
    /// Which of two ways it takes to say where it was, where there are two.
    pub says_otherwise: bool,
}

/// What a client hears.
#[derive(Debug)]
pub enum Heard {
    /// It is subscribed. `since`: from where it asked to go on.
    Begun { since: Option<Since>, resumed: Option<bool> },
    /// `position`: up to which it has all after this update, where it says so.
    Update { told: Vec<Told>, position: Option<u64> },
}

/// A client of one door, which comes back where it was.
pub trait Door {
    /// Whether it is told what is lost, and does not only see it by the numbers.
    const TELLS_GAPS: bool;

    /// Connects once more. The connection breaks once the client has read so many bytes.
    async fn connect(&mut self, server: &TestServer, breaks_after: Option<usize>);

    /// The connection breaks once the client has read so many bytes more.
    fn break_after(&mut self, bytes: usize);

    /// What it hears next; `None`: its connection is over.
    async fn hear(&mut self) -> Option<Heard>;
}

/// JSON over WebSocket.
pub struct WebSocket {
    way: Way,
    link: Option<RawClient>,
    epoch: u64,
    since: Option<Since>,
    asked: Option<Since>,
}

/// `MessagePack` over WebSocket, read by this project's own client.
pub struct Msgpack {
    way: Way,
    link: Option<RawClient>,
    session: Session,
    /// Connections may be as fast one after the other as they like.
    now: Instant,
    outputs: VecDeque<Output>,
    /// Of this connection, by its welcome and its updates.
    position: u64,
    granted: usize,
}

/// Server-Sent Events, or lines of JSON.
pub struct Stream {
    way: Way,
    door: &'static str,
    link: Option<RawClient>,
    epoch: u64,
    since: Option<Since>,
    asked: Option<Since>,
}

/// Polls.
pub struct Poll {
    way: Way,
    address: SocketAddr,
    /// As the last answer has it.
    since: Option<String>,
    breaks_after: Option<usize>,
    begins: bool,
    answer: Option<Heard>,
}

/// Socket.IO.
pub struct SocketIo {
    way: Way,
    target: &'static str,
    /// After how many packets it goes over to a WebSocket.
    upgrades_after: Option<usize>,
    packets: usize,
    link: Option<socketio::Client>,
    epoch: u64,
    since: Option<Since>,
    asked: Option<Since>,
    /// What goes before the update that it belongs to.
    before: Vec<Told>,
}

impl Way {
    async fn dial(&self, address: SocketAddr, breaks_after: Option<usize>) -> RawClient {
        let mut client = if self.is_narrow {
            RawClient::dial_narrow(address).await
        } else {
            RawClient::dial(address).await
        };
        client.breaks_after = breaks_after;
        client
    }

    fn query(&self, is_of_rate: bool, since: Option<Since>) -> String {
        let topics = self.topics.join(",");
        let hz = self.max_hz.filter(|_| is_of_rate).map(|hz| format!("&max_hz={hz}")).unwrap_or_default();
        let since = match since {
            None => String::new(),
            Some(Since { epoch, position }) if self.says_otherwise => {
                format!("&epoch={epoch}&position={position}")
            }
            Some(Since { epoch, position }) => format!("&since={epoch}-{position}"),
        };
        format!("topics={topics}{hz}{since}")
    }
}

/// The parts that all forms of JSON have in common.
fn heard(message: &Value, epoch: &mut u64, asked: Option<Since>) -> Option<Heard> {
    match message["type"].as_str().expect("a type") {
        "welcome" => {
            *epoch = message["epoch"].as_u64().expect("an epoch");
            None
        }
        "subscribed" => Some(Heard::Begun { since: asked, resumed: message["resumed"].as_bool() }),
        "update" => {
            let told = message["updates"].as_array().expect("a list").iter().map(told).collect();
            let is_whole = message["more"] != true;
            Some(Heard::Update { told, position: message["position"].as_u64().filter(|_| is_whole) })
        }
        "lag" => None,
        other => panic!("{other}: {message}"),
    }
}

/// Before everything there is nothing to go on from.
fn reached(epoch: u64, heard: &Heard) -> Option<Since> {
    match *heard {
        Heard::Update { position: Some(position @ 1..), .. } => Some(Since { epoch, position }),
        _ => None,
    }
}

/// `EPOCH-POSITION`, and what may be behind it in an answer to a poll.
fn since(text: &str) -> Since {
    let mut numbers = text.split('-').map(|number| number.parse().expect("a number"));
    let mut next = || numbers.next().expect("two numbers");
    Since { epoch: next(), position: next() }
}

impl WebSocket {
    pub fn new(way: Way) -> Self {
        Self { way, link: None, epoch: 0, since: None, asked: None }
    }
}

impl Door for WebSocket {
    const TELLS_GAPS: bool = false;

    async fn connect(&mut self, server: &TestServer, breaks_after: Option<usize>) {
        self.asked = self.since;
        let target = format!("/v1/ws?format=json&{}", self.way.query(true, self.since));
        self.link = upgrade(&self.way, server, &target, breaks_after).await;
    }

    fn break_after(&mut self, bytes: usize) {
        break_after(&mut self.link, bytes);
    }

    async fn hear(&mut self) -> Option<Heard> {
        loop {
            let (TEXT, text) = self.link.as_mut()?.data().await? else { return None };
            let message = serde_json::from_slice(&text).expect("JSON");
            if let Some(heard) = heard(&message, &mut self.epoch, self.asked) {
                self.since = reached(self.epoch, &heard).or(self.since);
                return Some(heard);
            }
        }
    }
}

async fn upgrade(
    way: &Way,
    server: &TestServer,
    target: &str,
    breaks_after: Option<usize>,
) -> Option<RawClient> {
    let mut link = way.dial(server.address, breaks_after).await;
    link.send(handshake(server.address, target, &[]).as_bytes()).await;
    let response = link.try_response("GET").await?;
    assert_eq!(response.status, 101, "{}", response.text());
    Some(link)
}

fn break_after(link: &mut Option<RawClient>, bytes: usize) {
    if let Some(link) = link {
        link.breaks_after = Some(bytes);
    }
}

impl Msgpack {
    pub fn new(way: Way) -> Self {
        let now = Instant::now();
        let mut door = Self {
            session: Session::new(1, now),
            way,
            link: None,
            now,
            outputs: VecDeque::new(),
            position: 0,
            granted: 0,
        };
        let topics = door.way.topics.iter().map(ToString::to_string).collect();
        let options = Options { max_hz: door.way.max_hz.map(f64::from), times: false };
        door.handle(Input::Command(Command::Subscribe { topics, options }));
        door
    }

    fn handle(&mut self, input: Input<'_>) {
        let mut outputs = Vec::new();
        self.session.handle(self.now, input, &mut outputs);
        self.outputs.extend(outputs);
    }

    fn told(&mut self, event: Event) -> Vec<Told> {
        match event {
            Event::Connected { position, .. } => self.position = position.get(),
            Event::Subscribed { topics } => self.granted += topics.len(),
            Event::Replaced => return vec![Told::Replaced],
            Event::Update { changes, .. } => return changes.into_iter().filter_map(change).collect(),
            Event::Messages { channel, missed, messages } => {
                let topic = format!("messages:{channel}");
                let lost = (missed > 0).then(|| Told::Missed(topic.clone(), missed));
                let entries = messages.into_iter().map(|(number, it)| (number, it.data.value())).collect();
                return lost.into_iter().chain([Told::Entries(topic, entries)]).collect();
            }
            Event::States { channel, states } => {
                let value = |data: &Option<Json>| data.as_ref().map_or(Value::Null, Json::value);
                let values = states.states.iter().map(|(key, data)| (key.to_string(), value(data))).collect();
                return vec![Told::States(format!("states:{channel}"), states.whole, values)];
            }
            Event::Closed { reason, .. } => panic!("closed for good: {reason}"),
            Event::Error { message, .. } => panic!("refused: {message}"),
            _ => {}
        }
        Vec::new()
    }
}

fn change(change: Change) -> Option<Told> {
    let value = change.to_json(Timestamp::default(), Position::START);
    Some(match change {
        Change::Definition(instrument) => Told::Defined(instrument.symbol.to_string()),
        Change::Trade { number, .. } => {
            let value = value.expect("a line");
            Told::Entries(value["topic"].as_str().expect("a topic").to_owned(), vec![(number, value)])
        }
        Change::Gap { missed, .. } => Told::Missed(change.topic().expect("a ring's"), missed),
        Change::Reset => Told::Reset,
        Change::Quote { .. } | Change::Bar { .. } | Change::Status { .. } => told(&value.expect("a line")),
        _ => return None,
    })
}

impl Door for Msgpack {
    const TELLS_GAPS: bool = true;

    async fn connect(&mut self, server: &TestServer, breaks_after: Option<usize>) {
        if self.link.take().is_some() {
            self.handle(Input::Closed { code: None, reason: "it broke".to_owned() });
        }
        self.granted = 0;
        // Later than any wait until the next attempt.
        self.now += Duration::from_mins(1);
        self.handle(Input::Tick);
        assert!(self.outputs.contains(&Output::Connect), "{:?}", self.outputs);
        self.outputs.clear();
        self.link = upgrade(&self.way, server, "/v1/ws", breaks_after).await;
        if self.link.is_some() {
            self.handle(Input::Connected);
        } else {
            let reason = "it broke".to_owned();
            self.handle(Input::Failed { reason, retry: true, after: None });
        }
    }

    fn break_after(&mut self, bytes: usize) {
        break_after(&mut self.link, bytes);
    }

    async fn hear(&mut self) -> Option<Heard> {
        let was_granted = self.granted == self.way.topics.len();
        let (BINARY, bytes) = self.link.as_mut()?.data().await? else { return None };
        self.handle(Input::Binary(&bytes));
        let mut told = Vec::new();
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Send(text) => self.link.as_mut()?.send(&frame(TEXT, text.as_bytes())).await,
                Output::Event(event) => told.extend(self.told(event)),
                other => panic!("{other:?}"),
            }
        }
        // An update is a list, which begins with the positions that it moves on; nil: it goes on in the next.
        let mut position = None;
        if bytes[0] & 0xf0 == 0x90 || bytes[0] == 0xdc || bytes[0] == 0xdd {
            let update: Vec<Value> = rmp_serde::from_slice(&bytes).expect("a list");
            if let Some(moves) = update[0].as_u64() {
                self.position += moves;
                // What was granted before it is all there.
                position = Some(self.position).filter(|_| was_granted);
            }
        }
        Some(Heard::Update { told, position })
    }
}

impl Stream {
    pub fn events(way: Way) -> Self {
        Self::new(way, "/v1/sse")
    }

    pub fn lines(way: Way) -> Self {
        Self::new(way, "/v1/lines")
    }

    fn new(way: Way, door: &'static str) -> Self {
        Self { way, door, link: None, epoch: 0, since: None, asked: None }
    }

    fn is_of_events(&self) -> bool {
        self.door == "/v1/sse"
    }
}

impl Door for Stream {
    const TELLS_GAPS: bool = false;

    async fn connect(&mut self, server: &TestServer, breaks_after: Option<usize>) {
        self.asked = self.since;
        let in_header = self.is_of_events() && self.way.says_otherwise;
        let query = self.way.query(true, self.since.filter(|_| !in_header));
        let field = match self.since {
            Some(Since { epoch, position }) if in_header => format!("Last-Event-ID: {epoch}-{position}\r\n"),
            _ => String::new(),
        };
        let mut link = self.way.dial(server.address, breaks_after).await;
        let target = format!("{}?{query}&delta={}", self.door, self.way.delta);
        link.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{field}\r\n", server.address).as_bytes())
            .await;
        let head = link.through(b"\r\n\r\n").await;
        assert!(head.as_ref().is_none_or(|head| head.starts_with(b"HTTP/1.1 200 OK\r\n")), "{head:?}");
        self.link = head.map(|_| link);
    }

    fn break_after(&mut self, bytes: usize) {
        break_after(&mut self.link, bytes);
    }

    async fn hear(&mut self) -> Option<Heard> {
        let end: &[u8] = if self.is_of_events() { b"\n\n" } else { b"\n" };
        loop {
            let bytes = self.link.as_mut()?.through(end).await?;
            let text = String::from_utf8(bytes).expect("UTF-8");
            let (mut data, mut id) = (text.as_str(), None);
            if self.is_of_events() {
                for line in text.lines() {
                    match line.split_once(": ") {
                        Some(("data", value)) => data = value,
                        Some(("id", text)) => {
                            id = Some(since(text));
                        }
                        _ => {}
                    }
                }
            }
            let message = serde_json::from_str(data).expect("JSON");
            if let Some(heard) = heard(&message, &mut self.epoch, self.asked) {
                let since = if self.is_of_events() { id } else { reached(self.epoch, &heard) };
                self.since = since.or(self.since);
                return Some(heard);
            }
        }
    }
}

impl Poll {
    pub fn new(way: Way) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { way, address, since: None, breaks_after: None, begins: true, answer: None }
    }
}

impl Door for Poll {
    const TELLS_GAPS: bool = false;

    async fn connect(&mut self, server: &TestServer, breaks_after: Option<usize>) {
        self.address = server.address;
        self.breaks_after = breaks_after;
        self.begins = true;
        self.answer = None;
    }

    fn break_after(&mut self, bytes: usize) {
        self.breaks_after = Some(bytes);
    }

    async fn hear(&mut self) -> Option<Heard> {
        if let Some(heard) = self.answer.take() {
            return Some(heard);
        }
        let (query, delta) = (self.way.query(false, None), self.way.delta);
        let from = self.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let target = format!("/v1/poll?{query}&delta={delta}&wait=20{from}");
        let mut link = self.way.dial(self.address, self.breaks_after).await;
        let response = request_over(&mut link, "GET", &target, &[], b"").await;
        self.breaks_after = link.breaks_after;
        let answer = response?.json();
        let asked = self.since.as_deref().map(since);
        let resumed = answer["resumed"].as_bool();
        self.since = Some(answer["since"].as_str().expect("where it goes on").to_owned());
        let update = heard(&answer, &mut 0, None).expect("an update");
        if std::mem::take(&mut self.begins) || resumed == Some(false) {
            self.answer = Some(update);
            return Some(Heard::Begun { since: asked, resumed });
        }
        Some(update)
    }
}

impl SocketIo {
    pub fn websocket(way: Way) -> Self {
        Self::new(way, WEBSOCKET, None)
    }

    pub fn msgpack(way: Way) -> Self {
        Self::new(way, MSGPACK_WEBSOCKET, None)
    }

    pub fn polling(way: Way) -> Self {
        Self::new(way, POLLING, None)
    }

    pub fn upgrading(way: Way) -> Self {
        Self::new(way, POLLING, Some(5))
    }

    fn new(way: Way, target: &'static str, upgrades_after: Option<usize>) -> Self {
        let (link, since, asked, before) = (None, None, None, Vec::new());
        Self { way, target, upgrades_after, packets: 0, link, epoch: 0, since, asked, before }
    }
}

impl Door for SocketIo {
    const TELLS_GAPS: bool = true;

    async fn connect(&mut self, server: &TestServer, breaks_after: Option<usize>) {
        self.before.clear();
        self.packets = 0;
        self.asked = self.since;
        let mut auth =
            json!({ "topics": self.way.topics, "delta": self.way.delta, "max_hz": self.way.max_hz });
        if let Some(Since { epoch, position }) = self.since {
            auth["since"] = if self.way.says_otherwise {
                json!({ "epoch": epoch, "position": position })
            } else {
                format!("{epoch}-{position}").into()
            };
        }
        self.link = None;
        let mut link = socketio::Client::connect(server, self.target, auth).await;
        link.break_after(breaks_after);
        self.link = Some(link);
    }

    fn break_after(&mut self, bytes: usize) {
        if let Some(link) = &mut self.link {
            link.break_after(Some(bytes));
        }
    }

    async fn hear(&mut self) -> Option<Heard> {
        loop {
            if self.upgrades_after == Some(self.packets) {
                let link = self.link.as_mut()?;
                let socket = link.begin_upgrade().await;
                link.end_upgrade(socket).await;
            }
            self.packets += 1;
            let mut said = self.link.as_mut()?.try_said().await?;
            assert_eq!(said.kind, 2, "{said:?}");
            let name = said.data[0].as_str().expect("a name").to_owned();
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            match &*name {
                "gap" => {
                    let gap = &said.data[1];
                    self.before
                        .push(Told::Next(text(&gap["topic"]), gap["next"].as_u64().expect("a number")));
                }
                "news" => {
                    let data = said.data[1].take();
                    let number = data["number"].as_u64().expect("a number");
                    let topic = format!("messages:{}", text(&data["channel"]));
                    self.before.push(Told::Entries(topic, vec![(number, data)]));
                }
                "state" => {
                    let topic = format!("states:{}", text(&said.data[3]));
                    let (key, data) = (&said.data[1], said.data[2].clone());
                    let state = key.as_str().map(|key| (key.to_owned(), data));
                    // Without a name: all have ended, and those that have not follow.
                    self.before.push(Told::States(topic, state.is_none(), state.into_iter().collect()));
                }
                // The update behind it has it, too.
                "status" => {}
                _ => {
                    let heard = heard(&said.data[1], &mut self.epoch, self.asked);
                    if let Some(mut heard) = heard {
                        if let Heard::Update { told, .. } = &mut heard {
                            told.splice(0..0, self.before.drain(..));
                        }
                        self.since = reached(self.epoch, &heard).or(self.since);
                        return Some(heard);
                    }
                }
            }
        }
    }
}
