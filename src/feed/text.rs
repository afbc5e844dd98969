//! Reads moments and instruments from outside text, and hints at what was meant.

use crate::market::{Event, InstrumentId, Instruments, Symbol, SymbolError, Timestamp, parse_decimal};

/// A text that states no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no time: expected {expected}")]
pub struct TimeError {
    text: String,
    expected: &'static str,
}

impl TimeError {
    pub(super) fn new(text: &str, expected: &'static str) -> Self {
        Self { text: text.chars().take(40).collect(), expected }
    }

    /// There is none.
    pub(super) fn none(text: &str) -> Self {
        Self::new(text, "one")
    }
}

/// Reads RFC 3339 (with `T` or a blank), or a number since the epoch, whose magnitude shows its unit:
/// seconds, ms, µs or ns. Decimals beyond the nanosecond are cut off.
///
/// # Errors
/// A `TimeError` with the text.
pub fn parse_time(text: &str) -> Result<Timestamp, TimeError> {
    let error = || TimeError::new(text, "RFC 3339, or whole seconds, ms, us or ns since 1970");
    if let Some((local, "Z" | "+00:00")) = split_local(text) {
        return Ok(Timestamp::from_nanos(local));
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map(time_from_integer).map_err(|_| error());
    }
    text.parse().ok().or_else(|| time_from_number(text)).ok_or_else(error)
}

/// `1733011200.1234`, `1733011200123.4567`, `1.7330112001234e9`.
fn time_from_number(text: &str) -> Option<Timestamp> {
    if !text.as_bytes().first()?.is_ascii_digit() && !text.starts_with('-') {
        return None;
    }
    let number = parse_decimal(text).ok()?;
    let whole = i64::try_from(number.trunc().mantissa()).ok()?;
    let nanos_per_unit = nanos_per_unit(whole);
    let fraction = number.fract().checked_mul(nanos_per_unit.into())?.floor();
    let fraction = i64::try_from(fraction.mantissa()).ok()?;
    whole.checked_mul(nanos_per_unit)?.checked_add(fraction).map(Timestamp::from_nanos)
}

/// Reads a date and time of day at the start of a text, `2018-01-02T09:04:13.125` or with a blank for the
/// `T`: returns nanoseconds since 1970 by its own clock, and the rest of the text. A general reader takes ten
/// times as long, and this runs for every line of a file.
pub fn split_local(text: &str) -> Option<(i64, &str)> {
    let bytes = text.as_bytes();
    let (date, time) = (bytes.get(..10)?, bytes.get(11..19)?);
    if date[4] != b'-'
        || date[7] != b'-'
        || !matches!(bytes[10], b'T' | b' ')
        || time[2] != b':'
        || time[5] != b':'
    {
        return None;
    }
    let date = (digits(&date[..4])?, digits(&date[5..7])?, digits(&date[8..])?);
    let seconds = local_seconds(date, (digits(&time[..2])?, digits(&time[3..5])?, digits(&time[6..])?))?;
    let (nanos, rest) = split_fraction(&text[19..])?;
    Some((seconds.checked_mul(NANOS)?.checked_add(nanos)?, rest))
}

/// Reads a fraction of a second in up to nine digits, `.125`, at the start of a text: returns nanoseconds, 0
/// if there is none, and the rest.
pub fn split_fraction(text: &str) -> Option<(i64, &str)> {
    let Some(fraction) = text.strip_prefix('.') else { return Some((0, text)) };
    let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..=9).contains(&len) {
        return None;
    }
    let units = digits(&fraction.as_bytes()[..len])?;
    Some((units * 10_i64.pow(u32::try_from(9 - len).ok()?), &fraction[len..]))
}

/// Nanoseconds since 1970 of a decimal number of seconds; digits beyond the ninth after the point are cut
/// off.
pub fn nanos_from_seconds(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (nanos, rest) = match fraction.get(..9).unwrap_or(fraction) {
        "" => (0, ""),
        digits => {
            (self::digits(digits.as_bytes())? * 10_i64.pow(u32::try_from(9 - digits.len()).ok()?), fraction)
        }
    };
    if !rest.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits(whole.as_bytes())?.checked_mul(NANOS)?.checked_add(nanos)
}

/// Seconds from 1970 to a date (year, month, day) and time of day, both by the same clock; `None` if there is
/// no such date or time.
pub fn local_seconds(
    (year, month, day): (i64, i64, i64),
    (hour, minute, second): (i64, i64, i64),
) -> Option<i64> {
    const UNTIL_MONTH: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let until_month = UNTIL_MONTH.get(usize::try_from(month - 1).ok()?)?;
    let month_length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let valid = (1..=9999).contains(&year) && (1..=month_length).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let past = year - 1;
    let days =
        past * 365 + past / 4 - past / 100 + past / 400 + until_month + i64::from(leap && month > 2) + day
            - 719_163;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The number of a text of digits only; at most eighteen.
pub fn digits(text: &[u8]) -> Option<i64> {
    if text.is_empty() || text.len() > 18 {
        return None;
    }
    text.iter().try_fold(0, |number, &b| b.is_ascii_digit().then(|| number * 10 + i64::from(b - b'0')))
}

const NANOS: i64 = 1_000_000_000;

/// The unit of an integer time follows from its magnitude: below 10^11 it is seconds (to the year 5138),
/// below 10^14 ms, below 10^17 us, else ns (from March 1973).
#[must_use]
pub fn time_from_integer(since_epoch: i64) -> Timestamp {
    Timestamp::from_nanos(since_epoch.saturating_mul(nanos_per_unit(since_epoch)))
}

const fn nanos_per_unit(since_epoch: i64) -> i64 {
    match since_epoch.unsigned_abs() {
        ..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    }
}

/// The instrument of that name, created if it is unknown.
///
/// # Errors
/// [`SymbolError`] if the text is no symbol.
pub fn intern(
    symbol: &str,
    instruments: &mut Instruments,
    out: &mut Vec<Event>,
) -> Result<InstrumentId, SymbolError> {
    // Looked up by text first: a `Symbol` of its own for every record would cost an allocation each.
    match instruments.by_symbol(symbol) {
        Some(known) => Ok(known.id),
        None => Ok(instruments.intern(&Symbol::new(symbol)?, out)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check_time(text: &str, expected: &str) {
        assert_eq!(parse_time(text).map_or_else(|e| e.to_string(), |t| t.to_string()), expected);
    }

    #[test]
    fn times_are_read_in_each_form_that_feeds_use() {
        check_time("2018-01-02T09:04:13.125000Z", "2018-01-02T09:04:13.125Z");
        check_time("2013-01-01 22:00:00.295000+00:00", "2013-01-01T22:00:00.295Z");
        check_time("2013-01-01 22:00:00+00:00", "2013-01-01T22:00:00Z");
        check_time("2018-01-02T04:04:13-05:00", "2018-01-02T09:04:13Z");
        check_time("1583020803", "2020-03-01T00:00:03Z");
        check_time("1583020803.5", "2020-03-01T00:00:03.5Z");
        check_time("1583020803145", "2020-03-01T00:00:03.145Z");
        check_time("1583020803145001", "2020-03-01T00:00:03.145001Z");
        check_time("1583020803145001002", "2020-03-01T00:00:03.145001002Z");
        check_time("1733011200.1234", "2024-12-01T00:00:00.1234Z");
        check_time("1733011200.12345678999", "2024-12-01T00:00:00.123456789Z");
        check_time("1733011200123.4567", "2024-12-01T00:00:00.1234567Z");
        check_time("1.7330112001234e9", "2024-12-01T00:00:00.1234Z");
        check_time("1733011200.0", "2024-12-01T00:00:00Z");
        check_time("-1.5", "1969-12-31T23:59:58.5Z");
    }

    #[test]
    fn what_is_no_time_is_named() {
        let texts = ["", "-", "noon", "2018-01-02", "99999999999999999999", "1.2.3", "2018-02-29T00:00:00Z"];
        for text in
            texts.into_iter().chain(["2018-01-02T24:00:00Z", "2018-01-02T09:04:13.Z", "2018-01-02T09:04:13"])
        {
            let expected = "RFC 3339, or whole seconds, ms, us or ns since 1970";
            check_time(text, &TimeError::new(text, expected).to_string());
        }
    }

    proptest! {
        #[test]
        fn the_quick_reader_agrees_with_the_general_one(nanos: i64, blank: bool, zone in prop_oneof!["Z", "\\+00:00"]) {
            let time = Timestamp::from_nanos(nanos);
            let mut text = time.to_string().replace('Z', &zone);
            if blank {
                text = text.replace('T', " ");
            }
            prop_assert_eq!(split_local(&text).map(|(local, _)| local), Some(nanos));
            prop_assert_eq!(parse_time(&text).unwrap(), time);
        }

        #[test]
        fn what_the_quick_reader_takes_the_general_one_takes_too(text in "[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{0,10})?Z") {
            if let Some((local, "Z")) = split_local(&text) {
                prop_assert_eq!(text.parse::<Timestamp>().unwrap().nanos(), local);
            }
        }
    }

    #[test]
    fn seconds_with_decimals_are_exact_to_the_nanosecond() {
        let check = |text, expected| assert_eq!(nanos_from_seconds(text), expected, "{text}");
        check("1618677817.0208309", Some(1_618_677_817_020_830_900));
        check("1618677817", Some(1_618_677_817_000_000_000));
        check("1.1234567899", Some(1_123_456_789));
        for text in ["", ".5", "1.x", "1.123456789x", "-1", "1e9", "99999999999"] {
            check(text, None);
        }
    }
}
