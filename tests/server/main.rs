//! The running server, seen from outside: over HTTP, over WebSocket, and over plain TCP where rules are to be broken.
#![forbid(unsafe_code)]
#![warn(clippy::pedantic)]

mod support;

mod faults;
mod framing;
mod handshake;
mod metrics;
mod pacing;
mod publish;
mod replay;
mod rest;
mod resume;
mod rooms;
mod scenario;
mod shutdown;
mod slow_clients;
mod stats;
mod subscriptions;
