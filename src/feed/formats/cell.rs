//! Reads cells of text files, in the many forms that programs write.

use crate::market::{NumberError, parse_decimal};
use rust_decimal::Decimal;
use std::str::FromStr;

/// The decimal sign of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalSign {
    Point,
    Comma,
}

/// How the numbers of a file are written.
#[derive(Clone, Debug)]
pub(super) struct Numbers {
    /// `None`: detected for each number, see [`plain`].
    pub(super) sign: Option<DecimalSign>,
    /// Whether the file's columns are divided by something else than commas, so that one in a number is its
    /// decimal sign.
    pub(super) comma_is_free: bool,
    pub(super) nulls: Nulls,
}

/// A number as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    Exact(Decimal),
    /// Without the residue of computing in binary floats.
    Cleaned(Decimal),
    /// Without the digits beyond the 28th.
    Rounded(Decimal),
}

impl Read {
    pub(super) fn value(self) -> Decimal {
        match self {
            Self::Exact(value) | Self::Cleaned(value) | Self::Rounded(value) => value,
        }
    }
}

/// Words that mean "no value", in addition to the usual ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nulls(Vec<(String, Option<Decimal>)>);

impl Nulls {
    #[must_use]
    pub fn new(words: impl IntoIterator<Item = String>) -> Self {
        let with_value = |word: String| {
            let value = Decimal::from_str(word.trim()).ok();
            (word.trim().to_owned(), value)
        };
        Self(words.into_iter().map(with_value).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a cell is one of these, as text or as a number.
    fn has(&self, cell: &str) -> bool {
        self.0.iter().any(|(word, value)| {
            word == cell || value.is_some_and(|value| Decimal::from_str(cell) == Ok(value))
        })
    }
}

/// Cells that mean "no value" in any column, as databases, pandas, R, Go, JavaScript and spreadsheets write
/// them.
const NOTHING: [&str; 18] = [
    "nan",
    "null",
    "none",
    "nil",
    "\\n",
    "<na>",
    "nat",
    "<null>",
    "(null)",
    "undefined",
    "#n/a",
    "#na",
    "#null!",
    "#value!",
    "na",
    "n/a",
    "-nan",
    "-",
];
const INFINITE: [&str; 7] = ["inf", "-inf", "+inf", "infinity", "-infinity", "1.#inf", "1.#qnan"];

impl Nulls {
    /// Whether a number is one of those that mean none.
    pub(super) fn has_value(&self, number: Decimal) -> bool {
        self.0.iter().any(|(_, value)| *value == Some(number))
    }

    /// Whether a cell of words is empty. `NA` may be one.
    pub(super) fn is_no_word(&self, cell: &str) -> bool {
        cell.is_empty() || is_one_of(cell, &NOTHING[..14]) || self.has(cell)
    }

    /// Whether a cell of a number or a time is empty.
    pub(super) fn is_no_number(&self, cell: &str) -> bool {
        let Some(&first) = cell.as_bytes().first() else { return true };
        let is_odd = !first.is_ascii_digit()
            && (first != b'-' || !cell[1..].starts_with(|c: char| c.is_ascii_digit()));
        (is_odd && (is_one_of(cell, &NOTHING) || is_one_of(cell, &INFINITE)))
            || is_sentinel(cell)
            || (!self.0.is_empty() && self.has(cell))
    }
}

fn is_one_of(cell: &str, words: &[&str]) -> bool {
    cell.len() <= 12 && words.iter().any(|word| cell.eq_ignore_ascii_case(word))
}

/// Shorter cells are none of [`is_sentinel`].
const SHORTEST_SENTINEL: usize = 12;

/// The largest number of a type, if that means none: of 64 bits, with or without a sign (Databento, with nine
/// decimals after its point), and of a double (CTP, Interactive Brokers) or a float.
fn is_sentinel(cell: &str) -> bool {
    if cell.len() < SHORTEST_SENTINEL {
        return false;
    }
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    match digits.as_bytes()[0] {
        b'9' => {
            let mut digits = digits.bytes().filter(|&b| b != b'.');
            let largest = b"922337203685477580";
            largest.iter().all(|&b| digits.next() == Some(b))
                && matches!(digits.next(), Some(b'7' | b'8'))
                && digits.all(|b| b == b'0')
        }
        b'1' | b'3' => {
            digits == "18446744073709551615"
                || digits == "18446744073.709551615"
                || (digits.contains(['e', 'E'])
                    && digits
                        .parse()
                        .is_ok_and(|x: f64| x >= f64::MAX || x.to_bits() == f64::from(f32::MAX).to_bits()))
                || (digits.len() > 300 && digits.starts_with("17976931348623157"))
        }
        _ => false,
    }
}

/// A cell without the blanks around it, and without quotation marks that a blank before them hid from the
/// reader.
pub(super) fn trimmed(cell: &str) -> &str {
    match cell.as_bytes() {
        [b' ' | b'\t' | 0x80.., ..] | [.., b' ' | b'\t' | 0x80..] => {
            cell.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}')
        }
        _ => cell,
    }
}

/// A cell that is true or false, as languages, spreadsheets and databases write it.
pub(super) fn boolean(cell: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| cell.eq_ignore_ascii_case(word));
    if is(&["true", "t", "1", "1.0", "yes", "y"]) {
        Some(true)
    } else if is(&["false", "f", "0", "0.0", "no", "n"]) {
        Some(false)
    } else {
        None
    }
}

impl Numbers {
    /// The number of a short cell of digits, perhaps with a point among them; `None` for any other.
    /// Nearly all cells are such, and such a cell means "no value" only if the user says so.
    #[inline]
    pub(super) fn short(&self, cell: &str) -> Option<Decimal> {
        let (first, last) = (cell.as_bytes().first()?, cell.as_bytes().last()?);
        let is_short = cell.len() < SHORTEST_SENTINEL && self.nulls.is_empty();
        if !is_short || !first.is_ascii_digit() || !last.is_ascii_digit() {
            return None;
        }
        let (mut units, mut point) = (0, None);
        for (at, byte) in cell.bytes().enumerate() {
            match byte {
                b'0'..=b'9' => units = units * 10 + i64::from(byte - b'0'),
                b'.' if point.is_none() => point = Some(at),
                _ => return None,
            }
        }
        let decimals = point.map_or(0, |point| cell.len() - point - 1);
        Some(Decimal::new(units, u32::try_from(decimals).ok()?))
    }

    /// # Errors
    /// [`NumberError::NotDecimal`] with the cell.
    pub(super) fn read(&self, cell: &str) -> Result<Read, NumberError> {
        if let Ok(value) = Decimal::from_str_exact(cell) {
            return Ok(cleaned(value, cell));
        }
        let not_decimal = || NumberError::NotDecimal { text: cell.chars().take(40).collect() };
        if cell.contains(',') {
            let text = self.plain(cell).ok_or_else(not_decimal)?;
            return match Decimal::from_str_exact(&text) {
                Ok(value) => Ok(cleaned(value, &text)),
                Err(_) => long(&text).ok_or_else(not_decimal),
            };
        }
        match parse_decimal(cell) {
            Ok(value) => Ok(cleaned(value, cell)),
            Err(error) => long(cell).ok_or(error),
        }
    }

    /// A number with a point for its decimals, and without anything between its thousands.
    ///
    /// If both signs occur, the last is the decimal sign. A comma alone is the decimal sign if the file's
    /// columns are not divided by commas; else it separates thousands, if it can.
    fn plain(&self, cell: &str) -> Option<String> {
        let (comma, point) = (cell.rfind(',')?, cell.rfind('.'));
        let comma_is_decimal = match self.sign {
            Some(sign) => sign == DecimalSign::Comma,
            None => point.map_or(self.comma_is_free, |point| comma > point),
        };
        let (decimal, thousands) = if comma_is_decimal { (',', '.') } else { ('.', ',') };
        let (whole, decimals) = match cell.split_once(decimal) {
            Some((whole, decimals)) => (whole, Some(decimals)),
            None => (cell, None),
        };
        let mut groups = whole.trim_start_matches(['-', '+']).split(thousands);
        let first = groups.next()?.len();
        let is_grouped = groups.clone().next().is_some();
        if is_grouped && (!(1..=3).contains(&first) || !groups.all(|group| group.len() == 3)) {
            return None;
        }
        let mut text: String = whole.chars().filter(|&c| c != thousands).collect();
        if let Some(decimals) = decimals {
            text.push('.');
            text.push_str(decimals);
        }
        Some(text)
    }
}

/// A number of more digits than can be held, or so small that it has none that count.
fn long(text: &str) -> Option<Read> {
    if let Ok(value) = Decimal::from_str(text) {
        let clean = without_noise(value, text).or_else(|| short_of(value)).filter(|short| *short != value);
        return Some(clean.map_or(Read::Rounded(value), Read::Cleaned));
    }
    let value: f64 = text.parse().ok().filter(|_| text.contains(['e', 'E']))?;
    (value.abs() < 1e-18).then_some(Read::Cleaned(Decimal::ZERO))
}

/// Up to so many decimals a number with many digits is taken as it is: some venues have prices and sizes of
/// eight.
const MEANT_DECIMALS: u32 = 8;
/// Digits that a double keeps of any decimal number, and a float.
const DOUBLE_DIGITS: u32 = 15;
/// Digits that identify a double: no program writes more of them.
const WRITTEN_DIGITS: u32 = 17;
const FLOAT_DIGITS: u32 = 9;

fn cleaned(value: Decimal, text: &str) -> Read {
    if value.scale() <= MEANT_DECIMALS {
        return Read::Exact(value);
    }
    without_noise(value, text).map_or(Read::Exact(value), Read::Cleaned)
}

/// The short decimal number that was meant, if this one is as long as a written binary float and close to it.
fn without_noise(value: Decimal, text: &str) -> Option<Decimal> {
    let value = value.normalize();
    if value.scale() <= MEANT_DECIMALS || !(DOUBLE_DIGITS + 1..=WRITTEN_DIGITS).contains(&digits(value)) {
        return None;
    }
    if let Some(short) = short_of(value) {
        return Some(short);
    }
    // A float of 32 bits that was widened: `1.0850000381469727`.
    let double: f64 = text.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "whether anything is lost is the question")]
    let float = double as f32;
    let is_float = f64::from(float).to_bits() == double.to_bits();
    let round = Decimal::from_str(&float.to_string()).ok().filter(|_| is_float)?.normalize();
    (digits(round) <= FLOAT_DIGITS).then_some(round)
}

fn digits(value: Decimal) -> u32 {
    value.normalize().mantissa().unsigned_abs().checked_ilog10().map_or(1, |log| log + 1)
}

/// A number of fewer digits that is equal in all digits that a double keeps.
fn short_of(value: Decimal) -> Option<Decimal> {
    let round = value.round_sf(DOUBLE_DIGITS)?.normalize();
    (digits(round) <= DOUBLE_DIGITS - 3).then_some(round)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(sign: Option<DecimalSign>, comma_is_free: bool) -> Numbers {
        Numbers { sign, comma_is_free, nulls: Nulls::default() }
    }

    #[track_caller]
    fn check(numbers: &Numbers, cell: &str, expected: &str) {
        let got = numbers.read(cell).map_or_else(|error| error.to_string(), |read| format!("{read:?}"));
        assert_eq!(got, expected);
    }

    #[test]
    fn the_noise_of_floats_is_taken_off_and_long_numbers_that_are_meant_stay() {
        let check = |cell, expected: &str| check(&numbers(None, false), cell, expected);
        check("1.0850000000000002", "Cleaned(1.085)");
        check("1.2497000000000003", "Cleaned(1.2497)");
        check("0.30000000000000004", "Cleaned(0.3)");
        check("-0.7999999999999999", "Cleaned(-0.8)");
        check("96400.10000000001", "Cleaned(96400.1)");
        check("1000.000000000000000001", "Exact(1000.000000000000000001)");
        check("1.0850000381469727", "Cleaned(1.085)");
        check("0.1000000000000000055511151231257827021181583404541015625", "Cleaned(0.1)");
        check("5.551115123125783e-17", "Rounded(0.0000000000000000555111512313)");
        check("1e-40", "Cleaned(0)");
        check("60000000.00000001", "Exact(60000000.00000001)");
        check("0.000000001234567891", "Exact(0.000000001234567891)");
        check("1850.123456789012345678", "Exact(1850.123456789012345678)");
        check("61234.12345678901", "Exact(61234.12345678901)");
        check("1.5", "Exact(1.5)");
        check("3.5e-7", "Exact(0.00000035)");
    }

    #[test]
    fn commas_are_decimal_signs_or_stand_between_thousands() {
        let of_commas = numbers(None, false);
        check(&of_commas, "1,234.50", "Exact(1234.50)");
        check(&of_commas, "12,345,678", "Exact(12345678)");
        check(&of_commas, "1,10427", "\"1,10427\" is no decimal number");
        let free = numbers(None, true);
        check(&free, "1,10427", "Exact(1.10427)");
        check(&free, "147,123", "Exact(147.123)");
        check(&free, "1.234,56", "Exact(1234.56)");
        check(&free, "-0,75", "Exact(-0.75)");
        check(&free, "1,2,3", "\"1,2,3\" is no decimal number");
        check(&numbers(Some(DecimalSign::Comma), false), "1,10427", "Exact(1.10427)");
        check(&numbers(Some(DecimalSign::Point), true), "1,234", "Exact(1234)");
        check(&numbers(Some(DecimalSign::Point), true), "12,34", "\"12,34\" is no decimal number");
    }

    #[test]
    fn what_means_nothing_is_told_by_its_form_or_given() {
        let nulls = Nulls::new(["-1".to_owned(), "none today".to_owned()]);
        let nothing = [
            "", "NaN", "nan", "NA", "null", "NULL", "None", "\\N", "<NA>", "NaT", "#N/A", "-", "inf", "-Inf",
        ];
        let sentinels = [
            "9223372036.854775807",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "1.7976931348623157e+308",
            "3.4028234663852886E38",
        ];
        for cell in nothing.into_iter().chain(sentinels).chain(["-1", "-1.00", "none today"]) {
            assert!(nulls.is_no_number(cell), "{cell}");
        }
        for cell in ["0", "-2", "1", "x", "9223372036.85", "922337203685477580", "184467440737.5", "-0.5"] {
            assert!(!nulls.is_no_number(cell), "{cell}");
        }
        assert!(nulls.is_no_word("NaN") && !nulls.is_no_word("NA") && !nulls.is_no_word("buy"));
    }

    proptest! {
        #[test]
        fn a_short_number_is_read_as_any_other(cell in "[0-9]{0,6}[.+-]?[0-9]{0,6}[.]?") {
            let numbers = numbers(None, false);
            if let Some(short) = numbers.short(&cell) {
                prop_assert!(!numbers.nulls.is_no_number(&cell));
                let read = numbers.read(&cell).map(|read| (read, read.value().scale()));
                prop_assert_eq!(read, Ok((Read::Exact(short), short.scale())));
            }
        }
    }

    #[test]
    fn only_a_plain_number_is_short() {
        let short = |cell: &str| numbers(None, false).short(cell).map(|value| value.to_string());
        let nulls = Nulls::new(["0".to_owned()]);
        let with_nulls = Numbers { nulls, ..numbers(None, false) };
        for cell in ["0", "007", "61234.50", "0.00000001", "99999999999"] {
            assert_eq!(short(cell), Decimal::from_str_exact(cell).ok().map(|value| value.to_string()));
            assert!(short(cell).is_some() && with_nulls.short(cell).is_none(), "{cell}");
        }
        for cell in ["", ".", "-1", "+1", "1.", ".5", "1.2.3", "1,5", "1e5", "1_0", "922337203685", "a"] {
            assert_eq!(short(cell), None, "{cell}");
        }
    }
}
