//! `GET /v1/poll`: what is pending of some topics, for clients without a session.
//!
//! Nothing is kept of a client. What is kept is for all of them: queries that were read, and the answers of
//! the last moments. Clients that poll at their own pace are at few positions ([`Room::point`]), so the
//! answer to most polls is there already.
//!
//! A poll that waits is woken by the watch of its view, which looks at the market once for all that wait for
//! the same topics.

use super::App;
use super::accept::knows;
use super::body::Memory;
use super::doors::{Asked, Door};
use super::fanout::Opening;
use super::gate::Pass;
use super::permits::Permits;
use super::problem::Problem;
use super::replay::asked_room;
use super::rights::Rights;
use super::room::{Point, Refusal, Room};
use super::rooms::RoomRequest;
use crate::hub::{Kind, Topic};
use crate::tape::{Epoch, Position};
use crate::wire::{Encoding, Form, POLL_BYTES, PollQuery, PollSince};
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rustc_hash::FxHasher;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What all polls share.
pub(super) struct Answers {
    views: Cache<Box<str>, Arc<View>, QueryBytes>,
    built: Cache<Key, Arc<Answer>, AnswerBytes>,
    numbers: AtomicU64,
    /// Those that wait now, and how many may.
    waiting: Permits,
    counts: Counts,
    stopped: watch::Receiver<bool>,
}

/// What was polled.
#[derive(Debug, Default)]
struct Counts {
    built: AtomicU64,
    ok: AtomicU64,
    unchanged: AtomicU64,
}

/// A query that was read, without what differs from one poll to the next.
struct View {
    /// It names the view as long as the process lives.
    number: u64,
    query: Arc<PollQuery>,
    room: Option<String>,
    has_key: bool,
    /// A hash of the query, the same on every node.
    tag: u64,
    /// Announces positions at which one of its topics had changed, while polls wait for that.
    watch: Mutex<Option<Arc<watch::Sender<Position>>>>,
}

/// What an answer follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    view: u64,
    tape: Epoch,
    since: Option<PollSince>,
    upto: Position,
}

struct Answer {
    body: Bytes,
    tag: HeaderValue,
    is_empty: bool,
}

/// The parameters of one poll.
struct Asking<'a> {
    /// Those of its view, as they were written.
    view: Cow<'a, str>,
    since: Option<PollSince>,
    wait: Duration,
}

/// Bytes of the queries that are kept.
const QUERIES_BYTES: u64 = 4 << 20;
/// Bytes of the answers that are kept: a part of what answers may take in all.
const ANSWERS_BYTES: u64 = 16 << 20;
/// A guess at how many there are of either. It decides into how many parts a cache is divided, each of which
/// must hold the longest answer.
const ENTRIES: usize = 128;
/// The longest wait: shorter than that of usual proxies for an answer.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// For an answer that does not wait. A shared cache may give it to others for a second, which makes it older
/// and never wrong: each client goes on from the position that it got. A browser asks each time, and is told
/// if nothing has changed.
const SHARED: HeaderValue = HeaderValue::from_static("max-age=0, s-maxage=1");
/// For answers that waited, as the next one would not; and those of a room with a key, which is for guests.
const UNSHARED: HeaderValue = HeaderValue::from_static("no-store");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const MSGPACK: HeaderValue = HeaderValue::from_static("application/msgpack");

pub(super) async fn poll(
    State(app): State<Arc<App>>,
    pass: Pass,
    request: Request,
) -> Result<Response, Problem> {
    let answers = &app.answers;
    let asking = Asking::parse(request.uri().query().unwrap_or_default())?;
    let view = answers.view(&asking.view, pass.rights)?;
    let (room, _) = asked_room(&app, view.room.as_deref(), None, pass.rights)?;
    let answer = answers.answer(&app.memory, &view, &room, &asking).await?;

    let is_shared = asking.wait.is_zero() && !view.has_key && !room.has_key();
    let fields = [
        (header::CACHE_CONTROL, if is_shared { SHARED } else { UNSHARED }),
        (header::ETAG, answer.tag.clone()),
    ];
    if knows(request.headers(), &answer.tag) {
        answers.counts.unchanged.fetch_add(1, Ordering::Relaxed);
        return Ok((StatusCode::NOT_MODIFIED, fields).into_response());
    }
    answers.counts.ok.fetch_add(1, Ordering::Relaxed);
    let kind = match view.query.form.encoding() {
        Encoding::Json => JSON,
        Encoding::MessagePack => MSGPACK,
    };
    Ok((fields, [(header::CONTENT_TYPE, kind)], answer.body.clone()).into_response())
}

impl Answers {
    /// `waiting`: how many polls may wait at a time.
    pub fn new(waiting: usize, stopped: watch::Receiver<bool>) -> Self {
        Self {
            views: Cache::with_weighter(ENTRIES, QUERIES_BYTES, QueryBytes),
            built: Cache::with_weighter(ENTRIES, ANSWERS_BYTES, AnswerBytes),
            numbers: AtomicU64::new(0),
            waiting: Permits::new(waiting),
            counts: Counts::default(),
            stopped,
        }
    }

    /// For metrics: polls answered, by status; answers that were built; and how many wait.
    pub fn counted(&self) -> ([(&'static str, u64); 2], u64, usize) {
        let Counts { built, ok, unchanged } = &self.counts;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ([("200", count(ok)), ("304", count(unchanged))], count(built), self.waiting.taken())
    }

    /// Reads a query, if that was not done before.
    fn view(&self, query: &str, rights: Rights) -> Result<Arc<View>, Problem> {
        if let Some(view) = self.views.get(query) {
            return Ok(view);
        }
        let view = Arc::new(View::parse(self.numbers.fetch_add(1, Ordering::Relaxed), query, rights)?);
        self.views.insert(query.into(), Arc::clone(&view));
        Ok(view)
    }

    async fn answer(
        &self,
        memory: &Memory,
        view: &Arc<View>,
        room: &Arc<Room>,
        asking: &Asking<'_>,
    ) -> Result<Arc<Answer>, Problem> {
        let (since, until) = (asking.since, Instant::now() + asking.wait);
        let past = since.filter(|since| since.epoch == room.epoch());
        let past = past.map_or(Position::START, |since| since.reached());
        let mut point = room.point(past).await?;
        let mut answer = self.at(point, memory, view, room, since).await?;
        if !answer.is_empty || asking.wait.is_zero() {
            return Ok(answer);
        }
        let Some(_waiting) = self.waiting.take() else { return Ok(answer) };
        let mut stopped = self.stopped.clone();
        let mut is_late = false;
        while answer.is_empty && !is_late {
            let mut watch = view.watch(room, point.upto.position);
            tokio::select! {
                // If the watch ends, the market has.
                _ = watch.wait_for(|&changed| changed > point.upto.position) => {}
                () = sleep_until(until) => is_late = true,
                _ = stopped.wait_for(|&is_stopped| is_stopped) => return Ok(answer),
            }
            point = room.point(past).await?;
            answer = self.at(point, memory, view, room, since).await?;
        }
        Ok(answer)
    }

    /// The answer up to a point. Of those who ask for the same at the same time one builds it, and the others
    /// wait for that.
    async fn at(
        &self,
        point: Point,
        memory: &Memory,
        view: &View,
        room: &Room,
        since: Option<PollSince>,
    ) -> Result<Arc<Answer>, Problem> {
        let Point { upto, .. } = point;
        let key = Key { view: view.number, tape: room.epoch(), since, upto: upto.position };
        let build = async {
            let query = Arc::clone(&view.query);
            let polled = room.look(move |replica| query.answer(replica, since, upto, POLL_BYTES)).await?;
            self.counts.built.fetch_add(1, Ordering::Relaxed);
            let tag = format!("W/\"{}-{:016x}\"", polled.since, view.tag);
            let tag = HeaderValue::from_str(&tag).expect("digits are ASCII");
            Ok(Arc::new(Answer { body: memory.counted(polled.body)?, tag, is_empty: polled.is_empty }))
        };
        self.built.get_or_insert_async(&key, build).await
    }
}

impl View {
    fn parse(number: u64, text: &str, rights: Rights) -> Result<Self, Problem> {
        let Asked { opening, room } = Asked::parse(text, &Polling, rights)?;
        let Opening { form, topics, max_hz, times, since, new, .. } = opening;
        if since.is_some() {
            return Err(Problem::bad_request("a poll says where it is with since=EPOCH-POSITION, unescaped"));
        }
        if max_hz.is_some() {
            return Err(Problem::bad_request("query parameter max_hz: a client that polls has its own rate"));
        }
        if topics.is_empty() && new.is_empty() {
            let detail = "a poll is of topics: name them with topics=, as quote:*,trades:AAPL";
            return Err(Problem::bad_request(detail));
        }
        let room = room.unwrap_or_default();
        let RoomRequest { name, key, .. } = &room;
        if room != (RoomRequest { name: name.clone(), key: key.clone(), ..RoomRequest::default() }) {
            let detail =
                "control, seed, start and speed open a room, which a poll cannot do: open it with /v1/ws";
            return Err(Problem::bad_request(detail));
        }
        let mut hash = FxHasher::default();
        hash.write(text.as_bytes());
        Ok(Self {
            number,
            query: Arc::new(PollQuery {
                topics: parse_topics(&topics)?,
                new: parse_topics(&new)?,
                form,
                times,
            }),
            has_key: room.key.is_some(),
            room: Some(room.name).filter(|name| !name.is_empty()),
            tag: hash.finish(),
            watch: Mutex::default(),
        })
    }

    /// What announces changes after `seen`.
    fn watch(self: &Arc<Self>, room: &Arc<Room>, seen: Position) -> watch::Receiver<Position> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tell) = &*watch {
            return tell.subscribe();
        }
        let (tell, told) = watch::channel(seen);
        let tell = watch.insert(Arc::new(tell));
        tokio::spawn(Arc::clone(self).keep_watch(Arc::clone(room), Arc::clone(tell), seen));
        told
    }

    /// Looks at each point whether anything has changed, as long as anybody waits for it.
    async fn keep_watch(
        self: Arc<Self>,
        room: Arc<Room>,
        tell: Arc<watch::Sender<Position>>,
        mut seen: Position,
    ) {
        loop {
            let point = tokio::select! {
                point = room.next_point(seen) => point,
                () = tell.closed() => {
                    let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
                    // Under the lock nobody joins.
                    if tell.receiver_count() == 0 {
                        *watch = None;
                        return;
                    }
                    continue;
                }
            };
            let Ok(point) = point else { break };
            let upto = point.upto.position;
            match self.is_pending(&room, seen, upto).await {
                Ok(true) => _ = tell.send_replace(upto),
                Ok(false) => {}
                Err(_) => break,
            }
            seen = upto;
        }
        // With the last sender the waits end.
        *self.watch.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    async fn is_pending(&self, room: &Room, from: Position, upto: Position) -> Result<bool, Refusal> {
        let query = Arc::clone(&self.query);
        room.look(move |replica| query.is_pending(replica, from, upto)).await
    }
}

impl<'a> Asking<'a> {
    fn parse(query: &'a str) -> Result<Self, Problem> {
        let wrong = |name: &str, value: &str, expected: &str| {
            let value: String = value.chars().take(100).collect();
            Problem::bad_request(format!("query parameter {name}={value:?}: expected {expected}"))
        };
        let (mut since, mut wait, mut others) = (None, Duration::ZERO, String::new());
        let mut is_whole = true;
        for parameter in query.split('&') {
            match parameter.split_once('=') {
                Some(("since", value)) => {
                    since = Some(value.parse().map_err(|expected| wrong("since", value, expected))?);
                }
                Some(("wait", value)) => {
                    let seconds = value.parse().ok().and_then(|wait| Duration::try_from_secs_f64(wait).ok());
                    let expected = format!("seconds from 0 to {}", MAX_WAIT.as_secs());
                    let seconds = seconds.filter(|&wait| wait <= MAX_WAIT);
                    wait = seconds.ok_or_else(|| wrong("wait", value, &expected))?;
                }
                _ => {
                    if !others.is_empty() {
                        others.push('&');
                    }
                    others.push_str(parameter);
                    continue;
                }
            }
            is_whole = false;
        }
        Ok(Self { view: if is_whole { query.into() } else { others.into() }, since, wait })
    }
}

/// Sorted, each once.
fn parse_topics(texts: &[String]) -> Result<Vec<Topic>, Problem> {
    let parse = |text: &String| match Topic::parse(text) {
        Ok(topic) if matches!(topic.kind, Kind::Stats | Kind::Watchers) => {
            let detail = format!("{text} is of one server and its sessions, and not polled");
            Err(Problem::bad_request(detail).with("topic", text.as_str()))
        }
        Ok(topic) => Ok(topic),
        Err(error) => Err(Problem::bad_request(error.message).with("topic", text.as_str())),
    };
    Ok(texts.iter().map(parse).collect::<Result<BTreeSet<_>, _>>()?.into_iter().collect())
}

impl Door for Polling {
    fn formats(&self) -> &'static [(&'static str, Form)] {
        const { &[("json", Form::LINES.of_images()), ("msgpack", Form::BARE)] }
    }

    fn form(&self) -> Form {
        Form::LINES.of_images()
    }

    fn form_of_changes(&self, changes: bool) -> Option<Form> {
        Some(if changes { Form::LINES } else { Form::LINES.of_images() })
    }

    fn may_choose(&self, _: Form) -> bool {
        true
    }
}

/// The choices of a client that polls.
struct Polling;

#[derive(Clone)]
struct QueryBytes;

impl Weighter<Box<str>, Arc<View>> for QueryBytes {
    fn weight(&self, query: &Box<str>, _: &Arc<View>) -> u64 {
        // The topics take several times their text.
        256 + 8 * query.len() as u64
    }
}

#[derive(Clone)]
struct AnswerBytes;

impl Weighter<Key, Arc<Answer>> for AnswerBytes {
    fn weight(&self, _: &Key, answer: &Arc<Answer>) -> u64 {
        256 + answer.body.len() as u64
    }
}
