use crate::market::{Instrument, InstrumentId, Interval, Symbol, SymbolError};
use std::{fmt, sync::Arc};

/// What of an instrument a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    Quote,
    Trades,
    Bars1s,
    Bars1m,
    Day,
    Status,
    /// Of the server itself; no instrument has it.
    Stats,
}

/// What a client subscribes: one topic, or a set of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    pub kind: Kind,
    pub scope: Scope,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `status`, `stats`: the market, the server as a whole.
    Market,
    Symbol(Symbol),
    /// `quote:*`
    All,
    /// `quote:@technology`
    Sector(Arc<str>),
}

/// One topic of one instrument: what a [`Topic`] comes down to on a given tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicKey {
    /// `None`: the market or the server as a whole, which sort before every instrument.
    pub instrument: Option<InstrumentId>,
    pub kind: Kind,
}

/// Why a text is no topic, with the nearest one that is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TopicError {
    pub message: String,
    pub nearest: Option<String>,
}

impl Kind {
    /// All that instruments have.
    pub const ALL: [Self; 6] =
        [Self::Quote, Self::Trades, Self::Bars1s, Self::Bars1m, Self::Day, Self::Status];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quote => "quote",
            Self::Trades => "trades",
            Self::Bars1s => "bars.1s",
            Self::Bars1m => "bars.1m",
            Self::Day => "day",
            Self::Status => "status",
            Self::Stats => "stats",
        }
    }

    /// The topic kind that carries bars of this width.
    #[must_use]
    pub const fn of_bars(interval: Interval) -> Self {
        match interval {
            Interval::Second => Self::Bars1s,
            Interval::Minute => Self::Bars1m,
            Interval::Day => Self::Day,
        }
    }

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl Topic {
    pub const STATUS: Self = Self { kind: Kind::Status, scope: Scope::Market };
    pub const STATS: Self = Self { kind: Kind::Stats, scope: Scope::Market };

    #[must_use]
    pub fn of(kind: Kind, symbol: &Symbol) -> Self {
        Self { kind, scope: Scope::Symbol(symbol.clone()) }
    }

    /// Whether this topic or set takes in `kind` topics of that instrument.
    #[must_use]
    pub fn covers(&self, instrument: &Instrument) -> bool {
        match &self.scope {
            Scope::Market => false,
            Scope::Symbol(symbol) => *symbol == instrument.symbol,
            Scope::All => true,
            Scope::Sector(sector) => **sector == *instrument.sector,
        }
    }

    /// # Errors
    /// [`TopicError`] says what is wrong and, where a kind was misspelt, the nearest topic.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        let Some((kind_name, scope)) = text.split_once(':') else {
            return match text {
                "status" => Ok(Self::STATUS),
                "stats" => Ok(Self::STATS),
                _ if Kind::ALL.iter().any(|k| k.name() == text) => {
                    Err(TopicError::new(text, Some(format!("{text}:*"))))
                }
                _ => {
                    let likeness = |name: &&str| strsim::jaro_winkler(text, name);
                    let nearest =
                        ["status", "stats"].into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
                    let nearest = nearest.filter(|name| likeness(name) > 0.8);
                    Err(TopicError::new(text, nearest.map(str::to_owned)))
                }
            };
        };
        if kind_name == Kind::Stats.name() {
            return Err(TopicError::new(text, Some("stats".to_owned())));
        }
        let Some(kind) = Kind::ALL.into_iter().find(|k| k.name() == kind_name) else {
            let nearest = nearest(kind_name, Kind::ALL.into_iter().map(Kind::name));
            return Err(TopicError::new(text, nearest.map(|kind| format!("{kind}:{scope}"))));
        };
        let scope = match scope.as_bytes() {
            b"*" => Scope::All,
            [b'@', sector @ ..] if !sector.is_empty() => {
                let sector = &scope[1..];
                Symbol::new(sector).map_err(|e| TopicError::scope(text, &e))?;
                Scope::Sector(sector.into())
            }
            _ => Scope::Symbol(Symbol::new(scope).map_err(|e| TopicError::scope(text, &e))?),
        };
        Ok(Self { kind, scope })
    }
}

impl TopicError {
    fn new(text: &str, nearest: Option<String>) -> Self {
        let text: String = text.chars().take(100).collect();
        let hint = match &nearest {
            Some(topic) => format!("did you mean {topic:?}?"),
            None => {
                format!("topics are KIND:SYMBOL, KIND:*, KIND:@SECTOR, status or stats, KIND one of {}", {
                    Kind::ALL.map(Kind::name).join(", ")
                })
            }
        };
        Self { message: format!("unknown topic {text:?}: {hint}"), nearest }
    }

    fn scope(text: &str, error: &SymbolError) -> Self {
        let text: String = text.chars().take(100).collect();
        Self { message: format!("malformed topic {text:?}: {error}"), nearest: None }
    }
}

/// The candidate that `text` was most likely meant to be, if any is close.
pub fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = |c: &str| c.len().max(text.len()) / 3 + usize::from(c.len() > 2);
    let length = text.chars().count();
    candidates
        // No distance is less than that of the lengths; without this a long text would cost a long time.
        .filter(|&c| c.chars().count().abs_diff(length) <= allowed(c))
        .map(|c| (strsim::damerau_levenshtein(text, c), c))
        .filter(|&(distance, c)| distance <= allowed(c))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, c)| c)
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.name();
        match &self.scope {
            Scope::Market => f.write_str(kind),
            Scope::Symbol(symbol) => write!(f, "{kind}:{symbol}"),
            Scope::All => write!(f, "{kind}:*"),
            Scope::Sector(sector) => write!(f, "{kind}:@{sector}"),
        }
    }
}

impl TopicKey {
    /// The topic `status`.
    pub const MARKET_STATUS: Self = Self { instrument: None, kind: Kind::Status };
    /// The topic `stats`.
    pub const SERVER_STATS: Self = Self { instrument: None, kind: Kind::Stats };

    #[must_use]
    pub const fn of(instrument: InstrumentId, kind: Kind) -> Self {
        Self { instrument: Some(instrument), kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = Topic::parse(text).map_or_else(|e| e.to_string(), |t| format!("ok {t}"));
        assert_eq!(got, expected);
    }

    #[test]
    fn topics_read_as_they_are_written() {
        for text in [
            "quote:AAPL",
            "trades:BRK.B",
            "bars.1s:*",
            "day:@technology",
            "status",
            "status:X",
            "stats",
            "quote:A:B",
        ] {
            check(text, &format!("ok {text}"));
        }
    }

    #[test]
    fn a_misspelt_topic_is_answered_with_the_nearest_one() {
        check("qoute:AAPL", "unknown topic \"qoute:AAPL\": did you mean \"quote:AAPL\"?");
        check("trade:*", "unknown topic \"trade:*\": did you mean \"trades:*\"?");
        check("bars:X", "unknown topic \"bars:X\": did you mean \"bars.1s:X\"?");
        check("quote", "unknown topic \"quote\": did you mean \"quote:*\"?");
        check("staus", "unknown topic \"staus\": did you mean \"status\"?");
        check("stat", "unknown topic \"stat\": did you mean \"stats\"?");
        check("stats:X", "unknown topic \"stats:X\": did you mean \"stats\"?");
        check(
            "AAPL",
            "unknown topic \"AAPL\": topics are KIND:SYMBOL, KIND:*, KIND:@SECTOR, status or stats, \
             KIND one of quote, trades, bars.1s, bars.1m, day, status",
        );
        check("quote:", "malformed topic \"quote:\": symbol is empty");
        check(
            "quote:a,b",
            "malformed topic \"quote:a,b\": symbol \"a,b\" contains ',', which a symbol must not",
        );
    }
}
