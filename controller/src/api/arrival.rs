//! Waits until a change has arrived at the devices and relays that are online, for a bounded time.
//! [`crate::applied`] decides when that is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use overlan_protocol::api::Applied;
use overlan_protocol::key::{DeviceId, NetworkId, RelayId};

use crate::applied::WaitId;
use crate::clock;
use crate::deployment::Deployment;
use crate::netmaps::OrgId;
use crate::store::{StoreError, Tx, accounts, changes, devices, relays};

/// A change that is written and on its way. Dropping it ends the wait.
#[derive(Debug)]
pub(super) struct Arrival {
    deployment: Arc<Deployment>,
    id: Option<WaitId>,
    began: Instant,
    devices: BTreeMap<DeviceId, String>,
    relays: BTreeMap<RelayId, String>,
}

/// The devices that have to learn of a change.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whom<'a> {
    /// The members of these networks.
    Members(&'a BTreeSet<NetworkId>),
    /// The same, but for these devices, which were removed or barred; relays must refuse them.
    Without(&'a BTreeSet<NetworkId>, &'a BTreeSet<DeviceId>),
}

impl Arrival {
    /// Expects everything that `tx` has written so far to arrive. Called before the commit, so that
    /// no confirmation comes too early.
    pub(super) async fn expect(
        deployment: &Arc<Deployment>,
        tx: &mut Tx,
        org: OrgId,
        whom: Whom<'_>,
    ) -> Result<Self, StoreError> {
        let began = clock::now();
        let version = changes::version(tx).await?;
        let (networks, without) = match whom {
            Whom::Members(networks) => (networks, None),
            Whom::Without(networks, devices) => (networks, Some(devices)),
        };
        let mut online = BTreeMap::new();
        for device in devices::of_org(tx, org).await? {
            let is_member = device
                .places
                .iter()
                .any(|place| networks.contains(&place.network));
            let is_gone = without.is_some_and(|without| without.contains(&device.id));
            let is_attached = deployment.presence.lock().is_attached(device.id);
            if is_member && !is_gone && is_attached {
                online.insert(device.id, device.called());
            }
        }
        let (mut orders, mut refusing) = (0, BTreeMap::new());
        if without.is_some() {
            orders = relays::orders_version(tx, org).await?;
            let all = relays::list(tx, org).await?.into_iter();
            refusing.extend(all.filter(|it| it.online).map(|it| (it.id, it.name)));
        }
        let id = deployment.awaiting.lock().begin(
            version,
            online.keys().copied().collect(),
            orders,
            refusing.keys().copied().collect(),
        );
        Ok(Self {
            deployment: deployment.clone(),
            id,
            began,
            devices: online,
            relays: refusing,
        })
    }

    /// The same for all networks of the organisation, after these devices were removed from it.
    pub(super) async fn expect_everywhere(
        deployment: &Arc<Deployment>,
        tx: &mut Tx,
        org: OrgId,
        without: &BTreeSet<DeviceId>,
    ) -> Result<Self, StoreError> {
        let networks = accounts::networks(tx, org).await?;
        let networks = networks.iter().map(|network| network.id).collect();
        let whom = match without.is_empty() {
            true => Whom::Members(&networks),
            false => Whom::Without(&networks, without),
        };
        Self::expect(deployment, tx, org, whom).await
    }

    /// Waits until it has arrived everywhere, for a bounded time. `None` if too many changes
    /// are waited for at once.
    pub(super) async fn wait(self) -> Option<Applied> {
        let id = self.id?;
        let deployment = &self.deployment;
        let mut confirmed = deployment.confirmed.subscribe();
        let until = self.began + deployment.timings.arrive_within;
        let progress = loop {
            let progress = deployment.awaiting.lock().progress(id);
            if progress.is_complete() {
                break progress;
            }
            tokio::select! {
                _ = confirmed.changed() => {}
                () = tokio::time::sleep_until(until.into()) => break progress,
                () = deployment.stop.cancelled() => break progress,
            }
        };
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let names = progress.devices.iter().map(|id| self.devices.get(id));
        let names = names.chain(progress.relays.iter().map(|id| self.relays.get(id)));
        Some(Applied {
            devices: count(progress.devices_of - progress.devices.len()),
            devices_of: count(progress.devices_of),
            relays: count(progress.relays_of - progress.relays.len()),
            relays_of: count(progress.relays_of),
            within_ms: u64::try_from(clock::now().duration_since(self.began).as_millis())
                .unwrap_or(u64::MAX),
            missing: names.flatten().take(MISSING_MAX).cloned().collect(),
        })
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.deployment.awaiting.lock().end(id);
        }
    }
}

/// Names of those that have not applied a change that an answer shows.
const MISSING_MAX: usize = 20;
