//! SOCKS5 (RFC 1928, 1929): decides what a client asks for and which reply it gets. The door, which
//! let the client in, reaches its destination.
//!
//! ```text
//! greeting → (password) → request ─┬─ CONNECT → dial → reply → splice
//!                                  ├─ BIND → open port → reply → peer connects → reply → splice
//!                                  └─ UDP ASSOCIATE → open socket → reply → datagrams
//! ```

mod associate;

mod datagram;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;

mod handshake;

mod foreign;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::{Instrument, debug, debug_span};

use crate::doors::client::{self, Client, first_byte, splice_client};
use crate::doors::door::{ClientEnds, ProxyDoor};
use crate::doors::overlay::{Overlay, PeerPort};
use crate::doors::places::AdmittedClient;
use crate::names::Destination;
use crate::names::DialError;

use handshake::{SocksCommand, SocksRequest};

pub(crate) use handshake::SocksRejected;

/// Serves one connection of a client whose first byte says SOCKS5, to its end.
pub(crate) async fn converse<O: Overlay>(
    mut client: Client,
    ends: ClientEnds,
    door: &ProxyDoor<O>,
    entry: &AdmittedClient,
) -> Result<(), SocksRejected> {
    let credentials = door.config.credentials.as_ref();
    let asked = timeout(
        door.config.handshake_timeout,
        handshake::read(&mut client, credentials),
    )
    .await
    .unwrap_or(Err(SocksRejected::TooSlow));
    let request = match asked {
        Ok(request) => request,
        Err(rejected) => {
            match rejected.reply() {
                Some(code) => refuse(&mut client, code).await?,
                // The answer of the handshake is the last word.
                None => client::refuse(&mut client, &[]).await?,
            }
            return Err(rejected);
        }
    };
    let flow = debug_span!("flow", destination = %request.destination, port = request.port);
    serve(client, ends, door, entry, request)
        .instrument(flow)
        .await
}

/// Does what a request asks for, to its end.
async fn serve<O: Overlay>(
    mut client: Client,
    ends: ClientEnds,
    door: &ProxyDoor<O>,
    entry: &AdmittedClient,
    request: SocksRequest,
) -> Result<(), SocksRejected> {
    let SocksRequest {
        command,
        destination,
        port,
    } = request;
    if door.prove(entry).is_err() {
        // SOCKS has no reply for it.
        return Ok(refuse(&mut client, GENERAL_FAILURE).await?);
    }
    let refused = match command {
        SocksCommand::Connect => match door.reach(&destination, port).await {
            Ok(reached) => {
                client.write_all(&reply(SUCCEEDED, NOWHERE)).await?;
                // Bytes that the client sent before this reply are still in its socket and go
                // first.
                splice_client(client, Bytes::new(), reached, door.config.patience()).await;
                return Ok(());
            }
            Err(error) => error,
        },
        SocksCommand::Bind => match open(door, &destination).await {
            Ok(bound) => return Ok(wait_for_peer(client, bound, door).await?),
            Err(error) => error,
        },
        // A door that closes begins nothing new.
        SocksCommand::Associate if door.closed().is_cancelled() => DialError::NotReady,
        SocksCommand::Associate => match entry.associate() {
            Some(_place) => return Ok(associate::run(client, ends, door).await?),
            None => DialError::Internal("too many UDP associations are open".to_owned()),
        },
    };
    let next = door.overlay.next_step(&destination, port, &refused);
    debug!(?command, error = %refused, next, "a SOCKS request was refused");
    refuse(&mut client, refused.socks_reply()).await?;
    Ok(())
}

async fn open<O: Overlay>(door: &ProxyDoor<O>, peer: &Destination) -> Result<O::Bound, DialError> {
    door.settle(peer).await?;
    door.overlay.bind(peer)
}

/// Does the second half of BIND: a reply with the address of the port, and one when the peer has
/// connected.
async fn wait_for_peer<O: Overlay>(
    mut client: Client,
    mut bound: O::Bound,
    door: &ProxyDoor<O>,
) -> io::Result<()> {
    client.write_all(&reply(SUCCEEDED, bound.local())).await?;
    let accepted = tokio::select! {
        accepted = timeout(door.config.bind_timeout, bound.accept()) => accepted,
        // A client that sends early stays; one that is gone wants no connection.
        Ok(None) | Err(_) = first_byte(&client) => return Ok(()),
    };
    // One connection was asked for.
    drop(bound);
    match accepted {
        Ok((stream, peer)) => {
            client.write_all(&reply(SUCCEEDED, peer)).await?;
            splice_client(client, Bytes::new(), stream, door.config.patience()).await;
            Ok(())
        }
        Err(_) => refuse(&mut client, DialError::TimedOut.socks_reply()).await,
    }
}

async fn refuse(client: &mut Client, code: u8) -> io::Result<()> {
    client::refuse(client, &reply(code, NOWHERE)).await
}

/// The reply to a request.
fn reply(code: u8, at: SocketAddr) -> Vec<u8> {
    let mut reply = vec![VERSION, code, 0];
    datagram::push_address(&mut reply, at);
    reply
}

/// The address of a connection on our side means nothing to a client, so it gets none.
const NOWHERE: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

const VERSION: u8 = 5;

/// The answer to a client that may not come in by any method that it offers (RFC 1928, section 3).
pub(crate) const NOT_ACCEPTABLE: [u8; 2] = [VERSION, 0xff];

/// Reply code of RFC 1928, section 6. The others come from [`DialError::socks_reply`].
const SUCCEEDED: u8 = 0;
const GENERAL_FAILURE: u8 = 1;

#[cfg(test)]
mod tests;
