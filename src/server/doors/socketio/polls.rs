//! The clients that poll, and their requests. On tokio's threads.
//!
//! Invariant: at most one poll of a client is under way, and its posts are taken one after the other.

use super::connection::{Connection, Taken};
use super::{EngineError, Origin, Settings, lock};
use crate::server::App;
use crate::server::permits::Permit;
use crate::server::problem::Problem;
use crate::wire::engineio::{Data, SEPARATOR, handshake};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How long a poll waits for something to answer. Less than any proxy does.
const POLL_TIME: Duration = Duration::from_secs(20);
/// How long a poll waits that came while an upgrade was under way: its end may have been sent before.
const UPGRADING_TIME: Duration = Duration::from_millis(100);
/// Bytes of an answer to a poll, from which on the rest waits for the next one.
const POLL_BYTES: usize = 64 * 1024;
/// Clients that are remembered after their upgrade.
const MAX_UPGRADED: usize = 64;
/// From one look for clients that are gone to the next.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// The clients that poll, by their `sid`.
pub(in crate::server) struct Polls {
    clients: Mutex<HashMap<String, Arc<Client>>>,
    max: usize,
    /// Those that have upgraded last.
    upgraded: Mutex<VecDeque<String>>,
}

/// A client that polls.
pub(super) struct Client {
    pub connection: Arc<Connection>,
    /// Held while posted packets are taken, so that they stay in order.
    pub posting: tokio::sync::Mutex<()>,
    pub is_polled: AtomicBool,
    pub is_upgrading: AtomicBool,
    /// Wakes an upgrade that waits for a poll to end.
    pub idle: Notify,
    over: Mutex<Option<Over>>,
}

/// Why a client polls no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// It has said so. A poll of it may be on its way.
    ByClient,
    ByServer,
    Upgraded,
}

/// A poll that waits. If its client goes away meanwhile the client is over.
struct Poll<'a> {
    polls: &'a Polls,
    sid: &'a str,
    client: &'a Client,
    is_answered: bool,
}

/// The first request of a client that polls.
pub(super) fn open(app: &App, origin: Arc<Origin>) -> Result<Response, Problem> {
    let permit = app.admit()?;
    let settings = Settings::of(app);
    let open = handshake(&origin.sid, &["websocket"], settings.timing, settings.max_payload);
    app.polls.add(origin, settings, permit)?;
    Ok(payload(&[open]))
}

/// Waits for packets for a client that polls.
pub(super) async fn poll(polls: &Polls, sid: &str) -> Result<Response, Problem> {
    let client = polls.find(sid)?;
    if client.is_polled.swap(true, Ordering::SeqCst) {
        polls.end(sid, Over::ByServer);
        return Err(EngineError::Request.because("another poll is under way: the connection is over"));
    }
    let mut poll = Poll { polls, sid, client: &client, is_answered: false };
    let packets = wait(&poll).await;
    poll.is_answered = true;
    packets.map(|packets| payload(&packets))
}

async fn wait(poll: &Poll<'_>) -> Result<Vec<Data>, Problem> {
    let Poll { polls, sid, client, .. } = *poll;
    let connection = &client.connection;
    let came_late = client.is_upgrading.load(Ordering::SeqCst);
    let until = Instant::now() + if came_late { UPGRADING_TIME } else { POLL_TIME };
    loop {
        // Before anything is looked at, so that no change is missed.
        let nudged = connection.nudge.notified();
        let over = *lock(&client.over);
        if over.is_some() {
            polls.forget(sid);
        }
        match over {
            Some(Over::ByServer) => return Ok(vec![Data::close()]),
            Some(Over::Upgraded) if came_late => return Err(EngineError::unknown(sid)),
            Some(Over::ByClient | Over::Upgraded) => return Ok(vec![Data::noop()]),
            None => {}
        }
        let is_upgrading = client.is_upgrading.load(Ordering::SeqCst);
        if is_upgrading && !came_late || Instant::now() >= until {
            return Ok(vec![Data::noop()]);
        }
        if !is_upgrading {
            let mut fetched = connection.fetch(POLL_BYTES);
            if fetched.end.is_some() {
                polls.end(sid, Over::ByServer);
                fetched.packets.push(Data::close());
            }
            if !fetched.packets.is_empty() {
                return Ok(fetched.packets);
            }
        }
        tokio::select! {
            () = nudged => {}
            () = connection.readable(), if !is_upgrading => {}
            () = tokio::time::sleep_until(until.min(connection.next_due(!is_upgrading).into())) => {}
        }
    }
}

/// Takes the packets of a post.
pub(super) async fn post(app: &App, sid: &str, client: &Client, body: Vec<u8>) -> Result<Response, Problem> {
    let refuse = |why: String| {
        app.polls.end(sid, Over::ByServer);
        EngineError::Request.because(why)
    };
    let body = String::from_utf8(body).map_err(|error| refuse(format!("a payload is UTF-8: {error}")))?;
    let _posting = client.posting.lock().await;
    for part in body.split(SEPARATOR) {
        if lock(&client.over).is_some() {
            return Err(EngineError::unknown(sid));
        }
        let packet = match part.strip_prefix('b') {
            Some(binary) => BASE64_STANDARD
                .decode(binary)
                .map(Data::Binary)
                .map_err(|error| refuse(format!("malformed base64: {error}")))?,
            None => Data::Text(part.to_owned()),
        };
        match client.connection.take(packet).map_err(&refuse)? {
            Taken::Close => app.polls.end(sid, Over::ByClient),
            taken => {
                client.connection.settle(app, taken).await.map_err(|(_, reason)| refuse(reason))?;
            }
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/html")], "ok").into_response())
}

fn payload(packets: &[Data]) -> Response {
    let parts: Vec<String> = packets
        .iter()
        .map(|packet| match packet {
            Data::Text(text) => text.clone(),
            Data::Binary(bytes) => format!("b{}", BASE64_STANDARD.encode(bytes)),
        })
        .collect();
    let fields = [(header::CONTENT_TYPE, "text/plain; charset=UTF-8"), (header::CACHE_CONTROL, "no-store")];
    (fields, parts.join(&SEPARATOR.to_string())).into_response()
}

impl Polls {
    /// `max`: how many clients may poll at a time.
    pub fn new(max: usize) -> Self {
        Self { clients: Mutex::default(), max, upgraded: Mutex::default() }
    }

    /// How many clients poll.
    pub fn len(&self) -> usize {
        lock(&self.clients).values().filter(|client| lock(&client.over).is_none()).count()
    }

    fn add(&self, origin: Arc<Origin>, settings: Settings, permit: Permit) -> Result<(), Problem> {
        let mut clients = lock(&self.clients);
        if clients.len() >= self.max {
            let detail = format!("{} clients poll already: use transport=websocket", self.max);
            return Err(
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "5")
            );
        }
        let sid = origin.sid.to_string();
        let client = Client {
            connection: Arc::new(Connection::new(origin, settings, Some(permit))),
            posting: tokio::sync::Mutex::default(),
            is_polled: AtomicBool::new(false),
            is_upgrading: AtomicBool::new(false),
            idle: Notify::new(),
            over: Mutex::default(),
        };
        clients.insert(sid, Arc::new(client));
        Ok(())
    }

    /// # Errors
    /// The answer to a client that is not, or no longer, known.
    pub(super) fn get(&self, sid: &str) -> Result<Arc<Client>, Problem> {
        let client = self.find(sid)?;
        if lock(&client.over).is_some() { Err(EngineError::unknown(sid)) } else { Ok(client) }
    }

    /// As [`Self::get`], but one that has said its goodbye may poll once more.
    fn find(&self, sid: &str) -> Result<Arc<Client>, Problem> {
        let client = lock(&self.clients).get(sid).cloned().ok_or_else(|| EngineError::unknown(sid))?;
        // Whether or not a sweep has found it.
        if client.connection.end().is_some() {
            self.end(sid, Over::ByServer);
            return Err(EngineError::unknown(sid));
        }
        Ok(client)
    }

    /// Ends a client: its sessions, and the poll that waits.
    fn end(&self, sid: &str, over: Over) {
        let Some(client) = self.leave(sid, over) else { return };
        client.connection.close();
    }

    /// Whether a client has upgraded not long ago.
    pub(super) fn has_upgraded(&self, sid: &str) -> bool {
        lock(&self.upgraded).iter().any(|upgraded| upgraded == sid)
    }

    /// Removes a client that polls no more, and sends its poll home. `None` if it is over already.
    pub(super) fn leave(&self, sid: &str, why: Over) -> Option<Arc<Client>> {
        let mut clients = lock(&self.clients);
        let client = Arc::clone(clients.get(sid)?);
        let mut over = lock(&client.over);
        let is_first = over.is_none();
        over.get_or_insert(why);
        drop(over);
        // A client that says goodbye may have sent a poll just before, which is answered as one that waits.
        if why != Over::ByClient || client.is_polled.load(Ordering::SeqCst) {
            clients.remove(sid);
        }
        drop(clients);
        if why == Over::Upgraded && is_first {
            let mut upgraded = lock(&self.upgraded);
            upgraded.truncate(MAX_UPGRADED - 1);
            upgraded.push_front(sid.to_owned());
        }
        client.connection.nudge.notify_waiters();
        is_first.then_some(client)
    }

    fn forget(&self, sid: &str) {
        lock(&self.clients).remove(sid);
    }

    /// Ends the clients that answer no more, until the server stops.
    pub async fn sweep(&self, mut stopped: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(SWEEP_EVERY) => {}
                _ = stopped.changed() => return,
            }
            let is_over = |client: &Client| lock(&client.over).is_some() || client.connection.end().is_some();
            let over: Vec<String> = {
                let clients = lock(&self.clients);
                clients.iter().filter(|(_, client)| is_over(client)).map(|(sid, _)| sid.clone()).collect()
            };
            for sid in over {
                self.end(&sid, Over::ByServer);
            }
        }
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        self.client.is_polled.store(false, Ordering::SeqCst);
        self.client.idle.notify_waiters();
        if !self.is_answered {
            self.polls.end(self.sid, Over::ByServer);
        }
    }
}
