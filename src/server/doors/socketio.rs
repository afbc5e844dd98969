//! `/socket.io/`: Socket.IO 5 over Engine.IO 4, by WebSocket or by polls, and the upgrade from one to the
//! other.
//!
//! A connection is read here until its client has named a namespace. Then it is a session of a shard, as any
//! WebSocket is. A client that polls gets a pair of sockets ([`Slot`]): a shard has one end, and polls read
//! the other. So the core knows nothing of polls: what is not fetched fills the socket, and is conflated. An
//! upgrade replaces the shard's end by the WebSocket.
//!
//! ```text
//!    GET transport=polling          GET transport=websocket
//!             v                                v
//!            NEW ------- upgrade ----------> GREETED
//!             |  40: a namespace               |  40: a namespace
//!             v                                v
//!           POLLED ----- upgrade ---------> a shard's session
//!             |  `1`, a second poll, or silence
//!             v
//!            OVER
//! ```
//!
//! Invariant: a packet that a shard has sent is answered to a poll, or is still in the slot, or goes over the
//! WebSocket.

use super::websocket::accept_key;
use super::{Admitted, Asked, Door, Takeover, size_for_sessions};
use crate::server::App;
use crate::server::gate::Pass;
use crate::server::permits::Permit;
use crate::server::problem::Problem;
use crate::server::room::{Room, Seat};
use crate::server::shard::Replacement;
use crate::wire::socketio::{ENGINE_VERSION, Packet, SEPARATOR, connected, handshake, refused};
use crate::wire::{CloseCode, Form, FrameReader, Framing, Incoming, MAX_MESSAGE_BYTES, Opcode, write_frame};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Notify, watch};

/// How long a client may take to name a namespace.
const CONNECT_TIME: Duration = Duration::from_secs(45);
/// How long a poll waits for something to answer. Less than any proxy does.
const POLL_TIME: Duration = Duration::from_secs(20);
/// How long a client that polls may be silent: the time after which it gives up itself.
const SILENCE: Duration = Duration::from_secs(45);
/// How long an upgrade may take.
const UPGRADE_TIME: Duration = Duration::from_secs(10);
/// How long a packet may take to get into a slot, and a client over WebSocket in all until it is a session.
const HAND_OVER_TIME: Duration = Duration::from_secs(10);
const GREETING_TIME: Duration = CONNECT_TIME.saturating_add(HAND_OVER_TIME);
/// Packets that may wait for a client that polls beside those of its slot: its refusals.
const MAX_OUTGOING: usize = 16;
/// Bytes of an answer to a poll, from which on the rest waits for the next one.
const POLL_BYTES: usize = 64 * 1024;
/// Bytes that a shard may have in a slot: as old as the last poll when they are fetched.
const SLOT_BYTES: usize = 32 * 1024;
const SID_BYTES: usize = 15;

/// The clients that poll, by their `sid`.
pub(in crate::server) struct Polls {
    clients: Mutex<HashMap<String, Arc<Client>>>,
    max: usize,
}

/// A client that polls.
struct Client {
    stage: Mutex<Stage>,
    /// Held while posted packets are taken, so that they stay in order.
    posting: tokio::sync::Mutex<()>,
    /// Packets that go before those of the slot.
    outgoing: Mutex<Vec<String>>,
    is_polled: AtomicBool,
    is_upgrading: AtomicBool,
    /// Wakes a poll that waits: the stage or the outgoing packets have changed.
    nudge: Notify,
    /// Wakes an upgrade that waits for a poll to end.
    idle: Notify,
    heard: Mutex<Instant>,
}

enum Stage {
    /// It has not named its namespace. Without a permit it is being admitted.
    New(Option<Permit>),
    Polled(Arc<Slot>),
    Over,
}

/// The polls' end of a pair of sockets, of which a shard has the other.
struct Slot {
    end: UnixStream,
    /// What was read from it and is not answered yet: frames of RFC 6455, the last one perhaps in part.
    unread: Mutex<Vec<u8>>,
    room: Arc<Room>,
    seat: Seat,
}

/// A poll that waits. If its client goes away meanwhile the client is over.
struct Poll<'a> {
    polls: &'a Polls,
    sid: &'a str,
    client: &'a Client,
    is_answered: bool,
}

/// What the query of `/socket.io/` says of the transport, and the rest of it.
#[derive(Debug, Default)]
struct Query {
    engine: String,
    transport: String,
    sid: Option<String>,
    rest: String,
}

/// A connection over WebSocket before its session.
struct Greeting {
    stream: TcpStream,
    reader: FrameReader,
    /// Bytes behind the frames that were read.
    buffer: Vec<u8>,
}

/// The choices of a client of Socket.IO.
struct SocketIo;

/// Errors of Engine.IO, which answers them in its own form.
#[derive(Clone, Copy)]
enum EngineError {
    Transport = 0,
    Sid = 1,
    Method = 2,
    Request = 3,
    Forbidden = 4,
    Version = 5,
}

/// Every request to `/socket.io/`.
pub(in crate::server) async fn engine(
    State(app): State<Arc<App>>,
    pass: Pass,
    request: Request,
) -> Result<Response, Response> {
    serve(app, pass, request).await.map_err(IntoResponse::into_response)
}

async fn serve(app: Arc<App>, pass: Pass, request: Request) -> Result<Response, Problem> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    if query.engine != ENGINE_VERSION {
        let detail = format!("EIO={:?}: version {ENGINE_VERSION} of Engine.IO is spoken here", query.engine);
        return Err(EngineError::Version.because(detail));
    }
    if pass.check_origin().is_err() {
        return Err(EngineError::Forbidden.because("pages of this origin are not let in"));
    }
    match (&*query.transport, request.method(), query.sid.clone()) {
        ("websocket", &Method::GET, sid) => {
            let never = upgrade(app, pass, request, query, sid).await?;
            match never {}
        }
        ("polling", &Method::GET, None) => open(&app),
        ("polling", &Method::GET, Some(sid)) => {
            let client = app.polls.get(&sid)?;
            let packets = poll(&app.polls, &sid, &client).await?;
            Ok(text(packets.join(&SEPARATOR.to_string())))
        }
        ("polling", &Method::POST, Some(sid)) => {
            let client = app.polls.get(&sid)?;
            let body = app.memory.body(request.into_body(), MAX_MESSAGE_BYTES).await?;
            let body = String::from_utf8(body.bytes)
                .map_err(|error| EngineError::Request.because(format!("a payload is UTF-8: {error}")))?;
            let _posting = client.posting.lock().await;
            for packet in body.split(SEPARATOR) {
                take(&app, pass, &query, &sid, &client, packet).await?;
            }
            Ok(([(header::CONTENT_TYPE, "text/html")], "ok").into_response())
        }
        ("polling" | "websocket", method, _) => {
            Err(EngineError::Method.because(format!("{method} does not begin a connection")))
        }
        (other, ..) => Err(EngineError::Transport
            .because(format!("transport={other:?}: polling and websocket are spoken here"))),
    }
}

/// The first request of a client that polls.
fn open(app: &App) -> Result<Response, Problem> {
    let permit = app.admit()?;
    let sid = app.polls.add(permit)?;
    Ok(text(handshake(&sid, &["websocket"], MAX_MESSAGE_BYTES)))
}

fn text(body: String) -> Response {
    let fields = [(header::CONTENT_TYPE, "text/plain; charset=UTF-8"), (header::CACHE_CONTROL, "no-store")];
    (fields, body).into_response()
}

/// Waits for packets for a client that polls.
async fn poll(polls: &Polls, sid: &str, client: &Client) -> Result<Vec<String>, Problem> {
    if client.is_polled.swap(true, Ordering::SeqCst) {
        polls.end(sid);
        return Err(EngineError::Request.because("another poll is under way: the connection is over"));
    }
    let mut poll = Poll { polls, sid, client, is_answered: false };
    let until = tokio::time::Instant::now() + POLL_TIME;
    let packets = loop {
        // Before anything is looked at, so that no change is missed.
        let nudged = client.nudge.notified();
        let mut packets = std::mem::take(&mut *lock(&client.outgoing));
        let slot = match &*lock(&client.stage) {
            Stage::New(_) => None,
            Stage::Polled(slot) => Some(Arc::clone(slot)),
            Stage::Over => break Ok(vec!["1".to_owned()]),
        };
        if let Some(slot) = &slot
            && packets.is_empty()
            && !client.is_upgrading.load(Ordering::SeqCst)
        {
            let Ok(fetched) = slot.fetch() else {
                polls.end(sid);
                break Ok(vec!["1".to_owned()]);
            };
            packets = fetched;
        }
        if !packets.is_empty() {
            break Ok(packets);
        }
        if client.is_upgrading.load(Ordering::SeqCst) {
            break Ok(vec!["6".to_owned()]);
        }
        tokio::select! {
            () = nudged => {}
            () = readable(slot.as_deref()) => {}
            () = tokio::time::sleep_until(until) => break Ok(vec!["6".to_owned()]),
        }
    };
    poll.is_answered = true;
    packets
}

async fn readable(slot: Option<&Slot>) {
    match slot {
        // An error is seen by the read that follows.
        Some(slot) => drop(slot.end.readable().await),
        None => std::future::pending().await,
    }
}

/// Takes a packet that was posted.
async fn take(
    app: &App,
    pass: Pass,
    query: &Query,
    sid: &str,
    client: &Client,
    packet: &str,
) -> Result<(), Problem> {
    // Binary data, in base64, is the attachment of an event: none here has one.
    if packet.starts_with('b') {
        return Ok(());
    }
    let read = Packet::read(packet).map_err(|error| {
        app.polls.end(sid);
        EngineError::Request.because(error.to_string())
    })?;
    let slot = match &*lock(&client.stage) {
        Stage::New(_) => None,
        Stage::Polled(slot) => Some(Arc::clone(slot)),
        Stage::Over => return Err(EngineError::unknown(sid)),
    };
    match (read, slot) {
        (Packet::Close, _) => app.polls.end(sid),
        (_, Some(slot)) => {
            let passed = tokio::time::timeout(HAND_OVER_TIME, slot.pass_on(packet)).await;
            if !matches!(passed, Ok(Ok(()))) {
                app.polls.end(sid);
                return Err(EngineError::unknown(sid));
            }
        }
        (Packet::Connect { .. }, None) if lock(&client.outgoing).len() >= MAX_OUTGOING => {
            app.polls.end(sid);
            let detail = format!("{MAX_OUTGOING} namespaces were refused, and no poll has fetched that");
            return Err(EngineError::Request.because(detail));
        }
        (Packet::Connect { namespace, auth }, None) => {
            // Its permit becomes the session's.
            if let Stage::New(permit) = &mut *lock(&client.stage) {
                drop(permit.take());
            }
            let (packet, next) = match enter(app, pass, query, &namespace, &auth).await {
                Ok(admitted) => {
                    let slot = Slot::open(admitted).await.map_err(|error| {
                        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("no slot: {error}"))
                    })?;
                    (connected(&namespace, sid), Stage::Polled(Arc::new(slot)))
                }
                Err(problem) => (refusal(&namespace, &problem), Stage::New(Some(app.admit()?))),
            };
            lock(&client.outgoing).push(packet);
            let mut stage = lock(&client.stage);
            // It may be over by now.
            if matches!(*stage, Stage::New(_)) {
                *stage = next;
            }
            drop(stage);
            client.nudge.notify_waiters();
        }
        (Packet::Event { .. }, None) => {
            app.polls.end(sid);
            return Err(EngineError::Request.because("an event before its namespace was connected"));
        }
        _ => {}
    }
    Ok(())
}

/// Admits the session that a client asks for by its query, its namespace and what it says of itself.
async fn enter(
    app: &App,
    pass: Pass,
    query: &Query,
    namespace: &str,
    auth: &Value,
) -> Result<Admitted, Problem> {
    let asked = asked(pass, query, namespace, auth)?;
    app.enter(asked).await.inspect_err(|problem| app.refused.count(problem.status()))
}

fn asked(pass: Pass, query: &Query, namespace: &str, auth: &Value) -> Result<Asked, Problem> {
    let mut fields = form_urlencoded::Serializer::new(query.rest.clone());
    if let Some(room) = namespace.strip_prefix('/').filter(|room| !room.is_empty()) {
        fields.append_pair("room", room);
    }
    let auth = match auth {
        Value::Object(auth) => auth.clone(),
        Value::Null => serde_json::Map::new(),
        other => return Err(Problem::bad_request(format!("auth: expected a map, not {other}"))),
    };
    for (name, value) in &auth {
        match value {
            Value::Null => {}
            Value::String(value) => drop(fields.append_pair(name, value)),
            Value::Array(topics) if name == "topics" => {
                for topic in topics {
                    let topic = topic.as_str().ok_or_else(|| {
                        Problem::bad_request(format!("auth: topics: {topic} is not a text"))
                    })?;
                    fields.append_pair(name, topic);
                }
            }
            Value::Object(since) if name == "since" => {
                let part = |part: &str| since.get(part).map(Value::to_string).unwrap_or_default();
                fields.append_pair(name, &format!("{}-{}", part("epoch"), part("position")));
            }
            value => drop(fields.append_pair(name, &value.to_string())),
        }
    }
    Asked::parse(&fields.finish(), &SocketIo, pass.rights)
}

/// The packet that tells a client why it is not in a namespace.
fn refusal(namespace: &str, problem: &Problem) -> String {
    refused(namespace, problem.detail(), &json!({ "status": problem.status().as_u16() }))
}

/// Begins a connection over WebSocket, or the upgrade of a client that polls.
async fn upgrade(
    app: Arc<App>,
    pass: Pass,
    request: Request,
    query: Query,
    sid: Option<String>,
) -> Result<Infallible, Problem> {
    if request.version() != Version::HTTP_11 {
        return Err(EngineError::Request.because("a WebSocket begins with a request of HTTP/1.1"));
    }
    let accept = accept_key(request.headers())?;
    let client = sid.as_deref().map(|sid| app.polls.get(sid)).transpose()?;
    let permit = match &client {
        Some(client) if client.is_upgrading.swap(true, Ordering::SeqCst) => {
            return Err(EngineError::Request.because("an upgrade is under way"));
        }
        Some(_) => None,
        None => Some(app.admit().inspect_err(|problem| app.refused.count(problem.status()))?),
    };
    let takeover = Takeover::of(&request)?;
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    let go_on = move |mut stream: TcpStream, buffer: Vec<u8>| {
        let session: super::Session = Box::pin(async move {
            stream.write_all(head.as_bytes()).await?;
            let mut greeting = Greeting { stream, reader: FrameReader::default(), buffer };
            if let Some((sid, client)) = sid.zip(client) {
                let probed = tokio::time::timeout(UPGRADE_TIME, probe(&mut greeting, &client)).await;
                let is_probed = matches!(probed, Ok(Ok(true)));
                if !is_probed {
                    client.is_upgrading.store(false, Ordering::SeqCst);
                    return Ok(());
                }
                return move_over(&app, pass, &query, &sid, &client, greeting).await;
            }
            let sid = new_sid();
            greeting.say(&handshake(&sid, &[], MAX_MESSAGE_BYTES)).await?;
            let greeted = greet(&app, pass, &query, &sid, permit, greeting);
            tokio::time::timeout(GREETING_TIME, greeted).await?
        });
        session
    };
    Ok(takeover.take_over(Box::new(go_on)).await)
}

/// The first half of an upgrade: the client tries the WebSocket, and the poll that waits is sent home.
/// Returns whether the client goes on with the upgrade.
async fn probe(greeting: &mut Greeting, client: &Client) -> io::Result<bool> {
    loop {
        match greeting.packet().await? {
            Some(Packet::Ping { is_probe: true }) => {
                greeting.say("3probe").await?;
                client.nudge.notify_waiters();
            }
            Some(Packet::Upgrade) => return Ok(true),
            _ => return Ok(false),
        }
    }
}

/// The second half: what polls have not fetched goes over the WebSocket, before all that follows.
async fn move_over(
    app: &App,
    pass: Pass,
    query: &Query,
    sid: &str,
    client: &Client,
    mut greeting: Greeting,
) -> io::Result<()> {
    let polled = async {
        loop {
            let idle = client.idle.notified();
            if !client.is_polled.load(Ordering::SeqCst) {
                break;
            }
            idle.await;
        }
    };
    let _ = tokio::time::timeout(UPGRADE_TIME, polled).await;
    let _posting = client.posting.lock().await;
    let stage = std::mem::replace(&mut *lock(&client.stage), Stage::Over);
    app.polls.end(sid);
    let outgoing = std::mem::take(&mut *lock(&client.outgoing));
    match stage {
        Stage::Over => Ok(()),
        Stage::New(permit) => {
            for packet in &outgoing {
                greeting.say(packet).await?;
            }
            tokio::time::timeout(GREETING_TIME, greet(app, pass, query, sid, permit, greeting)).await?
        }
        Stage::Polled(slot) => {
            // No poll and no post has it any more.
            let Some(slot) = Arc::into_inner(slot) else { return Ok(()) };
            let mut rest = Vec::new();
            for packet in &outgoing {
                write_frame(Opcode::Text, packet.as_bytes(), &mut rest);
            }
            rest.append(&mut slot.unread.into_inner().unwrap_or_else(PoisonError::into_inner));
            let stream = greeting.stream.into_std()?;
            size_for_sessions(&stream)?;
            let early = greeting.buffer;
            let replacement = Replacement { stream, early, rest, end: slot.end.into_std()? };
            slot.room.replace(slot.seat, replacement);
            Ok(())
        }
    }
}

/// Reads a connection until its client has named a namespace, and passes it to a shard.
async fn greet(
    app: &App,
    pass: Pass,
    query: &Query,
    sid: &str,
    mut permit: Option<Permit>,
    mut greeting: Greeting,
) -> io::Result<()> {
    let until = tokio::time::Instant::now() + CONNECT_TIME;
    loop {
        let packet = match tokio::time::timeout_at(until, greeting.packet()).await {
            Ok(packet) => packet?,
            Err(_) => return greeting.close(CloseCode::POLICY, "no namespace was connected").await,
        };
        match packet {
            Some(Packet::Connect { namespace, auth }) => {
                // Its permit becomes the session's.
                drop(permit.take());
                match enter(app, pass, query, &namespace, &auth).await {
                    Ok(admitted) => {
                        let mut head = Vec::new();
                        write_frame(Opcode::Text, connected(&namespace, sid).as_bytes(), &mut head);
                        return admitted.hand_over(&head, greeting.stream, greeting.buffer).await;
                    }
                    Err(problem) => {
                        greeting.say(&refusal(&namespace, &problem)).await?;
                        match app.admit() {
                            Ok(again) => permit = Some(again),
                            Err(_) => return greeting.close(CloseCode::OVERLOADED, "busy").await,
                        }
                    }
                }
            }
            Some(Packet::Event { .. }) => {
                let reason = "an event before its namespace was connected";
                return greeting.close(CloseCode::POLICY, reason).await;
            }
            Some(Packet::Close) => return greeting.close(CloseCode::NORMAL, "").await,
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

fn new_sid() -> String {
    BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; SID_BYTES]>())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Polls {
    /// `max`: how many clients may poll at a time.
    pub fn new(max: usize) -> Self {
        Self { clients: Mutex::default(), max }
    }

    /// How many clients poll.
    pub fn len(&self) -> usize {
        lock(&self.clients).len()
    }

    fn add(&self, permit: Permit) -> Result<String, Problem> {
        let mut clients = lock(&self.clients);
        if clients.len() >= self.max {
            let detail = format!("{} clients poll already: use transport=websocket", self.max);
            return Err(
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "5")
            );
        }
        let sid = new_sid();
        let client = Client {
            stage: Mutex::new(Stage::New(Some(permit))),
            posting: tokio::sync::Mutex::default(),
            outgoing: Mutex::default(),
            is_polled: AtomicBool::new(false),
            is_upgrading: AtomicBool::new(false),
            nudge: Notify::new(),
            idle: Notify::new(),
            heard: Mutex::new(Instant::now()),
        };
        clients.insert(sid.clone(), Arc::new(client));
        Ok(sid)
    }

    /// # Errors
    /// The answer to a client that is not, or no longer, known.
    fn get(&self, sid: &str) -> Result<Arc<Client>, Problem> {
        let client = lock(&self.clients).get(sid).cloned().ok_or_else(|| EngineError::unknown(sid))?;
        *lock(&client.heard) = Instant::now();
        Ok(client)
    }

    /// Ends a client: its session, and the poll that waits.
    fn end(&self, sid: &str) {
        if let Some(client) = lock(&self.clients).remove(sid) {
            *lock(&client.stage) = Stage::Over;
            client.nudge.notify_waiters();
        }
    }

    /// Ends the clients that poll no more, until the server stops.
    pub async fn sweep(&self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SILENCE / 8) => {}
                _ = stopped.changed() => return,
            }
            let is_silent = |client: &Client| {
                !client.is_polled.load(Ordering::SeqCst) && lock(&client.heard).elapsed() > SILENCE
            };
            let silent: Vec<String> = {
                let clients = lock(&self.clients);
                let silent = clients.iter().filter(|(_, client)| is_silent(client));
                silent.map(|(sid, _)| sid.clone()).collect()
            };
            for sid in silent {
                self.end(&sid);
            }
        }
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        *lock(&self.client.heard) = Instant::now();
        self.client.is_polled.store(false, Ordering::SeqCst);
        self.client.idle.notify_waiters();
        if !self.is_answered {
            self.polls.end(self.sid);
        }
    }
}

impl Slot {
    /// Gives a shard one end of a pair of sockets.
    async fn open(admitted: Admitted) -> io::Result<Self> {
        let (end, shards) = std::os::unix::net::UnixStream::pair()?;
        end.set_nonblocking(true)?;
        shards.set_nonblocking(true)?;
        socket2::SockRef::from(&shards).set_send_buffer_size(SLOT_BYTES)?;
        // A shard only sends and receives, which is the same for both kinds.
        let shards = std::net::TcpStream::from(std::os::fd::OwnedFd::from(shards));
        let Admitted { opening, guest, room } = admitted;
        let seat = room.open_in(guest, opening, shards).await?;
        Ok(Self { end: UnixStream::from_std(end)?, unread: Mutex::default(), room, seat })
    }

    /// The packets that are there.
    ///
    /// # Errors
    /// That the shard has closed its end.
    fn fetch(&self) -> io::Result<Vec<String>> {
        let mut unread = lock(&self.unread);
        let mut is_closed = false;
        // A single frame may be longer.
        while unread.len() < POLL_BYTES || server_frame(&unread).is_none() {
            let mut buffer = [0; 8 * 1024];
            match self.end.try_read(&mut buffer) {
                Ok(0) => is_closed = true,
                Ok(len) => {
                    unread.extend_from_slice(&buffer[..len]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            break;
        }
        let (mut packets, mut at) = (Vec::new(), 0);
        while let Some((opcode, payload, len)) = server_frame(&unread[at..]) {
            match opcode {
                Opcode::Text => packets.push(String::from_utf8_lossy(payload).into_owned()),
                Opcode::Close => packets.push("1".to_owned()),
                _ => {}
            }
            at += len;
        }
        unread.drain(..at);
        if is_closed && packets.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(packets) }
    }

    /// Passes a packet on to the shard, in a frame as a client sends it.
    async fn pass_on(&self, packet: &str) -> io::Result<()> {
        let mut frame = Vec::new();
        write_frame(Opcode::Text, packet.as_bytes(), &mut frame);
        // The mask follows the length. It is of zeros, which change nothing.
        let header = frame.len() - packet.len();
        frame[1] |= 0x80;
        frame.splice(header..header, [0; 4]);
        let mut rest = &frame[..];
        while !rest.is_empty() {
            self.end.writable().await?;
            match self.end.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The first frame of a server in these bytes, if it is complete: its opcode, payload and whole length.
fn server_frame(bytes: &[u8]) -> Option<(Opcode, &[u8], usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (header, len): (usize, usize) = match second {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?).into()),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        len => (2, usize::from(len)),
    };
    let payload = bytes.get(header..header.checked_add(len)?)?;
    let opcode = match first & 0x0f {
        1 => Opcode::Text,
        8 => Opcode::Close,
        _ => Opcode::Binary,
    };
    Some((opcode, payload, header + len))
}

/// The length of the first frame of a client in these bytes, if it is complete.
fn client_frame(bytes: &[u8]) -> Option<usize> {
    let header = match bytes.get(1)? & 0x7f {
        126 => 4 + usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        // Longer than any message may be: the reader refuses it by its header.
        127 => 10,
        len => 2 + usize::from(len),
    };
    let len = header + 4;
    (bytes.len() >= len).then_some(len)
}

impl Greeting {
    /// The next packet; `None` if the client has gone or broke the protocol, which it was told then.
    async fn packet(&mut self) -> io::Result<Option<Packet>> {
        loop {
            while let Some(len) = client_frame(&self.buffer) {
                let mut messages = Vec::new();
                let frame: Vec<u8> = self.buffer.drain(..len).collect();
                let read = self.reader.read(&frame, 0, |message| messages.push(message));
                if let Err(error) = read {
                    self.close(error.code(), &error.to_string()).await?;
                    return Ok(None);
                }
                match messages.pop() {
                    Some(Incoming::Message(_, text)) => match Packet::read(&String::from_utf8_lossy(&text)) {
                        Ok(packet) => return Ok(Some(packet)),
                        Err(error) => {
                            let reason: String = error.to_string().chars().filter(char::is_ascii).collect();
                            self.close(CloseCode::POLICY, &reason).await?;
                            return Ok(None);
                        }
                    },
                    Some(Incoming::Ping(payload)) => {
                        let mut pong = Vec::new();
                        write_frame(Opcode::Pong, &payload, &mut pong);
                        self.stream.write_all(&pong).await?;
                    }
                    Some(Incoming::Close(code)) => {
                        self.close(code.unwrap_or(CloseCode::NORMAL), "").await?;
                        return Ok(None);
                    }
                    Some(Incoming::Pong(_)) | None => {}
                }
            }
            let mut bytes = [0; 4 * 1024];
            match self.stream.read(&mut bytes).await? {
                0 => return Ok(None),
                len => self.buffer.extend_from_slice(&bytes[..len]),
            }
        }
    }

    async fn say(&mut self, packet: &str) -> io::Result<()> {
        let mut frame = Vec::new();
        write_frame(Opcode::Text, packet.as_bytes(), &mut frame);
        self.stream.write_all(&frame).await
    }

    async fn close(&mut self, code: CloseCode, reason: &str) -> io::Result<()> {
        let mut frame = Vec::new();
        Framing::SocketIo.append_close(code, reason, &mut frame);
        self.stream.write_all(&frame).await?;
        self.stream.shutdown().await
    }
}

impl Query {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        let mut rest = form_urlencoded::Serializer::new(String::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "EIO" => parsed.engine = value.into_owned(),
                "transport" => parsed.transport = value.into_owned(),
                "sid" => parsed.sid = Some(value.into_owned()),
                // Against caches, and of older versions.
                "t" | "b64" | "j" => {}
                _ => drop(rest.append_pair(&name, &value)),
            }
        }
        parsed.rest = rest.finish();
        parsed
    }
}

impl EngineError {
    fn because(self, detail: impl Into<String>) -> Problem {
        let status = match self {
            Self::Forbidden => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        };
        let message = match self {
            Self::Transport => "Transport unknown",
            Self::Sid => "Session ID unknown",
            Self::Method => "Bad handshake method",
            Self::Request => "Bad request",
            Self::Forbidden => "Forbidden",
            Self::Version => "Unsupported protocol version",
        };
        Problem::new(status, detail).with("code", self as u8).with("message", message)
    }

    fn unknown(sid: &str) -> Problem {
        let sid: String = sid.chars().take(40).collect();
        Self::Sid.because(format!("sid={sid:?}: there is no such connection, or it is over"))
    }
}

impl Door for SocketIo {
    fn formats(&self) -> &'static [(&'static str, Form)] {
        const { &[("json", Form::SOCKET_IO.of_images())] }
    }

    fn form(&self) -> Form {
        Form::SOCKET_IO.of_images()
    }

    fn form_of_changes(&self, changes: bool) -> Option<Form> {
        Some(if changes { Form::SOCKET_IO } else { Form::SOCKET_IO.of_images() })
    }

    fn may_choose(&self, _: Form) -> bool {
        true
    }
}
