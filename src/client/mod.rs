//! The client: connects, subscribes, returns a stream of events, reconnects and resumes.
//!
//! ```no_run
//! use tickcast::client::{Client, Event, Options};
//! use tokio_stream::StreamExt;
//!
//! # async fn example() -> Result<(), tickcast::client::EndpointError> {
//! let mut client = Client::connect("ws://127.0.0.1:8080")?;
//! client.subscribe(["quote:AAPL", "trades:AAPL"], Options::default());
//! while let Some(event) = client.next().await {
//!     if let Event::Update { changes, .. } = event {
//!         println!("{changes:?}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A consumer that keeps up gets each update as it came, in order. For a slower one, pending updates are
//! merged: an image keeps the newest value of each field; a ring keeps all trades and closed bars in order,
//! up to 1,024 each (some 65,536 in all), and reports older ones as a [`Change::Gap`]. An [`Event::Update`]
//! holds at most some 64 changes, so that the last of them is not old when it is handled; a large update
//! comes as several of the same position. If data are over a second old nevertheless, because of the
//! connection or the consumer, [`Event::Lagging`] reports how old, and [`Event::Live`] that they are new
//! again.
//!
//! Requests are batched: topics may be subscribed one by one, as often as one likes.
//!
//! A [`Session`] decides, given frames and the time; an [`Image`] is its state; [`Client`] moves the bytes.

mod backoff;
mod channels;
mod conflation;
mod connection;
mod endpoint;
mod image;
mod requests;
mod session;
mod subscriptions;

#[cfg(feature = "server")] // `tickcast publish` and `record` back off as a client does.
pub(crate) use backoff::Backoff;
pub use connection::Client;
pub use endpoint::{Endpoint, EndpointError};
pub use image::{Book, Change, Image};
pub use session::{Command, Event, Input, Options, Output, Session};
