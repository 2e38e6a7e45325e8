//! Whole relays on loopback, with real TLS and without a controller.

mod controller;
mod lab;
mod shares;

use std::time::Duration;

use overlan_protocol::credit::{DEFAULT_WINDOW, SendCredit};
use overlan_protocol::frame::{Address, DATA_HEADER_LEN, Frame, GoneReason, UNPROVEN_BODY_MAX};
use overlan_protocol::hello::RejectCode;
use overlan_protocol::key::IdentitySecret;
use overlan_transport::tls;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::metrics::Dropped;
use controller::{Controller, TOKEN};
use lab::{Device, Heard, Lab, Wire};
use overlan_transport::clock;

const NET: u32 = 0x1000;
const OTHER_NET: u32 = 0x2000;

/// A running relay.
struct Running {
    lab: Lab,
    hub: Arc<Hub>,
    address: SocketAddr,
    metrics: SocketAddr,
    pin: Fingerprint,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _state: TempDir,
}

impl Running {
    async fn start(settings: Settings) -> Self {
        let lab = Lab::new();
        let state = tempfile::tempdir().unwrap();
        let relay = Relay::bind_with(lab.config(state.path()), settings)
            .await
            .unwrap();
        let stop = CancellationToken::new();
        Self {
            lab,
            hub: relay.hub.clone(),
            address: relay.local_addr(),
            metrics: relay.metrics_addr().unwrap(),
            pin: relay.pins()[0],
            stop: stop.clone(),
            task: tokio::spawn(relay.run(stop)),
            _state: state,
        }
    }

    async fn wire(&self) -> Wire {
        Wire::connect(self.address, self.pin).await
    }

    async fn hello(&self, device: &Device, sequence: u64) -> (Wire, Heard) {
        let ticket = self
            .lab
            .sign(&self.lab.ticket(device, clock::wall().as_secs()));
        let mut wire = self.wire().await;
        let answer = wire
            .hello(&device.secret, self.lab.relay, &ticket, sequence)
            .await;
        (wire, answer)
    }

    async fn attach(&self, device: &Device, sequence: u64) -> Wire {
        let (wire, answer) = self.hello(device, sequence).await;
        assert!(matches!(answer, Heard::Welcome(_)), "{answer:?}");
        wire
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn short() -> Settings {
    Settings {
        drain: Duration::from_millis(200),
        ..Settings::default()
    }
}

fn rejected(heard: &Heard) -> Option<RejectCode> {
    if let Heard::Reject(reject) = heard {
        Some(reject.code)
    } else {
        None
    }
}

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

#[tokio::test]
async fn a_proof_for_another_connection_is_refused() {
    let relay = Running::start(short()).await;
    let device = Device::new(&[(NET, 1)]);
    let ticket = relay
        .lab
        .sign(&relay.lab.ticket(&device, clock::wall().as_secs()));
    let mut wire = relay.wire().await;
    let stranger = IdentitySecret::generate();
    let answer = wire.hello(&stranger, relay.lab.relay, &ticket, 1).await;
    assert_eq!(rejected(&answer), Some(RejectCode::ProofInvalid));
    assert_eq!(wire.hear().await, Heard::Closed);
    // A captured HELLO, sent again on another connection.
    let exporter = tls::exporter(&wire.stream);
    let hello = overlan_protocol::hello::Hello::sign(
        &device.secret,
        &exporter,
        relay.lab.relay,
        &ticket,
        1,
    );
    let mut other = relay.wire().await;
    other.send(Frame::Hello(&hello.encode())).await;
    assert_eq!(
        rejected(&other.hear().await),
        Some(RejectCode::ProofInvalid)
    );
    relay.stop().await;
}

#[tokio::test]
async fn an_expired_ticket_is_refused() {
    let relay = Running::start(short()).await;
    let device = Device::new(&[(NET, 1)]);
    let mut ticket = relay.lab.ticket(&device, clock::wall().as_secs());
    ticket.expires = clock::wall().as_secs() - 1;
    let text = relay.lab.sign(&ticket);
    let answer = relay
        .wire()
        .await
        .hello(&device.secret, relay.lab.relay, &text, 1)
        .await;
    assert_eq!(rejected(&answer), Some(RejectCode::TicketExpired));
    relay.stop().await;
}

#[tokio::test]
async fn a_connection_does_not_outlive_its_ticket_and_grace() {
    let relay = Running::start(Settings {
        ticket_grace: Duration::ZERO,
        ..short()
    })
    .await;
    let device = Device::new(&[(NET, 1)]);
    let mut ticket = relay.lab.ticket(&device, clock::wall().as_secs());
    ticket.expires = clock::wall().as_secs() + 2;
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
async fn garbage_ends_the_connection_that_sent_it() {
    let relay = Running::start(short()).await;
    // Not TLS at all.
    let mut tcp = TcpStream::connect(relay.address).await.unwrap();
    tcp.write_all(&[0x47; 512]).await.unwrap();
    let mut rest = Vec::new();
    let _ = tcp.read_to_end(&mut rest).await;
    // TLS, and then no HELLO.
    let mut wire = relay.wire().await;
    wire.send_bytes(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(rejected(&wire.hear().await), Some(RejectCode::Protocol));
    // A client that breaks the protocol after its WELCOME.
    let device = Device::new(&[(NET, 1)]);
    for (sequence, garbage) in (1..).zip([
        &[0x10, 0xff, 0xff, 0xff, 0][..], // DATA, far too long
        &[0x04, 0, 0, 2, 1, 2],           // PING, too short
        &[0x02, 0, 0, 0],                 // WELCOME from a client
    ]) {
        let mut wire = relay.attach(&device, sequence).await;
        wire.send_bytes(garbage).await;
        assert_eq!(rejected(&wire.hear().await), Some(RejectCode::Protocol));
        assert_eq!(wire.hear().await, Heard::Closed);
    }
    // Kinds from a later version are skipped.
    let mut wire = relay.attach(&device, 99).await;
    wire.send_bytes(&[0x7f, 0, 0, 3, 1, 2, 3]).await;
    assert_eq!(wire.sync(5).await, []);
    relay.stop().await;
}

#[tokio::test]
async fn an_oversized_hello_is_refused_by_its_header() {
    let relay = Running::start(short()).await;
    let mut wire = relay.wire().await;
    let length = (UNPROVEN_BODY_MAX as u32 + 1).to_be_bytes();
    // The body never comes: the claim alone is enough.
    wire.send_bytes(&[0x01, length[1], length[2], length[3]])
        .await;
    assert_eq!(rejected(&wire.hear().await), Some(RejectCode::Protocol));
    relay.stop().await;
}

#[tokio::test]
async fn strangers_that_say_nothing_are_closed_and_limited() {
    let relay = Running::start(Settings {
        tls_within: Duration::from_millis(300),
        hello_within: Duration::from_millis(300),
        budget: limits::Budget {
            unproven: 8,
            unproven_per_source: 2,
            proven: 8,
        },
        ..short()
    })
    .await;
    let mut no_tls = TcpStream::connect(relay.address).await.unwrap();
    let mut no_hello = relay.wire().await;
    // The third of one source is closed without a word.
    let mut third = TcpStream::connect(relay.address).await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(third.read_to_end(&mut rest).await.unwrap_or(0), 0);
    // The others are closed when their time is over, and then there is room again.
    assert_eq!(no_tls.read_to_end(&mut rest).await.unwrap_or(0), 0);
    assert_eq!(no_hello.hear().await, Heard::Closed);
    let _wire = relay.attach(&Device::new(&[(NET, 1)]), 1).await;
    let page = http_get(relay.metrics, "/metrics").await;
    for line in [
        "overlan_relay_deadlines_missed_total 2",
        "overlan_relay_refused_total{limit=\"source\"} 1",
    ] {
        assert!(page.contains(line), "{line}\n{page}");
    }
    relay.stop().await;
}

/// A stranger on loopback that comes from `source` and says nothing.
async fn knock(relay: &Running, source: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{source}:0").parse().unwrap()).unwrap();
    socket.connect(relay.address).await.unwrap()
}

#[tokio::test]
async fn strangers_of_a_few_sources_do_not_keep_a_device_out() {
    let relay = Running::start(Settings {
        budget: limits::Budget {
            unproven: 8,
            unproven_per_source: 4,
            proven: 8,
        },
        ..short()
    })
    .await;
    let mut held = Vec::new();
    for source in ["127.0.0.2", "127.0.0.3"] {
        for _ in 0..4 {
            held.push(knock(&relay, source).await);
        }
    }
    let mut oldest = held.remove(0);
    let _device = relay.attach(&Device::new(&[(NET, 1)]), 1).await;
    let mut rest = Vec::new();
    assert_eq!(oldest.read_to_end(&mut rest).await.unwrap_or(0), 0);
    relay.stop().await;
}

#[tokio::test]
async fn a_full_relay_says_so_and_when_to_come_back() {
    let relay = Running::start(Settings {
        budget: limits::Budget {
            proven: 1,
            ..Default::default()
        },
        ..short()
    })
    .await;
    let _first = relay.attach(&Device::new(&[(NET, 1)]), 1).await;
    let (_wire, answer) = relay.hello(&Device::new(&[(NET, 2)]), 1).await;
    let Heard::Reject(reject) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(reject.code, RejectCode::Overloaded);
    assert!(reject.retry_after_ms > 0);
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
    orders.holders = vec![(named.networks[0].0, 2, named.id)];
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

/// TLS joins a ClientHello of up to 64 KiB before it looks at it.
#[tokio::test]
async fn strangers_that_send_much_are_closed_before_it_is_kept() {
    let relay = Running::start(short()).await;
    let mut tcp = TcpStream::connect(relay.address).await.unwrap();
    // A ClientHello that claims 60,000 bytes, in records.
    let mut hello = vec![1, 0, 0xea, 0x60];
    hello.resize(50_000, 0);
    let mut bytes = Vec::new();
    for part in hello.chunks(4_000) {
        let [high, low] = (part.len() as u16).to_be_bytes();
        bytes.extend([22, 3, 1, high, low]);
        bytes.extend_from_slice(part);
    }
    let began = clock::now();
    let _ = tcp.write_all(&bytes).await;
    let mut answer = Vec::new();
    let closed = tcp.read_to_end(&mut answer);
    let _ = timeout(Duration::from_secs(10), closed)
        .await
        .expect("it is closed");
    let waited = clock::now() - began;
    assert!(
        waited < Duration::from_secs(4),
        "the deadline closed it: {waited:?}"
    );
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

#[tokio::test]
async fn stopping_asks_clients_to_leave_and_then_ends_them() {
    let relay = Running::start(short()).await;
    let mut wire = relay.attach(&Device::new(&[(NET, 1)]), 1).await;
    relay.stop.cancel();
    assert_eq!(wire.hear().await, Heard::Drain(200));
    assert_eq!(rejected(&wire.hear().await), Some(RejectCode::Draining));
    relay.task.await.unwrap();
    assert!(TcpStream::connect(relay.address).await.is_err());
}

#[tokio::test]
async fn the_operators_door_has_two_paths() {
    let relay = Running::start(short()).await;
    let _wire = relay.attach(&Device::new(&[(NET, 1)]), 1).await;
    let health = http_get(relay.metrics, "/healthz").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(health.contains("\"clients\":1"), "{health}");
    let metrics = http_get(relay.metrics, "/metrics").await;
    assert!(metrics.contains("overlan_relay_clients 1\n"), "{metrics}");
    let other = http_get(relay.metrics, "/debug").await;
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
    relay.stop().await;
}

async fn http_get(address: SocketAddr, path: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    tcp.read_to_string(&mut page).await.unwrap();
    page
}

#[tokio::test]
async fn a_taken_port_is_named_before_anything_else_happens() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let state = tempfile::tempdir().unwrap();
    let mut config = Lab::new().config(state.path());
    config.listen = taken.local_addr().unwrap();
    let addr = config.listen;
    let error = Relay::bind(config).await.err().unwrap();
    assert!(matches!(error, StartError::PortInUse { addr: at } if at == addr));
}

#[tokio::test]
async fn a_first_start_needs_a_token_and_an_answer() {
    let state = tempfile::tempdir().unwrap();
    let mut config = Lab::new().config(state.path());
    std::fs::remove_file(state.path().join("registration.json")).unwrap();
    let error = Relay::bind(config.clone()).await.err().unwrap();
    assert!(matches!(error, StartError::NeedsToken), "{error}");
    config.token = Some(Secret::new("ovr_x_y"));
    let settings = Settings {
        register_within: Duration::ZERO,
        ..short()
    };
    let error = Relay::bind_with(config.clone(), settings)
        .await
        .err()
        .unwrap();
    assert!(matches!(error, StartError::Controller { .. }), "{error}");
    assert!(!error.to_string().contains("ovr_"), "{error}");
    config.listen = SocketAddr::from(([0, 0, 0, 0], 0));
    let error = Relay::bind(config).await.err().unwrap();
    assert!(matches!(error, StartError::AddressNeeded { .. }), "{error}");
}

#[tokio::test]
async fn a_new_relay_registers_obeys_new_orders_and_restarts_without_the_controller() {
    let lab = Lab::new();
    let mut controller = Controller::start(lab.relay, lab.orders(1, Vec::new())).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = lab.config(dir.path());
    std::fs::remove_file(dir.path().join("registration.json")).unwrap();
    config.join = controller.join.clone();
    config.token = Some(Secret::new("ovr_not_that"));
    let error = Relay::bind(config.clone()).await.err().unwrap();
    assert!(matches!(error, StartError::TokenRefused { .. }), "{error}");

    config.token = Some(Secret::new(TOKEN));
    let relay = Relay::bind_with(config.clone(), short()).await.unwrap();
    assert_eq!((relay.id(), relay.name()), (lab.relay, "lab-1"));
    let (address, pin) = (relay.local_addr(), relay.pins()[0]);
    let stop = CancellationToken::new();
    let task = tokio::spawn(relay.run(stop.clone()));
    let beat = controller.beat(1).await;
    assert_eq!((beat.applied, beat.pins), (1, vec![pin]));
    assert_eq!(beat.addresses, [address.to_string()]);

    // A revocation reaches the client through the heartbeat that the controller holds.
    let device = Device::new(&[(NET, 1)]);
    let ticket = lab.sign(&lab.ticket(&device, clock::wall().as_secs()));
    let mut wire = Wire::connect(address, pin).await;
    let answer = wire.hello(&device.secret, lab.relay, &ticket, 1).await;
    assert!(matches!(answer, Heard::Welcome(_)), "{answer:?}");
    let orders = lab.orders(2, vec![(device.id, 2)]);
    controller.orders.send_replace(orders);
    assert_eq!(rejected(&wire.hear().await), Some(RejectCode::Revoked));
    controller.beat(2).await;
    stop.cancel();
    task.await.unwrap();

    // The controller is away, and the orders of yesterday hold.
    drop(controller);
    config.token = None;
    let relay = Relay::bind_with(config, short()).await.unwrap();
    assert_eq!(relay.pins(), [pin]);
    let address = relay.local_addr();
    let stop = CancellationToken::new();
    let task = tokio::spawn(relay.run(stop.clone()));
    let mut wire = Wire::connect(address, pin).await;
    let answer = wire.hello(&device.secret, lab.relay, &ticket, 2).await;
    assert_eq!(rejected(&answer), Some(RejectCode::Revoked));
    stop.cancel();
    task.await.unwrap();
}
