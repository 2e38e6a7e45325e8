//! What members of one network can take from others of the same relay: nothing that those need.

use std::time::Duration;

use overlan_protocol::frame::{DATA_HEADER_LEN, Frame, Route};
use tokio::task::JoinSet;

use super::lab::Wire;
use super::*;

/// The smallest frames there are, each of another flow than the one before, so that none is joined with its neighbour: they cost
/// most for their credit.
fn smallest_frames(vni: u32, host: u32, bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut flow = 0_u8;
    while out.len() + DATA_HEADER_LEN <= bytes {
        flow = flow.wrapping_add(1);
        let route = Route { vni, flow, host };
        let message = &[];
        Frame::Data { route, message }.encode(&mut out);
    }
    out
}

/// Attaches `devices` members of `vni`, none of which reads, and lets each send all of its credit to each other.
async fn flood(relay: &Running, vni: u32, devices: u32) -> Vec<Wire> {
    let mut senders = JoinSet::new();
    for own in 1..=devices {
        let wire = relay.attach(&Device::new(&[(vni, own)]), 1).await;
        let socket = wire.stream.get_ref().0.socket();
        socket2::SockRef::from(socket)
            .set_recv_buffer_size(16 * 1024)
            .unwrap();
        senders.spawn(async move {
            let mut wire = wire;
            for host in (1..=devices).filter(|host| *host != own) {
                let frames = smallest_frames(vni, host, DEFAULT_WINDOW as usize);
                wire.send_bytes(&frames).await;
            }
            wire
        });
    }
    let mut wires = senders.join_all().await;
    for wire in &mut wires {
        wire.send(Frame::Ping { token: 1 }).await;
    }
    wires
}

/// How many of ten frames from one device of `vni` to another arrive.
async fn arrive(relay: &Running, vni: u32) -> usize {
    let (a, b) = (Device::new(&[(vni, 1)]), Device::new(&[(vni, 2)]));
    let mut wire_a = relay.attach(&a, 1).await;
    let mut wire_b = relay.attach(&b, 1).await;
    for number in 0..10 {
        wire_a.data(vni, 2, &[number; 1_000]).await;
    }
    wire_a.sync(7).await;
    let heard = wire_b.sync(7).await;
    let frames = heard.iter().filter(|it| matches!(it, Heard::Data(..)));
    frames.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_devices_of_one_network_silence_nobody_in_another() {
    // An eighth of the usual, which five devices fill many times over.
    let relay = Running::start(Settings {
        queued_max: 64 << 20,
        ..short()
    })
    .await;
    let _wires = flood(&relay, NET, 5).await;
    let full = async {
        while relay.hub.metrics.dropped(Dropped::RelayFull) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), full)
        .await
        .expect("they fill the memory");
    assert_eq!(arrive(&relay, OTHER_NET).await, 10);
    relay.stop().await;
}
