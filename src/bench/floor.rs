//! What every server must pay: a bare loop of `send`, of the same bytes at the same moments, to as many sockets.

use super::BenchError;
use super::session::Clock;
use super::swarm::Peer;
use hdrhistogram::Histogram;
use rustix::net::SendFlags;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What to send to whom. Connections are in groups; all of one are sent the same.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// How many connections to wait for.
    pub connections: usize,
    /// µs after the start, group, bytes; in order of time.
    pub sends: Vec<(u64, u32, u32)>,
}

/// When each message of a group is due (µs after the start) and how many bytes the group was sent with it.
pub type Messages = Vec<(u64, u64)>;

/// The client's side of one connection: counts bytes.
#[derive(Debug)]
pub struct FloorPeer {
    group: u32,
    messages: Arc<Messages>,
    received: u64,
    next: usize,
}

#[derive(Debug)]
pub struct FloorNotes {
    pub clock: Option<Clock>,
    pub latency: Histogram<u64>,
    pub messages: u64,
}

impl Plan {
    /// Of logs of updates, one a group: when each was due on the tape's clock, and its length.
    #[must_use]
    pub fn new(connections: usize, logs: &[Vec<(i64, u32)>], clock: &Clock) -> Self {
        let first = logs.iter().filter_map(|log| log.first()).map(|&(micros, _)| clock.due(micros)).min();
        let mut sends = Vec::new();
        for (group, log) in (0..).zip(logs) {
            for &(micros, bytes) in log {
                let after =
                    clock.due(micros).saturating_duration_since(first.expect("a log that has entries"));
                sends.push((u64::try_from(after.as_micros()).unwrap_or(u64::MAX), group, bytes));
            }
        }
        sends.sort_unstable();
        Self { connections, sends }
    }

    /// What a group is sent.
    #[must_use]
    pub fn messages(&self, group: u32) -> Messages {
        let of_group = self.sends.iter().filter(|send| send.1 == group);
        of_group
            .scan(0, |sum, &(due, _, bytes)| {
                *sum += u64::from(bytes);
                Some((due, *sum))
            })
            .collect()
    }

    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_micros(self.sends.last().map_or(0, |send| send.0))
    }
}

impl FloorPeer {
    pub fn new(group: u32, messages: Arc<Messages>) -> Self {
        Self { group, messages, received: 0, next: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.next == self.messages.len()
    }
}

impl Peer for FloorPeer {
    type Notes = FloorNotes;

    fn received(
        &mut self,
        bytes: &[u8],
        at: Instant,
        notes: &mut FloorNotes,
        _: &mut Vec<u8>,
    ) -> Result<(), String> {
        self.received += bytes.len() as u64;
        let Some(clock) = notes.clock else { return Err("bytes before the start".to_owned()) };
        while let Some(&(due, sum)) = self.messages.get(self.next)
            && sum <= self.received
        {
            let late = clock.late(i64::try_from(due).unwrap_or(i64::MAX), at);
            notes.latency.saturating_record(late.max(1));
            notes.messages += 1;
            self.next += 1;
        }
        Ok(())
    }

    fn greeting(&self) -> Vec<u8> {
        self.group.to_be_bytes().to_vec()
    }

    fn is_open(&self) -> bool {
        true
    }
}

/// The server's side: takes a [`Plan`] as one line of JSON from `input`, prints where it listens, and carries the plan out once the
/// next line tells the moment to start at, in µs since 1970.
///
/// # Errors
/// Those of its sockets, and a plan that cannot be read.
pub fn serve(mut input: impl BufRead) -> Result<(), BenchError> {
    let mut line = String::new();
    let failed = |error: io::Error| BenchError::io("the floor", error);
    input.read_line(&mut line).map_err(failed)?;
    let plan: Plan = serde_json::from_str(&line).map_err(|error| BenchError::Answer(error.to_string()))?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    println!("http://{}", listener.local_addr().map_err(failed)?);
    let groups = accept(&listener, plan.connections).map_err(failed)?;
    line.clear();
    input.read_line(&mut line).map_err(failed)?;
    let start_micros: i64 =
        line.trim().parse().map_err(|_| BenchError::Answer(format!("no moment: {line:?}")))?;
    let ahead = start_micros - crate::market::Timestamp::now().micros();
    let start = Instant::now() + Duration::from_micros(ahead.max(0).unsigned_abs());
    let longest = plan.sends.iter().map(|send| send.2).max().unwrap_or(0);
    let bytes = vec![0x42; longest as usize];
    for &(after, group, len) in &plan.sends {
        let now = start.elapsed();
        if let Some(early) = Duration::from_micros(after).checked_sub(now) {
            // Before the start `elapsed` is 0.
            std::thread::sleep(early + start.saturating_duration_since(Instant::now()));
        }
        for stream in groups.get(group as usize).into_iter().flatten() {
            send_all(stream, &bytes[..len as usize]).map_err(failed)?;
        }
    }
    // Until nobody wants to measure it any more.
    line.clear();
    input.read_line(&mut line).map_err(failed)?;
    Ok(())
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
