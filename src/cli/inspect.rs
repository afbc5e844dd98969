use super::reading::Reading;
use super::{bytes, grouped, shown};
use crate::feed::Strict;
use crate::feed::formats::{OpenOptions, check_options, form_name, open};
use crate::feed::{Mended, Mends};
use crate::market::{Printable, Timestamp};
use crate::record::{Summary, SymbolSummary};
use crate::recording::{RecordingHeader, RecordingIndex, RecordingReader, Totals};
use anyhow::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Say what recordings hold: symbols, kinds, times, rates, silences, faults.
///
/// Reads every form that `serve --feed` takes, each file once from beginning to end. Exit codes: 0 all could
/// be read, 1 some could not be opened or hold nothing that is read, 2 usage.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  tickcast inspect day.tape
  tickcast inspect --json *.tape | jq -r '[.file, .events] | @tsv'
  tickcast inspect ticks.csv.gz --columns 'time=DT,bid=BID,ask=OFR'")]
pub struct Args {
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// One JSON object a file, a line each
    #[arg(long)]
    pub json: bool,

    /// List so many symbols, the busiest first, and so many silences
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub top: usize,

    #[command(flatten)]
    pub reading: Reading,
}

/// The contents of one file.
struct Inspection<'a> {
    path: &'a Path,
    form: &'static str,
    bytes: u64,
    summary: Summary,
    tape: Option<Tape>,
    mends: Mends,
}

/// Only for our own form.
struct Tape {
    header: RecordingHeader,
    checkpoints: usize,
    /// `None` without an index.
    totals: Option<Totals>,
}

/// Columns of the rate's profile.
const PROFILE: usize = 60;
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// # Errors
/// If the output cannot be written.
#[expect(clippy::unused_async, reason = "as all subcommands")]
pub async fn run(args: Args) -> Result<ExitCode> {
    let options = args.reading.options();
    if let Err(error) = check_options(&args.files, &options) {
        say!("tickcast: {error}");
        return Ok(ExitCode::from(2));
    }
    let (mut out, mut code) = (io::stdout().lock(), ExitCode::SUCCESS);
    for (index, path) in args.files.iter().enumerate() {
        let inspection = match Inspection::of(path, &options, args.reading.strict) {
            Ok(inspection) => inspection,
            Err(error) => {
                say!("tickcast: {error}");
                code = ExitCode::FAILURE;
                continue;
            }
        };
        if inspection.summary.is_nothing() {
            let Inspection { form, summary, .. } = &inspection;
            if summary.left_out.total() > 0 {
                let left_out = summary.left_out.to_string();
                say!(
                    "tickcast: {}: nothing was read of this {form}: it holds {}",
                    shown(path),
                    Printable(&left_out)
                );
            }
            code = ExitCode::FAILURE;
        }
        let text = if args.json {
            format!("{}\n", inspection.json(args.top))
        } else {
            let apart = if index == 0 { "" } else { "\n" };
            format!("{apart}{}", inspection.text(args.top))
        };
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // `| head` has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(code),
            written => written?,
        }
    }
    Ok(code)
}

impl<'a> Inspection<'a> {
    fn of(path: &'a Path, options: &OpenOptions, strict: bool) -> Result<Self> {
        let mends = Mends::default();
        let mut feed = open(path, &OpenOptions { mends: mends.clone(), ..options.clone() })?;
        if strict {
            feed = Box::new(Strict::new(feed));
        }
        let form = form_name(path);
        let summary = Summary::of(&mut *feed);
        let bytes = std::fs::metadata(path)?.len();
        Ok(Self { path, form, bytes, summary, tape: Tape::of(path), mends })
    }

    fn text(&self, top: usize) -> String {
        let Self { path, form, bytes: size, summary, tape, mends } = self;
        let mut lines = vec![shown(path)];
        let mut line = |name: &str, text: String| lines.push(format!("  {name:<10}{text}"));
        line("form", form.to_string());
        if let Some(Tape { header, checkpoints, totals }) = tape {
            let source = if header.source.is_empty() { "" } else { ", of " };
            line("recorded", format!("{}{source}{}", header.created, Printable(&header.source)));
            let index = if totals.is_some() { "an index" } else { "no index" };
            let checkpoints = counted(*checkpoints as u64, "checkpoint");
            line("seeking", format!("{checkpoints}, {index}; epoch {}", header.epoch));
        }
        line(
            "size",
            format!(
                "{}{}",
                bytes(*size),
                self.per_event().map_or_else(String::new, |each| format!(", {each:.1} bytes an event"))
            ),
        );
        let kinds = [
            counted(summary.quotes, "quote"),
            counted(summary.trades, "trade"),
            counted(summary.states, "state"),
            counted(summary.definitions, "definition"),
        ];
        line("events", format!("{}: {}", grouped(summary.events()), kinds.join(", ")));
        if let Some((first, last)) = summary.span {
            line("time", format!("{first} to {last}, {}", length(last.nanos_since(first))));
            let (busiest, most) = summary.rates.busiest().unwrap_or((first, 0));
            let mean = self.mean_rate();
            line("rate", format!("{mean:.1}/s on average, {} in the second of {busiest}", grouped(most)));
            let profile = summary.rates.profile(last, PROFILE);
            let column = last.nanos_since(first) / i64::try_from(profile.len()).unwrap_or(1);
            line("", format!("{} {} each", sparkline(&profile), length(column)));
        }
        line("symbols", grouped(summary.symbols.len() as u64));
        let width = summary.symbols.iter().take(top).map(|symbol| symbol.symbol.len()).max().unwrap_or(0);
        for SymbolSummary { symbol, quotes, trades } in summary.symbols.iter().take(top) {
            line(
                "",
                format!("{symbol:<width$}  {:>13} quotes {:>13} trades", grouped(*quotes), grouped(*trades)),
            );
        }
        if summary.symbols.len() > top {
            line("", format!("and {} more", grouped((summary.symbols.len() - top) as u64)));
        }
        let silences = summary.silences();
        line(
            "silences",
            match silences.len() {
                0 => "none".to_owned(),
                count => counted(count as u64, "silence"),
            },
        );
        for silence in silences.iter().take(top) {
            line("", format!("{} from {}", length(silence.nanos), silence.from));
        }
        let oddities = [
            (summary.crossed, "crossed quote"),
            (summary.one_sided, "quote of one side"),
            (summary.backwards, "arrival out of order"),
        ];
        let oddities: Vec<String> = oddities
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, name)| counted(count, name))
            .collect();
        if summary.left_out.total() > 0 {
            line("left out", counted(summary.left_out.total(), "record that holds no quote or trade"));
        }
        for (name, count) in summary.left_out.by_name() {
            line("", format!("{:>13} {}", grouped(count), Printable(&name)));
        }
        if !oddities.is_empty() {
            line("oddities", oddities.join(", "));
        }
        for (at, (_, mend, Mended { count, first })) in mends.all().into_iter().enumerate() {
            let told = format!("{} {}; first in {first}", counted(count, "cell"), mend.name());
            line(if at == 0 { "mended" } else { "" }, told);
        }
        line(
            "faults",
            match summary.faults {
                0 => "none".to_owned(),
                faults => counted(faults, "record that could not be read"),
            },
        );
        for fault in &summary.first_faults {
            line("", fault.clone());
        }
        if summary.faults > summary.first_faults.len() as u64 {
            line("", "and so on".to_owned());
        }
        lines.join("\n") + "\n"
    }

    fn json(&self, top: usize) -> Value {
        let Self { path, form, bytes, summary, tape, mends } = self;
        let symbols: Vec<Value> = summary
            .symbols
            .iter()
            .take(top)
            .map(|SymbolSummary { symbol, quotes, trades }| {
                json!({ "symbol": symbol, "quotes": quotes, "trades": trades })
            })
            .collect();
        let silences: Vec<Value> = summary
            .silences()
            .iter()
            .map(|silence| json!({ "from": silence.from.to_string(), "seconds": seconds(silence.nanos) }))
            .collect();
        let text = |time: Timestamp| time.to_string();
        let last = summary.span.map(|(_, last)| last);
        json!({
            "file": path.display().to_string(),
            "form": form,
            "bytes": bytes,
            "bytes_per_event": self.per_event(),
            "events": summary.events(),
            "quotes": summary.quotes,
            "trades": summary.trades,
            "states": summary.states,
            "definitions": summary.definitions,
            "start": summary.span.map(|(first, _)| text(first)),
            "end": last.map(text),
            "seconds": summary.seconds(),
            "rate": {
                "mean": self.mean_rate(),
                "busiest_second": summary.rates.busiest().map(|(time, _)| text(time)),
                "most": summary.rates.busiest().map(|(_, most)| most),
                "profile": last.map(|last| summary.rates.profile(last, PROFILE)),
            },
            "symbols": summary.symbols.len(),
            "busiest": symbols,
            "silences": silences,
            "crossed_quotes": summary.crossed,
            "one_sided_quotes": summary.one_sided,
            "out_of_order": summary.backwards,
            "left_out": summary.left_out.total(),
            "left_out_by_kind": summary.left_out.by_name().into_iter().collect::<BTreeMap<_, _>>(),
            "mended": mends.all().into_iter().map(|(_, mend, Mended { count, first })| json!({
                "cells": mend.name(), "count": count, "first": first,
            })).collect::<Vec<_>>(),
            "faults": summary.faults,
            "first_faults": summary.first_faults,
            "tape": tape.as_ref().map(|Tape { header, checkpoints, totals }| json!({
                "epoch": header.epoch,
                "created": text(header.created),
                "source": header.source,
                "checkpoints": checkpoints,
                "indexed": totals.is_some(),
            })),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn per_event(&self) -> Option<f64> {
        let events = self.summary.events();
        (events > 0).then(|| self.bytes as f64 / events as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "for people")]
    fn mean_rate(&self) -> f64 {
        // The last of n events ends n - 1 gaps; of one alone there is no rate.
        let seconds = self.summary.seconds();
        if seconds > 0.0 { self.summary.events() as f64 / seconds } else { 0.0 }
    }
}

impl Tape {
    /// `None` if the file is no recording of our form, or an unpacked one.
    fn of(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let index = RecordingIndex::read(&file).ok()?;
        let reader = RecordingReader::new(zstd::Decoder::new(File::open(path).ok()?).ok()?).ok()?;
        let header = reader.header().clone();
        Some(Self { header, checkpoints: index.checkpoints.len(), totals: index.totals })
    }
}

/// `1 quote`, `2 quotes`, `2 records that …`.
fn counted(count: u64, name: &str) -> String {
    let (noun, rest) = match name.find(" of ").or_else(|| name.find(" that ")).or_else(|| name.find(" out "))
    {
        Some(at) => name.split_at(at),
        None => (name, ""),
    };
    format!("{} {noun}{}{rest}", grouped(count), if count == 1 { "" } else { "s" })
}

fn sparkline(profile: &[u64]) -> String {
    let most = profile.iter().copied().max().unwrap_or(0).max(1);
    let height = |count: u64| usize::try_from((count * 8).div_ceil(most)).unwrap_or(8);
    profile.iter().map(|&count| BLOCKS[height(count)]).collect()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// A length of time as people read it: 350 ms, 12.5 s, 2 h 5 min.
fn length(nanos: i64) -> String {
    let whole = nanos / 1_000_000_000;
    match whole {
        _ if nanos < 1_000_000 => format!("{} µs", nanos / 1000),
        0 => format!("{} ms", nanos / 1_000_000),
        1..60 => format!("{:.1} s", seconds(nanos)),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_lengths_are_written_as_people_say_them() {
        assert_eq!(counted(1, "quote"), "1 quote");
        assert_eq!(counted(2500, "quote of one side"), "2,500 quotes of one side");
        assert_eq!(counted(2, "record that could not be read"), "2 records that could not be read");
        let second = 1_000_000_000;
        let lengths = [999, 350_000_000, 12_500_000_000, 90 * second, 7500 * second, 90_000 * second];
        let expected = ["0 µs", "350 ms", "12.5 s", "1 min 30 s", "2 h 5 min", "1 d 1 h"];
        assert_eq!(lengths.map(length), expected);
    }

    #[test]
    fn a_profile_is_drawn_so_that_nothing_looks_like_something_only_where_there_was() {
        assert_eq!(sparkline(&[0, 1, 50, 100]), " ▁▄█");
        assert_eq!(sparkline(&[0, 0]), "  ");
    }
}
