//! This host as a door needs it: sockets and how many there may be, the user of the program at the
//! other end, memory, and bytes moved between two streams. It knows neither networks nor peers.

pub(crate) mod accept;

pub(crate) mod sockets;

pub(crate) mod shares;

pub(crate) mod readable;

#[cfg(target_os = "linux")]
pub(crate) mod same_user;
#[cfg(not(target_os = "linux"))]
#[path = "host/same_user/elsewhere.rs"]
pub(crate) mod same_user;

pub mod memory;

pub mod splice;

pub(crate) mod dial_times;

pub(crate) mod direct;

pub(crate) mod sessions;
