//! Connections without sockets, in virtual time, on a relay with a 256th of the memory: one network
//! may use all of it, and other networks do not notice.

use overlan_protocol::HostIndex;
use overlan_protocol::api::RelayOrders;
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{DeviceId, IdentitySecret, RelayId};
use overlan_protocol::ticket::{Ticket, TicketKeys};
use proptest::collection::vec;
use proptest::prelude::*;

use overlan_transport::clock;

use super::*;
use crate::hub::Settings;
use crate::memory::QUEUED_MAX;

const WALL: u64 = 1_700_000_000;

/// The network of the honest pair alone.
const QUIET: u32 = 0x2000;

/// The first of the loud networks.
const LOUD: u32 = 0x3000;

fn orders() -> RelayOrders {
    RelayOrders {
        version: 1,
        lineage: None,
        ticket_keys: TicketKeys::new(),
        revoked: Vec::new(),
        holders: Vec::new(),
        cas: Vec::new(),
    }
}

struct Relay {
    hub: Arc<Hub>,
    now: Instant,
    sequence: u64,
}

impl Relay {
    fn new() -> Self {
        let settings = Settings {
            queued_max: QUEUED_MAX / 256,
            window: 128 * 1024,
            ..Settings::default()
        };
        Self {
            hub: Hub::new(RelayId([1; 16]), settings, orders()),
            now: clock::now(),
            sequence: 0,
        }
    }

    /// Attaches the device that is host `host` in each of `networks`; an older connection of it
    /// loses its place.
    fn attach(&mut self, networks: &[u32], host: u32) -> Conn {
        self.sequence += 1;
        let mut device = [0; 16];
        device[..4].copy_from_slice(&networks[0].to_be_bytes());
        device[4..8].copy_from_slice(&host.to_be_bytes());
        let ticket = Ticket {
            device: DeviceId(device),
            identity: IdentitySecret::from_seed([1; 32]).public(),
            networks: networks
                .iter()
                .map(|vni| (Vni::new(*vni).unwrap(), HostIndex::new(host).unwrap()))
                .collect(),
            epoch: 1,
            not_before: UnixTime::from_secs(WALL - 10),
            expires: UnixTime::from_secs(WALL + 86_400),
        };
        let admitted = Admitted {
            ticket,
            sequence: self.sequence,
            version: 1,
        };
        let conn = Conn::attach(
            self.hub.clone(),
            admitted,
            self.now,
            UnixTime::from_secs(WALL),
        );
        conn.unwrap_or_else(|reject| panic!("{reject:?}"))
    }

    /// Returns the DATA frames that `conn`'s socket takes at this time.
    fn read(&self, conn: &mut Conn) -> Vec<(u32, Vec<u8>)> {
        let mut batch = Batch::new();
        conn.fill(self.now, Waker::noop(), &mut batch).ok().unwrap();
        let bytes = batch.take_bytes();
        // By now it is written.
        let mut data = Vec::new();
        let mut rest = &bytes[..];
        while let Some((frame, length)) = frame::decode(rest, frame::BODY_MAX).unwrap() {
            rest = &rest[length..];
            if let Frame::Data { address, message } = frame {
                data.push((address.vni, message.to_vec()));
            }
        }
        data
    }

    fn send(&self, conn: &mut Conn, frames: &[u8]) {
        conn.handle_bytes(self.now, &mut frames.to_vec())
            .ok()
            .unwrap();
        conn.handle_batch_end(self.now).ok().unwrap();
    }
}

/// `count` frames of `len` bytes, each of another flow than the one before.
fn frames(vni: u32, host: u32, count: usize, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        let flow = number as u8;
        let message = &vec![flow; len];
        let address = Address { vni, flow, host };
        Frame::Data { address, message }.encode(&mut bytes);
    }
    bytes
}

/// The next act of a device of a loud network.
#[derive(Debug, Clone)]
enum Act {
    /// A host of a network sends to a host so many frames of such a length.
    Send(u32, u32, u32, usize, usize),
    /// A host comes back over a new connection.
    Return(u32, u32),
    /// A host reads a little.
    Read(u32, u32),
}

const HOSTS: u32 = 6;

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let networks = 0..5_u32;
    let hosts = || 1..=HOSTS;
    // Host 7 is one of the honest pair, attacked itself.
    let lengths = prop_oneof![Just(0_usize), 0..100_usize, 1_000..60_000_usize];
    let send = (
        networks.clone(),
        hosts(),
        1..=HOSTS + 1,
        1..3_000_usize,
        lengths,
    )
        .prop_map(|(net, from, to, count, length)| {
            let count = count.min(200_000 / (length + 12) + 1);
            Act::Send(net, from, to, count, length)
        });
    let back = (networks.clone(), hosts()).prop_map(|(net, host)| Act::Return(net, host));
    let read = (networks, hosts()).prop_map(|(net, host)| Act::Read(net, host));
    vec(prop_oneof![12 => send, 2 => back, 1 => read], 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the devices of five networks send, and though none of them reads much, all frames
    /// between two devices of another network arrive, also where one of the two is a member of a
    /// loud network, too.
    #[test]
    fn whatever_networks_do_frames_of_another_arrive(acts in acts()) {
        let mut relay = Relay::new();
        let mut conns = std::collections::BTreeMap::new();
        for net in 0..5 {
            for host in 1..=HOSTS {
                conns.insert((net, host), relay.attach(&[LOUD + net], host));
            }
        }
        let mut a = relay.attach(&[QUIET], 1);
        let mut b = relay.attach(&[QUIET, LOUD, LOUD + 1], HOSTS + 1);
        for act in acts {
            relay.now += Duration::from_millis(1);
            match act {
                Act::Send(net, from, to, count, length) if from != to => {
                    let frames = frames(LOUD + net, to, count, length);
                    relay.send(conns.get_mut(&(net, from)).unwrap(), &frames);
                }
                Act::Send(..) => {}
                Act::Return(net, host) => {
                    let newer = relay.attach(&[LOUD + net], host);
                    conns.insert((net, host), newer);
                }
                Act::Read(net, host) => {
                    relay.read(conns.get_mut(&(net, host)).unwrap());
                }
            }
            prop_assert!(relay.hub.memory.queued() <= QUEUED_MAX / 256);
        }
        relay.send(&mut a, &frames(QUIET, HOSTS + 1, 10, 1_000));
        let mut arrived = 0;
        for _ in 0..16 {
            let read = relay.read(&mut b);
            arrived += read.iter().filter(|(vni, _)| *vni == QUIET).count();
        }
        prop_assert_eq!(arrived, 10);
        // All sums end where they began.
        drop((a, b, conns));
        prop_assert_eq!(relay.hub.memory.queued(), 0);
        prop_assert_eq!(relay.hub.memory.grown(), 0);
    }
}

/// Returns the kinds of frames that `conn` gets in the next `seconds` of virtual time while it
/// sends nothing, and the end of its connection if that comes before.
fn hear(relay: &mut Relay, conn: &mut Conn, seconds: u64) -> (Vec<u8>, Option<(Duration, Reject)>) {
    let (began, mut heard) = (relay.now, Vec::new());
    let until = began + Duration::from_secs(seconds);
    while let Some(at) = conn.poll_timeout().filter(|at| *at <= until) {
        relay.now = at.max(relay.now);
        if let Err(end) = conn.handle_timeout(relay.now) {
            return (heard, Some((relay.now - began, end)));
        }
        let mut batch = Batch::new();
        conn.fill(relay.now, Waker::noop(), &mut batch)
            .ok()
            .unwrap();
        let bytes = batch.take_bytes();
        let mut rest = &bytes[..];
        while let Some((frame, length)) = frame::decode(rest, frame::BODY_MAX).unwrap() {
            rest = &rest[length..];
            let kinds = [
                (matches!(frame, Frame::Ping { .. }), frame::kind::PING),
                (
                    matches!(frame, Frame::PeerGone { .. }),
                    frame::kind::PEER_GONE,
                ),
                (matches!(frame, Frame::Data { .. }), frame::kind::DATA),
            ];
            heard.extend(kinds.iter().filter(|(is, _)| *is).map(|(_, kind)| *kind));
        }
    }
    (heard, None)
}

/// A direction that died is seen by nobody who only receives, and by the relay only if it asks. Few
/// bytes never fill a socket.
#[test]
fn who_is_in_a_conversation_and_says_nothing_is_left_in_four_seconds_and_the_others_hear_of_it() {
    let packet = frames(QUIET, 2, 1, 200);
    let answer = frames(QUIET, 1, 1, 200);
    // The one that is sent to goes silent, or the one that sent last.
    for (silent, other) in [(1, 0), (0, 1)] {
        let mut relay = Relay::new();
        let mut conns = [relay.attach(&[QUIET], 1), relay.attach(&[QUIET], 2)];
        relay.send(&mut conns[1], &answer);
        relay.send(&mut conns[0], &packet);
        for conn in &mut conns {
            assert_eq!(relay.read(conn).len(), 1);
            relay.read(conn);
        }
        let (heard, ended) = hear(&mut relay, &mut conns[silent], 60);
        assert_eq!(heard, [frame::kind::PING]);
        let (after, end) = ended.expect("it ends");
        assert_eq!(after, Duration::from_secs(4));
        assert_eq!(end.code, RejectCode::Silent);
        let [near, far] = conns;
        let (gone, mut left) = if silent == 1 {
            (far, near)
        } else {
            (near, far)
        };
        drop(gone);
        let mut batch = Batch::new();
        left.fill(relay.now, Waker::noop(), &mut batch)
            .ok()
            .unwrap();
        let notices = batch.take_bytes();
        let (frame, _) = frame::decode(&notices, frame::BODY_MAX).unwrap().unwrap();
        let host = 1 + silent as u32;
        assert!(
            matches!(frame, Frame::PeerGone { address, .. } if address.host == host),
            "{other}: {frame:?}"
        );
    }
}

#[test]
fn who_carries_nothing_is_asked_after_three_keepalives_and_notes_are_no_conversation() {
    let mut relay = Relay::new();
    let mut idle = relay.attach(&[QUIET], 1);
    let mut other = relay.attach(&[QUIET], 2);
    relay.read(&mut idle);
    relay.read(&mut other);
    // The size of a question between two clients.
    relay.send(&mut idle, &frames(QUIET, 2, 1, 34));
    let (heard, ended) = hear(&mut relay, &mut idle, 60);
    assert_eq!(heard, [frame::kind::PING]);
    assert_eq!(ended.map(|(after, _)| after), Some(Duration::from_secs(47)));
}

#[test]
fn a_receiver_that_is_slow_is_not_silent_while_its_socket_takes_something() {
    let mut relay = Relay::new();
    let mut slow = relay.attach(&[QUIET], 1);
    let mut source = relay.attach(&[QUIET], 2);
    relay.read(&mut slow);
    relay.send(&mut source, &frames(QUIET, 1, 4, 16_000));
    relay.read(&mut slow);
    for _ in 0..20 {
        relay.now += Duration::from_secs(3);
        slow.handle_relieved(relay.now);
        slow.handle_timeout(relay.now).ok().unwrap();
    }
}

#[test]
fn a_receiver_that_drips_loses_its_queue_and_its_sources_hear_of_it() {
    let mut relay = Relay::new();
    let settings = Settings {
        window: 512 * 1024,
        ..Settings::default()
    };
    relay.hub = Hub::new(RelayId([1; 16]), settings, orders());
    let mut drips = relay.attach(&[QUIET], 9);
    let mut sources: Vec<Conn> = (1..=4).map(|host| relay.attach(&[QUIET], host)).collect();
    for source in &mut sources {
        relay.send(source, &frames(QUIET, 9, 32, 16_000));
    }
    let queued = relay.hub.memory.queued();
    assert!(queued > 2_000_000, "{queued}");
    for _ in 0..=60 {
        relay.now += Duration::from_millis(500);
        drips.handle_timeout(relay.now).ok().unwrap();
    }
    assert_eq!(relay.hub.memory.queued(), 0);
    let dropped = relay.hub.metrics.dropped(Dropped::ReceiverSlow);
    assert_eq!(dropped, 4 * 32);
    for source in &mut sources {
        let held = source.client.account(QUIET).unwrap();
        assert!(held.charge(0), "nothing is held for it any longer");
        let mut batch = Batch::new();
        source
            .fill(relay.now, Waker::noop(), &mut batch)
            .ok()
            .unwrap();
        let bytes = batch.take_bytes();
        assert!(bytes.contains(&frame::kind::CREDIT));
    }
}
