use super::clock::Clock;
use super::columns::{ColumnError, ColumnMapping, Field, Layout, RecordKind};
use super::lines::{LineError, Lines};
use super::unpack::Input;
use crate::feed::text::{TimeError, intern, parse_time};
use crate::feed::{Feed, FeedError};
use crate::market::{
    Conditions, Event, FeedKind, Instruments, NumberError, QuoteValues, Side, Symbol, SymbolError, Timestamp,
    parse_decimal,
};
use rust_decimal::Decimal;

/// The longest line that is read.
const MAX_LINE: u64 = 64 * 1024;

/// Quotes or trades of a CSV file with a header line, one record a batch.
pub struct Csv {
    file: String,
    lines: Lines<Input>,
    layout: Layout,
    /// Of a file without a symbol column.
    symbol: Option<Symbol>,
    clock: Clock,
}

/// Why a line is no quote or trade.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("{0}")]
    Csv(#[from] csv::Error),
    #[error("{got} columns where the header has {expected}")]
    Columns { got: usize, expected: usize },
    #[error("{field}: {error}")]
    Time { field: Field, error: TimeError },
    #[error("{field}: {error}")]
    Number { field: Field, error: NumberError },
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    #[error("{0}")]
    Value(#[from] NumberError),
    #[error("side: {0:?} is none of buy, sell, or empty")]
    Side(String),
    #[error("conditions: {0:?} is longer than 4 printable characters")]
    Conditions(String),
}

/// The cells of one line by [`Field`]; empty where the file has no such column.
type Cells<'a> = [&'a str; Field::ALL.len()];

impl Csv {
    /// Reads the header; `columns` says what it means, or it is one of the known ones. Records of a file without a
    /// symbol column are of `symbol`; only then does it matter whether there is one.
    pub(super) fn new(
        file: String,
        input: Input,
        columns: Option<&ColumnMapping>,
        symbol: Result<Symbol, SymbolError>,
    ) -> Result<Self, HeaderError> {
        let mut lines = Lines::new(input, MAX_LINE);
        let line = lines.next()?.ok_or(HeaderError::Empty)?;
        let header = csv_record(line.trim_start_matches('\u{feff}'))?;
        let header: Vec<_> = header.iter().map(str::trim).collect();
        let layout = match columns {
            Some(mapping) => mapping.layout(&header)?,
            None => ColumnMapping::of_header(&header)?.layout(&header)?,
        };
        let symbol = if layout.fields.contains(&Some(Field::Symbol)) { None } else { Some(symbol?) };
        Ok(Self { file, lines, layout, symbol, clock: Clock::default() })
    }
}

/// Why a file's first line is no header.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    #[error("the header line is missing")]
    Empty,
    #[error("{0}")]
    Columns(#[from] ColumnError),
    #[error("the header cannot be read: {0}")]
    Unreadable(String),
    #[error("no column holds the symbol, and the file's name is none, so one must be given: {0}")]
    Symbol(#[from] SymbolError),
}

impl From<LineError> for HeaderError {
    fn from(error: LineError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl From<csv::Error> for HeaderError {
    fn from(error: csv::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

impl Feed for Csv {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let read = match self.lines.next() {
            Ok(None) => return Ok(None),
            Ok(Some(line)) => read_line(line, &self.layout, self.symbol.as_ref(), instruments, out),
            Err(error) => Err(error.into()),
        };
        read.map(|arrival| Some(self.clock.at(arrival))).map_err(|error| FeedError {
            place: format!("{} line {}", self.file, self.lines.number()),
            reason: error.to_string(),
        })
    }
}

/// Appends the record of a line to `out`; its time of arrival.
fn read_line(
    line: &str,
    layout: &Layout,
    symbol: Option<&Symbol>,
    instruments: &mut Instruments,
    out: &mut Vec<Event>,
) -> Result<Timestamp, RecordError> {
    // Market data has no quotation marks, so that a line is split at its commas; the rest is for the real CSV reader.
    if line.contains('"') {
        let record = csv_record(line)?;
        read_record(&cells(record.iter(), layout)?, layout, symbol, instruments, out)
    } else {
        read_record(&cells(line.split(','), layout)?, layout, symbol, instruments, out)
    }
}

fn read_record(
    cells: &Cells,
    layout: &Layout,
    symbol: Option<&Symbol>,
    instruments: &mut Instruments,
    out: &mut Vec<Event>,
) -> Result<Timestamp, RecordError> {
    let times @ (_, arrival) = times(cells)?;
    let name = symbol.map_or(cells[Field::Symbol as usize], Symbol::as_str);
    match layout.kind {
        RecordKind::Quotes => {
            let values = quote_values(cells, layout)?;
            let id = intern(name, instruments, out)?;
            let quote = instruments.quote(id, &values, times, out)?;
            out.push(Event::Quote(id, quote));
        }
        RecordKind::Trades => {
            let numbers = (number(cells, Field::Price)?, size(cells, Field::Size)?);
            let kind = (side(cells)?, conditions(cells)?);
            let id = intern(name, instruments, out)?;
            let trade = instruments.trade(id, numbers, kind, times, out)?;
            out.push(Event::Trade(id, trade));
        }
    }
    Ok(arrival)
}

fn cells<'a>(line: impl Iterator<Item = &'a str>, layout: &Layout) -> Result<Cells<'a>, RecordError> {
    let mut cells = [""; Field::ALL.len()];
    let mut got = 0;
    for cell in line {
        if let Some(&Some(field)) = layout.fields.get(got) {
            cells[field as usize] = cell;
        }
        got += 1;
    }
    let expected = layout.fields.len();
    if got == expected { Ok(cells) } else { Err(RecordError::Columns { got, expected }) }
}

fn csv_record(line: &str) -> Result<csv::StringRecord, csv::Error> {
    let mut record = csv::StringRecord::new();
    csv::ReaderBuilder::new()
        .has_headers(false)
        .buffer_capacity(line.len().max(1))
        .from_reader(line.as_bytes())
        .read_record(&mut record)?;
    Ok(record)
}

/// The venue's time and the time of arrival; where the file has one of them, it is both.
fn times(cells: &Cells) -> Result<(Timestamp, Timestamp), RecordError> {
    let time =
        |field: Field| parse_time(cells[field as usize]).map_err(|error| RecordError::Time { field, error });
    match (cells[Field::Time as usize], cells[Field::TsRecv as usize]) {
        (_, "") => time(Field::Time).map(|both| (both, both)),
        ("", _) => time(Field::TsRecv).map(|both| (both, both)),
        _ => Ok((time(Field::Time)?, time(Field::TsRecv)?)),
    }
}

fn quote_values(cells: &Cells, layout: &Layout) -> Result<QuoteValues, RecordError> {
    let price = |field: Field| match cells[field as usize] {
        "" => Ok(None),
        _ => number(cells, field).map(|price| Some(price).filter(|p| !(layout.zero_is_empty && p.is_zero()))),
    };
    let size = |field| {
        let size = size(cells, field)?;
        if layout.size_unit == 1 {
            return Ok(size);
        }
        let (value, scale) = (size, 0);
        size.checked_mul(layout.size_unit.into())
            .ok_or(RecordError::Number { field, error: NumberError::OutOfRange { value, scale } })
    };
    Ok(QuoteValues {
        bid: price(Field::Bid)?,
        bid_size: size(Field::BidSize)?,
        ask: price(Field::Ask)?,
        ask_size: size(Field::AskSize)?,
    })
}

fn number(cells: &Cells, field: Field) -> Result<Decimal, RecordError> {
    parse_decimal(cells[field as usize]).map_err(|error| RecordError::Number { field, error })
}

/// 0 where the file does not say.
fn size(cells: &Cells, field: Field) -> Result<Decimal, RecordError> {
    if cells[field as usize].is_empty() { Ok(Decimal::ZERO) } else { number(cells, field) }
}

fn side(cells: &Cells) -> Result<Side, RecordError> {
    match cells[Field::Side as usize] {
        "buy" | "BUY" | "Buy" | "b" | "B" => Ok(Side::Buy),
        "sell" | "SELL" | "Sell" | "s" | "S" => Ok(Side::Sell),
        "" | "none" | "unknown" => Ok(Side::None),
        other => Err(RecordError::Side(other.chars().take(40).collect())),
    }
}

fn conditions(cells: &Cells) -> Result<Conditions, RecordError> {
    let text = cells[Field::Conditions as usize];
    Conditions::new(text).ok_or_else(|| RecordError::Conditions(text.chars().take(40).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::formats::show::show;

    fn open(text: &str, columns: Option<&str>) -> Result<Csv, HeaderError> {
        let columns = columns.map(|text| ColumnMapping::parse(text).unwrap());
        let input = Box::new(std::io::Cursor::new(text.to_owned()));
        Csv::new("x.csv".to_owned(), input, columns.as_ref(), Symbol::new("STEM"))
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        assert_eq!(show(&mut open(text, None).unwrap()), expected);
    }

    #[track_caller]
    fn check_line(header: &str, line: &str, expected: &str) {
        check(&format!("{header}\n{line}\n"), &[expected]);
    }

    const OWN_TRADES: &str = "time,symbol,price,size,side";

    #[test]
    fn taq_quotes_are_in_round_lots_and_a_zero_is_an_empty_side() {
        check(
            "DT,EX,BID,BIDSIZ,OFR,OFRSIZ,SYMBOL\n\
             2018-01-02T09:04:13.125000Z,P,156.57,1,158.85,2,XXX\n\
             2018-01-02T09:04:14Z,P,0,0,158.85,2,XXX\n\
             2018-01-02T09:04:15Z,P,159.01,3,158.85,2,XXX\n",
            &[
                "2018-01-02T09:04:13.125Z quote XXX 156.57 x 100 / 158.85 x 200",
                "2018-01-02T09:04:14Z quote XXX - x 0 / 158.85 x 200",
                "2018-01-02T09:04:15Z quote XXX 159.01 x 300 / 158.85 x 200",
            ],
        );
    }

    #[test]
    fn taq_trades_keep_the_blanks_of_their_conditions_and_fractions_of_a_cent() {
        check(
            "DT,EX,SYMBOL,COND,SIZE,PRICE,CORR\r\n\
             2018-01-02T10:01:21.479000Z,P,XXX,F I,2,157.8,0\r\n\
             2018-01-02T10:01:22Z,D,XXX,,130,159.3988,0\r\n",
            &[
                "2018-01-02T10:01:21.479Z trade XXX 157.8 x 2 none \"F I\"",
                "2018-01-02T10:01:22Z trade XXX 159.3988 x 130 none",
            ],
        );
    }

    #[test]
    fn tardis_files_have_the_venues_time_and_the_arrival() {
        check_line(
            "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
            "bitmex,XBTUSD,1583020803145000,1583020803307160,c3,sell,8531.5,2152",
            "2020-03-01T00:00:03.30716Z trade XBTUSD 8531.5 x 2152 sell, event 2020-03-01T00:00:03.145Z",
        );
        check_line(
            "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
            "h,BTC-USD,1588291201099000,1588291201234268,5494,8629.3,8629.2,806",
            "2020-05-01T00:00:01.234268Z quote BTC-USD 8629.2 x 806 / 8629.3 x 5494, \
             event 2020-05-01T00:00:01.099Z",
        );
    }

    #[test]
    fn a_file_without_symbols_or_sizes_has_its_name_and_size_zero() {
        check_line(
            "timestamp,bid,ask",
            "2013-01-01 22:00:00.295000+00:00,86.655,86.728",
            "2013-01-01T22:00:00.295Z quote STEM 86.655 x 0 / 86.728 x 0",
        );
    }

    #[test]
    fn an_empty_cell_is_an_empty_side_and_a_zero_is_a_price() {
        check_line("time,bid,ask", "1,,0", "1970-01-01T00:00:01Z quote STEM - x 0 / 0 x 0");
    }

    #[test]
    fn quoted_cells_are_unquoted() {
        let expected = "1970-01-01T00:00:01Z trade BRK.B 1.5 x 2 buy";
        check_line(OWN_TRADES, "1,\"BRK.B\",\"1.5\",2,buy", expected);
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        let bad = |line: &str, reason: &str| check_line(OWN_TRADES, line, &format!("x.csv line 2: {reason}"));
        bad("1,A,x,1,", "price: \"x\" is no decimal number");
        bad("1,A,,1,", "price: \"\" is no decimal number");
        bad("1,A,1,-1,", "-1 is a negative size");
        bad("1,A,1", "3 columns where the header has 5");
        bad("1,A,1,1,buy,", "6 columns where the header has 5");
        bad(
            "noon,A,1,1,",
            "time: \"noon\" is no time: expected RFC 3339, or whole seconds, ms, us or ns since 1970",
        );
        bad("1,,1,1,", "symbol is empty");
        bad("1,A*,1,1,", "symbol \"A*\" contains '*', which a symbol must not");
        bad("1,A,1,1,hold", "side: \"hold\" is none of buy, sell, or empty");
        bad("1,A,1e19,1,", "10000000000000000000 cannot be held at 2 decimals");
        check(
            &format!("{OWN_TRADES}\n\n1,A,x,1,\n2,A,3,1,sell\n"),
            &["x.csv line 3: price: \"x\" is no decimal number", "1970-01-01T00:00:02Z trade A 3 x 1 sell"],
        );
    }

    #[test]
    fn moments_never_run_back_but_events_keep_their_times() {
        check(
            "time,bid,ask\n5,1,2\n4,1,2\n",
            &[
                "1970-01-01T00:00:05Z quote STEM 1 x 0 / 2 x 0",
                "1970-01-01T00:00:05Z quote STEM 1 x 0 / 2 x 0, event 1970-01-01T00:00:04Z, \
                 recv 1970-01-01T00:00:04Z",
            ],
        );
    }

    #[test]
    fn a_mapping_reads_what_is_not_recognised() {
        let text = "when,p,q\n7,1.25,3\n";
        let error = open(text, None).err().unwrap().to_string();
        assert!(error.starts_with("header \"when,p,q\" is of no known form"), "{error}");
        let mut feed = open(text, Some("time=when,price=p,size=q")).unwrap();
        assert_eq!(show(&mut feed), ["1970-01-01T00:00:07Z trade STEM 1.25 x 3 none"]);
        let error = open(text, Some("time=wen,price=p")).err().unwrap();
        assert_eq!(error.to_string(), "there is no column \"wen\" for time: did you mean \"when\"?");
    }
}
