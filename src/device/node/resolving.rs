//! Names that others answer for, as this device asks for them: their resolvers are dialled like any peer, and so is what they
//! name. Nothing of it touches the host's network but what `dns_forwards` says.

use std::net::IpAddr;
use std::sync::Arc;

use overlan_netstack as netstack;
use overlan_protocol::address;
use overlan_protocol::dns::{Via, ViaHost};
use overlan_protocol::key::NetworkId;
use overlan_protocol::policy::Protocol;
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Inner, Node};
use crate::device::status::{ResolverStatus, ZoneStatus};
use crate::doors::dns::explain::{Explained, ExplainedQuestion, NoQuestion};
use crate::doors::dns::{self, NoAddress, Server};
use crate::doors::proxy::Overlay;
use crate::names::DialError;
use crate::names::lookup::{Source, Transport};
use crate::names::{self, Destination, NameError, Way};

/// Most resolvers that other names are handed on to.
pub const DNS_FORWARDS_MAX: usize = dns::FORWARDS_MAX;

impl Node {
    /// Answers DNS on these sockets until `stop`. It does not keep the node up.
    pub fn serve_dns(
        &self,
        udp: UdpSocket,
        tcp: TcpListener,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + use<> {
        let overlay = self.overlay();
        let answer = move |query, transport| overlay.resolve(query, transport);
        dns::serve(udp, tcp, answer, stop)
    }

    /// What a program hears that asks for `name` and `kind`, such as `A`, and which rule answers. A short name is asked for by the full one
    /// that it stands for.
    ///
    /// # Errors
    /// See [`NoQuestion`].
    pub async fn query_dns(&self, name: &str, kind: &str) -> Result<Explained, NoQuestion> {
        let inner = &self.inner;
        let netmap = inner.control.netmap().borrow().clone();
        let whole = match names::whole_name(&netmap, name) {
            Ok(whole) => whole,
            Err(error @ NameError::AmbiguousName(_)) => {
                return Err(NoQuestion::Several(error.to_string()));
            }
            // What is no name of a host may be one of DNS.
            Err(_) => name.to_owned(),
        };
        let wanted = ExplainedQuestion::new(&whole, kind)?;
        let dial = |network, via| inner.dial_resolver(network, via);
        inner.resolver.explain(wanted, &netmap, dial).await
    }
}

impl Inner {
    /// The answer to one DNS message.
    pub(super) async fn answer_dns(
        self: &Arc<Self>,
        query: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let netmap = self.control.netmap().borrow().clone();
        let dial = |network, via| self.dial_resolver(network, via);
        self.resolver.answer(query, &netmap, transport, dial).await
    }

    /// Dials a name that the resolvers of a zone answer for.
    pub(super) async fn dial_elsewhere(
        &self,
        destination: Destination,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let dialled = self.resolve_and_dial(destination, port);
        timeout(self.options.dial_timeout, dialled)
            .await
            .unwrap_or(Err(DialError::TimedOut))
    }

    async fn resolve_and_dial(
        &self,
        mut destination: Destination,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        for _ in 0..=ALIASES_MAX {
            // The same rule as for what a program asks for, since an alias may lead to anything.
            let (name, network, zone, via) = match self.way(&destination, port) {
                Ok(Way::Device(device)) => {
                    return self.dial_device(device, &destination, port).await;
                }
                Ok(Way::Behind(_)) => return self.dial_led(&destination, port, None).await,
                Ok(Way::Elsewhere {
                    name,
                    network,
                    zone,
                    via,
                }) => (name, network, zone, via),
                // The end of an alias. No other resolver is asked for it.
                Err(error) if error.is_foreign() => return Err(DialError::LedNowhere),
                Err(error) => return Err(error),
            };
            let source = Source::Zone { network, zone, via };
            let netmap = self.control.netmap().borrow().clone();
            let dial = |network, via| self.dial_resolver(network, via);
            match self.resolver.addresses(&source, &name, &netmap, dial).await {
                Ok(addresses) => return self.dial_first(network, &addresses, port).await,
                // What a resolver says is whole.
                Err(NoAddress::Alias(alias)) => {
                    destination = Destination::Name(format!("{alias}."))
                }
                Err(NoAddress::NoSuchName) => return Err(DialError::UnknownName),
                Err(NoAddress::NobodyAnswers) => return Err(DialError::NoResolver),
            }
        }
        Err(DialError::UnknownName)
    }

    /// The first of these addresses that lets this device in. The answer about the first one counts, if none does.
    async fn dial_first(
        &self,
        network: NetworkId,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let mut first = None;
        for address in addresses.iter().take(ADDRESSES_MAX) {
            match self.dial_within(network, *address, port).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or(DialError::UnknownName))
    }

    /// Dials a resolver of a zone, by the same rules as any program.
    async fn dial_resolver(
        &self,
        network: NetworkId,
        via: Via,
    ) -> Result<netstack::TcpStream, DialError> {
        let address = match via.host {
            ViaHost::Address(address) => address,
            ViaHost::Peer(label) => {
                let netmap = self.control.netmap().borrow().clone();
                let members = netmap.networks.get(&network);
                let device = members
                    .and_then(|members| names::device_named(network, members, &label))
                    .ok_or(DialError::UnknownName)?;
                address::v4(device.host)
                    .ok_or(DialError::UnknownName)?
                    .into()
            }
        };
        self.dial_within(network, address, via.port).await
    }

    /// Dials an address of one network or behind one of its gateways.
    async fn dial_within(
        &self,
        network: NetworkId,
        address: IpAddr,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        if names::in_overlay(address) {
            let netmap = self.control.netmap().borrow().clone();
            let members = netmap.networks.get(&network);
            let name = &members.ok_or(DialError::UnknownName)?.name;
            let destination = Destination::AddressIn(address.into(), name.clone());
            let reached = self.reach(&destination, Protocol::Tcp, port)?;
            return self.open(reached, port).await;
        }
        let destination = Destination::from(address);
        self.dial_led(&destination, port, Some(network)).await
    }

    /// The zones that resolvers answer for, and how those did.
    pub(super) fn zone_statuses(&self) -> Vec<ZoneStatus> {
        let netmap = self.control.netmap().borrow().clone();
        let networks = netmap.networks.iter();
        let zones = networks.flat_map(|(id, network)| {
            let zones = network.dns.zones.iter();
            zones.map(move |(zone, settings)| ZoneStatus {
                zone: zone.clone(),
                network: network.name.clone(),
                resolvers: settings
                    .via
                    .iter()
                    .map(|via| self.resolver_status(&Server::Inside(*id, via.clone())))
                    .collect(),
            })
        });
        zones.collect()
    }

    /// The resolvers that other names are handed on to, and how they did.
    pub(super) fn forward_statuses(&self) -> Vec<ResolverStatus> {
        let forwards = self.resolver.forwards().iter();
        forwards
            .map(|forward| self.resolver_status(&Server::Outside(*forward)))
            .collect()
    }

    fn resolver_status(&self, server: &Server) -> ResolverStatus {
        let last = self.resolver.last(server);
        ResolverStatus {
            resolver: server.to_string(),
            answered: last.as_ref().map(Result::is_ok),
            last_error: last.and_then(Result::err),
        }
    }
}

/// Aliases that are followed for one dial.
const ALIASES_MAX: usize = 8;

/// Addresses of one name that are tried: the first ones, since a dial ends in time.
const ADDRESSES_MAX: usize = 4;
