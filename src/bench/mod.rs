//! Measures a server from outside: very many subscribers in one thread, how late each tick reaches them, and
//! what that costs the server compared to the least that it could cost.
//!
//! Timing is open-loop. A recording states when each tick is due; its latency counts from then on, whatever
//! the server did meanwhile, and for a tick that was merged into a later one until that arrived. So a server
//! that stalls cannot hide it by sending less.

mod door;
mod floor;
mod idle;
mod process;
mod ramp;
mod report;
mod run;
mod session;
mod swarm;
mod workload;

pub use door::Door;
pub use floor::serve as serve_floor;
pub use idle::{Idle, idle};
pub use ramp::{Step, ramp};
pub use report::{Limits, Report, Round, Slow, show};
pub use run::{Feed, Plan, Progress, Server, Stall, Topics, measure, playing};
pub use swarm::Wake;
pub use workload::{Market, Timelines, record};

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    #[error("{what}: {error}")]
    Io { what: String, error: std::io::Error },
    #[error("{0}")]
    Feed(String),
    #[error("{0}")]
    Answer(String),
    #[error("the server did not start; what it said stands above")]
    NoServer,
    #[error("the server has ended")]
    ServerEnded,
    #[error("{0}")]
    Plan(String),
}

impl BenchError {
    fn io(what: &str, error: impl Into<std::io::Error>) -> Self {
        Self::Io { what: what.to_owned(), error: error.into() }
    }
}
