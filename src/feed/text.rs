//! How outside text becomes a moment, an instrument, or a hint at what was meant.

use crate::market::{Event, InstrumentId, Instruments, Symbol, SymbolError, Timestamp};

/// A text that states no moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no time: expected RFC 3339, or whole seconds, ms, us or ns since 1970")]
pub struct TimeError {
    text: String,
}

/// Reads RFC 3339 (a blank may stand for the `T`), or an integer since the epoch as of [`time_from_integer`].
///
/// # Errors
/// [`TimeError`] with the text.
pub fn parse_time(text: &str) -> Result<Timestamp, TimeError> {
    let error = || TimeError { text: text.chars().take(40).collect() };
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map(time_from_integer).map_err(|_| error());
    }
    text.parse().map_err(|_| error())
}

/// The unit of an integer time follows from its magnitude: below 10^11 it is seconds (to the year 5138), below 10^14
/// ms, below 10^17 us, else ns (from March 1973).
#[must_use]
pub fn time_from_integer(since_epoch: i64) -> Timestamp {
    let nanos_per_unit = match since_epoch.unsigned_abs() {
        ..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1_000,
        _ => 1,
    };
    Timestamp::from_nanos(since_epoch.saturating_mul(nanos_per_unit))
}

/// The instrument of that name, created where it is unknown.
///
/// # Errors
/// [`SymbolError`] where the text is no symbol.
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

/// The one of `names` that `text` was most likely meant to be; empty only where there are no names.
#[must_use]
pub fn nearest<'a>(text: &str, names: impl IntoIterator<Item = &'a str>) -> &'a str {
    let text = text.to_lowercase();
    let likeness = |name: &&str| strsim::jaro_winkler(&text, &name.to_lowercase());
    names.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        check_time("1583020803145", "2020-03-01T00:00:03.145Z");
        check_time("1583020803145001", "2020-03-01T00:00:03.145001Z");
        check_time("1583020803145001002", "2020-03-01T00:00:03.145001002Z");
    }

    #[test]
    fn what_is_no_time_is_named() {
        for text in ["", "-", "noon", "2018-01-02", "99999999999999999999", "1583020803.5"] {
            check_time(text, &TimeError { text: text.to_owned() }.to_string());
        }
    }

    #[test]
    fn the_nearest_name_is_the_one_with_a_letter_wrong() {
        assert_eq!(nearest("bidsize", ["bid", "bid_size", "ask_size"]), "bid_size");
        assert_eq!(nearest("PRICE", ["size", "price"]), "price");
    }
}
