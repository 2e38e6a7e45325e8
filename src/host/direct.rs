//! Connections to foreign destinations, from this host: decides which of a name's addresses wins
//! (RFC 8305).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

use crate::host::sockets;
use crate::names::DialError;
use crate::names::{self, Destination};

/// Dials from this host, by its own resolver.
pub(crate) async fn dial(destination: Destination, port: u16) -> Result<TcpStream, DialError> {
    dial_where(destination, port, |_| true).await
}

/// Dials only addresses that are `allowed`; if none is, the error is [`DialError::DeniedByPolicy`].
pub(crate) async fn dial_where(
    destination: Destination,
    port: u16,
    mut allowed: impl FnMut(IpAddr) -> bool,
) -> Result<TcpStream, DialError> {
    let mut found = addresses(destination, port).await?;
    found.retain(|address| allowed(address.ip()));
    if found.is_empty() {
        return Err(DialError::DeniedByPolicy);
    }
    let stream = race(found, TcpStream::connect).await?;
    sockets::prepare(&stream);
    Ok(stream)
}

/// Returns the addresses of a foreign destination. Those of the overlay are left out: they are
/// ours, whatever a foreign name says.
pub(crate) async fn addresses(
    destination: Destination,
    port: u16,
) -> Result<Vec<SocketAddr>, DialError> {
    let found: Vec<SocketAddr> = match destination {
        Destination::Address(address) | Destination::AddressIn(address, _) => {
            return Ok(vec![SocketAddr::new(address.get(), port)]);
        }
        Destination::Name(name) => lookup_host((name, port))
            .await
            .map_err(|_| DialError::UnknownName)?
            .filter(|address| !names::in_overlay(address.ip().to_canonical()))
            .collect(),
    };
    if found.is_empty() {
        return Err(DialError::UnknownName);
    }
    Ok(interleaved(&found))
}

/// The families in turn, each in the resolver's order, beginning with the family that the resolver
/// prefers.
fn interleaved(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let family = |v6: bool| {
        addresses
            .iter()
            .filter(move |address| address.is_ipv6() == v6)
    };
    let (mut first, mut second) = (family(prefers_v6), family(!prefers_v6));
    let mut all = Vec::with_capacity(addresses.len());
    while all.len() < addresses.len() {
        all.extend(first.next());
        all.extend(second.next());
    }
    all.truncate(ATTEMPTS_MAX);
    all
}

/// Tries one address after the other, the next as soon as one has failed or [`HEAD_START`] is over,
/// and takes the first that answers. The others are dropped.
async fn race<F, S>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<S, DialError>
where
    F: Future<Output = io::Result<S>>,
{
    let mut attempts = FuturesUnordered::new();
    let mut failed = DialError::UnknownName;
    for next in addresses {
        attempts.push(connect(next));
        tokio::select! {
            Some(ended) = attempts.next() => match ended {
                Ok(stream) => return Ok(stream),
                Err(error) => failed = of_host(error),
            },
            () = sleep(HEAD_START) => {}
        }
    }
    while let Some(ended) = attempts.next().await {
        match ended {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = of_host(error),
        }
    }
    Err(failed)
}

fn of_host(error: io::Error) -> DialError {
    sockets::note_shortage(&error);
    error.into()
}

/// Time that an address gets before the next is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Addresses of one name that are tried: the first ones, since a dial ends in time.
const ATTEMPTS_MAX: usize = 16;
