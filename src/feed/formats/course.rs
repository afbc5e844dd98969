//! Detects rows whose time does not fit those around them.

use crate::market::Timestamp;

/// Detects rows whose time is far from that of all rows around them: after a row of the year 2099 the clock
/// would not move, and the player would wait.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// The time of the last row that fits.
    last: Option<Timestamp>,
    /// How many fit.
    passed: u8,
}

/// A row that does not fit the rows around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its time {time} is {} days {} that of the rows around it: it is left out", self.days(), self.word())]
pub(super) struct Outlier {
    time: Timestamp,
    beside: Timestamp,
}

/// A leap that is checked, for one row ahead of time.
const LEAP: i64 = 86_400 * SECOND;
/// A leap that no market makes: it is also checked for several rows, backwards, and at the ends of a file.
const LONG_LEAP: i64 = 366 * LEAP;
/// How far rows of a sorted file may be out of order.
const DISORDER: i64 = 60 * SECOND;
/// Rows that are examined after a leap: if none of them returns, the leap is real.
pub(super) const LOOKED_AT: usize = 32;
const SECOND: i64 = 1_000_000_000;

impl Course {
    /// Whether a row is close to the one before; if so, it becomes the last that fits.
    pub(super) fn follows(&mut self, time: Timestamp) -> bool {
        match self.last {
            Some(last) if is_near(last, time) => {
                self.last = Some(time);
                self.passed = self.passed.saturating_add(1);
                true
            }
            _ => false,
        }
    }

    /// Decides whether a row after a leap fits, by the times of up to [`LOOKED_AT`] rows after it, fewer only
    /// at the end of the file. If so, [`Self::follows`] accepts it next time.
    pub(super) fn judge(&mut self, time: Timestamp, behind: &[Timestamp]) -> Result<(), Outlier> {
        let beside = match self.last {
            Some(last) => self.is_outlier(last, time, behind).then_some(last),
            None => is_first_outlier(time, behind),
        };
        if let Some(beside) = beside {
            return Err(Outlier { time, beside });
        }
        self.last = Some(time);
        Ok(())
    }

    fn is_outlier(&self, last: Timestamp, time: Timestamp, behind: &[Timestamp]) -> bool {
        let returns = |next: &Timestamp| is_near(last, *next) && next.nanos_since(last) >= -DISORDER;
        match behind {
            // After the last row nothing can return.
            [] => self.passed > 1 && is_far(last, time, LONG_LEAP),
            [next, ..] if is_between(last, time, *next, 1) => true,
            _ => behind
                .iter()
                .position(returns)
                .is_some_and(|run| is_between(last, time, behind[run], run + 1)),
        }
    }
}

/// The time of the rows after a file's first, if that row is an outlier.
fn is_first_outlier(time: Timestamp, behind: &[Timestamp]) -> Option<Timestamp> {
    let [next, third, ..] = *behind else { return None };
    if is_near(time, next) {
        return None;
    }
    let mut usual: Vec<Timestamp> = behind.iter().take(4).copied().chain([time]).collect();
    usual.sort_unstable();
    let usual = usual[usual.len() / 2];
    let goes_on = third.nanos_since(next) >= -DISORDER;
    let is_ahead = goes_on && time.nanos_since(next) > LEAP && time.nanos_since(third) > LEAP;
    (is_ahead || is_far(usual, time, LONG_LEAP)).then_some(usual.min(next))
}

fn is_near(one: Timestamp, other: Timestamp) -> bool {
    !is_far(one, other, LEAP)
}

fn is_far(one: Timestamp, other: Timestamp, leap: i64) -> bool {
    one.nanos_since(other).unsigned_abs() > leap.unsigned_abs()
}

/// Whether a run of rows is far in time from the row before it and the row after it, which follow each other.
fn is_between(before: Timestamp, time: Timestamp, behind: Timestamp, run: usize) -> bool {
    let least = if run == 1 && time > before { LEAP } else { LONG_LEAP };
    behind.nanos_since(before) >= -DISORDER
        && is_far(before, time, least)
        && is_far(behind, time, least)
        && (time > before) == (time > behind)
}

impl Outlier {
    fn days(&self) -> u64 {
        (self.time.nanos_since(self.beside) / LEAP).unsigned_abs()
    }

    fn word(&self) -> &'static str {
        if self.time > self.beside { "after" } else { "before" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows as seconds since 2024 began: those that fit by their index, from 1, and `!` for each outlier.
    #[track_caller]
    fn check(rows: &[i64], expected: &str) {
        const NEW_YEAR: i64 = 1_704_067_200;
        let rows: Vec<_> = rows.iter().map(|row| Timestamp::from_nanos((NEW_YEAR + row) * SECOND)).collect();
        let (mut course, mut shown) = (Course::default(), Vec::new());
        for (at, &time) in rows.iter().enumerate() {
            let behind = &rows[at + 1..rows.len().min(at + 1 + LOOKED_AT)];
            let belongs =
                course.follows(time) || (course.judge(time, behind).is_ok() && course.follows(time));
            shown.push(if belongs { (at + 1).to_string() } else { "!".to_owned() });
        }
        assert_eq!(shown.join(" "), expected);
    }

    const DAY: i64 = 86_400;
    const YEARS: i64 = 75 * 366 * DAY;

    #[test]
    fn one_row_of_another_time_is_an_outlier() {
        check(&[0, YEARS, 2, 63, 123], "1 ! 3 4 5");
        check(&[YEARS, 1, 2, 63, 123], "! 2 3 4 5");
        check(&[-54 * 365 * DAY, 1, 2, 63, 123], "! 2 3 4 5");
        check(&[0, 1, 2, -54 * 365 * DAY, 3, 4], "1 2 3 ! 5 6");
        check(&[0, 1, 2, 3, YEARS], "1 2 3 4 !");
        check(&[0, 1, 31 * DAY, 2, 3], "1 2 ! 4 5");
        check(&[0, YEARS, 1, YEARS, 2], "1 ! 3 ! 5");
        check(&[0, 1, YEARS, YEARS + 1, YEARS, 2, 3], "1 2 ! ! ! 6 7");
    }

    #[test]
    fn a_weekend_a_holiday_or_a_session_years_later_is_none() {
        check(&[0, 3 * DAY, 3 * DAY + 1, 7 * DAY], "1 2 3 4");
        check(&[0, 1, YEARS, YEARS + 1, YEARS + 2], "1 2 3 4 5");
        check(&[0, 400 * DAY], "1 2");
        check(&[0], "1");
        check(&[], "");
    }

    #[test]
    fn rows_out_of_order_and_files_by_symbol_are_none() {
        check(&[10, 5, 9, 11], "1 2 3 4");
        check(&[0, DAY, 4 * DAY, 0, DAY, 4 * DAY], "1 2 3 4 5 6");
        check(&[DAY, 5 * DAY, 9 * DAY, 0, 4 * DAY, 8 * DAY], "1 2 3 4 5 6");
    }
}
