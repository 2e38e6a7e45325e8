//! The same questions where the system does not say which user connects: every program of the host
//! may come in, as the documents say.

use std::net::SocketAddr;

use crate::host::shares::Claimant;

/// No program is a stranger here.
pub(crate) use std::convert::Infallible as Stranger;

pub(crate) async fn admit_connection(_: SocketAddr, _: SocketAddr) -> Result<u32, Stranger> {
    Ok(rustix::process::geteuid().as_raw())
}

pub(crate) async fn admit_sender(_: SocketAddr, user: u32) -> Result<u32, Stranger> {
    Ok(user)
}

pub(crate) async fn user_of_connection(_: SocketAddr, _: SocketAddr) -> Option<u32> {
    None
}

pub(crate) async fn source_of(client: SocketAddr, _: SocketAddr) -> Claimant {
    Claimant::from(client.ip())
}

pub(crate) fn has_left(_: SocketAddr, _: SocketAddr) -> bool {
    false
}
