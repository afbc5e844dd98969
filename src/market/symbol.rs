use std::{borrow::Borrow, fmt, sync::Arc};

/// What an instrument is called: 1 to 64 bytes of printable ASCII, inner blanks allowed.
///
/// Commas, `*`, and a leading `@` or blank are refused: topics are written `quote:AAPL,quote:*,quote:@technology`,
/// and a symbol must never be mistaken for one of those.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(Arc<str>);

/// Why a text is no symbol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SymbolError {
    #[error("symbol is empty")]
    Empty,
    #[error("symbol of {len} bytes exceeds the limit of {max}", max = Symbol::MAX_LEN)]
    TooLong { len: usize },
    #[error("symbol {symbol:?} contains {character:?}, which a symbol must not")]
    Character { symbol: String, character: char },
}

impl Symbol {
    pub const MAX_LEN: usize = 64;

    /// # Errors
    /// [`SymbolError`] names the first rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, SymbolError> {
        if text.is_empty() {
            return Err(SymbolError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(SymbolError::TooLong { len: text.len() });
        }
        let edge = |c: char| c == ' ' || c == '@';
        let bad = text
            .chars()
            .find(|&c| !(' '..='~').contains(&c) || c == ',' || c == '*')
            .or_else(|| text.chars().next().filter(|&c| edge(c)))
            .or_else(|| text.chars().last().filter(|&c| c == ' '));
        match bad {
            Some(character) => Err(SymbolError::Character { symbol: text.to_owned(), character }),
            None => Ok(Self(text.into())),
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Symbol {
    type Err = SymbolError;
    fn from_str(text: &str) -> Result<Self, SymbolError> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = Symbol::new(text).map_or_else(|e| e.to_string(), |s| s.to_string());
        assert_eq!(got, expected);
    }

    #[test]
    fn real_symbols_of_many_venues_are_symbols() {
        for symbol in ["AAPL", "BRK.B", "BTCUSDT", "XMR/USD", "AAPL  250221C00250000", "^GSPC"] {
            check(symbol, symbol);
        }
    }

    #[test]
    fn texts_that_would_read_as_another_topic_are_refused() {
        check("", "symbol is empty");
        check("A,B", "symbol \"A,B\" contains ',', which a symbol must not");
        check("*", "symbol \"*\" contains '*', which a symbol must not");
        check("@tech", "symbol \"@tech\" contains '@', which a symbol must not");
        check(" A", "symbol \" A\" contains ' ', which a symbol must not");
        check("A ", "symbol \"A \" contains ' ', which a symbol must not");
        check("A\n", "symbol \"A\\n\" contains '\\n', which a symbol must not");
        check(&"A".repeat(65), "symbol of 65 bytes exceeds the limit of 64");
    }
}
