use crate::market::Side;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// The orders of one instrument, one by one, folded to the best bid and ask. Prices and sizes are in the
/// units of the stream.
///
/// Its memory is proportional to the stream's open orders.
#[derive(Debug, Default)]
pub(super) struct OrderBook {
    orders: FxHashMap<u64, Order>,
    /// Size by price, the sum of the orders there; `asks` likewise.
    bids: BTreeMap<i64, u64>,
    asks: BTreeMap<i64, u64>,
    /// Whether the stream is known from its beginning or a snapshot, so that every open order is known.
    is_whole: bool,
    told: Top,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) side: Side,
    pub(super) price: i64,
    pub(super) size: u64,
}

/// The best bid and ask: price and size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Top {
    pub(super) bid: Option<(i64, u64)>,
    pub(super) ask: Option<(i64, u64)>,
}

impl OrderBook {
    /// Empties it; the stream states all orders from here on.
    pub(super) fn begin(&mut self) {
        self.orders.clear();
        self.bids.clear();
        self.asks.clear();
        self.is_whole = true;
    }

    /// Empties it after something was missed: the orders to come are not all.
    pub(super) fn lose(&mut self) {
        self.begin();
        self.is_whole = false;
    }

    /// Marks it as complete: the orders being added are all, as those of a snapshot.
    pub(super) fn make_whole(&mut self) {
        self.is_whole = true;
    }

    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// Adds an order; replaces one of the same id.
    pub(super) fn add(&mut self, id: u64, order: Order) {
        self.remove(id);
        if order.size == 0 {
            return;
        }
        let Some(levels) = self.levels(order.side) else { return };
        let level = levels.entry(order.price).or_default();
        *level = level.saturating_add(order.size);
        self.orders.insert(id, order);
    }

    /// Reduces an order, and removes it when nothing is left; returns the order as it was, or `None` for an
    /// unknown id.
    pub(super) fn reduce(&mut self, id: u64, by: u64) -> Option<Order> {
        let before = self.remove(id)?;
        if before.size > by {
            self.add(id, Order { size: before.size - by, ..before });
        }
        Some(before)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Order> {
        let order = self.orders.remove(&id)?;
        let levels = self.levels(order.side)?;
        let level = levels.get_mut(&order.price)?;
        *level = level.saturating_sub(order.size);
        if *level == 0 {
            levels.remove(&order.price);
        }
        Some(order)
    }

    /// Removes all orders of a side.
    pub(super) fn clear_side(&mut self, side: Side) {
        self.orders.retain(|_, order| order.side != side);
        if let Some(levels) = self.levels(side) {
            levels.clear();
        }
    }

    /// The best bid and ask, where they are others than when this was last asked.
    pub(super) fn changed(&mut self) -> Option<Top> {
        let level = |(&price, &size): (&i64, &u64)| (price, size);
        let now =
            Top { bid: self.bids.last_key_value().map(level), ask: self.asks.first_key_value().map(level) };
        (self.told != now).then(|| {
            self.told = now;
            now
        })
    }

    fn levels(&mut self, side: Side) -> Option<&mut BTreeMap<i64, u64>> {
        match side {
            Side::Buy => Some(&mut self.bids),
            Side::Sell => Some(&mut self.asks),
            Side::None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Add(u64, bool, i64, u64),
        Reduce(u64, u64),
        Remove(u64),
        ClearSide(bool),
    }

    fn side(is_bid: bool) -> Side {
        if is_bid { Side::Buy } else { Side::Sell }
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..20_u64, any::<bool>(), -5..5_i64, 0..9_u64).prop_map(|(id, bid, price, size)| Op::Add(id, bid, price, size)),
            2 => (0..20_u64, 0..9_u64).prop_map(|(id, by)| Op::Reduce(id, by)),
            1 => (0..20_u64).prop_map(Op::Remove),
            1 => any::<bool>().prop_map(Op::ClearSide),
        ]
    }

    proptest! {
        #[test]
        fn its_top_is_that_of_all_orders_that_stand(ops in prop::collection::vec(op(), 0..200)) {
            let (mut book, mut model, mut told) = (OrderBook::default(), FxHashMap::default(), Top::default());
            for op in ops {
                match op {
                    Op::Add(id, is_bid, price, size) => {
                        let order = Order { side: side(is_bid), price, size };
                        book.add(id, order);
                        model.insert(id, order);
                        model.retain(|_, order| order.size > 0);
                    }
                    Op::Reduce(id, by) => {
                        prop_assert_eq!(book.reduce(id, by), model.get(&id).copied());
                        if let Some(order) = model.get_mut(&id) {
                            order.size = order.size.saturating_sub(by);
                        }
                        model.retain(|_, order| order.size > 0);
                    }
                    Op::Remove(id) => prop_assert_eq!(book.remove(id), model.remove(&id)),
                    Op::ClearSide(is_bid) => {
                        book.clear_side(side(is_bid));
                        model.retain(|_, order| order.side != side(is_bid));
                    }
                }
                let best = |side: Side, pick: fn(i64, i64) -> i64| {
                    let of_side = || model.values().filter(move |order| order.side == side);
                    let price = of_side().map(|order| order.price).reduce(pick)?;
                    Some((price, of_side().filter(|order| order.price == price).map(|order| order.size).sum()))
                };
                let top = Top { bid: best(Side::Buy, i64::max), ask: best(Side::Sell, i64::min) };
                prop_assert_eq!(book.changed(), (top != told).then_some(top));
                told = top;
            }
        }
    }
}
