use super::number::{decimal, decimals, fits_scale, is_float_noise, narrow_units, power};
use super::{
    Conditions, Counts, Event, Instrument, InstrumentId, MAX_SCALE, NamedTrade, NamedTrades, NumberError,
    Price, Quote, Side, Size, Snapshot, Symbol, Timestamp, Trade,
};
use rust_decimal::Decimal;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// All instruments of one tape. Decimal prices become units only here.
///
/// Every change is appended to `out` first, so that the tape defines before it uses. A price with more
/// decimals than its instrument had makes the scale finer; nothing is ever rounded.
#[derive(Clone, Debug, Default)]
pub struct Instruments {
    list: Vec<Arc<Instrument>>,
    /// By instrument, what a finer scale must still hold.
    largest: Vec<Largest>,
    by_symbol: FxHashMap<Symbol, InstrumentId>,
    named_trades: NamedTrades,
}

/// The largest numbers that an instrument has on the tape, in units, without their signs.
#[derive(Clone, Copy, Debug, Default)]
struct Largest {
    price: i128,
    /// Of a single size, or of the sum of all trades, since volumes are sums.
    size: i128,
}

/// What an instrument needs to hold some prices and sizes in addition to those it has.
struct Needed<const N: usize> {
    price_scale: u8,
    size_scale: u8,
    /// The prices and sizes at these scales.
    units: [(Price, Size); N],
}

/// A price and its size. By reference: to copy numbers that were just written part by part, the processor has
/// to wait for them.
type Pair<'a> = (&'a Decimal, &'a Decimal);

/// Numbers finer than these that look like the noise of a binary float are rejected: hardly a venue has such
/// a price, and one of them would make all others as long.
const FINEST_PRICE: u8 = 10;
const FINEST_SIZE: u8 = 8;

/// A quote in decimals; a side without a price is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuoteValues {
    /// In the instrument's currency.
    pub bid: Option<Decimal>,
    /// Ignored without a bid.
    pub bid_size: Decimal,
    /// In the instrument's currency.
    pub ask: Option<Decimal>,
    /// Ignored without an ask.
    pub ask_size: Decimal,
}

impl QuoteValues {
    /// Price and size of each side that is not empty.
    #[inline]
    fn sides(&self) -> [Option<Pair<'_>>; 2] {
        [(&self.bid, &self.bid_size), (&self.ask, &self.ask_size)]
            .map(|(price, size)| price.as_ref().map(|price| (price, size)))
    }
}

impl Instruments {
    /// Trades that can be taken back by name.
    pub fn named_trades(&mut self) -> &mut NamedTrades {
        &mut self.named_trades
    }

    /// A copy with only one instrument and its trade of that name, if there are such: to try something out.
    #[must_use]
    pub fn alone(&self, symbol: &Symbol, trade: Option<&str>) -> Self {
        let mut alone = Self::default();
        let Some(known) = self.by_symbol(symbol.as_str()) else { return alone };
        let id = InstrumentId(0);
        alone.list.push(Arc::new(Instrument { id, ..(**known).clone() }));
        alone.largest.push(self.largest[known.id.index()]);
        alone.by_symbol.insert(symbol.clone(), id);
        if let Some(name) = trade
            && let Some(trade) = self.named_trades.find(known.id, name)
        {
            alone.named_trades.note(id, name, *trade);
        }
        alone
    }

    /// `None` if no instrument has this number.
    #[must_use]
    pub fn get(&self, id: InstrumentId) -> Option<&Arc<Instrument>> {
        self.list.get(id.index())
    }

    /// `None` if the symbol is unknown. It is compared byte for byte.
    #[must_use]
    pub fn by_symbol(&self, symbol: &str) -> Option<&Arc<Instrument>> {
        self.by_symbol.get(symbol).and_then(|&id| self.get(id))
    }

    /// The next new instrument's number.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nothing is defined yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// By number, from 0.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Instrument>> {
        self.list.iter()
    }

    /// Whether everything that an instrument has on the tape fits these scales, too.
    #[must_use]
    pub fn can_hold(&self, id: InstrumentId, price_scale: u8, size_scale: u8) -> bool {
        let (Some(known), Some(largest)) = (self.get(id), self.largest.get(id.index())) else { return false };
        let finer = |to: u8, from: u8| to.saturating_sub(from);
        largest.refined(finer(price_scale, known.price_scale), finer(size_scale, known.size_scale)).is_some()
    }

    /// Adopts reference data, under the number that the symbol already has or a new one (`definition.id` is
    /// not read). Scales only become finer, because prices in the old units are on the tape already. If a
    /// finer scale could not hold those ([`Self::can_hold`]), all numbers of the definition stay as they were
    /// known.
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

    /// The instrument of that symbol, created if it is unknown.
    pub fn intern(&mut self, symbol: &Symbol, out: &mut Vec<Event>) -> InstrumentId {
        match self.by_symbol.get(symbol) {
            Some(&id) => id,
            None => self.define(Instrument::unknown(symbol.clone()), out),
        }
    }

    /// A quote in units. `out` gets the definition first if a scale had to become finer; the caller pushes
    /// the event itself.
    ///
    /// # Errors
    /// [`NumberError`] if a number is negative, too large, or finer than any scale; nothing changes then.
    pub fn quote(
        &mut self,
        id: InstrumentId,
        values: &QuoteValues,
        (ts_event, ts_recv): (Timestamp, Timestamp),
        out: &mut Vec<Event>,
    ) -> Result<Quote, NumberError> {
        let [(bid, bid_size), (ask, ask_size)] = self.fit(id, values.sides(), false, out)?;
        Ok(Quote { bid, bid_size, ask, ask_size, ts_event, ts_recv })
    }

    /// [`Self::quote`] of a symbol. It is created if it is unknown and the quote is accepted: a rejected
    /// quote creates no symbol.
    ///
    /// # Errors
    /// As [`Self::quote`].
    pub fn quote_of(
        &mut self,
        symbol: &Symbol,
        values: &QuoteValues,
        times: (Timestamp, Timestamp),
        out: &mut Vec<Event>,
    ) -> Result<(InstrumentId, Quote), NumberError> {
        self.check_first(symbol, values.sides())?;
        let id = self.intern(symbol, out);
        Ok((id, self.quote(id, values, times, out)?))
    }

    /// [`Self::trade`] of a symbol; as [`Self::quote_of`].
    ///
    /// # Errors
    /// As [`Self::quote`].
    pub fn trade_of(
        &mut self,
        symbol: &Symbol,
        numbers: (Decimal, Decimal),
        kind: (Side, Conditions),
        times: (Timestamp, Timestamp),
        out: &mut Vec<Event>,
    ) -> Result<(InstrumentId, Trade), NumberError> {
        self.check_first(symbol, [Some((&numbers.0, &numbers.1))])?;
        let id = self.intern(symbol, out);
        Ok((id, self.trade(id, numbers, kind, times, out)?))
    }

    /// A trade in units that counts for everything; as [`Self::quote`].
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
        let [(price, size)] = self.fit(id, [Some((&price, &size))], true, out)?;
        Ok(Trade { price, size, side, conditions, counts: Counts::EVERYTHING, booked: 0, ts_event, ts_recv })
    }

    /// Appends to `out` that a trade is taken back, and what replaces it; before both, the definition if a
    /// scale had to become finer.
    ///
    /// # Errors
    /// As [`Self::quote`]; then neither is appended.
    pub fn take_back(
        &mut self,
        id: InstrumentId,
        was: &NamedTrade,
        is: Option<&NamedTrade>,
        arrival: Timestamp,
        out: &mut Vec<Event>,
    ) -> Result<(), NumberError> {
        let notice = self.named_trade(id, was, Counts::BREAK, arrival, out)?;
        let before = Arc::clone(&self.list[id.index()]);
        let correction =
            is.map(|is| self.named_trade(id, is, Counts::CORRECTION, arrival, out)).transpose()?;
        // The definition that a finer correction needs comes before both.
        let now = &self.list[id.index()];
        let digits = (now.price_scale - before.price_scale, now.size_scale - before.size_scale);
        out.push(Event::Trade(id, notice.refined(digits.0, digits.1)));
        out.extend(correction.map(|trade| Event::Trade(id, trade)));
        Ok(())
    }

    fn named_trade(
        &mut self,
        id: InstrumentId,
        &NamedTrade { price, size, side, conditions, counts, ts_event }: &NamedTrade,
        mark: Counts,
        arrival: Timestamp,
        out: &mut Vec<Event>,
    ) -> Result<Trade, NumberError> {
        let trade = self.trade(id, (price, size), (side, conditions), (ts_event, arrival), out)?;
        Ok(Trade { counts: counts.and(mark), ..trade })
    }

    /// Whether these numbers could be the first ones of an unknown symbol.
    fn check_first<const N: usize>(
        &self,
        symbol: &Symbol,
        numbers: [Option<Pair>; N],
    ) -> Result<(), NumberError> {
        if self.by_symbol.contains_key(symbol) {
            return Ok(());
        }
        needed_for(&Instrument::unknown(symbol.clone()), numbers).map(drop)
    }

    /// Records the numbers of a quote that is in units already.
    ///
    /// # Errors
    /// [`NumberError::TooLarge`]: then it must not be on the tape.
    pub fn hold_quote(&mut self, id: InstrumentId, quote: &Quote) -> Result<(), NumberError> {
        let largest = self.largest[id.index()];
        for (price, size) in [(quote.bid, quote.bid_size), (quote.ask, quote.ask_size)] {
            // A shortcut: this runs for every quote of a recording, and mostly there is nothing new.
            if !largest.covers(price, size) {
                size.check(self.list[id.index()].size_scale)?;
                self.note(id, price, size);
            }
        }
        Ok(())
    }

    /// Records the numbers of a trade that is in units already.
    ///
    /// # Errors
    /// [`NumberError::TooLarge`], or [`NumberError::Sum`] if the volume of its days and bars could not be
    /// held: then it must not be on the tape.
    pub fn hold_trade(&mut self, id: InstrumentId, trade: &Trade) -> Result<(), NumberError> {
        trade.size.check(self.list[id.index()].size_scale)?;
        match self.largest[id.index()].with_trade(Largest::of(trade.price, trade.size)) {
            Some(largest) => self.largest[id.index()] = largest,
            None => return Err(self.too_much(id)),
        }
        Ok(())
    }

    /// Records the numbers of a snapshot that is in units already.
    pub fn hold_snapshot(&mut self, id: InstrumentId, snapshot: &Snapshot) {
        if let Some(quote) = &snapshot.quote {
            self.note(id, quote.bid, quote.bid_size);
            self.note(id, quote.ask, quote.ask_size);
        }
        self.note(id, snapshot.previous_close, Size::ZERO);
        for trade in snapshot.trades.all().iter() {
            self.note(id, trade.price, trade.size);
        }
        let bars = [&snapshot.bars_1s, &snapshot.bars_1m].map(|bars| (bars.closed.all(), bars.latest));
        let closed = bars.iter().flat_map(|(closed, latest)| closed.iter().chain(latest));
        for bar in closed.chain(&snapshot.day) {
            self.note(id, bar.high, bar.volume);
            self.note(id, bar.low, Size::ZERO);
        }
    }

    /// Makes the scales fine enough for these prices and sizes, which are `traded` or quoted, and sets the
    /// instrument's anchor to its first price. Returns them in its units. Changes nothing if a number fits no
    /// scale.
    fn fit<const N: usize>(
        &mut self,
        id: InstrumentId,
        numbers: [Option<Pair>; N],
        traded: bool,
        out: &mut Vec<Event>,
    ) -> Result<[(Price, Size); N], NumberError> {
        let known = &self.list[id.index()];
        let Needed { price_scale, size_scale, units } = match narrow(known, numbers) {
            Some(units) => Needed { price_scale: known.price_scale, size_scale: known.size_scale, units },
            None => needed_for(known, numbers)?,
        };
        let added =
            units.iter().fold(Largest::default(), |sum, &(price, size)| sum.with(Largest::of(price, size)));
        let first = units.iter().find_map(|(price, _)| price.some());
        let digits = (price_scale - known.price_scale, size_scale - known.size_scale);
        let before = self.largest[id.index()];
        let refined = before.refined(digits.0, digits.1).ok_or_else(|| {
            let price = decimal(before.price, known.price_scale);
            let size = decimal(before.size, known.size_scale);
            if before.refined(digits.0, 0).is_none() {
                NumberError::OutOfRange { value: price, scale: price_scale }
            } else {
                NumberError::OutOfRange { value: size, scale: size_scale }
            }
        })?;
        let largest = if traded { refined.with_trade(added) } else { Some(refined.with(added)) };
        let largest = largest.ok_or_else(|| self.too_much(id))?;
        if digits != (0, 0) || (first.is_some() && known.anchor.is_none()) {
            let refined = known.refined(digits.0, digits.1);
            let anchor = refined.anchor.some().or(first).unwrap_or(Price::NONE);
            // The grid of an instrument without reference data is as fine as the prices seen so far.
            let tick_size = if known.tick_size == 1 { 1 } else { refined.tick_size };
            self.replace(Instrument { tick_size, anchor, ..refined }, out);
        }
        self.largest[id.index()] = largest;
        Ok(units)
    }

    fn too_much(&self, id: InstrumentId) -> NumberError {
        let scale = self.list[id.index()].size_scale;
        NumberError::Sum { traded: decimal(self.largest[id.index()].size, scale).normalize(), scale }
    }

    fn note(&mut self, id: InstrumentId, price: Price, size: Size) {
        let largest = &mut self.largest[id.index()];
        *largest = largest.with(Largest::of(price, size));
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
        let (price, size) =
            (definition.price_scale - slot.price_scale, definition.size_scale - slot.size_scale);
        *largest = largest.refined(price, size).unwrap_or(*largest);
        if **slot != definition {
            *slot = Arc::new(definition);
            out.push(Event::Instrument(Arc::clone(slot)));
        }
    }
}

impl Largest {
    /// Of one price and one size.
    fn of(price: Price, size: Size) -> Self {
        Self { price: price.some().map_or(0, |price| price.units().abs()), size: size.units() }
    }

    /// Whether price and size are certainly no larger than what is recorded. May miss some that are not.
    #[inline]
    fn covers(&self, price: Price, size: Size) -> bool {
        let (price, size) = (price.units(), size.units());
        (-self.price..=self.price).contains(&price) && size <= self.size && size <= i64::MAX.into()
    }

    /// With another quoted or known number.
    fn with(self, other: Self) -> Self {
        Self { price: self.price.max(other.price), size: self.size.max(other.size) }
    }

    /// With a trade; `None` if the sum could not be held.
    fn with_trade(self, trade: Self) -> Option<Self> {
        Some(Self { price: self.price.max(trade.price), size: self.size.checked_add(trade.size)? })
    }

    /// In units this many digits finer; `None` if they could not be held.
    fn refined(self, price: u8, size: u8) -> Option<Self> {
        if (price, size) == (0, 0) {
            return Some(self);
        }
        Some(Self {
            price: self.price.checked_mul(power(price)).filter(|&price| price < Price::LIMIT)?,
            size: self.size.checked_mul(power(size))?,
        })
    }
}

/// Prices and sizes at the scales that their instrument has, if 64 bits hold all that is needed for them, as
/// for nearly all; `None` otherwise.
#[inline]
fn narrow<const N: usize>(known: &Instrument, numbers: [Option<Pair>; N]) -> Option<[(Price, Size); N]> {
    let mut units = [(Price::NONE, Size::ZERO); N];
    for (units, numbers) in units.iter_mut().zip(numbers) {
        if let Some((price, size)) = numbers {
            let size = narrow_units(size, known.size_scale).filter(|&size| size >= 0)?;
            *units = (Price::new(narrow_units(price, known.price_scale)?), Size::new(size));
        }
    }
    Some(units)
}

fn needed_for<const N: usize>(
    known: &Instrument,
    numbers: [Option<Pair>; N],
) -> Result<Needed<N>, NumberError> {
    let finest = |&value: &Decimal, known: u8, finest: u8| {
        if fits_scale(value, known) {
            return Ok(known);
        }
        let needed = decimals(value);
        let limit = finest.max(known);
        if needed <= limit || (needed <= MAX_SCALE && !is_float_noise(value)) {
            return Ok(needed);
        }
        Err(NumberError::TooPrecise { value, scale: if needed > MAX_SCALE { MAX_SCALE } else { limit } })
    };
    let (mut price_scale, mut size_scale) = (known.price_scale, known.size_scale);
    for (price, size) in numbers.into_iter().flatten() {
        price_scale = price_scale.max(finest(price, known.price_scale, FINEST_PRICE)?);
        size_scale = size_scale.max(finest(size, known.size_scale, FINEST_SIZE)?);
    }
    let mut units = [(Price::NONE, Size::ZERO); N];
    for (units, numbers) in units.iter_mut().zip(numbers) {
        if let Some((price, size)) = numbers {
            *units = (Price::from_decimal(*price, price_scale)?, Size::from_decimal(*size, size_scale)?);
        }
    }
    Ok(Needed { price_scale, size_scale, units })
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

    /// Trades of X, then one that must be rejected and change nothing.
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
            &[("1", "1"), ("10000000000", "1"), ("1", "1")],
            ("0.000000000000000001", "1"),
            "10000000000.00 cannot be held at 18 decimals",
        );
        // Volumes are sums.
        let much = "99999999999999999999";
        check_refused(
            &[("1", much), ("1", much)],
            ("1", "0.000000000000000001"),
            "199999999999999999998 cannot be held at 18 decimals",
        );
    }

    #[test]
    fn what_could_not_be_summed_up_is_refused_and_what_was_there_stays() {
        let much = "99999999999999999999";
        check_refused(
            &[("1", "0.000000000000000001"), ("1", much)],
            ("1", much),
            "with 99999999999999999999 that were traded before it cannot be summed up at 18 decimals",
        );
    }

    #[test]
    fn a_scale_that_grows_takes_nothing_away_from_what_may_come() {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        for (price, size) in [
            ("61234.5", "1000000000000000"),
            ("0.000000000000000001", "1"),
            ("61234.5", "0.000000000000000001"),
            ("9999999999.99", "0.000000000000000001"),
            ("61234.123456789012345678", "1000000000000000.12345678"),
        ] {
            trade(&mut instruments, price, size, &mut out).unwrap();
        }
        let x = instruments.by_symbol("X").unwrap();
        assert_eq!((x.price_scale, x.size_scale), (18, 18));
    }

    #[test]
    fn what_floats_leave_behind_does_not_make_a_symbol_finer() {
        let noise = "0.30000000000000004";
        check_refused(&[("1", "1")], ("1", noise), &format!("{noise} has more than 8 decimals"));
        check_refused(&[("1", "1")], (noise, "1"), &format!("{noise} has more than 10 decimals"));
        let beyond = "0.0000000000000000001";
        check_refused(&[("1", "1")], (beyond, "1"), &format!("{beyond} has more than 18 decimals"));
    }

    #[test]
    fn zeros_at_the_end_of_a_number_do_not_make_a_symbol_finer() {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        trade(&mut instruments, "0.07800000", "60000000.00000000", &mut out).unwrap();
        let x = instruments.by_symbol("X").unwrap();
        assert_eq!((x.price_scale, x.size_scale), (3, 0));
    }

    #[test]
    fn a_definition_cannot_ask_for_a_scale_that_does_not_hold_what_is_there() {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        trade(&mut instruments, "25000000000.5", "1", &mut out).unwrap();
        let known = instruments.by_symbol("X").cloned().unwrap();
        let asked = Instrument { name: "Xenon".to_owned(), price_scale: 18, ..(*known).clone() };
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
        for (price, size) in [("1", "-1"), ("1e-19", "1"), ("1e26", "1"), ("1", "1e20")] {
            assert!(trade(&mut instruments, price, size, &mut Vec::new()).is_err(), "{price} {size}");
        }
        assert_eq!(instruments.by_symbol("X").cloned(), before);
    }
}
