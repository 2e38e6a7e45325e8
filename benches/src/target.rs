//! The server at the end of every chain, a process of its own: it sends, counts, echoes, answers
//! and verifies, as each connection's first bytes ask. Small talk and bulk run on threads of their
//! own, so that an echo does not wait for a copy.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use aws_lc_rs::digest;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

use crate::accept;
use crate::chain::runtime;
use crate::trouble::{During, Result};
use crate::wire::{ANSWER, Digests, Noise, Order, REQUEST, Request, SLOTS};

/// Serves until the process ends; prints its address.
pub(crate) fn run() -> Result<()> {
    let state = Arc::new(State {
        slots: [const { AtomicU64::new(0) }; SLOTS],
        digests: Mutex::new(BTreeMap::new()),
        finished: Notify::new(),
    });
    let (bulk, mut jobs) = mpsc::unbounded_channel::<Job>();
    let heavy_state = Arc::clone(&state);
    let heavy = runtime()?;
    thread::spawn(move || {
        heavy.block_on(async {
            while let Some((stream, request)) = jobs.recv().await {
                let state = Arc::clone(&heavy_state);
                tokio::spawn(async move {
                    let stream = TcpStream::from_std(stream).during("hand over")?;
                    work(stream, request, &state).await
                });
            }
        });
    });
    // The far ends of some chains reach it at an address of their own interface.
    let listen = ([0, 0, 0, 0], 0).into();
    runtime()?.block_on(accept::serve(listen, |stream| {
        answer(stream, bulk.clone(), Arc::clone(&state))
    }))
}

/// A bulk connection on its way to the thread that works on those.
type Job = (std::net::TcpStream, Request);

/// Reads the request of a connection, and does it here unless it is bulk.
async fn answer(
    mut stream: TcpStream,
    bulk: mpsc::UnboundedSender<Job>,
    state: Arc<State>,
) -> Result<()> {
    let mut bytes = [0; REQUEST];
    stream.read_exact(&mut bytes).await.during("request")?;
    match Request::decode(&bytes) {
        Some(request @ (Request::Source | Request::Sink { .. } | Request::Verify { .. })) => {
            let stream = stream.into_std().during("hand over")?;
            bulk.send((stream, request)).during("hand over")
        }
        Some(request) => work(stream, request, &state).await,
        None => Ok(()),
    }
}

/// Results of connections, kept for later questions.
#[derive(Debug)]
struct State {
    slots: [AtomicU64; SLOTS],
    /// One entry per `verify` connection, so some thousand in a long soak.
    digests: Mutex<BTreeMap<u64, Digests>>,
    finished: Notify,
}

/// Bytes per read or write of bulk: the cheapest size on loopback.
pub(crate) const CHUNK: usize = 256 * 1024;

thread_local! {
    /// All streams of a thread share one buffer, whose bytes have no meaning: it stays in cache.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// Reads to the end and drops the bytes; `count` gets the length of each read.
pub(crate) async fn drain(stream: &TcpStream, count: &AtomicU64) -> std::io::Result<()> {
    loop {
        stream.readable().await?;
        match BUFFER.with_borrow_mut(|buffer| stream.try_read(buffer)) {
            Ok(0) => return Ok(()),
            Ok(length) => _ = count.fetch_add(length as u64, Ordering::Relaxed),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        tokio::task::consume_budget().await;
    }
}

/// Writes until the other side goes away.
pub(crate) async fn pour(stream: &TcpStream) -> std::io::Result<()> {
    loop {
        stream.writable().await?;
        match BUFFER.with_borrow(|buffer| stream.try_write(buffer)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        tokio::task::consume_budget().await;
    }
}

/// Sends `size` bytes of noise, ends the sending side, and returns their SHA-256.
pub(crate) async fn send_noise(
    stream: &mut (impl AsyncWriteExt + Unpin),
    seed: u64,
    size: u64,
) -> Result<[u8; 32]> {
    let mut noise = Noise::new(seed);
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; NOISE];
    let mut left = size;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(NOISE).min(NOISE);
        noise.fill(&mut buffer[..length]);
        hash.update(&buffer[..length]);
        stream.write_all(&buffer[..length]).await.during("send")?;
        left -= length as u64;
    }
    stream.shutdown().await.during("end the sending side")?;
    Ok(finish(hash))
}

/// Reads to the end, and returns the SHA-256 of all bytes.
pub(crate) async fn hash_all(stream: &mut (impl AsyncReadExt + Unpin)) -> Result<[u8; 32]> {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; NOISE];
    loop {
        match stream.read(&mut buffer).await.during("receive")? {
            0 => return Ok(finish(hash)),
            length => hash.update(&buffer[..length]),
        }
    }
}

/// Bytes per step of `verify`, a multiple of eight.
const NOISE: usize = 64 * 1024;

fn finish(hash: digest::Context) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

/// The seed of the bytes that the target sends on the connection `token`.
fn target_seed(token: u64) -> u64 {
    !token
}

async fn work(mut stream: TcpStream, request: Request, state: &State) -> Result<()> {
    match request {
        Request::Source => pour(&stream).await.during("source"),
        Request::Sink { slot } => {
            let slot = usize::try_from(slot).unwrap_or(0) % SLOTS;
            drain(&stream, &state.slots[slot]).await.during("sink")
        }
        Request::Echo => echo(&mut stream).await,
        Request::Once => {
            stream.write_all(&[b'A'; ANSWER]).await.during("answer")?;
            // The client closes first, so that the many closed connections rest at its side.
            let mut end = [0];
            stream.read(&mut end).await.during("the client's end")?;
            Ok(())
        }
        Request::Slots => {
            let mut answer = Vec::with_capacity(SLOTS * 8);
            for slot in &state.slots {
                answer.extend(slot.load(Ordering::Relaxed).to_be_bytes());
            }
            stream.write_all(&answer).await.during("slots")
        }
        Request::Verify { token, size, order } => {
            let digests = verify(stream, token, size, order).await?;
            state.digests.lock().insert(token, digests);
            state.finished.notify_waiters();
            Ok(())
        }
        Request::Digests { token } => loop {
            // Registered before the look, so that no wake-up is missed.
            let mut finished = std::pin::pin!(state.finished.notified());
            finished.as_mut().enable();
            let found = state.digests.lock().remove(&token);
            if let Some(Digests { sent, got }) = found {
                stream.write_all(&sent).await.during("digests")?;
                return stream.write_all(&got).await.during("digests");
            }
            finished.await;
        },
    }
}

async fn echo(stream: &mut TcpStream) -> Result<()> {
    // Idle connections by the thousand hold this.
    let mut buffer = [0; 64];
    loop {
        match stream.read(&mut buffer).await.during("echo")? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await.during("echo")?,
        }
    }
}

async fn verify(stream: TcpStream, token: u64, size: u64, order: Order) -> Result<Digests> {
    let (mut read, mut write) = stream.into_split();
    let seed = target_seed(token);
    let (sent, got) = match order {
        Order::ClientFirst => {
            let got = hash_all(&mut read).await?;
            (send_noise(&mut write, seed, size).await?, got)
        }
        Order::TargetFirst => {
            let sent = send_noise(&mut write, seed, size).await?;
            (sent, hash_all(&mut read).await?)
        }
        Order::Both => tokio::try_join!(send_noise(&mut write, seed, size), hash_all(&mut read))?,
    };
    Ok(Digests { sent, got })
}
