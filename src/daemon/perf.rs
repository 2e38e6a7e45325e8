//! Measures the way to a peer: rates, latency idle and under load, and the bottleneck. Decides the
//! order of a measurement and the figures in its report; its caller gives it connections and
//! counters.
//!
//! ```text
//! run ── control connection: OPEN, START, COUNTS every second ──> serve
//!     ── echo connection: one byte there and back ──────────────>
//!     ══ up streams ══════════════════════════════════════════=>
//!     <═ down streams ═══════════════════════════════════════════
//! ```
//! The end of the control connection ends the session, whichever side closes it. A device listens
//! for measurements only while a person runs `overlan perf --serve`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::names::DialError;

mod bottleneck;

mod figures;

mod run;

mod sample;

mod serve;

mod stream;

mod wire;

pub use bottleneck::{Bottleneck, Finding};
pub use figures::{Latency, Throughput};
pub use run::run;
pub use sample::Side;
pub use serve::serve;

/// The plan of a measurement, valid by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u16, u8, u8)", into = "(u16, u8, u8)")]
pub struct Plan {
    seconds: u16,
    up: u8,
    down: u8,
}

/// The reason why a plan is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// It is too short or too long.
    #[error("a measurement takes 1 to {SECONDS_MAX} seconds")]
    Seconds,
    /// It has too many streams.
    #[error("a measurement has at most {STREAMS_MAX} streams in each direction")]
    Streams,
}

impl Plan {
    /// Plans `up` streams to the peer and `down` streams from it, for `seconds`. Without any
    /// stream, only latency is measured.
    ///
    /// # Errors
    /// See [`PlanError`].
    pub fn new(seconds: u16, up: u8, down: u8) -> Result<Self, PlanError> {
        if !(1..=SECONDS_MAX).contains(&seconds) {
            return Err(PlanError::Seconds);
        }
        if up.max(down) > STREAMS_MAX {
            return Err(PlanError::Streams);
        }
        Ok(Self { seconds, up, down })
    }

    /// Returns the duration, seconds.
    #[must_use]
    pub fn seconds(&self) -> u16 {
        self.seconds
    }

    /// Returns the number of streams to the peer.
    #[must_use]
    pub fn up(&self) -> u8 {
        self.up
    }

    /// Returns the number of streams from the peer.
    #[must_use]
    pub fn down(&self) -> u8 {
        self.down
    }

    fn has_streams(&self) -> bool {
        self.up > 0 || self.down > 0
    }
}

impl TryFrom<(u16, u8, u8)> for Plan {
    type Error = PlanError;

    fn try_from((seconds, up, down): (u16, u8, u8)) -> Result<Self, PlanError> {
        Self::new(seconds, up, down)
    }
}

impl From<Plan> for (u16, u8, u8) {
    fn from(plan: Plan) -> Self {
        (plan.seconds, plan.up, plan.down)
    }
}

/// The progress of a measurement, or of a session in which peers measure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// The ports are open, and peers may measure.
    Listening {
        /// Overlay port.
        port: u16,
    },
    /// A peer has begun to measure.
    Began {
        /// Its address.
        remote: IpAddr,
        /// Its plan.
        plan: Plan,
    },
    /// A peer's measurement is over.
    Ended {
        /// Its address.
        remote: IpAddr,
    },
    /// The peer agreed, and the latency of the idle way is known.
    Idle {
        /// Round trips on the idle way.
        latency: Option<Latency>,
    },
    /// Another second has passed.
    Second {
        /// The number of the second, from 1.
        second: u16,
        /// Bits per second that the peer received, all streams together.
        up: u64,
        /// Bits per second that were received from the peer.
        down: u64,
    },
}

/// The report of a measurement. Fields are added, never changed or removed, while
/// [`SCHEMA_VERSION`] stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The version of this form, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The peer as it was named.
    pub peer: String,
    /// Its address.
    pub address: IpAddr,
    /// The time for which streams ran or, without streams, round trips were taken; seconds.
    pub seconds: f64,
    /// True if it was ended before its time.
    pub interrupted: bool,
    /// Round trips of one byte before the streams ran.
    pub latency_idle: Option<Latency>,
    /// Round trips of one byte while the streams ran.
    pub latency_loaded: Option<Latency>,
    /// Streams to the peer, as the peer received them.
    pub up: Option<Throughput>,
    /// Streams from the peer, as they were received here.
    pub down: Option<Throughput>,
    /// The counters of this client meanwhile, with other traffic.
    pub here: Side,
    /// The counters of the peer's client meanwhile.
    pub there: Side,
}

/// The newest form of [`Report`].
pub const SCHEMA_VERSION: u32 = 1;

/// The reason why there is no report: one variant for each thing that a person does differently.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// The peer does not run `overlan perf --serve`.
    #[error(
        "the peer takes no measurements on port {0}; run `overlan perf --serve` there, leave it \
         running, and try again"
    )]
    NotServing(u16),
    /// The peer already serves as many measurements as it can.
    #[error("other devices measure with this peer; try again when they have finished")]
    Busy,
    /// The peer has another version, or another program listens on the port.
    #[error(
        "the answer on that port is not of a measurement: use the same version of overlan on both \
         devices, and the port of `overlan perf --serve`"
    )]
    NotUnderstood,
    /// The peer cannot be reached.
    #[error("cannot connect: {0}")]
    Dial(DialError),
    /// A connection broke during the measurement.
    #[error("the measurement broke off: {0}")]
    Broken(#[from] std::io::Error),
    /// The measurement was stopped while its connections were being opened.
    #[error("stopped before anything was measured")]
    Interrupted,
    /// The peer stopped answering.
    #[error("the peer stopped answering")]
    Silent,
}

/// A client's counters by name, as `status` shows them.
pub type Counters = BTreeMap<String, u64>;

/// The default overlay port for measurements: that of iperf3.
pub const PORT: u16 = 5201;

/// Longest measurement, seconds: a day would show no more than an hour.
pub const SECONDS_MAX: u16 = 3_600;

/// The number of streams in each direction: more than a browser or a package manager opens, and
/// their counts fit one message.
pub const STREAMS_MAX: u8 = 128;
