//! The requests and answers of the control socket, as they travel. Decides their form, by which
//! different versions of this program understand each other.

use std::time::Duration;

use overlan_protocol::gateway::{GatewayRoute, OfferedRoute};
use serde::{Deserialize, Serialize};

use crate::daemon::carry::{Carry, Happened};
use crate::daemon::perf;
use crate::device::node::{Pong, Whois};
use crate::device::status::Status;
use crate::doors::dns::explain::Explained;
use crate::doors::serve::service::{OverlayTransport, Serve};

/// A request to a running client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Report the status: [`Response::Status`].
    Status,
    /// Stop: [`Response::Done`], then the connection closes when it has stopped.
    Down,
    /// Remove the device at the controller and here, then stop as by [`Request::Down`].
    Logout,
    /// Serve a local service, now and at every start: [`Response::Done`].
    ServeAdd(Serve),
    /// Stop serving a port: [`Response::Done`].
    ServeRemove {
        /// Overlay port.
        port: u16,
        /// The transport; `None` for both.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transport: Option<OverlayTransport>,
    },
    /// Serve a route as a gateway, now and at every start: [`Response::Done`].
    RouteAdd(OfferedRoute),
    /// Stop serving a route: [`Response::Done`].
    RouteRemove(GatewayRoute),
    /// Report the version of the program that runs: [`Response::Version`].
    Version,
    /// Measure the way to a peer: [`Response::Progress`] repeatedly, then [`Response::Measured`].
    /// The command ends it early by closing its side.
    Perf {
        /// Full name or address of the peer.
        peer: String,
        /// Overlay port of the peer.
        port: u16,
        /// The measurement.
        plan: perf::Plan,
    },
    /// Let peers measure until the command closes its side: [`Response::Progress`] repeatedly, then
    /// [`Response::Done`].
    PerfServe {
        /// Overlay port.
        port: u16,
    },
    /// Carry bytes between the overlay and sockets that the command hands over after
    /// [`Response::SendSockets`]: [`Response::Happened`] repeatedly, then [`Response::Done`]. The
    /// command ends it early by closing its side.
    Carry(Carry),
    /// Ask a peer for an echo: [`Response::Pong`]. The command ends it early by closing its side.
    Ping {
        /// Label, full name or address of the peer.
        peer: String,
        /// Longest wait for the answer, milliseconds; at most [`PING_WITHIN_MAX`].
        within_ms: u32,
    },
    /// Find the device that has an address: [`Response::Whois`].
    Whois {
        /// Label, full name or address of a device.
        peer: String,
    },
    /// Ask this device's DNS server: [`Response::DnsAnswer`].
    DnsQuery {
        /// The whole name.
        name: String,
        /// Type of record, such as `A`.
        kind: String,
    },
}

/// An answer of a running client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// The request is done.
    Done,
    /// The status.
    Status(Box<Status>),
    /// Version of the program that runs.
    Version(String),
    /// The progress; another answer follows.
    Progress(perf::Progress),
    /// The result of a measurement.
    Measured(Box<perf::Report>),
    /// The client waits for the sockets of a [`Request::Carry`]; another answer follows.
    SendSockets,
    /// An event of a carry; another answer follows.
    Happened(Happened),
    /// The peer answered.
    Pong(Pong),
    /// The device that has the address.
    Whois(Box<Whois>),
    /// The answer of the DNS server, and the rule that led to it.
    DnsAnswer(Box<Explained>),
    /// The request is refused.
    Refused(Refusal),
}

impl From<perf::Progress> for Response {
    fn from(progress: perf::Progress) -> Self {
        Self::Progress(progress)
    }
}

impl From<Happened> for Response {
    fn from(happened: Happened) -> Self {
        Self::Happened(happened)
    }
}

/// The reason why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Refusal {
    /// Its kind, for programs.
    pub kind: RefusalKind,
    /// The message for people: the trouble and its cause.
    pub message: String,
    /// The next step, where the message does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The kind of a refusal: one for each thing that the command does differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The request cannot be parsed: another version of the program runs.
    NotUnderstood,
    /// The request contradicts the present state.
    Conflict,
    /// The request needs the controller, which cannot be reached.
    ControllerUnreachable,
    /// The policy forbids it.
    Denied,
    /// The request took too long.
    TimedOut,
    /// No relay reaches the destination.
    RelayUnreachable,
    /// The client is stopping.
    Stopping,
    /// The request failed for another reason.
    Failed,
}

/// Longest wait for one answer to a [`Request::Ping`].
pub const PING_WITHIN_MAX: Duration = Duration::from_secs(60);
