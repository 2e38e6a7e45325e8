//! Checks that every byte arrives: pseudo-random data both ways, compared by SHA-256, with the
//! sending sides ended in each order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Pace, Values};
use crate::chain::{Chain, Way, runtime};
use crate::target::{hash_all, send_noise};
use crate::trouble::{During, Result, Trouble};
use crate::wire::{Digests, Order, Request};

/// All sizes, numbers of streams and orders.
pub(crate) fn verify(chain: &Chain, pace: Pace) -> Result<Values> {
    let largest = if pace.quick { LARGEST_QUICK } else { LARGEST };
    let (mut connections, mut bytes, mut wrong) = (0, 0, 0);
    let begin = Instant::now();
    for streams in [1, 8, 100] {
        for size in SIZES.into_iter().filter(|size| size * streams <= largest) {
            for order in ORDERS {
                let failed = runtime()?.block_on(at_once(&chain.way(), streams, size, order))?;
                for why in &failed {
                    eprintln!("verify, {streams} streams of {size} bytes, {order:?}: {why}");
                }
                connections += streams;
                bytes += 2 * streams * size;
                wrong += failed.len();
            }
        }
    }
    Ok(Values::from([
        ("connections", connections as f64),
        ("gib", bytes as f64 / super::GIB),
        ("wrong", wrong as f64),
        ("seconds", begin.elapsed().as_secs_f64()),
    ]))
}

/// Bytes each way per stream. One is not a power of two, so that it ends within a packet.
const SIZES: [u64; 7] = [
    1 << 10,
    65_537,
    1 << 20,
    10 << 20,
    16 << 20,
    128 << 20,
    1 << 30,
];

/// All streams of one step together carry at most this each way, bytes.
const LARGEST: u64 = 1 << 30;

/// The same for a quick look.
const LARGEST_QUICK: u64 = 16 << 20;

/// All of them.
pub(crate) const ORDERS: [Order; 3] = [Order::ClientFirst, Order::TargetFirst, Order::Both];

/// The longest that one connection may take: a GiB both ways at 100 Mbit/s.
const LONGEST: Duration = Duration::from_secs(180);

/// Returns the failures, one entry per connection.
async fn at_once(way: &Way, streams: u64, size: u64, order: Order) -> Result<Vec<String>> {
    let mut running = JoinSet::new();
    for _ in 0..streams {
        let way = way.clone();
        running.spawn(async move {
            timeout(LONGEST, one(&way, size, order))
                .await
                .during("one connection")?
        });
    }
    let mut failed = Vec::new();
    while let Some(done) = running.join_next().await {
        if let Err(why) = done.during("worker")? {
            failed.push(why.to_string());
        }
    }
    Ok(failed)
}

/// One connection with `size` bytes each way.
pub(crate) async fn one(way: &Way, size: u64, order: Order) -> Result<()> {
    let token = TOKEN.fetch_add(1, Ordering::Relaxed);
    let stream = way.open(Request::Verify { token, size, order }).await?;
    let (mut read, mut write) = stream.into_split();
    let (sent, got) = match order {
        Order::ClientFirst => {
            let sent = send_noise(&mut write, token, size).await?;
            (sent, hash_all(&mut read).await?)
        }
        Order::TargetFirst => {
            let got = hash_all(&mut read).await?;
            (send_noise(&mut write, token, size).await?, got)
        }
        Order::Both => tokio::try_join!(send_noise(&mut write, token, size), hash_all(&mut read))?,
    };
    let mut answer = way.ask(Request::Digests { token }).await?;
    let mut target = Digests {
        sent: [0; 32],
        got: [0; 32],
    };
    answer.read_exact(&mut target.sent).await.during("digest")?;
    answer.read_exact(&mut target.got).await.during("digest")?;
    match (got == target.sent, sent == target.got) {
        (true, true) => Ok(()),
        (down, up) => Err(Trouble::failed(format!(
            "the bytes that arrived are not those that were sent (download intact: {down}, upload \
             intact: {up})"
        ))),
    }
}

/// Names each connection of this process.
static TOKEN: AtomicU64 = AtomicU64::new(1);
