//! Frames between attached clients: who gets them, who loses them, and which credit comes back.

use overlan_protocol::credit::{DEFAULT_WINDOW, SendCredit};
use overlan_protocol::frame::{Address, DATA_HEADER_LEN, GoneReason};

use super::lab::{Device, Heard};
use super::*;
use crate::metrics::Dropped;

#[tokio::test]
async fn two_clients_exchange_data_and_the_relay_stamps_the_source() {
    let relay = Running::start(short()).await;
    let (a, b) = (Device::new(&[(NET, 1)]), Device::new(&[(NET, 2)]));
    let mut wire_a = relay.attach(&a, 1).await;
    let mut wire_b = relay.attach(&b, 1).await;
    wire_a.data(NET, 2, b"sealed for b").await;
    let address = Address {
        vni: NET,
        flow: 7,
        host: 1,
    };
    assert_eq!(
        wire_b.hear().await,
        Heard::Data(address, b"sealed for b".to_vec())
    );
    wire_b.data(NET, 1, b"sealed for a").await;
    let address = Address { host: 2, ..address };
    assert_eq!(
        wire_a.hear().await,
        Heard::Data(address, b"sealed for a".to_vec())
    );
    relay.stop().await;
}

#[tokio::test]
async fn credit_comes_back_as_the_receiver_is_written_to() {
    let relay = Running::start(Settings {
        window: 8_000,
        ..short()
    })
    .await;
    let (a, b) = (Device::new(&[(NET, 1)]), Device::new(&[(NET, 2)]));
    let mut wire_a = relay.attach(&a, 1).await;
    let mut wire_b = relay.attach(&b, 1).await;
    let mut sent = 0;
    for _ in 0..3 {
        wire_a.data(NET, 2, &[1; 1_000]).await;
        sent += 1_000 + DATA_HEADER_LEN as u64;
        assert!(matches!(wire_b.hear().await, Heard::Data(..)));
    }
    let Heard::Credit(address, released, window) = wire_a.hear().await else {
        panic!("no CREDIT");
    };
    let about_b = Address {
        vni: NET,
        flow: 0,
        host: 2,
    };
    assert_eq!((address, window), (about_b, 8_000));
    assert!(released >= 2_000 && released <= sent, "{released}");
    relay.stop().await;
}

#[tokio::test]
async fn who_is_not_here_is_gone_and_his_bytes_are_released() {
    let relay = Running::start(Settings {
        window: 4_000,
        ..short()
    })
    .await;
    let (a, b) = (Device::new(&[(NET, 1)]), Device::new(&[(NET, 2)]));
    let mut wire = relay.attach(&a, 1).await;
    let about_b = Address {
        vni: NET,
        flow: 0,
        host: 2,
    };
    wire.data(NET, 2, &[0; 2_000]).await;
    let heard = wire.sync(1).await;
    let gone = Heard::Gone(about_b, GoneReason::NotHere);
    let released = 2_000 + DATA_HEADER_LEN as u64;
    assert_eq!(heard, [Heard::Credit(about_b, released, 4_000), gone]);
    // The same once he was here and left.
    let wire_b = relay.attach(&b, 1).await;
    drop(wire_b);
    while relay.hub.switch.attached() > 1 {
        tokio::task::yield_now().await;
    }
    wire.data(NET, 2, &[0; 10]).await;
    let gone = Heard::Gone(about_b, GoneReason::NotHere);
    assert_eq!(wire.sync(2).await, [gone]);
    relay.stop().await;
}

#[tokio::test]
async fn frames_for_other_networks_and_for_no_host_are_dropped_and_counted() {
    let relay = Running::start(short()).await;
    let (a, b) = (Device::new(&[(NET, 1)]), Device::new(&[(OTHER_NET, 2)]));
    let mut wire_a = relay.attach(&a, 1).await;
    let mut wire_b = relay.attach(&b, 1).await;
    wire_a.data(OTHER_NET, 2, b"across the border").await;
    for host in [0, 1, 4_194_303, u32::MAX] {
        wire_a.data(NET, host, b"to nobody").await;
    }
    assert_eq!(wire_a.sync(1).await, []);
    assert_eq!(wire_b.sync(1).await, []);
    let metrics = &relay.hub.metrics;
    assert_eq!(metrics.dropped(Dropped::ForeignNetwork), 1);
    assert_eq!(metrics.dropped(Dropped::NoSuchHost), 4);
    relay.stop().await;
}

/// With a small receive buffer the relay's writes end in every possible place, also between a frame
/// and its flush.
#[tokio::test]
async fn bulk_to_a_receiver_with_a_small_buffer_never_stalls() {
    let relay = Running::start(short()).await;
    let (a, b) = (Device::new(&[(NET, 1)]), Device::new(&[(NET, 2)]));
    let mut wire_a = relay.attach(&a, 1).await;
    let mut wire_b = relay.attach(&b, 1).await;
    socket2::SockRef::from(wire_b.stream.get_ref().0.socket())
        .set_recv_buffer_size(128 * 1024)
        .unwrap();
    let frames = 2_000;
    let sending = async {
        let mut credit = SendCredit::new(DEFAULT_WINDOW);
        for number in 0..frames {
            while !credit.may_send() {
                let Heard::Credit(_, released, window) = wire_a.hear().await else {
                    panic!("not CREDIT");
                };
                credit.handle_credit(released, window).unwrap();
            }
            let message = vec![0; 1 + number * 37 % 9_000];
            credit.handle_sent(DATA_HEADER_LEN + message.len());
            wire_a.data(NET, 2, &message).await;
        }
    };
    let receiving = async {
        for number in 0..frames {
            let Heard::Data(_, message) = wire_b.hear().await else {
                panic!("not DATA");
            };
            assert_eq!(message.len(), 1 + number * 37 % 9_000);
        }
    };
    tokio::join!(sending, receiving);
    relay.stop().await;
}

#[tokio::test]
async fn a_source_that_ignores_its_credit_loses_frames_and_nobody_else_does() {
    let relay = Running::start(Settings {
        window: 64 * 1024,
        ..short()
    })
    .await;
    let [a, b, c] = [1, 2, 3].map(|host| Device::new(&[(NET, host)]));
    let mut wire_a = relay.attach(&a, 1).await;
    // Attached and never reading.
    let _wire_b = relay.attach(&b, 1).await;
    let mut wire_c = relay.attach(&c, 1).await;
    // More than window, TLS and sockets can hold for somebody who does not read.
    for _ in 0..1_000 {
        wire_a.data(NET, 2, &[0; 16_000]).await;
    }
    assert!(relay.hub.metrics.dropped(Dropped::Overrun) > 0);
    assert!(relay.hub.gauges().queued_bytes < 200_000);
    wire_a.data(NET, 3, b"still quick").await;
    assert!(matches!(wire_c.hear().await, Heard::Data(_, message) if message == b"still quick"));
    relay.stop().await;
}

#[tokio::test]
async fn a_receiver_that_does_not_read_stalls_no_other_pair() {
    let relay = Running::start(short()).await;
    let [a, slow, quick] = [1, 2, 3].map(|host| Device::new(&[(NET, host)]));
    let mut wire_a = relay.attach(&a, 1).await;
    let _wire_slow = relay.attach(&slow, 1).await;
    let mut wire_quick = relay.attach(&quick, 1).await;
    for round in 0..200_u64 {
        wire_a.data(NET, 2, &[0; 16_000]).await;
        wire_a.data(NET, 3, &round.to_be_bytes()).await;
        let Heard::Data(_, message) = wire_quick.hear().await else {
            panic!("not DATA");
        };
        assert_eq!(message, round.to_be_bytes());
    }
    relay.stop().await;
}
