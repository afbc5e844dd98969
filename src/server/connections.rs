//! Connections while they speak HTTP: how many there may be, how long each step may take, and what happens to
//! those beyond.

use super::doors::{Taken, Takeover};
use super::limits::HTTP;
use super::paced::Paced;
use super::permits::{Permit, Permits};
use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

const PROBES: [&[u8]; 3] = [b"healthz", b"readyz", b"metrics"];
/// Bytes of a request that are enough to recognize a probe.
const FIRST_WORDS: usize = 128;
/// How long running requests may take once the server shuts down.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a rejected client may take to read why.
const LINGER: Duration = Duration::from_secs(1);
/// The answer without a permit: nothing of the request is read, so the answer is always the same.
const NO_PLACE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/problem+json\r\n\
    retry-after: 5\r\n\
    connection: close\r\n\
    content-length: 127\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"the server has as many HTTP \
    connections as it may\"}\n";

/// The permits for connections, and counts of those that lost theirs.
#[derive(Debug)]
pub(super) struct Connections {
    /// Those that have become sessions. They have left HTTP, but take descriptors.
    pub sockets: Permits,
    http: Permits,
    probes: Permits,
    /// Rejected clients that are reading why.
    sent_away: Permits,
    /// Sessions of Socket.IO behind a pair of sockets. As many as may speak HTTP: one that polls has one.
    pub pairs: Permits,
    /// Descriptors for connections of any kind.
    descriptors: usize,
    silent: Mutex<Silent>,
    pub cut: Cut,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    pub sockets: usize,
    pub http: usize,
    pub descriptors: usize,
}

/// Connections whose clients have not sent anything yet, the oldest first.
#[derive(Debug, Default)]
struct Silent {
    came: u64,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// HTTP connections that the server ended or did not accept, by reason.
#[derive(Debug, Default)]
pub(super) struct Cut {
    full: AtomicU64,
    silent: AtomicU64,
    head: AtomicU64,
    unread: AtomicU64,
}

impl Places {
    /// As many as were asked for, if `limit` descriptors suffice for them and `reserved` for all else.
    /// Otherwise those for HTTP get what the sockets leave, a quarter at least, and the sockets the rest.
    pub fn within(limit: usize, reserved: usize, sockets: usize, http: usize) -> Self {
        let descriptors = limit - reserved.min(limit / 2);
        let left = descriptors.saturating_sub(sockets + 2 * HTTP.probes);
        let http = http.min(left.max(descriptors / 4)).max(1);
        let sockets = sockets.min(descriptors.saturating_sub(http + 2 * HTTP.probes));
        Self { sockets, http, descriptors }
    }
}

impl Cut {
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        [("full", &self.full), ("silent", &self.silent), ("head", &self.head), ("unread", &self.unread)]
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }
}

impl Connections {
    pub fn new(places: Places) -> Self {
        Self {
            sockets: Permits::new(places.sockets),
            http: Permits::new(places.http),
            probes: Permits::new(HTTP.probes),
            sent_away: Permits::new(HTTP.probes),
            // Each takes two descriptors.
            pairs: Permits::new(places.http.min(places.descriptors / 4)),
            descriptors: places.descriptors,
            silent: Mutex::default(),
            cut: Cut::default(),
        }
    }

    /// Those that speak HTTP now, or have not sent anything yet.
    pub fn http(&self) -> usize {
        let silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner).waiting.len();
        silent + self.http.taken() + self.probes.taken()
    }

    pub fn max_http(&self) -> usize {
        self.http.all()
    }

    /// Registers a connection that has not sent anything yet. If there are no descriptors for more, the one
    /// that has been silent longest is dropped: an honest client sends at once.
    fn wait(&self) -> (u64, oneshot::Receiver<()>) {
        let taken = self.sockets.taken() + self.http.taken() + self.probes.taken();
        let most = self.descriptors.saturating_sub(taken).max(HTTP.probes);
        let (displace, displaced) = oneshot::channel();
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        silent.came += 1;
        let number = silent.came;
        silent.waiting.insert(number, displace);
        while silent.waiting.len() > most
            && let Some((_, longest)) = silent.waiting.pop_first()
        {
            let _ = longest.send(());
        }
        (number, displaced)
    }

    /// Waits for the first bytes of a client; `None` if none come.
    async fn first_words(
        &self,
        stream: &TcpStream,
        stopped: &mut watch::Receiver<bool>,
    ) -> Option<[u8; FIRST_WORDS]> {
        let (number, displaced) = self.wait();
        let mut words = [0; FIRST_WORDS];
        let said = tokio::select! {
            said = tokio::time::timeout(HTTP.head_time, stream.peek(&mut words)) => said.ok(),
            _ = displaced => None,
            _ = stopped.changed() => Some(Ok(0)),
        };
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&number);
        let Some(said) = said else {
            self.cut.silent.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        said.is_ok_and(|len| len > 0).then_some(words)
    }

    /// Serves one connection from its first byte on, if there is a permit for it.
    async fn serve(&self, stream: TcpStream, words: &[u8], routes: Router, stopped: watch::Receiver<bool>) {
        let (permit, keep_alive) = match self.http.take() {
            Some(permit) => (permit, true),
            None => match self.probes.take().filter(|_| is_probe(words)) {
                Some(permit) => (permit, false),
                None => return Box::pin(self.send_away(stream)).await,
            },
        };
        // Boxed, so that connections that are still silent take no memory for it, and gone before a session
        // begins, which takes memory for long.
        let session = Box::pin(self.speak(stream, permit, keep_alive, routes, stopped)).await;
        if let Some((taken, stream, early)) = session
            && let Err(error) = taken.hand_over(stream, early).await
        {
            tracing::debug!("a connection broke during its handshake: {error}");
        }
    }

    /// Speaks HTTP until the connection ends, or is taken: then what took it, and the bytes after its
    /// handshake.
    async fn speak(
        &self,
        stream: TcpStream,
        _permit: Permit,
        keep_alive: bool,
        routes: Router,
        mut stopped: watch::Receiver<bool>,
    ) -> Option<(Taken, TcpStream, Vec<u8>)> {
        let mut http = http1::Builder::new();
        // Counts from the end of an answer, too, so idle connections end.
        http.timer(TokioTimer::new()).header_read_timeout(HTTP.head_time);
        http.max_header_size(HTTP.head_bytes).max_buf_size(HTTP.head_bytes).keep_alive(keep_alive);
        let (stream, marks) = Paced::new(stream);
        let routes = TowerToHyperService::new(routes);
        let (takeover, mut taken) = Takeover::new();
        let service = service_fn(|mut request: Request<Incoming>| {
            request.extensions_mut().insert(takeover.clone());
            routes.call(request)
        });
        let mut connection = http.serve_connection(TokioIo::new(stream), service);
        let mut is_stopping = false;
        let ended = loop {
            tokio::select! {
                // In this order a connection is taken in the poll in which its request was read: another turn
                // of the runtime, and as many buffers are held as there are handshakes at that moment.
                biased;
                ended = &mut connection => break ended,
                Ok(taken) = &mut taken => {
                    let parts = connection.into_parts();
                    return Some((taken, parts.io.into_inner().into_stream(), parts.read_buf.to_vec()));
                }
                _ = stopped.changed(), if !is_stopping => {
                    is_stopping = true;
                    Pin::new(&mut connection).graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!("a connection ended early: {error}");
            let is_head = error.is_parse_too_large() || (error.is_timeout() && marks.is_unanswered());
            if marks.is_unread() {
                self.cut.unread.fetch_add(1, Ordering::Relaxed);
            } else if is_head {
                self.cut.head.fetch_add(1, Ordering::Relaxed);
            }
        }
        None
    }

    /// Asks a client without a permit to come back later.
    async fn send_away(&self, mut stream: TcpStream) {
        self.cut.full.fetch_add(1, Ordering::Relaxed);
        let mut request = vec![0; 8 * 1024];
        // Closing a socket with unread bytes would discard the answer.
        let _ = stream.try_read(&mut request);
        let _ = stream.try_write(NO_PLACE);
        let Some(_permit) = self.sent_away.take() else { return };
        let read = async {
            let _ = stream.shutdown().await;
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
        };
        let _ = tokio::time::timeout(LINGER, read).await;
    }
}

/// Accepts until it is stopped. hyper takes 16 KiB for a connection from its start, and what a burst of them
/// took stays with the process. So a connection is hyper's only from its first byte on, and a WebSocket's
/// handshake is over at once. axum's own loop has no timeout for slow requests.
pub(super) async fn accept(
    listener: TcpListener,
    connections: Arc<Connections>,
    routes: Router,
    mut stopped: watch::Receiver<bool>,
) {
    // Closed when the last connection has dropped its half.
    let (under_way, mut all_done) = mpsc::channel::<()>(1);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("a connection could not be accepted: {error}");
                    // Most likely out of descriptors; accepting again at once would spin.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            _ = stopped.changed() => break,
        };
        let (connections, routes) = (Arc::clone(&connections), routes.clone());
        let (mut stopped, under_way) = (stopped.clone(), under_way.clone());
        tokio::spawn(async move {
            if let Some(words) = connections.first_words(&stream, &mut stopped).await {
                connections.serve(stream, &words, routes, stopped).await;
            }
            drop(under_way);
        });
    }
    drop((listener, under_way));
    // Requests that take longer than this lose their connection when the process ends.
    let _ = tokio::time::timeout(DRAIN, all_done.recv()).await;
}

/// Whether a request is a probe of the server, under any prefix.
fn is_probe(words: &[u8]) -> bool {
    let target = words.split(|&b| b == b' ').nth(1).unwrap_or_default();
    let path = target.split(|&b| b == b'?').next().unwrap_or_default();
    path.rsplit(|&b| b == b'/').next().is_some_and(|last| PROBES.contains(&last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_are_known_by_their_first_words() {
        for line in ["GET /healthz HTTP/1.1", "HEAD /readyz HTTP/1.0", "GET /market/metrics?x=1 HTTP/1.1"] {
            assert!(is_probe(line.as_bytes()), "{line}");
        }
        for line in
            ["GET / HTTP/1.1", "GET /v1/ws?topics=healthz HTTP/1.1", "GET", "", "GET /metricsx HTTP/1.1"]
        {
            assert!(!is_probe(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn scarce_descriptors_leave_a_part_to_each_kind() {
        let whole = Places { sockets: 10_000, http: 1000, descriptors: 20_000 - 100 };
        assert_eq!(Places::within(20_000, 100, 10_000, 1000), whole);
        let polled = Places { sockets: 100, http: 12_000, descriptors: 20_000 - 100 };
        assert_eq!(Places::within(20_000, 100, 100, 12_000), polled);
        assert_eq!(
            Places::within(256, 100, 10_000, 1000),
            Places { sockets: 85, http: 39, descriptors: 156 }
        );
        let scarce = Places::within(20, 100, 10_000, 1000);
        assert_eq!(scarce, Places { sockets: 0, http: 2, descriptors: 10 });
    }

    #[test]
    fn what_one_is_told_who_finds_no_place_is_as_long_as_it_says() {
        let text = str::from_utf8(NO_PLACE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
