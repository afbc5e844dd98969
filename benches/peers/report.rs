//! The table.

use crate::measure::{Run, Workload};
use serde_json::{Value, json};
use std::fmt;

/// The part of the server's core that other work may take before the figures are in doubt.
const QUIET: f64 = 0.1;

pub struct Report {
    pub work: Workload,
    pub rounds: u32,
    pub measured: Vec<Measured>,
    /// Servers that are not installed or failed, and why.
    pub missing: Vec<(&'static str, String)>,
}

/// One server's runs, in the order of the rounds.
pub struct Measured {
    pub peer: &'static str,
    pub about: String,
    pub runs: Vec<Run>,
}

impl Report {
    pub fn to_json(&self) -> Value {
        let servers: Vec<Value> = self
            .measured
            .iter()
            .map(|measured| {
                json!({
                    "name": measured.peer,
                    "about": measured.about,
                    "times_floor": self.times_floor(measured),
                    "runs": measured.runs,
                })
            })
            .collect();
        let missing: Vec<Value> =
            self.missing.iter().map(|(name, why)| json!({ "name": name, "why": why })).collect();
        json!({ "workload": self.work, "servers": servers, "missing": missing })
    }

    /// Median of the ratios within each round, which a machine that is busier in one round than in another
    /// changes least.
    fn times_floor(&self, measured: &Measured) -> Option<f64> {
        let floor = self.measured.iter().find(|measured| measured.peer == "floor")?;
        let runs = measured.runs.iter().zip(&floor.runs);
        Some(median(runs.map(|(run, floor)| run.cpu_micros / floor.cpu_micros)))
    }
}

impl Measured {
    fn median(&self, of: impl Fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(of))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload { clients, rate, bytes, seconds } = self.work;
        writeln!(
            f,
            "{clients} subscribers of one topic, {rate} messages/s of {bytes} bytes, {seconds} s, medians of {} rounds.\n\
             Server on one core, subscribers on another, which look at their sockets every 500 µs.\n",
            self.rounds
        )?;
        writeln!(
            f,
            "{:<18} {:>12} {:>8} {:>6} {:>9} {:>9} {:>11} {:>10} {:>9}  what it is",
            "server", "CPU/delivery", "÷ floor", "user", "p50", "p99", "RSS/conn.", "wire bytes", "received"
        )?;
        for measured in &self.measured {
            let times_floor = self.times_floor(measured);
            writeln!(
                f,
                "{:<18} {:>9.2} µs {:>8} {:>4.0} % {:>9} {:>9} {:>7.1} KiB {:>10.1} {:>7.2} %  {}",
                measured.peer,
                measured.median(|run| run.cpu_micros),
                times_floor.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                measured.median(|run| run.user_part) * 100.0,
                millis(measured.median(|run| run.p50_micros.map_or(f64::INFINITY, f64::from))),
                millis(measured.median(|run| run.p99_micros.map_or(f64::INFINITY, f64::from))),
                measured.median(|run| run.bytes_per_connection) / 1024.0,
                measured.median(|run| run.bytes_per_message),
                measured.median(Run::part_received) * 100.0,
                measured.about,
            )?;
        }
        let others = self.measured.iter().flat_map(|measured| &measured.runs).map(|run| run.others_part);
        let others = others.fold(0.0, f64::max);
        if others > QUIET {
            writeln!(
                f,
                "\nOther work took up to {:.0} % of the server's core: measure again on a quiet machine.",
                others * 100.0
            )?;
        }
        for (name, why) in &self.missing {
            writeln!(f, "{name:<18} {why}")?;
        }
        Ok(())
    }
}

fn millis(micros: f64) -> String {
    if micros.is_finite() { format!("{:.2} ms", micros / 1e3) } else { "never".to_owned() }
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match (values.len(), values.get(values.len() / 2)) {
        (0, _) | (_, None) => f64::NAN,
        (count, Some(&upper)) if count % 2 == 0 => f64::midpoint(values[count / 2 - 1], upper),
        (_, Some(&middle)) => middle,
    }
}
