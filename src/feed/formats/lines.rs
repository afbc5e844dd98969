use std::io::{self, BufRead, Read};

/// Reads lines without trusting their length: memory stays within `limit` bytes for any file.
pub(super) struct Lines<R> {
    input: R,
    limit: u64,
    number: u64,
    line: Vec<u8>,
    ended: bool,
}

/// Why there is no line here. The next line is read all the same, except after an I/O error, which ends the
/// file.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("line is longer than {limit} bytes")]
    TooLong { limit: u64 },
    #[error("line is not UTF-8 text")]
    NotText,
    #[error("cannot read on: {0}")]
    Io(#[from] io::Error),
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, limit: u64) -> Self {
        Self { input, limit, number: 0, line: Vec::new(), ended: false }
    }

    /// The number of the line read last, counted from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line that is not blank, without its end.
    pub(super) fn next(&mut self) -> Result<Option<&str>, LineError> {
        self.next_behind_blanks().map(|(line, _)| line)
    }

    /// The same, and whether there were blank ones before it.
    pub(super) fn next_behind_blanks(&mut self) -> Result<(Option<&str>, bool), LineError> {
        let mut blanks = false;
        while !self.ended {
            self.line.clear();
            let got = (&mut self.input).take(self.limit).read_until(b'\n', &mut self.line);
            let got = got.inspect_err(|_| self.ended = true)?;
            if got == 0 {
                self.ended = true;
                break;
            }
            self.number += 1;
            if self.line.ends_with(b"\n") {
                self.line.pop();
            } else if got as u64 == self.limit {
                self.skip_line().inspect_err(|_| self.ended = true)?;
                return Err(LineError::TooLong { limit: self.limit });
            }
            if self.line.ends_with(b"\r") {
                self.line.pop();
            }
            if !self.line.is_empty() {
                let line = std::str::from_utf8(&self.line).map_err(|_| LineError::NotText)?;
                return Ok((Some(line), blanks));
            }
            blanks = true;
        }
        Ok((None, blanks))
    }

    /// The line read last, if it could be read.
    pub(super) fn last(&self) -> &str {
        std::str::from_utf8(&self.line).unwrap_or_default()
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let chunk = self.input.fill_buf()?;
            let end = chunk.iter().position(|&b| b == b'\n');
            let len = end.map_or(chunk.len(), |at| at + 1);
            self.input.consume(len);
            if end.is_some() || len == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(input: &[u8], expected: &[&str]) {
        let mut lines = Lines::new(input, 8);
        let mut got = Vec::new();
        loop {
            match lines.next() {
                Ok(None) => break,
                Ok(Some(text)) => {
                    let text = text.to_owned();
                    got.push(format!("{} {text}", lines.number()));
                }
                Err(error) => got.push(format!("{} {error}", lines.number())),
            }
        }
        assert_eq!(got, expected);
    }

    #[test]
    fn lines_are_counted_with_the_blank_ones() {
        check(b"a\r\n\nb\n\r\nc", &["1 a", "3 b", "5 c"]);
    }

    #[test]
    fn a_line_that_is_too_long_or_no_text_costs_only_itself() {
        let long = "2 line is longer than 8 bytes";
        check(b"a\n0123456789012345678\nb\n", &["1 a", long, "3 b"]);
        check(b"a\n\xff\nb\n", &["1 a", "2 line is not UTF-8 text", "3 b"]);
        check(b"0123456\n", &["1 0123456"]);
    }
}
