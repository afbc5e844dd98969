use super::{Instrument, NumberError, Price, Symbol, SymbolError, parse_decimal};
use rust_decimal::Decimal;

/// A list of instruments with what a simulator needs for each, read from CSV with the header
/// `symbol,name,sector,currency,tick_size,lot_size,previous_close,volatility,activity`.
#[derive(Clone, Debug)]
pub struct Universe {
    /// In the order of the file.
    pub listings: Vec<Listing>,
}

/// One line of the list.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Its number is 0: a tape assigns one.
    pub instrument: Instrument,
    /// Smallest size step, in size units.
    pub lot_size: i64,
    /// Annual volatility in parts per ten thousand: 2500 is 25 %.
    pub volatility: u32,
    /// Share of the market's events, relative to the other listings; at least 1.
    pub activity: u32,
}

/// Why a line is no valid listing.
#[derive(Debug, thiserror::Error)]
#[error("universe line {line}: {reason}")]
pub struct UniverseError {
    /// From 1, counting the header.
    pub line: u64,
    /// The first thing wrong in it.
    pub reason: Reason,
}

/// The first thing wrong in a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Missing or surplus fields, or a number out of its field's range.
    #[error("{0}")]
    Csv(#[from] csv::Error),
    /// An invalid symbol.
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    /// A decimal that cannot be read or held.
    #[error("{field}: {error}")]
    Number { field: &'static str, error: NumberError },
    /// A field that is 0 or negative.
    #[error("{field} must be above 0")]
    NotPositive { field: &'static str },
    /// A lot size of 2^63 units or more.
    #[error("{field} has more units than 64 bits hold")]
    TooLarge { field: &'static str },
    /// A symbol that an earlier line has.
    #[error("symbol {0} stands twice")]
    Duplicate(Symbol),
}

#[derive(serde::Deserialize)]
struct Row {
    symbol: String,
    name: String,
    sector: String,
    currency: String,
    tick_size: String,
    lot_size: String,
    previous_close: String,
    volatility: u32,
    activity: u32,
}

impl Universe {
    /// Reads a list from the text of a CSV file.
    ///
    /// # Errors
    /// [`UniverseError`] for the first invalid line.
    pub fn parse(csv: &str) -> Result<Self, UniverseError> {
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let mut seen = std::collections::HashSet::new();
        let mut listings = Vec::new();
        for (index, row) in reader.deserialize().enumerate() {
            let line = index as u64 + 2;
            let listing = row
                .map_err(Reason::from)
                .and_then(|row: Row| Listing::new(&row))
                .and_then(|listing| {
                    let symbol = listing.instrument.symbol.clone();
                    if seen.insert(symbol.clone()) { Ok(listing) } else { Err(Reason::Duplicate(symbol)) }
                })
                .map_err(|reason| UniverseError { line, reason })?;
            listings.push(listing);
        }
        Ok(Self { listings })
    }
}

impl Listing {
    fn new(row: &Row) -> Result<Self, Reason> {
        let tick = positive("tick_size", &row.tick_size)?;
        let lot = positive("lot_size", &row.lot_size)?;
        let close = positive("previous_close", &row.previous_close)?;
        let price_scale = super::number::decimals(tick);
        let size_scale = super::number::decimals(lot);
        let units = |field, value, scale| {
            Price::from_decimal(value, scale).map_err(|error| Reason::Number { field, error })
        };
        let close = units("previous_close", close, price_scale)?;
        for (field, value) in [("volatility", row.volatility), ("activity", row.activity)] {
            if value == 0 {
                return Err(Reason::NotPositive { field });
            }
        }
        Ok(Self {
            instrument: Instrument {
                name: row.name.clone(),
                sector: row.sector.clone(),
                currency: row.currency.clone(),
                price_scale,
                size_scale,
                tick_size: units("tick_size", tick, price_scale)?.units(),
                anchor: close,
                previous_close: close,
                ..Instrument::unknown(Symbol::new(&row.symbol)?)
            },
            lot_size: i64::try_from(units("lot_size", lot, size_scale)?.units())
                .map_err(|_| Reason::TooLarge { field: "lot_size" })?,
            volatility: row.volatility,
            activity: row.activity,
        })
    }
}

fn positive(field: &'static str, text: &str) -> Result<Decimal, Reason> {
    let value = parse_decimal(text).map_err(|error| Reason::Number { field, error })?;
    if value > Decimal::ZERO { Ok(value) } else { Err(Reason::NotPositive { field }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "symbol,name,sector,currency,tick_size,lot_size,previous_close,volatility,activity\n";

    #[track_caller]
    fn check(row: &str, expected: &str) {
        let error = Universe::parse(&format!("{HEADER}{row}\n")).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_listing_has_the_scales_of_its_steps() {
        let text = format!("{HEADER}ESZ6,E-mini,index,USD,0.25,1,5000.25,1800,50\n");
        let listing = &Universe::parse(&text).unwrap().listings[0];
        assert_eq!((listing.instrument.price_scale, listing.instrument.tick_size), (2, 25));
        assert_eq!(listing.instrument.previous_close, Price::new(500_025));
    }

    #[test]
    fn a_bad_line_is_named_with_its_reason() {
        check("A,a,s,USD,0,1,1,1,1", "universe line 2: tick_size must be above 0");
        check("A,a,s,USD,x,1,1,1,1", "universe line 2: tick_size: \"x\" is no decimal number");
        check("A,a,s,USD,1,1,1.5,1,1", "universe line 2: previous_close: 1.5 has more than 0 decimals");
        check("A,a,s,USD,1,1,1,1,1\nA,a,s,USD,1,1,1,1,1", "universe line 3: symbol A stands twice");
    }
}
