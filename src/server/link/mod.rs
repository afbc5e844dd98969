//! The link that a session's bytes go over: a socket, or a substitute. The core only writes to a [`Link`];
//! its owner reads from it.

mod breakable;

pub use breakable::Breakable;

use std::io;
use std::time::Duration;

/// The sending half of a connection. Never blocks.
pub trait Link {
    /// Sends a prefix of `bytes` and returns its length, 0 if it takes none now.
    ///
    /// # Errors
    /// Those of a broken connection; they are final.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// [`Self::send`] where it is known not to be impaired.
    ///
    /// # Errors
    /// As [`Self::send`].
    #[inline]
    fn send_in_step(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes)
    }

    /// Nothing more will be sent.
    fn finish(&mut self);

    /// The second of its owner's clock in which its peer began the message that is not complete yet.
    fn begun(&self) -> Option<u32> {
        None
    }

    /// Impairs it, at the peer's own request. Returns whether it can be impaired at all.
    fn impair(&mut self, impairment: Impairment, now: Duration, lasts: Option<Duration>) -> bool {
        let _ = (impairment, now, lasts);
        false
    }

    /// Ends its impairment: what is in flight goes on at once.
    fn mend(&mut self) {}

    /// Its impairment, if it has one: then its peer is not to blame for delays.
    fn impaired(&self) -> Option<Impaired> {
        None
    }

    /// Moves on what may pass an impaired link by now, and mends it when its time is over.
    ///
    /// # Errors
    /// As [`Self::send`].
    fn pump(&mut self, now: Duration) -> io::Result<()> {
        let _ = now;
        Ok(())
    }
}

/// What is wrong with an impaired link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impairment {
    /// Nothing passes.
    Mute,
    /// Everything passes this much later.
    Delay(Duration),
    /// This many bytes pass a second.
    Slow(u32),
}

/// The current state of an impaired link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impaired {
    /// It takes bytes.
    Takes,
    /// It takes none for now.
    HoldsBack,
}
