//! Opens connections to devices. Decides when a dial cannot succeed any more, and ends it early;
//! `names` decides the way to a destination, and gateways and zones have files of their own.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use overlan_netstack as netstack;
use overlan_plane::engine::{Peer, Presence};
use overlan_plane::route::Choice;
use overlan_protocol::HostIndex;
use overlan_protocol::policy::Protocol;
use overlan_transport::clock::now;
use tokio::time::{sleep, timeout};

use super::Inner;
use super::reach::Reached;
use crate::names::{Destination, DialError, Resolved, Way};

impl Inner {
    pub(super) async fn dial(
        &self,
        destination: Destination,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let snapshot = self.snapshot();
        match snapshot.way(&destination, Some(port))? {
            Way::Device(device) => self.dial_device(device, &destination, port).await,
            Way::Gateway(hosts) => self.dial_by_gateway(&snapshot, hosts, port).await,
            Way::Zone { name, zone } => {
                let dialled = self.dial_in_zone(&snapshot, name, zone, port);
                timeout(self.options.dial_timeout, dialled)
                    .await
                    .unwrap_or(Err(DialError::TimedOut))
            }
            Way::Foreign(error) => Err(error.into()),
        }
    }

    pub(super) async fn dial_device(
        &self,
        device: Resolved,
        destination: &Destination,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let reached = self.admit(device, destination, Protocol::Tcp, port)?;
        self.open(reached, port).await
    }

    pub(super) async fn open(
        &self,
        reached: Reached,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let membership = reached.membership.clone();
        let (network, host) = (reached.network, reached.host);
        let opened = self.try_open(reached, port).await;
        // The rules may have changed while it was under way.
        let is_own = membership.addresses().contains(&host.v4().into());
        let filter = membership.filter();
        if opened.is_err() && !is_own && !filter.allows_outbound(host, Protocol::Tcp, port) {
            return Err(self.denial(&filter, (network, host), Protocol::Tcp, port));
        }
        opened
    }

    async fn try_open(
        &self,
        reached: Reached,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let Reached {
            membership,
            host,
            address,
            ..
        } = reached;
        let connecting = membership
            .stack()
            .connect(now(), SocketAddr::new(address, port));
        let mut connecting = connecting.map_err(|error| dial_error(&error))?;
        let within = self.options.dial_timeout;
        let soon = LOOK_AFTER.min(within);
        if let Ok(result) = timeout(soon, &mut connecting).await {
            return result.map_err(|error| dial_error(&error));
        }
        let peer = membership.peer(host);
        let hopeless = async {
            match &peer {
                Some(peer) => self.hopeless(peer).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = timeout(within.saturating_sub(soon), connecting) => match result {
                Ok(result) => result.map_err(|error| dial_error(&error)),
                Err(_) => Err(DialError::TimedOut),
            },
            error = hopeless => Err(error),
        }
    }

    /// Returns when a dial under way cannot reach `peer` any more, with the reason.
    async fn hopeless(&self, peer: &Peer) -> DialError {
        tokio::select! {
            () = self.offline(peer) => DialError::Offline,
            () = async {
                sleep(NO_RELAY_AFTER.saturating_sub(LOOK_AFTER)).await;
                if self.engine.way_to(peer) != Choice::Nowhere {
                    std::future::pending().await
                }
            } => DialError::NoRelay,
        }
    }

    /// Returns when `peer` is known to be offline.
    async fn offline(&self, peer: &Peer) {
        let mut turns = self.turns.subscribe();
        while self.engine.presence(now(), peer) != Presence::Offline {
            if turns.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Returns the address of a host in the address family of the destination; names mean IPv4.
pub(super) fn address_for(host: HostIndex, destination: &Destination) -> IpAddr {
    match destination {
        Destination::Address(address) | Destination::AddressIn(address, _) => address.get(),
        Destination::Name(_) => host.v4().into(),
    }
}

fn dial_error(error: &netstack::ConnectError) -> DialError {
    match error {
        netstack::ConnectError::Refused => DialError::Refused,
        netstack::ConnectError::TimedOut => DialError::TimedOut,
        netstack::ConnectError::Unreachable => DialError::Offline,
        netstack::ConnectError::NoAddress => DialError::UnknownName,
        netstack::ConnectError::TooManyFlows | netstack::ConnectError::PortsExhausted => {
            DialError::Internal(error.to_string())
        }
    }
}

/// The time after which a dial also watches the peer's presence; most dials are over by then.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// The time after which a dial fails without a relay: enough for one attempt at each of a few.
const NO_RELAY_AFTER: Duration = Duration::from_secs(5);
