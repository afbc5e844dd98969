use super::following::NOT_CONNECTED;
use crate::client::Endpoint;
use anyhow::Result;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use std::io::BufRead;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;

/// A request carries at most so many lines and bytes, and waits so long for more.
const BATCH_LINES: usize = 1000;
const BATCH_BYTES: usize = 1024 * 1024;
const BATCH_IDLE: Duration = Duration::from_millis(20);
/// A longer line is no event.
const LINE_BYTES: usize = 64 * 1024;
/// Lines read ahead while a request is under way.
const LINES_WAITING: usize = 64;
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How often a server that is busy is asked again.
const ATTEMPTS: u32 = 10;

/// Publish events from standard input: one JSON object per line.
///
/// Lines are sent in order, in batches. Every line that the server refuses is told with its number and the reason. Exit codes: 0 all
/// accepted, 1 some refused or the server failed, 2 usage, 3 cannot connect.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  echo '{\"type\":\"trade\",\"symbol\":\"MINE\",\"price\":\"1.25\",\"size\":10}' | tickcast publish
  tickcast publish ws://desk:8080 < events.ndjson")]
pub struct Args {
    /// The server: ws://HOST:PORT or http://HOST:PORT
    #[arg(env = "TICKCAST_URL", default_value = "ws://127.0.0.1:8080")]
    pub url: String,

    /// Do not sum up at the end
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
    /// Numbers of those too long to send; blank in the body, so that the others keep their places.
    too_long: Vec<u64>,
}

/// One line of the input, with its newline; `None` for one that is too long.
type Line = Option<Vec<u8>>;

#[derive(Deserialize)]
struct Answer {
    accepted: u64,
    #[serde(default)]
    rejected: Vec<Rejected>,
    /// Where more were rejected than are told.
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
enum Failure {
    NotConnected(String),
    Other(String),
}

#[derive(Default)]
struct Totals {
    accepted: u64,
    refused: u64,
}

/// Publishes until the input ends or Ctrl-C is pressed; what was read by then is still sent.
///
/// # Errors
/// None: whatever goes wrong is told and has its exit code.
pub async fn run(args: Args) -> Result<ExitCode> {
    let endpoint = match Endpoint::parse(&args.url) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            say!("tickcast: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let url = endpoint.http("/v1/publish");
    let client: Http = Client::builder(TokioExecutor::new()).build_http();
    let mut input = Input { lines: read_lines(), interrupted: Some(Box::pin(interrupted())) };
    let mut totals = Totals::default();
    let mut next = 1;
    let failure = loop {
        let Some(batch) = Batch::read(next, &mut input).await else { break None };
        next += batch.lines as u64;
        if let Err(failure) = send(&client, &url, batch, &mut totals).await {
            break Some(failure);
        }
    };
    if !args.quiet {
        say!("tickcast: {} accepted, {} refused", totals.accepted, totals.refused);
    }
    Ok(match failure {
        Some(Failure::NotConnected(reason)) => {
            say!("tickcast: cannot connect to {endpoint}: {reason} (is the server running?)");
            ExitCode::from(NOT_CONNECTED)
        }
        Some(Failure::Other(reason)) => {
            say!("tickcast: {reason}");
            ExitCode::FAILURE
        }
        None if totals.refused > 0 => ExitCode::FAILURE,
        None => ExitCode::SUCCESS,
    })
}

/// Lines, until they end or somebody presses Ctrl-C; what was read ahead by then still comes.
struct Input {
    lines: mpsc::Receiver<Line>,
    /// Pending until Ctrl-C; `None` behind it.
    interrupted: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Input {
    /// Loses no line where it is given up.
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

async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the signal ends the process by itself.
        std::future::pending::<()>().await;
    }
}

type Http = Client<HttpConnector, Full<Bytes>>;

/// Reads standard input on a thread of its own, because a read that blocks cannot be given up, and must not hold up the exit.
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

/// The next line; passes over the rest of one that is too long. `None` at the end.
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
    /// Lines that come close after one another; `None` at the end of the input.
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

async fn send(client: &Http, url: &str, batch: Batch, totals: &mut Totals) -> Result<(), Failure> {
    for number in &batch.too_long {
        say!("line {number}: longer than {} KiB", LINE_BYTES / 1024);
        totals.refused += 1;
    }
    let range = format!("lines {} to {}", batch.first, batch.first + batch.lines as u64 - 1);
    let body = Bytes::from(batch.body);
    for attempt in 1.. {
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/x-ndjson")
            .body(Full::new(body.clone()))
            .map_err(|error| Failure::Other(error.to_string()))?;
        let answer = client.request(request).await.map_err(|error| {
            let reason =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            if error.is_connect() {
                Failure::NotConnected(reason)
            } else {
                Failure::Other(format!(
                    "{range} may or may not be published: the connection was lost: {reason}"
                ))
            }
        })?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await.map(http_body_util::Collected::to_bytes);
        let body = body.map_err(|error| Failure::Other(format!("{range}: the answer was lost: {error}")))?;
        match head.status {
            StatusCode::OK => {
                let answer = serde_json::from_slice(&body).map_err(|error| {
                    Failure::Other(format!("{range}: this is no answer of a Tickcast server: {error}"))
                })?;
                told(batch.first, &answer, totals);
                return Ok(());
            }
            // Nothing of it was taken: asking again repeats nothing, and keeps the order.
            StatusCode::SERVICE_UNAVAILABLE if attempt < ATTEMPTS => {
                let after =
                    head.headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
                tokio::time::sleep(Duration::from_secs(after.unwrap_or(1).clamp(1, 30))).await;
            }
            status => {
                let problem: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
                let detail = problem
                    .as_ref()
                    .and_then(|problem| problem["detail"].as_str())
                    .unwrap_or("no reason given");
                return Err(Failure::Other(format!("{range}: the server answered {status}: {detail}")));
            }
        }
    }
    Ok(())
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

    /// What is sent for an input, and the numbers of the lines left out.
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
