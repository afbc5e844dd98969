use super::*;
use crate::client::Image;
use crate::hub::refinement;
use crate::market::{Conditions, Counts, Price, Side, Size, Symbol, Trade};
use crate::wire::{BarFields, Entry, Fields, Numbered, QuoteFields, TopicAnswer, Update};
use proptest::prelude::*;

const SYMBOLS: usize = 4;

/// A market whose updates go through a client's image into a mailbox, and a consumer that knows only its
/// events.
struct World {
    now: Instant,
    mailbox: Mailbox,
    image: Image,
    instruments: Vec<Arc<Instrument>>,
    /// Trades of each instrument so far; they begin again with another tape.
    traded: Vec<u64>,
    position: u64,
    /// How many earlier tapes there were.
    tapes: u64,
    consumer: Consumer,
}

#[derive(Default)]
struct Consumer {
    definitions: FxHashMap<InstrumentId, Arc<Instrument>>,
    /// Merged from the changed fields alone.
    quotes: FxHashMap<InstrumentId, QuoteFields>,
    days: FxHashMap<InstrumentId, BarFields>,
    /// The number of the next trade.
    expected: FxHashMap<InstrumentId, u64>,
    missed: u64,
    position: u64,
    tapes: u64,
    /// Other events, by name.
    heard: Vec<String>,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            now: Instant::now(),
            mailbox: Mailbox::default(),
            image: Image::default(),
            instruments: Vec::new(),
            traded: Vec::new(),
            position: 0,
            tapes: 0,
            consumer: Consumer::default(),
        };
        world.begin(Vec::new());
        world
    }

    /// Sends a snapshot of everything after these entries.
    fn begin(&mut self, mut entries: Vec<Entry>) {
        self.traded = vec![0; SYMBOLS];
        self.instruments = (0..SYMBOLS)
            .map(|index| {
                let symbol = Symbol::new(&format!("S{index}")).unwrap();
                let id = InstrumentId(u32::try_from(index).unwrap());
                Arc::new(Instrument { id, ..Instrument::unknown(symbol) })
            })
            .collect();
        entries.extend(self.instruments.iter().map(|instrument| Entry::Definition(Arc::clone(instrument))));
        self.update(entries);
    }

    fn update(&mut self, entries: Vec<Entry>) {
        self.position += 1;
        let position = Position::new(self.position);
        let time = Timestamp::from_micros(i64::try_from(self.position).unwrap());
        let changes = self.image.apply(&Update { position, time, whole: true, entries });
        self.put(Event::Update { position, time, changes });
    }

    fn put(&mut self, event: Event) {
        self.mailbox.put(self.now, event);
    }

    fn quote(&mut self, symbol: usize, bid: Option<i64>, ask: Option<i64>) {
        let quote = QuoteFields {
            bid: bid.map(Price::new),
            ask: ask.map(Price::new),
            ask_size: ask.map(Size::new),
            ..QuoteFields::default()
        };
        self.update(vec![Entry::Image(
            Arc::clone(&self.instruments[symbol]),
            Kind::Quote,
            Fields::Quote(quote),
        )]);
    }

    fn trades(&mut self, symbol: usize, count: usize) {
        let first = self.traded[symbol];
        let trade = |number: u64| Trade {
            price: Price::new(100 + i64::try_from(number % 7).unwrap()),
            size: Size::new(1),
            side: Side::Buy,
            conditions: Conditions::default(),
            counts: Counts::EVERYTHING,
            booked: 0,
            ts_event: Timestamp::from_micros(i64::try_from(number).unwrap()),
            ts_recv: Timestamp::default(),
        };
        let entries: Vec<Trade> = (first..first + count as u64).map(trade).collect();
        self.traded[symbol] += count as u64;
        let volume = Size::new(i64::try_from(self.traded[symbol]).unwrap());
        let day = BarFields { volume: Some(volume), ..BarFields::default() };
        let instrument = &self.instruments[symbol];
        self.update(vec![
            Entry::Trades(Arc::clone(instrument), Numbered { number: first, stated: true, entries }),
            Entry::Image(Arc::clone(instrument), Kind::Day, Fields::Bar(day)),
        ]);
    }

    /// Prices get a digit. The server's state and later trades are in the new units.
    fn refine(&mut self, symbol: usize) {
        if self.instruments[symbol].price_scale < 6 {
            self.instruments[symbol] = Arc::new(self.instruments[symbol].refined(1, 0));
            self.update(vec![Entry::Definition(Arc::clone(&self.instruments[symbol]))]);
        }
    }

    fn reset(&mut self) {
        self.begin(vec![Entry::Reset]);
    }

    fn replaced(&mut self) {
        self.tapes += 1;
        self.position = 0;
        self.image = Image::default();
        self.put(Event::Replaced);
        self.begin(Vec::new());
    }

    /// The consumer takes up to so many events.
    fn take(&mut self, times: usize) -> bool {
        for _ in 0..times {
            let Some(event) = self.mailbox.take(self.now) else { return false };
            self.consumer.hear(event);
        }
        true
    }

    /// Checks that the consumer has everything, and that its state is that of the image.
    fn check(&mut self) {
        while self.take(1) {}
        assert_eq!(self.consumer.tapes, self.tapes);
        assert_eq!(self.consumer.position, self.position);
        for (index, instrument) in self.instruments.iter().enumerate() {
            assert_eq!(self.consumer.definitions.get(&instrument.id), Some(instrument));
            let book = self.image.book(instrument.symbol.as_str()).unwrap();
            let quote = self.consumer.quotes.get(&instrument.id).copied().unwrap_or_default();
            assert_eq!(quote, book.quote);
            assert_eq!(self.consumer.days.get(&instrument.id).copied().unwrap_or_default(), book.day);
            let expected = self.consumer.expected.get(&instrument.id).copied().unwrap_or_default();
            assert_eq!(expected, self.traded[index], "{}", instrument.symbol);
        }
        assert_eq!((self.mailbox.changes, self.mailbox.line.len()), (0, 0));
        assert_eq!((self.mailbox.merged.entries, self.mailbox.merged.is_empty()), (0, true));
    }
}

impl Consumer {
    fn hear(&mut self, event: Event) {
        let (position, changes) = match event {
            Event::Update { position, changes, .. } => (position.get(), changes),
            Event::Replaced => return self.begin(true),
            Event::Subscribed { topics } | Event::Unsubscribed { topics } => {
                return self.heard.extend(topics.into_iter().map(|topic| topic.topic));
            }
            _ => return,
        };
        assert!(position >= self.position, "{position} after {}", self.position);
        assert!(!changes.is_empty() && changes.len() <= 2 * TAKEN, "{} at once", changes.len());
        self.position = position;
        for change in changes {
            self.change(change);
        }
    }

    fn begin(&mut self, is_replaced: bool) {
        let position = if is_replaced { 0 } else { self.position };
        let tapes = self.tapes + u64::from(is_replaced);
        let heard = std::mem::take(&mut self.heard);
        *self = Self { tapes, missed: self.missed, position, heard, ..Self::default() };
    }

    fn change(&mut self, change: Change) {
        if let Some(instrument) = change.instrument()
            && !matches!(change, Change::Definition(_))
        {
            assert_eq!(self.definitions.get(&instrument.id), Some(instrument), "defined before: {change:?}");
        }
        match change {
            Change::Reset => self.begin(false),
            Change::Definition(definition) => {
                let id = definition.id;
                if let Some(before) = self.definitions.insert(id, Arc::clone(&definition)) {
                    let (price, size) = refinement(&before, &definition);
                    let quote = self.quotes.entry(id).or_default();
                    *quote = quote.refined(price, size);
                    let day = self.days.entry(id).or_default();
                    *day = day.refined(price, size);
                }
            }
            Change::Quote { instrument, quote, changed } => {
                let known = self.quotes.entry(instrument.id).or_default();
                known.merge(&changed);
                assert_eq!(*known, quote, "the changed fields are all that changed");
            }
            Change::Bar { instrument, bar, .. } => drop(self.days.insert(instrument.id, bar)),
            Change::Trade { instrument, number, trade } => {
                let expected = self.expected.entry(instrument.id).or_default();
                assert_eq!(number, *expected, "{}", instrument.symbol);
                assert_eq!(trade.ts_event.micros(), i64::try_from(number).unwrap());
                *expected += 1;
            }
            Change::Gap { instrument, missed, .. } => {
                assert!(missed > 0);
                self.missed += missed;
                *self.expected.entry(instrument.id).or_default() += missed;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Quote {
        symbol: usize,
        bid: Option<i64>,
        ask: Option<i64>,
    },
    Trades {
        symbol: usize,
        count: usize,
    },
    Refine {
        symbol: usize,
    },
    Reset,
    Replaced,
    /// Topics are unsubscribed and subscribed again.
    Answers,
    Time {
        millis: u64,
    },
    Take {
        times: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let symbol = || 0..SYMBOLS;
    let price = || proptest::option::of(90..110_i64);
    prop_oneof![
        12 => (symbol(), price(), price()).prop_map(|(symbol, bid, ask)| Step::Quote { symbol, bid, ask }),
        6 => (symbol(), 1..5_usize).prop_map(|(symbol, count)| Step::Trades { symbol, count }),
        // More than a ring may hold here.
        1 => (symbol(), 1000..1500_usize).prop_map(|(symbol, count)| Step::Trades { symbol, count }),
        2 => symbol().prop_map(|symbol| Step::Refine { symbol }),
        1 => Just(Step::Reset),
        1 => Just(Step::Replaced),
        2 => Just(Step::Answers),
        4 => (0..400_u64).prop_map(|millis| Step::Time { millis }),
        6 => (1..6_usize).prop_map(|times| Step::Take { times }),
    ]
}

proptest! {
    #[test]
    fn whoever_takes_now_and_then_knows_all_in_the_end_and_gets_every_trade_or_its_gap(
        steps in proptest::collection::vec(step(), 0..100)
    ) {
        let mut world = World::new();
        let mut said = Vec::new();
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Quote { symbol, bid, ask } => world.quote(symbol, bid, ask),
                Step::Trades { symbol, count } => world.trades(symbol, count),
                Step::Refine { symbol } => world.refine(symbol),
                Step::Reset => world.reset(),
                Step::Replaced => world.replaced(),
                Step::Answers => {
                    let topics = |topic: String| vec![TopicAnswer::granted(topic)];
                    let (left, taken) = (format!("left {index}"), format!("taken {index}"));
                    said.extend([left.clone(), taken.clone()]);
                    world.put(Event::Unsubscribed { topics: topics(left) });
                    world.put(Event::Subscribed { topics: topics(taken) });
                }
                Step::Time { millis } => world.now += Duration::from_millis(millis),
                Step::Take { times } => drop(world.take(times)),
            }
        }
        world.check();
        prop_assert_eq!(&world.consumer.heard, &said);
    }
}

#[test]
fn whoever_keeps_up_gets_each_update_as_it_came() {
    let mut world = World::new();
    for number in 1..=20 {
        world.quote(0, Some(number), None);
        world.trades(1, 3);
    }
    let mut positions = Vec::new();
    while let Some(Event::Update { position, changes, .. }) = world.mailbox.take(world.now) {
        positions.push((position.get(), changes.len()));
    }
    let expected: Vec<(u64, usize)> =
        (1..=41).map(|n| (n, [4, 1, 4][usize::from(n > 1) + usize::from(n > 1 && n % 2 == 1)])).collect();
    assert_eq!(positions, expected);
}

#[test]
fn a_large_update_comes_in_pieces_and_what_is_newer_meanwhile_replaces_the_rest() {
    let mut world = World::new();
    world.trades(0, 200);
    world.quote(1, Some(1), None);
    assert!(world.take(3));
    assert_eq!(world.consumer.expected[&InstrumentId(0)], 2 * TAKEN as u64);
    world.now += MERGED_AFTER * 2;
    world.quote(1, Some(2), None);
    assert!(world.take(1));
    assert_eq!(world.consumer.quotes[&InstrumentId(1)].bid, Some(Price::new(2)));
    world.check();
    assert_eq!(world.consumer.missed, 0);
}

#[test]
fn a_ring_that_nobody_takes_keeps_its_newest_entries_and_counts_the_others() {
    let mut world = World::new();
    world.take(1);
    for _ in 0..30 {
        world.trades(2, 500);
    }
    let kept = RING_ENTRIES.max(MERGED_BEYOND);
    assert!(world.mailbox.merged.entries + world.mailbox.changes <= kept);
    world.now += MERGED_AFTER * 2;
    world.check();
    assert_eq!(world.consumer.missed, 30 * 500 - RING_ENTRIES as u64);
}

#[test]
fn all_rings_together_share_what_may_wait() {
    let mut world = World::new();
    let instrument = |id: u32| {
        let symbol = Symbol::new(&format!("X{id}")).unwrap();
        Arc::new(Instrument { id: InstrumentId(id), ..Instrument::unknown(symbol) })
    };
    let instruments: Vec<_> = (0..200).map(instrument).collect();
    for round in 0..600_u64 {
        let entry = |instrument: &Arc<Instrument>| {
            let number = round * 2;
            let trade = Trade {
                price: Price::new(1),
                size: Size::new(1),
                side: Side::Buy,
                conditions: Conditions::default(),
                counts: Counts::EVERYTHING,
                booked: 0,
                ts_event: Timestamp::default(),
                ts_recv: Timestamp::default(),
            };
            Entry::Trades(Arc::clone(instrument), Numbered { number, stated: true, entries: vec![trade; 2] })
        };
        world.update(instruments.iter().map(entry).collect());
    }
    assert!(world.mailbox.merged.entries <= ENTRIES, "{}", world.mailbox.merged.entries);
    let mut counts: FxHashMap<InstrumentId, u64> = FxHashMap::default();
    while let Some(event) = world.mailbox.take(world.now) {
        let Event::Update { changes, .. } = event else { panic!("{event:?}") };
        for change in changes {
            match change {
                Change::Trade { instrument, number, .. } => {
                    let count = counts.entry(instrument.id).or_default();
                    assert_eq!(number, *count);
                    *count += 1;
                }
                Change::Gap { instrument, missed, .. } => *counts.entry(instrument.id).or_default() += missed,
                _ => {}
            }
        }
    }
    assert!(counts.len() == 200 && counts.values().all(|&count| count == 1200), "{counts:?}");
}

#[test]
fn a_new_subscription_is_told_behind_the_end_of_the_one_before() {
    let mut world = World::new();
    world.quote(0, Some(1), None);
    world.now += MERGED_AFTER * 2;
    while world.take(1) {}
    world.quote(0, Some(2), None);
    world.now += MERGED_AFTER * 2;
    world.quote(1, Some(1), None);
    world.take(1);
    // Two quotes are pending, and are merged from here.
    world.quote(0, Some(3), None);
    world.now += MERGED_AFTER * 2;
    world.quote(1, Some(3), None);
    world.put(Event::Unsubscribed { topics: vec![TopicAnswer::granted("quote:S0".to_owned())] });
    world.quote(0, Some(4), None);
    let mut seen = Vec::new();
    while let Some(event) = world.mailbox.take(world.now) {
        match event {
            Event::Update { changes, .. } => seen.extend(changes.iter().filter_map(Change::topic)),
            Event::Unsubscribed { .. } => seen.push("unsubscribed".to_owned()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen.iter().rev().take(2).collect::<Vec<_>>(), ["quote:S0", "unsubscribed"]);
}

#[test]
fn what_is_settled_is_told_so_behind_its_first_image_and_before_what_happens_then() {
    let mut world = World::new();
    world.trades(0, 2000);
    world.now += MERGED_AFTER * 2;
    world.take(1);
    world.put(Event::Settled { topics: Vec::new() });
    world.trades(0, 1);
    let mut told = 0;
    while let Some(event) = world.mailbox.take(world.now) {
        match event {
            Event::Settled { .. } => break,
            event => world.consumer.hear(event),
        }
        told = world.consumer.expected.get(&InstrumentId(0)).copied().unwrap_or_default();
    }
    assert_eq!(told, 2000);
    world.check();
}

/// A consumer that needs so long for an update and so long for a change in it, in a market of so many changes
/// a second; the oldest value that it handles, as it handles it.
fn oldest(of_update: Duration, of_change: Duration, rate: u32, symbols: u32) -> Duration {
    let start = Instant::now();
    let end = start + Duration::from_secs(6);
    let mut mailbox = Mailbox::default();
    let instruments: Vec<_> = (0..symbols)
        .map(|id| {
            let symbol = Symbol::new(&format!("S{id}")).unwrap();
            Arc::new(Instrument { id: InstrumentId(id), ..Instrument::unknown(symbol) })
        })
        .collect();
    // The price is the time of arrival.
    let mut newest = vec![start; symbols as usize];
    let (mut now, mut put, mut oldest) = (start, 0, Duration::ZERO);
    let mut handled = vec![start; symbols as usize];
    while now < end {
        while start + Duration::from_secs(1) / rate * put <= now {
            let at = start + Duration::from_secs(1) / rate * put;
            let instrument = &instruments[(put % symbols) as usize];
            let bid = Some(Price::new(i64::try_from((at - start).as_micros()).unwrap()));
            let quote = QuoteFields { bid, ..QuoteFields::default() };
            newest[instrument.id.index()] = at;
            let change = Change::Quote { instrument: Arc::clone(instrument), quote, changed: quote };
            let (position, time) = (Position::new(u64::from(put)), Timestamp::default());
            mailbox.put(at, Event::Update { position, time, changes: vec![change] });
            put += 1;
        }
        match mailbox.take(now) {
            Some(Event::Update { changes, .. }) => {
                now += of_update;
                for change in changes {
                    now += of_change;
                    if let Change::Quote { instrument, quote: QuoteFields { bid: Some(bid), .. }, .. } =
                        change
                    {
                        let at = start + Duration::from_micros(u64::try_from(bid.units()).unwrap());
                        oldest = oldest.max(now - at);
                        handled[instrument.id.index()] = now;
                    }
                }
            }
            Some(_) => {}
            None => now += Duration::from_millis(1),
        }
    }
    let forgotten = handled.iter().filter(|&&at| end.saturating_duration_since(at) > Duration::from_secs(3));
    assert_eq!(forgotten.count(), 0, "every symbol has its turn");
    oldest
}

#[test]
fn no_price_is_old_when_it_is_handled_however_slow_the_consumer() {
    for rate in [5_000, 50_000] {
        let per_update = Duration::from_millis(50);
        let age = oldest(per_update, Duration::ZERO, rate, 550);
        assert!(age <= MERGED_AFTER + 2 * per_update, "{rate}/s, 50 ms an update: {age:?}");
        let age = oldest(Duration::ZERO, Duration::from_millis(2), rate, 550);
        assert!(age <= MERGED_AFTER + Duration::from_millis(2 * 2 * 64), "{rate}/s, 2 ms a change: {age:?}");
    }
}

/// The reports of age, and at which second each came.
fn told_of_age(world: &mut World, seconds: u64) -> Vec<String> {
    let start = world.now;
    let mut told = Vec::new();
    while world.now < start + Duration::from_secs(seconds) {
        world.quote(0, Some(1), None);
        world.now += Duration::from_millis(100);
        while let Some(event) = world.mailbox.take(world.now) {
            let at = (world.now - start).as_millis();
            match event {
                Event::Lagging { by } => told.push(format!("{at}: {by:?}")),
                Event::Live => told.push(format!("{at}: live")),
                _ => {}
            }
        }
    }
    told
}

#[test]
fn it_is_told_at_most_once_a_second_how_old_the_server_says_it_is_and_then_that_it_is_new_again() {
    let mut world = World::new();
    world.take(1);
    world.put(Event::Lagging { by: Duration::from_millis(1500) });
    assert_eq!(told_of_age(&mut world, 2), ["100: 1.5s", "1100: 1.5s"]);
    world.put(Event::Live);
    assert_eq!(told_of_age(&mut world, 2), ["100: live"]);
}

#[test]
fn it_is_told_how_long_the_oldest_thing_has_waited() {
    let mut world = World::new();
    world.take(1);
    world.trades(0, 1000);
    world.now += Duration::from_millis(2500);
    assert_eq!(world.mailbox.take(world.now), Some(Event::Lagging { by: Duration::from_millis(2500) }));
    world.take(1);
    assert_eq!(told_of_age(&mut world, 2), ["100: live"], "the rest was taken at once");
}

#[test]
fn a_lost_connection_says_more_than_that_it_lagged() {
    let mut world = World::new();
    world.take(1);
    world.put(Event::Lagging { by: Duration::from_millis(1500) });
    assert!(matches!(world.mailbox.take(world.now), Some(Event::Lagging { .. })));
    let (reason, retry_in) = (String::new(), Duration::ZERO);
    world.put(Event::Disconnected { code: None, reason, retry_in });
    assert!(matches!(world.mailbox.take(world.now), Some(Event::Disconnected { .. })));
    assert_eq!(told_of_age(&mut world, 2), [""; 0]);
}

#[test]
fn events_that_cannot_be_merged_are_said_to_be_too_many() {
    let mut world = World::new();
    for _ in 0..=MERGED_BEYOND {
        world.put(Event::Resumed { position: Position::START });
    }
    assert!(world.mailbox.is_full());
    assert!(world.take(MERGED_BEYOND + 1 - EVENTS + 2));
    assert!(!world.mailbox.is_full());
}

#[test]
fn what_leaves_a_set_is_dropped_where_it_waits_and_what_joins_again_is_told_behind_it() {
    let mut world = World::new();
    world.check();
    let instrument = Arc::clone(&world.instruments[0]);
    world.quote(0, Some(1), Some(2));
    world.trades(0, 2);
    let left = |kind| Entry::Left(Arc::clone(&instrument), kind);
    let joined = |kind| Entry::Joined(Arc::clone(&instrument), kind);
    world.update(vec![left(Kind::Quote), left(Kind::Trades)]);
    world.now += MERGED_AFTER * 2;
    let mut told = Vec::new();
    while let Some(Event::Update { changes, .. }) = world.mailbox.take(world.now) {
        told.extend(changes);
    }
    let word = |change: &Change| match change {
        Change::Trade { .. } => "trade",
        Change::Quote { .. } => "quote",
        Change::Left { kind: Kind::Quote, .. } => "no quote",
        Change::Left { .. } => "no trades",
        Change::Joined { .. } => "joined",
        Change::Bar { .. } => "day",
        other => panic!("{other:?}"),
    };
    let words = |changes: &[Change]| changes.iter().map(word).collect::<Vec<_>>();
    assert_eq!(words(&told), ["trade", "trade", "no trades", "day", "no quote"]);

    // It joined again before `Left` was taken: the trades come after `Left`, and the quote is the current
    // one.
    world.trades(0, 1);
    world.update(vec![left(Kind::Quote), left(Kind::Trades), joined(Kind::Quote), joined(Kind::Trades)]);
    world.quote(0, Some(5), None);
    world.trades(0, 1);
    world.now += MERGED_AFTER * 2;
    let Some(Event::Update { changes, .. }) = world.mailbox.take(world.now) else { panic!("an update") };
    assert_eq!(words(&changes), ["trade", "no trades", "joined", "trade", "day", "quote"]);
}
