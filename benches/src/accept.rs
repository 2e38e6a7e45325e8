//! Accepts connections for the helpers of the suite, each of which is a thread or process of its
//! own. What a connection carries is the helper's business.

use std::net::SocketAddr;

use overlan_transport::accept::Incoming;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::trouble::{During, Result};

/// Gives each connection to `address` to `handle`, without end. Prints the address, which the suite
/// reads from the log. Nagle is off.
pub(crate) async fn serve<F>(address: SocketAddr, handle: impl Fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let incoming = Incoming::new(listen(address)?, "the suite");
    loop {
        let (stream, _) = incoming.next().await;
        // It fails only for a socket that broke at once, which its client sees.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let connection = handle(stream);
        tokio::spawn(async move {
            // Connections end in every way while a test ends; a failure is seen at the client.
            connection.await.ok();
        });
    }
}

/// Listens with a queue that holds a whole test's burst.
fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4().during("socket")?;
    socket.set_reuseaddr(true).during("SO_REUSEADDR")?;
    socket
        .bind(address)
        .during(format_args!("bind {address}"))?;
    let listener = socket.listen(BACKLOG).during("listen")?;
    announce(listener.local_addr().during("listen")?);
    Ok(listener)
}

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 8192;

#[expect(clippy::print_stdout, reason = "the suite reads it from the log")]
fn announce(address: SocketAddr) {
    println!("listens on {address}");
}
