use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Random numbers that are the same for a seed on every machine: they use integers and the float operations
/// that IEEE 754 fixes to the last bit, never a library's `ln` or `sin`, whose last bits differ between
/// platforms.
#[derive(Clone)]
pub(super) struct Random(Pcg64Mcg);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A whole number from 0 to `n - 1`, and what is left of the draw as a second, nearly independent one.
    pub(super) fn below(&mut self, n: usize) -> (usize, u64) {
        let wide = u128::from(self.bits()) * n as u128;
        let left = u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(0);
        (usize::try_from(wide >> 64).unwrap_or(0), left)
    }

    /// Evenly from 0 to 1, without 1.
    pub(super) fn unit(&mut self) -> f64 {
        unit(high(self.bits()))
    }

    /// The product of two such numbers, times 4: many small values, few large ones up to 4, 1 in the mean.
    pub(super) fn skewed(&mut self) -> f64 {
        let bits = self.bits();
        4.0 * unit(high(bits)) * unit(high(bits << 32))
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Nearly normal, mean 0 and variance 1: four even 16-bit numbers added up. It ends at 3.46; the fat
    /// tails of the market come from [`super::path::Path`].
    pub(super) fn normal(&mut self) -> f64 {
        /// The standard deviation of the sum, √((2^32 - 1) / 3).
        const DEVIATION: f64 = 37_837.227_175_5;
        let bits = self.bits();
        let lane = |shift: u32| (bits >> shift) & 0xffff;
        let sum = high((lane(0) + lane(16) + lane(32) + lane(48)) << 32);
        (f64::from(sum) - 131_070.0) / DEVIATION
    }
}

/// The upper half of `bits`.
fn high(bits: u64) -> u32 {
    u32::try_from(bits >> 32).unwrap_or(0)
}

fn unit(bits: u32) -> f64 {
    f64::from(bits) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(what: &str, mut draw: impl FnMut(&mut Random) -> f64, mean: f64, variance: f64) {
        let mut random = Random::new(1);
        let draws: Vec<f64> = (0..100_000).map(|_| draw(&mut random)).collect();
        let got = draws.iter().sum::<f64>() / 1e5;
        assert!((got - mean).abs() < 0.02, "mean of {what}: {got}");
        let got = draws.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 1e5;
        assert!((got / variance - 1.0).abs() < 0.02, "variance of {what}: {got}");
    }

    #[test]
    fn draws_have_the_mean_and_variance_they_promise() {
        check("unit", Random::unit, 0.5, 1.0 / 12.0);
        check("normal", Random::normal, 0.0, 1.0);
        check("skewed", Random::skewed, 1.0, 7.0 / 9.0);
        check("chance", |r| f64::from(u8::from(r.chance(0.25))), 0.25, 0.1875);
        check("below", |r| f64::from(u8::try_from(r.below(2).0).unwrap()), 0.5, 0.25);
    }
}
