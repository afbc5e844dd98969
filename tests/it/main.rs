//! The integration tests, in one program, which is built and linked once: the program as people run it, the
//! library from outside.
#![deny(unsafe_code)]

mod allocator;

mod allocations;
mod architecture;
mod bars;
mod bench;
mod bytes;
mod checkpoints;
mod client;
mod convert;
mod fanout;
mod formats;
#[cfg(target_os = "linux")] // It reads `/proc`, and connects from several addresses of the loopback network.
mod memory;
mod parquet;
mod past;
mod polls;
mod real_session;
mod record;
mod recordings;
mod replay;
mod scenario;
mod server;
mod sharing;
mod sizes;
mod sums;
mod update_json;
mod vectors;

/// The released program, for what is true of it alone.
fn released() -> String {
    std::env::var("TICKCAST_BIN").expect("TICKCAST_BIN names the released program")
}
