use crate::market::{
    Event, Instrument, InstrumentId, Instruments, NumberError, Price, Quote, Size, Snapshot, Symbol, Trade,
};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Translates events from a source's numbering of instruments (a recording's, or that of a feed that was read
/// ahead) into the tape's.
///
/// If the tape has an instrument at finer scales than the source, units are converted, exactly.
#[derive(Clone, Debug, Default)]
pub struct Translator {
    known: FxHashMap<InstrumentId, Known>,
}

/// The source's scales of one instrument, and its number on the tape.
#[derive(Clone, Copy, Debug)]
struct Known {
    id: InstrumentId,
    price_scale: u8,
    size_scale: u8,
}

/// Why an event cannot be translated.
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
    /// Appends `event` to `out`, after the definition it needs.
    ///
    /// # Errors
    /// [`TranslateError`] if the source has not defined the event's instrument, or its numbers fit no scale
    /// of the tape.
    pub fn translate(
        &mut self,
        event: Event,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<(), TranslateError> {
        if let Event::Instrument(definition) = event {
            self.define(&definition, instruments, out);
            return Ok(());
        }
        let mut event = event;
        self.translate_in_place(&mut event, instruments)?;
        out.push(event);
        Ok(())
    }

    /// As [`Self::translate`] for events other than definitions, in place. Drop the event after an error.
    ///
    /// # Errors
    /// As [`Self::translate`].
    #[inline]
    pub fn translate_in_place(
        &self,
        event: &mut Event,
        instruments: &mut Instruments,
    ) -> Result<(), TranslateError> {
        match event {
            Event::Quote(id, quote) => {
                let units = self.units(*id, instruments)?;
                units.quote(quote)?;
                *id = units.known.id;
                named(instruments.hold_quote(*id, quote), *id, instruments)?;
            }
            Event::Trade(id, trade) => {
                let units = self.units(*id, instruments)?;
                units.trade(trade)?;
                *id = units.known.id;
                named(instruments.hold_trade(*id, trade), *id, instruments)?;
            }
            Event::Status(Some(id), _) => *id = self.units(*id, instruments)?.known.id,
            Event::Snapshot(id, snapshot) => {
                let units = self.units(*id, instruments)?;
                units.snapshot(snapshot)?;
                *id = units.known.id;
                instruments.hold_snapshot(*id, snapshot);
            }
            Event::Instrument(_)
            | Event::Status(None, _)
            | Event::Feed(_)
            | Event::Posted(_)
            | Event::Reset => {}
        }
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

/// An error with the symbol of the instrument.
fn named(held: Result<(), NumberError>, id: InstrumentId, known: &Instruments) -> Result<(), TranslateError> {
    held.map_err(|error| TranslateError::Number {
        symbol: known.get(id).expect("it was just found").symbol.clone(),
        error,
    })
}

/// A default definition, as a file without reference data has it.
fn names_nothing(definition: &Instrument) -> bool {
    definition.name.is_empty()
        && definition.sector.is_empty()
        && definition.currency.is_empty()
        && definition.previous_close.is_none()
}

/// The tape's definition at the scales that `definition` needs: a default one must not erase a name.
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
    fn quote(&self, quote: &mut Quote) -> Result<(), TranslateError> {
        if !self.same() {
            (quote.bid, quote.ask) = (self.price(quote.bid)?, self.price(quote.ask)?);
            (quote.bid_size, quote.ask_size) = (self.size(quote.bid_size)?, self.size(quote.ask_size)?);
        }
        Ok(())
    }

    fn trade(&self, trade: &mut Trade) -> Result<(), TranslateError> {
        if !self.same() {
            (trade.price, trade.size) = (self.price(trade.price)?, self.size(trade.size)?);
        }
        Ok(())
    }

    /// The values of a snapshot have been on a tape, so only a finer scale can be needed.
    fn snapshot(&self, snapshot: &mut Arc<Snapshot>) -> Result<(), TranslateError> {
        if self.same() {
            return Ok(());
        }
        let finer = |tape: u8, known: u8| {
            tape.checked_sub(known).ok_or(TranslateError::TooFine(self.tape.symbol.clone()))
        };
        let price = finer(self.tape.price_scale, self.known.price_scale)?;
        let size = finer(self.tape.size_scale, self.known.size_scale)?;
        *snapshot = Arc::new(snapshot.refined(price, size));
        Ok(())
    }

    fn same(&self) -> bool {
        self.known.price_scale == self.tape.price_scale && self.known.size_scale == self.tape.size_scale
    }

    fn price(&self, price: Price) -> Result<Price, TranslateError> {
        self.check(price.rescaled(self.known.price_scale, self.tape.price_scale))
    }

    fn size(&self, size: Size) -> Result<Size, TranslateError> {
        self.check(size.rescaled(self.known.size_scale, self.tape.size_scale))
    }

    fn check<T>(&self, units: Result<T, NumberError>) -> Result<T, TranslateError> {
        units.map_err(|error| TranslateError::Number { symbol: self.tape.symbol.clone(), error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::{Conditions, Counts, Side, Timestamp};

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
            counts: Counts::EVERYTHING,
            booked: 0,
            ts_event: Timestamp::default(),
            ts_recv: Timestamp::default(),
        };
        Event::Trade(InstrumentId(number), trade)
    }

    /// Translates a definition of X as source number 7 and one trade of it to a tape that has `tape` already.
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
        let reason = format!("X: {}.07 cannot be held at 18 decimals", i64::MAX / 100);
        check(Some(definition(0, "X", 18)), definition(7, "X", 2), i64::MAX, &reason);
    }
}
