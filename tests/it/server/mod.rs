//! The running server, seen from outside: over HTTP, over WebSocket, and over plain TCP where rules are to be
//! broken.
#![warn(clippy::pedantic)]

mod schemas;
mod support;
mod trap;

mod channels;
mod clock;
mod commands;
mod documents;
mod doors;
mod every_door;
mod faults;
mod framing;
mod handshake;
mod history;
mod limits;
mod log;
mod metrics;
mod pacing;
mod polls;
mod publish;
mod replay;
mod rest;
mod resume;
mod rooms;
mod scenario;
mod shutdown;
mod slow_clients;
mod socketio;
mod speed;
mod stats;
mod streams;
mod subscriptions;
