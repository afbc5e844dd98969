use super::{path::Path, random::Random};

/// What moves many prices at once: the market, and each sector.
#[derive(Clone)]
pub(super) struct Factors {
    market: Path,
    sectors: Vec<Sector>,
}

/// The parts of an instrument's moves by source. Squares add up to 1, so that the sum of three paths of
/// volatility 1 has volatility 1; the square of `market` is the correlation with other sectors' instruments.
#[derive(Clone, Copy)]
pub(super) struct Mix {
    pub(super) market: f64,
    pub(super) sector: f64,
    pub(super) own: f64,
}

#[derive(Clone)]
struct Sector {
    name: String,
    path: Path,
    mix: Mix,
    /// Trades day and night: without the rhythm of the stock market.
    always_on: bool,
}

/// The sector's number in [`Factors`].
#[derive(Clone, Copy)]
pub(super) struct SectorId(usize);

/// What an instrument has in common with its sector at a moment.
pub(super) struct Common {
    /// The share of the market and the sector in the instrument's own walk.
    pub(super) level: f64,
    /// The weight of the instrument's own path.
    pub(super) own: f64,
    pub(super) pace: f64,
}

impl Factors {
    pub(super) fn new(at: i64) -> Self {
        Self { market: Path::new(at), sectors: Vec::new() }
    }

    /// The sector of that name, created if there is none yet.
    pub(super) fn sector(&mut self, name: &str, at: i64) -> SectorId {
        if let Some(known) = self.sectors.iter().position(|s| s.name == name) {
            return SectorId(known);
        }
        let (mix, always_on) = match name {
            "index" => (Mix { market: 0.95, sector: 0.2, own: 0.24 }, false),
            "commodities" => (Mix { market: 0.2, sector: 0.5, own: 0.84 }, false),
            "fx" => (Mix { market: 0.1, sector: 0.5, own: 0.86 }, true),
            "crypto" => (Mix { market: 0.25, sector: 0.7, own: 0.67 }, true),
            _ => (Mix { market: 0.55, sector: 0.55, own: 0.63 }, false),
        };
        self.sectors.push(Sector { name: name.to_owned(), path: Path::new(at), mix, always_on });
        SectorId(self.sectors.len() - 1)
    }

    pub(super) fn is_always_on(&self, sector: SectorId) -> bool {
        self.sectors[sector.0].always_on
    }

    /// Brings the market and one sector forward to `now`.
    pub(super) fn advance(&mut self, sector: SectorId, now: i64, pace: f64, random: &mut Random) -> Common {
        self.market.advance(now, pace, random);
        let sector = &mut self.sectors[sector.0];
        let pace = if sector.always_on { 1.0 } else { pace };
        sector.path.advance(now, pace, random);
        let Mix { market, sector: share, own } = sector.mix;
        Common { level: market * self.market.level() + share * sector.path.level(), own, pace }
    }
}
