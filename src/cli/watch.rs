use super::following::{Following, INTERRUPTED};
use super::serve::stopped;
use super::stdout::Stdout;
use super::table::Table;
use crate::client::{Change, Client, Endpoint, Event, Options};
use crate::hub::{Kind, Topic};
use crate::market::Json;
use crate::wire;
use anyhow::Result;
use console::Term;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::Instant;
use tokio_stream::StreamExt;

const GAP: u8 = 5;

/// Output is batched for at most this long, unless a person reads the lines.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// After a stop it waits no longer than this for a reader that takes nothing.
const GRACE: Duration = Duration::from_millis(500);

/// Print a market as it moves: a table on a terminal, else one JSON object per line.
///
/// Every line is self-contained: quotes, bars, days and states are complete, current images, trades and
/// closed bars come once each. A reader that is slower than the market gets fewer lines, of the newest
/// values, never old ones. Trades that could not wait for it, or that the server no longer had, are reported
/// as {"topic":…,"gap":n}.
///
/// Exit codes: 0 done, 1 failure, 2 usage, 3 cannot connect, 4 every topic refused, 5 a gap with
/// --fail-on-gap, 130 interrupted before any data.
#[derive(clap::Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = "Examples:
  tickcast watch quote:AAPL trades:AAPL
  tickcast watch ws://desk:8080 'quote:@technology' --max-hz 2 |
    jq -r '[.topic, .bid, .ask] | @tsv'
  tickcast watch 'trades:*' --duration 10s | wc -l")]
pub struct Args {
    /// A server (ws://HOST:PORT; default: --url), then topics: KIND:SYMBOL, KIND:*, KIND:@SECTOR with KIND
    /// one of quote, trades, bars.1s, bars.1m, day, status, watchers; messages:CHANNEL, states:CHANNEL; or
    /// status alone
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

    /// Print JSON lines, also on a terminal
    #[arg(long, conflicts_with = "table")]
    pub json: bool,

    /// Print a table that is drawn again in place, also where standard output is no terminal
    #[arg(long)]
    pub table: bool,

    /// Say nothing but data
    #[arg(short, long)]
    pub quiet: bool,
}

/// The next step after an event.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    GoOn,
    Stop(u8),
}

/// Turns events into lines, or a table, and messages.
struct Watch {
    count: Option<u64>,
    fail_on_gap: bool,
    following: Following,
    lines: u64,
    view: View,
}

/// Output that is not written yet.
enum View {
    Lines(Vec<u8>),
    Table(Box<Table>),
}

/// Watches until it is stopped.
///
/// # Errors
/// If the output cannot be written.
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
    let mut watch = Watch::new(&args, url, &topics);
    client.subscribe(topics, Options { max_hz: args.max_hz, times: args.times });
    let code = pump(&args, &mut client, &mut watch).await?;
    Ok(ExitCode::from(code))
}

async fn pump(args: &Args, client: &mut Client, watch: &mut Watch) -> Result<u8> {
    let mut stdout = Stdout::open();
    let most = stdout.most();
    let end = args.duration.map(|duration| Instant::now() + duration);
    let mut flush_at = None;
    let mut stop = std::pin::pin!(stopped());
    let mut unread = std::pin::pin!(Stdout::unread());
    loop {
        let mut is_hurried = false;
        let step = tokio::select! {
            event = client.next() => match event {
                Some(event) => watch.take(event),
                None => Step::Stop(1),
            },
            () = until(flush_at) => Step::GoOn,
            () = &mut unread => return Ok(0),
            code = watch.ended(&mut stop, end) => {
                is_hurried = true;
                Step::Stop(code?)
            }
        };
        watch.talk(args.quiet);
        let now = Instant::now();
        if flush_at.is_none() && watch.view.is_pending() {
            flush_at = Some(if watch.view.is_read_at_once() { now } else { now + FLUSH_AFTER });
        }
        let code = if let Step::Stop(code) = step { Some(code) } else { None };
        if code.is_some() || watch.view.is_full(most) || flush_at.is_some_and(|at| at <= now) {
            flush_at = None;
            let bytes = watch.view.take();
            let mut write = std::pin::pin!(stdout.write(&bytes));
            let code = tokio::select! {
                // Output that the reader does not take in time is dropped.
                () = tokio::time::sleep(GRACE), if is_hurried => code,
                ended = watch.ended(&mut stop, end), if !is_hurried => {
                    let _ = tokio::time::timeout(GRACE, &mut write).await;
                    Some(ended?)
                }
                is_read = &mut write => if is_read? { code } else { Some(0) },
            };
            if let Some(code) = code {
                return Ok(code);
            }
        }
    }
}

pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

impl View {
    fn is_pending(&self) -> bool {
        match self {
            Self::Lines(lines) => !lines.is_empty(),
            Self::Table(table) => table.is_changed(),
        }
    }

    /// Whether a person reads each line.
    fn is_read_at_once(&self) -> bool {
        matches!(self, Self::Lines(_)) && Stdout::is_terminal()
    }

    fn is_full(&self, most: usize) -> bool {
        match self {
            Self::Lines(lines) => lines.len() >= most,
            Self::Table(table) => table.is_full(),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Lines(lines) => std::mem::take(lines),
            Self::Table(table) => {
                let (height, width) = Term::stdout().size();
                table.draw(width.into(), height.into())
            }
        }
    }
}

impl Watch {
    fn new(args: &Args, url: String, topics: &[String]) -> Self {
        let is_table = args.table || (Stdout::is_terminal() && !args.json);
        Self {
            count: args.count,
            fail_on_gap: args.fail_on_gap,
            following: Following::new(url, args.retry, topics.len()),
            lines: 0,
            view: if is_table { View::Table(Box::new(Table::new(topics))) } else { View::Lines(Vec::new()) },
        }
    }

    /// Waits for an end from outside; returns the exit code.
    async fn ended(
        &self,
        stop: &mut (impl Future<Output = Result<()>> + Unpin),
        end: Option<Instant>,
    ) -> Result<u8> {
        tokio::select! {
            stopped = stop => stopped.map(|()| if self.lines > 0 { 0 } else { INTERRUPTED }),
            () = until(end) => Ok(0),
        }
    }

    /// Above the table, if that is on the same terminal.
    fn talk(&mut self, is_quiet: bool) {
        for talk in self.following.take_talk().into_iter().filter(|_| !is_quiet) {
            match &mut self.view {
                View::Table(table) if std::io::stderr().is_terminal() => {
                    table.say(format!("tickcast: {talk}"));
                }
                _ => say!("tickcast: {talk}"),
            }
        }
    }

    /// Writes these lines, as many as are wanted.
    fn all(&mut self, lines: impl Iterator<Item = Value>) -> Step {
        for line in lines {
            self.line(&line);
            if Some(self.lines) == self.count {
                return Step::Stop(0);
            }
        }
        Step::GoOn
    }

    /// One that is of no instrument.
    fn line(&mut self, line: &Value) {
        match &mut self.view {
            View::Lines(out) => {
                serde_json::to_writer(&mut *out, line).expect("a Vec takes every byte");
                out.push(b'\n');
            }
            View::Table(table) => table.say(line.to_string()),
        }
        self.lines += 1;
    }

    fn take(&mut self, event: Event) -> Step {
        if let View::Table(table) = &mut self.view {
            match &event {
                Event::Connected { .. } | Event::Live => table.state("live"),
                Event::Stale => table.state("stale"),
                Event::Lagging { by } => table.state(&format!("lagging by {by:.1?}")),
                Event::Disconnected { .. } | Event::Closed { .. } => table.state("disconnected"),
                Event::Replaced => table.clear(),
                _ => {}
            }
        }
        match event {
            Event::Replaced => {
                self.following.say("the server began a new tape: everything comes anew".to_owned());
            }
            Event::Update { position, time, changes } => {
                for change in changes {
                    match &mut self.view {
                        View::Lines(out) => {
                            let Some(line) = change.to_json(time, position) else { continue };
                            serde_json::to_writer(&mut *out, &line).expect("a Vec takes every byte");
                            out.push(b'\n');
                        }
                        View::Table(table) => {
                            table.take(&change, time, position);
                            if matches!(change, Change::Definition(_)) {
                                continue;
                            }
                        }
                    }
                    self.lines += 1;
                    if self.fail_on_gap && matches!(change, Change::Gap { .. }) {
                        return Step::Stop(GAP);
                    }
                    if Some(self.lines) == self.count {
                        return Step::Stop(0);
                    }
                }
            }
            Event::Messages { channel, missed, messages } => {
                let topic = Topic::of(Kind::Messages, &channel).to_string();
                if missed > 0 {
                    self.line(&json!({ "topic": topic, "gap": missed }));
                    if self.fail_on_gap {
                        return Step::Stop(GAP);
                    }
                }
                return self.all(messages.iter().map(|(number, message)| {
                    let mut line = json!({ "topic": topic });
                    if let (Some(line), Value::Object(fields)) =
                        (line.as_object_mut(), wire::json::message(*number, message))
                    {
                        line.extend(fields);
                    }
                    line
                }));
            }
            Event::States { channel, states } => {
                let topic = Topic::of(Kind::States, &channel).to_string();
                return self.all(states.states.iter().map(|(key, data)| {
                    let data = data.as_ref().map_or(Value::Null, Json::value);
                    json!({ "topic": topic, "key": key.as_str(), "data": data })
                }));
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
        Event::Disconnected { code: None, reason: "refused".to_owned(), retry_in: Duration::from_secs(1) }
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

    /// Takes the events; returns the exit code, if one follows, and the lines.
    #[track_caller]
    fn check(flags: &str, events: Vec<Event>, code: Option<u8>, lines: &str) -> Vec<String> {
        let flags = ["watch", "--json"].into_iter().chain(flags.split_whitespace());
        let args = Cli::parse_from(flags).args;
        let mut watch = Watch::new(&args, "ws://x".to_owned(), &args.words);
        let mut stop = None;
        for event in events {
            assert_eq!(stop, None, "stopped before the last event");
            if let Step::Stop(code) = watch.take(event) {
                stop = Some(code);
            }
        }
        assert_eq!(stop, code);
        assert_eq!(String::from_utf8(watch.view.take()).unwrap(), lines);
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
    fn how_old_it_is_is_told_once_until_it_is_much_worse_or_new_again() {
        let lagging = |seconds| Event::Lagging { by: Duration::from_secs(seconds) };
        let events = vec![connected(), lagging(2), lagging(3), lagging(5), Event::Live, lagging(2)];
        let talk = check("quote:X", events, None, "");
        let expected = ["connected", "lagging by 2.0s", "lagging by 5.0s", "live again", "lagging by 2.0s"];
        assert_eq!(talk.len(), expected.len());
        assert!(talk.iter().zip(expected).all(|(talk, expected)| talk.starts_with(expected)), "{talk:?}");
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
