//! Moves frames over one TLS connection: reads bytes that arrive, asks its [`Exchange`] for frames
//! to send, and keeps its deadlines.
//!
//! One task per connection does both directions, so there is no lock and no queue between them. It
//! decides nothing: the exchange decides when the connection must end. Egress is pulled: the pump
//! asks for bytes only when the socket has taken the last ones.

mod batch;
mod stall;

use std::future::poll_fn;
use std::io::{self, Read};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use overlan_protocol::exchange::Exchange;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_rustls::TlsStream;

pub use self::stall::{SILENCE, WRITE_STALL};

use self::batch::Outbound;
use self::stall::{Over, Stall};
use crate::clock::now;
use crate::record::{self, Content, Opener, RecordError, Sealer};
use crate::tls::Stepwise;

/// The way in which a connection ended.
#[derive(Debug)]
pub enum Ended<E> {
    /// The other side closed it.
    Closed,
    /// It broke.
    Broken(io::Error),
    /// The socket took nothing although there was something to send, and nothing arrived for
    /// [`SILENCE`].
    Silent,
    /// The socket took nothing for [`WRITE_STALL`] although there was something to send, and
    /// something arrived.
    Stalled,
    /// This side ended it.
    Ours(E),
}

/// Runs a connection until it ends. Dropping the future closes the connection at once.
pub async fn run<P: Exchange>(stream: TlsStream<Stepwise>, exchange: &mut P) -> Ended<P::End> {
    let mut pump = match Pump::take_over(stream) {
        Ok(pump) => pump,
        Err(error) => return Ended::Broken(error),
    };
    let (ended, parted) = drive(&mut pump, exchange).await;
    if !parted {
        // Bytes that are left in the socket would hide the end from the other side, which would go
        // on sending in vain.
        let _ = SockRef::from(&pump.socket).set_linger(Some(Duration::ZERO));
    }
    ended
}

/// Runs a connection until it ends. Returns also whether the other side knows that: it heard the
/// last words, or ended the connection itself.
async fn drive<S, P>(pump: &mut Pump<S>, exchange: &mut P) -> (Ended<P::End>, bool)
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Exchange,
{
    let mut timer = pin!(sleep_until(tokio::time::Instant::now()));
    let ended = poll_fn(|cx| pump.poll(cx, exchange, timer.as_mut())).await;
    let parted = match &ended {
        Ended::Closed | Ended::Broken(_) => true,
        Ended::Silent | Ended::Stalled => false,
        Ended::Ours(_) if pump.stall.hears_no_more(now()) => false,
        // The other side may be gone or stuck; it gets a moment to hear the reason.
        Ended::Ours(end) => {
            let said = timeout(LAST_WORDS, pump.say_goodbye(exchange, end)).await;
            matches!(said, Ok(Ok(())))
        }
    };
    (ended, parted)
}

/// One connection. `S` is a TCP socket, or a socket of a test that stalls when it should.
struct Pump<S> {
    socket: S,
    sealer: Sealer,
    opener: Opener,
    /// Records as they come from the socket; they are opened in place.
    inbound: Vec<u8>,
    /// Bytes of `inbound` that hold data.
    filled: usize,
    /// Start of a frame that goes on in the next record. Frames of our own stacks never do.
    carried: Vec<u8>,
    outbound: Outbound,
    stall: Stall,
}

impl Pump<TcpStream> {
    /// Takes the connection over from rustls, between two records.
    fn take_over(stream: TlsStream<Stepwise>) -> io::Result<Self> {
        let (socket, mut connection) = match stream {
            TlsStream::Client(stream) => {
                let (socket, connection) = stream.into_inner();
                (socket, rustls::Connection::from(connection))
            }
            TlsStream::Server(stream) => {
                let (socket, connection) = stream.into_inner();
                (socket, rustls::Connection::from(connection))
            }
        };
        // Bytes of the last record after those that the handshake's owner asked for.
        let mut carried = Vec::new();
        let mut chunk = [0; 4_096];
        loop {
            match connection.reader().read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => carried.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let socket = socket
            .into_socket()
            .ok_or_else(|| io::Error::other("the handshake left a TLS record half read"))?;
        let secrets = connection
            .dangerous_extract_secrets()
            .map_err(io::Error::other)?;
        let (sealer, opener) =
            record::take_over(secrets).ok_or_else(|| io::Error::other("unknown TLS cipher"))?;
        Ok(Self::new(socket, sealer, opener, carried))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<S> {
    fn new(socket: S, sealer: Sealer, opener: Opener, carried: Vec<u8>) -> Self {
        Self {
            socket,
            sealer,
            opener,
            inbound: vec![0; INBOUND_AT_REST],
            filled: 0,
            carried,
            outbound: Outbound::default(),
            stall: Stall::new(now()),
        }
    }

    fn poll<P: Exchange>(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut P,
        mut timer: Pin<&mut Sleep>,
    ) -> Poll<Ended<P::End>> {
        for _ in 0..TURNS {
            let now = now();
            if let Err(end) = exchange.handle_timeout(now) {
                return Poll::Ready(Ended::Ours(end));
            }
            let read = match self.poll_read(cx, exchange, now) {
                Ok(progress) => progress,
                Err(ended) => return Poll::Ready(ended),
            };
            let wrote = match self.poll_write(cx, exchange, now) {
                Ok(progress) => progress,
                Err(ended) => return Poll::Ready(ended),
            };
            if read || wrote {
                continue;
            }
            match self.stall.handle_timeout(now) {
                Some(Over::Silent) => return Poll::Ready(Ended::Silent),
                Some(Over::Stalled) => return Poll::Ready(Ended::Stalled),
                None => {}
            }
            let times = [exchange.poll_timeout(), self.stall.poll_timeout()];
            let Some(deadline) = times.into_iter().flatten().min() else {
                return Poll::Pending;
            };
            timer.as_mut().reset(deadline.into());
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        // Other tasks of this thread get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads from the socket, up to one buffer, and hands over whole frames. `Ok(true)` = something
    /// arrived.
    fn poll_read<P: Exchange>(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut P,
        now: Instant,
    ) -> Result<bool, Ended<P::End>> {
        if !self.carried.is_empty() && self.filled == 0 {
            self.hand_over_carried(exchange, now)?;
            exchange.handle_batch_end(now).map_err(Ended::Ours)?;
        }
        if self.filled == 0 && self.inbound.len() > INBOUND_AT_REST && self.stall.rests(now) {
            self.inbound = vec![0; INBOUND_AT_REST];
            self.carried.shrink_to_fit();
        }
        let mut buffer = ReadBuf::new(&mut self.inbound[self.filled..]);
        match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(error)) => return Err(Ended::Broken(error)),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Err(Ended::Closed),
            Poll::Ready(Ok(())) => self.filled += buffer.filled().len(),
        }
        self.stall.handle_heard(now);
        let mut at = 0;
        let opened = self.open_records(exchange, now, &mut at);
        if at > 0 {
            // Also if the connection ends after them.
            let gone_on = exchange.handle_batch_end(now).map_err(Ended::Ours);
            opened.and(gone_on)?;
            let was_full = self.filled == self.inbound.len();
            self.inbound.copy_within(at..self.filled, 0);
            self.filled -= at;
            if was_full && self.inbound.len() < INBOUND {
                self.inbound.resize(INBOUND, 0);
            }
        } else {
            opened?;
        }
        Ok(true)
    }

    /// Opens all whole records; `at` becomes the end of the last one.
    fn open_records<P: Exchange>(
        &mut self,
        exchange: &mut P,
        now: Instant,
        at: &mut usize,
    ) -> Result<(), Ended<P::End>> {
        while let Some(length) =
            record::record_len(&self.inbound[*at..self.filled]).map_err(broken)?
        {
            if self.filled - *at < length {
                break;
            }
            self.open_record(exchange, now, *at..*at + length)?;
            *at += length;
        }
        Ok(())
    }

    fn open_record<P: Exchange>(
        &mut self,
        exchange: &mut P,
        now: Instant,
        record: Range<usize>,
    ) -> Result<(), Ended<P::End>> {
        let record = &mut self.inbound[record];
        let data = match self.opener.open(record).map_err(broken)? {
            Content::Data(range) => &mut record[range],
            Content::Close => return Err(Ended::Closed),
            Content::Ignored => return Ok(()),
        };
        if self.carried.is_empty() {
            let taken = exchange.handle_bytes(now, data).map_err(Ended::Ours)?;
            self.carried.extend_from_slice(&data[taken..]);
            return Ok(());
        }
        self.carried.extend_from_slice(data);
        self.hand_over_carried(exchange, now)
    }

    fn hand_over_carried<P: Exchange>(
        &mut self,
        exchange: &mut P,
        now: Instant,
    ) -> Result<(), Ended<P::End>> {
        let taken = exchange
            .handle_bytes(now, &mut self.carried)
            .map_err(Ended::Ours)?;
        self.carried.drain(..taken);
        Ok(())
    }

    /// Writes until the socket takes no more. `Ok(true)` = something was taken and there may be
    /// more.
    fn poll_write<P: Exchange>(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut P,
        now: Instant,
    ) -> Result<bool, Ended<P::End>> {
        if self.outbound.is_empty() {
            self.outbound.clear(now);
            exchange
                .fill(now, cx.waker(), &mut self.outbound.batch)
                .map_err(Ended::Ours)?;
            self.outbound.seal(now, &mut self.sealer).map_err(broken)?;
        }
        let mut progress = false;
        while !self.outbound.is_empty() {
            match self.outbound.poll_write(cx, &mut self.socket) {
                Poll::Ready(Ok(())) => {
                    if self.stall.handle_taken() {
                        exchange.handle_relieved(now);
                    }
                    progress = true;
                }
                Poll::Ready(Err(error)) => return Err(Ended::Broken(error)),
                Poll::Pending => {
                    self.stall.handle_refused(now);
                    return Ok(false);
                }
            }
        }
        Ok(progress)
    }

    /// Writes the rest of the batch under way, the last words, and the end.
    async fn say_goodbye<P: Exchange>(&mut self, exchange: &mut P, end: &P::End) -> io::Result<()> {
        let (outbound, socket) = (&mut self.outbound, &mut self.socket);
        while !outbound.is_empty() {
            poll_fn(|cx| outbound.poll_write(cx, socket)).await?;
        }
        let now = now();
        outbound.clear(now);
        exchange.last_words(end, outbound.batch.packed());
        let sealed = outbound.seal(now, &mut self.sealer);
        sealed.map_err(io::Error::other)?;
        while !outbound.is_empty() {
            poll_fn(|cx| outbound.poll_write(cx, socket)).await?;
        }
        let close = self.sealer.seal_close().map_err(io::Error::other)?;
        socket.write_all(&close).await?;
        socket.shutdown().await?;
        if exchange.is_last_word_needed(end) {
            // If the socket were closed with unread bytes, it would be reset, and the other side
            // would lose what it has not read yet.
            let mut rest = [0; 4_096];
            while socket.read(&mut rest).await? > 0 {}
        }
        Ok(())
    }
}

fn broken<E>(error: RecordError) -> Ended<E> {
    Ended::Broken(io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Bytes that are read before frames are handed over; holds the largest frame several times.
const INBOUND: usize = 256 * 1024;

/// Bytes of the same buffer while little arrives: the largest record, so that each read can bring a
/// whole one.
const INBOUND_AT_REST: usize = 20 * 1024;

const _: () = assert!(INBOUND_AT_REST >= record::RECORD_MAX);

/// Turns of one poll before other tasks get theirs.
const TURNS: usize = 8;

/// Time for the last words of a connection.
const LAST_WORDS: Duration = Duration::from_secs(1);

const _: () = assert!(
    INBOUND > 2 * (overlan_protocol::frame::HEADER_LEN + overlan_protocol::frame::BODY_MAX)
);

#[cfg(test)]
mod tests;
