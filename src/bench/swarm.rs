use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// One read buffer serves all connections.
const READ_BYTES: usize = 256 * 1024;
/// Most sockets reported by one poll.
const EVENTS: usize = 4096;
/// Handshakes under way at once: as many as a listener's backlog surely holds.
const HANDSHAKES: usize = 128;
/// Connections from one source address. The kernel has some 28,000 ports for each, and finding a free one
/// among many taken takes long.
const PER_SOURCE: usize = 1_000;
/// How long a client that is not woken sleeps between two looks at its sockets.
pub const LOOK_EVERY: Duration = Duration::from_micros(500);

/// The client's side of one connection.
pub trait Peer {
    /// The results of all peers of a swarm.
    type Notes;

    /// Takes bytes from the server, which arrived at `at`; appends the reply to `answer`.
    ///
    /// # Errors
    /// The server's error, or its reason for closing. The connection ends with it.
    fn received(
        &mut self,
        bytes: &[u8],
        at: Instant,
        notes: &mut Self::Notes,
        answer: &mut Vec<u8>,
    ) -> Result<(), String>;

    /// Its first message.
    fn greeting(&self) -> Vec<u8>;

    /// The server has accepted it.
    fn is_open(&self) -> bool;
}

/// How a client learns that there is something to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// It looks every 500 µs: its own wake-ups then cost the server nothing.
    Looks,
    /// The kernel wakes it for each frame, at the sender's expense.
    Eager,
}

/// Very many clients in one thread, at little CPU for each.
pub struct Swarm<P: Peer> {
    poll: Poll,
    connections: Vec<Connection<P>>,
    pub notes: P::Notes,
    wake: Wake,
    buffer: Vec<u8>,
    answer: Vec<u8>,
    /// Connections whose sockets may have more data.
    unread: Vec<usize>,
    open: usize,
    broken: Vec<String>,
}

struct Connection<P> {
    stream: TcpStream,
    peer: P,
    state: State,
    /// Does not read.
    stalled: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Greeting,
    Open,
    Broken,
}

impl<P: Peer> Swarm<P> {
    /// # Errors
    /// The operating system's.
    pub fn new(notes: P::Notes, wake: Wake) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            connections: Vec::new(),
            notes,
            wake,
            buffer: vec![0; READ_BYTES],
            answer: Vec::new(),
            unread: Vec::new(),
            open: 0,
            broken: Vec::new(),
        })
    }

    /// Connects them all, and waits until each is open. `sources`: the addresses to connect from, in turn;
    /// empty: loopback's own for a server on loopback, else the kernel's choice.
    ///
    /// # Errors
    /// The operating system's; that of the first connection which failed; that they were not all open by
    /// `deadline`.
    pub fn connect(
        &mut self,
        address: SocketAddr,
        peers: impl IntoIterator<Item = P>,
        sources: &[IpAddr],
        deadline: Instant,
        mut progress: impl FnMut(usize),
    ) -> io::Result<()> {
        let mut peers = peers.into_iter().peekable();
        loop {
            while self.connections.len() - self.open - self.broken.len() < HANDSHAKES
                && let Some(peer) = peers.next()
            {
                self.dial(address, peer, sources)?;
            }
            self.turn(Some(Duration::from_millis(1)))?;
            progress(self.open);
            if let Some(reason) = self.broken.first() {
                return Err(io::Error::other(format!("a connection failed: {reason}")));
            }
            if peers.peek().is_none() && self.open == self.connections.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let (open, all) = (self.open, self.connections.len());
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("only {open} of {all} connections were let in in time"),
                ));
            }
        }
    }

    /// Reads what arrives until `end`, or until `done` returns true.
    ///
    /// # Errors
    /// The operating system's.
    pub fn run(&mut self, end: Instant, mut done: impl FnMut(&mut Self) -> bool) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if now >= end || done(self) {
                return Ok(());
            }
            match self.wake {
                Wake::Looks => {
                    self.turn(Some(Duration::ZERO))?;
                    std::thread::sleep(LOOK_EVERY.saturating_sub(now.elapsed()));
                }
                Wake::Eager => self.turn(Some((end - now).min(Duration::from_millis(10))))?,
            }
        }
    }

    /// Reads what has arrived, without waiting.
    ///
    /// # Errors
    /// The operating system's.
    pub fn look(&mut self) -> io::Result<()> {
        self.turn(Some(Duration::ZERO))
    }

    /// Makes the first `count` connections stop reading, or read again.
    pub fn stall(&mut self, count: usize, stalled: bool) {
        for (key, connection) in self.connections.iter_mut().enumerate().take(count) {
            connection.stalled = stalled;
            if !stalled {
                self.unread.push(key);
            }
        }
    }

    pub fn peers(&mut self) -> impl Iterator<Item = &mut P> {
        self.connections.iter_mut().map(|connection| &mut connection.peer)
    }

    /// Connections that ended, each with its reason.
    pub fn broken(&self) -> &[String] {
        &self.broken
    }

    fn dial(&mut self, address: SocketAddr, peer: P, sources: &[IpAddr]) -> io::Result<()> {
        let key = self.connections.len();
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if let Some(source) = source(key, address, sources) {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&SockAddr::from(address)) {
            Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
                return Err(io::Error::new(error.kind(), format!("cannot connect to {address}: {error}")));
            }
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        self.poll.registry().register(&mut stream, Token(key), Interest::READABLE | Interest::WRITABLE)?;
        self.connections.push(Connection { stream, peer, state: State::Connecting, stalled: false });
        Ok(())
    }

    /// One look at all sockets.
    fn turn(&mut self, wait: Option<Duration>) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let wait = if self.unread.is_empty() { wait } else { Some(Duration::ZERO) };
        match self.poll.poll(&mut events, wait) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for key in std::mem::take(&mut self.unread) {
            self.read(key);
        }
        for event in &events {
            let key = event.token().0;
            if event.is_writable() && self.connections[key].state == State::Connecting {
                self.greet(key);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(key);
            }
        }
        Ok(())
    }

    fn greet(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        let greeting = connection.peer.greeting();
        // A fresh socket takes a complete request.
        match connection.stream.write(&greeting) {
            Ok(len) if len == greeting.len() => {
                connection.state = State::Greeting;
                if connection.peer.is_open() {
                    connection.state = State::Open;
                    self.open += 1;
                }
            }
            Ok(_) => self.end(key, "the socket did not take the handshake".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.end(key, error.to_string()),
        }
    }

    fn read(&mut self, key: usize) {
        let connection = &mut self.connections[key];
        if connection.stalled || matches!(connection.state, State::Broken | State::Connecting) {
            return;
        }
        let len = match connection.stream.read(&mut self.buffer) {
            Ok(0) => return self.end(key, "the server closed the connection".to_owned()),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.unread.push(key),
            Err(error) => return self.end(key, error.to_string()),
        };
        // A read that leaves room has emptied the socket; the poll reports later data.
        if len == self.buffer.len() {
            self.unread.push(key);
        }
        let bytes = &self.buffer[..len];
        if let Err(reason) =
            connection.peer.received(bytes, Instant::now(), &mut self.notes, &mut self.answer)
        {
            return self.end(key, reason);
        }
        if connection.state == State::Greeting && connection.peer.is_open() {
            connection.state = State::Open;
            self.open += 1;
        }
        if !self.answer.is_empty() {
            let sent = connection.stream.write(&self.answer);
            let whole = sent.is_ok_and(|sent| sent == self.answer.len());
            self.answer.clear();
            if !whole {
                self.end(key, "the server does not read".to_owned());
            }
        }
    }

    fn end(&mut self, key: usize, reason: String) {
        let connection = &mut self.connections[key];
        self.open -= usize::from(connection.state == State::Open);
        connection.state = State::Broken;
        // Fails only if it was never registered.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        self.broken.push(reason);
    }
}

/// The address that connection number `key` comes from.
fn source(key: usize, address: SocketAddr, sources: &[IpAddr]) -> Option<IpAddr> {
    if !sources.is_empty() {
        return Some(sources[key % sources.len()]);
    }
    let SocketAddr::V4(v4) = address else { return None };
    // All of 127/8 is this machine.
    let host = u16::try_from(2 + key / PER_SOURCE).unwrap_or(u16::MAX).to_be_bytes();
    v4.ip().is_loopback().then(|| Ipv4Addr::new(127, 0, host[0], host[1]).into())
}
