//! Connect, one request, one answer, close: the number per second, the time and the cost of each.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use super::{Pace, Values};
use crate::chain::{Chain, Way, runtime};
use crate::stats::percentile;
use crate::trouble::{During, Result, Trouble};
use crate::wire::{ANSWER, Request};

/// Sixteen at once, for the time that `pace` says.
pub(crate) fn crr(chain: &Chain, pace: Pace) -> Result<Values> {
    runtime()?.block_on(async {
        many(&chain.way(), SETTLE).await?;
        let cpu = chain.cpu_seconds()?;
        let begin = Instant::now();
        let Batch {
            mut latencies,
            errors,
        } = many(&chain.way(), pace.measure).await?;
        let seconds = begin.elapsed().as_secs_f64();
        let cpu = chain.cpu_seconds()? - cpu;
        if latencies.is_empty() {
            return Err(Trouble::failed(format!(
                "no connection worked, {errors} failed"
            )));
        }
        latencies.sort_by(f64::total_cmp);
        let count = latencies.len() as f64;
        let mut values = Values::from([
            ("per_s", count / seconds),
            ("errors", errors as f64),
            ("cpu_us", cpu * 1e6 / count),
        ]);
        values.extend(percentile(&latencies, 0.5).map(|value| ("p50_us", value)));
        values.extend(percentile(&latencies, 0.99).map(|value| ("p99_us", value)));
        Ok(values)
    })
}

/// At once.
const WORKERS: usize = 16;

/// Not measured.
const SETTLE: Duration = Duration::from_millis(500);

/// The longest that one may take.
const LONGEST: Duration = Duration::from_secs(10);

/// The connections of one worker, or of all of them.
#[derive(Debug, Default)]
struct Batch {
    /// Microseconds.
    latencies: Vec<f64>,
    errors: u64,
}

async fn many(way: &Way, duration: Duration) -> Result<Batch> {
    let end = Instant::now() + duration;
    let mut workers = JoinSet::new();
    for _ in 0..WORKERS {
        let way = way.clone();
        workers.spawn(async move {
            let mut outcome = Batch::default();
            while Instant::now() < end {
                let begin = Instant::now();
                match tokio::time::timeout(LONGEST, one(&way)).await {
                    Ok(Ok(())) => outcome.latencies.push(begin.elapsed().as_secs_f64() * 1e6),
                    Ok(Err(_)) | Err(_) => outcome.errors += 1,
                }
            }
            outcome
        });
    }
    let mut all = Batch::default();
    while let Some(outcome) = workers.join_next().await {
        let outcome = outcome.during("worker")?;
        all.latencies.extend(outcome.latencies);
        all.errors += outcome.errors;
    }
    Ok(all)
}

/// One connection.
pub(crate) async fn one(way: &Way) -> Result<()> {
    let mut stream = way.open(Request::Once).await?;
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer).await.during("answer")?;
    Ok(())
}
