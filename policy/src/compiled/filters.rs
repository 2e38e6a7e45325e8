//! Decides the rules of each device, the peers that it sees, and the devices that a change is
//! about. Sends nothing.

use std::collections::{BTreeMap, BTreeSet};

use overlan_protocol::HostIndex;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::policy::{self, Filter, HostRule, Hosts, Peers, RuleId};

use super::{Compiled, Leads, Member, Slot, number};
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
        let rights = self.classes.rights(own.class);
        for slot in self.live(rights.takes.iter()) {
            let rule = &self.rules[slot.rule as usize];
            let peers = match slot.leads {
                Leads::Own => self.own_peers(place, |peer| self.may_dial(peer, rule)),
                Leads::Devices | Leads::Hosts(_) => self.peers(&rule.from, place),
            };
            filter.inbound.extend(rule_about(rule, peers));
        }
        for slot in self.live(rights.dials.iter()) {
            let rule = &self.rules[slot.rule as usize];
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
        for slot in self.live(self.host_slots.iter()) {
            let Leads::Hosts(hosts) = &slot.leads else {
                continue;
            };
            let rule = &self.rules[slot.rule as usize];
            // A rule about everybody is the same for those that are no gateway yet.
            let is_general = *hosts == Hosts::Any && rule.from.contains(&Party::Any);
            if is_general || leads_to(&own.routes, hosts) {
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
        let rights = self.classes.rights(own.class);
        let mut seen = Bits::new(self.devices.len());
        let add = |seen: &mut Bits, parties: &[Party]| {
            for party in self.bearers_of(parties) {
                party.iter().for_each(|peer| seen.insert(*peer));
            }
        };
        for slot in self.live(rights.dials.iter()) {
            match &slot.leads {
                Leads::Devices => add(&mut seen, &self.rules[slot.rule as usize].to),
                Leads::Own => self.of_same(place).for_each(|peer| seen.insert(peer)),
                Leads::Hosts(hosts) => {
                    let gateways = self.gateways.iter().copied();
                    gateways
                        .filter(|it| leads_to(&self.member(*it).routes, hosts))
                        .for_each(|gateway| seen.insert(gateway));
                }
            }
        }
        for slot in self.live(rights.takes.iter()) {
            let rule = &self.rules[slot.rule as usize];
            match &slot.leads {
                Leads::Own => self
                    .of_same(place)
                    .filter(|peer| self.may_dial(*peer, rule))
                    .for_each(|peer| seen.insert(peer)),
                Leads::Devices | Leads::Hosts(_) => add(&mut seen, &rule.from),
            }
        }
        for slot in self.live(self.host_slots.iter()) {
            if matches!(&slot.leads, Leads::Hosts(hosts) if leads_to(&own.routes, hosts)) {
                add(&mut seen, &self.rules[slot.rule as usize].from);
            }
        }
        seen.remove(place);
        seen.iter().map(|peer| self.member(peer).host).collect()
    }

    /// Returns whether two devices are in each other's netmap.
    #[must_use]
    pub fn sees(&self, one: HostIndex, other: HostIndex) -> bool {
        let (Some(one), Some(other)) = (self.place(one), self.place(other)) else {
            return false;
        };
        let (one, other) = (self.member(one), self.member(other));
        one.host != other.host && (self.reaches(one, other) || self.reaches(other, one))
    }

    fn reaches(&self, from: &Member, to: &Member) -> bool {
        if self.live(self.between(from, to)).next().is_some() {
            return true;
        }
        let dials = &self.classes.rights(from.class).dials;
        let mut host_slots = self.live(dials.both(&self.host_slots));
        !to.routes.is_empty()
            && host_slots.any(
                |slot| matches!(&slot.leads, Leads::Hosts(hosts) if leads_to(&to.routes, hosts)),
            )
    }

    /// Returns the devices whose rules or peers may differ from those of an older matrix of the
    /// same network; none other does. Costs what the two have in difference, and a look at each
    /// device and rule.
    #[must_use]
    pub fn affected(&self, older: &Self) -> BTreeSet<HostIndex> {
        let mut affected = BTreeSet::new();
        let moved = self.moved_words(older);
        let reordered = self.reordered(older);
        let gateways = self.gateway_list() != older.gateway_list();
        let own_moved = self.moved_owners(older);
        for (at, rule) in self.rules.iter().enumerate() {
            let before = older.by_id.get(&rule.id).map(|before| *before as usize);
            let same = before.is_some_and(|before| {
                is_same(rule, &older.rules[before]) && self.slots_of(at).eq(older.slots_of(before))
            });
            let words = || rule.from.iter().chain(&rule.to);
            let leads_out = self
                .slots_of(at)
                .any(|(leads, _)| matches!(leads, Leads::Hosts(_)));
            let is_moved = reordered.contains(&rule.id)
                || words().any(|word| moved.contains(word))
                || gateways && leads_out;
            if !same || is_moved {
                self.touch(rule, leads_out, &mut affected);
                if let Some(before) = before {
                    older.touch(&older.rules[before], leads_out, &mut affected);
                }
            }
            if words().any(|word| *word == Party::Own) {
                affected.extend(&own_moved);
            }
        }
        for rule in &older.rules {
            if !self.by_id.contains_key(&rule.id) {
                let leads_out = rule
                    .to
                    .iter()
                    .any(|it| matches!(it, Party::Host(_) | Party::Hosts));
                older.touch(rule, leads_out, &mut affected);
            }
        }
        affected.retain(|host| self.place(*host).is_some());
        affected
    }

    /// Adds all devices that a rule is about.
    fn touch(&self, rule: &Rule, leads_out: bool, into: &mut BTreeSet<HostIndex>) {
        for list in self.bearers_of(&rule.from).chain(self.bearers_of(&rule.to)) {
            into.extend(list.iter().map(|place| self.member(*place).host));
        }
        if rule.to.contains(&Party::Own) {
            let diallers = self.bearers_of(&rule.from).flatten();
            let own = diallers.flat_map(|place| self.of_same(*place));
            into.extend(own.map(|place| self.member(place).host));
        }
        if leads_out {
            into.extend(self.gateways.iter().map(|place| self.member(*place).host));
        }
    }

    /// The rules that stand before or after other ones than they did.
    fn reordered<'a>(&'a self, older: &'a Self) -> BTreeSet<&'a RuleId> {
        let common = |of: &'a Self, other: &Self| -> Vec<&'a RuleId> {
            let ids = of.rules.iter().map(|rule| &rule.id);
            ids.filter(|id| other.by_id.contains_key(*id)).collect()
        };
        let (now, before) = (common(self, older), common(older, self));
        let pairs = now
            .into_iter()
            .zip(before)
            .filter(|(now, before)| now != before);
        pairs.flat_map(|(now, before)| [now, before]).collect()
    }

    /// The words that mean other devices than before.
    fn moved_words(&self, older: &Self) -> BTreeSet<Party> {
        let bearers = |matrix: &Self, party: &Party| -> Vec<HostIndex> {
            let list = matrix
                .meaning
                .id(party)
                .map(|id| &matrix.bearers[id as usize]);
            let hosts = list.into_iter().flatten();
            hosts.map(|place| matrix.member(*place).host).collect()
        };
        let words = self
            .rules
            .iter()
            .flat_map(|rule| rule.from.iter().chain(&rule.to));
        let words: BTreeSet<&Party> = words.collect();
        let moved = words
            .into_iter()
            .filter(|word| bearers(self, word) != bearers(older, word));
        moved.cloned().collect()
    }

    /// Devices of people who have other devices than before.
    fn moved_owners(&self, older: &Self) -> BTreeSet<HostIndex> {
        let lists = |matrix: &Self| -> BTreeMap<String, Vec<HostIndex>> {
            let each = matrix.owned.iter().map(|owned| {
                let hosts = owned.devices.iter().map(|it| matrix.member(*it).host);
                (owned.email.clone(), hosts.collect())
            });
            each.collect()
        };
        let (now, before) = (lists(self), lists(older));
        let differ = |a: &BTreeMap<String, Vec<HostIndex>>, b: &BTreeMap<String, _>| {
            let other = a
                .iter()
                .filter(|(email, hosts)| b.get(*email) != Some(*hosts));
            other
                .flat_map(|(_, hosts)| hosts.clone())
                .collect::<Vec<_>>()
        };
        let mut moved: BTreeSet<HostIndex> = differ(&now, &before).into_iter().collect();
        moved.extend(differ(&before, &now));
        moved
    }

    fn gateway_list(&self) -> Vec<(HostIndex, &[GatewayRoute])> {
        let each = self.gateways.iter().map(|place| self.member(*place));
        each.map(|it| (it.host, it.routes.as_slice())).collect()
    }

    fn slots_of(&self, rule: usize) -> impl Iterator<Item = (&Leads, bool)> {
        let rule = number(rule);
        let begin = self.slots.partition_point(|slot| slot.rule < rule);
        let own = self.slots[begin..]
            .iter()
            .take_while(move |it| it.rule == rule);
        own.map(|slot| (&slot.leads, slot.is_live))
    }

    fn live(&self, slots: impl Iterator<Item = u32>) -> impl Iterator<Item = &Slot> {
        slots
            .map(|slot| &self.slots[slot as usize])
            .filter(|slot| slot.is_live)
    }

    fn bearers_of(&self, parties: &[Party]) -> impl Iterator<Item = &Vec<u32>> {
        parties
            .iter()
            .filter_map(|party| self.meaning.id(party))
            .map(|id| &self.bearers[id as usize])
    }

    /// The devices that words mean, without the one that asks.
    fn peers(&self, parties: &[Party], own: u32) -> Peers {
        // One that joins later is meant, too, and no rule has to be sent again.
        if parties.contains(&Party::Any) {
            return Peers::Any;
        }
        let mut places: Vec<u32> = self.bearers_of(parties).flatten().copied().collect();
        places.sort_unstable();
        places.dedup();
        let others = places.into_iter().filter(|place| *place != own);
        Peers::Hosts(others.map(|place| self.member(place).host).collect())
    }

    /// The devices of the same person that fulfil something.
    fn own_peers(&self, place: u32, fits: impl Fn(u32) -> bool) -> Peers {
        let peers = self.of_same(place).filter(|peer| fits(*peer));
        Peers::Hosts(peers.map(|peer| self.member(peer).host).collect())
    }

    /// The other devices of the same person.
    fn of_same(&self, place: u32) -> impl Iterator<Item = u32> {
        let owned = self.member(place).owner;
        let devices = owned.map(|owner| self.owned[owner as usize].devices.as_slice());
        let all = devices.unwrap_or_default().iter().copied();
        all.filter(move |peer| *peer != place)
    }

    fn may_dial(&self, place: u32, rule: &Rule) -> bool {
        let Some(at) = self.by_id.get(&rule.id) else {
            return false;
        };
        let first = self.slots.partition_point(|slot| slot.rule < *at);
        let dials = &self.classes.rights(self.member(place).class).dials;
        dials.contains(number(first))
    }

    fn gateways_to(&self, hosts: &Hosts, own: u32) -> Peers {
        let gateways = self.gateways.iter().copied().filter(|it| *it != own);
        let lead = gateways.map(|it| self.member(it));
        let lead = lead.filter(|it| leads_to(&it.routes, hosts));
        Peers::Hosts(lead.map(|it| it.host).collect())
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

/// Rules that say the same, wherever they stand.
fn is_same(one: &Rule, other: &Rule) -> bool {
    one.from == other.from && one.to == other.to && one.services == other.services
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
