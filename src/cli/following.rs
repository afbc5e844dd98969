use crate::client::Event;
use crate::wire::TopicAnswer;

/// Exit codes of commands that follow topics of a server.
pub(super) const NOT_CONNECTED: u8 = 3;
pub(super) const REFUSED: u8 = 4;
pub(super) const INTERRUPTED: u8 = 130;

/// How the connection fares of a command that follows topics of a server: what is to be told of it, and when there is nothing left to follow.
#[derive(Debug)]
pub(super) struct Following {
    url: String,
    /// Whether to keep trying where the first connection fails.
    retry: bool,
    /// Topics that were asked for and not refused yet.
    topics: usize,
    connected: bool,
    /// Not told yet.
    talk: Vec<String>,
}

impl Following {
    pub fn new(url: String, retry: bool, topics: usize) -> Self {
        Self { url, retry, topics, connected: false, talk: Vec::new() }
    }

    pub fn say(&mut self, talk: String) {
        self.talk.push(talk);
    }

    /// What is to be told since this was last called.
    pub fn take_talk(&mut self) -> Vec<String> {
        std::mem::take(&mut self.talk)
    }

    /// Takes down what an event says of the connection; what it brings is the command's own affair, and so is a tape that was replaced. `Err`:
    /// the exit code, where it cannot go on.
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
            Event::Live => "live again".to_owned(),
            Event::Error { message, .. } => format!("refused: {message}"),
            Event::Goodbye { reason, .. } => format!("the server says goodbye: {reason}"),
            Event::Disconnected { reason, .. } if !self.connected && !self.retry => {
                self.say(format!(
                    "cannot connect to {url}: {reason} (is the server running? --retry keeps trying)"
                ));
                return Err(NOT_CONNECTED);
            }
            Event::Disconnected { reason, retry_in } => {
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
