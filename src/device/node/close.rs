//! How a node ends: in order, at once, or because nobody holds it any more. Decides what is waited
//! for and how long.

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

/// The reason why a node that was closed left something behind. It has ended all the same.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// Some peer did not acknowledge everything that was written to it; those connections were
    /// reset.
    #[error("not everything that was written reached its peer within {} s", waited.as_secs())]
    Undelivered {
        /// The time that was waited.
        waited: Duration,
    },
    /// The device was to be removed, and the controller was not told: it stays there, offline, and
    /// nobody can use it.
    #[error(transparent)]
    NotRemoved(#[from] ForgetError),
}

/// The things that a node from a builder holds besides itself.
#[derive(Debug, Default)]
pub(super) struct Owned {
    /// Keeps other nodes away from the state.
    pub(super) lock: Option<DirLock>,
    /// The device is removed at the end.
    pub(super) ephemeral: bool,
}

/// Ends the node when the last of those who use it is gone.
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
    /// Ends in order, and waits for it: nothing new is accepted or dialed, what was written goes
    /// out and is acknowledged by the peers, for at most 10 s, then every connection is reset and
    /// every task ended. An ephemeral device, one in memory for example, is removed at the
    /// controller, for which another 10 s may pass. The state directory is free afterwards.
    ///
    /// [`Stream`](super::Stream)s that are still held fail with `ConnectionAborted`, listeners and UDP sockets with
    /// [`Closed`](super::Closed). Calling it again does nothing.
    ///
    /// # Errors
    /// What was left behind; the node has ended in any case.
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

    /// Lets nobody in at published ports any more, and waits, at most `within`, until the
    /// connections that came in by them have ended and peers have acknowledged what was written to
    /// them.
    pub async fn drain(&self, within: Duration) {
        let inner = &self.inner;
        inner.closing.cancel();
        inner.serving.close();
        let drained = async {
            inner.serving.wait().await;
            delivered(&inner.engine).await;
        };
        // What is left then is reset by the end.
        let _ = timeout(within, drained).await;
    }

    /// Resets every connection and tells peers and controller that this device leaves, for which
    /// they get at most 3 s. Programs read what had arrived and then an error: an end that no
    /// source made must not look like one. Again it does nothing.
    pub async fn leave(&self) {
        let inner = &self.inner;
        inner.closing.cancel();
        if inner.has_left() {
            return;
        }
        // Before the tasks end that carry it.
        inner.engine.leave(now());
        let told = async { tokio::join!(inner.control.leave(), inner.links_ended()) };
        let _ = timeout(LEAVE_WITHIN, told).await;
    }

    /// Ends everything at once and waits for it, after [`Node::leave`]. What is under way is lost;
    /// an ephemeral device stays at the controller, offline.
    pub async fn shutdown(&self) {
        self.leave().await;
        let inner = &self.inner;
        inner.stop.cancel();
        inner.tasks.close();
        inner.tasks.wait().await;
        reset_flows(&inner.engine);
    }

    /// Returns when the node was told to end, by [`Node::close`] or [`Node::shutdown`].
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

/// Waits until every peer has acknowledged what was written to it.
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

/// The time that peers may take for what was written. A relay that failed is replaced within
/// seconds; who needs longer has bytes to move, and then waiting is the program's to decide.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);

/// The time that it may take to tell peers and the controller that this device leaves: a round
/// trip, what receivers of bulk data need to make room at the relay, and some for a busy machine.
/// Who was not told waits for the patience.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// The time that the controller may take to remove a device.
const FORGET_WITHIN: Duration = Duration::from_secs(10);
