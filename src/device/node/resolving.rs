//! DNS of this device: resolvers of delegated zones, and the addresses that they give, are dialled
//! like any peer. Decides the order of these attempts. Nothing here uses the host's network except
//! the resolvers in `dns_forwards`.

use std::net::IpAddr;
use std::sync::Arc;

use overlan_netstack as netstack;
use overlan_protocol::dns::{Via, ViaHost};
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::Netmap;
use overlan_protocol::policy::Protocol;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::{Inner, Node};
use crate::device::status::{ResolverStatus, ZoneStatus};
use crate::doors::dns::explain::{Explained, ExplainedQuestion, NoQuestion};
use crate::doors::dns::{self, NoAddress, Server};
use crate::doors::proxy::Overlay;
use crate::names::DialError;
use crate::names::lookup::{DnsTransport, Resolvers};
use crate::names::{self, ALIASES_MAX, Delegation, Destination, NameError, Snapshot, Way};

/// The largest number of resolvers to which foreign names are forwarded.
pub const DNS_FORWARDS_MAX: usize = dns::FORWARDS_MAX;

impl Node {
    /// Answers DNS on these sockets until `stop`, without keeping the node up.
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

    /// Returns the answer that a program gets for `name` and `kind`, such as `A`, and the rule that
    /// made it. A short name is looked up by its full name.
    ///
    /// # Errors
    /// See [`NoQuestion`].
    pub async fn query_dns(&self, name: &str, kind: &str) -> Result<Explained, NoQuestion> {
        let inner = &self.inner;
        let snapshot = inner.snapshot();
        let whole = match names::whole_name(&snapshot, name) {
            Ok(whole) => whole,
            Err(error @ NameError::AmbiguousName(_)) => {
                return Err(NoQuestion::Several(error.to_string()));
            }
            // A text that is not a host name may still be a name of DNS.
            Err(_) => name.to_owned(),
        };
        let wanted = ExplainedQuestion::new(&whole, kind)?;
        let dial = |network, via| inner.dial_resolver(&snapshot, network, via);
        inner.resolver.explain(wanted, &snapshot, dial).await
    }
}

impl Inner {
    /// Answers one DNS message.
    pub(super) async fn answer_dns(
        self: &Arc<Self>,
        query: &[u8],
        transport: DnsTransport,
    ) -> Option<Vec<u8>> {
        let snapshot = self.snapshot();
        let dial = |network, via| self.dial_resolver(&snapshot, network, via);
        self.resolver
            .answer(query, &snapshot, transport, dial)
            .await
    }

    /// Dials a name of a delegated zone by the answers of its resolvers.
    pub(super) async fn dial_in_zone(
        &self,
        snapshot: &Snapshot,
        mut name: String,
        mut zone: Delegation,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        for _ in 0..=ALIASES_MAX {
            let network = zone.network;
            let resolvers = Resolvers::Zone(zone);
            let dial = |network, via| self.dial_resolver(snapshot, network, via);
            let answer = self.resolver.addresses(&resolvers, &name, snapshot, dial);
            let alias = match answer.await {
                Ok(addresses) => {
                    return self.dial_first(snapshot, network, &addresses, port).await;
                }
                // A resolver's names are whole.
                Err(NoAddress::Alias(alias)) => Destination::Name(format!("{alias}.")),
                Err(NoAddress::NoSuchName) => return Err(DialError::UnknownName),
                Err(NoAddress::NobodyAnswers) => return Err(DialError::NoResolver),
            };
            // The same rule as for a program's destination, since an alias may name anything.
            (name, zone) = match snapshot.way(&alias, Some(port))? {
                Way::Device(device) => return self.dial_device(device, &alias, port).await,
                Way::Gateway(hosts) => return self.dial_by_gateway(snapshot, hosts, port).await,
                Way::Zone { name, zone } => (name, zone),
                // An alias of a zone must not be sent to another resolver.
                Way::Foreign(_) => return Err(DialError::NoRoute),
            };
        }
        Err(DialError::UnknownName)
    }

    /// Opens a connection to the first of these addresses that accepts one. If none does, the error
    /// of the first one counts.
    async fn dial_first(
        &self,
        snapshot: &Snapshot,
        network: NetworkId,
        addresses: &[IpAddr],
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        let mut first = None;
        for address in addresses.iter().take(ADDRESSES_MAX) {
            match self.dial_within(snapshot, network, *address, port).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        Err(first.unwrap_or(DialError::UnknownName))
    }

    /// Dials a resolver of a zone by the same rules as any destination.
    async fn dial_resolver(
        &self,
        snapshot: &Snapshot,
        network: NetworkId,
        via: Via,
    ) -> Result<netstack::TcpStream, DialError> {
        let address = match via.host {
            ViaHost::Address(address) => address,
            ViaHost::Peer(label) => {
                let members = snapshot.networks.get(&network);
                let device = members
                    .and_then(|members| names::device_named(network, members, &label))
                    .ok_or(DialError::UnknownName)?;
                device.host.v4().into()
            }
        };
        self.dial_within(snapshot, network, address, via.port).await
    }

    /// Dials an address of one network, or of a host of its gateways.
    async fn dial_within(
        &self,
        snapshot: &Snapshot,
        network: NetworkId,
        address: IpAddr,
        port: u16,
    ) -> Result<netstack::TcpStream, DialError> {
        if names::in_overlay(address) {
            let members = snapshot.networks.get(&network);
            let name = &members.ok_or(DialError::UnknownName)?.name;
            let destination = Destination::AddressIn(address.into(), name.clone());
            let reached = self.reach(snapshot, &destination, Protocol::Tcp, port)?;
            return self.open(reached, port).await;
        }
        let hosts = snapshot.gateways_within(network, &address.into(), port);
        let hosts = hosts.ok_or(DialError::NoRoute)?;
        self.dial_by_gateway(snapshot, hosts, port).await
    }

    /// Lists the delegated zones, with the last answer of each resolver.
    pub(super) fn zone_statuses(&self, netmap: &Netmap) -> Vec<ZoneStatus> {
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

    /// Lists the resolvers of foreign names, with the last answer of each.
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

/// The number of addresses of one name that are tried, since a dial has little time.
const ADDRESSES_MAX: usize = 4;
