use super::{random::Random, session};

/// Draws the instrument of each tick: the busier an instrument, the more often, and in bursts.
///
/// A share of all ticks is fresh, drawn by weight; the others are answers to a tick just before and come from
/// the same instrument, as in a Hawkes process. Answers inherit the shares of what they answer, so the
/// weights hold for both, while the number of ticks a second is exactly the configured rate. Outside of the
/// busiest minute of the day instruments that trade day and night get more than their weight.
#[derive(Clone)]
pub(super) struct Activity {
    shares: Shares,
    /// Per instrument: trades day and night.
    always_on: Vec<bool>,
    /// The instruments of the latest ticks, in a ring.
    recent: Vec<u32>,
    newest: usize,
}

const RECENT: usize = 256;
/// The share of answers: a burst has 1 / (1 - 0.75) = 4 ticks on average.
const ANSWERS: f64 = 0.75;

impl Activity {
    /// Of at least one instrument, with the weight of each and whether it trades day and night.
    pub(super) fn new(instruments: &[(u32, bool)], random: &mut Random) -> Self {
        let weights: Vec<u32> = instruments.iter().map(|i| i.0).collect();
        let shares = Shares::new(&weights);
        let recent = (0..RECENT).map(|_| shares.draw(random)).collect();
        let always_on = instruments.iter().map(|i| i.1).collect();
        Self { shares, always_on, recent, newest: 0 }
    }

    /// Draws the index of the next instrument. A low `pace` gives more turns to those that trade day and
    /// night.
    pub(super) fn pick(&mut self, pace: f64, random: &mut Random) -> usize {
        let pick = if random.chance(ANSWERS) {
            // Squaring prefers the latest: answers come quickly or hardly at all.
            let (x, _) = random.below(RECENT);
            self.recent[(self.newest + RECENT - x * x / RECENT) % RECENT]
        } else {
            let fresh = self.shares.draw(random);
            let rests = !self.always_on[fresh as usize] && !random.chance(pace / session::PEAK);
            if rests { self.shares.draw(random) } else { fresh }
        };
        self.newest = (self.newest + 1) % RECENT;
        self.recent[self.newest] = pick;
        pick as usize
    }
}

/// Draws a number by weight in constant time: Walker's alias method, in integers.
#[derive(Clone)]
struct Shares {
    /// Cell `i` is number `i` if the rest of the draw is below the first value, else the second one.
    cells: Vec<(u64, u32)>,
}

impl Shares {
    fn new(weights: &[u32]) -> Self {
        let total: u128 = weights.iter().map(|&w| u128::from(w)).sum();
        // Every cell is `total` wide; number `i` has `left[i]` to put into cells.
        let mut left: Vec<u128> = weights.iter().map(|&w| u128::from(w) * weights.len() as u128).collect();
        let mut cells: Vec<(u64, u32)> = (0..).zip(weights).map(|(i, _)| (u64::MAX, i)).collect();
        let (mut poor, mut rich): (Vec<_>, Vec<_>) = (0..left.len()).partition(|&i| left[i] < total);
        while let (Some(small), Some(&large)) = (poor.pop(), rich.last()) {
            let edge = u64::try_from((left[small] << 64) / total).unwrap_or(u64::MAX);
            cells[small] = (edge, u32::try_from(large).expect("under 2^32 instruments"));
            left[large] -= total - left[small];
            if left[large] < total {
                rich.pop();
                poor.push(large);
            }
        }
        Self { cells }
    }

    fn draw(&self, random: &mut Random) -> u32 {
        let (cell, rest) = random.below(self.cells.len());
        let (edge, other) = self.cells[cell];
        if rest < edge { u32::try_from(cell).expect("under 2^32 instruments") } else { other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of each instrument in 200,000 ticks, in per cent.
    fn shares(instruments: &[(u32, bool)], pace: f64) -> Vec<usize> {
        let mut random = Random::new(7);
        let mut activity = Activity::new(instruments, &mut random);
        let mut counts = vec![0; instruments.len()];
        (0..200_000).for_each(|_| counts[activity.pick(pace, &mut random)] += 1);
        counts.into_iter().map(|n| (n + 1_000) / 2_000).collect()
    }

    #[track_caller]
    fn check(weights: &[u32], expected: &[usize]) {
        let instruments: Vec<_> = weights.iter().map(|&w| (w, false)).collect();
        let got = shares(&instruments, session::PEAK);
        assert!(got.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 1), "{got:?}");
    }

    #[test]
    fn ticks_are_shared_out_by_weight() {
        check(&[5], &[100]);
        check(&[1, 1], &[50, 50]);
        check(&[70, 20, 9, 1], &[70, 20, 9, 1]);
        check(&[u32::MAX, u32::MAX, 1], &[50, 50, 0]);
    }

    #[test]
    fn a_lull_leaves_the_market_to_those_who_never_rest() {
        let pair = [(1, false), (1, true)];
        assert!(shares(&pair, 0.66)[1] > shares(&pair, session::PEAK)[1] + 8);
    }

    #[test]
    fn ticks_of_an_instrument_come_in_bursts() {
        let mut random = Random::new(7);
        let mut activity = Activity::new(&[(1, false); 100], &mut random);
        let picks: Vec<usize> = (0..100_000).map(|_| activity.pick(1.0, &mut random)).collect();
        let mut counts: Vec<usize> = Vec::new();
        for window in picks.chunks(100) {
            counts.push(window.iter().filter(|&&pick| pick < 5).count());
        }
        // Without bursts the variance of these counts, with 5 in the mean, is 4.75.
        let squares: usize = counts.iter().map(|n| n.abs_diff(5).pow(2)).sum();
        assert!(squares > 2 * 4_750, "{squares}");
    }
}
