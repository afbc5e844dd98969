use super::{Price, Symbol};
use rust_decimal::Decimal;

/// An instrument's number on one tape: dense, from 0, in the order of first definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstrumentId(pub u32);

impl InstrumentId {
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Reference data of one instrument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instrument {
    pub id: InstrumentId,
    pub symbol: Symbol,
    /// What people call it; may be empty.
    pub name: String,
    /// Lower-case word by which `quote:@technology` finds it; may be empty.
    pub sector: String,
    /// ISO 4217 code or a crypto asset; may be empty.
    pub currency: String,
    /// Prices are `units × 10^-price_scale`, 0 to [`super::MAX_SCALE`].
    pub price_scale: u8,
    /// Sizes are `units × 10^-size_scale`, 0 to [`super::MAX_SCALE`].
    pub size_scale: u8,
    /// The price step, in price units, at least 1. Recorded prices off the grid are kept as they are.
    pub tick_size: i64,
    /// The wire writes prices as differences from this one; [`Price::NONE`] until a first price is known, read as 0.
    pub anchor: Price,
    /// The close that the day's change is counted from, as given by reference data.
    pub previous_close: Price,
}

impl Instrument {
    /// An instrument of which nothing is known but its name: whole units, cents come with the first price.
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

    /// The anchor as a number; 0 where there is none yet.
    #[must_use]
    pub fn anchor_units(&self) -> i64 {
        self.anchor.some().map_or(0, Price::units)
    }

    #[must_use]
    pub fn tick_size_decimal(&self) -> Decimal {
        Decimal::new(self.tick_size, u32::from(self.price_scale))
    }

    /// The same instrument with prices `price` and sizes `size` digits finer.
    #[must_use]
    pub fn refined(&self, price: u8, size: u8) -> Self {
        Self {
            price_scale: self.price_scale + price,
            size_scale: self.size_scale + size,
            tick_size: Price::new(self.tick_size).refined(price).units(),
            anchor: self.anchor.refined(price),
            previous_close: self.previous_close.refined(price),
            ..self.clone()
        }
    }
}
