use super::reading::Reading;
use super::{bytes, grouped};
use crate::feed::formats::open;
use crate::feed::formats::recording::RecordingHeader;
use crate::feed::{Feed, Merged, Strict};
use crate::market::{Event, Instruments, Timestamp};
use crate::record::{CsvExport, Export, JsonExport, Rows, TapeExport};
use crate::tape::Epoch;
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions as FileOptions};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Records that could not be read are told one by one up to this many, then only counted.
const FAULTS_TOLD: u64 = 20;

/// Convert recordings: into a .tape, CSV, Parquet, or events as they are published, one JSON object a line.
///
/// Several inputs are merged by time. The end of the output's name says its form: .tape, .csv, .parquet (in a build with that feature),
/// .jsonl (or .ndjson); `-` is standard output.
/// Quotes, trades, states and instruments come through exactly, there and back. Exit codes: 0 done, 1 something could not be read or written,
/// 2 usage.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  tickcast convert session.gz day.tape
  tickcast convert day.tape - --to jsonl | tickcast publish
  tickcast convert day.tape trades.csv --only trades      time, symbol, price, size, ... and nothing else
  tickcast convert xnas-itch-20240102.mbp-1.dbn.zst day.tape")]
pub struct Args {
    /// Recordings of any form that `serve --feed` takes, then the output
    #[arg(required = true, num_args = 2.., value_names = ["IN", "OUT"])]
    pub files: Vec<PathBuf>,

    /// The output's form, where its name does not say
    #[arg(long, value_name = "FORM")]
    pub to: Option<Form>,

    /// Only these: quotes or trades. As CSV they have fewer columns
    #[arg(long, value_name = "KIND")]
    pub only: Option<Only>,

    /// Overwrite the output where it exists
    #[arg(short, long)]
    pub force: bool,

    #[command(flatten)]
    pub reading: Reading,

    /// Say nothing but what goes wrong
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Tape,
    Csv,
    Jsonl,
    Parquet,
}

/// Few need it, and what it brings would have to be compiled by all.
const NO_PARQUET: &str = "this build writes no Parquet: cargo build --release --features parquet";

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    Quotes,
    Trades,
}

/// # Errors
/// What cannot be opened or written.
#[expect(clippy::unused_async, reason = "as all subcommands")]
pub async fn run(args: Args) -> Result<ExitCode> {
    let (output, inputs) = args.files.split_last().expect("clap asks for two");
    let to_stdout = output == Path::new("-");
    let Some(form) = args.to.or_else(|| form_of(output)) else {
        let name = output.display();
        say!(
            "tickcast: {name} does not say its form: end it with .tape, .csv, .jsonl or .parquet, or give --to FORM"
        );
        return Ok(ExitCode::from(2));
    };
    if form == Form::Parquet && !cfg!(feature = "parquet") {
        say!("tickcast: {NO_PARQUET}");
        return Ok(ExitCode::from(2));
    }
    if to_stdout && matches!(form, Form::Tape | Form::Parquet) && io::stdout().is_terminal() {
        say!("tickcast: this form is nothing for a terminal: redirect it, or give a file");
        return Ok(ExitCode::from(2));
    }
    if let Some(same) = inputs.iter().find(|input| is_same(input, output)) {
        say!("tickcast: {} would be written to while it is read", same.display());
        return Ok(ExitCode::from(2));
    }
    let options = args.reading.options();
    let mut feeds = inputs.iter().map(|input| open(input, &options)).collect::<Result<Vec<_>, _>>()?;
    let mut feed = if feeds.len() == 1 { feeds.remove(0) } else { Box::new(Merged::new(feeds)) };
    if args.reading.strict {
        feed = Box::new(Strict::new(feed));
    }

    let cannot_write = || format!("cannot write {}", output.display());
    let to: Box<dyn Write + Send> = if to_stdout {
        Box::new(io::stdout())
    } else {
        match create(output, args.force) {
            Ok(file) => Box::new(file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                say!("tickcast: {} exists (--force overwrites it)", output.display());
                return Ok(ExitCode::from(2));
            }
            Err(error) => return Err(error).with_context(cannot_write),
        }
    };
    let to = BufWriter::with_capacity(256 * 1024, to);
    let source = inputs.iter().map(|input| input.display().to_string()).collect::<Vec<_>>().join(" and ");
    let mut conversion = Conversion { only: args.only, events: 0, faults: 0 };
    match conversion.run(&mut *feed, |start| export(form, args.only, to, &source, start)) {
        // `| head` has seen enough.
        Err(error) if to_stdout && error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        result => result.with_context(cannot_write)?,
    }
    let Conversion { events, faults, .. } = conversion;
    if faults > 0 {
        say!("tickcast: {} records could not be read", grouped(faults));
    }
    if !args.quiet && !to_stdout {
        let size = std::fs::metadata(output).map_or(0, |metadata| metadata.len());
        say!("tickcast: {}: {} events, {}", output.display(), grouped(events), bytes(size));
    }
    Ok(if faults > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn form_of(output: &Path) -> Option<Form> {
    match output.extension()?.to_str()? {
        "tape" => Some(Form::Tape),
        "csv" => Some(Form::Csv),
        "jsonl" | "ndjson" => Some(Form::Jsonl),
        "parquet" => Some(Form::Parquet),
        _ => None,
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn create(path: &Path, overwrite: bool) -> io::Result<File> {
    let mut options = FileOptions::new();
    if overwrite {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    options.write(true).open(path)
}

fn export<'a, W: Write + Send + 'a>(
    form: Form,
    only: Option<Only>,
    to: W,
    source: &str,
    start: Timestamp,
) -> io::Result<Box<dyn Export + 'a>> {
    let rows = match only {
        None => Rows::All,
        Some(Only::Quotes) => Rows::Quotes,
        Some(Only::Trades) => Rows::Trades,
    };
    Ok(match form {
        Form::Tape => {
            let epoch = Epoch::random().get();
            let header = RecordingHeader { epoch, created: start, source: source.to_owned() };
            Box::new(TapeExport::new(to, &header)?)
        }
        Form::Csv => Box::new(CsvExport::new(to, rows)?),
        Form::Jsonl => Box::new(JsonExport::new(to)),
        #[cfg(feature = "parquet")]
        Form::Parquet => Box::new(crate::record::ParquetExport::new(to, rows)?),
        #[cfg(not(feature = "parquet"))]
        Form::Parquet => return Err(io::Error::other(NO_PARQUET)),
    })
}

struct Conversion {
    only: Option<Only>,
    events: u64,
    faults: u64,
}

impl Conversion {
    /// `begin` is told the first moment.
    fn run<'a>(
        &mut self,
        feed: &mut dyn Feed,
        begin: impl FnOnce(Timestamp) -> io::Result<Box<dyn Export + 'a>>,
    ) -> io::Result<()> {
        let (mut instruments, mut begin, mut export) = (Instruments::default(), Some(begin), None);
        let mut events = Vec::new();
        loop {
            let time = match feed.next(&mut instruments, &mut events) {
                Ok(Some(time)) => time,
                Ok(None) => break,
                Err(error) => {
                    self.faults += 1;
                    if self.faults <= FAULTS_TOLD {
                        say!("tickcast: {error}");
                    }
                    // What it has defined stays in front of what follows.
                    continue;
                }
            };
            events.retain(|event| match event {
                Event::Quote(..) => self.only != Some(Only::Trades),
                Event::Trade(..) => self.only != Some(Only::Quotes),
                _ => true,
            });
            let counts = |event: &&Event| !matches!(event, Event::Instrument(_) | Event::Feed(_));
            self.events += events.iter().filter(counts).count() as u64;
            if let Some(begin) = begin.take() {
                export = Some(begin(time)?);
            }
            if let Some(export) = &mut export {
                export.batch(time, std::mem::take(&mut events), &instruments)?;
            }
        }
        let export = match (export, begin) {
            (Some(export), _) => Some(export),
            (None, Some(begin)) => Some(begin(Timestamp::default())?),
            (None, None) => None,
        };
        export.map_or(Ok(()), Export::finish)
    }
}
