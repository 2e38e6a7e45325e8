//! Confirms that peers reach this device, by asking those that are online for an echo. Decides
//! which peers count: one that answers has this device in its netmap and a session with it, so a
//! dial of this device's name succeeds there.

use std::future::pending;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use overlan_protocol::policy::Protocol;
use overlan_transport::clock::now;
use tokio::time::timeout;

use super::{Inner, Node};
use crate::device::controller_session::Health;
use crate::device::status::Confirmed;
use overlan_plane::engine::Peer;
use overlan_plane::route::Choice;

impl Node {
    /// Asks every peer that is online and that policy allows to ask, and waits for the answers, at
    /// most `within`.
    ///
    /// Without a controller session it is not known which peers are online, and no peer is asked: a
    /// device that starts from its disk is ready without its peers.
    pub async fn confirm(&self, within: Duration) -> Confirmed {
        let mut confirmed = Confirmed::default();
        let asking = self.ask_all(&mut confirmed);
        // The counts until then are the result.
        let _ = timeout(within, asking).await;
        confirmed
    }

    async fn ask_all(&self, confirmed: &mut Confirmed) {
        let inner = &self.inner;
        let mut health = inner.control.health();
        let known = health
            .wait_for(|health| *health != Health::Connecting)
            .await;
        if !known.is_ok_and(|health| matches!(*health, Health::Connected { .. })) {
            return;
        }
        // The netmap comes with the first line of the session.
        let mut netmap = inner.control.netmap();
        let Ok(netmap) = netmap
            .wait_for(|netmap| netmap.version > 0)
            .await
            .map(|it| it.clone())
        else {
            return;
        };
        let memberships = inner.engine.memberships();
        let mut waiting = Vec::new();
        for (id, network) in &netmap.networks {
            let Some(membership) = memberships.get(id) else {
                continue;
            };
            let filter = membership.filter();
            for (host, peer) in &network.peers {
                let known = membership.peer(*host);
                if peer.online && filter.allows_outbound(*host, Protocol::Icmp, 0) {
                    waiting.extend(known.map(|peer| (membership.clone(), peer, host.v4())));
                }
            }
        }
        confirmed.asked = waiting.len();
        let mut asked = FuturesUnordered::new();
        loop {
            while asked.len() < AT_ONCE
                && let Some((membership, peer, address)) = waiting.pop()
            {
                let ping = membership.stack().ping(now(), address.into(), ECHO);
                asked.push(async move {
                    let answered = async {
                        match ping {
                            Ok(ping) => ping.await.map_or(PeerAnswer::None, |_| PeerAnswer::Here),
                            // The stack has no room for another echo.
                            Err(_) => PeerAnswer::None,
                        }
                    };
                    tokio::select! {
                        answer = answered => answer,
                        () = self.inner.absent(&peer) => PeerAnswer::Absent,
                    }
                });
            }
            match asked.next().await {
                Some(PeerAnswer::Here) => confirmed.answered += 1,
                // It has left, and the controller has not noticed yet.
                Some(PeerAnswer::Absent) => confirmed.asked -= 1,
                Some(PeerAnswer::None) => {}
                None => return,
            }
        }
    }
}

impl Inner {
    /// Returns when none of the relays of `peer` has it, or none can be asked.
    pub(super) async fn absent(&self, peer: &Peer) {
        let mut turns = self.turns.subscribe();
        while !matches!(self.engine.way_to(peer), Choice::Wait | Choice::Nowhere) {
            if turns.changed().await.is_err() {
                return pending().await;
            }
        }
    }
}

/// The outcome of asking one peer.
enum PeerAnswer {
    Here,
    Absent,
    None,
}

/// Longest wait for the answers of online peers, since one of them may have vanished a moment ago.
pub const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// The number of peers that are asked at the same time: so many handshakes take milliseconds.
const AT_ONCE: usize = 64;

/// The content of an echo request.
const ECHO: &[u8] = b"overlan";
