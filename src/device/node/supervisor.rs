//! The supervisor task: gives the engine its clock, its netmaps and its links, and stores the
//! identities of peers. Decides nothing about packets or routes.

use std::sync::Arc;

use overlan_plane::engine::KnownPeers;
use overlan_protocol::netmap::Netmap;
use overlan_transport::clock::{now, wall};
use tokio::time::sleep_until;

use super::Inner;
use crate::device::controller_session::{Health, blocking};

impl Inner {
    /// Gives the engine its clock, its netmaps and its links.
    pub(super) async fn supervise(self: Arc<Self>, mut known: KnownPeers) {
        let mut netmap = self.control.netmap();
        let mut health = self.control.health();
        self.follow_netmap(&netmap.borrow_and_update().clone(), &mut known);
        loop {
            for relay in self.engine.poll_wanted() {
                let span = self.relay_span(relay);
                self.tasks.spawn(self.clone().run_link(relay, span));
            }
            let deadline = self.engine.poll_timeout();
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = due => {}
                () = self.wake.notified() => {}
                Ok(()) = netmap.changed() => {
                    self.follow_netmap(&netmap.borrow_and_update().clone(), &mut known);
                }
                Ok(()) = health.changed() => {
                    // The netmap changes before the health, so this one is the session's.
                    let health = health.borrow_and_update().clone();
                    self.engine.handle_controller(matches!(health, Health::Connected { .. }));
                    self.follow_netmap(&netmap.borrow_and_update().clone(), &mut known);
                }
            }
            self.engine.handle_timeout(now());
            self.turns.send_modify(|turn| *turn = turn.wrapping_add(1));
        }
    }

    fn follow_netmap(self: &Arc<Self>, netmap: &Netmap, known: &mut KnownPeers) {
        // Not around the whole task, since it wakes for every deadline of a packet.
        let _device = self.span.enter();
        known.handle_time(wall());
        for refused in self.engine.apply(now(), netmap, known) {
            let (name, device) = (&refused.label, &refused.device);
            let peer = tracing::warn_span!("peer", name, %device);
            peer.in_scope(|| tracing::warn!(reason = %refused.reason, "a peer is not used"));
        }
        self.control.handle_applied(netmap.version);
        if known.take_changed() {
            self.known.send_replace(Arc::new(known.clone()));
        }
        self.serve_ports();
        self.serve_routes();
        self.report_routes();
        self.links_changed.send_modify(|count| *count += 1);
    }

    /// Stores the identities of peers when they change, so that the supervisor never waits for a
    /// disk.
    pub(super) async fn keep_known_peers(self: Arc<Self>) {
        let mut changes = self.known.subscribe();
        loop {
            let changed = self.stop.run_until_cancelled(changes.changed()).await;
            let is_over = !matches!(changed, Some(Ok(())));
            if is_over && !changes.has_changed().unwrap_or(false) {
                return;
            }
            let known = changes.borrow_and_update().clone();
            let state = self.state.clone();
            blocking(move || {
                if let Err(error) = state.save_known_peers(known.stored()) {
                    tracing::warn!(%error, "cannot store the identities of peers");
                }
            })
            .await;
        }
    }
}
