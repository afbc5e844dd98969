use super::following::{Following, INTERRUPTED};
use super::serve::stopped;
use super::watch::{duration, until};
use crate::client::{Change, Client, Endpoint, Event, Options};
use crate::feed::Translator;
use crate::hub::{Kind, Scope, Topic};
use crate::market::{self, Instrument, Instruments, Price, Quote, Size, Timestamp};
use crate::record::{Output, Recording, RecordingStatus};
use crate::tape::{Batch, Epoch, Position, Reader};
use crate::wire::QuoteFields;
use anyhow::Result;
use rustc_hash::FxHashMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_stream::StreamExt;

const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Record a market as it moves: a .tape file, to be replayed, inspected and converted.
///
/// What is recorded are quotes, trades and states from now on; bars follow from trades. Quotes that come
/// faster than the connection takes them are merged, as for any client. A lost connection is resumed: nothing
/// is lost that the server still holds, and what it does not is reported. After a crash all but the last
/// second can be read. Exit codes: 0 done, 1 failure, 2 usage, 3 cannot connect, 4 every topic refused, 130
/// interrupted before any data.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  tickcast record -o day.tape                   everything, until Ctrl-C
  tickcast record -o 'day-{date}.tape'          a file for each UTC day
  tickcast record ws://desk:8080 --topics 'quote:AAPL,trades:AAPL' \\
    -o aapl.tape --duration 10m
  tickcast inspect day.tape; tickcast serve --feed day.tape")]
pub struct Args {
    /// The server: ws://HOST:PORT
    #[arg(env = "TICKCAST_URL", default_value = "ws://127.0.0.1:8080")]
    pub url: String,

    /// What to record: KIND:SYMBOL, KIND:*, KIND:@SECTOR with KIND one of quote, trades, status; or status
    /// alone
    #[arg(
        long,
        value_name = "TOPIC,...",
        value_delimiter = ',',
        default_value = "quote:*,trades:*,status:*,status"
    )]
    pub topics: Vec<String>,

    /// The file. `{date}` in it gives each UTC day a file of its own, `{time}` is when it begins. If the
    /// server's replay seeks to another time, it goes on in another file: day.tape, day.2.tape
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,

    /// Overwrite the file where it exists
    #[arg(short, long)]
    pub force: bool,

    /// Stop after so many quotes, trades and states
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Stop after a while: 10s, 500ms, 1h30m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Keep trying where the first connection fails
    #[arg(long)]
    pub retry: bool,

    /// Say nothing but what goes wrong
    #[arg(short, long)]
    pub quiet: bool,
}

/// The next step after an event of the client.
#[derive(Debug, PartialEq)]
enum Step {
    GoOn,
    /// Topics were granted: there is something to record.
    Begin,
    Append(Batch),
    Stop(u8),
}

/// Turns a client's events into a tape of its own: instruments get new numbers, and batches are counted from
/// 1.
struct Taker {
    following: Following,
    /// Events still to be taken.
    left: u64,
    /// The server began a new tape, and nothing of it was received yet.
    is_replaced: bool,
    instruments: Instruments,
    translator: Translator,
    /// Topics whose snapshot is complete. Earlier ring entries did not happen during the recording.
    settled: Vec<Topic>,
    /// Indexed by the server's number: whether an instrument's trades are new ones.
    is_settled: FxHashMap<market::InstrumentId, bool>,
    position: Position,
    time: Timestamp,
    events: u64,
    gaps: u64,
    missed: u64,
}

/// Records until it is stopped.
///
/// # Errors
/// If signals cannot be waited for.
pub async fn run(args: Args) -> Result<ExitCode> {
    if let Some(reason) = args.topics.iter().find_map(|topic| why_not_recorded(topic)) {
        say!("tickcast: {reason}");
        return Ok(ExitCode::from(2));
    }
    let output = Output::new(args.output.clone(), args.force);
    let path = output.path_at(Timestamp::now());
    if !args.force && path.exists() {
        say!("tickcast: {} exists (--force overwrites it)", super::shown(&path));
        return Ok(ExitCode::from(2));
    }
    let endpoint = match Endpoint::parse(&args.url) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            say!("tickcast: {error}");
            return Ok(ExitCode::from(2));
        }
    };
    let client = Client::connect(&args.url)?;
    client.subscribe(args.topics.iter().cloned(), Options { max_hz: None, times: true });
    let taker = Taker::new(&args, endpoint.to_string());
    let source = format!("{endpoint} {}", args.topics.join(","));
    Session { output, source, quiet: args.quiet, client, taker, recording: None, progress: Progress::new() }
        .run(args.duration)
        .await
        .map(ExitCode::from)
}

/// Why a topic cannot be recorded, or is none.
fn why_not_recorded(topic: &str) -> Option<String> {
    match Topic::parse(topic) {
        Ok(Topic { kind: Kind::Quote | Kind::Trades | Kind::Status, .. }) => None,
        Ok(_) => {
            Some(format!("{topic} is not recorded: bars follow from trades (record trades:SYMBOL instead)"))
        }
        Err(error) => Some(error.to_string()),
    }
}

/// A recording in progress.
struct Session {
    output: Output,
    source: String,
    quiet: bool,
    client: Client,
    taker: Taker,
    recording: Option<(Recording, Box<dyn Reader>)>,
    progress: Progress,
}

impl Session {
    async fn run(mut self, duration: Option<Duration>) -> Result<u8> {
        let end = duration.map(|duration| Instant::now() + duration);
        let mut every = tokio::time::interval(PROGRESS_EVERY);
        let mut stop = std::pin::pin!(stopped());
        let code = loop {
            let step = tokio::select! {
                event = self.client.next() => match event {
                    Some(event) => self.taker.take(event),
                    None => Step::Stop(1),
                },
                () = until(end) => Step::Stop(0),
                _ = every.tick() => self.look(),
                result = &mut stop => {
                    result?;
                    Step::Stop(if self.taker.events > 0 { 0 } else { INTERRUPTED })
                }
            };
            for talk in &self.taker.following.take_talk() {
                self.say(talk);
            }
            match step {
                Step::Begin if self.recording.is_none() => {
                    let epoch = Epoch::random();
                    let begun = Recording::start(self.output.clone(), epoch, &self.source, Timestamp::now());
                    match begun {
                        Ok(mut recording) => {
                            let reader = Box::new(recording.reader());
                            self.recording = Some((recording, reader));
                        }
                        Err(failure) => {
                            say!("tickcast: cannot record: {failure}");
                            break 1;
                        }
                    }
                }
                Step::GoOn | Step::Begin => {}
                Step::Append(batch) => {
                    if let Some((_, reader)) = &mut self.recording {
                        reader.read(&Arc::new(batch));
                    }
                    if self.taker.left == 0 {
                        break 0;
                    }
                }
                Step::Stop(code) => break code,
            }
        };
        Ok(self.finish(code))
    }

    /// Once a second: checks the writer, and shows the progress.
    fn look(&mut self) -> Step {
        let Some((recording, _)) = &self.recording else { return Step::GoOn };
        if recording.status().failure().is_some() {
            return Step::Stop(1);
        }
        if !self.quiet {
            self.progress.show(recording.status(), &self.taker);
        }
        Step::GoOn
    }

    fn say(&mut self, talk: &str) {
        if !self.quiet {
            self.progress.clear();
            say!("tickcast: {talk}");
        }
    }

    fn finish(mut self, code: u8) -> u8 {
        self.progress.clear();
        let Some((recording, reader)) = self.recording.take() else { return code };
        drop(reader);
        match recording.finish() {
            Ok(written) => {
                let Taker { events, gaps, missed, .. } = self.taker;
                let path = super::shown(self.output.path());
                let lost = match gaps {
                    0 => String::new(),
                    _ => format!(
                        "; {missed} trades were lost in {gaps} {}",
                        if gaps == 1 { "gap" } else { "gaps" }
                    ),
                };
                let per_event = ratio(written.bytes, events);
                let [events, bytes] = [events, written.bytes].map(super::grouped);
                let files = match written.files {
                    1 => String::new(),
                    files => format!(" in {files} files"),
                };
                self.say(&format!(
                    "{path}: {events} events, {bytes} bytes, {per_event:.1} an event{files}{lost}"
                ));
                code
            }
            Err(failure) => {
                say!("tickcast: the recording is not whole: {failure}");
                1
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "to one decimal")]
fn ratio(bytes: u64, events: u64) -> f64 {
    bytes as f64 / events.max(1) as f64
}

/// One line that is overwritten each second, on a terminal.
struct Progress {
    is_shown: bool,
    begun: Instant,
    /// As of the last line.
    events: u64,
}

impl Progress {
    fn new() -> Self {
        Self { is_shown: false, begun: Instant::now(), events: 0 }
    }

    fn show(&mut self, status: &RecordingStatus, taker: &Taker) {
        let rate = taker.events - self.events;
        self.events = taker.events;
        if !std::io::stderr().is_terminal() {
            return;
        }
        self.is_shown = true;
        let seconds = self.begun.elapsed().as_secs();
        let clock = format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        let [events, rate, gaps] = [taker.events, rate, taker.gaps].map(super::grouped);
        let bytes = super::bytes(status.written().bytes);
        // A failure to show it does no harm.
        let _ = write!(std::io::stderr(), "\r\x1b[K{clock}  {events} events, {rate}/s, {bytes}, {gaps} gaps");
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Taker {
    fn new(args: &Args, url: String) -> Self {
        Self {
            following: Following::new(url, args.retry, args.topics.len()),
            left: args.count.unwrap_or(u64::MAX),
            is_replaced: false,
            instruments: Instruments::default(),
            translator: Translator::default(),
            settled: Vec::new(),
            is_settled: FxHashMap::default(),
            position: Position::START,
            time: Timestamp::default(),
            events: 0,
            gaps: 0,
            missed: 0,
        }
    }

    fn take(&mut self, event: Event) -> Step {
        match event {
            Event::Settled { topics } => {
                self.settled.extend(topics);
                self.is_settled.clear();
            }
            Event::Replaced => {
                self.following
                    .say("the server began a new tape: what happened in between is lost".to_owned());
                self.gaps += 1;
                self.is_replaced = true;
                self.begin_anew();
            }
            Event::Update { time, changes, .. } => return self.update(time, changes),
            event => {
                let is_answer = matches!(event, Event::Subscribed { .. });
                match self.following.take(event) {
                    Err(code) => return Step::Stop(code),
                    Ok(()) if is_answer => return Step::Begin,
                    Ok(()) => {}
                }
            }
        }
        Step::GoOn
    }

    fn update(&mut self, time: Timestamp, changes: Vec<Change>) -> Step {
        let mut events = Vec::new();
        if std::mem::take(&mut self.is_replaced) && time < self.time {
            // A tape of another time: it is recorded as a reset, which gives it a file of its own.
            self.reset(time, &mut events);
        }
        // A server's shards may be a moment apart.
        self.time = self.time.max(time);
        let mut joined = Vec::new();
        for change in changes {
            if self.left == 0 {
                break;
            }
            let event = match change {
                Change::Reset => {
                    // It is the first change of its update.
                    self.reset(time, &mut events);
                    self.begin_anew();
                    self.following
                        .say(format!("the server's replay was wound to {time}: it goes on in another file"));
                    continue;
                }
                Change::Definition(instrument) => market::Event::Instrument(instrument),
                Change::Joined { instrument, kind: Kind::Trades } => {
                    // It was in the sector before and had left unnoticed: its trades continue where they
                    // stopped.
                    if self.is_settled.insert(instrument.id, true) != Some(true) {
                        joined.push(instrument.id);
                    }
                    continue;
                }
                Change::Left { instrument, kind: Kind::Trades } => {
                    self.is_settled.insert(instrument.id, false);
                    continue;
                }
                Change::Quote { instrument, quote, .. } => {
                    market::Event::Quote(instrument.id, whole(&quote, time))
                }
                // The ring entries of an instrument that joins a recorded sector happened before, as those of
                // a first snapshot.
                Change::Trade { instrument, .. }
                    if joined.contains(&instrument.id) || self.is_past(&instrument) =>
                {
                    continue;
                }
                Change::Trade { instrument, trade, .. } => {
                    market::Event::Trade(instrument.id, market::Trade { ts_recv: time, ..trade })
                }
                Change::Status { instrument, status } => {
                    market::Event::Status(instrument.map(|instrument| instrument.id), status)
                }
                Change::Feed(feed) => market::Event::Feed(feed),
                Change::Gap { instrument, missed, .. } => {
                    self.gaps += 1;
                    self.missed += missed;
                    self.following.say(format!("gap: {missed} trades of {} are lost", instrument.symbol));
                    continue;
                }
                Change::Bar { .. }
                | Change::ClosedBar { .. }
                | Change::Stats(_)
                | Change::Watchers { .. }
                | Change::Joined { .. }
                | Change::Left { .. } => continue,
            };
            let counts = !matches!(event, market::Event::Instrument(_));
            match self.translator.translate(event, &mut self.instruments, &mut events) {
                Ok(()) if counts => {
                    self.events += 1;
                    self.left -= 1;
                }
                Ok(()) => {}
                Err(error) => self.following.say(format!("not recorded: {error}")),
            }
        }
        if events.is_empty() {
            return Step::GoOn;
        }
        self.position = self.position.next();
        Step::Append(Batch { position: self.position, time: self.time, events })
    }

    /// The server's numbers of instruments mean others from now on, and it sends snapshots first.
    fn begin_anew(&mut self) {
        self.translator = Translator::default();
        self.settled.clear();
        self.is_settled.clear();
    }

    /// Restarts the recording at `time`, with instruments of its own.
    fn reset(&mut self, time: Timestamp, events: &mut Vec<market::Event>) {
        *events = vec![market::Event::Reset];
        self.instruments = Instruments::default();
        self.time = time;
    }

    /// Whether trades of this instrument are still those of its first snapshot.
    fn is_past(&mut self, instrument: &Instrument) -> bool {
        let covers = |topic: &Topic| {
            topic.kind == Kind::Trades && topic.scope != Scope::Market && topic.covers(instrument)
        };
        !*self.is_settled.entry(instrument.id).or_insert_with(|| self.settled.iter().any(covers))
    }
}

/// A quote as the client knows it; fields that were never received are empty.
fn whole(quote: &QuoteFields, time: Timestamp) -> Quote {
    Quote {
        bid: quote.bid.unwrap_or(Price::NONE),
        bid_size: quote.bid_size.unwrap_or(Size::ZERO),
        ask: quote.ask.unwrap_or(Price::NONE),
        ask_size: quote.ask_size.unwrap_or(Size::ZERO),
        ts_event: quote.ts_event.unwrap_or(time),
        ts_recv: time,
    }
}
