//! The state that all connections and tasks of one controller share. Decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use overlan_protocol::UnixTime;
use overlan_protocol::key::{DeviceId, NetworkId, RelayId};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::applied::Awaiting;
use crate::auth::password::Hasher;
use crate::auth::throttle::Throttle;
use crate::budget::Budgets;
use crate::ca::names::NamesCa;
use crate::changelog::ChangeLog;
use crate::clock;
use crate::config::Timings;
use crate::enrol::DeviceLimits;
use crate::heartbeat::Heartbeats;
use crate::keys::Keys;
use crate::lineage::Runs;
use crate::login_requests::Polls;
use crate::netmaps::OrgId;
use crate::oidc::Issuers;
use crate::policy::{Sight, Sights};
use crate::presence::Presence;
use crate::repeats::Repeats;
use crate::report::Reports;
use crate::sealing::Sealer;
use crate::store::{Store, StoreError, Tx, relays, runs};

/// One deployment, as its running controller holds it.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub(crate) store: Store,
    pub(crate) changelog: ChangeLog,
    pub(crate) keys: Keys,
    /// Seals secrets in the database.
    pub(crate) sealer: Sealer,
    pub(crate) names_ca: NamesCa,
    pub(crate) hasher: Hasher,
    pub(crate) throttle: Mutex<Throttle>,
    /// The times of polls of login requests.
    pub(crate) polls: Mutex<Polls>,
    pub(crate) budgets: Mutex<Budgets>,
    pub(crate) repeats: Mutex<Repeats>,
    pub(crate) presence: Mutex<Presence>,
    pub(crate) heartbeats: Mutex<Heartbeats>,
    pub(crate) reports: Mutex<Reports>,
    /// Keys of the issuers that trust rules name.
    pub(crate) issuers: Issuers,
    /// The policies of networks.
    pub(crate) sights: Sights,
    /// The changes whose arrival somebody waits for.
    pub(crate) awaiting: Mutex<Awaiting>,
    /// Wakes those who wait when a device or relay confirmed a change.
    pub(crate) confirmed: watch::Sender<()>,
    /// The address by which browsers reach this controller, without a path.
    pub(crate) origin: String,
    pub(crate) domain: String,
    pub(crate) timings: Timings,
    /// Strangers may make organisations of their own.
    pub(crate) sign_up: bool,
    pub(crate) device_limits: DeviceLimits,
    /// Wakes the housekeeping task when presence changed.
    pub(crate) presence_changed: Notify,
    /// A device came that ends at a time, so the housekeeping task looks for the next end.
    pub(crate) ends_changed: AtomicBool,
    pub(crate) stop: CancellationToken,
    pub(crate) runs: Runs,
    /// The beginning of this run, seconds since the Unix epoch.
    pub(crate) began: UnixTime,
    /// A device or relay showed that the database went back in time.
    pub(crate) rewound: AtomicBool,
}

impl Deployment {
    /// Handles the report of a device or relay that knows a time which this database does not have.
    /// Believed once in a run, since a lie makes all relays ask for their orders.
    pub(crate) async fn handle_lost_time(&self, who: &str) -> Result<(), StoreError> {
        if self.rewound.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        tracing::warn!(
            reported_by = who,
            "the database is older than this deployment: it was restored from a backup; everything \
             made since is lost, and devices enrolled since must enrol again"
        );
        let mut tx = self.store.write().await?;
        if runs::rewound(&mut tx, clock::wall()).await?.is_none() {
            runs::set_rewound(&mut tx, self.began).await?;
        }
        relays::bump_orders(&mut tx).await?;
        self.store.commit(tx).await
    }

    /// Returns the policy of a network as `tx` sees it, or a newer one; `None` if there is no such
    /// network.
    pub(crate) async fn sight(
        &self,
        tx: &mut Tx,
        org: OrgId,
        network: NetworkId,
    ) -> Result<Option<Arc<Sight>>, StoreError> {
        let sight = self.sights.get(tx, org, network, clock::wall()).await?;
        if sight
            .as_ref()
            .is_some_and(|sight| sight.next_change().is_some())
        {
            // The housekeeping task may sleep until a rule ends later.
            self.presence_changed.notify_one();
        }
        Ok(sight)
    }

    /// Notes that `device` has applied all changes up to `version`.
    pub(crate) fn confirm_device(&self, device: DeviceId, version: u64) {
        if self.awaiting.lock().handle_device(device, version) {
            self.confirmed.send_replace(());
        }
    }

    /// Notes that `relay` has applied its orders up to `orders`.
    pub(crate) fn confirm_relay(&self, relay: RelayId, orders: u64) {
        if self.awaiting.lock().handle_relay(relay, orders) {
            self.confirmed.send_replace(());
        }
    }

    /// Opens a netmap stream of `device`, which is online as long as the returned value lives.
    pub(crate) fn attach(self: &Arc<Self>, device: DeviceId) -> Attached {
        self.presence.lock().handle_open(device);
        self.presence_changed.notify_one();
        Attached {
            deployment: self.clone(),
            device,
        }
    }
}

/// An open netmap stream; see [`Deployment::attach`].
#[derive(Debug)]
pub(crate) struct Attached {
    deployment: Arc<Deployment>,
    device: DeviceId,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.deployment
            .presence
            .lock()
            .handle_close(clock::now(), self.device);
        self.deployment.presence_changed.notify_one();
    }
}
