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

/// Where so many files are there already, something is wrong with the path.
const MAX_TAKES: u32 = 100_000;

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

    /// The path of the first file, where that begins at `time`.
    #[must_use]
    pub fn path_at(&self, time: Timestamp) -> PathBuf {
        self.numbered(time, 1)
    }

    /// The path of a file that begins at `time`; from the second `take` on its number is in it: `day.2.tape`.
    pub(super) fn numbered(&self, time: Timestamp, take: u32) -> PathBuf {
        let path = self.named(time);
        if take < 2 {
            return path;
        }
        let mut name = path.file_stem().unwrap_or_default().to_owned();
        name.push(format!(".{take}"));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    }

    fn named(&self, time: Timestamp) -> PathBuf {
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

    /// Creates a file that goes on where another one ended: of this take, or of the next one that has no file yet, unless files may be
    /// overwritten. Nobody is there to be asked in the middle of a recording.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn create_another(&self, time: Timestamp, take: &mut u32) -> io::Result<(PathBuf, File)> {
        loop {
            let path = self.numbered(time, *take);
            match self.create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && *take < MAX_TAKES => *take += 1,
                result => return result.map(|file| (path, file)),
            }
        }
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
    fn a_later_take_has_its_number_in_front_of_the_extension() {
        let check = |path: &str, take, expected: &str| {
            let output = Output::new(path.into(), false);
            assert_eq!(output.numbered("2024-08-08T00:00:00Z".parse().unwrap(), take), Path::new(expected));
        };
        check("x.y/day.tape", 1, "x.y/day.tape");
        check("x.y/day.tape", 2, "x.y/day.2.tape");
        check("x.y/day", 12, "x.y/day.12");
        check("{date}.tape", 3, "2024-08-08.3.tape");
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
