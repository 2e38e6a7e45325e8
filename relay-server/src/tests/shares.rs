//! What members of one network can take from others of the same relay: nothing that those need.

use std::time::Duration;

use overlan_protocol::frame::{Address, DATA_HEADER_LEN, Frame};
use tokio::task::JoinSet;

use super::*;

/// `bytes` of DATA frames with `message`, each of another flow than the one before, so that none is
/// joined with its neighbour.
fn frames(vni: u32, host: u32, message: &[u8], bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut flow = 0_u8;
    while out.len() + DATA_HEADER_LEN + message.len() <= bytes {
        flow = flow.wrapping_add(1);
        let address = Address { vni, flow, host };
        Frame::Data { address, message }.encode(&mut out);
    }
    out
}

/// Attaches `devices` members of `vni`, none of which reads, and lets each send as much as it needs
/// to each other. They ask for answers all the time, since who is silent is left.
async fn flood(relay: &Running, vni: u32, devices: u32) -> JoinSet<()> {
    let mut senders = JoinSet::new();
    for own in 1..=devices {
        let mut wire = relay.attach(&Device::new(&[(vni, own)]), 1).await;
        let socket = wire.stream.get_ref().0.socket();
        socket2::SockRef::from(socket)
            .set_recv_buffer_size(16 * 1024)
            .unwrap();
        senders.spawn(async move {
            for host in (1..=devices).filter(|host| *host != own) {
                let message = [0; 15_000];
                wire.send_bytes(&frames(vni, host, &message, KERNEL)).await;
                // The smallest there are: they cost most for their credit.
                wire.send_bytes(&frames(vni, host, &[], EACH)).await;
            }
            let mut ping = Vec::new();
            Frame::Ping { token: 1 }.encode(&mut ping);
            // Until it is left for taking nothing.
            while wire.stream.write_all(&ping).await.is_ok() && wire.stream.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
    }
    senders
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
    let relay = Running::start(Settings {
        queued_max: FULL,
        window: 2 * KERNEL as u32,
        ..short()
    })
    .await;
    let _senders = flood(&relay, NET, 5).await;
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

/// A part of the usual memory: who reads nothing is cut off after some seconds, and until then it
/// must be full on a busy machine, too.
const FULL: usize = 32 << 20;

/// What one device sends to one other, bytes, before what counts: four times that is more than the
/// system keeps for who does not read.
const KERNEL: usize = 1 << 20;

/// What one device sends to one other then, bytes. At 640 bytes of memory for a frame of 12, twenty
/// such pairs need [`FULL`] four times over.
const EACH: usize = 128 << 10;
