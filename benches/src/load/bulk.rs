//! Streams that carry as much as they can, in one direction: rate, fairness, CPU time per byte,
//! peak memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{GIB, MIB, Pace, Values, WARM_UP};
use crate::chain::{Chain, Way, runtime};
use crate::stats;
use crate::target::{drain, pour};
use crate::trouble::{During, Result, Trouble};
use crate::wire::{Request, SLOTS};

/// The direction of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the target to the client.
    Down,
    /// From the client to the target.
    Up,
}

/// `streams` at once for the time that `pace` says, after a warm-up.
pub(crate) fn bulk(
    chain: &Chain,
    streams: usize,
    direction: Direction,
    pace: Pace,
) -> Result<Values> {
    let load = Bulk::start(chain, streams, direction)?;
    thread::sleep(WARM_UP);
    let before = Snapshot::take(chain, &load)?;
    thread::sleep(pace.measure);
    let after = Snapshot::take(chain, &load)?;
    let peak_kib = chain.peak_kib()?;
    load.stop()?;

    let shares: Vec<f64> = before
        .bytes
        .iter()
        .zip(&after.bytes)
        .map(|(before, after)| (after - before) as f64)
        .collect();
    let bytes: f64 = shares.iter().sum();
    if bytes == 0.0 {
        return Err(Trouble::failed("not one byte came through"));
    }
    let seconds = after.at.duration_since(before.at).as_secs_f64();
    let mut values = Values::from([
        ("gbit_s", bytes * 8.0 / seconds / 1e9),
        ("peak_mib", peak_kib as f64 / 1024.0),
    ]);
    values.extend(stats::jain(&shares).map(|jain| ("jain", jain)));
    if after.cpu > 0.0 {
        values.insert("cpu_s_per_gib", (after.cpu - before.cpu) / (bytes / GIB));
        let slept = after.slept.saturating_sub(before.slept);
        values.insert("wakes_per_mib", slept as f64 / (bytes / MIB));
    }
    Ok(values)
}

#[derive(Debug)]
struct Snapshot {
    at: Instant,
    bytes: Vec<u64>,
    cpu: f64,
    slept: u64,
}

impl Snapshot {
    fn take(chain: &Chain, load: &Bulk) -> Result<Self> {
        let bytes = load.received()?;
        Ok(Self {
            at: Instant::now(),
            bytes,
            cpu: chain.cpu_seconds()?,
            slept: chain.switches()?.slept,
        })
    }
}

/// Running streams, on a thread of their own.
#[derive(Debug)]
pub(crate) struct Bulk {
    direction: Direction,
    /// For downloads: bytes that the client got, per stream.
    counts: Arc<[AtomicU64]>,
    /// For uploads: the counters of the target before the start.
    base: Vec<u64>,
    way: Way,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Bulk {
    /// Opens all streams, then lets them run.
    pub(crate) fn start(chain: &Chain, streams: usize, direction: Direction) -> Result<Self> {
        assert!(streams <= SLOTS, "the target counts {SLOTS} uploads");
        let counts: Arc<[AtomicU64]> = (0..streams).map(|_| AtomicU64::new(0)).collect();
        let way = chain.way();
        let base = slots(&way, streams)?;
        let (stop, stopped) = oneshot::channel();
        let (ready, opened) = mpsc::channel();
        let thread = thread::spawn({
            let (way, counts) = (way.clone(), Arc::clone(&counts));
            move || {
                runtime()?.block_on(async {
                    let mut all = Vec::with_capacity(streams);
                    for slot in 0..streams {
                        let request = match direction {
                            Direction::Down => Request::Source,
                            Direction::Up => Request::Sink { slot: slot as u64 },
                        };
                        all.push(way.open(request).await?);
                    }
                    ready.send(()).during("say that all streams are open")?;
                    let mut running = JoinSet::new();
                    for (slot, stream) in all.into_iter().enumerate() {
                        let counts = Arc::clone(&counts);
                        running.spawn(async move {
                            match direction {
                                Direction::Down => drain(&stream, &counts[slot]).await,
                                Direction::Up => pour(&stream).await,
                            }
                        });
                    }
                    // A stream that ends by itself is a fault of the chain, whatever the others do.
                    tokio::select! {
                        _ = stopped => Ok(()),
                        Some(ended) = running.join_next() => {
                            Err(Trouble::failed(format!("a stream ended by itself: {ended:?}")))
                        }
                    }
                })
            }
        });
        let load = Self {
            direction,
            counts,
            base,
            way,
            stop,
            thread,
        };
        match opened.recv() {
            Ok(()) => Ok(load),
            Err(_) => load
                .stop()
                .and(Err(Trouble::failed("no streams were opened"))),
        }
    }

    /// Bytes that have arrived at the receiving end since the start, per stream.
    pub(crate) fn received(&self) -> Result<Vec<u64>> {
        match self.direction {
            Direction::Down => Ok(self
                .counts
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect()),
            Direction::Up => Ok(slots(&self.way, self.base.len())?
                .iter()
                .zip(&self.base)
                .map(|(now, before)| now - before)
                .collect()),
        }
    }

    /// Ends all streams. Fails if one of them ended before.
    pub(crate) fn stop(self) -> Result<()> {
        // It fails if the thread has ended already, which its result shows.
        self.stop.send(()).ok();
        self.thread
            .join()
            .map_err(|_| Trouble::failed("the thread of the streams panicked"))?
    }
}

/// The target's counters of the first `streams` uploads.
fn slots(way: &Way, streams: usize) -> Result<Vec<u64>> {
    runtime()?.block_on(async {
        let mut stream = way.ask(Request::Slots).await?;
        let mut slots = Vec::with_capacity(streams);
        for _ in 0..streams {
            slots.push(stream.read_u64().await.during("counters of the target")?);
        }
        Ok(slots)
    })
}
