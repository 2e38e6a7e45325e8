//! The devices and people of a matrix, and how they change. Decides which words mean a device; a
//! change costs what the device, or the person's devices, have of words and of places in lists.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use overlan_protocol::HostIndex;

use super::{Classes, PartyId, Text, number};
use crate::document::Party;
use crate::world::{World, WorldDevice, WorldPerson};

/// Everybody that a matrix is about. A place is a device's index in `all`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Members {
    pub(crate) all: Vec<Member>,
    places: HashMap<HostIndex, u32>,
    /// By word: the places of the devices that it means, ascending.
    pub(crate) bearers: Vec<Vec<u32>>,
    pub(crate) owned: Vec<Owned>,
    owners: HashMap<String, u32>,
    /// Places of those that have routes, ascending.
    pub(crate) gateways: Vec<u32>,
    /// By email: each person, and the words that mean the person's devices.
    people: BTreeMap<String, (WorldPerson, Vec<PartyId>)>,
    pub(crate) classes: Classes,
}

/// A device as the matrix knows it.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) device: WorldDevice,
    /// The place of its person in `owned`; a device with tags has none.
    pub(crate) owner: Option<u32>,
    pub(crate) class: u32,
    words: Arc<[PartyId]>,
}

/// A person's devices.
#[derive(Debug, Clone)]
pub(crate) struct Owned {
    pub(crate) email: String,
    /// By their places, ascending.
    pub(crate) devices: Vec<u32>,
}

impl Members {
    /// Nobody.
    pub(crate) fn new(text: &Text) -> Self {
        Self {
            bearers: vec![Vec::new(); text.words.len()],
            ..Self::default()
        }
    }

    pub(crate) fn place(&self, host: HostIndex) -> Option<u32> {
        self.places.get(&host).copied()
    }

    pub(crate) fn get(&self, place: u32) -> &Member {
        &self.all[place as usize]
    }

    /// Takes what differs in a world. Of two devices with one host index, the first one counts.
    pub(crate) fn follow(&mut self, text: &Text, world: &World) {
        if self.is_stale() {
            *self = Self::new(text);
        }
        let changed = self.follow_people(text, world);
        let mut there: BTreeSet<HostIndex> = BTreeSet::new();
        for device in &world.devices {
            if !there.insert(device.host) {
                continue;
            }
            let is_changed = device.owner.as_ref().is_some_and(|it| changed.contains(it));
            match self.place(device.host) {
                Some(place) if !is_changed && self.get(place).device == *device => {}
                Some(place) => {
                    self.unlink(place);
                    self.all[place as usize] = self.member(text, device);
                    self.link(place);
                }
                None => {
                    let place = number(self.all.len());
                    let member = self.member(text, device);
                    self.all.push(member);
                    self.places.insert(device.host, place);
                    self.link(place);
                }
            }
        }
        if there.len() < self.all.len() {
            let hosts = self.all.iter().map(|member| member.device.host);
            let gone: Vec<HostIndex> = hosts.filter(|host| !there.contains(host)).collect();
            gone.into_iter().for_each(|host| self.remove(host));
        }
    }

    /// Returns whether most of what is remembered is of devices and people who are gone.
    fn is_stale(&self) -> bool {
        self.classes.met() > 2 * self.all.len() + SPARE
            || self.owned.len() > 2 * self.people.len() + SPARE
    }

    /// Returns the people who are new, changed or gone.
    fn follow_people<'w>(&mut self, text: &Text, world: &'w World) -> BTreeSet<String> {
        let now: BTreeMap<&'w str, &'w WorldPerson> = world
            .people
            .iter()
            .map(|it| (it.email.as_str(), it))
            .collect();
        let known = self
            .people
            .keys()
            .filter(|email| !now.contains_key(email.as_str()));
        let mut changed: BTreeSet<String> = known.cloned().collect();
        changed
            .iter()
            .for_each(|email| drop(self.people.remove(email)));
        for (email, person) in now {
            if self
                .people
                .get(email)
                .is_some_and(|(known, _)| known == person)
            {
                continue;
            }
            let words = text.of_person(person);
            self.people
                .insert(email.to_owned(), (person.clone(), words));
            changed.insert(email.to_owned());
        }
        changed
    }

    /// The words that mean a device of which no more is known than that this one means it.
    pub(crate) fn of_nothing_but(&self, text: &Text, party: &Party) -> Vec<PartyId> {
        let mut meant = match party {
            Party::Person(email) => match self.people.get(email) {
                Some((_, words)) => words.clone(),
                None => text.upwards(vec![Party::Members, party.clone()]),
            },
            Party::Role(_) | Party::Group(_) | Party::Directory(_) => {
                text.upwards(vec![Party::Members, party.clone()])
            }
            Party::Tag(_) => text.upwards(vec![Party::Tagged, party.clone()]),
            Party::Any | Party::Members | Party::Tagged | Party::Device(_) => {
                text.upwards(vec![party.clone()])
            }
            Party::Own => text.upwards(vec![Party::Members]),
            Party::Host(_) | Party::Hosts => return Vec::new(),
        };
        meant.extend(text.id(&Party::Any));
        meant.sort_unstable();
        meant.dedup();
        meant
    }

    fn member(&mut self, text: &Text, device: &WorldDevice) -> Member {
        let person = device.owner.as_ref().filter(|_| device.tags.is_empty());
        let person = person.and_then(|email| self.people.get(email));
        let mut words: Vec<PartyId> = Vec::new();
        words.extend(text.id(&Party::Any));
        words.extend(text.id(&Party::Device(device.label.clone())));
        if !device.tags.is_empty() {
            words.extend(text.id(&Party::Tagged));
            let tags = device.tags.iter();
            words.extend(tags.filter_map(|tag| text.id(&Party::Tag(tag.clone()))));
        }
        words.extend(person.iter().flat_map(|(_, words)| words));
        words.sort_unstable();
        words.dedup();
        let owner = person.map(|(person, _)| person.email.clone());
        let words: Arc<[PartyId]> = words.into();
        Member {
            device: device.clone(),
            owner: owner.map(|email| self.owner(email)),
            class: self.classes.class_of(text, &words),
            words,
        }
    }

    fn owner(&mut self, email: String) -> u32 {
        let next = number(self.owned.len());
        let place = *self.owners.entry(email.clone()).or_insert(next);
        if place == next {
            let devices = Vec::new();
            self.owned.push(Owned { email, devices });
        }
        place
    }

    fn link(&mut self, place: u32) {
        self.lists(place, |list| {
            if let Err(at) = list.binary_search(&place) {
                list.insert(at, place);
            }
        });
    }

    fn unlink(&mut self, place: u32) {
        self.lists(place, |list| {
            if let Ok(at) = list.binary_search(&place) {
                list.remove(at);
            }
        });
    }

    /// Calls with every list in which a device stands.
    fn lists(&mut self, place: u32, mut change: impl FnMut(&mut Vec<u32>)) {
        let member = &self.all[place as usize];
        for word in &*member.words {
            change(&mut self.bearers[*word as usize]);
        }
        if let Some(owner) = member.owner {
            change(&mut self.owned[owner as usize].devices);
        }
        if !member.device.routes.is_empty() {
            change(&mut self.gateways);
        }
    }

    /// The last device takes the place of the one that goes.
    fn remove(&mut self, host: HostIndex) {
        let Some(place) = self.places.remove(&host) else {
            return;
        };
        let last = number(self.all.len() - 1);
        self.unlink(place);
        if place != last {
            self.unlink(last);
        }
        self.all.swap_remove(place as usize);
        if place != last {
            let moved = self.get(place).device.host;
            self.places.insert(moved, place);
            self.link(place);
        }
    }
}

/// Classes and people that may be gone and still remembered, besides as many as there are.
const SPARE: usize = 256;
