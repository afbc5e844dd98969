use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a server tells of itself. It is no part of the market, and stands on the tape all the same: so it reaches whoever watches it as
/// everything else does.
///
/// Rates (`..._per_s`) are means over the last [`Self::period_ms`]. Sessions and shards are numbers; nobody's address is told. A field that
/// another version does not tell reads as zero, empty or none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStats {
    /// The server's wall clock when this was put together, in µs since 1970.
    pub time: i64,
    /// What the rates were taken over.
    pub period_ms: u64,
    pub version: String,
    pub uptime_ms: u64,
    /// Resident memory of the process; `None` where the system does not tell.
    pub memory_bytes: Option<u64>,
    pub tape: TapeStats,
    pub feed: FeedStats,
    pub sessions: SessionStats,
    /// By number, at most 64 of them.
    pub shards: Vec<ShardStats>,
    pub latency: LatencyStats,
    pub topics: TopicsStats,
    /// Sessions that are behind because their sockets take no more, those that are furthest behind first; at most 16.
    pub slow: Vec<SlowSession>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TapeStats {
    pub position: u64,
    pub batches_per_s: f64,
    /// Since the server was started, as are the other counts.
    pub events: u64,
    pub events_per_s: f64,
    pub publications: u64,
    /// Records of the feed that could not be read.
    pub faults: u64,
    pub instruments: u64,
}

/// As the topic `status` tells it, with how well its pace is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FeedStats {
    /// A name of [`super::FeedKind`].
    pub kind: String,
    /// A name of [`super::FeedState`].
    pub state: String,
    /// `None`: as fast as it can.
    pub speed: Option<f64>,
    /// The tape's clock, in µs since 1970.
    pub clock: i64,
    /// For how long the feed's next moment has been overdue.
    pub behind_ms: u64,
    /// How often its schedule was given up.
    pub reanchored: u64,
}

/// WebSocket connections of the whole server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionStats {
    pub open: u64,
    pub max: u64,
    /// Those whose sockets take no more for now.
    pub blocked: u64,
    pub opened: u64,
    pub closed: u64,
    /// Ended connections by the code of their Close frame: `1000`, ..., `1006` for none, `other`.
    pub closed_by_code: BTreeMap<String, u64>,
    /// Handshakes refused.
    pub refused: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardStats {
    pub sessions: u64,
    pub blocked: u64,
    /// Distinct sets of subscriptions: what frames are built for.
    pub views: u64,
    /// The share of its time in which it did not wait for sockets or the tape, from 0 to 1.
    pub busy: f64,
    pub turns_per_s: f64,
    pub frames_built_per_s: f64,
    /// Frames sent, at one system call each.
    pub sends_per_s: f64,
    pub bytes_per_s: f64,
    /// Changes of sessions' topics that the frames sent stand for.
    pub ticks_per_s: f64,
    /// Those of them that were told only in a newer value.
    pub merged_per_s: f64,
    /// Batches on the tape that it has not folded yet.
    pub behind: u64,
    /// It took too long to tell: what else is told of topics and slow sessions lacks this shard's.
    pub late: bool,
}

/// From a batch on the tape to the end of the flush that sent it, one for each batch and shard of the last period.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LatencyStats {
    /// Upper ends of the buckets.
    pub bounds_us: Vec<u64>,
    /// Batches in each bucket, not in those below it; behind them one more for all that is above the last bound.
    pub counts: Vec<u64>,
    /// Interpolated in their bucket; `None` where nothing was sent.
    pub p50_us: Option<u64>,
    pub p90_us: Option<u64>,
    pub p99_us: Option<u64>,
    pub p999_us: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicsStats {
    /// The topics with the most changes a second, watched or not; at most 20.
    pub by_rate: Vec<TopicStats>,
    /// What the most sessions have subscribed to, sets as one; at most 20.
    pub by_watchers: Vec<TopicStats>,
    /// There are too many subscriptions to look at all: `by_watchers` counts a part of them.
    pub partial: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicStats {
    pub topic: String,
    /// Sessions that have it: in `by_rate` by a set, too, in `by_watchers` only by this name.
    pub watchers: u64,
    /// Changes; `None` for sets, for topics that are not counted, and where nothing was known a period ago.
    pub per_s: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlowSession {
    /// Its number; another's when it is gone.
    pub session: u64,
    pub shard: u64,
    pub topics: u64,
    /// How many positions it is behind the tape, and how much by the tape's clock.
    pub lag: u64,
    pub lag_ms: u64,
    /// For how many whole seconds its socket has taken nothing.
    pub stalled_s: u64,
    /// Changes of its topics that it has not been told.
    pub waiting: u64,
    /// Those of them that it never needs to be told, because newer values are there; `None` where that was too much to count.
    pub merged: Option<u64>,
    /// Bytes kept for it: the rest of a frame that its socket took in part, and answers.
    pub backlog_bytes: u64,
}
