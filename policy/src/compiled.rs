//! The matrix of reach: a document put together with the devices and people that exist. Decides who
//! may reach what, and by which rule; knows no text, no clock and no database.
//!
//! Devices that the same rules mean are one class. A class has two sets of rules: those by which it
//! may dial, and those by which it may be dialled. A cell of the matrix is what both sets have in
//! common, so every cell keeps all of its rules, and none is stored for a pair of devices.

mod classes;
mod filters;
mod meaning;
mod verdicts;

use std::collections::{BTreeSet, HashMap};

use overlan_protocol::gateway::{GatewayRoute, Host};
use overlan_protocol::policy::{Hosts, RuleId, Service};
use overlan_protocol::{HostIndex, UnixTime, Utc};

use crate::document::{Document, Party, Rule};
use crate::finding::Finding;
use crate::reach::Reach;
use crate::rule_set::RuleSet;
use crate::world::{World, WorldDevice};
use classes::Classes;
pub(crate) use classes::Rights;
pub(crate) use meaning::{Meaning, PartyId};

pub use verdicts::Explanation;

/// A document together with a world, at one time.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub(crate) rules: Vec<Rule>,
    pub(crate) by_id: HashMap<RuleId, u32>,
    /// The parts of rules that the sets of classes are about, in the order of the rules.
    pub(crate) slots: Vec<Slot>,
    /// Slots that lead to hosts of gateways.
    pub(crate) host_slots: RuleSet,
    pub(crate) meaning: Meaning,
    /// By party: the devices that it means, by their places in `devices`, ascending.
    pub(crate) bearers: Vec<Vec<u32>>,
    /// By host index.
    pub(crate) devices: Vec<Member>,
    pub(crate) owned: Vec<Owned>,
    pub(crate) classes: Classes,
    /// Places in `devices` of those that have routes.
    pub(crate) gateways: Vec<u32>,
    now: UnixTime,
}

/// A device as the matrix knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) host: HostIndex,
    pub(crate) label: String,
    /// The place of its person in `owned`; a device with tags has none.
    pub(crate) owner: Option<u32>,
    pub(crate) class: u32,
    pub(crate) routes: Vec<GatewayRoute>,
}

/// A person's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) email: String,
    /// By their places, ascending.
    pub(crate) devices: Vec<u32>,
}

/// One part of a rule: what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) rule: u32,
    pub(crate) leads: Leads,
    /// False once the rule has ended.
    pub(crate) is_live: bool,
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

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// A device of the network.
    Device(HostIndex),
    /// A host that a gateway leads to.
    Host(Host<'a>),
}

impl Compiled {
    /// Puts a document together with the devices and people that exist.
    #[must_use]
    pub fn new(document: &Document, world: &World, now: UnixTime) -> Self {
        let mut meaning = Meaning::new(document);
        let slots = slots(document, now);
        let host_slots = |(at, slot): (usize, &Slot)| {
            matches!(slot.leads, Leads::Hosts(_)).then_some(number(at))
        };
        let host_slots: Vec<u32> = slots.iter().enumerate().filter_map(host_slots).collect();
        let host_slots = RuleSet::of(host_slots, slots.len());
        let mut devices: Vec<&WorldDevice> = world.devices.iter().collect();
        devices.sort_unstable_by_key(|device| device.host);
        devices.dedup_by_key(|device| device.host);
        meaning.learn(&world.people);
        let mut classes = Classes::new(&meaning, &document.rules, &slots);
        let mut bearers = vec![Vec::new(); meaning.parties()];
        let mut owned = People::default();
        let mut members = Vec::with_capacity(devices.len());
        for (at, device) in devices.iter().enumerate() {
            let at = number(at);
            let meant = meaning.of_device(device);
            for party in &meant {
                bearers[*party as usize].push(at);
            }
            members.push(Member {
                host: device.host,
                label: device.label.clone(),
                owner: meaning.owner(device).map(|email| owned.add(email, at)),
                class: classes.class_of(meant),
                routes: device.routes.clone(),
            });
        }
        let has_routes = |at: &u32| !members[*at as usize].routes.is_empty();
        let gateways = (0..number(members.len())).filter(has_routes).collect();
        let ids = document.rules.iter().map(|rule| rule.id.clone());
        Self {
            rules: document.rules.clone(),
            by_id: ids.zip(0..).collect(),
            slots,
            host_slots,
            meaning,
            bearers,
            devices: members,
            owned: owned.all,
            classes,
            gateways,
            now,
        }
    }

    /// The time for which it holds.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.now
    }

    /// The next time at which a rule ends; until then nothing changes by itself.
    #[must_use]
    pub fn next_change(&self) -> Option<UnixTime> {
        let ends = self.rules.iter().filter_map(|rule| rule.until);
        ends.filter(|until| *until > self.now).min()
    }

    /// Takes away the rules that end until `now`. Returns whether there were any.
    pub fn advance(&mut self, now: UnixTime) -> bool {
        let mut ended = false;
        self.now = self.now.max(now);
        for slot in &mut self.slots {
            let is_live = is_live(&self.rules[slot.rule as usize], self.now);
            ended |= slot.is_live && !is_live;
            slot.is_live = is_live;
        }
        ended
    }

    /// A rule by its id: its place in the text, its comment.
    #[must_use]
    pub fn rule(&self, id: &RuleId) -> Option<&Rule> {
        self.by_id.get(id).map(|at| &self.rules[*at as usize])
    }

    /// Returns whether every device reaches every other one, and every host of a gateway, by
    /// everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules.iter().any(|rule| {
            let reaches = |party| rule.to.contains(&party);
            is_live(rule, self.now)
                && rule.from.contains(&Party::Any)
                && reaches(Party::Any)
                && reaches(Party::Hosts)
                && rule.services.contains(&Service::ANY)
        })
    }

    /// Classes of devices: those of one class have the same rights.
    #[must_use]
    pub fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// Says which rules mean nobody at present, and which have ended: mistakes as often as not, but
    /// none that a document is refused for.
    #[must_use]
    pub fn notes(&self) -> Vec<Finding> {
        let mut notes = Vec::new();
        for rule in &self.rules {
            if let Some(until) = rule.until.filter(|until| *until <= self.now) {
                notes.push(Finding {
                    place: rule.place,
                    what: format!("rule {} ended at {}", rule.id, Utc(until)),
                    advice: "take it away, or give it a later `until`".to_owned(),
                });
            }
            let mut seen = BTreeSet::new();
            for party in rule.from.iter().chain(&rule.to) {
                let Some(id) = self.meaning.id(party) else {
                    continue;
                };
                if self.bearers[id as usize].is_empty() && seen.insert(id) {
                    notes.push(Finding {
                        place: rule.place,
                        what: format!(
                            "rule {} names {}, and no device is meant by it",
                            rule.id,
                            overlan_protocol::policy::Inert(&party.to_string())
                        ),
                        advice: "it counts once there is one".to_owned(),
                    });
                }
            }
        }
        notes.truncate(NOTES_MAX);
        notes
    }

    pub(crate) fn place(&self, host: HostIndex) -> Option<u32> {
        let at = self.devices.binary_search_by_key(&host, |it| it.host);
        at.ok().map(number)
    }

    pub(crate) fn member(&self, place: u32) -> &Member {
        &self.devices[place as usize]
    }

    /// The ports that these slots allow, of rules that have not ended.
    pub(crate) fn reach_by(&self, slots: impl Iterator<Item = u32>) -> Reach {
        let live = slots.map(|slot| &self.slots[slot as usize]);
        let live = live.filter(|slot| slot.is_live);
        Reach::of(live.map(|slot| {
            let rule = &self.rules[slot.rule as usize];
            (slot.rule, rule.services.as_slice())
        }))
    }

    pub(crate) fn rule_of(&self, slot: u32) -> &Rule {
        &self.rules[self.slots[slot as usize].rule as usize]
    }
}

/// People as they are met among the owners of devices.
#[derive(Default)]
struct People {
    all: Vec<Owned>,
    places: HashMap<String, u32>,
}

impl People {
    fn add(&mut self, email: &str, device: u32) -> u32 {
        let next = number(self.all.len());
        let place = match self.places.get(email) {
            Some(place) => *place,
            None => {
                self.places.insert(email.to_owned(), next);
                let (email, devices) = (email.to_owned(), Vec::new());
                self.all.push(Owned { email, devices });
                next
            }
        };
        self.all[place as usize].devices.push(device);
        place
    }
}

fn slots(document: &Document, now: UnixTime) -> Vec<Slot> {
    let mut slots = Vec::with_capacity(document.rules.len());
    for (rule, text) in (0..).zip(&document.rules) {
        let is_live = is_live(text, now);
        let mut leads = Vec::new();
        if text.to.iter().any(|party| !party.is_destination_only()) {
            leads.push(Leads::Devices);
        }
        if text.to.contains(&Party::Own) {
            leads.push(Leads::Own);
        }
        leads.extend(hosts(document, text).map(Leads::Hosts));
        slots.extend(leads.into_iter().map(|leads| Slot {
            rule,
            leads,
            is_live,
        }));
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

fn is_live(rule: &Rule, now: UnixTime) -> bool {
    rule.until.is_none_or(|until| until > now)
}

/// A place in a list that a limit of the language or of a network holds far below the type's.
pub(crate) fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// Notes about one document: more are not read.
const NOTES_MAX: usize = 50;

#[cfg(test)]
mod tests;
