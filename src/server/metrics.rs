use super::App;
use super::accept::Accept;
use super::api::query_of;
use super::fanout::{Counters, Tally};
use super::latency::{BOUNDS_US, Latency};
use super::problem::Problem;
use crate::market::{FeedState, Timestamp};
use crate::record::Written;
use crate::tape::{Position, Progress};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
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

/// The media types of metrics.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`: what an operator watches, in the text format of `OpenMetrics` or Prometheus, as requested.
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    query_of::<0>(query.as_deref(), [])?;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape::of(&app)));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a string takes all");
    let (kind, page) =
        if wants_openmetrics(&headers) { (OPENMETRICS, page) } else { (PROMETHEUS, as_prometheus(&page)) };
    Ok(([(header::CONTENT_TYPE, kind), (header::VARY, "Accept")], page).into_response())
}

/// Which of the two formats has more weight in `Accept`. Without a preference it is `OpenMetrics`; a browser
/// gets the format that it shows.
fn wants_openmetrics(headers: &HeaderMap) -> bool {
    let accept = Accept::of(headers);
    if accept.is_empty() {
        return true;
    }
    let open = accept.weight("application/openmetrics-text", Some("1.0.0"));
    let plain = accept.weight("text/plain", Some("0.0.4"));
    open > plain || (open == plain && open > 0 && !accept.names("text/html"))
}

/// The same page in the older format: there a counter's family has the name of its samples, and there is no
/// type `info` and no end.
fn as_prometheus(page: &str) -> String {
    let mut plain = String::with_capacity(page.len());
    // A family's type comes after its help.
    let mut help = "";
    for line in page.lines() {
        let words = |prefix: &str| line.strip_prefix(prefix).and_then(|rest| rest.split_once(' '));
        if let Some((_, text)) = words("# HELP ") {
            help = text;
        } else if let Some((name, kind)) = words("# TYPE ") {
            let (suffix, kind) = match kind {
                "counter" => ("_total", kind),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            plain.extend(["# HELP ", name, suffix, " ", help, "\n# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            plain.extend([line, "\n"]);
        }
    }
    plain
}

/// What a shard reports of itself once a turn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShardStatus {
    pub connections: usize,
    /// Connections that took no more at the last check.
    pub blocked: usize,
    /// As far as it has folded the tape.
    pub position: Position,
    pub counters: Counters,
    pub tally: Tally,
    pub turns: u64,
    /// The time in which it did not wait for sockets or the tape.
    pub busy: Duration,
    /// From a batch on the tape to the end of the flush that sent it.
    pub latency: Latency,
    /// Whether any of its sessions watches the topic `stats`.
    pub watches_stats: bool,
}

impl ShardStatus {
    /// Changes not delivered themselves, but in a newer value or as missed.
    pub fn merged(&self) -> u64 {
        self.counters.events.saturating_sub(self.counters.delivered)
    }

    /// Adds what another shard reports, except the position: it may be of another tape.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.blocked += other.blocked;
        let Counters { built, sent, bytes, delivered, events, gaps } = other.counters;
        self.counters.built += built;
        self.counters.sent += sent;
        self.counters.bytes += bytes;
        self.counters.delivered += delivered;
        self.counters.events += events;
        self.counters.gaps += gaps;
        self.tally = self.tally.plus(&other.tally);
        self.turns += other.turns;
        self.busy += other.busy;
        self.latency.add(&other.latency);
        self.watches_stats |= other.watches_stats;
    }
}

/// The newest [`ShardStatus`], shared between its shard and its readers.
#[derive(Clone, Debug, Default)]
pub(super) struct ShardMonitor(Arc<Mutex<ShardStatus>>);

impl ShardMonitor {
    /// Never waits: if it is being read, the shard's next turn reports.
    pub fn tell(&self, status: impl FnOnce() -> ShardStatus) {
        if let Ok(mut told) = self.0.try_lock() {
            *told = status();
        }
    }

    /// Of a shard that has no other turn.
    pub fn tell_last(&self, status: &ShardStatus) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = *status;
    }

    /// Whether it is of the same shard.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
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

/// Everything in one scrape.
#[derive(Debug)]
struct Scrape {
    shards: Vec<ShardStatus>,
    /// Those of all private markets, and how many batches they have not folded yet.
    rooms_shards: (ShardStatus, u64),
    refused: [(&'static str, u64); 3],
    max_connections: usize,
    http: usize,
    max_http: usize,
    polling: usize,
    /// Answered, by status; answers that were built for them; and those that wait.
    polls: ([(&'static str, u64); 2], u64, usize),
    cut: [(&'static str, u64); 4],
    requests_refused: Vec<(&'static str, u64)>,
    events_rejected: Vec<(&'static str, u64)>,
    rooms: usize,
    tape: Arc<Progress>,
    started: Timestamp,
    /// What was recorded of the tape, and whether that goes on.
    recorded: Option<(Written, bool)>,
    resident_bytes: Option<u64>,
}

impl Scrape {
    fn of(app: &App) -> Self {
        let rooms_shards = {
            let shards = app.rooms.shards();
            (shards.status(), shards.behind())
        };
        Self {
            shards: app.public.shards().iter().map(|shard| shard.monitor().status()).collect(),
            rooms_shards,
            refused: app.refused.counts(),
            max_connections: app.connections.sockets.all(),
            http: app.connections.http(),
            max_http: app.connections.max_http(),
            polling: app.polls.len(),
            polls: app.answers.counted(),
            cut: app.connections.cut.counts(),
            requests_refused: app.requests_refused.counts().to_vec(),
            events_rejected: app.events_rejected.counts().to_vec(),
            rooms: app.rooms.len(),
            tape: Arc::clone(&app.public.progress),
            started: app.started,
            recorded: app.recording.as_ref().map(|status| (status.written(), status.failure().is_none())),
            resident_bytes: resident_bytes(),
        }
    }

    /// All shards by name: the public market's by number, and those of rooms, which come and go, as one.
    fn named_shards(&self) -> impl Iterator<Item = (String, &ShardStatus)> {
        let public = self.shards.iter().enumerate().map(|(number, shard)| (number.to_string(), shard));
        public.chain([("rooms".to_owned(), &self.rooms_shards.0)])
    }

    /// A value of each shard.
    fn by_shard(&self, value: impl Fn(&ShardStatus) -> u64) -> impl Iterator<Item = (String, u64)> {
        self.named_shards().map(move |(name, shard)| (name, value(shard)))
    }

    fn latency(&self) -> Latency {
        let mut latency = Latency::default();
        self.named_shards().for_each(|(_, shard)| latency.add(&shard.latency));
        latency
    }

    /// The sum over all shards of what each counts by name.
    fn sums(&self, counts: impl Fn(&Tally) -> Vec<(String, u64)>) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (name, count) in self.named_shards().flat_map(|(_, shard)| counts(&shard.tally)) {
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

        page.gauge("tickcast_http_connections", "HTTP connections now, WebSockets apart", self.http as u64)?;
        page.gauge("tickcast_polling_clients", "Clients of Socket.IO that poll now", self.polling as u64)?;
        let (answered, built, waiting) = &self.polls;
        page.counters("tickcast_polls", "Polls without a session answered", "status", named(answered))?;
        page.counter("tickcast_poll_answers_built", "Answers built for them", *built)?;
        page.gauge("tickcast_polls_waiting", "Those that wait now", *waiting as u64)?;
        page.gauge("tickcast_http_connections_max", "HTTP connections allowed", self.max_http as u64)?;
        page.counters(
            "tickcast_http_connections_cut",
            "HTTP connections ended by the server",
            "reason",
            named(&self.cut),
        )?;
        let refused = named(&self.requests_refused);
        page.counters("tickcast_http_requests_refused", "HTTP requests refused", "reason", refused)?;

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
        let behind = self.shards.iter().map(|shard| position.saturating_sub(shard.position.get()));
        let behind = (0_usize..).zip(behind).map(|(number, behind)| (number.to_string(), behind));
        let behind = behind.chain([("rooms".to_owned(), self.rooms_shards.1)]);
        page.gauges("tickcast_shard_behind_batches", "Batches not folded yet", "shard", behind)?;

        let turns = self.by_shard(|shard| shard.turns);
        page.counters("tickcast_shard_turns", "Turns of its loop", "shard", turns)?;
        let busy = self.named_shards().map(|(name, shard)| (name, shard.busy.as_secs_f64()));
        page.counters("tickcast_shard_busy_seconds", "Time in which it did not wait", "shard", busy)?;
        page.latency(
            "tickcast_send_latency_seconds",
            "From a batch on the tape to its sends",
            &self.latency(),
        )?;

        let requests = self.sums(Tally::requests);
        page.counters("tickcast_requests", "Requests of sessions", "op", requests)?;
        let errors = self.named_shards().map(|(_, shard)| shard.tally.errors).sum();
        page.counter("tickcast_request_errors", "Requests of sessions answered with an error", errors)?;

        let timeline = self.tape.timeline();
        page.gauge("tickcast_tape_position", "Batches on the tape", position)?;
        page.counter("tickcast_tape_events", "Events on the tape", self.tape.events())?;
        page.counter("tickcast_publications", "Publications taken", self.tape.publications())?;
        let rejected = named(&self.events_rejected);
        page.counters("tickcast_events_rejected", "Published events not taken", "reason", rejected)?;
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

fn named(counts: &[(&'static str, u64)]) -> impl Iterator<Item = (String, u64)> {
    counts.iter().map(|&(name, count)| (name.to_owned(), count))
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

/// From Linux; `None` elsewhere.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    kib.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[track_caller]
    fn check(accept: &'static str, openmetrics: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        assert_eq!(wants_openmetrics(&headers), openmetrics, "{accept}");
    }

    #[test]
    fn the_form_is_that_which_is_asked_for_most() {
        assert!(wants_openmetrics(&HeaderMap::new()));
        check("*/*", true);
        check("text/plain", false);
        check("text/plain;version=0.0.4;q=1,*/*;q=0.1", false);
        check("application/openmetrics-text", true);
        // What Prometheus itself sends, old and new.
        check(
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            true,
        );
        check("application/openmetrics-text; version=1.0.0; charset=utf-8; q=0.2, text/plain; q=0.6", false);
        check("application/openmetrics-text;version=0.0.1, text/plain;q=0.5", false);
        check("application/openmetrics-text;q=0, */*", false);
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false);
        // Neither is wanted: all readers understand the older one.
        check("application/json", false);
    }

    #[test]
    fn the_older_form_names_families_as_their_samples() {
        let page = "# HELP a Things.\n# TYPE a counter\na_total{x=\"1\"} 5\n# HELP b Now.\n# TYPE b gauge\nb 1.5\n\
                    # HELP c Build.\n# TYPE c info\nc_info{version=\"1\"} 1\n# EOF\n";
        let expected = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1\"} 5\n# HELP b Now.\n# TYPE b gauge\nb 1.5\n\
                        # HELP c_info Build.\n# TYPE c_info gauge\nc_info{version=\"1\"} 1\n";
        assert_eq!(as_prometheus(page), expected);
    }
}
