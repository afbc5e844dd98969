use super::sim::scenario::Scenario;
use super::sim::{SimConfig, Simulator};
use super::{Feed, Looped, Stop};
use crate::market::{FeedKind, Timestamp, Universe};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Something that can be played repeatedly, from its beginning or from a moment within.
pub trait Source: Send + Sync {
    fn kind(&self) -> FeedKind;

    /// What is simulated; `None` for a recording.
    fn simulation(&self) -> Option<SimConfig> {
        None
    }

    /// The script of the simulation, and the script's phase at a moment; `None` without a script.
    fn script(&self, at: Timestamp) -> Option<(String, &'static str)> {
        let _ = at;
        None
    }

    /// The same, simulated with another seed, and from another start if one is given; `None` for a recording.
    fn with_seed(&self, seed: u64, start: Option<Timestamp>) -> Option<Arc<dyn Source>> {
        let _ = (seed, start);
        None
    }

    /// From the beginning.
    ///
    /// # Errors
    /// [`SourceError`] names what cannot be opened, and why.
    fn open(&self) -> Result<Box<dyn Feed>, SourceError>;

    /// For the state of the market at `to`: from the last point at or before it that has the full state. If
    /// that is not the beginning, the feed begins with [`Event::Snapshot`](crate::market::Event::Snapshot)s.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn open_at(&self, to: Timestamp) -> Result<Box<dyn Feed>, SourceError> {
        let _ = to;
        self.open()
    }

    /// Its first and its last moment. May read all of it: do not call it on a thread that others wait for.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn span(&self) -> Result<Span, SourceError>;

    /// About how many events are between two of its moments; `None` if they would have to be read.
    fn events_between(&self, from: Timestamp, to: Timestamp) -> Option<u64> {
        let _ = (from, to);
        None
    }

    /// The same, but its feeds end when `stop` is set, also while they skip records; `None` if it never reads
    /// for long.
    fn stopped_by(&self, stop: &Stop) -> Option<Arc<dyn Source>> {
        let _ = stop;
        None
    }

    /// Whether it begins again when it has ended.
    fn is_looped(&self) -> bool {
        false
    }
}

/// The first and the last moment that can be played; `None` if it is empty, or has no end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
}

/// Why something cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// A simulated market; the same each time.
#[derive(Clone, Debug)]
pub struct Simulation {
    pub universe: Universe,
    pub config: SimConfig,
}

impl Source for Simulation {
    fn kind(&self) -> FeedKind {
        FeedKind::Simulator
    }

    fn simulation(&self) -> Option<SimConfig> {
        Some(self.config)
    }

    fn with_seed(&self, seed: u64, start: Option<Timestamp>) -> Option<Arc<dyn Source>> {
        let config = SimConfig { seed, start: start.unwrap_or_else(Timestamp::now), ..self.config };
        Some(Arc::new(Self { config, ..self.clone() }))
    }

    fn open(&self) -> Result<Box<dyn Feed>, SourceError> {
        Ok(Box::new(Simulator::new(&self.universe, self.config)))
    }

    fn span(&self) -> Result<Span, SourceError> {
        Ok(Span { start: Some(self.config.start), end: None })
    }

    fn events_between(&self, from: Timestamp, to: Timestamp) -> Option<u64> {
        Some(ticks_between(self.config.rate, from, to))
    }
}

fn ticks_between(rate: NonZeroU32, from: Timestamp, to: Timestamp) -> u64 {
    let nanos = u128::from(to.nanos_since(from).max(0).unsigned_abs());
    u64::try_from(nanos * u128::from(rate.get()) / 1_000_000_000).unwrap_or(u64::MAX)
}

/// A simulated market under a script.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// The name of a ready scenario, or of a file.
    pub name: String,
    pub scenario: Scenario,
    /// When it begins, if the script has no start of its own.
    pub start: Timestamp,
    /// Whether it begins again when it has ended.
    pub looped: bool,
}

impl Scripted {
    fn once(&self) -> Result<Box<dyn Feed>, SourceError> {
        self.scenario.clone().play(self.start).map_err(|error| SourceError(error.to_string()))
    }
}

impl Source for Scripted {
    fn kind(&self) -> FeedKind {
        FeedKind::Simulator
    }

    fn simulation(&self) -> Option<SimConfig> {
        let Scenario { symbols, rate, seed, start, .. } = self.scenario;
        Some(SimConfig { symbols, rate, seed, start: start.unwrap_or(self.start) })
    }

    fn script(&self, at: Timestamp) -> Option<(String, &'static str)> {
        let start = self.scenario.start.unwrap_or(self.start);
        Some((self.name.clone(), self.scenario.phase_after(at.nanos_since(start))))
    }

    fn with_seed(&self, seed: u64, start: Option<Timestamp>) -> Option<Arc<dyn Source>> {
        let mut other = self.clone();
        other.scenario.seed = seed;
        other.scenario.start = start.or(other.scenario.start);
        other.start = Timestamp::now();
        Some(Arc::new(other))
    }

    fn open(&self) -> Result<Box<dyn Feed>, SourceError> {
        let feed = self.once()?;
        if !self.looped {
            return Ok(feed);
        }
        let again = self.clone();
        Ok(Box::new(Looped::after(feed, move || again.once())))
    }

    fn events_between(&self, from: Timestamp, to: Timestamp) -> Option<u64> {
        Some(ticks_between(self.scenario.rate, from, to))
    }

    fn span(&self) -> Result<Span, SourceError> {
        let start = self.scenario.start.unwrap_or(self.start);
        Ok(Span { start: Some(start), end: self.scenario.end.map(|end| start.plus_nanos(end.nanos())) })
    }

    fn is_looped(&self) -> bool {
        self.looped
    }
}
