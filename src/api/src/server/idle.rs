//! Deadlines of a connection: who is slow is dropped.
//!
//! Owns the byte stream under hyper and the connection's state of work. Between requests the peer has
//! the idle timeout; from the first byte of a head it has the header timeout (so does a fresh
//! connection); while a request is in flight reading has no deadline here, for bodies have their own;
//! a response that the peer takes no byte of ends with the write timeout.
//!
//! Timers are lazy: a request moves an instant in memory, and the timer, when it fires too early, is set
//! anew. An idle connection may therefore live up to twice its time.
//!
//! A response that went out before its request's body had come in whole is followed by a short linger:
//! closing at once would reset the connection, and the peer would lose the response it has not read yet.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// The work of one connection, shared by its stream and its requests.
#[derive(Debug)]
pub(super) struct Activity {
    accepted: Instant,
    in_flight: AtomicU32,
    http2: AtomicBool,
    /// A request's head has begun and not ended.
    in_head: AtomicBool,
    /// A request's body was left unread by its endpoint.
    unread: AtomicBool,
    /// Microseconds after `accepted` at which the last request ended or the current head began.
    since_us: AtomicU64,
}

impl Activity {
    /// A fresh connection, which owes its first head.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            accepted: Instant::now(),
            in_flight: AtomicU32::new(0),
            http2: AtomicBool::new(false),
            in_head: AtomicBool::new(true),
            unread: AtomicBool::new(false),
            since_us: AtomicU64::new(0),
        })
    }

    /// A request has come in; it counts until the value is dropped with the end of its response.
    pub fn begin(self: &Arc<Self>, http2: bool) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.in_head.store(false, Ordering::Relaxed);
        self.unread.store(false, Ordering::Relaxed);
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        InFlight(Arc::clone(self))
    }

    fn mark(&self) {
        let since = u64::try_from(self.accepted.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.since_us.store(since, Ordering::Relaxed);
    }

    fn bytes_arrived(&self) {
        let between = self.in_flight.load(Ordering::Relaxed) == 0
            && !self.in_head.load(Ordering::Relaxed)
            // HTTP/2 frames between requests (pings, window updates) begin no head.
            && !self.http2.load(Ordering::Relaxed);
        if between {
            self.in_head.store(true, Ordering::Relaxed);
            self.mark();
        }
    }

    /// Notes that the peer may still be sending a body nobody reads.
    pub fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// When the peer is too late; none while it is our turn.
    fn read_deadline(&self, timeouts: &StreamTimeouts) -> Option<Instant> {
        if self.in_flight.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let timeout = if self.in_head.load(Ordering::Relaxed) {
            timeouts.header
        } else {
            timeouts.idle
        };
        let since = Duration::from_micros(self.since_us.load(Ordering::Relaxed));
        Some(self.accepted + since + timeout)
    }
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    /// The connection it belongs to.
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.0)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.mark();
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The deadlines of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamTimeouts {
    pub header: Duration,
    pub idle: Duration,
    pub write: Duration,
}

/// A byte stream that fails with `TimedOut` when its peer is too slow.
#[derive(Debug)]
pub(super) struct Timed<S> {
    stream: S,
    activity: Arc<Activity>,
    timeouts: StreamTimeouts,
    read_timer: Pin<Box<Sleep>>,
    /// Set while a write waits for the peer.
    write_timer: Option<Pin<Box<Sleep>>>,
    /// Set once the connection is shut down and only waits for the peer to have read the response.
    linger: Option<Linger>,
}

#[derive(Debug)]
struct Linger {
    timer: Pin<Box<Sleep>>,
    discarded_bytes: usize,
}

/// How long, and for how many bytes, a connection lingers.
const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 64 << 20;

impl<S> Timed<S> {
    pub fn new(stream: S, activity: Arc<Activity>, timeouts: StreamTimeouts) -> Self {
        let first = activity.accepted + timeouts.header;
        Self {
            stream,
            activity,
            timeouts,
            read_timer: Box::pin(sleep_until(first)),
            write_timer: None,
            linger: None,
        }
    }

    fn poll_read_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let deadline = self.activity.read_deadline(&self.timeouts);
            // The end of a request in flight wakes nobody here, so one looks again from time to time.
            let look_at = deadline.unwrap_or_else(|| Instant::now() + self.timeouts.idle);
            // A timer that fires before that is good enough: it is then set anew.
            if self.read_timer.is_elapsed() || self.read_timer.deadline() > look_at {
                self.read_timer.as_mut().reset(look_at);
            }
            ready!(self.read_timer.as_mut().poll(context));
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Poll::Ready(timed_out("the peer sent no request in time"));
            }
        }
    }

    fn after_write<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write_timer = None;
            return result;
        }
        let wait = self.timeouts.write;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + wait)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Err(timed_out("the peer takes no bytes")))
    }
}

fn timed_out(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Timed<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                if buffer.filled().len() > before {
                    this.activity.bytes_arrived();
                }
                Poll::Ready(result)
            }
            Poll::Pending => this.poll_read_deadline(context).map(Err),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timed<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.after_write(context, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.after_write(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(context);
        // A flush that has nothing to do is ready even while a write waits: it ends no wait.
        if result.is_ready() {
            result
        } else {
            this.after_write(context, result)
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            let result = Pin::new(&mut this.stream).poll_shutdown(context);
            ready!(this.after_write(context, result))?;
            if !this.activity.unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        this.poll_linger(context).map(Ok)
    }
}

impl<S: AsyncRead + Unpin> Timed<S> {
    /// Reads and forgets what the peer still sends, until it closes or the linger is over.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let linger = self.linger.get_or_insert_with(|| Linger {
            timer: Box::pin(sleep_until(Instant::now() + LINGER_TIME)),
            discarded_bytes: 0,
        });
        let mut space = [MaybeUninit::<u8>::uninit(); 4096];
        while linger.discarded_bytes < LINGER_BYTES {
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    linger.discarded_bytes += buffer.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return linger.timer.as_mut().poll(context),
            }
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const TIMEOUTS: StreamTimeouts = StreamTimeouts {
        header: Duration::from_millis(30),
        idle: Duration::from_secs(3600),
        write: Duration::from_millis(30),
    };

    #[tokio::test]
    async fn a_fresh_connection_that_sends_nothing_times_out() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let mut timed = Timed::new(ours, Activity::new(), TIMEOUTS);
        let error = timed.read_u8().await.expect_err("nothing comes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_head_that_begins_and_does_not_end_times_out_though_idling_is_allowed() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let activity = Activity::new();
        let mut timed = Timed::new(ours, Arc::clone(&activity), TIMEOUTS);
        drop(activity.begin(false));
        theirs.write_u8(b'G').await.expect("there is room");
        assert_eq!(timed.read_u8().await.expect("a byte"), b'G');
        let error = timed.read_u8().await.expect_err("nothing more comes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_request_in_flight_has_no_read_deadline() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let activity = Activity::new();
        let mut timed = Timed::new(ours, Arc::clone(&activity), TIMEOUTS);
        let in_flight = activity.begin(false);
        let waited = tokio::time::timeout(3 * TIMEOUTS.header, timed.read_u8()).await;
        assert!(
            waited.is_err(),
            "the stream waits on, only the test gave up"
        );
        drop(in_flight);
        theirs.write_u8(b'x').await.expect("there is room");
        assert_eq!(timed.read_u8().await.expect("a byte"), b'x');
    }

    #[tokio::test]
    async fn a_peer_that_takes_no_bytes_times_out() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let mut timed = Timed::new(ours, Activity::new(), TIMEOUTS);
        let error = timed
            .write_all(b"more than there is room for")
            .await
            .expect_err("it is full");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
