//! Topics as a client writes them, and what they come down to on a tape. Pure; any thread.
//!
//! Invariant: a [`Topic`] that was parsed is displayed in one form, and that form parses to the same topic.

use crate::hint::nearest;
use crate::market::{Instrument, InstrumentId, Interval, Symbol, SymbolError};
use std::{fmt, sync::Arc};

/// Which data of an instrument a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Best bid and ask, and their sizes.
    Quote,
    /// Trades, each delivered once; breaks and corrections too.
    Trades,
    /// Bars of one second: the latest, and the closed ones.
    Bars1s,
    /// Bars of one minute: the latest, and the closed ones.
    Bars1m,
    /// The bar of the day, and the close before it.
    Day,
    /// Trading state of an instrument; of the market, also the feed's state.
    Status,
    /// How many sessions watch an instrument.
    Watchers,
    /// Of the server itself; no instrument has it.
    Stats,
    /// The messages of a channel, each delivered once; no instrument has it.
    Messages,
    /// The states in a channel; no instrument has it.
    States,
}

/// What a client subscribes: one topic, or a set of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// The same for all topics of a set.
    pub kind: Kind,
    /// The text after the colon.
    pub scope: Scope,
}

/// Which instruments a [`Topic`] covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// `status`, `stats`: the market, or the server.
    Market,
    /// `quote:AAPL`, `messages:desk`; the symbol or channel may be unknown still.
    Symbol(Symbol),
    /// `quote:*`
    All,
    /// `quote:@technology`
    Sector(Arc<str>),
}

/// One topic of one instrument or channel. A [`Topic`] resolves to these on a given tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicKey {
    /// What it is of.
    pub subject: Subject,
    /// One that its subject has.
    pub kind: Kind,
}

/// What a single topic is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The market, or the server.
    Market,
    /// An instrument.
    Instrument(InstrumentId),
    /// A channel, by its number in a replica.
    Channel(ChannelId),
}

/// Number of a channel, in the order in which they were first posted to: the same in all replicas of a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u32);

/// Why a text is no topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TopicError {
    /// For the client, with a hint; quotes at most 100 characters of the text.
    pub message: String,
    /// A topic that may have been meant.
    pub nearest: Option<String>,
}

impl Kind {
    /// The kinds that instruments have, in the order of the wire's numbers.
    pub const ALL: [Self; 7] =
        [Self::Quote, Self::Trades, Self::Bars1s, Self::Bars1m, Self::Day, Self::Status, Self::Watchers];
    /// The kinds that channels have.
    pub const OF_CHANNELS: [Self; 2] = [Self::Messages, Self::States];

    /// As in topics: `quote`, `bars.1s`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quote => "quote",
            Self::Trades => "trades",
            Self::Bars1s => "bars.1s",
            Self::Bars1m => "bars.1m",
            Self::Day => "day",
            Self::Status => "status",
            Self::Watchers => "watchers",
            Self::Stats => "stats",
            Self::Messages => "messages",
            Self::States => "states",
        }
    }

    /// Whether each of its entries is delivered, once and in order.
    #[must_use]
    pub const fn has_ring(self) -> bool {
        match self {
            Self::Trades | Self::Bars1s | Self::Bars1m | Self::Messages => true,
            Self::Quote | Self::Day | Self::Status | Self::Watchers | Self::Stats | Self::States => false,
        }
    }

    /// Whether channels have it, and no instrument.
    #[must_use]
    pub const fn is_of_channels(self) -> bool {
        matches!(self, Self::Messages | Self::States)
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

    /// Its index in [`Self::ALL`], if instruments have it.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The longest scope, bytes: a symbol of which each byte is escaped.
const MAX_SCOPE_BYTES: usize = 3 * Symbol::MAX_LEN;

impl Topic {
    /// The topic `status`.
    pub const STATUS: Self = Self { kind: Kind::Status, scope: Scope::Market };
    /// The topic `stats`.
    pub const STATS: Self = Self { kind: Kind::Stats, scope: Scope::Market };

    /// The topic of a single instrument.
    #[must_use]
    pub fn of(kind: Kind, symbol: &Symbol) -> Self {
        Self { kind, scope: Scope::Symbol(symbol.clone()) }
    }

    /// The channel whose messages it is.
    #[must_use]
    pub fn messages_of(&self) -> Option<&Symbol> {
        match &self.scope {
            Scope::Symbol(channel) if self.kind == Kind::Messages => Some(channel),
            _ => None,
        }
    }

    /// Whether this topic or set covers `kind` topics of that instrument.
    #[must_use]
    pub fn covers(&self, instrument: &Instrument) -> bool {
        match &self.scope {
            _ if self.kind.is_of_channels() => false,
            Scope::Market => false,
            Scope::Symbol(symbol) => *symbol == instrument.symbol,
            Scope::All => true,
            Scope::Sector(sector) => **sector == *instrument.sector,
        }
    }

    /// Reads a topic as a client writes it.
    ///
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
                _ if let Some(kind) = Kind::OF_CHANNELS.into_iter().find(|k| k.name() == text) => {
                    Err(TopicError::set_of_channels(text, kind))
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
        let kinds = || Kind::ALL.into_iter().chain(Kind::OF_CHANNELS);
        let Some(kind) = kinds().find(|k| k.name() == kind_name) else {
            // A scope that is too long for a symbol is not repeated in the hint.
            let nearest =
                nearest(kind_name, kinds().map(Kind::name)).filter(|_| scope.len() <= MAX_SCOPE_BYTES);
            return Err(TopicError::new(text, nearest.map(|kind| format!("{kind}:{scope}"))));
        };
        let scope = match scope.as_bytes() {
            b"*" | [b'@', ..] if kind.is_of_channels() => {
                return Err(TopicError::set_of_channels(text, kind));
            }
            b"*" => Scope::All,
            // Several topics written as one.
            _ if scope.contains(',') => return Err(TopicError::comma(text)),
            // No sector is a number: Hyperliquid's `@107` is a symbol, also where it is not escaped.
            [b'@', sector @ ..] if !sector.iter().all(u8::is_ascii_digit) => {
                let sector = &scope[1..];
                Symbol::new(sector).map_err(|e| TopicError::scope(text, &e))?;
                Scope::Sector(sector.into())
            }
            _ => Scope::Symbol(Symbol::unescaped(scope).map_err(|e| TopicError::scope(text, &e))?),
        };
        Ok(Self { kind, scope })
    }
}

impl TopicError {
    fn new(text: &str, nearest: Option<String>) -> Self {
        let text: String = text.chars().take(100).collect();
        let hint = if let Some(topic) = &nearest {
            format!("did you mean {topic:?}?")
        } else {
            let kinds = Kind::ALL.map(Kind::name).join(", ");
            format!(
                "topics are KIND:SYMBOL, KIND:*, KIND:@SECTOR, messages:CHANNEL, states:CHANNEL, status or stats, \
                 KIND one of {kinds}"
            )
        };
        Self { message: format!("unknown topic {text:?}: {hint}"), nearest }
    }

    fn comma(text: &str) -> Self {
        let text: String = text.chars().take(100).collect();
        let message =
            format!("malformed topic {text:?}: one topic each, and a comma in a symbol is written %2C");
        Self { message, nearest: None }
    }

    fn set_of_channels(text: &str, kind: Kind) -> Self {
        let (text, kind): (String, _) = (text.chars().take(100).collect(), kind.name());
        let message = format!("malformed topic {text:?}: {kind} are of one channel, {kind}:CHANNEL");
        Self { message, nearest: None }
    }

    fn scope(text: &str, error: &SymbolError) -> Self {
        let text: String = text.chars().take(100).collect();
        Self { message: format!("malformed topic {text:?}: {error}"), nearest: None }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.name();
        match &self.scope {
            Scope::Market => f.write_str(kind),
            Scope::Symbol(symbol) => write!(f, "{kind}:{}", symbol.escaped()),
            Scope::All => write!(f, "{kind}:*"),
            Scope::Sector(sector) => write!(f, "{kind}:@{sector}"),
        }
    }
}

impl TopicKey {
    /// The topic `status`.
    pub const MARKET_STATUS: Self = Self { subject: Subject::Market, kind: Kind::Status };
    /// The topic `stats`.
    pub const SERVER_STATS: Self = Self { subject: Subject::Market, kind: Kind::Stats };

    /// A topic of an instrument.
    #[must_use]
    pub const fn of(instrument: InstrumentId, kind: Kind) -> Self {
        Self { subject: Subject::Instrument(instrument), kind }
    }

    /// A topic of a channel.
    #[must_use]
    pub const fn of_channel(channel: ChannelId, kind: Kind) -> Self {
        Self { subject: Subject::Channel(channel), kind }
    }

    /// `None`: it is of the market, the server or a channel.
    #[must_use]
    pub const fn instrument(self) -> Option<InstrumentId> {
        match self.subject {
            Subject::Instrument(instrument) => Some(instrument),
            Subject::Market | Subject::Channel(_) => None,
        }
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
            "quote:币安人生USDT",
            "quote:XYZ*",
            "trades:%40107",
            "messages:the desk",
            "states:%40desk",
            "watchers:AAPL",
            "day:A%2CB",
            "status:%2A",
        ] {
            check(text, &format!("ok {text}"));
        }
        check("quote:XYZ%2a", "ok quote:XYZ*");
        check("quote:@107", "ok quote:%40107");
        check("quote:%41", "ok quote:A");
        assert_eq!(
            Topic::parse("quote:%40tech").unwrap().scope,
            Scope::Symbol(Symbol::new("@tech").unwrap())
        );
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
            "unknown topic \"AAPL\": topics are KIND:SYMBOL, KIND:*, KIND:@SECTOR, messages:CHANNEL, \
             states:CHANNEL, status or stats, KIND one of quote, trades, bars.1s, bars.1m, day, status, watchers",
        );
        check("message:desk", "unknown topic \"message:desk\": did you mean \"messages:desk\"?");
        check("messages", "malformed topic \"messages\": messages are of one channel, messages:CHANNEL");
        check("states:*", "malformed topic \"states:*\": states are of one channel, states:CHANNEL");
        check("quote:", "malformed topic \"quote:\": symbol is empty");
        check(
            "quote:a,b",
            "malformed topic \"quote:a,b\": one topic each, and a comma in a symbol is written %2C",
        );
    }
}
