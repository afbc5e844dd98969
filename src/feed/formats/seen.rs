use crate::market::InstrumentId;
use rustc_hash::FxHashSet;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

/// A venue's id of a trade: a number, or a text such as a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TradeId(u64);

impl TradeId {
    pub(super) fn number(number: u64) -> Self {
        Self(number)
    }

    /// A text of digits is the number.
    pub(super) fn text(text: &str) -> Self {
        Self(text.parse().unwrap_or_else(|_| {
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            hasher.finish()
        }))
    }
}

/// The newest trades of each instrument by their ids. After a reconnect a venue repeats its last trades, and
/// two connections repeat all of them: they count once.
#[derive(Debug, Default)]
pub(super) struct SeenTrades(Vec<Window>);

#[derive(Debug, Default)]
struct Window {
    /// In order of arrival.
    order: VecDeque<u64>,
    ids: FxHashSet<u64>,
}

/// Trades of an instrument that are remembered. Venues repeat at most a thousand.
const REMEMBERED: usize = 1024;

impl SeenTrades {
    /// Remembers a trade; false if it is known already.
    pub(super) fn is_new(&mut self, instrument: InstrumentId, TradeId(id): TradeId) -> bool {
        let index = instrument.index();
        if self.0.len() <= index {
            self.0.resize_with(index + 1, Window::default);
        }
        let Window { order, ids } = &mut self.0[index];
        if !ids.insert(id) {
            return false;
        }
        if order.len() == REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            ids.remove(&oldest);
        }
        order.push_back(id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trade_is_new_once_for_each_instrument() {
        let mut seen = SeenTrades::default();
        let (a, b) = (InstrumentId(0), InstrumentId(7));
        assert!(seen.is_new(a, TradeId::number(5)));
        assert!(!seen.is_new(a, TradeId::text("5")));
        assert!(seen.is_new(b, TradeId::number(5)));
        assert!(seen.is_new(a, TradeId::text("d5bf24f3-6edc-4dbb-9ee3-b9bc7ee74d83")));
        assert!(!seen.is_new(a, TradeId::text("d5bf24f3-6edc-4dbb-9ee3-b9bc7ee74d83")));
        assert!(seen.is_new(a, TradeId::text("d5bf24f3-6edc-4dbb-9ee3-b9bc7ee74d84")));
    }

    #[test]
    fn only_the_newest_are_remembered() {
        let mut seen = SeenTrades::default();
        let of = |id| (InstrumentId(0), TradeId::number(id));
        let mut is_new = |(instrument, id)| seen.is_new(instrument, id);
        for id in 0..=1024 {
            assert!(is_new(of(id)));
        }
        assert!(!is_new(of(1)), "it is among the newest 1024");
        assert!(is_new(of(0)), "it is not");
    }
}
