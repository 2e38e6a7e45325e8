//! The measurements: each module opens its own connections through a chain and returns named
//! values. `report` decides which of them have a bar and how they are printed; `suite` decides how
//! often they run, and beside what.

mod bulk;
mod crr;
mod far;
mod flows;
mod quiet;
mod round_trip;
mod soak;
mod verify;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use self::bulk::{Direction, bulk};
pub(crate) use self::crr::crr;
pub(crate) use self::far::far;
pub(crate) use self::flows::flows;
pub(crate) use self::quiet::quiet;
pub(crate) use self::round_trip::{Cores, round_trip, round_trip_beside_bulk};
pub(crate) use self::soak::soak;
pub(crate) use self::verify::verify;
pub(crate) use self::work::work;

/// The values of one run by name. Names carry their unit.
pub(crate) type Values = BTreeMap<&'static str, f64>;

/// The time for which things are measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// One measurement, without its warm-up.
    pub(crate) measure: Duration,
    /// Smaller sizes and shorter waits.
    pub(crate) quick: bool,
}

/// Not measured: the time in which windows and caches settle.
const WARM_UP: Duration = Duration::from_secs(1);

/// Bytes in a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// Bytes in a MiB.
const MIB: f64 = (1_u64 << 20) as f64;
