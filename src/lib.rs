//! Tickcast: live market-data push. Events flow one way:
//! feed → tape (the log) → hub (what each subscriber is owed) → wire → server → client.
//!
//! Without the feature `server`, which is on by default, this is the client alone: [`client`], and what it is
//! made of.
//!
//! The modules are declared in that order, and each knows only those above it; `docs/architecture.md` says
//! why.
#![forbid(unsafe_code)]
#![warn(clippy::pedantic)]
#![expect(
    clippy::missing_panics_doc,
    reason = "an `expect` states what cannot happen; real panics are documented"
)]
#![expect(clippy::similar_names, reason = "size and side are the field's own words")]

mod hint; // what a misspelt name was meant to be

#[warn(missing_docs)]
pub mod market; // Symbol, Price, Quote, Trade, Bar: the words the rest is written in

#[cfg(feature = "server")]
pub mod recording; // the `.tape` form: batches written, and read back

#[cfg(feature = "server")]
pub mod feed; // simulator, replay, publish: where events come from

pub mod tape; // the ordered log: gives every event its place

pub mod hub; // topics, images, rings: what each subscriber is owed

#[cfg(feature = "server")]
pub mod record; // recordings as they are made: files, checkpoints, a thread that writes

pub mod wire; // the protocol: messages, their two forms, WebSocket frames

#[cfg(feature = "server")]
pub mod server; // sockets: HTTP, the upgrade, the fan-out shards, shutdown

#[warn(missing_docs)]
pub mod client; // the same wire, read from the other end

#[cfg(feature = "server")]
pub mod bench; // measures a server from outside, very many clients in one thread

#[cfg(feature = "server")]
pub mod cli; // one file a subcommand

/// The README's Rust is compiled with the documentation's.
#[cfg(all(doctest, feature = "server"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
