//! The status of a running client: one document for programs, one table for people. Decides how it
//! is shown; `node/status.rs` and the daemon fill it in.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use overlan_protocol::UnixTime;
use overlan_protocol::frame::Vni;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::key::{DeviceId, RelayId};
use serde::{Deserialize, Serialize};

use crate::doors::serve::service::Serve;
use crate::host::memory::{Budget, Origin, Size};

mod people;
mod traffic;

pub use crate::host::accept::{FullDoor, Lack};
pub use crate::host::readable::{age, printable};
pub use overlan_plane::engine::Presence;
pub use people::View;
pub use traffic::{bytes, time, trip};

/// A client at one moment. Fields are added, never changed or removed, while [`SCHEMA_VERSION`]
/// stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of this form, [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The client's state.
    pub state: State,
    /// The version of the running program.
    pub version: String,
    /// The device, once it is enrolled.
    pub device: Option<DeviceStatus>,
    /// The deployment's domain, once enrolled.
    pub domain: Option<String>,
    /// Networks that it is a member of.
    pub networks: Vec<NetworkStatus>,
    /// Relays that it may use.
    pub relays: Vec<RelayStatus>,
    /// Its session with the controller.
    pub control: ControlStatus,
    /// The first address of its proxy, if it has one.
    pub socks: Option<SocketAddr>,
    /// All places of its proxy, for SOCKS5 and HTTP: `ADDRESS:PORT` or `unix:PATH`.
    #[serde(default)]
    pub proxies: Vec<String>,
    /// The proxy by which it reaches controller and relays, without credentials.
    #[serde(default)]
    pub upstream_proxy: Option<String>,
    /// The address where it answers DNS, if it does.
    pub dns: Option<SocketAddr>,
    /// Zones of its networks beside the networks' own.
    #[serde(default)]
    pub dns_zones: Vec<ZoneStatus>,
    /// The resolvers to which it forwards foreign names.
    #[serde(default)]
    pub dns_forwards: Vec<ResolverStatus>,
    /// The services that it serves.
    pub serves: Vec<Serve>,
    /// Certificates for this device's names, while a port is served with TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificateStatus>,
    /// The routes that it serves.
    #[serde(default)]
    pub routes: Vec<RouteStatus>,
    /// Its memory limit, if there is one.
    #[serde(default)]
    pub memory: Option<MemoryStatus>,
    /// Doors that have had no free place for 10 s.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub full: Vec<FullDoor>,
    /// Counters by name since the start.
    pub counters: BTreeMap<String, u64>,
}

/// The newest form of [`Status`].
pub const SCHEMA_VERSION: u32 = 1;

/// The state of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is starting: it reads its state.
    Starting,
    /// It is not enrolled, or the controller removed it.
    NeedsLogin,
    /// An admin disabled it.
    Disabled,
    /// It has to prove its right again.
    Expired,
    /// It is in no network: an admin has to approve it.
    PendingApproval,
    /// It is not attached to any relay yet.
    Connecting,
    /// It is attached to a relay; peers can reach it.
    Running,
    /// It is stopping.
    Stopped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::NeedsLogin => "needs-login",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::PendingApproval => "pending-approval",
            Self::Connecting => "connecting",
            Self::Running => "running",
            Self::Stopped => "stopped",
        })
    }
}

/// The identity of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its id.
    pub id: DeviceId,
    /// Its host label.
    pub label: String,
    /// Its full name in its first network, `label.network.domain`.
    pub name: String,
    /// Its addresses in that network.
    pub addresses: Vec<IpAddr>,
}

/// A network as one member sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Its label.
    pub name: String,
    /// Its number on the wire.
    pub vni: Vni,
    /// Full name of this device in it.
    #[serde(default)]
    pub device: String,
    /// Addresses of this device in it.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// True if this device is attached to a relay of it, so that its members reach it.
    #[serde(default)]
    pub attached: bool,
    /// Other members.
    pub peers: Vec<PeerStatus>,
}

/// Another member of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its full name.
    pub name: String,
    /// Its host label.
    pub label: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// True if it is known to be online; `presence` tells offline from unknown.
    pub online: bool,
    /// Online, offline or unknown.
    #[serde(default)]
    pub presence: Presence,
    /// Name of the relay by which it is reached.
    pub relay: Option<String>,
    /// The number of established end-to-end sessions with it.
    pub sessions: u32,
    /// The routes that it serves.
    #[serde(default)]
    pub routes: Vec<GatewayRoute>,
}

/// A zone beside the network's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneStatus {
    /// Its name.
    pub zone: String,
    /// Label of its network.
    pub network: String,
    /// The resolvers that answer for it; empty if the network's records do.
    pub resolvers: Vec<ResolverStatus>,
}

/// A resolver that this device asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolverStatus {
    /// `PEER:PORT` or `ADDRESS:PORT`.
    pub resolver: String,
    /// True if it answered the last question; `None` before the first one.
    pub answered: Option<bool>,
    /// The reason why it did not answer.
    pub last_error: Option<String>,
}

/// A route that this device serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// The route.
    pub route: GatewayRoute,
    /// The wanted label of its host, which the host has in networks where the route is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Labels of the networks whose members may use it.
    pub approved_in: Vec<String>,
}

impl RouteStatus {
    /// Returns the route with its label, for people.
    #[must_use]
    pub fn offer(&self) -> String {
        match &self.name {
            Some(name) => format!("{} as {name}", self.route),
            None => self.route.to_string(),
        }
    }

    /// Returns the networks where it is approved, or says that it is not.
    #[must_use]
    pub fn state(&self) -> String {
        match self.approved_in.is_empty() {
            true => "not approved yet".to_owned(),
            false => format!("approved in {}", self.approved_in.join(", ")),
        }
    }
}

/// The memory limit of a client, and the limits that follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// Bytes that the process may take.
    pub limit: u64,
    /// The origin of that number.
    pub source: Origin,
    /// Bytes of it for the rings of connections; the counter `ring_committed` has the used ones.
    pub rings: u64,
    /// Connections of the overlay that may exist at once.
    pub flows: u64,
    /// Connections that each door serves at once.
    pub connections: u64,
}

impl From<Budget> for MemoryStatus {
    fn from(budget: Budget) -> Self {
        Self {
            limit: budget.limit(),
            source: budget.source(),
            rings: budget.rings() as u64,
            flows: budget.flows() as u64,
            connections: budget.connections() as u64,
        }
    }
}

impl fmt::Display for MemoryStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match self.source {
            Origin::Given => "as given",
            Origin::Cgroup => "limit of the cgroup",
        };
        write!(f, "{}, {source}", Size(self.limit))
    }
}

/// A relay as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: RelayId,
    /// The state of the link.
    pub state: LinkState,
    /// Last measured round trip, milliseconds.
    pub round_trip_ms: Option<u32>,
    /// The same in microseconds.
    #[serde(default)]
    pub round_trip_us: Option<u64>,
    /// True if peers find this device here first.
    pub home: bool,
    /// The reason why the last connection ended or could not be made.
    pub last_error: Option<String>,
}

/// A connection to a relay or to the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// It is not wanted now.
    Idle,
    /// It is being opened.
    Connecting,
    /// It is open.
    Connected,
    /// It failed; another attempt follows after a pause.
    Waiting,
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Waiting => "waiting",
        })
    }
}

/// A client's session with the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlStatus {
    /// The state of the session.
    pub state: LinkState,
    /// The time when it began.
    pub since: Option<UnixTime>,
    /// The reason why the last connection ended or could not be made.
    pub last_error: Option<String>,
}

impl Status {
    /// Returns the status of a client that has just started.
    #[must_use]
    pub fn starting() -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            state: State::Starting,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            device: None,
            domain: None,
            networks: Vec::new(),
            relays: Vec::new(),
            control: ControlStatus {
                state: LinkState::Idle,
                since: None,
                last_error: None,
            },
            socks: None,
            proxies: Vec::new(),
            upstream_proxy: None,
            dns: None,
            dns_zones: Vec::new(),
            dns_forwards: Vec::new(),
            serves: Vec::new(),
            certificates: None,
            routes: Vec::new(),
            memory: None,
            full: Vec::new(),
            counters: BTreeMap::new(),
        }
    }
}

impl RelayStatus {
    /// Returns the last round trip, microseconds; an older client reports milliseconds only.
    fn trip_us(&self) -> Option<u64> {
        let of_ms = self.round_trip_ms.map(|ms| u64::from(ms) * 1_000);
        self.round_trip_us.or(of_ms)
    }
}

impl fmt::Display for RelayStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", printable(&self.name), self.state)?;
        if self.home {
            f.write_str(", home")?;
        }
        if let Some(us) = self.trip_us() {
            write!(f, ", {}", trip(us))?;
        }
        match &self.last_error {
            Some(error) if self.state != LinkState::Connected => {
                write!(f, " ({})", printable(error))
            }
            _ => Ok(()),
        }
    }
}

impl ControlStatus {
    fn text(&self, now: UnixTime) -> String {
        match self.since {
            Some(since) => format!("{} for {}", self.state, age(now.since(since).as_secs())),
            None => self.state.to_string(),
        }
    }
}

/// The peers that answered when this device came up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// Peers that were online, as the controller reported.
    pub asked: usize,
    /// Those that answered, and so can reach this device.
    pub answered: usize,
}

/// Writes rows as aligned columns; the last column is not padded.
#[must_use]
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{:<width$}", printable(cell)))
            .collect();
        line(&mut text, format_args!("{}", padded.join("  ").trim_end()));
    }
    text
}

fn first_of(addresses: &[IpAddr]) -> String {
    match addresses.first() {
        Some(address) => address.to_string(),
        None => "-".to_owned(),
    }
}

fn line(text: &mut String, what: fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("writing to a String cannot fail");
}

/// Certificates for the names of a device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Names that have a certificate.
    pub names: Vec<String>,
    /// The time when they expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixTime>,
    /// The reason why the last request for new ones failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl std::fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.names.is_empty() {
            true => f.write_str("no certificate yet")?,
            false => write!(f, "certificate for {}", self.names.join(", "))?,
        }
        match &self.error {
            Some(error) => write!(f, "; not renewed: {}", printable(error)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
