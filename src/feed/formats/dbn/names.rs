//! Instruments requested by several names at once, such as `ES.c.0` and `ES.v.0`: their records come once,
//! and count for each name.

use super::RecordError;
use crate::feed::text::intern;
use crate::market::{Event, Instruments, QuoteValues, Timestamp};
use dbn::Metadata;
use rustc_hash::FxHashMap;

/// The names of instruments that have several, and from when to when, in ns.
#[derive(Debug, Default)]
pub(super) struct OtherNames(FxHashMap<u32, Vec<Name>>);

#[derive(Clone, Debug)]
struct Name {
    symbol: String,
    start: i128,
    end: i128,
}

impl OtherNames {
    pub(super) fn new(metadata: &Metadata) -> Self {
        let mut names: FxHashMap<u32, Vec<Name>> = FxHashMap::default();
        for mapping in &metadata.mappings {
            for interval in &mapping.intervals {
                let Ok(instrument) = interval.symbol.parse() else { continue };
                let start = interval.start_date.midnight().assume_utc().unix_timestamp_nanos();
                let end = interval.end_date.midnight().assume_utc().unix_timestamp_nanos();
                let symbol = mapping.raw_symbol.clone();
                names.entry(instrument).or_default().push(Name { symbol, start, end });
            }
        }
        names.retain(|_, names| names.iter().any(|name| name.symbol != names[0].symbol));
        Self(names)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Repeats the events of an instrument in `out` after `from` under its other names.
    pub(super) fn repeat(
        &self,
        instrument: u32,
        arrival: Timestamp,
        from: usize,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<(), RecordError> {
        let Some(names) = self.0.get(&instrument) else { return Ok(()) };
        let at = i128::from(arrival.nanos());
        let told: Vec<Event> = out[from..].to_vec();
        for Name { symbol, .. } in names.iter().filter(|name| (name.start..name.end).contains(&at)) {
            for event in &told {
                repeat(event, symbol, instruments, out)?;
            }
        }
        Ok(())
    }
}

/// Repeats an event under another name, unless it is that name's.
fn repeat(
    event: &Event,
    symbol: &str,
    instruments: &mut Instruments,
    out: &mut Vec<Event>,
) -> Result<(), RecordError> {
    let (Event::Quote(id, _) | Event::Trade(id, _) | Event::Status(Some(id), _)) = event else {
        return Ok(());
    };
    let Some(told) = instruments.get(*id).filter(|told| told.symbol.as_str() != symbol).cloned() else {
        return Ok(());
    };
    let id = intern(symbol, instruments, out)?;
    match event {
        Event::Quote(_, quote) => {
            let values = QuoteValues {
                bid: quote.bid.to_decimal(told.price_scale),
                bid_size: quote.bid_size.to_decimal(told.size_scale),
                ask: quote.ask.to_decimal(told.price_scale),
                ask_size: quote.ask_size.to_decimal(told.size_scale),
            };
            let quote = instruments.quote(id, &values, (quote.ts_event, quote.ts_recv), out)?;
            out.push(Event::Quote(id, quote));
        }
        Event::Trade(_, trade) => {
            let Some(price) = trade.price.to_decimal(told.price_scale) else { return Ok(()) };
            let numbers = (price, trade.size.to_decimal(told.size_scale));
            let (kind, times) = ((trade.side, trade.conditions), (trade.ts_event, trade.ts_recv));
            let trade = instruments.trade(id, numbers, kind, times, out)?;
            out.push(Event::Trade(id, trade));
        }
        Event::Status(_, status) => out.push(Event::Status(Some(id), *status)),
        _ => {}
    }
    Ok(())
}
