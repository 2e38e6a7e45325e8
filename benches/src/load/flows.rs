//! Thousands of connections that are open and silent: how fast they open, what each costs in
//! memory, that all still work, and whether they slow a copy beside them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bulk::{Direction, bulk};
use super::{Pace, Values};
use crate::chain::{Chain, Way, runtime};
use crate::namespace;
use crate::trouble::{During, Result, Trouble};
use crate::wire::Request;

/// As many as the limit of open files allows, up to [`FLOWS`].
pub(crate) fn flows(chain: &Chain, pace: Pace) -> Result<Values> {
    // A proxy holds two files for each; every process needs some for itself.
    let wanted = FLOWS.min((namespace::open_files().saturating_sub(SPARE_FILES) / 2) as usize);
    let runtime = runtime()?;
    let before = chain.resident_kib()?;
    let begin = Instant::now();
    let mut open = runtime.block_on(open_all(&chain.way(), wanted))?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut values = Values::from([
        ("open_s", seconds),
        ("failed", (wanted - open.len()) as f64),
        ("flows", open.len() as f64),
    ]);
    if open.is_empty() {
        return Err(Trouble::failed("not one connection opened"));
    }
    let each = |now: u64| (now as f64 - before as f64) / wanted as f64;

    let first = runtime.block_on(echo_all(&mut open))?;
    values.insert("kib_each", each(chain.resident_kib()?));

    let (rest, watched) = if pace.quick {
        (REST_QUICK, REST_QUICK / 2)
    } else {
        (REST, WATCHED)
    };
    // On the runtime, though the flows need nothing: an event for one of them must be taken.
    runtime.block_on(async { sleep(rest - watched).await });
    let (cpu, at) = (chain.cpu_seconds()?, Instant::now());
    runtime.block_on(async { sleep(watched).await });
    let cpu = chain.cpu_seconds()? - cpu;
    values.insert("held_cpu_percent", 100.0 * cpu / at.elapsed().as_secs_f64());
    values.insert("kib_each_rested", each(chain.resident_kib()?));

    let beside = bulk(chain, 1, Direction::Down, pace)?;
    let second = runtime.block_on(echo_all(&mut open))?;
    values.insert("silent", (first + second) as f64);
    drop(open);
    runtime.block_on(async { sleep(SETTLE).await });
    let alone = bulk(chain, 1, Direction::Down, pace)?;
    if let (Some(beside), Some(alone)) = (beside.get("gbit_s"), alone.get("gbit_s")) {
        values.insert("bulk_gbit_s", *beside);
        values.insert("bulk_kept", beside / alone);
    }
    Ok(values)
}

/// Connections.
const FLOWS: usize = 9_900;

/// Files that a process has open besides its connections.
const SPARE_FILES: u64 = 150;

/// Opened at the same time.
const AT_ONCE: usize = 64;

/// From the first echo to the second look at the memory.
const REST: Duration = Duration::from_secs(30);

/// The same for a quick look.
const REST_QUICK: Duration = Duration::from_secs(4);

/// The end of the rest, in which CPU time is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// For closing them all before the copy without them.
const SETTLE: Duration = Duration::from_secs(3);

/// The longest that opening one, or its echo, may take.
const LONGEST: Duration = Duration::from_secs(20);

/// Those that opened.
async fn open_all(way: &Way, wanted: usize) -> Result<Vec<TcpStream>> {
    let left = Arc::new(tokio::sync::Semaphore::new(wanted));
    let mut workers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (way, left) = (way.clone(), Arc::clone(&left));
        workers.spawn(async move {
            let mut opened = Vec::new();
            while let Ok(turn) = left.try_acquire() {
                turn.forget();
                if let Ok(Ok(stream)) = timeout(LONGEST, way.open(Request::Echo)).await {
                    opened.push(stream);
                }
            }
            opened
        });
    }
    let mut all = Vec::with_capacity(wanted);
    while let Some(opened) = workers.join_next().await {
        all.extend(opened.during("worker")?);
    }
    Ok(all)
}

/// One byte through each; how many of them stayed silent.
async fn echo_all(all: &mut Vec<TcpStream>) -> Result<usize> {
    let expected = all.len();
    let share = expected.div_ceil(AT_ONCE).max(1);
    let mut workers = JoinSet::new();
    while !all.is_empty() {
        let mut mine = all.split_off(all.len().saturating_sub(share));
        workers.spawn(async move {
            let mut answered = 0;
            for stream in &mut mine {
                let echo = async {
                    stream.write_all(b"x").await?;
                    stream.read_u8().await
                };
                if let Ok(Ok(b'x')) = timeout(LONGEST, echo).await {
                    answered += 1;
                }
            }
            (mine, answered)
        });
    }
    let mut silent = expected;
    while let Some(done) = workers.join_next().await {
        let (mine, answered) = done.during("worker")?;
        all.extend(mine);
        silent -= answered;
    }
    Ok(silent)
}
