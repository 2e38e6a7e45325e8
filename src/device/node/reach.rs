//! Finds the device that a destination means. Decides whether it may be dialled now; opens nothing
//! but sockets of the netstack.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use overlan_netstack as netstack;
use overlan_protocol::HostIndex;
use overlan_protocol::gateway::{self, Host};
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::Netmap;
use overlan_protocol::policy::{Filter, Protocol};
use overlan_transport::clock::now;

use super::dialling::address_for;
use super::{Inner, Node};
use crate::host::splice::Patience;
use crate::names::DialError;
use crate::names::{Destination, GatewayHost, Resolved, Snapshot, host_of};
use overlan_plane::engine::{Membership, Presence};

impl Node {
    /// Returns the longest time without a byte for connections.
    pub(crate) fn patience(&self) -> Patience {
        self.inner.options.silence
    }

    /// Returns the destination that a person means by a short name (`db`, `db.acme`), a full name
    /// or an address. A short name that means nothing, or several things, is an error at once; a
    /// full name or an address is checked by the dial.
    ///
    /// # Errors
    /// [`DialError::Missing`], [`DialError::AmbiguousName`].
    pub fn find(&self, text: &str) -> Result<Destination, DialError> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let plain = Destination::from_text(bare);
        let snapshot = self.inner.snapshot();
        // Before the networks are known, short names have no meaning.
        if plain.address().is_some() || snapshot.version == 0 {
            return Ok(plain);
        }
        Ok(snapshot.find(bare)?)
    }

    /// Returns the next step after a connection to `port` of `text`, as a person wrote it, ended
    /// with `error`; `None` if none is known.
    #[must_use]
    pub fn next_step(&self, text: &str, port: u16, error: &DialError) -> Option<String> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let destination = Destination::from_text(bare);
        self.inner.snapshot().next_step(&destination, port, error)
    }

    /// Opens a UDP socket in the destination's network, on a port of its own. Returns it with the
    /// address of the destination's `port`.
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

    /// Binds UDP sockets on an overlay port of every network that this device is in now. The port
    /// closes when they are dropped.
    ///
    /// # Errors
    /// The port is already bound in this process.
    pub fn bind_udp_each(
        &self,
        port: u16,
    ) -> Result<Vec<netstack::UdpSocket>, netstack::BindError> {
        let memberships = self.inner.engine.memberships();
        let bind = |membership: &Arc<Membership>| membership.stack().bind_udp(port);
        memberships.values().map(bind).collect()
    }
}

/// A device that may be dialled.
pub(super) struct Reached {
    pub(super) membership: Arc<Membership>,
    pub(super) host: HostIndex,
    pub(super) address: IpAddr,
    pub(super) network: NetworkId,
}

impl Inner {
    /// Takes a snapshot of the newest netmap, for the whole of one dial, one wait or one answer.
    pub(super) fn snapshot(&self) -> Snapshot {
        let netmap = self.control.netmap().borrow().clone();
        self.snapshot_of(netmap)
    }

    /// Makes a snapshot of a netmap that the caller has.
    pub(super) fn snapshot_of(&self, netmap: Arc<Netmap>) -> Snapshot {
        Snapshot::new(netmap, self.options.address_network.clone())
    }

    /// Finds the device that `destination` means, if policy lets this device open `port` of it and
    /// it is not known to be offline.
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

    /// Checks the same for a device that is already found.
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
                let place = (device.network, device.host);
                return Err(self.denial(&filter, place, protocol, port));
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
            address: address_for(device.host, destination),
            network: device.network,
        })
    }

    /// Says which rules keep this device from `port` of another one.
    pub(super) fn denial(
        &self,
        filter: &Filter,
        (network, host): (NetworkId, HostIndex),
        protocol: Protocol,
        port: u16,
    ) -> DialError {
        let snapshot = self.snapshot();
        let network = snapshot.networks.get(&network);
        let peer = network.and_then(|network| network.peers.get(&host));
        let from = network.map_or("this device", |network| &network.label);
        let to = peer.map_or("that device", |peer| &peer.label);
        let verdict = filter.judge_outbound(host, protocol, port);
        DialError::no_rule((from, to), protocol, port, &verdict)
    }

    /// Decides whether policy lets this device ask a gateway for `port` of a host. The gateway
    /// decides about a name whose addresses alone the rules know.
    pub(super) fn judge_gateway(
        &self,
        snapshot: &Snapshot,
        gateway: &GatewayHost,
        port: u16,
    ) -> Result<(), DialError> {
        let memberships = self.engine.memberships();
        let (Some(membership), Some(network)) = (
            memberships.get(&gateway.network),
            snapshot.networks.get(&gateway.network),
        ) else {
            return Err(DialError::UnknownName);
        };
        let filter = membership.filter();
        let host = host_of(&gateway.target);
        let verdict = filter.judge_host_out(gateway.host, host, port);
        let knows_addresses = || {
            let asks = filter.allows_outbound(gateway.host, Protocol::Tcp, gateway::PORT);
            matches!(host, Host::Name(_)) && asks
        };
        if verdict.is_allowed() || knows_addresses() {
            return Ok(());
        }
        let names = (network.label.as_str(), gateway.target.as_str());
        Err(DialError::no_rule(names, Protocol::Tcp, port, &verdict))
    }

    /// Finds a gateway as [`Inner::reach`] finds a device, for the port where gateways listen.
    pub(super) fn reach_gateway(
        &self,
        snapshot: &Snapshot,
        gateway: &GatewayHost,
    ) -> Result<Reached, DialError> {
        let network = snapshot.networks.get(&gateway.network);
        let network = network.ok_or(DialError::UnknownName)?;
        let address = IpAddr::V4(gateway.host.v4());
        let device = Destination::AddressIn(address.into(), network.name.clone());
        self.reach(snapshot, &device, Protocol::Tcp, gateway::PORT)
    }

    /// Returns the network in which a device was found.
    pub(super) fn membership(&self, resolved: &Resolved) -> Result<Arc<Membership>, DialError> {
        let memberships = self.engine.memberships();
        let membership = memberships.get(&resolved.network);
        membership.cloned().ok_or(DialError::UnknownName)
    }
}
