//! Detects from its first lines how a text file writes its columns.

use super::cell::{DecimalSign, Nulls};
use super::datetime::DateOrder;
use std::fmt;
use std::str::FromStr;

/// How a text file is written; `None`: as its first lines look.
#[derive(Clone, Debug, Default)]
pub struct Dialect {
    pub delimiter: Option<Delimiter>,
    pub decimal: Option<DecimalSign>,
    pub date_order: Option<DateOrder>,
    /// Default: UTF-8, or UTF-16 where the file begins so.
    pub encoding: Option<Encoding>,
    /// Cells that mean "no value", in addition to the usual ones.
    pub nulls: Nulls,
}

/// What divides the columns of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    Comma,
    Semicolon,
    Tab,
    Bar,
}

/// An encoding of text, by its name on the web: `utf-16le`, `windows-1252`, `gbk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoding(pub(super) &'static encoding_rs::Encoding);

/// A word that is none of those expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: expected {expected}")]
pub struct DialectError {
    text: String,
    what: &'static str,
    expected: &'static str,
}

impl DialectError {
    fn new(text: &str, what: &'static str, expected: &'static str) -> Self {
        Self { text: text.chars().take(40).collect(), what, expected }
    }
}

impl FromStr for Encoding {
    type Err = DialectError;

    fn from_str(text: &str) -> Result<Self, DialectError> {
        let known = encoding_rs::Encoding::for_label(text.as_bytes()).map(Self);
        known.ok_or_else(|| {
            DialectError::new(
                text,
                "encoding",
                "utf-8, utf-16le, utf-16be, windows-1252, gbk or another of the web's",
            )
        })
    }
}

impl FromStr for DecimalSign {
    type Err = DialectError;

    fn from_str(text: &str) -> Result<Self, DialectError> {
        match text {
            "point" | "." => Ok(Self::Point),
            "comma" | "," => Ok(Self::Comma),
            _ => Err(DialectError::new(text, "decimal sign", "point or comma")),
        }
    }
}

impl FromStr for Delimiter {
    type Err = DialectError;

    fn from_str(text: &str) -> Result<Self, DialectError> {
        match text {
            "comma" | "," => Ok(Self::Comma),
            "semicolon" | ";" => Ok(Self::Semicolon),
            "tab" | "\t" | "\\t" => Ok(Self::Tab),
            "bar" | "pipe" | "|" => Ok(Self::Bar),
            _ => {
                Err(DialectError::new(text, "delimiter", "comma, semicolon, tab or bar, or the sign itself"))
            }
        }
    }
}

impl fmt::Display for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comma => "comma",
            Self::Semicolon => "semicolon",
            Self::Tab => "tab",
            Self::Bar => "bar",
        })
    }
}

/// Lines that are looked at.
const SAMPLE: usize = 20;

impl Delimiter {
    /// The most distinctive come first.
    const ALL: [Self; 4] = [Self::Tab, Self::Semicolon, Self::Bar, Self::Comma];

    pub(super) const fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Bar => b'|',
        }
    }

    /// The delimiter of these first lines, the last of which may be cut: a character that each of them has
    /// equally often. If there is none, the first line decides.
    pub(super) fn of(sample: &str) -> Option<Self> {
        let mut lines: Vec<&str> =
            sample.lines().filter(|line| !line.trim().is_empty()).take(SAMPLE).collect();
        if lines.len() > 1 && !sample.ends_with('\n') && lines.len() < SAMPLE {
            lines.pop();
        }
        let first = *lines.first()?;
        let counts = |delimiter: Self| lines.iter().map(move |line| delimiter.count(line));
        let is_even = |delimiter: &Self| {
            let count = delimiter.count(first);
            count > 0 && counts(*delimiter).all(|other| other == count)
        };
        let most = || Self::ALL.into_iter().max_by_key(|delimiter| delimiter.count(first));
        Self::ALL.into_iter().find(is_even).or_else(most).filter(|delimiter| delimiter.count(first) > 0)
    }

    /// How often it is in a line, outside of quotation marks.
    fn count(self, line: &str) -> usize {
        let mut is_quoted = false;
        line.bytes()
            .filter(|&b| {
                is_quoted ^= b == b'"';
                b == self.byte() && !is_quoted
            })
            .count()
    }
}

impl Encoding {
    /// UTF-16, if a file begins with a byte order mark of it, or every other byte of its first line is zero.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        const LOOKED_AT: usize = 32;
        match head {
            [0xff, 0xfe, ..] => return Some(Self(encoding_rs::UTF_16LE)),
            [0xfe, 0xff, ..] => return Some(Self(encoding_rs::UTF_16BE)),
            _ => {}
        }
        let head = head.get(..LOOKED_AT)?;
        let is = |zero: usize| {
            head.chunks_exact(2).all(|pair| {
                pair[zero] == 0 && (pair[1 - zero].is_ascii_graphic() || pair[1 - zero].is_ascii_whitespace())
            })
        };
        if is(1) {
            Some(Self(encoding_rs::UTF_16LE))
        } else if is(0) {
            Some(Self(encoding_rs::UTF_16BE))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_is_what_all_lines_have_as_often() {
        let check = |sample: &str, expected| assert_eq!(Delimiter::of(sample), expected, "{sample}");
        check("time,bid,ask\n1,2,3\n", Some(Delimiter::Comma));
        check("Gmt time;Ask;Bid\n02.01.2024 00:00:00;1,10;1,09\n", Some(Delimiter::Semicolon));
        check("1704153900,5;1,2;1,3\n1704153901,5;1,2;1,3\n", Some(Delimiter::Semicolon));
        check("a\tb\n1\t2\n", Some(Delimiter::Tab));
        check("a|b\n1|2", Some(Delimiter::Bar));
        check("time,conditions,price\n1,F;I,2\n2,\"a;b\",3\n", Some(Delimiter::Comma));
        check("time,symbol\n1,A|B\n", Some(Delimiter::Comma));
        check("a,b\n1,2\n3,", Some(Delimiter::Comma));
        check("nothing\n", None);
        check("", None);
    }

    #[test]
    fn words_say_what_the_first_lines_do_not() {
        assert_eq!(";".parse(), Ok(Delimiter::Semicolon));
        assert_eq!("\\t".parse(), Ok(Delimiter::Tab));
        let error = "x".parse::<Delimiter>().unwrap_err().to_string();
        assert_eq!(error, "\"x\" is no delimiter: expected comma, semicolon, tab or bar, or the sign itself");
        assert!("latin1".parse::<Encoding>().is_ok() && "latin9000".parse::<Encoding>().is_err());
    }

    #[test]
    fn utf_16_is_told_by_its_mark_or_its_zeros() {
        let text = "time,symbol,bid,ask\n1,A,2,3\n";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let check = |bytes: &[u8], expected: Option<&'static encoding_rs::Encoding>| {
            assert_eq!(Encoding::of(bytes).map(|encoding| encoding.0), expected);
        };
        check(&little, Some(encoding_rs::UTF_16LE));
        check(&big, Some(encoding_rs::UTF_16BE));
        check(&[&[0xff, 0xfe], &little[..4]].concat(), Some(encoding_rs::UTF_16LE));
        check(text.as_bytes(), None);
        check(&[0; 64], None);
    }
}
