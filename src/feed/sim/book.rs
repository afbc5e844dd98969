use super::{
    factors::{Common, SectorId},
    float,
    past::Past,
    path::Path,
    random::Random,
    whole,
};
use crate::market::{
    Conditions, Counts, Instrument, InstrumentId, Listing, Price, Quote, SAFE_INTEGER, Side, Size, Timestamp,
    Trade,
};

/// The best bid and offer of one instrument, and the fair value they follow.
/// Prices count in ticks, sizes in lots; bid < ask always.
#[derive(Clone)]
pub(super) struct Book {
    id: InstrumentId,
    pub(super) sector: SectorId,
    bid: Level,
    ask: Level,
    /// In ticks; quotes are around it.
    fair: f64,
    /// The instrument's volatility now, 1 on average: spreads grow and sizes shrink with it.
    unrest: f64,
    own: Path,
    influence: Influence,
    /// Its walk when it was last read, and that walk under the scenario's influence.
    walked: f64,
    strayed: f64,
    rules: Rules,
}

/// A scenario's effects on an instrument at a moment; each is 1 for none.
#[derive(Clone, Copy)]
pub(super) struct Influence {
    /// Multiplies the fair value.
    pub level: f64,
    /// Multiplies its moves.
    pub volatility: f64,
    /// Multiplies the spread, and divides the sizes.
    pub unrest: f64,
}

impl Influence {
    pub const NONE: Self = Self { level: 1.0, volatility: 1.0, unrest: 1.0 };
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Level {
    ticks: i64,
    lots: i64,
}

/// Constants of an instrument.
#[derive(Clone)]
struct Rules {
    /// Price units.
    tick_size: i64,
    /// Size units.
    lot_size: i64,
    /// Quoted sizes are whole multiples of it, in lots: 100 shares, elsewhere 1.
    round_lot: i64,
    /// The fair value at rest, in ticks: the previous close and the opening gap.
    rest: f64,
    /// Ticks the fair value moves for one unit of a [`Path`].
    ticks_per_unit: f64,
    /// Ticks, in a calm market; may be under 1.
    usual_spread: f64,
    /// Lots at the best price, in a calm market.
    usual_lots: f64,
    max_ticks: i64,
    max_lots: i64,
}

/// 252 days of six and a half hours: the year of annual volatility.
const SECONDS_A_YEAR: f64 = 252.0 * 6.5 * 3600.0;

impl Book {
    /// `instrument` is `listing` on the tape: under its number, perhaps at finer scales.
    pub(super) fn open(
        listing: &Listing,
        instrument: &Instrument,
        sector: SectorId,
        now: i64,
        random: &mut Random,
    ) -> Self {
        let rules = Rules::new(listing, instrument, random);
        let empty = Level { ticks: 0, lots: 0 };
        let mut book = Self {
            id: instrument.id,
            sector,
            bid: empty,
            ask: empty,
            fair: rules.rest,
            unrest: 1.0,
            own: Path::new(now),
            influence: Influence::NONE,
            walked: 0.0,
            strayed: 0.0,
            rules,
        };
        book.place(random);
        book
    }

    pub(super) fn id(&self) -> InstrumentId {
        self.id
    }

    /// Brings the fair value forward to `now`.
    pub(super) fn advance(&mut self, now: i64, common: &Common, random: &mut Random) {
        self.own.advance(now, common.pace, random);
        let walked = common.level + common.own * self.own.level();
        let Influence { level, volatility, unrest } = self.influence;
        self.strayed += (volatility - 1.0) * (walked - self.walked);
        self.walked = walked;
        self.fair = (self.rules.rest + self.rules.ticks_per_unit * (walked + self.strayed)) * level;
        self.unrest = self.own.volatility() * (0.5 + 0.5 * common.pace) * unrest;
        let margin = self.width() / 2.0 + 1.0;
        self.fair = self.fair.min(float(self.rules.max_ticks) - margin).max(margin);
    }

    /// From the next [`Self::advance`] on.
    pub(super) fn set_influence(&mut self, influence: Influence) {
        self.influence = influence;
    }

    /// Places all orders again, around the fair value.
    pub(super) fn place(&mut self, random: &mut Random) {
        let (bid, ask) = self.target();
        self.bid = Level { ticks: bid, lots: self.fresh_lots(random) };
        self.ask = Level { ticks: ask, lots: self.fresh_lots(random) };
    }

    /// The trade of an auction: large, at the price between bid and offer that is nearest to the fair value.
    pub(super) fn cross(&self, at: Timestamp, conditions: Conditions, random: &mut Random) -> Trade {
        /// An auction's size, as a multiple of the size at the best price.
        const CROSSED: f64 = 25.0;
        let ticks = whole(self.fair).clamp(self.bid.ticks, self.ask.ticks);
        let lots = self.rules.round(whole(self.rules.usual_lots * CROSSED * (0.5 + random.skewed())));
        Trade {
            price: self.rules.price(ticks),
            size: self.rules.size(lots),
            side: Side::None,
            conditions,
            counts: Counts::EVERYTHING,
            booked: 0,
            ts_event: at,
            ts_recv: at,
        }
    }

    /// Its history before it opens at `start`, from its present price.
    pub(super) fn past(&self, seed: u64, start: Timestamp, trades_per_second: f64) -> Past {
        let Rules { tick_size, lot_size, max_ticks, .. } = self.rules;
        Past {
            // Another walk for each, and none that the market itself takes.
            seed: !seed.wrapping_add(u64::from(self.id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            start,
            opens_at: i64::midpoint(self.bid.ticks, self.ask.ticks),
            max_ticks,
            tick_size,
            lot_size,
            usual_lots: self.rules.usual_lots * 0.3,
            ticks_per_second: self.rules.ticks_per_unit,
            trades_per_second,
        }
    }

    pub(super) fn quote(&self, at: Timestamp) -> Quote {
        Quote {
            bid: self.rules.price(self.bid.ticks),
            bid_size: self.rules.quoted(self.bid.lots),
            ask: self.rules.price(self.ask.ticks),
            ask_size: self.rules.quoted(self.ask.lots),
            ts_event: at,
            ts_recv: at,
        }
    }

    /// Changes the quote: a price if it has strayed from the fair value, mostly just a size.
    pub(super) fn requote(&mut self, random: &mut Random) {
        let before = (self.bid, self.ask);
        if random.chance(0.6) {
            self.follow(random);
        }
        if before == (self.bid, self.ask) {
            self.resize(random);
        }
    }

    /// A trade within the quote. It reduces the book, and widens it if a side is used up.
    pub(super) fn trade(&mut self, at: Timestamp, random: &mut Random) -> Trade {
        let mid = float(self.bid.ticks + self.ask.ticks) / 2.0;
        // Takers of liquidity tend to anticipate the price.
        let lean = ((self.fair - mid) / self.width()).clamp(-0.5, 0.5);
        let buy = random.chance(0.5 + 0.6 * lean);
        let wanted = self.wanted_lots(random);
        let inside = self.ask.ticks - self.bid.ticks > 1 && random.chance(0.125);
        let (ticks, lots) = if inside {
            // Hidden orders at the middle: nothing that is quoted changes.
            (i64::midpoint(self.bid.ticks, self.ask.ticks), wanted)
        } else {
            let fresh = self.fresh_lots(random);
            let (side, away) = if buy { (&mut self.ask, 1) } else { (&mut self.bid, -1) };
            let filled = (wanted.min(side.lots), side.ticks);
            side.lots -= filled.0;
            if side.lots < self.rules.round_lot {
                let ticks = (side.ticks + away).clamp(1, self.rules.max_ticks);
                *side = Level { ticks, lots: fresh };
            }
            (filled.1, filled.0)
        };
        let odd_lot = lots < self.rules.round_lot;
        Trade {
            price: self.rules.price(ticks),
            size: self.rules.size(lots),
            side: if buy { Side::Buy } else { Side::Sell },
            conditions: Conditions::new(if odd_lot { "I" } else { "" }).unwrap_or_default(),
            counts: Counts::EVERYTHING,
            booked: 0,
            ts_event: at,
            ts_recv: at,
        }
    }

    /// The target spread, in ticks.
    fn width(&self) -> f64 {
        (self.rules.usual_spread * self.unrest).max(1.0)
    }

    /// Bid and ask if all orders were placed again.
    fn target(&self) -> (i64, i64) {
        let half = self.width() / 2.0;
        let bid = whole(self.fair - half).clamp(1, self.rules.max_ticks - 1);
        (bid, whole(self.fair + half).clamp(bid + 1, self.rules.max_ticks.max(bid + 1)))
    }

    /// Moves the side that has strayed too far; both if the price has moved far away.
    fn follow(&mut self, random: &mut Random) {
        let width = self.width();
        let (bid, ask) = self.target();
        // Slack keeps a fair value that hovers between two ticks from moving the quote at each turn.
        let slack = 0.8 + width / 4.0;
        let off = |level: Level, edge: f64| edge - float(level.ticks);
        let bid_off = off(self.bid, self.fair - width / 2.0);
        let ask_off = off(self.ask, self.fair + width / 2.0);
        let far = 2.0 + width;
        let both = bid_off.abs() > far && ask_off.abs() > far;
        // The side that moves away from the other goes first.
        let ask_first = ask_off > 0.0;
        let move_ask = ask_off.abs() > slack && (ask_first || bid_off.abs() <= slack);
        let move_bid = bid_off.abs() > slack && !move_ask;
        let lots = self.fresh_lots(random);
        if both {
            self.bid = Level { ticks: bid, lots };
            self.ask = Level { ticks: ask, lots: self.fresh_lots(random) };
        } else if move_ask {
            let ticks = ask.max(self.bid.ticks + 1);
            if ticks != self.ask.ticks {
                self.ask = Level { ticks, lots };
            }
        } else if move_bid {
            let ticks = bid.min(self.ask.ticks - 1);
            if ticks != self.bid.ticks {
                self.bid = Level { ticks, lots };
            }
        }
    }

    /// Changes the size at one of the best prices.
    fn resize(&mut self, random: &mut Random) {
        let half_way = self.fresh_lots(random) / 2;
        let side = if random.chance(0.5) { &mut self.bid } else { &mut self.ask };
        let lots = self.rules.round(side.lots / 2 + half_way);
        let one_more = side.lots + self.rules.round_lot;
        let changed = self.rules.quoted(lots) != self.rules.quoted(side.lots);
        side.lots = if changed || one_more > self.rules.max_lots { lots } else { one_more };
    }

    fn fresh_lots(&self, random: &mut Random) -> i64 {
        self.rules.round(whole(self.rules.usual_lots * random.skewed() / self.unrest))
    }

    /// The lots of a trade: half of the trades in shares are odd lots.
    fn wanted_lots(&self, random: &mut Random) -> i64 {
        if self.rules.round_lot > 1 && random.chance(0.5) {
            return whole(float(self.rules.round_lot - 1) * random.unit()).max(1);
        }
        self.rules.round(whole(self.rules.usual_lots * 0.6 * random.skewed()))
    }
}

impl Rules {
    fn new(listing: &Listing, instrument: &Instrument, random: &mut Random) -> Self {
        let finer = instrument.size_scale.saturating_sub(listing.instrument.size_scale);
        let lot_size = narrow(Size::new(listing.lot_size).refined(finer).units()).max(1);
        let tick_size = narrow(instrument.tick_size).max(1);
        let close = float(narrow(instrument.previous_close.units()));
        let volatility = f64::from(listing.volatility) / 10_000.0;
        let activity = f64::from(listing.activity);
        let kind = Kind::of(listing);
        // Overnight the market moved about as far as half a day's trading would have moved it.
        let gap = volatility * (0.5_f64 / 252.0).sqrt() * random.normal();
        let rest = (close / float(tick_size) * (1.0 + gap.clamp(-0.5, 0.5))).max(1.0);
        // Wider for volatile instruments, narrower for busy ones.
        let usual_spread = kind.tightness() * rest * volatility / activity.sqrt();
        let lot = float(lot_size) / power_of_ten(instrument.size_scale);
        let price = close / power_of_ten(instrument.price_scale);
        let max_lots = (SAFE_INTEGER / lot_size).max(1);
        Self {
            tick_size,
            lot_size,
            round_lot: if matches!(kind, Kind::Share) { 100 } else { 1 },
            rest,
            ticks_per_unit: rest * volatility / SECONDS_A_YEAR.sqrt(),
            usual_spread,
            usual_lots: (kind.depth() * activity.sqrt() / price / lot).min(float(max_lots) / 8.0),
            max_ticks: (SAFE_INTEGER / 2 / tick_size).max(2),
            max_lots,
        }
    }

    fn price(&self, ticks: i64) -> Price {
        Price::new(ticks.saturating_mul(self.tick_size))
    }

    fn size(&self, lots: i64) -> Size {
        Size::new(lots.saturating_mul(self.lot_size))
    }

    /// The displayed size of `lots`.
    fn quoted(&self, lots: i64) -> Size {
        self.size(lots - lots % self.round_lot)
    }

    /// `lots` as whole round lots, at least one.
    fn round(&self, lots: i64) -> i64 {
        (lots - lots % self.round_lot).clamp(self.round_lot, self.max_lots)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Share,
    Future,
    Currency,
    Crypto,
}

impl Kind {
    fn of(listing: &Listing) -> Self {
        let i = &listing.instrument;
        match i.sector.as_str() {
            "crypto" => Self::Crypto,
            "fx" => Self::Currency,
            "commodities" => Self::Future,
            // Shares trade singly and in cents, futures in steps of their own.
            _ if (i.price_scale, i.tick_size, i.size_scale, listing.lot_size) == (2, 1, 0, 1) => Self::Share,
            _ => Self::Future,
        }
    }

    /// Spread over (price × volatility / √activity).
    fn tightness(self) -> f64 {
        if let Self::Crypto = self { 0.000_25 } else { 0.005 }
    }

    /// The usual value at the best price, in the instrument's currency, over √activity.
    fn depth(self) -> f64 {
        match self {
            Self::Share => 6_000.0,
            Self::Future => 12_000.0,
            Self::Currency => 100_000.0,
            Self::Crypto => 3_000.0,
        }
    }
}

/// A simulated market counts in 64 bits; a listing with more units at the tape's scale is clamped to that.
fn narrow(units: i128) -> i64 {
    i64::try_from(units).unwrap_or(i64::MAX)
}

fn power_of_ten(exponent: u8) -> f64 {
    (0..exponent).fold(1.0, |power, _| power * 10.0)
}
