use crate::market::{Conditions, Side, Timestamp};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Trades by their number of the day, so that they can be broken: the newest [`Self::KEPT`].
#[derive(Default)]
pub(super) struct Prints {
    by_number: FxHashMap<u64, Traded>,
    order: VecDeque<u64>,
}

/// The trade of a number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Traded {
    Told(Print),
    /// It was not printable, and so no trade, or was broken already.
    Nothing,
}

/// One trade as it was emitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Print {
    pub(super) units: i64,
    pub(super) shares: u64,
    pub(super) side: Side,
    pub(super) conditions: Conditions,
    pub(super) time: Timestamp,
}

impl Prints {
    /// Some 80 MiB at the most. A stock exchange has a few million trades a day, and breaks most within
    /// minutes.
    const KEPT: usize = 1 << 20;

    pub(super) fn note(&mut self, number: u64, traded: Traded) {
        if self.by_number.insert(number, traded).is_some() {
            return;
        }
        self.order.push_back(number);
        if self.order.len() > Self::KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_number.remove(&oldest);
        }
    }

    /// Takes the trade of a number; `None` if it is not known.
    pub(super) fn take(&mut self, number: u64) -> Option<Traded> {
        self.by_number.get_mut(&number).map(|traded| std::mem::replace(traded, Traded::Nothing))
    }
}
