use super::owed::Upto;
use super::replica::Replica;
use super::topic::{Kind, Scope, Topic, TopicKey};
use crate::market::{Instrument, InstrumentId, Symbol};
use crate::tape::Position;
use rustc_hash::{FxHashMap, FxHashSet};
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

/// One interned set of subscriptions, and what happened to it since it was last flushed.
#[derive(Debug)]
pub struct View {
    pub key: ViewKey,
    /// The key's topics as they come down to on this tape, sorted. Grows when a new instrument fits a set.
    topics: Vec<TopicKey>,
    /// A bit per topic: whether it was touched since the last flush. Bits, because they are in order as they come and need no
    /// other record of what is marked already; a topic that is not touched costs a 64th of a word to pass over.
    touched: Vec<u64>,
    is_dirty: bool,
    /// The last flush: `touched` is all that has changed since.
    flushed: Flushed,
    /// On its owner's clock: not to be flushed before, for its rate.
    pub next_flush: Duration,
    /// Changes of its topics since it exists.
    pub events: u64,
    /// Sessions that have this view, sorted: they are visited as they lie in memory, and found by halving.
    members: Vec<u32>,
}

/// Where the last flush of a view has brought it, and with it all of its sessions that are in step: what would be the same for each of
/// them is kept once, so that a flush need not write to them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flushed {
    pub upto: Upto,
    /// What the view had counted in changes, modulo 2^32.
    pub(super) events: u32,
    /// On its owner's clock.
    pub second: u32,
}

/// The topics of a view that may have changed, with their numbers; made by [`View::changed`].
#[derive(Clone, Debug)]
pub struct Changed<'a> {
    topics: &'a [TopicKey],
    /// `None`: all of them.
    touched: Option<&'a [u64]>,
    /// The word looked at, and those of its bits that are still to come.
    word: usize,
    bits: u64,
}

/// All views, each there as long as a session has it, and the index from topics to the views that watch them.
#[derive(Debug, Default)]
pub struct Views {
    slots: Vec<Option<View>>,
    free: Vec<ViewId>,
    by_key: FxHashMap<ViewKey, ViewId>,
    watchers: Watchers,
    /// Views with a set, or with a symbol not seen yet: to be asked when an instrument is defined.
    expectant: FxHashSet<ViewId>,
    /// Some perhaps gone since, or there twice.
    dirty: Vec<ViewId>,
    touched: Touched,
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
/// Views are marked once per topic and turn instead of once per event: `benches/fanout` has ten trades of each topic in a turn.
#[derive(Debug, Default)]
struct Touched {
    topics: Vec<TopicKey>,
    events: Vec<[u32; Kind::ALL.len()]>,
    market_events: u32,
    stats_events: u32,
}

impl ViewId {
    /// No view; for a session that is just being made.
    pub(super) const NONE: Self = Self(u32::MAX);
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

    /// The topics that may have changed after `since`, from number `next` on, sorted, with their numbers: those touched
    /// for a reader that is as far as the last flush, all for one further back.
    #[must_use]
    pub fn changed(&self, since: Position, next: usize) -> Changed<'_> {
        let touched = (since >= self.flushed.upto.position).then_some(&*self.touched);
        let word = next / 64;
        let mut changed = Changed { topics: &self.topics, touched, word, bits: 0 };
        changed.bits = changed.word() & (u64::MAX << (next % 64));
        changed
    }

    #[must_use]
    pub fn members(&self) -> &[u32] {
        &self.members
    }

    pub(super) fn enter(&mut self, member: u32) {
        if let Err(at) = self.members.binary_search(&member) {
            self.members.insert(at, member);
        }
    }

    pub(super) fn leave(&mut self, member: u32) {
        if let Ok(at) = self.members.binary_search(&member) {
            self.members.remove(at);
        }
    }

    #[must_use]
    pub fn flushed(&self) -> Flushed {
        self.flushed
    }

    /// Changes of its topics since the last flush, modulo 2^32.
    #[must_use]
    pub fn events_since_flush(&self) -> u32 {
        low(self.events).wrapping_sub(self.flushed.events)
    }

    /// Whether anything was touched since the last flush.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Takes down that a topic was touched so many times. Returns whether this is the first mark since the last flush.
    fn mark(&mut self, number: u32, events: u32) -> bool {
        self.events += u64::from(events);
        self.touched[number as usize / 64] |= 1 << (number % 64);
        !std::mem::replace(&mut self.is_dirty, true)
    }

    /// A flush is over: nothing is touched since `upto`.
    pub fn flush(&mut self, upto: Upto, second: u32) {
        self.flushed = Flushed { upto, events: low(self.events), second };
        self.touched.fill(0);
        self.is_dirty = false;
    }
}

impl Changed<'_> {
    fn word(&self) -> u64 {
        match self.touched {
            Some(touched) => touched.get(self.word).copied().unwrap_or(0),
            None => u64::MAX,
        }
    }
}

impl Iterator for Changed<'_> {
    type Item = (usize, TopicKey);

    fn next(&mut self) -> Option<Self::Item> {
        while self.bits == 0 {
            self.word += 1;
            if self.word * 64 >= self.topics.len() {
                return None;
            }
            self.bits = self.word();
        }
        let number = self.word * 64 + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        // Past the end where all bits are taken for set.
        self.topics.get(number).map(|&topic| (number, topic))
    }
}

impl Views {
    #[must_use]
    pub fn get(&self, id: ViewId) -> Option<&View> {
        self.slots.get(id.0 as usize).and_then(Option::as_ref)
    }

    pub fn get_mut(&mut self, id: ViewId) -> Option<&mut View> {
        debug_assert!(self.touched.topics.is_empty(), "not settled");
        self.slots.get_mut(id.0 as usize).and_then(Option::as_mut)
    }

    pub fn ids(&self) -> impl Iterator<Item = ViewId> {
        self.by_key.values().copied()
    }

    /// All views.
    pub fn iter(&self) -> impl Iterator<Item = &View> {
        self.slots.iter().flatten()
    }

    /// How many sessions watch a topic.
    #[must_use]
    pub fn watchers(&self, topic: TopicKey) -> usize {
        let members = |&(id, _): &(ViewId, u32)| self.get(id).map_or(0, |view| view.members.len());
        self.watchers.of(topic).iter().map(members).sum()
    }

    /// Whether anyone watches a topic.
    #[must_use]
    pub fn is_watched(&self, topic: TopicKey) -> bool {
        !self.watchers.of(topic).is_empty()
    }

    /// The view of that key, made where there is none.
    pub fn intern(&mut self, key: ViewKey, replica: &Replica) -> ViewId {
        debug_assert!(self.touched.topics.is_empty(), "not settled");
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            ViewId(u32::try_from(self.slots.len() - 1).expect("fewer views than sessions"))
        });
        let topics = resolve(&key.topics, replica);
        for (index, &topic) in (0..).zip(&topics) {
            self.watchers.add(topic, id, index);
        }
        if key.topics.iter().any(|topic| waits(topic, replica)) {
            self.expectant.insert(id);
        }
        self.by_key.insert(key.clone(), id);
        self.slots[id.0 as usize] = Some(View {
            key,
            touched: vec![0; topics.len().div_ceil(64)],
            topics,
            is_dirty: false,
            flushed: Flushed {
                upto: Upto { position: replica.position(), time: replica.time() },
                ..Flushed::default()
            },
            next_flush: Duration::ZERO,
            events: 0,
            members: Vec::new(),
        });
        id
    }

    /// Gives a view up that no session has any more.
    pub fn remove_if_empty(&mut self, id: ViewId) {
        let slot = &mut self.slots[id.0 as usize];
        let Some(view) = slot.take_if(|view| view.members.is_empty()) else { return };
        self.by_key.remove(&view.key);
        self.expectant.remove(&id);
        for &topic in &view.topics {
            self.watchers.remove(topic, id);
        }
        self.free.push(id);
    }

    /// Takes down topics that were touched, some perhaps twice. Views hear of them with [`Self::settle`].
    pub fn touch(&mut self, touched: &[TopicKey]) {
        for &topic in touched {
            self.touched.add(topic);
        }
    }

    /// Marks the views that watch what was touched. To be called before anything else is asked of views.
    pub fn settle(&mut self) {
        // In order, so that watchers and marks are, too.
        self.touched.topics.sort_unstable();
        for at in 0..self.touched.topics.len() {
            let topic = self.touched.topics[at];
            let events = self.touched.take(topic);
            for &(id, number) in self.watchers.of(topic) {
                let view = self.slots[id.0 as usize].as_mut().expect("watchers are live views");
                if view.mark(number, events) {
                    self.dirty.push(id);
                }
            }
        }
        self.touched.topics.clear();
    }

    /// The views touched since this was last called; some may be gone, or clean again, or there twice.
    pub fn take_dirty(&mut self, into: &mut Vec<ViewId>) {
        into.append(&mut self.dirty);
    }

    /// The tape began anew: what topics come down to is another thing now, and everybody is to hear of it. Undoes what was not settled.
    pub fn reset(&mut self, replica: &Replica) {
        self.watchers = Watchers::default();
        self.touched = Touched::default();
        self.expectant.clear();
        self.dirty.clear();
        for (number, slot) in self.slots.iter_mut().enumerate() {
            let Some(view) = slot else { continue };
            let id = ViewId(u32::try_from(number).expect("fewer views than sessions"));
            view.topics = resolve(&view.key.topics, replica);
            view.touched.clear();
            view.touched.resize(view.topics.len().div_ceil(64), u64::MAX);
            view.is_dirty = true;
            view.events += view.topics.len() as u64;
            self.dirty.push(id);
            for (index, &topic) in (0..).zip(&view.topics) {
                self.watchers.add(topic, id, index);
            }
            if view.key.topics.iter().any(|topic| waits(topic, replica)) {
                self.expectant.insert(id);
            }
        }
    }

    /// Adds a new instrument to the views whose topics take it in. To be called before its first [`Self::settle`].
    ///
    /// Which sets an instrument belongs to is settled here and when a view is made: one whose sector changes
    /// later stays where its subscribers have it.
    pub fn welcome(&mut self, instrument: &Instrument) {
        for &id in &self.expectant {
            let view = self.slots[id.0 as usize].as_mut().expect("expectant are live views");
            let kinds = view.key.topics.iter().filter(|t| t.covers(instrument)).map(|t| t.kind);
            let mut new: Vec<TopicKey> = kinds.map(|kind| TopicKey::of(instrument.id, kind)).collect();
            new.sort_unstable();
            new.dedup();
            // A new instrument has the greatest number, so the topics stay sorted and keep their numbers.
            let first = u32::try_from(view.topics.len()).expect("under 2^32 topics");
            view.topics.extend_from_slice(&new);
            view.touched.resize(view.topics.len().div_ceil(64), 0);
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
