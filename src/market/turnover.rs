use super::{Price, Size};
use std::cmp::Ordering;

/// A sum of price × size, in price units × size units: exact, in 256 bits.
///
/// 128 bits do not hold a day of an instrument whose prices and sizes have 18 decimals each; 256 hold the
/// largest price times the largest volume. What fits 128 bits takes a shorter path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turnover {
    /// The lowest first, in two's complement.
    parts: [u64; 4],
}

impl Turnover {
    /// Of no trades.
    pub const ZERO: Self = Self { parts: [0; 4] };

    /// Of one trade.
    #[must_use]
    pub fn of(price: Price, size: Size) -> Self {
        let (price, size) = (price.units(), size.units());
        if let (Ok(price), Ok(size)) = (i64::try_from(price), i64::try_from(size)) {
            return Self::from(i128::from(price) * i128::from(size));
        }
        let product = Self::product(price.unsigned_abs(), size.unsigned_abs());
        if (price < 0) == (size < 0) { product } else { product.negated() }
    }

    /// Wraps at 256 bits, which no sum of trades reaches.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut carry = false;
        let mut parts = self.parts;
        for (part, other) in parts.iter_mut().zip(other.parts) {
            let (sum, first) = part.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*part, carry) = (sum, first || second);
        }
        Self { parts }
    }

    /// As [`Self::plus`].
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(other.negated())
    }

    /// Times 10 to that power.
    #[must_use]
    pub fn refined(self, digits: u8) -> Self {
        (0..digits).fold(self, |sum, _| sum.times(10))
    }

    /// A hundred times this, divided by a weight above 0, rounded half away from zero.
    #[must_use]
    pub fn hundredfold_over(self, weight: i128) -> i128 {
        const SHORT: i128 = i128::MAX / 256;
        let magnitude = if self.is_negative() { self.negated() } else { self };
        let rounded = match magnitude.short() {
            Some(sum @ 0..=SHORT) if weight <= SHORT => (sum * 100 + weight / 2) / weight,
            _ => magnitude.hundredfold_over_slowly(weight.unsigned_abs()),
        };
        if self.is_negative() { -rounded } else { rounded }
    }

    /// As an `i128`, if that holds it.
    #[must_use]
    pub fn short(self) -> Option<i128> {
        let low = (u128::from(self.parts[1]) << 64 | u128::from(self.parts[0])).cast_signed();
        (Self::from(low) == self).then_some(low)
    }

    /// Big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, part) in bytes.chunks_exact_mut(8).zip(self.parts.iter().rev()) {
            to.copy_from_slice(&part.to_be_bytes());
        }
        bytes
    }

    /// The inverse of [`Self::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let part = |at: usize| bytes[at..at + 8].iter().fold(0, |part, &byte| part << 8 | u64::from(byte));
        Self { parts: [part(24), part(16), part(8), part(0)] }
    }

    fn is_negative(self) -> bool {
        self.parts[3].cast_signed() < 0
    }

    fn negated(self) -> Self {
        Self { parts: self.parts.map(|part| !part) }.plus(Self { parts: [1, 0, 0, 0] })
    }

    fn times(self, factor: u64) -> Self {
        let mut carry = 0;
        let mut parts = self.parts;
        for part in &mut parts {
            (*part, carry) = halves(u128::from(*part) * u128::from(factor) + u128::from(carry));
        }
        Self { parts }
    }

    /// Of two magnitudes.
    fn product(a: u128, b: u128) -> Self {
        let ((a_low, a_high), (b_low, b_high)) = (halves(a), halves(b));
        let wide = |a: u64, b: u64| halves(u128::from(a) * u128::from(b));
        let ((low, first), (second, top)) = (wide(a_low, b_low), wide(a_high, b_high));
        let crossed = [wide(a_low, b_high), wide(a_high, b_low)];
        crossed.iter().fold(Self { parts: [low, first, second, top] }, |sum, &(low, high)| {
            sum.plus(Self { parts: [0, low, high, 0] })
        })
    }

    /// Bit by bit, since such instruments are rare. Of a magnitude.
    fn hundredfold_over_slowly(self, weight: u128) -> i128 {
        let (mut quotient, mut rest) = (0_u128, 0_u128);
        for part in self.times(100).parts.into_iter().rev() {
            for bit in (0..64).rev() {
                rest = rest << 1 | u128::from(part >> bit & 1);
                quotient <<= 1;
                if rest >= weight {
                    rest -= weight;
                    quotient |= 1;
                }
            }
        }
        let is_up = rest.cmp(&(weight - rest)) != Ordering::Less;
        i128::try_from(quotient + u128::from(is_up)).unwrap_or(i128::MAX)
    }
}

impl From<i128> for Turnover {
    #[expect(clippy::cast_sign_loss, reason = "the bits of a sign are all alike")]
    fn from(value: i128) -> Self {
        let ((low, next), sign) = (halves(value.cast_unsigned()), (value >> 127) as u64);
        Self { parts: [low, next, sign, sign] }
    }
}

/// The lower and the upper 64 bits.
#[expect(clippy::cast_possible_truncation, reason = "the halves of what is cut in two")]
const fn halves(value: u128) -> (u64, u64) {
    (value as u64, (value >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    fn big(sum: Turnover) -> BigInt {
        BigInt::from_signed_bytes_be(&sum.to_bytes())
    }

    /// Numbers of all lengths, and those at the edges of their parts.
    fn price() -> impl Strategy<Value = i128> {
        let lengths =
            (0..93_u32, any::<u128>()).prop_map(|(bits, number)| (number >> (127 - bits)).cast_signed());
        let edges = (proptest::sample::select(vec![0, 1, 1 << 63, 1 << 64]), -1..=1_i128)
            .prop_map(|(edge, by)| edge + by);
        let all = prop_oneof![lengths, edges, Just(Price::LIMIT - 1)];
        (all, any::<bool>()).prop_map(|(units, below)| if below { -units } else { units })
    }

    fn size() -> impl Strategy<Value = i128> {
        prop_oneof![
            price().prop_map(i128::abs),
            (0..96_u32, any::<u128>()).prop_map(|(b, n)| (n >> (127 - b)).cast_signed())
        ]
    }

    proptest! {
        #[test]
        fn sums_are_those_of_integers_without_a_bound(
            trades in proptest::collection::vec((price(), size()), 1..30), digits in 0..3_u8, weight in 1..i128::MAX,
        ) {
            let mut sum = Turnover::ZERO;
            let mut model = BigInt::ZERO;
            for &(price, size) in &trades {
                sum = sum.plus(Turnover::of(Price::from_units(price).unwrap(), Size::from_units(size).unwrap()));
                model += BigInt::from(price) * BigInt::from(size);
            }
            prop_assert_eq!(big(sum), model.clone());
            prop_assert_eq!(Turnover::from_bytes(sum.to_bytes()), sum);
            prop_assert_eq!(sum.short().map(BigInt::from), i128::try_from(&model).ok().map(BigInt::from));
            prop_assert_eq!(big(sum.refined(digits)), &model * BigInt::from(10).pow(digits.into()));
            prop_assert_eq!(big(Turnover::ZERO.minus(sum)), -model.clone());
            let (twice, over) = (&model * 200_u8, BigInt::from(weight) * 2_u8);
            let half = BigInt::from(weight) * if model < BigInt::ZERO { -1 } else { 1 };
            if let Ok(rounded) = i128::try_from((twice + half) / over) {
                prop_assert_eq!(sum.hundredfold_over(weight), rounded);
            }
        }
    }

    #[test]
    fn halves_are_rounded_away_from_zero_the_short_way_and_the_long() {
        let check = |sum: i128, weight: i128, expected: i128| {
            assert_eq!(Turnover::from(sum).hundredfold_over(weight), expected);
            assert_eq!(Turnover::from(-sum).hundredfold_over(weight), -expected);
            let magnitude = Turnover::from(sum).hundredfold_over_slowly(weight.unsigned_abs());
            assert_eq!(magnitude, expected);
        };
        check(1, 200, 1);
        check(1, 201, 0);
        check(1, 199, 1);
        check(3, 200, 2);
        check(0, 7, 0);
        check(4, 3, 133);
        check(5, 3, 167);
    }
}
