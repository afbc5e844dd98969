use super::course::LOOKED_AT;
use super::lines::{LineError, Lines};
use super::unpack::Input;
use crate::market::Timestamp;
use std::collections::VecDeque;

/// The rows of a file of text, with a look ahead where one is needed.
pub(super) struct Rows {
    lines: Lines<Input>,
    /// Read ahead: some rows, or all of a file that is reversed.
    ahead: VecDeque<Row>,
    /// The one read last, if it was read ahead.
    row: Option<Row>,
    /// Whether blank lines at the end were read ahead.
    ends_blank: bool,
}

struct Row {
    /// Among the lines of the file.
    number: u64,
    text: Result<Box<str>, LineError>,
    /// Whether there were blank lines in front of it.
    blanks: bool,
}

/// Rows that show whether a file is in reverse order.
const SAMPLE: usize = 64;
/// The most text that is reversed: all of it has to be in memory for that.
const MOST_TURNED: usize = 256 << 20;
/// The most text that is read ahead.
const MOST_AHEAD: usize = 32 << 20;

/// A file in reverse order that is too long to be reversed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Rows {
    pub(super) fn new(lines: Lines<Input>) -> Self {
        Self { lines, ahead: VecDeque::new(), row: None, ends_blank: false }
    }

    /// Reads the first rows, and reverses the file if they go from the newest to the oldest. `time` gives a
    /// row's time, if it has one.
    pub(super) fn put_in_order(&mut self, time: impl Fn(&str) -> Option<Timestamp>) -> Result<(), TooLong> {
        while self.ahead.len() < SAMPLE && self.read_ahead() {}
        let times: Vec<Timestamp> = self.ahead.iter().filter_map(|row| row.time(&time)).collect();
        let steps = |is: fn(&Timestamp, &Timestamp) -> bool| {
            times.windows(2).filter(|pair| is(&pair[0], &pair[1])).count()
        };
        let (back, forward) = (steps(|one, next| next < one), steps(|one, next| next > one));
        // A row may be out of order in either.
        if back == 0 || forward * 10 > back || times.last() >= times.first() {
            return Ok(());
        }
        let mut bytes = 0;
        while self.read_ahead() {
            bytes += self.ahead.back().map_or(0, Row::len);
            if bytes > MOST_TURNED {
                return Err(TooLong);
            }
        }
        let last = self.ahead.iter().rev().find_map(|row| row.time(&time));
        if last < times.first().copied() {
            self.ahead.make_contiguous().reverse();
        }
        Ok(())
    }

    /// The number of the next line; blank lines before the next row make that row's number higher.
    pub(super) fn upcoming(&self) -> u64 {
        self.ahead.front().map_or(self.lines.number() + 1, |row| row.number)
    }

    /// False at the end.
    fn read_ahead(&mut self) -> bool {
        let (text, blanks) = match self.lines.next_behind_blanks() {
            Ok((None, blanks)) => {
                self.ends_blank |= blanks;
                return false;
            }
            Ok((Some(text), blanks)) => (Ok(text.into()), blanks),
            Err(error) => (Err(error), false),
        };
        self.ahead.push_back(Row { number: self.lines.number(), text, blanks });
        true
    }

    /// The number of the row read last among the lines of the file.
    pub(super) fn number(&self) -> u64 {
        self.row.as_ref().map_or_else(|| self.lines.number(), |row| row.number)
    }

    pub(super) fn next(&mut self) -> Result<Option<&str>, LineError> {
        self.next_behind_blanks().map(|(row, _)| row)
    }

    /// The next row, and whether there were blank lines in front of it.
    pub(super) fn next_behind_blanks(&mut self) -> Result<(Option<&str>, bool), LineError> {
        match self.ahead.pop_front() {
            None => {
                self.row = None;
                let (row, blanks) = self.lines.next_behind_blanks()?;
                let blanks = blanks || (row.is_none() && std::mem::take(&mut self.ends_blank));
                Ok((row, blanks))
            }
            Some(row) => match self.row.insert(row) {
                Row { text: Ok(text), blanks, .. } => Ok((Some(text), *blanks)),
                Row { text, .. } => Err(std::mem::replace(text, Ok("".into())).expect_err("it is none")),
            },
        }
    }

    /// Puts the row read last back, without the blank lines before it, and returns the times of those after
    /// it, as [`Course`] needs them.
    ///
    /// [`Course`]: super::course::Course
    pub(super) fn look_ahead(&mut self, time: impl Fn(&str) -> Option<Timestamp>) -> Vec<Timestamp> {
        self.unread();
        let mut bytes = 0;
        while self.ahead.len() <= LOOKED_AT && bytes < MOST_AHEAD && self.read_ahead() {
            bytes += self.ahead.back().map_or(0, Row::len);
        }
        self.ahead.iter().skip(1).take(LOOKED_AT).filter_map(|row| row.time(&time)).collect()
    }

    /// Gives the row read last back, without the blank lines in front of it.
    pub(super) fn unread(&mut self) {
        let row = self.row.take().unwrap_or_else(|| Row {
            number: self.lines.number(),
            text: Ok(self.lines.last().into()),
            blanks: false,
        });
        self.ahead.push_front(Row { blanks: false, ..row });
    }
}

impl Row {
    fn len(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.len())
    }

    fn time(&self, time: impl Fn(&str) -> Option<Timestamp>) -> Option<Timestamp> {
        self.text.as_ref().ok().and_then(|text| time(text))
    }
}
