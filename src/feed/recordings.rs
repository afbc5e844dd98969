use super::formats::{OpenError, OpenOptions, open, open_at, totals};
use super::source::{Source, SourceError, Span};
use super::stop::{Stop, Stoppable};
use super::{Between, Feed, FeedError, Looped, Merged, Only, Preloaded, Strict};
use crate::market::{FeedKind, Instruments, Symbol, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;

/// Recorded files as one source, merged by time.
#[derive(Clone, Debug)]
pub struct Recordings {
    pub paths: Vec<PathBuf>,
    pub options: OpenOptions,
    /// Whether it ends at the first record that cannot be read.
    pub strict: bool,
    /// Only these symbols; empty: all.
    pub only: Vec<Symbol>,
    /// Only batches from `start` to `end` are played, from the state of the market at the start.
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    /// Whether it begins again when it has ended. The times of each round are shifted, so that time goes on.
    pub looped: bool,
    /// All of it in memory, in place of the files.
    pub preloaded: Option<Arc<Preloaded>>,
    /// Ends the readers of the files.
    stop: Option<Stop>,
}

impl Recordings {
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, options: OpenOptions) -> Self {
        let (strict, looped) = (false, false);
        Self {
            paths,
            options,
            strict,
            only: Vec::new(),
            start: None,
            end: None,
            looped,
            preloaded: None,
            stop: None,
        }
    }

    /// Reads the files into memory. A record that cannot be read is passed to `on_fault` and left out.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn preload(&mut self, on_fault: impl FnMut(FeedError)) -> Result<Arc<Preloaded>, SourceError> {
        let held = Arc::new(Preloaded::read(&mut *self.files(None)?, on_fault));
        self.preloaded = Some(Arc::clone(&held));
        Ok(held)
    }

    /// All of the files, from the beginning or from the last point that has the full state of the market at a
    /// moment.
    fn files(&self, at: Option<Timestamp>) -> Result<Box<dyn Feed>, SourceError> {
        if let Some(held) = &self.preloaded {
            return Ok(Box::new(held.play()));
        }
        let open = |path: &PathBuf| {
            let feed = match at {
                Some(at) => open_at(path, &self.options, at),
                None => open(path, &self.options),
            };
            feed.map(|feed| match &self.stop {
                Some(stop) => Box::new(Stoppable::new(feed, stop.clone())) as Box<dyn Feed>,
                None => feed,
            })
        };
        let feeds: Result<Vec<_>, OpenError> = self.paths.iter().map(open).collect();
        let mut feeds = feeds.map_err(|error| SourceError(error.to_string()))?;
        Ok(if feeds.len() == 1 { feeds.remove(0) } else { Box::new(Merged::new(feeds)) })
    }

    /// One round of what is played.
    fn once(&self, at: Option<Timestamp>, start: Option<Timestamp>) -> Result<Box<dyn Feed>, SourceError> {
        let mut feed = self.files(at)?;
        if !self.only.is_empty() {
            feed = Box::new(Only::new(feed, self.only.iter().cloned()));
        }
        if start.is_some() || self.end.is_some() {
            feed = Box::new(Between::new(feed, start, self.end));
        }
        Ok(feed)
    }

    /// `None` if all of it would have to be read.
    fn indexed_span(&self) -> Option<Span> {
        // How many pass the filter of symbols is unknown.
        if !self.only.is_empty() || self.preloaded.is_some() {
            return None;
        }
        let totals: Option<Vec<_>> = self.paths.iter().map(|path| totals(path)).collect();
        let totals = totals.filter(|totals| totals.iter().all(|totals| totals.batches > 0))?;
        let first = totals.iter().map(|totals| totals.first).min()?;
        let last = totals.iter().map(|totals| totals.last).max()?;
        let start = self.start.map_or(first, |start| start.max(first));
        let end = self.end.map_or(last, |end| end.min(last));
        Some(if start <= end { Span { start: Some(start), end: Some(end) } } else { Span::default() })
    }

    fn played(&self, at: Option<Timestamp>) -> Result<Box<dyn Feed>, SourceError> {
        // Batches before the start are kept here: they give the state of the market at the start.
        let mut feed = self.once(at, None)?;
        if self.looped {
            let again = self.clone();
            feed = Box::new(Looped::after(feed, move || again.once(None, again.start)));
        }
        // Outside the loop, which would begin again after the bad record.
        Ok(if self.strict { Box::new(Strict::new(feed)) } else { feed })
    }
}

impl Source for Recordings {
    fn kind(&self) -> FeedKind {
        FeedKind::Replay
    }

    fn open(&self) -> Result<Box<dyn Feed>, SourceError> {
        self.played(None)
    }

    fn open_at(&self, to: Timestamp) -> Result<Box<dyn Feed>, SourceError> {
        self.played(Some(to))
    }

    /// Read from the index of `.tape` files without reading the files; limited by a start and an end.
    fn span(&self) -> Result<Span, SourceError> {
        if let Some(span) = self.indexed_span() {
            return Ok(span);
        }
        let mut feed = self.once(None, self.start)?;
        let (mut instruments, mut events) = (Instruments::default(), Vec::new());
        let mut span = Span::default();
        loop {
            events.clear();
            match feed.next(&mut instruments, &mut events) {
                Ok(Some(at)) => {
                    span.start.get_or_insert(at);
                    span.end = Some(at);
                }
                Ok(None) => return Ok(span),
                // The player reports records that cannot be read.
                Err(_) => {}
            }
        }
    }

    fn stopped_by(&self, stop: &Stop) -> Option<Arc<dyn Source>> {
        Some(Arc::new(Self { stop: Some(stop.clone()), ..self.clone() }))
    }

    fn is_looped(&self) -> bool {
        self.looped
    }
}
