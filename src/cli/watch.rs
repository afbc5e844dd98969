use super::following::{Following, INTERRUPTED};
use crate::client::{Change, Client, Endpoint, Event, Options};
use anyhow::{Context, Result};
use std::io::{ErrorKind, IsTerminal};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_stream::StreamExt;

const GAP: u8 = 5;

/// Lines wait at most this long for company, where no person is looking.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// And no more bytes than this.
const FLUSH_BYTES: usize = 64 * 1024;

/// Print a market as it moves: one JSON object per line.
///
/// Every line stands alone: quotes, bars, days and states are whole images as they stand now, trades and closed bars come once each.
/// Trades that the server no longer had are told as {"topic":…,"gap":n}. Exit codes: 0 done, 1 failure, 2 usage, 3 cannot connect,
/// 4 every topic refused, 5 a gap with --fail-on-gap, 130 interrupted before any data.
#[derive(clap::Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = "Examples:
  tickcast watch quote:AAPL trades:AAPL
  tickcast watch ws://desk:8080 'quote:@technology' --max-hz 2 | jq -r '[.topic, .bid, .ask] | @tsv'
  tickcast watch 'trades:*' --duration 10s | wc -l")]
pub struct Args {
    /// A server (ws://HOST:PORT; default: --url), then topics: KIND:SYMBOL, KIND:*, KIND:@SECTOR with KIND one of quote, trades,
    /// bars.1s, bars.1m, day, status; or status alone
    #[arg(value_name = "[URL] TOPIC", required = true)]
    pub words: Vec<String>,

    /// The server, where the first word is none
    #[arg(long, env = "TICKCAST_URL", default_value = "ws://127.0.0.1:8080")]
    pub url: String,

    /// Stop after so many lines
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,

    /// Stop after a while: 10s, 500ms, 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Updates a second at most, from 0.1 to 1000; what happens between is merged
    #[arg(long, value_name = "HZ", value_parser = hz)]
    pub max_hz: Option<f64>,

    /// Let quotes carry the venue's time
    #[arg(long)]
    pub times: bool,

    /// Keep trying where the first connection fails
    #[arg(long)]
    pub retry: bool,

    /// Stop at the first gap, with exit code 5
    #[arg(long)]
    pub fail_on_gap: bool,

    /// Say nothing but data
    #[arg(short, long)]
    pub quiet: bool,
}

/// What follows from an event.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    GoOn,
    Stop(u8),
}

/// Turns events into lines and talk.
#[derive(Debug)]
struct Watch {
    count: Option<u64>,
    fail_on_gap: bool,
    following: Following,
    lines: u64,
    /// Lines not written yet.
    out: Vec<u8>,
}

/// Watches until told to stop.
///
/// # Errors
/// Where the output cannot be written.
pub async fn run(args: Args) -> Result<ExitCode> {
    let (url, topics) = match args.words.split_first() {
        Some((url, topics)) if Endpoint::is_url(url) => (url.clone(), topics.to_vec()),
        _ => (args.url.clone(), args.words.clone()),
    };
    if topics.is_empty() {
        say!("tickcast: name at least one topic, such as quote:AAPL or 'trades:*'");
        return Ok(ExitCode::from(2));
    }
    let mut client = match Client::connect(&url) {
        Ok(client) => client,
        Err(error) => {
            say!("tickcast: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let mut watch = Watch::new(&args, url, topics.len());
    client.subscribe(topics, Options { max_hz: args.max_hz, times: args.times });
    let code = pump(&args, &mut client, &mut watch).await?;
    Ok(ExitCode::from(code))
}

async fn pump(args: &Args, client: &mut Client, watch: &mut Watch) -> Result<u8> {
    let mut stdout = tokio::io::stdout();
    let at_once = std::io::stdout().is_terminal();
    let end = args.duration.map(|duration| Instant::now() + duration);
    let mut flush_at = None;
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let step = tokio::select! {
            event = client.next() => match event {
                Some(event) => watch.take(event),
                None => Step::Stop(1),
            },
            () = until(flush_at) => Step::GoOn,
            () = until(end) => Step::Stop(0),
            result = &mut interrupted => {
                result.context("cannot wait for Ctrl-C")?;
                Step::Stop(if watch.lines > 0 { 0 } else { INTERRUPTED })
            }
        };
        for talk in watch.following.take_talk().iter().filter(|_| !args.quiet) {
            say!("tickcast: {talk}");
        }
        let now = Instant::now();
        if flush_at.is_none() && !watch.out.is_empty() {
            flush_at = Some(now + FLUSH_AFTER);
        }
        let stops = step != Step::GoOn;
        if stops || at_once || watch.out.len() >= FLUSH_BYTES || flush_at.is_some_and(|at| at <= now) {
            flush_at = None;
            let write = async {
                stdout.write_all(&watch.out).await?;
                stdout.flush().await
            };
            let written = tokio::select! {
                written = write => written,
                // Nobody reads: the blocked write would hold up an orderly exit for ever.
                _ = &mut interrupted, if !stops => std::process::exit(0),
            };
            watch.out.clear();
            match written {
                // `| head` has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(0),
                written => written.context("cannot write to standard output")?,
            }
        }
        if let Step::Stop(code) = step {
            return Ok(code);
        }
    }
}

pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl Watch {
    fn new(args: &Args, url: String, topics: usize) -> Self {
        Self {
            count: args.count,
            fail_on_gap: args.fail_on_gap,
            following: Following::new(url, args.retry, topics),
            lines: 0,
            out: Vec::new(),
        }
    }

    fn take(&mut self, event: Event) -> Step {
        match event {
            Event::Replaced => {
                self.following.say("the server began a new tape: everything comes anew".to_owned());
            }
            Event::Update { position, time, changes } => {
                for change in changes {
                    let Some(line) = change.to_json(time, position) else { continue };
                    serde_json::to_writer(&mut self.out, &line).expect("a Vec takes every byte");
                    self.out.push(b'\n');
                    self.lines += 1;
                    if self.fail_on_gap && matches!(change, Change::Gap { .. }) {
                        return Step::Stop(GAP);
                    }
                    if Some(self.lines) == self.count {
                        return Step::Stop(0);
                    }
                }
            }
            event => {
                if let Err(code) = self.following.take(event) {
                    return Step::Stop(code);
                }
            }
        }
        Step::GoOn
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is no length of time such as 10s, 500ms or 1h30m"))?;
    Duration::try_from(parsed).map_err(|_| "a length of time is not negative".to_owned())
}

pub(super) fn hz(text: &str) -> Result<f64, String> {
    use crate::wire::{MAX_HZ, MIN_HZ};
    let hz = text.parse().ok().filter(|hz: &f64| (MIN_HZ..=MAX_HZ).contains(hz));
    hz.ok_or_else(|| format!("{text:?} is no number from {MIN_HZ} to {MAX_HZ}"))
}

#[cfg(test)]
mod tests {
    use super::super::following::{NOT_CONNECTED, REFUSED};
    use super::*;
    use crate::hub::Kind;
    use crate::market::{Instrument, Price, Symbol, Timestamp};
    use crate::tape::{Epoch, Position};
    use crate::wire::{ErrorCode, QuoteFields, Refusal, TopicAnswer};
    use clap::Parser;
    use std::sync::Arc;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn connected() -> Event {
        Event::Connected { server: "s".to_owned(), epoch: Epoch::new(1), position: Position::new(1) }
    }

    fn lost() -> Event {
        Event::Disconnected { reason: "refused".to_owned(), retry_in: Duration::from_secs(1) }
    }

    fn update(changes: &[&str]) -> Event {
        let instrument = Arc::new(Instrument::unknown(Symbol::new("X").unwrap()));
        let change = |name: &&str| match *name {
            "quote" => {
                let quote = QuoteFields {
                    bid: Some(Price::new(150)),
                    ask: Some(Price::NONE),
                    ..QuoteFields::default()
                };
                Change::Quote { instrument: Arc::clone(&instrument), quote, changed: quote }
            }
            "gap" => Change::Gap { instrument: Arc::clone(&instrument), kind: Kind::Trades, missed: 7 },
            _ => Change::Definition(Arc::clone(&instrument)),
        };
        let (position, time) = (Position::new(9), Timestamp::from_micros(1_000_000));
        Event::Update { position, time, changes: changes.iter().map(change).collect() }
    }

    fn refused(topic: &str) -> Event {
        let message = format!("unknown topic {topic:?}: did you mean \"quote:X\"?");
        let error = Refusal { code: ErrorCode::UnknownTopic, message, nearest: None };
        Event::Subscribed { topics: vec![TopicAnswer::refused(topic.to_owned(), error)] }
    }

    /// Takes the events; gives the exit code, if one follows, and the lines.
    #[track_caller]
    fn check(flags: &str, events: Vec<Event>, code: Option<u8>, lines: &str) -> Vec<String> {
        let args = Cli::parse_from(std::iter::once("watch").chain(flags.split_whitespace())).args;
        let mut watch = Watch::new(&args, "ws://x".to_owned(), args.words.len());
        let mut stop = None;
        for event in events {
            assert_eq!(stop, None, "stopped before the last event");
            if let Step::Stop(code) = watch.take(event) {
                stop = Some(code);
            }
        }
        assert_eq!(stop, code);
        assert_eq!(String::from_utf8(watch.out).unwrap(), lines);
        watch.following.take_talk()
    }

    const QUOTE: &str = "{\"topic\":\"quote:X\",\"time\":\"1970-01-01T00:00:01.000000Z\",\"position\":9,\"bid\":\"1.50\",\"ask\":null}\n";
    const LOST: &str =
        "{\"topic\":\"trades:X\",\"time\":\"1970-01-01T00:00:01.000000Z\",\"position\":9,\"gap\":7}\n";

    #[test]
    fn every_line_stands_alone() {
        check("quote:X", vec![connected(), update(&["definition", "quote"])], None, QUOTE);
        check("quote:X", vec![update(&["gap"])], None, LOST);
    }

    #[test]
    fn it_stops_at_the_count() {
        check(
            "quote:X --count 2",
            vec![update(&["quote"]), update(&["quote", "quote"])],
            Some(0),
            &QUOTE.repeat(2),
        );
    }

    #[test]
    fn a_gap_ends_it_where_asked() {
        check(
            "quote:X --fail-on-gap",
            vec![update(&["quote", "gap", "quote"])],
            Some(GAP),
            &format!("{QUOTE}{LOST}"),
        );
    }

    #[test]
    fn only_the_first_connection_must_not_fail() {
        check("quote:X", vec![lost()], Some(NOT_CONNECTED), "");
        check("quote:X --retry", vec![lost()], None, "");
        check("quote:X", vec![connected(), lost()], None, "");
    }

    #[test]
    fn it_ends_when_every_topic_is_refused_and_says_why() {
        check("quote:X qoute:X", vec![connected(), refused("qoute:X")], None, "");
        let talk = check("qoute:X", vec![connected(), refused("qoute:X")], Some(REFUSED), "");
        assert_eq!(talk[1], "qoute:X is refused: unknown topic \"qoute:X\": did you mean \"quote:X\"?");
    }

    #[test]
    fn lengths_of_time_are_read_as_people_write_them() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("-1s"), Err("a length of time is not negative".to_owned()));
        assert!(duration("soon").unwrap_err().contains("10s"));
    }
}
