use super::number::{MAX_SCALE, decimals};
use super::{
    Conditions, Event, Instrument, InstrumentId, NumberError, Price, Quote, Side, Size, Symbol, Timestamp,
    Trade,
};
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// All instruments of one tape, and the door by which decimal prices become units.
///
/// Whatever changes here is told in `out` first, so that the tape defines before it uses. A price with
/// more decimals than its instrument had makes the scale finer; nothing is ever rounded.
#[derive(Clone, Debug, Default)]
pub struct Instruments {
    list: Vec<Arc<Instrument>>,
    by_symbol: FxHashMap<Symbol, InstrumentId>,
}

/// A quote as the outside states it; a side without a price is empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuoteValues {
    pub bid: Option<Decimal>,
    pub bid_size: Decimal,
    pub ask: Option<Decimal>,
    pub ask_size: Decimal,
}

impl Instruments {
    #[must_use]
    pub fn get(&self, id: InstrumentId) -> Option<&Arc<Instrument>> {
        self.list.get(id.index())
    }

    #[must_use]
    pub fn by_symbol(&self, symbol: &str) -> Option<&Arc<Instrument>> {
        self.by_symbol.get(symbol).and_then(|&id| self.get(id))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Instrument>> {
        self.list.iter()
    }

    /// Takes reference data over: under the number the symbol already has, or a new one (`definition.id` is
    /// not read). Scales only ever become finer, because prices in the old units are on the tape already.
    pub fn define(&mut self, definition: Instrument, out: &mut Vec<Event>) -> InstrumentId {
        let Some(known) = self.by_symbol(definition.symbol.as_str()) else {
            let id = InstrumentId(u32::try_from(self.list.len()).expect("under 2^32 instruments"));
            self.by_symbol.insert(definition.symbol.clone(), id);
            self.list.push(Arc::new(Instrument { id, ..definition }));
            out.push(Event::Instrument(Arc::clone(&self.list[id.index()])));
            return id;
        };
        let id = known.id;
        let mut definition = definition.refined(
            known.price_scale.saturating_sub(definition.price_scale),
            known.size_scale.saturating_sub(definition.size_scale),
        );
        if !known.anchor.is_none() {
            definition.anchor = known.anchor.refined(definition.price_scale - known.price_scale);
        }
        self.replace(Instrument { id, ..definition }, out);
        id
    }

    /// The instrument of that name, created where it is unknown.
    pub fn intern(&mut self, symbol: &Symbol, out: &mut Vec<Event>) -> InstrumentId {
        match self.by_symbol.get(symbol) {
            Some(&id) => id,
            None => self.define(Instrument::unknown(symbol.clone()), out),
        }
    }

    /// A quote in units. `out` gets the definition first where a scale had to become finer; the event itself is
    /// the caller's to push.
    ///
    /// # Errors
    /// [`NumberError`] where a number is negative, too large, or finer than any scale; the quote is not taken.
    pub fn quote(
        &mut self,
        id: InstrumentId,
        values: &QuoteValues,
        (ts_event, ts_recv): (Timestamp, Timestamp),
        out: &mut Vec<Event>,
    ) -> Result<Quote, NumberError> {
        let sides = [values.bid, values.ask];
        self.fit(id, sides.into_iter().flatten(), [values.bid_size, values.ask_size], out)?;
        let Instrument { price_scale, size_scale, .. } = *self.list[id.index()];
        let side = |price: Option<Decimal>, size| match price {
            None => Ok((Price::NONE, Size::ZERO)),
            Some(p) => Ok((Price::from_decimal(p, price_scale)?, Size::from_decimal(size, size_scale)?)),
        };
        let (bid, bid_size) = side(values.bid, values.bid_size)?;
        let (ask, ask_size) = side(values.ask, values.ask_size)?;
        Ok(Quote { bid, bid_size, ask, ask_size, ts_event, ts_recv })
    }

    /// A trade in units; as [`Self::quote`].
    ///
    /// # Errors
    /// As [`Self::quote`].
    pub fn trade(
        &mut self,
        id: InstrumentId,
        (price, size): (Decimal, Decimal),
        (side, conditions): (Side, Conditions),
        (ts_event, ts_recv): (Timestamp, Timestamp),
        out: &mut Vec<Event>,
    ) -> Result<Trade, NumberError> {
        self.fit(id, [price], [size], out)?;
        let Instrument { price_scale, size_scale, .. } = *self.list[id.index()];
        Ok(Trade {
            price: Price::from_decimal(price, price_scale)?,
            size: Size::from_decimal(size, size_scale)?,
            side,
            conditions,
            ts_event,
            ts_recv,
        })
    }

    /// Makes the scales fine enough for these numbers, and gives the instrument its anchor with its first price.
    fn fit(
        &mut self,
        id: InstrumentId,
        prices: impl IntoIterator<Item = Decimal, IntoIter: Clone>,
        sizes: impl IntoIterator<Item = Decimal>,
        out: &mut Vec<Event>,
    ) -> Result<(), NumberError> {
        let known = &self.list[id.index()];
        let mut price_scale = known.price_scale;
        let mut size_scale = known.size_scale;
        let prices = prices.into_iter();
        for price in prices.clone() {
            if price.scale() > u32::from(price_scale) {
                price_scale = price_scale.max(decimals(price));
            }
        }
        for size in sizes {
            if size.is_sign_negative() && !size.is_zero() {
                return Err(NumberError::Negative { value: size });
            }
            if size.scale() > u32::from(size_scale) {
                size_scale = size_scale.max(decimals(size));
            }
            if size_scale > MAX_SCALE {
                return Err(NumberError::TooPrecise { value: size, scale: MAX_SCALE });
            }
            Size::from_decimal(size, size_scale)?;
        }
        let mut first = None;
        for price in prices {
            if price_scale > MAX_SCALE {
                return Err(NumberError::TooPrecise { value: price, scale: MAX_SCALE });
            }
            first = first.or(Some(Price::from_decimal(price, price_scale)?));
        }
        let finer = price_scale > known.price_scale || size_scale > known.size_scale;
        if !finer && (first.is_none() || !known.anchor.is_none()) {
            return Ok(());
        }
        let refined = known.refined(price_scale - known.price_scale, size_scale - known.size_scale);
        // A finer scale must still hold the prices already out, of which the anchor stands for all.
        if finer && refined.anchor.units() == super::MAX_UNITS {
            let value = known.anchor.to_decimal(known.price_scale).unwrap_or_default();
            return Err(NumberError::OutOfRange { value, scale: price_scale });
        }
        let anchor = refined.anchor.some().or(first).unwrap_or(Price::NONE);
        // The grid of an instrument made up on first sight is as fine as the prices seen so far.
        let tick_size = if known.tick_size == 1 { 1 } else { refined.tick_size };
        self.replace(Instrument { tick_size, anchor, ..refined }, out);
        Ok(())
    }

    fn replace(&mut self, definition: Instrument, out: &mut Vec<Event>) {
        let slot = &mut self.list[definition.id.index()];
        if **slot != definition {
            *slot = Arc::new(definition);
            out.push(Event::Instrument(Arc::clone(slot)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::parse_decimal;

    const NOW: (Timestamp, Timestamp) = (Timestamp::from_nanos(1), Timestamp::from_nanos(2));

    fn trade(
        instruments: &mut Instruments,
        price: &str,
        size: &str,
        out: &mut Vec<Event>,
    ) -> Result<Trade, NumberError> {
        let id = instruments.intern(&Symbol::new("X").unwrap(), out);
        let numbers = (parse_decimal(price).unwrap(), parse_decimal(size).unwrap());
        instruments.trade(id, numbers, (Side::Buy, Conditions::default()), NOW, out)
    }

    #[test]
    fn an_unknown_symbol_gets_the_scales_of_its_numbers() {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        let got = trade(&mut instruments, "0.00042500", "12.50", &mut out).unwrap();
        let x = instruments.by_symbol("X").unwrap();
        assert_eq!((x.price_scale, x.size_scale, x.anchor), (6, 1, Price::new(425)));
        assert_eq!((got.price, got.size), (Price::new(425), Size::new(125)));
        assert_eq!(out.len(), 2, "defined once by name, once with scales: {out:?}");
    }

    #[test]
    fn a_finer_price_refines_the_instrument_before_it_is_used() {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        trade(&mut instruments, "159.40", "1", &mut out).unwrap();
        out.clear();
        let got = trade(&mut instruments, "159.3988", "1", &mut out).unwrap();
        assert_eq!(got.price, Price::new(1_593_988));
        let Event::Instrument(x) = &out[0] else { panic!("{out:?}") };
        assert_eq!((x.price_scale, x.anchor), (4, Price::new(1_594_000)));
    }

    #[test]
    fn numbers_that_fit_no_scale_leave_everything_as_it_was() {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        trade(&mut instruments, "9000000000", "1", &mut out).unwrap();
        let before = instruments.by_symbol("X").cloned();
        for (price, size) in [("0.0000000001", "1"), ("1", "-1"), ("1e-19", "1"), ("1e17", "1")] {
            assert!(trade(&mut instruments, price, size, &mut Vec::new()).is_err(), "{price} {size}");
        }
        assert_eq!(instruments.by_symbol("X").cloned(), before);
    }
}
