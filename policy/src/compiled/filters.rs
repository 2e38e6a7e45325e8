//! Decides the rules of each device, and the peers that it sees. Sends nothing.

use std::collections::BTreeSet;

use overlan_protocol::HostIndex;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::policy::{self, Filter, HostRule, Hosts, Peers};

use super::{Compiled, Leads, Member, Slot};
use crate::document::{Party, Rule};
use crate::rule_set::Bits;

impl Compiled {
    /// Returns the rules of a device; none for a device that is not there.
    #[must_use]
    pub fn filter_of(&self, host: HostIndex) -> Filter {
        let mut filter = Filter {
            hosts_in: Some(Vec::new()),
            hosts_out: Some(Vec::new()),
            ..Filter::default()
        };
        let Some(place) = self.place(host) else {
            return filter;
        };
        let own = self.member(place);
        let rights = self.rights(own);
        for slot in self.live(rights.takes.iter()) {
            let rule = &self.text.rules[slot.rule as usize];
            let peers = match slot.leads {
                Leads::Own => self.own_peers(place, |peer| self.may_dial(peer, rule)),
                Leads::Devices | Leads::Hosts(_) => self.peers(&rule.from, place),
            };
            filter.inbound.extend(rule_about(rule, peers));
        }
        for slot in self.live(rights.dials.iter()) {
            let rule = &self.text.rules[slot.rule as usize];
            match &slot.leads {
                Leads::Devices => {
                    let peers = self.peers(&rule.to, place);
                    filter.outbound.extend(rule_about(rule, peers));
                }
                Leads::Own => {
                    let peers = self.own_peers(place, |_| true);
                    filter.outbound.extend(rule_about(rule, peers));
                }
                Leads::Hosts(hosts) => {
                    let peers = match hosts {
                        Hosts::Any => Peers::Any,
                        Hosts::Only(_) => self.gateways_to(hosts, place),
                    };
                    let out = filter.hosts_out.get_or_insert_default();
                    out.extend(rule_about_hosts(rule, hosts, peers));
                }
            }
        }
        for slot in self.live(self.text.host_slots.iter()) {
            let Leads::Hosts(hosts) = &slot.leads else {
                continue;
            };
            let rule = &self.text.rules[slot.rule as usize];
            // A rule about everybody is the same for those that are no gateway yet.
            let is_general = *hosts == Hosts::Any && rule.from.contains(&Party::Any);
            if is_general || leads_to(&own.device.routes, hosts) {
                let peers = self.peers(&rule.from, place);
                let into = filter.hosts_in.get_or_insert_default();
                into.extend(rule_about_hosts(rule, hosts, peers));
            }
        }
        filter
    }

    /// Returns the peers that a device may talk with, whichever of the two dials; a gateway and
    /// those that it leads to hosts talk, too.
    #[must_use]
    pub fn visible_to(&self, host: HostIndex) -> BTreeSet<HostIndex> {
        let Some(place) = self.place(host) else {
            return BTreeSet::new();
        };
        let own = self.member(place);
        let rights = self.rights(own);
        let mut seen = Bits::new(self.members.all.len());
        let add = |seen: &mut Bits, parties: &[Party]| {
            for party in self.bearers_of(parties) {
                party.iter().for_each(|peer| seen.insert(*peer));
            }
        };
        for slot in self.live(rights.dials.iter()) {
            match &slot.leads {
                Leads::Devices => add(&mut seen, &self.text.rules[slot.rule as usize].to),
                Leads::Own => self.of_same(place).for_each(|peer| seen.insert(peer)),
                Leads::Hosts(hosts) => {
                    let gateways = self.members.gateways.iter().copied();
                    gateways
                        .filter(|it| leads_to(&self.member(*it).device.routes, hosts))
                        .for_each(|gateway| seen.insert(gateway));
                }
            }
        }
        for slot in self.live(rights.takes.iter()) {
            let rule = &self.text.rules[slot.rule as usize];
            match &slot.leads {
                Leads::Own => self
                    .of_same(place)
                    .filter(|peer| self.may_dial(*peer, rule))
                    .for_each(|peer| seen.insert(peer)),
                Leads::Devices | Leads::Hosts(_) => add(&mut seen, &rule.from),
            }
        }
        for slot in self.live(self.text.host_slots.iter()) {
            if matches!(&slot.leads, Leads::Hosts(hosts) if leads_to(&own.device.routes, hosts)) {
                add(&mut seen, &self.text.rules[slot.rule as usize].from);
            }
        }
        seen.remove(place);
        seen.iter()
            .map(|peer| self.member(peer).device.host)
            .collect()
    }

    /// Returns whether two devices are in each other's netmap.
    #[must_use]
    pub fn sees(&self, one: HostIndex, other: HostIndex) -> bool {
        let (Some(one), Some(other)) = (self.place(one), self.place(other)) else {
            return false;
        };
        let (one, other) = (self.member(one), self.member(other));
        one.device.host != other.device.host
            && (self.reaches(one, other) || self.reaches(other, one))
    }

    fn reaches(&self, from: &Member, to: &Member) -> bool {
        if self.live(self.between(from, to)).next().is_some() {
            return true;
        }
        let dials = &self.rights(from).dials;
        let mut host_slots = self.live(dials.both(&self.text.host_slots));
        let routes = &to.device.routes;
        let leads = |slot: &Slot| matches!(&slot.leads, Leads::Hosts(it) if leads_to(routes, it));
        !routes.is_empty() && host_slots.any(leads)
    }

    fn live(&self, slots: impl Iterator<Item = u32>) -> impl Iterator<Item = &Slot> {
        slots
            .filter(|slot| self.is_live(*slot))
            .map(|slot| &self.text.slots[slot as usize])
    }

    pub(super) fn bearers_of(&self, parties: &[Party]) -> impl Iterator<Item = &Vec<u32>> {
        parties
            .iter()
            .filter_map(|party| self.text.id(party))
            .map(|id| &self.members.bearers[id as usize])
    }

    /// The devices that words mean, without the one that asks.
    fn peers(&self, parties: &[Party], own: u32) -> Peers {
        // One that joins later is meant, too, and no rule has to be sent again.
        if parties.contains(&Party::Any) {
            return Peers::Any;
        }
        let places: Vec<u32> = self.bearers_of(parties).flatten().copied().collect();
        self.hosts(places.into_iter().filter(|place| *place != own))
    }

    /// Devices by their host indices, ascending.
    fn hosts(&self, places: impl Iterator<Item = u32>) -> Peers {
        let hosts = places.map(|place| self.member(place).device.host);
        let mut hosts: Vec<HostIndex> = hosts.collect();
        hosts.sort_unstable();
        hosts.dedup();
        Peers::Hosts(hosts)
    }

    /// The devices of the same person that fulfil something.
    fn own_peers(&self, place: u32, fits: impl Fn(u32) -> bool) -> Peers {
        self.hosts(self.of_same(place).filter(|peer| fits(*peer)))
    }

    /// The other devices of the same person.
    pub(super) fn of_same(&self, place: u32) -> impl Iterator<Item = u32> {
        let owned = self.member(place).owner;
        let devices = owned.map(|owner| self.members.owned[owner as usize].devices.as_slice());
        let all = devices.unwrap_or_default().iter().copied();
        all.filter(move |peer| *peer != place)
    }

    fn may_dial(&self, place: u32, rule: &Rule) -> bool {
        let Some(at) = self.text.by_id.get(&rule.id) else {
            return false;
        };
        let dials = &self.rights(self.member(place)).dials;
        let mut slots = self.text.slots_of(*at);
        slots.any(|(slot, _)| dials.contains(slot))
    }

    fn gateways_to(&self, hosts: &Hosts, own: u32) -> Peers {
        let gateways = self.members.gateways.iter().copied();
        let leads = |it: &u32| *it != own && leads_to(&self.member(*it).device.routes, hosts);
        self.hosts(gateways.filter(leads))
    }
}

/// Returns whether one of the routes leads to one of the hosts.
fn leads_to(routes: &[GatewayRoute], hosts: &Hosts) -> bool {
    match hosts {
        Hosts::Any => !routes.is_empty(),
        Hosts::Only(wanted) => wanted.iter().any(|host| {
            let meets = |route: &GatewayRoute| {
                route.includes_hosts_of(host) || host.includes_hosts_of(route)
            };
            routes.iter().any(meets)
        }),
    }
}

/// A rule about nobody is none.
fn is_somebody(peers: &Peers) -> bool {
    !matches!(peers, Peers::Hosts(hosts) if hosts.is_empty())
}

fn rule_about(rule: &Rule, peers: Peers) -> Option<policy::Rule> {
    is_somebody(&peers).then(|| policy::Rule {
        id: rule.id.clone(),
        peers,
        services: rule.services.clone(),
    })
}

fn rule_about_hosts(rule: &Rule, hosts: &Hosts, peers: Peers) -> Option<HostRule> {
    is_somebody(&peers).then(|| HostRule {
        id: rule.id.clone(),
        peers,
        hosts: hosts.clone(),
        services: rule.services.clone(),
    })
}
