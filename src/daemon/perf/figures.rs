//! Figures from bytes and times: rates, fairness, percentiles. Decides how they are computed; reads
//! no clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bottleneck::Finding;

/// Round trips of one byte, in microseconds; percentiles are exact to 3 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// The number of round trips.
    pub round_trips: u64,
    /// The median.
    pub p50_us: u64,
    /// The value that 99 of 100 do not exceed.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

/// The result of one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    /// Bytes that arrived.
    pub bytes: u64,
    /// Bits per second.
    pub bits_per_second: u64,
    /// Bits per second of each stream.
    pub streams: Vec<u64>,
    /// Jain's index of the streams: 1 if all are equal, 1/n if one of n got everything.
    pub fairness: f64,
    /// The cause that limited it.
    pub bottleneck: Finding,
}

/// Computes bits per second from `bytes` in `elapsed_us`; 0 for no time.
pub(super) fn rate(bytes: u64, elapsed_us: u64) -> u64 {
    let bits = u128::from(bytes) * 8 * 1_000_000;
    let rate = bits.checked_div(u128::from(elapsed_us)).unwrap_or_default();
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// Computes Jain's index; 1 without any byte.
pub(super) fn fairness(streams: &[u64]) -> f64 {
    let sum: f64 = streams.iter().map(|bytes| *bytes as f64).sum();
    let squares: f64 = streams.iter().map(|bytes| (*bytes as f64).powi(2)).sum();
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (streams.len() as f64 * squares)
}

/// Round trips, counted in buckets that are at most 1/32 of their value wide: an hour of them takes
/// as much room as a second.
#[derive(Debug, Clone)]
pub(super) struct RoundTrips {
    buckets: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl RoundTrips {
    pub(super) fn new() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            max_us: 0,
        }
    }

    pub(super) fn note(&mut self, time: Duration) {
        let us = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.buckets[bucket(us)] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(u64::from(us));
    }

    /// Computes the figures; `None` without any round trip.
    pub(super) fn latency(&self) -> Option<Latency> {
        (self.count > 0).then(|| Latency {
            round_trips: self.count,
            p50_us: self.percentile(50),
            p99_us: self.percentile(99),
            max_us: self.max_us,
        })
    }

    fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map_or(0, |index| highest(index).min(self.max_us))
    }
}

/// Chooses the bucket of a value. Below 2^6 each value has its own; above, each power of two has
/// 32.
fn bucket(us: u32) -> usize {
    let exponent = us.checked_ilog2().unwrap_or_default();
    if exponent < 6 {
        return us as usize;
    }
    let mantissa = us >> (exponent - 5) & 31;
    (64 + (exponent - 6) * 32 + mantissa) as usize
}

/// Returns the largest value of a bucket.
fn highest(bucket: usize) -> u64 {
    if bucket < 64 {
        return bucket as u64;
    }
    let (exponent, mantissa) = ((bucket - 64) / 32 + 6, (bucket - 64) % 32);
    ((33 + mantissa as u64) << (exponent - 5)) - 1
}

/// The number of buckets for all values of 32 bits.
const BUCKETS: usize = 64 + 26 * 32;

#[cfg(test)]
mod tests;
