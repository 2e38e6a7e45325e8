//! A whole engine with one link and one network, and a peer with a session that sends what it
//! likes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use overlan_netstack::{Config, TcpListener, TcpStream};
use overlan_protocol::HostIndex;
use overlan_protocol::exchange::{Batch, Exchange as _};
use overlan_protocol::frame::{self, Address, BODY_MAX, Frame, Vni};
use overlan_protocol::hello::Welcome;
use overlan_protocol::key::{
    DeviceId, IdentitySecret, NetworkId, RelayId, TunnelKey, encode_signature,
};
use overlan_protocol::netmap::{self, Netmap, Network};
use overlan_protocol::policy::Filter;
use overlan_protocol::proof::tunnel_key_message;
use zeroize::Zeroizing;

use super::script::Script;
use crate::engine::{Attachment, Engine, KnownPeers, LocalDevice, Membership, PATIENCE};
use crate::tunnel::{Opened, PeerConfig, PeerSession, StaticKey, TAG_LEN, TRANSPORT_HEADER_LEN};

/// Runs the script of a peer that has proved who it is.
pub fn session(start: Instant, data: &[u8]) {
    let mut lab = Lab::new(start);
    lab.shake_hands();
    let mut script = Script::new(data);
    while let Some(step) = script.step() {
        match step {
            0 => {
                let packet = script.bytes();
                lab.send(packet);
            }
            1 => {
                let packet = lab.segment(&mut script);
                lab.send(&packet);
            }
            2 => {
                let mut bytes = script.bytes().to_vec();
                if lab.link.handle_bytes(lab.now, &mut bytes).is_err() {
                    break;
                }
            }
            3 => lab.serve(),
            4 => lab.pass(Duration::from_millis(u64::from(script.word()))),
            _ => {}
        }
        lab.collect();
    }
    assert_eq!(lab.membership.stack().stats().flows_panicked, 0);
}

struct Lab {
    now: Instant,
    engine: Arc<Engine>,
    membership: Arc<Membership>,
    link: Attachment,
    peer: PeerSession,
    listener: TcpListener,
    streams: Vec<TcpStream>,
    /// The sequence number that the last segment to us asked to be acknowledged, and the one that
    /// it acknowledged.
    heard: (u32, u32),
}

impl Lab {
    fn new(now: Instant) -> Self {
        let local = LocalDevice {
            device: device(HERE),
            instance: [HERE.get() as u8; 8],
            tunnel: Arc::new(tunnel(HERE)),
        };
        let engine = Engine::new(local, Config::default(), PATIENCE, [1; 32], Box::new(|| ()));
        engine.handle_controller(true);
        let distrusted = engine.apply(now, &netmap(), &mut KnownPeers::new());
        assert_eq!(distrusted, []);
        let welcome = Welcome {
            version: 1,
            credit_window: 512 * 1024,
            keepalive_ms: 15_000,
            reconnect_spread_ms: 0,
        };
        let link = engine.handle_attached(now, RELAY, &welcome, &[], 1);
        let membership = engine.memberships()[&NETWORK].clone();
        let listener = membership.stack().listen(PORT).expect("nobody listens yet");
        let config = PeerConfig {
            vni: VNI.get(),
            local_device: device(THERE).0,
            remote_device: device(HERE).0,
            local_instance: [THERE.get() as u8; 8],
            local_static: Arc::new(tunnel(THERE)),
            remote_static: *tunnel(HERE).public(),
        };
        Self {
            now,
            engine,
            membership,
            link,
            peer: PeerSession::new(config, now, 2),
            listener,
            streams: Vec::new(),
            heard: (0, 0),
        }
    }

    fn shake_hands(&mut self) {
        self.peer.handle_want_send(self.now);
        while !self.peer.can_seal(self.now) {
            let message = self.peer.poll_message().expect("a handshake goes on");
            self.deliver(&message);
            self.collect();
        }
    }

    /// Hands a message of the peer to the engine as its relay would.
    fn deliver(&mut self, message: &[u8]) {
        let address = Address {
            vni: VNI.get(),
            flow: 0,
            host: THERE.get(),
        };
        let mut bytes = Vec::new();
        Frame::Data { address, message }.encode(&mut bytes);
        let taken = self.link.handle_bytes(self.now, &mut bytes);
        assert!(
            matches!(taken, Ok(count) if count == bytes.len()),
            "a whole frame is taken"
        );
    }

    fn send(&mut self, packet: &[u8]) {
        let mut message = [&[0; TRANSPORT_HEADER_LEN], packet, &[0; TAG_LEN]].concat();
        if self.peer.seal(self.now, &mut message).is_ok() {
            self.deliver(&message);
        }
    }

    /// Takes what the engine gives its link; the peer hears what is for it.
    fn collect(&mut self) {
        self.engine.handle_timeout(self.now);
        let mut out = Batch::new();
        if self.link.fill(self.now, Waker::noop(), &mut out).is_err() {
            return;
        }
        let bytes = out.take_bytes();
        let mut rest = &bytes[..];
        while let Ok(Some((frame, taken))) = frame::decode(rest, BODY_MAX) {
            if let Frame::Data { message, .. } = frame {
                let mut message = message.to_vec();
                if let Ok(Opened::Packet(packet)) = self.peer.open(self.now, &mut message) {
                    self.heard = acknowledgement(packet).unwrap_or(self.heard);
                }
            }
            rest = &rest[taken..];
        }
        assert!(rest.is_empty(), "a link is filled with whole frames");
        while let Some(message) = self.peer.poll_message() {
            self.deliver(&message);
        }
        while self.peer.poll_event().is_some() {}
    }

    /// The program at this end takes connections, reads and writes.
    fn serve(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(incoming) = self.listener.poll_accept(&mut cx) {
            self.streams.push(incoming.accept());
        }
        for stream in &self.streams {
            let _ = stream.try_read(&mut [0; 4096]);
            let _ = stream.try_write(b"an answer");
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.peer.handle_timeout(self.now);
        let _ = self.link.handle_timeout(self.now);
    }

    /// A TCP segment with sound checksums from the peer, near to what the connection expects.
    fn segment(&self, script: &mut Script<'_>) -> Vec<u8> {
        let (ports, flags, window) = (script.byte(), script.byte(), script.word());
        let (sequence, acknowledged) = (script.word(), script.word());
        let near = |base: u32, offset: u16| base.wrapping_add_signed(i32::from(offset as i16));
        let mut tcp = Vec::new();
        tcp.extend_from_slice(&(40_000 + u16::from(ports >> 4)).to_be_bytes());
        tcp.extend_from_slice(&(PORT + u16::from(ports & 0xf == 0xf)).to_be_bytes());
        tcp.extend_from_slice(&near(self.heard.1, sequence).to_be_bytes());
        tcp.extend_from_slice(&near(self.heard.0, acknowledged).to_be_bytes());
        let options = usize::from(script.byte() & 0xf).min(10);
        tcp.push(((5 + options) << 4) as u8);
        tcp.push(flags);
        tcp.extend_from_slice(&window.to_be_bytes());
        tcp.extend_from_slice(&[0; 4]);
        tcp.extend((0..options * 4).map(|_| script.byte()));
        tcp.extend_from_slice(script.bytes());
        packet(&tcp)
    }
}

/// Returns what a TCP packet makes its receiver say next: the acknowledgement and the sequence
/// number.
fn acknowledgement(packet: &[u8]) -> Option<(u32, u32)> {
    let at = usize::from(packet.first()? & 0xf) * 4;
    let is_tcp = packet[0] >> 4 == 4 && packet.get(9) == Some(&TCP);
    let tcp = packet.get(at..).filter(|_| is_tcp)?;
    let sequence = u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?);
    let acknowledged = u32::from_be_bytes(*tcp.get(8..)?.first_chunk()?);
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let opens_or_ends = (tcp.get(13)? & 0b11).count_ones();
    let length = tcp.len().saturating_sub(header) as u32 + opens_or_ends;
    Some((sequence.wrapping_add(length), acknowledged))
}

/// An IPv4 packet with this TCP segment, from the peer to us.
fn packet(tcp: &[u8]) -> Vec<u8> {
    let (from, to) = (THERE.v4(), HERE.v4());
    let mut tcp = tcp.to_vec();
    let pseudo = [
        &from.octets()[..],
        &to.octets(),
        &[0, TCP],
        &(tcp.len() as u16).to_be_bytes(),
    ];
    let sum = checksum(&[&pseudo.concat()[..], &tcp].concat());
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, TCP, 0, 0];
    ip[2..4].copy_from_slice(&(20 + tcp.len() as u16).to_be_bytes());
    ip.extend_from_slice(&from.octets());
    ip.extend_from_slice(&to.octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [ip, tcp].concat()
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let word = [pair[0], pair.get(1).copied().unwrap_or_default()];
        u64::from(u16::from_be_bytes(word))
    });
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn netmap() -> Netmap {
    let identity = IdentitySecret::from_seed([THERE.get() as u8; 32]);
    let key = TunnelKey(*tunnel(THERE).public());
    let peer = netmap::Peer {
        owner: Default::default(),
        routes: Vec::new(),
        device: device(THERE),
        label: "there".into(),
        identity: identity.public(),
        tunnel: key,
        tunnel_signature: encode_signature(&identity.sign(&tunnel_key_message(&key))),
        relays: vec![RELAY],
        online: true,
    };
    let network = Network {
        routes: Vec::new(),
        name: "lab".into(),
        vni: VNI,
        host: HERE,
        label: "here".into(),
        relays: vec![RELAY],
        filter: Filter::starter(),
        peers: BTreeMap::from([(THERE, peer)]),
        dns: Default::default(),
    };
    Netmap {
        version: 1,
        lineage: None,
        domain: "lab.test".into(),
        device: device(HERE),
        networks: BTreeMap::from([(NETWORK, network)]),
        relays: BTreeMap::new(),
    }
}

fn device(host: HostIndex) -> DeviceId {
    DeviceId([host.get() as u8; 16])
}

fn tunnel(host: HostIndex) -> StaticKey {
    StaticKey::from_secret(Zeroizing::new([host.get() as u8; 32]))
}

const HERE: HostIndex = HostIndex::new(5).unwrap();
const THERE: HostIndex = HostIndex::new(9).unwrap();
const RELAY: RelayId = RelayId([0xa1; 16]);
const NETWORK: NetworkId = NetworkId([7; 16]);
const VNI: Vni = Vni::new(0x4242).unwrap();
const PORT: u16 = 80;
/// The number of TCP in an IP header.
const TCP: u8 = 6;
