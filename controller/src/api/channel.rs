//! The connection that a request came on, as the API needs it. Decides nothing.

use std::net::IpAddr;
use std::sync::Arc;

use overlan_protocol::Exporter;

use crate::seats::Seat;

/// The connection that a request came on.
#[derive(Debug, Clone)]
pub(crate) struct Channel {
    pub(crate) exporter: Exporter,
    /// The address that it comes from.
    pub(crate) address: IpAddr,
    /// The same, as connections are counted.
    pub(crate) source: IpAddr,
    pub(crate) seat: Arc<Seat>,
}
