//! One file per subcommand. Data go to stdout, messages to stderr.

use crate::market::Printable;
use std::fmt;
use std::io::Write;
use std::path::Path;

/// [`say`], with a format.
macro_rules! say {
    ($($part:tt)*) => { $crate::cli::say(format_args!($($part)*)) };
}

pub mod bench;
pub mod convert;
mod following;
pub mod inspect;
pub mod publish;
pub mod reading;
pub mod record;
pub mod scenario;
pub mod serve;
pub mod shell;
mod stdout;
mod table;
pub mod watch;

/// A message line. A failure to write it, as to a log on a full disk, is ignored: the market goes on.
pub fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A path as it is shown to people.
fn shown(path: &Path) -> String {
    Printable(&path.display().to_string()).to_string()
}

/// Each connection takes a descriptor; the default of many systems is 1,024.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused only if it would not help either.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// A count as people read it: 1,234,567.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes as people read it: 9.8 MiB.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let unit = (count.max(1).ilog2() / 10) as usize;
    #[expect(clippy::cast_precision_loss, reason = "to one decimal")]
    let scaled = count as f64 / (1_u64 << (10 * unit.min(4))) as f64;
    match unit {
        0 => format!("{count} bytes"),
        _ => format!("{scaled:.1} {}", UNITS[unit.min(4)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_people_read_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0, 1023, 1536, 10 << 20].map(bytes), ["0 bytes", "1023 bytes", "1.5 KiB", "10.0 MiB"]);
    }
}
