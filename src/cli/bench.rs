use super::raise_descriptor_limit;
use super::watch::{duration, hz};
use crate::bench::{
    BenchError, Door, Feed, Limits, Market, Plan, Report, Round, Server, Stall, Step, Timelines, Topics,
    Wake, idle, measure, playing, ramp, record, serve_floor, show,
};
use crate::client::Endpoint;
use crate::hub::{Kind, Topic};
use crate::market::Speed;
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::fmt::Write as _;
use std::io::Write;
use std::net::{IpAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A limit was not held.
const FAILED: u8 = 6;
const INTERRUPTED: u8 = 130;
/// Of a market made for a run; a longer run plays it again and again.
const MAX_EVENTS: u64 = 2_000_000;
/// The highest rate of `--ramp`.
const MAX_RATE: u32 = 16_000_000;
/// Seconds of feed in addition to a run's, so that the feed does not end within it.
const SPARE: f64 = 20.0;

/// Measure a server: very many subscribers, how late each tick reaches them, and what that costs.
///
/// Starts a server of its own (or measures the one at --url) that plays a recording held in memory,
/// subscribes --clients clients, and times every tick from the moment it was due, also those that the server
/// merged into later ones. Alongside runs the floor: a bare loop of `send` with the same bytes at the same
/// moments, which is the least that a server with one send per delivery can cost. Exit codes: 0 done, 1
/// failure, 2 usage, 6 a limit was not held, 130 interrupted.
#[derive(clap::Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = "Examples:
  tickcast bench                        1,000 clients, 100 updates/s each
  tickcast bench --clients 5000 --symbols 500 --rate 20000 --watchlist 20
  tickcast bench --feed day.tape --speed 10 --topics 'trades:*' --json
  tickcast bench --idle --clients 10000                memory per connection
  tickcast bench --door socket.io --turns 100ms        what another door costs
  tickcast bench --ramp --only-trades --symbols 200 --topics 'trades:*'
  tickcast bench --duration 5s --max-p99 10 --lossless        a gate for CI")]
pub struct Args {
    /// A server that runs already; its feed is given with --feed, else updates are timed instead of ticks
    #[arg(long, value_name = "URL", conflicts_with_all = ["speed", "symbols", "rate", "only_trades"])]
    pub url: Option<String>,

    /// What the server plays: a simulated market, or a recording; with --url: the recording that it plays,
    /// again and again
    #[arg(long, value_name = "sim|PATH")]
    pub feed: Option<PathBuf>,

    /// How fast a recording is played [default: 1]
    #[arg(long, value_parser = factor)]
    pub speed: Option<f64>,

    /// Simulated symbols [default: 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub symbols: Option<u32>,

    /// Simulated ticks a second, over all symbols; where --ramp begins [default: 100]
    #[arg(long)]
    pub rate: Option<NonZeroU32>,

    /// Picks the simulated market, and the watchlists
    #[arg(long, default_value_t = 1)]
    pub seed: u64,

    /// Simulate trades only, of which none may be merged
    #[arg(long)]
    pub only_trades: bool,

    /// Subscribers
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,

    /// The door by which they come in
    #[arg(long, value_enum, default_value_t)]
    pub door: Door,

    /// What each of them subscribes to
    #[arg(long, value_delimiter = ',', default_value = "quote:*,trades:*", value_parser = topic)]
    pub topics: Vec<Topic>,

    /// Subscribe each client to so many symbols of its own instead, drawn by how busy they are
    #[arg(long, value_name = "SYMBOLS", conflicts_with = "topics", value_parser = clap::value_parser!(u32).range(1..))]
    pub watchlist: Option<u32>,

    /// What of its symbols a client with a watchlist subscribes to
    #[arg(long, value_delimiter = ',', default_value = "quote", value_parser = kind, requires = "watchlist")]
    pub kinds: Vec<Kind>,

    /// Updates a second at most for each client, from 0.1 to 1000
    #[arg(long, value_name = "HZ", value_parser = hz)]
    pub max_hz: Option<f64>,

    /// How long to measure
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,

    /// How long to run before that
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    pub warm_up: Duration,

    /// Measure so many times, each with a fresh server, and report the medians
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,

    /// Let the kernel wake the client for each frame instead of looking every 500 µs: dearer for every server
    #[arg(long)]
    pub eager: bool,

    /// Clients that read their frames in full; the others read where each one leads
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub decode: u32,

    /// So many clients then read nothing for so long: 100:20s
    #[arg(long, value_name = "CLIENTS:TIME", value_parser = stall)]
    pub stall: Option<Stall>,

    /// Leave the floor out
    #[arg(long)]
    pub no_floor: bool,

    /// Let server and floor take turns of this length, in a market that pauses in between: what the machine
    /// gives is then the same for both
    #[arg(long, value_name = "TIME", value_parser = turn, conflicts_with_all = ["url", "eager", "stall", "no_floor", "ramp", "idle"])]
    pub turns: Option<Duration>,

    /// Fan-out threads of the server it starts
    #[arg(long, default_value_t = 1, conflicts_with = "url")]
    pub shards: usize,

    /// Leave the cores to the kernel; else each shard has one, and the client the last
    #[arg(long)]
    pub no_pin: bool,

    /// Addresses of this machine to connect from (default: those of loopback), as one has ports for some
    /// 28,000 connections
    #[arg(long, value_delimiter = ',')]
    pub source: Vec<IpAddr>,

    /// Find the highest rate at which everything is delivered within --max-p99 (default: 20 ms)
    #[arg(long, conflicts_with_all = ["url", "idle", "stall", "rounds"])]
    pub ramp: bool,

    /// Measure the memory of connections on which nothing happens: all connect and leave, --rounds times
    #[arg(long, conflicts_with_all = [
        "url", "stall", "feed", "speed", "symbols", "rate", "seed", "only_trades", "watchlist", "duration", "eager", "decode",
        "max_p99", "min_ticks", "max_bytes_per_tick", "max_floor_ratio", "lossless",
    ])]
    pub idle: bool,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// Fail above this latency of the 99th percentile
    #[arg(long, value_name = "MS", help_heading = "Limits")]
    pub max_p99: Option<f64>,

    /// Fail below so many deliveries of a tick a second
    #[arg(long, value_name = "TICKS", help_heading = "Limits")]
    pub min_ticks: Option<f64>,

    /// Fail above so many bytes for each tick delivered
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    pub max_bytes_per_tick: Option<f64>,

    /// Fail where a frame costs the server more than so many times the floor
    #[arg(long, value_name = "RATIO", help_heading = "Limits")]
    pub max_floor_ratio: Option<f64>,

    /// Fail where a connection takes the server more memory
    #[arg(long, value_name = "BYTES", help_heading = "Limits")]
    pub max_memory: Option<f64>,

    /// Fail where anything was not delivered, missed, or disconnected, in any round
    #[arg(long, help_heading = "Limits")]
    pub lossless: bool,
}

/// A recording to play.
struct Played {
    feed: Feed,
    timelines: Timelines,
}

/// Runs the benchmark and prints its results.
///
/// # Errors
/// What prevents measuring.
pub async fn run(args: Args) -> Result<ExitCode> {
    // The market made for a run is deleted on every exit, Ctrl-C included.
    let made = tempfile::Builder::new().prefix("tickcast-bench-").tempdir()?;
    let market = made.path().join("market.tape");
    tokio::select! {
        measured = tokio::task::spawn_blocking(move || measure_all(&args, &market)) => measured?,
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| INTERRUPTED.into()).context("cannot wait for Ctrl-C"),
    }
}

fn measure_all(args: &Args, market: &Path) -> Result<ExitCode> {
    let bar = bar();
    let mut tell = |what: &str, part: f64| {
        bar.set_message(what.to_owned());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "per thousand")]
        bar.set_position((part * 1000.0) as u64);
    };
    raise_descriptor_limit();
    let mut plan = args.plan()?;
    let about = json!({
        "tickcast": env!("CARGO_PKG_VERSION"),
        "command": std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        "client": if args.eager { "woken for each frame" } else { "looks every 500 µs" },
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    });
    if args.ramp {
        let max_p99 = args.max_p99.unwrap_or(20.0);
        bar.suspend(|| say!("{HEADING}"));
        let steps = ramp(args.rate().get(), MAX_RATE, max_p99, |rate| {
            let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
            tell(&format!("making a market of {rate} ticks/s"), 0.0);
            let played = args
                .play(&plan, Some(rate), market)
                .map_err(|error| BenchError::Feed(format!("{error:#}")))?;
            plan.feed = Some(played.feed.clone());
            let round = measure(&plan, Some(&played.timelines), &mut tell)?;
            bar.suspend(|| say!("{}", line(rate.get(), &round)));
            Ok(round)
        })?;
        bar.finish_and_clear();
        return args.conclude_ramp(&about, &steps);
    }
    let report = if args.idle {
        Report::new(about, &idle(&plan, args.rounds as usize, &mut tell)?, &args.limits())
    } else {
        let mut rounds = Vec::new();
        let mut played = None;
        for round in 1..=args.rounds {
            // A server that runs already plays another part of its feed each time.
            if (args.url.is_none() && played.is_none()) || (args.url.is_some() && args.feed.is_some()) {
                played = Some(args.play(&plan, None, market)?);
            }
            plan.feed = played.as_ref().map(|played| played.feed.clone());
            let timelines = played.as_ref().map(|played| &played.timelines);
            let mut tell =
                |what: &str, part| tell(&format!("round {round} of {}: {what}", args.rounds), part);
            rounds.push(measure(&plan, timelines, &mut tell)?);
        }
        Report::new(about, &rounds, &args.limits())
    };
    bar.finish_and_clear();
    let text = if args.json { serde_json::to_string_pretty(&report)? + "\n" } else { report.table() };
    print(&text)?;
    Ok(if report.verdict.passed { ExitCode::SUCCESS } else { FAILED.into() })
}

/// The server's side of the floor, which [`run`] starts as a process of its own.
///
/// # Errors
/// As [`serve_floor`].
pub fn floor() -> Result<ExitCode> {
    serve_floor(std::io::stdin().lock())?;
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn plan(&self) -> Result<Plan> {
        let server = match &self.url {
            None => Server::Own { shards: self.shards, pinned: !self.no_pin },
            Some(url) => {
                let endpoint = Endpoint::parse(url)?;
                let http = endpoint.http("");
                if endpoint.websocket() != format!("ws{}/v1/ws", &http["http".len()..]) {
                    bail!("--url {url}: the server's main market is measured; leave the path out");
                }
                let authority = http.trim_start_matches("http://");
                let mut addresses = authority
                    .to_socket_addrs()
                    .with_context(|| format!("cannot resolve {authority:?}: HOST:PORT is needed"))?;
                Server::At(addresses.next().with_context(|| format!("{authority:?} has no address"))?)
            }
        };
        if self.url.is_some() && self.feed.is_some() && !self.is_recorded() {
            bail!(
                "--feed sim: what is due in a simulated market that runs already is not known; leave --feed out"
            );
        }
        if let Some(recording) = self.feed.as_ref().filter(|_| self.is_recorded()) {
            let simulated = [
                ("--symbols", self.symbols.is_some()),
                ("--rate", self.rate.is_some() && !self.ramp),
                ("--only-trades", self.only_trades),
            ];
            if let Some((flag, _)) = simulated.iter().find(|(_, given)| *given) {
                bail!("{flag} is of a simulated market, and {} is a recording", super::shown(recording));
            }
        } else if self.speed.is_some() {
            bail!("--speed is of a recording: give one with --feed, or another --rate");
        }
        if let Some(stall) = self.stall
            && stall.clients >= self.clients as usize
        {
            bail!("--stall {}: of {} clients some must go on reading", stall.clients, self.clients);
        }
        if let Some(turn) = self.turns {
            if self.is_recorded() {
                bail!("--turns: a recording does not pause; leave --feed out");
            }
            if self.duration < 4 * turn {
                bail!("--turns: --duration must hold four turns at least");
            }
        }
        Ok(Plan {
            server,
            door: self.door,
            feed: None,
            clients: self.clients as usize,
            topics: match self.watchlist {
                Some(symbols) => Topics::Watchlists { symbols: symbols as usize, kinds: self.kinds.clone() },
                None => Topics::Same(self.topics.clone()),
            },
            seed: self.seed,
            max_hz: self.max_hz,
            warm_up: self.warm_up,
            duration: self.duration,
            wake: if self.eager { Wake::Eager } else { Wake::Looks },
            decoded: self.decode as usize,
            stall: self.stall,
            floor: !self.no_floor && !self.ramp && self.url.is_none(),
            turns: self.turns,
            sources: self.source.clone(),
        })
    }

    /// The recording to play, made in `made` if none is given; at another rate than `--rate` if one is given.
    fn play(&self, plan: &Plan, rate: Option<NonZeroU32>, made: &Path) -> Result<Played> {
        let after = self.stall.map(|stall| stall.duration).or(self.turns.map(|_| self.duration));
        let seconds = (self.warm_up + self.duration + after.unwrap_or_default()).as_secs_f64() + SPARE;
        let kinds = plan.topics.kinds();
        if let Some(recording) = self.feed.as_ref().filter(|_| self.is_recorded()) {
            let playing = match plan.server {
                Server::At(address) => Some(playing(address)?),
                Server::Own { .. } => None,
            };
            let from = playing.as_ref().map(|playing| playing.now);
            let mut speed = playing.as_ref().map_or(self.speed.unwrap_or(1.0), |playing| playing.speed);
            let mut timelines = Timelines::of(recording, &kinds, from, seconds * speed)?;
            let its = timelines.start().to_string();
            if let Some(start) = playing.and_then(|playing| playing.start).filter(|start| *start != its) {
                bail!(
                    "the server plays another recording: that begins at {start}, {} at {its}",
                    super::shown(recording)
                );
            }
            if let Some(rate) = rate {
                speed = f64::from(rate.get()) / timelines.rate();
                timelines = Timelines::of(recording, &kinds, from, seconds * speed)?;
            }
            return Ok(Played { feed: Feed { recording: recording.clone(), speed }, timelines });
        }
        let rate = rate.unwrap_or(self.rate());
        let market = Market {
            symbols: self.symbols.unwrap_or(1),
            rate,
            seed: self.seed,
            only_trades: self.only_trades,
            turns: self.turns,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of events")]
        let events = ((f64::from(rate.get()) * seconds) as u64).min(MAX_EVENTS);
        record(market, events, made).with_context(|| format!("cannot write {}", super::shown(made)))?;
        let timelines = Timelines::of(made, &kinds, None, seconds)?;
        let feed = Feed { recording: made.to_owned(), speed: 1.0 };
        Ok(Played { feed, timelines })
    }

    fn rate(&self) -> NonZeroU32 {
        self.rate.unwrap_or(NonZeroU32::new(100).expect("above 0"))
    }

    fn is_recorded(&self) -> bool {
        self.feed.as_ref().is_some_and(|path| path.as_os_str() != "sim")
    }

    fn limits(&self) -> Limits {
        Limits {
            max_p99_ms: self.max_p99,
            min_ticks_per_s: self.min_ticks,
            max_bytes_per_tick: self.max_bytes_per_tick,
            max_cpu_ratio: self.max_floor_ratio,
            max_bytes_per_connection: self.max_memory,
            lossless: self.lossless,
        }
    }

    /// The report of the last rate that was kept is the result.
    fn conclude_ramp(&self, about: &serde_json::Value, steps: &[Step]) -> Result<ExitCode> {
        let kept = steps.iter().filter(|step| step.limit.is_none()).max_by_key(|step| step.rate);
        let rounds: Vec<&Round> = kept.iter().map(|step| &step.round).collect();
        let report = Report::new(about.clone(), &rounds, &self.limits());
        if self.json {
            let document = json!({ "saturation_ticks_per_s": kept.map(|step| step.rate), "steps": steps, "report": report });
            print(&(serde_json::to_string_pretty(&document)? + "\n"))?;
        } else {
            let mut text = HEADING.to_owned() + "\n";
            for step in steps {
                let verdict = step.limit.as_deref().unwrap_or("kept up");
                writeln!(text, "{}  {verdict}", line(step.rate, &step.round))?;
            }
            let broken = steps.iter().filter(|step| step.limit.is_some()).min_by_key(|step| step.rate);
            let broken = broken.map_or_else(String::new, |step| {
                let limit = step.limit.as_deref().unwrap_or_default();
                format!("; {} ticks/s are too many: {limit}", show(f64::from(step.rate)))
            });
            match kept {
                Some(step) => {
                    let rate = show(f64::from(step.rate));
                    writeln!(text, "\nthe last rate it kept up with, {rate} ticks/s:\n\n{}", report.table())?;
                    writeln!(text, "SATURATION it keeps up with {rate} ticks/s{broken}")?;
                }
                None => writeln!(text, "\nSATURATION it kept up with no rate{broken}")?,
            }
            print(&text)?;
        }
        Ok(if kept.is_some() && report.verdict.passed { ExitCode::SUCCESS } else { FAILED.into() })
    }
}

const HEADING: &str = "     TICKS/S   DELIVERIES/S    P50 MS    P99 MS  SERVER  CLIENT";

/// Below [`HEADING`]; CPU in cores.
fn line(rate: u32, round: &Round) -> String {
    let unknown = || "-".to_owned();
    format!(
        "{:>12}  {:>13}  {:>8}  {:>8}  {:>6.2}  {:>6.2}",
        show(f64::from(rate)),
        round.ticks_per_s.map_or_else(unknown, show),
        round.latency_p50_ms.map_or_else(unknown, show),
        round.latency_p99_ms.map_or_else(unknown, show),
        round.server.map_or(0.0, |server| server.cpu_cores),
        round.client_cpu_cores,
    )
}

/// A closed pipe is no error: its reader has seen enough.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot print"),
    }
}

/// Shown on a terminal only.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}").expect("a good template");
    ProgressBar::with_draw_target(Some(1000), ProgressDrawTarget::stderr()).with_style(style)
}

fn topic(text: &str) -> Result<Topic, String> {
    Topic::parse(text).map_err(|error| error.message)
}

fn kind(text: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| format!("{text:?} is none of {}", names()))
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| Speed::RANGE.contains(factor));
    factor.ok_or_else(|| {
        format!("{text:?} is no number from {} to {}", Speed::RANGE.start(), Speed::RANGE.end())
    })
}

/// Long enough for a few updates, short enough for the machine's state to be the same in the next.
fn turn(text: &str) -> Result<Duration, String> {
    let turn = duration(text)?;
    let range = Duration::from_millis(20)..=Duration::from_secs(10);
    if range.contains(&turn) { Ok(turn) } else { Err(format!("{text}: a turn is from 20ms to 10s long")) }
}

fn stall(text: &str) -> Result<Stall, String> {
    let wrong = || format!("{text:?} is no number of clients and a time such as 100:20s");
    let (clients, time) = text.split_once(':').ok_or_else(wrong)?;
    Ok(Stall { clients: clients.parse().map_err(|_| wrong())?, duration: duration(time)? })
}
