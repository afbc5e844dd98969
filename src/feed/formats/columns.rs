use crate::feed::Tape;
use crate::hint::most_like;
use crate::market::Timestamp;
use std::{fmt, str::FromStr};

/// What a column of a CSV file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The venue's time; the feed's timeline, too, if there is no `ts_recv`.
    Time,
    /// The time of arrival.
    TsRecv,
    Symbol,
    Bid,
    BidSize,
    Ask,
    AskSize,
    Price,
    Size,
    Side,
    /// Whether the buyer's order was in the book, so that the taker has sold: true or false.
    BuyerIsMaker,
    /// The venue's id of a trade: a repeated one counts once.
    TradeId,
    Conditions,
    /// What a trade counts for, in words; overrides its conditions.
    Counts,
    /// The tape that defines the letters of its conditions: A, B or C.
    Tape,
    /// The exchange, by which `best_quotes` distinguishes quotes.
    Venue,
    /// NYSE TAQ's correction indicator: from 7 on a cancelled trade, or a notice of another one.
    Correction,
    /// Whether a price level of an order book is part of a snapshot: true or false.
    Snapshot,
    /// The date, if `time` is a time of day alone.
    Date,
}

/// Which columns of a CSV file hold what. Written `time=DT,bid=BID,bid_size=BIDSIZ,size_unit=100`; the fields
/// are `time`, `ts_recv`, `symbol`, `bid`, `bid_size`, `ask`, `ask_size`, `price`, `size`, `side`,
/// `buyer_is_maker`, `trade_id`, `conditions`, `counts`, `tape`, `venue`, `correction`, `snapshot` (which
/// makes the file one of price levels) and `date` (of which `time` is the time of day). If all columns are
/// numbers, from 1, the file has no header line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMapping {
    /// Field and the header's name of its column.
    columns: Vec<(Field, String)>,
    /// `size_unit`: the factor of bid and ask sizes, such as 100 for a file in round lots. Default 1.
    pub(super) size_unit: u32,
    /// The moment from which the factor is 1 all the same.
    pub(super) size_unit_until: Option<Timestamp>,
    /// `zero_is_empty`: a bid or ask of 0 means that there is none. Default false.
    pub(super) zero_is_empty: bool,
    /// `empty_is_unchanged`: an empty bid or ask is what it was before. Default false.
    pub(super) empty_is_unchanged: bool,
    /// `side_is_flags`: the side of a trade is in `MetaTrader`'s flags. Default false.
    pub(super) side_is_flags: bool,
    /// `conditions_of`: the tape that defines the letters of conditions, if no column states it. Default
    /// none: then every trade counts.
    pub(super) conditions_of: Option<Tape>,
}

/// Why columns cannot be read as quotes or trades.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ColumnError {
    #[error("{0:?} is no column mapping: expected field=column, such as time=DT")]
    NotAPair(String),
    #[error("unknown field {field:?}: did you mean {nearest:?}?")]
    UnknownField { field: String, nearest: &'static str },
    #[error("{field} is mapped twice")]
    Twice { field: Field },
    #[error("{option} is {value:?}: expected {expected}")]
    Option { option: &'static str, value: String, expected: &'static str },
    #[error("there is no column {column:?} for {field}: did you mean {nearest:?}?")]
    NoColumn { field: Field, column: String, nearest: String },
    #[error("there is no column {column} for {field}: the first line has {columns}")]
    NoNumber { field: Field, column: String, columns: usize },
    #[error("no column is mapped to time or ts_recv")]
    NoTime,
    #[error("no column is mapped to a bid, an ask or a price")]
    NoPrice,
    #[error("a date is mapped, and no time of day")]
    DateAlone,
    #[error("price levels (snapshot) and quotes (bid, ask) are mapped: a file has one kind")]
    BothKinds,
    #[error("its columns are bars (open, high, low, close): bars are made of trades, and are not read")]
    Bars,
    #[error(
        "header {header:?} is of no known form: say what its columns hold, such as time=DT,price=PRICE,size=SIZE"
    )]
    UnknownHeader { header: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Quotes,
    Trades,
    /// Quotes, and trades where there is a price.
    Both,
    /// Price levels of order books.
    Levels,
}

/// A mapping, found in the header of one file.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) kind: RecordKind,
    /// For each column of the file, what it holds.
    pub(super) fields: Vec<Option<Field>>,
    pub(super) size_unit: u32,
    pub(super) size_unit_until: Option<Timestamp>,
    pub(super) zero_is_empty: bool,
    pub(super) empty_is_unchanged: bool,
    pub(super) side_is_flags: bool,
    pub(super) conditions_of: Option<Tape>,
}

impl Layout {
    pub(super) fn has_symbol(&self) -> bool {
        self.fields.contains(&Some(Field::Symbol))
    }

    pub(super) fn is_of_trades(&self) -> bool {
        matches!(self.kind, RecordKind::Trades | RecordKind::Both)
    }

    /// Whether quotes are of several exchanges.
    pub(super) fn has_venues(&self) -> bool {
        matches!(self.kind, RecordKind::Quotes | RecordKind::Both)
            && self.fields.contains(&Some(Field::Venue))
    }
}

impl Field {
    pub const ALL: [Self; 19] = [
        Self::Time,
        Self::TsRecv,
        Self::Symbol,
        Self::Bid,
        Self::BidSize,
        Self::Ask,
        Self::AskSize,
        Self::Price,
        Self::Size,
        Self::Side,
        Self::BuyerIsMaker,
        Self::TradeId,
        Self::Conditions,
        Self::Counts,
        Self::Tape,
        Self::Venue,
        Self::Correction,
        Self::Snapshot,
        Self::Date,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::TsRecv => "ts_recv",
            Self::Symbol => "symbol",
            Self::Bid => "bid",
            Self::BidSize => "bid_size",
            Self::Ask => "ask",
            Self::AskSize => "ask_size",
            Self::Price => "price",
            Self::Size => "size",
            Self::Side => "side",
            Self::BuyerIsMaker => "buyer_is_maker",
            Self::TradeId => "trade_id",
            Self::Conditions => "conditions",
            Self::Counts => "counts",
            Self::Tape => "tape",
            Self::Venue => "venue",
            Self::Correction => "correction",
            Self::Snapshot => "snapshot",
            Self::Date => "date",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Field {
    type Err = ColumnError;

    fn from_str(text: &str) -> Result<Self, ColumnError> {
        Self::ALL.into_iter().find(|field| field.name() == text).ok_or_else(|| {
            let names = Self::ALL.iter().map(|field| field.name());
            let options =
                ["size_unit", "zero_is_empty", "empty_is_unchanged", "side_is_flags", "conditions_of"];
            let nearest = most_like(text, names.chain(options));
            ColumnError::UnknownField { field: text.to_owned(), nearest }
        })
    }
}

impl ColumnMapping {
    /// # Errors
    /// [`ColumnError`] for a field that does not exist, is given twice, or is missing.
    pub fn parse(text: &str) -> Result<Self, ColumnError> {
        let mut mapping = Self {
            columns: Vec::new(),
            size_unit: 1,
            size_unit_until: None,
            zero_is_empty: false,
            empty_is_unchanged: false,
            side_is_flags: false,
            conditions_of: None,
        };
        for pair in text.split(',') {
            let (field, column) = pair
                .split_once('=')
                .map(|(field, column)| (field.trim(), column.trim()))
                .filter(|(field, column)| !field.is_empty() && !column.is_empty())
                .ok_or_else(|| ColumnError::NotAPair(pair.to_owned()))?;
            match field {
                "size_unit" => mapping.size_unit = option("size_unit", column, "a whole number")?,
                "conditions_of" => {
                    mapping.conditions_of = Some(option("conditions_of", column, "cta, utp or us")?);
                }
                "zero_is_empty" => mapping.zero_is_empty = option("zero_is_empty", column, "true or false")?,
                "empty_is_unchanged" => {
                    mapping.empty_is_unchanged = option("empty_is_unchanged", column, "true or false")?;
                }
                "side_is_flags" => {
                    mapping.side_is_flags = option("side_is_flags", column, "true or false")?;
                }
                _ => mapping.map(field.parse()?, column)?,
            }
        }
        mapping.kind()?;
        Ok(mapping)
    }

    /// Finds the mapped columns in a file's header.
    pub(super) fn layout(&self, header: &[&str]) -> Result<Layout, ColumnError> {
        let mut fields = vec![None; header.len()];
        for (field, column) in &self.columns {
            let at = header.iter().position(|name| name == column).ok_or_else(|| ColumnError::NoColumn {
                field: *field,
                column: column.clone(),
                nearest: most_like(column, header.iter().copied()).to_owned(),
            })?;
            fields[at] = Some(*field);
        }
        self.laid_out(fields)
    }

    /// Whether the columns are given by number, as for a file without a header.
    pub(super) fn is_numbered(&self) -> bool {
        self.columns.iter().all(|(_, column)| column.bytes().all(|b| b.is_ascii_digit()))
    }

    /// Finds the mapped columns of a file without a header, whose lines have this many columns.
    pub(super) fn numbered(&self, columns: usize) -> Result<Layout, ColumnError> {
        let mut fields = vec![None; columns];
        for (field, column) in &self.columns {
            let number = column.parse::<usize>().unwrap_or_default();
            let slot = number.checked_sub(1).and_then(|at| fields.get_mut(at));
            let no_number = || ColumnError::NoNumber { field: *field, column: column.clone(), columns };
            *slot.ok_or_else(no_number)? = Some(*field);
        }
        self.laid_out(fields)
    }

    fn laid_out(&self, fields: Vec<Option<Field>>) -> Result<Layout, ColumnError> {
        let &Self { size_unit, size_unit_until, zero_is_empty, conditions_of, .. } = self;
        let &Self { empty_is_unchanged, side_is_flags, .. } = self;
        let kind = self.kind()?;
        Ok(Layout {
            kind,
            fields,
            size_unit,
            size_unit_until,
            zero_is_empty,
            empty_is_unchanged,
            side_is_flags,
            conditions_of,
        })
    }

    fn map(&mut self, field: Field, column: &str) -> Result<(), ColumnError> {
        if self.has(field) {
            return Err(ColumnError::Twice { field });
        }
        self.columns.push((field, column.to_owned()));
        Ok(())
    }

    fn has(&self, field: Field) -> bool {
        self.columns.iter().any(|(mapped, _)| *mapped == field)
    }

    fn kind(&self) -> Result<RecordKind, ColumnError> {
        if !self.has(Field::Time) && !self.has(Field::TsRecv) {
            return Err(ColumnError::NoTime);
        }
        if self.has(Field::Date) && !self.has(Field::Time) {
            return Err(ColumnError::DateAlone);
        }
        match (self.has(Field::Bid) || self.has(Field::Ask), self.has(Field::Price)) {
            (true, false) => Ok(RecordKind::Quotes),
            (false, true) if self.has(Field::Snapshot) => Ok(RecordKind::Levels),
            (false, true) => Ok(RecordKind::Trades),
            (true, true) if self.has(Field::Snapshot) => Err(ColumnError::BothKinds),
            (true, true) => Ok(RecordKind::Both),
            (false, false) => Err(ColumnError::NoPrice),
        }
    }
}

impl FromStr for ColumnMapping {
    type Err = ColumnError;

    fn from_str(text: &str) -> Result<Self, ColumnError> {
        Self::parse(text)
    }
}

fn option<T: FromStr>(option: &'static str, value: &str, expected: &'static str) -> Result<T, ColumnError> {
    value.parse().map_err(|_| ColumnError::Option { option, value: value.to_owned(), expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(mapping: &str, header: &str, expected: &str) {
        let header: Vec<_> = header.split(',').collect();
        let got = ColumnMapping::parse(mapping).and_then(|mapping| mapping.layout(&header)).map_or_else(
            |error| error.to_string(),
            |layout| {
                let fields = layout.fields.iter().map(|f| f.map_or("-", Field::name)).collect::<Vec<_>>();
                format!("{:?} {} x{}", layout.kind, fields.join(","), layout.size_unit)
            },
        );
        assert_eq!(got, expected);
    }

    #[test]
    fn a_mapping_says_what_each_column_holds() {
        check("time=t, bid=b,size_unit=100", "x,b,t", "Quotes -,bid,time x100");
        check("ts_recv=t,price=p,conditions=c", "t,p,c", "Trades ts_recv,price,conditions x1");
    }

    #[test]
    fn columns_of_a_file_without_a_header_are_numbered_from_1() {
        let check = |mapping: &str, expected: &str| {
            let mapping = ColumnMapping::parse(mapping).unwrap();
            assert!(mapping.is_numbered());
            let got = mapping.numbered(3).map_or_else(
                |error| error.to_string(),
                |layout| {
                    layout.fields.iter().map(|f| f.map_or("-", Field::name)).collect::<Vec<_>>().join(",")
                },
            );
            assert_eq!(got, expected);
        };
        check("time=1,ask=3", "time,-,ask");
        check("time=1,ask=4", "there is no column 4 for ask: the first line has 3");
        check("time=0,ask=3", "there is no column 0 for time: the first line has 3");
        assert!(!ColumnMapping::parse("time=1,ask=ASK").unwrap().is_numbered());
    }

    #[test]
    fn a_wrong_mapping_is_named_with_what_was_likely_meant() {
        check("time=t,bidsize=b", "t,b", "unknown field \"bidsize\": did you mean \"bid_size\"?");
        check("time=t,bid=BDI", "t,BID", "there is no column \"BDI\" for bid: did you mean \"BID\"?");
        check("time", "t", "\"time\" is no column mapping: expected field=column, such as time=DT");
        check("time=a,time=b", "a,b", "time is mapped twice");
        check("bid=b", "b", "no column is mapped to time or ts_recv");
        check("time=t,symbol=s", "t,s", "no column is mapped to a bid, an ask or a price");
        check("time=t,size_unit=x", "t", "size_unit is \"x\": expected a whole number");
        check("time=t,bid=b,price=p", "t,b,p", "Both time,bid,price x1");
        let both = "price levels (snapshot) and quotes (bid, ask) are mapped: a file has one kind";
        check("time=t,bid=b,price=p,snapshot=s", "t,b,p,s", both);
        check("date=d,ts_recv=t,bid=b", "d,t,b", "a date is mapped, and no time of day");
    }
}
