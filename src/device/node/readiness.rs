//! Waits until other devices can reach a node. Decides the reason that a start without success has;
//! decides nothing about links or sessions.

use std::time::Duration;

use overlan_protocol::api::Bar;
use tokio::time::timeout;

use super::{Inner, Node};
use crate::device::controller_session::Health;

/// The reason why a node is not ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// The controller removed this device.
    #[error("the controller removed this device; enrol again with `overlan login` or an auth key")]
    Removed,
    /// The controller does not know this device: it was restored from an older backup, or removed
    /// the device long ago.
    #[error(
        "{}. Its keys are put aside, and it comes back if the controller knows it again",
        crate::device::controller_session::UNKNOWN
    )]
    Unknown,
    /// The controller was not reached, and there is no stored netmap to start from.
    #[error("the controller was not reached within {} s: {error}", waited.as_secs())]
    Controller {
        /// The time that was waited.
        waited: Duration,
        /// The error of the last attempt.
        error: String,
    },
    /// An admin has not approved it for any network yet, or has removed it from its last one.
    #[error(
        "this device still waits for the approval of an admin, after {} s",
        waited.as_secs()
    )]
    Approval {
        /// The time that was waited.
        waited: Duration,
    },
    /// The controller knows this device and lets it take no part.
    #[error("{reason}")]
    Barred {
        /// The reason.
        why: Bar,
        /// The controller's words for it, with what to do.
        reason: String,
    },
    /// No relay was reached.
    #[error("no relay was reached within {} s: {error}", waited.as_secs())]
    Relay {
        /// The time that was waited.
        waited: Duration,
        /// The error of the last attempt, for each relay.
        error: String,
    },
    /// The node was shut down.
    #[error("the node was shut down")]
    Stopped,
}

impl Node {
    /// Waits until other devices can reach this one: it knows its networks and is attached to a
    /// relay of each.
    pub async fn ready(&self, within: Option<Duration>) -> Result<(), NotReady> {
        let inner = &self.inner;
        let mut links = inner.links_changed.subscribe();
        let mut netmap = inner.control.netmap();
        let mut health = inner.control.health();
        let wait = async {
            loop {
                let heard = match &*health.borrow() {
                    Health::Removed => return Err(NotReady::Removed),
                    Health::Unknown => return Err(NotReady::Unknown),
                    Health::Barred { why, reason } => {
                        let (why, reason) = (*why, reason.clone());
                        return Err(NotReady::Barred { why, reason });
                    }
                    Health::Connecting => !inner.control.began_aside(),
                    Health::Connected { .. } | Health::Unreachable { .. } => true,
                };
                if heard && netmap.borrow().version > 0 && inner.engine.is_attached() {
                    return Ok(());
                }
                tokio::select! {
                    _ = links.changed() => {}
                    _ = netmap.changed() => {}
                    _ = health.changed() => {}
                    () = inner.stop.cancelled() => return Err(NotReady::Stopped),
                }
            }
        };
        match within {
            None => wait.await,
            Some(within) => timeout(within, wait)
                .await
                .unwrap_or_else(|_| Err(inner.explain(within))),
        }
    }

    /// Waits until the controller reports that this device is in no network, so that an admin has
    /// to approve it.
    pub async fn awaits_approval(&self) {
        let mut netmap = self.inner.control.netmap();
        // Only an open session says so.
        if netmap
            .wait_for(|netmap| netmap.version > 0 && netmap.networks.is_empty())
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

impl Inner {
    fn explain(&self, waited: Duration) -> NotReady {
        let health = self.control.health().borrow().clone();
        let has_ticket = !self.control.ticket().borrow().ticket.is_empty();
        if self.control.netmap().borrow().version == 0 || !has_ticket {
            let error = if let Health::Unreachable { error } = health {
                error
            } else {
                "it has not answered yet".to_owned()
            };
            return NotReady::Controller { waited, error };
        }
        if self.control.netmap().borrow().networks.is_empty() {
            return NotReady::Approval { waited };
        }
        let notes = self.link_notes.lock();
        let errors: Vec<&str> = notes
            .values()
            .filter_map(|note| note.error.as_deref())
            .collect();
        let error = if errors.is_empty() {
            "no relay is registered, or none answered yet".to_owned()
        } else {
            errors.join("; ")
        };
        NotReady::Relay { waited, error }
    }
}
