use super::formats::{OpenError, OpenOptions, open, open_at, totals};
use super::source::{Source, SourceError, Span};
use super::{Between, Feed, FeedError, Looped, Merged, Only, Preloaded, Strict};
use crate::market::{FeedKind, Instruments, Symbol, Timestamp};
use std::path::PathBuf;
use std::sync::Arc;

/// Recorded files as one source: merged by time where there are several.
#[derive(Clone, Debug)]
pub struct Recordings {
    pub paths: Vec<PathBuf>,
    pub options: OpenOptions,
    /// Whether the first record that cannot be read ends it.
    pub strict: bool,
    /// Only these symbols; all where it is empty.
    pub only: Vec<Symbol>,
    /// Nothing before and nothing after is played; what the market was at the start is known all the same.
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    /// Whether it begins again when it has ended. Each round is later than the one before, so that time goes on.
    pub looped: bool,
    /// All of it in memory, in place of the files.
    pub preloaded: Option<Arc<Preloaded>>,
}

impl Recordings {
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, options: OpenOptions) -> Self {
        let (strict, looped) = (false, false);
        Self { paths, options, strict, only: Vec::new(), start: None, end: None, looped, preloaded: None }
    }

    /// Reads the files into memory. What cannot be read is handed to `on_fault` and left out.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn preload(&mut self, on_fault: impl FnMut(FeedError)) -> Result<Arc<Preloaded>, SourceError> {
        let held = Arc::new(Preloaded::read(&mut *self.files(None)?, on_fault));
        self.preloaded = Some(Arc::clone(&held));
        Ok(held)
    }

    /// All that the files have, from the beginning or from where the market as of a moment can be had.
    fn files(&self, at: Option<Timestamp>) -> Result<Box<dyn Feed>, SourceError> {
        if let Some(held) = &self.preloaded {
            return Ok(Box::new(held.play()));
        }
        let open = |path: &PathBuf| match at {
            Some(at) => open_at(path, &self.options, at),
            None => open(path, &self.options),
        };
        let feeds: Result<Vec<_>, OpenError> = self.paths.iter().map(open).collect();
        let mut feeds = feeds.map_err(|error| SourceError(error.to_string()))?;
        Ok(if feeds.len() == 1 { feeds.remove(0) } else { Box::new(Merged::new(feeds)) })
    }

    /// What is played of them, once.
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

    /// `None` where only reading all of it would tell.
    fn indexed_span(&self) -> Option<Span> {
        // What is left of them, nobody knows beforehand.
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
        // What comes before the start is not left out here: it makes the market what it is at the start.
        let mut feed = self.once(at, None)?;
        if self.looped {
            let again = self.clone();
            feed = Box::new(Looped::after(feed, move || again.once(None, again.start)));
        }
        // Around the loop, which would begin anew where a record ends.
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

    /// Of `.tape` files with an index it is known without reading them; with a start or an end, what that leaves of it.
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
                // Whoever plays it hears of what cannot be read.
                Err(_) => {}
            }
        }
    }

    fn is_looped(&self) -> bool {
        self.looped
    }
}
