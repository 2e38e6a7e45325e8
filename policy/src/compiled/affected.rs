//! Decides which devices a change is about: those whose rules or peers may differ between two
//! matrices of one network. Compares rules and words, and never two devices with each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use overlan_protocol::HostIndex;
use overlan_protocol::gateway::GatewayRoute;

use super::{Compiled, Text};
use crate::document::{Party, Rule};
use crate::rule_set::Bits;

impl Compiled {
    /// Returns the devices whose rules or peers may differ from those of an older matrix of the
    /// same network; none other's do. Costs a look at each rule and at each word's devices, and
    /// beyond that what differs.
    #[must_use]
    pub fn affected(&self, older: &Self) -> BTreeSet<HostIndex> {
        let moves = Moves::new(self, older);
        let gateways = moved_gateways(self, older);
        let mut now = Touched::new(self);
        let mut before = Touched::new(older);
        let counterparts = counterparts(&self.text, &older.text);
        for (rule, counterpart) in (0..).zip(&counterparts) {
            let text = &self.text.rules[rule as usize];
            if !counterpart.is_some_and(|other| is_same(self, rule, older, other)) {
                now.both(text);
                if let Some(other) = older.rule(&text.id) {
                    before.both(other);
                }
                continue;
            }
            let leads_elsewhere = !gateways.is_empty() && leads_out(&text.to);
            if moves.mean_others(&text.from) {
                now.side(text, &text.to);
            }
            if leads_elsewhere || moves.mean_others(&text.to) {
                now.side(text, &text.from);
            }
        }
        for rule in &older.text.rules {
            if !self.text.by_id.contains_key(&rule.id) {
                before.both(rule);
            }
        }
        let mut affected = now.hosts();
        affected.extend(before.hosts());
        affected.extend(&moves.devices);
        affected.extend(&gateways);
        if self.text.has_own {
            affected.extend(moved_owners(self, older));
        }
        affected.retain(|host| self.place(*host).is_some());
        affected
    }
}

/// For each rule, the one of the same id in the other text; none if their order is another one.
fn counterparts(text: &Text, other: &Text) -> Vec<Option<u32>> {
    let places = text
        .rules
        .iter()
        .map(|rule| other.by_id.get(&rule.id).copied());
    let places: Vec<Option<u32>> = places.collect();
    let mut ordered: Vec<u32> = places.iter().flatten().copied().collect();
    ordered.sort_unstable();
    let mut expected = ordered.into_iter();
    let mut is_in_order = |place: &u32| expected.next() == Some(*place);
    let filtered = places.into_iter();
    filtered
        .map(|place| place.filter(&mut is_in_order))
        .collect()
}

/// Returns whether two rules say the same, of words that may mean others by now.
pub(crate) fn is_same(now: &Compiled, rule: u32, older: &Compiled, other: u32) -> bool {
    let (one, two) = (
        &now.text.rules[rule as usize],
        &older.text.rules[other as usize],
    );
    let leads = now.text.slots_of(rule).map(|(_, slot)| &slot.leads);
    one.from == two.from
        && one.to == two.to
        && one.services == two.services
        && now.live[rule as usize] == older.live[other as usize]
        && leads.eq(older.text.slots_of(other).map(|(_, slot)| &slot.leads))
}

/// The words that mean other devices than before.
#[derive(Default)]
struct Moves<'a> {
    words: BTreeSet<&'a Party>,
    /// Devices that a word means now and did not mean before, or the other way.
    devices: BTreeSet<HostIndex>,
}

impl<'a> Moves<'a> {
    fn new(now: &'a Compiled, older: &Compiled) -> Self {
        let mut moves = Self::default();
        let is_same_text = Arc::ptr_eq(&now.text, &older.text);
        for (id, word) in (0..).zip(&now.text.names) {
            let other = match is_same_text {
                true => Some(id),
                false => older.text.id(word),
            };
            if hosts(now, Some(id)).eq(hosts(older, other)) {
                continue;
            }
            let after: BTreeSet<HostIndex> = hosts(now, Some(id)).collect();
            let before: BTreeSet<HostIndex> = hosts(older, other).collect();
            if after != before {
                moves.words.insert(word);
                moves.devices.extend(after.symmetric_difference(&before));
            }
        }
        moves
    }

    fn mean_others(&self, parties: &[Party]) -> bool {
        !self.words.is_empty() && parties.iter().any(|party| self.words.contains(party))
    }
}

fn hosts(matrix: &Compiled, id: Option<u32>) -> impl Iterator<Item = HostIndex> {
    let places = id.map(|id| matrix.members.bearers[id as usize].as_slice());
    let places = places.unwrap_or_default().iter();
    places.map(|place| matrix.member(*place).device.host)
}

/// Devices whose routes are other ones than before.
fn moved_gateways(now: &Compiled, older: &Compiled) -> BTreeSet<HostIndex> {
    let routes = |matrix: &Compiled| -> BTreeMap<HostIndex, Vec<GatewayRoute>> {
        let gateways = matrix.members.gateways.iter();
        let devices = gateways.map(|place| &matrix.member(*place).device);
        devices.map(|it| (it.host, it.routes.clone())).collect()
    };
    differing(&routes(now), &routes(older))
}

/// The keys whose values differ, or that only one of two maps has.
fn differing<K: Ord + Clone, T: PartialEq>(
    one: &BTreeMap<K, T>,
    other: &BTreeMap<K, T>,
) -> BTreeSet<K> {
    let keys = one.keys().chain(other.keys());
    let differ = keys.filter(|key| one.get(key) != other.get(key));
    differ.cloned().collect()
}

fn leads_out(parties: &[Party]) -> bool {
    let is_out = |party: &Party| matches!(party, Party::Host(_) | Party::Hosts);
    parties.iter().any(is_out)
}

/// Devices of people who have other devices than before.
fn moved_owners(now: &Compiled, older: &Compiled) -> BTreeSet<HostIndex> {
    let owned = |matrix: &Compiled| -> BTreeMap<String, BTreeSet<HostIndex>> {
        let lists = matrix.members.owned.iter().map(|owned| {
            let hosts = owned
                .devices
                .iter()
                .map(|it| matrix.member(*it).device.host);
            (owned.email.clone(), hosts.collect())
        });
        lists.collect()
    };
    let (now, before) = (owned(now), owned(older));
    let lists = differing(&now, &before);
    let hosts = lists
        .iter()
        .flat_map(|email| [now.get(email), before.get(email)]);
    hosts.flatten().flatten().copied().collect()
}

/// Devices of one matrix that were met.
struct Touched<'a> {
    matrix: &'a Compiled,
    places: Bits,
}

impl<'a> Touched<'a> {
    fn new(matrix: &'a Compiled) -> Self {
        Self {
            matrix,
            places: Bits::new(matrix.members.all.len()),
        }
    }

    fn both(&mut self, rule: &Rule) {
        self.side(rule, &rule.from);
        self.side(rule, &rule.to);
    }

    /// Meets the devices on one side of a rule.
    fn side(&mut self, rule: &Rule, parties: &[Party]) {
        let matrix = self.matrix;
        for list in matrix.bearers_of(parties) {
            list.iter().for_each(|place| self.places.insert(*place));
        }
        if parties.contains(&Party::Own) {
            for place in matrix.bearers_of(&rule.from).flatten() {
                matrix
                    .of_same(*place)
                    .for_each(|own| self.places.insert(own));
            }
        }
        if leads_out(parties) {
            let gateways = matrix.members.gateways.iter();
            gateways.for_each(|place| self.places.insert(*place));
        }
    }

    fn hosts(&self) -> BTreeSet<HostIndex> {
        let places = self.places.iter();
        places
            .map(|place| self.matrix.member(place).device.host)
            .collect()
    }
}
