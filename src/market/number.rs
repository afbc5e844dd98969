use rust_decimal::Decimal;

/// The finest scale: 18 digits after the point.
pub const MAX_SCALE: u8 = 18;

/// Whatever is on the wire stays below 2^53, so that JavaScript reads it exactly.
pub const MAX_UNITS: i64 = (1 << 53) - 1;

/// Prices stay below 2^52, so that the difference of any two is below 2^53: the wire tells prices as differences.
pub const MAX_PRICE_UNITS: i64 = (1 << 52) - 1;

/// A price in units of its instrument's price scale: `18942` at scale 2 is 189.42. Never a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(i64);

/// An amount in units of its instrument's size scale: `150` at scale 2 is 1.50. Never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(i64);

/// Why a number is no price or size at a scale.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NumberError {
    #[error("{text:?} is no decimal number")]
    NotDecimal { text: String },
    #[error("{value} has more than {scale} decimals")]
    TooPrecise { value: Decimal, scale: u8 },
    #[error("{value} cannot be held at {scale} decimals")]
    OutOfRange { value: Decimal, scale: u8 },
    #[error("{value} is a negative size")]
    Negative { value: Decimal },
}

impl Price {
    /// No price: an empty side of the book, or nothing traded yet.
    pub const NONE: Self = Self(i64::MIN);

    #[must_use]
    pub const fn new(units: i64) -> Self {
        Self(units)
    }

    #[must_use]
    pub const fn units(self) -> i64 {
        self.0
    }

    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == Self::NONE.0
    }

    #[must_use]
    pub fn some(self) -> Option<Self> {
        (!self.is_none()).then_some(self)
    }

    /// # Errors
    /// [`NumberError::TooPrecise`] or [`NumberError::OutOfRange`].
    pub fn from_decimal(value: Decimal, scale: u8) -> Result<Self, NumberError> {
        units(value, scale, MAX_PRICE_UNITS).map(Self)
    }

    #[must_use]
    pub fn to_decimal(self, scale: u8) -> Option<Decimal> {
        self.some().map(|price| Decimal::new(price.0, u32::from(scale)))
    }

    /// The same price at a scale that is `digits` finer.
    #[must_use]
    pub fn refined(self, digits: u8) -> Self {
        self.some().map_or(Self::NONE, |price| Self(refine(price.0, digits)))
    }
}

impl Size {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub const fn new(units: i64) -> Self {
        Self(units)
    }

    #[must_use]
    pub const fn units(self) -> i64 {
        self.0
    }

    /// # Errors
    /// Any [`NumberError`] but `NotDecimal`.
    pub fn from_decimal(value: Decimal, scale: u8) -> Result<Self, NumberError> {
        if value.is_sign_negative() && !value.is_zero() {
            return Err(NumberError::Negative { value });
        }
        units(value, scale, MAX_UNITS).map(Self)
    }

    #[must_use]
    pub fn to_decimal(self, scale: u8) -> Decimal {
        Decimal::new(self.0, u32::from(scale))
    }

    /// The same size at a scale that is `digits` finer.
    #[must_use]
    pub fn refined(self, digits: u8) -> Self {
        Self(refine(self.0, digits))
    }

    /// The sum, held at [`MAX_UNITS`] where it would pass it.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0).min(MAX_UNITS))
    }
}

/// Reads a decimal number as feeds write it: `189.42`, `0.00005`, `3.5e-7`.
///
/// # Errors
/// [`NumberError::NotDecimal`] with the text.
pub fn parse_decimal(text: &str) -> Result<Decimal, NumberError> {
    Decimal::from_str_exact(text)
        .or_else(|_| Decimal::from_scientific(text))
        .map_err(|_| NumberError::NotDecimal { text: text.chars().take(40).collect() })
}

/// How many decimals `value` needs: 189.4200 needs 2.
pub(super) fn decimals(value: Decimal) -> u8 {
    u8::try_from(value.normalize().scale()).unwrap_or(u8::MAX)
}

fn units(value: Decimal, scale: u8, max: i64) -> Result<i64, NumberError> {
    let digits = value.scale();
    let wanted = u32::from(scale);
    let mantissa = if digits <= wanted {
        10_i128.checked_pow(wanted - digits).and_then(|f| value.mantissa().checked_mul(f))
    } else {
        let factor = 10_i128.pow(digits - wanted);
        if value.mantissa() % factor != 0 {
            return Err(NumberError::TooPrecise { value, scale });
        }
        Some(value.mantissa() / factor)
    };
    mantissa
        .and_then(|m| i64::try_from(m).ok())
        .filter(|m| (-max..=max).contains(m))
        .ok_or(NumberError::OutOfRange { value, scale })
}

fn refine(units: i64, digits: u8) -> i64 {
    // `Instruments` refuses a scale at which anything on the tape would not fit; saturation only keeps the wire's promise in a
    // replica that is fed by other means.
    10_i64
        .checked_pow(u32::from(digits))
        .map_or(MAX_UNITS * units.signum(), |f| units.saturating_mul(f))
        .clamp(-MAX_UNITS, MAX_UNITS)
}

#[cfg(test)]
mod tests {
    use super::*;

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
        check_price("4503599627370495", 0, "4503599627370495");
        check_price("4503599627370496", 0, "4503599627370496 cannot be held at 0 decimals");
        check_price("1", 18, "1 cannot be held at 18 decimals");
        check_price("-92233720368547758.08", 2, "-92233720368547758.08 cannot be held at 2 decimals");
        check_price("NaN", 2, "\"NaN\" is no decimal number");
        check_price("", 2, "\"\" is no decimal number");
    }

    #[test]
    fn a_negative_size_is_refused() {
        let error = Size::from_decimal(Decimal::new(-1, 0), 0).unwrap_err();
        assert_eq!(error.to_string(), "-1 is a negative size");
    }

    #[test]
    fn a_refined_price_is_the_same_price() {
        let price = Price::new(18942);
        assert_eq!(price.refined(2).to_decimal(4), price.to_decimal(2));
        assert!(Price::NONE.refined(2).is_none());
    }
}
