//! What a request selects: its parameters, and the symbols it names.

use crate::hint::nearest;
use crate::hub::{Book, Replica, Scope};
use crate::market::{InstrumentId, Symbol};
use crate::server::problem::Problem;
use std::borrow::Cow;

/// Symbols and sets that one request may name.
pub(super) const MAX_SYMBOLS: usize = 1000;

/// The query parameters of a request.
#[derive(Debug)]
pub(super) struct Parameters(Vec<(&'static str, String)>);

/// Symbols as a request names them: `A,B`, `*`, `@SECTOR`.
#[derive(Clone, Debug)]
pub(super) struct Symbols(Vec<Scope>);

/// The instruments that a request is about, on one tape.
#[derive(Clone, Debug)]
pub(super) enum Selection {
    /// Those to come, too.
    All,
    These(Vec<InstrumentId>),
}

impl Parameters {
    /// # Errors
    /// 400: a parameter that is not among these.
    pub fn parse(query: Option<&str>, names: &[&'static str]) -> Result<Self, Problem> {
        let mut values = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let Some(known) = names.iter().find(|known| **known == name) else {
                return Err(unknown(&name, names));
            };
            values.push((*known, value.into_owned()));
        }
        Ok(Self(values))
    }

    /// The value of a parameter; the last one if it comes several times.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// What a parameter says, read by a function that returns what would be right where it does not.
    pub fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = |expected: String| {
            let text: String = text.chars().take(100).collect();
            Problem::bad_request(format!("{name}={text:?}: expected {expected}"))
        };
        read(text).map(Some).map_err(wrong)
    }

    /// The parameter `limit`.
    pub fn limit(&self, default: usize, max: usize) -> Result<usize, Problem> {
        let read = |text: &str| {
            let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
            limit.ok_or_else(|| format!("a number from 1 to {max}"))
        };
        Ok(self.read("limit", read)?.unwrap_or(default))
    }
}

/// The values of the query parameters of these names; any other parameter is an error.
pub(in crate::server) fn query_of<const N: usize>(
    query: Option<&str>,
    names: [&'static str; N],
) -> Result<[Option<String>; N], Problem> {
    let parameters = Parameters::parse(query, &names)?;
    Ok(names.map(|name| parameters.get(name).map(str::to_owned)))
}

fn unknown(name: &str, names: &[&str]) -> Problem {
    if name == "room" {
        let detail = "room: this is of the server and its public market, and not to be had of a room";
        return Problem::bad_request(detail);
    }
    let name: String = name.chars().take(100).collect();
    let there: Cow<'_, str> = match names {
        [] => "there are none".into(),
        [only] => format!("there is only {only}").into(),
        names => format!("there are {}", names.join(", ")).into(),
    };
    Problem::bad_request(format!("unknown query parameter {name:?}: {there}"))
}

impl Symbols {
    pub fn one(symbol: Symbol) -> Self {
        Self(vec![Scope::Symbol(symbol)])
    }

    /// # Errors
    /// 400: one cannot be a symbol, or they are too many.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let names: Vec<&str> = text.split(',').filter(|name| !name.is_empty()).collect();
        if names.len() > MAX_SYMBOLS {
            return Err(Problem::bad_request(format!("symbols: at most {MAX_SYMBOLS} in one request")));
        }
        let scope = |name: &str| match name.as_bytes() {
            b"*" => Ok(Scope::All),
            // As in topics: no sector is a number.
            [b'@', sector @ ..] if !sector.iter().all(u8::is_ascii_digit) => {
                Symbol::new(&name[1..]).map(|_| Scope::Sector(name[1..].into()))
            }
            _ => name.parse().map(Scope::Symbol),
        };
        let scopes = names.into_iter().map(scope).collect::<Result<_, _>>();
        scopes.map(Self).map_err(|error| Problem::bad_request(format!("symbols: {error}")))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The instruments, in the order of the request.
    ///
    /// # Errors
    /// 404: there is no such symbol or sector.
    pub fn resolve(&self, replica: &Replica) -> Result<Selection, Problem> {
        if self.0.contains(&Scope::All) {
            return Ok(Selection::All);
        }
        let mut these = Vec::new();
        for scope in &self.0 {
            match scope {
                Scope::Symbol(symbol) => these.push(book(replica, symbol.as_str())?.definition.id),
                Scope::Sector(sector) => {
                    let before = these.len();
                    let members = replica.books().filter(|book| *book.definition.sector == **sector);
                    these.extend(members.map(|book| book.definition.id));
                    if these.len() == before {
                        return Err(no_sector(replica, sector));
                    }
                }
                Scope::All | Scope::Market => {}
            }
        }
        Ok(Selection::These(these))
    }
}

impl Selection {
    pub fn get(&self, index: usize, replica: &Replica) -> Option<InstrumentId> {
        match self {
            Self::All => replica.books().nth(index).map(|book| book.definition.id),
            Self::These(these) => these.get(index).copied(),
        }
    }

    /// The same instruments by number, each once.
    pub fn sorted(mut self) -> Self {
        if let Self::These(these) = &mut self {
            these.sort_unstable();
            these.dedup();
        }
        self
    }

    /// Where an instrument is in a sorted selection, or the next one, if it is not there.
    pub fn at(&self, id: InstrumentId) -> usize {
        match self {
            Self::All => id.index(),
            Self::These(these) => these.partition_point(|&this| this < id),
        }
    }
}

fn book<'a>(replica: &'a Replica, symbol: &str) -> Result<&'a Book, Problem> {
    replica.by_symbol(symbol).ok_or_else(|| {
        let symbol: String = symbol.chars().take(100).collect();
        let symbols = replica.books().map(|book| book.definition.symbol.as_str());
        match nearest(&symbol, symbols) {
            Some(near) => Problem::not_found(format!("unknown symbol {symbol:?}: did you mean {near:?}?"))
                .with("nearest", near),
            None => Problem::not_found(format!("unknown symbol {symbol:?}: /v1/instruments lists all")),
        }
    })
}

fn no_sector(replica: &Replica, sector: &str) -> Problem {
    let sectors = replica.books().map(|book| book.definition.sector.as_str());
    match nearest(sector, sectors.filter(|known| !known.is_empty())) {
        Some(near) => {
            Problem::not_found(format!("no symbol is of sector {sector:?}: did you mean \"@{near}\"?"))
                .with("nearest", format!("@{near}"))
        }
        None => Problem::not_found(format!("no symbol is of sector {sector:?}: /v1/instruments lists all")),
    }
}
