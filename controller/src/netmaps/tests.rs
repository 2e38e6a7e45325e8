use super::*;
use crate::policy::Sight;
use overlan_policy::{Compiled, World as PolicyWorld, WorldDevice, parse};
use overlan_protocol::UnixTime;
use overlan_protocol::key::Fingerprint;
use overlan_protocol::netmap::Delta;
use proptest::prelude::*;

const ORG: OrgId = OrgId(1);
const NETWORK: NetworkId = NetworkId([1; 16]);
const OTHER_NETWORK: NetworkId = NetworkId([2; 16]);

fn viewer() -> Viewer {
    let known = Knowledge {
        at: 0,
        host: HostIndex::MIN,
        sight: Arc::new(Sight::open(0, 0)),
    };
    Viewer {
        device: DeviceId([1; 16]),
        org: ORG,
        networks: BTreeMap::from([(NETWORK, known)]),
    }
}

/// Policies that a network can have: the first one is open. The viewer is host-1.
const POLICIES: [&str; 4] = [
    "",
    "rules = []",
    "rules = [{ from = 'any', to = 'device:host-2', services = 'tcp/443' }]
hosts = {}",
    "rules = [{ from = 'device:host-1', to = ['device:host-3', 'device:host-4'], services = 'any' },
    { from = 'device:host-5', to = 'device:host-1', services = 'udp/53' }]",
];

fn member(host: u32, version: u8, online: bool) -> Member {
    let number = u8::try_from(host).unwrap();
    Member {
        owner: Default::default(),
        tags: Default::default(),
        device: DeviceId([number; 16]),
        host: HostIndex::new(host).unwrap(),
        label: format!("host-{host}"),
        identity: IdentityKey([number; 32]),
        tunnel: TunnelKey([version; 32]),
        tunnel_signature: String::new(),
        relays: vec![RelayId([version; 16])],
        online,
        routes: vec![format!("10.{version}.0.0/16").parse().unwrap()],
    }
}

fn relay(port: u8) -> Relay {
    Relay {
        name: "one".to_owned(),
        addresses: vec![format!("192.0.2.1:{port}")],
        pins: vec![Fingerprint([port; 32])],
    }
}

/// Two networks that facts happen to: the store's part in the story. The viewer is always in the
/// first one.
#[derive(Clone)]
struct World {
    version: u64,
    networks: BTreeMap<NetworkId, Place>,
    relays: BTreeMap<RelayId, Relay>,
}

#[derive(Clone)]
struct Place {
    members: BTreeMap<u32, Member>,
    dns: Dns,
    policy: usize,
    sight: Arc<Sight>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            dns: Dns::default(),
            policy: 0,
            sight: Arc::new(Sight::open(0, 0)),
        }
    }
}

impl Place {
    /// Compiles the policy again, as the controller does when something changed at `version`.
    fn compile(&mut self, version: u64) {
        let sight = match self.policy {
            0 => Sight::open(version, version),
            policy => {
                let devices = self.members.values().map(|member| WorldDevice {
                    host: member.host,
                    label: member.label.clone(),
                    tags: Vec::new(),
                    owner: None,
                    routes: Vec::new(),
                });
                let world = PolicyWorld {
                    devices: devices.collect(),
                    people: Vec::new(),
                };
                let document = parse(POLICIES[policy]).unwrap();
                let compiled = Compiled::new(&document, &world, UnixTime::EPOCH);
                Sight::new(version, version, world, compiled)
            }
        };
        self.sight = Arc::new(sight.after(&self.sight));
    }
}

impl World {
    fn new() -> Self {
        let with_viewer = Place {
            members: BTreeMap::from([(1, member(1, 0, true))]),
            ..Place::default()
        };
        Self {
            version: 10,
            networks: BTreeMap::from([(NETWORK, with_viewer), (OTHER_NETWORK, Place::default())]),
            relays: BTreeMap::new(),
        }
    }

    fn view(&self, id: NetworkId) -> View {
        let place = &self.networks[&id];
        View {
            network: id,
            name: format!("network-{}", id.0[0]),
            vni: Vni::new(0x1234 + u32::from(id.0[0])).unwrap(),
            members: place.members.values().cloned().collect(),
            dns: place.dns.clone(),
            sight: place.sight.clone(),
        }
    }

    /// The policies of all networks, as the feed finds them.
    fn sights(&self) -> BTreeMap<NetworkId, Arc<Sight>> {
        let places = self.networks.iter();
        places
            .map(|(id, place)| (*id, place.sight.clone()))
            .collect()
    }

    fn snapshot(&self) -> Netmap {
        let views = self.networks.keys().map(|id| self.view(*id)).collect();
        let relays = self.relays.clone();
        snapshot(self.version, views, relays, "overlan.lan", viewer().device)
    }

    /// Does what the store would do and log; `None` if nothing changes.
    fn step(&mut self, step: Step) -> Option<Entry> {
        let (network, fact) = match step {
            Step::Put(id, host, version) => {
                let place = self.networks.get_mut(&id)?;
                let before = place.members.get(&host);
                let member = member(host, version, before.is_some_and(|member| member.online));
                let fact = match before {
                    Some(_) => Fact::Device(Box::new(member.clone())),
                    None => Fact::Joined(Box::new(member.clone())),
                };
                place.members.insert(host, member);
                (Some(id), fact)
            }
            Step::Leave(id, host) => {
                let gone = self.networks.get_mut(&id)?.members.remove(&host)?;
                let device = gone.device;
                (
                    Some(id),
                    Fact::Left {
                        device,
                        host: gone.host,
                    },
                )
            }
            Step::Remove(id, host) => {
                let gone = self.networks.get_mut(&id)?.members.remove(&host)?;
                let device = gone.device;
                (Some(id), Fact::Gone { device, host })
            }
            Step::Online(id, host, online) => {
                let member = self.networks.get_mut(&id)?.members.get_mut(&host)?;
                member.online = online;
                let device = member.device;
                (
                    Some(id),
                    Fact::Online {
                        device,
                        host: HostIndex::new(host).unwrap(),
                        online,
                    },
                )
            }
            Step::Relay(number, port) => {
                let id = RelayId([number; 16]);
                self.relays.insert(id, relay(port));
                let relay = relay(port);
                (None, Fact::Relay { id, relay })
            }
            Step::Name(id, number, records) => {
                let name = format!("name-{number}.demo.overlan.lan");
                let record = |last: u8| Record::A([10, 0, 0, last].into());
                let records: Vec<Record> = (0..records).map(record).collect();
                self.networks.get_mut(&id)?.dns.set_records(&name, &records);
                (Some(id), Fact::DnsRecords { name, records })
            }
            Step::Zone(id, number, is_there) => {
                let zone = format!("zone-{number}.internal");
                let settings = is_there.then(Zone::default);
                self.networks
                    .get_mut(&id)?
                    .dns
                    .set_zone(&zone, settings.as_ref());
                (Some(id), Fact::DnsZone { zone, settings })
            }
            Step::Policy(id, policy) => {
                self.networks.get_mut(&id)?.policy = policy;
                (Some(id), Fact::Policy)
            }
        };
        self.version += 1;
        if let Some(place) = network.and_then(|id| self.networks.get_mut(&id))
            && fact.is_of_policy()
        {
            place.compile(self.version);
        }
        Some(Entry {
            version: self.version,
            org: ORG,
            network,
            fact,
        })
    }

    /// The delta after `map` that a stream would send after having read `entries`, with the
    /// networks that the viewer joined as they are now.
    fn delta(&self, viewer: &mut Viewer, map: &Netmap, entries: &[Entry]) -> Delta {
        let Derived::Changes {
            mut changes,
            joined,
            appeared,
            moved,
        } = derive(viewer, entries, &self.sights())
        else {
            panic!("the viewer was not removed");
        };
        assert_eq!(moved, changes.iter().any(is_move) || !joined.is_empty());
        for (id, hosts) in appeared {
            let members = self.view(id).members;
            changes.extend(appearances(id, &members, &hosts));
        }
        for id in joined {
            let view = self.view(id);
            let sight = view.sight.clone();
            match network(view, viewer.device) {
                Some(network) => {
                    let known = Knowledge {
                        at: self.version,
                        host: network.host,
                        sight,
                    };
                    viewer.networks.insert(id, known);
                    let network = Box::new(network);
                    changes.push(Change::Network { id, network });
                }
                None => {
                    viewer.networks.remove(&id);
                }
            }
        }
        Delta {
            from: map.version,
            to: entries.last().unwrap().version,
            lineage: None,
            confirm: false,
            changes,
        }
    }
}

fn is_move(change: &Change) -> bool {
    matches!(change, Change::NetworkGone { .. })
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Put(NetworkId, u32, u8),
    Leave(NetworkId, u32),
    Remove(NetworkId, u32),
    Online(NetworkId, u32, bool),
    Relay(u8, u8),
    Name(NetworkId, u8, u8),
    Zone(NetworkId, u8, bool),
    Policy(NetworkId, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let id = || prop_oneof![Just(NETWORK), Just(OTHER_NETWORK)];
    let step = prop_oneof![
        (id(), 1u32..6, any::<u8>()).prop_map(|(id, host, version)| Step::Put(id, host, version)),
        // The viewer itself joins and leaves the other network.
        (1u32..6).prop_map(|host| Step::Leave(OTHER_NETWORK, host)),
        any::<u8>().prop_map(|version| Step::Put(OTHER_NETWORK, 1, version)),
        (id(), 2u32..6).prop_map(|(id, host)| Step::Leave(id, host)),
        (id(), 2u32..6).prop_map(|(id, host)| Step::Remove(id, host)),
        (id(), 1u32..6, any::<bool>())
            .prop_map(|(id, host, online)| Step::Online(id, host, online)),
        (0u8..3, any::<u8>()).prop_map(|(number, port)| Step::Relay(number, port)),
        (id(), 0u8..3, 0u8..3).prop_map(|(id, number, records)| Step::Name(id, number, records)),
        (id(), 0u8..3, any::<bool>()).prop_map(|(id, number, there)| Step::Zone(id, number, there)),
        (id(), 0..POLICIES.len()).prop_map(|(id, policy)| Step::Policy(id, policy)),
    ];
    proptest::collection::vec(step, 0..40)
}

fn changes(entries: &[Entry]) -> Vec<Change> {
    let open = BTreeMap::from([(NETWORK, Arc::new(Sight::open(1, 0)))]);
    match derive(&mut viewer(), entries, &open) {
        Derived::Changes { changes, .. } => changes,
        Derived::Removed | Derived::Barred => panic!("the viewer was not removed"),
    }
}

proptest! {
    /// A stream reads the networks that were joined at the newest version, while it knows of
    /// entries up to an older one: what it hears twice must do no harm.
    #[test]
    fn deltas_of_any_size_add_up_to_the_snapshot(
        steps in steps(),
        batch in 1usize..12,
        late in any::<bool>(),
    ) {
        let mut world = World::new();
        let mut viewer = viewer();
        let mut map = world.snapshot();
        let mut waiting = Vec::new();
        for step in steps {
            waiting.extend(world.step(step));
            if waiting.len() >= batch {
                let known = if late { waiting.len() - 1 } else { waiting.len() };
                let now: Vec<Entry> = waiting.drain(..known).collect();
                if !now.is_empty() {
                    map.apply(&world.delta(&mut viewer, &map, &now)).unwrap();
                }
            }
        }
        if !waiting.is_empty() {
            map.apply(&world.delta(&mut viewer, &map, &waiting)).unwrap();
        }
        prop_assert_eq!(map, world.snapshot());
    }

    #[test]
    fn nothing_is_said_twice_about_one_host(steps in steps()) {
        let mut world = World::new();
        let entries: Vec<Entry> = steps.into_iter().filter_map(|step| world.step(step)).collect();
        let mut hosts = BTreeSet::new();
        for change in changes(&entries) {
            let host = match change {
                Change::Peer { network, host, .. } | Change::PeerGone { network, host, .. }
                | Change::PeerOnline { network, host, .. } => (network, host),
                Change::Network { .. }
                | Change::NetworkGone { .. }
                | Change::Relay { .. }
                | Change::RelayGone { .. }
                | Change::Relays { .. } | Change::Routes { .. } | Change::Filter { .. }
                | Change::DnsRecords { .. } | Change::DnsZone { .. } => continue,
            };
            prop_assert_eq!(host.0, NETWORK, "the other one is told as a whole, or not at all");
            prop_assert!(host.1 != HostIndex::MIN, "the viewer is no peer of itself");
            prop_assert!(hosts.insert(host));
        }
    }
}

#[test]
fn another_organisation_is_never_heard() {
    let mut world = World::new();
    let mut entry = world.step(Step::Relay(1, 1)).unwrap();
    assert_eq!(changes(std::slice::from_ref(&entry)).len(), 1);
    entry.org = OrgId(2);
    assert_eq!(changes(&[entry]), []);
}

#[test]
fn the_removed_device_is_told_so_and_one_that_left_is_not_removed() {
    let mut world = World::new();
    let entry = world.step(Step::Remove(NETWORK, 1)).unwrap();
    let removed = derive(&mut viewer(), &[entry], &BTreeMap::new());
    assert_eq!(removed, Derived::Removed);
    assert_eq!(network(world.view(NETWORK), viewer().device), None);

    let mut world = World::new();
    let entry = world.step(Step::Leave(NETWORK, 1)).unwrap();
    assert_eq!(changes(&[entry]), [Change::NetworkGone { id: NETWORK }]);
    assert_eq!(world.snapshot().networks.len(), 0);
}
