use crate::feed::formats::{ColumnMapping, OpenOptions, Zone};
use crate::market::Symbol;
use jiff::civil::Date;

/// Not `next_help_heading`, which would hold for all that comes after these.
const HEADING: &str = "Reading recordings";

/// How recordings are read: what every command that opens them takes.
#[derive(clap::Args, Clone, Debug)]
pub struct Reading {
    /// Which column of a CSV file is what, where its header does not tell: time=DT,bid=BID,...; numbers from 1 where it has no header
    #[arg(long, help_heading = HEADING, value_name = "FIELD=COLUMN,...", value_parser = ColumnMapping::parse)]
    pub columns: Option<ColumnMapping>,

    /// The symbol of a file that has no column for it (default: the file's name)
    #[arg(long, help_heading = HEADING)]
    pub symbol: Option<Symbol>,

    /// The zone of times that do not say: UTC, -05:00, or by name such as Asia/Tokyo (default: that of the form, or UTC)
    #[arg(long, help_heading = HEADING, value_name = "ZONE")]
    pub time_zone: Option<Zone>,

    /// The day of times that are times of day, as in LEAN and ITCH files (default: the date in the file's name)
    #[arg(long, help_heading = HEADING, value_name = "YYYY-MM-DD")]
    pub date: Option<Date>,

    /// Make quotes of what is below the best bid and offer: of the quotes of several exchanges, and of a session's order books where it has
    /// a stream of quotes as well (default: quotes as recorded)
    #[arg(long, help_heading = HEADING)]
    pub best_quotes: bool,

    /// Stop at the first record that cannot be read (default: tell of it, count it, go on)
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
        }
    }
}
