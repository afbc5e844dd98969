use super::raise_descriptor_limit;
use super::reading::{Content, Reading};
use super::scenario;
use super::watch::duration;
use crate::feed::formats::{OpenOptions, check_options};
use crate::feed::sim::scenario::Scenario;
use crate::feed::sim::{SimConfig, default_universe};
use crate::feed::{Feed, FeedError, Mends, Preloaded, Recordings, Scripted, Simulation, Source};
use crate::market::{Instruments, Speed, Symbol, Timestamp};
use crate::record::{Output, Written};
use crate::server::{Config, ControlRule, PublishRule, Server};
use crate::tape::{Epoch, MemoryLog};
use crate::wire::engineio::Timing;
use anyhow::{Context, Result, anyhow, bail};
use std::fmt::Write as _;
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Records of a preloaded feed that could not be read are reported one by one up to this many, then only
/// counted.
const FAULTS_TOLD: usize = 20;
/// Batches of a strict feed that are read before it is served.
const PROBED: usize = 10_000;
/// Exit code if a recording cannot be read under `--strict`.
const DATA_FAULT: u8 = 5;

/// Serve a market: simulated, replayed from recordings, or only what is published.
#[derive(clap::Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
// Flattened into another struct of this name, whose group would have the same one.
#[group(id = "serve")]
#[command(after_help = "Examples:
  tickcast                                      550 symbols, 5,000 ticks/s
  tickcast serve --symbols 100 --rate 200000    a busier market
  tickcast serve --scenario flash-crash         a crash and a recovery
  tickcast serve --feed none                    only what is published to it
  tickcast serve --record 'day-{date}.tape'     a file a day of everything
  tickcast serve --feed day.tape --speed 10 --loop
  tickcast serve --feed day.tape --start 2024-08-08T14:30:00Z --only AAPL,MSFT")]
pub struct Args {
    /// Address to listen on: an IP address or a name, at all of whose addresses the server listens
    #[arg(long, env = "TICKCAST_LISTEN", default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub listen: Listen,

    /// What feeds the market: `sim`, `none` (only what is published), or recordings: .tape, CSV (with a
    /// header, or as LEAN, HISTDATA and TrueFX write it), Databento DBN, NASDAQ ITCH 5.0, captures of
    /// exchange sessions; also packed by gzip, zstd or zip. Several are merged by time
    #[arg(long, env = "TICKCAST_FEED", default_value = "sim", value_name = "sim|none|PATH", num_args = 1..)]
    pub feed: Vec<PathBuf>,

    /// What happens to the simulated market: a ready scenario (`tickcast scenario` lists them) or a file of
    /// your own
    #[arg(long, value_name = "NAME|FILE")]
    pub scenario: Option<String>,

    /// How fast a recording or a scenario is played: a factor from 0.001 to 1000000, 1 being real time, or
    /// `max`
    #[arg(long, default_value = "1", value_name = "FACTOR|max")]
    pub speed: Speed,

    /// Where nothing happens for longer (a night, a wrong time), play on after this long, as a watch shows it
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub max_gap: Option<Duration>,

    /// Play recordings or the scenario again from the start when they end
    #[arg(long = "loop")]
    pub looped: bool,

    /// Play recordings from this time (RFC 3339, such as 2024-08-08T14:30:00Z); the market is what it was by
    /// then
    #[arg(long, value_name = "TIME")]
    pub start: Option<Timestamp>,

    /// Play recordings up to this time
    #[arg(long, value_name = "TIME")]
    pub end: Option<Timestamp>,

    /// Play only these symbols of recordings
    #[arg(long, value_name = "SYMBOL,...", value_delimiter = ',')]
    pub only: Vec<Symbol>,

    /// Who may pause, seek, step and change the speed of what is played: nobody, everybody on this machine
    /// where only this machine reaches the server (nobody through a proxy), or everybody
    #[arg(long, default_value = "local", value_name = "off|local|all")]
    pub control: ControlRule,

    /// Who may publish: nobody, everybody who reaches the server itself (nobody through a proxy), or
    /// everybody
    #[arg(long, default_value = "direct", value_name = "off|direct|all")]
    pub publish: PublishRule,

    /// Private markets (`ws?room=NAME`) at a time; 0 for none
    #[arg(long, default_value_t = 16, value_name = "N")]
    pub max_rooms: usize,

    /// Minutes after which a private market that does not advance and gets no requests is closed
    #[arg(long, default_value_t = 30, value_name = "MINUTES", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub room_idle: u64,

    /// Read recordings into memory before serving them, so that neither the disk nor decoding limits their
    /// speed
    #[arg(long)]
    pub preload: bool,

    #[command(flatten)]
    pub reading: Reading,

    /// Simulated symbols, up to 100,000; the first 550 are listed in the universe, more are made up [default:
    /// 550]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub symbols: Option<u32>,

    /// Simulated ticks (quotes and trades) a second, over all symbols, up to 1,000,000 [default: 5000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,

    /// Picks the simulated market: the same seed gives the same events [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Record the tape: everything, in its order and with its positions. `{date}` in the path gives each UTC
    /// day a file, `{time}` is when it begins; after a seek it goes on in another file: day.tape, day.2.tape
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

    /// Connections that speak HTTP, in all; more are refused. Sessions are not among them
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub max_http_connections: usize,

    /// Let sessions ask for faults of their own connection (mute, delay, slow, drop, garble), to test what
    /// their client does
    #[arg(long)]
    pub allow_faults: bool,

    /// Let sessions watch the topic `stats` (the page /ops), which shows other sessions. By default those on
    /// this machine may, where only this machine reaches the server, and nobody through a proxy
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub ops: Option<bool>,

    /// End when standard input does: for programs that start a server and must not leave it running
    #[arg(long, hide = true)]
    pub while_stdin: bool,

    /// Let the door of Socket.IO send back what comes, for the public test suites of its protocols
    #[arg(long, hide = true)]
    pub protocol_echo: bool,

    /// Let pages of this origin connect and ask, besides the server's own: <https://desk.example>, a host, or
    /// * for all
    #[arg(long, value_name = "ORIGIN")]
    pub allow_origin: Vec<String>,
}

/// The address to listen on, as typed: an IP address or a name, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    host: String,
    port: u16,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            let asked = "expected HOST:PORT, such as 127.0.0.1:8080, localhost:8080, [::1]:8080, or 0.0.0.0:8080 for all networks";
            asked.to_owned()
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port = port.parse().map_err(|_| expected())?;
        let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_v6 = |host: &str| host.parse::<Ipv6Addr>().is_ok();
        // Without brackets the port cannot be distinguished from the address.
        if v6.is_some_and(|host| !is_v6(host))
            || (v6.is_none() && (host.contains([':', '/', ' ']) || host.is_empty()))
        {
            return Err(expected());
        }
        Ok(Self { host: v6.unwrap_or(host).to_owned(), port })
    }
}

impl Listen {
    /// All addresses of that name, each once.
    async fn addresses(&self) -> Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((&*self.host, self.port)).await;
        let found =
            found.with_context(|| format!("cannot serve on {}: the name leads nowhere", self.host))?;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for address in found {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    /// The authority of the server's URL at one of its addresses: the given name, and the actual port.
    fn shown(&self, address: SocketAddr) -> String {
        if self.host.parse::<IpAddr>().is_ok() {
            address.to_string()
        } else {
            format!("{}:{}", self.host, address.port())
        }
    }
}

/// Runs the server until Ctrl-C or a termination signal.
///
/// # Errors
/// What prevents its start.
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
    let listen = args.listen.addresses().await?;
    let asked = args.max_connections;
    let record = args.record.map(|path| (Output::new(path, args.force), about.clone()));
    let is_simulated = source.as_ref().is_some_and(|source| source.simulation().is_some());
    // Of a recording it is not known yet what it has.
    let topics = if is_simulated { "quote:AAPL trades:AAPL" } else { "'quote:*' 'trades:*'" };
    let config = Config {
        listen,
        shards: args
            .shards
            .unwrap_or_else(|| std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        max_connections: asked,
        max_http_connections: args.max_http_connections,
        allowed_origins: args.allow_origin,
        source,
        speed: args.speed,
        max_gap: args.max_gap,
        start: args.start,
        control: args.control,
        publish: args.publish,
        all_prints: args.reading.all_prints,
        max_rooms: args.max_rooms,
        room_idle: Duration::from_secs(args.room_idle * 60),
        log: Box::new(MemoryLog::new(Epoch::random())),
        record,
        ops: args.ops,
        allow_faults: args.allow_faults,
        protocol_echo: args.protocol_echo.then_some(Timing::OF_SUITES),
    };
    let server = Server::start(config).await?;
    tell(&args.listen, server.addresses(), &about, topics);
    if server.max_connections() < asked {
        let room = server.max_connections();
        say!(
            "warning: this process may not have as many descriptors as {asked} connections take: it takes {room}. Raise the hard limit \
             (ulimit -Hn, LimitNOFILE=), or say --max-connections {room}"
        );
    }
    let failure = tokio::select! {
        stopped = stopped() => stopped.map(|()| None)?,
        () = stdin_ended(), if args.while_stdin => None,
        failure = server.failed() => Some(failure),
    };
    say!("saying goodbye (again to stop at once)");
    tokio::select! {
        recorded = server.shutdown() => match recorded {
            Some(Ok(Written { files: 1, events, bytes, .. })) => say!("recorded {events} events, {bytes} bytes"),
            Some(Ok(Written { files, events, bytes, .. })) => {
                say!("recorded {events} events, {bytes} bytes, in {files} files");
            }
            // It was reported when it happened.
            Some(Err(_)) => return Ok(ExitCode::FAILURE),
            None => {}
        },
        _ = stopped() => {}
    }
    failure.map_or(Ok(ExitCode::SUCCESS), |failure| Err(anyhow!(failure)))
}

fn is_word(feed: &[PathBuf], word: &str) -> bool {
    matches!(feed, [only] if only == Path::new(word))
}

/// What is to be played, and how to announce it.
fn source(args: &Args) -> Result<(Option<Arc<dyn Source>>, String)> {
    let is_of_files = args.scenario.is_none() && !is_word(&args.feed, "none") && !is_word(&args.feed, "sim");
    // It holds for published trades as well.
    let options = OpenOptions { all_prints: false, ..args.reading.options() };
    if !is_of_files && let [first, rest @ ..] = &options.given()[..] {
        let given = [&[*first], rest].concat().join(" and ");
        bail!("{given} say how recordings are read: give one with --feed PATH");
    }
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
    let options = args.reading.options();
    check_options(&args.feed, &options)?;
    args.feed.iter().try_for_each(|path| understood(path, &options, args.reading.strict))?;
    let options = OpenOptions { mends: Mends::logged(), ..options };
    let mut recordings = Recordings::new(args.feed.clone(), options);
    recordings.strict = args.reading.strict;
    (recordings.start, recordings.end) = (args.start, args.end);
    recordings.only.clone_from(&args.only);
    recordings.looped = args.looped;
    let names: Vec<String> = args.feed.iter().map(|path| super::shown(path)).collect();
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
    // A file that cannot be opened is reported before anything is served.
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
    // A script that names a symbol its market does not have is reported before anything is served.
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

/// An empty market is refused. Records that cannot be read are left for a strict feed to report.
fn understood(path: &Path, options: &OpenOptions, strict: bool) -> Result<()> {
    match Content::of(path, options)? {
        Content::Nothing(why) => bail!("{why}"),
        Content::Unreadable(Some(fault)) if !strict => bail!("{fault}"),
        Content::Something | Content::Unreadable(_) => Ok(()),
    }
}

/// Reads the beginning of a strict feed: one whose first records cannot be read is not served at all.
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

fn tell(listen: &Listen, addresses: &[SocketAddr], about: &str, topics: &str) {
    let address = listen.shown(addresses[0]);
    let version = env!("CARGO_PKG_VERSION");
    // The parent process may have closed the output, which is no reason to stop.
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
    if addresses.iter().any(|address| !address.ip().is_loopback()) {
        say!(
            "warning: {address} is open to the network, and anyone who reaches it may read and, unless --publish off, publish: \
             there are no tokens yet"
        );
    }
}

/// A server without its tape or one of its shards would accept clients and send them nothing: it ends, so
/// that its supervisor can restart it.
fn end_with_any_of_its_threads() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        let thread = std::thread::current();
        if thread.name().is_some_and(serves_everybody) {
            std::process::exit(101);
        }
    }));
}

/// Whether a thread of that name is of the public market. Those of private ones, and those that seek, end by
/// themselves.
fn serves_everybody(thread: &str) -> bool {
    !thread.contains('@') && (thread == "tape" || thread.starts_with("shard-"))
}

async fn stdin_ended() {
    // Neither its content nor a read error matters.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, u16)>) {
        let listen = text.parse::<Listen>();
        assert_eq!(listen.as_ref().ok().map(|listen| (&*listen.host, listen.port)), expected, "{text}");
        if let Err(told) = listen {
            assert!(told.starts_with("expected HOST:PORT"), "{told}");
        }
    }

    #[test]
    fn an_address_to_listen_on_is_a_name_or_numbers() {
        check("127.0.0.1:8080", Some(("127.0.0.1", 8080)));
        check("localhost:0", Some(("localhost", 0)));
        check("[::1]:8080", Some(("::1", 8080)));
        check("quotes.example:80", Some(("quotes.example", 80)));
        for wrong in
            ["localhost", "8080", ":8080", "::1:8080", "[localhost]:80", "localhost:99999", "http://a:80", ""]
        {
            check(wrong, None);
        }
    }

    #[tokio::test]
    async fn a_name_is_all_its_addresses_each_once() {
        let localhost: Listen = "localhost:8080".parse().unwrap();
        let addresses = localhost.addresses().await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 8080));
        assert!((1..=2).contains(&addresses.len()), "{addresses:?}");
        assert_eq!(localhost.shown(addresses[0]), "localhost:8080");
        let nowhere: Listen = "no-such-host.invalid:1".parse().unwrap();
        assert!(nowhere.addresses().await.unwrap_err().to_string().contains("no-such-host.invalid"));
    }

    #[test]
    fn the_process_ends_with_threads_of_the_public_market_alone() {
        for (thread, ends) in [
            ("tape", true),
            ("shard-0", true),
            ("seek", false),
            ("tape@study", false),
            ("shard-0@study", false),
            ("seek@shard-0", false),
            ("recorder", false),
        ] {
            assert_eq!(serves_everybody(thread), ends, "{thread}");
        }
    }
}
