//! The proxy door: decides who may come in, and which protocol a connection speaks by its first
//! byte. The dialogues are those of `socks` and `http_proxy`, `door` reaches destinations, and
//! [`crate::host::splice`] moves bytes.
//!
//! ```text
//! accept → same user? → first byte ─┬─ 5: SOCKS5 ──────┐
//!              │                    ├─ a letter: HTTP ─┴→ hold until ready → dial → splice
//!              no → refused         └─ 4: SOCKS4, refused; else: closed
//! ```

mod unix;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use overlan_transport::clock::now;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, info};

use crate::doors::client::{Client, GOODBYE, first_byte, refuse};
use crate::doors::door::{ClientEnds, ProxyDoor};
use crate::doors::places::{AdmittedClient, NoShare};
use crate::doors::{http_proxy, socks};
use crate::host::memory::Budget;
use crate::host::same_user::{self, Stranger};
use crate::host::shares::Claimant;
use crate::host::splice::ResetOnDrop;
use crate::host::{accept, sockets};

pub use crate::doors::client::{Guest, OverlayStream};
pub use crate::doors::credentials::{LEN_MAX, ProxyCredentials, UnusableCredentials};
pub use crate::doors::door::ProxyConfig;
pub use crate::doors::overlay::{Datagrams, Overlay, PeerPort};
pub use crate::doors::places::Room;
pub use crate::doors::proxied::Proxied;
pub use crate::host::accept::{Until, Vacancies};
pub use unix::{UnixDoor, UnixDoorError};

/// The reason why the door is not opened at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListenRefused {
    /// Others can reach the address, and anybody could use the overlay through it.
    #[error(
        "{0} is not a loopback address: others can reach it, so a user name and a password are \
         needed"
    )]
    NeedsCredentials(SocketAddr),
}

/// Returns whether the door may be opened at `address`.
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

/// Serves clients while the door is open, and returns when their connections have ended.
///
/// The same-user check asks Linux who owns the other end of each connection, whatever address that
/// has. A program that Linux does not know, in another network namespace or on another host, is
/// refused. On other systems everybody on this host may connect: there the credentials are the
/// protection.
pub async fn serve<O: Overlay>(
    listener: impl Into<Arc<TcpListener>>,
    config: ProxyConfig,
    overlay: O,
    until: impl Into<Until>,
) {
    let listener = listener.into();
    if let Some(bytes) = overlay.memory().and_then(Budget::socket_buffer) {
        sockets::limit_buffers(&*listener, bytes);
    }
    let at = listener.local_addr();
    let at = at.map_or_else(|_| "an address".to_owned(), |at| at.to_string());
    let until = until.into();
    let entrance = Entrance::new(config, overlay, until.closed.clone());
    accept::run(
        listener,
        Arc::clone(&entrance.door.places.connections),
        &entrance.door.vacancy(&at),
        &until,
        |client, peer| {
            let entrance = Arc::clone(&entrance);
            let served = async move {
                if let Err(error) = entrance.tcp(client, peer).await {
                    debug!(%error, "a client of the proxy was turned away");
                }
            };
            served.instrument(debug_span!("door", client = %peer))
        },
    )
    .await;
}

/// The same on a Unix socket. Programs that may open its file may connect; the same-user check does
/// not apply. The file is removed when nobody has the socket any more.
pub async fn serve_unix<O: Overlay>(
    listener: impl Into<Arc<UnixDoor>>,
    config: ProxyConfig,
    overlay: O,
    until: impl Into<Until>,
) {
    let listener = listener.into();
    let at = format!("unix:{}", listener.path().display());
    // Programs have no addresses there, so log lines tell them apart by numbers.
    let next = AtomicU64::new(1);
    let until = until.into();
    let entrance = Entrance::new(config, overlay, until.closed.clone());
    accept::run(
        listener,
        Arc::clone(&entrance.door.places.connections),
        &entrance.door.vacancy(&at),
        &until,
        |client, ()| {
            let entrance = Arc::clone(&entrance);
            let number = next.fetch_add(1, Relaxed);
            let served = async move {
                if let Err(error) = entrance.unix(client).await {
                    debug!(%error, "a client of the proxy was turned away");
                }
            };
            served.instrument(debug_span!("door", number))
        },
    )
    .await;
}

/// The reason why a client is turned away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientRejected {
    #[error("{0}")]
    OtherUser(Stranger),
    #[error("it speaks neither SOCKS5 nor HTTP")]
    UnknownProtocol,
    #[error("it speaks SOCKS4, and only SOCKS5 and HTTP are offered (socks5h://, http://)")]
    Socks4,
    #[error("it sent nothing, or not the credentials, in time")]
    Silent,
    #[error(transparent)]
    NoShare(#[from] NoShare),
    #[error(transparent)]
    Socks(#[from] socks::SocksRejected),
    #[error(transparent)]
    Http(#[from] http_proxy::HttpRejected),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The entrance for clients: the door, and the places of those that are turned away.
struct Entrance<O> {
    door: ProxyDoor<O>,
    /// Places for strangers that get a reason when they are turned away.
    goodbyes: Semaphore,
}

impl<O: Overlay> Entrance<O> {
    fn new(config: ProxyConfig, overlay: O, closed: CancellationToken) -> Arc<Self> {
        let door = ProxyDoor::new(config, overlay, closed);
        let goodbyes = GOODBYES_MAX.min(door.config.max_connections / GOODBYES_SHARE);
        Arc::new(Self {
            door,
            goodbyes: Semaphore::new(goodbyes),
        })
    }

    async fn tcp(&self, client: TcpStream, peer: SocketAddr) -> Result<(), ClientRejected> {
        let own = client.local_addr()?;
        let client = ResetOnDrop::new(Either::Left(client));
        let address = Claimant::from(peer.ip());
        let (entry, user) = if self.door.config.same_user {
            match same_user::admit_connection(peer, own).await {
                Ok(user) => (self.door.admit(Claimant::User(user))?, Some(user)),
                Err(stranger) => {
                    self.turn_away(client, own, stranger).await?;
                    return Err(ClientRejected::OtherUser(stranger));
                }
            }
        } else if peer.ip().to_canonical().is_loopback() {
            let user = same_user::user_of_connection(peer, own).await;
            (self.door.admit(user.map_or(address, Claimant::User))?, user)
        } else {
            // The kernel looks through all its sockets for one that it does not have: only for so
            // many at once as have places.
            let entry = self.door.admit(address)?;
            match same_user::user_of_connection(peer, own).await {
                Some(user) => (self.door.admit(Claimant::User(user))?, Some(user)),
                None => (entry, None),
            }
        };
        let ends = ClientEnds {
            client: peer.ip().to_canonical(),
            own: own.ip(),
            user,
        };
        self.speak_unless_evicted(client, ends, &entry).await
    }

    async fn unix(&self, client: UnixStream) -> Result<(), ClientRejected> {
        // Clients of a Unix socket are on this host.
        let ends = ClientEnds {
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            own: IpAddr::V4(Ipv4Addr::LOCALHOST),
            user: client.peer_cred().ok().map(|peer| peer.uid()),
        };
        let source = ends
            .user
            .map_or(Claimant::from(ends.client), Claimant::User);
        let entry = self.door.admit(source)?;
        let client = ResetOnDrop::new(Either::Right(client));
        self.speak_unless_evicted(client, ends, &entry).await
    }

    /// Speaks with a client. One that has not given the credentials may have to go for another.
    async fn speak_unless_evicted(
        &self,
        client: Client,
        ends: ClientEnds,
        entry: &AdmittedClient,
    ) -> Result<(), ClientRejected> {
        let spoken = self.speak(client, ends, entry);
        match entry.evicted() {
            None => spoken.await,
            Some(evicted) => {
                let spoken = evicted.run_until_cancelled(spoken).await;
                spoken.unwrap_or(Err(ClientRejected::Silent))
            }
        }
    }

    /// Refuses a stranger in the protocol that it speaks, and warns the owner of the door now and
    /// then. A few at a time: the others are closed at once.
    async fn turn_away(
        &self,
        mut client: Client,
        own: SocketAddr,
        stranger: Stranger,
    ) -> io::Result<()> {
        if let Some(times) = self.door.strangers.due(now()) {
            info!(
                door = %own, why = %stranger, times,
                "a program of another user was turned away from the proxy. To let it in, start \
                 `overlan up` with --socks-user and --socks-password-file, or with \
                 `--socks unix:PATH`"
            );
        }
        let Ok(_place) = self.goodbyes.try_acquire() else {
            return Ok(());
        };
        let Ok(first) = timeout(GOODBYE, first_byte(&client)).await else {
            return Ok(());
        };
        match first? {
            Some(SOCKS5) => refuse(&mut client, &socks::NOT_ACCEPTABLE).await,
            Some(SOCKS4) => refuse(&mut client, &SOCKS4_REFUSED).await,
            Some(letter) if letter.is_ascii_alphabetic() => {
                refuse(&mut client, &http_proxy::turned_away(&stranger.to_string())).await
            }
            Some(_) | None => Ok(()),
        }
    }

    async fn speak(
        &self,
        mut client: Client,
        ends: ClientEnds,
        entry: &AdmittedClient,
    ) -> Result<(), ClientRejected> {
        // The first byte alone shows a protocol in which we would have to speak first, and waits
        // for nothing more.
        let first = timeout(self.door.config.handshake_timeout, first_byte(&client))
            .await
            .map_err(|_| ClientRejected::Silent)??;
        match first {
            Some(SOCKS5) => Ok(socks::converse(client, ends, &self.door, entry).await?),
            Some(SOCKS4) => {
                refuse(&mut client, &SOCKS4_REFUSED).await?;
                Err(ClientRejected::Socks4)
            }
            Some(letter) if letter.is_ascii_alphabetic() => {
                Ok(http_proxy::converse(client, &self.door, entry).await?)
            }
            Some(_) => Err(ClientRejected::UnknownProtocol),
            None => Err(ClientRejected::Silent),
        }
    }
}

/// First bytes of the protocols.
const SOCKS5: u8 = 5;
const SOCKS4: u8 = 4;

/// "Request rejected or failed", in the eight bytes of a SOCKS4 reply.
const SOCKS4_REFUSED: [u8; 8] = [0, 91, 0, 0, 0, 0, 0, 0];

/// Strangers that get a reason at the same time, and the part of all places that they may take
/// meanwhile.
const GOODBYES_MAX: usize = 32;
const GOODBYES_SHARE: usize = 8;

#[cfg(test)]
pub(crate) mod tests;
