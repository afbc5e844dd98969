//! Everything with a socket: HTTP routes, the WebSocket upgrade, the fan-out shards.

pub mod fanout;
