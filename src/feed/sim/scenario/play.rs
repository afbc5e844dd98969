use super::file::Phase;
use super::{Effect, Length, Scope, Step, What};
use crate::feed::sim::book::Influence;
use crate::feed::sim::exchange::Exchange;
use crate::feed::sim::{Clock, SimConfig, float, session};
use crate::feed::{Feed, FeedError};
use crate::market::{
    Conditions, Event, FeedKind, Instruments, Listing, Price, Quote, Size, Status, Symbol, Timestamp,
    TradingState,
};
use std::collections::BTreeSet;
use std::num::NonZeroU32;

/// A simulated market under a script. The same script, seed and market give the same events; another start
/// gives the same events at other times, as the time of day has no effect.
///
/// As in the plain simulator a tick is the only event of its moment. The script's actions come at their own
/// moments, with the quotes that follow from them. The end is the last moment, after all others.
#[derive(Clone)]
pub(super) struct Play {
    config: SimConfig,
    exchange: Exchange,
    listed: Vec<Listed>,
    /// What is listed when it begins; `None` once it has.
    opening: Option<Vec<Listing>>,
    marks: std::iter::Peekable<std::vec::IntoIter<Mark>>,
    spells: Vec<Spell>,
    /// The last moment; `None`: no end.
    end: Option<Timestamp>,
    is_over: bool,
    phase: Phase,
    /// Whether the market was open when the auction began, if there is one.
    was_open: bool,
    /// Active halts of the whole market.
    halts: usize,
    /// The market's state that was published last.
    told: Option<(Phase, TradingState)>,
    clock: Clock,
    rate: NonZeroU32,
    /// When the next tick is; `None` while there are none.
    tick: Option<Timestamp>,
}

/// A book of the exchange, by the same index.
#[derive(Clone)]
struct Listed {
    listing: Listing,
    /// Its active halts, except those of the whole market.
    halts: usize,
    /// The effect of news on its price: a factor.
    jumped: f64,
    is_delisted: bool,
}

/// A moment at which the script does something.
#[derive(Clone)]
struct Mark {
    at: Timestamp,
    action: Action,
}

#[derive(Clone)]
enum Action {
    Do(What),
    Begin(usize),
    /// A crash has reached its bottom, or begins to recover.
    Turn(usize),
    End(usize),
}

/// An effect that lasts.
#[derive(Clone)]
struct Spell {
    begin: Timestamp,
    scope: Scope,
    effect: Effect,
    is_on: bool,
}

/// How busy the market is: as on average, at any time of day.
const PACE: f64 = 1.0;
/// Before the opening few orders are shown.
const PRE_OPEN_UNREST: f64 = 3.0;
/// At the bottom of a crash spreads are wider by this factor, and offers smaller.
const CRASH_UNREST: f64 = 4.0;

impl Play {
    /// `steps` in the order of time.
    pub fn new(config: SimConfig, listings: Vec<Listing>, steps: Vec<Step>, end: Option<Length>) -> Self {
        let after = |length: Length| config.start.plus_nanos(length.nanos());
        let (mut marks, mut spells) = (Vec::new(), Vec::new());
        for Step { at, what, .. } in steps {
            let mut mark = |at, action| marks.push(Mark { at: after(at), action });
            let What::Spell(lasts, scope, effect) = what else {
                mark(at, Action::Do(what));
                continue;
            };
            let index = spells.len();
            mark(at, Action::Begin(index));
            if let Effect::Crash { fall, hold, .. } = effect {
                mark(at.plus(fall), Action::Turn(index));
                mark(at.plus(fall).plus(hold), Action::Turn(index));
            }
            mark(at.plus(lasts), Action::End(index));
            spells.push(Spell { begin: after(at), scope, effect, is_on: false });
        }
        marks.sort_by_key(|mark| mark.at);
        Self {
            config,
            exchange: Exchange::new(config.seed, config.start),
            listed: Vec::new(),
            opening: Some(listings),
            marks: marks.into_iter().peekable(),
            spells,
            end: end.map(after),
            is_over: false,
            phase: Phase::Continuous,
            was_open: false,
            halts: 0,
            told: None,
            clock: Clock::new(config.start, config.rate),
            rate: config.rate,
            tick: None,
        }
    }
}

impl Feed for Play {
    fn kind(&self) -> FeedKind {
        FeedKind::Simulator
    }

    fn fork(&self) -> Option<Box<dyn Feed>> {
        Some(Box::new(self.clone()))
    }

    fn next(
        &mut self,
        instruments: &mut Instruments,
        out: &mut Vec<Event>,
    ) -> Result<Option<Timestamp>, FeedError> {
        if let Some(listings) = self.opening.take() {
            let start = self.config.start;
            for listing in listings {
                self.list(listing, start, instruments, out);
            }
            self.act(start, instruments, out);
            return Ok(Some(start));
        }
        let before = out.len();
        loop {
            let mark =
                self.marks.peek().map(|mark| mark.at).filter(|&at| self.end.is_none_or(|end| at <= end));
            let tick = self.tick.filter(|&at| self.end.is_none_or(|end| at < end));
            let at = match (mark, tick) {
                (Some(mark), tick) if tick.is_none_or(|tick| mark <= tick) => {
                    self.act(mark, instruments, out);
                    mark
                }
                (_, Some(tick)) => {
                    self.tick = Some(self.clock.next());
                    self.trade_or_quote(tick, out);
                    tick
                }
                // The script includes the silence up to its end.
                (_, None) if std::mem::replace(&mut self.is_over, true) => return Ok(None),
                (_, None) => return Ok(self.end),
            };
            if out.len() > before {
                return Ok(Some(at));
            }
        }
    }
}

/// The script's actions at a moment, and what is to follow from them.
#[derive(Default)]
struct Wake {
    /// Books to be quoted again.
    stirred: BTreeSet<usize>,
    /// Whether the set of books with turns has changed.
    shares: bool,
}

impl Play {
    fn trade_or_quote(&mut self, at: Timestamp, out: &mut Vec<Event>) {
        if self.exchange.tell_unquoted(at, out) {
            return;
        }
        let Some(index) = self.exchange.pick(session::PEAK) else { return };
        let pace = self.bring(index, at);
        self.exchange.tick(index, at, pace, self.phase == Phase::Continuous, out);
    }

    /// Takes all actions of the script for this moment.
    fn act(&mut self, at: Timestamp, instruments: &mut Instruments, out: &mut Vec<Event>) {
        self.exchange.tell_unquoted(at, out);
        let is_first = self.told.is_none();
        let mut wake = Wake { shares: is_first, ..Wake::default() };
        while let Some(mark) = self.marks.next_if(|mark| mark.at <= at) {
            match mark.action {
                Action::Do(What::Phase(phase)) => self.enter(phase, at, &mut wake, out),
                Action::Do(What::Jump(scope, percent)) => {
                    for index in self.covered(&scope) {
                        let jumped = &mut self.listed[index].jumped;
                        *jumped = (*jumped * (1.0 + percent / 100.0)).clamp(0.001, 1000.0);
                        wake.stirred.insert(index);
                    }
                }
                Action::Do(What::List(listing)) => {
                    wake.stirred.insert(self.listed.len());
                    wake.shares = true;
                    self.list(*listing, at, instruments, out);
                }
                Action::Do(What::Delist(symbol)) => self.delist(symbol, at, &mut wake, out),
                // Turned into spells before.
                Action::Do(What::Spell(..)) => {}
                Action::Begin(spell) => {
                    self.spells[spell].is_on = true;
                    self.halt(spell, at, true, &mut wake, out);
                }
                Action::Turn(spell) => wake.stirred.extend(self.covered(&self.spells[spell].scope)),
                Action::End(spell) => {
                    self.spells[spell].is_on = false;
                    self.halt(spell, at, false, &mut wake, out);
                    if let Effect::Crash { .. } = self.spells[spell].effect {
                        wake.stirred.extend(self.covered(&self.spells[spell].scope));
                    }
                }
            }
        }
        self.tell_state(at, out);
        if is_first {
            wake.stirred.extend(0..self.listed.len());
        }
        self.follow(at, &wake, out);
    }

    fn enter(&mut self, phase: Phase, at: Timestamp, wake: &mut Wake, out: &mut Vec<Event>) {
        let before = std::mem::replace(&mut self.phase, phase);
        self.was_open = before == Phase::Continuous;
        let conditions = match (before, phase) {
            // These letters mark opening and closing prints on the consolidated tapes of US shares.
            (Phase::Auction, Phase::Continuous) => Conditions::new("O"),
            (Phase::Auction, Phase::Close) => Conditions::new("6"),
            _ => None,
        };
        if let Some(conditions) = conditions.filter(|_| self.halts == 0) {
            for index in
                (0..self.listed.len()).filter(|&index| self.listed[index].is_free()).collect::<Vec<_>>()
            {
                self.bring(index, at);
                let Exchange { books, random, .. } = &mut self.exchange;
                out.push(Event::Trade(books[index].id(), books[index].cross(at, conditions, random)));
                wake.stirred.insert(index);
            }
        }
        if before.quotes() != phase.quotes() {
            wake.shares = true;
            wake.stirred.extend(0..self.listed.len());
        }
    }

    /// If a spell is a halt, begins or ends it.
    fn halt(&mut self, spell: usize, at: Timestamp, begins: bool, wake: &mut Wake, out: &mut Vec<Event>) {
        let Spell { scope, effect: Effect::Halt, .. } = &self.spells[spell] else { return };
        wake.shares = true;
        let covered = self.covered(scope);
        let count = |halts: &mut usize| {
            *halts = if begins { *halts + 1 } else { halts.saturating_sub(1) };
            // Whether this one changes the state.
            *halts == usize::from(begins)
        };
        if *scope == Scope::All {
            count(&mut self.halts);
            wake.stirred.extend(covered);
            return;
        }
        let state = if begins { TradingState::Halted } else { self.state() };
        for index in covered {
            let listed = &mut self.listed[index];
            if count(&mut listed.halts) && !listed.is_delisted {
                let id = self.exchange.books[index].id();
                out.push(Event::Status(Some(id), Status { state, ts_event: at }));
                wake.stirred.insert(index);
            }
        }
    }

    fn list(&mut self, listing: Listing, at: Timestamp, instruments: &mut Instruments, out: &mut Vec<Event>) {
        self.exchange.list(&listing, at, instruments, out);
        self.listed.push(Listed { listing, halts: 0, jumped: 1.0, is_delisted: false });
    }

    /// Delists it: its quote is withdrawn, and it is closed for good.
    fn delist(&mut self, symbol: Symbol, at: Timestamp, wake: &mut Wake, out: &mut Vec<Event>) {
        for index in self.covered(&Scope::Symbol(symbol)) {
            self.listed[index].is_delisted = true;
            wake.shares = true;
            let id = self.exchange.books[index].id();
            let (bid, ask) = (Price::NONE, Price::NONE);
            let (bid_size, ask_size) = (Size::ZERO, Size::ZERO);
            out.push(Event::Quote(id, Quote { bid, bid_size, ask, ask_size, ts_event: at, ts_recv: at }));
            out.push(Event::Status(Some(id), Status { state: TradingState::Closed, ts_event: at }));
        }
    }

    /// The `status` of the phase.
    fn state(&self) -> TradingState {
        match self.phase {
            // A closing auction is a part of the day.
            Phase::Auction if self.was_open => TradingState::Open,
            Phase::PreOpen | Phase::Auction => TradingState::PreOpen,
            Phase::Continuous => TradingState::Open,
            Phase::Halt => TradingState::Halted,
            Phase::Close => TradingState::Closed,
        }
    }

    fn tell_state(&mut self, at: Timestamp, out: &mut Vec<Event>) {
        let state = if self.halts > 0 { TradingState::Halted } else { self.state() };
        // Also for another phase with the same state: displays of the phase update on this event.
        if self.told.replace((self.phase, state)) != Some((self.phase, state)) {
            out.push(Event::Status(None, Status { state, ts_event: at }));
        }
    }

    /// Quotes the changed books again, and sets the clock to the present rate.
    fn follow(&mut self, at: Timestamp, wake: &Wake, out: &mut Vec<Event>) {
        let is_live = self.phase.quotes() && self.halts == 0;
        let stirred = wake.stirred.iter().filter(|&&index| is_live && self.listed[index].is_free());
        for index in stirred.copied().collect::<Vec<_>>() {
            self.bring(index, at);
            let Exchange { books, random, .. } = &mut self.exchange;
            books[index].place(random);
            out.push(Event::Quote(books[index].id(), books[index].quote(at)));
        }
        if wake.shares {
            let activity =
                |listed: &Listed| if is_live && listed.is_free() { listed.listing.activity } else { 0 };
            self.exchange.share_turns(self.listed.iter().map(activity));
        }
        let bursts = self.spells.iter().filter(|spell| spell.is_on).filter_map(|spell| match spell.effect {
            Effect::Burst(rate) => Some(rate),
            _ => None,
        });
        let rate = bursts.max().unwrap_or(self.config.rate);
        let is_ticking = self.exchange.is_active();
        if rate != self.rate || is_ticking != self.tick.is_some() {
            self.rate = rate;
            self.clock = Clock::new(at, rate);
            self.tick = is_ticking.then(|| self.clock.next());
        }
    }

    /// Brings a book forward to `at` under the script's effects; returns the pace of its sector.
    fn bring(&mut self, index: usize, at: Timestamp) -> f64 {
        let Listed { listing, jumped, .. } = &self.listed[index];
        let mut influence = Influence { level: *jumped, ..Influence::NONE };
        if self.phase == Phase::PreOpen {
            influence.unrest = PRE_OPEN_UNREST;
        }
        let on = self.spells.iter().filter(|spell| spell.is_on && spell.scope.covers(&listing.instrument));
        for spell in on {
            match spell.effect {
                Effect::Volatility(times) => {
                    influence.volatility *= times;
                    influence.unrest *= times;
                }
                Effect::Crash { depth, fall, hold, recover } => {
                    let fallen = fallen(at.nanos_since(spell.begin), fall, hold, recover);
                    influence.level *= 1.0 - depth * fallen;
                    influence.unrest *= 1.0 + (CRASH_UNREST - 1.0) * fallen;
                }
                Effect::Halt | Effect::Burst(_) => {}
            }
        }
        self.exchange.books[index].set_influence(influence);
        self.exchange.advance(index, at, PACE)
    }

    /// The books that a scope covers.
    fn covered(&self, scope: &Scope) -> Vec<usize> {
        let covers = |&index: &usize| scope.covers(&self.listed[index].listing.instrument);
        (0..self.listed.len()).filter(covers).collect()
    }
}

impl Listed {
    /// Whether it quotes and trades while the market does.
    fn is_free(&self) -> bool {
        self.halts == 0 && !self.is_delisted
    }
}

/// The part of a crash's depth that is reached, from 0 to 1, so many nanoseconds after its begin, with a
/// smooth start and end.
fn fallen(nanos: i64, fall: Length, hold: Length, recover: Length) -> f64 {
    let gently = |nanos: i64, of: Length| {
        let x = if of.nanos() == 0 { 1.0 } else { float(nanos) / float(of.nanos()) }.clamp(0.0, 1.0);
        x * x * (3.0 - 2.0 * x)
    };
    let recovering = nanos - fall.plus(hold).nanos();
    if recovering <= 0 { gently(nanos, fall) } else { 1.0 - gently(recovering, recover) }
}
