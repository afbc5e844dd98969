use std::fmt;

/// Well-formed records that hold nothing for a tape, by name and count: streams, channels, kinds of messages.
///
/// A file may use any number of names, so only some are kept; the others are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    kinds: Vec<Kind>,
    others: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Kind {
    /// Its origin: a venue, a form.
    of: &'static str,
    name: String,
    count: u64,
}

/// Most names that are kept.
const MOST: usize = 40;
/// Most characters of each.
const LONGEST: usize = 60;

impl LeftOut {
    /// Counts one of a kind.
    pub fn add(&mut self, of: &'static str, name: &str) {
        self.add_many(of, name, 1);
    }

    pub fn add_many(&mut self, of: &'static str, name: &str, count: u64) {
        if count == 0 {
            return;
        }
        let name = name.char_indices().nth(LONGEST).map_or(name, |(end, _)| &name[..end]);
        if let Some(known) = self.kinds.iter_mut().find(|kind| kind.of == of && kind.name == name) {
            known.count += count;
        } else if self.kinds.len() < MOST {
            self.kinds.push(Kind { of, name: name.to_owned(), count });
        } else {
            self.others += count;
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        for Kind { of, name, count } in &other.kinds {
            self.add_many(of, name, *count);
        }
        self.others += other.others;
    }

    #[must_use]
    pub fn total(&self) -> u64 {
        self.others + self.kinds.iter().map(|kind| kind.count).sum::<u64>()
    }

    /// Each kind with its count, the most frequent first; the unnamed rest comes last.
    #[must_use]
    pub fn by_name(&self) -> Vec<(String, u64)> {
        let mut named: Vec<_> = self
            .kinds
            .iter()
            .map(|kind| (format!("{} {}", kind.of, kind.name).trim().to_owned(), kind.count))
            .collect();
        named.sort_by(|(a, one), (b, other)| other.cmp(one).then_with(|| a.cmp(b)));
        named.extend((self.others > 0).then(|| ("others".to_owned(), self.others)));
        named
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, count)) in self.by_name().iter().enumerate() {
            write!(f, "{}{name} ({count})", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_by_name_the_most_frequent_first() {
        let mut left_out = LeftOut::default();
        left_out.add("Kraken", "ohlc");
        left_out.add_many("OKX", "tickers", 3);
        left_out.add("Kraken", "ohlc");
        left_out.add("OKX", "ohlc");
        assert_eq!(left_out.to_string(), "OKX tickers (3), Kraken ohlc (2), OKX ohlc (1)");
        assert_eq!(left_out.total(), 6);
    }

    #[test]
    fn names_beyond_the_most_are_counted_together_and_long_ones_cut() {
        let mut left_out = LeftOut::default();
        for n in 0..100 {
            left_out.add("X", &n.to_string());
        }
        let long = "ä".repeat(500);
        let mut other = LeftOut::default();
        other.add("", &long);
        left_out.merge(&other);
        assert_eq!(left_out.total(), 101);
        assert_eq!(left_out.by_name().len(), MOST + 1);
        assert_eq!(left_out.by_name().last().unwrap(), &("others".to_owned(), 61));
        assert_eq!(other.by_name()[0].0.chars().count(), LONGEST);
    }
}
