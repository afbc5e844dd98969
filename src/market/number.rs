use super::decimal::decimal_text;
use rust_decimal::Decimal;
use std::fmt;

/// The finest scale: 18 decimals.
pub const MAX_SCALE: u8 = 18;

/// The largest integer that JavaScript reads exactly from a number, 2^53 − 1. The wire writes larger ones as
/// text.
pub const SAFE_INTEGER: i64 = (1 << 53) - 1;

/// A price in units of its instrument's price scale: `18942` at scale 2 is 189.42. Never a float. Its
/// magnitude is below 10^28 units: 10^10 at 18 decimals, 10^20 at 8.
///
/// Twelve bytes: 64 bits do not hold 18 decimals of a price above 9, and 128 would make quotes and bars a
/// tenth larger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(4))]
pub struct Price {
    high: i32,
    low: u64,
}

/// An amount in units of its instrument's size scale: `150` at scale 2 is 1.50. Never negative. A single one
/// is below 10^20, whatever its scale; a sum below 2^127 units, which is 1.7 × 10^20 at 18 decimals.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(Rust, packed(8))]
pub struct Size(i128);

/// Why a number is no price or size at a scale. Scales are in decimals.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumberError {
    /// Not a number, or in a notation that [`super::parse_decimal`] does not read.
    #[error("{text:?} is no decimal number")]
    NotDecimal {
        /// What was given.
        text: String,
    },
    /// Trailing zeros are not counted.
    #[error("{text} has more than 28 digits")]
    TooLong {
        /// What was given.
        text: String,
    },
    /// Nothing is rounded.
    #[error("{value} has more than {scale} decimals")]
    TooPrecise {
        /// What was given.
        value: Decimal,
        /// Decimals that the instrument keeps.
        scale: u8,
    },
    /// Not below the limit of units at this scale.
    #[error("{value} cannot be held at {scale} decimals")]
    OutOfRange {
        /// What was given.
        value: Decimal,
        /// Decimals that the instrument keeps.
        scale: u8,
    },
    /// A single size is 10^20 or more.
    #[error("{value} is no size below 10^20")]
    TooLarge {
        /// What was given.
        value: Decimal,
    },
    /// `traded` is the sum of all sizes traded before.
    #[error("with {traded} that were traded before it cannot be summed up at {scale} decimals")]
    Sum {
        /// What was traded before.
        traded: Decimal,
        /// Decimals that the instrument keeps.
        scale: u8,
    },
    /// Prices may be negative, sizes not.
    #[error("{value} is a negative size")]
    Negative {
        /// What was given.
        value: Decimal,
    },
}

impl Price {
    /// No price: an empty side of the book, or nothing traded yet.
    pub const NONE: Self = Self { high: i32::MIN, low: 0 };

    /// Magnitudes of this many units or more are no prices.
    pub const LIMIT: i128 = 10_i128.pow(28);

    /// Any 64 bits are a valid price.
    #[must_use]
    pub const fn new(units: i64) -> Self {
        Self::wrap(units as i128)
    }

    /// `None` if its magnitude is [`Self::LIMIT`] or more.
    #[must_use]
    pub fn from_units(units: i128) -> Option<Self> {
        (units.unsigned_abs() < Self::LIMIT.unsigned_abs()).then_some(Self::wrap(units))
    }

    /// Meaningless for [`Self::NONE`].
    #[must_use]
    pub const fn units(self) -> i128 {
        (self.high as i128) << 64 | self.low as i128
    }

    /// Whether it is [`Self::NONE`].
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.high == i32::MIN
    }

    /// `None` for [`Self::NONE`].
    #[must_use]
    pub fn some(self) -> Option<Self> {
        (!self.is_none()).then_some(self)
    }

    /// Exact at `scale`, which is in decimals.
    ///
    /// # Errors
    /// [`NumberError::TooPrecise`] or [`NumberError::OutOfRange`].
    pub fn from_decimal(value: Decimal, scale: u8) -> Result<Self, NumberError> {
        let out_of_range = NumberError::OutOfRange { value, scale };
        units(value, scale)?.and_then(Self::from_units).ok_or(out_of_range)
    }

    /// `None` for [`Self::NONE`].
    #[must_use]
    pub fn to_decimal(self, scale: u8) -> Option<Decimal> {
        self.some().map(|price| decimal(price.units(), scale))
    }

    /// The same price at a scale that is `digits` finer. [`super::Instruments`] ensures that it fits;
    /// otherwise it is clamped to the limit.
    #[must_use]
    pub fn refined(self, digits: u8) -> Self {
        let most = Self::LIMIT - 1;
        let finer = |price: Self| Self::wrap(refine(price.units(), digits).clamp(-most, most));
        if digits == 0 { self } else { self.some().map_or(Self::NONE, finer) }
    }

    /// The same price at another scale.
    ///
    /// # Errors
    /// As [`Self::from_decimal`].
    pub fn rescaled(self, from: u8, to: u8) -> Result<Self, NumberError> {
        let Some(price) = self.some() else { return Ok(Self::NONE) };
        let finer = to.checked_sub(from).and_then(|digits| power(digits).checked_mul(price.units()));
        match finer.and_then(Self::from_units) {
            Some(price) => Ok(price),
            None => Self::from_decimal(decimal(price.units(), from), to),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the two parts of what is known to fit"
    )]
    const fn wrap(units: i128) -> Self {
        Self { high: (units >> 64) as i32, low: units as u64 }
    }
}

impl Size {
    /// No units.
    pub const ZERO: Self = Self(0);

    /// Numbers with more digits than this before the point are no single sizes.
    const LIMIT_DIGITS: u8 = 20;

    /// `units` must be 0 or more.
    #[must_use]
    pub const fn new(units: i64) -> Self {
        Self(units as i128)
    }

    /// `None` if it is negative.
    #[must_use]
    pub fn from_units(units: i128) -> Option<Self> {
        (units >= 0).then_some(Self(units))
    }

    /// 0 or more.
    #[must_use]
    pub const fn units(self) -> i128 {
        self.0
    }

    /// Exact at `scale`, which is in decimals.
    ///
    /// # Errors
    /// [`NumberError`] if it is negative, finer than the scale, or no size below 10^20.
    pub fn from_decimal(value: Decimal, scale: u8) -> Result<Self, NumberError> {
        if value.is_sign_negative() && !value.is_zero() {
            return Err(NumberError::Negative { value });
        }
        let size = units(value, scale)?.map(Self).ok_or(NumberError::TooLarge { value })?;
        size.check(scale).map(|()| size)
    }

    /// # Errors
    /// [`NumberError::TooLarge`] if it is no single size.
    pub(super) fn check(self, scale: u8) -> Result<(), NumberError> {
        // Anything of 64 bits is below the limit at every scale.
        if self.units() <= i64::MAX.into() || self.units() < power(Self::LIMIT_DIGITS + scale) {
            return Ok(());
        }
        Err(NumberError::TooLarge { value: self.to_decimal(scale).normalize() })
    }

    /// Exact for any single size; a sum of more than 28 digits is truncated. [`Self::text`] has all digits.
    #[must_use]
    pub fn to_decimal(self, scale: u8) -> Decimal {
        decimal(self.units(), scale)
    }

    /// With all its decimals.
    #[must_use]
    pub fn text(self, scale: u8) -> String {
        decimal_text(self.units(), scale)
    }

    /// The same size at a scale that is `digits` finer; as [`Price::refined`].
    #[must_use]
    pub fn refined(self, digits: u8) -> Self {
        if digits == 0 { self } else { Self(refine(self.units(), digits)) }
    }

    /// The same size at another scale.
    ///
    /// # Errors
    /// As [`Self::from_decimal`].
    pub fn rescaled(self, from: u8, to: u8) -> Result<Self, NumberError> {
        let finer = to.checked_sub(from).and_then(|digits| power(digits).checked_mul(self.units()));
        match finer {
            Some(units) => Ok(Self(units)),
            None => Self::from_decimal(self.to_decimal(from), to),
        }
    }

    /// The sum. [`super::Instruments`] ensures that it fits; otherwise it saturates.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.units().saturating_add(other.units()))
    }
}

impl Size {
    /// The difference, 0 at least.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self((self.units() - other.units()).max(0))
    }
}

impl fmt::Debug for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.some() {
            Some(price) => write!(f, "Price({})", price.units()),
            None => f.write_str("Price::NONE"),
        }
    }
}

impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Size({})", self.units())
    }
}

/// How many decimals `value` needs: 189.4200 needs 2.
pub(super) fn decimals(value: Decimal) -> u8 {
    u8::try_from(value.normalize().scale()).unwrap_or(u8::MAX)
}

/// Whether these digits are most likely left over from arithmetic with binary floats: sixteen or seventeen,
/// whose last ones only distinguish it from a much shorter number.
pub(super) fn is_float_noise(value: Decimal) -> bool {
    const SURE_DIGITS: u32 = 15;
    let count = |value: Decimal| {
        value.normalize().mantissa().unsigned_abs().checked_ilog10().map_or(1, |log| log + 1)
    };
    (16..=17).contains(&count(value))
        && value.round_sf(SURE_DIGITS).is_some_and(|round| count(round) <= SURE_DIGITS - 3)
}

/// 10 to that power, up to 38. A table, since every decimal that is read needs one.
pub(super) const fn power(exponent: u8) -> i128 {
    const POWERS: [i128; 39] = {
        let mut powers = [1; 39];
        let mut exponent = 1;
        while exponent < powers.len() {
            powers[exponent] = powers[exponent - 1] * 10;
            exponent += 1;
        }
        powers
    };
    POWERS[exponent as usize]
}

/// Units as a decimal: exact up to 28 digits, not counting trailing zeros; truncated beyond.
pub(super) fn decimal(units: i128, scale: u8) -> Decimal {
    let (mut units, mut scale) = (units, u32::from(scale));
    loop {
        match Decimal::try_from_i128_with_scale(units, scale) {
            Ok(value) => return value,
            Err(_) if scale == 0 => return if units < 0 { Decimal::MIN } else { Decimal::MAX },
            Err(_) => (units, scale) = (units / 10, scale - 1),
        }
    }
}

/// Whether a number has no more decimals than that, not counting trailing zeros: whole columns of a file may
/// have those.
#[inline]
pub(super) fn fits_scale(value: Decimal, scale: u8) -> bool {
    let digits = u8::try_from(value.scale()).expect("at most 28");
    digits <= scale || divided(value.mantissa(), power(digits - scale)).1 == 0
}

/// The quotient and the remainder. A division of 128 bits takes several times as long as one of 64, and few
/// numbers need it.
#[inline]
fn divided(number: i128, by: i128) -> (i128, i128) {
    match (i64::try_from(number), i64::try_from(by)) {
        (Ok(number), Ok(by)) => ((number / by).into(), (number % by).into()),
        _ => (number / by, number % by),
    }
}

/// A number in units, if 64 bits hold all that is needed for it, as for nearly every number; `None` for any
/// other, and if it has more decimals than the scale.
#[inline]
pub(super) fn narrow_units(value: &Decimal, scale: u8) -> Option<i64> {
    let (digits, mantissa) = (u8::try_from(value.scale()).ok()?, i64::try_from(value.mantissa()).ok()?);
    let factor = i64::try_from(power(digits.abs_diff(scale))).ok()?;
    if digits <= scale {
        return mantissa.checked_mul(factor);
    }
    (mantissa % factor == 0).then(|| mantissa / factor)
}

/// `None` if 128 bits do not hold them.
#[inline]
fn units(value: Decimal, scale: u8) -> Result<Option<i128>, NumberError> {
    let (digits, mantissa) = (u8::try_from(value.scale()).expect("at most 28"), value.mantissa());
    let Some(surplus) = digits.checked_sub(scale).filter(|&surplus| surplus > 0) else {
        return Ok(mantissa.checked_mul(power(scale - digits)));
    };
    let (whole, rest) = divided(mantissa, power(surplus));
    if rest == 0 { Ok(Some(whole)) } else { Err(NumberError::TooPrecise { value, scale }) }
}

fn refine(units: i128, digits: u8) -> i128 {
    units.saturating_mul(power(digits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::parse_decimal;
    use proptest::prelude::*;

    #[track_caller]
    fn check_price(text: &str, scale: u8, expected: &str) {
        let got = parse_decimal(text)
            .and_then(|d| Price::from_decimal(d, scale))
            .map_or_else(|e| e.to_string(), |p| p.units().to_string());
        assert_eq!(got, expected);
    }

    #[test]
    fn decimals_become_exact_units_or_a_reason() {
        check_price("189.42", 2, "18942");
        check_price("61837.63000000", 2, "6183763");
        check_price("-3.5", 1, "-35");
        check_price("3.5e-7", 8, "35");
        check_price("0.0000016425", 10, "16425");
        check_price("189.425", 2, "189.425 has more than 2 decimals");
        check_price("-1850.123456789012345678", 18, "-1850123456789012345678");
        check_price("9999999999.999999999999999999", 18, "9999999999999999999999999999");
        check_price("10000000000", 18, "10000000000 cannot be held at 18 decimals");
        check_price("-1e26", 2, "-100000000000000000000000000 cannot be held at 2 decimals");
        check_price("NaN", 2, "\"NaN\" is no decimal number");
        check_price("", 2, "\"\" is no decimal number");
    }

    #[test]
    fn a_size_is_held_whatever_its_scale_or_refused_with_the_reason() {
        let check = |text: &str, scale, expected: &str| {
            let got = parse_decimal(text).and_then(|d| Size::from_decimal(d, scale));
            assert_eq!(got.map_or_else(|e| e.to_string(), |s| s.units().to_string()), expected);
        };
        check("1000000000000000.12345678", 8, "100000000000000012345678");
        check("99999999999999999999", 18, &format!("99999999999999999999{}", "0".repeat(18)));
        check("100000000000000000000", 0, "100000000000000000000 is no size below 10^20");
        check("-1", 0, "-1 is a negative size");
    }

    #[test]
    fn a_number_has_the_bytes_that_it_needs_and_no_more() {
        assert_eq!((size_of::<Price>(), size_of::<Size>()), (12, 16));
        let parts = [
            0,
            1,
            -1,
            i64::MAX.into(),
            i64::MIN.into(),
            1 << 64,
            -1 << 64,
            Price::LIMIT - 1,
            1 - Price::LIMIT,
        ];
        for units in parts {
            let price = Price::from_units(units).unwrap();
            assert_eq!(price.units(), units);
            assert!(
                Price::NONE < price
                    && parts
                        .iter()
                        .all(|&other| { Price::from_units(other).unwrap().cmp(&price) == other.cmp(&units) })
            );
        }
        assert_eq!((Price::from_units(Price::LIMIT), Price::from_units(-Price::LIMIT)), (None, None));
    }

    proptest! {
        #[test]
        fn what_64_bits_hold_is_read_as_everything_else(
            mantissa in -1_000_000_000_000_000_000_000..1_000_000_000_000_000_000_000_i128,
            fewer in 0..20_u32,
            digits in 0..=28_u32,
            scale in 0..=MAX_SCALE,
        ) {
            let value = Decimal::from_i128_with_scale(mantissa / 10_i128.pow(fewer), digits);
            if let Some(narrow) = narrow_units(&value, scale) {
                prop_assert_eq!(units(value, scale), Ok(Some(narrow.into())));
            }
        }
    }

    #[test]
    fn numbers_that_64_bits_hold_are_recognized_and_no_others() {
        let check = |text: &str, scale, expected: Option<i64>| {
            assert_eq!(narrow_units(&parse_decimal(text).unwrap(), scale), expected, "{text}");
        };
        check("-189.4200", 2, Some(-18942));
        check("189.42", 8, Some(18_942_000_000));
        check("189.425", 2, None);
        check("9.223372036854775807", 18, Some(i64::MAX));
        check("9.223372036854775808", 18, None);
        check("100", 18, None);
        check("1.00000000000000000000", 0, None);
    }

    #[test]
    fn a_number_at_another_scale_is_the_same_number() {
        let price = |text: &str, scale| Price::from_decimal(parse_decimal(text).unwrap(), scale).unwrap();
        assert_eq!(price("-189.42", 2).rescaled(2, 18), Ok(price("-189.42", 18)));
        assert_eq!(price("-189.42", 18).rescaled(18, 2), Ok(price("-189.42", 2)));
        assert!(price("189.42", 2).rescaled(2, 1).is_err());
        assert!(price("20000000000", 2).rescaled(2, 18).is_err());
        assert_eq!(Price::NONE.rescaled(2, 18), Ok(Price::NONE));
        assert_eq!(Size::new(150).rescaled(2, 18).unwrap().text(18), "1.500000000000000000");
        assert_eq!(Size::new(150).rescaled(2, 1), Ok(Size::new(15)));
        assert!(Size::new(151).rescaled(2, 1).is_err());
    }

    #[test]
    fn the_noise_of_floats_is_told_from_what_is_meant() {
        let is_noise = |text: &str| is_float_noise(parse_decimal(text).unwrap());
        for noise in ["0.30000000000000004", "1.2497000000000003", "110.00000000000001", "0.7999999999999999"]
        {
            assert!(is_noise(noise), "{noise}");
        }
        for meant in [
            "0.000000001234567891",
            "1850.123456789012345678",
            "0.123456789012345678",
            "61234.12345678901",
            "1.5",
        ] {
            assert!(!is_noise(meant), "{meant}");
        }
    }

    #[test]
    fn a_refined_price_is_the_same_price() {
        let price = Price::new(18942);
        assert_eq!(price.refined(2).to_decimal(4), price.to_decimal(2));
        assert!(Price::NONE.refined(2).is_none());
    }
}
