//! Random documents and worlds, small enough that their names meet often.

use std::collections::BTreeMap;

use fastrand::Rng;
use overlan_policy::{Document, Expectation, Party, Place, Rule, World, WorldDevice, WorldPerson};
use overlan_protocol::api::Role;
use overlan_protocol::gateway::{GatewayRoute, Host};
use overlan_protocol::policy::{RuleId, Service};
use overlan_protocol::{HostIndex, UnixTime};

/// The time of all comparisons.
pub(super) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Gateway hosts that are asked about.
pub(super) const HOSTS: [&str; 4] = ["10.1.2.3", "10.1.9.9", "wiki.corp", "other.corp"];

const PEOPLE: [&str; 4] = ["a@x", "b@x", "c@x", "gone@x"];
const TAGS: [&str; 2] = ["db", "web"];
const DIRECTORY: [&str; 2] = ["eng", "ops"];
const ROUTES: [&str; 5] = [
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.2.0.0/16",
    "wiki.corp",
    "*.corp",
];
const SERVICES: [&str; 9] = [
    "any",
    "tcp",
    "udp",
    "icmp",
    "tcp/22",
    "tcp/80",
    "tcp/80-89",
    "udp/53",
    "tcp/1-80",
];

pub(super) fn host(text: &str) -> Host<'_> {
    match text.parse() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Name(text),
    }
}

pub(super) struct Random(Rng);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Rng::with_seed(seed))
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.0.usize(0..all.len())].clone()
    }

    fn some<T: Clone>(&mut self, all: &[T], most: usize) -> Vec<T> {
        let count = self.0.usize(1..=most);
        (0..count).map(|_| self.of(all)).collect()
    }

    pub(super) fn document(&mut self) -> Document {
        let mut document = Document::default();
        let inner: Vec<Party> = (0..self.0.usize(0..3)).map(|_| self.people()).collect();
        let mut outer: Vec<Party> = (0..self.0.usize(0..2)).map(|_| self.people()).collect();
        if self.0.bool() {
            outer.push(Party::Group("inner".into()));
        }
        document.groups = BTreeMap::from([("inner".into(), inner), ("outer".into(), outer)]);
        document.tags = TAGS.map(|tag| (tag.to_owned(), Vec::new())).into();
        for name in ["h1", "h2"] {
            let routes: Vec<GatewayRoute> = self.routes(1);
            document.hosts.insert(name.to_owned(), routes);
        }
        for at in 0..self.0.usize(1..6) {
            let rule = self.rule(at);
            document.rules.push(rule);
        }
        document
    }

    fn routes(&mut self, least: usize) -> Vec<GatewayRoute> {
        let count = self.0.usize(least..=2);
        (0..count)
            .map(|_| self.of(&ROUTES).parse().unwrap())
            .collect()
    }

    fn rule(&mut self, at: usize) -> Rule {
        let from: Vec<Party> = (0..self.0.usize(1..3)).map(|_| self.source()).collect();
        let to: Vec<Party> = (0..self.0.usize(1..3))
            .map(|_| self.destination())
            .collect();
        let until = match self.0.u8(0..6) {
            0 => Some(NOW),
            1 => Some(UnixTime::from_secs(NOW.as_secs() + self.0.u64(1..100))),
            _ => None,
        };
        Rule {
            id: RuleId::new(&format!("r{at}")).unwrap(),
            from,
            to,
            services: self.services(),
            until,
            comment: None,
            place: Place::default(),
        }
    }

    fn services(&mut self) -> Vec<Service> {
        let texts = self.some(&SERVICES, 2);
        texts
            .into_iter()
            .map(|text| text.parse().unwrap())
            .collect()
    }

    fn people(&mut self) -> Party {
        match self.0.u8(0..3) {
            0 => Party::Person(self.of(&PEOPLE).into()),
            1 => Party::Role(self.of(&Role::ALL)),
            _ => Party::Directory(self.of(&DIRECTORY).into()),
        }
    }

    fn source(&mut self) -> Party {
        match self.0.u8(0..9) {
            0 => Party::Any,
            1 => Party::Members,
            2 => Party::Tagged,
            3 => Party::Tag(self.of(&TAGS).into()),
            4 => Party::Device(format!("d{}", self.0.u8(2..8))),
            5 => Party::Group("inner".into()),
            6 => Party::Group("outer".into()),
            _ => self.people(),
        }
    }

    fn destination(&mut self) -> Party {
        match self.0.u8(0..8) {
            0 => Party::Own,
            1 => Party::Hosts,
            2 => Party::Host(self.of(&["h1", "h2"]).into()),
            _ => self.source(),
        }
    }

    pub(super) fn world(&mut self) -> World {
        let count = self.0.u32(2..7);
        let devices = (2..2 + count).map(|number| self.device(number)).collect();
        // The last one is of no organisation of theirs.
        let people = PEOPLE[..3].iter().map(|email| self.person(email));
        World {
            devices,
            people: people.collect(),
        }
    }

    fn person(&mut self, email: &str) -> WorldPerson {
        let groups = DIRECTORY.iter().filter(|_| self.0.bool());
        WorldPerson {
            email: email.to_owned(),
            groups: groups.map(|&group| group.to_owned()).collect(),
            role: self.of(&Role::ALL),
        }
    }

    fn device(&mut self, number: u32) -> WorldDevice {
        let tags = match self.0.u8(0..3) {
            0 => self.some(&TAGS, 2),
            _ => Vec::new(),
        };
        WorldDevice {
            host: HostIndex::new(number).unwrap(),
            label: format!("d{number}"),
            tags: tags.into_iter().map(str::to_owned).collect(),
            owner: (self.0.u8(0..5) > 0).then(|| self.of(&PEOPLE).to_owned()),
            routes: match self.0.u8(0..3) {
                0 => self.routes(0),
                _ => Vec::new(),
            },
        }
    }

    /// Two devices.
    pub(super) fn pair<'w>(&mut self, world: &'w World) -> (&'w WorldDevice, &'w WorldDevice) {
        let count = world.devices.len();
        let from = self.0.usize(0..count);
        let to = (from + self.0.usize(1..count)) % count;
        (&world.devices[from], &world.devices[to])
    }

    /// Changes one thing.
    pub(super) fn change(&mut self, document: &mut Document, world: &mut World) {
        let rule = self.0.usize(0..document.rules.len());
        match self.0.u8(0..11) {
            0 => document.rules[rule].services = self.services(),
            1 => drop(document.rules.remove(rule)),
            2 => document.rules.push(self.rule(9)),
            3 => document.rules[rule].until = Some(NOW),
            4 => document.rules.reverse(),
            5 => {
                let people = self.people();
                document.groups.insert("inner".into(), vec![people]);
            }
            6 => {
                let routes = self.routes(1);
                document.hosts.insert("h1".into(), routes);
            }
            _ => self.change_world(world),
        }
    }

    /// Changes one device or person.
    pub(super) fn change_world(&mut self, world: &mut World) {
        let device = self.0.usize(0..world.devices.len());
        let person = self.0.usize(0..PEOPLE.len());
        match self.0.u8(0..5) {
            0 => {
                let there = world
                    .people
                    .iter()
                    .position(|it| it.email == PEOPLE[person]);
                match there {
                    Some(place) if self.0.u8(0..3) == 0 => drop(world.people.remove(place)),
                    Some(place) => world.people[place] = self.person(PEOPLE[person]),
                    None => world.people.push(self.person(PEOPLE[person])),
                }
            }
            1 if world.devices.len() > 2 => drop(world.devices.remove(device)),
            2 => {
                let added = self.device(9);
                world.devices.retain(|it| it.host != added.host);
                world.devices.insert(0, added);
            }
            _ => {
                let host = world.devices[device].host.get();
                world.devices[device] = self.device(host);
            }
        }
    }

    /// Adds one test about devices.
    pub(super) fn add_test(&mut self, document: &mut Document) {
        let to = match self.0.u8(0..4) {
            0 => Party::Own,
            _ => self.source(),
        };
        let services = self.some(&["tcp/22", "udp/53", "icmp", "tcp/80-89"], 1);
        let services = services.into_iter().map(|text| text.parse().unwrap());
        let (services, is_allowed) = (services.collect::<Vec<Service>>(), self.0.bool());
        let (allow, deny) = match is_allowed {
            true => (services, Vec::new()),
            false => (Vec::new(), services),
        };
        document.tests.push(Expectation {
            from: self.source(),
            to,
            allow,
            deny,
            place: Place::default(),
        });
    }
}
