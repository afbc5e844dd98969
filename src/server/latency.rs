use std::time::Duration;

/// Upper ends of the buckets, in µs: six to a decade.
pub(super) const BOUNDS_US: [u64; 37] = [
    10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1_000, 1_500, 2_000, 3_000, 5_000, 7_000, 10_000,
    15_000, 20_000, 30_000, 50_000, 70_000, 100_000, 150_000, 200_000, 300_000, 500_000, 700_000, 1_000_000,
    1_500_000, 2_000_000, 3_000_000, 5_000_000, 7_000_000, 10_000_000,
];

/// How long batches took, counted in buckets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latency {
    /// One for each of [`BOUNDS_US`], and one for all above the last.
    counts: [u64; BOUNDS_US.len() + 1],
    sum: Duration,
}

impl Default for Latency {
    fn default() -> Self {
        Self { counts: [0; BOUNDS_US.len() + 1], sum: Duration::ZERO }
    }
}

impl Latency {
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // A bucket holds its upper end.
        self.counts[BOUNDS_US.partition_point(|&bound| bound < micros)] += 1;
        self.sum += took;
    }

    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// What was recorded since `before`, an earlier state of it.
    pub fn since(&self, before: &Self) -> Self {
        let mut since = *self;
        since
            .counts
            .iter_mut()
            .zip(before.counts)
            .for_each(|(count, old)| *count = count.saturating_sub(old));
        since.sum = since.sum.saturating_sub(before.sum);
        since
    }

    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The time in µs that `share` of all took at most, interpolated in its bucket; the last bound for all
    /// that took longer. `None` if nothing was recorded.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts and bounds are far below 2^53, and a bucket is half as wide as it is high"
    )]
    pub fn quantile_us(&self, share: f64) -> Option<u64> {
        let rank = share * self.count() as f64;
        let (mut below, mut low) = (0_u64, 0);
        for (&count, &high) in self.counts.iter().zip(&BOUNDS_US) {
            if count > 0 && (below + count) as f64 >= rank {
                let into = ((rank - below as f64) / count as f64).clamp(0.0, 1.0);
                return Some(low + ((high - low) as f64 * into).round() as u64);
            }
            below += count;
            low = high;
        }
        (self.count() > 0).then_some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(micros: &[u64]) -> Latency {
        let mut latency = Latency::default();
        for &took in micros {
            latency.record(Duration::from_micros(took));
        }
        latency
    }

    #[test]
    fn bounds_only_grow() {
        assert!(BOUNDS_US.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_bucket_holds_its_upper_end_and_the_last_one_the_rest() {
        let latency = of(&[0, 10, 11, 15, 16, 10_000_000, 10_000_001, u64::MAX]);
        assert_eq!(latency.counts()[..3], [2, 2, 1]);
        assert_eq!(latency.counts()[36..], [1, 2]);
        assert_eq!(latency.count(), 8);
    }

    #[test]
    fn quantiles_lie_in_the_bucket_of_what_was_recorded() {
        assert_eq!(of(&[]).quantile_us(0.5), None);
        let one = of(&[400]).quantile_us(0.99).unwrap();
        assert!((300..=500).contains(&one), "{one}");
        let many: Vec<u64> = (1..=1000).collect();
        for (share, exact) in [(0.5, 500), (0.9, 900), (0.99, 990)] {
            let found = of(&many).quantile_us(share).unwrap();
            assert!(found.abs_diff(exact) <= exact / 20, "{share}: {found} instead of {exact}");
        }
        assert_eq!(of(&[u64::MAX]).quantile_us(0.5), Some(10_000_000));
    }

    #[test]
    fn what_was_recorded_in_between_is_the_difference() {
        let (before, mut after) = (of(&[20, 900]), of(&[20, 900]));
        after.record(Duration::from_micros(30));
        let since = after.since(&before);
        assert_eq!((since.count(), since.sum()), (1, Duration::from_micros(30)));
        let mut sum = before;
        sum.add(&since);
        assert_eq!(sum.counts(), after.counts());
    }
}
