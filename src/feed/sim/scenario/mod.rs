//! A simulated market under a script: phases, events and faults of its feed, in a TOML file that
//! `docs/scenarios.md` specifies.
//!
//! [`Scenario`] is the checked script. `Play` is the market under it, and `Faulty` is that feed over a faulty
//! line.

mod faults;
mod file;
mod play;
mod ready;
#[cfg(test)]
mod tests;
mod timeline;
mod values;

pub use ready::READY;
pub use values::Length;

use super::{SimConfig, default_universe, fictional};
use crate::feed::Feed;
use crate::hint::{hint, nearest};
use crate::market::{Instrument, Listing, Price, SAFE_INTEGER, Symbol, Timestamp, Universe, parse_decimal};
use faults::{Fault, FaultSpell, Faulty};
use file::{File, Phase, line_at};
use play::Play;
use std::num::NonZeroU32;
use toml::Spanned;

/// A script that was read and checked. The numbers of its market may be changed before it is played.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its description, for people; may be empty.
    pub about: String,
    pub symbols: usize,
    /// Ticks a second outside of bursts.
    pub rate: NonZeroU32,
    pub seed: u64,
    /// Its first moment on the market's clock; `None`: the moment at which it is played.
    pub start: Option<Timestamp>,
    /// When it ends; `None`: never.
    pub end: Option<Length>,
    /// In the order of time.
    steps: Vec<Step>,
    faults: Vec<FaultSpell>,
}

/// Why a scenario cannot be played.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScenarioError {
    pub line: usize,
    pub message: String,
}

/// One thing that happens.
#[derive(Clone, Debug)]
struct Step {
    at: Length,
    /// The line in the file.
    line: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Phase(Phase),
    /// Per cent.
    Jump(Scope, f64),
    List(Box<Listing>),
    Delist(Symbol),
    /// An effect that lasts.
    Spell(Length, Scope, Effect),
}

#[derive(Clone, Copy, Debug)]
enum Effect {
    Halt,
    /// The factor of price moves.
    Volatility(f64),
    /// Down by a fraction of 1 within `fall`, at the bottom for `hold`, and back within `recover`.
    Crash {
        depth: f64,
        fall: Length,
        hold: Length,
        recover: Length,
    },
    /// Ticks a second, over all.
    Burst(NonZeroU32),
}

/// The symbols that it affects.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Sector(String),
    Symbol(Symbol),
}

impl Scenario {
    /// # Errors
    /// [`ScenarioError`] with the line of the first error.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let mut file = File::parse(text)?;
        let (mut steps, mut faults) = (Vec::new(), Vec::new());
        Rows { text, steps: &mut steps, faults: &mut faults }.read(&mut file)?;
        // Steps of one moment are in the order of the kinds, as in `Rows::read`.
        steps.sort_by_key(|step| step.at);
        faults.sort_by_key(|fault| fault.at);
        let closes = steps.iter().rev().find_map(|step| match step.what {
            What::Phase(phase) => Some((phase == Phase::Close).then_some(step.at)),
            _ => None,
        });
        let end = file.end.as_ref().map(|end| *end.get_ref()).or(closes.flatten());
        let usual = SimConfig::starting(Timestamp::default());
        let scenario = Self {
            about: file.about.trim().to_owned(),
            symbols: file.market.symbols.map_or(usual.symbols, |symbols| symbols.0 as usize),
            rate: file.market.rate.map_or(usual.rate, |rate| rate.0),
            seed: file.market.seed.unwrap_or(usual.seed),
            start: file.start.map(|start| start.0),
            end,
            steps,
            faults,
        };
        scenario.check_times()?;
        Ok(scenario)
    }

    /// The phase of the market so long after the beginning: `pre-open`, `auction`, `continuous`, `halt` or
    /// `close`.
    #[must_use]
    pub fn phase_after(&self, nanos: i64) -> &'static str {
        let phases = self.steps.iter().take_while(|step| step.at.nanos() <= nanos);
        let phase =
            phases.filter_map(|step| if let What::Phase(phase) = step.what { Some(phase) } else { None });
        phase.last().unwrap_or(Phase::Continuous).name()
    }

    /// The market under this script, which begins `now` if the script has no start of its own.
    ///
    /// # Errors
    /// [`ScenarioError`] if it names a symbol or a sector that this market does not have.
    pub fn play(self, now: Timestamp) -> Result<Box<dyn Feed>, ScenarioError> {
        let universe = default_universe();
        let listings = self.listings(&universe)?;
        let start = self.start.unwrap_or(now);
        let config = SimConfig { symbols: self.symbols, rate: self.rate, seed: self.seed, start };
        let play = Play::new(config, listings, self.steps, self.end);
        if self.faults.is_empty() {
            return Ok(Box::new(play));
        }
        Ok(Box::new(Faulty::new(play, &self.faults, start, self.seed)))
    }

    /// Checks that its market has all symbols and sectors that it names.
    ///
    /// # Errors
    /// As [`Self::play`].
    pub fn check(&self) -> Result<(), ScenarioError> {
        self.listings(&default_universe()).map(drop)
    }

    /// The listings at the start, after checking that each symbol and sector of the script exists in time.
    fn listings(&self, universe: &Universe) -> Result<Vec<Listing>, ScenarioError> {
        let listings = fictional::listings(universe, self.symbols);
        let mut there: Vec<&Instrument> = listings.iter().map(|listing| &listing.instrument).collect();
        let mut gone: Vec<&Symbol> = Vec::new();
        for Step { at, line, what } in &self.steps {
            let fail = |message| ScenarioError { line: *line, message };
            match what {
                What::Phase(_) => {}
                What::List(listing) => {
                    let symbol = &listing.instrument.symbol;
                    if there.iter().any(|known| known.symbol == *symbol) {
                        return Err(fail(format!("symbol {symbol} is listed already at {at}")));
                    }
                    there.push(&listing.instrument);
                }
                What::Delist(symbol) => {
                    check_scope(&Scope::Symbol(symbol.clone()), &there, &gone).map_err(fail)?;
                    gone.push(symbol);
                }
                What::Jump(scope, _) | What::Spell(_, scope, _) => {
                    check_scope(scope, &there, &gone).map_err(fail)?;
                }
            }
        }
        Ok(listings)
    }

    fn check_times(&self) -> Result<(), ScenarioError> {
        let mut phases = self.steps.iter().filter(|step| matches!(step.what, What::Phase(_))).peekable();
        while let Some(phase) = phases.next() {
            if let Some(next) = phases.peek().filter(|next| next.at == phase.at) {
                let message = format!("phase: there is another one at {}", next.at);
                return Err(ScenarioError { line: next.line, message });
            }
        }
        let Some(end) = self.end else { return Ok(()) };
        let steps = self.steps.iter().map(|step| (step.at, step.line));
        let faults = self.faults.iter().map(|fault| (fault.at, fault.line));
        match steps.chain(faults).find(|&(at, _)| at > end) {
            Some((at, line)) => Err(ScenarioError {
                line,
                message: format!("at {at} the scenario is over: it ends at {end}"),
            }),
            None => Ok(()),
        }
    }
}

impl Scope {
    fn covers(&self, instrument: &Instrument) -> bool {
        match self {
            Self::All => true,
            Self::Sector(sector) => *sector == instrument.sector,
            Self::Symbol(symbol) => *symbol == instrument.symbol,
        }
    }
}

/// The error of a scope, if any.
fn check_scope(scope: &Scope, there: &[&Instrument], gone: &[&Symbol]) -> Result<(), String> {
    let is_there = |instrument: &&&Instrument| scope.covers(instrument);
    let Some(found) = there.iter().find(is_there) else {
        return Err(match scope {
            Scope::All => "there are no symbols".to_owned(),
            Scope::Symbol(symbol) => {
                let near = nearest(symbol.as_str(), there.iter().map(|known| known.symbol.as_str()));
                let near = near.map_or_else(
                    || format!("it has {} others", there.len()),
                    |near| format!("did you mean {near:?}?"),
                );
                format!("symbol {:?} is not in this market at that time: {near}", symbol.as_str())
            }
            Scope::Sector(sector) => {
                let mut sectors: Vec<&str> = there.iter().map(|known| &*known.sector).collect();
                sectors.sort_unstable();
                sectors.dedup();
                format!(
                    "sector {sector:?} is not in this market: {}",
                    hint(sector, "there", sectors.into_iter())
                )
            }
        });
    };
    match scope {
        Scope::Symbol(symbol) if gone.contains(&symbol) => {
            Err(format!("symbol {:?} is delisted by then", found.symbol.as_str()))
        }
        _ => Ok(()),
    }
}

/// Turns the rows of a file into steps and faults.
struct Rows<'a> {
    text: &'a str,
    steps: &'a mut Vec<Step>,
    faults: &'a mut Vec<FaultSpell>,
}

impl Rows<'_> {
    /// Takes the rows out of the file.
    fn read(&mut self, file: &mut File) -> Result<(), ScenarioError> {
        self.rows(&mut file.list, |row| Ok((row.at, What::List(Box::new(listing(row)?)))))?;
        self.rows(&mut file.delist, |row| Ok((row.at, What::Delist(symbol(&row.symbol)?))))?;
        self.rows(&mut file.phase, |row| Ok((row.at, What::Phase(row.is))))?;
        self.rows(&mut file.jump, |row| {
            Ok((row.at, What::Jump(scope(row.symbol.as_ref(), row.sector.as_ref())?, row.percent.0)))
        })?;
        self.rows(&mut file.halt, |row| {
            Ok((
                row.at,
                What::Spell(row.lasts, scope(row.symbol.as_ref(), row.sector.as_ref())?, Effect::Halt),
            ))
        })?;
        self.rows(&mut file.volatility, |row| {
            let effect = Effect::Volatility(row.times.0);
            Ok((row.at, What::Spell(row.lasts, scope(row.symbol.as_ref(), row.sector.as_ref())?, effect)))
        })?;
        self.rows(&mut file.crash, |row| {
            let depth = row.percent.0 / 100.0;
            if depth <= 0.0 || depth > 0.99 {
                return Err(format!("percent: {} is out of range: a crash falls by 1 to 99", row.percent.0));
            }
            let (fall, hold, recover) = (row.fall, row.hold, row.recover);
            let effect = Effect::Crash { depth, fall, hold, recover };
            let lasts = fall.plus(hold).plus(recover);
            Ok((row.at, What::Spell(lasts, scope(row.symbol.as_ref(), row.sector.as_ref())?, effect)))
        })?;
        self.rows(&mut file.burst, |row| {
            Ok((row.at, What::Spell(row.lasts, Scope::All, Effect::Burst(row.rate.0))))
        })?;
        self.faults(&mut file.fault.stall, |row| Ok((row.at, row.lasts, Fault::Stall)))?;
        self.faults(&mut file.fault.drop, |row| {
            Ok((row.at, row.lasts, Fault::Drop { probability: row.probability.0 }))
        })?;
        self.faults(&mut file.fault.duplicate, |row| {
            Ok((row.at, row.lasts, Fault::Duplicate { probability: row.probability.0 }))
        })?;
        self.faults(&mut file.fault.reorder, |row| {
            if row.within.nanos() > MAX_REORDER_NANOS {
                return Err(format!("within: {} is more than 10s", row.within));
            }
            Ok((row.at, row.lasts, Fault::Reorder { within: row.within }))
        })?;
        self.faults(&mut file.fault.late, |row| {
            Ok((row.at, row.lasts, Fault::Late { by: row.by, probability: row.probability.0 }))
        })
    }

    fn rows<Row>(
        &mut self,
        rows: &mut Vec<Spanned<Row>>,
        read: impl Fn(&Row) -> Result<(Length, What), String>,
    ) -> Result<(), ScenarioError> {
        for row in rows.drain(..) {
            let line = line_at(self.text, row.span().start);
            let (at, what) = read(row.get_ref()).map_err(|message| ScenarioError { line, message })?;
            self.steps.push(Step { at, line, what });
        }
        Ok(())
    }

    fn faults<Row>(
        &mut self,
        rows: &mut Vec<Spanned<Row>>,
        read: impl Fn(&Row) -> Result<(Length, Length, Fault), String>,
    ) -> Result<(), ScenarioError> {
        for row in rows.drain(..) {
            let line = line_at(self.text, row.span().start);
            let (at, lasts, fault) =
                read(row.get_ref()).map_err(|message| ScenarioError { line, message })?;
            self.faults.push(FaultSpell { at, until: at.plus(lasts), line, fault });
        }
        Ok(())
    }
}

/// The longest delay for reordering; delayed ticks are in memory.
const MAX_REORDER_NANOS: i64 = 10_000_000_000;

fn scope(symbol_name: Option<&String>, sector: Option<&String>) -> Result<Scope, String> {
    match (symbol_name, sector) {
        (Some(_), Some(_)) => Err("symbol and sector: only one of them".to_owned()),
        (Some(name), None) => Ok(Scope::Symbol(symbol(name)?)),
        (None, Some(sector)) => Ok(Scope::Sector(sector.clone())),
        (None, None) => Ok(Scope::All),
    }
}

fn symbol(text: &str) -> Result<Symbol, String> {
    Symbol::new(text).map_err(|error| format!("symbol: {error}"))
}

/// A company of medium size that is listed.
fn listing(row: &file::ListRow) -> Result<Listing, String> {
    let decimal = |key: &str, text: &str| {
        let value = parse_decimal(text).map_err(|error| format!("{key}: {error}"))?;
        if value.is_sign_positive() && !value.is_zero() {
            Ok(value.normalize())
        } else {
            Err(format!("{key}: must be above 0"))
        }
    };
    let tick_size = decimal("tick_size", &row.tick_size)?;
    let scale = u8::try_from(tick_size.scale()).map_err(|_| "tick_size: too fine".to_owned())?;
    let units = |key: &str, value| {
        let price = Price::from_decimal(value, scale).map_err(|error| format!("{key}: {error}"))?;
        i64::try_from(price.units()).map_err(|_| format!("{key}: it has too many digits"))
    };
    let (tick_size, price) = (units("tick_size", tick_size)?, units("price", decimal("price", &row.price)?)?);
    if price % tick_size != 0 || price > SAFE_INTEGER / 8 {
        return Err(format!("price: {} is no whole number of ticks of {}", row.price, row.tick_size));
    }
    Ok(Listing {
        instrument: Instrument {
            name: row.name.clone(),
            sector: row.sector.clone(),
            currency: row.currency.clone(),
            price_scale: scale,
            tick_size: tick_size.into(),
            anchor: Price::new(price),
            previous_close: Price::new(price),
            ..Instrument::unknown(symbol(&row.symbol)?)
        },
        lot_size: 1,
        volatility: 4_000,
        activity: 50,
    })
}
