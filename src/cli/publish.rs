use super::following::NOT_CONNECTED;
use super::serve::stopped;
use crate::client::{Backoff, Endpoint};
use anyhow::Result;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::http::uri::Authority;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::io::BufRead;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

/// A request has at most so many lines and bytes, and waits so long for more.
const BATCH_LINES: usize = 1000;
const BATCH_BYTES: usize = 1024 * 1024;
const BATCH_IDLE: Duration = Duration::from_millis(20);
/// A longer line is no event.
const LINE_BYTES: usize = 64 * 1024;
/// Lines read ahead while a request is under way.
const LINES_WAITING: usize = 64;
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that does not answer a publication for so long has frozen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// After a stop, pending lines are published for this long at most.
const GRACE: Duration = Duration::from_secs(2);

/// Publish events from standard input: one JSON object per line.
///
/// Lines are sent in order, in batches. Every line that the server refuses is reported with its number and
/// the reason.
///
/// A lost connection is made again, with the waits of `watch`, and what was not acknowledged is sent again
/// where that is safe: where the server did not get it, or was restarted since, so that its market is a new
/// one. So no line is published twice, and none is lost silently: where the same server may or may not have
/// published some, they are reported, and not sent again.
///
/// Exit codes: 0 all accepted; 1 some were refused, may not be published, or the server failed; 2 usage; 3
/// cannot connect.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  echo '{\"type\":\"trade\",\"symbol\":\"MINE\",\"price\":\"1.25\",\"size\":10}' |
    tickcast publish
  tickcast publish ws://desk:8080 < events.ndjson")]
pub struct Args {
    /// The server: ws://HOST:PORT or http://HOST:PORT
    #[arg(env = "TICKCAST_URL", default_value = "ws://127.0.0.1:8080")]
    pub url: String,

    /// Keep trying where the first connection fails
    #[arg(long)]
    pub retry: bool,

    /// Say only which lines were refused or lost
    #[arg(short, long)]
    pub quiet: bool,
}

/// Consecutive lines of the input.
#[derive(Debug, Default, PartialEq, Eq)]
struct Batch {
    /// Number of the first one, from 1.
    first: u64,
    lines: usize,
    body: Vec<u8>,
    /// Numbers of those too long to send; blank in the body, so that the others keep their numbers.
    too_long: Vec<u64>,
}

/// One line of the input, with its newline; `None` for one that is too long.
type Line = Option<Vec<u8>>;

#[derive(Deserialize)]
struct Answer {
    accepted: u64,
    #[serde(default)]
    rejected: Vec<Rejected>,
    /// If more were rejected than are listed.
    #[serde(default)]
    rejected_total: Option<u64>,
}

#[derive(Deserialize)]
struct Rejected {
    /// From 1, within the request.
    line: u64,
    reason: String,
}

/// Why no more is sent.
#[derive(Debug)]
enum Failure {
    NotConnected(String),
    Other(String),
}

#[derive(Default)]
struct Totals {
    accepted: u64,
    refused: u64,
    /// Whether they are published is unknown.
    in_doubt: u64,
}

/// Publishes until the input ends or it is stopped; lines read by then are still sent, if that takes no time.
///
/// # Errors
/// None: failures are reported and have their exit codes.
pub async fn run(args: Args) -> Result<ExitCode> {
    let endpoint = match Endpoint::parse(&args.url) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            say!("tickcast: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let (stop, interrupted) = watch::channel(false);
    tokio::spawn(async move {
        // If signals cannot be waited for, they end the process by themselves.
        if stopped().await.is_ok() {
            stop.send_replace(true);
        }
        // Its absence is not taken for a signal.
        std::future::pending::<()>().await;
    });
    let mut input =
        Input { lines: read_lines(), interrupted: Some(Box::pin(until_interrupted(interrupted.clone()))) };
    let mut publisher = Publisher {
        endpoint,
        retry: args.retry,
        quiet: args.quiet,
        link: None,
        was_connected: false,
        backoff: Backoff::new(rand::random()),
        totals: Totals::default(),
    };
    let mut next = 1;
    let failure = loop {
        let Some(batch) = Batch::read(next, &mut input).await else { break None };
        next += batch.lines as u64;
        let range = batch.range();
        let sent = tokio::select! {
            sent = publisher.send(batch) => sent,
            () = async {
                until_interrupted(interrupted.clone()).await;
                tokio::time::sleep(GRACE).await;
            } => Err(Failure::Other(format!("stopped: {range} and what follows may not be published"))),
        };
        if let Err(failure) = sent {
            break Some(failure);
        }
    };
    let Publisher { endpoint, totals, .. } = publisher;
    if !args.quiet {
        let in_doubt = match totals.in_doubt {
            0 => String::new(),
            count => format!(", {count} perhaps published"),
        };
        say!("tickcast: {} accepted, {} refused{in_doubt}", totals.accepted, totals.refused);
    }
    Ok(match failure {
        Some(Failure::NotConnected(reason)) => {
            say!(
                "tickcast: cannot connect to {endpoint}: {reason} (is the server running? --retry keeps trying)"
            );
            ExitCode::from(NOT_CONNECTED)
        }
        Some(Failure::Other(reason)) => {
            say!("tickcast: {reason}");
            ExitCode::FAILURE
        }
        None if totals.refused + totals.in_doubt > 0 => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

async fn until_interrupted(mut interrupted: watch::Receiver<bool>) {
    if interrupted.wait_for(|&is_interrupted| is_interrupted).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Lines, until they end or Ctrl-C; those read ahead by then are still returned.
struct Input {
    lines: mpsc::Receiver<Line>,
    /// Pending until Ctrl-C; `None` after it.
    interrupted: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Input {
    /// Cancel-safe: loses no line.
    async fn next(&mut self) -> Option<Line> {
        if let Some(interrupted) = &mut self.interrupted {
            tokio::select! {
                // First, because lines may come without a pause.
                biased;
                () = interrupted => {
                    self.interrupted = None;
                    self.lines.close();
                }
                line = self.lines.recv() => return line,
            }
        }
        self.lines.recv().await
    }
}

/// Reads standard input on a thread of its own: a blocking read cannot be cancelled, and must not delay the
/// exit.
fn read_lines() -> mpsc::Receiver<Line> {
    let (sender, lines) = mpsc::channel(LINES_WAITING);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            match read_line(&mut stdin) {
                Ok(Some(line)) => {
                    if sender.blocking_send(line).is_err() {
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    say!("tickcast: cannot read standard input: {error}");
                    break;
                }
            }
        }
    });
    lines
}

/// The next line; skips the rest of one that is too long. `None` at the end.
fn read_line(input: &mut impl BufRead) -> std::io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            let nothing = line.is_empty() && !too_long;
            return Ok((!nothing).then_some((!too_long).then_some(line)));
        }
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let piece = &buffer[..end.map_or(buffer.len(), |end| end + 1)];
        too_long |= line.len() + piece.len() > LINE_BYTES;
        if too_long {
            line = Vec::new();
        } else {
            line.extend_from_slice(piece);
        }
        let read = piece.len();
        input.consume(read);
        if end.is_some() {
            return Ok(Some((!too_long).then_some(line)));
        }
    }
}

impl Batch {
    fn range(&self) -> String {
        match self.lines {
            1 => format!("line {}", self.first),
            lines => format!("lines {} to {}", self.first, self.first + lines as u64 - 1),
        }
    }

    /// Lines that come in quick succession; `None` at the end of the input.
    async fn read(first: u64, input: &mut Input) -> Option<Self> {
        let mut batch = Self { first, ..Self::default() };
        batch.push(input.next().await?);
        while batch.lines < BATCH_LINES && batch.body.len() < BATCH_BYTES {
            match tokio::time::timeout(BATCH_IDLE, input.next()).await {
                Ok(Some(line)) => batch.push(line),
                Ok(None) | Err(_) => break,
            }
        }
        Some(batch)
    }

    fn push(&mut self, line: Line) {
        if let Some(line) = line {
            self.body.extend_from_slice(&line);
            // The last line of the input may have no newline.
            if !line.ends_with(b"\n") {
                self.body.push(b'\n');
            }
        } else {
            self.too_long.push(self.first + self.lines as u64);
            self.body.push(b'\n');
        }
        self.lines += 1;
    }
}

/// One connection to the server, not a pool: it must be known which server may have received a request.
struct Link {
    requests: SendRequest<Full<Bytes>>,
    host: String,
    /// Of the server's tape, if it states one; a restarted server has another.
    epoch: Option<u64>,
}

struct Publisher {
    endpoint: Endpoint,
    /// Whether to keep trying where the first connection fails.
    retry: bool,
    quiet: bool,
    link: Option<Link>,
    was_connected: bool,
    backoff: Backoff,
    totals: Totals,
}

/// The outcome of a request.
enum Sent {
    Answered(StatusCode, Option<Duration>, Bytes),
    /// The server received nothing of it.
    Unsent(String),
    /// Whether the server received it is unknown.
    Lost(String),
}

impl Publisher {
    /// Sends a batch until the server has answered, or until it is unknown whether the server received it.
    async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        for number in &batch.too_long {
            say!("line {number}: longer than {} KiB", LINE_BYTES / 1024);
            self.totals.refused += 1;
        }
        let (range, first, lines) = (batch.range(), batch.first, batch.lines as u64);
        let body = Bytes::from(batch.body);
        // Sent without an answer to the server of this epoch.
        let mut in_doubt: Option<(Option<u64>, String)> = None;
        loop {
            let link = match &mut self.link {
                Some(link) if !link.requests.is_closed() => link,
                _ => self.connect().await?,
            };
            if let Some((epoch, reason)) = in_doubt.take()
                && (epoch.is_none() || epoch == link.epoch)
            {
                say!("{range}: perhaps published, perhaps not, and not sent again: {reason}");
                self.totals.in_doubt += lines;
                return Ok(());
            }
            let epoch = link.epoch;
            let (reason, after) = match post(link, &body).await {
                Sent::Answered(StatusCode::OK, _, body) => {
                    let answer = serde_json::from_slice(&body).map_err(|error| {
                        Failure::Other(format!("{range}: this is no answer of a Tickcast server: {error}"))
                    })?;
                    self.backoff.succeeded();
                    told(first, &answer, &mut self.totals);
                    return Ok(());
                }
                // Nothing of it was accepted: sending it again repeats nothing, and keeps the order.
                Sent::Answered(
                    status @ (StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::REQUEST_TIMEOUT),
                    after,
                    body,
                ) => (answered(status, &body), after),
                // A proxy does not know what the server did.
                Sent::Answered(
                    status @ (StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT),
                    after,
                    body,
                ) => {
                    let reason = answered(status, &body);
                    in_doubt = Some((epoch, reason.clone()));
                    (reason, after)
                }
                Sent::Answered(status, _, body) => {
                    return Err(Failure::Other(format!("{range}: {}", answered(status, &body))));
                }
                Sent::Unsent(reason) => (reason, None),
                Sent::Lost(reason) => {
                    in_doubt = Some((epoch, reason.clone()));
                    (reason, None)
                }
            };
            self.link = None;
            self.wait(&reason, after).await;
        }
    }

    /// Connects, and retries if it was connected before.
    async fn connect(&mut self) -> Result<&mut Link, Failure> {
        loop {
            match timeout(CONNECT_TIMEOUT, open(&self.endpoint)).await {
                Ok(Ok(link)) => {
                    if std::mem::replace(&mut self.was_connected, true) && !self.quiet {
                        say!("tickcast: connected again");
                    }
                    return Ok(self.link.insert(link));
                }
                failed => {
                    let reason = match failed {
                        Ok(Err(reason)) => reason,
                        _ => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
                    };
                    if !self.was_connected && !self.retry {
                        return Err(Failure::NotConnected(reason));
                    }
                    self.wait(&reason, None).await;
                }
            }
        }
    }

    async fn wait(&mut self, reason: &str, after: Option<Duration>) {
        if let Some(after) = after {
            self.backoff.ask(after, after / 2);
        }
        let wait = self.backoff.failed(None);
        if !self.quiet {
            say!("tickcast: {reason}; trying again in {wait:.1?}");
        }
        tokio::time::sleep(wait).await;
    }
}

/// Connects, and requests the epoch of the server's tape.
async fn open(endpoint: &Endpoint) -> Result<Link, String> {
    let authority: Authority = endpoint.authority().parse().map_err(|_| "no address".to_owned())?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let address = (host, authority.port_u16().unwrap_or(80));
    let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let _ = socket.set_nodelay(true);
    let (requests, connection) = handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let mut link = Link { requests, host: endpoint.authority().to_owned(), epoch: None };
    // Of no symbols: the answer has the moment on the tape and nothing else.
    let asked = Request::get("/v1/quotes?symbols=,").header(header::HOST, endpoint.authority());
    let asked = asked.body(Full::default()).map_err(|error| error.to_string())?;
    let answer = link.requests.send_request(asked).await.map_err(|error| because(&error))?;
    let body = whole(answer).await?;
    let told: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
    link.epoch = told.and_then(|told| told["epoch"].as_u64());
    Ok(link)
}

async fn post(link: &mut Link, body: &Bytes) -> Sent {
    let request = Request::post("/v1/publish")
        .header(header::HOST, &link.host)
        .header(header::CONTENT_TYPE, "application/x-ndjson")
        .body(Full::new(body.clone()));
    let request = match request {
        Ok(request) => request,
        Err(error) => return Sent::Unsent(error.to_string()),
    };
    let answered = async {
        // It takes a moment after the last answer. A connection that does not become ready was closed, as an
        // idle one may be.
        if let Err(error) = link.requests.ready().await {
            return Sent::Unsent(format!("the connection was lost: {}", because(&error)));
        }
        let answer = match link.requests.try_send_request(request).await {
            Ok(answer) => answer,
            Err(mut error) => {
                let is_unsent = error.take_message().is_some();
                let reason = format!("the connection was lost: {}", because(error.error()));
                return if is_unsent { Sent::Unsent(reason) } else { Sent::Lost(reason) };
            }
        };
        let status = answer.status();
        let after = answer.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.parse().ok()).map(Duration::from_secs);
        match whole(answer).await {
            Ok(body) => Sent::Answered(status, after.filter(|after| !after.is_zero()), body),
            Err(reason) => Sent::Lost(format!("the answer was lost: {reason}")),
        }
    };
    let silent = || Sent::Lost(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()));
    timeout(ANSWER_TIMEOUT, answered).await.unwrap_or_else(|_| silent())
}

async fn whole(answer: Response<hyper::body::Incoming>) -> Result<Bytes, String> {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
}

fn because(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn answered(status: StatusCode, body: &[u8]) -> String {
    let problem: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str()).unwrap_or("no reason given");
    format!("the server answered {status}: {detail}")
}

fn told(first: u64, answer: &Answer, totals: &mut Totals) {
    for Rejected { line, reason } in &answer.rejected {
        say!("line {}: {reason}", (first + line).saturating_sub(1));
    }
    let told = answer.rejected.len() as u64;
    let refused = answer.rejected_total.unwrap_or(told).max(told);
    if refused > told {
        say!("and {} more lines of this batch", refused - told);
    }
    totals.accepted += answer.accepted;
    totals.refused += refused;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Line> {
        let mut input = std::io::BufReader::with_capacity(7, input);
        std::iter::from_fn(|| read_line(&mut input).unwrap()).collect()
    }

    /// The requests for an input, and the numbers of the lines left out.
    #[track_caller]
    fn check(input: &[u8], body: &str, too_long: &[u64]) {
        let mut batch = Batch { first: 11, ..Batch::default() };
        for line in lines(input) {
            batch.push(line);
        }
        assert_eq!(String::from_utf8(batch.body).unwrap(), body);
        assert_eq!(batch.too_long, too_long);
        assert_eq!(batch.lines, body.lines().count());
    }

    #[test]
    fn every_line_keeps_its_place_in_the_body() {
        check(b"{\"a\":1}\n\n{}\n", "{\"a\":1}\n\n{}\n", &[]);
        check(b"one\ntwo", "one\ntwo\n", &[]);
        check(b"", "", &[]);
    }

    #[test]
    fn a_line_that_is_too_long_is_left_blank_and_named() {
        let long = vec![b'x'; LINE_BYTES + 1];
        check(&[b"a\n", &*long, b"\nb\n"].concat(), "a\n\nb\n", &[12]);
        check(&[b"a\n", &*long].concat(), "a\n\n", &[12]);
    }

    #[test]
    fn refusals_are_counted_even_where_they_are_not_all_told() {
        let answer = |json: &str| {
            let mut totals = Totals::default();
            told(1, &serde_json::from_str(json).unwrap(), &mut totals);
            (totals.accepted, totals.refused)
        };
        assert_eq!(answer(r#"{"accepted":2,"rejected":[{"line":1,"reason":"r"}],"position":5}"#), (2, 1));
        assert_eq!(answer(r#"{"accepted":0,"rejected":[],"rejected_total":1500,"position":5}"#), (0, 1500));
    }

    #[tokio::test]
    async fn a_batch_ends_at_its_limit_or_when_the_input_pauses() {
        let (sender, lines) = mpsc::channel(BATCH_LINES + 1);
        let mut input = Input { lines, interrupted: None };
        for _ in 0..=BATCH_LINES {
            sender.send(Some(b"{}\n".to_vec())).await.unwrap();
        }
        let full = Batch::read(1, &mut input).await.unwrap();
        assert_eq!((full.first, full.lines), (1, BATCH_LINES));
        let rest = Batch::read(1001, &mut input).await.unwrap();
        assert_eq!((rest.first, rest.lines), (1001, 1));
        drop(sender);
        assert_eq!(Batch::read(1002, &mut input).await, None);
    }

    #[tokio::test]
    async fn what_was_read_before_an_interruption_is_still_sent() {
        let (sender, lines) = mpsc::channel(4);
        sender.send(Some(b"{}\n".to_vec())).await.unwrap();
        let mut input = Input { lines, interrupted: Some(Box::pin(std::future::ready(()))) };
        assert_eq!(Batch::read(1, &mut input).await.map(|batch| batch.lines), Some(1));
        assert_eq!(Batch::read(2, &mut input).await, None, "although the sender is still there");
        assert!(sender.is_closed());
    }
}
