use crate::feed::text::nearest;
use std::{fmt, str::FromStr};

/// What a column of a CSV file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The venue's time; the feed's timeline too, where there is no `ts_recv`.
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
    Conditions,
    /// The exchange, by which `best_quotes` tells quotes apart.
    Venue,
    /// NYSE TAQ's correction indicator: from 7 on a trade that was cancelled, or a note on another one.
    Correction,
    /// Whether a price level of an order book is part of a snapshot: true or false.
    Snapshot,
}

/// Which columns of a CSV file hold what. Written `time=DT,bid=BID,bid_size=BIDSIZ,size_unit=100`; the fields are
/// `time`, `ts_recv`, `symbol`, `bid`, `bid_size`, `ask`, `ask_size`, `price`, `size`, `side`, `conditions`, `venue`, `correction` and
/// `snapshot` (which makes the file one of price levels). Where all columns are numbers, from 1, the file has no header line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnMapping {
    /// Field and the header's name of its column.
    columns: Vec<(Field, String)>,
    /// `size_unit`: what bid and ask sizes are multiplied by, such as 100 where a file counts in round lots. Default 1.
    pub(super) size_unit: u32,
    /// `zero_is_empty`: a bid or ask of 0 means that there is none. Default false.
    pub(super) zero_is_empty: bool,
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
    #[error("both trades (price) and quotes (bid, ask) are mapped: a file has one kind")]
    BothKinds,
    #[error(
        "header {header:?} is of no known form: say what its columns hold, such as time=DT,price=PRICE,size=SIZE"
    )]
    UnknownHeader { header: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Quotes,
    Trades,
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
    pub(super) zero_is_empty: bool,
}

/// Headers that are recognised by themselves: exactly these columns, in any order.
const KNOWN: &[(&str, &str)] = &[
    (
        // NYSE TAQ quotes: sizes in round lots, 0 is no quote on that side.
        "DT,EX,BID,BIDSIZ,OFR,OFRSIZ,SYMBOL",
        "time=DT,venue=EX,symbol=SYMBOL,bid=BID,bid_size=BIDSIZ,ask=OFR,ask_size=OFRSIZ,\
         size_unit=100,zero_is_empty=true",
    ),
    (
        // NYSE TAQ trades.
        "DT,EX,SYMBOL,COND,SIZE,PRICE,CORR",
        "time=DT,venue=EX,symbol=SYMBOL,price=PRICE,size=SIZE,conditions=COND,correction=CORR",
    ),
    (
        // Tardis quotes.
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
        "time=timestamp,ts_recv=local_timestamp,symbol=symbol,venue=exchange,\
         bid=bid_price,bid_size=bid_amount,ask=ask_price,ask_size=ask_amount",
    ),
    (
        // Tardis trades.
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
        "time=timestamp,ts_recv=local_timestamp,symbol=symbol,price=price,size=amount,side=side",
    ),
    (
        // Tardis changes of order books, and the snapshots they start from.
        "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
        "time=timestamp,ts_recv=local_timestamp,symbol=symbol,snapshot=is_snapshot,side=side,price=price,size=amount",
    ),
    ("timestamp,bid,ask", "time=timestamp,bid=bid,ask=ask"), // TrueFX, with a header
];

/// Tardis snapshots of order books of any depth, of which the best level is read.
const SNAPSHOTS: (&[&str], &str) = (
    &[
        "exchange",
        "symbol",
        "timestamp",
        "local_timestamp",
        "asks[0].price",
        "asks[0].amount",
        "bids[0].price",
        "bids[0].amount",
    ],
    "time=timestamp,ts_recv=local_timestamp,symbol=symbol,venue=exchange,\
     bid=bids[0].price,bid_size=bids[0].amount,ask=asks[0].price,ask_size=asks[0].amount",
);

impl Field {
    pub const ALL: [Self; 14] = [
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
        Self::Conditions,
        Self::Venue,
        Self::Correction,
        Self::Snapshot,
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
            Self::Conditions => "conditions",
            Self::Venue => "venue",
            Self::Correction => "correction",
            Self::Snapshot => "snapshot",
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
            let nearest = nearest(text, names.chain(["size_unit", "zero_is_empty"]));
            ColumnError::UnknownField { field: text.to_owned(), nearest }
        })
    }
}

impl ColumnMapping {
    /// # Errors
    /// [`ColumnError`] for a field that does not exist, stands twice, or is missing.
    pub fn parse(text: &str) -> Result<Self, ColumnError> {
        let mut mapping = Self { columns: Vec::new(), size_unit: 1, zero_is_empty: false };
        for pair in text.split(',') {
            let (field, column) = pair
                .split_once('=')
                .map(|(field, column)| (field.trim(), column.trim()))
                .filter(|(field, column)| !field.is_empty() && !column.is_empty())
                .ok_or_else(|| ColumnError::NotAPair(pair.to_owned()))?;
            match field {
                "size_unit" => mapping.size_unit = option("size_unit", column, "a whole number")?,
                "zero_is_empty" => mapping.zero_is_empty = option("zero_is_empty", column, "true or false")?,
                _ => mapping.map(field.parse()?, column)?,
            }
        }
        mapping.kind()?;
        Ok(mapping)
    }

    /// The mapping that belongs to a known header: see [`KNOWN`], and our own form, whose columns are called as the
    /// fields are; it may have others, which are not read.
    pub(super) fn of_header(header: &[&str]) -> Result<Self, ColumnError> {
        let is_header = |known: &str| {
            known.split(',').count() == header.len() && known.split(',').all(|name| header.contains(&name))
        };
        if let Some((_, mapping)) = KNOWN.iter().find(|(known, _)| is_header(known)) {
            return Self::parse(mapping);
        }
        if SNAPSHOTS.0.iter().all(|name| header.contains(name)) {
            return Self::parse(SNAPSHOTS.1);
        }
        let own = |name: &&&str| **name != "time" && Field::ALL.iter().any(|field| field.name() == **name);
        let pairs: Vec<_> = header.iter().filter(own).map(|name| format!("{name}={name}")).collect();
        header
            .contains(&"time")
            .then(|| Self::parse(&format!("time=time,{}", pairs.join(","))).ok())
            .flatten()
            .ok_or_else(|| ColumnError::UnknownHeader {
                header: header.join(",").chars().take(200).collect(),
            })
    }

    /// Finds the mapped columns in a file's header.
    pub(super) fn layout(&self, header: &[&str]) -> Result<Layout, ColumnError> {
        let mut fields = vec![None; header.len()];
        for (field, column) in &self.columns {
            let at = header.iter().position(|name| name == column).ok_or_else(|| ColumnError::NoColumn {
                field: *field,
                column: column.clone(),
                nearest: nearest(column, header.iter().copied()).to_owned(),
            })?;
            fields[at] = Some(*field);
        }
        self.laid_out(fields)
    }

    /// Whether the columns are told by number, as in a file without a header.
    pub(super) fn is_numbered(&self) -> bool {
        self.columns.iter().all(|(_, column)| column.bytes().all(|b| b.is_ascii_digit()))
    }

    /// Finds the mapped columns of a file without a header, whose lines have so many of them.
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
        let &Self { size_unit, zero_is_empty, .. } = self;
        Ok(Layout { kind: self.kind()?, fields, size_unit, zero_is_empty })
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
        match (self.has(Field::Bid) || self.has(Field::Ask), self.has(Field::Price)) {
            (true, false) => Ok(RecordKind::Quotes),
            (false, true) if self.has(Field::Snapshot) => Ok(RecordKind::Levels),
            (false, true) => Ok(RecordKind::Trades),
            (true, true) => Err(ColumnError::BothKinds),
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

    #[track_caller]
    fn check_header(header: &str, expected: Option<RecordKind>) {
        let columns: Vec<_> = header.split(',').collect();
        let mapping = ColumnMapping::of_header(&columns);
        assert_eq!(mapping.as_ref().ok().map(|mapping| mapping.kind().unwrap()), expected, "{mapping:?}");
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
        let both = "both trades (price) and quotes (bid, ask) are mapped: a file has one kind";
        check("time=t,bid=b,price=p", "t,b,p", both);
    }

    #[test]
    fn known_headers_are_recognised_in_any_order_and_others_are_not() {
        check_header("SYMBOL,DT,EX,BID,BIDSIZ,OFR,OFRSIZ", Some(RecordKind::Quotes));
        check_header("DT,EX,SYMBOL,COND,SIZE,PRICE,CORR", Some(RecordKind::Trades));
        check_header("time,symbol,price,size,side,venue", Some(RecordKind::Trades));
        check_header("time,bid,ask", Some(RecordKind::Quotes));
        let tardis = "exchange,symbol,timestamp,local_timestamp";
        check_header(&format!("{tardis},id,side,price,amount"), Some(RecordKind::Trades));
        check_header(&format!("{tardis},is_snapshot,side,price,amount"), Some(RecordKind::Levels));
        let level = "asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,asks[1].price,asks[1].amount";
        check_header(&format!("{tardis},{level}"), Some(RecordKind::Quotes));
        check_header("20200101 170000065,1.1,1.2,0", None);
        check_header("time,open,high,low,close", None);
    }
}
