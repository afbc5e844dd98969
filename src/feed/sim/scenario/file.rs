//! The form of a scenario file. A table's name states what happens, its keys when and to which symbols.

use super::ScenarioError;
use super::values::{Factor, Length, Moment, Percent, Probability, Rate, Symbols};
use crate::hint::hint;
use serde::Deserialize;
use toml::Spanned;

type Rows<Row> = Vec<Spanned<Row>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub about: String,
    pub start: Option<Moment>,
    pub end: Option<Spanned<Length>>,
    #[serde(default)]
    pub market: MarketRow,
    #[serde(default)]
    pub phase: Rows<PhaseRow>,
    #[serde(default)]
    pub halt: Rows<HaltRow>,
    #[serde(default)]
    pub jump: Rows<JumpRow>,
    #[serde(default)]
    pub volatility: Rows<VolatilityRow>,
    #[serde(default)]
    pub crash: Rows<CrashRow>,
    #[serde(default)]
    pub burst: Rows<BurstRow>,
    #[serde(default)]
    pub list: Rows<ListRow>,
    #[serde(default)]
    pub delist: Rows<DelistRow>,
    #[serde(default)]
    pub fault: FaultRows,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct MarketRow {
    pub symbols: Option<Symbols>,
    pub rate: Option<Rate>,
    pub seed: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PhaseRow {
    pub at: Length,
    pub is: Phase,
}

/// A phase of the market.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    PreOpen,
    Auction,
    Continuous,
    Halt,
    Close,
}

impl Phase {
    /// As a file has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreOpen => "pre-open",
            Self::Auction => "auction",
            Self::Continuous => "continuous",
            Self::Halt => "halt",
            Self::Close => "close",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HaltRow {
    pub at: Length,
    #[serde(rename = "for")]
    pub lasts: Length,
    pub symbol: Option<String>,
    pub sector: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct JumpRow {
    pub at: Length,
    pub percent: Percent,
    pub symbol: Option<String>,
    pub sector: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VolatilityRow {
    pub at: Length,
    #[serde(rename = "for")]
    pub lasts: Length,
    pub times: Factor,
    pub symbol: Option<String>,
    pub sector: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CrashRow {
    pub at: Length,
    pub percent: Percent,
    pub fall: Length,
    #[serde(default)]
    pub hold: Length,
    pub recover: Length,
    pub symbol: Option<String>,
    pub sector: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BurstRow {
    pub at: Length,
    #[serde(rename = "for")]
    pub lasts: Length,
    pub rate: Rate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListRow {
    pub at: Length,
    pub symbol: String,
    /// As text, as decimals are exact.
    pub price: String,
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub sector: String,
    #[serde(default = "usd")]
    pub currency: String,
    #[serde(default = "cent")]
    pub tick_size: String,
}

fn usd() -> String {
    "USD".to_owned()
}

fn cent() -> String {
    "0.01".to_owned()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DelistRow {
    pub at: Length,
    pub symbol: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultRows {
    #[serde(default)]
    pub stall: Rows<StallRow>,
    #[serde(default)]
    pub drop: Rows<ChanceRow>,
    #[serde(default)]
    pub duplicate: Rows<ChanceRow>,
    #[serde(default)]
    pub reorder: Rows<ReorderRow>,
    #[serde(default)]
    pub late: Rows<LateRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StallRow {
    pub at: Length,
    #[serde(rename = "for")]
    pub lasts: Length,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChanceRow {
    pub at: Length,
    #[serde(rename = "for")]
    pub lasts: Length,
    pub probability: Probability,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReorderRow {
    pub at: Length,
    #[serde(rename = "for")]
    pub lasts: Length,
    pub within: Length,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LateRow {
    pub at: Length,
    #[serde(rename = "for")]
    pub lasts: Length,
    pub by: Length,
    #[serde(default)]
    pub probability: Probability,
}

impl Phase {
    pub fn quotes(self) -> bool {
        !matches!(self, Self::Halt | Self::Close)
    }
}

impl File {
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| line_at(text, span.start));
            let message = error.message().lines().collect::<Vec<_>>().join(": ");
            ScenarioError { line, message: with_hint(&message) }
        })
    }
}

/// The number of the line at an offset in a text, from 1.
pub(super) fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

/// serde reports: unknown field `simbol`, expected one of `at`, `symbol`. The likeliest name is put before
/// the list.
fn with_hint(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.as_slice() {
        [wrong, known @ ..] if message.starts_with("unknown") && !known.is_empty() => {
            let what = if message.starts_with("unknown field") { "key" } else { "value" };
            let near = hint(wrong, "there", known.iter().copied());
            format!("unknown {what} {wrong:?}: {near}")
        }
        _ => message.replace('`', "\""),
    }
}
