//! What clients of Socket.IO send once they are in their namespace. On the shard thread.
//!
//! Invariant: a packet that breaks the protocol ends its connection; an event that asks for what is not there
//! gets an answer; and namespaces are the door's: a packet about one takes its connection back there.

use super::pace::Millis;
use super::{AskedOfRoom, Fanout, Task, second};
use crate::hub::{Kind, Scope, Topic, ViewKey};
use crate::market::{Event, Json, Message, Post, Posted, Sender, State, Symbol, Word};
use crate::server::limits::SESSION;
use crate::server::link::Link;
use crate::server::rights::Action;
use crate::tape::{Batch, Epoch, Position};
use crate::wire::socketio::{self, Packet, PacketError, Parser, Said};
use crate::wire::{
    Answer, CloseCode, Encoding, ErrorCode, Id, Incoming, Op, Request, RequestError, Resume, SessionNumber,
    TopicAnswer, engineio,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// A connection that its door is to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    pub key: usize,
    /// What its client has sent, from the packet on that names a namespace.
    pub messages: Vec<Incoming>,
}

impl<L: Link> Fanout<L> {
    /// The connection that the last call of [`Self::received`] was about, if its door is to take it back.
    pub fn take_returned(&mut self) -> Option<Returned> {
        self.returned.take()
    }

    /// The link of a connection that [goes back](Self::take_returned) is about to lead elsewhere. Returns
    /// what is still to be sent over the one before, and how many heartbeats its client has not answered.
    pub fn unlink(&mut self, key: usize) -> (Vec<u8>, u8) {
        let Some(connection) = self.alone(key) else { return (Vec::new(), 0) };
        (std::mem::take(&mut connection.backlog), connection.pace.open())
    }

    /// Whether that is the answer to a heartbeat, which is the pong of a ping that it does not name.
    pub(super) fn answered_heartbeat(&mut self, key: usize, packet: &[u8]) -> bool {
        let now = Millis::of(self.now);
        let Some(connection) = self.connections.get_mut(key) else { return false };
        if connection.form.framing().parser().is_none() || packet != b"3" {
            return false;
        }
        let pings = self.pings.get(connection.session.cohort_id().index()).copied().unwrap_or_default();
        if let Some(ping) = connection.pace.ponged_without_name(&pings, now) {
            self.ponged(key, &ping.get().to_be_bytes());
        }
        true
    }

    /// Handles any other packet.
    pub(super) fn packet(&mut self, key: usize, parser: Parser, encoding: Encoding, bytes: Vec<u8>) {
        let now = second(self.now);
        let packet = match encoding {
            Encoding::Json => read_text(parser, &bytes),
            Encoding::MessagePack => match Packet::read_binary(parser, &bytes) {
                Ok(Some(packet)) => Ok(Read::Packet(packet)),
                // An attachment: the event that it belongs to was refused.
                Ok(None) => return,
                Err(error) => Err(error),
            },
        };
        match packet {
            Ok(Read::Packet(Packet::Event { namespace, ack, args, attachments }))
                if *namespace == *self.namespace =>
            {
                self.event(key, ack, &args, attachments);
            }
            // What is under way on an impaired link cannot go another way.
            Ok(Read::Packet(Packet::Connect { namespace, .. }))
                if self.connections[key].link.impaired().is_some() =>
            {
                let message = "this connection is impaired at its own request: end the fault first";
                let mut frame = Vec::new();
                parser.refused(&namespace, message, Value::Null).write_frame(&mut frame);
                self.connections[key].say(&frame, now);
            }
            Ok(Read::Packet(Packet::Disconnect { .. }))
                if self.connections[key].link.impaired().is_some() =>
            {
                self.connections[key].close(CloseCode::NORMAL, "", now);
            }
            Ok(Read::Packet(Packet::Connect { .. } | Packet::Disconnect { .. })) => {
                self.returned = Some(Returned { key, messages: vec![Incoming::Message(encoding, bytes)] });
            }
            Ok(Read::Close) => self.connections[key].close(CloseCode::NORMAL, "", now),
            // Events of a namespace that it is not in are dropped.
            Ok(Read::Packet(_) | Read::Nothing) => {}
            Err(error) => {
                let reason: String = error.to_string().chars().filter(char::is_ascii).collect();
                self.connections[key].close(CloseCode::POLICY, &reason, now);
            }
        }
    }

    /// Handles an event: a request, or what others are to be told.
    fn event(&mut self, key: usize, ack: Option<u64>, args: &[Value], attachments: usize) {
        let id = ack.map(Id::Number);
        let refuse = |message: String| RequestError { id: id.clone(), code: ErrorCode::BadRequest, message };
        let asked = if attachments > 0 {
            Err(refuse("no event here takes binary data".to_owned()))
        } else {
            socketio::said(ack, args)
        };
        let op = match asked {
            Err(error) => return self.request(key, Err(error)),
            Ok(Said::Request(request)) => return self.request(key, Request::from_json(&request)),
            Ok(Said::Join(rooms)) => return self.join(key, id, &rooms),
            Ok(Said::Leave(rooms)) => {
                self.tell_of(key, "left", &rooms);
                Op::Unsubscribe { topics: topics_of(&rooms) }
            }
            Ok(Said::Post { mut post, but_me }) => {
                self.sign(key, &mut post, but_me);
                Op::Publish(post)
            }
            Ok(Said::State { channel, data, ttl }) => {
                let state =
                    self.name(key).ok_or("a state is of somebody: say your name in auth").map(|name| {
                        let data = Some(data).filter(|data| !data.is_null());
                        let data = data.map(|data| Json::new(&data, State::MAX_DATA)).transpose();
                        data.map(|data| State { channel, key: name, data })
                    });
                match state {
                    Ok(Ok(state)) => Op::Publish(Box::new(Post::State { state, ttl: Some(ttl) })),
                    Ok(Err(error)) => return self.request(key, Err(refuse(format!("state: {error}")))),
                    Err(message) => return self.request(key, Err(refuse(message.to_owned()))),
                }
            }
        };
        self.request(key, Ok(Request { id, session: SessionNumber::FIRST, op }));
    }

    /// A client is in the channel of all in its namespace from the start: what it missed since it was there
    /// comes, and nothing older.
    pub(super) fn join_all(&mut self, key: usize, since: Option<Resume>) {
        let all = Symbol::new(socketio::ALL).expect("it is a name");
        let from = since.map(|since| (Epoch::new(since.epoch), Position::new(since.position)));
        self.add_channels(key, std::slice::from_ref(&all), from);
        self.tell_of(key, "joined", &[all]);
    }

    fn join(&mut self, key: usize, id: Option<Id>, rooms: &[Symbol]) {
        let view = &self.connections[key].session.view(&self.views).key;
        if view.topics.len() + 2 * rooms.len() > SESSION.topics {
            let (code, message) =
                (ErrorCode::TooManyTopics, format!("a session may have {} topics", SESSION.topics));
            return self.request(key, Err(RequestError { id, code, message }));
        }
        let is_new = |room: &&Symbol| !view.topics.iter().any(|topic| topic.messages_of() == Some(room));
        let new: Vec<Symbol> = rooms.iter().filter(is_new).cloned().collect();
        self.add_channels(key, &new, None);
        self.tell_of(key, "joined", &new);
        let answer = Answer::Subscribed {
            id,
            epoch: self.replica.epoch().get(),
            position: self.replica.position().get(),
            resumed: None,
            topics: topics_of(rooms).into_iter().map(TopicAnswer::granted).collect(),
        };
        self.answer(key, &answer);
    }

    /// `since`: from where what was said there is pending; `None`: from now on.
    fn add_channels(&mut self, key: usize, channels: &[Symbol], since: Option<(Epoch, Position)>) {
        let view = &self.connections[key].session.view(&self.views).key;
        let (mut topics, options) = (view.topics.iter().cloned().collect::<BTreeSet<_>>(), view.options);
        for channel in channels {
            topics.extend(Kind::OF_CHANNELS.map(|kind| Topic::of(kind, channel)));
        }
        let now = (self.replica.epoch(), self.replica.position());
        let view = ViewKey { topics: topics.into_iter().collect(), options };
        self.change_view(key, view, Some(since.unwrap_or(now)));
    }

    /// Tells the others in these channels that one who says a name has come or gone.
    pub(super) fn tell_of(&mut self, key: usize, event: &str, channels: &[Symbol]) {
        let Some(connection) = self.connections.get(key) else { return };
        let Some(name) = self.name(key).filter(|_| connection.rights.may(Action::Publish).is_ok()) else {
            return;
        };
        for channel in channels {
            let data = json!({ "name": name.as_str(), "room": channel.as_str() });
            let data = Json::new(&data, Message::MAX_DATA).expect("two names are short");
            let mut post = Box::new(Post::message(channel.clone(), data));
            if let Post::Message { message, .. } = &mut *post {
                message.event = Word::new(event);
            }
            self.sign(key, &mut post, true);
            self.all_asked += 1;
            self.asked.push(AskedOfRoom { key, number: self.all_asked, task: Task::Post(post) });
        }
    }

    /// The channels that a client of Socket.IO is in.
    pub(super) fn channels_of(&self, key: usize) -> Vec<Symbol> {
        let Some(connection) = self.connections.get(key) else { return Vec::new() };
        let topics = connection.session.view(&self.views).key.topics.iter();
        let of_messages = topics.filter_map(|topic| match (&topic.scope, topic.kind) {
            (Scope::Symbol(channel), Kind::Messages) => Some(channel.clone()),
            _ => None,
        });
        of_messages.collect()
    }

    fn sign(&mut self, key: usize, post: &mut Post, but_me: bool) {
        let from = self.name(key);
        let except = but_me.then(|| self.sender(key));
        if let Post::Message { message, .. } = post {
            message.from = from;
            message.except = except;
        }
    }

    fn name(&self, key: usize) -> Option<Word> {
        self.connections.get(key)?.extras.as_ref()?.name.clone()
    }

    /// Under which its own messages are known when they come back.
    fn sender(&mut self, key: usize) -> Sender {
        let extras = self.connections[key].extras.get_or_insert_default();
        let sender = *extras.sender.get_or_insert_with(|| {
            self.all_asked += 1;
            Sender(self.origin.wrapping_add(self.all_asked))
        });
        self.senders.insert(sender, key);
        sender
    }

    /// Before a batch is folded in: those who do not want their own messages back are sent what is pending
    /// for them alone.
    pub(super) fn part_senders(&mut self, batch: &Batch) {
        if self.senders.is_empty() {
            return;
        }
        for event in &batch.events {
            let Event::Posted(Posted::Message(message)) = event else { continue };
            let Some(&key) = message.except.as_ref().and_then(|sender| self.senders.get(sender)) else {
                continue;
            };
            self.views.settle();
            let Some(connection) = self.alone(key) else { continue };
            connection.extras.get_or_insert_default().own_upto = batch.position;
        }
    }
}

fn topics_of(rooms: &[Symbol]) -> Vec<String> {
    let topics =
        rooms.iter().flat_map(|room| Kind::OF_CHANNELS.map(|kind| Topic::of(kind, room).to_string()));
    topics.collect()
}

/// What a text is to a session.
enum Read {
    Packet(Packet),
    Close,
    Nothing,
}

fn read_text(parser: Parser, bytes: &[u8]) -> Result<Read, PacketError> {
    let text = String::from_utf8_lossy(bytes);
    Ok(match engineio::Packet::read(&text)? {
        engineio::Packet::Message(message) => Read::Packet(Packet::read(parser, message)?),
        engineio::Packet::Close => Read::Close,
        _ => Read::Nothing,
    })
}
