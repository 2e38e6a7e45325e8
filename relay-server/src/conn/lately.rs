//! Remembers which devices sent to a client lately. Holds one entry per source and decides when an
//! entry is too old; the connection says when its client is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::egress::Release;
use crate::switch::{AttachId, Place};

/// The sources that sent to a client lately. Each hears when the client is gone: it may wait for an
/// answer to frames that were lost with the connection, and would notice after its next
/// retransmission, or never.
#[derive(Default)]
pub(super) struct Lately {
    sources: BTreeMap<(AttachId, u32), (Arc<Client>, Place, Instant)>,
    /// Number of sources beyond which the silent ones are removed.
    most: usize,
}

impl Lately {
    /// Notes that the socket took frames of a source, which may be lost with the connection.
    pub(super) fn note(&mut self, now: Instant, release: Release<Arc<Client>>) {
        let Release { id, source, to, .. } = release;
        if self.sources.len() > self.most.max(LATELY_MIN) {
            self.sources.retain(|_, (_, _, at)| now < *at + LATELY);
            self.most = 2 * self.sources.len();
        }
        self.sources.insert((id, to.vni), (source, to, now));
    }

    /// Tells all of them that the client is gone.
    pub(super) fn tell(&self, now: Instant) {
        for (source, to, at) in self.sources.values() {
            if now < *at + LATELY {
                source.peer_gone(*to);
            }
        }
    }
}

/// A source that sent within this time may be in a conversation, as in
/// [`Liveness`](overlan_protocol::liveness::Liveness).
const LATELY: Duration = Duration::from_secs(30);

/// Number of sources up to which the silent ones stay: a page of memory.
const LATELY_MIN: usize = 64;
