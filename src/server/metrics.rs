use super::App;
use super::api::query_of;
use super::fanout::{Counters, Tally};
use super::latency::{BOUNDS_US, Latency};
use super::problem::Problem;
use crate::market::{FeedState, Timestamp};
use crate::record::Written;
use crate::tape::{Position, Progress};
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// `GET /metrics`: what an operator watches, in the text form of `OpenMetrics`.
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    query_of::<0>(query.as_deref(), [])?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape::of(&app)));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a string takes all");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], page).into_response())
}

/// What a shard tells of itself once a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShardStatus {
    pub connections: usize,
    /// Connections that took no more when they were last looked through.
    pub blocked: usize,
    /// As far as it has folded the tape.
    pub position: Position,
    pub counters: Counters,
    pub tally: Tally,
    pub turns: u64,
    /// How long it did not wait for sockets or the tape.
    pub busy: Duration,
    /// From a batch on the tape to the end of the flush that sent it.
    pub latency: Latency,
    /// Whether any of its sessions watches the topic `stats`.
    pub watches_stats: bool,
}

impl ShardStatus {
    /// Changes not told themselves: in a newer value, or as missed.
    pub fn merged(&self) -> u64 {
        self.counters.events.saturating_sub(self.counters.delivered)
    }
}

/// The newest [`ShardStatus`], shared between its shard and whoever asks.
#[derive(Clone, Debug, Default)]
pub(super) struct ShardMonitor(Arc<Mutex<ShardStatus>>);

impl ShardMonitor {
    /// Never waits: while someone reads, the shard's next turn tells.
    pub fn tell(&self, status: impl FnOnce() -> ShardStatus) {
        if let Ok(mut told) = self.0.try_lock() {
            *told = status();
        }
    }

    pub fn status(&self) -> ShardStatus {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handshakes that were refused, by reason.
#[derive(Debug, Default)]
pub(super) struct Refused {
    full: AtomicU64,
    origin: AtomicU64,
    handshake: AtomicU64,
}

impl Refused {
    pub fn count(&self, status: StatusCode) {
        let reason = match status {
            StatusCode::SERVICE_UNAVAILABLE => &self.full,
            StatusCode::FORBIDDEN => &self.origin,
            _ => &self.handshake,
        };
        reason.fetch_add(1, Ordering::Relaxed);
    }

    pub fn counts(&self) -> [(&'static str, u64); 3] {
        [("full", &self.full), ("origin", &self.origin), ("handshake", &self.handshake)]
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }
}

/// Everything that one scrape tells.
#[derive(Debug)]
struct Scrape {
    shards: Vec<ShardStatus>,
    refused: [(&'static str, u64); 3],
    max_connections: usize,
    rooms: usize,
    tape: Arc<Progress>,
    started: Timestamp,
    /// What was written of the tape, and whether that goes on.
    recorded: Option<(Written, bool)>,
    resident_bytes: Option<u64>,
}

impl Scrape {
    fn of(app: &App) -> Self {
        Self {
            shards: app.shards.iter().map(|shard| shard.monitor().status()).collect(),
            refused: app.refused.counts(),
            max_connections: app.seats.all(),
            rooms: app.rooms.len(),
            tape: Arc::clone(&app.public.progress),
            started: app.started,
            recorded: app.recording.as_ref().map(|status| (status.written(), status.failure().is_none())),
            resident_bytes: resident_bytes(),
        }
    }

    /// A value of each shard, by its number.
    fn by_shard(&self, value: impl Fn(&ShardStatus) -> u64) -> impl Iterator<Item = (String, u64)> {
        self.shards.iter().enumerate().map(move |(number, shard)| (number.to_string(), value(shard)))
    }

    fn latency(&self) -> Latency {
        let mut latency = Latency::default();
        self.shards.iter().for_each(|shard| latency.add(&shard.latency));
        latency
    }

    /// The sum over all shards of what each counts by name.
    fn sums(&self, counts: impl Fn(&Tally) -> Vec<(String, u64)>) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (name, count) in self.shards.iter().flat_map(|shard| counts(&shard.tally)) {
            *sums.entry(name).or_default() += count;
        }
        sums
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);

        let connections = self.by_shard(|shard| shard.connections as u64);
        page.gauges("tickcast_connections", "WebSocket connections now", "shard", connections)?;
        let blocked = self.by_shard(|shard| shard.blocked as u64);
        page.gauges("tickcast_connections_blocked", "Those that take no more for now", "shard", blocked)?;
        page.gauge("tickcast_connections_max", "WebSocket connections allowed", self.max_connections as u64)?;
        let opened = self.by_shard(|shard| shard.tally.opened);
        page.counters("tickcast_connections_opened", "WebSocket connections let in", "shard", opened)?;
        let closed = self.sums(Tally::closed);
        page.counters("tickcast_connections_closed", "WebSocket connections ended", "code", closed)?;
        let refused = self.refused.map(|(reason, count)| (reason.to_owned(), count));
        page.counters("tickcast_connections_refused", "Handshakes refused", "reason", refused)?;

        page.gauge("tickcast_rooms", "Private markets now", self.rooms as u64)?;
        let built = self.by_shard(|shard| shard.counters.built);
        page.counters("tickcast_frames_built", "Update frames built", "shard", built)?;
        let sent = self.by_shard(|shard| shard.counters.sent);
        page.counters("tickcast_frames_sent", "Update frames sent, each to one session", "shard", sent)?;
        let bytes = self.by_shard(|shard| shard.counters.bytes);
        page.counters("tickcast_frames_sent_bytes", "Bytes of them", "shard", bytes)?;
        let delivered = self.by_shard(|shard| shard.counters.delivered);
        page.counters("tickcast_entries_sent", "Values and ring entries in them", "shard", delivered)?;
        let events = self.by_shard(|shard| shard.counters.events);
        page.counters("tickcast_events_delivered", "Changes that they stand for", "shard", events)?;
        let merged = self.by_shard(ShardStatus::merged);
        page.counters(
            "tickcast_events_merged",
            "Changes told in a newer value, or as missed",
            "shard",
            merged,
        )?;
        let gaps = self.by_shard(|shard| shard.counters.gaps);
        page.counters(
            "tickcast_gaps",
            "Topics of which a session was told that it missed entries",
            "shard",
            gaps,
        )?;
        let position = self.tape.position().get();
        let behind = self.by_shard(|shard| position.saturating_sub(shard.position.get()));
        page.gauges("tickcast_shard_behind_batches", "Batches not folded yet", "shard", behind)?;

        let turns = self.by_shard(|shard| shard.turns);
        page.counters("tickcast_shard_turns", "Turns of its loop", "shard", turns)?;
        let busy = self.shards.iter().enumerate();
        let busy = busy.map(|(number, shard)| (number.to_string(), shard.busy.as_secs_f64()));
        page.counters("tickcast_shard_busy_seconds", "Time in which it did not wait", "shard", busy)?;
        page.latency(
            "tickcast_send_latency_seconds",
            "From a batch on the tape to its sends",
            &self.latency(),
        )?;

        let requests = self.sums(Tally::requests);
        page.counters("tickcast_requests", "Requests of sessions", "op", requests)?;
        let errors = self.shards.iter().map(|shard| shard.tally.errors).sum();
        page.counter("tickcast_request_errors", "Requests of sessions answered with an error", errors)?;

        let timeline = self.tape.timeline();
        page.gauge("tickcast_tape_position", "Batches on the tape", position)?;
        page.counter("tickcast_tape_events", "Events on the tape", self.tape.events())?;
        page.counter("tickcast_publications", "Publications taken", self.tape.publications())?;
        let live = u64::from(timeline.status.state == FeedState::Live);
        page.gauge("tickcast_feed_live", "Whether the feed is live: 1, or 0", live)?;
        page.gauge("tickcast_feed_behind_seconds", "How late the feed is", self.tape.behind().as_secs_f64())?;
        page.counter("tickcast_feed_reanchored", "Schedules given up", timeline.reanchored)?;
        page.counter("tickcast_feed_faults", "Records that could not be read", self.tape.faults())?;
        let left_out = self.tape.left_out();
        page.gauge("tickcast_feed_left_out", "Records read that hold nothing for a tape", left_out)?;

        if let Some((written, goes_on)) = self.recorded {
            page.gauge(
                "tickcast_recording_live",
                "Whether the tape is recorded: 1, or 0",
                u64::from(goes_on),
            )?;
            page.gauge("tickcast_recording_position", "Batches recorded", written.position.get())?;
            page.counter("tickcast_recorded_bytes", "Bytes of the recording", written.bytes)?;
        }

        #[expect(clippy::cast_precision_loss, reason = "µs since 1970 are below 2^53")]
        let started = self.started.micros() as f64 / 1e6;
        page.gauge("process_start_time_seconds", "When the server was started, since 1970", started)?;
        if let Some(bytes) = self.resident_bytes {
            page.gauge("process_resident_memory_bytes", "Memory of the process", bytes)?;
        }
        page.info("tickcast_build", "The server's version", ("version", env!("CARGO_PKG_VERSION")))
    }
}

/// Writes metrics one by one. Counters get their `_total` from the encoder.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters<Value: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (String, Value)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            metric.encode_family(&[(label, of)])?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A histogram. The encoder adds its buckets up.
    #[expect(clippy::cast_precision_loss, reason = "bounds are below 2^53")]
    fn latency(&mut self, name: &str, help: &str, latency: &Latency) -> fmt::Result {
        let bounds = BOUNDS_US.iter().map(|&bound| bound as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(latency.counts().iter().copied()).collect();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(latency.sum().as_secs_f64(), latency.count(), &buckets, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue + Copy) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (String, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (of, value) in values {
            metric.encode_family(&[(label, of)])?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn info(&mut self, name: &str, help: &str, label: (&str, &str)) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&[label])
    }
}

/// What Linux says of this process; `None` elsewhere.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kib.parse::<u64>().ok().map(|kib| kib * 1024)
}
