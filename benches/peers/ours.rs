//! The two servers that are written here: the floor, and the usual first attempt.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use rustix::net::{SendFlags, send};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use tokio::sync::broadcast;

/// A frame without content: the connection was accepted.
const GREETING: &[u8] = &[0x81, 0];

/// The least cost of any server: the same bytes in one `send` to each socket, and nothing else.
///
/// The first connections are the subscribers, one more is the publisher's. It sends frames of `frame` bytes;
/// each is forwarded unchanged to all others.
///
/// # Errors
/// The operating system's.
pub fn floor(port: u16, subscribers: usize, frame: usize) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    let accept = || -> io::Result<TcpStream> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        // A client that gets this is subscribed before those that connect later.
        stream.write_all(GREETING)?;
        Ok(stream)
    };
    let subscribers = (0..subscribers).map(|_| accept()).collect::<io::Result<Vec<_>>>()?;
    let mut publisher = accept()?;
    let mut bytes = vec![0; frame];
    loop {
        publisher.read_exact(&mut bytes)?;
        for subscriber in &subscribers {
            // What a socket does not take is lost, and missing from its subscriber's count.
            let _ = send(subscriber, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
}

type Channel = broadcast::Sender<Message>;

/// A task per client that waits for a `tokio::sync::broadcast` and for its socket; all settings at their
/// defaults but for `TCP_NODELAY`, without which small frames wait for each other.
///
/// # Errors
/// The operating system's.
#[tokio::main]
pub async fn axum(port: u16) -> io::Result<()> {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let routes = Router::new().route("/subscribe", any(subscribe)).route("/publish", any(publish));
    axum::serve(listener, routes.with_state(Channel::new(1024))).await
}

async fn subscribe(upgrade: WebSocketUpgrade, State(channel): State<Channel>) -> Response {
    upgrade.on_upgrade(|mut socket: WebSocket| async move {
        let mut messages = channel.subscribe();
        loop {
            let sent = tokio::select! {
                message = messages.recv() => match message {
                    Ok(message) => socket.send(message).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => Ok(()),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                request = socket.recv() => match request {
                    Some(request) => request.map(drop),
                    None => return,
                },
            };
            if sent.is_err() {
                return;
            }
        }
    })
}

async fn publish(upgrade: WebSocketUpgrade, State(channel): State<Channel>) -> Response {
    upgrade.on_upgrade(|mut socket: WebSocket| async move {
        while let Some(Ok(message)) = socket.recv().await {
            // An error only means that there is no receiver.
            let _ = channel.send(message);
        }
    })
}
