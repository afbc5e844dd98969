use crate::wire::schema::BACKOFF;
use crate::wire::{CloseCode, Return};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// How long to wait before the next attempt: a random part of a span that doubles with each failure, so that
/// the clients of a lost server do not all reconnect at once. Both clients follow the rule in
/// `docs/protocol.md`.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    /// What the server asked for instead: the least wait, and the span of a random part added to it.
    asked: Option<(Duration, Duration)>,
    random: StdRng,
}

impl Backoff {
    pub(crate) fn new(seed: u64) -> Self {
        Self { failures: 0, asked: None, random: StdRng::seed_from_u64(seed) }
    }

    /// The server said when to reconnect; holds for the next attempt only.
    pub(crate) fn ask(&mut self, after: Duration, jitter: Duration) {
        self.asked = Some((after.min(BACKOFF.longest_asked), jitter.min(BACKOFF.longest_asked)));
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// `code`: of the Close frame, if there was one.
    pub(crate) fn failed(&mut self, code: Option<CloseCode>) -> Duration {
        let first = match code.map(CloseCode::then) {
            Some(Return::Slower) => BACKOFF.first_when_busy,
            _ => BACKOFF.first,
        };
        let span = first.saturating_mul(1 << self.failures.min(16)).min(BACKOFF.longest);
        self.failures = self.failures.saturating_add(1);
        let (least, span) = self.asked.take().unwrap_or((Duration::ZERO, span));
        least + span.mul_f64(self.random.random_range(0.0..=1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    /// A row of the table that the TypeScript client is tested with, too.
    #[derive(Deserialize)]
    struct Row {
        name: String,
        code: Option<u16>,
        /// From 1; the earlier ones failed with the same code.
        attempt: u32,
        goodbye: Option<Asked>,
        /// `None`: the client does not reconnect.
        least_ms: Option<u64>,
        most_ms: Option<u64>,
    }

    #[derive(Clone, Copy, Deserialize)]
    struct Asked {
        retry_after_ms: u64,
        jitter_ms: u64,
    }

    #[test]
    fn waits_are_those_of_the_table() {
        let rows: Vec<Row> = serde_json::from_str(include_str!("../../tests/backoff.json")).unwrap();
        for Row { name, code, attempt, goodbye, least_ms, most_ms } in rows {
            let code = code.map(CloseCode);
            let (Some(least), Some(most)) = (least_ms, most_ms) else {
                assert_eq!(code.map(CloseCode::then), Some(Return::No), "{name}");
                continue;
            };
            assert_ne!(code.map(CloseCode::then), Some(Return::No), "{name}");
            let draws: Vec<Duration> = (0..500)
                .map(|seed| {
                    let mut backoff = Backoff::new(seed);
                    if let Some(Asked { retry_after_ms, jitter_ms }) = goodbye {
                        let [after, jitter] = [retry_after_ms, jitter_ms].map(Duration::from_millis);
                        backoff.ask(after, jitter);
                    }
                    for _ in 1..attempt {
                        backoff.failed(code);
                    }
                    backoff.failed(code)
                })
                .collect();
            let [least, most] = [least, most].map(Duration::from_millis);
            let (min, max) = (draws.iter().min().unwrap(), draws.iter().max().unwrap());
            assert!(*min >= least && *max <= most, "{name}: {min:?} to {max:?}");
            let drawn = max.abs_diff(*min);
            assert!(
                drawn > most.abs_diff(least).mul_f64(0.9),
                "{name}: draws fill the span: {min:?} to {max:?}"
            );
        }
    }
}
