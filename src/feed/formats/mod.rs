//! Recorded market data in files, one module per format; [`open`] detects the format.

mod best;
mod book;
mod cell;
mod columns;
mod course;
mod csv;
mod databento;
mod datetime;
mod dbn;
mod dialect;
mod events;
mod exchange;
mod itch;
mod known;
mod lines;
mod options;
mod orders;
mod parquet;
mod recorded;
mod rows;
mod seen;
#[cfg(test)]
mod show;
mod sink;
mod sniff;
mod timeline;
mod times;
mod unpack;

pub use self::csv::{Csv, HeaderError};
pub use self::dbn::{Dbn, DbnError};
pub use self::parquet::{Parquet, ParquetFileError};
pub use cell::{DecimalSign, Nulls};
pub use columns::{ColumnError, ColumnMapping, Field};
pub use datetime::{DateOrder, DateOrderError};
pub use dialect::{Delimiter, Dialect, DialectError, Encoding};
pub use events::Events;
pub use exchange::ExchangeCapture;
pub use itch::{CaptureError, Itch};
pub use options::check_options;
pub use recorded::Recording;
pub use times::{Zone, ZoneError};

use self::csv::About;
use self::databento::Databento;
use self::sniff::{Form, Headless, Terminal};
use self::timeline::Timeline;
use self::times::{TimeForm, Times};
use self::unpack::Input;
use super::{AllPrints, Feed, Mend, Mends};
use crate::market::{Printable, Symbol, Timestamp};
use crate::recording::{RecordingError, RecordingIndex, Totals};
use jiff::civil::Date;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

/// Options for what a file does not state.
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// What the columns of a CSV file hold. Default: its header is a known one.
    pub columns: Option<ColumnMapping>,
    /// The symbol of a CSV file that has no column for it. Default: the file's name up to the first dot, or
    /// what the form has in it.
    pub symbol: Option<Symbol>,
    /// The zone of times that do not state one. Default: that of the form, or UTC.
    pub zone: Option<Zone>,
    /// The day that times of day belong to, in that zone. Default: the date in the file's name.
    pub date: Option<Date>,
    /// Fold deeper data to the best bid and offer: quotes of several venues, and the depth streams of
    /// sessions that have a stream of quotes as well. Default: false, quotes as recorded.
    pub best_quotes: bool,
    /// How a text file is written, if its first lines do not show it.
    pub dialect: Dialect,
    /// Corrections in the files that are opened so.
    pub mends: Mends,
    /// Let every trade count for everything, regardless of its conditions. Default: false, by the rules of
    /// its tape.
    pub all_prints: bool,
}

/// A file that cannot be opened as a recording, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", Printable(&path.display().to_string()), Printable(&reason.to_string()))]
pub struct OpenError {
    pub path: PathBuf,
    pub reason: OpenReason,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenReason {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("this is a directory: expected a file")]
    Directory,
    /// A file that makes its reader wait would make the tape wait.
    #[error("this is a pipe or a device: expected a file (`tickcast publish` takes events as they come)")]
    NotAFile,
    #[error("the file is empty: expected {FORMS}")]
    Empty,
    #[error("the form is not known: expected {FORMS}")]
    Unknown,
    #[error("{0}")]
    Parquet(#[from] ParquetFileError),
    /// Its table of contents is at its end.
    #[error("Parquet packed by gzip, zstd or zip is not read: unpack it first")]
    PackedParquet,
    /// They would be ignored.
    #[error("{options} does nothing for {form}")]
    Options { options: String, form: &'static str },
    #[error("its times are times of day, and neither its name nor --date says of which one")]
    NoDate,
    #[error("{0}")]
    Recording(#[from] RecordingError),
    #[error("{0}")]
    Dbn(#[from] DbnError),
    #[error("{0}")]
    Header(#[from] HeaderError),
    #[error("{0}")]
    Capture(#[from] CaptureError),
}

const FORMS: &str = "a .tape recording, Parquet, Databento DBN, NASDAQ ITCH 5.0 (messages or pcap), an exchange capture (time and JSON on each line), \
                     events as published (JSON on each line), or CSV with a header, or as LEAN, HISTDATA and TrueFX write it; \
                     each may be packed by gzip, zstd or zip";

/// How much of a file is read to detect its form. Headers of CSV files can be long.
const HEAD: u64 = 4096;

/// Opens a recording of any form. The form is detected by its content, or else by its name.
///
/// # Errors
/// [`OpenError`] names the file, and what was expected of it.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn Feed>, OpenError> {
    let feed = open_form(path, options).map_err(|reason| OpenError { path: path.to_owned(), reason })?;
    Ok(if options.all_prints { Box::new(AllPrints::new(feed)) } else { feed })
}

/// The form that [`open`] detects, in words.
#[must_use]
pub fn form_name(path: &Path) -> &'static str {
    let mut head = Vec::new();
    let file = file_name(path);
    let form = unpack::open(path).ok().and_then(|(input, inner)| {
        let mut input = input;
        (&mut input).take(HEAD).read_to_end(&mut head).ok()?;
        if let Some(encoding) = Encoding::of(&head) {
            let packed = std::mem::take(&mut head);
            unpack::decoded(Box::new(Cursor::new(packed)), encoding).read_to_end(&mut head).ok()?;
        }
        sniff::form(&head, inner.as_deref().unwrap_or(&file))
    });
    form.map_or("unknown", Form::name)
}

/// As [`open`], for the state of the market at `time`: if the file has checkpoints, the feed begins with the
/// last one that is not later. Its first batches then define the instruments and state each in full by
/// [`Event::Snapshot`](crate::market::Event::Snapshot); they have the checkpoint's moment, and later batches
/// follow. Folded, they give the same state as the complete file.
///
/// A file without a checkpoint by then begins where [`open`] begins.
///
/// # Errors
/// As [`open`].
pub fn open_at(path: &Path, options: &OpenOptions, time: Timestamp) -> Result<Box<dyn Feed>, OpenError> {
    let error = |reason| OpenError { path: path.to_owned(), reason };
    // A pipe cannot seek, and a file that cannot be opened is reported below.
    // The bars of a checkpoint hold the trades that counted when it was made.
    if !options.all_prints && std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        let file = File::open(path).map_err(|io| error(io.into()))?;
        let index = RecordingIndex::read(&file).map_err(|io| error(io.into()))?;
        if let Some(checkpoint) = index.before(time) {
            let feed = recorded::open_checkpoint(file_name(path), file, checkpoint);
            return feed.map(|feed| Box::new(feed) as Box<dyn Feed>).map_err(|reason| error(reason.into()));
        }
    }
    open(path, options)
}

/// The index at the end of a `.tape`; `None` if it has none, and for other files.
#[must_use]
pub fn totals(path: &Path) -> Option<Totals> {
    // A pipe has no end to read.
    let is_file = std::fs::metadata(path).ok()?.is_file();
    let file = is_file.then(|| File::open(path)).and_then(Result::ok)?;
    RecordingIndex::from_end(&file).ok()??.totals
}

fn open_form(path: &Path, options: &OpenOptions) -> Result<Box<dyn Feed>, OpenReason> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(OpenReason::Directory);
    }
    if !metadata.is_file() {
        return Err(OpenReason::NotAFile);
    }
    let (input, inner) = unpack::open(path)?;
    read_form(path, inner.as_deref(), input, options)
}

/// Reads unpacked data; `inner` is its own name if it was packed under one.
fn read_form(
    path: &Path,
    inner: Option<&str>,
    mut input: Input,
    options: &OpenOptions,
) -> Result<Box<dyn Feed>, OpenReason> {
    let mut head = Vec::new();
    (&mut input).take(HEAD).read_to_end(&mut head)?;
    if head.is_empty() {
        return Err(OpenReason::Empty);
    }
    if let Some(encoding) = options.dialect.encoding.or_else(|| Encoding::of(&head)) {
        input = unpack::decoded(Box::new(Cursor::new(head).chain(input)), encoding);
        head = Vec::new();
        (&mut input).take(HEAD).read_to_end(&mut head)?;
    }
    let file = file_name(path);
    let name = inner.unwrap_or(&file);
    let form = sniff::form(&head, name).ok_or(OpenReason::Unknown)?.with_columns(options.columns.is_some());
    let first = sniff::first_line(&head).unwrap_or_default().to_owned();
    let sample = sniff::lines(&head).to_owned();
    let input: Input = Box::new(Cursor::new(head).chain(input));
    let about = |form: TimeForm, zone: Option<Zone>, symbol: &str| About {
        file: file.clone(),
        symbol: options.symbol.clone().map_or_else(|| symbol.parse(), Ok),
        times: Times { form, zone: options.zone.clone().or(zone), order: None },
        best_quotes: options.best_quotes,
        dialect: options.dialect.clone(),
        mends: options.mends.clone(),
        sample: sample.clone(),
    };
    let stem = name.split('.').next().unwrap_or_default();
    Ok(match form {
        Form::Recording => Box::new(Recording::new(file, input)?),
        Form::Parquet => {
            let mut input = File::open(path)?;
            let mut magic = [0; 4];
            input.read_exact(&mut magic)?;
            if magic != sniff::PARQUET {
                return Err(OpenReason::PackedParquet);
            }
            let about = about(TimeForm::Stated, None, stem);
            played(Parquet::new(input, options.columns.as_ref(), about)?)
        }
        Form::Dbn => played(Dbn::new(file, input, options.best_quotes)?),
        Form::Databento => played(Databento::new(file, input, options.best_quotes)),
        Form::Events => played(Events::new(file, &first, input)),
        Form::Exchange => played(ExchangeCapture::new(file, input, options.best_quotes)),
        Form::Itch | Form::Packets => {
            let date = options.date.or_else(|| times::date_in(name)).or_else(|| times::date_in(&file));
            let itch = Itch::new(file, input, date)?;
            if itch.needs_date() {
                return Err(OpenReason::NoDate);
            }
            played(itch)
        }
        Form::Csv(headless) => match (&options.columns, headless) {
            (Some(columns), _) if columns.is_numbered() => {
                let about = about(TimeForm::Stated, None, stem);
                played(Csv::without_header(input, &first, columns, about)?)
            }
            (None, Some(headless)) => {
                let (time, zone, symbol) = match headless {
                    Headless::BinanceTrades | Headless::BinanceAggregates => {
                        (TimeForm::Stated, Zone::UTC, known::archive_symbol(stem).map(ToOwned::to_owned))
                    }
                    Headless::HistData => (TimeForm::Compact, Zone::EST, sniff::histdata_symbol(name)),
                    Headless::TrueFx => (TimeForm::CompactDate, Zone::UTC, None),
                    Headless::NinjaTrader(_) => (TimeForm::Stated, Zone::UTC, None),
                    Headless::Lean => {
                        let date =
                            options.date.or_else(|| times::date_in(name)).or_else(|| times::date_in(&file));
                        let time = TimeForm::OfDay(date.ok_or(OpenReason::NoDate)?);
                        (time, lean_zone(path), sniff::lean_symbol(name))
                    }
                };
                if matches!(headless, Headless::NinjaTrader(_)) && options.zone.is_none() {
                    options.mends.add(&file, Mend::Zone, || first.clone());
                }
                let about = about(time, Some(zone), symbol.as_deref().unwrap_or(stem));
                played(Csv::without_header(input, &first, &headless.columns(), about)?)
            }
            (None, None) if let Some(terminal) = Terminal::of(&first) => {
                if terminal == Terminal::MetaTrader && options.zone.is_none() {
                    options.mends.add(&file, Mend::Zone, || first.clone());
                }
                let symbol = Terminal::symbol(stem);
                let about = about(TimeForm::Stated, Some(terminal.zone(&first)), symbol);
                played(Csv::new(input, None, about)?)
            }
            (columns, _) => {
                let archived = known::archive_symbol(stem).filter(|_| known::is_archive(&first));
                let about = about(TimeForm::Stated, None, archived.unwrap_or(stem));
                played(Csv::new(input, columns.as_ref(), about)?)
            }
        },
    })
}

/// Wraps all readers but that of our own form.
fn played(reader: impl Feed + 'static) -> Box<dyn Feed> {
    Box::new(Timeline::new(reader))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// LEAN keeps the data of each venue in that venue's zone, and the venue in the path: FXCM's is New York's
/// winter time all year.
fn lean_zone(path: &Path) -> Zone {
    let is_fxcm = path.iter().any(|part| part.eq_ignore_ascii_case(OsStr::new("fxcm")));
    if is_fxcm { Zone::EST } else { Zone::UTC }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::formats::show::show;
    use crate::recording::{RecordingHeader, RecordingWriter};
    use std::io::Write;

    const TRADES: &str = "time,price,size\n1,2.5,3\n";

    /// Opens a file of that name and content; returns its output, or the error.
    #[track_caller]
    fn check(name: &str, content: &[u8], expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let got = match open(&path, &OpenOptions::default()) {
            Ok(mut feed) => show(&mut *feed).join("; "),
            Err(error) => {
                assert_eq!(error.path, path);
                error.reason.to_string()
            }
        };
        assert_eq!(got, expected);
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text.as_bytes()).unwrap();
        packer.finish().unwrap()
    }

    #[test]
    fn content_tells_the_form_and_the_packing_whatever_the_name() {
        let expected = "1970-01-01T00:00:01Z trade X 2.5 x 3 none";
        check("X.csv", TRADES.as_bytes(), expected);
        check(
            "BTCUSDT-trades-2025-01-02.csv",
            b"4359030001,94591.79000000,0.00010000,9.45917900,1735776000036121,True,True\n",
            "2025-01-02T00:00:00.036121Z trade BTCUSDT 94591.79 x 0.0001 sell",
        );
        check(
            "BTCUSDT-aggTrades-2025-01.csv",
            b"9,1.5,2,7,8,1735776000036,false,true\n",
            "2025-01-02T00:00:00.036Z trade BTCUSDT 1.5 x 2 buy",
        );
        check("X.tape", TRADES.as_bytes(), expected);
        check("X", &gzip(TRADES), expected);
        check("X.gz", &zstd::encode_all(TRADES.as_bytes(), 1).unwrap(), expected);
        check("X.csv", b"1 {\"stream\":\"x@depth\",\"data\":{}}", "");
    }

    #[test]
    fn a_tape_is_opened_packed_or_not() {
        let header = RecordingHeader::default();
        let tape = RecordingWriter::new(Vec::new(), &header).unwrap().finish().unwrap();
        check("X", &tape, "");
        check("X", &zstd::decode_all(&tape[..]).unwrap(), "");
    }

    #[test]
    fn what_is_no_recording_is_told_what_was_expected() {
        check("X.csv", b"", &OpenReason::Empty.to_string());
        check("X.gz", &gzip(""), &OpenReason::Empty.to_string());
        check(
            "X.parquet",
            b"PAR1\x15\x04",
            "the Parquet file cannot be read: EOF: Parquet file too small. Size is 6 but need 8",
        );
        check("X.png", b"\x89PNG\r\n\x1a\n\0\0\0", &OpenReason::Unknown.to_string());
        check("X.json", b"{\"a\":1,\"b\":2}", &OpenReason::Unknown.to_string());
        check("X.tape", b"\x00PNG", "header: expected a map");
        check("X.tape", b"\x81", "the recording breaks off here, as after a crash: all before is intact");
        check("X.dbn", b"DBN\x03", "the file breaks off in its metadata");
        check("X.dbn", b"\x89PNG5678", "the file does not start with DBN");
        let message =
            "no column holds the symbol, and the file's name is none, so one must be given: symbol is empty";
        check(".csv", TRADES.as_bytes(), message);
        check(".csv", b"time,symbol,price\n1,X,2\n", "1970-01-01T00:00:01Z trade X 2 x 0 none");
    }

    #[test]
    fn directories_and_missing_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| open(path, &OpenOptions::default()).err().unwrap().to_string();
        let path = folder.path();
        assert_eq!(error(path), format!("{}: this is a directory: expected a file", path.display()));
        let missing = path.join("none.tape");
        assert_eq!(error(&missing), format!("{}: No such file or directory (os error 2)", missing.display()));
    }

    #[test]
    fn a_given_symbol_stands_for_the_file_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("A,B.csv");
        std::fs::write(&path, TRADES).unwrap();
        let options = OpenOptions { symbol: Some(Symbol::new("EURUSD").unwrap()), ..OpenOptions::default() };
        let shown = show(&mut *open(&path, &options).unwrap());
        assert_eq!(shown, ["1970-01-01T00:00:01Z trade EURUSD 2.5 x 3 none"]);
    }
}
