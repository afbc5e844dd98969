//! The rights of the client of a request or a session.

use std::fmt;

/// An action that needs a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish events of their own.
    Publish,
    /// Control what is played.
    Control,
    /// Watch the topic `stats`, which is about other sessions.
    WatchStats,
    /// Have their own connection impaired, as tests do.
    Fault,
}

/// Why a client may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The operator has not allowed it to such clients.
    Off,
    /// A proxy has forwarded the request, so its sender may be anywhere.
    Proxied,
    /// The request was made by a page of another origin.
    Origin,
    /// Only for those who opened the room, or have its key.
    Room,
}

/// A client's rights: for each action why it may not, or `None` if it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    pub publish: Option<Denial>,
    pub control: Option<Denial>,
    pub watch_stats: Option<Denial>,
    pub fault: Option<Denial>,
}

/// An action that is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    pub action: Action,
    pub why: Denial,
}

impl Rights {
    pub const NONE: Self = {
        let off = Some(Denial::Off);
        Self { publish: off, control: off, watch_stats: off, fault: off }
    };
    pub const ALL: Self = Self { publish: None, control: None, watch_stats: None, fault: None };

    /// # Errors
    /// [`Denied`] if they may not.
    pub fn may(&self, action: Action) -> Result<(), Denied> {
        let denial = match action {
            Action::Publish => self.publish,
            Action::Control => self.control,
            Action::WatchStats => self.watch_stats,
            Action::Fault => self.fault,
        };
        denial.map_or(Ok(()), |why| Err(Denied { action, why }))
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.action, self.why) {
            (Action::Publish, Denial::Origin) => "pages of this origin may not publish here",
            (Action::Publish, Denial::Proxied) => {
                "what comes through a proxy may not be published: the operator allows it with --publish all"
            }
            (Action::Publish, Denial::Off | Denial::Room) => {
                "nothing may be published here: the operator allows it with --publish direct"
            }
            (Action::Control, Denial::Origin) => "pages of this origin may not control the replay",
            (Action::Control, Denial::Room) => {
                "this room is controlled by whoever opened it, or by its key: room=NAME&key=KEY"
            }
            (Action::Control, Denial::Proxied) => {
                "what comes through a proxy, or asks for another name than this machine's, may not control the \
                 replay: the operator allows it with --control all"
            }
            (Action::Control, Denial::Off) => {
                "the replay may not be controlled here: the operator allows it with --control all"
            }
            (Action::WatchStats, _) => {
                "\"stats\" tells of other sessions, and this one may come from elsewhere: the server's operator \
                 allows it with --ops"
            }
            (Action::Fault, _) => "faults are off here: the operator turns them on with --allow-faults",
        })
    }
}
