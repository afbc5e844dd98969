//! Tickcast: live market-data push. Events flow one way:
//! feed → tape (the log) → hub (what each subscriber is owed) → wire → server → client.
//!
//! The modules are declared in that order, and each knows only those above it; `docs/architecture.md` says why.
#![forbid(unsafe_code)]
#![warn(clippy::pedantic)]
#![expect(
    clippy::missing_panics_doc,
    reason = "an `expect` states what cannot happen; real panics are documented"
)]
#![expect(clippy::similar_names, reason = "size and side are the field's own words")]

pub mod market; // Symbol, Price, Quote, Trade, Bar: the words the rest is written in

pub mod feed; // simulator, replay, publish: where events come from

pub mod tape; // the ordered log: gives every event its place

pub mod hub; // topics, images, rings: what each subscriber is owed

pub mod record; // recordings as they are made: files, checkpoints, a thread that writes

pub mod wire; // the protocol: messages, their two forms, WebSocket frames

pub mod server; // sockets: HTTP, the upgrade, the fan-out shards, shutdown

pub mod client; // the same wire, read from the other end

pub mod bench; // measures a server from outside, very many clients in one thread

pub mod cli; // one file a subcommand

/// The README's Rust is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
