use super::datetime::{self, DateOrder, DateTime, DateTimeError};
use crate::feed::text::{TimeError, digits, local_seconds, parse_time, split_fraction, split_local};
use crate::hint::most_like;
use crate::market::Timestamp;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use std::fmt;
use std::str::FromStr;

/// The zone of a recording's times that do not state one: `UTC`, `-05:00` or `America/New_York`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(Rules);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rules {
    /// Nanoseconds east of UTC, all year.
    Fixed(i64),
    Changing(TimeZone),
}

/// A word that is no time zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no time zone: expected UTC, an offset such as -05:00, or a name such as {nearest}")]
pub struct ZoneError {
    text: String,
    nearest: String,
}

const SECOND: i64 = 1_000_000_000;
const MILLI: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
/// Rows may be out of order by this much without counting as the second hour of an autumn night.
const DISORDER: i64 = 60 * SECOND;

impl Zone {
    pub const UTC: Self = Self(Rules::Fixed(0));
    /// New York's winter time all year, as some archives of foreign exchange count.
    pub(super) const EST: Self = Self(Rules::Fixed(-5 * 3_600 * SECOND));

    /// New York, by the rules since 2007: independent of the machine's time zone database.
    pub(super) fn new_york() -> Self {
        let rules = TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").expect("these are POSIX rules");
        Self(Rules::Changing(rules))
    }

    /// The moment at which this zone's clocks show `local`, in nanoseconds since they showed 1970. A time
    /// that is skipped is extrapolated from before the gap. Of two such moments, in an autumn night, it is
    /// the first, unless `last`, the moment of the row before in a file sorted by time, shows that the first
    /// is over.
    pub(super) fn moment_after(&self, local: i64, last: Option<Timestamp>) -> Option<Timestamp> {
        match &self.0 {
            Rules::Fixed(east) => local.checked_sub(*east).map(Timestamp::from_nanos),
            Rules::Changing(zone) => {
                let local = jiff::Timestamp::from_nanosecond(local.into()).ok()?;
                let ambiguous = zone.to_ambiguous_timestamp(Offset::UTC.to_datetime(local));
                let is_twice = ambiguous.is_ambiguous();
                let nanos = |moment: jiff::Timestamp| {
                    i64::try_from(moment.as_nanosecond()).ok().map(Timestamp::from_nanos)
                };
                let first = nanos(ambiguous.compatible().ok()?)?;
                let is_over = |last: &Timestamp| {
                    let since = last.nanos_since(first);
                    // Rows are somewhat out of order in many records, and a row may be of any time.
                    since > DISORDER && since < 2 * HOUR + DISORDER
                };
                if is_twice && last.as_ref().is_some_and(is_over) {
                    let second = zone.to_ambiguous_timestamp(Offset::UTC.to_datetime(local)).later().ok()?;
                    return nanos(second);
                }
                Some(first)
            }
        }
    }

    pub(super) fn moment(&self, local: i64) -> Option<Timestamp> {
        self.moment_after(local, None)
    }

    /// This zone's date at a moment.
    pub(super) fn date(&self, moment: Timestamp) -> Option<Date> {
        let moment = jiff::Timestamp::from_nanosecond(moment.nanos().into()).ok()?;
        let zone = match &self.0 {
            Rules::Fixed(east) => {
                Offset::from_seconds(i32::try_from(east / SECOND).ok()?).ok()?.to_time_zone()
            }
            Rules::Changing(zone) => zone.clone(),
        };
        Some(zone.to_datetime(moment).date())
    }

    /// The moment at which a day begins.
    pub(super) fn midnight(&self, date: Date) -> Option<Timestamp> {
        self.moment(local_midnight(date)?)
    }
}

impl FromStr for Zone {
    type Err = ZoneError;

    fn from_str(text: &str) -> Result<Self, ZoneError> {
        if text.eq_ignore_ascii_case("utc") || text.eq_ignore_ascii_case("z") {
            return Ok(Self::UTC);
        }
        if let Some(east) = offset(text) {
            return Ok(Self(Rules::Fixed(east)));
        }
        TimeZone::get(text).map(|zone| Self(Rules::Changing(zone))).map_err(|_| {
            let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let nearest = match most_like(text, names.iter().map(String::as_str)) {
                "" => "America/New_York",
                name => name,
            };
            ZoneError { text: text.chars().take(40).collect(), nearest: nearest.to_owned() }
        })
    }
}

/// `-05:00`, `+0530` or `+9`, in nanoseconds east.
pub(super) fn offset(text: &str) -> Option<i64> {
    let (sign, text) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match text.split_once(':') {
        Some(parts) => parts,
        None if text.len() == 4 => text.split_at_checked(2)?,
        None => (text, "0"),
    };
    let (hours, minutes) = (digits(hours.as_bytes())?, digits(minutes.as_bytes())?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60 * SECOND)
}

/// How a file writes its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeForm {
    /// RFC 3339 or an integer since 1970; if a zone is given, also a date and time without one.
    Stated,
    /// HISTDATA's `20200101 170000065`.
    Compact,
    /// TrueFX's `20090501 00:00:00.295`.
    CompactDate,
    /// Milliseconds since midnight of a day, with decimals where there are some.
    OfDay(Date),
}

/// Reads the times of one file.
#[derive(Clone, Debug)]
pub(super) struct Times {
    pub(super) form: TimeForm,
    /// Given by the user, or by the form.
    pub(super) zone: Option<Zone>,
    /// For dates whose order is ambiguous.
    pub(super) order: Option<DateOrder>,
}

const NO_ZONE: &str = "one with its zone, such as a Z at its end (or say --time-zone)";
const NO_ORDER: &str = "a date that can be only one (or say --date-order dmy or mdy)";

impl Times {
    /// `last` is the moment of the row before.
    pub(super) fn parse(&self, text: &str, last: Option<Timestamp>) -> Result<Timestamp, TimeError> {
        let (local, expected) = match self.form {
            TimeForm::Stated => match (&self.zone, split_local(text)) {
                (Some(_), Some((local, ""))) => (Some(local), ""),
                (None, Some((_, ""))) => (None, NO_ZONE),
                (_, Some((local, "Z" | "+00:00"))) => return Ok(Timestamp::from_nanos(local)),
                _ => match parse_time(text) {
                    Ok(time) => return Ok(time),
                    Err(error) => match datetime::parse(text, self.order) {
                        Ok(DateTime { local, east: Some(east) }) => {
                            let moment = local.checked_sub(east).map(Timestamp::from_nanos);
                            return moment.ok_or(error);
                        }
                        Ok(DateTime { local, east: None }) if self.zone.is_some() => (Some(local), NO_ZONE),
                        Ok(_) => (None, NO_ZONE),
                        Err(DateTimeError::Order) => (None, NO_ORDER),
                        Err(DateTimeError::Form) => return Err(error),
                    },
                },
            },
            TimeForm::Compact => (compact(text), "YYYYMMDD HHMMSSmmm"),
            TimeForm::CompactDate => (compact_date(text), "YYYYMMDD HH:MM:SS.mmm"),
            TimeForm::OfDay(date) => (of_day(text, date), "milliseconds since midnight"),
        };
        local
            .and_then(|local| self.zone.as_ref().unwrap_or(&Zone::UTC).moment_after(local, last))
            .ok_or_else(|| TimeError::new(text, expected))
    }
}

fn compact(text: &str) -> Option<i64> {
    let (date, time) = text.as_bytes().split_at_checked(8)?;
    if time.len() != 10 || time[0] != b' ' {
        return None;
    }
    let clock = (digits(&time[1..3])?, digits(&time[3..5])?, digits(&time[5..7])?);
    local(date, clock, digits(&time[7..])? * MILLI)
}

fn compact_date(text: &str) -> Option<i64> {
    let (date, time) = text.as_bytes().split_at_checked(8)?;
    let [b' ', h1, h2, b':', m1, m2, b':', s1, s2, ..] = *time else { return None };
    let (nanos, "") = split_fraction(text.get(17..)?)? else { return None };
    local(date, (digits(&[h1, h2])?, digits(&[m1, m2])?, digits(&[s1, s2])?), nanos)
}

fn local(date: &[u8], clock: (i64, i64, i64), nanos: i64) -> Option<i64> {
    let date = (digits(&date[..4])?, digits(&date[4..6])?, digits(&date[6..8])?);
    local_seconds(date, clock)?.checked_mul(SECOND)?.checked_add(nanos)
}

fn of_day(text: &str, date: Date) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fraction = fraction.get(..6).unwrap_or(fraction).as_bytes();
    let nanos = digits(fraction)? * 10_i64.pow(u32::try_from(6 - fraction.len()).ok()?);
    // A leap second is the most that a day can be longer.
    let millis = digits(whole.as_bytes()).filter(|&millis| millis <= 86_401_000)?;
    local_midnight(date)?.checked_add(millis * MILLI + nanos)
}

fn local_midnight(date: Date) -> Option<i64> {
    let date = (date.year().into(), date.month().into(), date.day().into());
    local_seconds(date, (0, 0, 0))?.checked_mul(SECOND)
}

/// The date in a file's name: `20140502_eurusd`, NASDAQ's `01302019.NASDAQ_ITCH50` (month first) or
/// `S012019-v50`.
pub(super) fn date_in(name: &str) -> Option<Date> {
    let run =
        |len: usize| name.split(|c: char| !c.is_ascii_digit()).filter(move |digits| digits.len() == len);
    let date = |year: &str, month: &str, day: &str| {
        let (year, month, day) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
        Date::new(year, month, day).ok().filter(|date| (1970..=2261).contains(&date.year()))
    };
    run(8)
        .find_map(|d| date(&d[..4], &d[4..6], &d[6..]).or_else(|| date(&d[4..], &d[..2], &d[2..4])))
        .or_else(|| run(6).find_map(|d| date(&format!("20{}", &d[4..]), &d[..2], &d[2..4])))
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rules::Fixed(0) => f.write_str("UTC"),
            Rules::Fixed(east) => {
                let (sign, minutes) = (if *east < 0 { '-' } else { '+' }, east.abs() / SECOND / 60);
                write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
            }
            Rules::Changing(zone) => f.write_str(zone.iana_name().unwrap_or("America/New_York")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(form: TimeForm, zone: Option<&str>, text: &str, expected: &str) {
        let times = Times { form, zone: zone.map(|zone| zone.parse().unwrap()), order: None };
        assert_eq!(times.parse(text, None).map_or_else(|e| e.to_string(), |t| t.to_string()), expected);
    }

    fn date(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn each_form_is_read_in_its_zone() {
        check(TimeForm::Compact, Some("-05:00"), "20200101 170000065", "2020-01-01T22:00:00.065Z");
        check(TimeForm::CompactDate, None, "20090501 00:00:00.295", "2009-05-01T00:00:00.295Z");
        let day = TimeForm::OfDay(date("2014-05-02"));
        check(day, None, "277", "2014-05-02T00:00:00.277Z");
        check(day, Some("-5"), "79200579.4271", "2014-05-03T03:00:00.5794271Z");
        check(TimeForm::Stated, Some("+05:30"), "2024-01-01 05:30:00.5", "2024-01-01T00:00:00.5Z");
        check(TimeForm::Stated, Some("+05:30"), "2024-01-01T05:30:00Z", "2024-01-01T05:30:00Z");
        check(TimeForm::Stated, Some("+05:30"), "1583020803", "2020-03-01T00:00:03Z");
    }

    #[test]
    fn a_zone_with_summer_time_has_it() {
        check(TimeForm::Stated, Some("Europe/Paris"), "2024-07-01 12:00:00", "2024-07-01T10:00:00Z");
        check(TimeForm::Stated, Some("Europe/Paris"), "2024-01-01 12:00:00", "2024-01-01T11:00:00Z");
        for zone in [Zone::from_str("America/New_York").unwrap(), Zone::new_york()] {
            let moment = |date: &str| zone.midnight(self::date(date)).unwrap().to_string();
            assert_eq!(moment("2023-08-22"), "2023-08-22T04:00:00Z");
            assert_eq!(moment("2023-12-22"), "2023-12-22T05:00:00Z");
            let evening = "2023-08-23T03:59:59Z".parse().unwrap();
            assert_eq!(zone.date(evening), Some(date("2023-08-22")));
        }
    }

    /// Local times of one file, one after the other.
    #[track_caller]
    fn check_order(zone: &str, texts: &[&str], expected: &[&str]) {
        let times = Times { form: TimeForm::Stated, zone: Some(zone.parse().unwrap()), order: None };
        let mut last = None;
        let moments = texts.iter().map(|text| {
            last = Some(times.parse(text, last).unwrap());
            last.unwrap().to_string()
        });
        assert_eq!(moments.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_order_tells_the_second_hour_of_an_autumn_night_from_the_first() {
        check_order(
            "America/New_York",
            &[
                "2024-11-03 01:59:58",
                "2024-11-03 01:59:59",
                "2024-11-03 01:00:00",
                "2024-11-03 01:40:00",
                "2024-11-03 02:00:00",
            ],
            &[
                "2024-11-03T05:59:58Z",
                "2024-11-03T05:59:59Z",
                "2024-11-03T06:00:00Z",
                "2024-11-03T06:40:00Z",
                "2024-11-03T07:00:00Z",
            ],
        );
        // A row that is some seconds late is of the same hour, and the hour may begin anywhere.
        check_order(
            "Europe/Berlin",
            &["2024-10-27 02:30:10", "2024-10-27 02:30:05", "2024-10-27 02:20:00", "2024-10-27 02:19:58"],
            &["2024-10-27T00:30:10Z", "2024-10-27T00:30:05Z", "2024-10-27T01:20:00Z", "2024-10-27T01:19:58Z"],
        );
        // Half an hour, as on Lord Howe Island.
        check_order(
            "Australia/Lord_Howe",
            &["2024-04-07 01:59:00", "2024-04-07 01:31:00"],
            &["2024-04-06T14:59:00Z", "2024-04-06T15:01:00Z"],
        );
        check_order(
            "America/New_York",
            &["2099-01-01 00:00:00", "2024-11-03 01:00:00"],
            &["2099-01-01T05:00:00Z", "2024-11-03T05:00:00Z"],
        );
    }

    #[test]
    fn what_is_no_time_of_a_form_is_told_what_was_expected() {
        let bad = |form, text: &str, expected: &str| {
            check(form, None, text, &format!("{text:?} is no time: expected {expected}"));
        };
        for text in
            ["", "20200101 1700000651", "20200101-170000065", "20201301 170000065", "2020010é 17000006"]
        {
            bad(TimeForm::Compact, text, "YYYYMMDD HHMMSSmmm");
        }
        for text in ["20090501 00:00:00.", "20090501 00:00:00x", "20090501 24:00:00", "2009"] {
            bad(TimeForm::CompactDate, text, "YYYYMMDD HH:MM:SS.mmm");
        }
        for text in ["", "-1", "86401001", "1.", "1.x", "1e3", "99999999999999999999"] {
            bad(TimeForm::OfDay(date("2014-05-02")), text, "milliseconds since midnight");
        }
        let expected = "one with its zone, such as a Z at its end (or say --time-zone)";
        bad(TimeForm::Stated, "2024-01-01 05:30:00.5", expected);
    }

    #[test]
    fn zones_are_read_and_shown() {
        let check = |text: &str, expected: &str| {
            let shown = Zone::from_str(text).map_or_else(|error| error.to_string(), |zone| zone.to_string());
            assert_eq!(shown, expected);
        };
        check("utc", "UTC");
        check("-0500", "-05:00");
        check("+9", "+09:00");
        check("America/New_York", "America/New_York");
        let expected = "expected UTC, an offset such as -05:00, or a name such as America/New_York";
        check("America/NewYork", &format!("\"America/NewYork\" is no time zone: {expected}"));
        assert!(
            Zone::from_str("+15").is_err() && Zone::from_str("-").is_err() && Zone::from_str("").is_err()
        );
    }

    #[test]
    fn dates_are_found_in_names() {
        let check = |name, expected: Option<&str>| assert_eq!(date_in(name), expected.map(date), "{name}");
        check("20140502_eurusd_tick_quote.csv", Some("2014-05-02"));
        check("01302019.NASDAQ_ITCH50.gz", Some("2019-01-30"));
        check("S012019-v50.txt.gz", Some("2019-01-20"));
        check("nasdaq-20230822-excerpt.itch50", Some("2023-08-22"));
        check("99999999.itch", None);
        check("eurusd.csv", None);
    }
}
