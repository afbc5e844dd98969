//! Requests of clients, and their answers. On the shard thread.
//!
//! Invariant: each request gets one answer while its connection lasts, and is handled with its session in
//! hand.

use super::connection::{Extras, Member, Stats};
use super::{AskedOfRoom, Done, Fanout, Task, second};
use crate::hint::nearest;
use crate::hub::{Replica, Scope, Topic, ViewKey};
use crate::market::{Post, Timestamp};
use crate::server::limits::SESSION;
use crate::server::link::Link;
use crate::server::rights::Action;
use crate::tape::{Epoch, Position};
use crate::wire::{
    Answer, ErrorCode, Fields, Id, Op, Refusal, ReplayAction, ReplayState, Request, RequestError, Resume,
    SessionNumber, TopicAnswer, TopicChecksum, checksum, schema,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// Hints look at all symbols: only in universes of up to this many.
const MAX_HINTED_SYMBOLS: usize = 2000;

impl<L: Link> Fanout<L> {
    /// Handles a request, and sends its answer.
    pub(super) fn request(&mut self, key: usize, request: Result<Request, RequestError>) {
        let Request { id, session, op } = match request {
            Ok(request) => request,
            Err(RequestError { id, code, message }) => {
                return self.answer(key, &Answer::Error { id, code, message });
            }
        };
        self.tally.request(&op);
        if op != Op::Open && !self.connections[key].turn_to(session) {
            let message = format!("session {session} is not open");
            return self.answer(key, &Answer::Error { id, code: ErrorCode::BadRequest, message });
        }
        match op {
            Op::Open => self.open_session(key, id, session),
            Op::Close => self.close_session(key, id, session),
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
            Op::Replay(action) => self.ask_room(key, id, Task::Replay(action)),
            Op::Fault { fault, lasts } => self.begin_fault(key, id, fault, lasts),
            Op::Publish(post) => self.ask_room(key, id, Task::Post(post)),
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.turn_to(SessionNumber::FIRST);
        }
    }

    /// `max_hz` and `times` as in [`Op::Subscribe`].
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
        // Topics of the connection's other sessions: the limit is for all of them together.
        let elsewhere = self.connections[key].sessions().skip(1);
        let elsewhere: usize = elsewhere.map(|(_, other)| other.view(&self.views).key.topics.len()).sum();
        let mut hints = 1;
        let may_watch_stats = self.connections[key].rights.may(Action::WatchStats);
        let answers = topics
            .into_iter()
            .map(|text| match Topic::parse(&text) {
                Err(error) => TopicAnswer::refused(
                    text,
                    Refusal { code: ErrorCode::UnknownTopic, message: error.message, nearest: error.nearest },
                ),
                Ok(Topic::STATS) if let Err(denied) = may_watch_stats => {
                    let (code, message) = (ErrorCode::NotAllowed, denied.to_string());
                    TopicAnswer::refused(text, Refusal { code, message, nearest: None })
                }
                Ok(topic) if wanted.len() + elsewhere >= SESSION.topics && !wanted.contains(&topic) => {
                    let who = if elsewhere > 0 { "the sessions of a connection" } else { "a session" };
                    let message = format!("{who} may have {} topics", SESSION.topics);
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
        // What is pending of the topics that stay was marked in the view it has left.
        self.catch_up(key);
    }

    pub(super) fn change_view(
        &mut self,
        key: usize,
        view: ViewKey,
        since: Option<(Epoch, Position)>,
    ) -> bool {
        let counted = self.events_counted(key);
        // The number of the view it leaves may be reused.
        self.frames.clear();
        let connection = &mut self.connections[key];
        let member = Member::new(key, connection.form.session()).get();
        let subscribed = connection.session.resubscribe(member, view, since, &self.replica, &mut self.views);
        if let Some(stats) = connection.extras.as_mut().and_then(|extras| extras.asked.stats.as_mut()) {
            stats.events_before = counted;
            stats.events_base = connection.session.view(&self.views).events;
        }
        subscribed.resumed
    }

    pub(super) fn answer(&mut self, key: usize, answer: &Answer) {
        self.tally.errors += u64::from(matches!(answer, Answer::Error { .. }));
        self.connections[key].answer(answer, &self.namespace, second(self.now));
    }

    /// Changes of a session's topics since it asked for stats.
    fn events_counted(&self, key: usize) -> u64 {
        let connection = &self.connections[key];
        let stats = connection.extras.as_ref().and_then(|extras| extras.asked.stats);
        let view = connection.session.view(&self.views);
        stats.map_or(0, |stats| stats.events_before + view.events - stats.events_base)
    }

    fn enable_stats(&mut self, key: usize, id: Option<Id>, enabled: bool) {
        let connection = &mut self.connections[key];
        let events_base = connection.session.view(&self.views).events;
        let extras = connection.extras.get_or_insert_default();
        if enabled {
            extras.asked.stats.get_or_insert(Stats { events_base, ..Stats::default() });
            connection.has_stats = true;
        }
        self.send_stats(key, id);
        let connection = &mut self.connections[key];
        if !enabled && let Some(extras) = &mut connection.extras {
            extras.asked.stats = None;
            connection.has_stats = false;
        }
    }

    /// Sends `stats` to a session that asked for them; called once a second.
    pub(super) fn tell_stats(&mut self, key: usize) {
        if self.connections[key].extras.as_ref().is_some_and(|extras| extras.asked.stats.is_some()) {
            self.send_stats(key, None);
        }
    }

    fn send_stats(&mut self, key: usize, id: Option<Id>) {
        let connection = &self.connections[key];
        let upto = self.upto();
        let stats = connection.extras.as_ref().and_then(|extras| extras.asked.stats).unwrap_or_default();
        let cohort = connection.session.cohort(&self.views);
        let behind = cohort.is_dirty() || connection.session.position() < cohort.flushed().upto.position;
        // The tape may have gone on without a change for it.
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
        if topics.len() > SESSION.checksum_topics {
            let message = format!("a checksum request may name {} topics", SESSION.checksum_topics);
            return self.answer(key, &refuse(ErrorCode::TooManyTopics, message));
        }
        let extras: &mut Extras = self.connections[key].extras.get_or_insert_default();
        if extras.asked.checksum.is_some() {
            let message = "the checksum asked for before is not answered yet".to_owned();
            return self.answer(key, &refuse(ErrorCode::BadRequest, message));
        }
        extras.asked.checksum = Some((id, topics));
        // The answer is of the tape's end, so the session is brought there first.
        self.catch_up(key);
    }

    fn ask_room(&mut self, key: usize, id: Option<Id>, task: Task) {
        let refuse =
            |code, message: &str| Answer::Error { id: id.clone(), code, message: message.to_owned() };
        let right = match task {
            Task::Replay(ReplayAction::Look) => None,
            Task::Replay(_) => Some(Action::Control),
            Task::Post(_) => Some(Action::Publish),
        };
        if let Some(Err(denied)) = right.map(|right| self.connections[key].rights.may(right)) {
            return self.answer(key, &refuse(ErrorCode::NotAllowed, &denied.to_string()));
        }
        let extras: &mut Extras = self.connections[key].extras.get_or_insert_default();
        if extras.asked_of_room.len() >= SESSION.asked_of_room {
            let message = "too many requests of this kind are not answered yet";
            return self.answer(key, &refuse(ErrorCode::BadRequest, message));
        }
        let mut task = task;
        if let Task::Post(post) = &mut task
            && let Post::Message { message, .. } = &mut **post
            && message.from.is_none()
        {
            message.from.clone_from(&extras.name);
        }
        self.all_asked += 1;
        extras.asked_of_room.push((self.all_asked, id));
        self.asked.push(AskedOfRoom { key, number: self.all_asked, task });
    }

    /// Answers a request that was [taken](Self::take_asked), if its session still exists.
    pub fn answer_asked(&mut self, key: usize, number: u64, outcome: Result<Done, (ErrorCode, String)>) {
        let extras = self.connections.get_mut(key).and_then(|connection| connection.extras.as_mut());
        let Some(extras) = extras else { return };
        let asked = &mut extras.asked_of_room;
        let Some(at) = asked.iter().position(|&(known, _)| known == number) else { return };
        let (_, id) = asked.remove(at);
        // An event without an acknowledgement is answered only if something is wrong.
        let is_event = self.connections[key].form.framing().parser().is_some();
        if id.is_none() && is_event && matches!(outcome, Ok(Done::Posted(_))) {
            return;
        }
        let answer = match outcome {
            Ok(Done::Posted(position)) => Answer::Published { id, position: position.get() },
            Ok(Done::Replay(state)) => {
                let controllable =
                    state.controllable && self.connections[key].rights.may(Action::Control).is_ok();
                Answer::Replay(ReplayState { id, controllable, ..state })
            }
            Err((code, message)) => Answer::Error { id, code, message },
        };
        self.views.settle();
        // It may have fallen in step while it waited.
        self.alone(key);
        self.answer(key, &answer);
        self.reap(key);
    }

    /// Answers a checksum once its session has reached the tape's end. The updates up to there may still be
    /// in flight: the answer follows them, so that a socket that never takes a complete frame need not wait
    /// for the tape to pause.
    pub(super) fn answer_checksum(&mut self, key: usize) {
        let upto = self.upto();
        let Some(connection) = self.connections.get_mut(key).filter(|c| c.stands_at(upto)) else { return };
        let Some((id, topics)) = connection.extras.as_mut().and_then(|extras| extras.asked.checksum.take())
        else {
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

/// Takes one of a request's hints: finding the nearest of many names is expensive.
fn take_hint(left: &mut u8) -> Option<()> {
    *left = left.checked_sub(1)?;
    Some(())
}

fn granted(replica: &Replica, text: String, topic: &Topic, hints: &mut u8) -> TopicAnswer {
    let mut answer = TopicAnswer::granted(text);
    // A channel is there as soon as somebody posts to it.
    if topic.kind.is_of_channels() {
        return answer;
    }
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
    let Some(schema) = schema::image(topic.kind) else {
        let message = format!("{text:?} has no checksum: it is not an image of numbers");
        return Err(refuse(ErrorCode::BadRequest, message, None));
    };
    let fields =
        book.changed(topic.kind, Position::START).map(|(mask, image)| Fields::of(image, mask, false));
    let begun = fields.filter(Fields::has_begun).ok_or_else(unknown)?;
    Ok(checksum(text, begun.units(schema.all)))
}
