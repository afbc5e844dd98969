//! The requests to a room's feed: done one after another, in a task of their own; of several seeks only the
//! last one.

use super::seeking::SEEK_PATIENCE;
use super::{Refusal, Room};
use crate::market::FeedState;
use crate::tape::{Control, Playing};
use crate::wire::{ErrorCode, ReplayAction};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Weak};
use tokio::sync::{mpsc, oneshot};

/// A request to the feed, and the reply for its outcome.
pub(super) struct Order {
    action: ReplayAction,
    reply: oneshot::Sender<Result<Playing, Refusal>>,
}

impl Room {
    /// Does what is asked, after what was asked before.
    pub fn control(
        self: &Arc<Self>,
        action: ReplayAction,
    ) -> impl Future<Output = Result<Playing, Refusal>> + Send + use<> {
        let (reply, outcome) = oneshot::channel();
        // Sent now, not when the future is polled, so that the order of calls is kept.
        if action != ReplayAction::Look {
            let _ = self.orders.send(Order { action, reply });
        }
        let room = Arc::clone(self);
        async move {
            match action {
                ReplayAction::Look => room.tape_control(Control::Look).await,
                _ => outcome.await.unwrap_or_else(|_| Err(room.gone())),
            }
        }
    }

    async fn obey(self: &Arc<Self>, action: ReplayAction) -> Result<Playing, Refusal> {
        if self.source.is_none() {
            let message = "nothing is replayed here: this market is only what is published to it";
            return Err(Refusal { code: ErrorCode::NotSupported, message: message.to_owned() });
        }
        let control = match action {
            ReplayAction::Look => Control::Look,
            ReplayAction::Play => {
                // A feed that has ended is played again.
                if self.tape_control(Control::Look).await?.status.state == FeedState::Ended {
                    return self.seek(self.first_target(), Some(SEEK_PATIENCE)).await;
                }
                Control::Play
            }
            ReplayAction::Pause => Control::Pause,
            ReplayAction::Speed(speed) => Control::Speed(speed),
            ReplayAction::Step(step) => Control::Step(step),
            ReplayAction::Seek(to) => return self.seek_to(to).await,
        };
        self.tape_control(control).await
    }
}

/// Does what is asked of a market, one request after another, as long as it exists.
pub(super) async fn take_orders(room: Weak<Room>, mut given: mpsc::UnboundedReceiver<Order>) {
    if let Some(room) = room.upgrade() {
        room.begin().await;
    }
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(order) = given.recv().await else { return };
            waiting.push_back(order);
        }
        while let Ok(order) = given.try_recv() {
            waiting.push_back(order);
        }
        let Some(room) = room.upgrade() else { return };
        let Some(Order { action, reply }) = waiting.pop_front() else { continue };
        // Dragging a slider asks for many moments: only the last one counts.
        let mut replies = vec![reply];
        let mut action = action;
        loop {
            while let ReplayAction::Seek(_) = action
                && let Some(later) = waiting.pop_front_if(|order| order.is_seek())
            {
                action = later.action;
                replies.push(later.reply);
            }
            let outcome = room.obey_until_another_seek(action, &mut given, &mut waiting).await;
            if waiting.front().is_some_and(Order::is_seek) && matches!(action, ReplayAction::Seek(_)) {
                continue;
            }
            for reply in replies {
                // The client may be gone.
                let _ = reply.send(outcome.clone());
            }
            break;
        }
    }
}

impl Order {
    fn is_seek(&self) -> bool {
        matches!(self.action, ReplayAction::Seek(_))
    }
}

impl Room {
    /// Does one thing. Meanwhile, another seek ends the running one; a pause and a speed, which do not affect
    /// it, are done at once; everything else waits.
    async fn obey_until_another_seek(
        self: &Arc<Self>,
        action: ReplayAction,
        given: &mut mpsc::UnboundedReceiver<Order>,
        waiting: &mut VecDeque<Order>,
    ) -> Result<Playing, Refusal> {
        let mut obeying = pin!(self.obey(action));
        loop {
            let order = tokio::select! {
                outcome = &mut obeying => return outcome,
                Some(order) = given.recv() => order,
            };
            let is_aside = matches!(order.action, ReplayAction::Pause | ReplayAction::Speed(_));
            let seeks = self.course().is_some();
            if is_aside && seeks && waiting.is_empty() {
                let outcome = self.obey(order.action).await;
                let _ = order.reply.send(outcome);
                continue;
            }
            waiting.push_back(order);
            if matches!(action, ReplayAction::Seek(_))
                && waiting.front().is_some_and(Order::is_seek)
                && let Some((_, course)) = &*self.course()
            {
                course.stop.set();
            }
        }
    }
}
