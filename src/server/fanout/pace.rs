//! How much may be in flight to one session: no more than its peer reads, so that what it reads is new. On
//! the shard thread.
//!
//! Some seven thousand small frames fit into the buffers between server and client, so a full socket says too
//! late that a client is slow. A ping says it in time: a library answers one only when it has read that far.
//!
//! ```text
//!    new, peer answers pings                      new, peer has no pings
//!              v                                            v
//!            PACED ---- window at 32, or 40 soon ----->  TRUSTED
//!      at most `window` frames      pongs in a row     as many frames as there are;
//!      from a ping to its pong                         may fall in step with its cohort
//!              ^                                            |
//!              +----------- a pong is late -----------------+
//! ```
//!
//! Paced: a ping goes with the first of every `window` frames, and no more go before its pong. The window
//! grows while pongs come back soon. Trusted: a frame of the cohort now and then carries a ping, the same for
//! all.
//!
//! Invariant: `answered` is never after `pinged`. Out of step they are equal exactly if no ping is
//! unanswered.

use std::time::Duration;

/// Frames between two pings to trusted sessions, as each pong costs a `recv`.
const PING_EVERY_FRAMES: u8 = 128;
/// A ping is due after so many ms, whatever was sent.
const PING_EVERY: u32 = 2_000;
/// A ping is also due after so many frames within [`FAST`] ms: at that rate a slow client soon has a backlog.
const FAST_FRAMES: u8 = 64;
const FAST: u32 = 200;
/// A pong is late if it takes more than this many ms beyond twice the soonest one.
const LATE: u32 = 50;
/// It came soon if it took at most this many ms beyond the soonest one.
const SOON: u32 = 25;
/// Frames sent at first before a pong.
const FIRST_WINDOW: u8 = 1;
/// The window doubles up to this at first. Libraries take sixteen messages and more before they stop reading,
/// and their pongs do not show it.
const FIRST_DOUBLES_TO: u8 = 4;
/// The soonest pong counts for at most this many ms: a client that takes longer handles messages before it
/// reads on.
const LONGEST_WAY: u16 = 250;
/// In ms. Older pings were answered, or their sessions are long gone.
const FORGOTTEN: u32 = 3_600_000;
/// A session whose window reaches this is trusted.
const LAST_WINDOW: u8 = 32;
/// So is one after so many soon pongs in a row without a full window: more than libraries take before they
/// stop reading.
const TRUSTED_AFTER: u8 = 40;
/// In ms. From this age on what a client reads is old, and it is sent `lag`.
const OLD: u32 = 1_000;

/// A moment of a shard's clock in ms. It wraps after seven weeks, so only moments within the last three
/// compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Millis(u32);

/// What pongs are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub now: Millis,
    /// How long a pong may have waited in this server before it was read, in ms; it is not late for that.
    pub own_delay: u32,
}

/// How one session keeps up.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Pace {
    /// When the last ping was sent. In step the cohort may have later ones.
    pinged: Millis,
    /// The shortest time that a ping took, in ms.
    soonest: u16,
    /// Frames that may be sent from a ping to its pong; [`Self::TRUSTED`]: no limit.
    window: u8,
    /// Up to this the window doubles with each pong; after that it grows by one.
    doubles_to: u8,
    /// Frames since the last ping, the one with it included.
    frames: u8,
    /// Soon pongs in a row, while the window held nothing back.
    soon: u8,
    /// Pings in flight, out of step: some peers' pongs do not name theirs.
    open: u8,
    /// [`Self::OLD`] and [`Self::IN_STEP`].
    flags: u8,
    /// When the last ping with a pong was sent. Each delivery reads these two, so they come last: next to the
    /// link.
    answered: Millis,
}

/// When the pings of a cohort were sent, newest first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pings {
    recent: [Millis; 3],
    frames: u8,
}

impl Millis {
    pub fn of(now: Duration) -> Self {
        // Modulo 2^32.
        Self(u32::try_from(now.as_millis() & u128::from(u32::MAX)).expect("the lower part"))
    }

    /// As a ping carries it and its pong returns it.
    pub fn get(self) -> u32 {
        self.0
    }

    fn is_after(self, other: Self) -> bool {
        self != other && self.since(other) < 1 << 31
    }

    fn is_recent(self, now: Self) -> bool {
        now.since(self) < FORGOTTEN
    }

    pub fn since(self, other: Self) -> u32 {
        self.0.wrapping_sub(other.0)
    }

    fn max(self, other: Self) -> Self {
        if other.is_after(self) { other } else { self }
    }
}

impl Clock {
    /// How many ms the peer has had for what was sent at `sent`.
    fn since(self, sent: Millis) -> u32 {
        self.now.since(sent).saturating_sub(self.own_delay)
    }
}

impl Pace {
    const TRUSTED: u8 = u8::MAX;
    /// The client was sent that what it reads is old, and not yet that it has caught up.
    const OLD: u8 = 1;
    /// Its session is in step: the same as the session knows, but next to the link.
    const IN_STEP: u8 = 2;
    /// Bytes before those that a delivery in step touches.
    #[cfg(test)]
    pub const TOUCHED_FROM: usize = std::mem::offset_of!(Self, flags);

    /// `has_pings`: whether its peer answers them. If not, it is trusted, and only a full link shows that it
    /// is slow.
    pub fn new(now: Millis, has_pings: bool) -> Self {
        Self {
            answered: now,
            pinged: now,
            soonest: u16::MAX,
            window: if has_pings { FIRST_WINDOW } else { Self::TRUSTED },
            doubles_to: FIRST_DOUBLES_TO,
            frames: 0,
            soon: 0,
            open: 0,
            flags: 0,
        }
    }

    /// Whether its session is in step with its cohort.
    pub fn is_in_step(&self) -> bool {
        self.flags & Self::IN_STEP != 0
    }

    fn set(&mut self, flag: u8, is_set: bool) {
        self.flags = if is_set { self.flags | flag } else { self.flags & !flag };
    }

    fn is_trusted(&self) -> bool {
        self.window == Self::TRUSTED
    }

    fn is_answered(&self) -> bool {
        self.answered == self.pinged
    }

    /// Whether no ping in flight is without its pong.
    pub fn may_fall_in(&self) -> bool {
        self.is_trusted() && self.is_answered()
    }

    /// It is in step from here on: the cohort's pings are its own.
    pub fn fall_in(&mut self, now: Millis) {
        (self.answered, self.pinged, self.frames) = (now, now, 0);
        self.set(Self::IN_STEP, true);
    }

    /// It is out of step from here on.
    pub fn fall_out(&mut self, pings: &Pings, now: Millis) {
        let last = pings.recent[0];
        self.pinged = if last.is_recent(now) { self.answered.max(last) } else { self.answered };
        self.frames = pings.frames;
        let is_open = |ping: &&Millis| ping.is_recent(now) && ping.is_after(self.answered);
        self.open = u8::try_from(pings.recent.iter().filter(is_open).count()).unwrap_or(u8::MAX);
        self.set(Self::IN_STEP, false);
    }

    /// How many ms a ping may take before its pong is late.
    fn patience(&self) -> u32 {
        LATE + 2 * self.known_soonest()
    }

    fn known_soonest(&self) -> u32 {
        self.soonest.min(LONGEST_WAY).into()
    }

    /// Out of step: whether the next frame may be sent now. Not while a pong is late, or the window is full.
    pub fn may_send(&mut self, clock: Clock) -> bool {
        if self.is_answered() {
            return true;
        }
        if self.is_trusted() && clock.since(self.pinged) > self.patience() {
            self.slow_down();
        }
        self.is_trusted() || self.frames < self.window
    }

    /// In step with a cohort of those pings: whether a pong is late.
    pub fn is_late(&self, pings: &Pings, clock: Clock) -> bool {
        let is_unanswered = |ping: &&Millis| ping.is_recent(clock.now) && ping.is_after(self.answered);
        let Some(&oldest) = pings.recent.iter().take_while(is_unanswered).last() else { return false };
        // If there were more pings than are kept here, the oldest was sent soon after the one that was
        // answered.
        let are_more = oldest == pings.recent[pings.recent.len() - 1];
        clock.since(oldest) > self.patience()
            || are_more && clock.since(self.answered) > self.patience() + PING_EVERY
    }

    /// A pong arrived that does not name its ping. Peers answer in order, so it is of the oldest one in
    /// flight: returns that, or `None` if others follow it that count.
    pub fn ponged_without_name(&mut self, pings: &Pings, now: Millis) -> Option<Millis> {
        if self.is_in_step() {
            let is_open = |ping: &&Millis| ping.is_recent(now) && ping.is_after(self.answered);
            return pings.recent.iter().rfind(is_open).copied();
        }
        self.open = self.open.saturating_sub(1);
        (self.open == 0 && !self.is_answered()).then_some(self.pinged)
    }

    /// Pings in flight, out of step.
    pub fn open(&self) -> u8 {
        self.open
    }

    /// Whether pings up to `since` are all answered, so that [`Self::is_late`] need not be called.
    pub fn has_answered(&self, since: Millis) -> bool {
        !since.is_after(self.answered)
    }

    /// Whether a ping goes with its next frame.
    pub fn wants_ping(&self, now: Millis) -> bool {
        self.is_answered()
            // Two pings of one moment could not be distinguished.
            && now != self.answered
            && (!self.is_trusted() || is_ping_due(self.frames, now.since(self.pinged)))
    }

    /// Out of step: a frame was sent, with a ping or without.
    pub fn sent(&mut self, with_ping: bool, now: Millis) {
        if with_ping {
            self.sent_ping(now);
        }
        self.frames = self.frames.saturating_add(1);
    }

    pub fn sent_ping(&mut self, now: Millis) {
        self.open = self.open.saturating_add(1);
        (self.pinged, self.frames) = (now, 0);
    }

    /// How long ago the last ping was sent, in ms.
    pub fn since_ping(&self, now: Millis) -> u32 {
        now.since(self.pinged)
    }

    /// A pong is late: nothing more is sent before it arrives.
    pub fn slow_down(&mut self) {
        let window = self.window.min(LAST_WINDOW);
        (self.window, self.doubles_to, self.soon, self.frames) = (1, (window / 2).max(2), 0, u8::MAX);
    }

    /// The link was impaired: an unanswered ping says nothing of the peer, so it counts as answered.
    pub fn forgive(&mut self) {
        self.open = 0;
        self.answered = self.pinged;
    }

    /// A pong arrived with this payload. `None`: it answers no ping. Else whether it was late, and how many
    /// ms the ping took if that is to be sent to the client.
    pub fn ponged(&mut self, payload: &[u8], clock: Clock) -> Option<(bool, Option<u32>)> {
        let sent = Millis(u32::from_be_bytes(payload.try_into().ok()?));
        if !sent.is_after(self.answered) || sent.is_after(clock.now) {
            return None;
        }
        self.answered = sent;
        self.pinged = self.pinged.max(sent);
        if self.is_answered() {
            self.open = 0;
        }
        let took = clock.since(sent);
        self.soonest = self.soonest.min(u16::try_from(took).unwrap_or(u16::MAX - 1));
        let is_late = took > self.patience();
        if is_late {
            let frames = self.frames;
            self.slow_down();
            self.frames = frames;
        } else if took <= SOON + self.known_soonest() {
            self.speed_up();
        } else {
            self.soon = 0;
        }
        let age = clock.now.since(sent);
        let tells = self.flags & Self::OLD != 0 || age > OLD;
        self.set(Self::OLD, age > OLD);
        Some((is_late, tells.then_some(age)))
    }

    fn speed_up(&mut self) {
        if self.is_trusted() {
            return;
        }
        if self.frames >= self.window {
            let more = if self.window < self.doubles_to { self.window } else { 1 };
            self.window = self.window.saturating_add(more).min(LAST_WINDOW);
            self.soon = 0;
        } else {
            self.soon += 1;
        }
        if self.soon >= TRUSTED_AFTER || self.window == LAST_WINDOW {
            self.window = Self::TRUSTED;
        }
    }

    /// For how many ms a ping has been without its pong; `None`: none is.
    pub fn unanswered(&self, now: Millis) -> Option<u32> {
        (!self.is_answered()).then(|| now.since(self.pinged))
    }

    /// Whether the pong of the last ping is late and not there.
    pub fn is_slow(&self, clock: Clock) -> bool {
        !self.is_answered() && clock.since(self.pinged) > self.patience()
    }
}

fn is_ping_due(frames: u8, since: u32) -> bool {
    frames >= PING_EVERY_FRAMES || since >= PING_EVERY || frames >= FAST_FRAMES && since <= FAST
}

impl Pings {
    /// Whether the cohort's next frame carries a ping.
    pub fn is_due(&self, now: Millis) -> bool {
        is_ping_due(self.frames, now.since(self.recent[0]))
    }

    /// A frame was sent, with a ping or without.
    pub fn sent(&mut self, with_ping: bool, now: Millis) {
        self.frames = self.frames.saturating_add(1);
        if with_ping {
            self.recent.rotate_right(1);
            (self.recent[0], self.frames) = (now, 0);
        }
    }

    /// The newest ping that is old enough for its pong to be there.
    pub fn due(&self, now: Millis) -> Millis {
        let due = self.recent.iter().find(|&&ping| now.since(ping) > LATE);
        due.copied().unwrap_or(self.recent[self.recent.len() - 1])
    }
}
