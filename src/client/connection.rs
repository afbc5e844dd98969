use super::conflation::Mailbox;
use super::endpoint::{Endpoint, EndpointError};
use super::session::{Command, Event, Input, Options, Output, Session};
use crate::wire::{CloseCode, Fault, MAX_UPDATE_BYTES, PROTOCOL_MSGPACK, ReplayAction};
use futures_util::task::AtomicWaker;
use futures_util::{SinkExt, StreamExt};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::coop;
use tokio_stream::Stream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, coding::CloseCode as FrameCode};
use tokio_tungstenite::tungstenite::{Error, Message, http};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bounds the wait for the server's Close frame at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A subscription to a server that survives lost connections: a [`Stream`] of [`Event`]s, which ends after
/// [`Event::Closed`]. Dropping it closes the connection.
///
/// A caller that is slower than the market gets merged updates, not old ones, and [`Event::Lagging`] where
/// that is not enough. The connection is read however slow the caller is.
#[derive(Debug)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    events: Arc<Events>,
    /// Dropped with the client, which ends the task.
    _alive: oneshot::Sender<Infallible>,
}

/// Events pending between the connection and the caller.
#[derive(Debug, Default)]
struct Events {
    mailbox: Mutex<Mailbox>,
    caller: AtomicWaker,
    /// Notified when the mailbox is no longer full.
    taken: Notify,
}

impl Client {
    /// Starts connecting to `ws://host:port` and retries until it succeeds; results are events. Call it
    /// within a tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`] if `url` is no address of a server.
    pub fn connect(url: &str) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(url)?;
        // Commands are the caller's own, and few.
        let (commands, receiver) = mpsc::unbounded_channel();
        let (alive, gone) = oneshot::channel();
        let events = Arc::new(Events::default());
        let session = Session::new(rand::random(), Instant::now());
        let sender = Sender(Arc::clone(&events));
        tokio::spawn(Shell { endpoint, session, socket: None, events: sender, gone }.run(receiver));
        Ok(Self { commands, events, _alive: alive })
    }

    /// Subscribes topics, in this connection and later ones. The options hold for all topics from now on.
    pub fn subscribe<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>, options: Options) {
        self.command(Command::Subscribe { topics: topics.into_iter().map(Into::into).collect(), options });
    }

    /// Unsubscribes topics, in this connection and later ones; [`Event::Unsubscribed`] reports the end of
    /// each.
    pub fn unsubscribe<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) {
        self.command(Command::Unsubscribe { topics: topics.into_iter().map(Into::into).collect() });
    }

    /// Compares the images of up to 64 topics with the server's; [`Event::Verified`] has the result.
    pub fn verify<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) {
        self.command(Command::Verify { topics: topics.into_iter().map(Into::into).collect() });
    }

    /// Controls what the server plays, if it allows this session to; [`Event::Replay`] has the state after
    /// it.
    pub fn replay(&self, action: ReplayAction) {
        self.command(Command::Replay(action));
    }

    /// Asks the server to inject a fault into this connection for a while, or until the next fault, if it
    /// allows that (`--allow-faults`): [`Event::Fault`] or [`Event::Error`] answers. For tests of this
    /// client's users.
    pub fn fault(&self, fault: Fault, lasts: Option<Duration>) {
        self.command(Command::Fault { fault, lasts });
    }

    fn command(&self, command: Command) {
        // After the end nothing receives it; the caller knows that from the stream's end.
        let _ = self.commands.send(command);
    }
}

impl Stream for Client {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        // Otherwise a caller that always finds an event starves the connection, where they share a thread.
        let coop = ready!(coop::poll_proceed(context));
        let events = &self.events;
        events.caller.register(context.waker());
        let mut mailbox = events.mailbox();
        let was_full = mailbox.is_full();
        let event = mailbox.take(Instant::now());
        if was_full && !mailbox.is_full() {
            events.taken.notify_one();
        }
        if event.is_none() && !mailbox.is_over() {
            return Poll::Pending;
        }
        coop.made_progress();
        Poll::Ready(event)
    }
}

impl Events {
    fn mailbox(&self) -> MutexGuard<'_, Mailbox> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection's end of [`Events`]; dropping it ends the stream.
struct Sender(Arc<Events>);

impl Sender {
    fn send(&self, event: Event) {
        self.0.mailbox().put(Instant::now(), event);
        self.0.caller.wake();
    }

    /// Waits until more events may be put in. Only events that cannot be merged fill the mailbox.
    async fn ready(&self) {
        while self.0.mailbox().is_full() {
            self.0.taken.notified().await;
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.mailbox().end();
        self.0.caller.wake();
    }
}

/// Moves frames between a socket and a session.
struct Shell {
    endpoint: Endpoint,
    session: Session,
    socket: Option<Socket>,
    events: Sender,
    gone: oneshot::Receiver<Infallible>,
}

/// The caller dropped the [`Client`].
struct Abandoned;

impl Shell {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        while !self.session.is_over() {
            // In this order: a busy socket must not delay commands, and unread frames are no silence.
            let done = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.handle(Input::Command(command)).await,
                    None => Err(Abandoned),
                },
                message = next(&mut self.socket) => self.message(message).await,
                () = sleep_until(self.session.deadline()) => self.handle(Input::Tick).await,
            };
            let is_ready = tokio::select! {
                () = self.events.ready() => true,
                _ = &mut self.gone => false,
            };
            if done.is_err() || !is_ready {
                break;
            }
        }
        if let Some(mut socket) = self.socket {
            let frame = CloseFrame { code: FrameCode::Normal, reason: "".into() };
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.close(Some(frame))).await;
        }
    }

    async fn message(&mut self, message: Option<Result<Message, Error>>) -> Result<(), Abandoned> {
        let input = match &message {
            Some(Ok(Message::Text(text))) => Input::Text(text),
            Some(Ok(Message::Binary(bytes))) => Input::Binary(bytes),
            Some(Ok(Message::Close(frame))) => {
                self.socket = None;
                let code = frame.as_ref().map(|frame| CloseCode(frame.code.into()));
                Input::Closed { code, reason: closed(frame.as_ref()) }
            }
            // Pings are answered by the library.
            Some(Ok(_)) => return Ok(()),
            Some(Err(error)) => {
                self.socket = None;
                Input::Closed { code: None, reason: reason(error) }
            }
            None => {
                self.socket = None;
                Input::Closed { code: None, reason: "the connection ended".to_owned() }
            }
        };
        self.handle(input).await
    }

    /// Passes an input to the session and carries out its outputs, until none is left.
    async fn handle(&mut self, input: Input<'_>) -> Result<(), Abandoned> {
        let mut outputs = Vec::new();
        self.session.handle(Instant::now(), input, &mut outputs);
        while !outputs.is_empty() {
            let mut more = Vec::new();
            for output in outputs {
                match output {
                    Output::Connect => {
                        let result = self.connect().await?;
                        self.session.handle(Instant::now(), result, &mut more);
                    }
                    Output::Send(text) => {
                        let Some(socket) = &mut self.socket else { continue };
                        if let Err(error) = socket.send(Message::text(text)).await {
                            self.socket = None;
                            let reason = reason(&error);
                            let closed = Input::Closed { code: None, reason };
                            self.session.handle(Instant::now(), closed, &mut more);
                        }
                    }
                    Output::Disconnect => self.socket = None,
                    Output::Event(event) => self.events.send(event),
                }
            }
            outputs = more;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<Input<'static>, Abandoned> {
        let attempt = tokio::time::timeout(CONNECT_TIMEOUT, open(&self.endpoint));
        let result = tokio::select! {
            result = attempt => result,
            _ = &mut self.gone => return Err(Abandoned),
        };
        Ok(match result {
            Ok(Ok(socket)) => {
                self.socket = Some(socket);
                Input::Connected
            }
            Ok(Err(error)) => failed(&error),
            Err(_) => {
                let reason = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
                Input::Failed { reason, retry: true, after: None }
            }
        })
    }
}

async fn open(endpoint: &Endpoint) -> Result<Socket, Error> {
    let uri: http::Uri = endpoint.websocket().parse().map_err(|e| Error::HttpFormat(http::Error::from(e)))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(PROTOCOL_MSGPACK);
    let config = WebSocketConfig::default()
        .read_buffer_size(MAX_UPDATE_BYTES)
        .max_message_size(Some(16 * MAX_UPDATE_BYTES))
        .max_frame_size(Some(16 * MAX_UPDATE_BYTES));
    let (socket, _) = connect_async_with_config(request, Some(config), true).await?;
    Ok(socket)
}

/// What a failed attempt means: a server that refuses will refuse again, unless it is only busy.
fn failed(error: &Error) -> Input<'static> {
    let Error::Http(answer) = error else {
        // A wrong handshake answer comes from something other than a Tickcast server.
        let retry = matches!(error, Error::Io(_) | Error::ConnectionClosed);
        return Input::Failed { reason: reason(error), retry, after: None };
    };
    let status = answer.status();
    let problem: Option<serde_json::Value> =
        answer.body().as_ref().and_then(|body| serde_json::from_slice(body).ok());
    let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str()).unwrap_or_default();
    let after = answer.headers().get("retry-after").and_then(|after| after.to_str().ok()?.parse().ok());
    Input::Failed {
        reason: format!("the server answered {status}{}{detail}", if detail.is_empty() { "" } else { ": " }),
        retry: status.is_server_error() || status.as_u16() == 429,
        after: after.map(Duration::from_secs),
    }
}

/// An error of the system, as of a connection or a name without an address, is given in the system's words.
fn reason(error: &Error) -> String {
    match error {
        Error::Io(of_system) => of_system.to_string(),
        other => other.to_string(),
    }
}

fn closed(frame: Option<&CloseFrame>) -> String {
    let Some(CloseFrame { code, reason }) = frame else { return "closed without a code".to_owned() };
    let code = CloseCode((*code).into());
    let reason = if reason.is_empty() { code.meaning() } else { Some(reason.as_str()) };
    match reason {
        Some(reason) => format!("closed with {code}: {reason}"),
        None => format!("closed with {code}"),
    }
}

/// The socket's next message; pends while there is no socket.
async fn next(socket: &mut Option<Socket>) -> Option<Result<Message, Error>> {
    match socket {
        Some(socket) => socket.next().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
