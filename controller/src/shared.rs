//! What all connections and tasks of one controller share. Decides nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use overlan_protocol::key::DeviceId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Timings;
use crate::auth::password::Hasher;
use crate::auth::throttle::Throttle;
use crate::budget::Budgets;
use crate::ca::names::NamesCa;
use crate::changelog::ChangeLog;
use crate::clock;
use crate::heartbeat::Heartbeats;
use crate::lineage::Runs;
use crate::presence::Presence;
use crate::report::Reports;
use crate::store::{Store, StoreError, relays, runs};
use crate::tickets::TicketSigner;

/// One controller's state.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) changelog: ChangeLog,
    pub(crate) signer: TicketSigner,
    pub(crate) names_ca: NamesCa,
    pub(crate) hasher: Hasher,
    pub(crate) throttle: Mutex<Throttle>,
    pub(crate) budgets: Mutex<Budgets>,
    pub(crate) presence: Mutex<Presence>,
    pub(crate) heartbeats: Mutex<Heartbeats>,
    pub(crate) reports: Mutex<Reports>,
    pub(crate) domain: String,
    pub(crate) timings: Timings,
    /// Wakes the housekeeping task when presence changed.
    pub(crate) presence_changed: Notify,
    pub(crate) stop: CancellationToken,
    pub(crate) runs: Runs,
    /// When this run began, seconds since the Unix epoch.
    pub(crate) began: u64,
    /// Whether somebody showed that the database went back in time.
    pub(crate) rewound: AtomicBool,
}

impl Shared {
    /// Somebody of ours was told something in a time that this database does not have. Believed once in a run: whoever lies makes
    /// relays ask for their orders.
    pub(crate) async fn handle_lost_time(&self, who: &str) -> Result<(), StoreError> {
        if self.rewound.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        tracing::warn!(
            told_by = who,
            "the database is older than what this deployment was told: it was restored from a backup; what was made since is lost, and \
             devices enrolled since have to enrol again"
        );
        let mut tx = self.store.write().await?;
        if runs::rewound(&mut tx, clock::unix_secs()).await?.is_none() {
            runs::set_rewound(&mut tx, self.began).await?;
        }
        relays::bump_orders(&mut tx).await?;
        self.store.commit(tx).await
    }

    /// An open netmap stream of `device`; while it lives the device is online.
    pub(crate) fn attach(self: &Arc<Self>, device: DeviceId) -> Attached {
        lock(&self.presence).handle_open(device);
        self.presence_changed.notify_one();
        Attached {
            shared: self.clone(),
            device,
        }
    }
}

/// See [`Shared::attach`].
#[derive(Debug)]
pub(crate) struct Attached {
    shared: Arc<Shared>,
    device: DeviceId,
}

impl Drop for Attached {
    fn drop(&mut self) {
        lock(&self.shared.presence).handle_close(clock::now(), self.device);
        self.shared.presence_changed.notify_one();
    }
}

/// Locks plain data. Nobody panics while holding one of these locks, and none is held across an await.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
