//! Everything with a socket: HTTP routes, the WebSocket upgrade, the fan-out shards.
//!
//! axum answers HTTP and does the handshake; from then on a WebSocket belongs to one shard, a thread that polls its own sockets
//! and folds the tape for itself. Nothing is shared between shards, and nothing is locked on the way of a tick.

mod api;
mod dashboard;
pub mod fanout;
mod inbox;
mod latency;
mod metrics;
mod origin;
mod problem;
mod publish;
mod replay;
pub mod room;
mod rooms;
mod seats;
mod shard;
mod stats;
mod upgrade;

pub use replay::ControlRule;

use crate::feed::Source;
use crate::hub::Replica;
use crate::market::{Speed, Timestamp};
use crate::record::{Failure, Output, Recording, RecordingStatus, Written};
use crate::tape::{Epoch, Publisher, Reader};
use crate::wire::CloseCode;
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::Refused;
use problem::Problem;
use room::{Beginning, Room};
use rooms::Rooms;
use seats::{Seat, Seats};
use shard::Shard;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

/// What a server is made of.
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Fan-out threads.
    pub shards: NonZeroUsize,
    /// WebSocket connections in all; more are refused with 503.
    pub max_connections: usize,
    /// Origins of pages that may connect, besides the server's own and loopback ones: `https://desk.example`, a host, or `*`.
    pub allowed_origins: Vec<String>,
    /// What is played; `None`: only what is published.
    pub source: Option<Arc<dyn Source>>,
    /// How fast the feed's clock runs.
    pub speed: Speed,
    /// From where it is played; `None`: from the beginning.
    pub start: Option<Timestamp>,
    /// No moment of it is waited for any longer; `None`: however long it takes.
    pub max_gap: Option<Duration>,
    /// Who may control that.
    pub control: ControlRule,
    /// Private markets at a time.
    pub max_rooms: usize,
    /// A private market that is paused or at its end is closed when nobody asked anything of it for so long.
    pub room_idle: Duration,
    /// The life of the tape that begins now.
    pub epoch: Epoch,
    /// Where the tape is written down, and what is to be said of it there.
    pub record: Option<(Output, String)>,
    /// Whether sessions may watch the topic `stats`, which tells of other sessions.
    pub ops: bool,
    /// Whether sessions may ask for the way to them to be broken (`fault`), which is for tests.
    pub allow_faults: bool,
}

/// A running server.
pub struct Server {
    app: Arc<App>,
    address: SocketAddr,
    recording: Option<Recording>,
    tape: std::thread::JoinHandle<()>,
    stop: watch::Sender<bool>,
    accepting: tokio::task::JoinHandle<()>,
    telling: tokio::task::JoinHandle<()>,
}

/// What stands in the way of starting a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    #[error("cannot serve on {0} (another address: --listen HOST:PORT): {1}")]
    Listen(SocketAddr, io::Error),
    #[error("cannot record: {0}")]
    Record(#[from] Failure),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// What the routes share.
struct App {
    public: Arc<Room>,
    rooms: Arc<Rooms>,
    control: ControlRule,
    recording: Option<Arc<RecordingStatus>>,
    shards: Vec<Shard>,
    next_shard: AtomicUsize,
    seats: Seats,
    refused: Refused,
    started: Timestamp,
    allowed_origins: Vec<String>,
    /// Whether only this machine can reach the server.
    is_local: bool,
    leaving: AtomicBool,
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4096;
/// A client that has not sent its request by then is not going to.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long requests under way may take once the server leaves.
const DRAIN: Duration = Duration::from_secs(2);
/// When clients may come back to a server that leaves.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Server {
    /// Starts the tape, the shards and the listener.
    ///
    /// # Errors
    /// [`StartError`]: an address in use, a file that cannot be written, no threads or descriptors left.
    #[expect(clippy::unused_async, reason = "it spawns tasks, so it must be called within a runtime")]
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let listener = listen(config.listen).map_err(|error| StartError::Listen(config.listen, error))?;
        let address = listener.local_addr()?;
        let epoch = config.epoch;
        // Only now that it has its address: a server that cannot start must not overwrite a recording, nor leave an empty one.
        let recording =
            config.record.map(|(to, about)| Recording::start(to, epoch, &about, Timestamp::now()));
        let mut recording = recording.transpose()?;
        let mut readers: Vec<Box<dyn Reader>> = Vec::new();
        if let Some(recording) = &mut recording {
            readers.push(Box::new(recording.reader()));
        }
        let mut shards = Vec::new();
        for number in 0..config.shards.get() {
            let (shard, reader) = Shard::start(number, epoch, config.ops, config.allow_faults)?;
            shards.push(shard);
            readers.push(Box::new(reader));
        }
        let beginning = Beginning { speed: config.speed, start: config.start, max_gap: config.max_gap };
        let (public, tape) = Room::start(None, epoch, config.source, beginning, readers)?;
        let app = Arc::new(App {
            public,
            rooms: Arc::new(Rooms::new(config.max_rooms, config.room_idle)),
            control: config.control,
            recording: recording.as_ref().map(|recording| Arc::clone(recording.status())),
            shards,
            next_shard: AtomicUsize::new(0),
            seats: Seats::new(config.max_connections),
            refused: Refused::default(),
            started: Timestamp::now(),
            allowed_origins: config.allowed_origins,
            is_local: address.ip().is_loopback(),
            leaving: AtomicBool::new(false),
        });
        for shard in &app.shards {
            shard.serve(app.public.replay_control(), app.may_control());
        }
        let (stop, stopped) = watch::channel(false);
        let telling = tokio::spawn(stats::tell(Arc::clone(&app), stopped.clone()));
        let accepting = tokio::spawn(accept(listener, routes(Arc::clone(&app)), stopped));
        Ok(Self { app, address, recording, tape, stop, accepting, telling })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, says goodbye to every client, and waits for all to be gone, a few seconds at the most. What became of the
    /// recording, where there is one.
    pub async fn shutdown(self) -> Option<Result<Written, Failure>> {
        let Self { app, recording, tape, stop, accepting, telling, .. } = self;
        app.leaving.store(true, Ordering::Relaxed);
        for shard in &app.shards {
            shard.leave(CloseCode::RESTART, "server is shutting down", RETRY_AFTER);
        }
        let _ = stop.send(true);
        let _ = telling.await;
        let _ = accepting.await;
        app.public.end();
        app.rooms.leave(CloseCode::RESTART, "server is shutting down", RETRY_AFTER);
        let joined = tokio::task::spawn_blocking(move || {
            // Upgrades under way may hold the app a little longer; their sockets close with their shard.
            if let Some(app) = Arc::into_inner(app) {
                app.shards.into_iter().for_each(Shard::join);
            }
            let _ = tape.join();
        });
        // A feed that hangs in the file system keeps the tape's thread, and must not keep the process.
        let _ = tokio::time::timeout(DRAIN * 2, joined).await;
        let recording = recording?;
        tokio::task::spawn_blocking(|| recording.finish()).await.ok()
    }
}

impl App {
    fn replica(&self) -> MutexGuard<'_, Replica> {
        self.public.folded.replica()
    }

    fn publisher(&self) -> Option<Publisher> {
        self.public.publisher()
    }

    /// Whether anybody may control what the public market plays.
    fn may_control(&self) -> bool {
        match self.control {
            ControlRule::Off => false,
            ControlRule::Local => self.is_local,
            ControlRule::All => true,
        }
    }

    /// The shard for the next connection, and its seat there.
    fn admit(&self) -> Result<(usize, Seat), Problem> {
        let refuse =
            |detail| Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "5");
        if self.leaving.load(Ordering::Relaxed) {
            return Err(refuse("the server is shutting down"));
        }
        let seat = self.seats.take().ok_or_else(|| refuse("the server has as many connections as it may"))?;
        Ok((self.next_shard.fetch_add(1, Ordering::Relaxed) % self.shards.len(), seat))
    }
}

fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/ws", any(upgrade::upgrade))
        .route("/v1/publish", post(publish::publish))
        .route("/v1/instruments", get(api::instruments))
        .route("/v1/quotes", get(api::quotes))
        .route("/v1/trades/{*symbol}", get(api::trades))
        .route("/v1/bars/{*symbol}", get(api::bars))
        .route("/v1/feed", get(api::feed))
        .route("/v1/replay", get(replay::state).post(replay::control))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(api::healthz))
        .route("/readyz", get(api::readyz))
        .route("/version", get(api::version))
        .fallback(page_or_problem)
        .method_not_allowed_fallback(api::wrong_method)
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

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted server gets its port back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until told to stop. hyper takes 16 KiB for a connection from its first moment on, and what many that come at once took stays with
/// the process: so a connection is hyper's only from its first byte on, and a WebSocket's handshake is over at once.
/// axum's own loop has no timeout for slow requests.
async fn accept(listener: TcpListener, routes: Router, mut stopped: watch::Receiver<bool>) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    // Closed when the last connection has dropped its half.
    let (under_way, mut all_done) = mpsc::channel::<()>(1);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    // Out of descriptors most likely; accepting again at once would spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            _ = stopped.changed() => break,
        };
        let (http, routes) = (http.clone(), routes.clone());
        let (mut stopped, under_way) = (stopped.clone(), under_way.clone());
        tokio::spawn(async move {
            tokio::select! {
                said = tokio::time::timeout(HEADER_TIMEOUT, stream.readable()) => if let Ok(Ok(())) = said {
                    // In a box, so that those who wait above take no room for what comes behind.
                    Box::pin(serve(http, stream, routes, stopped)).await;
                },
                _ = stopped.changed() => {}
            }
            drop(under_way);
        });
    }
    drop((listener, under_way));
    // Requests that take longer than this lose their connection when the process ends.
    let _ = tokio::time::timeout(DRAIN, all_done.recv()).await;
}

/// Serves one connection whose client has begun to speak.
async fn serve(http: http1::Builder, stream: TcpStream, routes: Router, mut stopped: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(routes);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended early: {error}");
    }
}
