use super::Position;
use super::schedule::Schedule;
use crate::market::{FeedStatus, Speed, Timestamp};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How a tape does, as its thread tells it and anyone may ask: counters, and a lock that the tape takes only where its timeline changes.
#[derive(Debug)]
pub struct Progress {
    timeline: Mutex<Timeline>,
    start: Instant,
    /// When the feed's next moment is due, in ns since `start`; [`NEVER`] where none is.
    due: AtomicU64,
    position: AtomicU64,
    events: AtomicU64,
    publications: AtomicU64,
    faults: AtomicU64,
    left_out: AtomicU64,
}

/// What feeds a tape, and its clock: what happens at `feed` on the feed's clock is due at `wall`, and any later moment `t` at
/// `wall + (t - feed) / speed`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeline {
    pub status: FeedStatus,
    pub feed: Timestamp,
    pub wall: Timestamp,
    pub speed: Speed,
    /// How often the pair was changed: because the feed could not keep its pace, or has ended.
    pub reanchored: u64,
}

const NEVER: u64 = u64::MAX;

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
        }
    }

    #[must_use]
    pub fn timeline(&self) -> Timeline {
        *self.lock()
    }

    /// For how long the feed's next moment has been overdue; zero for a feed without a pace, and where none is.
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

    /// Publications that came to the tape, also those of which nothing was good.
    #[must_use]
    pub fn publications(&self) -> u64 {
        self.publications.load(Ordering::Relaxed)
    }

    /// Records of the feed that could not be read.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Records of the feed that were read well and hold nothing for a tape, as [`Feed::left_out`](crate::feed::Feed::left_out) counts them: since
    /// the feed was opened, which a seek does anew.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
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

    pub(super) fn failed(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
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
