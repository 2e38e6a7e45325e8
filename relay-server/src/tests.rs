//! Whole relays on loopback, with real TLS and without a controller.

mod lab;

use std::time::Duration;

use overlan_protocol::frame::{DATA_HEADER_LEN, Frame, GoneReason, Route, UNPROVEN_BODY_MAX};
use overlan_protocol::hello::RejectCode;
use overlan_protocol::key::IdentitySecret;
use overlan_transport::tls;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::conn::wall_clock;
use crate::metrics::Dropped;
use lab::{Device, Heard, Lab, Wire};

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
        let ticket = self.lab.sign(&self.lab.ticket(device, wall_clock()));
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
    match heard {
        Heard::Reject(reject) => Some(reject.code),
        _ => None,
    }
}

#[tokio::test]
async fn two_clients_exchange_data_and_the_relay_stamps_the_source() {
    let relay = Running::start(short()).await;
    let (a, b) = (Device::new(&[(NET, 1)]), Device::new(&[(NET, 2)]));
    let mut wire_a = relay.attach(&a, 1).await;
    let mut wire_b = relay.attach(&b, 1).await;
    wire_a.data(NET, 2, b"sealed for b").await;
    let route = Route {
        vni: NET,
        flow: 7,
        host: 1,
    };
    assert_eq!(
        wire_b.hear().await,
        Heard::Data(route, b"sealed for b".to_vec())
    );
    wire_b.data(NET, 1, b"sealed for a").await;
    let route = Route { host: 2, ..route };
    assert_eq!(
        wire_a.hear().await,
        Heard::Data(route, b"sealed for a".to_vec())
    );
    relay.stop().await;
}
