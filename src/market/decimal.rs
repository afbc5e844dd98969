use super::NumberError;
use rust_decimal::Decimal;

/// Reads a decimal number as feeds write it: `189.42`, `0.00005`, `3.5e-7`.
///
/// # Errors
/// [`NumberError::NotDecimal`] with the text, or [`NumberError::TooLong`] if it has more than 28 digits
/// without trailing zeros.
pub fn parse_decimal(text: &str) -> Result<Decimal, NumberError> {
    Decimal::from_str_exact(text).or_else(|_| parse_other(text))
}

/// A number that is not plain, or has more digits than a [`Decimal`].
#[cold]
fn parse_other(text: &str) -> Result<Decimal, NumberError> {
    if let Ok(value) = Decimal::from_scientific(text) {
        return Ok(value);
    }
    let shown = || text.chars().take(40).collect();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
        return Err(NumberError::NotDecimal { text: shown() });
    }
    // Many sources write 18 decimals whatever the number is.
    let plain = if fraction.is_empty() { text } else { text.trim_end_matches('0').trim_end_matches('.') };
    Decimal::from_str_exact(plain).map_err(|_| NumberError::TooLong { text: shown() })
}

/// Appends `units × 10^-scale` with all its decimals: `-5` at scale 2 is `-0.05`.
pub fn put_decimal(to: &mut Vec<u8>, units: i128, scale: u8) {
    let scale = usize::from(scale);
    if units < 0 {
        to.push(b'-');
    }
    let mut digits = [b'0'; 64];
    let mut at = digits.len();
    let mut put = |digit: u64| {
        at -= 1;
        digits[at] = b'0' + u8::try_from(digit).expect("a digit");
        digits.len() - at
    };
    let mut count = 0;
    let mut wide = units.unsigned_abs();
    // A division of 128 bits takes several times as long, and few numbers need it.
    while wide > u128::from(u64::MAX) {
        count = put(u64::try_from(wide % 10).expect("a digit"));
        wide /= 10;
    }
    let mut rest = u64::try_from(wide).expect("it is smaller by now");
    while rest > 0 || count <= scale {
        count = put(rest % 10);
        rest /= 10;
    }
    let (whole, decimals) = digits[digits.len() - count..].split_at(count - scale);
    to.extend_from_slice(whole);
    if scale > 0 {
        to.push(b'.');
        to.extend_from_slice(decimals);
    }
}

/// As [`put_decimal`].
#[must_use]
pub fn decimal_text(units: i128, scale: u8) -> String {
    let mut text = Vec::new();
    put_decimal(&mut text, units, scale);
    String::from_utf8(text).expect("digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_written_exactly() {
        let check = |units, scale, expected: &str| assert_eq!(decimal_text(units, scale), expected);
        check(0, 0, "0");
        check(0, 2, "0.00");
        check(5, 2, "0.05");
        check(-18942, 2, "-189.42");
        check(18942, 0, "18942");
        check(i64::MAX.into(), 18, "9.223372036854775807");
        check(-10_i128.pow(37) - 1, 18, "-10000000000000000000.000000000000000001");
        check(i128::MIN, 20, "-1701411834604692317.31687303715884105728");
        check(i128::from(u64::MAX) * 10 + 9, 0, "184467440737095516159");
    }

    #[test]
    fn a_number_is_read_in_every_notation_or_refused_with_the_reason() {
        let check = |text: &str, expected: &str| {
            let got = parse_decimal(text).map_or_else(|error| error.to_string(), |value| value.to_string());
            assert_eq!(got, expected, "{text}");
        };
        check("1.2e-9", "0.0000000012");
        check("1.2E-9", "0.0000000012");
        check("12e3", "12000");
        check("+0.5", "0.5");
        check("1234567890.123456789012345678", "1234567890.123456789012345678");
        check("100000000000000000.000000000000000000", "100000000000000000");
        check("-2000000000000.500000000000000000000", "-2000000000000.5");
        let long = "12345678901234567890.12345678901";
        check(long, &format!("{long} has more than 28 digits"));
        check("1.2.3", "\"1.2.3\" is no decimal number");
        check(".", "\".\" is no decimal number");
        check("NaN", "\"NaN\" is no decimal number");
        check("", "\"\" is no decimal number");
    }
}
