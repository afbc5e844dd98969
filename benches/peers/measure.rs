//! One run of one server under the workload.

use crate::dialect::{Dialect, Role};
use crate::load::{Load, Schedule, micros};
use crate::server::{Program, Server, core_ticks};
use anyhow::{Context, Result};
use serde::Serialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Published, but not measured, so that caches are warm and just-in-time compilers done.
const WARM_UP_SECONDS: u32 = 2;
/// How long after the last message a server may take to deliver what is pending.
const DRAIN: Duration = Duration::from_secs(3);
const CONNECTED_TOGETHER: usize = 100;

/// So many subscribers of one topic, and what is published to it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Workload {
    pub clients: usize,
    /// Messages a second.
    pub rate: u32,
    /// Of a message.
    pub bytes: usize,
    /// Measured.
    pub seconds: u32,
}

/// The results of one run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Run {
    /// The server's CPU time for each message delivered to one subscriber, in µs.
    pub cpu_micros: f64,
    /// The part of it spent in the server's own code; the rest is the kernel's, mostly for sending.
    pub user_part: f64,
    /// From the moment at which a message was due until its subscriber read it, in µs, of all that were due;
    /// `None` where it was not delivered at all within a few seconds after the last was due.
    pub p50_micros: Option<u32>,
    pub p99_micros: Option<u32>,
    /// Memory for each connection before anything was published.
    pub bytes_per_connection: f64,
    /// On the wire for each message, WebSocket header included.
    pub bytes_per_message: f64,
    pub received: u64,
    pub expected: u64,
    /// Part of its core's time that the server had to leave to others.
    pub others_part: f64,
}

impl Run {
    /// Of the messages that were published.
    pub fn part_received(&self) -> f64 {
        ratio(self.received, self.expected)
    }

    /// Starts the server on the first core and loads it from the second one, on which this thread is.
    pub fn new(
        program: &Program,
        dialect: Dialect,
        port: u16,
        core: usize,
        log: &Path,
        work: &Workload,
    ) -> Result<Self> {
        let mut server = Server::start(program, core, log)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut load = Load::new(address, dialect, work.clients)?;
        connect_first(&mut load, &mut server)?;
        let resident = server.resident()?;
        for number in 1..work.clients {
            load.connect(Role::Subscriber)?;
            if number % CONNECTED_TOGETHER == 0 {
                load.wait_for_all()?;
            }
        }
        load.wait_for_all()?;
        load.idle(Duration::from_secs(1))?;
        let connected = server.resident()?.saturating_sub(resident);
        load.connect(Role::Publisher)?;
        load.wait_for_all()?;
        let delivered = Delivered::new(&mut load, &mut server, core, work)?;
        Ok(delivered.told(connected, work))
    }
}

/// The first connection, which is there when the server is.
fn connect_first(load: &mut Load, server: &mut Server) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    while let Err(error) = load.connect(Role::Subscriber) {
        server.check()?;
        if Instant::now() > until {
            return Err(error).context("the server does not listen after 10 s");
        }
        load.idle(Duration::from_millis(20))?;
    }
    load.wait_for_all()?;
    load.idle(Duration::from_millis(300))
}

struct Delivered {
    cpu: Duration,
    user_part: f64,
    messages: u64,
    bytes: u64,
    latencies: Vec<u32>,
    expected: u64,
    others_part: f64,
}

impl Delivered {
    /// Publishes, and counts what arrives.
    fn new(load: &mut Load, server: &mut Server, core: usize, work: &Workload) -> Result<Self> {
        let warm_up = WARM_UP_SECONDS * work.rate;
        let count = warm_up + work.seconds * work.rate;
        let schedule = Schedule {
            start: micros() + 100_000,
            period: 1e6 / f64::from(work.rate),
            count,
            bytes: work.bytes,
        };
        let from = schedule.due(warm_up);
        let until = schedule.due(count) + u64::try_from(DRAIN.as_micros())?;
        let expected = u64::from(count - warm_up) * work.clients as u64;
        load.tally.measured_from = from;
        load.tally.latencies.reserve(usize::try_from(expected)?);

        let publisher = load.publisher()?;
        let (stop, dialect) = (AtomicBool::new(false), load.dialect());
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| schedule.publish(dialect, publisher, &stop));
            let counted = (|| {
                while micros() < from {
                    load.turn()?;
                }
                let begun = (server.cpu()?, load.tally.messages, load.message_bytes());
                let (busy, all) = core_ticks(core)?;
                while micros() < until && (load.tally.latencies.len() as u64) < expected {
                    load.turn()?;
                }
                let cpu = server.cpu()?;
                let now = core_ticks(core)?;
                let user = cpu.user_ticks.saturating_sub(begun.0.user_ticks);
                let system = cpu.system_ticks.saturating_sub(begun.0.system_ticks);
                Ok(Self {
                    cpu: cpu.total.saturating_sub(begun.0.total),
                    user_part: ratio(user, user + system),
                    messages: load.tally.messages - begun.1,
                    bytes: load.message_bytes() - begun.2,
                    latencies: std::mem::take(&mut load.tally.latencies),
                    expected,
                    others_part: ratio((now.0 - busy).saturating_sub(user + system), now.1 - all),
                })
            })();
            stop.store(true, Ordering::Relaxed);
            publishing.join().expect("the publisher does not panic").context("publishing")?;
            counted.or_else(|error: anyhow::Error| {
                // The output of an ended server says more than the error of its connection.
                server.check()?;
                Err(error)
            })
        })
    }

    fn told(mut self, connected: u64, work: &Workload) -> Run {
        self.latencies.sort_unstable();
        let percentile = |percent: u64| {
            let at = usize::try_from(self.expected * percent / 100).ok()?;
            self.latencies.get(at).copied()
        };
        Run {
            cpu_micros: self.cpu.as_secs_f64() * 1e6 * ratio(1, self.messages),
            user_part: self.user_part,
            p50_micros: percentile(50),
            p99_micros: percentile(99),
            bytes_per_connection: ratio(connected, work.clients as u64 - 1),
            bytes_per_message: ratio(self.bytes, self.messages),
            received: self.latencies.len() as u64,
            expected: self.expected,
            others_part: self.others_part,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn ratio(of: u64, to: u64) -> f64 {
    of as f64 / to as f64
}
