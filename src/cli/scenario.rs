use crate::feed::sim::scenario::{READY, Scenario, ScenarioError};
use crate::market::{Instruments, Timestamp};
use crate::record::Recorder;
use crate::recording::RecordingHeader;
use crate::tape::{Batch, Position};
use anyhow::{Context, Result, anyhow, bail};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// List the ready scenarios, check one and print its timeline, or write what it plays to a file.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  tickcast scenario                             the ready ones
  tickcast scenario flash-crash                 what happens when
  tickcast scenario flash-crash --toml          its file, for one of your own
  tickcast scenario mine.toml                   is it right? (exit code 1: no)
  tickcast scenario mine.toml -o mine.tape      all of it as a recording")]
pub struct Args {
    /// A ready scenario, or a file of your own
    #[arg(value_name = "NAME|FILE")]
    scenario: Option<String>,

    /// Print the file of the scenario instead
    #[arg(long, requires = "scenario", conflicts_with = "output")]
    toml: bool,

    /// Play it to its end into a recording
    #[arg(short, long, requires = "scenario", value_name = "FILE.tape")]
    output: Option<PathBuf>,
}

/// # Errors
/// A scenario that cannot be read or is wrong, or a recording that cannot be written.
pub fn run(args: &Args) -> Result<ExitCode> {
    let Some(name) = &args.scenario else {
        let mut list = String::new();
        for (name, text) in READY {
            let scenario = Scenario::parse(text).map_err(|problem| error(name, &problem))?;
            writeln!(list, "{name}\n{}\n", indented(&scenario.about))?;
        }
        return print(&list);
    };
    if args.toml {
        return print(&text(name)?);
    }
    let scenario = read(name)?;
    scenario.check().map_err(|problem| error(name, &problem))?;
    if let Some(path) = &args.output {
        let (batches, events) = record(name, scenario, path)?;
        say!("{}: {events} events in {batches} batches", super::shown(path));
        return Ok(ExitCode::SUCCESS);
    }
    let about = if scenario.about.is_empty() { String::new() } else { indented(&scenario.about) + "\n\n" };
    print(&format!("{name}\n{about}{scenario}"))
}

/// The scenario of that name or file, checked except against its market.
pub(super) fn read(name: &str) -> Result<Scenario> {
    Scenario::parse(&text(name)?).map_err(|problem| error(name, &problem))
}

/// Position and error, as a compiler reports them.
pub(super) fn error(name: &str, problem: &ScenarioError) -> anyhow::Error {
    anyhow!("{name}:{}: {}", problem.line, problem.message)
}

fn text(name: &str) -> Result<String> {
    if let Some((_, text)) = READY.iter().find(|ready| ready.0 == name) {
        return Ok((*text).to_owned());
    }
    match std::fs::read_to_string(name) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let names = READY.iter().map(|ready| ready.0);
            match crate::hint::nearest(name, names.clone()) {
                Some(near) => bail!("no ready scenario and no file is called {name}: did you mean {near}?"),
                None => bail!(
                    "no ready scenario and no file is called {name}: there are {}",
                    names.collect::<Vec<_>>().join(", ")
                ),
            }
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the scenario {name}")),
    }
}

/// Writes all that a scenario plays; returns the numbers of batches and events. A scenario with a start
/// always gives the same file.
fn record(name: &str, scenario: Scenario, path: &Path) -> Result<(u64, usize)> {
    if scenario.end.is_none() {
        bail!("{name} never ends: give it an end to record it");
    }
    let (start, seed) = (scenario.start.unwrap_or_else(Timestamp::now), scenario.seed);
    let title =
        Path::new(name).file_stem().map_or_else(|| name.to_owned(), |stem| stem.to_string_lossy().into());
    let source = format!("the scenario {title}, seed {seed}");
    let mut feed = scenario.play(start).map_err(|problem| error(name, &problem))?;
    let cannot = || format!("cannot write {}", super::shown(path));
    let file = File::create(path).with_context(cannot)?;
    let header = RecordingHeader { epoch: 1, created: start, source };
    // With checkpoints, for seeks.
    let mut recorder = Recorder::new(BufWriter::new(file), &header).with_context(cannot)?;
    let mut instruments = Instruments::default();
    let mut batch = Batch { position: Position::START, time: start, events: Vec::new() };
    let mut events = 0;
    while let Some(at) = feed.next(&mut instruments, &mut batch.events)? {
        (batch.position, batch.time) = (batch.position.next(), at);
        events += batch.events.len();
        recorder.append(&batch).with_context(cannot)?;
        batch.events.clear();
    }
    recorder.finish().and_then(|mut file| file.flush()).with_context(cannot)?;
    Ok((batch.position.get(), events))
}

fn indented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("  {line}")).collect();
    lines.join("\n")
}

/// A closed pipe is no error: its reader has seen enough.
fn print(text: &str) -> Result<ExitCode> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(ExitCode::SUCCESS),
    }
}
