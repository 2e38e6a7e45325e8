//! The SOCKS5 door: decides who may speak, what they ask for, and which reply they get. Dialling is the caller's, moving
//! bytes is [`crate::splice`]'s.
//!
//! ```text
//! accept → same user? → greeting → (password) → request → dial → reply → splice
//! ```

mod handshake;

#[cfg(target_os = "linux")]
mod same_user;

/// Other systems do not tell who connects.
#[cfg(not(target_os = "linux"))]
mod same_user {
    pub(super) fn may_connect(
        _: std::net::SocketAddr,
        _: std::net::SocketAddr,
    ) -> std::future::Ready<bool> {
        std::future::ready(true)
    }
}

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::key::Secret;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::accept;
use crate::dial::DialError;
use crate::names::{self, Destination};
use crate::splice::{Abort, PourInto, splice};

use handshake::{Rejected, Request};

/// How the door behaves.
#[derive(Debug, Clone)]
pub struct SocksConfig {
    /// User name and password that every client must give (RFC 1929); `None` = none is asked for. At most 255 bytes each.
    pub credentials: Option<(String, Secret)>,
    /// From the connection to the whole request.
    pub handshake_timeout: Duration,
    /// From the request to the answer of the destination.
    pub dial_timeout: Duration,
    /// Connections at once; more wait in the listener's backlog.
    pub max_connections: usize,
    /// Dial destinations outside the overlay from this host, instead of refusing them.
    pub direct: bool,
    /// On Linux: accept from loopback only programs of this process's user and of root, see [`serve`].
    pub same_user: bool,
}

impl Default for SocksConfig {
    fn default() -> Self {
        Self {
            credentials: None,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            dial_timeout: DIAL_TIMEOUT,
            max_connections: accept::connections_max(),
            direct: false,
            same_user: true,
        }
    }
}

/// Why the door is not opened at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenRefused {
    /// Others can reach the address, and anybody could use the overlay through it.
    #[error(
        "{0} is not a loopback address: others can reach it, so a user name and a password are needed"
    )]
    NeedsCredentials(SocketAddr),
}

/// Whether the door may be opened at `address`.
///
/// # Errors
/// [`ListenRefused::NeedsCredentials`] if the address is not loopback and there are no credentials.
pub fn check_listen(address: SocketAddr, credentials: bool) -> Result<(), ListenRefused> {
    if credentials || address.ip().to_canonical().is_loopback() {
        Ok(())
    } else {
        Err(ListenRefused::NeedsCredentials(address))
    }
}

/// Serves clients until `shutdown`, then ends every connection and returns.
///
/// `dial` opens a connection to a destination that has the form of a name or is an address; if it takes longer than the
/// configured time it is dropped. It is asked for destinations outside the overlay too, and says [`DialError::Foreign`].
///
/// The same-user check asks Linux who owns the other end of a loopback connection. Where the system does not tell, on other
/// systems or without `/proc`, everybody on this host may connect: there the credentials are the protection.
pub async fn serve<D, F, S>(
    listener: TcpListener,
    config: SocksConfig,
    dial: D,
    shutdown: CancellationToken,
) where
    D: Fn(Destination, u16) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<S, DialError>> + Send + 'static,
    S: PourInto<TcpStream> + AsyncWrite + Abort + Send + 'static,
    TcpStream: PourInto<S>,
{
    let config = Arc::new(config);
    accept::run(
        &listener,
        config.max_connections,
        &shutdown,
        |client, peer| {
            let (config, dial) = (config.clone(), dial.clone());
            async move {
                if let Err(error) = connection(client, peer, &config, &dial).await {
                    debug!(%peer, %error, "a SOCKS client was turned away");
                }
            }
        },
    )
    .await;
}

async fn connection<D, F, S>(
    mut client: TcpStream,
    peer: SocketAddr,
    config: &SocksConfig,
    dial: &D,
) -> Result<(), Rejected>
where
    D: Fn(Destination, u16) -> F,
    F: Future<Output = Result<S, DialError>>,
    S: PourInto<TcpStream> + AsyncWrite + Abort,
    TcpStream: PourInto<S>,
{
    if config.same_user && !same_user::may_connect(peer, client.local_addr()?).await {
        return Err(Rejected::OtherUser);
    }
    client.set_nodelay(true)?;
    let credentials = config.credentials.as_ref();
    let asked = timeout(
        config.handshake_timeout,
        handshake::read(&mut client, credentials),
    )
    .await
    .unwrap_or(Err(Rejected::TooSlow));
    let request = match asked {
        Ok(request) => request,
        Err(rejected) => {
            if let Some(code) = rejected.reply() {
                refuse(&mut client, code).await?;
            }
            return Err(rejected);
        }
    };
    let dialled = match open(&request, config.dial_timeout, dial).await {
        Ok(stream) => return relay(client, stream).await,
        Err(DialError::Foreign) if config.direct => {
            open(&request, config.dial_timeout, &dial_host).await
        }
        Err(error) => Err(error),
    };
    match dialled {
        Ok(stream) => relay::<TcpStream>(client, stream).await,
        Err(error) => {
            let Request { destination, port } = &request;
            debug!(?destination, port, %error, "a destination was not reached");
            refuse(&mut client, error.socks_reply()).await?;
            Ok(())
        }
    }
}

async fn open<D, F, S>(request: &Request, within: Duration, dial: &D) -> Result<S, DialError>
where
    D: Fn(Destination, u16) -> F,
    F: Future<Output = Result<S, DialError>>,
{
    let Request { destination, port } = request;
    if let Destination::Name(name) = destination
        && !names::is_host_name(name)
    {
        return Err(DialError::UnknownName);
    }
    if *port == 0 {
        // Nobody can listen there.
        return Err(DialError::Refused);
    }
    timeout(within, dial(destination.clone(), *port))
        .await
        .unwrap_or(Err(DialError::TimedOut))
}

/// Dials from this host, by its own resolver. The addresses of the overlay are ours whatever a foreign name says.
async fn dial_host(destination: Destination, port: u16) -> Result<TcpStream, DialError> {
    let addresses: Vec<SocketAddr> = match destination {
        Destination::Name(name) => lookup_host((name, port))
            .await
            .map_err(|_| DialError::UnknownName)?
            .filter(|address| !names::in_overlay(address.ip().to_canonical()))
            .collect(),
        Destination::Address(address) => vec![SocketAddr::new(address, port)],
    };
    let mut failed = DialError::UnknownName;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => failed = error.into(),
        }
    }
    Err(failed)
}

/// Says yes, then moves bytes. What the client sent before it heard that is still in its socket and goes first.
async fn relay<S>(mut client: TcpStream, mut stream: S) -> Result<(), Rejected>
where
    S: PourInto<TcpStream> + AsyncWrite + Abort,
    TcpStream: PourInto<S>,
{
    client.write_all(&handshake::reply(SUCCEEDED)).await?;
    let spliced = splice(&mut client, &mut stream).await;
    debug!(?spliced, "a SOCKS connection ended");
    Ok(())
}

/// Says no, and waits a moment for the client to hear it: closing a socket with unread bytes resets it, and on some systems
/// a reset overtakes the reply.
async fn refuse(client: &mut TcpStream, code: u8) -> io::Result<()> {
    let goodbye = async {
        client.write_all(&handshake::reply(code)).await?;
        client.shutdown().await?;
        let mut unread = client.take(UNREAD_MAX);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
    };
    match timeout(GOODBYE, goodbye).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// Reply code of RFC 1928, section 6. The others come from [`DialError::socks_reply`].
const SUCCEEDED: u8 = 0;

/// A program on this host sends its request at once; who is silent for longer only holds a place.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than the overlay's own connect timeout, so that its more exact answer comes first.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a refused client may take to close.
const GOODBYE: Duration = Duration::from_secs(1);

/// Bytes that a refused client may have sent and that are read away.
const UNREAD_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests;
