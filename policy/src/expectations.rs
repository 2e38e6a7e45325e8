//! The tests of a document. Decides whether each holds, and by which rule it does not.
//!
//! A test is about words. It holds if it holds for a device of which nothing is known but that the
//! word means it, and for every device that the word means at present.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::policy::{Hosts, Inert, RuleId, Service};
use serde::{Deserialize, Serialize};

use crate::compiled::{Compiled, Leads, Rights};
use crate::document::{Document, Expectation, Party};
use crate::finding::Place;
use crate::reach::Reach;

/// A test that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The place of the test.
    #[serde(flatten)]
    pub place: Place,
    /// One sentence that says the difference from what it expects.
    pub what: String,
    /// The rule that allows what the test denies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleId>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Runs the tests of a document against its own matrix; none comes back if all hold.
#[must_use]
pub fn run_tests(document: &Document, compiled: &Compiled) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut left = PAIRS_MAX;
    for test in &document.tests {
        let trial = Trial { compiled, test };
        if let Err(failure) = trial.run(document, &mut left) {
            failures.push(failure);
        }
    }
    failures
}

struct Trial<'a> {
    compiled: &'a Compiled,
    test: &'a Expectation,
}

/// A device on one side of a test.
struct Side {
    /// Its label; none if it only could exist.
    label: Option<String>,
    rights: Rights,
    /// Its person, by email.
    owner: Option<String>,
}

impl Trial<'_> {
    fn run(&self, document: &Document, left: &mut usize) -> Result<(), Failure> {
        let from = self.sides(&self.test.from);
        if self.test.to == Party::Hosts {
            return from.iter().try_for_each(|from| self.to_hosts(from, &[]));
        }
        if let Party::Host(name) = &self.test.to {
            let hosts = document.hosts.get(name).map_or(&[][..], Vec::as_slice);
            return from.iter().try_for_each(|from| self.to_hosts(from, hosts));
        }
        if self.test.to == Party::Own {
            return self.to_own(&from[0], left);
        }
        let to = self.sides(&self.test.to);
        self.spend(left, from.len().saturating_mul(to.len()))?;
        for from in &from {
            for to in &to {
                let is_same = from.owner.is_some() && from.owner == to.owner;
                let is_itself = from.label.is_some() && from.label == to.label;
                if !is_itself {
                    let reach = self.reach(from, to, is_same);
                    self.judge(from, Some(to), &reach, None)?;
                }
            }
        }
        Ok(())
    }

    /// Looks at each device with the others of its person.
    fn to_own(&self, alone: &Side, left: &mut usize) -> Result<(), Failure> {
        let matrix = self.compiled;
        if self.test.from.is_people() || self.test.from == Party::Members {
            self.judge(alone, None, &self.reach(alone, alone, true), None)?;
        }
        let id = matrix.text.id(&self.test.from);
        let meant = id.map_or(&[][..], |id| matrix.members.bearers[id as usize].as_slice());
        let mut seen = BTreeSet::new();
        for place in meant {
            let from = matrix.member(*place);
            let others = from
                .owner
                .map(|owner| &matrix.members.owned[owner as usize].devices);
            for other in others.into_iter().flatten().filter(|it| *it != place) {
                let to = matrix.member(*other);
                self.spend(left, 1)?;
                if seen.insert((from.class, to.class)) {
                    let (from, to) = (self.side(*place), self.side(*other));
                    self.judge(&from, Some(&to), &self.reach(&from, &to, true), None)?;
                }
            }
        }
        Ok(())
    }

    fn spend(&self, left: &mut usize, pairs: usize) -> Result<(), Failure> {
        *left = left.saturating_sub(pairs);
        if *left > 0 {
            return Ok(());
        }
        let what = format!("{self} is too wide: name a smaller group, a tag or a device");
        Err(self.failure(what, None))
    }

    fn side(&self, place: u32) -> Side {
        let matrix = self.compiled;
        let member = matrix.member(place);
        let owner = member
            .owner
            .map(|it| matrix.members.owned[it as usize].email.clone());
        Side {
            label: Some(member.device.label.clone()),
            rights: matrix.rights(member).clone(),
            owner,
        }
    }

    /// The devices that a word means, two of each kind, and before them one of that word alone.
    fn sides(&self, party: &Party) -> Vec<Side> {
        let matrix = self.compiled;
        let has_own = matrix.text.has_own;
        let words = matrix.members.of_nothing_but(&matrix.text, party);
        let email = if let Party::Person(email) = party {
            Some(email.clone())
        } else {
            None
        };
        let mut sides = vec![Side {
            label: None,
            rights: Rights::of(&matrix.text, &words),
            owner: email,
        }];
        let mut seen = BTreeMap::new();
        let bearers = matrix.text.id(party);
        for place in bearers
            .into_iter()
            .flat_map(|id| &matrix.members.bearers[id as usize])
        {
            let member = matrix.member(*place);
            let kind = (member.class, member.owner.filter(|_| has_own));
            let of_kind = seen.entry(kind).or_insert(0);
            *of_kind += 1;
            // Two of a kind: one alone would never meet another one like it.
            if *of_kind <= 2 {
                sides.push(self.side(*place));
            }
        }
        sides
    }

    fn reach(&self, from: &Side, to: &Side, is_same: bool) -> Reach {
        let both = from.rights.dials.both(&to.rights.takes);
        self.reach_by(both.filter(|slot| is_same || *self.compiled.text.leads(*slot) != Leads::Own))
    }

    fn reach_by(&self, slots: impl Iterator<Item = u32>) -> Reach {
        self.compiled.reach_by(slots)
    }

    /// Hosts are reached as a whole or not: a rule about a part of a range does not allow it, and
    /// denies it no longer. No host by name stands for all.
    fn to_hosts(&self, from: &Side, hosts: &[GatewayRoute]) -> Result<(), Failure> {
        let host_slots = || from.rights.dials.both(&self.compiled.text.host_slots);
        let leads = |slot: u32| match self.compiled.text.leads(slot) {
            Leads::Hosts(hosts) => Some(hosts),
            Leads::Devices | Leads::Own => None,
        };
        if hosts.is_empty() {
            let whole = host_slots().filter(|slot| leads(*slot) == Some(&Hosts::Any));
            return self.judge(
                from,
                None,
                &self.reach_by(whole),
                Some(&self.reach_by(host_slots())),
            );
        }
        for host in hosts {
            let whole = host_slots().filter(|slot| match leads(*slot) {
                Some(Hosts::Any) => true,
                Some(Hosts::Only(routes)) => routes.iter().any(|it| it.includes_hosts_of(host)),
                None => false,
            });
            let part = host_slots().filter(|slot| match leads(*slot) {
                Some(Hosts::Any) => true,
                Some(Hosts::Only(routes)) => routes
                    .iter()
                    .any(|it| it.includes_hosts_of(host) || host.includes_hosts_of(it)),
                None => false,
            });
            self.judge(
                from,
                None,
                &self.reach_by(whole),
                Some(&self.reach_by(part)),
            )?;
        }
        Ok(())
    }

    /// Holds what is expected against what is so; `part` is what part of the destination is reached
    /// by, where that is more.
    fn judge(
        &self,
        from: &Side,
        to: Option<&Side>,
        whole: &Reach,
        part: Option<&Reach>,
    ) -> Result<(), Failure> {
        let devices = match (&from.label, to.and_then(|to| to.label.as_ref())) {
            (None, None) => String::new(),
            (Some(from), None) => format!(" (such as device {from})"),
            (None, Some(to)) => format!(" (such as device {to})"),
            (Some(from), Some(to)) => format!(" (such as {from} and {to})"),
        };
        let missing = |service: &Service| whole.of_service(service).find(|it| it.rule.is_none());
        if let Some(range) = self.test.allow.iter().find_map(missing) {
            let service = range.service();
            let what = format!("{self} must be allowed {service}, and no rule allows it{devices}");
            return Err(self.failure(what, None));
        }
        let reach = part.unwrap_or(whole);
        let allowed = |service: &Service| reach.of_service(service).find(|it| it.rule.is_some());
        if let Some(range) = self.test.deny.iter().find_map(allowed) {
            let rule = range
                .rule
                .map(|rule| self.compiled.text.rules[rule as usize].id.clone());
            let by = rule.as_ref().map(ToString::to_string).unwrap_or_default();
            let service = range.service();
            let what = format!("{self} must be denied {service}, and rule {by} allows it{devices}");
            return Err(self.failure(what, rule));
        }
        Ok(())
    }

    fn failure(&self, what: String, rule: Option<RuleId>) -> Failure {
        let place = self.test.place;
        Failure { place, what, rule }
    }
}

impl fmt::Display for Trial<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.test.from.to_string(), self.test.to.to_string());
        write!(f, "{} to {}", Inert(&from), Inert(&to))
    }
}

/// Pairs of kinds of devices that the tests of one document look at, together: a tenth of a second.
const PAIRS_MAX: usize = 200_000;

#[cfg(test)]
mod tests;
