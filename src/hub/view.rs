use super::cohort::{COHORT, Cohort, CohortId, Flushed, words};
use super::owed::Upto;
use super::replica::Replica;
use super::topic::{Kind, Scope, Topic, TopicKey};
use crate::market::{Instrument, InstrumentId, Symbol};
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;
use std::collections::VecDeque;
use std::{sync::Arc, time::Duration};

/// Number of a view, for as long as a session has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewId(u32);

/// What makes two sessions see the same bytes: the same topics in the same form at the same rate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ViewKey {
    /// Sorted, each once.
    pub topics: Arc<[Topic]>,
    pub options: ViewOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ViewOptions {
    pub form: Form,
    /// Whether quotes carry their `ts_event`.
    pub times: bool,
    /// The least time between two flushes; zero for none.
    pub period: Duration,
}

/// The two forms of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    MessagePack,
    Json,
}

/// One interned set of subscriptions.
#[derive(Debug)]
pub struct View {
    pub key: ViewKey,
    /// The key's topics as they come down to on this tape, sorted. Grows when a new instrument fits a set.
    topics: Vec<TopicKey>,
    /// Changes of its topics since it exists.
    pub events: u64,
    /// Those of its topics that its cohorts have not heard of yet, a bit each; none, but within [`Views::settle`].
    touched: Vec<u64>,
    is_touched: bool,
    /// The sessions that have this view are in these.
    cohorts: Vec<CohortId>,
}

/// All views, each there as long as a session has it, their cohorts, and the index from topics to the views that watch them.
#[derive(Debug)]
pub struct Views {
    by_id: Slab<View>,
    cohorts: Slab<Cohort>,
    /// Sessions in one cohort.
    most: usize,
    by_key: FxHashMap<ViewKey, ViewId>,
    watchers: Watchers,
    /// Views with a set, or with a symbol not seen yet: to be asked when an instrument is defined.
    expectant: FxHashSet<ViewId>,
    /// Some perhaps gone since, or there twice.
    dirty: Vec<CohortId>,
    touched: Touched,
    /// Views with topics touched; none, but within [`Self::settle`].
    marked: Vec<ViewId>,
}

/// Per topic the views that watch it, sorted, with the topic's number in each.
#[derive(Debug, Default)]
struct Watchers {
    topics: Vec<[Vec<(ViewId, u32)>; Kind::ALL.len()]>,
    market: Vec<(ViewId, u32)>,
    stats: Vec<(ViewId, u32)>,
}

/// The topics touched that no view has heard of yet, and how often each.
///
/// Views are marked once per topic and fold instead of once per event: `benches/fanout` has ten trades of each topic in a turn.
#[derive(Debug, Default)]
struct Touched {
    topics: Vec<TopicKey>,
    events: Vec<[u32; Kind::ALL.len()]>,
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
    pub const fn new(form: Form) -> Self {
        Self { form, times: false, period: Duration::ZERO }
    }
}

impl View {
    #[must_use]
    pub fn topics(&self) -> &[TopicKey] {
        &self.topics
    }

    /// Takes down that a topic was touched so often. Returns whether it is the first.
    fn touch(&mut self, number: u32, events: u32) -> bool {
        self.events += u64::from(events);
        self.touched[number as usize / 64] |= 1 << (number % 64);
        !std::mem::replace(&mut self.is_touched, true)
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
    /// With so many sessions in a cohort, at most, so that tests need few to see several.
    #[must_use]
    pub fn with_cohorts_of(most: usize) -> Self {
        Self {
            by_id: Slab::new(),
            cohorts: Slab::new(),
            most,
            by_key: FxHashMap::default(),
            watchers: Watchers::default(),
            expectant: FxHashSet::default(),
            dirty: Vec::new(),
            touched: Touched::default(),
            marked: Vec::new(),
        }
    }

    /// A cohort that is still there.
    #[must_use]
    pub fn cohort(&self, id: CohortId) -> Option<&Cohort> {
        debug_assert!(self.touched.topics.is_empty(), "not settled");
        self.cohorts.get(id.index())
    }

    pub fn cohort_mut(&mut self, id: CohortId) -> Option<&mut Cohort> {
        debug_assert!(self.touched.topics.is_empty(), "not settled");
        self.cohorts.get_mut(id.index())
    }

    /// The view that a cohort sees.
    #[must_use]
    pub fn view(&self, cohort: &Cohort) -> &View {
        &self.by_id[cohort.view.index()]
    }

    /// All views.
    pub fn iter(&self) -> impl Iterator<Item = &View> {
        self.by_id.iter().map(|(_, view)| view)
    }

    /// How many sessions have a view.
    #[must_use]
    pub fn sessions(&self, view: &View) -> usize {
        view.cohorts.iter().map(|cohort| self.cohorts[cohort.index()].members().len()).sum()
    }

    /// How many sessions watch a topic.
    #[must_use]
    pub fn watchers(&self, topic: TopicKey) -> usize {
        self.watchers.of(topic).iter().map(|&(id, _)| self.sessions(&self.by_id[id.index()])).sum()
    }

    /// Whether anyone watches a topic.
    #[must_use]
    pub fn is_watched(&self, topic: TopicKey) -> bool {
        !self.watchers.of(topic).is_empty()
    }

    /// A session joins those that have the view of that key, which is made where there is none. Returns its cohort.
    pub(super) fn enter(&mut self, key: ViewKey, member: u32, replica: &Replica) -> CohortId {
        let id = self.intern(key, replica);
        let view = &mut self.by_id[id.index()];
        // From the end: those who come together are together, and lie together in memory.
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
        cohort
    }

    /// A session leaves its cohort. A cohort, and a view, is given up with its last one.
    pub(super) fn leave(&mut self, id: CohortId, member: u32) {
        let cohort = &mut self.cohorts[id.index()];
        cohort.leave(member);
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

    /// Finds out what a view's topics come down to, and watches them for it.
    fn resolve(&mut self, id: ViewId, replica: &Replica) {
        let view = &mut self.by_id[id.index()];
        view.topics = resolve(&view.key.topics, replica);
        view.touched = vec![0; words(view.topics.len())];
        for (index, &topic) in (0..).zip(&view.topics) {
            self.watchers.add(topic, id, index);
        }
        if view.key.topics.iter().any(|topic| waits(topic, replica)) {
            self.expectant.insert(id);
        }
    }

    /// Takes down topics that were touched, some perhaps twice. Views hear of them with [`Self::settle`].
    pub fn touch(&mut self, touched: &[TopicKey]) {
        for &topic in touched {
            self.touched.add(topic);
        }
    }

    /// Marks the cohorts of the views that watch what was touched. To be called before anything else is asked of views.
    ///
    /// A topic is marked once in each view, however many sessions have it, and all marks of a view come to its cohorts together.
    pub fn settle(&mut self) {
        // In order, so that watchers and marks are, too.
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

    /// Puts the cohorts touched since this was last called behind those in `line`, the ones of a view in a row; some may be gone, or clean
    /// again, or there twice.
    pub fn take_dirty(&mut self, line: &mut VecDeque<CohortId>) {
        line.extend(self.dirty.drain(..));
    }

    /// A cohort was flushed up to there, in that second of its owner's clock.
    pub fn flushed(&mut self, id: CohortId, upto: Upto, second: u32) {
        let cohort = &mut self.cohorts[id.index()];
        cohort.flush(Flushed { upto, events: low(self.by_id[cohort.view.index()].events), second });
    }

    /// The tape began anew: what topics come down to is another thing now, and everybody is to hear of it. Undoes what was not settled.
    pub fn reset(&mut self, replica: &Replica) {
        self.watchers = Watchers::default();
        self.touched = Touched::default();
        self.expectant.clear();
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

    /// Adds a new instrument to the views whose topics take it in. To be called before its first [`Self::settle`].
    ///
    /// Which sets an instrument belongs to is settled here and when a view is made: one whose sector changes
    /// later stays where its subscribers have it.
    pub fn welcome(&mut self, instrument: &Instrument) {
        for &id in &self.expectant {
            let view = &mut self.by_id[id.index()];
            let kinds = view.key.topics.iter().filter(|t| t.covers(instrument)).map(|t| t.kind);
            let mut new: Vec<TopicKey> = kinds.map(|kind| TopicKey::of(instrument.id, kind)).collect();
            new.sort_unstable();
            new.dedup();
            // A new instrument has the greatest number, so the topics stay sorted and keep their numbers.
            let first = number(view.topics.len());
            view.topics.extend_from_slice(&new);
            view.touched.resize(words(view.topics.len()), 0);
            for &cohort in &view.cohorts {
                self.cohorts[cohort.index()].grow(view.topics.len());
            }
            for (number, topic) in (first..).zip(new) {
                self.watchers.add(topic, id, number);
            }
        }
    }
}

impl Watchers {
    fn of(&self, topic: TopicKey) -> &[(ViewId, u32)] {
        match topic.instrument {
            None if topic.kind == Kind::Stats => &self.stats,
            None => &self.market,
            Some(instrument) => {
                self.topics.get(instrument.index()).map_or(&[], |kinds| &kinds[topic.kind.index()])
            }
        }
    }

    fn add(&mut self, topic: TopicKey, view: ViewId, number: u32) {
        let watchers = self.list(topic);
        if let Err(at) = watchers.binary_search_by_key(&view, |&(watcher, _)| watcher) {
            watchers.insert(at, (view, number));
        }
    }

    fn remove(&mut self, topic: TopicKey, view: ViewId) {
        let watchers = self.list(topic);
        if let Ok(at) = watchers.binary_search_by_key(&view, |&(watcher, _)| watcher) {
            watchers.remove(at);
        }
    }

    fn list(&mut self, topic: TopicKey) -> &mut Vec<(ViewId, u32)> {
        let Some(instrument) = topic.instrument else {
            return if topic.kind == Kind::Stats { &mut self.stats } else { &mut self.market };
        };
        if instrument.index() >= self.topics.len() {
            self.topics.resize_with(instrument.index() + 1, Default::default);
        }
        &mut self.topics[instrument.index()][topic.kind.index()]
    }
}

impl Touched {
    fn add(&mut self, topic: TopicKey) {
        let events = self.events(topic);
        *events += 1;
        if *events == 1 {
            self.topics.push(topic);
        }
    }

    /// How often the topic was touched; from here on not at all.
    fn take(&mut self, topic: TopicKey) -> u32 {
        std::mem::take(self.events(topic))
    }

    fn events(&mut self, topic: TopicKey) -> &mut u32 {
        let Some(instrument) = topic.instrument else {
            return if topic.kind == Kind::Stats { &mut self.stats_events } else { &mut self.market_events };
        };
        if instrument.index() >= self.events.len() {
            self.events.resize(instrument.index() + 1, Default::default());
        }
        &mut self.events[instrument.index()][topic.kind.index()]
    }
}

/// Whether instruments that are still to come may belong to a topic.
fn waits(topic: &Topic, replica: &Replica) -> bool {
    match &topic.scope {
        Scope::Market => false,
        Scope::Symbol(symbol) => replica.by_symbol(symbol.as_str()).is_none(),
        Scope::All | Scope::Sector(_) => true,
    }
}

/// Of views, cohorts and topics, of which there are as many as memory allows.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("fewer than 2^32")
}

/// Of a count of changes, of which only differences matter.
pub(super) fn low(events: u64) -> u32 {
    u32::try_from(events & u64::from(u32::MAX)).expect("the lower half")
}

/// The topics of `subscribed` on this tape, sorted, each once.
#[must_use]
pub fn resolve(subscribed: &[Topic], replica: &Replica) -> Vec<TopicKey> {
    let mut topics = Vec::new();
    for topic in subscribed {
        let key = |instrument: InstrumentId| TopicKey::of(instrument, topic.kind);
        let known = |symbol: &Symbol| replica.by_symbol(symbol.as_str()).map(|b| b.definition.id);
        match &topic.scope {
            Scope::Market => topics.push(TopicKey { instrument: None, kind: topic.kind }),
            Scope::Symbol(symbol) => topics.extend(known(symbol).map(key)),
            Scope::All | Scope::Sector(_) => topics.extend(
                replica
                    .books()
                    .filter(|book| topic.covers(&book.definition))
                    .map(|book| key(book.definition.id)),
            ),
        }
    }
    topics.sort_unstable();
    topics.dedup();
    topics
}
