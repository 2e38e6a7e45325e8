//! The matrix of reach: a document put together with the devices and people that exist. Decides who
//! may reach what, and by which rule; knows no text, no clock and no database.
//!
//! Devices that the same rules mean are one class. A class has two sets of rules: those by which it
//! may dial, and those by which it may be dialled. A cell of the matrix is what both sets have in
//! common, so every cell keeps all of its rules, and none is stored for a pair of devices.

mod affected;
mod classes;
mod filters;
mod members;
mod text;
mod verdicts;

use std::collections::BTreeSet;
use std::sync::Arc;

use overlan_protocol::gateway::Host;
use overlan_protocol::policy::{Inert, RuleId, Service};
use overlan_protocol::{HostIndex, UnixTime, Utc};

use crate::document::{Document, Party, Rule};
use crate::finding::Finding;
use crate::reach::Reach;
use crate::world::World;
pub(crate) use affected::is_same;
pub(crate) use classes::{Classes, Rights};
pub(crate) use members::{Member, Members};
pub(crate) use text::{Leads, PartyId, Slot, Text};

pub use verdicts::Explanation;

/// A document together with a world, at one time.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub(crate) text: Arc<Text>,
    pub(crate) members: Members,
    /// By rule: it has not ended.
    live: Vec<bool>,
    now: UnixTime,
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
        let text = Arc::new(Text::new(document));
        let mut members = Members::new(&text);
        members.follow(&text, world);
        Self {
            live: text.rules.iter().map(|rule| is_live(rule, now)).collect(),
            text,
            members,
            now,
        }
    }

    /// Takes what differs in a world. Costs a comparison of each device and person, and beyond that
    /// what the differences are about.
    pub fn follow(&mut self, world: &World) {
        self.members.follow(&self.text, world);
    }

    /// The time for which it holds.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        self.now
    }

    /// The next time at which a rule ends; until then nothing changes by itself.
    #[must_use]
    pub fn next_change(&self) -> Option<UnixTime> {
        let ends = self.text.rules.iter().filter_map(|rule| rule.until);
        ends.filter(|until| *until > self.now).min()
    }

    /// Takes away the rules that end until `now`. Returns whether there were any.
    pub fn advance(&mut self, now: UnixTime) -> bool {
        let mut ended = false;
        self.now = self.now.max(now);
        for (live, rule) in self.live.iter_mut().zip(&self.text.rules) {
            let is_live = is_live(rule, self.now);
            ended |= *live && !is_live;
            *live = is_live;
        }
        ended
    }

    /// A rule by its id: its place in the text, its comment.
    #[must_use]
    pub fn rule(&self, id: &RuleId) -> Option<&Rule> {
        let at = self.text.by_id.get(id);
        at.map(|at| &self.text.rules[*at as usize])
    }

    /// Returns whether every device reaches every other one, and every host of a gateway, by
    /// everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.text.rules.iter().any(|rule| {
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
        let classes = self.members.all.iter().map(|member| member.class);
        classes.collect::<BTreeSet<u32>>().len()
    }

    /// Says which rules mean nobody at present, and which have ended: mistakes as often as not, but
    /// none that a document is refused for.
    #[must_use]
    pub fn notes(&self) -> Vec<Finding> {
        let mut notes = Vec::new();
        for rule in &self.text.rules {
            if let Some(until) = rule.until.filter(|until| *until <= self.now) {
                notes.push(Finding {
                    place: rule.place,
                    what: format!("rule {} ended at {}", rule.id, Utc(until)),
                    advice: "take it away, or give it a later `until`".to_owned(),
                });
            }
            let mut seen = BTreeSet::new();
            for party in rule.from.iter().chain(&rule.to) {
                let Some(id) = self.text.id(party) else {
                    continue;
                };
                if self.members.bearers[id as usize].is_empty() && seen.insert(id) {
                    notes.push(Finding {
                        place: rule.place,
                        what: format!(
                            "rule {} names {}, and no device is meant by it",
                            rule.id,
                            Inert(&party.to_string())
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
        self.members.place(host)
    }

    pub(crate) fn member(&self, place: u32) -> &Member {
        self.members.get(place)
    }

    pub(crate) fn rights(&self, member: &Member) -> &Rights {
        self.members.classes.rights(member.class)
    }

    pub(crate) fn is_live(&self, slot: u32) -> bool {
        self.live[self.text.slots[slot as usize].rule as usize]
    }

    /// The ports that these slots allow, of rules that have not ended.
    pub(crate) fn reach_by(&self, slots: impl Iterator<Item = u32>) -> Reach {
        let live = slots.filter(|slot| self.is_live(*slot));
        Reach::of(live.map(|slot| {
            let rule = self.text.slots[slot as usize].rule;
            (rule, self.text.rules[rule as usize].services.as_slice())
        }))
    }
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
