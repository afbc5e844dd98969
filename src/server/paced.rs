use super::limits::HTTP;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// A connection that speaks HTTP, and ends when its client does not read its answers. What is pending for a
/// client takes memory, even if the client reads a byte now and then.
#[derive(Debug)]
pub(super) struct Paced {
    stream: TcpStream,
    /// Set while the socket takes no more of an answer.
    waiting: Option<Waiting>,
    marks: Arc<Marks>,
}

/// What is known of a connection when it has ended.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Its client did not read.
    unread: AtomicBool,
    /// Its client has begun a request that is not answered.
    unanswered: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    /// Bytes that the socket took meanwhile.
    taken: u64,
    timer: Pin<Box<Sleep>>,
}

impl Paced {
    pub fn new(stream: TcpStream) -> (Self, Arc<Marks>) {
        let marks = Arc::new(Marks::default());
        (Self { stream, waiting: None, marks: Arc::clone(&marks) }, marks)
    }

    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Handles the outcome of a write: counts what was taken, and gives up a client that is too slow.
    fn wrote(&mut self, outcome: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(outcome) = outcome {
            if let Ok(taken) = outcome {
                self.marks.unanswered.store(false, Ordering::Relaxed);
                if let Some(waiting) = &mut self.waiting {
                    waiting.taken += taken as u64;
                }
            }
            return Poll::Ready(outcome);
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            let since = Instant::now();
            Waiting { since, taken: 0, timer: Box::pin(sleep_until(since + HTTP.read_time)) }
        });
        let due = waiting.since
            + HTTP.read_time
            + Duration::from_millis(waiting.taken * 1000 / HTTP.read_bytes_per_second);
        waiting.timer.as_mut().reset(due);
        ready!(waiting.timer.as_mut().poll(cx));
        self.marks.unread.store(true, Ordering::Relaxed);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the answer was not read")))
    }
}

impl Marks {
    pub fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    pub fn is_unanswered(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed)
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.marks.unanswered.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.wrote(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when the socket has taken everything: the wait is over.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
