use super::endpoint::{Endpoint, EndpointError};
use super::session::{Command, Event, Input, Options, Output, Session};
use crate::wire::{CloseCode, Fault, MAX_UPDATE_BYTES, PROTOCOL_MSGPACK, ReplayAction};
use futures_util::{SinkExt, StreamExt};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, coding::CloseCode as FrameCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

/// Events that may wait for the caller. Beyond these the socket is not read: the server then merges what it owes us, and
/// memory does not grow.
const EVENTS_WAITING: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A polite end must not keep anybody waiting.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A subscription to a server that survives lost connections: a [`Stream`] of [`Event`]s, which ends behind
/// [`Event::Closed`]. Dropping it closes the connection.
///
/// A caller that is slower than the market gets merged updates, not old ones. One that does not read at all for half a
/// minute is closed by the server, and resumes when it reads again.
#[derive(Debug)]
pub struct Client {
    commands: mpsc::UnboundedSender<Command>,
    events: mpsc::Receiver<Event>,
}

impl Client {
    /// Starts connecting to `ws://host:port` and keeps at it; what comes of it are events. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`EndpointError`] where `url` names no server that could be reached.
    pub fn connect(url: &str) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::parse(url)?;
        // Commands are the caller's own, and few.
        let (commands, receiver) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let session = Session::new(rand::random(), Instant::now());
        tokio::spawn(Shell { endpoint, session, socket: None, events: sender }.run(receiver));
        Ok(Self { commands, events })
    }

    /// Subscribes topics, in this connection and those that follow. The options hold for all topics from now on.
    pub fn subscribe<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>, options: Options) {
        self.command(Command::Subscribe { topics: topics.into_iter().map(Into::into).collect(), options });
    }

    pub fn unsubscribe<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) {
        self.command(Command::Unsubscribe { topics: topics.into_iter().map(Into::into).collect() });
    }

    /// Compares the images of up to 64 topics with the server's; [`Event::Verified`] tells.
    pub fn verify<T: Into<String>>(&self, topics: impl IntoIterator<Item = T>) {
        self.command(Command::Verify { topics: topics.into_iter().map(Into::into).collect() });
    }

    /// Controls what the server plays, where it lets this session; [`Event::Replay`] tells how it stands then.
    pub fn replay(&self, action: ReplayAction) {
        self.command(Command::Replay(action));
    }

    /// Asks the server to break this connection for a while, or until the next fault, where it lets its clients do that
    /// (`--allow-faults`): [`Event::Fault`] or [`Event::Error`] tells. For tests of whoever uses this client.
    pub fn fault(&self, fault: Fault, lasts: Option<Duration>) {
        self.command(Command::Fault { fault, lasts });
    }

    fn command(&self, command: Command) {
        // After the end there is nobody to hear it, as the stream's end has told.
        let _ = self.commands.send(command);
    }
}

impl Stream for Client {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }
}

/// Moves frames between a socket and a session.
struct Shell {
    endpoint: Endpoint,
    session: Session,
    socket: Option<Socket>,
    events: mpsc::Sender<Event>,
}

/// The caller has gone.
struct Abandoned;

impl Shell {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        while !self.session.is_over() {
            // In this order: a busy socket must not keep commands waiting, and frames that wait are no silence.
            let done = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.handle(Input::Command(command)).await,
                    None => Err(Abandoned),
                },
                message = next(&mut self.socket) => self.message(message).await,
                () = sleep_until(self.session.deadline()) => self.handle(Input::Tick).await,
            };
            if done.is_err() {
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
                Input::Closed { code: None, reason: error.to_string() }
            }
            None => {
                self.socket = None;
                Input::Closed { code: None, reason: "the connection ended".to_owned() }
            }
        };
        self.handle(input).await
    }

    /// Hands an input to the session and does what it says, until nothing is left to do.
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
                            let reason = error.to_string();
                            let closed = Input::Closed { code: None, reason };
                            self.session.handle(Instant::now(), closed, &mut more);
                        }
                    }
                    Output::Disconnect => self.socket = None,
                    Output::Event(event) => self.events.send(event).await.map_err(|_| Abandoned)?,
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
            () = self.events.closed() => return Err(Abandoned),
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
    let uri: hyper::Uri =
        endpoint.websocket().parse().map_err(|e| Error::HttpFormat(hyper::http::Error::from(e)))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(PROTOCOL_MSGPACK);
    let config = WebSocketConfig::default()
        .read_buffer_size(MAX_UPDATE_BYTES)
        .max_message_size(Some(16 * MAX_UPDATE_BYTES))
        .max_frame_size(Some(16 * MAX_UPDATE_BYTES));
    let (socket, _) = connect_async_with_config(request, Some(config), true).await?;
    Ok(socket)
}

/// What a failed attempt means: a server that answers no will say so again, unless it is only busy.
fn failed(error: &Error) -> Input<'static> {
    let Error::Http(answer) = error else {
        // A wrong handshake answer comes from something that is no server of ours.
        let retry = matches!(error, Error::Io(_) | Error::ConnectionClosed);
        return Input::Failed { reason: error.to_string(), retry, after: None };
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

fn closed(frame: Option<&CloseFrame>) -> String {
    match frame {
        Some(frame) if frame.reason.is_empty() => format!("closed with {}", u16::from(frame.code)),
        Some(frame) => format!("closed with {}: {}", u16::from(frame.code), frame.reason),
        None => "closed without a code".to_owned(),
    }
}

/// The socket's next message; never, while there is no socket.
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
