//! Broken trades, and the corrections that replace them.

use super::fields::Fields;
use super::{PublishError, Published, PublishedTrade, required_symbol};
use crate::market::{Counts, Event, InstrumentId, Instruments, NamedTrade, Symbol, Timestamp};
use rust_decimal::Decimal;

/// Which trade is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// By its publisher's name.
    Id(String),
    /// By its values.
    Trade { price: Decimal, size: Decimal, ts_event: Timestamp, counts: Counts },
}

/// A trade that is broken or corrected.
#[derive(Clone, Debug)]
pub struct Cancel {
    pub symbol: Symbol,
    pub trade: Named,
    pub ts_recv: Option<Timestamp>,
    /// The trade that replaces it, and its time if that is different.
    pub correction: Option<(PublishedTrade, Option<Timestamp>)>,
}

impl Cancel {
    /// # Errors
    /// [`PublishError`] if the trade is not known, or a number fits no scale of the instrument. Then nothing
    /// is appended.
    pub(super) fn apply(
        self,
        arrival: Timestamp,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<(), PublishError> {
        let symbol = self.symbol;
        let unknown = || PublishError::UnknownTrade { symbol: symbol.clone() };
        let id = instruments.by_symbol(symbol.as_str()).map(|known| known.id).ok_or_else(unknown)?;
        let was = match self.trade {
            Named::Id(name) => instruments.named_trades().take(id, &name).ok_or_else(unknown)?,
            Named::Trade { price, size, ts_event, counts } => NamedTrade {
                price,
                size,
                ts_event,
                counts,
                side: crate::market::Side::None,
                conditions: crate::market::Conditions::default(),
            },
        };
        let is = self.correction.map(|(is, ts_event)| is.named(ts_event.unwrap_or(was.ts_event)));
        let number = |error| PublishError::Number { symbol: symbol.clone(), error };
        instruments.take_back(id, &was, is.as_ref(), arrival, out).map_err(number)
    }
}

impl PublishedTrade {
    fn named(&self, ts_event: Timestamp) -> NamedTrade {
        let &Self { price, size, side, conditions, counts, .. } = self;
        NamedTrade { price, size, side, conditions, counts, ts_event }
    }

    /// Remembers it by its publisher's name.
    pub(super) fn note(&self, id: InstrumentId, ts_event: Timestamp, instruments: &mut Instruments) {
        if let Some(name) = &self.id {
            instruments.named_trades().note(id, name, self.named(ts_event));
        }
    }
}

impl Published {
    pub(super) fn cancel(fields: &mut Fields) -> Result<Self, PublishError> {
        let symbol = required_symbol(fields)?;
        let [_side, _conditions] = [fields.take("side"), fields.take("conditions")];
        let trade = named(fields, ["id", "price", "size", "ts_event"])?;
        Ok(Self::Cancel(Box::new(Cancel {
            symbol,
            trade,
            ts_recv: fields.time("ts_recv")?,
            correction: None,
        })))
    }

    pub(super) fn correct(fields: &mut Fields) -> Result<Self, PublishError> {
        let names = ["original_id", "original_price", "original_size", "original_ts_event"];
        let trade = named(fields, names)?;
        let Self::Trade { symbol, trade: correction, ts_event, ts_recv } = Self::trade(fields)? else {
            unreachable!("a trade was read")
        };
        let correction = Some((correction, ts_event));
        Ok(Self::Cancel(Box::new(Cancel { symbol, trade, ts_recv, correction })))
    }
}

/// The trade that these fields name.
fn named(fields: &mut Fields, names: [&'static str; 4]) -> Result<Named, PublishError> {
    let [id, price, size, ts_event] = names;
    if let Some(name) = fields.name(id)? {
        return Ok(Named::Id(name));
    }
    let missing = |field| PublishError::Missing { field };
    // In a correction these fields are the new values.
    let counts = if id == "id" { fields.words("counts")? } else { None };
    let counts = counts.map_or(Ok(Counts::EVERYTHING), |words| words.parse::<Counts>());
    let counts = counts.map_err(|error| super::wrong("counts", error))?.plain();
    Ok(Named::Trade {
        price: fields.number(price)?.ok_or(missing(id))?,
        size: fields.number(size)?.ok_or(missing(size))?,
        ts_event: fields.time(ts_event)?.ok_or(missing(ts_event))?,
        counts,
    })
}
