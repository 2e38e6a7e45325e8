//! Holds the policies of the networks that are in use, each compiled once for all streams. Decides
//! whether one is still new enough; it is read and compiled in the transaction of who asks first.

use std::collections::BTreeMap;
use std::sync::Arc;

use overlan_policy::{Compiled, STARTER, parse};
use overlan_protocol::UnixTime;
use overlan_protocol::key::NetworkId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::sight::Sight;
use super::world::{in_force, world_of};
use crate::netmaps::{Entry, OrgId};
use crate::store::{StoreError, Tx, policies};

/// The compiled policies of the networks whose devices are connected, or were.
#[derive(Debug)]
pub(crate) struct Sights {
    held: Mutex<HeldSights>,
    /// One network is compiled at a time: a thousand devices that come back at once wait for one
    /// compilation, and do not make a thousand.
    compiling: Semaphore,
}

#[derive(Debug, Default)]
struct HeldSights {
    sights: BTreeMap<NetworkId, (OrgId, Arc<Sight>)>,
    /// The newest versions at which something changed that policy looks at, as far as the change
    /// log was read: in a network, and in all networks of an organisation.
    touched: BTreeMap<NetworkId, u64>,
    touched_org: BTreeMap<OrgId, u64>,
    /// Sights of which a rule has ended, by their version: that was announced.
    ended: BTreeMap<NetworkId, u64>,
}

impl HeldSights {
    fn fresh(&self, org: OrgId, network: NetworkId) -> Option<Arc<Sight>> {
        let touched = self.touched.get(&network).max(self.touched_org.get(&org));
        let (_, sight) = self.sights.get(&network)?;
        (sight.at() >= touched.copied().unwrap_or(0)).then(|| sight.clone())
    }
}

impl Sights {
    /// Makes a holder of nothing.
    pub(crate) fn new() -> Self {
        Self {
            held: Mutex::default(),
            compiling: Semaphore::new(1),
        }
    }

    /// Takes note of new entries of the change log. Returns the networks in use whose policy has to
    /// be compiled again.
    pub(crate) fn handle_entries(&self, entries: &[Entry]) -> Vec<(OrgId, NetworkId)> {
        let mut held = self.held.lock();
        let of_policy = entries.iter().filter(|entry| entry.fact.is_of_policy());
        for entry in of_policy {
            match entry.network {
                Some(network) => held.touched.insert(network, entry.version),
                None => held.touched_org.insert(entry.org, entry.version),
            };
        }
        let all = held.sights.iter();
        all.filter(|(network, (org, _))| held.fresh(*org, **network).is_none())
            .map(|(network, (org, _))| (*org, *network))
            .collect()
    }

    /// Returns the newest policy of a network as far as the change log was noted; `None` if the
    /// database has to be asked.
    pub(crate) fn fresh(&self, org: OrgId, network: NetworkId) -> Option<Arc<Sight>> {
        self.held.lock().fresh(org, network)
    }

    /// Returns the policy of a network as `tx` sees it, or a newer one; `None` if there is no such
    /// network.
    pub(crate) async fn get(
        &self,
        tx: &mut Tx,
        org: OrgId,
        network: NetworkId,
        now: UnixTime,
    ) -> Result<Option<Arc<Sight>>, StoreError> {
        // The change log is read by another task, so that what `tx` sees may be newer than what was
        // noted: a device that has just joined would not be known, and would see nobody.
        let Some(at) = policies::changed_at(tx, org, network).await? else {
            return Ok(None);
        };
        let held = || {
            let held = self.held.lock();
            held.sights.get(&network).map(|(_, sight)| sight.clone())
        };
        if let Some(sight) = held().filter(|sight| sight.at() >= at) {
            return Ok(Some(sight));
        }
        let place = self.compiling.acquire().await;
        let _place = place.map_err(|error| StoreError::Failed(error.to_string()))?;
        let before = held();
        if let Some(before) = before.as_ref().filter(|before| before.at() >= at) {
            return Ok(Some(before.clone()));
        }
        let sight = Arc::new(read(tx, (org, network), at, before.clone(), now).await?);
        let mut held = self.held.lock();
        let is_newer = held
            .sights
            .get(&network)
            .is_none_or(|(_, known)| known.at() < at);
        if is_newer {
            held.sights.insert(network, (org, sight.clone()));
        }
        Ok(Some(sight))
    }

    /// Returns the networks in use in which a rule has ended by `now`, each once.
    pub(crate) fn take_ended(&self, now: UnixTime) -> Vec<(OrgId, NetworkId)> {
        let mut held = self.held.lock();
        let HeldSights { sights, ended, .. } = &mut *held;
        let mut due = Vec::new();
        for (network, (org, sight)) in sights {
            let has_ended = sight.next_change().is_some_and(|at| at <= now);
            if has_ended && ended.insert(*network, sight.at()) != Some(sight.at()) {
                due.push((*org, *network));
            }
        }
        due
    }

    /// Announces the end of rules again that could not be written.
    pub(crate) fn forget_ended(&self, networks: &[(OrgId, NetworkId)]) {
        let mut held = self.held.lock();
        for (_, network) in networks {
            held.ended.remove(network);
        }
    }

    /// Returns the time at which [`Sights::take_ended`] has something, if that is after `now`.
    pub(crate) fn next_end(&self, now: UnixTime) -> Option<UnixTime> {
        let held = self.held.lock();
        let sights = held.sights.values();
        let ends = sights.filter_map(|(_, sight)| sight.next_change());
        ends.filter(|at| *at > now).min()
    }
}

/// Reads and compiles the policy of a network.
async fn read(
    tx: &mut Tx,
    (org, network): (OrgId, NetworkId),
    at: u64,
    before: Option<Arc<Sight>>,
    now: UnixTime,
) -> Result<Sight, StoreError> {
    let document = in_force(tx, org, network).await?;
    let version = document.version;
    if document.text == STARTER {
        return Ok(Sight::open(at, version));
    }
    let parsed = parse(&document.text).map_err(|findings| {
        // Streams end, and devices go on with the rules that they have.
        let first = findings.first().map(ToString::to_string);
        StoreError::Failed(format!(
            "the policy of network {network} is not understood: {}",
            first.unwrap_or_default()
        ))
    })?;
    let world = world_of(tx, org, network).await?;
    let compiled = tokio::task::spawn_blocking(move || {
        let compiled = Compiled::new(&parsed, &world, now);
        let sight = Sight::new(at, version, world, compiled);
        match before {
            Some(before) => sight.after(&before),
            None => sight,
        }
    });
    compiled
        .await
        .map_err(|error| StoreError::Failed(error.to_string()))
}
