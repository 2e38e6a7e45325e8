//! A link that only delays: each byte leaves a fixed time after it came, in both directions,
//! without loss and without a rate.
//!
//! It forwards TCP connections, so the programs' own streams see the long round trip with all that
//! they do per round trip (credit, inner windows, handshakes). What it leaves out: the kernel's TCP
//! on either side still sees loopback, so the outer connection's slow start and its buffers are not
//! limited by the round trip.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use crate::accept;
use crate::chain::runtime;
use crate::options::Delay;
use crate::trouble::{During, Result};

/// Forwards until the process ends; prints its address.
pub(crate) fn run(delay: &Delay) -> Result<()> {
    let one_way = Duration::from_micros(delay.one_way_us);
    let to = delay.to;
    let listen = ([127, 0, 0, 1], 0).into();
    runtime()?.block_on(accept::serve(listen, |near| forward(near, to, one_way)))
}

/// Bytes under way per direction: above what 10 Gbit/s has under way in 50 ms, so that the link is
/// never the limit of a rate.
const UNDER_WAY: usize = 64 * 1024 * 1024;

/// Bytes per read.
const CHUNK: usize = 64 * 1024;

/// A chunk, and the time at which it leaves. Empty: the sender has ended its side.
type Due = (Instant, Vec<u8>);

async fn forward(near: TcpStream, to: SocketAddr, one_way: Duration) -> Result<()> {
    // The handshake of a far host takes a round trip.
    sleep(one_way * 2).await;
    let far = TcpStream::connect(to).await.during("connect")?;
    far.set_nodelay(true).during("TCP_NODELAY")?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::try_join!(
        direction(near_read, far_write, one_way),
        direction(far_read, near_write, one_way)
    )?;
    Ok(())
}

async fn direction(read: OwnedReadHalf, write: OwnedWriteHalf, one_way: Duration) -> Result<()> {
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let (enter, leave) = mpsc::unbounded_channel();
    tokio::try_join!(
        take(read, enter, Arc::clone(&room), one_way),
        give(write, leave, room)
    )?;
    Ok(())
}

async fn take(
    mut read: OwnedReadHalf,
    enter: mpsc::UnboundedSender<Due>,
    room: Arc<Semaphore>,
    one_way: Duration,
) -> Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        read.read_buf(&mut chunk).await.during("read")?;
        let permits = u32::try_from(chunk.len()).during("chunk")?;
        room.acquire_many(permits).await.during("room")?.forget();
        let ended = chunk.is_empty();
        // It fails only when the other half has failed, which ends both.
        enter
            .send((Instant::now() + one_way, chunk))
            .during("link")?;
        if ended {
            return Ok(());
        }
    }
}

async fn give(
    mut write: OwnedWriteHalf,
    mut leave: mpsc::UnboundedReceiver<Due>,
    room: Arc<Semaphore>,
) -> Result<()> {
    let mut waiting = VecDeque::new();
    loop {
        if waiting.is_empty() {
            let Some(first) = leave.recv().await else {
                return Ok(());
            };
            waiting.push_back(first);
        }
        while let Ok(more) = leave.try_recv() {
            waiting.push_back(more);
        }
        if let Some((due, chunk)) = waiting.pop_front() {
            // The timer of the runtime has a step of 1 ms, which is the link's own accuracy.
            sleep_until(due).await;
            if chunk.is_empty() {
                return write.shutdown().await.during("end");
            }
            write.write_all(&chunk).await.during("write")?;
            room.add_permits(chunk.len());
        }
    }
}
