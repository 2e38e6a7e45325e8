//! Attached clients: how their connections end, and what the next connection of a device gets.

use super::lab::{Device, Heard};
use super::*;

#[tokio::test]
async fn a_connection_does_not_outlive_its_ticket_and_grace() {
    let relay = Running::start(Settings {
        ticket_grace: Duration::ZERO,
        ..short()
    })
    .await;
    let device = Device::new(&[(NET, 1)]);
    let mut ticket = relay.lab.ticket(&device, clock::wall());
    ticket.expires = clock::wall() + Duration::from_secs(2);
    let text = relay.lab.sign(&ticket);
    let mut wire = relay.wire().await;
    let answer = wire.hello(&device.secret, relay.lab.relay, &text, 1).await;
    assert!(matches!(answer, Heard::Welcome(_)), "{answer:?}");
    assert_eq!(
        rejected(&wire.hear().await),
        Some(RejectCode::TicketExpired)
    );
    relay.stop().await;
}

#[tokio::test]
async fn a_silent_client_is_closed_and_a_pinging_one_is_not() {
    let relay = Running::start(Settings {
        keepalive: Duration::from_millis(100),
        ..short()
    })
    .await;
    let mut silent = relay.attach(&Device::new(&[(NET, 1)]), 1).await;
    let mut alive = relay.attach(&Device::new(&[(NET, 2)]), 1).await;
    let ping = async {
        for token in 0.. {
            assert_eq!(alive.sync(token).await, []);
        }
    };
    let silent = async {
        assert_eq!(silent.hear().await, Heard::Ping(1));
        rejected(&silent.hear().await)
    };
    tokio::select! {
        () = ping => {}
        rejected = silent => assert_eq!(rejected, Some(RejectCode::Silent)),
    }
    relay.stop().await;
}

#[tokio::test]
async fn the_newer_connection_of_a_device_stays() {
    let relay = Running::start(short()).await;
    let device = Device::new(&[(NET, 1)]);
    let mut first = relay.attach(&device, 5).await;
    let mut second = relay.attach(&device, 6).await;
    assert_eq!(rejected(&first.hear().await), Some(RejectCode::Superseded));
    assert_eq!(first.hear().await, Heard::Closed);
    let (_late, answer) = relay.hello(&device, 5).await;
    assert_eq!(rejected(&answer), Some(RejectCode::Superseded));
    // Frames find the one that stayed.
    let mut other = relay.attach(&Device::new(&[(NET, 2)]), 1).await;
    other.data(NET, 1, b"for the newer").await;
    assert!(matches!(second.hear().await, Heard::Data(..)));
    relay.stop().await;
}

#[tokio::test]
async fn a_device_that_comes_back_gets_what_waited_for_its_old_connection() {
    let relay = Running::start(Settings {
        window: 8 * 1024 * 1024,
        ..short()
    })
    .await;
    let (a, b) = (Device::new(&[(NET, 1)]), Device::new(&[(NET, 2)]));
    let mut wire_a = relay.attach(&a, 1).await;
    let mut old = relay.attach(&b, 1).await;
    // More than the sockets hold, while nobody reads.
    let frames = 400_u64;
    for number in 0..frames {
        let mut message = vec![0; 16_000];
        message[..8].copy_from_slice(&number.to_be_bytes());
        wire_a.data(NET, 2, &message).await;
    }
    wire_a.sync(1).await;
    let mut new = relay.attach(&b, 2).await;
    let mut numbers = Vec::new();
    while let Heard::Data(_, message) = old.hear().await {
        numbers.push(u64::from_be_bytes(*message.first_chunk().unwrap()));
    }
    let from_old = numbers.len();
    while numbers.len() < frames as usize {
        let Heard::Data(_, message) = new.hear().await else {
            panic!("not DATA");
        };
        numbers.push(u64::from_be_bytes(*message.first_chunk().unwrap()));
    }
    assert!(
        from_old < frames as usize,
        "nothing waited; the test is void"
    );
    assert_eq!(numbers, (0..frames).collect::<Vec<_>>());
    assert_eq!(relay.hub.gauges().queued_bytes, 0);
    relay.stop().await;
}

#[tokio::test]
async fn new_orders_close_revoked_devices_at_once_and_keep_them_out() {
    let relay = Running::start(short()).await;
    let (bad, good) = (Device::new(&[(NET, 1)]), Device::new(&[(NET, 2)]));
    let mut wire_bad = relay.attach(&bad, 1).await;
    let mut wire_good = relay.attach(&good, 1).await;
    relay.hub.apply(relay.lab.orders(2, vec![(bad.id, 2)]));
    assert_eq!(rejected(&wire_bad.hear().await), Some(RejectCode::Revoked));
    let (_wire, answer) = relay.hello(&bad, 2).await;
    assert_eq!(rejected(&answer), Some(RejectCode::Revoked));
    assert_eq!(wire_good.sync(1).await, []);
    let page = http_get(relay.metrics, "/healthz").await;
    assert!(page.contains("\"orders_version\":2"), "{page}");
    relay.stop().await;
}

/// After a restore two devices have tickets for one address. Whoever comes last does not win: the
/// controller says who holds it.
#[tokio::test]
async fn of_two_devices_with_one_address_the_one_that_the_controller_names_has_it() {
    let relay = Running::start(short()).await;
    let peer = Device::new(&[(NET, 1)]);
    let [lost, named] = [0, 1].map(|_| Device::new(&[(NET, 2)]));
    let mut wire_peer = relay.attach(&peer, 1).await;
    let mut wire_lost = relay.attach(&lost, 1).await;
    let mut orders = relay.lab.orders(2, Vec::new());
    orders.holders = vec![(named.networks[0].0, named.networks[0].1, named.id)];
    relay.hub.apply(orders);
    let told = wire_lost.hear().await;
    assert_eq!(rejected(&told), Some(RejectCode::HeldByOthers));
    let mut wire_named = relay.attach(&named, 1).await;
    let (_, answer) = relay.hello(&lost, 2).await;
    assert_eq!(rejected(&answer), Some(RejectCode::HeldByOthers));
    wire_peer.data(NET, 2, b"for the one that is named").await;
    assert!(matches!(wire_named.hear().await, Heard::Data(..)));
    relay.stop().await;
}

#[tokio::test]
async fn a_revoked_client_that_does_not_read_is_taken_out_at_once() {
    let relay = Running::start(short()).await;
    let [a, stuck] = [1, 2].map(|host| Device::new(&[(NET, host)]));
    let mut wire_a = relay.attach(&a, 1).await;
    let _wire_stuck = relay.attach(&stuck, 1).await;
    for _ in 0..200 {
        wire_a.data(NET, 2, &[0; 16_000]).await;
    }
    relay.hub.apply(relay.lab.orders(2, vec![(stuck.id, 2)]));
    // Its task ends although its socket takes nothing; what waited for it is released.
    while Arc::strong_count(&relay.hub.memory) > 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(relay.hub.gauges().queued_bytes, 0);
    relay.stop().await;
}
