//! A deployment without a controller: signs tickets, writes a relay's state directory, and speaks a
//! client's side of the protocol. Also used by `examples/forward.rs`, so it knows the crate's
//! public items only.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use overlan_protocol::ALPN_RELAY;
use overlan_protocol::api::{RelayOrders, RelayRegisterResponse};
use overlan_protocol::frame::{self, Address, BODY_MAX, Frame, GoneReason, Vni};
use overlan_protocol::hello::{Hello, Reject, Welcome};
use overlan_protocol::key::{DeviceId, Fingerprint, IdentitySecret, RelayId};
use overlan_protocol::ticket::{KeyId, Ticket};
use overlan_protocol::{HostIndex, UnixTime};
use overlan_transport::connect;
use overlan_transport::outgoing::Outgoing;
use overlan_transport::tls::{self, ServerTrust, Stepwise};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::Config;

/// Signs tickets and orders.
pub(crate) struct Lab {
    pub(crate) key: IdentitySecret,
    pub(crate) key_id: KeyId,
    pub(crate) relay: RelayId,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self {
            key: IdentitySecret::generate(),
            key_id: KeyId("k1".to_owned()),
            relay: RelayId::random(),
        }
    }

    pub(crate) fn orders(&self, version: u64, revoked: Vec<(DeviceId, u64)>) -> RelayOrders {
        RelayOrders {
            version,
            lineage: None,
            holders: Vec::new(),
            ticket_keys: [(self.key_id.clone(), self.key.public())].into(),
            revoked,
            cas: Vec::new(),
        }
    }

    /// A relay on loopback that was registered before and whose controller is away.
    pub(crate) fn config(&self, state_dir: &Path) -> Config {
        let owner_only = Permissions::from_mode(0o700);
        std::fs::set_permissions(state_dir, owner_only).expect("the directory is ours");
        let registration = RelayRegisterResponse {
            relay: self.relay,
            name: "lab-1".to_owned(),
            orders: self.orders(1, Vec::new()),
        };
        let bytes = serde_json::to_vec(&registration).expect("plain fields serialise");
        std::fs::write(state_dir.join("registration.json"), bytes).expect("the directory exists");
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            addresses: Vec::new(),
            // Nothing listens on the discard port.
            join: format!("https://127.0.0.1:9#sha256:{}", Fingerprint([7; 32]))
                .parse()
                .expect("a join string"),
            outgoing: Outgoing::direct(),
            token: None,
            state_dir: state_dir.to_owned(),
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        }
    }

    /// A ticket for `device` that is valid around `now`.
    pub(crate) fn ticket(&self, device: &Device, now: UnixTime) -> Ticket {
        Ticket {
            device: device.id,
            identity: device.secret.public(),
            networks: device.networks.clone(),
            epoch: 1,
            not_before: now - Duration::from_secs(300),
            expires: now + Duration::from_secs(3_600),
        }
    }

    pub(crate) fn sign(&self, ticket: &Ticket) -> String {
        ticket.sign(&self.key_id, &self.key)
    }
}

/// A device with its places.
pub(crate) struct Device {
    pub(crate) id: DeviceId,
    pub(crate) secret: IdentitySecret,
    pub(crate) networks: Vec<(Vni, HostIndex)>,
}

impl Device {
    pub(crate) fn new(networks: &[(u32, u32)]) -> Self {
        let vni = |number| Vni::new(number).expect("not a reserved VNI");
        let host = |number| HostIndex::new(number).expect("a host");
        Self {
            id: DeviceId::random(),
            secret: IdentitySecret::generate(),
            networks: networks.iter().map(|(v, h)| (vni(*v), host(*h))).collect(),
        }
    }
}

/// One frame from a relay, owned.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Welcome(Welcome),
    Reject(Reject),
    Ping(u64),
    Pong(u64),
    Drain(u32),
    Data(Address, Vec<u8>),
    Credit(Address, u64, u32),
    Gone(Address, GoneReason),
    Closed,
}

/// A client's connection to a relay.
pub(crate) struct Wire {
    pub(crate) stream: TlsStream<Stepwise>,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr, pin: Fingerprint) -> Self {
        let config = tls::client_config(&ServerTrust::Pinned(vec![pin]), ALPN_RELAY);
        let stream = connect::direct(
            &address.try_into().expect("it has a port"),
            config,
            PATIENCE,
        )
        .await
        .expect("the relay answers");
        Self {
            stream,
            buffer: Vec::new(),
            out: Vec::new(),
        }
    }

    /// Sends a HELLO and returns the answer.
    pub(crate) async fn hello(
        &mut self,
        secret: &IdentitySecret,
        relay: RelayId,
        ticket: &str,
        sequence: u64,
    ) -> Heard {
        let exporter = tls::exporter(&self.stream);
        let hello = Hello::sign(secret, &exporter, relay, ticket, sequence);
        self.send(Frame::Hello(&hello.encode())).await;
        self.hear().await
    }

    pub(crate) async fn send(&mut self, frame: Frame<'_>) {
        self.out.clear();
        frame.encode(&mut self.out);
        self.stream
            .write_all(&self.out)
            .await
            .expect("the relay reads");
        self.stream.flush().await.expect("the relay reads");
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the relay reads");
        self.stream.flush().await.expect("the relay reads");
    }

    pub(crate) async fn data(&mut self, vni: u32, host: u32, message: &[u8]) {
        let address = Address { vni, flow: 7, host };
        self.send(Frame::Data { address, message }).await;
    }

    /// The next frame; fails the test when none comes.
    pub(crate) async fn hear(&mut self) -> Heard {
        loop {
            if let Some((frame, length)) =
                frame::decode(&self.buffer, BODY_MAX).expect("the relay speaks the protocol")
            {
                let heard = own(&frame);
                self.buffer.drain(..length);
                return heard;
            }
            let read = self.stream.read_buf(&mut self.buffer);
            match timeout(PATIENCE, read)
                .await
                .expect("a frame comes in time")
            {
                Ok(0) | Err(_) => return Heard::Closed,
                Ok(_) => {}
            }
        }
    }

    /// The answer to a PING sent now; everything sent before has been seen by the relay by then.
    /// Also what came before it.
    pub(crate) async fn sync(&mut self, token: u64) -> Vec<Heard> {
        self.send(Frame::Ping { token }).await;
        let mut heard = Vec::new();
        loop {
            let next = self.hear().await;
            if next == Heard::Pong(token) {
                return heard;
            }
            assert_ne!(next, Heard::Closed, "before that: {heard:?}");
            heard.push(next);
        }
    }
}

fn own(frame: &Frame<'_>) -> Heard {
    match *frame {
        Frame::Welcome(body) => Heard::Welcome(Welcome::decode(body).expect("a whole WELCOME")),
        Frame::Reject(body) => Heard::Reject(Reject::decode(body).expect("a whole REJECT")),
        Frame::Ping { token } => Heard::Ping(token),
        Frame::Pong { token } => Heard::Pong(token),
        Frame::Drain { within_ms } => Heard::Drain(within_ms),
        Frame::Data { address, message } => Heard::Data(address, message.to_vec()),
        Frame::Credit {
            address,
            released,
            window,
        } => Heard::Credit(address, released, window),
        Frame::PeerGone { address, reason } => Heard::Gone(address, reason),
        Frame::Hello(_) | Frame::Unknown { .. } => {
            panic!("a relay does not send {frame:?}")
        }
    }
}

/// The time that a test waits for a frame that must come.
const PATIENCE: Duration = Duration::from_secs(10);
