//! The difference of two matrices: who gains what, who loses what, and by which rule. Decides
//! nothing about either; a preview and a console show it.

use std::collections::{BTreeMap, BTreeSet};

use overlan_protocol::HostIndex;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::policy::{Hosts, RuleId, Service};
use serde::{Deserialize, Serialize};

use crate::compiled::{Compiled, Leads};
use crate::document::Rule;
use crate::reach::{Range, Reach};
use crate::rule_set::RuleSet;

/// All that changes between two matrices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Reach that the newer one has and the older one has not.
    pub gains: Vec<Shift>,
    /// Reach that only the older one has.
    pub losses: Vec<Shift>,
    /// There is more: the two differ in more kinds of pairs than are looked at.
    pub is_cut: bool,
}

/// A service that devices gain or lose.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shift {
    /// Labels of the devices that dial.
    pub from: Vec<String>,
    /// Labels of the devices that are dialled, or hosts of gateways.
    pub to: Vec<String>,
    /// The pairs of those that it is about.
    pub among: Among,
    /// The service.
    pub service: Service,
    /// The rule that allows it: of the newer matrix for a gain, of the older one for a loss.
    pub rule: RuleId,
}

/// Pairs of devices, by whose they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Among {
    /// All pairs.
    All,
    /// Devices of the same person only.
    OnePerson,
    /// All pairs but devices of the same person: those have rules of their own.
    Others,
}

impl Difference {
    /// Returns whether everybody reaches what they reached before.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gains.is_empty() && self.losses.is_empty() && !self.is_cut
    }
}

/// Compares two matrices of the same network.
#[must_use]
pub fn diff(older: &Compiled, newer: &Compiled) -> Difference {
    let comparison = Comparison::new(older, newer);
    let mut found = Found::default();
    let mut left = PAIRS_MAX;
    for from in &comparison.kinds {
        comparison.hosts(from, &mut found);
        for to in &comparison.kinds {
            if !from.dials_differ && !to.takes_differ {
                continue;
            }
            if left == 0 {
                found.is_cut = true;
                break;
            }
            left -= 1;
            comparison.pair(from, to, &mut found);
        }
    }
    found.end()
}

/// Devices that have one class before and one class after.
struct Kind {
    labels: Vec<String>,
    before: Option<u32>,
    after: Option<u32>,
    dials_differ: bool,
    takes_differ: bool,
}

struct Comparison<'a> {
    older: &'a Compiled,
    newer: &'a Compiled,
    kinds: Vec<Kind>,
}

/// Shifts by all but those that dial.
type Shifts = BTreeMap<(Among, Service, RuleId, Vec<String>), BTreeSet<String>>;

#[derive(Default)]
struct Found {
    gains: Shifts,
    losses: Shifts,
    is_cut: bool,
}

impl<'a> Comparison<'a> {
    fn new(older: &'a Compiled, newer: &'a Compiled) -> Self {
        let mut labels: BTreeMap<(Option<u32>, Option<u32>), Vec<String>> = BTreeMap::new();
        let class = |matrix: &Compiled, host: HostIndex| {
            matrix.place(host).map(|place| matrix.member(place).class)
        };
        for device in &newer.devices {
            let key = (class(older, device.host), Some(device.class));
            labels.entry(key).or_default().push(device.label.clone());
        }
        for device in &older.devices {
            if newer.place(device.host).is_none() {
                let key = (Some(device.class), None);
                labels.entry(key).or_default().push(device.label.clone());
            }
        }
        let says = |matrix: &'a Compiled, class: Option<u32>| {
            let rights = class.map(|class| matrix.classes.rights(class));
            let dials = rights.map_or(Vec::new(), |it| said(matrix, &it.dials));
            let takes = rights.map_or(Vec::new(), |it| said(matrix, &it.takes));
            (dials, takes)
        };
        let kinds = labels.into_iter().map(|((before, after), labels)| {
            let (dialled, taken) = says(older, before);
            let (dials, takes) = says(newer, after);
            Kind {
                labels,
                before,
                after,
                dials_differ: dialled != dials,
                takes_differ: taken != takes,
            }
        });
        Self {
            older,
            newer,
            kinds: kinds.collect(),
        }
    }

    fn pair(&self, from: &Kind, to: &Kind, found: &mut Found) {
        // One device alone has no pair with itself.
        if from.labels == to.labels && from.labels.len() == 1 {
            return;
        }
        let old = |own| reach(self.older, from.before, to.before, own);
        let new = |own| reach(self.newer, from.after, to.after, own);
        let (others, one_person) = ([old(false), new(false)], [old(true), new(true)]);
        let [gained, lost] = [true, false].map(|is_gain| {
            let [others, one_person] = [&others, &one_person].map(|[old, new]| match is_gain {
                true => new.beyond(old),
                false => old.beyond(new),
            });
            let among = |range: Range| match (others.contains(&range), one_person.contains(&range))
            {
                (true, false) => (Among::Others, range),
                (false, true) => (Among::OnePerson, range),
                (true, true) | (false, false) => (Among::All, range),
            };
            let all: BTreeSet<Range> = others.iter().chain(&one_person).copied().collect();
            all.into_iter().map(among).collect::<Vec<_>>()
        });
        found.add(self, (&from.labels, &to.labels), &gained, &lost);
    }

    /// Compares what devices reach of each host or range that either of the two names.
    fn hosts(&self, from: &Kind, found: &mut Found) {
        let mut named: BTreeSet<Option<GatewayRoute>> = BTreeSet::new();
        for (matrix, class) in [(self.older, from.before), (self.newer, from.after)] {
            for (_, hosts) in host_slots(matrix, class) {
                match hosts {
                    Hosts::Any => _ = named.insert(None),
                    Hosts::Only(routes) => named.extend(routes.iter().cloned().map(Some)),
                }
            }
        }
        for host in named {
            let reach = |matrix: &Compiled, class| {
                let slots = host_slots(matrix, class).filter(|(_, hosts)| match (hosts, &host) {
                    (Hosts::Any, _) => true,
                    (Hosts::Only(_), None) => false,
                    (Hosts::Only(routes), Some(host)) => {
                        routes.iter().any(|route| route.includes_hosts_of(host))
                    }
                });
                matrix.reach_by(slots.map(|(slot, _)| slot))
            };
            let (old, new) = (
                reach(self.older, from.before),
                reach(self.newer, from.after),
            );
            let text = host.map_or("host:*".to_owned(), |host| host.to_string());
            let all = |ranges: Vec<Range>| -> Vec<(Among, Range)> {
                ranges
                    .into_iter()
                    .map(|range| (Among::All, range))
                    .collect()
            };
            let (gained, lost) = (all(new.beyond(&old)), all(old.beyond(&new)));
            found.add(self, (&from.labels, &[text]), &gained, &lost);
        }
    }
}

impl Found {
    fn add(
        &mut self,
        comparison: &Comparison<'_>,
        (from, to): (&[String], &[String]),
        gained: &[(Among, Range)],
        lost: &[(Among, Range)],
    ) {
        let sides = [
            (&mut self.gains, gained, comparison.newer),
            (&mut self.losses, lost, comparison.older),
        ];
        for (into, ranges, matrix) in sides {
            for (among, range) in ranges {
                let Some(rule) = range.rule.map(|rule| &matrix.rules[rule as usize]) else {
                    continue;
                };
                let key = (*among, range.service(), rule.id.clone(), to.to_vec());
                into.entry(key).or_default().extend(from.iter().cloned());
            }
        }
    }

    fn end(self) -> Difference {
        Difference {
            gains: joined(self.gains),
            losses: joined(self.losses),
            is_cut: self.is_cut,
        }
    }
}

/// Joins shifts that only differ in those that are dialled.
fn joined(found: Shifts) -> Vec<Shift> {
    let mut by_from: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for ((among, service, rule, to), from) in found {
        let all = by_from.entry((among, service, rule, from)).or_default();
        all.extend(to);
    }
    let shifts = by_from
        .into_iter()
        .map(|((among, service, rule, from), to)| Shift {
            from: from.into_iter().collect(),
            to: to.into_iter().collect(),
            among,
            service,
            rule,
        });
    let mut shifts: Vec<Shift> = shifts.collect();
    shifts.sort_unstable();
    shifts
}

/// The part of a rule that counts for a comparison of classes.
type Said<'a> = (&'a RuleId, &'a [Service], &'a Leads);

fn said<'a>(matrix: &'a Compiled, slots: &RuleSet) -> Vec<Said<'a>> {
    let live = slots.iter().map(|slot| &matrix.slots[slot as usize]);
    let live = live.filter(|slot| slot.is_live);
    let says = live.map(|slot| {
        let rule: &Rule = &matrix.rules[slot.rule as usize];
        (&rule.id, rule.services.as_slice(), &slot.leads)
    });
    says.collect()
}

fn reach(matrix: &Compiled, from: Option<u32>, to: Option<u32>, own: bool) -> Reach {
    let (Some(from), Some(to)) = (from, to) else {
        return Reach::default();
    };
    let dials = &matrix.classes.rights(from).dials;
    let both = dials.both(&matrix.classes.rights(to).takes);
    let fits = |slot: &u32| own || matrix.slots[*slot as usize].leads != Leads::Own;
    matrix.reach_by(both.filter(fits))
}

fn host_slots(matrix: &Compiled, class: Option<u32>) -> impl Iterator<Item = (u32, &Hosts)> {
    let dials = class.map(|class| &matrix.classes.rights(class).dials);
    let slots = dials.into_iter().flat_map(|it| it.both(&matrix.host_slots));
    slots.filter_map(|slot| match &matrix.slots[slot as usize].leads {
        Leads::Hosts(hosts) => Some((slot, hosts)),
        Leads::Devices | Leads::Own => None,
    })
}

/// Pairs of kinds of devices that one comparison looks at: a preview within a second.
const PAIRS_MAX: usize = 200_000;

#[cfg(test)]
mod tests;
