//! Tickcast: live market-data push. Events flow one way:
//! feed → tape (the log) → hub (what each subscriber is owed) → wire → server → client.
#![forbid(unsafe_code)]
#![warn(clippy::pedantic)]

pub mod cli;
pub mod client;
pub mod feed;
pub mod hub;
pub mod market; // Symbol, Price, Quote, Trade, Bar: the words the rest is written in // simulator, replay, publish: where events come from
pub mod server;
pub mod tape; // the ordered log: gives every event its place // topics, images, rings: what each subscriber is owed
pub mod wire; // the protocol: messages, their two forms, WebSocket frames // sockets: HTTP, the upgrade, the fan-out shards, shutdown // one file a subcommand
