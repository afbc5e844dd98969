use super::BenchError;
use super::report::Round;
use serde::Serialize;

/// One rate that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Ticks a second of the feed.
    pub rate: u32,
    /// What stood in the way; `None`: the server kept up.
    pub limit: Option<String>,
    pub round: Round,
}

/// How often the distance between the last rate that was kept and the first that was not is halved.
const HALVINGS: u32 = 3;

/// Looks for the highest rate at which everything is delivered with a p99 of at most `max_p99_ms`: doubles from `first` up to `most`, then
/// halves the distance a few times. Steps come in the order they were tried.
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
    if round.latency_p99_ms > max_p99_ms {
        return Some(format!("p99 {:.1} ms", round.latency_p99_ms));
    }
    if round.ticks_undelivered > 0.0 {
        return Some(format!("{} ticks undelivered", round.ticks_undelivered));
    }
    if round.entries_missed > 0.0 {
        return Some(format!("{} trades missed", round.entries_missed));
    }
    if round.connections_lost > 0.0 {
        return Some(format!("{} connections lost", round.connections_lost));
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
            let latency_p99_ms = if rate <= capacity { 1.0 } else { 50.0 };
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
    fn a_server_that_keeps_up_with_nothing_is_told_so() {
        check(8, 100, 0, &[8, 4, 2, 1]);
    }
}
