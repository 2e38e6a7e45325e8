//! Decides which words of a document mean a device. Knows groups in groups and the people of the
//! world; knows no rule.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::compiled::number;
use crate::document::{Document, Party};
use crate::world::{WorldDevice, WorldPerson};

/// The number of a word that rules or tests use.
pub(crate) type PartyId = u32;

/// The words of a document's rules and tests, and the people that they can mean.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meaning {
    ids: HashMap<Party, PartyId>,
    /// By member: the groups that name it.
    above: BTreeMap<Party, Vec<Party>>,
    /// By email.
    people: BTreeMap<String, WorldPerson>,
    /// By email: what their devices are meant by, ascending.
    of_people: BTreeMap<String, Vec<PartyId>>,
}

impl Meaning {
    /// Numbers the words of rules and tests. Nobody exists yet.
    pub(crate) fn new(document: &Document) -> Self {
        let mut meaning = Self::default();
        for rule in &document.rules {
            rule.from.iter().for_each(|party| meaning.count(party));
            rule.to.iter().for_each(|party| meaning.count(party));
        }
        for test in &document.tests {
            meaning.count(&test.from);
            meaning.count(&test.to);
        }
        for (name, members) in &document.groups {
            for member in members {
                let above = meaning.above.entry(member.clone()).or_default();
                above.push(Party::Group(name.clone()));
            }
        }
        meaning
    }

    fn count(&mut self, party: &Party) {
        // A device of the same person is, first of all, a device of a person.
        let is_own = *party == Party::Own;
        let party = if is_own { &Party::Members } else { party };
        if !party.is_destination_only() && !self.ids.contains_key(party) {
            let next = number(self.ids.len());
            self.ids.insert(party.clone(), next);
        }
    }

    /// Takes the people of the world.
    pub(crate) fn learn(&mut self, people: &[WorldPerson]) {
        for person in people {
            let meant = self.of_person(person);
            self.of_people.insert(person.email.clone(), meant);
            self.people.insert(person.email.clone(), person.clone());
        }
    }

    /// The number of words.
    pub(crate) fn parties(&self) -> usize {
        self.ids.len()
    }

    /// The number of a word; none for one that is not used, and for hosts of gateways.
    pub(crate) fn id(&self, party: &Party) -> Option<PartyId> {
        self.ids.get(party).copied()
    }

    /// The person whose rights a device has: none if it has tags, or if nobody of the organisation
    /// enrolled it.
    pub(crate) fn owner<'a>(&self, device: &'a WorldDevice) -> Option<&'a str> {
        let email = device.owner.as_deref()?;
        let counts = device.tags.is_empty() && self.people.contains_key(email);
        counts.then_some(email)
    }

    /// The words that mean a device, ascending.
    pub(crate) fn of_device(&self, device: &WorldDevice) -> Vec<PartyId> {
        let mut meant: Vec<PartyId> = Vec::new();
        meant.extend(self.id(&Party::Any));
        meant.extend(self.id(&Party::Device(device.label.clone())));
        if !device.tags.is_empty() {
            meant.extend(self.id(&Party::Tagged));
            let tags = device.tags.iter();
            meant.extend(tags.filter_map(|tag| self.id(&Party::Tag(tag.clone()))));
        } else if let Some(email) = self.owner(device) {
            meant.extend(self.of_people.get(email).into_iter().flatten());
        }
        meant.sort_unstable();
        meant.dedup();
        meant
    }

    /// The words that mean a device of which no more is known than that this one means it.
    pub(crate) fn of_nothing_but(&self, party: &Party) -> Vec<PartyId> {
        let mut meant: Vec<PartyId> = match party {
            Party::Person(email) => match self.people.get(email) {
                Some(person) => self.of_person(person),
                None => self.upwards(vec![Party::Members, party.clone()]),
            },
            Party::Role(_) | Party::Group(_) | Party::Directory(_) => {
                self.upwards(vec![Party::Members, party.clone()])
            }
            Party::Tag(_) => self.upwards(vec![Party::Tagged, party.clone()]),
            Party::Any | Party::Members | Party::Tagged | Party::Device(_) => {
                self.upwards(vec![party.clone()])
            }
            Party::Own => self.upwards(vec![Party::Members]),
            Party::Host(_) | Party::Hosts => return Vec::new(),
        };
        meant.extend(self.id(&Party::Any));
        meant.sort_unstable();
        meant.dedup();
        meant
    }

    fn of_person(&self, person: &WorldPerson) -> Vec<PartyId> {
        let mut words = vec![
            Party::Members,
            Party::Person(person.email.clone()),
            Party::Role(person.role),
        ];
        words.extend(person.groups.iter().cloned().map(Party::Directory));
        self.upwards(words)
    }

    /// The numbers of these words, and of the groups that have them, at whatever depth.
    fn upwards(&self, mut open: Vec<Party>) -> Vec<PartyId> {
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
}
