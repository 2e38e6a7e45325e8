//! SOCKS5 (RFC 1928, 1929): decides what a client asks for and which reply it gets. Where a
//! destination is reached is the door's, which also let the client in.
//!
//! ```text
//! greeting → (password) → request ─┬─ CONNECT → dial → reply → splice
//!                                  ├─ BIND → open port → reply → peer connects → reply → splice
//!                                  └─ UDP ASSOCIATE → open socket → reply → datagrams, while the connection lasts
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
use tracing::debug;

use crate::doors::client::{self, Client, first_byte, splice_client};
use crate::doors::door::{ClientEnds, ProxyDoor};
use crate::doors::overlay::{Bound, Overlay};
use crate::doors::places::Admission;
use crate::names::Destination;
use crate::names::DialError;

use handshake::{SocksCommand, SocksRequest};

pub(crate) use handshake::SocksRejected;

/// One connection of a client whose first byte says SOCKS5, to its end.
pub(crate) async fn converse<O: Overlay>(
    mut client: Client,
    ends: ClientEnds,
    door: &ProxyDoor<O>,
    entry: &Admission,
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
                // What it was told already is the last word.
                None => client::refuse(&mut client, &[]).await?,
            }
            return Err(rejected);
        }
    };
    let SocksRequest {
        command,
        destination,
        port,
    } = request;
    if door.prove(entry).is_err() {
        // SOCKS has no word for it.
        return Ok(refuse(&mut client, GENERAL_FAILURE).await?);
    }
    let refused = match command {
        SocksCommand::Connect => match door.reach(&destination, port).await {
            Ok(reached) => {
                client.write_all(&reply(SUCCEEDED, NOWHERE)).await?;
                // What the client sent before it heard that is still in its socket and goes first.
                splice_client(client, Bytes::new(), reached, door.config.patience()).await;
                return Ok(());
            }
            Err(error) => error,
        },
        SocksCommand::Bind => match open(door, &destination).await {
            Ok(bound) => return Ok(wait_for_peer(client, bound, door).await?),
            Err(error) => error,
        },
        // What ends in a moment is begun by nobody.
        SocksCommand::Associate if door.closed().is_cancelled() => DialError::NotReady,
        SocksCommand::Associate => match entry.associate() {
            Some(_place) => return Ok(associate::run(client, ends, door).await?),
            None => DialError::Internal("too many UDP associations".to_owned()),
        },
    };
    let next = door.overlay.next_step(&destination, port, &refused);
    debug!(?command, ?destination, port, error = %refused, next, "a request was refused");
    refuse(&mut client, refused.socks_reply()).await?;
    Ok(())
}

async fn open<O: Overlay>(door: &ProxyDoor<O>, peer: &Destination) -> Result<O::Bound, DialError> {
    door.settle(peer).await?;
    door.overlay.bind(peer)
}

/// The second half of BIND: a reply that says where the port is, and one when the peer has
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

/// The address that a connection has on our side means nothing to a client, so it is none.
const NOWHERE: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

const VERSION: u8 = 5;

/// What a client hears who may not come in by any method that it offers (RFC 1928, section 3).
pub(crate) const NOT_ACCEPTABLE: [u8; 2] = [VERSION, 0xff];

/// Reply code of RFC 1928, section 6. The others come from [`DialError::socks_reply`].
const SUCCEEDED: u8 = 0;
const GENERAL_FAILURE: u8 = 1;

#[cfg(test)]
mod tests;
