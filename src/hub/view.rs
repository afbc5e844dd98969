use super::replica::Replica;
use super::topic::{Kind, Scope, Topic, TopicKey};
use crate::market::{Instrument, InstrumentId, Symbol};
use crate::tape::Position;
use rustc_hash::FxHashMap;
use std::{sync::Arc, time::Duration};

/// Number of a view, for as long as a session has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// Per topic the flush in which it was last marked, so that one is marked once.
    marked: Vec<u32>,
    /// Indices into `topics` of those touched since the last flush.
    touched: Vec<u32>,
    flush: u32,
    /// Where the tape was at the last flush: `touched` is all that has changed since.
    flushed_at: Position,
    /// On its owner's clock: not to be flushed before, for its rate.
    pub next_flush: Duration,
    /// Changes of its topics since it exists.
    pub events: u64,
    /// Sessions that have this view, in no order.
    pub members: Vec<u32>,
}

/// All views, each there as long as a session has it, and the index from topics to the views that watch them.
#[derive(Debug, Default)]
pub struct Views {
    slots: Vec<Option<View>>,
    free: Vec<ViewId>,
    by_key: FxHashMap<ViewKey, ViewId>,
    /// Per instrument and kind: view, and the topic's index in it.
    watchers: Vec<[Vec<(ViewId, u32)>; Kind::ALL.len()]>,
    market_watchers: Vec<(ViewId, u32)>,
    /// Views with a set, or with a symbol not seen yet: to be asked when an instrument is defined.
    expectant: Vec<ViewId>,
    dirty: Vec<ViewId>,
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
    pub fn changed(&self, since: Position, next: usize) -> impl Iterator<Item = (usize, TopicKey)> + '_ {
        let steady = since >= self.flushed_at;
        let touched = steady.then(|| {
            let from = self.touched.partition_point(|&number| (number as usize) < next);
            self.touched[from..].iter().map(|&number| number as usize)
        });
        let all = (!steady).then_some(next..self.topics.len());
        let numbers = touched.into_iter().flatten().chain(all.into_iter().flatten());
        numbers.map(|number| (number, self.topics[number]))
    }

    #[must_use]
    pub fn flushed_at(&self) -> Position {
        self.flushed_at
    }

    /// Whether anything was touched since the last flush.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.touched.is_empty()
    }

    /// To be called before [`Self::changed`] when topics were touched.
    pub fn sort_touched(&mut self) {
        self.touched.sort_unstable();
    }

    /// Returns whether this is the first mark since the last flush.
    fn mark(&mut self, index: u32) -> bool {
        self.events += 1;
        let marked = &mut self.marked[index as usize];
        if *marked == self.flush {
            return false;
        }
        *marked = self.flush;
        self.touched.push(index);
        self.touched.len() == 1
    }

    /// A flush is over: nothing is touched since `at`.
    pub fn flushed(&mut self, at: Position) {
        self.flushed_at = at;
        self.touched.clear();
        self.flush = self.flush.wrapping_add(1);
        if self.flush == 0 {
            // After 2^32 flushes an old mark could be taken for a new one.
            self.marked.fill(0);
            self.flush = 1;
        }
    }
}

impl Views {
    #[must_use]
    pub fn get(&self, id: ViewId) -> Option<&View> {
        self.slots.get(id.0 as usize).and_then(Option::as_ref)
    }

    pub fn get_mut(&mut self, id: ViewId) -> Option<&mut View> {
        self.slots.get_mut(id.0 as usize).and_then(Option::as_mut)
    }

    pub fn ids(&self) -> impl Iterator<Item = ViewId> {
        self.by_key.values().copied()
    }

    /// The view of that key, made where there is none.
    pub fn intern(&mut self, key: ViewKey, replica: &Replica) -> ViewId {
        if let Some(&id) = self.by_key.get(&key) {
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            ViewId(u32::try_from(self.slots.len() - 1).expect("fewer views than sessions"))
        });
        let topics = resolve(&key.topics, replica);
        for (index, &topic) in (0..).zip(&topics) {
            self.watchers_of(topic).push((id, index));
        }
        let waits = |topic: &Topic| match &topic.scope {
            Scope::Market => false,
            Scope::Symbol(symbol) => replica.by_symbol(symbol.as_str()).is_none(),
            Scope::All | Scope::Sector(_) => true,
        };
        if key.topics.iter().any(waits) {
            self.expectant.push(id);
        }
        self.by_key.insert(key.clone(), id);
        self.slots[id.0 as usize] = Some(View {
            key,
            marked: vec![0; topics.len()],
            topics,
            touched: Vec::new(),
            flush: 1,
            flushed_at: replica.position(),
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
        self.expectant.retain(|&expectant| expectant != id);
        self.dirty.retain(|&dirty| dirty != id);
        for &topic in &view.topics {
            self.watchers_of(topic).retain(|&(watcher, _)| watcher != id);
        }
        self.free.push(id);
    }

    /// Marks the views that watch these topics.
    pub fn mark(&mut self, touched: &[TopicKey]) {
        for &topic in touched {
            let watchers = match topic.instrument {
                None => &self.market_watchers,
                Some(instrument) => match self.watchers.get(instrument.index()) {
                    Some(kinds) => &kinds[topic.kind.index()],
                    None => continue,
                },
            };
            for &(id, index) in watchers {
                let view = self.slots[id.0 as usize].as_mut().expect("watchers are live views");
                if view.mark(index) {
                    self.dirty.push(id);
                }
            }
        }
    }

    /// The views touched since this was last called, each once as long as it is flushed in between.
    pub fn take_dirty(&mut self, into: &mut Vec<ViewId>) {
        into.append(&mut self.dirty);
    }

    /// Adds a new instrument to the views whose topics take it in. To be called before its first mark.
    ///
    /// Which sets an instrument belongs to is settled here and when a view is made: one whose sector changes
    /// later stays where its subscribers have it.
    pub fn welcome(&mut self, instrument: &Instrument) {
        for at in 0..self.expectant.len() {
            let id = self.expectant[at];
            let view = self.slots[id.0 as usize].as_mut().expect("expectant are live views");
            let kinds = view.key.topics.iter().filter(|t| t.covers(instrument)).map(|t| t.kind);
            let mut new: Vec<TopicKey> = kinds.map(|kind| TopicKey::of(instrument.id, kind)).collect();
            new.sort_unstable();
            new.dedup();
            // A new instrument has the greatest number, so the topics stay sorted and keep their indices.
            let first = u32::try_from(view.topics.len()).expect("under 2^32 topics");
            view.topics.extend_from_slice(&new);
            view.marked.resize(view.topics.len(), 0);
            for (index, topic) in (first..).zip(new) {
                self.watchers_of(topic).push((id, index));
            }
        }
    }

    fn watchers_of(&mut self, topic: TopicKey) -> &mut Vec<(ViewId, u32)> {
        let Some(instrument) = topic.instrument else { return &mut self.market_watchers };
        let index = instrument.index();
        if index >= self.watchers.len() {
            self.watchers.resize_with(index + 1, Default::default);
        }
        &mut self.watchers[index][topic.kind.index()]
    }
}

/// The topics of `subscribed` on this tape, sorted, each once.
#[must_use]
pub fn resolve(subscribed: &[Topic], replica: &Replica) -> Vec<TopicKey> {
    let mut topics = Vec::new();
    for topic in subscribed {
        let key = |instrument: InstrumentId| TopicKey::of(instrument, topic.kind);
        let known = |symbol: &Symbol| replica.by_symbol(symbol.as_str()).map(|b| b.definition.id);
        match &topic.scope {
            Scope::Market => topics.push(TopicKey::MARKET_STATUS),
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
