//! A client of Socket.IO while its door has it, whatever its transport: its heartbeat, its namespaces, and
//! packets that go before theirs. On tokio's threads.
//!
//! Invariant: a packet that a session has sent is in its slot until [`Connection::fetch`] returns it, once.

use super::echo::{Echo, Events};
use super::heartbeat::Heartbeat;
use super::namespaces::Namespaces;
use super::slot::{Fetched, Slot};
use super::{INVALID_NAMESPACE, Origin, Settings, lock};
use crate::server::App;
use crate::server::doors::Admitted;
use crate::server::permits::Permit;
use crate::server::rooms::RoomRequest;
use crate::wire::CloseCode;
use crate::wire::engineio::{self, Data};
use crate::wire::socketio::Packet;
use axum::http::StatusCode;
use futures_util::future::select_all;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a packet may take to get into a slot.
const HAND_OVER_TIME: Duration = Duration::from_secs(10);
/// Packets that may wait for a client beside those of its slots.
const MAX_OUTGOING: usize = 64;
/// Namespaces that a connection may be in, each a session of its own.
const MAX_NAMESPACES: usize = 16;

pub(super) struct Connection {
    pub origin: Arc<Origin>,
    settings: Settings,
    state: Mutex<State>,
    /// Wakes who waits for packets: there is something new.
    pub nudge: Notify,
}

struct State {
    /// Packets that go before those of the slots.
    outgoing: Vec<Data>,
    heartbeat: Heartbeat,
    namespaces: Namespaces,
    /// In place of namespaces, for the suites.
    echo: Option<Echo>,
    /// While it is in no namespace, since then. A namespace has a permit of its own.
    permit: Option<Permit>,
    without: Instant,
}

/// What is to be done for a packet.
pub(super) enum Taken {
    Nothing,
    /// The client ends the connection.
    Close,
    Joins {
        namespace: String,
        auth: Value,
    },
    /// It is for the session of that slot.
    Passes(Arc<Slot>, Data),
    /// The client has left the namespace of that slot.
    Leaves(Arc<Slot>),
}

/// How and why a connection has to end.
pub(super) type End = (CloseCode, String);

impl Connection {
    /// One that is in no namespace yet.
    pub fn new(origin: Arc<Origin>, settings: Settings, permit: Option<Permit>) -> Self {
        let now = Instant::now();
        let echo = settings
            .echoes
            .then(|| if origin.is_engine { Echo::Engine } else { Echo::Events(Events::default()) });
        let state = State {
            outgoing: Vec::new(),
            heartbeat: Heartbeat::new(settings.timing, now),
            namespaces: Namespaces::default(),
            echo,
            permit,
            without: now,
        };
        Self { origin, settings, state: Mutex::new(state), nudge: Notify::new() }
    }

    /// Takes a packet of the client.
    ///
    /// # Errors
    /// How it breaks the protocol: the connection has to end.
    pub fn take(&self, data: Data) -> Result<Taken, String> {
        let mut state = lock(&self.state);
        let state = &mut *state;
        if state.outgoing.len() >= MAX_OUTGOING {
            return Err(format!("{MAX_OUTGOING} answers wait, and the client has not fetched them"));
        }
        let packet = match &data {
            Data::Text(text) => match engineio::Packet::read(text).map_err(|error| error.to_string())? {
                engineio::Packet::Close => return Ok(Taken::Close),
                engineio::Packet::Pong => {
                    let number = state.heartbeat.answered(Instant::now());
                    let sender = number.and_then(|number| state.namespaces.by_number(number));
                    let pass = |slot: &Arc<Slot>| Taken::Passes(Arc::clone(slot), data.clone());
                    return Ok(sender.map_or(Taken::Nothing, pass));
                }
                engineio::Packet::Message(message) if state.echo.is_none() => {
                    Some(Packet::read(self.origin.parser, message).map_err(|error| error.to_string())?)
                }
                engineio::Packet::Message(_) => None,
                _ => return Ok(Taken::Nothing),
            },
            Data::Binary(bytes) if state.echo.is_none() => {
                let packet = Packet::read_binary(self.origin.parser, bytes);
                match packet.map_err(|error| error.to_string())? {
                    None if state.namespaces.is_empty() => {
                        let why =
                            "binary data before a namespace: MessagePack is spoken at /socket.io/msgpack/";
                        return Err(why.to_owned());
                    }
                    // The attachment of an event, which was refused.
                    None => return Ok(Taken::Nothing),
                    packet => packet,
                }
            }
            Data::Binary(_) => None,
        };
        match (packet, &mut state.echo) {
            (Some(packet), _) => state.take(packet, data, self),
            (None, Some(echo)) => {
                echo.take(data, self.origin.parser, &self.origin.sid, &mut state.outgoing)?;
                self.nudge.notify_waiters();
                Ok(Taken::Nothing)
            }
            (None, None) => Ok(Taken::Nothing),
        }
    }

    /// Does what is to be done for a packet, other than its end.
    ///
    /// # Errors
    /// Why the connection has to end.
    pub async fn settle(&self, app: &App, taken: Taken) -> Result<(), End> {
        match taken {
            Taken::Nothing | Taken::Close => Ok(()),
            Taken::Passes(slot, data) => pass_on(&slot, &data).await,
            Taken::Leaves(slot) => {
                pass_on(&slot, &Data::close()).await?;
                self.admit_again(app)
            }
            Taken::Joins { namespace, auth } => match self.admit(app, &namespace, &auth).await {
                Ok(admitted) => self.join(app, namespace, admitted).await,
                Err(refusal) => self.refuse(app, refusal),
            },
        }
    }

    /// Admits the session that a client asks for. If it is refused: the packet that says so.
    pub async fn admit(&self, app: &App, namespace: &str, auth: &Value) -> Result<Admitted, Data> {
        let parser = self.origin.parser;
        if let Some(room) = namespace.strip_prefix('/').filter(|room| !room.is_empty())
            && let Err(expected) = RoomRequest::check_name(room)
        {
            let data = json!({ "status": 400, "detail": format!("a room's name has {expected}") });
            return Err(parser.refused(namespace, INVALID_NAMESPACE, data));
        }
        // Its permit becomes the session's.
        drop(lock(&self.state).permit.take());
        let admitted = match self.origin.asks(namespace, auth) {
            Ok(asked) => app.enter(asked).await.inspect_err(|problem| app.refused.count(problem.status())),
            Err(problem) => Err(problem),
        };
        admitted.map_err(|problem| {
            let data = json!({ "status": problem.status().as_u16() });
            parser.refused(namespace, problem.detail(), data)
        })
    }

    /// Tells the client that it is not in a namespace.
    ///
    /// # Errors
    /// There is no permit for it without one.
    pub fn refuse(&self, app: &App, refusal: Data) -> Result<(), End> {
        lock(&self.state).outgoing.push(refusal);
        self.nudge.notify_waiters();
        self.admit_again(app)
    }

    /// Opens the session of a namespace, if there is a pair of sockets for it.
    ///
    /// # Errors
    /// The operating system has none, or its shard is gone.
    pub async fn join(&self, app: &App, name: String, admitted: Admitted) -> Result<(), End> {
        let Some(pair) = app.connections.pairs.take() else {
            drop(admitted);
            let why = "as many namespaces share connections, or are polled, as may: connect by WebSocket with forceNew";
            let data = json!({ "status": StatusCode::SERVICE_UNAVAILABLE.as_u16() });
            return self.refuse(app, self.origin.parser.refused(&name, why, data));
        };
        let slot = Slot::open(admitted, pair)
            .await
            .map_err(|error| (CloseCode::OVERLOADED, format!("no session: {error}")))?;
        let connected = self.connected(&name);
        let mut state = lock(&self.state);
        state.outgoing.push(connected);
        state.add(name, slot);
        drop(state);
        self.nudge.notify_waiters();
        Ok(())
    }

    /// Takes over a session, whose heartbeats the client has yet to answer so many of.
    pub fn adopt(&self, name: String, slot: Slot, pings: u8) {
        let mut state = lock(&self.state);
        let number = state.add(name, slot);
        for _ in 0..pings {
            state.heartbeat.sent(Some(number), Instant::now());
        }
    }

    /// The packet that tells a client that it is in a namespace.
    pub fn connected(&self, namespace: &str) -> Data {
        self.origin.parser.connected(namespace, &self.origin.sid)
    }

    /// A client without a namespace has a permit, too.
    fn admit_again(&self, app: &App) -> Result<(), End> {
        let mut state = lock(&self.state);
        if state.namespaces.is_empty() && state.permit.is_none() {
            state.permit = Some(app.admit().map_err(|_| (CloseCode::OVERLOADED, "busy".to_owned()))?);
            state.without = Instant::now();
        }
        Ok(())
    }

    /// What is there for the client, up to about so many bytes of its sessions.
    pub fn fetch(&self, bytes: usize) -> Fetched {
        let now = Instant::now();
        let mut state = lock(&self.state);
        let mut fetched =
            Fetched { packets: std::mem::take(&mut state.outgoing), end: state.end(now, &self.settings) };
        let State { namespaces, heartbeat, .. } = &mut *state;
        while fetched.end.is_none() {
            let ended = namespaces.fetch(bytes, |number, packet| {
                if packet == Data::ping() {
                    heartbeat.sent(Some(number), now);
                }
                fetched.packets.push(packet);
            });
            match ended {
                // A room is over: others go on. Whatever else ends a session concerns the connection.
                Some((name, (CloseCode::ROOM_CLOSED, _))) if !namespaces.is_empty() => {
                    fetched.packets.push(self.origin.parser.disconnected(&name));
                }
                Some((_, end)) => fetched.end = Some(end),
                None => break,
            }
        }
        if fetched.end.is_none() && state.heartbeat.due() <= now {
            state.heartbeat.sent(None, now);
            fetched.packets.push(Data::ping());
        }
        fetched
    }

    /// Waits until a session has sent something, or has ended.
    pub async fn readable(&self) {
        let slots = lock(&self.state).namespaces.slots();
        if slots.is_empty() {
            return std::future::pending().await;
        }
        // An error is seen by the read that follows.
        let _ = select_all(slots.iter().map(|slot| Box::pin(slot.end.readable()))).await;
    }

    /// Why it has to end by now, if it has.
    pub fn end(&self) -> Option<End> {
        lock(&self.state).end(Instant::now(), &self.settings)
    }

    /// When to look at it again, whatever happens. `fetches`: whether what is there for it can be sent then.
    pub fn next_due(&self, fetches: bool) -> Instant {
        let state = lock(&self.state);
        let ends = state.ends(&self.settings);
        if fetches { ends.min(state.heartbeat.due()) } else { ends }
    }

    /// Whether it is in no namespace and can be passed to a shard once it is.
    pub fn is_empty(&self) -> bool {
        let state = lock(&self.state);
        state.namespaces.is_empty() && state.echo.is_none()
    }

    /// Whether more packets of the client can be taken.
    pub fn takes(&self) -> bool {
        lock(&self.state).outgoing.len() < MAX_OUTGOING
    }

    /// Takes out the packets that wait, and the only namespace that it is in, if that can get another socket.
    pub fn take_only(&self) -> Option<(Vec<Data>, String, Arc<Slot>)> {
        let mut state = lock(&self.state);
        let (name, slot) = state.namespaces.take_only()?;
        Some((std::mem::take(&mut state.outgoing), name, slot))
    }

    /// Ends its sessions.
    pub fn close(&self) {
        let mut state = lock(&self.state);
        state.namespaces.clear();
        state.permit = None;
        drop(state);
        self.nudge.notify_waiters();
    }
}

impl State {
    fn take(&mut self, packet: Packet, data: Data, connection: &Connection) -> Result<Taken, String> {
        match packet {
            Packet::Connect { namespace, auth } => {
                let refused = if self.namespaces.find(&namespace).is_some() {
                    "this connection is in that namespace already".to_owned()
                } else if self.namespaces.len() >= MAX_NAMESPACES {
                    format!(
                        "a connection may be in {MAX_NAMESPACES} namespaces: connect another with forceNew"
                    )
                } else {
                    return Ok(Taken::Joins { namespace, auth });
                };
                let data = json!({ "status": StatusCode::CONFLICT.as_u16() });
                self.outgoing.push(connection.origin.parser.refused(&namespace, &refused, data));
                connection.nudge.notify_waiters();
                Ok(Taken::Nothing)
            }
            Packet::Disconnect { namespace } => {
                Ok(self.namespaces.remove(&namespace).map_or(Taken::Nothing, Taken::Leaves))
            }
            Packet::Event { .. } if self.namespaces.is_empty() => {
                Err("an event before its namespace was connected".to_owned())
            }
            // Of a namespace that it is not in it is dropped.
            Packet::Event { namespace, .. } => {
                let pass = |slot: &Arc<Slot>| Taken::Passes(Arc::clone(slot), data);
                Ok(self.namespaces.find(&namespace).map_or(Taken::Nothing, pass))
            }
            Packet::Ack => Ok(Taken::Nothing),
        }
    }

    fn add(&mut self, name: String, slot: Slot) -> u32 {
        self.permit = None;
        self.namespaces.add(name, slot)
    }

    fn is_without(&self) -> bool {
        self.namespaces.is_empty() && self.echo.is_none()
    }

    fn ends(&self, settings: &Settings) -> Instant {
        let ends = self.heartbeat.ends();
        if self.is_without() { ends.min(self.without + settings.connect_time) } else { ends }
    }

    fn end(&self, now: Instant, settings: &Settings) -> Option<End> {
        if now < self.ends(settings) {
            return None;
        }
        let (code, reason) = if self.is_without() {
            (CloseCode::POLICY, "no namespace was connected")
        } else {
            (CloseCode::STALLED, "no heartbeat was answered")
        };
        Some((code, reason.to_owned()))
    }
}

async fn pass_on(slot: &Slot, data: &Data) -> Result<(), End> {
    // A session that is over meanwhile is found at the next fetch.
    let passed = tokio::time::timeout(HAND_OVER_TIME, slot.pass_on(data)).await;
    passed.map(drop).map_err(|_| (CloseCode::SERVER_ERROR, "its session takes nothing".to_owned()))
}
