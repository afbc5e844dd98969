use super::Plan as Sends;
use crate::bench::BenchError;
use crate::bench::process::{Process, Usage, own_cpu};
use crate::bench::report::FloorSide;
use crate::bench::run::{AFTERWARDS, Audience, CONNECTING, LOOK_AT_MEMORY, Plan, Progress, latency_ms};
use crate::bench::session::{Clock, Log, Notes, Session};
use crate::bench::swarm::Swarm;
use crate::market::Timestamp;
use std::time::{Duration, Instant};

/// How long before its start a floor gets the moment of it.
const AHEAD: Duration = Duration::from_millis(500);

/// A running floor, and its clients, which handle its frames as the server's clients do.
pub struct Floor {
    process: Process,
    swarm: Swarm<Session>,
    /// On the tape's clock, µs: when its first frame was due.
    first: i64,
    speed: f64,
    length: Duration,
    /// Frames of all clients in all.
    frames: u64,
    before: Spent,
}

/// The counts at one moment.
#[derive(Clone, Copy, Default)]
struct Spent {
    usage: Usage,
    own_cpu: Duration,
    frames: u64,
}

impl Floor {
    /// Starts a floor that sends these logs, and connects its clients.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(
        plan: &Plan,
        logs: &[Log],
        audience: &Audience,
        clock: &Clock,
        cores: &[usize],
    ) -> Result<Self, BenchError> {
        let first = logs.iter().filter_map(|log| log.frames.first()).map(|frame| frame.0).min().unwrap_or(0);
        let sends = Sends::new(plan.clients, logs, first, clock);
        let mut input = serde_json::to_vec(&sends).expect("numbers");
        input.push(b'\n');
        for log in logs {
            input.extend_from_slice(&log.bytes);
        }
        let process = Process::start(&["floor".to_owned()], cores, Some(&input))?;
        let mut swarm =
            Swarm::new(Notes::default(), plan.wake).map_err(|error| BenchError::io("polling", error))?;
        let peers = (0..plan.clients).map(|client| {
            let group = client % logs.len();
            let timeline = audience[group % audience.len()].1.clone();
            Session::again(plan.door, &logs[group], u32::try_from(group).expect("few groups"), timeline)
        });
        swarm
            .connect(process.address, peers, &plan.sources, Instant::now() + CONNECTING, |_| ())
            .map_err(|error| BenchError::io("connecting to the floor", error))?;
        let frames = (0..plan.clients).map(|client| logs[client % logs.len()].frames.len() as u64).sum();
        let (length, speed) = (sends.length(), clock.speed);
        Ok(Self { process, swarm, first, speed, length, frames, before: Spent::default() })
    }

    /// How long it sends.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// Lets it run by itself, to its end.
    ///
    /// # Errors
    /// The operating system's.
    pub fn run(&mut self, progress: Progress<'_>) -> Result<FloorSide, BenchError> {
        let start = self.begin(Instant::now() + AHEAD)?;
        self.count_from_here()?;
        let (mut looked, length, frames) = (start, self.length, self.frames);
        self.swarm
            .run(start + length + AFTERWARDS, |swarm| {
                if looked.elapsed() < LOOK_AT_MEMORY {
                    return false;
                }
                looked = Instant::now();
                progress("floor", start.elapsed().div_duration_f64(length).min(1.0));
                swarm.notes.frames >= frames
            })
            .map_err(|error| BenchError::io("polling", error))?;
        self.side(length)
    }

    /// Starts it in the pauses of a market that runs and pauses for `turn` each. Returns when it begins.
    ///
    /// # Errors
    /// That it has ended.
    pub fn begin_between(&mut self, clock: &Clock, turn: Duration) -> Result<Instant, BenchError> {
        let mut start = clock.due(self.first) + turn;
        let soonest = Instant::now() + AHEAD;
        while start < soonest {
            start += 2 * turn;
        }
        self.begin(start)
    }

    fn begin(&mut self, start: Instant) -> Result<Instant, BenchError> {
        let ahead = start.saturating_duration_since(Instant::now());
        let nanos = i64::try_from(ahead.as_nanos()).expect("moments");
        self.process.tell(&Timestamp::now().plus_nanos(nanos).micros().to_string())?;
        self.swarm.notes.clock = Some(Clock { feed_micros: self.first, here: start, speed: self.speed });
        self.swarm.notes.window = i64::MIN..i64::MAX;
        Ok(start)
    }

    /// Reads what has arrived.
    ///
    /// # Errors
    /// The operating system's.
    pub fn look(&mut self) -> Result<(), BenchError> {
        self.swarm.look().map_err(|error| BenchError::io("polling", error))
    }

    /// Starts counting its costs.
    ///
    /// # Errors
    /// That it has ended.
    pub fn count_from_here(&mut self) -> Result<(), BenchError> {
        self.before = self.spent()?;
        Ok(())
    }

    /// Its CPU time, and the latencies of its frames, within this time.
    ///
    /// # Errors
    /// That it has ended.
    pub fn side(&self, within: Duration) -> Result<FloorSide, BenchError> {
        let after = self.spent()?;
        let (cpu, user) = after.usage.spent_since(&self.before.usage);
        let frames = after.frames - self.before.frames;
        #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
        let micros = |time: Duration| time.as_secs_f64() * 1e6 / frames.max(1) as f64;
        let latency = |quantile| latency_ms(&self.swarm.notes.latency, quantile);
        Ok(FloorSide {
            cpu_us_per_send: micros(cpu),
            user_us_per_send: micros(user),
            latency_p50_ms: latency(0.5),
            latency_p99_ms: latency(0.99),
            latency_p999_ms: latency(0.999),
            client_cpu_cores: after.own_cpu.saturating_sub(self.before.own_cpu).as_secs_f64()
                / within.as_secs_f64().max(1e-3),
            cpu_ratio: 0.0,
            p99_ratio: None,
        })
    }

    fn spent(&self) -> Result<Spent, BenchError> {
        let (usage, frames) = (self.process.usage()?, self.swarm.notes.frames);
        Ok(Spent { usage, own_cpu: own_cpu(), frames })
    }
}
