use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// How long to wait before the next attempt: a random part of a span that doubles with each failure, so that the clients of
/// a server that went away do not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    /// What the server asked for instead: at least this long, and a random part of that on top.
    asked: Option<(Duration, Duration)>,
    random: StdRng,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { failures: 0, asked: None, random: StdRng::seed_from_u64(seed) }
    }

    /// The server says when to come back; holds for the next attempt.
    pub(super) fn ask(&mut self, after: Duration, jitter: Duration) {
        self.asked = Some((after, jitter));
    }

    /// The server has more than it can do, or more than it likes of us.
    pub(super) fn slow_down(&mut self) {
        self.failures += 3;
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failed(&mut self) -> Duration {
        let span = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let (least, span) = self.asked.take().unwrap_or((Duration::ZERO, span));
        least + span.mul_f64(self.random.random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest of many draws after so many failures, in tenths of a second, rounded up.
    #[track_caller]
    fn check(failures: u32, asked: Option<(u64, u64)>, shortest: u64, longest: u64) {
        let draws: Vec<Duration> = (0..500)
            .map(|seed| {
                let mut backoff = Backoff::new(seed);
                for _ in 0..failures {
                    backoff.failed();
                }
                if let Some((after, jitter)) = asked {
                    backoff.ask(Duration::from_millis(after), Duration::from_millis(jitter));
                }
                backoff.failed()
            })
            .collect();
        let [shortest, longest] = [shortest, longest].map(Duration::from_millis);
        let (min, max) = (draws.iter().min().unwrap(), draws.iter().max().unwrap());
        assert!(*min >= shortest && *max <= longest, "{min:?} to {max:?}");
        assert!(
            max.abs_diff(*min) > longest.abs_diff(shortest).mul_f64(0.9),
            "draws fill the span: {min:?} to {max:?}"
        );
    }

    #[test]
    fn waits_are_drawn_from_a_span_that_doubles_to_half_a_minute() {
        check(0, None, 0, 250);
        check(1, None, 0, 500);
        check(5, None, 0, 8_000);
        check(7, None, 0, 30_000);
        check(5000, None, 0, 30_000);
    }

    #[test]
    fn what_the_server_asks_for_is_waited_for() {
        check(4, Some((2_000, 3_000)), 2_000, 5_000);
    }
}
