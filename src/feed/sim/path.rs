use super::{float, random::Random};

/// A random walk about 0, in units of no size: a price before scaling. Without jumps its standard deviation
/// is on average one unit per square root of a second. Its volatility comes in clusters, and it sometimes
/// jumps.
///
/// The variance follows the continuous form of GARCH(1,1): each surprise raises it, time draws it back to 1.
/// So it can be brought forward by any time in one step, and a path that is not read costs nothing.
#[derive(Clone)]
pub(super) struct Path {
    level: f64,
    variance: f64,
    /// Nanoseconds since the epoch.
    at: i64,
}

/// Paths advance once a millisecond at most: at a million ticks a second most ticks need no step.
const STEP_NANOS: i64 = 1_000_000;
/// Per second. The pull to 0 halves a distance in two hours.
const PULL: f64 = 0.000_096;
/// Per second. Volatility forgets in about a minute.
const FORGET: f64 = 1.0 / 60.0;
/// How strongly a surprise raises the variance, per square root of a second.
const SURPRISE: f64 = 0.1;
/// Per second.
const JUMPS: f64 = 1.0 / 300.0;
/// The standard deviation of a jump: as far as a calm path goes in two and a half minutes.
const JUMP: f64 = 12.0;

impl Path {
    pub(super) fn new(at: i64) -> Self {
        Self { level: 0.0, variance: 1.0, at }
    }

    /// Brings the path forward to `now`; `pace` multiplies its volatility.
    pub(super) fn advance(&mut self, now: i64, pace: f64, random: &mut Random) {
        let elapsed = now.saturating_sub(self.at);
        if elapsed < STEP_NANOS {
            return;
        }
        self.at = now;
        let seconds = float(elapsed) / 1e9;
        let root = seconds.sqrt();
        let shock = random.normal();
        self.level += self.variance.sqrt() * root * shock * pace - self.level * (PULL * seconds).min(1.0);
        self.variance += (1.0 - self.variance) * (FORGET * seconds).min(1.0)
            + SURPRISE * root.min(1.0) * self.variance * (shock * shock - 1.0);
        if random.chance(JUMPS * seconds) {
            self.level += JUMP * pace * random.normal();
            self.variance += 3.0;
        }
        self.variance = self.variance.clamp(0.1, 20.0);
        // Six standard deviations of the pulled walk lose nothing, and keep prices away from 0.
        self.level = self.level.clamp(-450.0, 450.0);
    }

    pub(super) fn level(&self) -> f64 {
        self.level
    }

    /// The standard deviation now, 1 on average.
    pub(super) fn volatility(&self) -> f64 {
        self.variance.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surprise_raises_the_variance_and_a_quiet_second_lowers_it() {
        let (mut random, mut path) = (Random::new(1), Path::new(0));
        let (mut quiet, mut loud) = ((0.0, 0.0), (0.0, 0.0));
        for second in 1..200_000 {
            let (level, variance) = (path.level, path.variance);
            path.advance(second * 1_000_000_000, 1.0, &mut random);
            let shock = ((path.level - level) / variance.sqrt()).abs();
            // Beyond the end of the normal numbers there are only jumps, which raise it as well.
            let sum = match shock {
                ..0.5 => &mut quiet,
                1.5..3.0 => &mut loud,
                _ => continue,
            };
            sum.0 += path.variance / variance - 1.0;
            sum.1 += 1.0;
        }
        let (quiet, loud) = (quiet.0 / quiet.1, loud.0 / loud.1);
        // By `SURPRISE`: a tenth of what the square of the shock is above 1.
        assert!((0.35..0.45).contains(&(loud - quiet)), "{loud} after a surprise, {quiet} in the quiet");
    }
}
