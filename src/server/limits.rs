//! The bounds of sessions and requests. Every message or error that names one takes it from here; a test
//! compares them with the tables in `docs/protocol.md` and `docs/http.md`.

use crate::hub::MAX_TOPICS;
use crate::wire::{self, MAX_HZ, MAX_MESSAGE_BYTES, MAX_SESSIONS};
use std::time::Duration;

/// Bounds of one connection and its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Topics that its sessions may have together; a set counts as one.
    pub topics: usize,
    /// Sessions that it may have.
    pub sessions: usize,
    /// Topics of one `checksum` request.
    pub checksum_topics: usize,
    /// Requests to the room, `replay` and `publish`, that may be unanswered.
    pub asked_of_room: usize,
    /// Bytes of one request.
    pub message_bytes: usize,
    /// Requests a second on average, and at once.
    pub requests_per_second: u8,
    pub request_burst: u8,
    /// Bytes of answers that may be unread.
    pub backlog_bytes: usize,
    /// From a request's first byte to its last, in seconds.
    pub message_seconds: u32,
    /// How long what is pending may stay unread, in seconds.
    pub stall_seconds: u32,
    /// How long a peer may be silent, in seconds; after how long it gets a ping.
    pub silence_seconds: u32,
    pub ping_seconds: u32,
    /// How long a peer may take to close, in seconds.
    pub linger_seconds: u32,
    /// A session without pending updates gets a heartbeat this long after the last update at the latest.
    pub heartbeat: Duration,
    /// As `heartbeat`, of a stream: some of its clients give up after five seconds of silence.
    pub stream_heartbeat: Duration,
}

/// Bounds of HTTP, of one request and of all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Of an address and its headers.
    pub head_bytes: usize,
    pub head_time: Duration,
    /// Of a body of `/v1/publish`, decompressed, and of one of `/v1/replay`.
    pub publish_bytes: usize,
    pub replay_bytes: usize,
    /// For a complete body, and between two pieces of it.
    pub body_time: Duration,
    pub body_pause: Duration,
    /// Of all bodies being received, and of all answers not read yet.
    pub bodies_bytes: usize,
    pub answers_bytes: usize,
    /// Bodies and answers of up to this many are not counted there.
    pub small_bytes: usize,
    /// How long an answer may stay unread, and how fast it must be read, in bytes a second.
    pub read_time: Duration,
    pub read_bytes_per_second: u64,
    /// Connections reserved for `/healthz`, `/readyz` and `/metrics`.
    pub probes: usize,
}

pub const SESSION: SessionLimits = SessionLimits {
    topics: MAX_TOPICS,
    sessions: MAX_SESSIONS,
    checksum_topics: 64,
    asked_of_room: 16,
    message_bytes: MAX_MESSAGE_BYTES,
    requests_per_second: 50,
    request_burst: 100,
    backlog_bytes: 256 * 1024,
    message_seconds: 30,
    stall_seconds: 30,
    silence_seconds: 60,
    ping_seconds: 20,
    linger_seconds: 2,
    heartbeat: Duration::from_secs(5),
    stream_heartbeat: Duration::from_secs(2),
};

pub const HTTP: HttpLimits = HttpLimits {
    head_bytes: 64 * 1024,
    head_time: Duration::from_secs(10),
    publish_bytes: 8 * 1024 * 1024,
    replay_bytes: 16 * 1024,
    body_time: Duration::from_secs(30),
    body_pause: Duration::from_secs(10),
    bodies_bytes: 64 * 1024 * 1024,
    answers_bytes: 64 * 1024 * 1024,
    small_bytes: 64 * 1024,
    read_time: Duration::from_secs(10),
    read_bytes_per_second: 64 * 1024,
    probes: 16,
};

impl SessionLimits {
    /// As a `welcome` states them.
    #[must_use]
    pub fn told(&self) -> wire::Limits {
        wire::Limits {
            topics: self.topics,
            message_bytes: self.message_bytes,
            requests_per_second: u32::from(self.requests_per_second),
            max_hz: MAX_HZ,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOL: &str = include_str!("../../docs/protocol.md");
    const HTTP_DOCS: &str = include_str!("../../docs/http.md");

    /// Checks the table row that begins so: it must contain each of these.
    #[track_caller]
    fn check(text: &str, row: &str, says: &[String]) {
        let found = text.lines().find(|line| line.starts_with(&format!("| {row}")));
        let found = found.unwrap_or_else(|| panic!("no row {row:?}"));
        for words in says {
            assert!(found.contains(words.as_str()), "{found:?} does not say {words:?}");
        }
    }

    fn kib(bytes: usize) -> String {
        if bytes < 1024 * 1024 {
            format!("{} KiB", bytes / 1024)
        } else {
            format!("{} MiB", bytes / 1024 / 1024)
        }
    }

    fn seconds(time: Duration) -> String {
        format!("{} s", time.as_secs())
    }

    #[test]
    fn the_tables_of_the_docs_say_what_holds() {
        let s = SESSION;
        check(PROTOCOL, "a request |", &[kib(s.message_bytes)]);
        check(PROTOCOL, "the time from a request's", &[format!("{} s", s.message_seconds)]);
        check(PROTOCOL, "topics of a session", &["1,024".to_owned()]);
        assert_eq!(s.topics, 1024);
        check(PROTOCOL, "sessions of a connection", &[format!("| {}, ", s.sessions)]);
        let last = s.sessions - 1;
        check(PROTOCOL, "`open`", &[format!("1 to {last}")]);
        let (average, burst) =
            (format!("{} a second", s.requests_per_second), format!("bursts of {}", s.request_burst));
        check(PROTOCOL, "requests |", &[average, burst]);
        check(PROTOCOL, "`checksum`", &[format!("at most {}", s.checksum_topics)]);
        check(PROTOCOL, "`replay` and `publish` requests under way", &[s.asked_of_room.to_string()]);
        check(PROTOCOL, "answers that wait to be read", &[kib(s.backlog_bytes)]);
        check(PROTOCOL, "owed data that is not read", &[format!("{} s", s.stall_seconds)]);
        check(
            PROTOCOL,
            "silence of a client",
            &[format!("| {} s |", s.silence_seconds), format!("pings after {} s", s.ping_seconds)],
        );
        let h = HTTP;
        check(HTTP_DOCS, "the head of a request", &[kib(h.head_bytes), seconds(h.head_time)]);
        check(HTTP_DOCS, "connections that speak HTTP", &[format!("{} more", h.probes)]);
        check(
            HTTP_DOCS,
            "a body of `/v1/publish`",
            &[kib(h.publish_bytes), seconds(h.body_time), format!("over {}", seconds(h.body_pause))],
        );
        check(HTTP_DOCS, "a body of `/v1/replay`", &[kib(h.replay_bytes)]);
        assert_eq!(h.bodies_bytes, h.answers_bytes);
        check(HTTP_DOCS, "all bodies", &[kib(h.bodies_bytes), format!("up to {}", kib(h.small_bytes))]);
        let speed = format!("{} KiB a second", h.read_bytes_per_second / 1024);
        check(HTTP_DOCS, "reading an answer", &[seconds(h.read_time), speed]);
    }
}
