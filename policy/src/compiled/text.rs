//! A document prepared for any world: its words numbered, its rules cut into slots. Decides which
//! words mean a person or a device; knows no device.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::policy::{Hosts, RuleId};

use super::{Rights, number};
use crate::document::{Document, Party, Rule};
use crate::rule_set::RuleSet;
use crate::world::WorldPerson;

/// The number of a word that rules or tests use.
pub(crate) type PartyId = u32;

/// All of a document that is the same in every world.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) rules: Vec<Rule>,
    pub(crate) by_id: HashMap<RuleId, u32>,
    /// The parts of rules that the sets of classes are about, in the order of the rules.
    pub(crate) slots: Vec<Slot>,
    /// Slots that lead to hosts of gateways.
    pub(crate) host_slots: RuleSet,
    pub(crate) has_own: bool,
    ids: HashMap<Party, PartyId>,
    /// All words, by their numbers.
    pub(crate) names: Vec<Party>,
    /// By word: the slots whose rule has it on the left, and on the right.
    pub(crate) words: Vec<Rights>,
    /// By member: the groups that name it.
    above: BTreeMap<Party, Vec<Party>>,
}

/// One part of a rule: what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) rule: u32,
    pub(crate) leads: Leads,
}

/// The kind of destinations that a slot leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leads {
    /// Devices of anybody.
    Devices,
    /// Devices of the same person.
    Own,
    /// Hosts of gateways.
    Hosts(Hosts),
}

impl Text {
    pub(crate) fn new(document: &Document) -> Self {
        let slots = slots(document);
        let is_host = |slot: &Slot| matches!(slot.leads, Leads::Hosts(_));
        let host_slots = (0..).zip(&slots).filter(|(_, slot)| is_host(slot));
        let host_slots = host_slots.map(|(at, _)| at).collect();
        let ids = document.rules.iter().map(|rule| rule.id.clone());
        let mut text = Self {
            rules: document.rules.clone(),
            by_id: ids.zip(0..).collect(),
            host_slots: RuleSet::of(host_slots, slots.len()),
            has_own: slots.iter().any(|slot| slot.leads == Leads::Own),
            slots,
            ids: HashMap::new(),
            names: Vec::new(),
            words: Vec::new(),
            above: BTreeMap::new(),
        };
        text.number(document);
        text.words = text.rights_of_words();
        for (name, members) in &document.groups {
            for member in members {
                let above = text.above.entry(member.clone()).or_default();
                above.push(Party::Group(name.clone()));
            }
        }
        text
    }

    fn number(&mut self, document: &Document) {
        let rules = document.rules.iter();
        let of_rules = rules.flat_map(|rule| rule.from.iter().chain(&rule.to));
        let of_tests = document
            .tests
            .iter()
            .flat_map(|test| [&test.from, &test.to]);
        for party in of_rules.chain(of_tests) {
            // A device of the same person is, first of all, a device of a person.
            let is_own = *party == Party::Own;
            let party = if is_own { &Party::Members } else { party };
            if !party.is_destination_only() && !self.ids.contains_key(party) {
                let next = number(self.ids.len());
                self.ids.insert(party.clone(), next);
                self.names.push(party.clone());
            }
        }
    }

    fn rights_of_words(&self) -> Vec<Rights> {
        let mut dials = vec![Vec::new(); self.ids.len()];
        let mut takes = vec![Vec::new(); self.ids.len()];
        let add = |list: &mut Vec<Vec<u32>>, party: &Party, slot: u32| {
            if let Some(id) = self.id(party) {
                list[id as usize].push(slot);
            }
        };
        for (at, slot) in (0..).zip(&self.slots) {
            let rule = &self.rules[slot.rule as usize];
            rule.from
                .iter()
                .for_each(|party| add(&mut dials, party, at));
            match slot.leads {
                Leads::Devices => rule.to.iter().for_each(|party| add(&mut takes, party, at)),
                Leads::Own => add(&mut takes, &Party::Members, at),
                Leads::Hosts(_) => {}
            }
        }
        let bound = self.slots.len();
        let words = dials.into_iter().zip(takes).map(|(dials, takes)| Rights {
            dials: RuleSet::of(dials, bound),
            takes: RuleSet::of(takes, bound),
        });
        words.collect()
    }

    /// The number of a word; none for one that is not used, and for hosts of gateways.
    pub(crate) fn id(&self, party: &Party) -> Option<PartyId> {
        self.ids.get(party).copied()
    }

    /// The words that mean devices of this person, ascending.
    pub(crate) fn of_person(&self, person: &WorldPerson) -> Vec<PartyId> {
        let mut words = vec![
            Party::Members,
            Party::Person(person.email.clone()),
            Party::Role(person.role),
        ];
        words.extend(person.groups.iter().cloned().map(Party::Directory));
        self.upwards(words)
    }

    /// The numbers of these words and of the groups that have them, at whatever depth; ascending.
    pub(crate) fn upwards(&self, mut open: Vec<Party>) -> Vec<PartyId> {
        let mut seen: BTreeSet<Party> = BTreeSet::new();
        let mut meant = Vec::new();
        while let Some(party) = open.pop() {
            if seen.contains(&party) {
                continue;
            }
            meant.extend(self.id(&party));
            open.extend(self.above.get(&party).into_iter().flatten().cloned());
            seen.insert(party);
        }
        meant.sort_unstable();
        meant
    }

    /// The slots of a rule.
    pub(crate) fn slots_of(&self, rule: u32) -> impl Iterator<Item = (u32, &Slot)> {
        let begin = self.slots.partition_point(|slot| slot.rule < rule);
        let own = (number(begin)..).zip(&self.slots[begin..]);
        own.take_while(move |(_, slot)| slot.rule == rule)
    }

    pub(crate) fn leads(&self, slot: u32) -> &Leads {
        &self.slots[slot as usize].leads
    }

    pub(crate) fn rule_of(&self, slot: u32) -> &Rule {
        &self.rules[self.slots[slot as usize].rule as usize]
    }
}

fn slots(document: &Document) -> Vec<Slot> {
    let mut slots = Vec::with_capacity(document.rules.len());
    for (rule, text) in (0..).zip(&document.rules) {
        let mut leads = Vec::new();
        if text.to.iter().any(|party| !party.is_destination_only()) {
            leads.push(Leads::Devices);
        }
        if text.to.contains(&Party::Own) {
            leads.push(Leads::Own);
        }
        leads.extend(hosts(document, text).map(Leads::Hosts));
        slots.extend(leads.into_iter().map(|leads| Slot { rule, leads }));
    }
    slots
}

fn hosts(document: &Document, rule: &Rule) -> Option<Hosts> {
    if rule.to.contains(&Party::Hosts) {
        return Some(Hosts::Any);
    }
    let named = rule.to.iter().filter_map(|party| match party {
        Party::Host(name) => document.hosts.get(name),
        Party::Any
        | Party::Members
        | Party::Own
        | Party::Person(_)
        | Party::Role(_)
        | Party::Group(_)
        | Party::Directory(_)
        | Party::Tag(_)
        | Party::Tagged
        | Party::Device(_)
        | Party::Hosts => None,
    });
    let routes: BTreeSet<GatewayRoute> = named.flatten().cloned().collect();
    (!routes.is_empty()).then(|| Hosts::Only(routes.into_iter().collect()))
}
