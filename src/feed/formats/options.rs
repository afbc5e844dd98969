//! Which options apply to which form: one that would be ignored is refused by name.

use super::dialect::{Delimiter, Encoding};
use super::sniff::{Form, Headless};
use super::{OpenError, OpenOptions, OpenReason, csv, file_name, sniff, unpack};
use std::io::Read;
use std::path::Path;

/// Checks that each given option applies to at least one of these files.
///
/// # Errors
/// [`OpenReason::Options`] of the first file names those that apply to none. Files that cannot be opened are
/// left for [`open`](super::open) to report.
pub fn check_options<P: AsRef<Path>>(paths: &[P], options: &OpenOptions) -> Result<(), OpenError> {
    let mut useless = options.given();
    let mut first = None;
    for path in paths.iter().map(AsRef::as_ref) {
        if useless.is_empty() {
            return Ok(());
        }
        let Some((form, used)) = used(path, options) else { return Ok(()) };
        useless.retain(|option| !used.contains(option));
        first.get_or_insert((path, form));
    }
    match first {
        Some((path, form)) if !useless.is_empty() => {
            let reason = OpenReason::Options { options: useless.join(" and "), form };
            Err(OpenError { path: path.to_owned(), reason })
        }
        _ => Ok(()),
    }
}

impl OpenOptions {
    /// The given options, by name.
    #[must_use]
    pub fn given(&self) -> Vec<&'static str> {
        let Self { columns, symbol, zone, date, best_quotes, all_prints, dialect, mends: _ } = self;
        [
            ("--columns", columns.is_some()),
            ("--symbol", symbol.is_some()),
            ("--time-zone", zone.is_some()),
            ("--date", date.is_some()),
            ("--best-quotes", *best_quotes),
            ("--all-prints", *all_prints),
            ("--delimiter", dialect.delimiter.is_some()),
            ("--decimal", dialect.decimal.is_some()),
            ("--date-order", dialect.date_order.is_some()),
            ("--encoding", dialect.encoding.is_some()),
            ("--null", !dialect.nulls.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }
}

/// A file's form, and which options apply to it; `None` if it cannot be opened.
fn used(path: &Path, options: &OpenOptions) -> Option<(&'static str, Vec<&'static str>)> {
    if !path.is_file() {
        return None;
    }
    let (mut input, inner) = unpack::open(path).ok()?;
    let mut head = Vec::new();
    (&mut input).take(super::HEAD).read_to_end(&mut head).ok()?;
    if let Some(encoding) = options.dialect.encoding.or_else(|| Encoding::of(&head)) {
        let packed = std::mem::take(&mut head);
        unpack::decoded(Box::new(std::io::Cursor::new(packed)), encoding).read_to_end(&mut head).ok()?;
    }
    let file = file_name(path);
    let form = sniff::form(&head, inner.as_deref().unwrap_or(&file))?.with_columns(options.columns.is_some());
    let used = match form {
        Form::Recording | Form::Events => vec!["--all-prints"],
        Form::Dbn | Form::Databento | Form::Exchange => vec!["--best-quotes"],
        Form::Itch | Form::Packets => vec!["--date"],
        // Its table of contents is at its end, out of reach.
        Form::Parquet => {
            vec![
                "--columns",
                "--symbol",
                "--time-zone",
                "--best-quotes",
                "--all-prints",
                "--decimal",
                "--date-order",
                "--null",
            ]
        }
        Form::Csv(headless) => {
            let columns = options.columns.as_ref();
            let delimiter = options.dialect.delimiter.or_else(|| Delimiter::of(sniff::lines(&head)));
            let delimiter = delimiter.unwrap_or(Delimiter::Comma);
            let mut used = vec!["--columns", "--time-zone"];
            used.extend(["--delimiter", "--decimal", "--date-order", "--encoding", "--null"]);
            match (headless, columns) {
                (Some(Headless::TrueFx), None) => {}
                (Some(Headless::Lean), None) => used.extend(["--date", "--symbol"]),
                (Some(_), None) => used.push("--symbol"),
                _ => {
                    let layout = csv::layout(sniff::first_line(&head)?, columns, delimiter)?;
                    used.extend((!layout.has_symbol()).then_some("--symbol"));
                    used.extend(layout.has_venues().then_some("--best-quotes"));
                    used.extend(layout.is_of_trades().then_some("--all-prints"));
                }
            }
            used
        }
    };
    Some((form.name(), used))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the options of files with such names and contents; returns the error.
    #[track_caller]
    fn check(files: &[(&str, &str)], options: &OpenOptions, expected: Option<&str>) {
        let folder = tempfile::tempdir().unwrap();
        let paths: Vec<_> = files
            .iter()
            .map(|(name, content)| {
                let path = folder.path().join(name);
                std::fs::write(&path, content).unwrap();
                path
            })
            .collect();
        let got = check_options(&paths, options).err().map(|error| error.reason.to_string());
        assert_eq!(got.as_deref(), expected);
    }

    const TRADES: (&str, &str) = ("trades.csv", "time,symbol,price,size\n1,A,2,3\n");
    const QUOTES: (&str, &str) = ("quotes.csv", "DT,EX,BID,BIDSIZ,OFR,OFRSIZ,SYMBOL\n");
    const SESSION: (&str, &str) = ("x.ws", "1 {\"stream\":\"a@trade\"}\n");

    #[test]
    fn an_option_that_does_nothing_is_refused_by_name() {
        let date = OpenOptions { date: Some("2024-01-02".parse().unwrap()), ..OpenOptions::default() };
        check(&[TRADES], &date, Some("--date does nothing for CSV"));
        let columns = OpenOptions { columns: Some("time=time,price=price".parse().unwrap()), ..date.clone() };
        check(&[TRADES], &columns, Some("--date does nothing for CSV"));
        check(&[SESSION], &columns, Some("--columns and --date does nothing for exchange capture"));
        check(&[("20140502_eurusd_tick_quote.csv", "277,1.38694,1.38705\n")], &date, None);
        let symbol =
            OpenOptions { symbol: Some(crate::market::Symbol::new("X").unwrap()), ..OpenOptions::default() };
        check(&[TRADES], &symbol, Some("--symbol does nothing for CSV"));
        check(&[("x.csv", "time,price\n1,2\n")], &symbol, None);
        check(
            &[("x.jsonl", "{\"type\":\"trade\",")],
            &symbol,
            Some("--symbol does nothing for events as published"),
        );
    }

    #[test]
    fn one_that_is_of_use_for_one_of_several_files_is_taken() {
        let best = OpenOptions { best_quotes: true, ..OpenOptions::default() };
        check(&[TRADES], &best, Some("--best-quotes does nothing for CSV"));
        check(&[TRADES, QUOTES], &best, None);
        check(&[SESSION], &best, None);
        check(&[("none", "\0\0\0")], &best, None);
    }
}
