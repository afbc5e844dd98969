use crate::client::Event;
use crate::wire::TopicAnswer;
use std::time::Duration;

/// Exit codes of commands that follow topics of a server.
pub(super) const NOT_CONNECTED: u8 = 3;
pub(super) const REFUSED: u8 = 4;
pub(super) const INTERRUPTED: u8 = 130;

/// The connection of a command that follows topics of a server: what to report of it, and when nothing is
/// left to follow.
#[derive(Debug)]
pub(super) struct Following {
    url: String,
    /// Whether to keep trying where the first connection fails.
    retry: bool,
    /// Requested topics that were not refused.
    topics: usize,
    connected: bool,
    /// The lag that was last reported; zero while there is none.
    lagging: Duration,
    /// Not reported yet.
    talk: Vec<String>,
}

impl Following {
    pub fn new(url: String, retry: bool, topics: usize) -> Self {
        Self { url, retry, topics, connected: false, lagging: Duration::ZERO, talk: Vec::new() }
    }

    pub fn say(&mut self, talk: String) {
        self.talk.push(talk);
    }

    /// The reports since the last call.
    pub fn take_talk(&mut self) -> Vec<String> {
        std::mem::take(&mut self.talk)
    }

    /// Takes what an event says of the connection; its data are the command's own affair, and so is a
    /// replaced tape. `Err`: the exit code, if it cannot go on.
    pub fn take(&mut self, event: Event) -> Result<(), u8> {
        let url = &self.url;
        let talk = match event {
            Event::Connected { server, .. } => {
                self.connected = true;
                format!("connected to {url} ({server})")
            }
            Event::Subscribed { topics } => return self.subscribed(topics),
            Event::Resumed { .. } => "resumed: nothing is lost that the server still holds".to_owned(),
            Event::Stale => "stale: nothing is heard from the server".to_owned(),
            // Not each second: only when it has become much worse.
            Event::Lagging { by } if by < self.lagging * 2 => return Ok(()),
            Event::Lagging { by } => {
                self.lagging = by;
                format!("lagging by {by:.1?}: what comes is taken more slowly than it is sent")
            }
            Event::Live => {
                self.lagging = Duration::ZERO;
                "live again".to_owned()
            }
            Event::Error { message, .. } => format!("refused: {message}"),
            Event::Goodbye { reason, .. } => format!("the server says goodbye: {reason}"),
            Event::Disconnected { reason, .. } if !self.connected && !self.retry => {
                self.say(format!(
                    "cannot connect to {url}: {reason} (is the server running? --retry keeps trying)"
                ));
                return Err(NOT_CONNECTED);
            }
            Event::Disconnected { reason, retry_in, .. } => {
                format!("disconnected: {reason}; trying again in {retry_in:.1?}")
            }
            Event::Closed { reason, .. } => {
                self.say(format!("{url}: {reason}"));
                return Err(if self.connected { 1 } else { NOT_CONNECTED });
            }
            _ => return Ok(()),
        };
        self.say(talk);
        Ok(())
    }

    fn subscribed(&mut self, topics: Vec<TopicAnswer>) -> Result<(), u8> {
        for TopicAnswer { topic, pending, nearest, error, .. } in topics {
            if let Some(error) = error {
                self.topics = self.topics.saturating_sub(1);
                self.say(format!("{topic} is refused: {}", error.message));
            } else if pending {
                let hint = nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
                self.say(format!("{topic} is not there yet and will come when it appears{hint}"));
            }
        }
        if self.topics == 0 { Err(REFUSED) } else { Ok(()) }
    }
}
