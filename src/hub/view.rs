//! Interned subscription sets, and the index from topics to the sets that watch them. Pure; on the shard
//! thread.
//!
//! Invariant: between calls of [`Views::settle`] no mark is on a view. After it, each cohort has all marks of
//! its view.

use super::channel::Channel;
use super::cohort::{COHORT, Cohort, CohortId, Flushed, words};
use super::membership::Membership;
use super::owed::{Due, Since, Upto};
use super::replica::{Book, Replica};
use super::topic::{ChannelId, Kind, Scope, Subject, Topic, TopicKey};
use crate::market::{Instrument, InstrumentId, Symbol};
use crate::tape::Position;
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;
use std::collections::{BTreeSet, VecDeque};
use std::{sync::Arc, time::Duration};

/// Number of a view, for as long as a session has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(u32);

/// What two sessions with the same bytes have in common: topics, form and rate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ViewKey {
    /// Sorted, each once.
    pub topics: Arc<[Topic]>,
    pub options: ViewOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewOptions {
    pub form: FormId,
    /// Whether quotes carry their `ts_event`.
    pub times: bool,
    /// The least time between two flushes; zero: no cap.
    pub period: Duration,
}

/// The form of its sessions' bytes: a number that only the encoder understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormId(pub u8);

/// One interned set of subscriptions.
#[derive(Debug)]
pub struct View {
    pub key: ViewKey,
    /// The key's topics on this tape, those included that have left its sets. Grows when an instrument is new
    /// to a set.
    topics: Vec<TopicKey>,
    /// Those of them that joined its sets or left them with a move of their instrument.
    moved: Option<Box<FxHashMap<TopicKey, Membership>>>,
    /// Changes of its topics since it was made.
    pub events: u64,
    /// Marks that its cohorts do not have yet, a bit per topic; empty outside [`Views::settle`].
    touched: Vec<u64>,
    is_touched: bool,
    /// The cohorts of its sessions.
    cohorts: Vec<CohortId>,
}

/// All views, each kept as long as a session has it, their cohorts, and the index from topics to the views
/// that watch them.
#[derive(Debug)]
pub struct Views {
    by_id: Slab<View>,
    cohorts: Slab<Cohort>,
    /// The most sessions in one cohort.
    most: usize,
    by_key: FxHashMap<ViewKey, ViewId>,
    watchers: Watchers,
    /// Views with a set, or with an unknown symbol: looked at when an instrument is defined.
    expectant: FxHashSet<ViewId>,
    /// Views by the sectors of their sets: looked at when an instrument moves.
    by_sector: FxHashMap<Arc<str>, BTreeSet<ViewId>>,
    /// Topics that have left a view's sets, until the view has been notified.
    leaving: Vec<(TopicKey, ViewId)>,
    /// Dirty cohorts; some perhaps gone since, or there twice.
    dirty: Vec<CohortId>,
    touched: Touched,
    /// Views with marks; empty outside [`Self::settle`].
    marked: Vec<ViewId>,
    /// By how much the number of sessions that name a symbol has changed since it was last asked for.
    named: FxHashMap<Symbol, i64>,
    /// Whether a topic of watchers is new here, or may be.
    has_new_watchers: bool,
}

/// Per topic the views that watch it, sorted, with the topic's number in each.
#[derive(Debug, Default)]
struct Watchers {
    topics: Vec<[Vec<(ViewId, u32)>; Kind::ALL.len()]>,
    channels: FxHashMap<TopicKey, Vec<(ViewId, u32)>>,
    market: Vec<(ViewId, u32)>,
    stats: Vec<(ViewId, u32)>,
    /// The views whose sets a topic has left.
    former: FxHashMap<TopicKey, Vec<(ViewId, u32)>>,
}

/// The topics touched since the last [`Views::settle`], and how often each.
///
/// Views are marked once per topic and fold instead of once per event: `benches/fanout` has ten trades of
/// each topic in a turn.
#[derive(Debug, Default)]
struct Touched {
    topics: Vec<TopicKey>,
    events: Vec<[u32; Kind::ALL.len()]>,
    channel_events: FxHashMap<TopicKey, u32>,
    market_events: u32,
    stats_events: u32,
}

impl ViewId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

impl ViewOptions {
    #[must_use]
    pub const fn new(form: FormId) -> Self {
        Self { form, times: false, period: Duration::ZERO }
    }
}

impl View {
    #[must_use]
    pub fn topics(&self) -> &[TopicKey] {
        &self.topics
    }

    /// Whether any of its topics joined its sets or left them. If not, each is [due](Self::due) since its
    /// session's position.
    #[must_use]
    pub fn has_moves(&self) -> bool {
        self.moved.is_some()
    }

    /// What is pending of a topic up to `upto` for a session that has everything up to `known`. `since`: from
    /// where it is pending if it has belonged to this view throughout.
    #[must_use]
    pub fn due(&self, topic: TopicKey, since: Since, known: Position, upto: Position) -> Due {
        let Some(membership) = self.moved.as_ref().and_then(|moved| moved.get(&topic)) else {
            return Due::Changes(since);
        };
        // A topic that is pending from the start is unknown, except for what was delivered since the session
        // has its position.
        let known = if since.position == Position::START { known } else { since.position };
        membership.due(since, known, upto)
    }

    /// Whether a topic's membership in its sets has ever changed.
    pub(super) fn has_moved(&self, topic: TopicKey) -> bool {
        self.moved.as_ref().is_some_and(|moved| moved.contains_key(&topic))
    }

    /// Marks a topic as touched so often. Returns whether it is the view's first mark.
    fn touch(&mut self, number: u32, events: u32) -> bool {
        self.events += u64::from(events);
        self.touched[number as usize / 64] |= 1 << (number % 64);
        !std::mem::replace(&mut self.is_touched, true)
    }

    /// Adds topics, and returns the number of the first.
    fn add(&mut self, new: &[TopicKey], cohorts: &mut Slab<Cohort>) -> u32 {
        let first = number(self.topics.len());
        self.topics.extend_from_slice(new);
        self.touched.resize(words(self.topics.len()), 0);
        for &cohort in &self.cohorts {
            cohorts[cohort.index()].grow(self.topics.len());
        }
        first
    }

    /// Changes of its topics since then, modulo 2^32.
    #[must_use]
    pub fn events_since(&self, flushed: Flushed) -> u32 {
        low(self.events).wrapping_sub(flushed.events)
    }
}

impl Default for Views {
    fn default() -> Self {
        Self::with_cohorts_of(COHORT)
    }
}

impl Views {
    /// `most`: sessions in a cohort, so that tests need few to see several.
    #[must_use]
    pub fn with_cohorts_of(most: usize) -> Self {
        Self {
            by_id: Slab::new(),
            cohorts: Slab::new(),
            most,
            by_key: FxHashMap::default(),
            watchers: Watchers::default(),
            expectant: FxHashSet::default(),
            by_sector: FxHashMap::default(),
            leaving: Vec::new(),
            dirty: Vec::new(),
            touched: Touched::default(),
            marked: Vec::new(),
            named: FxHashMap::default(),
            has_new_watchers: false,
        }
    }

    /// By how much the number of sessions that name a symbol in their topics has changed since the last call.
    /// Sets name none, nor do topics of watchers.
    pub fn take_named(&mut self) -> impl Iterator<Item = (Symbol, i64)> + use<> {
        std::mem::take(&mut self.named).into_iter().filter(|(_, change)| *change != 0)
    }

    /// Whether sessions have begun to name symbols, or ceased to.
    #[must_use]
    pub fn has_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// Whether a topic of watchers may be new since the last call.
    pub fn take_new_watchers(&mut self) -> bool {
        std::mem::take(&mut self.has_new_watchers)
    }

    /// The instruments whose number of watchers any session watches.
    pub fn with_watchers_watched(&self) -> impl Iterator<Item = InstrumentId> {
        let kind = Kind::Watchers.index();
        let watched = (0..).zip(&self.watchers.topics).filter(move |(_, kinds)| !kinds[kind].is_empty());
        watched.map(|(number, _)| InstrumentId(number))
    }

    fn name(&mut self, view: ViewId, change: i64) {
        let topics = &self.by_id[view.index()].key.topics;
        let symbol = |topic: &'_ Topic| match &topic.scope {
            Scope::Symbol(symbol) if topic.kind != Kind::Watchers && !topic.kind.is_of_channels() => {
                Some(symbol.clone())
            }
            _ => None,
        };
        let mut symbols: Vec<Symbol> = topics.iter().filter_map(symbol).collect();
        symbols.sort_unstable();
        symbols.dedup();
        for symbol in symbols {
            *self.named.entry(symbol).or_default() += change;
        }
    }

    #[must_use]
    pub fn cohort(&self, id: CohortId) -> Option<&Cohort> {
        debug_assert!(self.touched.topics.is_empty(), "not settled");
        self.cohorts.get(id.index())
    }

    pub fn cohort_mut(&mut self, id: CohortId) -> Option<&mut Cohort> {
        debug_assert!(self.touched.topics.is_empty(), "not settled");
        self.cohorts.get_mut(id.index())
    }

    /// The view of a cohort's sessions.
    #[must_use]
    pub fn view(&self, cohort: &Cohort) -> &View {
        &self.by_id[cohort.view.index()]
    }

    pub fn iter(&self) -> impl Iterator<Item = &View> {
        self.by_id.iter().map(|(_, view)| view)
    }

    /// Sessions that have a view.
    #[must_use]
    pub fn sessions(&self, view: &View) -> usize {
        view.cohorts.iter().map(|cohort| self.cohorts[cohort.index()].members().len()).sum()
    }

    /// Sessions that watch a topic.
    #[must_use]
    pub fn watchers(&self, topic: TopicKey) -> usize {
        self.watchers.of(topic).iter().map(|&(id, _)| self.sessions(&self.by_id[id.index()])).sum()
    }

    /// Whether any session watches a topic.
    #[must_use]
    pub fn is_watched(&self, topic: TopicKey) -> bool {
        !self.watchers.of(topic).is_empty()
    }

    /// Whether a topic belongs to the view of that cohort now.
    pub(super) fn watches(&self, cohort: CohortId, topic: TopicKey) -> bool {
        let view = self.cohorts[cohort.index()].view;
        self.watchers.has(topic, view)
    }

    /// Adds a session to the view of that key, which is made if there is none. Returns its cohort.
    pub(super) fn enter(&mut self, key: ViewKey, member: u32, replica: &Replica) -> CohortId {
        let id = self.intern(key, replica);
        let view = &mut self.by_id[id.index()];
        // From the end: sessions that arrive together share a cohort, and are next to each other in memory.
        let has_room = |cohort: &&CohortId| self.cohorts[cohort.index()].members().len() < self.most;
        let cohort = view.cohorts.iter().rev().find(has_room).copied().unwrap_or_else(|| {
            let upto = Upto { position: replica.position(), time: replica.time() };
            let flushed = Flushed { upto, events: low(view.events), second: 0 };
            // All sessions of one rate are flushed at the same moments.
            let beside = view.cohorts.last().map(|cohort| self.cohorts[cohort.index()].next_flush);
            let cohort = Cohort::new(id, view.topics.len(), flushed, beside.unwrap_or_default());
            let cohort = self.cohorts.insert(cohort);
            let cohort = CohortId(number(cohort));
            view.cohorts.push(cohort);
            cohort
        });
        self.cohorts[cohort.index()].enter(member);
        self.name(id, 1);
        cohort
    }

    /// Removes a session from its cohort. A cohort, and a view, is removed with its last session.
    pub(super) fn leave(&mut self, id: CohortId, member: u32) {
        let cohort = &mut self.cohorts[id.index()];
        cohort.leave(member);
        let view = cohort.view;
        self.name(view, -1);
        let cohort = &self.cohorts[id.index()];
        if !cohort.members().is_empty() {
            return;
        }
        let view_id = self.cohorts.remove(id.index()).view;
        let cohorts = &mut self.by_id[view_id.index()].cohorts;
        cohorts.retain(|&cohort| cohort != id);
        if cohorts.is_empty() {
            let view = self.by_id.remove(view_id.index());
            self.by_key.remove(&view.key);
            self.expectant.remove(&view_id);
            for topic in view.topics {
                self.watchers.remove(topic, view_id);
                self.watchers.remove_former(topic, view_id);
            }
            for sector in sectors(&view.key.topics) {
                if let Some(views) = self.by_sector.get_mut(sector) {
                    views.remove(&view_id);
                    if views.is_empty() {
                        self.by_sector.remove(sector);
                    }
                }
            }
        }
    }

    fn intern(&mut self, key: ViewKey, replica: &Replica) -> ViewId {
        debug_assert!(self.touched.topics.is_empty(), "not settled");
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        let view = View {
            key: key.clone(),
            topics: Vec::new(),
            moved: None,
            events: 0,
            touched: Vec::new(),
            is_touched: false,
            cohorts: Vec::new(),
        };
        let id = ViewId(number(self.by_id.insert(view)));
        self.by_key.insert(key, id);
        self.resolve(id, replica);
        id
    }

    /// Resolves a view's topics on this tape, and enters it as their watcher.
    fn resolve(&mut self, id: ViewId, replica: &Replica) {
        let view = &mut self.by_id[id.index()];
        self.has_new_watchers |= view.key.topics.iter().any(|topic| topic.kind == Kind::Watchers);
        view.topics = resolve(&view.key.topics, replica);
        view.moved = None;
        view.touched = vec![0; words(view.topics.len())];
        for (index, &topic) in (0..).zip(&view.topics) {
            match membership(&view.key.topics, topic, replica) {
                Some(membership) => {
                    if membership.is_there() {
                        self.watchers.add(topic, id, index);
                    } else {
                        self.watchers.add_former(topic, id, index);
                    }
                    view.moved.get_or_insert_default().insert(topic, membership);
                }
                None => self.watchers.add(topic, id, index),
            }
        }
        for sector in sectors(&view.key.topics) {
            self.by_sector.entry(Arc::clone(sector)).or_default().insert(id);
        }
        if view.key.topics.iter().any(|topic| waits(topic, replica)) {
            self.expectant.insert(id);
        }
    }

    /// Notes topics that were touched, some perhaps twice. [`Self::settle`] marks the views.
    pub fn touch(&mut self, touched: &[TopicKey]) {
        for &topic in touched {
            self.touched.add(topic);
        }
    }

    /// Marks the cohorts of the views that watch what was touched. Call it before any other method that reads
    /// views.
    ///
    /// A topic is marked once in each view, however many sessions have it, and a view passes all marks to its
    /// cohorts at once.
    pub fn settle(&mut self) {
        // In order, so that watchers and marks are read in order, too.
        self.touched.topics.sort_unstable();
        for at in 0..self.touched.topics.len() {
            let topic = self.touched.topics[at];
            let events = self.touched.take(topic);
            for &(id, number) in self.watchers.of(topic) {
                if self.by_id[id.index()].touch(number, events) {
                    self.marked.push(id);
                }
            }
        }
        self.touched.topics.clear();
        for id in self.marked.drain(..) {
            let view = &mut self.by_id[id.index()];
            for &cohort in &view.cohorts {
                if self.cohorts[cohort.index()].touch(&view.touched) {
                    self.dirty.push(cohort);
                }
            }
            view.touched.fill(0);
            view.is_touched = false;
        }
    }

    /// Appends the cohorts touched since the last call to `line`, those of a view in a row. Some may be gone,
    /// or clean again, or there twice.
    pub fn take_dirty(&mut self, line: &mut VecDeque<CohortId>) {
        line.extend(self.dirty.drain(..));
    }

    /// Notes that a cohort was flushed up to `upto`, in that second of its owner's clock.
    pub fn flushed(&mut self, id: CohortId, upto: Upto, second: u32) {
        let cohort = &mut self.cohorts[id.index()];
        cohort.flush(Flushed { upto, events: low(self.by_id[cohort.view.index()].events), second });
    }

    /// The tape was reset: resolves all topics again, and marks all cohorts. Drops what was not settled.
    pub fn reset(&mut self, replica: &Replica) {
        self.watchers = Watchers::default();
        self.touched = Touched::default();
        self.expectant.clear();
        self.leaving.clear();
        self.dirty.clear();
        // In order, so that watchers are added at the end.
        let ids: Vec<ViewId> = self.by_id.iter().map(|(id, _)| ViewId(number(id))).collect();
        for id in ids {
            self.resolve(id, replica);
            let view = &mut self.by_id[id.index()];
            view.events += view.topics.len() as u64;
            for &cohort in &view.cohorts {
                self.cohorts[cohort.index()].begin_anew(view.topics.len());
                self.dirty.push(cohort);
            }
        }
    }

    /// Adds a new instrument to the views whose topics cover it. Call it before the first [`Self::settle`]
    /// with it.
    pub fn welcome(&mut self, instrument: &Instrument) {
        for &id in &self.expectant {
            let view = &mut self.by_id[id.index()];
            self.has_new_watchers = true;
            let kinds = view.key.topics.iter().filter(|t| t.covers(instrument)).map(|t| t.kind);
            let mut new: Vec<TopicKey> = kinds.map(|kind| TopicKey::of(instrument.id, kind)).collect();
            new.sort_unstable();
            new.dedup();
            let first = view.add(&new, &mut self.cohorts);
            for (number, topic) in (first..).zip(new) {
                self.watchers.add(topic, id, number);
            }
        }
    }

    /// Adds a new channel to the views that wait for it. As [`Self::welcome`].
    pub fn welcome_channel(&mut self, id: ChannelId, channel: &Channel) {
        let is_of = |topic: &&Topic| {
            topic.kind.is_of_channels()
                && matches!(&topic.scope, Scope::Symbol(name) if *name == channel.name)
        };
        for &view_id in &self.expectant {
            let view = &mut self.by_id[view_id.index()];
            let kinds = view.key.topics.iter().filter(is_of).map(|topic| topic.kind);
            // In the order of kinds, and each once, as the view's topics are.
            let new: Vec<TopicKey> = kinds.map(|kind| TopicKey::of_channel(id, kind)).collect();
            let first = view.add(&new, &mut self.cohorts);
            for (number, topic) in (first..).zip(new) {
                self.watchers.add(topic, view_id, number);
            }
        }
    }

    /// Moves an instrument to the sets that cover it after its sector has changed. Call it before
    /// [`Self::touch`] with its batch, and [`Self::dismiss`] after that.
    pub fn place(&mut self, book: &Book) {
        let Some(moves) = &book.moves else { return };
        let sectors = [moves.last(), Some(&*book.definition.sector)];
        let views = sectors.into_iter().flatten().filter_map(|sector| self.by_sector.get(sector));
        let views: BTreeSet<ViewId> = views.flatten().copied().collect();
        for id in views {
            for kind in Kind::ALL {
                self.place_topic(id, kind, book);
            }
        }
    }

    fn place_topic(&mut self, id: ViewId, kind: Kind, book: &Book) {
        let view = &mut self.by_id[id.index()];
        let topic = TopicKey::of(book.definition.id, kind);
        let Some(membership) = membership_of(&view.key.topics, kind, book) else { return };
        let is_there = membership.is_there();
        view.moved.get_or_insert_default().insert(topic, membership);
        let was_there = self.watchers.has(topic, id);
        if is_there && !was_there {
            let number = self.watchers.remove_former(topic, id);
            let number = number.unwrap_or_else(|| view.add(&[topic], &mut self.cohorts));
            self.watchers.add(topic, id, number);
        } else if was_there && !is_there {
            self.leaving.push((topic, id));
        }
    }

    /// Marks the topics that left sets in their views a last time; later changes of theirs mark nothing.
    #[inline]
    pub fn dismiss(&mut self) {
        if !self.leaving.is_empty() {
            self.dismiss_leaving();
        }
    }

    fn dismiss_leaving(&mut self) {
        self.settle();
        for (topic, id) in self.leaving.drain(..) {
            if let Some(number) = self.watchers.remove(topic, id) {
                self.watchers.add_former(topic, id, number);
            }
        }
    }
}

impl Watchers {
    fn of(&self, topic: TopicKey) -> &[(ViewId, u32)] {
        match topic.subject {
            Subject::Market if topic.kind == Kind::Stats => &self.stats,
            Subject::Market => &self.market,
            Subject::Instrument(instrument) => {
                self.topics.get(instrument.index()).map_or(&[], |kinds| &kinds[topic.kind.index()])
            }
            Subject::Channel(_) => self.channels.get(&topic).map_or(&[], |views| views),
        }
    }

    fn has(&self, topic: TopicKey, view: ViewId) -> bool {
        self.of(topic).binary_search_by_key(&view, |&(watcher, _)| watcher).is_ok()
    }

    fn add(&mut self, topic: TopicKey, view: ViewId, number: u32) {
        add(self.list(topic), view, number);
    }

    /// Returns the number that the topic had.
    fn remove(&mut self, topic: TopicKey, view: ViewId) -> Option<u32> {
        let views = self.list(topic);
        let number = remove(views, view);
        if views.is_empty() {
            self.channels.remove(&topic);
        }
        number
    }

    fn add_former(&mut self, topic: TopicKey, view: ViewId, number: u32) {
        add(self.former.entry(topic).or_default(), view, number);
    }

    fn remove_former(&mut self, topic: TopicKey, view: ViewId) -> Option<u32> {
        let views = self.former.get_mut(&topic)?;
        let number = remove(views, view);
        if views.is_empty() {
            self.former.remove(&topic);
        }
        number
    }

    fn list(&mut self, topic: TopicKey) -> &mut Vec<(ViewId, u32)> {
        let instrument = match topic.subject {
            Subject::Instrument(instrument) => instrument,
            Subject::Channel(_) => return self.channels.entry(topic).or_default(),
            Subject::Market if topic.kind == Kind::Stats => return &mut self.stats,
            Subject::Market => return &mut self.market,
        };
        if instrument.index() >= self.topics.len() {
            self.topics.resize_with(instrument.index() + 1, Default::default);
        }
        &mut self.topics[instrument.index()][topic.kind.index()]
    }
}

fn add(views: &mut Vec<(ViewId, u32)>, view: ViewId, number: u32) {
    if let Err(at) = views.binary_search_by_key(&view, |&(known, _)| known) {
        views.insert(at, (view, number));
    }
}

fn remove(views: &mut Vec<(ViewId, u32)>, view: ViewId) -> Option<u32> {
    let at = views.binary_search_by_key(&view, |&(known, _)| known).ok()?;
    Some(views.remove(at).1)
}

impl Touched {
    fn add(&mut self, topic: TopicKey) {
        let events = self.events(topic);
        *events += 1;
        if *events == 1 {
            self.topics.push(topic);
        }
    }

    /// How often the topic was touched; resets the count.
    fn take(&mut self, topic: TopicKey) -> u32 {
        std::mem::take(self.events(topic))
    }

    fn events(&mut self, topic: TopicKey) -> &mut u32 {
        let instrument = match topic.subject {
            Subject::Instrument(instrument) => instrument,
            Subject::Channel(_) => return self.channel_events.entry(topic).or_default(),
            Subject::Market if topic.kind == Kind::Stats => return &mut self.stats_events,
            Subject::Market => return &mut self.market_events,
        };
        if instrument.index() >= self.events.len() {
            self.events.resize(instrument.index() + 1, Default::default());
        }
        &mut self.events[instrument.index()][topic.kind.index()]
    }
}

/// Whether instruments that are not defined yet may belong to a topic.
fn waits(topic: &Topic, replica: &Replica) -> bool {
    match &topic.scope {
        Scope::Market => false,
        Scope::Symbol(name) if topic.kind.is_of_channels() => replica.by_channel(name.as_str()).is_none(),
        Scope::Symbol(symbol) => replica.by_symbol(symbol.as_str()).is_none(),
        Scope::All | Scope::Sector(_) => true,
    }
}

/// A number of a view, cohort or topic; there are as many as memory allows.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("fewer than 2^32")
}

/// A count of changes modulo 2^32: only differences matter.
pub(super) fn low(events: u64) -> u32 {
    u32::try_from(events & u64::from(u32::MAX)).expect("the lower half")
}

/// The topics of `subscribed` on this tape, sorted, each once, those included that have left its sets.
#[must_use]
pub(super) fn resolve(subscribed: &[Topic], replica: &Replica) -> Vec<TopicKey> {
    let mut topics = Vec::new();
    for topic in subscribed {
        let key = |instrument: InstrumentId| TopicKey::of(instrument, topic.kind);
        let known = |symbol: &Symbol| replica.by_symbol(symbol.as_str()).map(|b| b.definition.id);
        let left = |book: &Book, sector: &str| book.moves.as_ref().is_some_and(|moves| moves.left(sector));
        let all_that = |is_in: &dyn Fn(&Book) -> bool| -> Vec<TopicKey> {
            replica.books().filter(|book| is_in(book)).map(|book| key(book.definition.id)).collect()
        };
        match &topic.scope {
            Scope::Market => topics.push(TopicKey { subject: Subject::Market, kind: topic.kind }),
            Scope::Symbol(name) if topic.kind.is_of_channels() => {
                let channel = replica.by_channel(name.as_str());
                topics.extend(channel.map(|channel| TopicKey::of_channel(channel, topic.kind)));
            }
            Scope::Symbol(symbol) => topics.extend(known(symbol).map(key)),
            Scope::All => topics.extend(all_that(&|_| true)),
            Scope::Sector(sector) => {
                topics.extend(all_that(&|book| topic.covers(&book.definition) || left(book, sector)));
            }
        }
    }
    topics.sort_unstable();
    topics.dedup();
    topics
}

/// When a topic belonged to `subscribed`; `None` where that has never changed.
pub(super) fn membership(subscribed: &[Topic], topic: TopicKey, replica: &Replica) -> Option<Membership> {
    membership_of(subscribed, topic.kind, replica.book(topic.instrument()?)?)
}

fn membership_of(subscribed: &[Topic], kind: Kind, book: &Book) -> Option<Membership> {
    let moves = book.moves.as_deref()?;
    let mut of_kind = subscribed.iter().filter(|topic| topic.kind == kind);
    let always = |topic: &Topic| !matches!(topic.scope, Scope::Sector(_)) && topic.covers(&book.definition);
    if of_kind.clone().any(always) {
        return None;
    }
    let now = &book.definition.sector;
    let takes_in = |sector: &str| {
        of_kind.clone().any(|topic| matches!(&topic.scope, Scope::Sector(name) if **name == *sector))
    };
    let membership = moves.membership(now, takes_in);
    of_kind.any(|topic| matches!(topic.scope, Scope::Sector(_))).then_some(membership)
}

/// The sectors of these sets.
fn sectors(subscribed: &[Topic]) -> impl Iterator<Item = &Arc<str>> {
    subscribed.iter().filter_map(|topic| match &topic.scope {
        Scope::Sector(sector) => Some(sector),
        _ => None,
    })
}
