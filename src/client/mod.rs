//! The wire, read from the other end: connect, subscribe, a stream of events, reconnect and resume.
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
//! A [`Session`] decides, given frames and the time; an [`Image`] is what it knows; [`Client`] moves the bytes.

mod backoff;
mod connection;
mod endpoint;
mod image;
mod session;
mod subscriptions;

pub use connection::Client;
pub use endpoint::{Endpoint, EndpointError};
pub use image::{Book, Change, Image};
pub use session::{Command, Event, Input, Options, Output, Session};
