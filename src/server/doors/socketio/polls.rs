//! The clients that poll, and their requests. On tokio's threads.

use super::slot::Slot;
use super::{EngineError, Query, enter, lock, new_sid, refusal};
use crate::server::App;
use crate::server::gate::Pass;
use crate::server::permits::Permit;
use crate::server::problem::Problem;
use crate::wire::MAX_MESSAGE_BYTES;
use crate::wire::socketio::{Packet, connected, handshake};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How long a poll waits for something to answer. Less than any proxy does.
const POLL_TIME: Duration = Duration::from_secs(20);
/// How long a client that polls may be silent: the time after which it gives up itself.
const SILENCE: Duration = Duration::from_secs(45);
/// Packets that may wait for a client that polls beside those of its slot: its refusals.
const MAX_OUTGOING: usize = 16;
/// How long a packet may take to get into a slot, and a client over WebSocket in all until it is a session.
pub(super) const HAND_OVER_TIME: Duration = Duration::from_secs(10);

/// The clients that poll, by their `sid`.
pub(in crate::server) struct Polls {
    clients: Mutex<HashMap<String, Arc<Client>>>,
    max: usize,
}

/// A client that polls.
pub(super) struct Client {
    pub stage: Mutex<Stage>,
    /// Held while posted packets are taken, so that they stay in order.
    pub posting: tokio::sync::Mutex<()>,
    /// Packets that go before those of the slot.
    pub outgoing: Mutex<Vec<String>>,
    pub is_polled: AtomicBool,
    pub is_upgrading: AtomicBool,
    /// Wakes a poll that waits: the stage or the outgoing packets have changed.
    pub nudge: Notify,
    /// Wakes an upgrade that waits for a poll to end.
    pub idle: Notify,
    heard: Mutex<Instant>,
}

pub(super) enum Stage {
    /// It has not named its namespace. Without a permit it is being admitted.
    New(Option<Permit>),
    Polled(Arc<Slot>),
    Over,
}

/// A poll that waits. If its client goes away meanwhile the client is over.
struct Poll<'a> {
    polls: &'a Polls,
    sid: &'a str,
    client: &'a Client,
    is_answered: bool,
}

/// The first request of a client that polls.
pub(super) fn open(app: &App) -> Result<Response, Problem> {
    let permit = app.admit()?;
    let sid = app.polls.add(permit)?;
    Ok(text(handshake(&sid, &["websocket"], MAX_MESSAGE_BYTES)))
}

pub(super) fn text(body: String) -> Response {
    let fields = [(header::CONTENT_TYPE, "text/plain; charset=UTF-8"), (header::CACHE_CONTROL, "no-store")];
    (fields, body).into_response()
}

/// Waits for packets for a client that polls.
pub(super) async fn poll(polls: &Polls, sid: &str, client: &Client) -> Result<Vec<String>, Problem> {
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
pub(super) async fn take(
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
    pub(super) fn get(&self, sid: &str) -> Result<Arc<Client>, Problem> {
        let client = lock(&self.clients).get(sid).cloned().ok_or_else(|| EngineError::unknown(sid))?;
        *lock(&client.heard) = Instant::now();
        Ok(client)
    }

    /// Ends a client: its session, and the poll that waits.
    pub fn end(&self, sid: &str) {
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
