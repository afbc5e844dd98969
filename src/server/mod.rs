//! Everything with a socket: HTTP routes, the WebSocket upgrade, the fan-out shards.
//!
//! axum answers HTTP and does the handshake; from then on a WebSocket belongs to one shard, a thread that
//! polls its own sockets and folds the tape for itself. Shards share nothing, and no lock is on the path of a
//! tick.

mod accept;
mod api;
mod body;
mod compress;
mod connections;
mod dashboard;
mod doors;
pub mod fanout;
mod gate;
mod inbox;
mod latency;
mod limits;
pub mod link; // what a session's bytes go over
mod metrics;
mod origin;
mod paced;
mod permits;
mod poll;
mod problem;
mod publish;
mod replay;
pub mod rights;
pub mod room;
mod rooms;
mod shard;
mod stats;
mod watchers; // how many watch each symbol

pub use publish::PublishRule;
pub use replay::ControlRule;

use crate::feed::{Source, Stop};
use crate::hub::Replica;
use crate::market::{Speed, Timestamp};
use crate::record::{Failure, Output, Recording, RecordingStatus, Written};
use crate::tape::Log;
use crate::wire::CloseCode;
use crate::wire::engineio::Timing;
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use body::Memory;
use connections::{Connections, Places};
use doors::socketio::Polls;
use futures_util::future::join_all;
use gate::{Gate, RefusedRequests};
use metrics::Refused;
use permits::Permit;
use problem::Problem;
use publish::RejectedEvents;
use room::{Beginning, Folded, Known, Parts, Room, start_shards};
use rooms::Rooms;
use shard::Shard;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

/// What a server is made of.
pub struct Config {
    /// The addresses to listen at; port 0 takes a free one, the same for all.
    pub listen: Vec<SocketAddr>,
    /// Fan-out threads.
    pub shards: NonZeroUsize,
    /// WebSocket connections in total; more are refused with 503.
    pub max_connections: usize,
    /// Connections that speak HTTP, in total; more are refused with 503.
    pub max_http_connections: usize,
    /// Origins of pages that may connect, in addition to the server's own and loopback ones:
    /// `https://desk.example`, a host, or `*`.
    pub allowed_origins: Vec<String>,
    /// The feed to play; `None`: only publications.
    pub source: Option<Arc<dyn Source>>,
    /// How fast the feed's clock runs.
    pub speed: Speed,
    /// The moment to play it from; `None`: the beginning.
    pub start: Option<Timestamp>,
    /// The longest wait for a moment of it, in wall time; `None`: no bound.
    pub max_gap: Option<Duration>,
    /// Who may control that.
    pub control: ControlRule,
    /// Who may publish.
    pub publish: PublishRule,
    /// Whether every published trade counts for everything, whatever its publisher states.
    pub all_prints: bool,
    /// Private markets at a time.
    pub max_rooms: usize,
    /// A private market that is paused or at its end is closed after this long without a request.
    pub room_idle: Duration,
    /// The log of all that is played and published. One that has entries already is read first.
    pub log: Box<dyn Log>,
    /// The recording of the tape, and its source as stated there.
    pub record: Option<(Output, String)>,
    /// Whether sessions may watch the topic `stats`, which is about other sessions. `None`: those of this
    /// machine may, if only this machine reaches the server.
    pub ops: Option<bool>,
    /// Whether sessions may have their own connection impaired (`fault`), for tests.
    pub allow_faults: bool,
    /// Lets the door of Socket.IO send back what comes, with heartbeats at these times, as the public test
    /// suites want it ([`Timing::OF_SUITES`]).
    pub protocol_echo: Option<Timing>,
}

/// A running server.
pub struct Server {
    app: Arc<App>,
    addresses: Vec<SocketAddr>,
    recording: Option<Recording>,
    tape: std::thread::JoinHandle<()>,
    stop: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
    telling: tokio::task::JoinHandle<()>,
    watching: tokio::task::JoinHandle<()>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("cannot serve on {0} (another address: --listen HOST:PORT): {1}")]
    Listen(SocketAddr, io::Error),
    #[error("no address to serve on")]
    NoAddress,
    #[error("cannot record: {0}")]
    Record(Failure),
    #[error("cannot start: {0}")]
    System(io::Error),
}

// The messages above contain them in full; as sources they would be printed twice.

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Record(failure)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// What the routes share.
struct App {
    public: Arc<Room>,
    /// The public market, folded.
    folded: Arc<Folded>,
    rooms: Arc<Rooms>,
    gate: Gate,
    recording: Option<Arc<RecordingStatus>>,
    connections: Arc<Connections>,
    polls: Polls,
    answers: poll::Answers,
    memory: Memory,
    refused: Refused,
    requests_refused: RefusedRequests,
    events_rejected: Arc<RejectedEvents>,
    all_prints: bool,
    started: Timestamp,
    leaving: AtomicBool,
    protocol_echo: Option<Timing>,
}

/// Connections that may be queued to be accepted.
const BACKLOG: u32 = 4096;
/// Free ports that are tried for several addresses, which must all have the same.
const PORTS_TRIED: usize = 16;
/// Bytes that the kernel keeps of an answer for a client that does not read it.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// Descriptors for other than connections: files, the runtime's, and those of each shard and each room.
const DESCRIPTORS: usize = 32;
const DESCRIPTORS_EACH: usize = 4;
/// How long running requests may take once the server shuts down.
const DRAIN: Duration = Duration::from_secs(2);
/// When clients may come back to a server that shuts down.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Server {
    /// Starts the tape, the shards and the listener.
    ///
    /// # Errors
    /// [`StartError`]: an address in use, a file that cannot be written, no threads or descriptors left.
    #[expect(clippy::unused_async, reason = "it spawns tasks, so it must be called within a runtime")]
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let listeners = listen(&config.listen)?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let reserved = DESCRIPTORS + DESCRIPTORS_EACH * (config.shards.get() + config.max_rooms);
        let limit = descriptor_limit();
        let places = Places::within(limit, reserved, config.max_connections, config.max_http_connections);
        let epoch = config.log.epoch();
        let folded = Folded::new(epoch);
        let (shards, mut readers) = start_shards(config.shards.get(), None, epoch)?;
        readers.push(Box::new(folded.reader()));
        // Last of all: a server that cannot start must not overwrite a recording, nor leave an empty one.
        let recording =
            config.record.map(|(to, about)| Recording::start(to, epoch, &about, Timestamp::now()));
        let mut recording = recording.transpose()?;
        if let Some(recording) = &mut recording {
            readers.push(Box::new(recording.reader()));
        }
        let beginning = Beginning { speed: config.speed, start: config.start, max_gap: config.max_gap };
        let started = Room::start(Parts {
            name: None,
            log: config.log,
            source: config.source,
            beginning,
            readers,
            known: Known::Folded(Arc::clone(&folded)),
            shards,
            access: None,
            presence: Arc::default(),
            share: None,
            span: None,
            stop: Stop::default(),
        });
        let (public, tape) = match started {
            Ok(started) => started,
            Err(error) => {
                recording.into_iter().for_each(Recording::discard);
                return Err(error.into());
            }
        };
        let (stop, stopped) = watch::channel(false);
        let app = Arc::new(App {
            public,
            folded,
            rooms: Arc::new(Rooms::new(config.max_rooms, config.room_idle)),
            gate: Gate {
                control: config.control,
                publish: config.publish,
                ops: config.ops,
                allow_faults: config.allow_faults,
                allowed_origins: config.allowed_origins,
                is_local: addresses.iter().all(|address| address.ip().is_loopback()),
            },
            recording: recording.as_ref().map(|recording| Arc::clone(recording.status())),
            connections: Arc::new(Connections::new(places)),
            polls: Polls::new(places.http),
            answers: poll::Answers::new(places.http, stopped.clone()),
            memory: Memory::new(),
            refused: Refused::default(),
            requests_refused: RefusedRequests::default(),
            events_rejected: Arc::default(),
            all_prints: config.all_prints,
            started: Timestamp::now(),
            leaving: AtomicBool::new(false),
            protocol_echo: config.protocol_echo,
        });
        let telling = tokio::spawn(stats::tell(Arc::clone(&app), stopped.clone()));
        let watching = tokio::spawn(watch(Arc::clone(&app), stopped.clone()));
        let (polling, polls_stopped) = (Arc::clone(&app), stopped.clone());
        tokio::spawn(async move { polling.polls.sweep(polls_stopped).await });
        let routes = routes(Arc::clone(&app));
        let accepting = listeners.into_iter().map(|listener| {
            connections::accept(listener, Arc::clone(&app.connections), routes.clone(), stopped.clone())
        });
        let accepting = join_all(accepting.collect::<Vec<_>>());
        let accepting = tokio::spawn(async { drop(accepting.await) });
        Ok(Self { app, addresses, recording, tape, stop, accepting, telling, watching })
    }

    /// The first of the addresses that it listens at.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// WebSocket connections that are possible: fewer than configured if the process may not have as many
    /// descriptors.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.app.connections.sockets.all()
    }

    /// Waits until the market fails, for example because its log has failed. Returns why.
    pub async fn failed(&self) -> String {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.app.public.progress.end().when_over(move || _ = tell.send(()));
        let _ = told.await;
        room::FAILED.to_owned()
    }

    /// Stops accepting, says goodbye to every client, and waits until all are gone, a few seconds at most.
    /// Returns the outcome of the recording, if there is one.
    pub async fn shutdown(self) -> Option<Result<Written, Failure>> {
        let Self { app, recording, tape, stop, accepting, telling, watching, .. } = self;
        app.leaving.store(true, Ordering::Relaxed);
        let _ = stop.send(true);
        // Before the goodbyes: a shard without sessions ends at once, and would be taken for a failed market
        // while others are still to be told why the server leaves.
        let _ = watching.await;
        app.public.say_goodbye(CloseCode::RESTART, "server is shutting down", RETRY_AFTER);
        let rooms = app.rooms.leave(CloseCode::RESTART, "server is shutting down", RETRY_AFTER);
        let _ = telling.await;
        let _ = accepting.await;
        app.public.end();
        let said = async {
            for room in &rooms {
                room.emptied().await;
            }
        };
        let _ = tokio::time::timeout(DRAIN, said).await;
        let joined = tokio::task::spawn_blocking(move || {
            app.public.shards().iter().for_each(Shard::join);
            let _ = tape.join();
        });
        // A feed that hangs in the file system blocks the tape's thread; it must not block the process.
        let _ = tokio::time::timeout(DRAIN * 2, joined).await;
        let recording = recording?;
        tokio::task::spawn_blocking(|| recording.finish()).await.ok()
    }
}

impl App {
    fn replica(&self) -> MutexGuard<'_, Replica> {
        self.folded.replica()
    }

    /// A permit for the next connection.
    fn admit(&self) -> Result<Permit, Problem> {
        let refuse =
            |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "5");
        if self.leaving.load(Ordering::Relaxed) {
            return Err(refuse("the server is shutting down"));
        }
        if self.public.failure().is_some() {
            return Err(refuse(room::FAILED));
        }
        self.connections.sockets.take().ok_or_else(|| refuse("the server has as many connections as it may"))
    }
}

/// Says goodbye to all in the public market if it fails. If it was ended, the code that ended it does that.
async fn watch(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        () = app.public.failed() => {
            app.public.say_goodbye(CloseCode::SERVER_ERROR, "the market has failed", RETRY_AFTER);
        }
        _ = stopped.changed() => {}
    }
}

fn routes(app: Arc<App>) -> Router {
    // Answers that end. A session's never does, and its socket leaves HTTP, so nothing here sees its bytes.
    let compressed = Router::new()
        .route("/v1/instruments", get(api::instruments))
        .route("/v1/quotes", get(api::quotes))
        .route("/v1/trades", get(api::trades))
        .route("/v1/trades/{*symbol}", get(api::trades_of))
        .route("/v1/bars", get(api::bars))
        .route("/v1/bars/{*symbol}", get(api::bars_of))
        .route("/v1/poll", get(poll::poll))
        .route("/v1/feed", get(api::feed))
        .route("/v1/openapi.json", get(api::openapi))
        .route("/v1/asyncapi.json", get(api::asyncapi))
        .route("/metrics", get(metrics::metrics))
        .fallback(page_or_problem)
        .layer(compress::layer())
        .layer(map_response(compress::weaken));
    let mut routes = Router::new();
    if app.protocol_echo.is_some() {
        routes = routes.route("/engine.io/", any(doors::socketio::engine));
    }
    routes
        .route("/v1/ws", any(doors::websocket::upgrade))
        .route("/v1/sse", any(doors::stream::events))
        .route("/v1/lines", any(doors::stream::lines))
        .route("/socket.io", any(doors::socketio::engine))
        .route("/socket.io/", any(doors::socketio::engine))
        .route("/socket.io/msgpack", any(doors::socketio::engine))
        .route("/socket.io/msgpack/", any(doors::socketio::engine))
        .route("/v1/publish", post(publish::publish))
        .route("/v1/replay", get(replay::state).post(replay::control))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/version", get(api::version))
        .merge(compressed)
        .method_not_allowed_fallback(api::wrong_method)
        .layer(from_fn_with_state(Arc::clone(&app), gate::gate))
        .with_state(app)
}

async fn page_or_problem(request: Request) -> Response {
    let is_read = request.method() == "GET" || request.method() == "HEAD";
    match dashboard::file(&request) {
        Some(file) if is_read => file,
        Some(_) => Problem::wrong_method(request.method(), request.uri())
            .header(header::ALLOW, "GET,HEAD")
            .into_response(),
        None => api::not_found(request.uri()).into_response(),
    }
}

/// Listens at all of these addresses. If the first takes a free port the others take the same.
fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let is_in_use = |error: &StartError| matches!(error, StartError::Listen(_, e) if e.kind() == io::ErrorKind::AddrInUse);
    let takes_any = addresses.len() > 1 && addresses.iter().all(|address| address.port() == 0);
    // A port that is free at one address may be taken at another.
    for _ in 1..PORTS_TRIED {
        match listen_once(addresses) {
            Err(error) if takes_any && is_in_use(&error) => {}
            outcome => return outcome,
        }
    }
    listen_once(addresses)
}

fn listen_once(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners = Vec::new();
    let mut port = None;
    for &address in addresses {
        let address = match port {
            Some(port) if address.port() == 0 => SocketAddr::new(address.ip(), port),
            _ => address,
        };
        match listen_at(address) {
            Ok(listener) => {
                port = Some(listener.local_addr()?.port());
                listeners.push(listener);
            }
            // A name may have an IPv6 address that the machine does not have.
            Err(error) if addresses.len() > 1 && is_no_address(&error) => {
                tracing::info!("not serving on {address}: {error}");
            }
            Err(error) => return Err(StartError::Listen(address, error)),
        }
    }
    if listeners.is_empty() { Err(StartError::NoAddress) } else { Ok(listeners) }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server gets its port back at once.
    socket.set_reuseaddr(true)?;
    // Its connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn is_no_address(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// How many descriptors the process may have.
fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}
