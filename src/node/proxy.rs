//! A proxy inside of a program that uses the library, for those of its parts that know no other way out. Decides nothing; what a
//! SOCKS client may ask for is decided in `socks`.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::Node;
use crate::socks::{self, SocksConfig};

impl Node {
    /// Opens a SOCKS5 proxy on `address` of this host, port 0 for any, and returns where it listens. It is there until the node
    /// ends. For HTTP clients that cannot be given a connector, and libraries that dial by themselves:
    /// `reqwest::Proxy::all(format!("socks5h://{address}"))`.
    ///
    /// Use loopback: who can connect is, as far as SOCKS knows, this program. On Linux only programs of the same user may.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn listen_socks(&self, address: SocketAddr) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        // Not a `Node`: the proxy alone must not keep it up.
        let inner = self.inner.clone();
        let dial = move |destination, port| {
            let inner = inner.clone();
            async move { inner.dial(destination, port).await }
        };
        let stop = self.inner.closing.clone();
        self.inner
            .tasks
            .spawn(socks::serve(listener, SocksConfig::default(), dial, stop));
        Ok(address)
    }
}
