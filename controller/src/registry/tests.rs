use super::*;
use overlan_protocol::key::Fingerprint;
use overlan_protocol::netmap::Delta;
use proptest::prelude::*;

const ORG: OrgId = OrgId(1);
const NETWORK: NetworkId = NetworkId([1; 16]);
const OTHER_NETWORK: NetworkId = NetworkId([2; 16]);

fn viewer() -> Viewer {
    Viewer {
        device: DeviceId([1; 16]),
        org: ORG,
        network: NETWORK,
    }
}

fn member(host: u32, version: u8, online: bool) -> Member {
    let number = u8::try_from(host).unwrap();
    Member {
        device: DeviceId([number; 16]),
        host,
        label: format!("host-{host}"),
        identity: IdentityKey([number; 32]),
        tunnel: TunnelKey([version; 32]),
        tunnel_signature: String::new(),
        relays: vec![RelayId([version; 16])],
        online,
    }
}

fn relay(port: u8) -> Relay {
    Relay {
        name: "one".to_owned(),
        addresses: vec![format!("192.0.2.1:{port}")],
        pins: vec![Fingerprint([port; 32])],
    }
}

/// A network that facts happen to: the store's part in the story.
#[derive(Clone)]
struct World {
    version: u64,
    members: BTreeMap<u32, Member>,
    dns: Dns,
    relays: BTreeMap<RelayId, Relay>,
}

impl World {
    fn new() -> Self {
        Self {
            version: 10,
            members: BTreeMap::from([(1, member(1, 0, true))]),
            dns: Dns::default(),
            relays: BTreeMap::new(),
        }
    }

    fn view(&self) -> View {
        View {
            version: self.version,
            network: NETWORK,
            name: "demo".to_owned(),
            vni: Vni::new(0x1234).unwrap(),
            members: self.members.values().cloned().collect(),
            dns: self.dns.clone(),
            relays: self.relays.clone(),
        }
    }

    fn snapshot(&self) -> Netmap {
        snapshot(self.view(), "pertino.net", viewer().device).unwrap()
    }

    /// What the store would do and log; `None` where nothing changes.
    fn step(&mut self, step: Step) -> Option<Entry> {
        let (network, fact) = match step {
            Step::Put(host, version) => {
                let online = self.members.get(&host).is_some_and(|member| member.online);
                let member = member(host, version, online);
                self.members.insert(host, member.clone());
                (Some(NETWORK), Fact::Device(Box::new(member)))
            }
            Step::Remove(host) => {
                let gone = self.members.remove(&host)?;
                let device = gone.device;
                (Some(NETWORK), Fact::Gone { device, host })
            }
            Step::Online(host, online) => {
                let member = self.members.get_mut(&host)?;
                member.online = online;
                let device = member.device;
                (
                    Some(NETWORK),
                    Fact::Online {
                        device,
                        host,
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
            Step::Name(number, records) => {
                let name = format!("name-{number}.demo.pertino.net");
                let record = |last: u8| Record::A([10, 0, 0, last].into());
                let records: Vec<Record> = (0..records).map(record).collect();
                self.dns.set_records(&name, &records);
                (Some(NETWORK), Fact::DnsRecords { name, records })
            }
            Step::Zone(number, is_there) => {
                let zone = format!("zone-{number}.internal");
                let settings = is_there.then(Zone::default);
                self.dns.set_zone(&zone, settings.as_ref());
                (Some(NETWORK), Fact::DnsZone { zone, settings })
            }
            Step::Elsewhere(host) => {
                let member = Box::new(member(host, 9, true));
                (Some(OTHER_NETWORK), Fact::Device(member))
            }
        };
        self.version += 1;
        Some(Entry {
            version: self.version,
            org: ORG,
            network,
            fact,
        })
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Put(u32, u8),
    Remove(u32),
    Online(u32, bool),
    Relay(u8, u8),
    Name(u8, u8),
    Zone(u8, bool),
    Elsewhere(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (1u32..6, any::<u8>()).prop_map(|(host, version)| Step::Put(host, version)),
        (2u32..6).prop_map(Step::Remove),
        (1u32..6, any::<bool>()).prop_map(|(host, online)| Step::Online(host, online)),
        (0u8..3, any::<u8>()).prop_map(|(number, port)| Step::Relay(number, port)),
        (0u8..3, 0u8..3).prop_map(|(number, records)| Step::Name(number, records)),
        (0u8..3, any::<bool>()).prop_map(|(number, there)| Step::Zone(number, there)),
        (1u32..6).prop_map(Step::Elsewhere),
    ];
    proptest::collection::vec(step, 0..40)
}

fn changes(entries: &[Entry]) -> Vec<Change> {
    match derive(&viewer(), entries) {
        Derived::Changes(changes) => changes,
        Derived::Removed => panic!("the viewer was not removed"),
    }
}

proptest! {
    #[test]
    fn deltas_of_any_size_add_up_to_the_snapshot(steps in steps(), batch in 1usize..12) {
        let mut world = World::new();
        let mut map = world.snapshot();
        let entries: Vec<Entry> = steps.into_iter().filter_map(|step| world.step(step)).collect();
        for batch in entries.chunks(batch) {
            let to = batch.last().unwrap().version;
            map.apply(&Delta { from: map.version, to, changes: changes(batch) }).unwrap();
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
                Change::Peer { host, .. } | Change::PeerGone { host, .. } | Change::PeerOnline { host, .. } => host,
                Change::Network { .. } | Change::NetworkGone { .. } | Change::Relay { .. } | Change::RelayGone { .. }
                | Change::Relays { .. } | Change::Filter { .. }
                | Change::DnsRecords { .. } | Change::DnsZone { .. } => continue,
            };
            prop_assert!(host != 1, "the viewer is no peer of itself");
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
fn the_removed_device_is_told_so() {
    let mut world = World::new();
    let entry = world.step(Step::Remove(1)).unwrap();
    assert_eq!(derive(&viewer(), &[entry]), Derived::Removed);
    assert_eq!(snapshot(world.view(), "pertino.net", viewer().device), None);
}
