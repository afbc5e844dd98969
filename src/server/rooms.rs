//! Private rooms: markets with a clock of their own, each as long as it has a guest.
//!
//! A room has its own shard. So nothing of it is on the path of the public market's ticks, nor of another
//! room's. Its price is two threads that mostly sleep; therefore there are few. Threads that do not sleep,
//! because they have no pace, have a lower priority than the public market's, and half of the machine
//! together.

use super::metrics::{ShardMonitor, ShardStatus};
use super::permits::Permit;
use super::problem::Problem;
use super::rights::Rights;
use super::room::{Access, Beginning, Guest, Known, Parts, Presence, Room, start_shards};
use super::shard::Shard;
use crate::feed::sim::{SimConfig, default_universe};
use crate::feed::{Simulation, Source, Stop};
use crate::market::{FeedState, Speed, Timestamp};
use crate::tape::{Epoch, MemoryLog, Progress, Share};
use crate::wire::CloseCode;
use axum::http::{StatusCode, header};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The longest name of a room.
const MAX_NAME: usize = 64;
/// A room is checked this many times within the time that it may be idle.
const LOOKS: u32 = 8;

pub(super) struct Rooms {
    max: usize,
    idle: Duration,
    share: Arc<Share>,
    open: Mutex<HashMap<String, Arc<Place>>>,
    shards: Mutex<Shards>,
}

/// A taken name: of a room, or of one that is being opened.
struct Place {
    presence: Arc<Presence>,
    /// `None` while it is being opened.
    room: watch::Receiver<Option<Result<Arc<Room>, Problem>>>,
    stop: Stop,
}

/// An admission to a room.
pub(super) struct Entry {
    pub room: Arc<Room>,
    pub guest: Guest,
    /// The guest's in it.
    pub rights: Rights,
}

/// What the shards of rooms report: those that exist, and the sum of those that are gone, so that counters
/// only grow.
#[derive(Default)]
pub(super) struct Shards {
    there: Vec<(ShardMonitor, Arc<Progress>)>,
    gone: ShardStatus,
}

/// The room that a handshake asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RoomRequest {
    pub name: String,
    pub key: Option<String>,
    pub open_to_all: bool,
    /// A simulation, in place of the server's feed.
    pub seed: Option<u64>,
    pub start: Option<Timestamp>,
    pub speed: Option<Speed>,
}

impl Rooms {
    pub fn new(max: usize, idle: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let (open, shards) = Default::default();
        Self { max, idle, share: Share::of(cores), open, shards }
    }

    pub fn len(&self) -> usize {
        self.open().len()
    }

    /// A room that is open.
    pub fn get(&self, name: &str) -> Option<Arc<Room>> {
        self.open().get(name).and_then(|place| place.room())
    }

    /// Admits to the room of that name, which is opened if there is none. Call it within a runtime.
    ///
    /// # Errors
    /// The answer to a client that cannot be admitted.
    pub async fn enter(
        self: &Arc<Self>,
        request: RoomRequest,
        rights: Rights,
        permit: Permit,
        public: &Arc<Room>,
    ) -> Result<Entry, Problem> {
        let key = request.key.clone();
        let (place, guest, is_opener) = self.place(request, permit, public)?;
        let mut room = place.room.clone();
        let opened = room.wait_for(Option::is_some).await.map(|opened| opened.clone());
        let room = opened.ok().flatten().unwrap_or_else(|| Err(broken("it was given up")))?;
        let rights = room.rights(rights, key.as_deref(), is_opener);
        Ok(Entry { room, guest, rights })
    }

    /// The entry of that name, the client as a guest in it, and whether that client must open it.
    fn place(
        self: &Arc<Self>,
        request: RoomRequest,
        permit: Permit,
        public: &Arc<Room>,
    ) -> Result<(Arc<Place>, Guest, bool), Problem> {
        let mut open = self.open();
        if let Some(place) = open.get(&request.name) {
            return Ok((Arc::clone(place), place.presence.enter(permit), false));
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
        let presence = Arc::<Presence>::default();
        let guest = presence.enter(permit);
        let (opened, room) = watch::channel(None);
        let place = Arc::new(Place { presence, room, stop: Stop::default() });
        open.insert(request.name.clone(), Arc::clone(&place));
        tokio::spawn(Arc::clone(self).keep(Arc::clone(&place), request, Arc::clone(public), opened));
        Ok((place, guest, true))
    }

    /// Opens a room, on a thread of its own, since that may read much; and watches it until it is over.
    async fn keep(
        self: Arc<Self>,
        place: Arc<Place>,
        request: RoomRequest,
        public: Arc<Room>,
        opened: watch::Sender<Option<Result<Arc<Room>, Problem>>>,
    ) {
        let name = request.name.clone();
        let (rooms, of) = (Arc::clone(&self), Arc::clone(&place));
        let mut opening = tokio::task::spawn_blocking(move || open_room(&request, &public, &rooms, &of));
        let room = loop {
            tokio::select! {
                room = &mut opening => break room,
                () = place.presence.left(), if !place.stop.is_set() => self.give_up(&name, &place),
            }
        };
        // If opening it panicked, the log has the reason.
        let room = room.unwrap_or_else(|_| Err(broken("what it plays fails")));
        if let Ok(room) = &room {
            self.shards().add(room);
        } else {
            remove(&mut self.open(), &name, &place);
        }
        let _ = opened.send(Some(room.clone()));
        if let Ok(room) = room {
            self.look_after(&place, &room, &name).await;
        }
    }

    /// Frees the name of an entry without guests, unless one has just come.
    fn give_up(&self, name: &str, place: &Arc<Place>) {
        let mut open = self.open();
        // Under the lock nobody is being admitted.
        if place.presence.is_empty() {
            place.stop.set();
            remove(&mut open, name, place);
        }
    }

    /// Closes a room that all have left, in which nothing happens any more, or that has failed.
    async fn look_after(&self, place: &Arc<Place>, room: &Room, name: &str) {
        let why = loop {
            tokio::select! {
                biased;
                () = room.failed() => break "this room has failed: what it plays cannot be played on",
                () = place.presence.left() => {
                    self.give_up(name, place);
                    if place.stop.is_set() {
                        break "everybody has left this room";
                    }
                }
                () = stands_still(room, self.idle) => break "nothing was asked in this room for a long time",
            }
        };
        remove(&mut self.open(), name, place);
        if let Some(why) = room.failure() {
            tracing::error!("room {name}: {why}");
        }
        room.say_goodbye(CloseCode::ROOM_CLOSED, why, Duration::ZERO);
        room.end();
        room.emptied().await;
        self.shards().forget(room.shards());
    }

    /// Says goodbye in all rooms, and ends them. Returns those that were open.
    pub fn leave(&self, code: CloseCode, reason: &'static str, retry_after: Duration) -> Vec<Arc<Room>> {
        let places: Vec<_> = self.open().drain().map(|(_, place)| place).collect();
        let left = places.iter().filter_map(|place| {
            let room = place.room();
            if let Some(room) = &room {
                room.say_goodbye(code, reason, retry_after);
                room.end();
            }
            place.stop.set();
            room
        });
        left.collect()
    }

    /// What their shards report, including those that are gone.
    pub fn shards(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that are open.
    pub fn all(&self) -> Vec<Arc<Room>> {
        self.open().values().filter_map(|place| place.room()).collect()
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Arc<Place>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a market has been paused, or at its end, for this long without a request.
async fn stands_still(room: &Room, idle: Duration) {
    let (mut activity, mut active) = (room.activity(), Instant::now());
    while active.elapsed() < idle {
        tokio::time::sleep(idle / LOOKS).await;
        let (now, state) = (room.activity(), room.progress.timeline().status.state);
        if now != activity || !matches!(state, FeedState::Paused | FeedState::Ended) {
            (activity, active) = (now, Instant::now());
        }
    }
}

/// Frees the name of an entry, unless it is another's by now.
fn remove(open: &mut HashMap<String, Arc<Place>>, name: &str, place: &Arc<Place>) {
    if open.get(name).is_some_and(|there| Arc::ptr_eq(there, place)) {
        open.remove(name);
    }
}

fn broken(why: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the room cannot be opened: {why}"))
}

impl Place {
    fn room(&self) -> Option<Arc<Room>> {
        self.room.borrow().as_ref()?.as_ref().ok().cloned()
    }
}

impl Shards {
    fn add(&mut self, room: &Room) {
        let monitors = room.shards().iter().map(|shard| shard.monitor().clone());
        self.there.extend(monitors.map(|monitor| (monitor, Arc::clone(&room.progress))));
    }

    fn forget(&mut self, gone: &[Shard]) {
        for shard in gone {
            self.there.retain(|(monitor, _)| !monitor.is(shard.monitor()));
            let mut last = shard.monitor().status();
            // A shard that has panicked could not count how its sessions ended.
            (last.connections, last.blocked, last.watches_stats) = (0, 0, false);
            self.gone.add(&last);
        }
    }

    /// The sum of all.
    pub fn status(&self) -> ShardStatus {
        let mut all = self.gone;
        self.there.iter().for_each(|(monitor, _)| all.add(&monitor.status()));
        all
    }

    /// Batches on their tapes that they have not folded yet.
    pub fn behind(&self) -> u64 {
        let behind = |(monitor, tape): &(ShardMonitor, Arc<Progress>)| {
            tape.position().get().saturating_sub(monitor.status().position.get())
        };
        self.there.iter().map(behind).sum()
    }
}

fn open_room(
    request: &RoomRequest,
    public: &Room,
    rooms: &Rooms,
    place: &Place,
) -> Result<Arc<Room>, Problem> {
    let (source, start): (Arc<dyn Source>, _) = match (request.seed, public.source()) {
        (Some(seed), source) => {
            // The server's simulation, including its scenario; otherwise a market of the usual size.
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
    let (shards, readers) = start_shards(1, Some(&request.name), epoch).map_err(broken)?;
    let speed = request.speed.unwrap_or_default();
    let (room, _) = Room::start(Parts {
        name: Some(request.name.clone()),
        log: Box::new(MemoryLog::new(epoch)),
        // The public market has found its source's end already, or is about to.
        span: request.seed.is_none().then(|| public.span()),
        source: Some(source),
        beginning: Beginning { speed, start, max_gap: public.beginning().max_gap },
        known: Known::Shard(shards[0].look()),
        readers,
        shards,
        access: Some(Access { key: request.key.clone(), open_to_all: request.open_to_all }),
        presence: Arc::clone(&place.presence),
        share: Some(Arc::clone(&rooms.share)),
        stop: place.stop.clone(),
    })
    .map_err(broken)?;
    Ok(room)
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
