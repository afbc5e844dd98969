use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Cells that readers corrected, counted by file and kind, with the first place of each. Clones share their
/// counts, so that the code that opened the files can read them.
#[derive(Clone, Debug, Default)]
pub struct Mends {
    all: Arc<Mutex<BTreeMap<(String, Mend), Mended>>>,
    is_logged: bool,
}

/// A kind of correction. The value is as exact as the record had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Mend {
    /// `1.0850000000000002` is 1.085: a residue of computing in binary floats.
    Noise,
    /// More decimals than an instrument can have.
    Rounded,
    /// Conditions that do not fit in four characters: the codes that do are kept, or none.
    Conditions,
    /// A date and time without a zone, in a form whose zone is unknown.
    Zone,
}

/// How often, and where first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mended {
    pub count: u64,
    /// Such as `line 2, bid: 1.0850000000000002 is read as 1.085`.
    pub first: String,
}

impl Mend {
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Noise => "with the noise of binary floats, rounded",
            Self::Rounded => "with more decimals than fit, rounded",
            Self::Conditions => "of conditions that do not fit, shortened",
            Self::Zone => "of times without a zone, all read as UTC (--time-zone says another)",
        }
    }
}

impl Mends {
    /// For a caller that does not read them: the first of each kind goes to the log.
    #[must_use]
    pub fn logged() -> Self {
        Self { is_logged: true, ..Self::default() }
    }

    /// Counts one; `first` is called only for the first of its kind in that file.
    pub fn add(&self, file: &str, mend: Mend, first: impl FnOnce() -> String) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, mended)) = all.iter_mut().find(|((of, kind), _)| of == file && *kind == mend) {
            mended.count += 1;
            return;
        }
        let first = first();
        if self.is_logged {
            tracing::warn!("{file}: cells {}; first in {first}", mend.name());
        }
        all.insert((file.to_owned(), mend), Mended { count: 1, first });
    }

    /// Everything so far: file, kind, how often and where.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Mend, Mended)> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|((file, mend), mended)| (file.clone(), *mend, mended.clone())).collect()
    }
}

impl fmt::Display for Mends {
    /// A line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (file, mend, Mended { count, first })) in self.all().iter().enumerate() {
            let end = if at == 0 { "" } else { "\n" };
            let cells = if *count == 1 { "cell" } else { "cells" };
            write!(f, "{end}{file}: {count} {cells} {}; first in {first}", mend.name())?;
        }
        Ok(())
    }
}
