use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn device(number: u8) -> DeviceId {
    DeviceId([number; 16])
}

fn vni(number: u32) -> Vni {
    Vni::new(number).expect("not a reserved VNI")
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
    let claim = Claim {
        device: device(number),
        sequence,
        epoch: 1,
        networks,
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
        receiver: b,
        source: 10,
    };
    assert_eq!(a.route(to(NET, 20)), delivered);
    assert_eq!(a.route(to(NET, 21)), Verdict::PeerGone);
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
    for host in [10, 0, address::HOST_MAX + 1, u32::MAX] {
        let verdict = a.route(to(NET, host));
        assert_eq!(verdict, Verdict::Drop(Misroute::NoSuchHost), "{host}");
    }
    assert_eq!(a.route(to(NET, address::HOST_MAX)), Verdict::PeerGone);
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
    assert_eq!(b.route(to(NET, 10)), Verdict::PeerGone);
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
    prop_oneof![
        3 => (0..20u8, 0..8u64, nets).prop_map(|(device, sequence, nets)| Step::Attach { device, sequence, nets }),
        1 => any::<usize>().prop_map(|pick| Step::Detach { pick }),
        1 => (0..20u8).prop_map(|device| Step::Revoke { device }),
        8 => (any::<usize>(), any_vni(), any_host()).prop_map(|(pick, vni, host)| Step::Send { pick, vni, host }),
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    /// Against a model without tables: every delivery stays in one network that both ends are live
    /// in, carries the sender's own index, and goes to the one holder of the destination.
    #[test]
    fn tenants_stay_apart_whatever_happens(steps in vec(any_step(), 1..120)) {
        let switch = Switch::new();
        let mut conns: Vec<Conn> = Vec::new();
        for step in steps {
            match step {
                Step::Attach { device, sequence, nets } => {
                    let claim: Vec<(Vni, u32)> = nets.iter().map(|(v, h)| (vni(*v), *h)).collect();
                    let newest = conns.iter().filter(|c| c.live && c.device == device).map(|c| c.sequence).max();
                    match attach(&switch, device, sequence, &claim) {
                        Err(Superseded) => prop_assert!(newest.is_some_and(|newest| newest >= sequence)),
                        Ok((attachment, id, mut displaced)) => {
                            prop_assert!(newest.is_none_or(|newest| newest < sequence));
                            let mut own = BTreeMap::new();
                            for (v, h) in nets {
                                own.entry(v).or_insert(h);
                            }
                            let mut expected = Vec::new();
                            for conn in conns.iter_mut().filter(|c| c.live) {
                                let clash = own.iter().any(|(v, h)| conn.nets.get(v) == Some(h));
                                if conn.device == device || clash {
                                    conn.live = false;
                                    expected.push(conn.id);
                                }
                            }
                            displaced.sort();
                            prop_assert_eq!(displaced, expected);
                            conns.push(Conn { device, sequence, nets: own, live: true, id, attachment });
                        }
                    }
                }
                Step::Detach { pick } if !conns.is_empty() => {
                    let at = pick % conns.len();
                    let conn = &mut conns[at];
                    prop_assert_eq!(switch.detach(self::device(conn.device), conn.id), conn.live);
                    conn.live = false;
                }
                Step::Revoke { device } => {
                    let gone = switch.revoke(&[(self::device(device), 2)].into());
                    let mut expected = Vec::new();
                    for conn in conns.iter_mut().filter(|c| c.live && c.device == device) {
                        conn.live = false;
                        expected.push(conn.id);
                    }
                    prop_assert_eq!(gone, expected);
                }
                Step::Send { pick, vni, host } if !conns.is_empty() => {
                    let from = &conns[pick % conns.len()];
                    let receivers: Vec<&Conn> =
                        conns.iter().filter(|c| c.live && c.nets.get(&vni) == Some(&host)).collect();
                    prop_assert!(receivers.len() <= 1, "the model has one holder per place");
                    match from.attachment.route(to(vni, host)) {
                        Verdict::Deliver { receiver, source } => {
                            prop_assert!(from.live);
                            prop_assert_eq!(Some(&source), from.nets.get(&vni));
                            prop_assert_eq!(receiver, receivers[0].id);
                            prop_assert_ne!(receiver, from.id);
                        }
                        Verdict::PeerGone => prop_assert!(from.live && receivers.is_empty()),
                        Verdict::Drop(Misroute::ForeignNetwork) => prop_assert!(!from.nets.contains_key(&vni)),
                        Verdict::Drop(Misroute::NotAttached) => prop_assert!(!from.live),
                        Verdict::Drop(Misroute::NoSuchHost) => {
                            prop_assert!(!address::is_host(host) || from.nets.get(&vni) == Some(&host));
                        }
                    }
                }
                Step::Detach { .. } | Step::Send { .. } => {}
            }
        }
    }
}
