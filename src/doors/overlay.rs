//! What a proxy needs of the overlay: connections both ways, datagrams, names, and a word on when
//! it is ready.

use std::net::SocketAddr;

use crate::doors::client::OverlayStream;
use crate::doors::proxied::Proxied;
use crate::host::accept::Vacancies;
use crate::host::memory::Budget;
use crate::names::Destination;
use crate::names::DialError;
use crate::names::lookup::Transport;

/// The overlay as a proxy sees it. All clones are the same one.
pub trait Overlay: Clone + Send + Sync + 'static {
    /// A connection through the overlay.
    type Stream: OverlayStream;
    /// A port that is open for one peer.
    type Bound: Bound<Stream = Self::Stream>;
    /// A socket for datagrams.
    type Datagrams: Datagrams;

    /// The memory that doors to it must keep within; `None` = as much as there is.
    fn memory(&self) -> Option<Budget> {
        None
    }

    /// Where doors say whether they have places.
    fn vacancies(&self) -> Vacancies {
        Vacancies::default()
    }

    /// What lies in the overlay or at its gateways, for programs that send nothing else through a proxy.
    fn proxied(&self) -> Proxied {
        Proxied::default()
    }

    /// Returns once a dial to `destination` can be answered truly: at once for what is outside the
    /// overlay.
    fn ready(&self, destination: &Destination) -> impl Future<Output = ()> + Send;

    /// Opens a connection. It is asked for destinations outside the overlay too, and says an error
    /// that
    /// [is foreign](DialError::is_foreign).
    fn dial(
        &self,
        destination: Destination,
        port: u16,
    ) -> impl Future<Output = Result<Self::Stream, DialError>> + Send;

    /// What a person does about `error`, with which a connection to `port` of `destination` ended;
    /// `None` if the overlay does not know.
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

    /// The answer of this device's resolver to one query, if it deserves one. It may have to ask
    /// others.
    fn resolve(
        &self,
        query: Vec<u8>,
        transport: Transport,
    ) -> impl Future<Output = Option<Vec<u8>>> + Send + use<Self>;
}

/// A port that is open for one peer until this is dropped.
pub trait Bound: Send {
    /// A connection through the overlay.
    type Stream;

    /// Where the peer finds it.
    fn local(&self) -> SocketAddr;

    /// The next connection of that peer, and where it comes from; those of others are refused.
    fn accept(&mut self) -> impl Future<Output = (Self::Stream, SocketAddr)> + Send;
}

/// A socket for datagrams to any peer.
pub trait Datagrams: Send {
    /// Sends one datagram; where it went.
    ///
    /// # Errors
    /// As for a dial. That it is lost on its way is no error.
    fn send_to(
        &mut self,
        data: &[u8],
        destination: &Destination,
        port: u16,
    ) -> Result<SocketAddr, DialError>;

    /// The next datagram and who sent it. What does not fit into `data` is lost. Dropping the
    /// future loses nothing.
    fn recv_from(&mut self, data: &mut [u8]) -> impl Future<Output = (usize, SocketAddr)> + Send;
}
