//! Which device a program or a person means, and whether it may be asked now. Opens nothing but sockets of the netstack.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use overlan_netstack as netstack;
use overlan_protocol::address;
use overlan_protocol::gateway;
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::{Netmap, Network};
use overlan_protocol::policy::Protocol;
use overlan_transport::pump::now;

use super::{Inner, Node};
use crate::dial::DialError;
use crate::engine::{Membership, Presence};
use crate::names::{self, Destination, NameError, Resolved};
use crate::splice::Patience;

/// Why what a person calls a device is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// No network of this device has it.
    #[error("no device is called {0:?}; `overlan status` lists them")]
    Unknown(String),
    /// Several networks have one.
    #[error("{label:?} is in several networks; give the full name, such as {full}")]
    Several {
        /// What was asked for.
        label: String,
        /// One of the full names.
        full: String,
    },
}

impl Node {
    /// How long connections may go without a byte.
    pub(crate) fn patience(&self) -> Patience {
        self.inner.options.silence
    }

    /// The destination that a person means by a label of a device or a record, a label and a network of this device (`db.acme`), a full name or an
    /// address. Only the first two are looked up; whether a full name or an address leads anywhere is said by the dial.
    pub fn find(&self, text: &str) -> Result<Destination, FindError> {
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        let plain = Destination::from_text(bare);
        if plain.address().is_some() {
            return Ok(plain);
        }
        let netmap = self.inner.control.netmap().borrow().clone();
        if let Some((label, network)) = text.split_once('.') {
            let network = network.to_ascii_lowercase();
            return Ok(Destination::Name(match netmap.network_named(&network) {
                Some(_) => format!("{label}.{network}.{}", netmap.domain),
                None => text.to_owned(),
            }));
        }
        let label = text.to_ascii_lowercase();
        let is_record = |network: &Network| {
            let name = format!("{label}.{}.{}", network.name, netmap.domain);
            network.dns.records.contains_key(&name)
        };
        let mut found = netmap.networks.values().filter(|network| {
            network.label == label
                || network.peers.values().any(|peer| peer.label == label)
                || is_record(network)
        });
        match (found.next(), found.next()) {
            (Some(network), another) => {
                let full = format!("{label}.{}.{}", network.name, netmap.domain);
                match another {
                    None => Ok(Destination::Name(full)),
                    Some(_) => Err(FindError::Several { label, full }),
                }
            }
            (None, _) => Err(FindError::Unknown(text.to_owned())),
        }
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
        let (membership, resolved) = match self.locate(destination) {
            // Nobody outside may be asked for it either.
            Err(DialError::Foreign)
                if protocol == Protocol::Udp && self.is_elsewhere(destination) =>
            {
                return Err(DialError::Internal(
                    "names of a zone with resolvers are for connections; give the address instead"
                        .to_owned(),
                ));
            }
            located => located?,
        };
        if !resolved.own {
            if !membership
                .filter()
                .allows_outbound(resolved.host, protocol, port)
            {
                return Err(DialError::DeniedByPolicy);
            }
            let Some(peer) = membership.peer(resolved.host) else {
                return Err(DialError::Internal(
                    "the device's keys do not check, so it is not used; the log of `overlan up` says why"
                        .to_owned(),
                ));
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

    /// The gateway that leads to `port` of a destination outside the overlay, if there is one, of network `within` if that is given,
    /// as [`Inner::reach`], and what it is asked for.
    pub(super) fn reach_behind(
        &self,
        destination: &Destination,
        port: u16,
        within: Option<NetworkId>,
    ) -> Result<Option<(Reached, String)>, DialError> {
        let netmap = self.control.netmap().borrow().clone();
        let Some(behind) = names::behind(&netmap, destination, Some(port), within) else {
            return Ok(None);
        };
        let network = netmap.networks.get(&behind.network);
        let network = network.ok_or(DialError::UnknownName)?;
        let address = address::v4(behind.host).ok_or(DialError::UnknownName)?;
        let gateway = Destination::AddressIn(address.into(), network.name.clone());
        let reached = self.reach(&gateway, Protocol::Tcp, gateway::PORT)?;
        Ok(Some((reached, behind.target)))
    }

    /// The device that `destination` means by `netmap`; a bare address means one in the network that was chosen for them.
    pub(super) fn resolve(
        &self,
        netmap: &Netmap,
        destination: &Destination,
    ) -> Result<Resolved, NameError> {
        let destination = match (destination, &self.options.address_network) {
            (Destination::Address(address), Some(network)) if netmap.networks.len() > 1 => {
                Cow::Owned(Destination::AddressIn(*address, network.clone()))
            }
            _ => Cow::Borrowed(destination),
        };
        names::resolve(netmap, &destination)
    }

    /// The device that `destination` means and the network that it is in, whatever policy says.
    pub(super) fn locate(
        &self,
        destination: &Destination,
    ) -> Result<(Arc<Membership>, Resolved), DialError> {
        let netmap = self.control.netmap().borrow().clone();
        if netmap.version == 0 {
            return Err(DialError::NotReady);
        }
        let resolved = self.resolve(&netmap, destination)?;
        let memberships = self.engine.memberships();
        let membership = memberships.get(&resolved.network);
        Ok((membership.cloned().ok_or(DialError::UnknownName)?, resolved))
    }
}
