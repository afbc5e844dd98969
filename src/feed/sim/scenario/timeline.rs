use super::faults::Fault;
use super::file::Phase;
use super::{Effect, Length, Scenario, Scope, What};
use std::fmt::{self, Display, Formatter};

/// The timeline, a line for each thing that happens.
impl Display for Scenario {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { symbols, rate, seed, start, end, .. } = self;
        let start = start.map_or_else(|| "when it is played".to_owned(), |start| start.to_string());
        let end = end.map_or_else(|| "never ends".to_owned(), |end| format!("ends at {end}"));
        writeln!(f, "{symbols} symbols, {rate} ticks/s, seed {seed}; starts {start}, {end}")?;
        let steps = self.steps.iter().map(|step| (step.at, step.what.to_string()));
        let faults = self.faults.iter().map(|spell| {
            let lasts = Length::from_nanos(spell.until.nanos() - spell.at.nanos()).unwrap_or(spell.until);
            (spell.at, format!("fault for {lasts}: {}", spell.fault))
        });
        let mut lines: Vec<(Length, String)> = steps.chain(faults).collect();
        if lines.first().is_none_or(|(at, _)| at.nanos() > 0) {
            lines.push((Length::default(), What::Phase(Phase::Continuous).to_string()));
        }
        lines.sort_by_key(|line| line.0);
        lines.iter().try_for_each(|(at, line)| writeln!(f, "{at:>10}  {line}"))
    }
}

impl Display for What {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phase(phase) => phase.fmt(f),
            Self::Jump(scope, percent) => write!(f, "news: {scope} {percent:+} %"),
            Self::List(listing) => {
                let instrument = &listing.instrument;
                let price = instrument.previous_close.to_decimal(instrument.price_scale).unwrap_or_default();
                write!(f, "list {} at {price}", instrument.symbol)
            }
            Self::Delist(symbol) => write!(f, "delist {symbol}"),
            Self::Spell(lasts, scope, Effect::Halt) => write!(f, "halt {scope} for {lasts}"),
            Self::Spell(lasts, scope, Effect::Volatility(times)) => {
                write!(f, "volatility of {scope} {times} times as high for {lasts}")
            }
            Self::Spell(_, scope, Effect::Crash { depth, fall, hold, recover }) => {
                let percent = depth * 100.0;
                write!(
                    f,
                    "crash of {scope} by {percent} % within {fall}, there for {hold}, back within {recover}"
                )
            }
            Self::Spell(lasts, _, Effect::Burst(rate)) => write!(f, "burst of {rate} ticks/s for {lasts}"),
        }
    }
}

impl Display for Phase {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PreOpen => "pre-open: quotes, no trades",
            Self::Auction => "auction: quotes, and one trade per symbol at its end",
            Self::Continuous => "continuous: quotes and trades",
            Self::Halt => "halt of the market",
            Self::Close => "close",
        })
    }
}

impl Display for Scope {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all symbols"),
            Self::Sector(sector) => write!(f, "@{sector}"),
            Self::Symbol(symbol) => symbol.fmt(f),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let percent = |probability: &f64| probability * 100.0;
        match self {
            Self::Stall => f.write_str("stalled"),
            Self::Drop { probability } => write!(f, "{} % of the ticks dropped", percent(probability)),
            Self::Duplicate { probability } => {
                write!(f, "{} % of the ticks told twice", percent(probability))
            }
            Self::Reorder { within } => write!(f, "ticks reordered within {within}"),
            Self::Late { by, probability } => {
                write!(f, "{} % of the ticks with times {by} in the past", percent(probability))
            }
        }
    }
}
