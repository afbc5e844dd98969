//! What the topic `stats` holds: the figures of one server. Pure data; made on the server's side, read on any
//! thread.
//!
//! Invariant: it is on no tape, so replicas may differ in it; and it names no address.

use crate::market::Speed;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The figures of one server. They are of this node alone, and so on no tape: a replica takes them in with a
/// batch, and they get its position, so that they are delivered like everything else.
///
/// Rates (`..._per_s`) are means over the last `period_ms`. Sessions and shards are numbers; no
/// address is reported. A field that another version does not send reads as zero, empty or none, a speed as
/// 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ServerStats {
    /// The server's wall clock when this was put together, in µs since 1970.
    pub time: i64,
    /// The period of the rates.
    pub period_ms: u64,
    /// The server's.
    pub version: String,
    /// Since the server was started.
    pub uptime_ms: u64,
    /// Resident memory of the process; `None` where the system does not report it.
    pub memory_bytes: Option<u64>,
    /// Its tape.
    pub tape: TapeStats,
    /// Its recording.
    pub recording: RecordingStats,
    /// What is played, or published.
    pub feed: FeedStats,
    /// Its connections.
    pub sessions: SessionStats,
    /// By number, at most 64 of them.
    pub shards: Vec<ShardStats>,
    /// From the tape to the sockets.
    pub latency: LatencyStats,
    /// What is watched, and what changes.
    pub topics: TopicsStats,
    /// Sessions that lag because their sockets take no more, the largest lag first; at most 16.
    pub slow: Vec<SlowSession>,
}

/// The tape, and what came to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TapeStats {
    /// Of the newest batch.
    pub position: u64,
    /// Batches a second.
    pub batches_per_s: f64,
    /// Since the server was started, as are the other counts.
    pub events: u64,
    /// Events a second.
    pub events_per_s: f64,
    /// Publications that were taken.
    pub publications: u64,
    /// Records of the feed that could not be read.
    pub faults: u64,
    /// Instruments that are known.
    pub instruments: u64,
}

/// How the tape is recorded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct RecordingStats {
    /// `live` or `ended`; empty where the tape is not recorded.
    pub state: String,
    /// Of the last batch recorded.
    pub position: u64,
    /// Files written, the current one included.
    pub files: u64,
    /// Of all files.
    pub bytes: u64,
    /// Why it ended; empty while it is live.
    pub error: String,
}

/// As the topic `status` has it, with how well the pace is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct FeedStats {
    /// `simulator`, `replay` or `publisher`.
    pub kind: String,
    /// `live`, `stale`, `paused`, `ended` or `seeking`.
    pub state: String,
    /// How fast it is played.
    pub speed: Speed,
    /// The tape's clock, in µs since 1970.
    pub clock: i64,
    /// For how long the feed's next event has been overdue.
    pub behind_ms: u64,
    /// How often its schedule was given up and begun again.
    pub reanchored: u64,
}

/// WebSocket connections of all shards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SessionStats {
    /// Open now.
    pub open: u64,
    /// As many as there may be.
    pub max: u64,
    /// Those whose sockets take no more for now.
    pub blocked: u64,
    /// Opened since the start.
    pub opened: u64,
    /// Ended since the start.
    pub closed: u64,
    /// Ended connections by the code of their Close frame: `1000`, ..., `1006` for none, `other`.
    pub closed_by_code: BTreeMap<String, u64>,
    /// Handshakes refused.
    pub refused: u64,
}

/// One fan-out thread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct ShardStats {
    /// Its connections.
    pub sessions: u64,
    /// Those of them whose sockets take no more for now.
    pub blocked: u64,
    /// Distinct sets of subscriptions: what frames are built for.
    pub views: u64,
    /// The share of its time in which it did not wait for sockets or the tape, from 0 to 1.
    pub busy: f64,
    /// Turns of its loop.
    pub turns_per_s: f64,
    /// Frames encoded.
    pub frames_built_per_s: f64,
    /// Frames sent, at one system call each.
    pub sends_per_s: f64,
    /// Bytes sent.
    pub bytes_per_s: f64,
    /// Changes of sessions' topics that the frames sent represent.
    pub ticks_per_s: f64,
    /// Those of them that were delivered only in a newer value.
    pub merged_per_s: f64,
    /// Batches on the tape that it has not folded yet.
    pub behind: u64,
    /// It did not report in time: topics and slow sessions lack this shard's.
    pub late: bool,
}

/// The time from a batch on the tape to the end of the flush that sent it, one for each batch and shard of
/// the last period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct LatencyStats {
    /// Upper ends of the buckets.
    pub bounds_us: Vec<u64>,
    /// Batches in each bucket, not cumulative; the last one more is for all above the last bound.
    pub counts: Vec<u64>,
    /// Interpolated in their bucket; `None` where nothing was sent.
    pub p50_us: Option<u64>,
    /// As the median above.
    pub p90_us: Option<u64>,
    /// As the median above.
    pub p99_us: Option<u64>,
    /// As the median above.
    pub p999_us: Option<u64>,
}

/// Topics by changes, and by watchers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TopicsStats {
    /// The topics with the most changes a second, watched or not; at most 20.
    pub by_rate: Vec<TopicStats>,
    /// What the most sessions have subscribed to, sets as one; at most 20.
    pub by_watchers: Vec<TopicStats>,
    /// Whether there are too many subscriptions to look at all: `by_watchers` counts a part of them.
    pub partial: bool,
}

/// One topic, or set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TopicStats {
    /// Its name.
    pub topic: String,
    /// Sessions that have it: in `by_rate` also by a set, in `by_watchers` only by this name.
    pub watchers: u64,
    /// Changes; `None` for sets, for topics that are not counted, and where nothing was known a period ago.
    pub per_s: Option<f64>,
}

/// A session that lags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct SlowSession {
    /// Its number, which is reused when it is gone.
    pub session: u64,
    /// The shard that has it.
    pub shard: u64,
    /// Topics that it has, sets as one.
    pub topics: u64,
    /// Its lag in positions; `lag_ms` is the same by the tape's clock.
    pub lag: u64,
    /// Its lag by the tape's clock, in ms.
    pub lag_ms: u64,
    /// Complete seconds in which its socket has taken nothing.
    pub stalled_s: u64,
    /// Changes of its topics that are pending.
    pub waiting: u64,
    /// Those of them that are never delivered, because newer values replace them; `None` where that was too
    /// much to count.
    pub merged: Option<u64>,
    /// Bytes kept for it: the rest of a frame that its socket took in part, and answers.
    pub backlog_bytes: u64,
}
