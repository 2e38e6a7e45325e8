//! The paths that are counted, each a workload of its own; decides nothing about limits.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use overlan_plane::tunnel::{
    Opened, PeerConfig, PeerSession, StaticKey, TAG_LEN, TRANSPORT_HEADER_LEN,
};
use overlan_protocol::OVERLAY_MTU;
use overlan_protocol::credit::{DEFAULT_WINDOW, RelayCredit, SendCredit, WINDOW_MAX};
use overlan_protocol::frame::{Address, BODY_MAX, Frame, decode};

use super::{forwarding, records, stacks};
use crate::trouble::{During, Result, Trouble};

/// One path.
pub(super) struct Path {
    pub(super) name: &'static str,
    /// Units in the shorter of the two runs: enough that growth of buffers and tables is a small
    /// part of the difference.
    pub(super) count: u64,
    pub(super) run: fn(u64) -> Result<()>,
}

/// All paths, in the order of the table.
pub(super) const PATHS: &[Path] = &[
    path("stack-bulk", 4_000, stacks::bulk),
    path("stack-small", 2_000, stacks::small),
    path("stack-flow", 1_000, stacks::flows),
    path("tunnel-16k", 1_000, |count| tunnel(count, OVERLAY_MTU)),
    path("tunnel-64", 40_000, |count| tunnel(count, 64)),
    path("frame-16k", 10_000, |count| frames(count, OVERLAY_MTU)),
    path("frame-64", 10_000, |count| frames(count, 64)),
    path("credit", 20_000, credit),
    path("relay-16k", 4_000, |count| {
        forwarding::forward(count, OVERLAY_MTU + SEAL)
    }),
    path("relay-1400", 20_000, |count| {
        forwarding::forward(count, 1_400)
    }),
    path("tls-16k", 2_000, records::records),
];

const fn path(name: &'static str, count: u64, run: fn(u64) -> Result<()>) -> Path {
    Path { name, count, run }
}

/// One packet sealed and opened again, in place.
fn tunnel(count: u64, len: usize) -> Result<()> {
    let now = Instant::now();
    let keys = [1, 2].map(|byte| Arc::new(StaticKey::from_secret([byte; 32].into())));
    let session = |own: usize, other: usize| {
        let config = PeerConfig {
            vni: 0x1000,
            local_device: [own as u8; 16],
            remote_device: [other as u8; 16],
            local_instance: [own as u8; 8],
            local_static: keys[own].clone(),
            remote_static: *keys[other].public(),
        };
        PeerSession::new(config, now, own as u64)
    };
    let (mut a, mut b) = (session(0, 1), session(1, 0));
    a.handle_want_send(now);
    for _ in 0..HANDSHAKE_ROUNDS {
        while let Some(mut message) = a.poll_message() {
            b.open(now, &mut message).during("the handshake")?;
        }
        while let Some(mut message) = b.poll_message() {
            a.open(now, &mut message).during("the handshake")?;
        }
    }
    let mut message = vec![0x45; TRANSPORT_HEADER_LEN + len + TAG_LEN];
    for _ in 0..count {
        a.seal(now, &mut message).during("sealing")?;
        let opened = b.open(now, &mut message).during("opening")?;
        if !matches!(opened, Opened::Packet(packet) if packet.len() == len) {
            return Err(Trouble::failed("no packet came out"));
        }
    }
    Ok(())
}

/// One DATA frame written and read.
fn frames(count: u64, len: usize) -> Result<()> {
    let message = vec![0x5a; len];
    let address = Address {
        vni: 0x1000,
        flow: 1,
        host: 2,
    };
    let mut out = Vec::new();
    for _ in 0..count {
        out.clear();
        Frame::Data {
            address,
            message: black_box(&message),
        }
        .encode(&mut out);
        let decoded = decode(black_box(&out), BODY_MAX).during("decoding")?;
        if decoded.is_none() {
            return Err(Trouble::failed("half a frame"));
        }
        black_box(decoded);
    }
    Ok(())
}

/// One full frame through the books of a client and of a relay that passes it on at once.
fn credit(count: u64) -> Result<()> {
    let mut now = Instant::now();
    let (mut client, mut relay) = (
        SendCredit::new(DEFAULT_WINDOW),
        RelayCredit::new(DEFAULT_WINDOW),
    );
    for _ in 0..count {
        if !client.may_send() || relay.allowance() == 0 {
            return Err(Trouble::failed("out of credit"));
        }
        client.handle_sent(OVERLAY_MTU);
        relay.handle_received(OVERLAY_MTU);
        now += stacks::STEP;
        if let Some(announced) =
            black_box(&mut relay).handle_released(now, OVERLAY_MTU, None, WINDOW_MAX)
        {
            client
                .handle_credit(announced.released, announced.window)
                .during("an announcement")?;
        }
    }
    Ok(())
}

/// Bytes that a seal adds to a packet.
const SEAL: usize = TRANSPORT_HEADER_LEN + TAG_LEN;

/// A handshake needs one round trip; the second carries nothing.
const HANDSHAKE_ROUNDS: usize = 2;
