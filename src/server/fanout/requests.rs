use super::connection::{Extras, Socket, Stats};
use super::{AskedReplay, Fanout, key_u32, second};
use crate::hub::{Kind, MAX_TOPICS, Replica, Scope, Topic, ViewKey, nearest};
use crate::market::{Price, Timestamp};
use crate::tape::{Epoch, Position};
use crate::wire::{
    Answer, ErrorCode, Id, Op, Refusal, ReplayAction, ReplayState, Request, RequestError, Resume,
    TopicAnswer, TopicChecksum, checksum,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// `replay` requests of one session that may wait for their answers.
const MAX_REPLAYS: usize = 16;
/// Topics of one `checksum` request.
const MAX_CHECKSUMS: usize = 64;
/// Finding the nearest symbol looks at all of them: only in universes of up to this many.
const MAX_HINTED_SYMBOLS: usize = 2000;

impl<S: Socket> Fanout<S> {
    /// Answers a request.
    pub(super) fn request(&mut self, key: usize, request: Result<Request, RequestError>) {
        let Request { id, op } = match request {
            Ok(request) => request,
            Err(RequestError { id, code, message }) => {
                return self.answer(key, &Answer::Error { id, code, message });
            }
        };
        self.tally.request(&op);
        match op {
            Op::Subscribe { topics, since, max_hz, times } => {
                self.subscribe(key, id, topics, since, max_hz, times);
            }
            Op::Unsubscribe { topics } => self.unsubscribe(key, id, topics),
            Op::Ping => {
                let time = Timestamp::now().micros();
                self.answer(key, &Answer::Pong { id, time, position: self.replica.position().get() });
            }
            Op::Stats { enabled } => self.enable_stats(key, id, enabled),
            Op::Checksum { topics } => self.begin_checksum(key, id, topics),
            Op::Replay(action) => self.begin_replay(key, id, action),
            Op::Fault { fault, lasts } => self.break_way(key, id, fault, lasts),
            Op::Auth => {
                let message = "this server asks for no token".to_owned();
                self.answer(key, &Answer::Error { id, code: ErrorCode::NotSupported, message });
            }
        }
    }

    /// `max_hz` and `times` as of [`Request::Subscribe`].
    #[expect(clippy::option_option, reason = "a cap may be left as it is, lifted, or set")]
    pub(super) fn subscribe(
        &mut self,
        key: usize,
        id: Option<Id>,
        topics: Vec<String>,
        since: Option<Resume>,
        max_hz: Option<Option<f64>>,
        times: Option<bool>,
    ) {
        let view = &self.connections[key].session.view(&self.views).key;
        let mut options = view.options;
        let mut wanted: BTreeSet<Topic> = view.topics.iter().cloned().collect();
        let mut hints = 1;
        let answers = topics
            .into_iter()
            .map(|text| match Topic::parse(&text) {
                Err(error) => TopicAnswer::refused(
                    text,
                    Refusal { code: ErrorCode::UnknownTopic, message: error.message, nearest: error.nearest },
                ),
                Ok(Topic::STATS) if self.rights.stats_forbidden => {
                    let message = "\"stats\" tells of other sessions, and this server may be reached from elsewhere: its \
                                   operator allows it with --ops"
                        .to_owned();
                    let code = ErrorCode::NotAllowed;
                    TopicAnswer::refused(text, Refusal { code, message, nearest: None })
                }
                Ok(topic) if wanted.len() >= MAX_TOPICS && !wanted.contains(&topic) => {
                    let message = format!("a session may have {MAX_TOPICS} topics");
                    let code = ErrorCode::TooManyTopics;
                    TopicAnswer::refused(text, Refusal { code, message, nearest: None })
                }
                Ok(topic) => {
                    let answer = granted(&self.replica, text, &topic, &mut hints);
                    wanted.insert(topic);
                    answer
                }
            })
            .collect();
        if let Some(max_hz) = max_hz {
            options.period = max_hz.map_or(Duration::ZERO, |hz| Duration::from_secs_f64(1.0 / hz));
        }
        options.times = times.unwrap_or(options.times);
        let from = since.map(|since| (Epoch::new(since.epoch), Position::new(since.position)));
        let resumed = self.change_view(key, ViewKey { topics: wanted.into_iter().collect(), options }, from);
        let answer = Answer::Subscribed {
            id,
            epoch: self.replica.epoch().get(),
            position: self.replica.position().get(),
            resumed: since.map(|_| resumed),
            topics: answers,
        };
        self.answer(key, &answer);
        self.catch_up(key);
    }

    fn unsubscribe(&mut self, key: usize, id: Option<Id>, topics: Vec<String>) {
        let view = &self.connections[key].session.view(&self.views).key;
        let options = view.options;
        let mut wanted: BTreeSet<Topic> = view.topics.iter().cloned().collect();
        let mut hints = 1;
        let answers = topics
            .into_iter()
            .map(|text| match Topic::parse(&text) {
                Ok(topic) if wanted.remove(&topic) => TopicAnswer::granted(text),
                Ok(_) => {
                    let message = format!("not subscribed to {text:?}");
                    let nearest = take_hint(&mut hints).and_then(|()| {
                        let subscribed: Vec<String> = wanted.iter().map(ToString::to_string).collect();
                        nearest(&text, subscribed.iter().map(String::as_str)).map(str::to_owned)
                    });
                    TopicAnswer::refused(text, Refusal { code: ErrorCode::NotSubscribed, message, nearest })
                }
                Err(error) => TopicAnswer::refused(
                    text,
                    Refusal { code: ErrorCode::UnknownTopic, message: error.message, nearest: error.nearest },
                ),
            })
            .collect();
        self.change_view(key, ViewKey { topics: wanted.into_iter().collect(), options }, None);
        self.answer(key, &Answer::Unsubscribed { id, topics: answers });
        // What it is owed for the topics that stay was marked in the view it has left.
        self.catch_up(key);
    }

    fn change_view(&mut self, key: usize, view: ViewKey, since: Option<(Epoch, Position)>) -> bool {
        let counted = self.events_counted(key);
        // The number of the view that it leaves may be another's next.
        self.frames.clear();
        let connection = &mut self.connections[key];
        let subscribed =
            connection.session.resubscribe(key_u32(key), view, since, &self.replica, &mut self.views);
        if let Some(stats) = connection.extras.as_mut().and_then(|extras| extras.stats.as_mut()) {
            stats.events_before = counted;
            stats.events_base = connection.session.view(&self.views).events;
        }
        subscribed.resumed
    }

    pub(super) fn answer(&mut self, key: usize, answer: &Answer) {
        self.tally.errors += u64::from(matches!(answer, Answer::Error { .. }));
        let form = self.form_of(key);
        self.connections[key].answer(answer, form, second(self.now));
    }

    /// Changes of a session's topics since it asked for stats.
    fn events_counted(&self, key: usize) -> u64 {
        let connection = &self.connections[key];
        let stats = connection.extras.as_ref().and_then(|extras| extras.stats);
        let view = connection.session.view(&self.views);
        stats.map_or(0, |stats| stats.events_before + view.events - stats.events_base)
    }

    fn enable_stats(&mut self, key: usize, id: Option<Id>, enabled: bool) {
        let connection = &mut self.connections[key];
        let events_base = connection.session.view(&self.views).events;
        let extras = connection.extras.get_or_insert_default();
        if enabled {
            extras.stats.get_or_insert(Stats { events_base, ..Stats::default() });
            connection.has_stats = true;
        }
        self.send_stats(key, id);
        let connection = &mut self.connections[key];
        if !enabled && let Some(extras) = &mut connection.extras {
            extras.stats = None;
            connection.has_stats = false;
        }
    }

    /// The `stats` of a session that wants them; called once a second.
    pub(super) fn tell_stats(&mut self, key: usize) {
        if self.connections[key].extras.as_ref().is_some_and(|extras| extras.stats.is_some()) {
            self.send_stats(key, None);
        }
    }

    fn send_stats(&mut self, key: usize, id: Option<Id>) {
        let connection = &self.connections[key];
        let upto = self.upto();
        let stats = connection.extras.as_ref().and_then(|extras| extras.stats).unwrap_or_default();
        let cohort = connection.session.cohort(&self.views);
        let behind = cohort.is_dirty() || connection.session.position() < cohort.flushed().upto.position;
        // The tape may have gone on without anything for it.
        let at = if behind { connection.session.upto() } else { upto };
        let answer = Answer::Stats {
            id,
            position: upto.position.get(),
            lag: upto.position.get() - at.position.get(),
            lag_ms: u64::try_from(upto.time.nanos_since(at.time) / 1_000_000).unwrap_or(0),
            frames: stats.frames,
            bytes: stats.bytes,
            events: self.events_counted(key),
            delivered: stats.delivered,
        };
        self.answer(key, &answer);
    }

    fn begin_checksum(&mut self, key: usize, id: Option<Id>, topics: Vec<String>) {
        let refuse = |code, message| Answer::Error { id: id.clone(), code, message };
        if topics.len() > MAX_CHECKSUMS {
            let message = format!("a checksum request may name {MAX_CHECKSUMS} topics");
            return self.answer(key, &refuse(ErrorCode::TooManyTopics, message));
        }
        let extras: &mut Extras = self.connections[key].extras.get_or_insert_default();
        if extras.checksum.is_some() {
            let message = "the checksum asked for before is not answered yet".to_owned();
            return self.answer(key, &refuse(ErrorCode::BadRequest, message));
        }
        extras.checksum = Some((id, topics));
        // The answer speaks of the tape's end, so the session is brought there first.
        self.deliver_alone(key);
        self.answer_checksum(key);
    }

    fn begin_replay(&mut self, key: usize, id: Option<Id>, action: ReplayAction) {
        let refuse =
            |code, message: &str| Answer::Error { id: id.clone(), code, message: message.to_owned() };
        if action != ReplayAction::Look && !self.may_control(key) {
            let message = "this session may not control the replay";
            return self.answer(key, &refuse(ErrorCode::NotAllowed, message));
        }
        let extras: &mut Extras = self.connections[key].extras.get_or_insert_default();
        if extras.replays.len() >= MAX_REPLAYS {
            let message = "too many replay requests are not answered yet";
            return self.answer(key, &refuse(ErrorCode::BadRequest, message));
        }
        self.replays += 1;
        extras.replays.push((self.replays, id));
        self.asked.push(AskedReplay { key, number: self.replays, action });
    }

    fn may_control(&self, key: usize) -> bool {
        self.rights.controllable || self.connections[key].may_control
    }

    /// Answers a request that was [taken](Self::take_asked), if its session is still there.
    pub fn answer_replay(
        &mut self,
        key: usize,
        number: u64,
        outcome: Result<ReplayState, (ErrorCode, String)>,
    ) {
        let extras = self.connections.get_mut(key).and_then(|connection| connection.extras.as_mut());
        let Some(extras) = extras else { return };
        let Some(at) = extras.replays.iter().position(|&(known, _)| known == number) else { return };
        let (_, id) = extras.replays.remove(at);
        let answer = match outcome {
            Ok(state) => {
                let controllable = state.controllable && self.may_control(key);
                Answer::Replay(ReplayState { id, controllable, ..state })
            }
            Err((code, message)) => Answer::Error { id, code, message },
        };
        self.views.settle();
        // It came in step with others while it waited.
        self.alone(key);
        self.answer(key, &answer);
        self.reap(key);
    }

    /// Answers a checksum that waited for its session to reach the tape's end. What brings it there may still be under way: the answer goes
    /// behind it, and a socket that never takes a whole frame need not wait for a time at which the tape stands still.
    pub(super) fn answer_checksum(&mut self, key: usize) {
        let upto = self.upto();
        let Some(connection) = self.connections.get_mut(key).filter(|c| c.stands_at(upto)) else { return };
        let Some((id, topics)) = connection.extras.as_mut().and_then(|extras| extras.checksum.take()) else {
            return;
        };
        let view = connection.session.view(&self.views);
        let topics = topics
            .into_iter()
            .map(|text| match checksum_of(&self.replica, &view.key.topics, &text) {
                Ok(checksum) => TopicChecksum { topic: text, checksum: Some(checksum), error: None },
                Err(error) => TopicChecksum { topic: text, checksum: None, error: Some(error) },
            })
            .collect();
        self.answer(key, &Answer::Checksum { id, position: upto.position.get(), topics });
    }
}

/// Takes one of the hints that a request may cost: finding the nearest of many names is dear.
fn take_hint(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

fn granted(replica: &Replica, text: String, topic: &Topic, hints: &mut u8) -> TopicAnswer {
    let mut answer = TopicAnswer::granted(text);
    match &topic.scope {
        Scope::Symbol(symbol) => {
            if let Some(book) = replica.by_symbol(symbol.as_str()) {
                answer.instrument = Some(book.definition.id.0);
            } else {
                answer.pending = true;
                if replica.books().len() <= MAX_HINTED_SYMBOLS && take_hint(hints).is_some() {
                    let symbols = replica.books().map(|book| book.definition.symbol.as_str());
                    answer.nearest = nearest(symbol.as_str(), symbols)
                        .map(|symbol| format!("{}:{symbol}", topic.kind.name()));
                }
            }
        }
        Scope::Sector(sector) => {
            let mut sectors = replica.books().map(|book| &*book.definition.sector);
            if !sectors.any(|known| *known == **sector) {
                answer.pending = true;
                if take_hint(hints).is_some() {
                    let sectors: BTreeSet<&str> = replica
                        .books()
                        .map(|book| &*book.definition.sector)
                        .filter(|s| !s.is_empty())
                        .collect();
                    answer.nearest = nearest(sector, sectors.into_iter())
                        .map(|sector| format!("{}:@{sector}", topic.kind.name()));
                }
            }
        }
        Scope::All | Scope::Market => {}
    }
    answer
}

fn checksum_of(replica: &Replica, subscribed: &[Topic], text: &str) -> Result<u32, Refusal> {
    let refuse = |code, message: String, nearest| Refusal { code, message, nearest };
    let topic = Topic::parse(text).map_err(|e| refuse(ErrorCode::UnknownTopic, e.message, e.nearest))?;
    let unknown = || refuse(ErrorCode::UnknownTopic, format!("no image of {text:?}"), None);
    let Scope::Symbol(symbol) = &topic.scope else {
        let message = format!("{text:?} is not the image of one instrument");
        return Err(refuse(ErrorCode::BadRequest, message, None));
    };
    let book = replica.by_symbol(symbol.as_str()).ok_or_else(unknown)?;
    if !subscribed.iter().any(|other| other.kind == topic.kind && other.covers(&book.definition)) {
        let message = format!("not subscribed to {text:?}");
        return Err(refuse(ErrorCode::NotSubscribed, message, None));
    }
    let units = |price: Price| price.some().map(Price::units);
    let image = match topic.kind {
        Kind::Quote => {
            let quote = book.quote.get().ok_or_else(unknown)?;
            let (bid, ask) = (units(quote.bid), units(quote.ask));
            return Ok(checksum(
                text,
                [bid, Some(quote.bid_size.units()), ask, Some(quote.ask_size.units())],
            ));
        }
        Kind::Bars1s => &book.bars_1s.latest,
        Kind::Bars1m => &book.bars_1m.latest,
        Kind::Day => &book.day,
        Kind::Trades | Kind::Status | Kind::Stats => {
            let message = format!("{text:?} has no checksum: it is not an image of numbers");
            return Err(refuse(ErrorCode::BadRequest, message, None));
        }
    };
    let bar = image.get().ok_or_else(unknown)?;
    let mut fields = vec![
        Some(bar.start.nanos().div_euclid(1_000_000_000)),
        units(bar.open),
        units(bar.high),
        units(bar.low),
        units(bar.close),
        Some(bar.volume.units()),
        i64::try_from(bar.trades).ok(),
        Some(bar.vwap_hundredths()),
    ];
    if topic.kind == Kind::Day {
        fields.push(units(image.previous_close()));
    }
    Ok(checksum(text, fields))
}
