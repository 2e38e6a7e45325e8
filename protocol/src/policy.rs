//! Compiled policy: the rules that say which peers reach which ports of a device, and which gateway
//! hosts. Source and destination evaluate the same rules; the controller makes them from a policy's
//! text. `verdict` has the answer and the one sentence that says it.

mod service;
mod verdict;

use serde::{Deserialize, Serialize};

use crate::gateway::{self, GatewayRoute, Host};
use crate::{HostIndex, name};

pub use service::{Protocol, Service, ServiceTextError};
pub use verdict::{Denial, Inert, Sentence, Verdict};

/// A device's rules in one network. Nothing passes that no rule allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Rules for what peers may open *on this device*. Enforced here.
    pub inbound: Vec<Rule>,
    /// Rules for what this device may open *on peers*. Checked here only for an early and honest
    /// answer; the destination enforces them.
    pub outbound: Vec<Rule>,
    /// Rules for the gateway hosts that peers may reach *through this device*. Enforced here.
    /// `None` = the approved routes alone decide, as in maps of controllers without such rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts_in: Option<Vec<HostRule>>,
    /// Rules for the gateway hosts that this device may ask for; their peers are the gateways that
    /// lead there. Checked here only for an early and honest answer. `None` as above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts_out: Option<Vec<HostRule>>,
}

/// The name of a rule: a label, given in the policy's text or made from what the rule says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(with = "String")
)]
pub struct RuleId(String);

/// A text that is not the name of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a rule has 1 to 63 lower-case letters, digits and hyphens")]
pub struct RuleIdError;

impl RuleId {
    /// Checks the form; `None` if the text is not a label.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        name::is_label(text).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The id of rules from a controller that did not name them.
impl Default for RuleId {
    fn default() -> Self {
        Self("unnamed".to_owned())
    }
}

impl std::fmt::Display for RuleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RuleId {
    type Error = RuleIdError;

    fn try_from(text: String) -> Result<Self, RuleIdError> {
        Self::new(&text).ok_or(RuleIdError)
    }
}

impl From<RuleId> for String {
    fn from(id: RuleId) -> Self {
        id.0
    }
}

/// One allow rule: these peers, these services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The rule of the policy that it comes from.
    #[serde(default)]
    pub id: RuleId,
    /// The peers that the rule is about.
    pub peers: Peers,
    /// The services that they may open; one that matches suffices.
    pub services: Vec<Service>,
}

/// One allow rule about gateway hosts: these peers, these hosts, these services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRule {
    /// The rule of the policy that it comes from.
    pub id: RuleId,
    /// The peers that may ask, or the gateways that may be asked.
    pub peers: Peers,
    /// The hosts.
    pub hosts: Hosts,
    /// The services of them; one that matches suffices.
    pub services: Vec<Service>,
}

/// A set of devices of one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peers {
    /// Every device of this network, never "any address".
    Any,
    /// These host indices.
    Hosts(Vec<HostIndex>),
}

impl Peers {
    /// Returns whether the device is in the set.
    #[must_use]
    pub fn contains(&self, host: HostIndex) -> bool {
        match self {
            Self::Any => true,
            Self::Hosts(hosts) => hosts.contains(&host),
        }
    }
}

/// A set of hosts that gateways lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hosts {
    /// Every host that a gateway of this network leads to.
    Any,
    /// These, on whatever port; the rule's services say the ports.
    Only(Vec<GatewayRoute>),
}

impl Hosts {
    /// Returns whether the host is in the set.
    #[must_use]
    pub fn contains(&self, host: Host<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Only(routes) => routes.iter().any(|route| route.covers_host(host)),
        }
    }
}

impl Filter {
    /// The rule a new network starts with: members reach members, and what their gateways lead to.
    #[must_use]
    pub fn starter() -> Self {
        let id = RuleId("members".to_owned());
        let everything = vec![Rule {
            id: id.clone(),
            peers: Peers::Any,
            services: vec![Service::ANY],
        }];
        let hosts = vec![HostRule {
            id,
            peers: Peers::Any,
            hosts: Hosts::Any,
            services: vec![Service::ANY],
        }];
        Self {
            inbound: everything.clone(),
            outbound: everything,
            hosts_in: Some(hosts.clone()),
            hosts_out: Some(hosts),
        }
    }

    /// Returns whether `peer` may open `port` of this device. The port of the gateway is open to
    /// those that may reach a host by it.
    #[must_use]
    pub fn allows_inbound(&self, peer: HostIndex, protocol: Protocol, port: u16) -> bool {
        allows(&self.inbound, peer, protocol, port)
            || is_gateway(protocol, port) && asks(self.hosts_in.as_deref(), peer)
    }

    /// Returns whether this device may open `port` of `peer`.
    #[must_use]
    pub fn allows_outbound(&self, peer: HostIndex, protocol: Protocol, port: u16) -> bool {
        allows(&self.outbound, peer, protocol, port)
            || is_gateway(protocol, port) && asks(self.hosts_out.as_deref(), peer)
    }

    /// Decides about a connection of `peer` to `port` of this device.
    #[must_use]
    pub fn judge_inbound(&self, peer: HostIndex, protocol: Protocol, port: u16) -> Verdict {
        let rules = self.inbound.iter().filter(|it| it.peers.contains(peer));
        Verdict::of(rules.map(Rule::says), protocol, port)
    }

    /// Decides about a connection of this device to `port` of `peer`.
    #[must_use]
    pub fn judge_outbound(&self, peer: HostIndex, protocol: Protocol, port: u16) -> Verdict {
        let rules = self.outbound.iter().filter(|it| it.peers.contains(peer));
        Verdict::of(rules.map(Rule::says), protocol, port)
    }

    /// Decides, at the gateway, about a connection of `peer` to a host through this device.
    #[must_use]
    pub fn judge_host_in(&self, peer: HostIndex, host: Host<'_>, port: u16) -> Verdict {
        judge_host(self.hosts_in.as_deref(), peer, host, port)
    }

    /// Decides about a connection of this device to a host that the gateway `peer` leads to.
    #[must_use]
    pub fn judge_host_out(&self, peer: HostIndex, host: Host<'_>, port: u16) -> Verdict {
        judge_host(self.hosts_out.as_deref(), peer, host, port)
    }
}

fn judge_host(rules: Option<&[HostRule]>, peer: HostIndex, host: Host<'_>, port: u16) -> Verdict {
    let Some(rules) = rules else {
        return Verdict::Allowed(RuleId::default());
    };
    let fits = |it: &&HostRule| it.peers.contains(peer) && it.hosts.contains(host);
    let rules = rules.iter().filter(fits).map(HostRule::says);
    Verdict::of(rules, Protocol::Tcp, port)
}

impl Rule {
    fn says(&self) -> (&RuleId, &[Service]) {
        (&self.id, &self.services)
    }
}

impl HostRule {
    fn says(&self) -> (&RuleId, &[Service]) {
        (&self.id, &self.services)
    }
}

/// Packets ask this: it makes nothing.
fn allows(rules: &[Rule], peer: HostIndex, protocol: Protocol, port: u16) -> bool {
    rules.iter().any(|rule| {
        let serves = |service: &Service| service.matches(protocol, port);
        rule.peers.contains(peer) && rule.services.iter().any(serves)
    })
}

fn is_gateway(protocol: Protocol, port: u16) -> bool {
    protocol == Protocol::Tcp && port == gateway::PORT
}

fn asks(rules: Option<&[HostRule]>, peer: HostIndex) -> bool {
    let mut rules = rules.unwrap_or_default().iter();
    rules.any(|rule| rule.peers.contains(peer))
}

#[cfg(test)]
mod tests;
