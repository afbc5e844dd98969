use super::{Price, Symbol};
use rust_decimal::Decimal;

/// An instrument's number on one tape: dense, from 0, in the order of first definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstrumentId(pub u32);

impl InstrumentId {
    /// For a list with an entry per instrument.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Reference data of one instrument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instrument {
    /// Its number on its tape.
    pub id: InstrumentId,
    /// Unique on its tape.
    pub symbol: Symbol,
    /// For people; may be empty.
    pub name: String,
    /// A lower-case word, which `quote:@technology` selects; may be empty.
    pub sector: String,
    /// ISO 4217 code or a crypto asset; may be empty.
    pub currency: String,
    /// Prices are `units × 10^-price_scale`, 0 to [`super::MAX_SCALE`].
    pub price_scale: u8,
    /// Sizes are `units × 10^-size_scale`, 0 to [`super::MAX_SCALE`].
    pub size_scale: u8,
    /// The price step, in price units, at least 1 and below [`Price::LIMIT`]. Recorded prices off the grid
    /// are kept as they are.
    pub tick_size: i128,
    /// The wire writes prices relative to this one; [`Price::NONE`], read as 0, until a first price is known.
    pub anchor: Price,
    /// The close that the day's change is relative to, from reference data.
    pub previous_close: Price,
}

impl Instrument {
    /// An instrument of which only the symbol is known: at scale 0, until the first price needs a finer one.
    #[must_use]
    pub fn unknown(symbol: Symbol) -> Self {
        Self {
            id: InstrumentId(0),
            symbol,
            name: String::new(),
            sector: String::new(),
            currency: String::new(),
            price_scale: 2,
            size_scale: 0,
            tick_size: 1,
            anchor: Price::NONE,
            previous_close: Price::NONE,
        }
    }

    /// The anchor as a number, in price units; 0 if there is none yet.
    #[must_use]
    pub fn anchor_units(&self) -> i128 {
        self.anchor.some().map_or(0, Price::units)
    }

    /// The price step, in the instrument's currency.
    #[must_use]
    pub fn tick_size_decimal(&self) -> Decimal {
        super::number::decimal(self.tick_size, self.price_scale)
    }

    /// The same instrument with prices `price` and sizes `size` digits finer.
    #[must_use]
    pub fn refined(&self, price: u8, size: u8) -> Self {
        Self {
            price_scale: self.price_scale + price,
            size_scale: self.size_scale + size,
            tick_size: self.tick_size.saturating_mul(super::number::power(price)).min(Price::LIMIT - 1),
            anchor: self.anchor.refined(price),
            previous_close: self.previous_close.refined(price),
            ..self.clone()
        }
    }
}
