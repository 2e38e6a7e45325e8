//! The door of a proxy, as the dialogues of its clients see it: decides who has a place, where a
//! destination is reached, and within which time. It takes no connection and speaks no protocol.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use overlan_transport::clock::now;
use overlan_transport::reminder::Reminder;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::doors::credentials::ProxyCredentials;
use crate::doors::overlay::Overlay;
use crate::doors::places::{AdmittedClient, NoShare, ProxyPlaces, Room};
use crate::host::accept::Vacancy;
use crate::host::shares::Claimant;
use crate::host::splice::Patience;
use crate::host::{dial_times, direct, same_user, sockets};
use crate::names::{self, Destination, DialError};

/// The settings of a proxy door.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// The credentials that every client must give, by RFC 1929 or as HTTP Basic; `None` = none are
    /// asked for.
    pub credentials: Option<ProxyCredentials>,
    /// From the connection to the whole SOCKS request, or to the first byte of an HTTP request.
    /// Where credentials are asked for, they come within this time after that byte.
    pub handshake_timeout: Duration,
    /// For the whole head of an HTTP request, and between two on one connection.
    pub head_timeout: Duration,
    /// Time that a request waits for a device that is not ready, before it is refused; zero = it
    /// does not wait.
    pub hold: Duration,
    /// From the request to the answer of the destination.
    pub dial_timeout: Duration,
    /// Time that a port which a client opened by BIND waits for its peer.
    pub bind_timeout: Duration,
    /// Connections and UDP associations on which no byte moves for so long are ended; `None` =
    /// never.
    pub idle_timeout: Option<Duration>,
    /// The same for connections of which one side has closed; `None` = never.
    pub half_closed_timeout: Option<Duration>,
    /// Connections at once; more wait in the listener's backlog. Where credentials are asked for, a
    /// client that is neither our own user nor root gets no more of them than are left for others,
    /// and a quarter of them is for clients that have not given the credentials yet.
    pub max_connections: usize,
    /// UDP associations at once; more are refused. They are shared out likewise.
    pub max_associations: usize,
    /// Counts both, over all doors that have the same one; the first of them says how much there
    /// is.
    pub room: Room,
    /// Dial foreign destinations from this host, instead of refusing them.
    pub direct: bool,
    /// Receives the foreign destinations that were refused. One that finds it full is left out.
    pub foreign: Option<mpsc::Sender<String>>,
    /// The address at which this device answers DNS: programs may ask there through the proxy.
    pub dns: Option<SocketAddr>,
    /// On Linux: accept only programs of this process's user and of root, see `same_user`.
    pub same_user: bool,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            credentials: None,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            head_timeout: HEAD_TIMEOUT,
            hold: dial_times::HOLD,
            dial_timeout: dial_times::PROXY_DIAL,
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

/// The state that all connections of one listener share.
pub(crate) struct ProxyDoor<O> {
    pub(crate) config: ProxyConfig,
    pub(crate) overlay: O,
    pub(super) places: Arc<ProxyPlaces>,
    /// Spaces out the warnings about strangers.
    pub(super) strangers: Reminder,
    /// Spaces out the warnings about sources that have their share.
    greedy: Reminder,
    /// Fires when nobody is let in any more.
    closed: CancellationToken,
}

/// Both ends of a client's connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientEnds {
    /// The address from which the client comes.
    pub(crate) client: IpAddr,
    /// The address at which it reached us.
    pub(crate) own: IpAddr,
    /// Its user on this host, if the kernel knows.
    pub(crate) user: Option<u32>,
}

impl<O: Overlay> ProxyDoor<O> {
    pub(super) fn new(mut config: ProxyConfig, overlay: O, closed: CancellationToken) -> Self {
        if let Some(budget) = overlay.memory() {
            config.max_connections = config.max_connections.min(budget.connections());
        }
        Self {
            places: config
                .room
                .places(config.max_connections, config.max_associations),
            strangers: Reminder::default(),
            greedy: Reminder::default(),
            closed,
            config,
            overlay,
        }
    }

    /// Registers the door at `at` among those whose places count when somebody asks whether the
    /// device is ready.
    pub(super) fn vacancy(&self, at: &str) -> Arc<Vacancy> {
        self.overlay.vacancies().open(
            format!("the proxy at {at}"),
            self.config.max_connections,
            self.overlay.memory(),
        )
    }

    /// Returns the token that fires when nobody is let in any more.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Gives a client a place. Where credentials are asked for, it is one of its source's share of
    /// the places for strangers.
    pub(super) fn admit(&self, source: Claimant) -> Result<AdmittedClient, NoShare> {
        if self.config.credentials.is_none() {
            return Ok(self.places.admit());
        }
        self.places.admit_stranger(now(), source).ok_or_else(|| {
            self.note_greedy(source);
            NoShare
        })
    }

    /// Logs now and then that a source was refused because it has its share.
    fn note_greedy(&self, source: impl std::fmt::Debug) {
        if let Some(times) = self.greedy.due(now()) {
            info!(
                ?source,
                times,
                "clients of the proxy were refused: their source has its share of the connections \
                 and gets another when one of them ends"
            );
        }
    }

    /// Notes that the client gave the credentials.
    pub(crate) fn prove(&self, entry: &AdmittedClient) -> Result<(), NoShare> {
        entry
            .prove()
            .inspect_err(|NoShare| self.note_greedy(entry.source()))
    }

    /// Returns whether the program that sends datagrams from `client` may use the association of
    /// the program at `ends`: on this host both must belong to the same user.
    pub(crate) async fn may_send(&self, client: SocketAddr, ends: ClientEnds) -> bool {
        let Some(user) = ends.user else {
            // From another host, which proved itself by the credentials.
            return !self.config.same_user;
        };
        let admitted = same_user::admit_sender(client, user).await;
        if let Err(why) = &admitted
            && let Some(times) = self.strangers.due(now())
        {
            info!(
                %why, times,
                "datagrams to the proxy were dropped: another program than their sender opened \
                 the association"
            );
        }
        admitted.is_ok()
    }

    /// Opens a connection to the destination that a client asks for, within the configured times.
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
                    let _is_full = foreign.try_send(destination.to_string());
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

    /// Returns whether this device answers DNS there.
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

/// Time until the request. A program on this host sends it at once; one that is silent for longer
/// only holds a place.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time between two requests. A browser keeps its connections for its next ones; if that comes
/// later, it opens another.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Time until the peer connects. It hears of the port by other means, and connects soon or never.
const BIND_TIMEOUT: Duration = Duration::from_secs(120);

/// UDP associations at once: each holds up to three sockets of the host besides its connection.
const ASSOCIATIONS_MAX: usize = 256;
