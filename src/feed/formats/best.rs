use crate::market::{InstrumentId, QuoteValues};
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;

/// Folds the quotes of several venues to the best bid and offer over all of them: the highest bid and the
/// lowest ask of any venue, each with the sum of the sizes at that price. Venues may cross each other; that
/// is kept.
#[derive(Debug, Default)]
pub(super) struct BestQuotes(FxHashMap<InstrumentId, Venues>);

#[derive(Debug, Default)]
struct Venues {
    /// The newest quote of each venue. They are few, so a list is faster than a table.
    quotes: Vec<(Box<[u8]>, QuoteValues)>,
    told: QuoteValues,
}

impl BestQuotes {
    /// Takes a venue's newest quote; returns the best one if it changed.
    pub(super) fn fold(&mut self, id: InstrumentId, venue: &[u8], quote: QuoteValues) -> Option<QuoteValues> {
        let venues = self.0.entry(id).or_default();
        match venues.quotes.iter_mut().find(|(known, _)| &**known == venue) {
            Some((_, known)) => *known = quote,
            None => venues.quotes.push((venue.into(), quote)),
        }
        let sides = venues.quotes.iter().map(|(_, quote)| quote);
        let (bid, bid_size) = best(sides.clone().map(|q| (q.bid, q.bid_size)), |price, best| price > best);
        let (ask, ask_size) = best(sides.map(|q| (q.ask, q.ask_size)), |price, best| price < best);
        let now = QuoteValues { bid, bid_size, ask, ask_size };
        (venues.told != now).then(|| {
            venues.told = now;
            now
        })
    }
}

fn best(
    side: impl Iterator<Item = (Option<Decimal>, Decimal)>,
    is_better: impl Fn(Decimal, Decimal) -> bool,
) -> (Option<Decimal>, Decimal) {
    side.fold((None, Decimal::ZERO), |(best, sum), (price, size)| match (price, best) {
        (None, _) => (best, sum),
        (Some(price), Some(best)) if price == best => (Some(best), sum.saturating_add(size)),
        (Some(price), Some(best)) if !is_better(price, best) => (Some(best), sum),
        (Some(_), _) => (price, size),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn quote(bid: u8, ask: u8) -> QuoteValues {
        let price = |price: u8| (price > 0).then(|| price.into());
        QuoteValues { bid: price(bid), bid_size: 2.into(), ask: price(ask), ask_size: 3.into() }
    }

    fn show(best: Option<QuoteValues>) -> String {
        let price = |price: Option<Decimal>| price.map_or_else(|| "-".to_owned(), |price| price.to_string());
        best.map_or_else(
            || "the same".to_owned(),
            |q| format!("{} x {} / {} x {}", price(q.bid), q.bid_size, price(q.ask), q.ask_size),
        )
    }

    #[test]
    fn the_best_of_the_venues_is_told_when_it_changes() {
        let mut best = BestQuotes::default();
        let mut fold =
            |venue, bid, ask| show(best.fold(InstrumentId(0), str::as_bytes(venue), quote(bid, ask)));
        assert_eq!(fold("N", 10, 12), "10 x 2 / 12 x 3");
        assert_eq!(fold("P", 9, 13), "the same");
        assert_eq!(fold("T", 10, 11), "10 x 4 / 11 x 3");
        assert_eq!(fold("N", 0, 12), "10 x 2 / 11 x 3", "a venue without a bid has none");
        assert_eq!(fold("T", 0, 0), "9 x 2 / 12 x 3");
        assert_eq!(fold("P", 14, 13), "14 x 2 / 12 x 3", "crossed venues are kept");
    }

    proptest! {
        #[test]
        fn it_is_what_a_look_at_all_newest_quotes_gives(history in prop::collection::vec((0..4_u8, 0..5_u8, 0..5_u8), 0..50)) {
            let (mut best, mut newest, mut told) = (BestQuotes::default(), BTreeMap::new(), QuoteValues::default());
            for (venue, bid, ask) in history {
                newest.insert(venue, (bid, ask));
                told = best.fold(InstrumentId(7), &[venue], quote(bid, ask)).unwrap_or(told);
                let bid = newest.values().map(|q| q.0).filter(|&p| p > 0).max();
                let ask = newest.values().map(|q| q.1).filter(|&p| p > 0).min();
                prop_assert_eq!((told.bid, told.ask), (bid.map(Decimal::from), ask.map(Decimal::from)));
                let at_bid = newest.values().filter(|q| Some(q.0) == bid).count();
                prop_assert_eq!(told.bid_size, Decimal::from(2 * at_bid));
            }
        }
    }
}
