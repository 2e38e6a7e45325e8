//! Compiled policy: the rules that say which peers reach which ports of a device. Source and
//! destination evaluate the same rules; the controller makes them from a policy text.

use serde::{Deserialize, Serialize};

use crate::HostIndex;

/// The protocol inside a packet, as far as policy looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP; the port is the service's.
    Tcp,
    /// UDP; the port is the service's.
    Udp,
    /// ICMP echo; there is no port, rules with `any` ports match.
    Icmp,
}

/// A device's rules in one network. Nothing passes that no rule allows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Rules for what peers may open *on this device*. Enforced here.
    pub inbound: Vec<Rule>,
    /// Rules for what this device may open *on peers*. Checked here only for an early and honest
    /// answer; the destination enforces them.
    pub outbound: Vec<Rule>,
}

/// One allow rule: these peers, these services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The peers that the rule is about.
    pub peers: Peers,
    /// The services that they may open; one that matches suffices.
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

/// A protocol with a range of ports; both `None` is anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `None` = every protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// First and last port, inclusive; `None` = every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
}

impl Service {
    /// Every protocol, every port.
    pub const ANY: Self = Self {
        protocol: None,
        ports: None,
    };

    fn matches(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol.is_none_or(|wanted| wanted == protocol)
            && self.ports.is_none_or(|(first, last)| {
                protocol != Protocol::Icmp && (first..=last).contains(&port)
            })
    }
}

impl Filter {
    /// The rule a new network starts with: members reach members.
    pub fn starter() -> Self {
        let everything = vec![Rule {
            peers: Peers::Any,
            services: vec![Service::ANY],
        }];
        Self {
            inbound: everything.clone(),
            outbound: everything,
        }
    }

    /// Returns whether `peer` may open `port` of this device.
    #[must_use]
    pub fn allows_inbound(&self, peer: HostIndex, protocol: Protocol, port: u16) -> bool {
        allows(&self.inbound, peer, protocol, port)
    }

    /// Returns whether this device may open `port` of `peer`.
    #[must_use]
    pub fn allows_outbound(&self, peer: HostIndex, protocol: Protocol, port: u16) -> bool {
        allows(&self.outbound, peer, protocol, port)
    }
}

fn allows(rules: &[Rule], peer: HostIndex, protocol: Protocol, port: u16) -> bool {
    rules.iter().any(|rule| {
        let peer_matches = match &rule.peers {
            Peers::Any => true,
            Peers::Hosts(hosts) => hosts.contains(&peer),
        };
        peer_matches
            && rule
                .services
                .iter()
                .any(|service| service.matches(protocol, port))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u32) -> HostIndex {
        HostIndex::new(number).unwrap()
    }

    #[test]
    fn an_empty_filter_lets_nothing_pass() {
        let filter = Filter::default();
        assert!(!filter.allows_inbound(host(1), Protocol::Tcp, 80));
        assert!(!filter.allows_outbound(host(1), Protocol::Icmp, 0));
    }

    #[test]
    fn the_starter_lets_members_reach_members() {
        let filter = Filter::starter();
        assert!(filter.allows_inbound(host(7), Protocol::Tcp, 22));
        assert!(filter.allows_outbound(host(7), Protocol::Udp, 53));
        assert!(filter.allows_inbound(host(7), Protocol::Icmp, 0));
    }

    #[test]
    fn rules_name_peers_protocols_and_ports() {
        let web = Service {
            protocol: Some(Protocol::Tcp),
            ports: Some((80, 89)),
        };
        let filter = Filter {
            inbound: vec![Rule {
                peers: Peers::Hosts(vec![host(4), host(9)]),
                services: vec![web],
            }],
            outbound: vec![],
        };
        assert!(filter.allows_inbound(host(9), Protocol::Tcp, 80));
        assert!(filter.allows_inbound(host(9), Protocol::Tcp, 89));
        assert!(
            !filter.allows_inbound(host(9), Protocol::Tcp, 90),
            "another port"
        );
        assert!(
            !filter.allows_inbound(host(9), Protocol::Udp, 80),
            "another protocol"
        );
        assert!(
            !filter.allows_inbound(host(5), Protocol::Tcp, 80),
            "another peer"
        );
        assert!(
            !filter.allows_inbound(host(9), Protocol::Icmp, 80),
            "a port range is not about ICMP"
        );
    }
}
