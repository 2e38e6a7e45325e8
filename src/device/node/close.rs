//! The end of a node: in order, at once, or because its last handle was dropped. Decides what the
//! end waits for, and how long.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use overlan_transport::clock::now;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Inner, Node};
use crate::device::enrol::{ForgetError, forget};
use crate::device::state::DirLock;
use overlan_plane::engine::Engine;
use overlan_plane::route::LinkState;

/// The reason why the end of a node was not clean. The node has ended all the same.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// A peer did not acknowledge everything that was written to it; its connections were reset.
    #[error(
        "a peer did not acknowledge everything that was written to it within {} s",
        waited.as_secs()
    )]
    Undelivered {
        /// The length of the wait.
        waited: Duration,
    },
    /// The ephemeral device was not removed at the controller, which lists it as offline. Nobody
    /// can use it any more.
    #[error(transparent)]
    NotRemoved(#[from] ForgetError),
}

/// The things that a node from a builder owns besides its tasks.
#[derive(Debug, Default)]
pub(super) struct Owned {
    /// The lock on the state.
    pub(super) lock: Option<DirLock>,
    /// True if the device is removed at the end.
    pub(super) ephemeral: bool,
}

/// Ends the node when its last handle is dropped.
pub(super) struct Alive {
    stop: CancellationToken,
    engine: Weak<Engine>,
}

impl Alive {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self {
            stop: inner.stop.clone(),
            engine: Arc::downgrade(&inner.engine),
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(engine) = self.engine.upgrade() {
            reset_flows(&engine);
        }
    }
}

impl Node {
    /// Ends the node in order, and returns when it has ended. No connection is accepted or dialled
    /// any more; peers have up to 10 s to acknowledge everything that was written; then every
    /// connection is reset and every task ended. An ephemeral device, such as one in memory, is
    /// removed at the controller, which may take another 10 s. Afterwards the state directory is
    /// free.
    ///
    /// [`Stream`](super::Stream)s that still exist fail with `ConnectionAborted`, listeners and UDP
    /// sockets with [`Closed`](super::Closed). A second call does nothing.
    ///
    /// # Errors
    /// See [`CloseError`]; the node has ended in any case.
    pub async fn close(&self) -> Result<(), CloseError> {
        let inner = &self.inner;
        inner.closing.cancel();
        let delivered = inner.has_left()
            || timeout(DELIVER_WITHIN, delivered(&inner.engine))
                .await
                .is_ok();
        self.shutdown().await;
        let Owned { lock, ephemeral } = std::mem::take(&mut *inner.owned.lock());
        if ephemeral {
            forget(&inner.state, &inner.options.outgoing, FORGET_WITHIN).await?;
        }
        drop(lock);
        match delivered {
            true => Ok(()),
            false => Err(CloseError::Undelivered {
                waited: DELIVER_WITHIN,
            }),
        }
    }

    /// Closes the served ports to new connections. Waits, at most `within`, until their connections
    /// have ended and peers have acknowledged everything that was written to them.
    pub async fn drain(&self, within: Duration) {
        let inner = &self.inner;
        inner.closing.cancel();
        inner.serving.close();
        let drained = async {
            inner.serving.wait().await;
            delivered(&inner.engine).await;
        };
        // Connections that are left are reset by the end.
        let _ = timeout(within, drained).await;
    }

    /// Resets every connection, and reports to peers and controller that this device leaves, for at
    /// most 3 s. Programs read the bytes that have arrived and then an error, since a cut answer
    /// must not look whole. A second call does nothing.
    pub async fn leave(&self) {
        let inner = &self.inner;
        inner.closing.cancel();
        if inner.has_left() {
            return;
        }
        // While the tasks that carry the report still run.
        inner.engine.leave(now());
        let reported = async { tokio::join!(inner.control.leave(), inner.links_ended()) };
        let _ = timeout(LEAVE_WITHIN, reported).await;
    }

    /// Leaves as by [`Node::leave`], ends every task at once, and returns when they have ended.
    /// Bytes under way are lost; an ephemeral device stays at the controller, offline.
    pub async fn shutdown(&self) {
        self.leave().await;
        let inner = &self.inner;
        inner.stop.cancel();
        inner.tasks.close();
        inner.tasks.wait().await;
        reset_flows(&inner.engine);
    }

    /// Returns when the end of the node begins, by [`Node::close`] or [`Node::shutdown`].
    pub async fn closed(&self) {
        self.inner.closing.cancelled().await;
    }
}

impl Inner {
    fn has_left(&self) -> bool {
        self.stop.is_cancelled() || self.engine.is_leaving()
    }

    /// Returns when no link is up.
    async fn links_ended(&self) {
        let mut changes = self.links_changed.subscribe();
        let is_up = |state: &LinkState| *state == LinkState::Up;
        while self.engine.link_states().values().any(is_up) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Waits until every peer has acknowledged everything that was written to it.
async fn delivered(engine: &Engine) {
    poll_fn(|cx| {
        let mut all = Poll::Ready(());
        for membership in engine.memberships().values() {
            if membership.stack().poll_delivered(cx).is_pending() {
                all = Poll::Pending;
            }
        }
        all
    })
    .await;
}

fn reset_flows(engine: &Engine) {
    for membership in engine.memberships().values() {
        membership.stack().reset_flows(now());
    }
}

/// Time for peers to acknowledge what was written. A failed relay is replaced within seconds; a
/// larger amount of data takes longer, and the program decides whether to wait for it.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);

/// Time for the report that this device leaves: a round trip, the time in which receivers of bulk
/// data make room at the relay, and some for a busy machine. A peer without the report waits for
/// its patience to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// Time for the controller to remove a device.
const FORGET_WITHIN: Duration = Duration::from_secs(10);
