//! The proxy door: decides who may come in, which protocol a connection speaks by its first byte, and where a destination is
//! reached. The dialogues are those of `socks` and `http_proxy`, moving bytes is [`crate::host::splice`]'s.
//!
//! ```text
//! accept → same user? → first byte ─┬─ 5: SOCKS5 ──────┐
//!              │                    ├─ a letter: HTTP ─┴→ hold until ready → dial → splice
//!              no → said so         └─ 4: SOCKS4, refused; else: closed
//! ```

mod credentials;

mod overlay;

mod proxied;

mod room;

mod stream;

mod unix;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::doors::{http_proxy, socks};
use crate::host::memory::Budget;
use crate::host::reminder::Reminder;
use crate::host::same_user::{self, Stranger};
use crate::host::shares::Claimant;
use crate::host::splice::{Patience, ResetOnDrop};
use crate::host::{accept, direct, sockets};
use crate::names::DialError;
use crate::names::{self, Destination};

use crate::host::accept::Vacancy;
pub use crate::host::accept::{Until, Vacancies};

pub use credentials::{LEN_MAX, ProxyCredentials, UnusableCredentials};
pub use overlay::{Bound, Datagrams, Overlay};
pub use proxied::Proxied;
use room::ProxyPlaces;
pub use room::Room;
pub(crate) use room::{Admission, NoShare};
pub(crate) use stream::{Client, Moves, first_byte, splice_client};
pub use stream::{Guest, OverlayStream};
pub use unix::{UnixDoor, UnixDoorError};

/// How the door behaves.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// What every client must give, by RFC 1929 or as HTTP Basic; `None` = nothing is asked for.
    pub credentials: Option<ProxyCredentials>,
    /// From the connection to the whole SOCKS request, or to the first byte of an HTTP request. Where credentials are asked for, they
    /// come within this time after that byte.
    pub handshake_timeout: Duration,
    /// For the whole head of an HTTP request, and between two on one connection.
    pub head_timeout: Duration,
    /// How long a request waits for a device that is not ready, before it is refused; zero = not at all.
    pub hold: Duration,
    /// From the request to the answer of the destination.
    pub dial_timeout: Duration,
    /// How long a port that a client opened by BIND waits for its peer.
    pub bind_timeout: Duration,
    /// Connections and UDP associations on which no byte moves for so long are ended; `None` = never.
    pub idle_timeout: Option<Duration>,
    /// The same for connections of which one side has closed; `None` = never.
    pub half_closed_timeout: Option<Duration>,
    /// Connections at once; more wait in the listener's backlog. Where credentials are asked for, whoever is not our own user or root
    /// gets no more of them than are left for others, and half of them are for clients that have given the credentials.
    pub max_connections: usize,
    /// UDP associations at once; more are refused. They are shared out likewise.
    pub max_associations: usize,
    /// Counts both, over all doors that have the same one; the first of them says how much there is.
    pub room: Room,
    /// Dial destinations outside the overlay from this host, instead of refusing them.
    pub direct: bool,
    /// Hears which destinations outside the overlay were refused; what it has no room for is not told.
    pub foreign: Option<mpsc::Sender<String>>,
    /// Where this device answers DNS: programs may ask there through the proxy.
    pub dns: Option<SocketAddr>,
    /// On Linux: accept only programs of this process's user and of root, see [`serve`].
    pub same_user: bool,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            credentials: None,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            hold: HOLD,
            dial_timeout: DIAL_TIMEOUT,
            bind_timeout: BIND_TIMEOUT,
            idle_timeout: None,
            half_closed_timeout: Patience::default().half_closed,
            max_connections: sockets::connections_max(),
            max_associations: ASSOCIATIONS_MAX,
            room: Room::default(),
            direct: false,
            foreign: None,
            dns: None,
            same_user: true,
        }
    }
}

impl ProxyConfig {
    pub(crate) fn patience(&self) -> Patience {
        Patience {
            idle: self.idle_timeout,
            half_closed: self.half_closed_timeout,
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

/// Serves clients while the door is open, and returns when their connections have ended.
///
/// The same-user check asks Linux who owns the other end of each connection, whatever address that has. Whom Linux does not know, in
/// another network namespace or on another host, is refused. On other systems everybody on this host may connect: there the
/// credentials are the protection.
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
    let door = ProxyDoor::new(config, overlay, until.closed.clone());
    accept::run(
        listener,
        Arc::clone(&door.places.connections),
        &door.vacancy(&at),
        &until,
        |client, peer| {
            let door = door.clone();
            async move {
                if let Err(error) = door.tcp(client, peer).await {
                    debug!(%peer, %error, "a proxy client was turned away");
                }
            }
        },
    )
    .await;
}

/// The same on a Unix socket. Who may open its file may connect; the same-user check does not apply. The file is removed when
/// nobody has the socket any more.
pub async fn serve_unix<O: Overlay>(
    listener: impl Into<Arc<UnixDoor>>,
    config: ProxyConfig,
    overlay: O,
    until: impl Into<Until>,
) {
    let listener = listener.into();
    let at = format!("unix:{}", listener.path().display());
    let until = until.into();
    let door = ProxyDoor::new(config, overlay, until.closed.clone());
    accept::run(
        listener,
        Arc::clone(&door.places.connections),
        &door.vacancy(&at),
        &until,
        |client, ()| {
            let door = door.clone();
            async move {
                if let Err(error) = door.unix(client).await {
                    debug!(%error, "a proxy client was turned away");
                }
            }
        },
    )
    .await;
}

/// Why a client gets no further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientRejected {
    #[error("{0}")]
    OtherUser(Stranger),
    #[error("it speaks neither SOCKS5 nor HTTP")]
    UnknownProtocol,
    #[error("it speaks SOCKS4; SOCKS5 and HTTP are offered")]
    Socks4,
    #[error("it said nothing in time, or did not say who it is")]
    Silent,
    #[error("where it comes from has its share of the connections")]
    NoShare,
    #[error(transparent)]
    Socks(#[from] socks::SocksRejected),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What all connections of one listener share.
pub(crate) struct ProxyDoor<O> {
    pub(crate) config: ProxyConfig,
    pub(crate) overlay: O,
    places: Arc<ProxyPlaces>,
    /// Strangers who are being told so.
    goodbyes: Semaphore,
    strangers: Reminder,
    greedy: Reminder,
    /// Nobody is let in any more.
    closed: CancellationToken,
}

/// Both ends of a client's way to us.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientEnds {
    /// Where it comes from.
    pub(crate) client: IpAddr,
    /// Where it reached us.
    pub(crate) own: IpAddr,
    /// Who it is on this host, if the kernel knows.
    pub(crate) user: Option<u32>,
}

impl ClientEnds {
    /// Clients of a Unix socket are on this host.
    fn of_unix(client: &UnixStream) -> Self {
        Self {
            client: IpAddr::V4(Ipv4Addr::LOCALHOST),
            own: IpAddr::V4(Ipv4Addr::LOCALHOST),
            user: client.peer_cred().ok().map(|peer| peer.uid()),
        }
    }
}

impl<O: Overlay> ProxyDoor<O> {
    fn new(mut config: ProxyConfig, overlay: O, closed: CancellationToken) -> Arc<Self> {
        if let Some(budget) = overlay.memory() {
            config.max_connections = config.max_connections.min(budget.connections());
        }
        Arc::new(Self {
            places: config.room.places(&config),
            goodbyes: Semaphore::new(GOODBYES_MAX.min(config.max_connections / GOODBYES_SHARE)),
            strangers: Reminder::default(),
            greedy: Reminder::default(),
            closed,
            config,
            overlay,
        })
    }

    /// Whether it has places, for who asks whether the device is ready.
    fn vacancy(&self, at: &str) -> Arc<Vacancy> {
        self.overlay.vacancies().open(
            format!("the proxy at {at}"),
            self.config.max_connections,
            self.overlay.memory(),
        )
    }

    /// Tells when nobody is let in any more.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    async fn tcp(&self, client: TcpStream, peer: SocketAddr) -> Result<(), ClientRejected> {
        let own = client.local_addr()?;
        let client = ResetOnDrop::new(Either::Left(client));
        let address = Claimant::from(peer.ip());
        let (entry, user) = if self.config.same_user {
            match same_user::admit_connection(peer, own).await {
                Ok(user) => (self.admit(Claimant::User(user))?, Some(user)),
                Err(stranger) => {
                    self.turn_away(client, own, stranger).await?;
                    return Err(ClientRejected::OtherUser(stranger));
                }
            }
        } else if peer.ip().to_canonical().is_loopback() {
            let user = same_user::user_of_connection(peer, own).await;
            (self.admit(user.map_or(address, Claimant::User))?, user)
        } else {
            // The kernel looks through all its sockets for one that it does not have: only for so many at once as have places.
            let entry = self.admit(address)?;
            match same_user::user_of_connection(peer, own).await {
                Some(user) => (self.admit(Claimant::User(user))?, Some(user)),
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
        let ends = ClientEnds::of_unix(&client);
        let source = ends
            .user
            .map_or(Claimant::from(ends.client), Claimant::User);
        let entry = self.admit(source)?;
        let client = ResetOnDrop::new(Either::Right(client));
        self.speak_unless_evicted(client, ends, &entry).await
    }

    /// A client that has not given the credentials may have to go for another.
    async fn speak_unless_evicted(
        &self,
        client: Client,
        ends: ClientEnds,
        entry: &Admission,
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

    /// Gives a client a place: its source's share of strangers' places, where there is something to prove.
    fn admit(&self, source: Claimant) -> Result<Admission, ClientRejected> {
        if self.config.credentials.is_none() {
            return Ok(self.places.admit());
        }
        let now = Instant::now().into_std();
        self.places.admit_stranger(now, source).ok_or_else(|| {
            self.note_greedy(source);
            ClientRejected::NoShare
        })
    }

    /// Says now and then that a source was refused for its share.
    fn note_greedy(&self, source: impl std::fmt::Debug) {
        if let Some(times) = self.greedy.due(Instant::now()) {
            info!(
                ?source,
                times,
                "clients of the proxy were refused: where they come from has its share of the connections"
            );
        }
    }

    /// That the client gave the credentials.
    pub(crate) fn prove(&self, entry: &Admission) -> Result<(), NoShare> {
        entry
            .prove()
            .inspect_err(|NoShare| self.note_greedy(entry.source()))
    }

    /// Tells a stranger so in the protocol that it speaks, and the owner of the door now and then. A few at a time: the others are
    /// closed at once.
    async fn turn_away(
        &self,
        mut client: Client,
        own: SocketAddr,
        stranger: Stranger,
    ) -> io::Result<()> {
        if let Some(times) = self.strangers.due(Instant::now()) {
            info!(door = %own, why = %stranger, times, "a program of another user was turned away from the proxy; --socks-user and --socks-password-file let it in, or `--socks unix:PATH`");
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
        entry: &Admission,
    ) -> Result<(), ClientRejected> {
        // The first byte alone shows a protocol in which we would have to speak first, and waits for nothing more.
        let first = timeout(self.config.handshake_timeout, first_byte(&client))
            .await
            .map_err(|_| ClientRejected::Silent)??;
        match first {
            Some(SOCKS5) => Ok(socks::converse(client, ends, self, entry).await?),
            Some(SOCKS4) => {
                refuse(&mut client, &SOCKS4_REFUSED).await?;
                Err(ClientRejected::Socks4)
            }
            Some(letter) if letter.is_ascii_alphabetic() => {
                http_proxy::converse(client, self, entry).await
            }
            Some(_) => Err(ClientRejected::UnknownProtocol),
            None => Err(ClientRejected::Silent),
        }
    }

    /// Whether the program that sends datagrams from `client` may use the association of the program at `ends`: on this host they
    /// belong to the same user.
    pub(crate) async fn may_send(&self, client: SocketAddr, ends: ClientEnds) -> bool {
        let Some(user) = ends.user else {
            // From another host, which proved itself by the credentials.
            return !self.config.same_user;
        };
        let admitted = same_user::admit_sender(client, user).await;
        if let Err(why) = &admitted
            && let Some(times) = self.strangers.due(Instant::now())
        {
            info!(%why, times, "datagrams to the proxy were dropped: their sender is not who opened the association");
        }
        admitted.is_ok()
    }

    /// Opens a connection to where a client wants, within the configured times.
    pub(crate) async fn reach(
        &self,
        destination: &Destination,
        port: u16,
    ) -> Result<Either<O::Stream, TcpStream>, DialError> {
        if let Destination::Name(name) = destination
            && !names::is_host_name(name)
        {
            return Err(DialError::UnknownName);
        }
        if port == 0 {
            // Nobody can listen there.
            return Err(DialError::Refused);
        }
        if self.is_resolver(destination, port) {
            return self.reach_host(destination, port).await;
        }
        self.settle(destination).await?;
        let dial = self.overlay.dial(destination.clone(), port);
        match timeout(self.config.dial_timeout, dial).await {
            Ok(Ok(stream)) => Ok(Either::Left(stream)),
            Ok(Err(error)) if error.is_foreign() && self.config.direct => {
                self.reach_host(destination, port).await
            }
            Ok(Err(error)) => {
                if error == DialError::Foreign
                    && let Some(foreign) = &self.config.foreign
                {
                    // Named once is enough; programs ask again and again.
                    let _told = foreign.try_send(destination.to_string());
                }
                Err(error)
            }
            Err(_) => Err(DialError::TimedOut),
        }
    }

    /// Waits for a device that is not ready yet, for as long as the door holds requests.
    pub(crate) async fn settle(&self, destination: &Destination) -> Result<(), DialError> {
        timeout(self.config.hold, self.overlay.ready(destination))
            .await
            .map_err(|_| DialError::NotReady)
    }

    /// Whether that is where this device answers DNS.
    pub(crate) fn is_resolver(&self, destination: &Destination, port: u16) -> bool {
        let (Some(dns), Destination::Address(address)) = (self.config.dns, destination) else {
            return false;
        };
        let (address, own) = (address.get(), dns.ip().to_canonical());
        port == dns.port() && (address == own || own.is_unspecified() && address.is_loopback())
    }

    async fn reach_host(
        &self,
        destination: &Destination,
        port: u16,
    ) -> Result<Either<O::Stream, TcpStream>, DialError> {
        let dial = direct::dial(destination.clone(), port);
        match timeout(self.config.dial_timeout, dial).await {
            Ok(dialled) => dialled.map(Either::Right),
            Err(_) => Err(DialError::TimedOut),
        }
    }
}

/// Whether a client that has closed its side is known to have left: its socket belongs to no program any more.
pub(crate) fn has_left(client: &Client) -> bool {
    match client.get() {
        Either::Left(tcp) => match (tcp.peer_addr(), tcp.local_addr()) {
            (Ok(peer), Ok(own)) => same_user::has_left(peer, own),
            _ => false,
        },
        Either::Right(unix) => stream::is_closed(unix),
    }
}

/// Says `answer` as the last word, and waits a moment for the client to hear it: closing a socket with unread bytes resets it,
/// and on some systems a reset overtakes the answer.
pub(crate) async fn refuse(client: &mut Client, answer: &[u8]) -> io::Result<()> {
    let goodbye = async {
        client.write_all(answer).await?;
        client.shutdown().await?;
        let mut unread = client.take(UNREAD_MAX);
        tokio::io::copy(&mut unread, &mut tokio::io::sink()).await
    };
    match timeout(GOODBYE, goodbye).await {
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

/// First bytes of the protocols.
const SOCKS5: u8 = 5;
const SOCKS4: u8 = 4;

/// "Request rejected or failed", in the eight bytes of a SOCKS4 reply.
const SOCKS4_REFUSED: [u8; 8] = [0, 91, 0, 0, 0, 0, 0, 0];

/// A program on this host sends its request at once; who is silent for longer only holds a place.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A browser keeps its connections for its next requests; who needs longer opens another.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// A device that starts is ready in about a second; what takes longer is an outage, of which a program must hear.
const HOLD: Duration = Duration::from_secs(10);

/// Longer than the overlay's own connect timeout, so that its more exact answer comes first.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The peer was told by other means, and connects soon or never.
const BIND_TIMEOUT: Duration = Duration::from_secs(120);

/// UDP associations at once: each holds up to three sockets of the host besides its connection.
const ASSOCIATIONS_MAX: usize = 256;

/// How long a refused client may take to close.
const GOODBYE: Duration = Duration::from_secs(1);

/// Strangers who are told so at the same time, and the part of all places that they may take meanwhile.
const GOODBYES_MAX: usize = 32;
const GOODBYES_SHARE: usize = 8;

/// Bytes that a refused client may have sent and that are read away.
const UNREAD_MAX: u64 = 64 * 1024;

#[cfg(test)]
pub(crate) mod tests;
