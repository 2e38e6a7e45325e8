use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn device(number: u8) -> DeviceId {
    DeviceId([number; 16])
}

fn vni(number: u32) -> Vni {
    Vni::new(number).expect("not a reserved VNI")
}

fn place(number: u32, host: u32) -> Place {
    Place::new(vni(number), HostIndex::new(host).expect("a host's number"))
}

fn to(vni: u32, host: u32) -> Address {
    Address { vni, flow: 0, host }
}

type Attached = (Attachment<AttachId>, AttachId, Vec<AttachId>);

fn attach(
    switch: &Switch<AttachId>,
    number: u8,
    sequence: u64,
    networks: &[(Vni, u32)],
) -> Result<Attached, Superseded> {
    let places = networks.iter();
    let places: Vec<Place> = places
        .filter_map(|(vni, own)| Some(Place::new(*vni, HostIndex::new(*own)?)))
        .collect();
    let claim = Claim {
        device: device(number),
        sequence,
        epoch: 1,
        places: &places,
    };
    switch.attach(&claim, |id| id)
}

const NET: u32 = 0x1000;
const OTHER_NET: u32 = 0x1001;

#[test]
fn a_frame_reaches_a_member_with_the_senders_own_index() {
    let switch = Switch::new();
    let (a, ..) = attach(&switch, 1, 1, &[(vni(NET), 10)]).unwrap();
    let (_b, b, _) = attach(&switch, 2, 1, &[(vni(NET), 20)]).unwrap();
    let delivered = Verdict::Deliver {
        to: place(NET, 20),
        receiver: b,
        source: place(NET, 10).host,
    };
    assert_eq!(a.route(to(NET, 20)), delivered);
    assert_eq!(a.route(to(NET, 21)), Verdict::PeerGone(place(NET, 21)));
}

#[test]
fn a_vni_outside_the_ticket_leads_nowhere() {
    let switch = Switch::new();
    let (a, ..) = attach(&switch, 1, 1, &[(vni(NET), 10)]).unwrap();
    let (_b, ..) = attach(&switch, 2, 1, &[(vni(OTHER_NET), 20)]).unwrap();
    let foreign = Verdict::Drop(Misroute::ForeignNetwork);
    assert_eq!(a.route(to(OTHER_NET, 20)), foreign);
    assert_eq!(a.route(to(0, 20)), foreign);
    assert_eq!(a.route(to(0xFF_FFFF, 20)), foreign);
}

#[test]
fn nobody_reaches_himself_the_network_address_or_beyond_the_last_host() {
    let switch = Switch::new();
    let (a, ..) = attach(&switch, 1, 1, &[(vni(NET), 10)]).unwrap();
    for host in [10, 0, HostIndex::MAX.get() + 1, u32::MAX] {
        let verdict = a.route(to(NET, host));
        assert_eq!(verdict, Verdict::Drop(Misroute::NoSuchHost), "{host}");
    }
    let last = place(NET, HostIndex::MAX.get());
    assert_eq!(a.route(last.address()), Verdict::PeerGone(last));
}

#[test]
fn the_higher_sequence_stays_and_the_older_connection_can_send_no_more() {
    let switch = Switch::new();
    let (_b, ..) = attach(&switch, 2, 1, &[(vni(NET), 20)]).unwrap();
    let (old, old_id, _) = attach(&switch, 1, 5, &[(vni(NET), 10)]).unwrap();
    assert!(attach(&switch, 1, 5, &[(vni(NET), 10)]).is_err());
    assert!(attach(&switch, 1, 4, &[(vni(NET), 10)]).is_err());
    let (new, new_id, displaced) = attach(&switch, 1, 6, &[(vni(NET), 10)]).unwrap();
    assert_eq!(displaced, [old_id]);
    assert_eq!(old.route(to(NET, 20)), Verdict::Drop(Misroute::NotAttached));
    assert!(matches!(new.route(to(NET, 20)), Verdict::Deliver { .. }));
    // The late end of the older connection does not take the newer one's place away.
    assert!(!switch.detach(device(1), old_id));
    assert_eq!(switch.handles(), [new_id, AttachId(1)]);
}

#[test]
fn a_host_index_given_to_another_device_displaces_its_old_holder() {
    let switch = Switch::new();
    let (old, old_id, _) = attach(&switch, 1, 1, &[(vni(NET), 10)]).unwrap();
    let (_new, _, displaced) = attach(&switch, 2, 1, &[(vni(NET), 10)]).unwrap();
    assert_eq!(displaced, [old_id]);
    assert_eq!(old.route(to(NET, 20)), Verdict::Drop(Misroute::NotAttached));
    assert_eq!(switch.attached(), 1);
}

#[test]
fn revocation_takes_out_lower_epochs_only() {
    let switch = Switch::new();
    let (a, a_id, _) = attach(&switch, 1, 1, &[(vni(NET), 10)]).unwrap();
    let (b, ..) = attach(&switch, 2, 1, &[(vni(NET), 20)]).unwrap();
    assert!(switch.revoke(&[(device(1), 1)].into()).is_empty());
    assert_eq!(switch.revoke(&[(device(1), 2)].into()), [a_id]);
    assert_eq!(a.route(to(NET, 20)), Verdict::Drop(Misroute::NotAttached));
    assert_eq!(b.route(to(NET, 10)), Verdict::PeerGone(place(NET, 10)));
}

#[test]
fn the_last_member_takes_its_table_along() {
    let switch = Switch::new();
    let (_a, id, _) = attach(&switch, 1, 1, &[(vni(NET), 10), (vni(OTHER_NET), 1)]).unwrap();
    assert!(switch.detach(device(1), id));
    assert!(switch.state.lock().tables.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Attach {
        device: u8,
        sequence: u64,
        nets: Vec<(u32, u32)>,
    },
    Detach {
        pick: usize,
    },
    Revoke {
        device: u8,
    },
    Send {
        pick: usize,
        vni: u32,
        host: u32,
    },
}

/// VNIs of six tenants, and numbers that are nobody's.
fn any_vni() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 0x1000..0x1006u32, 1 => any::<u32>()]
}

fn any_host() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..6u32, 1 => any::<u32>()]
}

fn any_step() -> impl Strategy<Value = Step> {
    let nets = vec((0x1000..0x1006u32, 1..6u32), 0..4);
    let attach = (0..20u8, 0..8u64, nets).prop_map(|(device, sequence, nets)| Step::Attach {
        device,
        sequence,
        nets,
    });
    let send = (any::<usize>(), any_vni(), any_host());
    prop_oneof![
        3 => attach,
        1 => any::<usize>().prop_map(|pick| Step::Detach { pick }),
        1 => (0..20u8).prop_map(|device| Step::Revoke { device }),
        8 => send.prop_map(|(pick, vni, host)| Step::Send { pick, vni, host }),
    ]
}

/// A connection as the model knows it; `live` = neither detached, superseded, displaced nor
/// revoked.
struct Conn {
    device: u8,
    sequence: u64,
    nets: BTreeMap<u32, u32>,
    live: bool,
    id: AttachId,
    attachment: Attachment<AttachId>,
}

/// A switch, and the connections that it must agree with.
struct Model {
    switch: Switch<AttachId>,
    conns: Vec<Conn>,
}

impl Model {
    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Attach {
                device,
                sequence,
                nets,
            } => self.attach(device, sequence, nets),
            Step::Detach { pick } if !self.conns.is_empty() => {
                let at = pick % self.conns.len();
                let conn = &mut self.conns[at];
                let was_in = self.switch.detach(device(conn.device), conn.id);
                prop_assert_eq!(was_in, conn.live);
                conn.live = false;
                Ok(())
            }
            Step::Revoke { device } => {
                let gone = self.switch.revoke(&[(self::device(device), 2)].into());
                let mut expected = Vec::new();
                let live = self.conns.iter_mut().filter(|c| c.live);
                for conn in live.filter(|c| c.device == device) {
                    conn.live = false;
                    expected.push(conn.id);
                }
                prop_assert_eq!(gone, expected);
                Ok(())
            }
            Step::Send { pick, vni, host } if !self.conns.is_empty() => self.send(pick, vni, host),
            Step::Detach { .. } | Step::Send { .. } => Ok(()),
        }
    }

    fn attach(
        &mut self,
        device: u8,
        sequence: u64,
        nets: Vec<(u32, u32)>,
    ) -> Result<(), TestCaseError> {
        let claim: Vec<(Vni, u32)> = nets.iter().map(|(v, h)| (vni(*v), *h)).collect();
        let live = self.conns.iter().filter(|c| c.live);
        let own = live.filter(|c| c.device == device);
        let newest = own.map(|c| c.sequence).max();
        let attached = attach(&self.switch, device, sequence, &claim);
        let Ok((attachment, id, mut displaced)) = attached else {
            prop_assert!(newest.is_some_and(|newest| newest >= sequence));
            return Ok(());
        };
        prop_assert!(newest.is_none_or(|newest| newest < sequence));
        let mut own = BTreeMap::new();
        for (v, h) in nets {
            own.entry(v).or_insert(h);
        }
        let mut expected = Vec::new();
        for conn in self.conns.iter_mut().filter(|c| c.live) {
            let clash = own.iter().any(|(v, h)| conn.nets.get(v) == Some(h));
            if conn.device == device || clash {
                conn.live = false;
                expected.push(conn.id);
            }
        }
        displaced.sort();
        prop_assert_eq!(displaced, expected);
        self.conns.push(Conn {
            device,
            sequence,
            nets: own,
            live: true,
            id,
            attachment,
        });
        Ok(())
    }

    fn send(&self, pick: usize, vni: u32, host: u32) -> Result<(), TestCaseError> {
        let from = &self.conns[pick % self.conns.len()];
        let live = self.conns.iter().filter(|c| c.live);
        let receivers: Vec<&Conn> = live.filter(|c| c.nets.get(&vni) == Some(&host)).collect();
        prop_assert!(
            receivers.len() <= 1,
            "the model has one holder of each place"
        );
        let own = from.nets.get(&vni);
        match from.attachment.route(to(vni, host)) {
            Verdict::Deliver {
                to,
                receiver,
                source,
            } => {
                prop_assert!(from.live);
                prop_assert_eq!((to.vni, to.host.get()), (vni, host));
                prop_assert_eq!(Some(&source.get()), own);
                prop_assert_eq!(receiver, receivers[0].id);
                prop_assert_ne!(receiver, from.id);
            }
            Verdict::PeerGone(to) => {
                prop_assert!(from.live && receivers.is_empty());
                prop_assert_eq!((to.vni, to.host.get()), (vni, host));
            }
            Verdict::Drop(Misroute::ForeignNetwork) => prop_assert!(own.is_none()),
            Verdict::Drop(Misroute::NotAttached) => prop_assert!(!from.live),
            Verdict::Drop(Misroute::NoSuchHost) => {
                prop_assert!(HostIndex::new(host).is_none() || own == Some(&host));
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(512)
    })]

    /// Against a model without tables: every delivery stays in one network that both ends are live
    /// in, carries the sender's own index, and goes to the one holder of the destination.
    #[test]
    fn tenants_stay_apart_whatever_happens(steps in vec(any_step(), 1..120)) {
        let mut model = Model { switch: Switch::new(), conns: Vec::new() };
        for step in steps {
            model.take(step)?;
        }
    }
}
