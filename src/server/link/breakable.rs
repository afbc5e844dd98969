use super::{Impaired, Impairment, Link};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Bytes that may be in flight on a delayed link. Beyond, it takes no more until there is space, as a full
/// socket would.
const MAX_UNDER_WAY: usize = 256 * 1024;
/// After being idle, a slow link passes at most this much time's bytes at once.
const MAX_CREDIT: Duration = Duration::from_millis(200);

/// A link that can be impaired, to test its peer.
#[derive(Debug)]
#[repr(C)]
pub struct Breakable<L> {
    link: L,
    impaired: Option<Box<Queue>>,
}

/// What an impaired link holds.
#[derive(Debug)]
struct Queue {
    /// `None`: it is mended, and only what is in flight is still to go.
    impairment: Option<Impairment>,
    /// On its owner's clock, as of the last call.
    now: Duration,
    until: Option<Duration>,
    /// In flight, each piece with the moment at which it may go on.
    pieces: VecDeque<(Duration, Vec<u8>)>,
    /// When the credit was last counted, and how much there is, in bytes × 10^9.
    counted: Duration,
    credit: u128,
}

impl<L> Breakable<L> {
    pub fn new(link: L) -> Self {
        Self { link, impaired: None }
    }

    /// The link itself.
    pub fn inner_mut(&mut self) -> &mut L {
        &mut self.link
    }
}

impl<L: Link> Link for Breakable<L> {
    #[inline]
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.impaired.is_none() { self.link.send(bytes) } else { self.send_impaired(bytes) }
    }

    #[inline]
    fn send_in_step(&mut self, bytes: &[u8]) -> io::Result<usize> {
        debug_assert!(self.impaired.is_none(), "an impaired link is never in step");
        self.link.send_in_step(bytes)
    }

    fn finish(&mut self) {
        self.link.finish();
    }

    fn begun(&self) -> Option<u32> {
        self.link.begun()
    }

    fn impair(&mut self, impairment: Impairment, now: Duration, lasts: Option<Duration>) -> bool {
        let pieces = self.impaired.take().map_or_else(VecDeque::new, |queue| queue.pieces);
        let mut queue = Queue {
            impairment: Some(impairment),
            now,
            until: lasts.map(|lasts| now + lasts),
            pieces,
            counted: now,
            credit: 0,
        };
        queue.hurry();
        self.impaired = Some(Box::new(queue));
        true
    }

    fn mend(&mut self) {
        if let Some(queue) = &mut self.impaired {
            queue.impairment = None;
            queue.hurry();
        }
    }

    fn impaired(&self) -> Option<Impaired> {
        let queue = self.impaired.as_ref()?;
        Some(if queue.room() > 0 { Impaired::Takes } else { Impaired::HoldsBack })
    }

    fn pump(&mut self, now: Duration) -> io::Result<()> {
        let Some(queue) = &mut self.impaired else { return Ok(()) };
        queue.now = now;
        if queue.until.is_some_and(|until| until <= now) {
            queue.impairment = None;
            queue.hurry();
        }
        queue.send(&mut self.link)?;
        if queue.impairment.is_none() && queue.pieces.is_empty() {
            self.impaired = None;
        }
        Ok(())
    }
}

impl<L: Link> Breakable<L> {
    #[cold]
    fn send_impaired(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let queue = self.impaired.as_mut().expect("it is impaired");
        if queue.impairment.is_none() {
            queue.send(&mut self.link)?;
            if !queue.pieces.is_empty() {
                return Ok(0);
            }
            self.impaired = None;
            return self.link.send(bytes);
        }
        let taken = bytes.len().min(queue.room());
        if taken > 0 {
            queue.pieces.push_back((queue.due(), bytes[..taken].to_vec()));
        }
        Ok(taken)
    }
}

impl Queue {
    /// Makes everything in flight due now.
    fn hurry(&mut self) {
        for (due, _) in &mut self.pieces {
            *due = Duration::ZERO;
        }
    }

    /// How many bytes it takes now.
    fn room(&self) -> usize {
        match self.impairment {
            Some(Impairment::Delay(_)) => {
                let under_way: usize = self.pieces.iter().map(|(_, bytes)| bytes.len()).sum();
                MAX_UNDER_WAY.saturating_sub(under_way)
            }
            // The next frame begins when the last is gone, so that changes in between are merged.
            None | Some(Impairment::Slow(_)) if self.pieces.is_empty() => usize::MAX,
            None | Some(Impairment::Slow(_) | Impairment::Mute) => 0,
        }
    }

    /// When what comes now may go on.
    fn due(&self) -> Duration {
        match self.impairment {
            Some(Impairment::Delay(by)) => self.now + by,
            _ => self.now,
        }
    }

    /// How many bytes may go on now.
    fn passing(&mut self) -> usize {
        match self.impairment {
            None | Some(Impairment::Delay(_)) => usize::MAX,
            Some(Impairment::Mute) => 0,
            Some(Impairment::Slow(bytes_per_second)) => {
                let credit = |time: Duration| time.as_nanos() * u128::from(bytes_per_second);
                let gained = credit(self.now.saturating_sub(self.counted));
                self.counted = self.now;
                self.credit = (self.credit + gained).min(credit(MAX_CREDIT).max(1_000_000_000));
                usize::try_from(self.credit / 1_000_000_000).unwrap_or(usize::MAX)
            }
        }
    }

    /// Sends what may go on.
    fn send(&mut self, link: &mut impl Link) -> io::Result<()> {
        let mut passing = self.passing();
        while let Some((due, bytes)) = self.pieces.front_mut()
            && *due <= self.now
            && passing > 0
        {
            let wanted = bytes.len().min(passing);
            let sent = link.send(&bytes[..wanted])?;
            passing -= sent;
            self.credit = self.credit.saturating_sub(sent as u128 * 1_000_000_000);
            bytes.drain(..sent);
            if bytes.is_empty() {
                self.pieces.pop_front();
            }
            if sent < wanted {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything.
    #[derive(Debug, Default)]
    struct Wire(Vec<u8>);

    impl Link for Wire {
        fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn finish(&mut self) {}
    }

    const MS: Duration = Duration::from_millis(1);

    fn impaired(impairment: Impairment, lasts: Option<Duration>) -> Breakable<Wire> {
        let mut link = Breakable::new(Wire::default());
        assert!(link.impair(impairment, Duration::ZERO, lasts));
        link
    }

    #[track_caller]
    fn passes(link: &mut Breakable<Wire>, at: Duration, expected: &[u8]) {
        link.pump(at).unwrap();
        assert_eq!(link.inner_mut().0, expected);
    }

    #[test]
    fn a_delayed_link_lets_each_byte_through_so_much_later() {
        let mut link = impaired(Impairment::Delay(100 * MS), None);
        assert_eq!(link.send(b"ab").unwrap(), 2);
        passes(&mut link, 60 * MS, b"");
        assert_eq!(link.send(b"cd").unwrap(), 2);
        passes(&mut link, 120 * MS, b"ab");
        passes(&mut link, 160 * MS, b"abcd");
        assert_eq!(link.impaired(), Some(Impaired::Takes));
        assert_eq!(link.send(&vec![0; MAX_UNDER_WAY + 1]).unwrap(), MAX_UNDER_WAY);
        assert_eq!(link.impaired(), Some(Impaired::HoldsBack));
    }

    #[test]
    fn a_slow_link_takes_a_frame_when_the_last_has_gone() {
        let mut link = impaired(Impairment::Slow(10), None);
        assert_eq!(link.send(b"abc").unwrap(), 3);
        assert_eq!(link.send(b"def").unwrap(), 0);
        passes(&mut link, 100 * MS, b"a");
        passes(&mut link, 200 * MS, b"ab");
        passes(&mut link, 1000 * MS, b"abc");
        assert_eq!(link.send(b"def").unwrap(), 3);
    }

    #[test]
    fn a_mute_link_takes_nothing_until_its_time_is_over() {
        let mut link = impaired(Impairment::Mute, Some(50 * MS));
        assert_eq!(link.send(b"ab").unwrap(), 0);
        link.pump(49 * MS).unwrap();
        assert_eq!(link.impaired(), Some(Impaired::HoldsBack));
        link.pump(50 * MS).unwrap();
        assert_eq!(link.impaired(), None);
        assert_eq!(link.send(b"ab").unwrap(), 2);
    }

    #[test]
    fn what_is_under_way_comes_first_when_a_link_is_mended_or_impaired_otherwise() {
        let mut link = impaired(Impairment::Delay(100 * MS), None);
        link.send(b"ab").unwrap();
        link.impair(Impairment::Slow(1_000_000), MS, None);
        assert_eq!(link.send(b"c").unwrap(), 0);
        passes(&mut link, 2 * MS, b"ab");
        assert_eq!(link.send(b"c").unwrap(), 1);
        link.mend();
        assert_eq!(link.send(b"d").unwrap(), 1);
        assert_eq!(link.impaired(), None);
        assert_eq!(link.inner_mut().0, b"abcd");
    }
}
