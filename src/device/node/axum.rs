//! Web applications on an overlay port: lets axum serve a [`Listener`]. Decides nothing.

use std::future::pending;
use std::io;
use std::net::SocketAddr;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;

use super::{Listener, PeerAddr, Stream};
use crate::names::PeerIdentity;

/// Serves
/// `axum::serve(node.listen(80)?, app.into_make_service_with_connect_info::<PeerIdentity>())`,
/// whose handlers get the peer by `ConnectInfo<PeerIdentity>`. After the node was closed no
/// connection comes any more; `.with_graceful_shutdown(async move { node.closed().await })` ends
/// the server then.
impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = PeerIdentity;

    async fn accept(&mut self) -> (Stream, PeerIdentity) {
        match Listener::accept(self).await {
            Ok(accepted) => accepted,
            Err(_) => pending().await,
        }
    }

    /// Returns this device's identity in the first of its networks.
    fn local_addr(&self) -> io::Result<PeerIdentity> {
        let inner = &self.node().inner;
        let memberships = inner.engine.memberships();
        let own = memberships.iter().find_map(|(network, membership)| {
            let address = SocketAddr::new(*membership.addresses().first()?, self.port());
            let network = *network;
            inner.identify(PeerAddr { network, address })
        });
        own.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

impl Connected<IncomingStream<'_, Listener>> for PeerIdentity {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}
