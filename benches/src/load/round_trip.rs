//! One byte there and back on an open connection: alone, with cores kept awake, and beside bulk
//! downloads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use super::bulk::Bulk;
use super::{Direction, Pace, Values, WARM_UP};
use crate::chain::{Chain, runtime};
use crate::process::{self, Process};
use crate::stats::percentile;
use crate::trouble::{During, Result};
use crate::wire::Request;

/// Says whether cores may sleep between the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    /// As the machine is: a sleeping core takes some 40 µs to wake.
    Natural,
    /// A process of the idle scheduling class turns on each core, so that none sleeps.
    Awake,
}

/// Round trips with nothing beside them. Logs of spinning processes go to `directory`.
pub(crate) fn round_trip(
    chain: &Chain,
    cores: Cores,
    pace: Pace,
    directory: &Path,
) -> Result<Values> {
    let spinners = match cores {
        Cores::Natural => Vec::new(),
        Cores::Awake => spinners(directory)?,
    };
    let values = ping(chain, pace.measure);
    drop(spinners);
    values
}

/// Round trips beside four downloads, and what these carry meanwhile.
pub(crate) fn round_trip_beside_bulk(chain: &Chain, pace: Pace) -> Result<Values> {
    let load = Bulk::start(chain, BESIDE, Direction::Down)?;
    std::thread::sleep(WARM_UP);
    let (begin, before) = (Instant::now(), sum(&load)?);
    let mut values = ping(chain, pace.measure)?;
    let (seconds, after) = (begin.elapsed().as_secs_f64(), sum(&load)?);
    load.stop()?;
    values.insert("bulk_gbit_s", (after - before) * 8.0 / seconds / 1e9);
    // The downloads' CPU time is in it.
    values.remove("cpu_us");
    Ok(values)
}

/// Downloads beside the round trips.
const BESIDE: usize = 4;

/// Round trips that are not measured.
const SETTLE: usize = 50;

/// The longest that one may take.
const LONGEST: Duration = Duration::from_secs(10);

fn sum(load: &Bulk) -> Result<f64> {
    Ok(load.received()?.iter().sum::<u64>() as f64)
}

/// On a plain blocking socket, which adds the least of its own.
fn ping(chain: &Chain, duration: Duration) -> Result<Values> {
    let stream = runtime()?.block_on(async {
        let stream = chain.open(Request::Echo).await?;
        stream.into_std().during("socket")
    })?;
    stream.set_nonblocking(false).during("socket")?;
    stream.set_read_timeout(Some(LONGEST)).during("socket")?;
    for _ in 0..SETTLE {
        one(&stream)?;
    }
    let cpu = chain.cpu_seconds()?;
    let mut latencies = Vec::new();
    let end = Instant::now() + duration;
    let mut now = Instant::now();
    while now < end {
        one(&stream)?;
        let after = Instant::now();
        latencies.push(after.duration_since(now).as_secs_f64() * 1e6);
        now = after;
    }
    let cpu = chain.cpu_seconds()? - cpu;
    latencies.sort_by(f64::total_cmp);
    let mut values = Values::from([("cpu_us", cpu * 1e6 / latencies.len() as f64)]);
    for (name, share) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
        values.extend(percentile(&latencies, share).map(|value| (name, value)));
    }
    Ok(values)
}

fn one(mut stream: &TcpStream) -> Result<()> {
    stream.write_all(b"x").during("send a byte")?;
    let mut byte = [0];
    stream.read_exact(&mut byte).during("wait for the byte")
}

/// One for each core.
fn spinners(directory: &Path) -> Result<Vec<Process>> {
    let (taskset, chrt) = (process::find("taskset")?, process::find("chrt")?);
    let program = std::env::current_exe().during("find this program")?;
    let cores = std::thread::available_parallelism().during("cores")?.get();
    (0..cores)
        .map(|core| {
            let mut command = process::clean(&taskset);
            command.args(["-c", &core.to_string()]);
            command
                .arg(&chrt)
                .args(["-i", "0"])
                .arg(&program)
                .arg("spin");
            Process::start(&format!("spin-{core}"), directory, &mut command)
        })
        .collect()
}
