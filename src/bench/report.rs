use serde::Serialize;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// What one run has shown. Rates are per second of the window; latencies in ms from when a tick was due; CPU in cores or µs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Round {
    pub clients: f64,
    pub seconds: f64,
    /// What the feed had to tell, whoever subscribed to it. `None`, here and below: the feed is not known.
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
    /// Changes that were due in the window and had not come, in a newer value or by themselves, some seconds after it.
    pub ticks_undelivered: Option<f64>,
    /// Trades and closed bars that the fully decoded sessions were told they had missed.
    pub entries_missed: f64,
    /// Those that were due to the fully decoded sessions and of which they were told nothing at all, where they subscribe to nothing else.
    pub entries_untold: f64,
    /// Sessions that got less than half of the bytes of those that are fully decoded, where all have the same topics.
    pub sessions_short: f64,
    pub connections_lost: f64,
    /// Of a local server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerSide>,
    /// Of this process: near 1 it was the limit itself.
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
    /// Changes that were not told themselves.
    pub ticks_merged_per_s: f64,
    /// How often it told a session that it had missed trades or closed bars of a topic, by its own count over all of them.
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
    /// What the others did not get meanwhile, as in a round.
    pub healthy_ticks_undelivered: Option<f64>,
    pub healthy_entries_missed: f64,
    /// `None`: of a server elsewhere.
    pub rss_growth_mib: Option<f64>,
    pub most_unsent_kib: Option<f64>,
    /// What a slow session read, once it read again, before the present.
    pub old_kib_before_present: f64,
    pub ms_until_present: f64,
    /// Slow sessions that never got there.
    pub clients_left_behind: f64,
}

/// What must hold for a run to pass; `None`: anything does.
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

/// What must be 0 in a round in which nothing was lost.
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

/// Rounds, their medians, and what became of the limits.
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
}

impl Round {
    /// Sets the server beside the floor.
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
        Self { about, median, rounds, verdict: Verdict { passed: failures.is_empty(), failures } }
    }

    /// For people: each figure's median, and the least and the most of it where there were several rounds.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        table("", &self.median, &self.rounds.iter().collect::<Vec<_>>(), &mut out);
        for failure in &self.verdict.failures {
            let _ = writeln!(out, "FAILED  {failure}");
        }
        out
    }
}

fn table(group: &str, median: &Value, rounds: &[&Value], out: &mut String) {
    for (name, value) in median.as_object().into_iter().flatten() {
        let of_rounds: Vec<&Value> = rounds.iter().filter_map(|round| round.get(name)).collect();
        let Some(number) = value.as_f64() else {
            table(&format!("{group}{name} "), value, &of_rounds, out);
            continue;
        };
        let numbers = || of_rounds.iter().filter_map(|value| value.as_f64());
        let name = format!("{group}{}", name.replace('_', " "));
        let _ = write!(out, "{name:<34} {:>14}", show(number));
        if of_rounds.len() > 1 {
            let (least, most) = (numbers().fold(f64::MAX, f64::min), numbers().fold(f64::MIN, f64::max));
            let _ = write!(out, "   {} to {}", show(least), show(most));
        }
        out.push('\n');
    }
}

/// With three or four digits that count, and blanks between thousands.
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
