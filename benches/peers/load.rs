//! The load: subscribers that poll their sockets every 500 µs, and a publisher that keeps to its schedule.
//!
//! Waking a client for each frame would add to every server's cost. This client sleeps, then reads all that
//! has arrived, so latencies are up to 500 µs longer, for all servers alike.

use crate::dialect::{Dialect, Heard, Reader, Role};
use anyhow::{Context, Result, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often the sockets are polled.
const TURN: Duration = Duration::from_micros(500);

/// All connections to one server.
pub struct Load {
    address: SocketAddr,
    dialect: Dialect,
    poll: Poll,
    events: Option<Events>,
    /// Shared by all connections.
    buffer: Vec<u8>,
    connections: Vec<Connection>,
    pub tally: Tally,
    slept_at: Instant,
}

/// What all connections together have received.
#[derive(Default)]
pub struct Tally {
    /// Connections that are ready.
    pub ready: usize,
    pub messages: u64,
    /// Messages due before this moment (µs since 1970) are not counted in `latencies`.
    pub measured_from: u64,
    /// From the moment at which a message was due until it was read, in µs.
    pub latencies: Vec<u32>,
}

struct Connection {
    stream: TcpStream,
    reader: Reader,
}

/// When which messages are published.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When the first one is due (µs since 1970).
    pub start: u64,
    /// µs from one to the next.
    pub period: f64,
    pub count: u32,
    /// Of one message.
    pub bytes: usize,
}

impl Load {
    pub fn new(address: SocketAddr, dialect: Dialect, connections: usize) -> Result<Self> {
        Ok(Self {
            address,
            dialect,
            poll: Poll::new()?,
            events: Some(Events::with_capacity(connections + 1)),
            buffer: vec![0; 256 * 1024],
            connections: Vec::with_capacity(connections + 1),
            tally: Tally::default(),
            slept_at: Instant::now(),
        })
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Opens one more connection and greets the server.
    pub fn connect(&mut self, role: Role) -> Result<()> {
        let mut stream = std::net::TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.dialect.greeting(role))?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, Token(self.connections.len()), Interest::READABLE)?;
        let reader = Reader::new(self.dialect, role);
        self.tally.ready += usize::from(reader.is_ready_at_once());
        self.connections.push(Connection { stream, reader });
        Ok(())
    }

    /// Waits until all connections are ready.
    pub fn wait_for_all(&mut self) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(20);
        while self.tally.ready < self.connections.len() {
            let (ready, all) = (self.tally.ready, self.connections.len());
            ensure!(Instant::now() < until, "only {ready} of {all} connections are ready after 20 s");
            self.turn()?;
        }
        Ok(())
    }

    /// Only answers the server's messages.
    pub fn idle(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn()?;
        }
        Ok(())
    }

    /// A publisher on the connection opened last.
    pub fn publisher(&self) -> Result<impl Write + Send + use<>> {
        let publisher = self.connections.last().context("there is no connection")?;
        let descriptor = rustix::io::dup(&publisher.stream)?;
        Ok(std::net::TcpStream::from(descriptor))
    }

    /// Bytes of the frames that held messages so far, on all connections.
    pub fn message_bytes(&self) -> u64 {
        self.connections.iter().map(|connection| connection.reader.message_bytes).sum()
    }

    /// Sleeps until the next turn, then reads all that has arrived.
    pub fn turn(&mut self) -> Result<()> {
        std::thread::sleep(TURN.saturating_sub(self.slept_at.elapsed()));
        self.slept_at = Instant::now();
        let mut events = self.events.take().expect("it is put back");
        self.poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            self.read(event.token().0, event.is_read_closed())?;
        }
        self.events = Some(events);
        Ok(())
    }

    fn read(&mut self, number: usize, closed: bool) -> Result<()> {
        let Self { connections, buffer, tally, .. } = self;
        let Connection { stream, reader } = &mut connections[number];
        loop {
            let length = match stream.read(buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            ensure!(length > 0, "connection {number} was closed by the server");
            let now = micros();
            let mut answer = Vec::new();
            let read = reader.read(&buffer[..length], |heard| match heard {
                Heard::Ready => tally.ready += 1,
                Heard::Asked(bytes) => answer.extend(bytes),
                Heard::Message(due) => tally.count(due, now),
            });
            read.with_context(|| format!("connection {number}"))?;
            if !answer.is_empty() {
                // A few bytes into an empty socket.
                stream.write_all(&answer)?;
            }
            // The socket is empty; later data are reported again.
            if length < buffer.len() && !closed {
                return Ok(());
            }
        }
    }
}

impl Tally {
    fn count(&mut self, due: u64, now: u64) {
        self.messages += 1;
        if due >= self.measured_from {
            self.latencies.push(u32::try_from(now.saturating_sub(due)).unwrap_or(u32::MAX));
        }
    }
}

impl Schedule {
    /// When message `number` is due (µs since 1970).
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a period of at least 100 µs times a count for a minute"
    )]
    pub fn due(&self, number: u32) -> u64 {
        self.start + (self.period * f64::from(number)) as u64
    }

    /// Publishes each message when it is due, or at once if that is past; none is left out.
    pub fn publish(&self, dialect: Dialect, mut to: impl Write, stop: &AtomicBool) -> io::Result<()> {
        for number in 0..self.count {
            let due = self.due(number);
            std::thread::sleep(Duration::from_micros(due.saturating_sub(micros())));
            let publication = dialect.publication(due, self.bytes);
            let mut rest = &publication[..];
            while !rest.is_empty() {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                match to.write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Of the wall clock, since 1970.
pub fn micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    u64::try_from(since.as_micros()).expect("within 500,000 years")
}
