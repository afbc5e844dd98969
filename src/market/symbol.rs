use percent_encoding::percent_decode_str;
use std::{borrow::Borrow, borrow::Cow, fmt, sync::Arc};

/// The name of an instrument: 1 to 128 bytes of printable Unicode, inner spaces permitted.
///
/// It is compared byte for byte: there is no Unicode normalization, and case counts. Invisible characters are
/// rejected: control and formatting characters (among them those that turn the direction of writing), and
/// blanks other than U+0020.
///
/// In topics, lists and names of files it is written by [`Self::escaped`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(Arc<str>);

/// Why a text is no symbol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SymbolError {
    /// No byte at all.
    #[error("symbol is empty")]
    Empty,
    /// More than [`Symbol::MAX_LEN`] bytes.
    #[error("symbol of {len} bytes exceeds the limit of {max}", max = Symbol::MAX_LEN)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// Invisible, or a blank where none may be.
    #[error("symbol {symbol:?} contains {character:?}, which a symbol must not")]
    Character {
        /// What was given.
        symbol: String,
        /// The first one that a symbol must not contain.
        character: char,
    },
    /// The escaped bytes are not UTF-8.
    #[error("symbol {symbol:?}: what it escapes is no UTF-8")]
    Escape {
        /// What was given.
        symbol: String,
    },
}

impl Symbol {
    /// In bytes of UTF-8.
    pub const MAX_LEN: usize = 128;

    /// The text as it is, without unescaping.
    ///
    /// # Errors
    /// [`SymbolError`] names the first rule that `text` breaks.
    pub fn new(text: &str) -> Result<Self, SymbolError> {
        if text.is_empty() {
            return Err(SymbolError::Empty);
        }
        if text.len() > Self::MAX_LEN {
            return Err(SymbolError::TooLong { len: text.len() });
        }
        let edges = [text.chars().next(), text.chars().last()];
        let bad = text
            .chars()
            .find(|&c| !is_printable(c))
            .or_else(|| edges.into_iter().flatten().find(|&c| c == ' '));
        match bad {
            Some(character) => Err(SymbolError::Character { symbol: text.to_owned(), character }),
            None => Ok(Self(text.into())),
        }
    }

    /// Reads a symbol in which `%` and two hexadecimal digits are a byte of UTF-8; any other `%` is itself.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn unescaped(text: &str) -> Result<Self, SymbolError> {
        Self::new(&unescaped(text)?)
    }

    /// Unescaped.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As it is written in topics and lists: only what would be misread there is escaped. That is a comma, an
    /// `@` at the start, a `*` that is the entire symbol, and a `%` before two hexadecimal digits.
    #[must_use]
    pub fn escaped(&self) -> Cow<'_, str> {
        let text = &*self.0;
        if !text.starts_with('@') && text != "*" && !text.contains([',', '%']) {
            return Cow::Borrowed(text);
        }
        let mut escaped = String::with_capacity(text.len() + 8);
        for (at, c) in text.char_indices() {
            let is_hex = |b: &u8| b.is_ascii_hexdigit();
            match c {
                ',' => escaped.push_str("%2C"),
                '@' if at == 0 => escaped.push_str("%40"),
                '*' if text.len() == 1 => escaped.push_str("%2A"),
                '%' if text.as_bytes().get(at + 1..at + 3).is_some_and(|next| next.iter().all(is_hex)) => {
                    escaped.push_str("%25");
                }
                _ => escaped.push(c),
            }
        }
        Cow::Owned(escaped)
    }
}

/// # Errors
/// [`SymbolError::Escape`] if the result is no text.
fn unescaped(text: &str) -> Result<Cow<'_, str>, SymbolError> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let symbol = || text.chars().take(100).collect();
    percent_decode_str(text).decode_utf8().map_err(|_| SymbolError::Escape { symbol: symbol() })
}

fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // Visible means printed unescaped, after something that combining characters can belong to.
    let mut text = String::from("x");
    text.push(c);
    text.escape_debug().nth(1) == Some(c)
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

    /// As [`Self::unescaped`], the way people type one.
    fn from_str(text: &str) -> Result<Self, SymbolError> {
        Self::unescaped(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let got = Symbol::new(text).map_or_else(|e| e.to_string(), |s| s.to_string());
        assert_eq!(got, expected);
    }

    #[test]
    fn real_symbols_of_many_venues_are_symbols() {
        for symbol in [
            "AAPL",
            "BRK.B",
            "BTCUSDT",
            "XMR/USD",
            "AAPL  250221C00250000",
            "^GSPC",
            "币安人生USDT",
            "@107",
            "XYZ*",
            "BAC-I*",
            "A,B",
            "*",
            "e\u{301}",
            "🐕USDT",
            "ابتث",
        ] {
            check(symbol, symbol);
        }
        check(&"币".repeat(42), &"币".repeat(42));
    }

    #[test]
    fn what_cannot_be_seen_is_refused() {
        check("", "symbol is empty");
        check(" A", "symbol \" A\" contains ' ', which a symbol must not");
        check("A ", "symbol \"A \" contains ' ', which a symbol must not");
        check("A\n", "symbol \"A\\n\" contains '\\n', which a symbol must not");
        for hidden in [
            '\u{202e}', '\u{2066}', '\u{200b}', '\u{200d}', '\u{a0}', '\u{3000}', '\u{feff}', '\u{85}',
            '\u{e000}', '\u{2028}',
        ] {
            let escaped = hidden.escape_unicode();
            check(
                &format!("A{hidden}B"),
                &format!("symbol \"A{escaped}B\" contains '{escaped}', which a symbol must not"),
            );
        }
        check(&"A".repeat(129), "symbol of 129 bytes exceeds the limit of 128");
        check(&"币".repeat(43), "symbol of 129 bytes exceeds the limit of 128");
    }

    #[test]
    fn what_would_be_read_as_something_else_is_escaped() {
        let check = |text, expected| assert_eq!(Symbol::new(text).unwrap().escaped(), expected);
        check("@107", "%40107");
        check("A@B", "A@B");
        check("XYZ*", "XYZ*");
        check("*", "%2A");
        check("A,B", "A%2CB");
        check("50%", "50%");
        check("%2C", "%252C");
        check("币安人生USDT", "币安人生USDT");
        assert_eq!("XYZ%2a".parse(), Symbol::new("XYZ*"));
        assert_eq!("%E5%B8%81".parse(), Symbol::new("币"));
        let error = "%E5%B8".parse::<Symbol>().unwrap_err().to_string();
        assert_eq!(error, "symbol \"%E5%B8\": what it escapes is no UTF-8");
        assert!("%0A".parse::<Symbol>().is_err());
    }

    proptest! {
        #[test]
        fn an_escaped_symbol_reads_as_itself(text in "[@*,%a-f0-9币 ]{1,12}") {
            if let Ok(symbol) = Symbol::new(&text) {
                prop_assert_eq!(symbol.escaped().parse::<Symbol>().unwrap(), symbol.clone());
                prop_assert!(!symbol.escaped().contains(','));
            }
        }
    }
}
