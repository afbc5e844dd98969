//! The map between wall time and the feed's. Any thread: pure.
//! Invariant: `clock(due(t))` is `t` up to rounding, for any `t` from `feed` on, if there is a pace.

use crate::market::{Speed, Timestamp};
use std::time::{Duration, Instant};

/// Which wall time belongs to which time of the feed: `feed` is due at `wall`, what follows at `speed`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub wall: Instant,
    /// The wall clock's time at `wall`, for readers that have no use for an `Instant`.
    pub wall_time: Timestamp,
    pub feed: Timestamp,
    pub speed: Speed,
}

impl Schedule {
    /// The schedule by which it is `feed` now, on both clocks of the machine.
    pub fn from_now((wall, wall_time): (Instant, Timestamp), feed: Timestamp, speed: Speed) -> Self {
        Self { wall, wall_time, feed, speed }
    }

    /// How far the wall clock is ahead of what it would show if it had not been set and the machine had not
    /// slept, in ns.
    pub fn wall_jump(&self, (now, wall_time): (Instant, Timestamp)) -> i64 {
        let elapsed = now.saturating_duration_since(self.wall).as_nanos();
        wall_time.nanos_since(self.wall_time).saturating_sub(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    pub fn due(&self, at: Timestamp) -> Instant {
        let nanos = at.nanos_since(self.feed).max(0);
        match self.speed {
            Speed::Max => self.wall,
            Speed::Times(1.0) => self.wall + Duration::from_nanos(nanos.unsigned_abs()),
            #[expect(
                clippy::cast_precision_loss,
                reason = "2^53 ns are 104 days, beyond which a few ns do not matter"
            )]
            Speed::Times(factor) => self.wall + Duration::from_secs_f64(nanos as f64 / 1e9 / factor),
        }
    }

    /// The feed's clock at a wall time.
    pub fn clock(&self, now: Instant) -> Timestamp {
        let elapsed = now.saturating_duration_since(self.wall);
        let nanos = match self.speed {
            Speed::Max => 0.0,
            Speed::Times(factor) => elapsed.as_secs_f64() * factor * 1e9,
        };
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and the clock with it")]
        self.feed.plus_nanos(nanos as i64)
    }
}
