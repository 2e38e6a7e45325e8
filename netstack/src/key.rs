//! The name of a TCP connection; decides nothing and holds nothing else.

use std::net::SocketAddr;

/// The four numbers that name a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FlowKey {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
}
