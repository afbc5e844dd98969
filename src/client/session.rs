use super::backoff::Backoff;
use super::channels::Channels;
use super::image::{Change, Image};
use super::requests::{Requests, Waiting};
use super::subscriptions::{Subscriptions, Taken};
use crate::hub::Topic;
use crate::market::{Message, Symbol, Timestamp};
use crate::tape::{Epoch, Position};
use crate::wire::schema::ANSWERS;
use crate::wire::{
    Answer, CloseCode, Entry, ErrorCode, Fault, Id, Refusal, ReplayAction, ReplayState, Return, States,
    TopicAnswer, TopicChecksum, UpdateDecoder, check_hz,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The server must send its welcome within this time of the connection.
const GREETING: Duration = Duration::from_secs(10);
/// Data that are read later than this after they were sent are reported as lagging.
const LAGGING: Duration = Duration::from_secs(1);

/// The client's side of a subscription, without its socket: inputs go in with the time, outputs come out. The
/// link:
///
/// ```text
///             tick               opened             welcome
///   Waiting ───────> Connecting ────────> Greeting ─────────> Live (stale after 2 heartbeats of silence,
///      ^                 │                    │                │    lost after 3)
///      └─────────────────┴── failed or lost ──┴────────────────┘
///   any ── closed for good, or a refusal that a retry would meet again ──> Ended
/// ```
#[derive(Debug)]
pub struct Session {
    link: Link,
    backoff: Backoff,
    epoch: Option<Epoch>,
    decoder: UpdateDecoder,
    image: Image,
    channels: Channels,
    /// Part of the image is from an earlier connection, and is valid only if the server resumes it.
    is_carried: bool,
    subscriptions: Subscriptions,
    options: Options,
    /// Not sent yet.
    requests: Requests,
    /// The requests that are not answered yet, by number.
    asked: BTreeMap<u64, Asked>,
    /// The topics that the server delivers, or did until the connection was lost, as of its last answer.
    /// Requests that it has not answered yet do not count.
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
    /// Connected; the welcome is outstanding.
    Greeting {
        since: Instant,
    },
    Live {
        since: Instant,
        heard: Instant,
        heartbeat: Duration,
        stale: bool,
        /// The server's last `lag` was over a second.
        lagging: bool,
    },
    Ended,
}

/// Options of a session, sent with a subscribe request. They hold until the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Updates a second at most, 0.1 to 1,000; `None`: no cap. Other values are refused with their topics.
    pub max_hz: Option<f64>,
    /// Whether quotes carry the venue's time.
    pub times: bool,
}

/// A request of the caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Subscribes topics, in this connection and later ones.
    Subscribe {
        /// Such as `quote:AAPL`; those subscribed already are sent again only if the options change.
        topics: Vec<String>,
        /// Hold for all topics of the session.
        options: Options,
    },
    /// Ends subscriptions.
    Unsubscribe {
        /// Topics as they were subscribed.
        topics: Vec<String>,
    },
    /// Compares images with the server's. Dropped without a connection.
    Verify {
        /// Image topics of single symbols, at most 64.
        topics: Vec<String>,
    },
    /// Controls the replay, or asks for its state. Dropped without a connection.
    Replay(ReplayAction),
    /// Asks the server to inject a fault into this connection, if it allows that. Dropped without a
    /// connection.
    Fault {
        /// What is to go wrong.
        fault: Fault,
        /// `None`: until the next fault.
        lasts: Option<Duration>,
    },
}

/// What happened, for [`Session::handle`].
#[derive(Debug)]
pub enum Input<'a> {
    /// The socket is open.
    Connected,
    /// A text frame: an answer in JSON.
    Text(&'a str),
    /// A binary frame: an update or an answer in `MessagePack`.
    Binary(&'a [u8]),
    /// A connection could not be made.
    Failed {
        /// A text for people.
        reason: String,
        /// Whether another attempt may succeed.
        retry: bool,
        /// The server's `Retry-After`, if it sent one.
        after: Option<Duration>,
    },
    /// The connection is gone.
    Closed {
        /// The Close frame's code, if there was one.
        code: Option<CloseCode>,
        /// A text for people.
        reason: String,
    },
    /// The caller's request.
    Command(Command),
    /// [`Session::deadline`] has passed.
    Tick,
}

/// What the owner of the socket is to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Open a socket; [`Input::Connected`] or [`Input::Failed`] follows.
    Connect,
    /// Send a text frame.
    Send(String),
    /// Drop the socket; pass in nothing more of it.
    Disconnect,
    /// Deliver an event to the caller.
    Event(Event),
}

/// What the caller receives.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// The server sent its welcome.
    Connected {
        /// Name and version, as `tickcast/0.1.0`.
        server: String,
        /// The epoch of the server's tape.
        epoch: Epoch,
        /// The tape's position at that moment.
        position: Position,
    },
    /// The answer to a subscribe request.
    Subscribed {
        /// Each topic, granted or refused.
        topics: Vec<TopicAnswer>,
    },
    /// Subscriptions ended: by the server's answer, or because the connection is lost.
    Unsubscribed {
        /// The ended ones, and those that were refused as unknown.
        topics: Vec<TopicAnswer>,
    },
    /// After a reconnect: delivery continues where it stopped.
    Resumed {
        /// The tape's position at the server's answer.
        position: Position,
    },
    /// The server has another tape: all state is dropped, and snapshots follow.
    Replaced,
    /// Snapshots are complete, after a subscribe or a reset: later changes of these topics have happened
    /// since.
    Settled {
        /// In the order subscribed.
        topics: Vec<Topic>,
    },
    /// The changes of one update, gaps among them; not sent if nothing changed.
    Update {
        /// The session's position after it.
        position: Position,
        /// The update's time, on the tape's clock.
        time: Timestamp,
        /// Its changes, in order.
        changes: Vec<Change>,
    },
    /// Messages of a channel, each delivered once.
    Messages {
        /// The channel's name.
        channel: Symbol,
        /// How many before these were lost: the server keeps only the newest.
        missed: u64,
        /// With their numbers, which count from 0.
        messages: Vec<(u64, Arc<Message>)>,
    },
    /// States in a channel that changed.
    States {
        /// The channel's name.
        channel: Symbol,
        /// By key; what has ended has no content.
        states: States,
    },
    /// The result of [`Command::Verify`].
    Verified {
        /// The position of the server's checksums.
        position: Position,
        /// Each topic, and whether both images are equal; `false` if there is none here.
        topics: Vec<(String, bool)>,
    },
    /// The state of the replay after a [`Command::Replay`].
    Replay(ReplayState),
    /// The server injects a [`Command::Fault`] from here on.
    Fault {
        /// The fault's name.
        fault: String,
    },
    /// Nothing was received for twice the server's heartbeat.
    Stale,
    /// The data delivered are over a second old: the connection or the caller is slower than the market.
    /// Repeated at most once a second, until [`Event::Live`].
    Lagging {
        /// The age of the data.
        by: Duration,
    },
    /// Something was received again, or the data delivered are new again.
    Live,
    /// The server refused a request.
    Error {
        /// A code for programs.
        code: ErrorCode,
        /// A text for people.
        message: String,
    },
    /// The server is about to close.
    Goodbye {
        /// The Close frame's code to come.
        code: CloseCode,
        /// A text for people.
        reason: String,
    },
    /// The connection is gone, or could not be made; another attempt follows.
    Disconnected {
        /// The Close frame's code, if there was one.
        code: Option<CloseCode>,
        /// A text for people.
        reason: String,
        /// The wait until the next attempt.
        retry_in: Duration,
    },
    /// The last event: another attempt would fail as well.
    Closed {
        /// The Close frame's code, if there was one.
        code: Option<CloseCode>,
        /// A text for people.
        reason: String,
    },
}

impl Session {
    /// A session that connects at the first tick. `seed` draws the waits between attempts.
    #[must_use]
    pub fn new(seed: u64, now: Instant) -> Self {
        Self {
            link: Link::Waiting { until: now },
            backoff: Backoff::new(seed),
            epoch: None,
            decoder: UpdateDecoder::new(Position::START, Timestamp::default()),
            image: Image::default(),
            channels: Channels::default(),
            is_carried: false,
            subscriptions: Subscriptions::default(),
            options: Options::default(),
            requests: Requests::new(now),
            asked: BTreeMap::new(),
            delivered: BTreeSet::new(),
            next_id: 1,
        }
    }

    /// The state of the subscribed topics.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// When to pass in the next [`Input::Tick`]; `None`: not before another input.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.link_deadline().into_iter().chain(self.requests.due()).min()
    }

    fn link_deadline(&self) -> Option<Instant> {
        match self.link {
            Link::Waiting { until } => Some(until),
            Link::Greeting { since } => Some(since + GREETING),
            Link::Live { heard, heartbeat, stale: false, .. } => Some(heard + heartbeat * 2),
            Link::Live { heard, heartbeat, stale: true, .. } => Some(heard + heartbeat * 3),
            Link::Connecting | Link::Ended => None,
        }
    }

    /// Whether [`Event::Closed`] was sent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.link, Link::Ended)
    }

    /// Takes an input and appends its outputs to `out`.
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
                self.lost(now, None, reason, out);
            }
            Input::Failed { reason, retry: false, .. } => self.end(None, reason, out),
            Input::Closed { code, reason } => match code {
                Some(code) if code.then() == Return::No => self.end(Some(code), reason, out),
                code => self.lost(now, code, reason, out),
            },
            Input::Command(command) => self.command(command, out),
            Input::Tick => self.tick(now, out),
        }
        self.send_due(now, out);
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.link_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        match &mut self.link {
            Link::Waiting { .. } => {
                self.link = Link::Connecting;
                out.push(Output::Connect);
            }
            Link::Live { stale: stale @ false, lagging, .. } => {
                (*stale, *lagging) = (true, false);
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
                    // If kept, it would be refused with all topics in each later connection.
                    return refuse(topics, ErrorCode::BadRequest, wrong, out);
                }
                let changed = std::mem::replace(&mut self.options, options) != options;
                let new = self.subscriptions.add(topics.clone());
                // Options travel with a request, so topics subscribed already are requested again when they
                // change.
                let topics = if changed && new.is_empty() { topics } else { new };
                if live {
                    self.requests.subscribe(None, topics);
                }
            }
            Command::Unsubscribe { topics } => self.unsubscribe(live, topics, out),
            Command::Replay(action) => {
                let mut request = json!({ "op": "replay" });
                if let Value::Object(fields) = &mut request {
                    fields.extend(action.fields());
                }
                self.ask(live, request);
            }
            Command::Verify { topics } => self.ask(live, json!({ "op": "checksum", "topics": topics })),
            Command::Fault { fault, lasts } => self.ask(live, fault.request(lasts)),
        }
    }

    fn ask(&mut self, live: bool, request: Value) {
        if live {
            self.requests.ask(request);
        }
    }

    fn unsubscribe(&mut self, live: bool, topics: Vec<String>, out: &mut Vec<Output>) {
        if !live {
            for topic in &topics {
                self.subscriptions.remove(topic);
            }
            return self.given_up(topics, out);
        }
        let (mut unsent, mut sent) = (Vec::new(), Vec::new());
        for topic in topics {
            self.requests.withdraw(&topic);
            match self.subscriptions.remove(&topic) {
                Some(Taken::Unsent) => unsent.push(TopicAnswer::granted(topic)),
                // The server refuses a topic that it does not deliver.
                Some(Taken::Sent) | None => sent.push(topic),
            }
        }
        self.requests.unsubscribe(sent);
        if !unsent.is_empty() {
            out.push(Output::Event(Event::Unsubscribed { topics: unsent }));
        }
    }

    /// Sends the waiting requests that are due.
    fn send_due(&mut self, now: Instant, out: &mut Vec<Output>) {
        while let Some(waiting) = self.requests.next(now) {
            match waiting {
                Waiting::Subscribe { since, topics } => {
                    let Options { max_hz, times } = self.options;
                    let mut request =
                        json!({ "op": "subscribe", "topics": topics, "max_hz": max_hz, "times": times });
                    if let (Some(since), Some(epoch)) = (since, self.epoch) {
                        request["since"] = json!({ "epoch": epoch.get(), "position": since.get() });
                    }
                    self.subscriptions.asked(&topics, self.next_id);
                    self.send(request, Asked::Subscribe(topics), out);
                }
                Waiting::Unsubscribe(topics) => {
                    let request = json!({ "op": "unsubscribe", "topics": topics });
                    self.send(request, Asked::Unsubscribe(topics), out);
                }
                Waiting::Other(request) => self.send(request, Asked::Other, out),
            }
        }
    }

    fn send(&mut self, mut request: Value, asked: Asked, out: &mut Vec<Output>) {
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
        if update.entries.iter().any(|entry| matches!(entry, Entry::Reset)) {
            // Snapshots of everything follow, and are complete at the end of this flush.
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
        out.extend(self.channels.take(&update.entries).into_iter().map(Output::Event));
        self.channels.settle(&settled);
        if !settled.is_empty() {
            out.push(Output::Event(Event::Settled { topics: settled }));
        }
    }

    fn answer(&mut self, now: Instant, answer: Answer, out: &mut Vec<Output>) {
        let event = match answer {
            Answer::Welcome { server, epoch, begins, position, time, heartbeat_ms, limits, .. } => {
                let heartbeat = Duration::from_millis(heartbeat_ms.clamp(100, 3_600_000));
                self.link = Link::Live { since: now, heard: now, heartbeat, stale: false, lagging: false };
                self.requests = Requests::paced(now, limits.requests_per_second);
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
                    // Only the first such answer: after it the image is of this connection.
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
                // A topic that was subscribed again meanwhile begins with a snapshot.
                let delivered = parsed(self.delivered.iter().map(String::as_str));
                self.image.keep(&delivered);
                self.channels.keep(&delivered);
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
            Answer::Lag { lag_ms } => {
                let by = Duration::from_millis(lag_ms);
                let Link::Live { lagging, .. } = &mut self.link else { return };
                let was = std::mem::replace(lagging, by >= LAGGING);
                match (was, *lagging) {
                    (_, true) => Event::Lagging { by },
                    (true, false) => Event::Live,
                    (false, false) => return,
                }
            }
            Answer::Goodbye { code, reason, retry_after_ms, jitter_ms } => {
                let [after, jitter] = [retry_after_ms, jitter_ms].map(Duration::from_millis);
                self.backoff.ask(after, jitter);
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

    /// Ends these subscriptions without an answer, even if the topics were subscribed again since.
    fn given_up(&mut self, topics: Vec<String>, out: &mut Vec<Output>) {
        for topic in &topics {
            self.delivered.remove(topic);
        }
        // A topic that was never settled gets a snapshot: what other topics delivered of it does not count.
        let delivered = self.delivered.iter().map(String::as_str);
        let kept = parsed(self.subscriptions.resumable().chain(delivered));
        self.image.keep(&kept);
        self.channels.keep(&kept);
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
            // An instrument may have left a sector whose topic never settled, and the server would not report
            // it.
            let changes = self.image.drop_images(&parsed(self.subscriptions.resumable()));
            if !changes.is_empty() {
                let (position, time) = (self.decoder.position(), self.decoder.time());
                out.push(Output::Event(Event::Update { position, time, changes }));
            }
            self.decoder.reconnect(position, time);
        } else if known.is_some() {
            if known != Some(epoch) {
                self.channels = Channels::default();
            }
            self.replace(position, time, out);
        } else {
            self.decoder = UpdateDecoder::new(position, time);
        }
        for (since, topics) in self.subscriptions.requests() {
            self.requests.subscribe(since, topics);
        }
    }

    /// Drops all state of the market. A reset leaves channels as they are.
    fn replace(&mut self, position: Position, time: Timestamp, out: &mut Vec<Output>) {
        self.decoder = UpdateDecoder::new(position, time);
        self.image = Image::default();
        self.is_carried = false;
        self.subscriptions.restart();
        out.push(Output::Event(Event::Replaced));
    }

    /// An answer that cannot be read: of a type of a later server (ignored), or broken.
    fn unreadable(
        &mut self,
        now: Instant,
        kind: Option<KindOnly>,
        error: &dyn std::fmt::Display,
        out: &mut Vec<Output>,
    ) {
        if kind.is_none_or(|KindOnly { kind }| ANSWERS.contains(&&*kind)) {
            self.broken(now, &error.to_string(), out);
        }
    }

    /// The server broke the protocol, so no state can be trusted: reconnect without it.
    fn broken(&mut self, now: Instant, error: &str, out: &mut Vec<Output>) {
        self.abandon(now, format!("the server sent what cannot be read: {error}"), out);
        self.subscriptions.restart();
        self.image = Image::default();
        self.channels = Channels::default();
        self.epoch = None;
        out.push(Output::Event(Event::Replaced));
    }

    fn abandon(&mut self, now: Instant, reason: String, out: &mut Vec<Output>) {
        out.push(Output::Disconnect);
        self.lost(now, None, reason, out);
    }

    fn lost(&mut self, now: Instant, code: Option<CloseCode>, reason: String, out: &mut Vec<Output>) {
        if self.is_over() {
            return;
        }
        self.subscriptions.lost(self.decoder.position());
        for asked in std::mem::take(&mut self.asked).into_values() {
            if let Asked::Unsubscribe(topics) = asked {
                self.given_up(topics, out);
            }
        }
        for topics in self.requests.give_up() {
            self.given_up(topics, out);
        }
        if let Link::Live { since, heartbeat, .. } = self.link
            && now.saturating_duration_since(since) >= heartbeat
        {
            self.backoff.succeeded();
        }
        let retry_in = self.backoff.failed(code);
        self.link = Link::Waiting { until: now + retry_in };
        out.push(Output::Event(Event::Disconnected { code, reason, retry_in }));
    }

    fn end(&mut self, code: Option<CloseCode>, reason: String, out: &mut Vec<Output>) {
        self.link = Link::Ended;
        self.requests.give_up();
        out.push(Output::Event(Event::Closed { code, reason }));
    }
}

/// Reports a refused request: each of its topics is refused.
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
