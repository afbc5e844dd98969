use std::fmt::{self, Write};

/// A text that is safe to print. What does not show in one line, such as control characters and those that
/// turn the direction of writing, is escaped: errors quote files, and end up on terminals.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                // Quotes and backslashes are printable; quoted texts were escaped already.
                '"' | '\'' | '\\' => f.write_char(character)?,
                other => write!(f, "{}", other.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_show_is_escaped() {
        let check = |text, expected: &str| assert_eq!(Printable(text).to_string(), expected);
        check("x.csv line 3: \"caf\u{e9}\\n\" isn't 1", "x.csv line 3: \"caf\u{e9}\\n\" isn't 1");
        check("a\nb\tc\r\x1b[31m\0\u{7f}\u{85}", r"a\nb\tc\r\u{1b}[31m\0\u{7f}\u{85}");
        check("\u{202e}\u{200b}\u{2028}\u{feff}", r"\u{202e}\u{200b}\u{2028}\u{feff}");
    }
}
