//! The least cost of any server: a bare loop of `send`, of the same bytes at the same moments, to as many
//! sockets.

mod measure;

pub use measure::Floor;

use super::BenchError;
use super::session::{Clock, Log};
use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{self, BufRead, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// What to send to which connections. They are in groups; all of a group are sent the same.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// How many connections to wait for.
    pub connections: usize,
    /// µs after the start, group, bytes; in order of time.
    pub sends: Vec<(u64, u32, u32)>,
    /// How many bytes each group is sent in all; these bytes follow the plan.
    pub lengths: Vec<u64>,
}

impl Plan {
    /// From logs of updates, one per group, the first of which is due `at` on the tape's clock.
    #[must_use]
    pub fn new(connections: usize, logs: &[Log], at: i64, clock: &Clock) -> Self {
        let start = clock.due(at);
        let mut sends = Vec::new();
        for (group, log) in (0..).zip(logs) {
            for &(micros, bytes) in &log.frames {
                let after = clock.due(micros).saturating_duration_since(start);
                sends.push((u64::try_from(after.as_micros()).unwrap_or(u64::MAX), group, bytes));
            }
        }
        // Stable: frames of a group that are due at once keep their order.
        sends.sort_by_key(|send| send.0);
        Self { connections, sends, lengths: logs.iter().map(|log| log.bytes.len() as u64).collect() }
    }

    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_micros(self.sends.last().map_or(0, |send| send.0))
    }
}

/// The server's side: reads a `Plan` as one line of JSON from `input`, followed by the bytes of each group,
/// prints its address, and carries the plan out once the next line states the moment to start at, in µs since
/// 1970.
///
/// # Errors
/// Those of its sockets, and a plan that cannot be read.
pub fn serve(mut input: impl BufRead) -> Result<(), BenchError> {
    let mut line = String::new();
    let failed = |error: io::Error| BenchError::io("the floor", error);
    input.read_line(&mut line).map_err(failed)?;
    let plan: Plan = serde_json::from_str(&line).map_err(|error| BenchError::Answer(error.to_string()))?;
    let mut bytes = Vec::new();
    for &length in &plan.lengths {
        let mut group = Vec::new();
        (&mut input).take(length).read_to_end(&mut group).map_err(failed)?;
        bytes.push(group);
    }
    let listener = listen().map_err(failed)?;
    println!("http://{}", listener.local_addr().map_err(failed)?);
    let groups = accept(&listener, plan.connections).map_err(failed)?;
    line.clear();
    input.read_line(&mut line).map_err(failed)?;
    let start_micros: i64 =
        line.trim().parse().map_err(|_| BenchError::Answer(format!("no moment: {line:?}")))?;
    let ahead = start_micros - crate::market::Timestamp::now().micros();
    let start = Instant::now() + Duration::from_micros(ahead.max(0).unsigned_abs());
    let mut sent = vec![0; bytes.len()];
    for &(after, group, len) in &plan.sends {
        let now = start.elapsed();
        if let Some(early) = Duration::from_micros(after).checked_sub(now) {
            // Before the start `elapsed` is 0.
            std::thread::sleep(early + start.saturating_duration_since(Instant::now()));
        }
        let group = group as usize;
        let (from, to) = (sent[group], sent[group] + len as usize);
        let frame = bytes[group]
            .get(from..to)
            .ok_or_else(|| BenchError::Answer("fewer bytes than planned".to_owned()))?;
        sent[group] = to;
        for stream in groups.get(group).into_iter().flatten() {
            send_all(stream, frame).map_err(failed)?;
        }
    }
    // Until the measuring process closes it.
    line.clear();
    input.read_line(&mut line).map_err(failed)?;
    Ok(())
}

/// With a longer backlog than the standard library's, as all clients connect at once.
fn listen() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SockAddr::from(SocketAddr::from(([127, 0, 0, 1], 0))))?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Takes the connections, each into the group that it names.
fn accept(listener: &TcpListener, connections: usize) -> io::Result<Vec<Vec<TcpStream>>> {
    let mut groups: Vec<Vec<TcpStream>> = Vec::new();
    for _ in 0..connections {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut group = [0; 4];
        stream.read_exact(&mut group)?;
        let group = usize::try_from(u32::from_be_bytes(group)).unwrap_or(usize::MAX).min(connections);
        if groups.len() <= group {
            groups.resize_with(group + 1, Vec::new);
        }
        groups[group].push(stream);
    }
    Ok(groups)
}

fn send_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::net::send(stream, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
