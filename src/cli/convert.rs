use super::reading::{Content, Reading};
use super::{bytes, grouped, shown};
use crate::feed::formats::{check_options, open};
use crate::feed::{Feed, Merged, Strict};
use crate::market::{Event, Instruments, Timestamp};
use crate::record::{CsvExport, Export, JsonExport, Rows, TapeExport};
use crate::recording::RecordingHeader;
use crate::tape::Epoch;
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions as FileOptions};
use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Records that could not be read are reported one by one up to this many, then only counted.
const FAULTS_TOLD: u64 = 20;

/// Convert recordings: into a .tape, CSV, Parquet, or events as they are published, one JSON object a line.
///
/// Several inputs are merged by time. The end of the output's name says its form: .tape, .csv, .parquet,
/// .jsonl (or .ndjson); `-` is standard output. Quotes, trades, states and instruments come through exactly,
/// there and back. Exit codes: 0 done, 1 something could not be read or written, 2 usage.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  tickcast convert session.gz day.tape
  tickcast convert day.tape - --to jsonl | tickcast publish
  tickcast convert day.tape trades.csv --only trades
  tickcast convert xnas-itch-20240102.mbp-1.dbn.zst day.tape")]
pub struct Args {
    /// Recordings of any form that `serve --feed` takes, then the output
    #[arg(required = true, num_args = 1.., value_names = ["IN", "OUT"])]
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

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    Quotes,
    Trades,
}

/// # Errors
/// What cannot be opened or written.
#[expect(clippy::unused_async, reason = "as all subcommands")]
pub async fn run(args: Args) -> Result<ExitCode> {
    // Not checked by clap, which restarts its count after an option between two of them.
    let Some((output, inputs)) = args.files.split_last().filter(|(_, inputs)| !inputs.is_empty()) else {
        say!("tickcast: there is nothing to convert it to: give an output after it, such as day.tape");
        return Ok(ExitCode::from(2));
    };
    let to_stdout = output == Path::new("-");
    let Some(form) = args.to.or_else(|| form_of(output)) else {
        let name = shown(output);
        say!(
            "tickcast: {name} does not say its form: end it with .tape, .csv, .jsonl or .parquet, or give --to FORM"
        );
        return Ok(ExitCode::from(2));
    };
    if to_stdout && matches!(form, Form::Tape | Form::Parquet) && io::stdout().is_terminal() {
        say!("tickcast: this form is nothing for a terminal: redirect it, or give a file");
        return Ok(ExitCode::from(2));
    }
    if let Some(same) = inputs.iter().find(|input| is_same(input, output)) {
        say!("tickcast: {} would be written to while it is read", shown(same));
        return Ok(ExitCode::from(2));
    }
    let options = args.reading.options();
    if let Err(error) = check_options(inputs, &options) {
        say!("tickcast: {error}");
        return Ok(ExitCode::from(2));
    }
    let mut nothing = 0;
    for input in inputs {
        if let Content::Nothing(why) = Content::of(input, &options)? {
            say!("tickcast: {why}");
            nothing += 1;
        }
    }
    if nothing == inputs.len() {
        return Ok(ExitCode::FAILURE);
    }
    let mut feeds = inputs.iter().map(|input| open(input, &options)).collect::<Result<Vec<_>, _>>()?;
    let mut feed = if feeds.len() == 1 { feeds.remove(0) } else { Box::new(Merged::new(feeds)) };
    if args.reading.strict {
        feed = Box::new(Strict::new(feed));
    }

    let cannot_write = || format!("cannot write {}", shown(output));
    let is_new = !to_stdout && !output.exists();
    let to: Box<dyn Write + Send> = if to_stdout {
        Box::new(io::stdout())
    } else {
        match create(output, args.force) {
            Ok(file) => Box::new(file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                say!("tickcast: {} exists (--force overwrites it)", shown(output));
                return Ok(ExitCode::from(2));
            }
            Err(error) => return Err(error).with_context(cannot_write),
        }
    };
    let to = BufWriter::with_capacity(256 * 1024, to);
    let source = inputs.iter().map(|input| shown(input)).collect::<Vec<_>>().join(" and ");
    let mut conversion = Conversion { only: args.only, events: 0, faults: 0 };
    match conversion.run(&mut *feed, |start| export(form, args.only, to, &source, start)) {
        // `| head` has seen enough.
        Err(error) if to_stdout && error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        Err(error) => {
            // A partial file would be taken for a complete one, and prevent the next attempt.
            if is_new {
                let _ = std::fs::remove_file(output);
            }
            return Err(error).with_context(cannot_write);
        }
        Ok(()) => {}
    }
    let Conversion { events, faults, .. } = conversion;
    for line in options.mends.to_string().lines() {
        say!("tickcast: {line}");
    }
    if faults > 0 {
        say!("tickcast: {} records could not be read", grouped(faults));
    }
    if !args.quiet && !to_stdout {
        let size = std::fs::metadata(output).map_or(0, |metadata| metadata.len());
        say!("tickcast: {}: {} events, {}", shown(output), grouped(events), bytes(size));
    }
    Ok(if faults > 0 || nothing > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
        Form::Parquet => Box::new(crate::record::ParquetExport::new(to, rows)?),
    })
}

struct Conversion {
    only: Option<Only>,
    events: u64,
    faults: u64,
}

impl Conversion {
    /// `begin` gets the first moment.
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
                    // Its definitions stay before the next events.
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
