use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// The results of one run. Rates are per second of the window; latencies in ms from when a tick was due; CPU
/// in cores or µs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    pub clients: f64,
    pub seconds: f64,
    /// The feed's ticks, with or without subscribers. `None`, here and below: the feed is not known.
    pub feed_ticks_per_s: Option<f64>,
    pub frames_per_s: f64,
    /// A change of a topic, for one subscriber of it, is one delivery.
    pub ticks_per_s: Option<f64>,
    pub bytes_per_s: f64,
    pub bytes_per_frame: f64,
    pub ticks_per_frame: Option<f64>,
    pub bytes_per_tick: Option<f64>,
    /// `None`: nothing was timed.
    pub latency_p50_ms: Option<f64>,
    pub latency_p90_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    pub latency_p999_ms: Option<f64>,
    pub latency_max_ms: Option<f64>,
    /// Changes due in the window that were not received, by themselves or in a newer value, some seconds
    /// after it.
    pub ticks_undelivered: Option<f64>,
    /// Trades and closed bars that were reported as missed to the fully decoded sessions.
    pub entries_missed: f64,
    /// Those due to the fully decoded sessions that were neither delivered nor reported as missed, if these
    /// sessions subscribe to nothing else.
    pub entries_untold: f64,
    /// Sessions that received less than half of the bytes of the fully decoded ones, if all have the same
    /// topics.
    pub sessions_short: f64,
    pub connections_lost: f64,
    /// Of a local server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerSide>,
    /// Of this process: near 1 it was itself the limit.
    pub client_cpu_cores: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<FloorSide>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<Slow>,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ServerSide {
    pub cpu_cores: f64,
    pub cpu_us_per_frame: f64,
    pub user_us_per_frame: f64,
    pub rss_mib_before: f64,
    pub rss_mib_connected: f64,
    pub rss_mib_max: f64,
    pub rss_bytes_per_connection: f64,
    /// Changes that were not delivered by themselves.
    pub ticks_merged_per_s: f64,
    /// How often it reported missed trades or closed bars of a topic to a session, by its own count over all
    /// of them.
    pub gaps: f64,
    /// How often the feed gave up a schedule that the server could not keep.
    pub feed_gave_up: f64,
}

/// A bare loop of `send` with the same bytes at the same moments.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct FloorSide {
    pub cpu_us_per_send: f64,
    pub user_us_per_send: f64,
    pub latency_p50_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    pub latency_p999_ms: Option<f64>,
    pub client_cpu_cores: f64,
    /// The server's CPU per frame and its p99 ÷ those of the floor.
    pub cpu_ratio: f64,
    pub p99_ratio: Option<f64>,
}

/// Some sessions read nothing for a while.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Slow {
    pub clients: f64,
    pub seconds: f64,
    /// The others' frames while these slept ÷ before.
    pub healthy_frames_ratio: f64,
    pub healthy_p99_before_ms: Option<f64>,
    pub healthy_p99_during_ms: Option<f64>,
    /// What the others did not receive meanwhile, as in a round.
    pub healthy_ticks_undelivered: Option<f64>,
    pub healthy_entries_missed: f64,
    /// `None`: of a server elsewhere.
    pub rss_growth_mib: Option<f64>,
    pub most_unsent_kib: Option<f64>,
    /// Frames and bytes that a slow session read, once it read again, before it was up to date.
    pub old_frames_before_present: f64,
    pub old_kib_before_present: f64,
    pub ms_until_present: f64,
    /// Slow sessions that never became up to date.
    pub clients_left_behind: f64,
}

/// The limits for a run to pass; `None`: no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    pub max_p99_ms: Option<f64>,
    pub min_ticks_per_s: Option<f64>,
    pub max_bytes_per_tick: Option<f64>,
    pub max_cpu_ratio: Option<f64>,
    pub max_bytes_per_connection: Option<f64>,
    /// Nothing undelivered, missed or disconnected, in any round.
    pub lossless: bool,
}

/// The counts that are 0 in a round in which nothing was lost.
const LOSSES: [&str; 9] = [
    "/ticks_undelivered",
    "/entries_missed",
    "/entries_untold",
    "/sessions_short",
    "/connections_lost",
    "/server/gaps",
    "/slow/healthy_ticks_undelivered",
    "/slow/healthy_entries_missed",
    "/slow/clients_left_behind",
];

/// Rounds, their medians, and the limits that were not held.
#[derive(Debug, Serialize)]
pub struct Report {
    pub about: Value,
    pub median: Value,
    pub rounds: Vec<Value>,
    pub verdict: Verdict,
}

#[derive(Debug, Serialize)]
pub struct Verdict {
    pub passed: bool,
    pub failures: Vec<String>,
    /// For the text form only: whether there were limits to hold.
    #[serde(skip)]
    pub is_limited: bool,
}

impl Round {
    /// Compares the server to the floor.
    pub(super) fn compare(&mut self) {
        if let (Some(server), Some(floor)) = (&self.server, &mut self.floor) {
            floor.cpu_ratio = server.cpu_us_per_frame / floor.cpu_us_per_send;
            floor.p99_ratio = self.latency_p99_ms.zip(floor.latency_p99_ms).map(|(ours, its)| ours / its);
        }
    }
}

impl Report {
    #[must_use]
    pub fn new(about: Value, rounds: &[impl Serialize], limits: &Limits) -> Self {
        let rounds: Vec<Value> =
            rounds.iter().map(|round| serde_json::to_value(round).expect("numbers")).collect();
        let median = median(&rounds);
        let failures = limits.failures(&median, &rounds);
        let verdict = Verdict { passed: failures.is_empty(), failures, is_limited: limits.are_given() };
        Self { about, median, rounds, verdict }
    }

    /// For people: each figure's median, its least and most if there were several rounds, and the
    /// conclusions.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        if self.rounds.len() > 1 {
            let heading = format!("median of {} rounds", self.rounds.len());
            let _ = writeln!(out, "{:<NAME$}{heading:>VALUE$}   least to most", "");
        }
        let mut rest = self.median.clone();
        for (section, rows) in SECTIONS {
            let mut lines = String::new();
            for &(path, label, unit) in *rows {
                if let Some(number) = take(&mut rest, path) {
                    self.row(&mut lines, path, label, unit, number);
                }
            }
            if !lines.is_empty() {
                let _ = writeln!(out, "{section}\n{lines}");
            }
        }
        // Figures without a label of their own are printed, too.
        let mut others = Vec::new();
        numbers(String::new(), &rest, &mut others);
        for (path, number) in &others {
            self.row(&mut out, path, &words(path), "", *number);
        }
        if !others.is_empty() {
            out.push('\n');
        }
        for failure in &self.verdict.failures {
            let _ = writeln!(out, "FAILED  {failure}");
        }
        let _ = writeln!(out, "VERDICT {}", self.verdict());
        out
    }

    fn row(&self, out: &mut String, path: &str, label: &str, unit: &str, median: f64) {
        let value = format!("{} {unit}", show(median));
        let _ = write!(out, "{:<NAME$}{:>VALUE$}", format!("  {label}"), value.trim_end());
        let of_rounds = || self.rounds.iter().filter_map(|round| round.pointer(path)?.as_f64());
        if self.rounds.len() > 1 && of_rounds().count() > 0 {
            let (least, most) = (of_rounds().fold(f64::MAX, f64::min), of_rounds().fold(f64::MIN, f64::max));
            let _ = write!(out, "   {} to {}", show(least), show(most));
        }
        out.push('\n');
    }

    /// In one line: whether the pace was kept, the cost compared to the floor, the losses, and the limits not
    /// held.
    #[must_use]
    pub fn verdict(&self) -> String {
        let number = |path: &str| self.median.pointer(path).and_then(Value::as_f64);
        let mut parts = Vec::new();
        if number("/frames_per_s").is_some() {
            let mut lost: Vec<String> = self.rounds.iter().flat_map(losses).collect();
            lost.sort_unstable();
            lost.dedup();
            let gave_up = |round: &Value| {
                round.pointer("/server/feed_gave_up").and_then(Value::as_f64).is_some_and(|count| count > 0.0)
            };
            if self.rounds.iter().any(gave_up) {
                lost.push("the feed could not be paced".to_owned());
            }
            let p99 =
                number("/latency_p99_ms").map(|p99| format!(" (p99 {} ms)", show(p99))).unwrap_or_default();
            parts.push(if number("/frames_per_s") == Some(0.0) {
                "nothing was delivered".to_owned()
            } else if lost.is_empty() {
                format!("kept pace{p99}, no gaps")
            } else {
                format!("did not keep pace{p99}: {}", lost.join(", "))
            });
            parts.extend(
                number("/floor/cpu_ratio").map(|ratio| format!("{} × the floor's CPU a frame", show(ratio))),
            );
        }
        parts.extend(match &*self.verdict.failures {
            [] if self.verdict.is_limited => Some("all limits were held".to_owned()),
            [] => None,
            failures => Some(format!("FAILED by {}", failures.join("; "))),
        });
        if parts.is_empty() { "measured".to_owned() } else { parts.join("; ") }
    }
}

const NAME: usize = 34;
const VALUE: usize = 22;

/// Figures as people read them: the path of each in a report, its label, its unit.
type Rows = &'static [(&'static str, &'static str, &'static str)];

const SECTIONS: &[(&str, Rows)] = &[
    (
        "load",
        &[
            ("/clients", "subscribers", ""),
            ("/seconds", "measured for", "s"),
            ("/feed_ticks_per_s", "the feed told", "ticks/s"),
        ],
    ),
    (
        "delivered",
        &[
            ("/ticks_per_s", "ticks", "/s"),
            ("/frames_per_s", "frames", "/s"),
            ("/ticks_per_frame", "ticks a frame", ""),
            ("/bytes_per_s", "bytes", "/s"),
            ("/bytes_per_frame", "bytes a frame", ""),
            ("/bytes_per_tick", "bytes a tick", ""),
        ],
    ),
    (
        "latency, from when a tick was due",
        &[
            ("/latency_p50_ms", "p50", "ms"),
            ("/latency_p90_ms", "p90", "ms"),
            ("/latency_p99_ms", "p99", "ms"),
            ("/latency_p999_ms", "p99.9", "ms"),
            ("/latency_max_ms", "longest", "ms"),
        ],
    ),
    (
        "lost",
        &[
            ("/ticks_undelivered", "ticks that never came", ""),
            ("/entries_missed", "entries told as missed", ""),
            ("/entries_untold", "entries not told of at all", ""),
            ("/sessions_short", "sessions that got too little", ""),
            ("/connections_lost", "connections lost", ""),
            ("/server/gaps", "gaps, as the server counts", ""),
            ("/server/feed_gave_up", "times the feed gave up its pace", ""),
        ],
    ),
    (
        "server",
        &[
            ("/server/cpu_cores", "CPU", "cores"),
            ("/server/cpu_us_per_frame", "CPU a frame", "µs"),
            ("/server/user_us_per_frame", "… in user space", "µs"),
            ("/server/ticks_merged_per_s", "ticks merged", "/s"),
            ("/server/rss_mib_before", "memory before", "MiB"),
            ("/server/rss_mib_connected", "memory with all connected", "MiB"),
            ("/server/rss_mib_max", "memory at most", "MiB"),
            ("/server/rss_mib_disconnected", "memory when all had left", "MiB"),
            ("/server/rss_bytes_per_connection", "memory a connection", "bytes"),
        ],
    ),
    ("client", &[("/client_cpu_cores", "CPU (near 1: it was the limit)", "cores")]),
    (
        "floor: a bare loop of send",
        &[
            ("/floor/cpu_us_per_send", "CPU a send", "µs"),
            ("/floor/user_us_per_send", "… in user space", "µs"),
            ("/floor/latency_p50_ms", "latency p50", "ms"),
            ("/floor/latency_p99_ms", "latency p99", "ms"),
            ("/floor/latency_p999_ms", "latency p99.9", "ms"),
            ("/floor/client_cpu_cores", "CPU of its client", "cores"),
            ("/floor/cpu_ratio", "server's CPU a frame ÷ floor's", ""),
            ("/floor/p99_ratio", "server's p99 ÷ floor's", ""),
        ],
    ),
    (
        "while some read nothing",
        &[
            ("/slow/clients", "slow subscribers", ""),
            ("/slow/seconds", "slow for", "s"),
            ("/slow/healthy_frames_ratio", "the others' frames ÷ before", ""),
            ("/slow/healthy_p99_before_ms", "the others' p99 before", "ms"),
            ("/slow/healthy_p99_during_ms", "the others' p99 meanwhile", "ms"),
            ("/slow/healthy_ticks_undelivered", "the others' ticks lost", ""),
            ("/slow/healthy_entries_missed", "the others' entries missed", ""),
            ("/slow/rss_growth_mib", "growth of the server", "MiB"),
            ("/slow/most_unsent_kib", "unsent at most", "KiB"),
            ("/slow/old_frames_before_present", "frames before the present", ""),
            ("/slow/old_kib_before_present", "read before the present", "KiB"),
            ("/slow/ms_until_present", "until the present", "ms"),
            ("/slow/clients_left_behind", "never got there", ""),
        ],
    ),
];

/// Takes a number out of a document.
fn take(document: &mut Value, path: &str) -> Option<f64> {
    document.pointer_mut(path).filter(|value| value.is_number()).map(Value::take)?.as_f64()
}

/// All numbers of a document with their paths.
fn numbers(path: String, value: &Value, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| numbers(format!("{path}/{name}"), value, found));
        }
        value => found.extend(value.as_f64().map(|number| (path, number))),
    }
}

/// With three or four significant digits, and blanks between thousands.
#[must_use]
pub fn show(number: f64) -> String {
    let decimals = match number.abs() {
        0.0 | 1000.0.. => 0,
        100.0.. => 1,
        10.0.. => 2,
        _ => 3,
    };
    let text = format!("{number:.decimals$}");
    let (whole, rest) = text.find('.').map_or((&*text, ""), |dot| text.split_at(dot));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// The median of each number of documents of one shape.
fn median(values: &[Value]) -> Value {
    let Some(Value::Object(first)) = values.first() else {
        let mut numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
        numbers.sort_by(f64::total_cmp);
        let middle = numbers.len() / 2;
        return match numbers.len() {
            0 => Value::Null,
            len if len % 2 == 1 => numbers[middle].into(),
            _ => f64::midpoint(numbers[middle - 1], numbers[middle]).into(),
        };
    };
    let of_name = |name: &String| {
        let values: Vec<Value> = values.iter().filter_map(|value| value.get(name).cloned()).collect();
        (name.clone(), median(&values))
    };
    Value::Object(first.keys().map(of_name).collect::<Map<_, _>>())
}

impl Limits {
    fn are_given(&self) -> bool {
        let limits = [
            self.max_p99_ms,
            self.min_ticks_per_s,
            self.max_bytes_per_tick,
            self.max_cpu_ratio,
            self.max_bytes_per_connection,
        ];
        self.lossless || limits.iter().any(Option::is_some)
    }

    fn failures(&self, median: &Value, rounds: &[Value]) -> Vec<String> {
        let mut failures = Vec::new();
        if median.get("frames_per_s").is_some_and(|frames| frames == 0.0) {
            failures.push("not one update came: see the topics, and whether the feed runs".to_owned());
        }
        let mut check = |path: &str, limit: Option<f64>, at_most: bool| {
            let Some(limit) = limit else { return };
            let words = words(path);
            match median.pointer(path).and_then(Value::as_f64) {
                None => failures.push(format!("{words} was not measured")),
                Some(value) if (value <= limit) != at_most && value.total_cmp(&limit).is_ne() => {
                    let word = if at_most { "at most" } else { "at least" };
                    failures.push(format!("{words}: {} instead of {word} {}", show(value), show(limit)));
                }
                Some(_) => {}
            }
        };
        check("/latency_p99_ms", self.max_p99_ms, true);
        check("/ticks_per_s", self.min_ticks_per_s, false);
        check("/bytes_per_tick", self.max_bytes_per_tick, true);
        check("/floor/cpu_ratio", self.max_cpu_ratio, true);
        check("/server/rss_bytes_per_connection", self.max_bytes_per_connection, true);
        if self.lossless {
            failures.extend(rounds.iter().flat_map(losses));
            if median.pointer(LOSSES[0]).is_none_or(Value::is_null) {
                failures.push(format!("{} was not measured: the feed is not known", words(LOSSES[0])));
            }
        }
        failures
    }
}

/// What was lost in a round, in words.
pub(super) fn losses(round: &Value) -> Vec<String> {
    let of = |path: &&str| round.pointer(path).and_then(Value::as_f64).filter(|&lost| lost > 0.0);
    let told = |path| of(path).map(|lost| format!("{}: {lost:.0}", words(path)));
    LOSSES.iter().filter_map(told).collect()
}

/// The name of a figure.
fn words(path: &str) -> String {
    path.trim_start_matches('/').replace(['/', '_'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_the_digits_that_count() {
        let numbers = [0.0, 0.0012, 3.375, 42.0, 123.44, 1000.0, 1_234_567.8, -4321.0];
        let expected = ["0", "0.001", "3.375", "42.00", "123.4", "1 000", "1 234 568", "-4 321"];
        assert_eq!(numbers.map(show), expected);
    }

    fn report(latencies: &[f64], limits: Limits) -> Report {
        let round = |&latency| {
            let ticks_undelivered = Some(0.0);
            Round { frames_per_s: 1.0, latency_p99_ms: Some(latency), ticks_undelivered, ..Round::default() }
        };
        Report::new(Value::Null, &latencies.iter().map(round).collect::<Vec<_>>(), &limits)
    }

    #[test]
    fn a_report_tells_medians() {
        assert_eq!(report(&[5.0, 1.0, 2.0], Limits::default()).median["latency_p99_ms"], 2.0);
        assert_eq!(report(&[4.0, 2.0], Limits::default()).median["latency_p99_ms"], 3.0);
        assert!(report(&[5.0, 1.0, 2.0], Limits::default()).table().contains("1.000 to 5.000"));
    }

    #[test]
    fn every_figure_is_shown_with_its_words_and_the_verdict_is_one_line() {
        let round = Round {
            frames_per_s: 1.0,
            latency_p99_ms: Some(1.25),
            server: Some(ServerSide::default()),
            floor: Some(FloorSide { cpu_ratio: 1.02, ..FloorSide::default() }),
            slow: Some(Slow::default()),
            ticks_undelivered: Some(0.0),
            ..Round::default()
        };
        let limits = Limits { max_p99_ms: Some(2.0), ..Limits::default() };
        let table = Report::new(Value::Null, std::slice::from_ref(&round), &limits).table();
        // Each has a label: none is shown by its name in the document.
        assert!(!table.contains("per s") && table.lines().all(|line| line.len() <= 100), "{table}");
        let verdict = |table: &str| table.lines().last().unwrap_or_default().to_owned();
        assert_eq!(
            verdict(&table),
            "VERDICT kept pace (p99 1.250 ms), no gaps; 1.020 × the floor's CPU a frame; all limits were held"
        );
        let lossy = Round { ticks_undelivered: Some(3.0), ..round };
        let limits = Limits { max_p99_ms: Some(1.0), ..Limits::default() };
        assert_eq!(
            verdict(&Report::new(Value::Null, &[lossy], &limits).table()),
            "VERDICT did not keep pace (p99 1.250 ms): ticks undelivered: 3; 1.020 × the floor's CPU a frame; \
             FAILED by latency p99 ms: 1.250 instead of at most 1.000"
        );
    }

    #[test]
    fn a_run_without_any_update_fails() {
        let report = Report::new(Value::Null, &[Round::default()], &Limits::default());
        assert!(!report.verdict.passed && report.verdict.failures[0].starts_with("not one update"));
    }

    #[test]
    fn a_limit_that_is_not_held_fails_the_run_and_is_named() {
        let limits = Limits { max_p99_ms: Some(2.0), ..Limits::default() };
        assert!(report(&[2.0], limits).verdict.passed);
        assert_eq!(
            report(&[3.0], limits).verdict.failures,
            ["latency p99 ms: 3.000 instead of at most 2.000"]
        );
        let limits = Limits { max_cpu_ratio: Some(1.0), ..Limits::default() };
        assert_eq!(report(&[3.0], limits).verdict.failures, ["floor cpu ratio was not measured"]);
        let limits = Limits { min_ticks_per_s: Some(1.0), lossless: true, ..Limits::default() };
        assert_eq!(report(&[3.0], limits).verdict.failures, ["ticks per s was not measured"]);
    }

    #[test]
    fn a_loss_in_one_round_of_many_is_a_loss() {
        let round = |connections_lost, ticks_undelivered| Round {
            frames_per_s: 1.0,
            connections_lost,
            ticks_undelivered,
            ..Round::default()
        };
        let limits = Limits { lossless: true, ..Limits::default() };
        let failures = |rounds: &[Round]| Report::new(Value::Null, rounds, &limits).verdict.failures;
        let good = round(0.0, Some(0.0));
        assert!(failures(&[good.clone(), good.clone()]).is_empty());
        assert_eq!(failures(&[good.clone(), round(2.0, Some(0.0)), good]), ["connections lost: 2"]);
        assert_eq!(
            failures(&[round(0.0, None)]),
            ["ticks undelivered was not measured: the feed is not known"]
        );
    }
}
