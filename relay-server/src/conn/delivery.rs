//! Hands gathered frames to their receiver. Decides what becomes of those that it does not take:
//! they are counted, and their bytes are free for the sender.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::client::{Client, NotTaken};
use crate::egress::Run;
use crate::hub::Hub;
use crate::intake::Gathering;
use crate::metrics::Dropped;
use crate::switch::{Attachment, Misroute, Verdict};

/// Hands on frames that `from` sent. Returns their queue, which is empty, for its memory.
pub(super) fn hand_on(
    hub: &Hub,
    from: &Arc<Client>,
    attachment: &Attachment<Arc<Client>>,
    now: Instant,
    mut gathering: Gathering,
) -> VecDeque<Run> {
    gathering.trim_last(&hub.pool);
    let Gathering {
        to,
        receiver,
        frames,
        bytes,
        mut runs,
        ..
    } = gathering;
    if bytes == 0 {
        return runs;
    }
    from.admit(to, bytes);
    let mut shed = Vec::new();
    let mut deliver = |receiver: Option<Arc<Client>>, runs: &mut _| match receiver {
        Some(receiver) => receiver.deliver(now, from, to, runs, &mut shed),
        None => Err(NotTaken::Closed),
    };
    let cost = runs.iter().map(Run::cost).sum();
    let mut taken = if hub.charge(now, from, to, cost) {
        deliver(receiver.map(|(client, _)| client), &mut runs)
    } else {
        Err(NotTaken::RelayFull)
    };
    if taken == Err(NotTaken::Closed) && !runs.is_empty() {
        // A newer connection may have taken the receiver's place in this very moment.
        taken = match attachment.route(to.address()) {
            Verdict::Deliver { receiver, .. } => deliver(Some(receiver), &mut runs),
            Verdict::PeerGone(_) | Verdict::Drop(_) => Err(NotTaken::Closed),
        };
    }
    hub.tell_lost(now, Dropped::ReceiverFull, shed);
    let Err(reason) = taken else {
        return runs;
    };
    // Without a receiver no frame was kept, and all bytes are free.
    let (frames, free) = if runs.is_empty() {
        (frames, bytes)
    } else {
        if taken != Err(NotTaken::RelayFull) {
            from.discharge(to, runs.iter().map(Run::cost).sum());
        }
        let frames = runs.iter().map(|run| u64::from(run.frames)).sum();
        (frames, runs.iter().map(|run| run.bytes.len()).sum())
    };
    match reason {
        NotTaken::Full => hub.metrics.count_dropped(Dropped::ReceiverFull, frames),
        NotTaken::RelayFull => hub.metrics.count_dropped(Dropped::RelayFull, frames),
        NotTaken::Closed => {
            hub.metrics.peer_gone.inc_by(frames);
            from.peer_gone(to);
        }
    }
    hub.pool.give(runs.drain(..).map(|run| run.bytes));
    from.release(now, to, free, None);
    runs
}

impl From<Misroute> for Dropped {
    fn from(misroute: Misroute) -> Self {
        match misroute {
            Misroute::ForeignNetwork => Dropped::ForeignNetwork,
            Misroute::NoSuchHost => Dropped::NoSuchHost,
            Misroute::NotAttached => Dropped::NotAttached,
        }
    }
}
