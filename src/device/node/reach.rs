//! Which device a program or a person means, and whether it may be asked now. Opens nothing but
//! sockets of the netstack.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use overlan_netstack as netstack;
use overlan_protocol::address;
use overlan_protocol::gateway;
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::Netmap;
use overlan_protocol::policy::Protocol;
use overlan_transport::clock::now;

use super::{Inner, Node};
use crate::host::splice::Patience;
use crate::names::DialError;
use crate::names::{Destination, GatewayHost, Resolved, Snapshot};
use overlan_plane::engine::{Membership, Presence};

impl Node {
    /// Returns the time that connections may go without a byte.
    pub(crate) fn patience(&self) -> Patience {
        self.inner.options.silence
    }

    /// The destination that a person means by a short name (`db`, `db.acme`), a full name or an
    /// address. That a short name means nothing, or several things, is known at once; whether a
    /// full name or an address leads anywhere is said by the dial.
    ///
    /// # Errors
    /// [`DialError::Missing`], [`DialError::AmbiguousName`].
    pub fn find(&self, text: &str) -> Result<Destination, DialError> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let plain = Destination::from_text(bare);
        let snapshot = self.inner.snapshot();
        // Before the networks are known, nobody knows what is short for what.
        if plain.address().is_some() || snapshot.version == 0 {
            return Ok(plain);
        }
        Ok(snapshot.find(bare)?)
    }

    /// Returns what to do about `error`, with which a connection to `port` of what a person calls
    /// `text` ended, if it is known.
    #[must_use]
    pub fn next_step(&self, text: &str, port: u16, error: &DialError) -> Option<String> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let destination = Destination::from_text(bare);
        self.inner.snapshot().next_step(&destination, port, error)
    }

    /// A UDP socket of the destination's network, on a port of its own, and where the destination's
    /// `port` is.
    pub fn datagrams(
        &self,
        destination: &Destination,
        port: u16,
    ) -> Result<(netstack::UdpSocket, SocketAddr), DialError> {
        let snapshot = self.inner.snapshot();
        let reached = self
            .inner
            .reach(&snapshot, destination, Protocol::Udp, port)?;
        let socket = reached.membership.stack().bind_udp(0);
        let socket = socket.map_err(|error| DialError::Internal(error.to_string()))?;
        Ok((socket, SocketAddr::new(reached.address, port)))
    }

    /// UDP sockets on an overlay port of every network that this device is in now. Dropping them
    /// closes the port.
    ///
    /// # Errors
    /// The port is bound elsewhere in this process.
    pub fn bind_udp_each(
        &self,
        port: u16,
    ) -> Result<Vec<netstack::UdpSocket>, netstack::BindError> {
        let memberships = self.inner.engine.memberships();
        let bind = |membership: &Arc<Membership>| membership.stack().bind_udp(port);
        memberships.values().map(bind).collect()
    }
}

/// A device that may be asked.
pub(super) struct Reached {
    pub(super) membership: Arc<Membership>,
    pub(super) host: u32,
    pub(super) address: IpAddr,
    pub(super) network: NetworkId,
}

impl Inner {
    /// Takes the netmap as it is now, for one dial, one wait or one answer from its beginning to
    /// its end.
    pub(super) fn snapshot(&self) -> Snapshot {
        let netmap = self.control.netmap().borrow().clone();
        self.snapshot_of(netmap)
    }

    /// Makes a snapshot of a netmap that is at hand.
    pub(super) fn snapshot_of(&self, netmap: Arc<Netmap>) -> Snapshot {
        Snapshot::new(netmap, self.options.address_network.clone())
    }

    /// Finds the device that `destination` means, if policy lets this one open `port` of it and it
    /// is not known to be away.
    pub(super) fn reach(
        &self,
        snapshot: &Snapshot,
        destination: &Destination,
        protocol: Protocol,
        port: u16,
    ) -> Result<Reached, DialError> {
        let device = snapshot.device(destination)?;
        self.admit(device, destination, protocol, port)
    }

    /// Does the same for a device that is found already.
    pub(super) fn admit(
        &self,
        device: Resolved,
        destination: &Destination,
        protocol: Protocol,
        port: u16,
    ) -> Result<Reached, DialError> {
        let membership = self.membership(&device)?;
        if !device.own {
            let filter = membership.filter();
            if !filter.allows_outbound(device.host, protocol, port) {
                return Err(DialError::DeniedByPolicy);
            }
            let Some(peer) = membership.peer(device.host) else {
                return Err(DialError::Untrusted);
            };
            if self.engine.presence(now(), &peer) == Presence::Offline {
                return Err(DialError::Offline);
            }
        }
        Ok(Reached {
            membership,
            host: device.host,
            address: self.address(device.host, destination)?,
            network: device.network,
        })
    }

    /// Finds a gateway as [`Inner::reach`] finds a device, for the port where it is asked.
    pub(super) fn reach_gateway(
        &self,
        snapshot: &Snapshot,
        gateway: &GatewayHost,
    ) -> Result<Reached, DialError> {
        let network = snapshot.networks.get(&gateway.network);
        let network = network.ok_or(DialError::UnknownName)?;
        let address: IpAddr = address::v4(gateway.host)
            .ok_or(DialError::UnknownName)?
            .into();
        let device = Destination::AddressIn(address.into(), network.name.clone());
        self.reach(snapshot, &device, Protocol::Tcp, gateway::PORT)
    }

    /// Returns the network that a device was found in.
    pub(super) fn membership(&self, resolved: &Resolved) -> Result<Arc<Membership>, DialError> {
        let memberships = self.engine.memberships();
        let membership = memberships.get(&resolved.network);
        membership.cloned().ok_or(DialError::UnknownName)
    }
}
