//! Measures the way to a peer: rates, latency idle and under load, and what limits them. Decides
//! what is asked for and what is reported; whoever runs the client gives it connections, counters
//! and somebody who listens.
//!
//! ```text
//! run ── control connection: OPEN, START, COUNTS every second ──> serve
//!     ── echo connection: one byte there and back ──────────────>
//!     ══ up streams ══════════════════════════════════════════=>
//!     <═ down streams ═══════════════════════════════════════════
//! ```
//! The end of the control connection ends the session, whichever end goes and why. Nothing listens
//! unless a person asked for it.

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

/// The measurement that is asked for. Valid by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u16, u8, u8)", into = "(u16, u8, u8)")]
pub struct Plan {
    seconds: u16,
    up: u8,
    down: u8,
}

/// The reason for which a plan is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Too short or too long.
    #[error("a measurement takes 1 to {SECONDS_MAX} seconds")]
    Seconds,
    /// Too many.
    #[error("a measurement has at most {STREAMS_MAX} streams in each direction")]
    Streams,
}

impl Plan {
    /// `up` streams to the peer and `down` streams from it for `seconds`. Without any stream,
    /// latency alone is measured.
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

    /// The duration.
    #[must_use]
    pub fn seconds(&self) -> u16 {
        self.seconds
    }

    /// Streams to the peer.
    #[must_use]
    pub fn up(&self) -> u8 {
        self.up
    }

    /// Streams from the peer.
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
    /// Peers may measure now.
    Listening {
        /// Overlay port.
        port: u16,
    },
    /// A peer measures.
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
    /// The peer agreed, and the way is idle so far.
    Idle {
        /// Round trips on the idle way.
        latency: Option<Latency>,
    },
    /// Another second has passed.
    Second {
        /// The number of the second, from 1.
        second: u16,
        /// Bits that the peer received in it per second, all streams together.
        up: u64,
        /// Bits that were received from the peer.
        down: u64,
    },
}

/// All that was measured. Fields are added, never changed or removed, while [`SCHEMA_VERSION`]
/// stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The peer as it was named.
    pub peer: String,
    /// Its address.
    pub address: IpAddr,
    /// Time for which streams ran, or round trips were taken if there were no streams; seconds.
    pub seconds: f64,
    /// Somebody ended it before its time.
    pub interrupted: bool,
    /// Round trips of one byte before the streams ran.
    pub latency_idle: Option<Latency>,
    /// Round trips of one byte beside the streams.
    pub latency_loaded: Option<Latency>,
    /// Streams to the peer, as the peer received them.
    pub up: Option<Throughput>,
    /// Streams from the peer, as they were received here.
    pub down: Option<Throughput>,
    /// The counters of this client meanwhile, other traffic included.
    pub here: Side,
    /// The counters of the peer's client meanwhile.
    pub there: Side,
}

/// The newest form of [`Report`].
pub const SCHEMA_VERSION: u32 = 1;

/// The reason for which there is no report. One variant per thing that a person does differently.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// Nobody there lets others measure.
    #[error(
        "the peer takes no measurements on port {0}; run `overlan perf --serve` there, leave it \
         running, and try again"
    )]
    NotServing(u16),
    /// It measures for others already.
    #[error("the peer measures for others already; try again when they have finished")]
    Busy,
    /// It is of another version, or something else listens there.
    #[error(
        "what listens there does not speak this measurement's protocol; is it of another version?"
    )]
    NotUnderstood,
    /// The peer cannot be reached.
    #[error("cannot connect: {0}")]
    Dial(DialError),
    /// A connection broke in the middle.
    #[error("the measurement broke off: {0}")]
    Broken(#[from] std::io::Error),
    /// It was stopped while connections were opened.
    #[error("stopped before anything was measured")]
    Interrupted,
    /// The peer does not answer any more.
    #[error("the peer stopped answering")]
    Silent,
}

/// A client's counters by name, as `status` shows them.
pub type Counters = BTreeMap<String, u64>;

/// The overlay port on which peers measure by default: that of iperf3.
pub const PORT: u16 = 5201;

/// Longest measurement, seconds: an hour shows what a day would.
pub const SECONDS_MAX: u16 = 3_600;

/// Streams in each direction: beyond what a browser or a package manager opens, and their counts
/// fit one message.
pub const STREAMS_MAX: u8 = 128;
