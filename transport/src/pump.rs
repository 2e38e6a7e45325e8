//! Moves frames over one TLS connection: reads what arrives, asks its [`Peer`] what to send, keeps its deadlines.
//!
//! One task per connection does both directions, so there is no lock and no queue between them. It decides nothing: when the
//! connection must end is the peer's word. Egress is pulled: bytes are asked for only when the socket has taken the last ones.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_rustls::TlsStream;

/// One end of a connection of frames: the client's link or the relay's connection.
pub trait Peer {
    /// Why the peer wants the connection to end.
    type End;

    /// Takes whole frames from the front of `bytes` and says how many bytes that were. Bytes may be changed in place; what is
    /// not taken comes again with more behind it.
    fn handle_bytes(&mut self, now: Instant, bytes: &mut [u8]) -> Result<usize, Self::End>;

    /// Does what is due. Early calls do nothing.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Self::End>;

    /// When [`Peer::handle_timeout`] is due.
    fn poll_timeout(&mut self) -> Option<Instant>;

    /// Appends frames to `out`, at most about [`FILL`] bytes; everything given before has been taken by the socket. Whoever has
    /// more to send later wakes `waker`.
    fn fill(&mut self, now: Instant, waker: &Waker, out: &mut Vec<u8>) -> Result<(), Self::End>;

    /// Appends last words: what the other side should read before the connection ends.
    fn last_words(&mut self, end: &Self::End, out: &mut Vec<u8>);
}

/// How a connection ended.
#[derive(Debug)]
pub enum Ended<E> {
    /// The other side closed it.
    Closed,
    /// It broke.
    Broken(io::Error),
    /// The socket took nothing for [`WRITE_STALL`] although there was something to send.
    Stalled,
    /// The peer wanted it to end.
    Peer(E),
}

/// Runs a connection until it ends. Dropping the future closes the connection at once.
pub async fn run<P: Peer>(stream: &mut TlsStream<TcpStream>, peer: &mut P) -> Ended<P::End> {
    run_over(stream, peer).await
}

/// [`run`] over any stream of bytes, so that tests can have one that stalls when they want it to.
async fn run_over<S, P>(stream: &mut S, peer: &mut P) -> Ended<P::End>
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Peer,
{
    let mut pump = Pump::new();
    let mut timer = pin!(sleep_until(tokio::time::Instant::now()));
    let ended = poll_fn(|cx| pump.poll(cx, stream, peer, timer.as_mut())).await;
    if let Ended::Peer(end) = &ended {
        // What is half written must be finished, or the last words would be read as part of a frame.
        let mut words = pump.outbound.split_off(pump.written);
        peer.last_words(end, &mut words);
        // The other side may be gone or stuck; it gets a moment to hear why.
        let _ = timeout(LAST_WORDS, say_goodbye(stream, &words)).await;
    }
    ended
}

async fn say_goodbye(stream: &mut (impl AsyncWrite + Unpin), words: &[u8]) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    stream.write_all(words).await?;
    stream.shutdown().await
}

struct Pump {
    inbound: Vec<u8>,
    /// Bytes of `inbound` that hold data.
    filled: usize,
    outbound: Vec<u8>,
    /// Bytes of `outbound` that TLS has taken.
    written: usize,
    /// TLS holds bytes that the socket has not taken.
    unflushed: bool,
    /// Since when the socket takes nothing.
    stalled_since: Option<Instant>,
}

impl Pump {
    fn new() -> Self {
        Self {
            inbound: vec![0; INBOUND],
            filled: 0,
            outbound: Vec::new(),
            written: 0,
            unflushed: false,
            stalled_since: None,
        }
    }

    fn poll<S: AsyncRead + AsyncWrite + Unpin, P: Peer>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        peer: &mut P,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Ended<P::End>> {
        for _ in 0..TURNS {
            let now = now();
            if let Err(end) = peer.handle_timeout(now) {
                return Poll::Ready(Ended::Peer(end));
            }
            let read = match self.poll_read(cx, stream, peer, now) {
                Ok(progress) => progress,
                Err(ended) => return Poll::Ready(ended),
            };
            let wrote = match self.poll_write(cx, stream, peer, now) {
                Ok(progress) => progress,
                Err(ended) => return Poll::Ready(ended),
            };
            if read || wrote {
                continue;
            }
            if self
                .stalled_since
                .is_some_and(|since| now >= since + WRITE_STALL)
            {
                return Poll::Ready(Ended::Stalled);
            }
            let stall = self.stalled_since.map(|since| since + WRITE_STALL);
            let Some(deadline) = [peer.poll_timeout(), stall].into_iter().flatten().min() else {
                return Poll::Pending;
            };
            timer.as_mut().reset(deadline.into());
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        // Others of this thread get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and hands over what is whole. `Ok(true)` = something arrived.
    fn poll_read<S: AsyncRead + Unpin, P: Peer>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        peer: &mut P,
        now: Instant,
    ) -> Result<bool, Ended<P::End>> {
        let before = self.filled;
        let mut eof = false;
        while self.filled < self.inbound.len() {
            let mut buffer = ReadBuf::new(&mut self.inbound[self.filled..]);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    eof = true;
                    break;
                }
                Poll::Ready(Ok(())) => self.filled += buffer.filled().len(),
                Poll::Ready(Err(error)) => return Err(Ended::Broken(error)),
                Poll::Pending => break,
            }
        }
        let arrived = self.filled > before;
        if arrived {
            let taken = peer
                .handle_bytes(now, &mut self.inbound[..self.filled])
                .map_err(Ended::Peer)?;
            self.inbound.copy_within(taken..self.filled, 0);
            self.filled -= taken;
        }
        if eof { Err(Ended::Closed) } else { Ok(arrived) }
    }

    /// Writes until the socket takes no more. `Ok(true)` = something was taken and there may be more.
    fn poll_write<S: AsyncWrite + Unpin, P: Peer>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        peer: &mut P,
        now: Instant,
    ) -> Result<bool, Ended<P::End>> {
        let mut progress = false;
        if self.written == self.outbound.len() && !self.unflushed {
            self.outbound.clear();
            self.written = 0;
            if self.outbound.capacity() > OUTBOUND_KEEP {
                self.outbound = Vec::new();
            }
            peer.fill(now, cx.waker(), &mut self.outbound)
                .map_err(Ended::Peer)?;
        }
        while self.written < self.outbound.len() {
            match Pin::new(&mut *stream).poll_write(cx, &self.outbound[self.written..]) {
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    self.unflushed = true;
                    self.stalled_since = None;
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Err(Ended::Broken(error)),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return Ok(false);
                }
            }
        }
        if self.unflushed {
            match Pin::new(&mut *stream).poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.unflushed = false;
                    self.stalled_since = None;
                    // The peer may have more, and nobody wakes for what waits already.
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Err(Ended::Broken(error)),
                Poll::Pending => {
                    self.stalled_since.get_or_insert(now);
                    return Ok(false);
                }
            }
        }
        Ok(progress)
    }
}

/// The shells' clock, so that tests with paused time work.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Bytes that one [`Peer::fill`] should give: sixteen full frames, enough to make a system call cheap, little enough that a
/// frame given later never waits long.
pub const FILL: usize = 16 * 16_384;

/// Bytes that are read before frames are handed over; holds the largest frame several times.
const INBOUND: usize = 256 * 1024;

/// A buffer that grew beyond this is given back: it came from a burst.
const OUTBOUND_KEEP: usize = 2 * FILL;

/// Turns of one poll before other tasks get theirs.
const TURNS: usize = 8;

/// A socket that takes nothing for so long belongs to a peer that is gone.
pub const WRITE_STALL: Duration = Duration::from_secs(10);

/// Time for the last words of a connection.
const LAST_WORDS: Duration = Duration::from_secs(1);

const _: () = assert!(
    INBOUND > 2 * (overlan_protocol::frame::HEADER_LEN + overlan_protocol::frame::BODY_MAX)
);

#[cfg(test)]
mod tests;
