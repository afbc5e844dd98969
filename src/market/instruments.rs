use super::number::{MAX_PRICE_UNITS, MAX_UNITS, decimals};
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
    /// Per instrument, what a finer scale must still hold.
    largest: Vec<Largest>,
    by_symbol: FxHashMap<Symbol, InstrumentId>,
}

/// The largest numbers that an instrument has on the tape, in units, without their signs.
#[derive(Clone, Copy, Debug, Default)]
struct Largest {
    price: i64,
    /// Of a single size, or of all that was ever traded, since volumes are summed up.
    size: i64,
}

/// The finest scales that an instrument gets from its numbers alone; finer ones are for its definition to ask. So one absurd number
/// does not leave it without room for ordinary ones.
const FINEST_PRICE: u8 = 10;
const FINEST_SIZE: u8 = 8;

/// A quote as the outside states it; a side without a price is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

    /// Whether everything an instrument has on the tape fits these scales too.
    #[must_use]
    pub fn can_hold(&self, id: InstrumentId, price_scale: u8, size_scale: u8) -> bool {
        let (Some(known), Some(largest)) = (self.get(id), self.largest.get(id.index())) else { return false };
        let fits = |units: i64, from: u8, to: u8, max: i64| {
            let factor = 10_i64.checked_pow(u32::from(to.saturating_sub(from)));
            factor.and_then(|f| units.checked_mul(f)).is_some_and(|units| units <= max)
        };
        fits(largest.price, known.price_scale, price_scale, MAX_PRICE_UNITS)
            && fits(largest.size, known.size_scale, size_scale, MAX_UNITS)
    }

    /// Takes reference data over: under the number the symbol already has, or a new one (`definition.id` is
    /// not read). Scales only ever become finer, because prices in the old units are on the tape already; and where what is there
    /// could not be held any more ([`Self::can_hold`]), all numbers of the definition are left as they were known.
    pub fn define(&mut self, definition: Instrument, out: &mut Vec<Event>) -> InstrumentId {
        let Some(known) = self.by_symbol(definition.symbol.as_str()) else {
            let id = InstrumentId(u32::try_from(self.list.len()).expect("under 2^32 instruments"));
            self.by_symbol.insert(definition.symbol.clone(), id);
            self.largest.push(Largest::default());
            self.list.push(Arc::new(Instrument { id, ..definition }));
            self.note_reference(id);
            out.push(Event::Instrument(Arc::clone(&self.list[id.index()])));
            return id;
        };
        let id = known.id;
        if !self.can_hold(id, definition.price_scale, definition.size_scale) {
            let Instrument { name, sector, currency, .. } = definition;
            let kept = Instrument { name, sector, currency, ..(**known).clone() };
            self.replace(kept, out);
            return id;
        }
        let mut definition = definition.refined(
            known.price_scale.saturating_sub(definition.price_scale),
            known.size_scale.saturating_sub(definition.size_scale),
        );
        if !known.anchor.is_none() {
            definition.anchor = known.anchor.refined(definition.price_scale - known.price_scale);
        }
        self.replace(Instrument { id, ..definition }, out);
        self.note_reference(id);
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
        // The size of an empty side means nothing.
        let sides = [(values.bid, values.bid_size), (values.ask, values.ask_size)];
        let there = sides.into_iter().filter_map(|(price, size)| price.map(|price| (price, size)));
        self.fit(id, there, out)?;
        let [(bid, bid_size), (ask, ask_size)] = sides.map(|(price, size)| match price {
            None => (Price::NONE, Size::ZERO),
            Some(price) => self.units(id, price, size),
        });
        self.note(id, bid, bid_size.max(ask_size));
        self.note(id, ask, Size::ZERO);
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
        self.fit(id, [(price, size)].into_iter(), out)?;
        let (price, size) = self.units(id, price, size);
        let traded = Size::new(self.largest[id.index()].size).plus(size);
        self.note(id, price, traded);
        Ok(Trade { price, size, side, conditions, ts_event, ts_recv })
    }

    /// Makes the scales fine enough for these prices and sizes, and gives the instrument its anchor with its first price. Changes
    /// nothing where one of them cannot be held.
    fn fit(
        &mut self,
        id: InstrumentId,
        numbers: impl Iterator<Item = (Decimal, Decimal)> + Clone,
        out: &mut Vec<Event>,
    ) -> Result<(), NumberError> {
        let known = &self.list[id.index()];
        let finest = |value: Decimal, known: u8, finest: u8| {
            if value.scale() <= u32::from(known) {
                return Ok(known);
            }
            let needed = decimals(value);
            let limit = finest.max(known);
            if needed > limit { Err(NumberError::TooPrecise { value, scale: limit }) } else { Ok(needed) }
        };
        let (mut price_scale, mut size_scale) = (known.price_scale, known.size_scale);
        for (price, size) in numbers.clone() {
            price_scale = price_scale.max(finest(price, known.price_scale, FINEST_PRICE)?);
            size_scale = size_scale.max(finest(size, known.size_scale, FINEST_SIZE)?);
        }
        let mut first = None;
        for (price, size) in numbers {
            let price = Price::from_decimal(price, price_scale)?;
            first = first.or(Some(price));
            Size::from_decimal(size, size_scale)?;
        }
        let finer = price_scale > known.price_scale || size_scale > known.size_scale;
        if !finer && (first.is_none() || !known.anchor.is_none()) {
            return Ok(());
        }
        if !self.can_hold(id, price_scale, size_scale) {
            let largest = self.largest[id.index()];
            let price = Decimal::new(largest.price, u32::from(known.price_scale));
            let size = Decimal::new(largest.size, u32::from(known.size_scale));
            return Err(if price_scale > known.price_scale {
                NumberError::OutOfRange { value: price, scale: price_scale }
            } else {
                NumberError::OutOfRange { value: size, scale: size_scale }
            });
        }
        let refined = known.refined(price_scale - known.price_scale, size_scale - known.size_scale);
        let anchor = refined.anchor.some().or(first).unwrap_or(Price::NONE);
        // The grid of an instrument made up on first sight is as fine as the prices seen so far.
        let tick_size = if known.tick_size == 1 { 1 } else { refined.tick_size };
        self.replace(Instrument { tick_size, anchor, ..refined }, out);
        Ok(())
    }

    /// Numbers that [`Self::fit`] has let through, in units.
    fn units(&self, id: InstrumentId, price: Decimal, size: Decimal) -> (Price, Size) {
        let Instrument { price_scale, size_scale, .. } = *self.list[id.index()];
        let fits = "fit has made it so";
        (
            Price::from_decimal(price, price_scale).expect(fits),
            Size::from_decimal(size, size_scale).expect(fits),
        )
    }

    fn note(&mut self, id: InstrumentId, price: Price, size: Size) {
        let largest = &mut self.largest[id.index()];
        largest.price = largest.price.max(price.some().map_or(0, |price| price.units().abs()));
        largest.size = largest.size.max(size.units());
    }

    /// Reference prices are on the tape as well.
    fn note_reference(&mut self, id: InstrumentId) {
        let Instrument { anchor, previous_close, .. } = *self.list[id.index()];
        self.note(id, anchor, Size::ZERO);
        self.note(id, previous_close, Size::ZERO);
    }

    fn replace(&mut self, definition: Instrument, out: &mut Vec<Event>) {
        let slot = &mut self.list[definition.id.index()];
        let largest = &mut self.largest[definition.id.index()];
        largest.price = Price::new(largest.price).refined(definition.price_scale - slot.price_scale).units();
        largest.size = Size::new(largest.size).refined(definition.size_scale - slot.size_scale).units();
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

    /// Trades of X, then one that must be refused and change nothing.
    #[track_caller]
    fn check_refused(before: &[(&str, &str)], (price, size): (&str, &str), reason: &str) {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        for (price, size) in before {
            trade(&mut instruments, price, size, &mut out).unwrap();
        }
        out.clear();
        assert_eq!(trade(&mut instruments, price, size, &mut out).unwrap_err().to_string(), reason);
        assert_eq!(out, [], "nothing is on the tape of what was refused");
    }

    #[test]
    fn a_finer_scale_that_could_not_hold_what_is_there_is_refused() {
        check_refused(
            &[("1", "1"), ("90000000", "1"), ("1", "1")],
            ("0.000000001", "1"),
            "90000000.00 cannot be held at 9 decimals",
        );
        // Volumes are sums: 60 million twice is more than 2^53 units of eight decimals.
        check_refused(
            &[("1", "60000000"), ("1", "60000000")],
            ("1", "0.00000001"),
            "120000000 cannot be held at 8 decimals",
        );
    }

    #[test]
    fn one_absurd_number_does_not_use_up_the_scale() {
        check_refused(
            &[("1", "1")],
            ("1", "0.000000000000000001"),
            "0.000000000000000001 has more than 8 decimals",
        );
        check_refused(&[("1", "1")], ("0.00000000001", "1"), "0.00000000001 has more than 10 decimals");
    }

    #[test]
    fn a_definition_cannot_ask_for_a_scale_that_does_not_hold_what_is_there() {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        trade(&mut instruments, "250.5", "1", &mut out).unwrap();
        let known = instruments.by_symbol("X").cloned().unwrap();
        let asked = Instrument { name: "Xenon".to_owned(), price_scale: 17, ..(*known).clone() };
        instruments.define(asked, &mut out);
        let now = instruments.by_symbol("X").unwrap();
        assert_eq!((now.price_scale, &*now.name), (2, "Xenon"));
    }

    #[test]
    fn the_size_of_an_empty_side_means_nothing() {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        let id = instruments.intern(&Symbol::new("X").unwrap(), &mut out);
        let values = QuoteValues { bid_size: parse_decimal("1e-18").unwrap(), ..QuoteValues::default() };
        let quote = instruments.quote(id, &values, NOW, &mut out).unwrap();
        assert_eq!((quote.bid_size, instruments.by_symbol("X").unwrap().size_scale), (Size::ZERO, 0));
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
