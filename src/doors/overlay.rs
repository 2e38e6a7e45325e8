//! The overlay as a proxy needs it: connections both ways, datagrams, names, and a sign that it is
//! ready.

use std::net::SocketAddr;

use crate::doors::client::OverlayStream;
use crate::doors::proxied::Proxied;
use crate::host::accept::Vacancies;
use crate::host::memory::Budget;
use crate::names::Destination;
use crate::names::DialError;
use crate::names::lookup::DnsTransport;

/// The overlay as a proxy sees it. All clones are the same one.
pub trait Overlay: Clone + Send + Sync + 'static {
    /// A connection through the overlay.
    type Stream: OverlayStream;
    /// A port that is open for one peer.
    type Bound: PeerPort<Stream = Self::Stream>;
    /// A socket for datagrams.
    type Datagrams: Datagrams;

    /// The memory that doors to it must keep within; `None` = as much as there is.
    fn memory(&self) -> Option<Budget> {
        None
    }

    /// The register in which doors note whether they have places.
    fn vacancies(&self) -> Vacancies {
        Vacancies::default()
    }

    /// Returns the destinations in the overlay or at its gateways, for programs that send nothing
    /// else through a proxy.
    fn proxied(&self) -> Proxied {
        Proxied::default()
    }

    /// Returns once a dial to `destination` can be answered truly: at once for foreign
    /// destinations.
    fn ready(&self, destination: &Destination) -> impl Future<Output = ()> + Send;

    /// Opens a connection. It is asked for foreign destinations too, and answers those with an
    /// error that [is foreign](DialError::is_foreign).
    fn dial(
        &self,
        destination: Destination,
        port: u16,
    ) -> impl Future<Output = Result<Self::Stream, DialError>> + Send;

    /// Returns the next step of a person after `error`, with which a connection to `port` of
    /// `destination` ended; `None` if the overlay does not know one.
    fn next_step(
        &self,
        _destination: &Destination,
        _port: u16,
        _error: &DialError,
    ) -> Option<String> {
        None
    }

    /// Opens a free port of this device for connections from `peer`.
    ///
    /// # Errors
    /// As for a dial; [`DialError::DeniedByPolicy`] if no rule lets the peer reach that port.
    fn bind(&self, peer: &Destination) -> Result<Self::Bound, DialError>;

    /// A new socket for datagrams to any peer. It takes no port before it sends.
    fn datagrams(&self) -> Self::Datagrams;

    /// Returns the answer of this device's resolver to one query, if it deserves one. The resolver
    /// may have to ask others.
    fn resolve(
        &self,
        query: Vec<u8>,
        transport: DnsTransport,
    ) -> impl Future<Output = Option<Vec<u8>>> + Send + use<Self>;
}

/// A port that is open for one peer until this is dropped.
pub trait PeerPort: Send {
    /// A connection through the overlay.
    type Stream;

    /// Returns the address at which the peer finds it.
    fn local(&self) -> SocketAddr;

    /// Returns the next connection of that peer, and its address; those of other peers are refused.
    fn accept(&mut self) -> impl Future<Output = (Self::Stream, SocketAddr)> + Send;
}

/// A socket for datagrams to any peer.
pub trait Datagrams: Send {
    /// Sends one datagram, and returns the address that it went to.
    ///
    /// # Errors
    /// As for a dial. A datagram that is lost on its way is not an error.
    fn send_to(
        &mut self,
        data: &[u8],
        destination: &Destination,
        port: u16,
    ) -> Result<SocketAddr, DialError>;

    /// Returns the next datagram and its sender. Bytes that do not fit into `data` are lost.
    /// Dropping the future loses nothing.
    fn recv_from(&mut self, data: &mut [u8]) -> impl Future<Output = (usize, SocketAddr)> + Send;
}
