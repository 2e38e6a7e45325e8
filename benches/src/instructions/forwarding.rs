//! The workload of a relay: frames of one client go to another through the forwarder, without TLS.

use std::task::Waker;
use std::time::{Duration, Instant};

use overlan_protocol::exchange::{Batch, Exchange};
use overlan_protocol::frame::{Address, BODY_MAX, Frame, Vni, decode};
use overlan_protocol::key::{DeviceId, IdentitySecret, RelayId};
use overlan_protocol::ticket::Ticket;
use overlan_protocol::{HostIndex, UnixTime};
use overlan_relay::{Forwarder, Forwarding};

use super::stacks::STEP;
use crate::trouble::{During, Result, Trouble};

/// `count` frames with messages of `len` bytes, a batch at a time. A copy into the buffer that is
/// read from and one out of the batch that is written stand for the socket's side.
pub(super) fn forward(count: u64, len: usize) -> Result<()> {
    let mut now = Instant::now();
    let relay = Forwarder::new(RelayId([1; 16]));
    let (mut from, mut to) = (attach(&relay, 1, now)?, attach(&relay, 2, now)?);
    let (mut from_out, mut to_out) = (Batch::new(), Batch::new());
    give(&mut from, now, &mut from_out)?;
    give(&mut to, now, &mut to_out)?;

    let mut frame = Vec::new();
    let address = Address {
        vni: NET,
        flow: 1,
        host: 2,
    };
    let message = vec![0x5a; len];
    Frame::Data {
        address,
        message: &message,
    }
    .encode(&mut frame);
    let batch = frame.repeat(BATCH / frame.len());
    let mut inbound = Vec::new();
    let mut left = count as usize * frame.len();
    while left > 0 {
        now += STEP;
        inbound.clear();
        inbound.extend_from_slice(&batch[..batch.len().min(left)]);
        let taken = Exchange::handle_bytes(&mut from, now, &mut inbound);
        let taken = taken.map_err(|_| Trouble::failed("the relay refused a frame"))?;
        from.handle_batch_end(now)
            .map_err(|_| Trouble::failed("the relay refused a batch"))?;
        let mut arrived = 0;
        loop {
            let bytes = give(&mut to, now, &mut to_out)?;
            if bytes.is_empty() {
                break;
            }
            arrived += bytes.len();
            // Only the first frame is looked at: reading is the client's cost.
            let first = decode(&bytes, BODY_MAX).during("decoding")?;
            if !matches!(first, Some((Frame::Data { message, .. }, _)) if message.len() == len) {
                return Err(Trouble::failed("another frame came out"));
            }
        }
        if taken != inbound.len() || arrived != inbound.len() {
            return Err(Trouble::failed(format!(
                "{arrived} of {} bytes arrived",
                inbound.len()
            )));
        }
        left -= taken;
        give(&mut from, now, &mut from_out)?;
    }
    Ok(())
}

fn attach(relay: &Forwarder, host: u8, now: Instant) -> Result<Forwarding> {
    let net = Vni::new(NET).ok_or_else(|| Trouble::failed("a reserved number"))?;
    let index = HostIndex::new(host.into()).ok_or_else(|| Trouble::failed("a reserved host"))?;
    let ticket = Ticket {
        device: DeviceId([host; 16]),
        identity: IdentitySecret::from_seed([host; 32]).public(),
        networks: vec![(net, index)],
        epoch: 1,
        not_before: WALL - Duration::from_secs(10),
        expires: WALL + Duration::from_secs(86_400),
    };
    relay
        .attach(ticket, 1, now, WALL)
        .map_err(|_| Trouble::failed("the relay refused a client"))
}

/// Returns the bytes that the relay sends at this time.
fn give(peer: &mut Forwarding, now: Instant, out: &mut Batch) -> Result<Vec<u8>> {
    peer.fill(now, Waker::noop(), out)
        .map_err(|_| Trouble::failed("the relay ended a connection"))?;
    Ok(out.take_bytes())
}

const NET: u32 = 0x1000;

/// Bytes read at once: half of the first window, so that an honest client never has to wait.
const BATCH: usize = 256 * 1_024;

/// Seconds since the Unix epoch; any value does.
const WALL: UnixTime = UnixTime::from_secs(1_700_000_000);
