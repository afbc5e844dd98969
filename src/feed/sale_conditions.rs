//! What trades of the US tapes count for, by the letters of their sale conditions.
//!
//! The rules, of minutes and of the day, are those that Alpaca publishes in its Market Data FAQ under "How
//! are bars aggregated?" (public copies without a date, read on 2026-11-29, which agree with each other). It
//! takes them from the plans' own documents, the CTS Pillar Output Specification for what is listed at NYSE,
//! NYSE American and the regional exchanges (tapes A and B), and the UTP Binary Output Specification for what
//! is listed at NASDAQ (tape C), without their footnotes; those documents were not read for this.
//!
//! It differs in one rule: a corrected close (`9`) sets prices of the day there, and none here, as it is
//! reported minutes or hours later, of trades that have counted. Four letters are not in it: `S` and `1`
//! count for everything, as in Polygon's glossary of conditions (which follows the UTP plan; read on the same
//! day), and `2` and `3` count as the stopped stock's `L` and `Z`, whose names they share. That glossary lets
//! the seller's trades (`R`) be a high or low; Alpaca's table does not, and the stricter one holds.

use crate::market::Counts;
use std::str::FromStr;

/// The plan that defines the letters of sale conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tape {
    /// A and B: the Consolidated Tape Association's.
    Cta,
    /// C: the UTP plan's.
    Utp,
    /// One of them, unknown which: where they differ, the stricter rule holds.
    Unknown,
}

/// No letter, or `@`, is a regular sale.
const REGULAR: Counts = Counts::EVERYTHING;
/// Reports of the official open and close, and corrections of the latter: their trades were reported before.
const REPORT: Counts = Counts::NOTHING;
/// A price that was not made in the market, or not in this one.
const NO_PRICE: Counts = Counts::VOLUME;
/// A price of an earlier time: within the day's range, and its open or close if there is no other yet.
const OF_BEFORE: Counts = Counts::VOLUME.and(Counts::DAY_HIGH_LOW);
/// A price of the extended hours: not a price of the day.
const EXTENDED: Counts = Counts::VOLUME.and(Counts::BARS_HIGH_LOW).and(Counts::BARS_LAST);

/// Letter, rule of tapes A and B, rule of tape C. If a plan does not have a letter, the other's rule is used.
///
/// The rule for late reports of trades that were the last when they took place (`L`, `2`) depends on who
/// reports them, which a letter does not say; they count, and are no close if there is a newer trade.
const RULES: [(u8, Counts, Counts); 34] = [
    (b'@', REGULAR, REGULAR),
    (b'A', REGULAR, REGULAR),     // acquisition
    (b'B', NO_PRICE, REGULAR),    // average price; of tape C bunched trades
    (b'C', NO_PRICE, NO_PRICE),   // cash
    (b'D', REGULAR, REGULAR),     // distribution
    (b'E', REGULAR, REGULAR),     // automatic execution
    (b'F', REGULAR, REGULAR),     // intermarket sweep order
    (b'G', OF_BEFORE, OF_BEFORE), // bunched, sold
    (b'H', NO_PRICE, NO_PRICE),   // price variation
    (b'I', NO_PRICE, NO_PRICE),   // odd lot
    (b'K', REGULAR, REGULAR),     // rule 127 or 155
    (b'L', REGULAR, REGULAR),     // sold last
    (b'M', REPORT, REPORT),       // official close of a market
    (b'N', NO_PRICE, NO_PRICE),   // next day
    (b'O', REGULAR, REGULAR),     // opening
    (b'P', OF_BEFORE, OF_BEFORE), // prior reference price
    (b'Q', REPORT, REPORT),       // official open of a market
    (b'R', NO_PRICE, NO_PRICE),   // seller
    (b'S', REGULAR, REGULAR),     // split trade
    (b'T', EXTENDED, EXTENDED),   // extended hours, Form T
    (b'U', NO_PRICE, NO_PRICE),   // extended hours, sold out of sequence
    (b'V', NO_PRICE, NO_PRICE),   // contingent
    (b'W', NO_PRICE, NO_PRICE),   // average price
    (b'X', REGULAR, REGULAR),     // cross
    (b'Y', REGULAR, REGULAR),     // yellow flag
    (b'Z', OF_BEFORE, OF_BEFORE), // sold out of sequence
    (b'1', REGULAR, REGULAR),     // stopped stock
    (b'2', REGULAR, REGULAR),     // stopped stock, sold last
    (b'3', OF_BEFORE, OF_BEFORE), // stopped stock, sold out of sequence
    (b'4', OF_BEFORE, OF_BEFORE), // derivatively priced
    (b'5', REGULAR, REGULAR),     // reopening
    (b'6', REGULAR, REGULAR),     // closing
    (b'7', NO_PRICE, NO_PRICE),   // qualified contingent
    (b'9', REPORT, REPORT),       // corrected consolidated close
];

impl Tape {
    /// What a trade with these letters counts for: what the rules of all of them allow. Unknown letters
    /// forbid nothing.
    #[must_use]
    pub fn counts(self, letters: &str) -> Counts {
        letters.bytes().fold(REGULAR, |counts, letter| counts & self.rule(letter))
    }

    fn rule(self, letter: u8) -> Counts {
        let rule = RULES.iter().find(|(known, ..)| *known == letter);
        rule.map_or(REGULAR, |&(_, cta, utp)| match self {
            Self::Cta => cta,
            Self::Utp => utp,
            Self::Unknown => cta & utp,
        })
    }
}

impl FromStr for Tape {
    type Err = &'static str;

    /// By the letter that the tapes have, or the plan's name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "A" | "B" | "cta" => Ok(Self::Cta),
            "C" | "utp" => Ok(Self::Utp),
            "us" => Ok(Self::Unknown),
            _ => Err("A, B or C, or cta, utp, or us where it may be either"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tape: Tape, letters: &str, expected: &str) {
        assert_eq!(tape.counts(letters).to_string(), expected, "{letters:?} of {tape:?}");
    }

    #[test]
    fn each_condition_counts_as_the_plans_say() {
        const EVERYTHING: &str = "volume high_low last";
        let rules = [
            (EVERYTHING, "@ A D E F K L O S X Y 1 2 5 6"),
            ("nothing", "M Q 9"),
            ("volume", "C H I N R U V W 7"),
            ("volume day_high_low", "G P Z 3 4"),
            ("volume bars_high_low bars_last", "T"),
        ];
        for (expected, letters) in rules {
            for letter in letters.split(' ') {
                for tape in [Tape::Cta, Tape::Utp, Tape::Unknown] {
                    check(tape, letter, expected);
                }
            }
        }
        // The one letter in which the plans differ.
        check(Tape::Cta, "B", "volume");
        check(Tape::Utp, "B", EVERYTHING);
        check(Tape::Unknown, "B", "volume");
        let told: usize = rules.iter().map(|(_, letters)| letters.split(' ').count()).sum();
        assert_eq!(told + 1, RULES.len());
    }

    #[test]
    fn the_strictest_of_several_conditions_holds() {
        check(Tape::Unknown, "", "volume high_low last");
        check(Tape::Unknown, "F  I", "volume");
        check(Tape::Unknown, "@FTI", "volume");
        check(Tape::Unknown, "FT", "volume bars_high_low bars_last");
        check(Tape::Utp, "@4 B", "volume day_high_low");
        check(Tape::Cta, "4 B", "volume");
        check(Tape::Unknown, "ZT", "volume");
        check(Tape::Unknown, "6M", "nothing");
        // Neither plan has these.
        check(Tape::Unknown, "ax8", "volume high_low last");
    }
}
