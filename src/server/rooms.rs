use super::problem::Problem;
use super::room::{Beginning, Room};
use super::shard::Shard;
use crate::feed::sim::{SimConfig, default_universe};
use crate::feed::{Simulation, Source};
use crate::market::{FeedState, Speed, Timestamp};
use crate::tape::{Epoch, Reader};
use crate::wire::{CloseCode, ReplayAction};
use axum::http::{StatusCode, header};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest name of a room, and the longest key.
const MAX_NAME: usize = 64;
/// Rooms are looked after this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Private markets: each with a tape of its own, on a clock of its own, for as long as somebody is in it.
///
/// A room has a shard to itself. So nothing of it is on the way of the public market's ticks, nor of another room's; its price is
/// two threads that mostly sleep, which is why there are few.
pub(super) struct Rooms {
    max: usize,
    idle: Duration,
    open: Mutex<HashMap<String, Arc<PrivateRoom>>>,
}

pub(super) struct PrivateRoom {
    pub room: Arc<Room>,
    pub shard: Shard,
    /// Whoever has it may control the room.
    key: Option<String>,
    open_to_all: bool,
    /// Connections that were let in, and those of them that broke before the shard had them.
    admitted: AtomicU64,
    broken: AtomicU64,
    /// Requests over HTTP.
    asked: AtomicU64,
}

/// What a handshake asks of a room.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RoomRequest {
    pub name: String,
    pub key: Option<String>,
    pub open_to_all: bool,
    /// A simulation, in place of what the server plays.
    pub seed: Option<u64>,
    pub start: Option<Timestamp>,
    pub speed: Option<Speed>,
}

impl Rooms {
    pub fn new(max: usize, idle: Duration) -> Self {
        Self { max, idle, open: Mutex::default() }
    }

    pub fn len(&self) -> usize {
        self.open().len()
    }

    pub fn get(&self, name: &str) -> Option<Arc<PrivateRoom>> {
        self.open().get(name).cloned()
    }

    /// The room of that name, opened where there is none; and whether whoever asks may control it. To be called within a runtime.
    pub fn enter(
        self: &Arc<Self>,
        request: &RoomRequest,
        public: &Room,
    ) -> Result<(Arc<PrivateRoom>, bool), Problem> {
        let mut open = self.open();
        if let Some(room) = open.get(&request.name) {
            room.admitted.fetch_add(1, Ordering::Relaxed);
            return Ok((Arc::clone(room), room.lets_control(request.key.as_deref())));
        }
        if open.len() >= self.max {
            let detail = match self.max {
                0 => "this server opens no rooms: the operator allows them with --max-rooms".to_owned(),
                max => format!("there are {max} rooms, and more may not be: wait until one is left"),
            };
            return Err(
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "5")
            );
        }
        let room = PrivateRoom::open(request, public)?;
        open.insert(request.name.clone(), Arc::clone(&room));
        tokio::spawn(look_after(Arc::clone(self), Arc::clone(&room), request.name.clone()));
        Ok((room, true))
    }

    /// Says goodbye in all rooms, and ends them.
    pub fn leave(&self, code: CloseCode, reason: &'static str, retry_after: Duration) {
        for (_, private) in self.open().drain() {
            private.shard.leave(code, reason, retry_after);
            private.room.end();
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<PrivateRoom>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PrivateRoom {
    fn open(request: &RoomRequest, public: &Room) -> Result<Arc<Self>, Problem> {
        let failed = |error: std::io::Error| {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the room cannot be opened: {error}"))
        };
        let (source, start): (Arc<dyn Source>, _) = match (request.seed, public.source()) {
            (Some(seed), source) => {
                // What is simulated here, its scenario included; else a market of the usual size.
                let simulated = source.and_then(|source| source.with_seed(seed, request.start));
                let usual = || {
                    let start = request.start.unwrap_or_else(Timestamp::now);
                    let config = SimConfig { seed, ..SimConfig::starting(start) };
                    Arc::new(Simulation { universe: default_universe(), config }) as Arc<dyn Source>
                };
                (simulated.unwrap_or_else(usual), None)
            }
            (None, Some(source)) => (Arc::clone(source), request.start.or(public.beginning().start)),
            (None, None) => {
                let detail = "this server plays nothing that a room could play: name a seed for a simulation";
                return Err(Problem::bad_request(detail));
            }
        };
        let epoch = Epoch::random();
        let (shard, reader) = Shard::start_room(&request.name, epoch).map_err(failed)?;
        let speed = request.speed.unwrap_or(Speed::Times(1.0));
        let beginning = Beginning { speed, start, max_gap: public.beginning().max_gap };
        let readers: Vec<Box<dyn Reader>> = vec![Box::new(reader)];
        let (room, _) = Room::start(Some(request.name.clone()), epoch, Some(source), beginning, readers)
            .map_err(failed)?;
        shard.serve(room.replay_control(), request.open_to_all);
        Ok(Arc::new(Self {
            room,
            shard,
            key: request.key.clone(),
            open_to_all: request.open_to_all,
            admitted: AtomicU64::new(1),
            broken: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        }))
    }

    /// Whether whoever gives that key may control it.
    pub fn lets_control(&self, key: Option<&str>) -> bool {
        self.open_to_all || (self.key.is_some() && self.key.as_deref() == key)
    }

    /// A connection that was let in will not come.
    pub fn broke(&self) {
        self.broken.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody asks something over HTTP.
    pub fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether everybody who was let in has come and gone.
    fn is_left(&self) -> bool {
        let status = self.shard.monitor().status();
        let came = status.tally.opened + self.broken.load(Ordering::Relaxed);
        status.connections == 0 && came == self.admitted.load(Ordering::Relaxed)
    }

    /// Grows with all that anybody does in it.
    fn activity(&self) -> u64 {
        let requests = self.shard.monitor().status().tally.requests();
        let requests: u64 = requests.into_iter().map(|(_, count)| count).sum();
        requests + self.admitted.load(Ordering::Relaxed) + self.asked.load(Ordering::Relaxed)
    }
}

/// Closes a room that everybody has left, or in which nothing happens any more.
async fn look_after(rooms: Arc<Rooms>, private: Arc<PrivateRoom>, name: String) {
    let (mut activity, mut active) = (0, Instant::now());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = private.activity();
        let playing = private.room.control(ReplayAction::Look).await;
        let plays =
            playing.as_ref().is_ok_and(|p| matches!(p.status.state, FeedState::Live | FeedState::Stale));
        if now != activity || plays {
            (activity, active) = (now, Instant::now());
        }
        let is_idle = active.elapsed() >= rooms.idle;
        let mut open = rooms.open();
        // Somebody may be on the way in: under the lock nobody is.
        if playing.is_err() || private.is_left() || is_idle {
            if open.get(&name).is_some_and(|there| Arc::ptr_eq(there, &private)) {
                open.remove(&name);
            }
            break;
        }
    }
    private.shard.leave(
        CloseCode::ROOM_CLOSED,
        "nothing was asked in this room for a long time",
        Duration::ZERO,
    );
    private.room.end();
}

impl RoomRequest {
    /// # Errors
    /// What is wrong with the name.
    pub fn check_name(name: &str) -> Result<(), String> {
        let is_fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_fine) {
            return Err(format!("1 to {MAX_NAME} letters, digits, '-', '_' and '.'"));
        }
        Ok(())
    }
}
