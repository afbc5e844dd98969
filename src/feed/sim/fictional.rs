use super::random::Random;
use crate::market::{Instrument, Listing, Price, Symbol, Universe};
use std::collections::HashSet;

/// The first `count` listings of `universe`, and if it has fewer, made-up companies after them: `SYM00551` is
/// the same company for every seed.
pub(super) fn listings(universe: &Universe, count: usize) -> Vec<Listing> {
    let mut listings: Vec<Listing> = universe.listings.iter().take(count).cloned().collect();
    let taken: HashSet<Symbol> = listings.iter().map(|l| l.instrument.symbol.clone()).collect();
    let first = listings.len() + 1;
    let fictional = (first..)
        .map(|number| (number, format!("SYM{number:05}")))
        .filter(|(_, symbol)| !taken.contains(symbol.as_str()))
        .filter_map(|(number, symbol)| Some(company(number, Symbol::new(&symbol).ok()?)));
    let missing = count - listings.len();
    listings.extend(fictional.take(missing));
    listings
}

const SECTORS: [&str; 10] = [
    "technology",
    "healthcare",
    "financials",
    "energy",
    "consumer",
    "industrials",
    "utilities",
    "materials",
    "real-estate",
    "communications",
];

fn company(number: usize, symbol: Symbol) -> Listing {
    let mut random = Random::new(number as u64);
    let mut between = |low: u32, high: u32| {
        let (offset, _) = random.below((high - low) as usize);
        low + u32::try_from(offset).unwrap_or(0)
    };
    let close = Price::new(i64::from(between(5, 200)) * i64::from(between(100, 250)));
    let sector = SECTORS[number % SECTORS.len()];
    Listing {
        instrument: Instrument {
            name: format!("Fictional {sector} {number}"),
            sector: sector.to_owned(),
            currency: "USD".to_owned(),
            anchor: close,
            previous_close: close,
            ..Instrument::unknown(symbol)
        },
        lot_size: 1,
        volatility: between(1_500, 8_000),
        activity: between(1, 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companies_are_made_up_behind_the_end_of_the_list() {
        let header = "symbol,name,sector,currency,tick_size,lot_size,previous_close,volatility,activity";
        let universe =
            Universe::parse(&format!("{header}\nA,,,,1,1,1,1,1\nSYM00004,,,,1,1,1,1,1\n")).unwrap();
        let symbols = |count| {
            let list = listings(&universe, count);
            list.iter().map(|l| l.instrument.symbol.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(symbols(0), "");
        assert_eq!(symbols(1), "A");
        assert_eq!(symbols(4), "A SYM00004 SYM00003 SYM00005");
    }
}
