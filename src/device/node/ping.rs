//! Echo requests to other devices, and the device to which an address belongs. Decides nothing that
//! policy or routes decide.

use std::net::IpAddr;
use std::time::Duration;

use overlan_netstack::PingError;
use overlan_protocol::HostIndex;
use overlan_protocol::key::{DeviceId, IdentityKey, NetworkId};
use overlan_protocol::netmap::Owner;
use overlan_protocol::policy::Protocol;
use overlan_transport::clock::now;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::reach::Reached;
use super::{Inner, Node};
use crate::names::{Destination, DialError, Snapshot};
use overlan_plane::engine::Presence;
use overlan_plane::route::Choice;

/// The answer to an echo request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Full name of the device.
    pub name: String,
    /// The address that was asked.
    pub address: IpAddr,
    /// Name of the relay on the way to it.
    pub relay: Option<String>,
    /// The time from the request to the answer, microseconds.
    pub round_trip_us: u64,
}

/// The device that an address or a name belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whois {
    /// Full name of the device.
    pub name: String,
    /// Its host label.
    pub label: String,
    /// Label of the network.
    pub network: String,
    /// The device.
    pub device: DeviceId,
    /// The key that proves it; only for peers.
    pub identity: Option<IdentityKey>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
    /// True if it is known to be online; `presence` tells offline from unknown.
    pub online: bool,
    /// Online, offline or unknown.
    #[serde(default)]
    pub presence: Presence,
    /// Names of the relays by which it can be reached, its home first.
    pub relays: Vec<String>,
    /// True if it is this device itself.
    pub this_device: bool,
    /// The person or auth key that enrolled it; only for peers.
    #[serde(default)]
    pub owner: Owner,
}

impl Node {
    /// Asks a device for an echo through the overlay, and waits at most `within` for it. The first
    /// echo may include the handshake of the end-to-end session.
    ///
    /// # Errors
    /// As for a connection. Without an answer it is [`DialError::TimedOut`], or
    /// [`DialError::NoRelay`] if no relay reaches the device.
    pub async fn ping(
        &self,
        destination: &Destination,
        within: Duration,
    ) -> Result<Pong, DialError> {
        let inner = &self.inner;
        let snapshot = inner.snapshot();
        let Reached {
            membership,
            host,
            address,
            ..
        } = inner.reach(&snapshot, destination, Protocol::Icmp, 0)?;
        let began = now();
        let way = || {
            let peer = membership.peer(host)?;
            Some(inner.engine.way_to(&peer))
        };
        let whois = inner.whois(&snapshot, destination)?;
        if whois.this_device {
            return Err(DialError::Internal(
                "the address is this device's own; ping a peer".to_owned(),
            ));
        }
        let ping = membership.stack().ping(began, address, ECHO);
        let ping = ping.map_err(|error| ping_error(&error))?;
        match timeout(within, ping).await {
            Ok(Ok(pong)) => {
                let relay = match way() {
                    Some(Choice::Send(relay) | Choice::Connect(relay)) => Some(relay),
                    Some(Choice::Wait | Choice::Nowhere) | None => None,
                };
                let relay = relay.and_then(|relay| snapshot.relays.get(&relay));
                Ok(Pong {
                    name: whois.name,
                    address,
                    relay: relay.map(|relay| relay.name.clone()),
                    round_trip_us: u64::try_from(pong.at.duration_since(began).as_micros())
                        .unwrap_or(u64::MAX),
                })
            }
            Ok(Err(error)) => Err(ping_error(&error)),
            Err(_) => Err(match way() {
                Some(Choice::Connect(_) | Choice::Nowhere) => DialError::NoRelay,
                Some(Choice::Send(_) | Choice::Wait) | None => DialError::TimedOut,
            }),
        }
    }

    /// Finds the device that has a name or an address.
    pub fn whois(&self, destination: &Destination) -> Result<Whois, DialError> {
        self.inner.whois(&self.inner.snapshot(), destination)
    }
}

impl Inner {
    /// Finds the device that has a name or an address.
    pub(super) fn whois(
        &self,
        snapshot: &Snapshot,
        destination: &Destination,
    ) -> Result<Whois, DialError> {
        let resolved = snapshot.device(destination)?;
        let network = snapshot
            .networks
            .get(&resolved.network)
            .ok_or(DialError::UnknownName)?;
        let peer = network.peers.get(&resolved.host);
        let presence = match resolved.own {
            true => Presence::Online,
            false => self.presence_of(resolved.network, resolved.host),
        };
        let label = peer.map_or(&network.label, |peer| &peer.label);
        let relays = peer.map_or(&network.relays, |peer| &peer.relays);
        Ok(Whois {
            name: format!("{label}.{}.{}", network.name, snapshot.domain),
            label: label.clone(),
            network: network.name.clone(),
            device: peer.map_or(snapshot.device, |peer| peer.device),
            identity: peer.map(|peer| peer.identity),
            addresses: resolved.host.addresses().into(),
            online: presence == Presence::Online,
            presence,
            relays: relays
                .iter()
                .filter_map(|id| Some(snapshot.relays.get(id)?.name.clone()))
                .collect(),
            this_device: resolved.own,
            owner: peer.map_or(Owner::Unknown, |peer| peer.owner.clone()),
        })
    }

    /// Returns the presence of a device of a network. A device whose keys the engine does not
    /// believe is unknown.
    pub(super) fn presence_of(&self, network: NetworkId, host: HostIndex) -> Presence {
        let memberships = self.engine.memberships();
        let peer = memberships.get(&network).and_then(|it| it.peer(host));
        peer.map_or(Presence::Unknown, |peer| self.engine.presence(now(), &peer))
    }
}

fn ping_error(error: &PingError) -> DialError {
    match error {
        PingError::NoAddress => DialError::UnknownName,
        PingError::Unreachable => DialError::Offline,
        PingError::Forbidden => DialError::DeniedByPolicy,
        PingError::TooLarge | PingError::TooMany => DialError::Internal(error.to_string()),
    }
}

/// The content of an echo request: as many bytes as other programs called ping send.
const ECHO: &[u8] = &[0; 56];
