use super::shown;
use crate::feed::formats::{
    ColumnMapping, DateOrder, DecimalSign, Delimiter, Dialect, Encoding, Nulls, OpenError, OpenOptions, Zone,
    form_name, open,
};
use crate::feed::{Feed, FeedError, Mends};
use crate::market::{Instruments, Printable, Symbol};
use jiff::civil::Date;
use std::path::Path;

/// Not `next_help_heading`, which would hold for all arguments after these.
const HEADING: &str = "Reading recordings";

/// How recordings are read: the options of every command that opens them.
#[derive(clap::Args, Clone, Debug)]
pub struct Reading {
    /// Which column of a CSV file is what, where its header does not say: time=DT,bid=BID,...; numbers from 1
    /// where it has no header
    #[arg(long, help_heading = HEADING, value_name = "FIELD=COLUMN,...", value_parser = ColumnMapping::parse)]
    pub columns: Option<ColumnMapping>,

    /// The symbol of a file that has no column for it (default: the file's name)
    #[arg(long, help_heading = HEADING)]
    pub symbol: Option<Symbol>,

    /// The zone of times that do not say: UTC, -05:00, or by name such as Asia/Tokyo (default: that of the
    /// form, or UTC)
    #[arg(long, help_heading = HEADING, value_name = "ZONE")]
    pub time_zone: Option<Zone>,

    /// The day of times that are times of day, as in LEAN and ITCH files (default: the date in the file's
    /// name)
    #[arg(long, help_heading = HEADING, value_name = "YYYY-MM-DD")]
    pub date: Option<Date>,

    /// The order of dates such as 01/02/2024, where the file does not show it: dmy or mdy
    #[arg(long, help_heading = HEADING, value_name = "ORDER")]
    pub date_order: Option<DateOrder>,

    /// What divides the columns of a text file: comma, semicolon, tab or bar (default: what its first lines
    /// look like)
    #[arg(long, help_heading = HEADING, value_name = "SIGN")]
    pub delimiter: Option<Delimiter>,

    /// The decimal sign of numbers, point or comma (default: as the file looks)
    #[arg(long, help_heading = HEADING, value_name = "SIGN")]
    pub decimal: Option<DecimalSign>,

    /// Cells of a text file that mean "nothing", in addition to empty ones, NaN, null, \N and the like; may
    /// be repeated
    #[arg(long = "null", help_heading = HEADING, value_name = "CELL", allow_hyphen_values = true)]
    pub nulls: Vec<String>,

    /// The encoding of a text file: utf-16le, windows-1252, gbk, ... (default: UTF-8, or UTF-16 where it
    /// begins so)
    #[arg(long, help_heading = HEADING, value_name = "NAME")]
    pub encoding: Option<Encoding>,

    /// Make quotes of what is below the best bid and offer: of the quotes of several exchanges, and of a
    /// session's order books where it has a stream of quotes as well (default: quotes as recorded)
    #[arg(long, help_heading = HEADING)]
    pub best_quotes: bool,

    /// Let every trade count for everything in bars, days and VWAP, whatever its conditions say (default: as
    /// the rules of its tape are)
    #[arg(long, help_heading = HEADING)]
    pub all_prints: bool,

    /// Stop at the first record that cannot be read (default: report it, count it, go on)
    #[arg(long, help_heading = HEADING)]
    pub strict: bool,
}

impl Reading {
    #[must_use]
    pub fn options(&self) -> OpenOptions {
        OpenOptions {
            columns: self.columns.clone(),
            symbol: self.symbol.clone(),
            zone: self.time_zone.clone(),
            date: self.date,
            best_quotes: self.best_quotes,
            dialect: Dialect {
                delimiter: self.delimiter,
                decimal: self.decimal,
                date_order: self.date_order,
                encoding: self.encoding,
                nulls: Nulls::new(self.nulls.iter().cloned()),
            },
            mends: Mends::default(),
            all_prints: self.all_prints,
        }
    }
}

/// What a file holds for a market.
pub enum Content {
    Something,
    /// It is well-formed, and holds nothing that is used: its form and its content, in words.
    Nothing(String),
    /// Only records that cannot be read, of which this was the last; or none at all.
    Unreadable(Option<FeedError>),
}

impl Content {
    /// Reads a file up to the first event.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn of(path: &Path, options: &OpenOptions) -> Result<Self, OpenError> {
        // Corrections are counted when all of it is read.
        let mut feed = open(path, &OpenOptions { mends: Mends::default(), ..options.clone() })?;
        let (mut instruments, mut events, mut fault) = (Instruments::default(), Vec::new(), None);
        loop {
            match feed.next(&mut instruments, &mut events) {
                Ok(Some(_)) => return Ok(Self::Something),
                Ok(None) => break,
                Err(error) => fault = Some(error),
            }
            events.clear();
        }
        Ok(if feed.left_out() > 0 { Self::Nothing(nothing(path, &*feed)) } else { Self::Unreadable(fault) })
    }
}

/// Describes a file without usable records: its form and its content.
fn nothing(path: &Path, feed: &dyn Feed) -> String {
    let left_out = feed.left_out_by_kind().to_string();
    format!(
        "{}: nothing was read of this {}: it holds {}",
        shown(path),
        form_name(path),
        Printable(&left_out)
    )
}
