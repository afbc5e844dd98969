use crate::market::Timestamp;

/// The highest value of [`pace`].
pub(super) const PEAK: f64 = 2.3;

/// How busy a stock market is at that moment: 1 on average.
///
/// The market never closes, but it keeps the rhythm of a trading day, pressed into the thirty minutes from
/// one half hour to the next in UTC: a rush at the opening, a lull at noon, a rush to the close, and the next
/// day begins.
pub(super) fn pace(at: Timestamp) -> f64 {
    let minute = at.nanos().div_euclid(60_000_000_000).rem_euclid(30);
    usize::try_from(minute).map_or(1.0, |minute| f64::from(PERCENT[minute]) / 100.0)
}

const PERCENT: [u8; 30] = [
    230, 176, 148, 131, 119, 109, 101, 94, 88, 82, 77, 72, 68, 65, 63, 62, 62, 63, 65, 68, 72, 77, 82, 88,
    94, 102, 112, 126, 146, 172,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_is_busy_at_both_ends_and_calm_at_noon() {
        let at = |minute: i64| pace(Timestamp::from_nanos(minute * 60_000_000_000));
        let mean = (0..30).map(at).sum::<f64>() / 30.0;
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(at(0) > at(5) && at(5) > at(15) && at(15) < at(25) && at(25) < at(29));
        assert_eq!((at(30).to_bits(), at(-30).to_bits()), (PEAK.to_bits(), PEAK.to_bits()));
    }
}
