use super::backoff::Backoff;
use super::image::{Change, Image};
use super::subscriptions::{Subscriptions, in_requests};
use crate::hub::Topic;
use crate::market::Timestamp;
use crate::tape::{Epoch, Position};
use crate::wire::{
    Answer, CloseCode, Entry, ErrorCode, Fault, Id, Refusal, ReplayAction, ReplayState, TopicAnswer,
    TopicChecksum, UpdateDecoder, check_hz,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A server that was connected to must have said welcome within this.
const GREETING: Duration = Duration::from_secs(10);

/// The client's side of a subscription, without its socket: what happened goes in with the time, what to do comes out.
#[derive(Debug)]
pub struct Session {
    link: Link,
    backoff: Backoff,
    epoch: Option<Epoch>,
    decoder: UpdateDecoder,
    image: Image,
    /// Something of the image is from an earlier connection, and goes on only if the server resumes it.
    is_carried: bool,
    subscriptions: Subscriptions,
    options: Options,
    /// The requests that are not answered yet, by number.
    asked: BTreeMap<u64, Asked>,
    /// What the server sends, or sent until the connection was lost, as of its last answer: also what was given up, as long as it has not said
    /// so, and not yet what was asked for since.
    delivered: BTreeSet<String>,
    next_id: u64,
}

/// What a request was for.
#[derive(Debug)]
enum Asked {
    Subscribe(Vec<String>),
    Unsubscribe(Vec<String>),
    Other,
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Waiting {
        until: Instant,
    },
    Connecting,
    /// Connected, and not welcomed yet.
    Greeting {
        since: Instant,
    },
    Live {
        heard: Instant,
        heartbeat: Duration,
        stale: bool,
    },
    Ended,
}

/// What a session asks for besides topics. Holds until it is given anew.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Updates a second at most, 0.1 to 1,000; `None` for as many as there are. Another is refused with its topics.
    pub max_hz: Option<f64>,
    /// Let quotes carry the venue's time.
    pub times: bool,
}

/// What the caller asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Subscribe {
        topics: Vec<String>,
        options: Options,
    },
    Unsubscribe {
        topics: Vec<String>,
    },
    /// Compares images with the server's.
    Verify {
        topics: Vec<String>,
    },
    /// Controls what is played, or asks how it does.
    Replay(ReplayAction),
    /// Asks the server to break this connection, where it lets its clients do that.
    Fault {
        fault: Fault,
        /// `None`: until the next one.
        lasts: Option<Duration>,
    },
}

#[derive(Debug)]
pub enum Input<'a> {
    /// The socket is open.
    Connected,
    Text(&'a str),
    Binary(&'a [u8]),
    /// A connection could not be made. `retry`: whether another attempt may do better, and when the server said to make it.
    Failed {
        reason: String,
        retry: bool,
        after: Option<Duration>,
    },
    /// The connection is gone, with the code and reason of its Close frame where there was one.
    Closed {
        code: Option<CloseCode>,
        reason: String,
    },
    Command(Command),
    /// [`Session::deadline`] has come.
    Tick,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    Connect,
    /// A text frame.
    Send(String),
    /// The socket is to be dropped; nothing is heard of it any more.
    Disconnect,
    Event(Event),
}

/// What a caller hears.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The server said welcome.
    Connected { server: String, epoch: Epoch, position: Position },
    /// What became of each topic that was asked for.
    Subscribed { topics: Vec<TopicAnswer> },
    /// Nothing more comes of these: the server said so, or there is no connection in which it could.
    Unsubscribed { topics: Vec<TopicAnswer> },
    /// After a reconnect: everything goes on where it stopped.
    Resumed { position: Position },
    /// The server's tape is another one: all that was known is dropped, and comes anew.
    Replaced,
    /// The first image of each of these topics, or the first one after a reset, is in whole: what comes of them from now on has happened since.
    Settled { topics: Vec<Topic> },
    /// What one update changed; gaps are told among the changes. Updates that change nothing are not told.
    Update { position: Position, time: Timestamp, changes: Vec<Change> },
    /// Per topic whether the image here is the server's; no where there is none.
    Verified { position: Position, topics: Vec<(String, bool)> },
    /// How what is played stands, after what was asked of it.
    Replay(ReplayState),
    /// The server has taken a [`Command::Fault`], which holds for what comes from here.
    Fault { fault: String },
    /// Nothing was heard for twice the server's heartbeat.
    Stale,
    /// Something was heard again.
    Live,
    /// The server refused a request.
    Error { code: ErrorCode, message: String },
    /// The server is about to close.
    Goodbye { code: CloseCode, reason: String },
    /// The connection is gone, or could not be made; another attempt follows.
    Disconnected { reason: String, retry_in: Duration },
    /// It is over: another attempt would fare no better. The last event.
    Closed { code: Option<CloseCode>, reason: String },
}

impl Session {
    /// Connects at the first tick. `seed` is for the waits between attempts.
    #[must_use]
    pub fn new(seed: u64, now: Instant) -> Self {
        Self {
            link: Link::Waiting { until: now },
            backoff: Backoff::new(seed),
            epoch: None,
            decoder: UpdateDecoder::new(Position::START, Timestamp::default()),
            image: Image::default(),
            is_carried: false,
            subscriptions: Subscriptions::default(),
            options: Options::default(),
            asked: BTreeMap::new(),
            delivered: BTreeSet::new(),
            next_id: 1,
        }
    }

    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// When to hand in the next [`Input::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.link {
            Link::Waiting { until } => Some(until),
            Link::Greeting { since } => Some(since + GREETING),
            Link::Live { heard, heartbeat, stale: false } => Some(heard + heartbeat * 2),
            Link::Live { heard, heartbeat, stale: true } => Some(heard + heartbeat * 3),
            Link::Connecting | Link::Ended => None,
        }
    }

    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.link, Link::Ended)
    }

    /// Takes an input and appends what follows from it.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Connected => self.link = Link::Greeting { since: now },
            Input::Text(text) => {
                self.heard(now, out);
                match serde_json::from_str(text) {
                    Ok(answer) => self.answer(now, answer, out),
                    Err(error) => self.unreadable(now, serde_json::from_str(text).ok(), &error, out),
                }
            }
            Input::Binary(bytes) => {
                self.heard(now, out);
                if is_map(bytes) {
                    match rmp_serde::from_slice(bytes) {
                        Ok(answer) => self.answer(now, answer, out),
                        Err(error) => self.unreadable(now, rmp_serde::from_slice(bytes).ok(), &error, out),
                    }
                } else {
                    self.update(now, bytes, out);
                }
            }
            Input::Failed { reason, retry: true, after } => {
                if let Some(after) = after {
                    self.backoff.ask(after, after / 2);
                }
                self.lost(now, reason, out);
            }
            Input::Failed { reason, retry: false, .. } => self.end(None, reason, out),
            Input::Closed { code, reason } => match code {
                Some(code) if !code.may_return() => self.end(Some(code), reason, out),
                code => {
                    if matches!(code, Some(CloseCode::OVERLOADED | CloseCode::RATE_LIMITED)) {
                        self.backoff.slow_down();
                    }
                    self.lost(now, reason, out);
                }
            },
            Input::Command(command) => self.command(command, out),
            Input::Tick => self.tick(now, out),
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.link {
            Link::Waiting { .. } => {
                self.link = Link::Connecting;
                out.push(Output::Connect);
            }
            Link::Live { stale: stale @ false, .. } => {
                *stale = true;
                out.push(Output::Event(Event::Stale));
            }
            Link::Live { .. } => self.abandon(now, "the server fell silent".to_owned(), out),
            Link::Greeting { .. } => self.abandon(now, "the server did not say welcome".to_owned(), out),
            Link::Connecting | Link::Ended => {}
        }
    }

    fn command(&mut self, command: Command, out: &mut Vec<Output>) {
        if self.is_over() {
            return;
        }
        let live = matches!(self.link, Link::Live { .. });
        match command {
            Command::Subscribe { topics, options } => {
                if let Err(wrong) = check_hz(options.max_hz) {
                    // Kept, it would be refused with all topics at each connection to come.
                    return refuse(topics, ErrorCode::BadRequest, wrong, out);
                }
                let changed = std::mem::replace(&mut self.options, options) != options;
                let new = self.subscriptions.add(topics.clone());
                // Topics subscribed already are asked again where options change: they travel with a request.
                let topics = if changed && new.is_empty() { topics } else { new };
                if live {
                    self.subscribe(None, topics, out);
                }
            }
            Command::Unsubscribe { topics } => {
                for topic in &topics {
                    self.subscriptions.remove(topic);
                }
                if live {
                    for topics in in_requests(topics) {
                        let request = json!({ "op": "unsubscribe", "topics": topics });
                        self.request(request, Asked::Unsubscribe(topics), out);
                    }
                } else {
                    self.given_up(topics, out);
                }
            }
            Command::Replay(action) => {
                if live {
                    let mut request = json!({ "op": "replay" });
                    if let Value::Object(fields) = &mut request {
                        fields.extend(action.fields());
                    }
                    self.request(request, Asked::Other, out);
                }
            }
            Command::Verify { topics } => {
                if live {
                    self.request(json!({ "op": "checksum", "topics": topics }), Asked::Other, out);
                }
            }
            Command::Fault { fault, lasts } => {
                if live {
                    self.request(fault.request(lasts), Asked::Other, out);
                }
            }
        }
    }

    fn subscribe(&mut self, since: Option<Position>, topics: Vec<String>, out: &mut Vec<Output>) {
        for topics in in_requests(topics) {
            let Options { max_hz, times } = self.options;
            let mut request =
                json!({ "op": "subscribe", "topics": topics, "max_hz": max_hz, "times": times });
            if let (Some(since), Some(epoch)) = (since, self.epoch) {
                request["since"] = json!({ "epoch": epoch.get(), "position": since.get() });
            }
            self.subscriptions.asked(&topics, self.next_id);
            self.request(request, Asked::Subscribe(topics), out);
        }
    }

    fn request(&mut self, mut request: Value, asked: Asked, out: &mut Vec<Output>) {
        request["id"] = self.next_id.into();
        self.asked.insert(self.next_id, asked);
        self.next_id += 1;
        out.push(Output::Send(request.to_string()));
    }

    fn heard(&mut self, now: Instant, out: &mut Vec<Output>) {
        if let Link::Live { heard, stale, .. } = &mut self.link {
            *heard = now;
            if std::mem::take(stale) {
                out.push(Output::Event(Event::Live));
            }
        }
    }

    fn update(&mut self, now: Instant, bytes: &[u8], out: &mut Vec<Output>) {
        let update = match self.decoder.decode(bytes) {
            Ok(update) if matches!(self.link, Link::Live { .. }) => update,
            Ok(_) => return self.broken(now, "an update came before the welcome", out),
            Err(error) => return self.broken(now, &error.to_string(), out),
        };
        self.backoff.succeeded();
        if update.entries.iter().any(|entry| matches!(entry, Entry::Reset)) {
            // All that is held comes anew, and with the end of this flush it is in again.
            self.subscriptions.begin_anew();
            self.is_carried = false;
        }
        let changes = self.image.apply(&update);
        let settled = if update.whole { self.subscriptions.settle() } else { Vec::new() };
        self.image.settle(settled.iter().cloned());
        if !changes.is_empty() {
            let (position, time) = (update.position, update.time);
            out.push(Output::Event(Event::Update { position, time, changes }));
        }
        if !settled.is_empty() {
            out.push(Output::Event(Event::Settled { topics: settled }));
        }
    }

    fn answer(&mut self, now: Instant, answer: Answer, out: &mut Vec<Output>) {
        let event = match answer {
            Answer::Welcome { server, epoch, begins, position, time, heartbeat_ms, .. } => {
                let heartbeat = Duration::from_millis(heartbeat_ms.clamp(100, 3_600_000));
                self.link = Link::Live { heard: now, heartbeat, stale: false };
                let (epoch, position) = (Epoch::new(epoch), Position::new(position));
                out.push(Output::Event(Event::Connected { server, epoch, position }));
                self.welcomed(epoch, Position::new(begins), (position, Timestamp::from_micros(time)), out);
                return;
            }
            Answer::Subscribed { id, resumed, topics, position, .. } => {
                let granted = topics.iter().filter(|answer| answer.error.is_none());
                self.delivered.extend(granted.map(|answer| answer.topic.clone()));
                if let Some((request, _)) = self.answered(id.as_ref()) {
                    for TopicAnswer { topic, error, .. } in &topics {
                        match error {
                            None => self.subscriptions.grant(topic, request),
                            Some(_) => self.subscriptions.refuse(topic, request),
                        }
                    }
                }
                match resumed {
                    Some(true) => {
                        out.push(Output::Event(Event::Resumed { position: Position::new(position) }));
                    }
                    // Another request may have said so before, and what is held now is of this connection.
                    Some(false) if self.is_carried => {
                        self.replace(self.decoder.position(), self.decoder.time(), out);
                    }
                    Some(false) | None => {}
                }
                Event::Subscribed { topics }
            }
            Answer::Unsubscribed { id, topics } => {
                self.answered(id.as_ref());
                for answer in &topics {
                    self.delivered.remove(&answer.topic);
                }
                // What was subscribed anew meanwhile begins anew.
                self.image.keep(&parsed(self.delivered.iter().map(String::as_str)));
                Event::Unsubscribed { topics }
            }
            Answer::Checksum { id, position, topics } => {
                self.answered(id.as_ref());
                let equal = |TopicChecksum { topic, checksum, .. }: TopicChecksum| {
                    let ours = Topic::parse(&topic).ok().and_then(|topic| self.image.checksum(&topic));
                    (topic, ours.is_some() && ours == checksum)
                };
                let topics = topics.into_iter().map(equal).collect();
                Event::Verified { position: Position::new(position), topics }
            }
            Answer::Fault { id, fault, .. } => {
                self.answered(id.as_ref());
                Event::Fault { fault }
            }
            Answer::Error { id, code, message } => {
                if let Some((request, Asked::Subscribe(topics))) = self.answered(id.as_ref()) {
                    for topic in &topics {
                        self.subscriptions.refuse(topic, request);
                    }
                    return refuse(topics, code, message, out);
                }
                Event::Error { code, message }
            }
            Answer::Replay(state) => {
                self.answered(state.id.as_ref());
                Event::Replay(state)
            }
            Answer::Goodbye { code, reason, retry_after_ms, jitter_ms } => {
                // No server has a reason to keep its clients away for days.
                let wait = |ms: u64| Duration::from_millis(ms.min(86_400_000));
                self.backoff.ask(wait(retry_after_ms), wait(jitter_ms));
                Event::Goodbye { code: CloseCode(code), reason }
            }
            _ => return,
        };
        out.push(Output::Event(event));
    }

    fn answered(&mut self, id: Option<&Id>) -> Option<(u64, Asked)> {
        match id {
            Some(Id::Number(id)) => self.asked.remove_entry(id),
            _ => None,
        }
    }

    /// These are unsubscribed without an answer, also where they have been subscribed anew since.
    fn given_up(&mut self, topics: Vec<String>, out: &mut Vec<Output>) {
        for topic in &topics {
            self.delivered.remove(topic);
        }
        // What is wanted and was never had comes whole: what other topics had of it is no part of that.
        let delivered = self.delivered.iter().map(String::as_str);
        self.image.keep(&parsed(self.subscriptions.resumable().chain(delivered)));
        let topics = topics.into_iter().map(TopicAnswer::granted).collect();
        out.push(Output::Event(Event::Unsubscribed { topics }));
    }

    fn welcomed(
        &mut self,
        epoch: Epoch,
        begins: Position,
        (position, time): (Position, Timestamp),
        out: &mut Vec<Output>,
    ) {
        self.delivered.clear();
        let known = self.epoch.replace(epoch);
        self.is_carried = known == Some(epoch) && self.decoder.position() >= begins;
        if self.is_carried {
            self.decoder.reconnect(position, time);
        } else if known.is_some() {
            self.replace(position, time, out);
        } else {
            self.decoder = UpdateDecoder::new(position, time);
        }
        for (since, topics) in self.subscriptions.requests() {
            self.subscribe(since, topics, out);
        }
    }

    /// Drops all that was known.
    fn replace(&mut self, position: Position, time: Timestamp, out: &mut Vec<Output>) {
        self.decoder = UpdateDecoder::new(position, time);
        self.image = Image::default();
        self.is_carried = false;
        self.subscriptions.restart();
        out.push(Output::Event(Event::Replaced));
    }

    /// An answer that cannot be read: of a kind that a later server has, or broken.
    fn unreadable(
        &mut self,
        now: Instant,
        kind: Option<KindOnly>,
        error: &dyn std::fmt::Display,
        out: &mut Vec<Output>,
    ) {
        const KNOWN: [&str; 10] = [
            "welcome",
            "subscribed",
            "unsubscribed",
            "pong",
            "stats",
            "checksum",
            "replay",
            "fault",
            "error",
            "goodbye",
        ];
        if kind.is_none_or(|KindOnly { kind }| KNOWN.contains(&&*kind)) {
            self.broken(now, &error.to_string(), out);
        }
    }

    /// What the server says makes no sense, so nothing that we know is sure: begin anew.
    fn broken(&mut self, now: Instant, error: &str, out: &mut Vec<Output>) {
        self.abandon(now, format!("the server sent what cannot be read: {error}"), out);
        self.subscriptions.restart();
        self.image = Image::default();
        self.epoch = None;
        out.push(Output::Event(Event::Replaced));
    }

    fn abandon(&mut self, now: Instant, reason: String, out: &mut Vec<Output>) {
        out.push(Output::Disconnect);
        self.lost(now, reason, out);
    }

    fn lost(&mut self, now: Instant, reason: String, out: &mut Vec<Output>) {
        if self.is_over() {
            return;
        }
        self.subscriptions.lost(self.decoder.position());
        for asked in std::mem::take(&mut self.asked).into_values() {
            if let Asked::Unsubscribe(topics) = asked {
                self.given_up(topics, out);
            }
        }
        let retry_in = self.backoff.failed();
        self.link = Link::Waiting { until: now + retry_in };
        out.push(Output::Event(Event::Disconnected { reason, retry_in }));
    }

    fn end(&mut self, code: Option<CloseCode>, reason: String, out: &mut Vec<Output>) {
        self.link = Link::Ended;
        out.push(Output::Event(Event::Closed { code, reason }));
    }
}

/// A request is refused as a whole: each of its topics is.
fn refuse(topics: Vec<String>, code: ErrorCode, message: String, out: &mut Vec<Output>) {
    let error = Refusal { code, message: message.clone(), nearest: None };
    let topics = topics.into_iter().map(|topic| TopicAnswer::refused(topic, error.clone())).collect();
    out.push(Output::Event(Event::Subscribed { topics }));
    out.push(Output::Event(Event::Error { code, message }));
}

fn parsed<'a>(topics: impl Iterator<Item = &'a str>) -> Vec<Topic> {
    topics.filter_map(|topic| Topic::parse(topic).ok()).collect()
}

/// The one field that every answer has.
#[derive(Deserialize)]
struct KindOnly {
    #[serde(rename = "type")]
    kind: String,
}

/// Whether these bytes begin a `MessagePack` map: an answer, not an update.
fn is_map(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf))
}

#[cfg(test)]
mod tests;
