use super::file::Created;
use super::running::{Failure, told};
use crate::market::Timestamp;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The output of a recording: a file, or one a day if its path contains `{date}`.
#[derive(Clone, Debug)]
pub struct Output {
    /// `{date}` is replaced by the UTC day of the tape's clock, 2024-08-08, and `{time}` by the time at which
    /// the file begins, 235414.
    path: PathBuf,
    /// Whether an existing file may be overwritten.
    overwrite: bool,
}

/// If this many files exist already, something is wrong with the path.
const MAX_TAKES: u32 = 100_000;

impl Output {
    #[must_use]
    pub fn new(path: PathBuf, overwrite: bool) -> Self {
        Self { path, overwrite }
    }

    /// With its placeholders.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the first file, if that begins at `time`.
    #[must_use]
    pub fn path_at(&self, time: Timestamp) -> PathBuf {
        self.numbered(time, 1)
    }

    /// The path of a file that begins at `time`; from the second `take` on with its number: `day.2.tape`.
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

    /// Creates a file that continues another one: of this take, or of the next one without a file, unless
    /// files may be overwritten. Nobody can be asked in the middle of a recording.
    pub(super) fn create_another(&self, time: Timestamp, take: &mut u32) -> Result<Created, Failure> {
        loop {
            let path = self.numbered(time, *take);
            match self.create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && *take < MAX_TAKES => *take += 1,
                result => return result.map_err(|error| Failure { path, reason: told(&error) }),
            }
        }
    }

    /// Creates the file, and the folders that are named for the day.
    ///
    /// # Errors
    /// The file system's; [`io::ErrorKind::AlreadyExists`] if a file must not be overwritten.
    pub(super) fn create(&self, path: &Path) -> io::Result<Created> {
        let is_named = |path: &Path| path.to_str().is_some_and(|path| path.contains('{'));
        if let (Some(pattern), Some(folder)) = (self.path.parent(), path.parent())
            && is_named(pattern)
        {
            std::fs::create_dir_all(folder)?;
        }
        let path = path.to_owned();
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => {
                lock(&file)?;
                Ok(Created { file, path, is_new: true })
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.overwrite => {
                let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path)?;
                lock(&file)?;
                if file.metadata()?.is_file() {
                    file.set_len(0)?;
                }
                Ok(Created { file, path, is_new: false })
            }
            Err(error) => Err(error),
        }
    }
}

/// Keeps two recordings out of one file. The lock ends with the file handle, also by a crash.
fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another recording is being written to it"))
        }
        // Not every file system has locks, and no pipe has.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
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
