//! A relay that has forwarded for a while takes no more memory for what it forwards.

use overlan_protocol::HostIndex;
use overlan_protocol::frame::{Address, Frame, Vni};
use overlan_protocol::key::{DeviceId, IdentitySecret};
use std::time::Duration;

use super::*;

const NET: u32 = 0x1000;
const WALL: u64 = 1_700_000_000;

fn attach(relay: &Forwarder, host: u8, now: Instant) -> Forwarding {
    let ticket = Ticket {
        device: DeviceId([host; 16]),
        identity: IdentitySecret::from_seed([host; 32]).public(),
        networks: vec![(Vni::new(NET).unwrap(), HostIndex::new(host.into()).unwrap())],
        epoch: 1,
        not_before: UnixTime::from_secs(WALL - 10),
        expires: UnixTime::from_secs(WALL + 86_400),
    };
    relay
        .attach(ticket, 1, now, UnixTime::from_secs(WALL))
        .ok()
        .unwrap()
}

/// `count` frames of `len` bytes for `host`, each of another of `flows` flows.
fn frames(host: u32, flows: u8, count: usize, len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for at in 0..count {
        let address = Address {
            vni: NET,
            flow: (at % usize::from(flows)) as u8,
            host,
        };
        let message = &vec![0x5a; len];
        Frame::Data { address, message }.encode(&mut bytes);
    }
    bytes
}

#[test]
fn forwarding_does_not_allocate() {
    let relay = Forwarder::new(RelayId([1; 16]));
    let mut now = overlan_transport::clock::now();
    let (mut one, mut two) = (attach(&relay, 1, now), attach(&relay, 2, now));
    let (mut to_one, mut to_two) = (Batch::new(), Batch::new());
    // Three flows' data in one direction, small acknowledgements in the other, and a batch of a
    // single one now and then.
    let data = [frames(2, 3, 6, 16_000), frames(2, 1, 1, 16_000)];
    let acks = [frames(1, 3, 6, 90), frames(1, 1, 1, 90)];
    let mut counted = 0;
    for round in 0..400 {
        now += Duration::from_micros(500);
        let (mut down, mut up) = (data[round % 2].clone(), acks[round % 2].clone());
        let (mut given_one, mut given_two) = (0, 0);
        let taken = allocation_counter::measure(|| {
            one.handle_bytes(now, &mut down).ok().unwrap();
            one.handle_batch_end(now).ok().unwrap();
            two.handle_bytes(now, &mut up).ok().unwrap();
            two.handle_batch_end(now).ok().unwrap();
            two.fill(now, Waker::noop(), &mut to_two).ok().unwrap();
            one.fill(now, Waker::noop(), &mut to_one).ok().unwrap();
            (given_one, given_two) = (to_one.len(), to_two.len());
        });
        assert!(given_two >= down.len(), "data goes on");
        assert!(given_one >= up.len(), "acknowledgements go on");
        // What a socket would take.
        to_one.take_bytes();
        to_two.take_bytes();
        if round >= 100 {
            counted += taken.count_total;
        }
    }
    // A window that grows may take a node of a tree now and then; a thousand frames and more may
    // not.
    assert!(counted <= 10, "{counted} allocations for 2,100 frames");
}
