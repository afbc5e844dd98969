use super::raise_descriptor_limit;
use super::reading::Reading;
use super::scenario;
use super::watch::duration;
use crate::feed::sim::scenario::Scenario;
use crate::feed::sim::{SimConfig, default_universe};
use crate::feed::{Feed, FeedError, Preloaded, Recordings, Scripted, Simulation, Source};
use crate::market::{Instruments, Speed, Symbol, Timestamp};
use crate::record::{Output, Written};
use crate::server::{Config, ControlRule, Server};
use crate::tape::Epoch;
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Records of a preloaded feed that could not be read are told one by one up to this many, then only counted.
const FAULTS_TOLD: usize = 20;
/// Batches of a strict feed that are read before it is served.
const PROBED: usize = 10_000;
/// Exit code where a recording cannot be read and `--strict` was asked for.
const DATA_FAULT: u8 = 5;

/// Serve a market: simulated, replayed from recordings, or only what is published.
#[derive(clap::Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
// Flattened into another struct of this name, whose group would have the same one.
#[group(id = "serve")]
#[command(after_help = "Examples:
  tickcast                                           550 simulated symbols, 5,000 ticks/s
  tickcast serve --symbols 100 --rate 200000         a busier market
  tickcast serve --scenario flash-crash --seed 7     a market that crashes and recovers
  tickcast serve --feed day.tape --speed 10 --loop   a recording, ten times as fast, for ever
  tickcast serve --feed day.tape --start 2024-08-08T14:30:00Z --only AAPL,MSFT   from the opening bell, two symbols
  tickcast serve --feed none                         only what is published to it
  tickcast serve --record 'day-{date}-{time}.tape'   writes down everything, a file a day")]
pub struct Args {
    /// Address to listen on
    #[arg(long, env = "TICKCAST_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// What feeds the market: `sim`, `none` (only what is published), or recordings: .tape, CSV (with a header, or as LEAN, HISTDATA and
    /// TrueFX write it), Databento DBN, NASDAQ ITCH 5.0, captures of exchange sessions; also packed by gzip, zstd or zip. Several are merged by time
    #[arg(long, env = "TICKCAST_FEED", default_value = "sim", value_name = "sim|none|PATH", num_args = 1..)]
    pub feed: Vec<PathBuf>,

    /// What happens to the simulated market: a ready scenario (`tickcast scenario` lists them) or a file of your own
    #[arg(long, value_name = "NAME|FILE")]
    pub scenario: Option<String>,

    /// How fast a recording or a scenario is played: a factor, 1 being real time, or `max`
    #[arg(long, default_value = "1", value_name = "FACTOR|max")]
    pub speed: Speed,

    /// Where nothing happens for longer (a night, a wrong time), play on after this long, as a watch shows it
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_gap: Option<Duration>,

    /// Play recordings or the scenario again from the start when they end
    #[arg(long = "loop")]
    pub looped: bool,

    /// Play recordings from this time (RFC 3339, such as 2024-08-08T14:30:00Z); the market is what it was by then
    #[arg(long, value_name = "TIME")]
    pub start: Option<Timestamp>,

    /// Play recordings up to this time
    #[arg(long, value_name = "TIME")]
    pub end: Option<Timestamp>,

    /// Play only these symbols of recordings
    #[arg(long, value_name = "SYMBOL,...", value_delimiter = ',')]
    pub only: Vec<Symbol>,

    /// Who may pause, seek, step and change the speed of what is played: nobody, everybody where only this machine reaches the
    /// server, or everybody who does
    #[arg(long, default_value = "local", value_name = "off|local|all")]
    pub control: ControlRule,

    /// Private markets (`ws?room=NAME`) at a time; 0 for none
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub max_rooms: usize,

    /// Minutes after which a private market that stands still and of which nobody asks anything is closed
    #[arg(long, default_value_t = 30, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub room_idle: u64,

    /// Read recordings into memory before serving them, so that neither the disk nor decoding limits their speed
    #[arg(long)]
    pub preload: bool,

    #[command(flatten)]
    pub reading: Reading,

    /// Simulated symbols, up to 100,000; the first 550 are listed in the universe, more are made up [default: 550]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub symbols: Option<u32>,

    /// Simulated ticks (quotes and trades) a second, over all symbols, up to 1,000,000 [default: 5000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,

    /// Picks the simulated market: the same seed gives the same events [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Record the tape: everything, in its order and with its positions. `{date}` in the path gives each UTC day a file, `{time}` is when it
    /// begins; after a seek it goes on in another file: day.tape, day.2.tape
    #[arg(long, env = "TICKCAST_RECORD", value_name = "PATH")]
    pub record: Option<PathBuf>,

    /// Let --record overwrite a file
    #[arg(long, requires = "record")]
    pub force: bool,

    /// Fan-out threads (default: one per core)
    #[arg(long)]
    pub shards: Option<NonZeroUsize>,

    /// WebSocket connections in all; more are refused
    #[arg(long, default_value_t = 10_000)]
    pub max_connections: usize,

    /// Let sessions ask for faults of their own connection (mute, delay, slow, drop, garble), to test what their client does
    #[arg(long)]
    pub allow_faults: bool,

    /// Let sessions watch the topic `stats` (the page /ops), which tells of other sessions: on by default where only this machine
    /// reaches the server. Behind a proxy: --ops=false
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ops: Option<bool>,

    /// End when standard input does: for whoever starts a server and must not leave it behind
    #[arg(long, hide = true)]
    pub while_stdin: bool,

    /// Let pages of this origin connect, besides the server's own: <https://desk.example>, a host, or * for all
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
}

/// Runs the server until Ctrl-C or a termination signal.
///
/// # Errors
/// What stands in the way of starting it.
pub async fn run(args: Args) -> Result<ExitCode> {
    raise_descriptor_limit();
    end_with_any_of_its_threads();
    let (source, about) = match source(&args) {
        Err(error) if error.is::<FeedError>() => {
            say!("tickcast: {error}");
            return Ok(ExitCode::from(DATA_FAULT));
        }
        other => other?,
    };
    let epoch = Epoch::random();
    let record = args.record.map(|path| (Output::new(path, args.force), about.clone()));
    let is_simulated = source.as_ref().is_some_and(|source| source.simulation().is_some());
    // Of a recording it is not known yet what it has.
    let topics = if is_simulated { "quote:AAPL trades:AAPL" } else { "'quote:*' 'trades:*'" };
    let config = Config {
        listen: args.listen,
        shards: args
            .shards
            .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        max_connections: args.max_connections,
        allowed_origins: args.allow_origin,
        source,
        speed: args.speed,
        max_gap: args.max_gap,
        start: args.start,
        control: args.control,
        max_rooms: args.max_rooms,
        room_idle: Duration::from_secs(args.room_idle * 60),
        epoch,
        record,
        ops: args.ops.unwrap_or(args.listen.ip().is_loopback()),
        allow_faults: args.allow_faults,
    };
    let server = Server::start(config).await?;
    tell(server.address(), &about, topics);
    tokio::select! {
        stopped = stopped() => stopped?,
        () = stdin_ended(), if args.while_stdin => {}
    }
    say!("saying goodbye (again to stop at once)");
    tokio::select! {
        recorded = server.shutdown() => match recorded {
            Some(Ok(Written { files: 1, events, bytes, .. })) => say!("recorded {events} events, {bytes} bytes"),
            Some(Ok(Written { files, events, bytes, .. })) => {
                say!("recorded {events} events, {bytes} bytes, in {files} files");
            }
            // It was told when it happened.
            Some(Err(_)) => return Ok(ExitCode::FAILURE),
            None => {}
        },
        _ = stopped() => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn is_word(feed: &[PathBuf], word: &str) -> bool {
    matches!(feed, [only] if only == Path::new(word))
}

/// What was asked to be played, and what to say of it.
fn source(args: &Args) -> Result<(Option<Arc<dyn Source>>, String)> {
    if let Some(name) = &args.scenario {
        return scripted(name, args);
    }
    if is_word(&args.feed, "none") {
        return Ok((None, "what is published to it, nothing else".to_owned()));
    }
    if is_word(&args.feed, "sim") {
        let is_narrowed = args.start.is_some() || args.end.is_some() || !args.only.is_empty();
        if args.looped || args.preload || is_narrowed || args.speed != Speed::Times(1.0) {
            bail!(
                "--loop, --preload, --start, --end, --only and --speed are for recordings: give one with --feed PATH"
            );
        }
        let usual = SimConfig::starting(Timestamp::now());
        let config = SimConfig {
            symbols: args.symbols.map_or(usual.symbols, |symbols| symbols as usize),
            rate: args.rate.and_then(NonZeroU32::new).unwrap_or(usual.rate),
            seed: args.seed.unwrap_or(usual.seed),
            ..usual
        };
        let SimConfig { symbols, rate, seed, .. } = config;
        let about = format!("a simulated market: {symbols} symbols, {rate} ticks/s, seed {seed}");
        return Ok((Some(Arc::new(Simulation { universe: default_universe(), config })), about));
    }
    recordings(args)
}

fn recordings(args: &Args) -> Result<(Option<Arc<dyn Source>>, String)> {
    if let (Some(start), Some(end)) = (args.start, args.end)
        && end < start
    {
        bail!("--end {end} is before --start {start}");
    }
    let mut recordings = Recordings::new(args.feed.clone(), args.reading.options());
    recordings.strict = args.reading.strict;
    (recordings.start, recordings.end) = (args.start, args.end);
    recordings.only.clone_from(&args.only);
    recordings.looped = args.looped;
    let names: Vec<String> = args.feed.iter().map(|path| path.display().to_string()).collect();
    let mut about = format!("a replay of {} at speed {}", names.join(" and "), args.speed);
    let bounds = [("from", args.start), ("to", args.end)];
    for (word, at) in bounds.into_iter().filter_map(|(word, at)| Some((word, at?))) {
        write!(about, " {word} {at}")?;
    }
    if !args.only.is_empty() {
        let symbols: Vec<&str> = args.only.iter().map(Symbol::as_str).collect();
        write!(about, ", only {}", symbols.join(", "))?;
    }
    if args.looped {
        about.push_str(", again and again");
    }
    if args.preload {
        let held = preload(&mut recordings)?;
        write!(about, ", from memory: {} events, {} MiB", held.events(), held.bytes().div_ceil(1 << 20))?;
    }
    // What cannot be opened is told before anything is served.
    let mut feed = recordings.open()?;
    if recordings.strict {
        probe(&mut *feed)?;
    }
    Ok((Some(Arc::new(recordings)), about))
}

/// A simulated market under a script.
fn scripted(name: &str, args: &Args) -> Result<(Option<Arc<dyn Source>>, String)> {
    let is_narrowed = args.start.is_some() || args.end.is_some() || !args.only.is_empty();
    if !is_word(&args.feed, "sim") || args.preload || is_narrowed {
        bail!("--scenario is of the simulated market: without --feed, --preload, --start, --end and --only");
    }
    let mut scenario = scenario::read(name)?;
    scenario.symbols = args.symbols.map_or(scenario.symbols, |symbols| symbols as usize);
    scenario.rate = args.rate.and_then(NonZeroU32::new).unwrap_or(scenario.rate);
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    let Scenario { symbols, rate, seed, end, .. } = scenario.clone();
    let mut about = format!(
        "the scenario {name}: {symbols} symbols, {rate} ticks/s, seed {seed}, at speed {}",
        args.speed
    );
    match end {
        Some(end) if args.looped => write!(about, ", {end} long, again and again")?,
        Some(end) => write!(about, ", {end} long")?,
        None if args.looped => bail!("--loop: {name} never ends"),
        None => {}
    }
    let script = Scripted { name: name.to_owned(), scenario, start: Timestamp::now(), looped: args.looped };
    // One that names what its market does not have is told before anything is served.
    script.scenario.check().map_err(|error| scenario::error(name, &error))?;
    Ok((Some(Arc::new(script)), about))
}

fn preload(recordings: &mut Recordings) -> Result<Arc<Preloaded>> {
    let strict = recordings.strict;
    let (mut faults, mut first) = (0_usize, None);
    let held = recordings.preload(|error| {
        faults += 1;
        if strict {
            first.get_or_insert(error);
        } else if faults <= FAULTS_TOLD {
            tracing::warn!("{error}");
        }
    })?;
    if faults > FAULTS_TOLD {
        tracing::warn!("{faults} records could not be read");
    }
    first.map_or(Ok(held), |error: FeedError| Err(error.into()))
}

/// Reads the beginning of a strict feed, so that one whose first records cannot be read is not served at all.
fn probe(feed: &mut dyn Feed) -> Result<(), FeedError> {
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    for _ in 0..PROBED {
        if feed.next(&mut instruments, &mut events)?.is_none() {
            break;
        }
        events.clear();
    }
    Ok(())
}

fn tell(address: SocketAddr, about: &str, topics: &str) {
    let version = env!("CARGO_PKG_VERSION");
    // Whoever started the server may have closed its output, which is no reason to stop.
    let _ = writeln!(
        std::io::stdout(),
        "tickcast {version}: {about}

  dashboard  http://{address}/
  operators  http://{address}/ops
  subscribe  tickcast watch ws://{address} {topics}
             websocat 'ws://{address}/v1/ws?format=json&topics=quote:*'
  publish    echo '{{\"type\":\"trade\",\"symbol\":\"MINE\",\"price\":\"1.25\",\"size\":10}}' |
               curl --data-binary @- http://{address}/v1/publish
"
    );
    if !address.ip().is_loopback() {
        say!(
            "warning: {address} is open to the network, and anyone who reaches it may read and publish: \
             there are no tokens yet"
        );
    }
}

/// A server without its tape or one of its shards would go on taking clients and tell them nothing: better that whoever started it starts
/// it again.
fn end_with_any_of_its_threads() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        let thread = std::thread::current();
        if thread.name().is_some_and(|name| name == "tape" || name.starts_with("shard-")) {
            std::process::exit(101);
        }
    }));
}

async fn stdin_ended() {
    // What stands in it does not matter, nor why it cannot be read.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
}

/// Waits for Ctrl-C or a termination signal.
pub(super) async fn stopped() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate()).context("cannot wait for signals")?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("cannot wait for Ctrl-C"),
        _ = terminated.recv() => Ok(()),
    }
}
