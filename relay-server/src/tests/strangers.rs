//! Connections that have not proved a device: which of them become clients, and how the others end.

use overlan_protocol::frame::{Frame, UNPROVEN_BODY_MAX};
use overlan_protocol::key::IdentitySecret;
use overlan_transport::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::lab::{Device, Heard};
use super::*;

#[tokio::test]
async fn a_proof_for_another_connection_is_refused() {
    let relay = Running::start(short()).await;
    let device = Device::new(&[(NET, 1)]);
    let ticket = relay.lab.sign(&relay.lab.ticket(&device, clock::wall()));
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
    let mut ticket = relay.lab.ticket(&device, clock::wall());
    ticket.expires = clock::wall() - Duration::from_secs(1);
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
