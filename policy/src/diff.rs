//! The difference of two matrices: who gains what, who loses what, and by which rule. Decides
//! nothing about either; a preview and a console show it.

use std::collections::{BTreeMap, BTreeSet};

use overlan_protocol::HostIndex;
use overlan_protocol::gateway::GatewayRoute;
use overlan_protocol::policy::{Hosts, RuleId, Service};
use serde::{Deserialize, Serialize};

use crate::compiled::{Compiled, Leads, is_same};
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
    let kinds = &comparison.kinds;
    let (changed, rest): (Vec<&Kind>, Vec<&Kind>) =
        kinds.iter().partition(|kind| kind.takes_differ());
    for from in kinds {
        comparison.hosts(from, &mut found);
        let others: &[&Kind] = if from.dials_differ() { &rest } else { &[] };
        for to in changed.iter().chain(others) {
            if !comparison.may_differ(from, to) {
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
    /// Slots of the older matrix that the newer one has not, or not for these devices.
    gone: Changed,
    /// The other way.
    fresh: Changed,
}

/// Slots by which devices dial and are dialled in one of two matrices only.
#[derive(Default)]
struct Changed {
    dials: Vec<u32>,
    takes: Vec<u32>,
}

impl Kind {
    fn dials_differ(&self) -> bool {
        !self.gone.dials.is_empty() || !self.fresh.dials.is_empty()
    }

    fn takes_differ(&self) -> bool {
        !self.gone.takes.is_empty() || !self.fresh.takes.is_empty()
    }
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
        for member in &newer.members.all {
            let key = (class(older, member.device.host), Some(member.class));
            labels
                .entry(key)
                .or_default()
                .push(member.device.label.clone());
        }
        for member in &older.members.all {
            if newer.place(member.device.host).is_none() {
                let key = (Some(member.class), None);
                labels
                    .entry(key)
                    .or_default()
                    .push(member.device.label.clone());
            }
        }
        let (to_newer, to_older) = paired(older, newer);
        let kinds = labels.into_iter().map(|((before, after), labels)| Kind {
            labels,
            before,
            after,
            gone: changed((older, before), (newer, after), &to_newer),
            fresh: changed((newer, after), (older, before), &to_older),
        });
        Self {
            older,
            newer,
            kinds: kinds.collect(),
        }
    }

    /// Returns whether a slot that only one of the two matrices has leads from there to there.
    fn may_differ(&self, from: &Kind, to: &Kind) -> bool {
        let sides = [
            (self.older, from.before, to.before, &from.gone, &to.gone),
            (self.newer, from.after, to.after, &from.fresh, &to.fresh),
        ];
        sides
            .into_iter()
            .any(|(matrix, dialler, taker, dials, takes)| {
                let (Some(dialler), Some(taker)) = (dialler, taker) else {
                    return false;
                };
                let classes = &matrix.members.classes;
                let (dialler, taker) = (classes.rights(dialler), classes.rights(taker));
                let taken = |slot: &u32| taker.takes.contains(*slot);
                let dialled = |slot: &u32| dialler.dials.contains(*slot);
                dials.dials.iter().any(taken) || takes.takes.iter().any(dialled)
            })
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
        let leads_out = |matrix: &Compiled, slots: &[u32]| {
            let mut slots = slots.iter();
            slots.any(|slot| matrix.text.host_slots.contains(*slot))
        };
        if !leads_out(self.older, &from.gone.dials) && !leads_out(self.newer, &from.fresh.dials) {
            return;
        }
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
                let Some(rule) = range.rule.map(|rule| &matrix.text.rules[rule as usize]) else {
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

/// For each slot of either matrix, the one of the other that says the same.
fn paired(older: &Compiled, newer: &Compiled) -> (Vec<Option<u32>>, Vec<Option<u32>>) {
    let mut to_newer = vec![None; older.text.slots.len()];
    let mut to_older = vec![None; newer.text.slots.len()];
    for (rule, text) in (0..).zip(&newer.text.rules) {
        let other = older.text.by_id.get(&text.id).copied();
        if let Some(other) = other.filter(|other| is_same(newer, rule, older, *other)) {
            let slots = newer.text.slots_of(rule).zip(older.text.slots_of(other));
            for ((new, _), (old, _)) in slots {
                to_newer[old as usize] = Some(new);
                to_older[new as usize] = Some(old);
            }
        }
    }
    (to_newer, to_older)
}

/// The slots of a class that its counterpart in the other matrix has not.
fn changed(
    (matrix, class): (&Compiled, Option<u32>),
    (other, counterpart): (&Compiled, Option<u32>),
    paired: &[Option<u32>],
) -> Changed {
    let Some(class) = class else {
        return Changed::default();
    };
    let rights = matrix.members.classes.rights(class);
    let there = counterpart.map(|class| other.members.classes.rights(class));
    let only = |slots: &RuleSet, there: Option<&RuleSet>| -> Vec<u32> {
        let is_there = |slot: u32| {
            let pair = paired[slot as usize];
            pair.is_some_and(|pair| there.is_some_and(|there| there.contains(pair)))
        };
        let live = slots.iter().filter(|slot| matrix.is_live(*slot));
        live.filter(|slot| !is_there(*slot)).collect()
    };
    Changed {
        dials: only(&rights.dials, there.map(|it| &it.dials)),
        takes: only(&rights.takes, there.map(|it| &it.takes)),
    }
}

fn reach(matrix: &Compiled, from: Option<u32>, to: Option<u32>, own: bool) -> Reach {
    let (Some(from), Some(to)) = (from, to) else {
        return Reach::default();
    };
    let dials = &matrix.members.classes.rights(from).dials;
    let both = dials.both(&matrix.members.classes.rights(to).takes);
    let fits = |slot: &u32| own || *matrix.text.leads(*slot) != Leads::Own;
    matrix.reach_by(both.filter(fits))
}

fn host_slots(matrix: &Compiled, class: Option<u32>) -> impl Iterator<Item = (u32, &Hosts)> {
    let dials = class.map(|class| &matrix.members.classes.rights(class).dials);
    let slots = dials
        .into_iter()
        .flat_map(|it| it.both(&matrix.text.host_slots));
    slots.filter_map(|slot| match matrix.text.leads(slot) {
        Leads::Hosts(hosts) => Some((slot, hosts)),
        Leads::Devices | Leads::Own => None,
    })
}

/// Pairs of kinds of devices that one comparison looks at: a preview within a second.
const PAIRS_MAX: usize = 200_000;

#[cfg(test)]
mod tests;
