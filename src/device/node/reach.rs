//! Which device a program or a person means, and whether it may be asked now. Opens nothing but sockets of the netstack.

use std::borrow::Cow;
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
use crate::names::{self, Behind, Destination, Resolved, Way};
use overlan_plane::engine::{Membership, Presence};

impl Node {
    /// How long connections may go without a byte.
    pub(crate) fn patience(&self) -> Patience {
        self.inner.options.silence
    }

    /// The destination that a person means by a short name (`db`, `db.acme`), a full name or an address. That a short name means nothing, or
    /// several things, is known at once; whether a full name or an address leads anywhere is said by the dial.
    ///
    /// # Errors
    /// [`DialError::Missing`], [`DialError::AmbiguousName`].
    pub fn find(&self, text: &str) -> Result<Destination, DialError> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let plain = Destination::from_text(bare);
        let netmap = self.inner.control.netmap().borrow().clone();
        // Before the networks are known, nobody knows what is short for what.
        if plain.address().is_some() || netmap.version == 0 {
            return Ok(plain);
        }
        Ok(names::find(&netmap, bare)?)
    }

    /// What to do about `error`, with which a connection to `port` of what a person calls `text` ended, if it is known.
    #[must_use]
    pub fn next_step(&self, text: &str, port: u16, error: &DialError) -> Option<String> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        self.inner
            .next_step(&Destination::from_text(bare), port, error)
    }

    /// A UDP socket of the destination's network, on a port of its own, and where the destination's `port` is.
    pub fn datagrams(
        &self,
        destination: &Destination,
        port: u16,
    ) -> Result<(netstack::UdpSocket, SocketAddr), DialError> {
        let reached = self.inner.reach(destination, Protocol::Udp, port)?;
        let socket = reached.membership.stack().bind_udp(0);
        let socket = socket.map_err(|error| DialError::Internal(error.to_string()))?;
        Ok((socket, SocketAddr::new(reached.address, port)))
    }

    /// UDP sockets on an overlay port of every network that this device is in now. Dropping them closes the port.
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
    /// The device that `destination` means, if policy lets this one open `port` of it and it is not known to be away.
    pub(super) fn reach(
        &self,
        destination: &Destination,
        protocol: Protocol,
        port: u16,
    ) -> Result<Reached, DialError> {
        let (membership, resolved) = self.locate(destination)?;
        self.admit(membership, resolved, destination, protocol, port)
    }

    /// The same for a device that is found already.
    pub(super) fn admit(
        &self,
        membership: Arc<Membership>,
        resolved: Resolved,
        destination: &Destination,
        protocol: Protocol,
        port: u16,
    ) -> Result<Reached, DialError> {
        if !resolved.own {
            if !membership
                .filter()
                .allows_outbound(resolved.host, protocol, port)
            {
                return Err(DialError::DeniedByPolicy);
            }
            let Some(peer) = membership.peer(resolved.host) else {
                return Err(DialError::Untrusted);
            };
            if self.engine.presence(now(), &peer) == Presence::Offline {
                return Err(DialError::Offline);
            }
        }
        Ok(Reached {
            membership,
            host: resolved.host,
            address: self.address(resolved.host, destination)?,
            network: resolved.network,
        })
    }

    /// The way to `port` of a destination.
    pub(super) fn way(&self, destination: &Destination, port: u16) -> Result<Way, DialError> {
        let netmap = self.control.netmap().borrow().clone();
        if netmap.version == 0 {
            return Err(DialError::NotReady);
        }
        Ok(names::way(
            &netmap,
            &self.meant(&netmap, destination),
            port,
        )?)
    }

    /// The gateway that leads to a host behind it, as [`Inner::reach`], and what it is asked for.
    pub(super) fn reach_behind(&self, behind: Behind) -> Result<(Reached, String), DialError> {
        let netmap = self.control.netmap().borrow().clone();
        let network = netmap.networks.get(&behind.network);
        let network = network.ok_or(DialError::UnknownName)?;
        let address: IpAddr = address::v4(behind.host)
            .ok_or(DialError::UnknownName)?
            .into();
        let gateway = Destination::AddressIn(address.into(), network.name.clone());
        let reached = self.reach(&gateway, Protocol::Tcp, gateway::PORT)?;
        Ok((reached, behind.target))
    }

    /// What a destination means by the settings: a bare address is one in the network that was chosen for them.
    pub(super) fn meant<'a>(
        &self,
        netmap: &Netmap,
        destination: &'a Destination,
    ) -> Cow<'a, Destination> {
        match (destination, &self.options.address_network) {
            (Destination::Address(address), Some(network)) if netmap.networks.len() > 1 => {
                Cow::Owned(Destination::AddressIn(*address, network.clone()))
            }
            _ => Cow::Borrowed(destination),
        }
    }

    /// The device that `destination` means and the network that it is in, whatever policy says.
    pub(super) fn locate(
        &self,
        destination: &Destination,
    ) -> Result<(Arc<Membership>, Resolved), DialError> {
        let netmap = self.control.netmap().borrow().clone();
        let resolved = self.device(&netmap, destination)?;
        Ok((self.membership(&resolved)?, resolved))
    }

    /// The device that `destination` means by `netmap`.
    pub(super) fn device(
        &self,
        netmap: &Netmap,
        destination: &Destination,
    ) -> Result<Resolved, DialError> {
        if netmap.version == 0 {
            return Err(DialError::NotReady);
        }
        Ok(names::device(netmap, &self.meant(netmap, destination))?)
    }

    /// The network that a device was found in.
    pub(super) fn membership(&self, resolved: &Resolved) -> Result<Arc<Membership>, DialError> {
        let memberships = self.engine.memberships();
        let membership = memberships.get(&resolved.network);
        membership.cloned().ok_or(DialError::UnknownName)
    }

    /// What to do about `error`, if it is known.
    pub(super) fn next_step(
        &self,
        destination: &Destination,
        port: u16,
        error: &DialError,
    ) -> Option<String> {
        let netmap = self.control.netmap().borrow().clone();
        names::next(&netmap, &self.meant(&netmap, destination), port, error)
    }
}
