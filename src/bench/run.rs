use super::BenchError;
use super::door::{Door, Greeting};
use super::floor::Floor;
use super::process::{self, Pinned, Process, Usage, get, get_json, own_cpu};
use super::report::{Round, ServerSide, Slow};
use super::session::{CatchUp, Clock, Notes, Session};
use super::swarm::{Swarm, Wake};
use super::workload::{Timeline, Timelines};
use crate::hub::{Kind, Topic};
use crate::market::{FeedKind, Speed, Timestamp};
use hdrhistogram::Histogram;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    pub server: Server,
    /// By which they come in.
    pub door: Door,
    /// What the server plays; `None`: unknown, so updates are timed instead of ticks.
    pub feed: Option<Feed>,
    pub clients: usize,
    pub topics: Topics,
    /// The seed of the watchlists.
    pub seed: u64,
    pub max_hz: Option<f64>,
    pub warm_up: Duration,
    pub duration: Duration,
    pub wake: Wake,
    /// Sessions that read their frames in full.
    pub decoded: usize,
    pub stall: Option<Stall>,
    /// Whether to measure a bare loop of `send` as well.
    pub floor: bool,
    /// How long server and floor run in turns, with a market that pauses for as long; `None`: one after the
    /// other.
    pub turns: Option<Duration>,
    /// Addresses to connect from; empty: those of loopback.
    pub sources: Vec<IpAddr>,
}

#[derive(Clone, Debug)]
pub enum Server {
    /// One that runs already.
    At(SocketAddr),
    /// A child process with so many shards, each on a core of its own, where `pinned`; the client has the
    /// last core.
    Own { shards: usize, pinned: bool },
}

/// A recording, played in a loop, and its speed.
#[derive(Clone, Debug)]
pub struct Feed {
    pub recording: PathBuf,
    pub speed: f64,
}

#[derive(Clone, Debug)]
pub enum Topics {
    /// The same for all.
    Same(Vec<Topic>),
    /// For each client these kinds of so many symbols, drawn by how busy they are.
    Watchlists { symbols: usize, kinds: Vec<Kind> },
}

impl Topics {
    /// The kinds of topics among them.
    #[must_use]
    pub fn kinds(&self) -> Vec<Kind> {
        match self {
            Self::Same(topics) => topics.iter().map(|topic| topic.kind).collect(),
            Self::Watchlists { kinds, .. } => kinds.clone(),
        }
    }

    /// Whether they have only entries of rings, which are never merged.
    fn are_rings(&self) -> bool {
        self.kinds().iter().all(|kind| *kind == Kind::Trades)
    }
}

/// The first so many clients read nothing for a while, after the window.
#[derive(Clone, Copy, Debug)]
pub struct Stall {
    pub clients: usize,
    pub duration: Duration,
}

/// Receives the progress of a run: the present step, and how much of it is done.
pub type Progress<'a> = &'a mut dyn FnMut(&str, f64);

/// How long all clients together may take to be accepted.
pub(super) const CONNECTING: Duration = Duration::from_mins(2);
/// How long after a window to wait for changes that were due in it.
pub(super) const AFTERWARDS: Duration = Duration::from_secs(3);
/// How long slow clients may take to be up to date, once they read again.
const CATCHING_UP: Duration = Duration::from_secs(20);
/// Sessions whose every tick is timed, if their topics differ: each needs a timeline of its own.
const TIMED: usize = 100;
/// Sessions whose frames a floor repeats.
const LOGGED: usize = 32;
/// How often the server's memory is read.
pub(super) const LOOK_AT_MEMORY: Duration = Duration::from_millis(200);

/// A server, what is measured of it, and how to query it.
struct Target<'a> {
    plan: &'a Plan,
    process: Option<Process>,
    address: SocketAddr,
    before: Usage,
}

/// The counts at one moment.
#[derive(Clone, Copy, Default)]
struct Snapshot {
    at: Option<Instant>,
    usage: Usage,
    own_cpu: Duration,
    metrics: Metrics,
    gave_up: u64,
}

/// The server's own counts.
#[derive(Clone, Copy, Default)]
struct Metrics {
    merged: f64,
    gaps: f64,
}

/// Runs a plan once.
///
/// # Errors
/// [`BenchError`] if there is nothing to measure: no server, no feed, refused topics.
pub fn measure(
    plan: &Plan,
    timelines: Option<&Timelines>,
    progress: Progress<'_>,
) -> Result<Round, BenchError> {
    let (server_cores, client_cores) = cores(&plan.server)?;
    progress("preparing", 0.0);
    // Before the feed begins, as it takes a while.
    let audience = audience(plan, timelines)?;
    let target = Target::start(plan, &server_cores)?;
    let _pinned = Pinned::to(&client_cores)?;
    let mut swarm =
        Swarm::new(Notes::default(), plan.wake).map_err(|error| BenchError::io("polling", error))?;
    let sessions = sessions(plan, &audience, target.address);
    let clients = plan.clients;
    let deadline = Instant::now() + CONNECTING;
    #[expect(clippy::cast_precision_loss, reason = "a part of a whole")]
    swarm
        .connect(target.address, sessions, &plan.sources, deadline, |open| {
            progress("connecting", open as f64 / clients as f64);
        })
        .map_err(|error| BenchError::io(&format!("connecting to {}", target.address), error))?;
    let connected = target.usage()?;
    run(&mut swarm, None, "warming up", plan.warm_up, progress, || Ok(()))?;
    // Only now: a feed that was late meanwhile may have given its schedule up.
    let clock = clock(target.address)?;

    let mut round = window(&mut swarm, &target, None, clock, "measuring", plan.duration, progress)?;
    let logs: Vec<_> =
        swarm.peers().filter_map(Session::take_log).filter(|log| !log.frames.is_empty()).collect();
    let floor = || clock.filter(|_| plan.floor && !logs.is_empty());
    if let (Some(clock), Some(turn)) = (floor(), plan.turns) {
        let mut floor = Floor::start(plan, &logs, &audience, &clock, &server_cores)?;
        round = in_turns(&mut swarm, &target, &mut floor, clock, turn, progress)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    {
        round.clients = clients as f64;
        round.feed_ticks_per_s =
            timelines.zip(clock).map(|(timelines, clock)| timelines.rate() * clock.speed);
    }
    if let Some(server) = &mut round.server {
        server.rss_mib_before = mib(target.before.resident_bytes);
        server.rss_mib_connected = mib(connected.resident_bytes);
        server.rss_bytes_per_connection =
            growth(target.before.resident_bytes, connected.resident_bytes) / round.clients;
    }
    if let Some(stall) = plan.stall {
        round.slow = Some(slow(&mut swarm, &target, clock, stall, &round, progress)?);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    {
        round.connections_lost = swarm.broken().len() as f64;
    }
    drop((swarm, target));
    if let (Some(clock), None) = (floor(), plan.turns) {
        round.floor = Some(Floor::start(plan, &logs, &audience, &clock, &server_cores)?.run(progress)?);
    }
    round.compare();
    Ok(round)
}

impl<'a> Target<'a> {
    fn start(plan: &'a Plan, cores: &[usize]) -> Result<Self, BenchError> {
        let shards = match plan.server {
            Server::At(address) => {
                return Ok(Self { plan, process: None, address, before: Usage::default() });
            }
            Server::Own { shards, .. } => shards,
        };
        let mut args: Vec<String> =
            ["serve", "--while-stdin", "--listen", "127.0.0.1:0", "--shards"].map(str::to_owned).into();
        args.extend([shards.to_string(), "--max-connections".to_owned(), (plan.clients + 100).to_string()]);
        match &plan.feed {
            None => args.extend(["--feed", "none"].map(str::to_owned)),
            Some(feed) => {
                let recording = feed.recording.to_string_lossy().into_owned();
                args.extend(["--feed".to_owned(), recording, "--preload".to_owned(), "--loop".to_owned()]);
                args.extend(["--speed".to_owned(), Speed::Times(feed.speed).to_string()]);
            }
        }
        let process = Process::start(&args, cores, None)?;
        let before = process.usage()?;
        Ok(Self { plan, address: process.address, process: Some(process), before })
    }

    fn usage(&self) -> Result<Usage, BenchError> {
        self.process.as_ref().map_or(Ok(Usage::default()), Process::usage)
    }

    fn snapshot(&self) -> Result<Snapshot, BenchError> {
        let feed = get_json(self.address, "/v1/feed")?;
        Ok(Snapshot {
            metrics: self.metrics(),
            gave_up: feed["reanchored"].as_u64().unwrap_or(0),
            usage: self.usage()?,
            own_cpu: own_cpu(),
            at: Some(Instant::now()),
        })
    }

    fn metrics(&self) -> Metrics {
        let text = get(self.address, "/metrics").unwrap_or_default();
        let sum = |name: &str| -> f64 {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        };
        Metrics { merged: sum("tickcast_events_merged_total"), gaps: sum("tickcast_gaps_total") }
    }
}

/// Maps the tape's clock to ours; `None` if the server's feed has no pace, or no due times.
fn clock(address: SocketAddr) -> Result<Option<Clock>, BenchError> {
    let feed = get_json(address, "/v1/feed")?;
    let number = |name: &str| feed.pointer(name).and_then(serde_json::Value::as_i64);
    if feed["kind"] == FeedKind::Publisher.name() {
        return Ok(None);
    }
    let Some(speed) = feed["speed"].as_f64() else { return Ok(None) };
    let (Some(feed_micros), Some(wall)) = (number("/clock/feed_us"), number("/clock/wall_us")) else {
        return Err(BenchError::Answer("GET /v1/feed: no clock".to_owned()));
    };
    let ago = Timestamp::now().micros() - wall;
    let (now, span) = (Instant::now(), Duration::from_micros(ago.unsigned_abs()));
    // A moment before this machine's start cannot be represented; the tape's clock is shifted instead.
    let (here, moved) = match (ago >= 0).then(|| now.checked_sub(span)) {
        Some(Some(here)) => (here, 0.0),
        #[expect(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
        Some(None) => (now, ago as f64 * speed),
        None => (now + span, 0.0),
    };
    #[expect(clippy::cast_possible_truncation, reason = "µs")]
    Ok(Some(Clock { feed_micros: feed_micros + moved as i64, here, speed }))
}

/// What a server plays.
#[derive(Clone, Debug)]
pub struct Playing {
    /// The present moment of its feed, on the feed's clock.
    pub now: Timestamp,
    pub speed: f64,
    /// The first moment of the recording, in RFC 3339; `None` while the server is still looking for it.
    pub start: Option<String>,
}

/// The recording that a server plays in a loop.
///
/// # Errors
/// The server does not answer, or plays something whose due times only it knows.
pub fn playing(address: SocketAddr) -> Result<Playing, BenchError> {
    let replay = get_json(address, "/v1/replay")?;
    let not = |what: &str| BenchError::Plan(format!("{what}: leave --feed out, and updates are timed"));
    match replay["kind"].as_str() {
        Some("replay") => {}
        Some("simulator") => return Err(not("the server plays a simulated market, not a recording")),
        _ => return Err(not("the server plays no recording")),
    }
    if replay["loop"] != true {
        return Err(not("the server plays its recording once, not again and again (--loop)"));
    }
    let clock = clock(address)?.ok_or_else(|| not("what the server plays has no pace"))?;
    Ok(Playing {
        now: Timestamp::from_micros(clock.tape_micros(Instant::now())),
        speed: clock.speed,
        start: replay["start"].as_str().map(str::to_owned),
    })
}

/// The cores of the server and of the client; both empty if they are left to the kernel.
pub(super) fn cores(server: &Server) -> Result<(Vec<usize>, Vec<usize>), BenchError> {
    let Server::Own { shards, pinned: true } = *server else { return Ok((Vec::new(), Vec::new())) };
    Ok(match &*process::cores()? {
        [servers @ .., client] if !servers.is_empty() => {
            (servers[..shards.clamp(1, servers.len())].to_vec(), vec![*client])
        }
        _ => (Vec::new(), Vec::new()),
    })
}

/// The topics of clients, with the timelines of those that are timed. Clients take them in turn.
pub(super) type Audience = Vec<(Vec<String>, Option<Arc<Timeline>>)>;

fn audience(plan: &Plan, timelines: Option<&Timelines>) -> Result<Audience, BenchError> {
    let sets: Vec<Vec<Topic>> = match &plan.topics {
        Topics::Same(topics) => vec![topics.clone()],
        Topics::Watchlists { symbols, kinds } => {
            let needed =
                || BenchError::Plan("watchlists are drawn from a feed: give it with --feed".to_owned());
            let lists = timelines.ok_or_else(needed)?.watchlists(plan.clients, *symbols, plan.seed);
            let topics = |list: &Vec<_>| {
                kinds
                    .iter()
                    .flat_map(|&kind| list.iter().map(move |symbol| Topic::of(kind, symbol)))
                    .collect()
            };
            lists.iter().map(topics).collect()
        }
    };
    // If all have the same topics, they share one timeline; else every n-th session has its own.
    let every = sets.len().div_ceil(TIMED);
    let with_timeline = |(number, topics): (usize, &Vec<Topic>)| {
        let timelines = timelines.filter(|_| number.is_multiple_of(every));
        let timeline = timelines.map(|timelines| Arc::new(timelines.of_topics(topics)));
        (topics.iter().map(ToString::to_string).collect(), timeline)
    };
    Ok(sets.iter().enumerate().map(with_timeline).collect())
}

fn sessions<'a>(
    plan: &'a Plan,
    audience: &'a Audience,
    address: SocketAddr,
) -> impl Iterator<Item = Session> + use<'a> {
    let greetings: Vec<Arc<Greeting>> = audience
        .iter()
        .map(|(topics, _)| Arc::new(plan.door.greeting(&address.to_string(), topics, plan.max_hz)))
        .collect();
    let slow = plan.stall.map_or(0, |stall| stall.clients);
    let logged = if audience.len() == 1 { 1 } else { LOGGED };
    (0..plan.clients).map(move |client| {
        let set = client % audience.len();
        let timeline = audience[set].1.clone().filter(|_| client >= slow);
        let decode = (slow..slow + plan.decoded).contains(&client);
        Session::new(plan.door, Arc::clone(&greetings[set]), timeline, decode, plan.floor && client < logged)
    })
}

/// Runs a swarm for a while, and that of a floor alongside, and reports progress.
fn run(
    swarm: &mut Swarm<Session>,
    mut floor: Option<&mut Floor>,
    what: &str,
    duration: Duration,
    progress: Progress<'_>,
    mut now_and_then: impl FnMut() -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    let start = Instant::now();
    let (mut looked, mut outcome) = (start, Ok(()));
    swarm
        .run(start + duration, |_| {
            if let Some(floor) = floor.as_deref_mut() {
                outcome = floor.look();
            }
            if outcome.is_ok() && looked.elapsed() >= LOOK_AT_MEMORY {
                looked = Instant::now();
                progress(what, start.elapsed().div_duration_f64(duration));
                outcome = now_and_then();
            }
            outcome.is_err()
        })
        .map_err(|error| BenchError::io("polling", error))?;
    outcome
}

/// Measures for a while: the changes due in the window, their latency, and their cost.
fn window(
    swarm: &mut Swarm<Session>,
    target: &Target<'_>,
    mut floor: Option<&mut Floor>,
    clock: Option<Clock>,
    what: &str,
    duration: Duration,
    progress: Progress<'_>,
) -> Result<Round, BenchError> {
    let before = target.snapshot()?;
    if let Some(floor) = floor.as_deref_mut() {
        floor.count_from_here()?;
    }
    let from = clock.map_or(0, |clock| clock.tape_micros(Instant::now()));
    let end = clock.map_or(0, |clock| clock.tape_micros(Instant::now() + duration));
    swarm.peers().for_each(|peer| peer.begin(from));
    let is_timed = swarm.peers().any(|peer| peer.is_timed());
    if is_timed && clock.is_some() && !swarm.peers().any(|peer| peer.is_owed(&(from..end))) {
        return Err(BenchError::Plan(format!(
            "of these topics nothing is due {what}: see the topics, and whether the feed is what the server plays"
        )));
    }
    swarm.notes = Notes { clock, window: from..end, times_updates: !is_timed, ..Notes::default() };
    let mut most_resident = 0;
    run(swarm, floor.as_deref_mut(), what, duration, progress, || {
        most_resident = most_resident.max(target.usage()?.resident_bytes);
        Ok(())
    })?;
    // The counts of the window; changes due in it that arrive later are only timed.
    let (frames, bytes) = (swarm.notes.frames, swarm.notes.bytes);
    let (ticks, timed_frames, timed_bytes) =
        (swarm.notes.ticks, swarm.notes.timed_frames, swarm.notes.timed_bytes);
    let after = target.snapshot()?;
    let floor = floor.map(|floor| floor.side(duration)).transpose()?;
    most_resident = most_resident.max(after.usage.resident_bytes);
    swarm
        .run(Instant::now() + AFTERWARDS, |swarm| {
            swarm.peers().filter(|peer| peer.is_timed()).all(|peer| peer.micros() >= end)
        })
        .map_err(|error| BenchError::io("polling", error))?;
    let (mut undelivered, mut untold) = (0, 0);
    let mut notes = std::mem::take(&mut swarm.notes);
    if clock.is_some() {
        for peer in swarm.peers() {
            untold += if target.plan.topics.are_rings() { peer.untold() } else { 0 };
            undelivered += peer.give_up(end, &mut notes);
        }
    }
    notes.clock = clock;

    let seconds = after.at.zip(before.at).map_or(0.0, |(after, before)| (after - before).as_secs_f64());
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let of = |count: u64| count as f64;
    let per_frame = is_timed.then(|| of(ticks) / of(timed_frames.max(1)));
    let mut round = Round {
        seconds,
        frames_per_s: of(frames) / seconds,
        // If only some sessions are timed, the others are taken to get as many ticks per frame.
        ticks_per_s: per_frame.map(|ticks| of(frames) * ticks / seconds),
        bytes_per_s: of(bytes) / seconds,
        bytes_per_frame: of(bytes) / of(frames.max(1)),
        ticks_per_frame: per_frame,
        bytes_per_tick: (ticks > 0).then(|| of(timed_bytes) / of(ticks)),
        ticks_undelivered: (is_timed && clock.is_some()).then(|| of(undelivered)),
        entries_missed: of(notes.missed),
        entries_untold: of(untold),
        sessions_short: of(short(swarm, target.plan)),
        client_cpu_cores: after.own_cpu.saturating_sub(before.own_cpu).as_secs_f64() / seconds,
        floor,
        ..Round::default()
    };
    let millis = |quantile| latency_ms(&notes.latency, quantile);
    round.latency_p50_ms = millis(0.5);
    round.latency_p90_ms = millis(0.9);
    round.latency_p99_ms = millis(0.99);
    round.latency_p999_ms = millis(0.999);
    round.latency_max_ms = millis(1.0);
    if target.process.is_some() {
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / of(frames.max(1));
        let (cpu, user) = after.usage.spent_since(&before.usage);
        round.server = Some(ServerSide {
            cpu_cores: cpu.as_secs_f64() / seconds,
            cpu_us_per_frame: micros(cpu),
            user_us_per_frame: micros(user),
            rss_mib_max: mib(most_resident),
            ticks_merged_per_s: (after.metrics.merged - before.metrics.merged) / seconds,
            gaps: after.metrics.gaps - before.metrics.gaps,
            feed_gave_up: of(after.gave_up - before.gave_up),
            ..ServerSide::default()
        });
    }
    swarm.notes = notes;
    Ok(round)
}

/// How many sessions received less than half of the bytes of those decoded in full; 0 unless all have the
/// same topics.
fn short(swarm: &mut Swarm<Session>, plan: &Plan) -> u64 {
    if !matches!(plan.topics, Topics::Same(_)) {
        return 0;
    }
    let slow = plan.stall.map_or(0, |stall| stall.clients);
    let decoded = swarm.peers().filter(|peer| peer.is_decoded()).map(|peer| peer.bytes()).min();
    let least = decoded.unwrap_or(0) / 2;
    swarm.peers().skip(slow).filter(|peer| peer.bytes() < least).count() as u64
}

/// Measures a server and a floor, each in the pauses of the other.
fn in_turns(
    swarm: &mut Swarm<Session>,
    target: &Target<'_>,
    floor: &mut Floor,
    clock: Clock,
    turn: Duration,
    progress: Progress<'_>,
) -> Result<Round, BenchError> {
    let start = floor.begin_between(&clock, turn)?;
    let until_then = start.saturating_duration_since(Instant::now());
    run(swarm, None, "warming up", until_then, progress, || Ok(()))?;
    // Complete pairs of turns.
    let pairs = floor.length().as_nanos() / (2 * turn).as_nanos();
    let duration = 2 * turn * u32::try_from(pairs.max(1)).unwrap_or(u32::MAX);
    window(swarm, target, Some(floor), Some(clock), "in turns", duration, progress)
}

/// Makes some sessions stop reading for a while, then read again.
fn slow(
    swarm: &mut Swarm<Session>,
    target: &Target<'_>,
    clock: Option<Clock>,
    stall: Stall,
    before: &Round,
    progress: Progress<'_>,
) -> Result<Slow, BenchError> {
    let clock = clock.ok_or_else(|| BenchError::Plan("slow clients need a feed with a pace".to_owned()))?;
    let resident = target.usage()?.resident_bytes;
    swarm.stall(stall.clients, true);
    let during = window(swarm, target, None, Some(clock), "some do not read", stall.duration, progress)?;
    let growth = during.server.map(|server| server.rss_mib_max - mib(resident));
    let most_unsent = target.process.as_ref().map(Process::most_unsent);
    let resumed = Instant::now();
    let watch = CatchUp { now: clock.tape_micros(resumed), old_bytes: 0, old_frames: 0, is_there: false };
    swarm.peers().take(stall.clients).for_each(|peer| peer.watch = Some(watch));
    swarm.stall(stall.clients, false);
    swarm
        .run(resumed + CATCHING_UP, |swarm| {
            swarm.peers().take(stall.clients).all(|peer| peer.watch.is_some_and(|watch| watch.is_there))
        })
        .map_err(|error| BenchError::io("polling", error))?;
    let until_present = resumed.elapsed();
    let watched: Vec<CatchUp> = swarm.peers().take(stall.clients).filter_map(|peer| peer.watch).collect();
    let old_bytes = watched.iter().map(|watch| watch.old_bytes).max();
    let old_frames = watched.iter().map(|watch| watch.old_frames).max();
    let left_behind = watched.iter().filter(|watch| !watch.is_there).count();
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    Ok(Slow {
        clients: stall.clients as f64,
        seconds: during.seconds,
        // The slow ones received their frames earlier.
        healthy_frames_ratio: during.frames_per_s
            / (before.frames_per_s * (before.clients - stall.clients as f64) / before.clients),
        healthy_p99_before_ms: before.latency_p99_ms,
        healthy_p99_during_ms: during.latency_p99_ms,
        healthy_ticks_undelivered: during.ticks_undelivered,
        healthy_entries_missed: during.entries_missed + during.entries_untold,
        rss_growth_mib: growth,
        most_unsent_kib: most_unsent.map(|bytes| bytes as f64 / 1024.0),
        old_frames_before_present: old_frames.unwrap_or(0) as f64,
        old_kib_before_present: old_bytes.unwrap_or(0) as f64 / 1024.0,
        ms_until_present: until_present.as_secs_f64() * 1e3,
        clients_left_behind: left_behind as f64,
    })
}

#[expect(clippy::cast_precision_loss, reason = "µs below 2^53")]
pub(super) fn latency_ms(latency: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!latency.is_empty()).then(|| latency.value_at_quantile(quantile) as f64 / 1000.0)
}

#[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "bytes below 2^53")]
pub(super) fn growth(before: u64, after: u64) -> f64 {
    after as f64 - before as f64
}
