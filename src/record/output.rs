use crate::market::Timestamp;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Where a recording goes: a file, or one a day where its path says `{date}`.
#[derive(Clone, Debug)]
pub struct Output {
    /// `{date}` stands for the UTC day of the tape's clock, 2024-08-08, and `{time}` for the time at which the file begins, 235414.
    path: PathBuf,
    /// Whether a file that is there already may be overwritten.
    overwrite: bool,
}

impl Output {
    #[must_use]
    pub fn new(path: PathBuf, overwrite: bool) -> Self {
        Self { path, overwrite }
    }

    /// As it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file that begins at `time`.
    #[must_use]
    pub fn path_at(&self, time: Timestamp) -> PathBuf {
        let Some(path) = self.path.to_str() else { return self.path.clone() };
        // 2024-08-08T23:54:14.024619568Z
        let text = time.to_string();
        let (date, clock) = text.split_once('T').unwrap_or((&text, ""));
        let clock: String = clock.chars().filter(char::is_ascii_digit).take(6).collect();
        path.replace("{date}", date).replace("{time}", &clock).into()
    }

    /// Whether the file that began at `start` is over by `time`.
    #[must_use]
    pub fn is_over(&self, start: Timestamp, time: Timestamp) -> bool {
        use crate::market::Interval::Day;
        Day.start_of(start) < Day.start_of(time)
            && self.path.to_str().is_some_and(|path| path.contains("{date}"))
    }

    /// # Errors
    /// The file system's; [`io::ErrorKind::AlreadyExists`] where a file must not be overwritten.
    pub(super) fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        if self.overwrite {
            options.create(true).truncate(true)
        } else {
            options.create_new(true)
        };
        options.write(true).open(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, at: &str, expected: &str) {
        let output = Output::new(path.into(), false);
        assert_eq!(output.path_at(at.parse().unwrap()), Path::new(expected));
    }

    #[test]
    fn a_path_may_name_the_day_and_the_time_at_which_its_file_begins() {
        check("x/day.tape", "2024-08-08T23:54:14.02Z", "x/day.tape");
        check("x-{date}.tape", "2024-08-08T23:54:14.02Z", "x-2024-08-08.tape");
        check("{date}/x-{time}.tape", "2024-08-08T23:54:14Z", "2024-08-08/x-235414.tape");
    }

    #[test]
    fn only_a_path_with_a_date_has_a_file_for_each_day() {
        let day = |number: i64| Timestamp::from_nanos(number * 86_400_000_000_000);
        let is_over = |path: &str, time| Output::new(path.into(), false).is_over(day(1), time);
        assert!(!is_over("x.tape", day(2)));
        assert!(is_over("x-{date}.tape", day(2)));
        assert!(!is_over("x-{date}.tape", day(2).plus_nanos(-1)));
    }
}
