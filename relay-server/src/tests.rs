//! Whole relays on loopback, with real TLS and without a controller.

mod clients;
mod controller;
mod forwarding;
mod lab;
mod log;
mod shares;
mod start;
mod strangers;

use std::time::Duration;

use overlan_protocol::hello::RejectCode;
use overlan_transport::clock;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
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
        let ticket = self.lab.sign(&self.lab.ticket(device, clock::wall()));
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

async fn http_get(address: SocketAddr, path: &str) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    tcp.read_to_string(&mut page).await.unwrap();
    page
}
