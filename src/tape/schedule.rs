use crate::market::{Speed, Timestamp};
use std::time::{Duration, Instant};

/// Which wall time belongs to which time of the feed: `feed` to `wall`, and from there on as `speed` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub wall: Instant,
    /// What the clock on the wall showed at `wall`, for those who cannot read an `Instant`.
    pub wall_time: Timestamp,
    pub feed: Timestamp,
    pub speed: Speed,
}

impl Schedule {
    /// The schedule by which it is `feed` now.
    pub fn from_now(feed: Timestamp, speed: Speed) -> Self {
        Self { wall: Instant::now(), wall_time: Timestamp::now(), feed, speed }
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
