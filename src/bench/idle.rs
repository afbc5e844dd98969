use super::BenchError;
use super::process::{Pinned, Process, get};
use super::run::{CONNECTING, Progress, cores, growth, mib};
use super::session::{Notes, Session};
use super::swarm::{Swarm, Wake};
use super::{Plan, Topics};
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The cost of idle connections: one round of connecting and closing them all.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Idle {
    pub clients: f64,
    pub server: Memory,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "named as in the report of a run")]
pub struct Memory {
    /// After the first client has connected and closed.
    pub rss_mib_before: f64,
    pub rss_mib_connected: f64,
    pub rss_mib_disconnected: f64,
    /// Growth from before until all are connected in this round, per client.
    pub rss_bytes_per_connection: f64,
}

/// How long a server may take to notice that all clients are gone.
const LEAVING: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Connects all clients of a plan to a server of its own without events, and closes them, `rounds` times.
///
/// # Errors
/// As [`super::measure`].
pub fn idle(plan: &Plan, rounds: usize, progress: Progress<'_>) -> Result<Vec<Idle>, BenchError> {
    let super::Server::Own { shards, .. } = plan.server else {
        return Err(BenchError::Plan("the memory of a server elsewhere cannot be seen from here".to_owned()));
    };
    let Topics::Same(topics) = &plan.topics else {
        return Err(BenchError::Plan("idle clients all have the same topics".to_owned()));
    };
    let (server_cores, client_cores) = cores(&plan.server)?;
    let args = ["serve", "--while-stdin", "--listen", "127.0.0.1:0", "--feed", "none", "--shards"]
        .map(str::to_owned);
    let numbers = [shards.to_string(), "--max-connections".to_owned(), (plan.clients + 100).to_string()];
    let args: Vec<String> = args.into_iter().chain(numbers).collect();
    let process = Process::start(&args, &server_cores, None)?;
    let _pinned = Pinned::to(&client_cores)?;
    let names: Vec<String> = topics.iter().map(ToString::to_string).collect();
    let greeting = Arc::new(plan.door.greeting(&process.address.to_string(), &names, plan.max_hz));
    let round = |clients: usize, progress: &mut dyn FnMut(usize)| -> Result<u64, BenchError> {
        let sessions =
            (0..clients).map(|_| Session::new(plan.door, Arc::clone(&greeting), None, false, false));
        let mut swarm =
            Swarm::new(Notes::default(), Wake::Looks).map_err(|error| BenchError::io("polling", error))?;
        let deadline = Instant::now() + CONNECTING;
        swarm
            .connect(process.address, sessions, &plan.sources, deadline, progress)
            .map_err(|error| BenchError::io(&format!("connecting to {}", process.address), error))?;
        swarm
            .run(Instant::now() + plan.warm_up, |_| false)
            .map_err(|error| BenchError::io("polling", error))?;
        let connected = process.usage()?.resident_bytes;
        drop(swarm);
        let deadline = Instant::now() + LEAVING;
        while connections(&process)? > 0.0 {
            if Instant::now() > deadline {
                return Err(BenchError::Plan(
                    "the server still counts clients that are long gone".to_owned(),
                ));
            }
            std::thread::sleep(ASK_EVERY);
        }
        Ok(connected)
    };
    // The first client loads the program's own code into memory.
    round(1, &mut |_| ())?;
    let before = process.usage()?.resident_bytes;
    let mut all = Vec::new();
    for _ in 0..rounds {
        #[expect(clippy::cast_precision_loss, reason = "a part of a whole")]
        let connected =
            round(plan.clients, &mut |open| progress("connecting", open as f64 / plan.clients as f64))?;
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let clients = plan.clients as f64;
        all.push(Idle {
            clients,
            server: Memory {
                rss_mib_before: mib(before),
                rss_mib_connected: mib(connected),
                rss_mib_disconnected: mib(process.usage()?.resident_bytes),
                rss_bytes_per_connection: growth(before, connected) / clients,
            },
        });
    }
    Ok(all)
}

/// How many clients the server counts.
fn connections(process: &Process) -> Result<f64, BenchError> {
    let text = get(process.address, "/metrics").map_err(|error| BenchError::io("GET /metrics", error))?;
    let counts = text.lines().filter(|line| {
        line.starts_with("tickcast_connections{") || line.starts_with("tickcast_connections ")
    });
    Ok(counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum())
}
