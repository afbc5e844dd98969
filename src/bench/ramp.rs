use super::BenchError;
use super::report::{Round, losses};
use serde::Serialize;

/// One rate that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Ticks a second of the feed.
    pub rate: u32,
    /// The failure; `None`: the server kept up.
    pub limit: Option<String>,
    pub round: Round,
}

/// How often the distance between the last rate that was kept and the first that was not is halved.
const HALVINGS: u32 = 3;

/// Looks for the highest rate at which everything is delivered with a p99 of at most `max_p99_ms`: doubles
/// from `first` up to `most`, then halves the distance a few times. Steps come in the order they were tried.
///
/// # Errors
/// Those of `run`.
pub fn ramp(
    first: u32,
    most: u32,
    max_p99_ms: f64,
    mut run: impl FnMut(u32) -> Result<Round, BenchError>,
) -> Result<Vec<Step>, BenchError> {
    let mut steps = Vec::new();
    let (mut kept, mut broken, mut halvings) = (0, None, 0);
    let mut rate = first.min(most);
    loop {
        let round = run(rate)?;
        let limit = limit(&round, max_p99_ms);
        if limit.is_none() {
            kept = rate;
        } else {
            broken = Some(rate);
        }
        steps.push(Step { rate, limit, round });
        let tried = rate;
        rate = match broken {
            None => rate.saturating_mul(2).min(most),
            Some(broken) => u32::midpoint(kept, broken),
        };
        halvings += u32::from(broken.is_some());
        if rate == tried || rate == kept || halvings > HALVINGS {
            return Ok(steps);
        }
    }
}

fn limit(round: &Round, max_p99_ms: f64) -> Option<String> {
    let Some(p99) = round.latency_p99_ms else { return Some("nothing was due".to_owned()) };
    if p99 > max_p99_ms {
        return Some(format!("p99 {p99:.1} ms"));
    }
    let lost = losses(&serde_json::to_value(round).expect("numbers"));
    if !lost.is_empty() {
        return Some(lost.join(", "));
    }
    let gave_up = round.server.is_some_and(|server| server.feed_gave_up > 0.0);
    gave_up.then(|| "the feed could not be paced".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rates tried on a server that keeps up to `capacity`.
    #[track_caller]
    fn check(first: u32, most: u32, capacity: u32, expected: &[u32]) {
        let run = |rate| {
            let latency_p99_ms = Some(if rate <= capacity { 1.0 } else { 50.0 });
            Ok(Round { latency_p99_ms, ..Round::default() })
        };
        let steps = ramp(first, most, 20.0, run).unwrap();
        assert_eq!(steps.iter().map(|step| step.rate).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_rate_doubles_until_it_is_too_much_and_then_closes_in() {
        check(100, 10_000, 500, &[100, 200, 400, 800, 600, 500, 550]);
        check(100, 10_000, 799, &[100, 200, 400, 800, 600, 700, 750]);
    }

    #[test]
    fn a_server_that_keeps_up_with_everything_is_not_pushed_further() {
        check(100, 300, 1_000, &[100, 200, 300]);
    }

    #[test]
    fn what_is_lost_in_time_is_no_rate_that_is_kept() {
        let in_time = || Round { latency_p99_ms: Some(1.0), ..Round::default() };
        assert_eq!(limit(&in_time(), 20.0), None);
        let lossy = Round { entries_missed: 3.0, connections_lost: 1.0, ..in_time() };
        assert_eq!(limit(&lossy, 20.0).unwrap(), "entries missed: 3, connections lost: 1");
        assert_eq!(limit(&Round::default(), 20.0).unwrap(), "nothing was due");
    }

    #[test]
    fn a_server_that_keeps_up_with_nothing_is_told_so() {
        check(8, 100, 0, &[8, 4, 2, 1]);
    }
}
