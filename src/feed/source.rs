use super::sim::scenario::Scenario;
use super::sim::{SimConfig, Simulator};
use super::{Feed, Looped};
use crate::market::{FeedKind, Timestamp, Universe};
use std::sync::Arc;

/// Something that can be played again and again, from its beginning or from a moment within.
pub trait Source: Send + Sync {
    fn kind(&self) -> FeedKind;

    /// What is simulated; `None` where it is a record of something.
    fn simulation(&self) -> Option<SimConfig> {
        None
    }

    /// The script by which it is simulated, and the script's phase at a moment; `None` where there is none.
    fn script(&self, at: Timestamp) -> Option<(String, &'static str)> {
        let _ = at;
        None
    }

    /// The same, simulated with another seed, from another start where one is given; `None` where it is a record of something.
    fn with_seed(&self, seed: u64, start: Option<Timestamp>) -> Option<Arc<dyn Source>> {
        let _ = (seed, start);
        None
    }

    /// From the beginning.
    ///
    /// # Errors
    /// [`SourceError`] names what cannot be opened, and why.
    fn open(&self) -> Result<Box<dyn Feed>, SourceError>;

    /// For whoever wants the market as of `to`: from the last place from which it can be had. Where that is not the beginning, the feed begins
    /// with [`Event::Snapshot`](crate::market::Event::Snapshot)s.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn open_at(&self, to: Timestamp) -> Result<Box<dyn Feed>, SourceError> {
        let _ = to;
        self.open()
    }

    /// Its first and its last moment. May read it all: not for a thread that others wait for.
    ///
    /// # Errors
    /// As [`Self::open`].
    fn span(&self) -> Result<Span, SourceError>;

    /// Whether it begins again when it has ended.
    fn is_looped(&self) -> bool {
        false
    }
}

/// From when to when something can be played; `None` where it is empty, or has no end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
}

/// Why something cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

/// A simulated market; each time the same.
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
}

/// A simulated market under a script.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// What it is called: a ready scenario's name, or a file's.
    pub name: String,
    pub scenario: Scenario,
    /// When it begins, where the script has no start of its own.
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

    fn span(&self) -> Result<Span, SourceError> {
        let start = self.scenario.start.unwrap_or(self.start);
        Ok(Span { start: Some(start), end: self.scenario.end.map(|end| start.plus_nanos(end.nanos())) })
    }

    fn is_looped(&self) -> bool {
        self.looped
    }
}
