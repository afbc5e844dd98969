use crate::market::{
    Event, Instrument, InstrumentId, Instruments, NumberError, Price, Quote, Size, Snapshot, Symbol, Trade,
};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Carries events from one numbering of instruments into another: a recording's, or that of a feed which was read
/// ahead, into the tape's.
///
/// The tape may know an instrument at finer scales than the source; then units are converted, exactly.
#[derive(Debug, Default)]
pub struct Translator {
    known: FxHashMap<InstrumentId, Known>,
}

/// How the source counts one instrument, and its number on the tape.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: InstrumentId,
    price_scale: u8,
    size_scale: u8,
}

/// Why an event cannot be carried over.
#[derive(Debug, thiserror::Error)]
pub enum TranslateError {
    #[error("instrument {0} is used before it is defined")]
    Undefined(u32),
    #[error("{symbol}: {error}")]
    Number { symbol: Symbol, error: NumberError },
    #[error("{0}: its snapshot is finer than the tape can hold")]
    TooFine(Symbol),
}

impl Translator {
    /// Appends `event` to `out`, with the definition it needs in front.
    ///
    /// # Errors
    /// [`TranslateError`] where the event is of no instrument the source has defined, or its numbers fit no scale of the tape.
    pub fn translate(
        &mut self,
        event: Event,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<(), TranslateError> {
        let event = match event {
            Event::Instrument(definition) => {
                self.define(&definition, instruments, out);
                return Ok(());
            }
            Event::Quote(id, quote) => {
                let units = self.units(id, instruments)?;
                Event::Quote(units.known.id, units.quote(quote)?)
            }
            Event::Trade(id, trade) => {
                let units = self.units(id, instruments)?;
                Event::Trade(units.known.id, units.trade(trade)?)
            }
            Event::Status(Some(id), status) => {
                Event::Status(Some(self.units(id, instruments)?.known.id), status)
            }
            Event::Snapshot(id, snapshot) => {
                let units = self.units(id, instruments)?;
                Event::Snapshot(units.known.id, units.snapshot(snapshot)?)
            }
            other @ (Event::Status(None, _) | Event::Feed(_) | Event::Stats(_) | Event::Reset) => other,
        };
        out.push(event);
        Ok(())
    }

    fn define(&mut self, definition: &Instrument, instruments: &mut Instruments, out: &mut Vec<Event>) {
        let tape = match instruments.by_symbol(definition.symbol.as_str()) {
            Some(known) if names_nothing(definition) => refined_for(known, definition),
            _ => definition.clone(),
        };
        let known = Known {
            id: instruments.define(tape, out),
            price_scale: definition.price_scale,
            size_scale: definition.size_scale,
        };
        self.known.insert(definition.id, known);
    }

    fn units<'a>(&self, id: InstrumentId, instruments: &'a Instruments) -> Result<Units<'a>, TranslateError> {
        let known = *self.known.get(&id).ok_or(TranslateError::Undefined(id.0))?;
        let tape = instruments.get(known.id).ok_or(TranslateError::Undefined(id.0))?;
        Ok(Units { known, tape })
    }
}

/// A made-up definition, as a file without reference data gives it.
fn names_nothing(definition: &Instrument) -> bool {
    definition.name.is_empty()
        && definition.sector.is_empty()
        && definition.currency.is_empty()
        && definition.previous_close.is_none()
}

/// What the tape knows already, at the scales that `definition` needs: a made-up one must not erase a name.
fn refined_for(known: &Instrument, definition: &Instrument) -> Instrument {
    let price = definition.price_scale.saturating_sub(known.price_scale);
    let size = definition.size_scale.saturating_sub(known.size_scale);
    let mut refined = known.refined(price, size);
    if known.tick_size == 1 {
        refined.tick_size = 1;
    }
    if refined.anchor.is_none() {
        let coarser = refined.price_scale - definition.price_scale;
        refined.anchor = definition.anchor.refined(coarser);
    }
    refined
}

/// One instrument's units in the source and on the tape.
struct Units<'a> {
    known: Known,
    tape: &'a Instrument,
}

impl Units<'_> {
    fn quote(&self, quote: Quote) -> Result<Quote, TranslateError> {
        if self.same() {
            return Ok(quote);
        }
        Ok(Quote {
            bid: self.price(quote.bid)?,
            bid_size: self.size(quote.bid_size)?,
            ask: self.price(quote.ask)?,
            ask_size: self.size(quote.ask_size)?,
            ..quote
        })
    }

    fn trade(&self, trade: Trade) -> Result<Trade, TranslateError> {
        if self.same() {
            return Ok(trade);
        }
        Ok(Trade { price: self.price(trade.price)?, size: self.size(trade.size)?, ..trade })
    }

    /// What a snapshot holds has been on a tape, so a finer scale is all that can be needed.
    fn snapshot(&self, snapshot: Arc<Snapshot>) -> Result<Arc<Snapshot>, TranslateError> {
        if self.same() {
            return Ok(snapshot);
        }
        let finer = |tape: u8, known: u8| {
            tape.checked_sub(known).ok_or(TranslateError::TooFine(self.tape.symbol.clone()))
        };
        let price = finer(self.tape.price_scale, self.known.price_scale)?;
        let size = finer(self.tape.size_scale, self.known.size_scale)?;
        Ok(Arc::new(snapshot.refined(price, size)))
    }

    fn same(&self) -> bool {
        self.known.price_scale == self.tape.price_scale && self.known.size_scale == self.tape.size_scale
    }

    fn price(&self, price: Price) -> Result<Price, TranslateError> {
        match price.to_decimal(self.known.price_scale) {
            None => Ok(Price::NONE),
            Some(value) => self.check(Price::from_decimal(value, self.tape.price_scale)),
        }
    }

    fn size(&self, size: Size) -> Result<Size, TranslateError> {
        self.check(Size::from_decimal(size.to_decimal(self.known.size_scale), self.tape.size_scale))
    }

    fn check<T>(&self, units: Result<T, NumberError>) -> Result<T, TranslateError> {
        units.map_err(|error| TranslateError::Number { symbol: self.tape.symbol.clone(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Conditions, MAX_PRICE_UNITS, Side, Timestamp};

    fn definition(number: u32, symbol: &str, price_scale: u8) -> Instrument {
        let id = InstrumentId(number);
        Instrument { id, price_scale, ..Instrument::unknown(Symbol::new(symbol).unwrap()) }
    }

    fn trade(number: u32, price: i64) -> Event {
        let trade = Trade {
            price: Price::new(price),
            size: Size::new(5),
            side: Side::None,
            conditions: Conditions::default(),
            ts_event: Timestamp::default(),
            ts_recv: Timestamp::default(),
        };
        Event::Trade(InstrumentId(number), trade)
    }

    /// Translates a definition of X as source number 7 and one trade of it onto a tape that has `tape` already.
    #[track_caller]
    fn check(tape: Option<Instrument>, source: Instrument, price: i64, expected: &str) {
        let (mut instruments, mut out) = (Instruments::default(), Vec::new());
        if let Some(tape) = tape {
            instruments.define(definition(0, "OTHER", 2), &mut out);
            instruments.define(tape, &mut out);
        }
        let mut translator = Translator::default();
        translator.translate(Event::Instrument(Arc::new(source)), &mut instruments, &mut out).unwrap();
        let got = match translator.translate(trade(7, price), &mut instruments, &mut out) {
            Err(error) => error.to_string(),
            Ok(()) => match out.pop() {
                Some(Event::Trade(id, trade)) => {
                    let x = instruments.get(id).unwrap();
                    let price = trade.price.to_decimal(x.price_scale).unwrap();
                    format!("{} {} {} {price}", id.0, x.symbol, x.name)
                }
                other => panic!("{other:?}"),
            },
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn a_source_gets_the_tapes_number_and_scale() {
        check(None, definition(7, "X", 2), 12345, "0 X  123.45");
        check(Some(definition(0, "X", 4)), definition(7, "X", 2), 12345, "1 X  123.4500");
        check(Some(definition(0, "X", 0)), definition(7, "X", 2), 12345, "1 X  123.45");
    }

    #[test]
    fn a_definition_that_names_nothing_erases_no_name() {
        let named = |name: &str, scale| Instrument { name: name.to_owned(), ..definition(7, "X", scale) };
        check(Some(named("Xenon", 2)), definition(7, "X", 3), 12345, "1 X Xenon 12.345");
        check(Some(named("Xenon", 2)), named("Xylophone", 2), 12345, "1 X Xylophone 123.45");
    }

    #[test]
    fn what_cannot_be_carried_over_is_refused_with_the_reason() {
        check(None, definition(3, "X", 2), 1, "instrument 7 is used before it is defined");
        let reason = format!("X: {}.95 cannot be held at 4 decimals", MAX_PRICE_UNITS / 100);
        check(Some(definition(0, "X", 4)), definition(7, "X", 2), MAX_PRICE_UNITS, &reason);
    }
}
