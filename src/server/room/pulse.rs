use super::{Refusal, Room};
use crate::hub::Upto;
use crate::tape::{Batch, Epoch, Position, Reader};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The time from one point to the next at least.
const SPACING: Duration = Duration::from_millis(50);

/// The points of a tape at which polls are answered, and the word that it goes on.
///
/// There are few points, so that clients that poll at their own pace are at the same positions, and one
/// answer is for many of them.
#[derive(Debug)]
pub(super) struct Pulse {
    epoch: Epoch,
    /// The position of the newest batch. Closed when the tape is over.
    end: watch::Receiver<Position>,
    newest: Mutex<Option<Point>>,
    /// Held by the one who looks for the next point.
    looking: tokio::sync::Mutex<()>,
}

/// An end of the tape that polls are answered up to.
#[derive(Clone, Copy, Debug)]
pub(in crate::server) struct Point {
    pub upto: Upto,
    at: Instant,
}

impl Pulse {
    /// Of a tape of that epoch; returns the reader that it needs, too.
    pub fn new(epoch: Epoch) -> (Self, impl Reader) {
        let (tell, end) = watch::channel(Position::START);
        let reader = move |batch: &Arc<Batch>| _ = tell.send_replace(batch.position);
        (Self { epoch, end, newest: Mutex::default(), looking: tokio::sync::Mutex::default() }, reader)
    }

    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn is_over(&self) -> bool {
        self.end.has_changed().is_err()
    }

    /// The newest point, if it serves: it is at the end of the tape, or so new that there is no other, unless
    /// somebody is past it already.
    fn serving(&self, past: Position) -> Option<Point> {
        if self.is_over() {
            return None;
        }
        let newest = (*self.newest.lock().unwrap_or_else(PoisonError::into_inner))?;
        let end = *self.end.borrow();
        let reaches = |position| newest.upto.position >= position;
        (reaches(end) || (reaches(past.min(end)) && newest.at.elapsed() < SPACING)).then_some(newest)
    }
}

impl Room {
    /// The point for an answer now; `past`: a position that the client has.
    ///
    /// # Errors
    /// [`Refusal`] if there is no market any more.
    pub async fn point(&self, past: Position) -> Result<Point, Refusal> {
        if let Some(point) = self.pulse.serving(past) {
            return Ok(point);
        }
        if self.pulse.is_over() || self.failure().is_some() {
            return Err(self.gone());
        }
        let _looking = self.pulse.looking.lock().await;
        if let Some(point) = self.pulse.serving(past) {
            return Ok(point);
        }
        let look = self.look(|replica| Upto { position: replica.position(), time: replica.time() });
        let point = Point { upto: look.await?, at: Instant::now() };
        *self.pulse.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some(point);
        Ok(point)
    }

    /// Waits for the next point after a position.
    ///
    /// # Errors
    /// As [`Self::point`].
    pub async fn next_point(&self, after: Position) -> Result<Point, Refusal> {
        let mut end = self.pulse.end.clone();
        loop {
            end.wait_for(|&end| end > after).await.map_err(|_| self.gone())?;
            let point = self.point(Position::START).await?;
            if point.upto.position > after {
                return Ok(point);
            }
            tokio::time::sleep_until((point.at + SPACING).into()).await;
        }
    }
}
