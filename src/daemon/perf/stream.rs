//! The connections of a measurement: messages, and bytes as fast as they go. Decides how they are
//! sent, not which are measured.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use overlan_netstack::TcpStream;
use overlan_transport::clock::now;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::figures::RoundTrips;
use super::wire::{BODY_MAX, HEADER_LEN, Message};

/// A connection whose bytes have no meaning: bytes under way are lost when it is dropped.
#[derive(Debug)]
pub(super) struct Bulk(pub(super) TcpStream);

impl Drop for Bulk {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes one message.
pub(super) async fn write_message(stream: &TcpStream, message: &Message) -> io::Result<()> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    let mut stream = stream;
    stream.write_all(&bytes).await
}

/// Reads one message; a garbled one is [`io::ErrorKind::InvalidData`].
pub(super) async fn read_message(stream: &TcpStream) -> io::Result<Message> {
    let garbled = || io::Error::from(io::ErrorKind::InvalidData);
    let mut stream = stream;
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await?;
    let [kind, high, low] = header;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > BODY_MAX {
        return Err(garbled());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Message::decode(kind, &body).map_err(|_| garbled())
}

impl Bulk {
    /// Sends bytes until that fails, and returns the error.
    pub(super) async fn push(&self) -> io::Error {
        loop {
            for _ in 0..TURNS {
                let filled = poll_fn(|cx| {
                    self.0.poll_fill(cx, |room| {
                        // Directly into the ring, whose old bytes may be of another flow.
                        let length = room.len().min(CHUNK);
                        room[..length].fill(FILLER);
                        Ok(length)
                    })
                });
                if let Err(error) = filled.await {
                    return error;
                }
            }
            // With a reader that is always faster, this task would keep the thread.
            yield_now().await;
        }
    }

    /// Receives bytes and adds their number to `received`, until the peer's end.
    pub(super) async fn pull(&self, received: &AtomicU64) -> io::Result<()> {
        loop {
            for _ in 0..TURNS {
                let taken =
                    poll_fn(|cx| self.0.poll_drain(cx, |bytes| Ok(bytes.len().min(CHUNK)))).await?;
                if taken == 0 {
                    return Ok(());
                }
                received.fetch_add(taken as u64, Relaxed);
            }
            yield_now().await;
        }
    }

    /// Sends received bytes back, until the peer's end.
    pub(super) async fn echo(&self) -> io::Result<()> {
        let mut stream = &self.0;
        let mut bytes = [0; 64];
        loop {
            let count = stream.read(&mut bytes).await?;
            if count == 0 {
                return Ok(());
            }
            stream.write_all(&bytes[..count]).await?;
        }
    }

    /// Sends one byte and waits for its return, repeatedly with `pause` between, until `until` or
    /// `most` times. Notes the time of each round trip.
    pub(super) async fn ping(
        &self,
        times: &mut RoundTrips,
        pause: Duration,
        until: Instant,
        most: u32,
    ) -> io::Result<()> {
        let mut stream = &self.0;
        for _ in 0..most {
            let sent = now();
            if sent >= until {
                break;
            }
            stream.write_all(&[FILLER]).await?;
            stream.read_exact(&mut [0]).await?;
            times.note(now().saturating_duration_since(sent));
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        Ok(())
    }
}

/// Bytes in one call: as many as programs usually read or write at once.
const CHUNK: usize = 64 * 1024;

/// The number of chunks before other tasks of the thread get their turn.
const TURNS: usize = 16;

/// The content of streams.
const FILLER: u8 = 0x5a;
