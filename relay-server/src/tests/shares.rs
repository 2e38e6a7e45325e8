//! The relay's memory full of one network's frames: a pair of devices in another network loses
//! none of its own.

use overlan_protocol::PROTOCOL_VERSION;
use overlan_protocol::exchange::Exchange;
use overlan_protocol::frame::{Address, DATA_HEADER_LEN, Frame};

use super::lab::{Device, Heard};
use super::*;
use crate::admit::Admitted;
use crate::conn::Conn;
use crate::metrics::Dropped;

/// Returns `bytes` of DATA frames without content, each of another flow than the one before, so
/// that none is joined with its neighbour. They cost most for their credit.
fn frames(vni: u32, host: u32, bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut flow = 0_u8;
    while out.len() + DATA_HEADER_LEN <= bytes {
        flow = flow.wrapping_add(1);
        let address = Address { vni, flow, host };
        let message = &[];
        Frame::Data { address, message }.encode(&mut out);
    }
    out
}

/// Attaches `devices` members of `vni`, whose sockets take nothing, and lets each send [`EACH`] to
/// each other. They have no sockets, so that the memory is full when this returns.
fn flood(relay: &Running, vni: u32, devices: u32) -> Vec<Conn> {
    let (now, wall) = (clock::now(), clock::wall());
    let attach = |host| {
        let device = Device::new(&[(vni, host)]);
        let admitted = Admitted {
            ticket: relay.lab.ticket(&device, wall),
            sequence: 1,
            version: PROTOCOL_VERSION,
        };
        let conn = Conn::attach(relay.hub.clone(), admitted, now, wall);
        conn.unwrap_or_else(|reject| panic!("{reject:?}"))
    };
    let mut conns: Vec<Conn> = (1..=devices).map(attach).collect();
    for (own, conn) in (1..).zip(&mut conns) {
        for host in (1..=devices).filter(|host| *host != own) {
            let sent = conn.handle_bytes(now, &mut frames(vni, host, EACH));
            let sent = sent.and_then(|_| conn.handle_batch_end(now));
            sent.unwrap_or_else(|reject| panic!("{reject:?}"));
        }
    }
    conns
}

/// Returns the number of frames, out of ten, that arrive from one device of `vni` at another.
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

#[tokio::test]
async fn five_devices_of_one_network_silence_nobody_in_another() {
    let relay = Running::start(Settings {
        queued_max: FULL,
        ..short()
    })
    .await;
    let loud = flood(&relay, NET, 5);
    assert_ne!(relay.hub.metrics.dropped(Dropped::RelayFull), 0);
    assert!(relay.hub.gauges().queued_bytes > FULL / 2);
    assert_eq!(arrive(&relay, OTHER_NET).await, 10);
    drop(loud);
    relay.stop().await;
}

/// A part of the usual memory, so that five devices fill it.
const FULL: usize = 32 << 20;

/// Bytes that one device sends to one other. At 640 bytes of memory for a frame of 12, twenty such
/// pairs need [`FULL`] four times over.
const EACH: usize = 128 << 10;
