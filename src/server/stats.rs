use super::App;
use super::fanout::{MAX_SLOW, Report};
use super::latency::{BOUNDS_US, Latency};
use super::metrics::{ShardStatus, resident_bytes};
use crate::hub::{
    FeedStats, Kind, LatencyStats, RecordingStats, Scope, ServerStats, SessionStats, ShardStats, SlowSession,
    TapeStats, Topic, TopicKey, TopicStats, TopicsStats,
};
use crate::market::{InstrumentId, Timestamp};
use crate::record::Written;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout_at};

const PERIOD: Duration = Duration::from_secs(1);
/// A shard that takes longer than this to report on its sessions is shown without them.
const REPORT_WITHIN: Duration = Duration::from_millis(500);
/// Shards shown one by one: an update must hold them all.
const MAX_SHARDS: usize = 64;
/// The length of the lists of topics.
const MAX_TOPICS: usize = 20;

/// Passes the server's stats to the shards once a second, as long as a session watches the topic `stats`.
/// Only then, so that no shard spends time on its sessions for nobody.
pub(super) async fn tell(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut every = interval(PERIOD);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut teller = Teller { before: Counts::of(&app), changes: Changes::default() };
    loop {
        tokio::select! {
            _ = every.tick() => {}
            _ = stopped.changed() => return,
        }
        tokio::select! {
            () = teller.turn(&app) => {}
            _ = stopped.changed() => return,
        }
    }
}

struct Teller {
    before: Counts,
    changes: Changes,
}

/// Counters at one moment.
struct Counts {
    at: Instant,
    position: u64,
    events: u64,
    shards: Vec<ShardStatus>,
    /// Of all rooms together.
    rooms: ShardStatus,
}

/// How often quotes have changed and how many trades there were, by instrument. Bars and days change with
/// trades.
#[derive(Default)]
struct Changes {
    counts: Vec<[u64; 2]>,
    /// Since the count before; empty if there was none.
    grown: Vec<[u64; 2]>,
}

/// From one moment to a later one.
struct Period<'a> {
    before: &'a Counts,
    now: &'a Counts,
}

impl Teller {
    async fn turn(&mut self, app: &App) {
        let now = Counts::of(app);
        let watched = now.shards.iter().any(|shard| shard.watches_stats);
        let stats = if watched || now.rooms.watches_stats {
            self.changes.count(app);
            Some(Arc::new(self.stats(app, &now).await))
        } else {
            self.changes = Changes::default();
            // A session that comes back to it later must not get old stats.
            None
        };
        // Each room gets it only while it is watched there, and `None` once after that.
        for room in app.rooms.all().iter().chain([&app.public]) {
            room.tell_stats(stats.as_ref());
        }
        self.before = now;
    }

    async fn stats(&self, app: &App, now: &Counts) -> ServerStats {
        let period = Period { before: &self.before, now };
        let loudest = self.changes.loudest();
        let reports = reports(app, loudest.iter().map(|&(topic, _)| topic).collect()).await;
        let wall = Timestamp::now();
        ServerStats {
            time: wall.micros(),
            period_ms: millis(period.duration()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(wall.nanos_since(app.started) / 1_000_000).unwrap_or(0),
            memory_bytes: resident_bytes(),
            tape: TapeStats {
                position: now.position,
                batches_per_s: period.rate(|counts| counts.position),
                events: now.events,
                events_per_s: period.rate(|counts| counts.events),
                publications: app.public.progress.publications(),
                faults: app.public.progress.faults(),
                instruments: self.changes.counts.len() as u64,
            },
            recording: recording(app).unwrap_or_default(),
            feed: feed(app),
            sessions: sessions(app, now),
            shards: period.shards(&reports),
            latency: period.latency(),
            topics: self.topics(app, &loudest, &reports, &period),
            slow: slow(&reports),
        }
    }

    fn topics(
        &self,
        app: &App,
        loudest: &[(TopicKey, u64)],
        reports: &[Option<Report>],
        period: &Period<'_>,
    ) -> TopicsStats {
        let reports = || reports.iter().flatten();
        let mut subscribed: FxHashMap<&Topic, u64> = FxHashMap::default();
        for (topic, watchers) in reports().flat_map(|report| &report.subscribed) {
            *subscribed.entry(topic).or_default() += watchers;
        }
        let mut subscribed: Vec<(&Topic, u64)> = subscribed.into_iter().collect();
        keep_first(&mut subscribed, |&(topic, watchers)| (Reverse(watchers), topic));
        let replica = app.replica();
        let by_rate = loudest.iter().enumerate().filter_map(|(index, &(key, grown))| {
            let symbol = &replica.book(key.instrument()?)?.definition.symbol;
            let watchers = |report: &Report| report.watchers.get(index).copied();
            Some(TopicStats {
                topic: Topic::of(key.kind, symbol).to_string(),
                watchers: reports().filter_map(watchers).sum(),
                per_s: Some(period.per_second(grown)),
            })
        });
        let by_watchers = subscribed.iter().map(|&(topic, watchers)| {
            let id = match &topic.scope {
                Scope::Symbol(symbol) => replica.by_symbol(symbol.as_str()).map(|book| book.definition.id),
                _ => None,
            };
            let grown = id.and_then(|id| self.changes.grown(TopicKey::of(id, topic.kind)));
            let per_s = grown.map(|grown| period.per_second(grown));
            TopicStats { topic: topic.to_string(), watchers, per_s }
        });
        TopicsStats {
            by_rate: by_rate.collect(),
            by_watchers: by_watchers.collect(),
            partial: reports().any(|report| report.partial),
        }
    }
}

impl Counts {
    fn of(app: &App) -> Self {
        Self {
            at: Instant::now(),
            position: app.public.progress.position().get(),
            events: app.public.progress.events(),
            shards: app.public.shards().iter().map(|shard| shard.monitor().status()).collect(),
            rooms: app.rooms.shards().status(),
        }
    }
}

impl Changes {
    fn count(&mut self, app: &App) {
        let counts = app.replica().books().map(|book| [book.quote.changes(), book.trades.count()]).collect();
        let before = std::mem::replace(&mut self.counts, counts);
        let grown =
            |(now, before): (&[u64; 2], &[u64; 2])| [0, 1].map(|kind| now[kind].saturating_sub(before[kind]));
        self.grown = self.counts.iter().zip(&before).map(grown).collect();
    }

    fn grown(&self, topic: TopicKey) -> Option<u64> {
        let [quotes, trades] = *self.grown.get(topic.instrument()?.index())?;
        match topic.kind {
            Kind::Quote => Some(quotes),
            Kind::Trades | Kind::Bars1s | Kind::Bars1m | Kind::Day => Some(trades),
            Kind::Status | Kind::Watchers | Kind::Stats | Kind::Messages | Kind::States => None,
        }
    }

    /// The topics with the most changes.
    fn loudest(&self) -> Vec<(TopicKey, u64)> {
        let of = |(id, grown): (u32, &[u64; 2])| {
            let topic = |kind| TopicKey::of(InstrumentId(id), kind);
            [(topic(Kind::Quote), grown[0]), (topic(Kind::Trades), grown[1])]
        };
        let mut topics: Vec<(TopicKey, u64)> = (0..).zip(&self.grown).flat_map(of).collect();
        topics.retain(|&(_, grown)| grown > 0);
        keep_first(&mut topics, |&(topic, grown)| (Reverse(grown), topic));
        topics
    }
}

impl Period<'_> {
    fn duration(&self) -> Duration {
        self.now.at.duration_since(self.before.at)
    }

    fn rate(&self, count: impl Fn(&Counts) -> u64) -> f64 {
        self.per_second(count(self.now).saturating_sub(count(self.before)))
    }

    /// To one decimal.
    #[expect(clippy::cast_precision_loss, reason = "2^53 in a second are beyond any rate")]
    fn per_second(&self, count: u64) -> f64 {
        (count as f64 * 10.0 / self.duration().as_secs_f64().max(1e-3)).round() / 10.0
    }

    fn shards(&self, reports: &[Option<Report>]) -> Vec<ShardStats> {
        let shards = self.now.shards.iter().zip(&self.before.shards).zip(reports);
        let stats = |((now, before), report): ((&ShardStatus, &ShardStatus), &Option<Report>)| {
            let rate =
                |count: fn(&ShardStatus) -> u64| self.per_second(count(now).saturating_sub(count(before)));
            let busy =
                now.busy.saturating_sub(before.busy).as_secs_f64() / self.duration().as_secs_f64().max(1e-3);
            ShardStats {
                sessions: now.connections as u64,
                blocked: now.blocked as u64,
                views: report.as_ref().map_or(0, |report| report.views as u64),
                busy: (busy.min(1.0) * 1000.0).round() / 1000.0,
                turns_per_s: rate(|shard| shard.turns),
                frames_built_per_s: rate(|shard| shard.counters.built),
                sends_per_s: rate(|shard| shard.counters.sent),
                bytes_per_s: rate(|shard| shard.counters.bytes),
                ticks_per_s: rate(|shard| shard.counters.events),
                merged_per_s: rate(ShardStatus::merged),
                behind: self.now.position.saturating_sub(now.position.get()),
                late: report.is_none(),
            }
        };
        shards.take(MAX_SHARDS).map(stats).collect()
    }

    fn latency(&self) -> LatencyStats {
        let mut latency = Latency::default();
        for (now, before) in self.now.shards.iter().zip(&self.before.shards) {
            latency.add(&now.latency.since(&before.latency));
        }
        LatencyStats {
            bounds_us: BOUNDS_US.to_vec(),
            counts: latency.counts().to_vec(),
            p50_us: latency.quantile_us(0.5),
            p90_us: latency.quantile_us(0.9),
            p99_us: latency.quantile_us(0.99),
            p999_us: latency.quantile_us(0.999),
        }
    }
}

/// Each shard's report on its sessions; `None` for those that take too long.
async fn reports(app: &App, topics: Arc<[TopicKey]>) -> Vec<Option<Report>> {
    let ask = |shard: &super::Shard| {
        let (reply, report) = oneshot::channel();
        shard.report(Arc::clone(&topics), reply);
        report
    };
    let asked: Vec<oneshot::Receiver<Report>> = app.public.shards().iter().map(ask).collect();
    let deadline = tokio::time::Instant::now() + REPORT_WITHIN;
    let mut reports = Vec::with_capacity(asked.len());
    for report in asked {
        reports.push(timeout_at(deadline, report).await.ok().and_then(Result::ok));
    }
    reports
}

/// The state of the recording, if there is one.
pub(super) fn recording(app: &App) -> Option<RecordingStats> {
    let status = app.recording.as_ref()?;
    let failure = status.failure();
    let Written { files, bytes, position, .. } = status.written();
    Some(RecordingStats {
        state: if failure.is_none() { "live" } else { "ended" }.to_owned(),
        position: position.get(),
        files,
        bytes,
        // Without the path: it concerns nobody outside.
        error: failure.map_or_else(String::new, |failure| failure.reason),
    })
}

fn feed(app: &App) -> FeedStats {
    let timeline = app.public.progress.timeline();
    FeedStats {
        kind: timeline.status.kind.name().to_owned(),
        state: timeline.status.state.name().to_owned(),
        speed: timeline.status.speed,
        clock: app.replica().time().micros(),
        behind_ms: millis(app.public.progress.behind()),
        reanchored: timeline.reanchored,
    }
}

fn sessions(app: &App, now: &Counts) -> SessionStats {
    let all = || now.shards.iter().chain([&now.rooms]);
    let sum = |count: fn(&ShardStatus) -> u64| all().map(count).sum::<u64>();
    let mut closed_by_code = BTreeMap::new();
    for (code, count) in all().flat_map(|shard| shard.tally.closed()) {
        if count > 0 {
            *closed_by_code.entry(code).or_default() += count;
        }
    }
    SessionStats {
        open: sum(|shard| shard.connections as u64),
        max: app.connections.sockets.all() as u64,
        blocked: sum(|shard| shard.blocked as u64),
        opened: sum(|shard| shard.tally.opened),
        closed: closed_by_code.values().sum(),
        closed_by_code,
        refused: app.refused.counts().iter().map(|(_, count)| count).sum(),
    }
}

/// The slowest sessions of all shards, with numbers that are unique on the server.
fn slow(reports: &[Option<Report>]) -> Vec<SlowSession> {
    let shards = reports.len() as u64;
    let mut slow: Vec<SlowSession> = (0..)
        .zip(reports)
        .flat_map(|(shard, report)| {
            report.iter().flat_map(|report| &report.slow).map(move |slow| (shard, slow))
        })
        .map(|(shard, slow)| SlowSession { session: slow.session * shards + shard, shard, ..slow.clone() })
        .collect();
    slow.sort_by_key(|slow| (Reverse(slow.lag), slow.session));
    slow.truncate(MAX_SLOW);
    slow
}

/// The first [`MAX_TOPICS`] in the order of that key, without sorting the others.
fn keep_first<T, K: Ord>(list: &mut Vec<T>, key: impl Fn(&T) -> K) {
    if list.len() > MAX_TOPICS {
        list.select_nth_unstable_by(MAX_TOPICS, |a, b| key(a).cmp(&key(b)));
        list.truncate(MAX_TOPICS);
    }
    list.sort_by_key(key);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
