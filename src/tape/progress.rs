//! How a tape does. Written by the tape thread, read by any: counters, and a lock that the tape takes only
//! where its timeline changes.
//! Invariant: the position never runs back, and is never less than what a reader of the tape has.

use super::Position;
use super::end::End;
use super::schedule::Schedule;
use crate::market::{FeedStatus, Speed, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a tape does: its counters, its timeline and its end.
#[derive(Debug)]
pub struct Progress {
    timeline: Mutex<Timeline>,
    start: Instant,
    /// When the feed's next moment is due, in ns since `start`; [`NEVER`] if none is.
    due: AtomicU64,
    position: AtomicU64,
    events: AtomicU64,
    publications: AtomicU64,
    faults: AtomicU64,
    left_out: AtomicU64,
    end: End,
}

/// What feeds a tape, and its clock: what happens at `feed` on the feed's clock is due at `wall`, and any
/// later moment `t` at `wall + (t - feed) / speed`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeline {
    pub status: FeedStatus,
    pub feed: Timestamp,
    pub wall: Timestamp,
    pub speed: Speed,
    /// How often the pair `feed`, `wall` was changed, for example because the feed could not keep its pace or
    /// has ended.
    pub reanchored: u64,
}

const NEVER: u64 = u64::MAX;
/// Records that could not be read are logged one by one up to this many, then only counted.
const FAULTS_TOLD: u64 = 20;

impl Progress {
    pub(super) fn new(status: FeedStatus, schedule: &Schedule) -> Self {
        let &Schedule { wall, wall_time, feed, speed } = schedule;
        let zero = || AtomicU64::new(0);
        Self {
            timeline: Mutex::new(Timeline { status, feed, wall: wall_time, speed, reanchored: 0 }),
            start: wall,
            due: AtomicU64::new(NEVER),
            position: zero(),
            events: zero(),
            publications: zero(),
            faults: zero(),
            left_out: zero(),
            end: End::default(),
        }
    }

    #[must_use]
    pub fn timeline(&self) -> Timeline {
        *self.lock()
    }

    /// For how long the feed's next moment has been overdue; zero for a feed without a pace, or if none is
    /// due.
    #[must_use]
    pub fn behind(&self) -> Duration {
        match self.due.load(Ordering::Relaxed) {
            NEVER => Duration::ZERO,
            due => self.start.elapsed().saturating_sub(Duration::from_nanos(due)),
        }
    }

    /// Of the newest batch.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::new(self.position.load(Ordering::Relaxed))
    }

    /// Events on the tape.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Publications that came to the tape, including those without a valid event.
    #[must_use]
    pub fn publications(&self) -> u64 {
        self.publications.load(Ordering::Relaxed)
    }

    /// Records of the feed that could not be read.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Records of the feed that could be read and hold nothing for a tape, as
    /// [`Feed::left_out`](crate::feed::Feed::left_out) counts them: since the feed was opened, anew by each
    /// seek.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Whether the tape's thread is gone: all handles are dropped, its log has failed, or it panicked.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.end.is_over()
    }

    /// The end of the tape's thread.
    #[must_use]
    pub fn end(&self) -> &End {
        &self.end
    }

    pub(super) fn leaves_out(&self, records: u64) {
        self.left_out.store(records, Ordering::Relaxed);
    }

    /// The feed's first moment is known: it is due now.
    pub(super) fn begun(&self, schedule: &Schedule) {
        self.lock().follow(schedule);
    }

    pub(super) fn reanchored(&self, schedule: &Schedule) {
        let mut timeline = self.lock();
        timeline.follow(schedule);
        timeline.reanchored += 1;
    }

    pub(super) fn changed(&self, status: FeedStatus) {
        self.lock().status = status;
    }

    pub(super) fn next_due(&self, due: Option<Instant>) {
        let since_start = |due: Instant| due.saturating_duration_since(self.start).as_nanos();
        let nanos = due.map_or(NEVER, |due| u64::try_from(since_start(due)).unwrap_or(NEVER));
        self.due.store(nanos, Ordering::Relaxed);
    }

    pub(super) fn appended(&self, position: Position, events: usize) {
        self.position.store(position.get(), Ordering::Relaxed);
        self.events.fetch_add(events as u64, Ordering::Relaxed);
    }

    pub(super) fn published(&self) {
        self.publications.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a record that cannot be read, or put on the tape, and logs the first ones.
    pub(super) fn tell_fault(&self, error: &dyn std::fmt::Display) {
        match self.faults.fetch_add(1, Ordering::Relaxed) {
            0..FAULTS_TOLD => tracing::warn!("{error}"),
            FAULTS_TOLD => tracing::warn!("more records cannot be read; only their number will be told"),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Timeline> {
        self.timeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timeline {
    fn follow(&mut self, schedule: &Schedule) {
        let &Schedule { wall_time, feed, speed, .. } = schedule;
        (self.feed, self.wall, self.speed) = (feed, wall_time, speed);
    }
}
