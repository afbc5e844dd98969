use super::course::{Course, Outlier};
use super::csv::csv_record;
use super::dbn::{RecordError, Records};
use super::dialect::Delimiter;
use super::lines::{LineError, Lines};
use super::rows::{Rows, TooLong};
use super::unpack::Input;
use crate::feed::text::parse_time;
use crate::feed::{Feed, FeedError, LeftOut};
use crate::market::{Event, FeedKind, Instruments, Timestamp, parse_decimal};
use dbn::{
    BboMsg, BidAskPair, CbboMsg, Cmbp1Msg, ConsolidatedBidAskPair, FlagSet, MboMsg, Mbp1Msg, Mbp10Msg,
    RecordHeader, RecordRef, Schema, TradeMsg, TsSymbolMap, UNDEF_ORDER_SIZE, UNDEF_PRICE, UNDEF_TIMESTAMP,
    rtype,
};
use rust_decimal::Decimal;
use std::ffi::c_char;

/// Databento's records as CSV, with times and prices as in DBN or made readable. Each row is turned back into
/// its record, so that all is read by the same rules as in [`Dbn`](super::Dbn).
pub(super) struct Databento {
    file: String,
    rows: Rows,
    columns: Columns,
    records: Records,
    course: Course,
}

/// The file's index of each column of [`COLUMNS`].
struct Columns {
    at: [Option<usize>; COLUMNS.len()],
    count: usize,
}

const COLUMNS: [&str; 18] = [
    "ts_recv",
    "ts_event",
    "rtype",
    "publisher_id",
    "instrument_id",
    "action",
    "side",
    "price",
    "size",
    "flags",
    "order_id",
    "bid_px_00",
    "ask_px_00",
    "bid_sz_00",
    "ask_sz_00",
    "symbol",
    "sequence",
    "depth",
];

/// The content of a row.
enum Read {
    Moment(Timestamp),
    /// Nothing, or it is to be read again.
    Nothing,
    End,
}

/// Why a row is no record.
#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("{0}")]
    Csv(#[from] csv::Error),
    #[error("{got} columns where the header has {expected}")]
    Columns { got: usize, expected: usize },
    #[error("{column}: {text:?} is no {expected}")]
    Cell { column: &'static str, text: String, expected: &'static str },
    #[error("{0}")]
    Record(#[from] RecordError),
    #[error("{0}")]
    Outlier(#[from] Outlier),
    #[error("its rows go from the newest to the oldest, and it is too long to be turned round in memory")]
    TooLong,
}

impl From<TooLong> for RowError {
    fn from(TooLong: TooLong) -> Self {
        Self::TooLong
    }
}

/// Whether a file's first line is the header of such records.
pub(super) fn is_header(line: &str) -> bool {
    let names: Vec<&str> = line.trim_start_matches('\u{feff}').split(',').map(str::trim).collect();
    ["ts_event", "rtype", "publisher_id", "instrument_id"].iter().all(|name| names.contains(name))
}

impl Databento {
    pub(super) fn new(file: String, input: Input, best_quotes: bool) -> Self {
        let mut lines = Lines::new(input, super::csv::MAX_LINE);
        // The form was detected by it, so it is there.
        let header = lines.next().ok().flatten().unwrap_or_default().trim_start_matches('\u{feff}');
        let names: Vec<&str> = header.split(',').map(str::trim).collect();
        let at = COLUMNS.map(|column| names.iter().position(|name| *name == column));
        // Rows of quotes that trades met have the form of any other best quotes.
        let schema = file.contains("tbbo").then_some(Schema::Tbbo);
        Self {
            records: Records::new(schema, TsSymbolMap::new(), best_quotes),
            columns: Columns { at, count: names.len() },
            rows: Rows::new(lines),
            course: Course::default(),
            file,
        }
    }

    fn place(&self) -> String {
        format!("{} line {}", self.file, self.rows.number())
    }

    /// Reads the next row.
    fn read(&mut self, instruments: &mut Instruments, out: &mut Vec<Event>) -> Result<Read, RowError> {
        let Some(line) = self.rows.next()? else { return Ok(Read::End) };
        let record;
        let cells: Vec<&str> = if line.contains('"') {
            record = csv_record(line, Delimiter::Comma)?;
            record.iter().collect()
        } else {
            line.split(',').collect()
        };
        let cells = self.columns.cells(&cells)?;
        let arrival = cells.arrival()?;
        if let Some(arrival) = arrival.filter(|&arrival| !self.course.follows(arrival)) {
            let columns = &self.columns;
            let behind = self.rows.look_ahead(|line| columns.arrival(line));
            if let Err(outlier) = self.course.judge(arrival, &behind) {
                let _ = self.rows.next();
                return Err(outlier.into());
            }
            return Ok(Read::Nothing);
        }
        Ok(cells.read(&mut self.records, instruments, out)?.map_or(Read::Nothing, Read::Moment))
    }
}

impl Feed for Databento {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        loop {
            match self.read(instruments, out) {
                Ok(Read::Moment(time)) => return Ok(Some(time)),
                Ok(Read::Nothing) => {}
                Ok(Read::End) => return Ok(None),
                Err(error) => return Err(FeedError { place: self.place(), reason: error.to_string() }),
            }
        }
    }

    fn left_out(&self) -> u64 {
        self.records.left_out.total()
    }

    fn left_out_by_kind(&self) -> LeftOut {
        self.records.left_out.clone()
    }
}

impl Columns {
    fn cells<'a>(&self, cells: &[&'a str]) -> Result<Cells<'a>, RowError> {
        if cells.len() != self.count {
            return Err(RowError::Columns { got: cells.len(), expected: self.count });
        }
        Ok(Cells(self.at.map(|at| at.and_then(|at| cells.get(at)).copied().unwrap_or_default())))
    }

    fn arrival(&self, line: &str) -> Option<Timestamp> {
        self.cells(&line.split(',').collect::<Vec<_>>()).ok()?.arrival().ok()?
    }
}

/// A row by [`COLUMNS`]; empty if there is no such column.
struct Cells<'a>([&'a str; COLUMNS.len()]);

impl<'a> Cells<'a> {
    fn get(&self, column: &'static str) -> &'a str {
        COLUMNS.iter().position(|name| *name == column).map_or("", |at| self.0[at])
    }

    fn error(&self, column: &'static str, expected: &'static str) -> RowError {
        RowError::Cell { column, text: self.get(column).chars().take(40).collect(), expected }
    }

    fn number<T: std::str::FromStr>(&self, column: &'static str) -> Result<T, RowError> {
        self.get(column).parse().map_err(|_| self.error(column, "whole number in range"))
    }

    /// A number, or the value for none.
    fn number_or<T: std::str::FromStr>(&self, column: &'static str, none: T) -> Result<T, RowError> {
        if is_none(self.get(column)) { Ok(none) } else { self.number(column) }
    }

    fn letter(&self, column: &'static str) -> c_char {
        let letter = self.get(column).bytes().next().unwrap_or(b'N');
        c_char::try_from(letter).unwrap_or_default()
    }

    /// Nanoseconds, or as they are read.
    fn time(&self, column: &'static str) -> Result<u64, RowError> {
        let text = self.get(column);
        if is_none(text) || text.parse() == Ok(UNDEF_TIMESTAMP) {
            return Ok(UNDEF_TIMESTAMP);
        }
        let time = parse_time(text).map_err(|_| self.error(column, "time in ns or as RFC 3339"))?;
        u64::try_from(time.nanos()).map_err(|_| self.error(column, "time since 1970"))
    }

    fn arrival(&self) -> Result<Option<Timestamp>, RowError> {
        let moment = |nanos: u64| i64::try_from(nanos).ok().map(Timestamp::from_nanos);
        Ok(moment(self.time("ts_recv")?).or(moment(self.time("ts_event")?)))
    }

    /// In units of 1e-9, unchanged if there is no point.
    fn price(&self, column: &'static str) -> Result<i64, RowError> {
        let text = self.get(column);
        if is_none(text) {
            return Ok(UNDEF_PRICE);
        }
        if !text.contains(['.', 'e', 'E']) {
            return self.number(column);
        }
        let error = || self.error(column, "price of at most 9 decimals");
        let price = parse_decimal(text).map_err(|_| error())?;
        let units = price.checked_mul(Decimal::from(1_000_000_000)).filter(|units| units.fract().is_zero());
        units.and_then(|units| i64::try_from(units).ok()).ok_or_else(error)
    }

    fn level(&self) -> Result<BidAskPair, RowError> {
        Ok(BidAskPair {
            bid_px: self.price("bid_px_00")?,
            ask_px: self.price("ask_px_00")?,
            bid_sz: self.number_or("bid_sz_00", UNDEF_ORDER_SIZE)?,
            ask_sz: self.number_or("ask_sz_00", UNDEF_ORDER_SIZE)?,
            ..BidAskPair::default()
        })
    }

    fn consolidated(&self) -> Result<ConsolidatedBidAskPair, RowError> {
        let BidAskPair { bid_px, ask_px, bid_sz, ask_sz, .. } = self.level()?;
        Ok(ConsolidatedBidAskPair { bid_px, ask_px, bid_sz, ask_sz, ..ConsolidatedBidAskPair::default() })
    }

    /// Turns the row back into its record, and reads that.
    fn read(
        &self,
        records: &mut Records,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, RowError> {
        // From version 4 on quotes that trades met have a kind of their own.
        let kind = match self.number("rtype")? {
            rtype::TBBO => rtype::MBP_1,
            kind => kind,
        };
        let instrument: u32 = self.number("instrument_id")?;
        let symbol = match self.get("symbol") {
            "" => self.get("instrument_id"),
            symbol => symbol,
        };
        records.name(instrument, symbol);
        let (publisher, event) = (self.number("publisher_id")?, self.time("ts_event")?);
        let (ts_recv, flags) = (self.time("ts_recv")?, FlagSet::new(self.number_or("flags", 0)?));
        let (price, size) = (self.price("price")?, self.number_or("size", UNDEF_ORDER_SIZE)?);
        let (action, side) = (self.letter("action"), self.letter("side"));
        macro_rules! record {
            ($record:ident, $($rest:tt)*) => {{
                let hd = RecordHeader::new::<$record>(kind, publisher, instrument, event);
                let record = $record { hd, price, size, side, flags, ts_recv, $($rest)* };
                Ok(records.read(RecordRef::from(&record), instruments, out)?)
            }};
        }
        match kind {
            rtype::MBP_0 => record!(TradeMsg, action, depth: 0, ts_in_delta: 0, sequence: 0),
            rtype::MBP_1 => {
                record!(Mbp1Msg, action, depth: 0, ts_in_delta: 0, sequence: 0, levels: [self.level()?])
            }
            rtype::MBP_10 => {
                let mut levels = <[BidAskPair; 10]>::default();
                levels[0] = self.level()?;
                record!(Mbp10Msg, action, depth: 0, ts_in_delta: 0, sequence: 0, levels)
            }
            rtype::MBO => {
                let order_id = self.number("order_id")?;
                record!(MboMsg, action, order_id, channel_id: 0, ts_in_delta: 0, sequence: 0)
            }
            rtype::CMBP_1 | rtype::TCBBO => {
                let levels = [self.consolidated()?];
                record!(Cmbp1Msg, action, levels, ..Cmbp1Msg::default_for_schema(Schema::Cmbp1))
            }
            rtype::BBO_1S | rtype::BBO_1M => {
                record!(BboMsg, levels: [self.level()?], ..BboMsg::default_for_schema(Schema::Bbo1S))
            }
            rtype::CBBO_1S | rtype::CBBO_1M => {
                let levels = [self.consolidated()?];
                record!(CbboMsg, levels, ..CbboMsg::default_for_schema(Schema::Cbbo1S))
            }
            other => {
                records.left_out.add("records of kind", &format!("{other:#04x}"));
                Ok(None)
            }
        }
    }
}

/// Empty cells, also as a table of numbers writes them.
fn is_none(text: &str) -> bool {
    matches!(text, "" | "NaN" | "nan")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::formats::show::show;

    #[track_caller]
    fn check(file: &str, text: &str, expected: &[&str]) {
        assert!(is_header(text.lines().next().unwrap()));
        let input = Box::new(std::io::Cursor::new(text.to_owned()));
        assert_eq!(show(&mut Databento::new(file.to_owned(), input, false)), expected);
    }

    const TRADES: &str = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence,symbol";
    const MBP1: &str = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,ts_in_delta,sequence,\
                        bid_px_00,ask_px_00,bid_sz_00,ask_sz_00,bid_ct_00,ask_ct_00,symbol";

    #[test]
    fn trades_are_in_units_of_a_billionth_and_a_has_sold() {
        let row = |side: char| {
            format!(
                "1740998700000100000,1740998700000000000,0,1,5482,T,{side},0,5900250000000,3,0,100,1,ESM5\n"
            )
        };
        let trade = |side: &str| {
            format!("2025-03-03T10:45:00.0001Z trade ESM5 5900.25 x 3 {side}, event 2025-03-03T10:45:00Z")
        };
        let text = format!("{TRADES}\n{}{}{}", row('A'), row('B'), row('N'));
        check("x.csv", &text, &[&trade("sell"), &trade("buy"), &trade("none")]);
    }

    #[test]
    fn readable_quotes_have_an_empty_side_by_any_sentinel() {
        let row = |second: u64, action: char, ask: &str, size: &str| {
            format!(
                "2025-03-03T14:30:0{second}.1Z,2025-03-03T14:30:0{second}Z,1,1,5482,{action},A,0,5900.250000000,3,128,100,1,5900.250000000,{ask},3,{size},1,1,ESM5\n"
            )
        };
        let text = format!(
            "{MBP1}\n{}{}{}{}",
            row(0, 'A', "9223372036.854775807", "0"),
            row(1, 'T', "5900.500000000", "2"),
            row(2, 'A', "", "2"),
            row(3, 'A', "5900.5", "4294967295"),
        );
        let event = |second: u64| format!(", event 2025-03-03T14:30:0{second}Z");
        let quote = |second: u64, ask: &str| {
            format!("2025-03-03T14:30:0{second}.1Z quote ESM5 5900.25 x 3 / {ask}{}", event(second))
        };
        let trade = format!("2025-03-03T14:30:01.1Z trade ESM5 5900.25 x 3 sell{}", event(1));
        let quotes = [quote(0, "- x 0"), quote(1, "5900.5 x 2"), quote(2, "- x 0"), quote(3, "5900.5 x 0")];
        check("x.csv", &text, &[&quotes[0], &trade, &quotes[1], &quotes[2], &quotes[3]]);
        let met = format!("{MBP1}\n{}", row(1, 'T', "5900.500000000", "2"));
        check("x.tbbo.csv", &met, &[&quotes[1], &trade]);
    }

    #[test]
    fn quotes_of_an_interval_are_of_its_end_and_bad_cells_are_named() {
        let header = "ts_recv,ts_event,rtype,publisher_id,instrument_id,side,price,size,flags,sequence,bid_px_00,ask_px_00,bid_sz_00,ask_sz_00";
        check(
            "x.csv",
            &format!(
                "{header}\n\
                 2025-03-03T14:31:00Z,2025-03-03T14:30:12Z,196,1,7,N,,,0,1,1.5,2.5,3,4\n\
                 2025-03-03T14:32:00Z,2025-03-03T14:30:12Z,196,1,7,N,,,0,1,x.5,2.5,3,4\n\
                 2025-03-03T14:32:00Z,2025-03-03T14:30:12Z,33,1,7,N,,,0,1,1.5,2.5,3,4\n\
                 noon\n"
            ),
            &[
                "2025-03-03T14:31:00Z quote 7 1.5 x 3 / 2.5 x 4",
                "x.csv line 3: bid_px_00: \"x.5\" is no price of at most 9 decimals",
                "x.csv line 5: 1 columns where the header has 14",
            ],
        );
    }

    #[test]
    fn orders_are_folded() {
        let header = "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,price,size,channel_id,order_id,flags,ts_in_delta,sequence,symbol";
        let row = |second: u64, action: char, side: char, price: &str, order: u64| {
            format!(
                "2025-03-03T14:30:0{second}Z,2025-03-03T14:30:0{second}Z,160,1,7,{action},{side},{price},5,0,{order},128,0,1,X\n"
            )
        };
        let text = format!(
            "{header}\n{}{}{}{}",
            row(0, 'R', 'N', "", 0),
            row(1, 'A', 'B', "10.000000000", 1),
            row(2, 'A', 'A', "11.000000000", 2),
            row(3, 'C', 'B', "10.000000000", 1),
        );
        check(
            "x.csv",
            &text,
            &[
                "2025-03-03T14:30:01Z quote X 10 x 5 / - x 0",
                "2025-03-03T14:30:02Z quote X 10 x 5 / 11 x 5",
                "2025-03-03T14:30:03Z quote X - x 0 / 11 x 5",
            ],
        );
    }
}
