//! The figures of one end: its client's counters and its processors. Decides how they are sent and
//! subtracted; the counters themselves are the client's.

use std::collections::BTreeMap;
use std::fs;

use serde::{Deserialize, Serialize};

use super::Counters;

macro_rules! sample {
    (
        growing { $($(#[$growing_doc:meta])* $growing:ident,)* }
        of_now { $($(#[$now_doc:meta])* $now:ident,)* }
    ) => {
        /// All numbers of one end at one moment, in the order in which they are sent. Unknown
        /// ones are 0.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub(super) struct Sample {
            $($(#[$growing_doc])* pub(super) $growing: u64,)*
            $($(#[$now_doc])* pub(super) $now: u64,)*
        }

        /// The number of figures of a [`Sample`].
        pub(super) const FIELDS: usize =
            [$(stringify!($growing),)* $(stringify!($now),)*].len();

        impl Sample {
            pub(super) fn fields(&self) -> [u64; FIELDS] {
                [$(self.$growing,)* $(self.$now,)*]
            }

            pub(super) fn from_fields(fields: [u64; FIELDS]) -> Self {
                let [$($growing,)* $($now,)*] = fields;
                Self { $($growing,)* $($now,)* }
            }

            /// Computes the difference to `before`. States keep their present value; a count that
            /// shrank, as only a broken peer's does, is 0.
            pub(super) fn since(&self, before: &Self) -> Self {
                Self {
                    $($growing: self.$growing.saturating_sub(before.$growing),)*
                    $($now: self.$now,)*
                }
            }
        }
    };
}

sample! {
    growing {
        bytes_in,
        bytes_out,
        packets_in,
        packets_out,
        retransmits,
        credit_waits,
        credit_wait_us,
        link_stalls,
        link_stall_us,
        queue_turns,
        queue_delay_us,
        /// Processor time of the process, microseconds.
        cpu_us,
        /// Processor time of its busiest thread since the [`Sampler`] began, microseconds.
        busiest_us,
        /// Time for which the machine's processors were busy, all together, microseconds.
        machine_busy_us,
        /// The same with their idle time.
        machine_total_us,
    }
    of_now {
        /// Processors that the process may use.
        processors,
        credit_window,
        flows,
        ring_bytes,
    }
}

/// The counters of one end meanwhile, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Bytes of packets that came in.
    pub bytes_in: u64,
    /// Bytes of packets that went out.
    pub bytes_out: u64,
    /// Packets that came in.
    pub packets_in: u64,
    /// Packets that went out.
    pub packets_out: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// The number of times that a peer had packets but no credit.
    pub credit_waits: u64,
    /// The time of these waits, milliseconds.
    pub credit_wait_ms: f64,
    /// The credit window at the end, bytes.
    pub credit_window: u64,
    /// The number of times that a link had bytes and its socket took none.
    pub link_stalls: u64,
    /// The time of these stalls, milliseconds.
    pub link_stall_ms: f64,
    /// The mean time for which a peer waited for its turn to send, milliseconds.
    pub queue_delay_mean_ms: f64,
    /// The number of processors that the process kept busy on average.
    pub processors_used: f64,
    /// The number of processors that it may use.
    pub processors: u64,
    /// Part of all processors' time for which the machine was busy, if the system reports it.
    pub machine_busy: Option<f64>,
}

impl Sample {
    /// Computes the used part of the machine's processor time, for a difference.
    pub(super) fn machine_busy(&self) -> Option<f64> {
        (self.machine_total_us > 0)
            .then(|| self.machine_busy_us as f64 / self.machine_total_us as f64)
    }

    /// Converts a difference over `elapsed_us` to units for people.
    pub(super) fn side(&self, elapsed_us: u64) -> Side {
        let ms = |us: u64| us as f64 / 1e3;
        Side {
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            packets_in: self.packets_in,
            packets_out: self.packets_out,
            retransmits: self.retransmits,
            credit_waits: self.credit_waits,
            credit_wait_ms: ms(self.credit_wait_us),
            credit_window: self.credit_window,
            link_stalls: self.link_stalls,
            link_stall_ms: ms(self.link_stall_us),
            queue_delay_mean_ms: ms(self.queue_delay_us) / self.queue_turns.max(1) as f64,
            processors_used: self.cpu_us as f64 / elapsed_us.max(1) as f64,
            processors: self.processors,
            machine_busy: self.machine_busy(),
        }
    }
}

/// Takes samples of this process.
#[derive(Debug)]
pub(super) struct Sampler {
    threads: BTreeMap<u64, u64>,
}

impl Sampler {
    /// Begins: the processor time of threads counts from here.
    pub(super) fn new() -> Self {
        Self { threads: threads() }
    }

    /// Takes a sample of this moment.
    pub(super) fn sample(&self, counters: &Counters) -> Sample {
        let of = |name: &str| counters.get(name).copied().unwrap_or_default();
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (machine_busy_us, machine_total_us) =
            parse_machine(&read("/proc/stat")).unwrap_or_default();
        let used = threads()
            .into_iter()
            .map(|(id, us)| us - self.threads.get(&id).copied().unwrap_or_default().min(us));
        Sample {
            bytes_in: of("bytes_in"),
            bytes_out: of("bytes_out"),
            packets_in: of("packets_in"),
            packets_out: of("packets_out"),
            retransmits: of("retransmits"),
            credit_waits: of("credit_waits"),
            credit_wait_us: of("credit_wait_us"),
            link_stalls: of("link_stalls"),
            link_stall_us: of("link_stall_us"),
            queue_turns: of("queue_turns"),
            queue_delay_us: of("queue_delay_us"),
            cpu_us: parse_cpu(&read("/proc/self/stat")).unwrap_or_default(),
            busiest_us: used.max().unwrap_or_default(),
            machine_busy_us,
            machine_total_us,
            processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            credit_window: of("credit_window"),
            flows: of("flows"),
            ring_bytes: of("ring_bytes"),
        }
    }
}

/// Reads the processor time of each thread of this process; empty without /proc.
fn threads() -> BTreeMap<u64, u64> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else {
        return BTreeMap::new();
    };
    let thread = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(entry.path().join("stat")).ok()?;
        Some((id, parse_cpu(&text)?))
    };
    entries
        .flatten()
        .take(THREADS_MAX)
        .filter_map(thread)
        .collect()
}

/// Reads the processor time in user and kernel mode from the `stat` file of a process or thread,
/// microseconds.
fn parse_cpu(stat: &str) -> Option<u64> {
    // The name in parentheses may hold any character, even parentheses and spaces.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)?.checked_mul(TICK_US)
}

/// Reads the busy and the total time of all processors from `/proc/stat`, microseconds.
fn parse_machine(stat: &str) -> Option<(u64, u64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut fields = [0_u64; 8];
    let mut numbers = line.split_ascii_whitespace();
    // user nice system idle iowait irq softirq steal; the time of guests is part of user.
    for field in &mut fields {
        *field = numbers.next()?.parse().ok()?;
    }
    let total: u64 = fields.iter().sum();
    let idle = fields[3] + fields[4];
    Some(((total - idle) * TICK_US, total * TICK_US))
}

/// The unit of these files: Linux reports hundredths of a second to all programs, whatever the rate
/// of its own clock.
const TICK_US: u64 = 10_000;

/// The number of threads that are read; the runtime has one per processor, and some for files.
const THREADS_MAX: usize = 1_024;

#[cfg(test)]
mod tests;
