//! Parquet: our own exports, and those of others whose columns are named as in CSV files.

mod column;
mod guard;

use self::column::{Column, TypeError};
use self::guard::{Chunks, Pages, guarded};
use super::columns::{ColumnMapping, Field, RecordKind};
use super::csv::{About, Cell, HeaderError, NO_CELLS, Records};
use super::dialect::Delimiter;
use crate::feed::publish::Published;
use crate::feed::{Feed, FeedError, LeftOut, Mend};
use crate::market::{Event, FeedKind, Instruments, Timestamp};
use parquet::column::reader::get_column_reader;
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::File;

/// Rows of quotes, trades or price levels; or of all kinds of events, as we export them.
pub struct Parquet {
    file: String,
    reader: SerializedFileReader<Chunks>,
    columns: Vec<Column>,
    own: Option<Own>,
    records: Records,
    /// The next row group.
    group: usize,
    /// Rows of the chunk that remain.
    left: usize,
    /// Rows that were read.
    row: u64,
    /// The moment of the last event.
    time: Option<Timestamp>,
    fault: Option<FeedError>,
    ended: bool,
}

/// Indexes of columns that only our own exports have.
#[derive(Default)]
struct Own {
    kind: Option<usize>,
    time_nanos: Option<usize>,
    ts_recv_nanos: Option<usize>,
}

/// Why a file is no Parquet that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParquetFileError {
    #[error("the Parquet file cannot be read: {0}")]
    Unreadable(#[from] ParquetError),
    #[error("{0}")]
    Columns(#[from] HeaderError),
    #[error("{0}")]
    Type(String),
}

impl From<TypeError> for ParquetFileError {
    fn from(error: TypeError) -> Self {
        Self::Type(error.to_string())
    }
}

impl Parquet {
    pub(super) fn new(
        input: File,
        columns: Option<&ColumnMapping>,
        mut about: About,
    ) -> Result<Self, ParquetFileError> {
        let reader = guarded(|| SerializedFileReader::new(Chunks(input)))?;
        let schema = reader.metadata().file_metadata().schema_descr();
        let names: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
        let header: Vec<&str> = names.iter().map(String::as_str).collect();
        let mapping = match columns {
            Some(columns) => columns.clone(),
            None => super::known::mapping(&header).map_err(HeaderError::from)?,
        };
        let layout =
            if mapping.is_numbered() { mapping.numbered(header.len()) } else { mapping.layout(&header) };
        let layout = layout.map_err(HeaderError::from)?;
        let is_own = columns.is_none() && header.contains(&"type");
        let mut read = Vec::new();
        for (index, field) in layout.fields.iter().enumerate() {
            let is_wanted =
                field.is_some() || (columns.is_none() && (is_own || header[index].ends_with("_nanos")));
            if is_wanted {
                read.push(Column::new(index, schema.column(index), *field)?);
            }
        }
        let place = |name: &str| read.iter().position(|column| column.name == name && columns.is_none());
        let own = Own {
            kind: place("type").filter(|_| is_own),
            time_nanos: place("time_nanos"),
            ts_recv_nanos: place("ts_recv_nanos"),
        };
        if about.times.zone.is_none() && read.iter().any(Column::is_local) {
            about.mends.add(&about.file, Mend::Zone, || "a column of local timestamps".to_owned());
            about.times.zone = Some(super::Zone::UTC);
        }
        let file = about.file.clone();
        let mut records =
            Records::new(layout, Delimiter::Comma, false, None, about).map_err(HeaderError::from)?;
        records.mended.unit = "row";
        Ok(Self {
            file,
            reader,
            columns: read,
            own: Some(own)
                .filter(|own| own.kind.is_some() || own.time_nanos.is_some() || own.ts_recv_nanos.is_some()),
            records,
            group: 0,
            left: 0,
            row: 0,
            time: None,
            fault: None,
            ended: false,
        })
    }

    /// Decodes the next rows; false at the end.
    fn refill(&mut self) -> Result<bool, ParquetError> {
        guarded(|| self.decode())
    }

    fn decode(&mut self) -> Result<bool, ParquetError> {
        loop {
            let mut rows = None;
            for column in &mut self.columns {
                let got = column.read()?;
                if rows.is_some_and(|rows| rows != got) {
                    return Err(ParquetError::General(format!(
                        "column {:?} has another number of rows",
                        column.name
                    )));
                }
                rows = Some(got);
            }
            if let Some(rows) = rows.filter(|rows| *rows > 0) {
                self.left = rows;
                return Ok(true);
            }
            if self.group == self.reader.num_row_groups() {
                return Ok(false);
            }
            let group = self.reader.get_row_group(self.group)?;
            for column in &mut self.columns {
                let pages =
                    Box::new(Pages::new(group.get_column_page_reader(column.index)?, column.is_optional()));
                column.begin(get_column_reader(column.descriptor(), pages));
            }
            self.group += 1;
        }
    }

    /// Appends the next row's events to `out`.
    fn read_row(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, String> {
        self.left -= 1;
        self.row += 1;
        self.records.mended.line = self.row;
        for column in &mut self.columns {
            column.step();
        }
        if let Some(at) = self.own.as_ref().and_then(|own| own.kind) {
            match self.columns[at].text().map_err(|error| format!("type: {error}"))?.as_deref() {
                Some("quote") => self.records.layout.kind = RecordKind::Quotes,
                Some("trade") => self.records.layout.kind = RecordKind::Trades,
                _ => return self.read_event(instruments, out),
            }
        }
        let mut cells = NO_CELLS;
        for column in &self.columns {
            let Some(field) = column.field else { continue };
            let zone = self.records.times.zone.as_ref();
            cells[field as usize] = column
                .cell(field, zone, &self.records.numbers)
                .map_err(|error| format!("{field}: {error}"))?;
        }
        if let Some(Own { time_nanos, ts_recv_nanos, .. }) = &self.own {
            for (at, field) in [(time_nanos, Field::Time), (ts_recv_nanos, Field::TsRecv)] {
                if let (Some(at), Cell::Time(time)) = (at, &mut cells[field as usize]) {
                    *time = time.plus_nanos(self.columns[*at].whole());
                }
            }
        }
        self.records.read(&cells, instruments, out).map_err(|error| error.to_string())
    }

    /// A definition or a state, of our own exports.
    fn read_event(
        &self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, String> {
        let mut fields = Vec::new();
        for column in &self.columns {
            let name = if column.name == "time" { "ts_event" } else { &*column.name };
            if let Some(text) = column.text().map_err(|error| format!("{name}: {error}"))?
                && !name.ends_with("_nanos")
            {
                fields.push((name.to_owned(), text));
            }
        }
        if let Some(at) = self.own.as_ref().and_then(|own| own.time_nanos) {
            for (name, text) in &mut fields {
                if name == "ts_event"
                    && let Ok(time) = text.parse::<Timestamp>()
                {
                    *text = time.plus_nanos(self.columns[at].whole()).to_string();
                }
            }
        }
        let event = Published::from_texts(fields.into_iter()).map_err(|error| error.to_string())?;
        let moment = event.moment();
        event
            .apply(moment.or(self.time).unwrap_or_default(), instruments, out)
            .map_err(|error| error.to_string())?;
        Ok(moment)
    }
}

impl Feed for Parquet {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        let before = out.len();
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        loop {
            if self.left == 0 && !self.ended {
                match self.refill() {
                    Ok(more) => self.ended = !more,
                    // Nothing marks a point to continue from.
                    Err(error) => {
                        self.ended = true;
                        let place = format!("{} behind row {}", self.file, self.row);
                        return Err(FeedError { place, reason: error.to_string() });
                    }
                }
            }
            if self.ended {
                return match self.records.end(instruments, out) {
                    Ok(Some(time)) => Ok(Some(time)),
                    // Definitions at the end, without an event after them.
                    _ if out.len() > before => Ok(Some(self.time.unwrap_or_default())),
                    _ => Ok(None),
                };
            }
            let read = self.read_row(instruments, out);
            let place = || format!("{} row {}", self.file, self.row);
            if let Some(cell) = self.records.fault.take() {
                let fault = FeedError { place: place(), reason: cell.to_string() };
                match read {
                    Ok(Some(_)) => self.fault = Some(fault),
                    Ok(None) => return Err(fault),
                    Err(_) => {}
                }
            }
            match read {
                Ok(Some(time)) => {
                    self.time = Some(time);
                    return Ok(Some(time));
                }
                Ok(None) => {}
                Err(reason) => return Err(FeedError { place: place(), reason }),
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
