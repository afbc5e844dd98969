//! Connections over WebSocket while no shard has them, and the upgrade of those that polled. On tokio's
//! threads.
//!
//! Invariant: nothing is fetched for a client before its socket has taken what was fetched before.

use super::connection::{Connection, Taken};
use super::polls::{Client, Over};
use super::slot::Slot;
use super::socket::Socket;
use super::{EngineError, Origin, Settings};
use crate::server::App;
use crate::server::doors::websocket::accept_key;
use crate::server::doors::{self, Admitted, Takeover, size_for_sessions};
use crate::server::problem::Problem;
use crate::server::shard::{Homecoming, Replacement};
use crate::wire::CloseCode;
use crate::wire::engineio::{self, Data, handshake};
use axum::extract::Request;
use axum::http::Version;
use serde_json::Value;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// How long an upgrade may take.
const UPGRADE_TIME: Duration = Duration::from_secs(10);
/// Bytes that are fetched at a time: as old as the last write when they are sent.
const FETCH_BYTES: usize = 16 * 1024;
/// Bytes that may wait for a client that goes on to send.
const MAX_OUT_BYTES: usize = 64 * 1024;

/// A namespace whose session is being admitted.
type Joining = Pin<Box<dyn Future<Output = (String, Result<Admitted, Data>)> + Send>>;

/// Begins a connection.
pub(super) async fn open(
    app: Arc<App>,
    request: Request,
    origin: Arc<Origin>,
) -> Result<Infallible, Problem> {
    let accept = accept(&request)?;
    let permit = app.admit().inspect_err(|problem| app.refused.count(problem.status()))?;
    let takeover = Takeover::of(&request)?;
    let go_on = move |stream: TcpStream, early: Vec<u8>| {
        let session: doors::Session = Box::pin(async move {
            let mut socket = Socket::begin(stream, &early, &accept).await?;
            let settings = Settings::of(&app);
            socket.say(&handshake(&origin.sid, &[], settings.timing, settings.max_payload));
            let connection = Connection::new(origin, settings, Some(permit));
            serve(app, Arc::new(connection), socket).await
        });
        session
    };
    Ok(takeover.take_over(Box::new(go_on)).await)
}

/// Begins the upgrade of a client that polls.
pub(super) async fn upgrade(app: Arc<App>, request: Request, sid: String) -> Result<Infallible, Problem> {
    let accept = accept(&request)?;
    let client = if app.polls.has_upgraded(&sid) { None } else { Some(app.polls.get(&sid)?) };
    let takeover = Takeover::of(&request)?;
    let client = client.filter(|client| !client.is_upgrading.swap(true, Ordering::SeqCst));
    let Some(client) = client else { return Ok(turn_away(takeover, accept).await) };
    let go_on = move |stream: TcpStream, early: Vec<u8>| {
        let session: doors::Session = Box::pin(async move {
            let tried = async {
                let mut socket = Socket::begin(stream, &early, &accept).await?;
                Ok::<_, io::Error>(probe(&mut socket, &client).await?.then_some(socket))
            };
            let tried = tokio::time::timeout(UPGRADE_TIME, tried).await;
            let Ok(Ok(Some(socket))) = tried else {
                client.is_upgrading.store(false, Ordering::SeqCst);
                return Ok(());
            };
            move_over(app, &sid, client, socket).await
        });
        session
    };
    Ok(takeover.take_over(Box::new(go_on)).await)
}

/// Ends a second WebSocket of a client. As the protocol has it, it is answered first.
async fn turn_away(takeover: Takeover, accept: String) -> Infallible {
    let go_on = move |stream: TcpStream, early: Vec<u8>| {
        let session: doors::Session = Box::pin(async move {
            let socket = Socket::begin(stream, &early, &accept).await?;
            socket.close((CloseCode::POLICY, "this client has another WebSocket".to_owned())).await
        });
        session
    };
    takeover.take_over(Box::new(go_on)).await
}

fn accept(request: &Request) -> Result<String, Problem> {
    if request.version() != Version::HTTP_11 {
        return Err(EngineError::Request.because("a WebSocket begins with a request of HTTP/1.1"));
    }
    accept_key(request.headers())
}

/// The first half of an upgrade: the client tries the WebSocket, and the poll that waits is sent home.
/// Returns whether the client goes on with the upgrade.
async fn probe(socket: &mut Socket, client: &Client) -> io::Result<bool> {
    loop {
        socket.flush().await?;
        while let Some(packet) = socket.next() {
            let Ok(Data::Text(text)) = packet else { return Ok(false) };
            match engineio::Packet::read(&text) {
                Ok(engineio::Packet::Ping { is_probe: true }) => {
                    socket.say(&Data::Text("3probe".to_owned()));
                    client.connection.nudge.notify_waiters();
                }
                Ok(engineio::Packet::Upgrade) => return Ok(true),
                _ => return Ok(false),
            }
        }
        socket.flush().await?;
        socket.stream.readable().await?;
        if socket.read()? == Some(0) {
            return Ok(false);
        }
    }
}

/// The second half: what polls have not fetched goes over the WebSocket, before all that follows.
async fn move_over(app: Arc<App>, sid: &str, client: Arc<Client>, mut socket: Socket) -> io::Result<()> {
    if app.polls.leave(sid, Over::Upgraded).is_none() {
        return Ok(());
    }
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
    let connection = &client.connection;
    let Some((outgoing, namespace, slot)) = connection.take_only() else {
        return serve(app, Arc::clone(connection), socket).await;
    };
    // No poll and no post has it any more.
    let Some(Slot { end, unread, seat: Some((room, seat)), .. }) = Arc::into_inner(slot) else {
        return Ok(());
    };
    let mut rest = std::mem::take(&mut socket.out);
    for packet in &outgoing {
        packet.write_frame(&mut rest);
    }
    rest.append(&mut unread.into_inner().unwrap_or_else(PoisonError::into_inner));
    let away = Away::new(&app, connection, &namespace);
    let (stream, early) = socket.into_parts()?;
    size_for_sessions(&stream)?;
    room.replace(seat, Replacement { stream, early, rest, end: end.into_std()?, away });
    Ok(())
}

/// What is kept of a connection that a shard has, whose session is of one namespace.
pub(in crate::server) struct Away {
    app: Weak<App>,
    runtime: Handle,
    origin: Origin,
    /// The namespace without its slash: mostly empty, so that nothing is allocated.
    name: Box<str>,
}

impl Away {
    fn new(app: &Arc<App>, connection: &Connection, namespace: &str) -> Self {
        Self {
            app: Arc::downgrade(app),
            runtime: Handle::current(),
            origin: Origin::clone(&connection.origin),
            name: namespace.trim_start_matches('/').into(),
        }
    }

    /// The client names another namespace, so the connection is here again.
    pub fn take_back(self, homecoming: Homecoming) {
        let Self { app, runtime, origin, name } = self;
        // A server that is gone has no connections.
        let Some(app) = app.upgrade() else { return };
        runtime.spawn(async move {
            if let Err(error) = come_home(app, Arc::new(origin), format!("/{name}"), homecoming).await {
                tracing::debug!("a connection with several namespaces broke: {error}");
            }
        });
    }
}

impl fmt::Debug for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Away").field(&self.name).finish()
    }
}

async fn come_home(
    app: Arc<App>,
    origin: Arc<Origin>,
    namespace: String,
    homecoming: Homecoming,
) -> io::Result<()> {
    let Homecoming { stream, early, rest, pings, end } = homecoming;
    let mut socket = Socket::new(TcpStream::from_std(stream)?);
    socket.out = rest;
    socket.feed(&early);
    let Some(pair) = app.connections.pairs.take() else {
        return socket
            .close((CloseCode::OVERLOADED, "too many connections have several namespaces".to_owned()))
            .await;
    };
    let connection = Connection::new(origin, Settings::of(&app), None);
    connection.adopt(namespace, Slot::new(end, None, pair)?, pings);
    serve(app, Arc::new(connection), socket).await
}

/// Serves a connection until it ends, or a shard has it.
async fn serve(app: Arc<App>, connection: Arc<Connection>, mut socket: Socket) -> io::Result<()> {
    let mut joining: Option<Joining> = None;
    loop {
        while joining.is_none()
            && connection.takes()
            && let Some(data) = socket.next()
        {
            let taken = match data {
                Ok(data) => connection.take(data).map_err(|reason| (CloseCode::POLICY, reason)),
                Err(end) => Err(end),
            };
            let done = match taken {
                Ok(Taken::Close) => Err((CloseCode::NORMAL, String::new())),
                Ok(Taken::Joins { namespace, auth }) => {
                    joining = Some(admit(Arc::clone(&app), Arc::clone(&connection), namespace, auth));
                    Ok(())
                }
                Ok(taken) => connection.settle(&app, taken).await,
                Err(end) => Err(end),
            };
            if let Err(end) = done {
                return socket.close(end).await;
            }
        }
        // Before anything is looked at, so that no change is missed.
        let nudged = connection.nudge.notified();
        if let Some(end) = connection.end() {
            return socket.close(end).await;
        }
        if socket.out.is_empty() {
            let fetched = connection.fetch(FETCH_BYTES);
            fetched.packets.iter().for_each(|packet| socket.say(packet));
            if let Some(end) = fetched.end {
                return socket.close(end).await;
            }
        }
        let is_sent = socket.out.is_empty();
        // Who does not read what is answered is not read either.
        let takes = joining.is_none() && connection.takes() && socket.out.len() < MAX_OUT_BYTES;
        tokio::select! {
            ready = socket.stream.readable(), if takes => {
                ready?;
                if socket.read()? == Some(0) {
                    return Ok(());
                }
            }
            ready = socket.stream.writable(), if !is_sent => {
                ready?;
                socket.write()?;
            }
            () = connection.readable(), if is_sent => {}
            () = nudged => {}
            (namespace, admitted) = joined(&mut joining) => {
                joining = None;
                let done = match admitted {
                    Ok(admitted) if connection.is_empty() && socket.messages.is_empty() => {
                        return hand_over(&app, &connection, namespace, admitted, socket).await;
                    }
                    Ok(admitted) => connection.join(&app, namespace, admitted).await,
                    Err(refusal) => connection.refuse(&app, refusal),
                };
                if let Err(end) = done {
                    return socket.close(end).await;
                }
            }
            () = tokio::time::sleep_until(connection.next_due(is_sent).into()) => {}
        }
    }
}

fn admit(app: Arc<App>, connection: Arc<Connection>, namespace: String, auth: Value) -> Joining {
    Box::pin(async move {
        let admitted = connection.admit(&app, &namespace, &auth).await;
        (namespace, admitted)
    })
}

async fn joined(joining: &mut Option<Joining>) -> (String, Result<Admitted, Data>) {
    match joining {
        Some(joining) => joining.await,
        None => std::future::pending().await,
    }
}

/// Passes a connection with one namespace to a shard.
async fn hand_over(
    app: &Arc<App>,
    connection: &Connection,
    namespace: String,
    admitted: Admitted,
    mut socket: Socket,
) -> io::Result<()> {
    // A refusal may wait, or a heartbeat.
    connection.fetch(0).packets.iter().for_each(|packet| socket.say(packet));
    socket.say(&connection.connected(&namespace));
    let head = std::mem::take(&mut socket.out);
    let away = Away::new(app, connection, &namespace);
    let (stream, early) = socket.into_parts()?;
    admitted.hand_over(&head, TcpStream::from_std(stream)?, early, Some(away)).await
}
