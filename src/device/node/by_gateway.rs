//! Dials hosts outside the overlay through gateways. Decides the order of the gateways; the request
//! to one of them is `doors/gateway.rs`'s.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use overlan_netstack as netstack;
use overlan_protocol::gateway;
use tokio::time::timeout;

use super::Inner;
use crate::names::{DialError, GatewayHost, GatewayHosts, Snapshot};
use overlan_plane::engine::{Peer, Presence};
use overlan_plane::route::Choice;

impl Inner {
    /// Opens a connection to `port` of a host through one of its gateways: an online one first,
    /// then one of unknown presence, then an offline one. A gateway that turns out to be at no
    /// relay is left for the next, since a device that has just started does not know which are
    /// online.
    pub(super) async fn dial_by_gateway(
        &self,
        snapshot: &Snapshot,
        hosts: GatewayHosts,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let mut left = hosts.into_vec();
        let mut denied = None;
        left.retain(
            |gateway| match self.judge_gateway(snapshot, gateway, port) {
                Ok(()) => true,
                Err(error) => {
                    denied.get_or_insert(error);
                    false
                }
            },
        );
        if left.is_empty()
            && let Some(denied) = denied
        {
            return Err(denied);
        }
        let mut next = self.take_best(&mut left).ok_or(DialError::NoRoute)?;
        loop {
            let peer = self.gateway_peer(&next);
            let absent = async {
                match &peer {
                    Some(peer) => self.absent(peer).await,
                    None => pending().await,
                }
            };
            let mut dialled = pin!(self.ask_gateway(snapshot, next, port));
            let ended = tokio::select! {
                ended = &mut dialled => Some(ended),
                () = absent => None,
            };
            let is_away = matches!(ended, None | Some(Err(DialError::Offline)));
            let other = match is_away {
                true => self.take_best(&mut left),
                false => None,
            };
            match (other, ended) {
                (Some(other), _) => next = other,
                (None, Some(ended)) => return ended,
                (None, None) => return dialled.await,
            }
        }
    }

    /// Removes and returns the gateway to ask next.
    fn take_best(&self, gateways: &mut Vec<GatewayHost>) -> Option<GatewayHost> {
        // Among equals the first one is the closest.
        let places = gateways.iter().enumerate().rev();
        let (place, _) = places.max_by_key(|(_, gateway)| self.presence_of_gateway(gateway))?;
        Some(gateways.remove(place))
    }

    /// Returns a gateway's presence as for any device, but counts one that no relay had a moment
    /// ago as offline.
    fn presence_of_gateway(&self, gateway: &GatewayHost) -> Presence {
        match self.gateway_peer(gateway) {
            Some(peer) if self.engine.way_to(&peer) == Choice::Wait => Presence::Offline,
            _ => self.presence_of(gateway.network, gateway.host),
        }
    }

    fn gateway_peer(&self, gateway: &GatewayHost) -> Option<Arc<Peer>> {
        let memberships = self.engine.memberships();
        memberships.get(&gateway.network)?.peer(gateway.host)
    }

    /// Opens a connection to a host through one gateway.
    async fn ask_gateway(
        &self,
        snapshot: &Snapshot,
        host: GatewayHost,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let gateway = self.reach_gateway(snapshot, &host)?;
        let dialled = async {
            let mut stream = match self.open(gateway, gateway::PORT).await {
                // It serves no routes any more, and the controller has not reported that yet.
                Err(DialError::Refused) => return Err(DialError::Offline),
                opened => opened?,
            };
            crate::doors::gateway::ask(&mut stream, host.target, port).await?;
            Ok(stream)
        };
        timeout(self.options.dial_timeout, dialled)
            .await
            .unwrap_or(Err(DialError::TimedOut))
    }
}
