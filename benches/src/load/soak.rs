//! Everything at once for minutes: copies both ways, short connections, round trips and verified
//! data, with a look at the memory every ten seconds. Memory is flat if the last third of the time
//! holds what the middle third held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::bulk::{Bulk, Direction};
use super::verify::ORDERS;
use super::{GIB, Pace, Values, crr, verify};
use crate::chain::{Chain, Way, runtime};
use crate::trouble::{During, Result, Trouble};
use crate::wire::Request;

/// Mixed load for `length`.
pub(crate) fn soak(chain: &Chain, length: Duration, pace: Pace) -> Result<Values> {
    let length = if pace.quick { LENGTH_QUICK } else { length };
    let counts = Arc::new(Counts::default());
    let small = thread::spawn({
        let (way, counts) = (chain.way(), Arc::clone(&counts));
        move || runtime()?.block_on(small(&way, &counts))
    });
    let down = Bulk::start(chain, 2, Direction::Down)?;
    let up = Bulk::start(chain, 1, Direction::Up)?;
    let begin = Instant::now();
    let mut resident = Vec::new();
    let mut next = begin;
    while next < begin + length {
        next += if pace.quick { LOOK_QUICK } else { LOOK };
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let kib = chain.resident_kib()?;
        resident.push(kib as f64);
        eprintln!(
            "soak: {:.0} s, {} KiB, {counts:?}",
            begin.elapsed().as_secs_f64(),
            kib
        );
    }
    let bytes: u64 = [&down, &up]
        .into_iter()
        .map(|load| Ok(load.received()?.iter().sum::<u64>()))
        .sum::<Result<u64>>()?;
    counts.stop.store(true, Ordering::Relaxed);
    small
        .join()
        .map_err(|_| Trouble::failed("the thread of the small loads panicked"))??;
    down.stop()?;
    up.stop()?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    let mut values = Values::from([
        ("errors", count(&counts.errors)),
        ("bulk_gib", bytes as f64 / GIB),
        ("short", count(&counts.short)),
        ("verified", count(&counts.verified)),
        ("round_trips", count(&counts.round_trips)),
        ("peak_mib", chain.peak_kib()? as f64 / 1024.0),
    ]);
    values.extend(growth(&resident).map(|growth| ("growth", growth)));
    Ok(values)
}

/// The mean of the last third over that of the middle third. `None` for fewer than three looks, or
/// if nothing is held.
fn growth(resident: &[f64]) -> Option<f64> {
    let third = resident.len() / 3;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let last = mean(&resident[resident.len() - third..]);
    let middle = mean(&resident[third..resident.len() - third]);
    (third > 0 && middle > 0.0).then(|| last / middle)
}

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);

/// The same for a quick look.
const LOOK_QUICK: Duration = Duration::from_secs(1);

/// For a quick look.
const LENGTH_QUICK: Duration = Duration::from_secs(9);

/// Bytes each way of a verified connection.
const VERIFIED: u64 = 4 << 20;

/// The longest that anything small may take beside all this.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    errors: AtomicU64,
    short: AtomicU64,
    verified: AtomicU64,
    round_trips: AtomicU64,
}

impl Counts {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// One more of `counter`, or an error.
    fn count<E>(&self, counter: &AtomicU64, what: &std::result::Result<Result<()>, E>) {
        match what {
            Ok(Ok(())) => counter.fetch_add(1, Ordering::Relaxed),
            Ok(Err(trouble)) => {
                eprintln!("soak: {trouble}");
                self.errors.fetch_add(1, Ordering::Relaxed)
            }
            Err(_) => self.errors.fetch_add(1, Ordering::Relaxed),
        };
    }
}

async fn small(way: &Way, counts: &Counts) -> Result<()> {
    let short = async {
        while !counts.stopped() {
            counts.count(&counts.short, &timeout(LONGEST, crr::one(way)).await);
        }
    };
    let verified = async {
        for order in ORDERS.into_iter().cycle() {
            if counts.stopped() {
                break;
            }
            let one = verify::one(way, VERIFIED, order);
            counts.count(&counts.verified, &timeout(LONGEST, one).await);
        }
    };
    let round_trips = async {
        let mut stream = way.open(Request::Echo).await?;
        while !counts.stopped() {
            let one = async {
                stream.write_all(b"x").await.during("echo")?;
                stream.read_u8().await.during("echo")?;
                Ok(())
            };
            counts.count(&counts.round_trips, &timeout(LONGEST, one).await);
        }
        Ok(())
    };
    tokio::join!(short, verified, round_trips).2
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn growth_compares_the_last_third_with_the_middle() {
        assert_eq!(growth(&[1.0, 9.0, 2.0, 2.0, 3.0, 3.0]), Some(1.5));
        assert_eq!(growth(&[50.0, 50.0, 4.0, 4.0, 4.0, 4.0]), Some(1.0));
        assert_eq!(growth(&[1.0, 1.0]), None);
        assert_eq!(growth(&[0.0; 9]), None);
    }
}
