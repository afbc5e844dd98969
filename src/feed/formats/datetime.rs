//! Dates and times of day as spreadsheets, trading terminals and people write them.

use crate::feed::text::{digits, local_seconds};
use std::fmt;
use std::str::FromStr;

/// In which order a date like `02/01/2024` has its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateOrder {
    DayFirst,
    MonthFirst,
}

/// A word that is no order of dates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no order of a date: expected dmy or mdy")]
pub struct DateOrderError(String);

impl FromStr for DateOrder {
    type Err = DateOrderError;

    fn from_str(text: &str) -> Result<Self, DateOrderError> {
        match text {
            "dmy" => Ok(Self::DayFirst),
            "mdy" => Ok(Self::MonthFirst),
            _ => Err(DateOrderError(text.chars().take(40).collect())),
        }
    }
}

impl fmt::Display for DateOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DayFirst => "dmy",
            Self::MonthFirst => "mdy",
        })
    }
}

/// A date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DateTime {
    /// Nanoseconds since its clock showed 1970.
    pub(super) local: i64,
    /// Nanoseconds of that clock east of UTC, if the text states it.
    pub(super) east: Option<i64>,
}

/// Why a text is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DateTimeError {
    /// Its form is none of these.
    Form,
    /// It may be the second of January, or the first of February.
    Order,
}

const SECOND: i64 = 1_000_000_000;

/// Reads `2024.01.02 00:05:00.123`, `02.01.2024 00:05`, `01/02/2024 9:30:00 AM`, `20240102 000500 1230000`,
/// `20240102000500123`, with a zone after it (`Z`, `UTC`, `+01:00`, `GMT+0100`) or none. `order` is for dates
/// whose order is ambiguous.
pub(super) fn parse(text: &str, order: Option<DateOrder>) -> Result<DateTime, DateTimeError> {
    let text = text.trim();
    let (date, rest) = split_date(text, order)?;
    let rest = rest.trim_start_matches([' ', 'T', 't', '_', '\t', ',']);
    let (nanos, rest) = split_clock(rest).ok_or(DateTimeError::Form)?;
    let east = zone(rest.trim()).ok_or(DateTimeError::Form)?;
    let seconds = local_seconds(date, (0, 0, 0)).ok_or(DateTimeError::Form)?;
    let local =
        seconds.checked_mul(SECOND).and_then(|day| day.checked_add(nanos)).ok_or(DateTimeError::Form)?;
    Ok(DateTime { local, east })
}

/// The order of a text's date, if only one is possible and its form does not show it.
pub(super) fn order_of(text: &str) -> Option<DateOrder> {
    let parse = |order| parse(text, Some(order)).is_ok();
    if parse_is_ordered(text) {
        return None;
    }
    match (parse(DateOrder::DayFirst), parse(DateOrder::MonthFirst)) {
        (true, false) => Some(DateOrder::DayFirst),
        (false, true) => Some(DateOrder::MonthFirst),
        _ => None,
    }
}

/// Whether a date's form shows its order.
fn parse_is_ordered(text: &str) -> bool {
    let bytes = text.trim().as_bytes();
    let part = bytes.iter().take_while(|b| b.is_ascii_digit()).count();
    part >= 4 || bytes.get(part) == Some(&b'.')
}

type Date = (i64, i64, i64);

fn split_date(text: &str, order: Option<DateOrder>) -> Result<(Date, &str), DateTimeError> {
    let run = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let number = |text: &str| digits(text.as_bytes()).ok_or(DateTimeError::Form);
    let first = run(text);
    if first >= 8 {
        let date = (number(&text[..4])?, number(&text[4..6])?, number(&text[6..8])?);
        return Ok((date, &text[8..]));
    }
    let (one, rest) = text.split_at(first);
    let sign =
        rest.chars().next().filter(|sign| ['-', '/', '.'].contains(sign)).ok_or(DateTimeError::Form)?;
    let rest = &rest[1..];
    let name = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
    let second = if name > 0 { name } else { run(rest) };
    let (two, rest) = rest.split_at(second);
    let rest = rest.strip_prefix(sign).ok_or(DateTimeError::Form)?;
    let (three, rest) = rest.split_at(run(rest));
    let date = match (one.len(), name > 0, three.len()) {
        (4, false, 1..=2) => (number(one)?, number(two)?, number(three)?),
        (1..=2, true, 4) => (number(three)?, month(two).ok_or(DateTimeError::Form)?, number(one)?),
        (1..=2, false, 4) => {
            let (one, two, year) = (number(one)?, number(two)?, number(three)?);
            // With points the day always comes first.
            match if sign == '.' { Some(DateOrder::DayFirst) } else { order } {
                Some(DateOrder::DayFirst) => (year, two, one),
                Some(DateOrder::MonthFirst) => (year, one, two),
                None if one > 12 => (year, two, one),
                None if two > 12 => (year, one, two),
                None if one == two => (year, one, two),
                None => return Err(DateTimeError::Order),
            }
        }
        _ => return Err(DateTimeError::Form),
    };
    Ok((date, rest))
}

fn month(name: &str) -> Option<i64> {
    const NAMES: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let name = name.to_ascii_lowercase();
    let at = NAMES.iter().position(|month| name.get(..3) == Some(month))?;
    i64::try_from(at + 1).ok()
}

/// Nanoseconds since midnight of a time of day at the start of a text, and the rest.
fn split_clock(text: &str) -> Option<(i64, &str)> {
    let run = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let first = run(text);
    let (hour, minute, second, rest);
    if first >= 6 {
        // `000500`, directly followed by the decimals of its seconds.
        (hour, minute, second) = (
            digits(&text.as_bytes()[..2])?,
            digits(&text.as_bytes()[2..4])?,
            digits(&text.as_bytes()[4..6])?,
        );
        rest = &text[6..];
    } else {
        let (one, after) = text.split_at(first);
        let after = after.strip_prefix(':').filter(|_| (1..=2).contains(&one.len()))?;
        let (two, after) = after.split_at(run(after));
        let (three, after) = match after.strip_prefix(':') {
            Some(after) => after.split_at(run(after)),
            None => ("00", after),
        };
        if two.len() != 2 || three.len() != 2 {
            return None;
        }
        (hour, minute, second) =
            (digits(one.as_bytes())?, digits(two.as_bytes())?, digits(three.as_bytes())?);
        rest = after;
    }
    let (nanos, rest) = split_decimals(rest)?;
    let (hour, rest) = match rest.trim_start().get(..2) {
        Some(half) if half.eq_ignore_ascii_case("am") => (hour % 12, &rest.trim_start()[2..]),
        Some(half) if half.eq_ignore_ascii_case("pm") => (hour % 12 + 12, &rest.trim_start()[2..]),
        _ => (hour, rest),
    };
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // A leap second is the last of its minute again.
    let second = second.min(59);
    Some(((hour * 3_600 + minute * 60 + second) * SECOND + nanos, rest))
}

/// Decimals of a second: `.123`, `,123`, `NinjaTrader`'s ` 1230000`, or directly after the digits before.
fn split_decimals(text: &str) -> Option<(i64, &str)> {
    let behind = match text.as_bytes() {
        [b'.' | b',' | b':' | b' ', b'0'..=b'9', ..] => &text[1..],
        [b'0'..=b'9', ..] => text,
        _ => return Some((0, text)),
    };
    let len = behind.bytes().take_while(u8::is_ascii_digit).count();
    let kept = len.min(9);
    let units = digits(&behind.as_bytes()[..kept])?;
    Some((units * 10_i64.pow(u32::try_from(9 - kept).ok()?), &behind[len..]))
}

/// Nanoseconds east of UTC; `None` if the text is no zone.
#[expect(clippy::option_option, reason = "no zone, and no text at all, differ")]
fn zone(text: &str) -> Option<Option<i64>> {
    if text.is_empty() {
        return Some(None);
    }
    let name =
        text.get(..3).filter(|name| name.eq_ignore_ascii_case("utc") || name.eq_ignore_ascii_case("gmt"));
    let offset = if name.is_some() { &text[3..] } else { text };
    if offset.is_empty() || offset.eq_ignore_ascii_case("z") {
        return Some(Some(0));
    }
    super::times::offset(offset).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::Timestamp;

    #[track_caller]
    fn check(text: &str, order: Option<DateOrder>, expected: &str) {
        let got = parse(text, order).map_or_else(
            |error| format!("{error:?}"),
            |DateTime { local, east }| {
                let zone =
                    east.map_or_else(|| "local".to_owned(), |east| format!("{} h", east / 3_600 / SECOND));
                format!("{} {zone}", Timestamp::from_nanos(local).to_string().trim_end_matches('Z'))
            },
        );
        assert_eq!(got, expected, "{text}");
    }

    #[test]
    fn dates_and_times_are_read_as_terminals_write_them() {
        for text in [
            "2024.01.02 00:05:00.123",
            "02.01.2024 00:05:00.123",
            "2024/01/02 00:05:00.123",
            "20240102 00:05:00.123",
            "20240102 000500123",
            "20240102 000500 1230000",
            "20240102000500123",
            "2-Jan-2024 12:05:00.123 AM",
            "2024-1-2 0:05:00,123",
            "2024.01.02\t00:05:00.123000",
        ] {
            check(text, None, "2024-01-02T00:05:00.123 local");
        }
        check("02.01.2024 00:00:00.101 GMT+0100", None, "2024-01-02T00:00:00.101 1 h");
        check("2024-01-02 00:00:00.101 UTC", None, "2024-01-02T00:00:00.101 0 h");
        check("02.01.2024 15:04 -05:00", None, "2024-01-02T15:04:00 -5 h");
        check("1/13/2024 9:30:00 PM", None, "2024-01-13T21:30:00 local");
    }

    #[test]
    fn a_date_that_may_be_two_needs_to_be_told() {
        check("01/02/2024 09:30:00", None, "Order");
        check("01/02/2024 09:30:00", Some(DateOrder::DayFirst), "2024-02-01T09:30:00 local");
        check("01/02/2024 09:30:00", Some(DateOrder::MonthFirst), "2024-01-02T09:30:00 local");
        check("13/02/2024 09:30:00", None, "2024-02-13T09:30:00 local");
        check("13/02/2024 09:30:00", Some(DateOrder::MonthFirst), "Form");
        assert_eq!(order_of("13/02/2024 09:30:00"), Some(DateOrder::DayFirst));
        assert_eq!(order_of("02/13/2024 09:30:00"), Some(DateOrder::MonthFirst));
        assert_eq!(order_of("01/02/2024 09:30:00"), None);
        assert_eq!(order_of("13.02.2024 09:30:00"), None);
    }

    #[test]
    fn what_is_no_date_and_time_is_refused() {
        for text in [
            "",
            "noon",
            "2024-01-02",
            "09:30:00",
            "2024-02-30 00:00:00",
            "2024-01-02 25:00:00",
            "2024-01-02 9:3:1",
            "1704153900",
            "2024-01-02 09:30:00 MARS",
            "12/2024 09:30",
            "äöü",
            "2024.01.02 00:05:00é",
        ] {
            check(text, None, "Form");
        }
    }
}
