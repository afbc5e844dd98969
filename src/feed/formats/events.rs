use super::course::Course;
use super::csv::HeaderError;
use super::lines::Lines;
use super::rows::Rows;
use super::unpack::Input;
use crate::feed::publish::{MAX_EVENT_BYTES, PublishError, Published, parse_json_line};
use crate::feed::{Feed, FeedError};
use crate::market::{Event, FeedKind, Instruments, Timestamp};

/// Events in the form in which they are published, one a line: JSON objects, or CSV whose columns are called
/// as their fields are. What `tickcast convert` writes.
pub struct Events {
    file: String,
    rows: Rows,
    course: Course,
    notation: Notation,
    /// The moment of the last event.
    time: Option<Timestamp>,
    /// False until the error about rows out of order was returned.
    is_in_order: bool,
}

enum Notation {
    Json,
    /// With the names of the columns.
    Csv(Vec<String>),
}

/// The content of a line.
enum Read {
    /// Something that happened at a moment.
    Event(Timestamp),
    Definition,
    End,
    /// A row so far off in time that it may not belong to the file; it was not processed.
    Leap(Timestamp),
}

/// How a JSON object of this form begins.
const JSON_START: &str = "{\"type\":\"";
/// How the header of a CSV file of this form begins.
const CSV_START: &str = "type,time,";

/// Whether a file with this first line is of this form.
pub(super) fn is_events(line: &str) -> bool {
    line.starts_with(JSON_START) || line.trim_start_matches('\u{feff}').starts_with(CSV_START)
}

impl Events {
    pub(super) fn new(file: String, first_line: &str, input: Input) -> Self {
        let mut lines = Lines::new(input, MAX_EVENT_BYTES as u64);
        let notation = if first_line.starts_with(JSON_START) {
            Notation::Json
        } else {
            // The form was detected by it, so it is there.
            let header = lines.next().ok().flatten().unwrap_or_default().trim_start_matches('\u{feff}');
            Notation::Csv(header.split(',').map(|name| name.trim().to_owned()).collect())
        };
        let mut rows = Rows::new(lines);
        let is_in_order = rows.put_in_order(|line| notation.time_of(line)).is_ok();
        Self { file, rows, course: Course::default(), notation, time: None, is_in_order }
    }

    /// Reads the next line into `out`.
    fn read(&mut self, instruments: &mut Instruments, out: &mut Vec<Event>) -> Result<Read, String> {
        if !std::mem::replace(&mut self.is_in_order, true) {
            return Err(HeaderError::NewestFirst.to_string());
        }
        let line = match self.rows.next() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(Read::End),
            Err(error) => return Err(error.to_string()),
        };
        let published = self.notation.parse(line).map_err(|error| error.to_string())?;
        let time = published.moment();
        if let Some(time) = time.filter(|&time| !self.course.follows(time)) {
            return Ok(Read::Leap(time));
        }
        if time.is_none() && !matches!(published, Published::Instrument(_)) {
            return Err("a recorded event needs a ts_event or ts_recv".to_owned());
        }
        let arrival = time.or(self.time).unwrap_or_default();
        published.apply(arrival, instruments, out).map_err(|error| error.to_string())?;
        Ok(time.map_or(Read::Definition, Read::Event))
    }
}

impl Feed for Events {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let before = out.len();
        loop {
            match self.read(instruments, out) {
                Ok(Read::Event(time)) => {
                    self.time = Some(time);
                    return Ok(Some(time));
                }
                Ok(Read::Leap(time)) => {
                    let behind = self.rows.look_ahead(|line| self.notation.time_of(line));
                    if let Err(outlier) = self.course.judge(time, &behind) {
                        let _ = self.rows.next();
                        return Err(FeedError { place: self.place(), reason: outlier.to_string() });
                    }
                }
                // A definition has the moment of the event after it.
                Ok(Read::Definition) => {}
                Ok(Read::End) if out.len() > before => return Ok(Some(self.time.unwrap_or_default())),
                Ok(Read::End) => return Ok(None),
                Err(reason) => {
                    return Err(FeedError { place: self.place(), reason });
                }
            }
        }
    }
}

impl Events {
    /// Of the last record.
    fn place(&self) -> String {
        format!("{} line {}", self.file, self.rows.number())
    }
}

impl Notation {
    fn parse(&self, line: &str) -> Result<Published, PublishError> {
        match self {
            Self::Json => parse_json_line(line),
            Self::Csv(header) => parse_csv_line(line, header),
        }
    }

    fn time_of(&self, line: &str) -> Option<Timestamp> {
        self.parse(line).ok()?.moment()
    }
}

fn parse_csv_line(line: &str, header: &[String]) -> Result<Published, PublishError> {
    let malformed = |reason: String| PublishError::Malformed(reason);
    let wrong = |got: usize| malformed(format!("{got} columns where the header has {}", header.len()));
    let name = |name: &'_ str| if name == "time" { "ts_event".to_owned() } else { name.to_owned() };
    if !line.contains('"') {
        let got = line.split(',').count();
        if got != header.len() {
            return Err(wrong(got));
        }
        let cells = header.iter().zip(line.split(','));
        return Published::from_texts(cells.map(|(column, cell)| (name(column), cell.to_owned())));
    }
    let mut record = csv::StringRecord::new();
    csv::ReaderBuilder::new()
        .has_headers(false)
        .buffer_capacity(line.len().max(1))
        .from_reader(line.as_bytes())
        .read_record(&mut record)
        .map_err(|error| malformed(error.to_string()))?;
    if record.len() != header.len() {
        return Err(wrong(record.len()));
    }
    let cells = header.iter().zip(record.iter());
    Published::from_texts(cells.map(|(column, cell)| (name(column), cell.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::formats::show::show;
    use std::io::Cursor;

    #[track_caller]
    fn check(text: &'static str, expected: &[&str]) {
        let first = text.lines().next().unwrap();
        assert!(is_events(first));
        assert_eq!(show(&mut Events::new("x".to_owned(), first, Box::new(Cursor::new(text)))), expected);
    }

    #[test]
    fn what_can_be_published_can_be_read_as_a_recording() {
        check(
            "{\"type\":\"instrument\",\"symbol\":\"X\",\"price_scale\":3}
{\"type\":\"trade\",\"symbol\":\"X\",\"price\":\"1.5\",\"size\":2,\"ts_event\":\"1970-01-01T00:00:07Z\",\"ts_recv\":\"1970-01-01T00:00:08Z\"}
{\"type\":\"quote\",\"symbol\":\"X\",\"bid\":1,\"ts_event\":\"1970-01-01T00:00:09Z\"}
",
            &[
                "1970-01-01T00:00:08Z trade X 1.5 x 2 none, event 1970-01-01T00:00:07Z",
                "1970-01-01T00:00:09Z quote X 1 x 0 / - x 0",
            ],
        );
        check(
            "type,time,ts_recv,symbol,bid,bid_size,price,size,name
instrument,,,X,,,,,\"X, of Y\"
trade,1970-01-01T00:00:07Z,1970-01-01T00:00:08Z,X,,,1.5,2,
quote,1970-01-01T00:00:09Z,,X,1,5,,,
",
            &[
                "1970-01-01T00:00:08Z trade X 1.5 x 2 none, event 1970-01-01T00:00:07Z",
                "1970-01-01T00:00:09Z quote X 1 x 5 / - x 0",
            ],
        );
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_is_read() {
        check(
            "{\"type\":\"trade\",\"symbol\":\"X\",\"price\":1,\"size\":1}
{\"type\":\"trde\"}
{\"type\":\"trade\",\"symbol\":\"X\",\"price\":1,\"size\":1,\"ts_recv\":\"1970-01-01T00:00:08Z\"}
",
            &[
                "x line 1: a recorded event needs a ts_event or ts_recv",
                "x line 2: unknown type \"trde\": did you mean \"trade\"?",
                "1970-01-01T00:00:08Z trade X 1 x 1 none",
            ],
        );
        check(
            "type,time,symbol,price,size\ntrade,1,X,1\ntrade,1,X,1,2,3\ntrade,1,X,1,2\n",
            &[
                "x line 2: 4 columns where the header has 5",
                "x line 3: 6 columns where the header has 5",
                "1970-01-01T00:00:01Z trade X 1 x 2 none",
            ],
        );
    }
}
