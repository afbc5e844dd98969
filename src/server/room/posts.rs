//! What is posted to a room's channels: put on its tape in the order of arrival, and ended when its time is
//! over. In a task of its own.

use super::{Refusal, Room};
use crate::feed::publish::Published;
use crate::market::{Post, State, Symbol, Word};
use crate::tape::{Position, Publication};
use crate::wire::ErrorCode;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// Posts that go on the tape together.
const TOGETHER: usize = 64;

/// States of a room that end by themselves: each is a timer.
const TIMED: usize = 10_000;

/// A post, and the reply for its outcome.
type Posting = (Post, oneshot::Sender<Result<Position, Refusal>>);

/// Where a room's posts wait, and its states for their end.
#[derive(Debug)]
pub(super) struct Posts {
    waiting: mpsc::UnboundedSender<Posting>,
    /// Each with the number of its timer.
    timed: Mutex<HashMap<(Symbol, Word), (u64, AbortHandle)>>,
}

/// The receiver is for [`put_on_tape`].
pub(super) fn posts() -> (Posts, mpsc::UnboundedReceiver<Posting>) {
    let (waiting, given) = mpsc::unbounded_channel();
    (Posts { waiting, timed: Mutex::default() }, given)
}

impl Room {
    /// Puts a post on the tape, after those before it. Returns its position.
    ///
    /// # Errors
    /// [`Refusal`] if it is not accepted, or there is no market any more.
    pub fn post(
        self: &Arc<Self>,
        post: Post,
    ) -> impl Future<Output = Result<Position, Refusal>> + Send + use<> {
        let (reply, outcome) = oneshot::channel();
        // Now, not when the future is polled, so that the order of calls is kept.
        let sent = self.time(&post).map(|()| drop(self.posts.waiting.send((post, reply))));
        let room = Arc::clone(self);
        async move {
            sent?;
            outcome.await.unwrap_or_else(|_| Err(room.gone()))
        }
    }

    /// Sets the timer of a state anew. Call it before the state is put on the tape, so that an end that is
    /// under way precedes it.
    ///
    /// # Errors
    /// [`Refusal`] if too many states wait for their end.
    pub fn time(self: &Arc<Self>, post: &Post) -> Result<(), Refusal> {
        let Post::State { state, ttl } = post else { return Ok(()) };
        let key = (state.channel.clone(), state.key.clone());
        let mut timed = self.posts.timed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = timed.remove(&key);
        if let Some((_, timer)) = &before {
            timer.abort();
        }
        let Some(ttl) = ttl.filter(|_| state.data.is_some()) else { return Ok(()) };
        if timed.len() >= TIMED {
            let message = format!("{TIMED} states wait for their end already");
            return Err(Refusal { code: ErrorCode::Unavailable, message });
        }
        let number = before.map_or(0, |(number, _)| number + 1);
        let timer = tokio::spawn(end_after(ttl, Arc::downgrade(self), key.clone(), number));
        timed.insert(key, (number, timer.abort_handle()));
        Ok(())
    }

    /// Ends a state, unless it was set again since that timer was.
    fn end_state(self: &Arc<Self>, key: (Symbol, Word), number: u64) {
        let mut timed = self.posts.timed.lock().unwrap_or_else(PoisonError::into_inner);
        if timed.get(&key).is_none_or(|(current, _)| *current != number) {
            return;
        }
        timed.remove(&key);
        let (channel, key) = key;
        let post = Post::State { state: State { channel, key, data: None }, ttl: None };
        let (reply, _) = oneshot::channel();
        // With the lock: whoever sets it again comes after this.
        let _ = self.posts.waiting.send((post, reply));
    }
}

impl Drop for Posts {
    fn drop(&mut self) {
        let timed = self.timed.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (_, timer) in timed.values() {
            timer.abort();
        }
    }
}

async fn end_after(ttl: Duration, room: Weak<Room>, key: (Symbol, Word), number: u64) {
    tokio::time::sleep(ttl).await;
    if let Some(room) = room.upgrade() {
        room.end_state(key, number);
    }
}

/// Puts what is posted on the tape, as long as the room exists.
pub(super) async fn put_on_tape(room: Weak<Room>, mut given: mpsc::UnboundedReceiver<Posting>) {
    let mut together = Vec::new();
    while given.recv_many(&mut together, TOGETHER).await > 0 {
        let Some(room) = room.upgrade() else { return };
        let (posts, replies): (Vec<_>, Vec<_>) = together.drain(..).unzip();
        let events = posts.into_iter().map(|post| Published::Post(Box::new(post)));
        let publication = Publication { events: (1..).zip(events).collect() };
        let receipt = room.ask(move |tape, tell| tape.publish(publication, tell)).await;
        for (line, reply) in (1..).zip(replies) {
            let outcome = match &receipt {
                Err(refusal) => Err(refusal.clone()),
                Ok(receipt) => match receipt.rejected.reason(line) {
                    Some(reason) => {
                        let (code, message) = (ErrorCode::Unavailable, reason.to_string());
                        Err(Refusal { code, message })
                    }
                    None => Ok(receipt.position),
                },
            };
            // The client may be gone.
            let _ = reply.send(outcome);
        }
    }
}
