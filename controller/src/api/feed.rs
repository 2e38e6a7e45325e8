//! One netmap stream: decides which event comes next. [`crate::netmaps`] makes the deltas.
//!
//! Nothing is queued for a slow reader: the next event is made from the newest state when the
//! connection has room for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use overlan_protocol::HostIndex;
use overlan_protocol::key::{Lineage, NetworkId};
use overlan_protocol::netmap::{Change, Delta, MapEvent, Netmap};
use overlan_protocol::ticket::TICKET_LIFE_SECS;
use tokio::sync::watch;

use super::problem::Refusal;
use crate::changelog;
use crate::clock;
use crate::deployment::{Attached, Deployment};
use crate::lineage::Claim;
use crate::netmaps::{self, Derived, Entry, Knowledge, Viewer};
use crate::policy::Sight;
use crate::store::devices::Device;
use crate::store::{StoreError, Tx, changes, devices, members, views};

/// An open stream. The device counts as online until this is dropped.
#[derive(Debug)]
pub(super) struct Feed {
    deployment: Arc<Deployment>,
    viewer: Viewer,
    /// Networks of the device that it has to get as a whole.
    whole: BTreeSet<NetworkId>,
    head: watch::Receiver<u64>,
    /// Hears when a key of the deployment was replaced.
    keys: watch::Receiver<()>,
    /// The version of the device's map; `None` before the first event.
    sent: Option<u64>,
    /// The version up to which the change log was read; entries between `sent` and this one do not
    /// concern the device.
    scanned: u64,
    ready: VecDeque<MapEvent>,
    alive_at: Instant,
    ticket_at: Instant,
    ended: bool,
    _attached: Attached,
}

impl Feed {
    /// Begins with the deltas after the `known` version if that is a part of this database's past
    /// and the log reaches back that far, else with a snapshot. A ticket follows, since the age of
    /// the device's own is not known.
    pub(super) async fn open(
        deployment: Arc<Deployment>,
        device: Device,
        known: Option<(u64, Lineage)>,
    ) -> Result<Self, Refusal> {
        let now = clock::now();
        let since = match known {
            None => None,
            Some((version, lineage)) => match deployment.runs.judge(lineage, version) {
                Claim::Past => Some(version),
                Claim::Lost => {
                    deployment.handle_lost_time(&device.hostname).await?;
                    None
                }
            },
        };
        let mut feed = Self {
            viewer: Viewer {
                device: device.id,
                org: device.org,
                networks: BTreeMap::new(),
            },
            whole: BTreeSet::new(),
            head: deployment.changelog.watch(),
            keys: deployment.keys.watch(),
            _attached: deployment.attach(device.id),
            sent: None,
            scanned: 0,
            ready: VecDeque::new(),
            alive_at: now + deployment.timings.alive_every,
            ticket_at: now,
            ended: false,
            deployment,
        };
        feed.sent = since.filter(|since| feed.deployment.changelog.since(*since).is_some());
        feed.scanned = feed.sent.unwrap_or(0);
        if let Some(since) = feed.sent {
            feed.take_up(&device, since).await?;
            // Sent even if nothing changed: the device learns that its map is current.
            feed.follow(true).await?;
        } else {
            feed.take_snapshot().await?;
        }
        Ok(feed)
    }

    /// Takes up the networks of `device`, which knows them as they were at `since`. The log tells
    /// which ones it joined and left after that. Where policy looked otherwise then, it gets the
    /// whole network.
    async fn take_up(&mut self, device: &Device, since: u64) -> Result<(), StoreError> {
        let mut tx = self.deployment.store.read().await?;
        for place in &device.places {
            let sight = self.sight(&mut tx, place.network).await?;
            match sight.filter(|sight| sight.was_same_at(since)) {
                Some(sight) => {
                    let known = Knowledge {
                        at: 0,
                        host: place.host,
                        sight,
                    };
                    self.viewer.networks.insert(place.network, known);
                }
                None => {
                    self.whole.insert(place.network);
                }
            }
        }
        Ok(())
    }

    async fn sight(
        &self,
        tx: &mut Tx,
        network: NetworkId,
    ) -> Result<Option<Arc<Sight>>, StoreError> {
        self.deployment.sight(tx, self.viewer.org, network).await
    }

    /// Returns the newest policies of the device's networks, if one of `entries` may have changed
    /// them.
    async fn sights(
        &self,
        entries: &[Arc<Entry>],
    ) -> Result<BTreeMap<NetworkId, Arc<Sight>>, StoreError> {
        let mut sights = BTreeMap::new();
        for network in self.viewer.networks.keys() {
            let newest = entries.iter().rfind(|entry| {
                let is_here = entry.network.is_none_or(|of| of == *network);
                is_here && entry.org == self.viewer.org && entry.fact.is_of_policy()
            });
            let Some(newest) = newest else {
                continue;
            };
            let noted = self.deployment.sights.fresh(self.viewer.org, *network);
            let mut sight = noted.filter(|sight| sight.at() >= newest.version);
            if sight.is_none() {
                let mut tx = self.deployment.store.read().await?;
                sight = self.sight(&mut tx, *network).await?;
            }
            sights.extend(sight.map(|sight| (*network, sight)));
        }
        Ok(sights)
    }

    /// Returns the next line; `None` at the end.
    pub(super) async fn next_line(&mut self) -> Option<Bytes> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.alive_at = clock::now() + self.deployment.timings.alive_every;
                return line(&event);
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.advance().await {
                // The device reconnects, and meets the same database.
                tracing::warn!(%error, "a netmap stream ends early");
                return None;
            }
        }
    }

    /// Waits until something is ready or the stream ended.
    async fn advance(&mut self) -> Result<(), StoreError> {
        let now = clock::now();
        if now >= self.ticket_at {
            let mut tx = self.deployment.store.read().await?;
            let device = devices::get(&mut tx, self.viewer.device).await?;
            if let Some(device) = device.filter(|device| device.barred.is_none()) {
                self.push_ticket(&device);
            }
            self.ticket_at = now + TICKET_EVERY;
            return Ok(());
        }
        let head = *self.head.borrow_and_update();
        if head > self.scanned {
            return self.follow(false).await;
        }
        tokio::select! {
            () = self.deployment.stop.cancelled() => self.ended = true,
            changed = self.head.changed() => self.ended = changed.is_err(),
            // The ticket brings the present CAs along.
            _ = self.keys.changed() => self.ticket_at = now,
            () = tokio::time::sleep_until(self.ticket_at.into()) => {}
            () = tokio::time::sleep_until(self.alive_at.into()) => {
                self.ready.push_back(MapEvent::Alive);
            }
        }
        Ok(())
    }

    async fn follow(&mut self, even_if_empty: bool) -> Result<(), StoreError> {
        let Some(sent) = self.sent else {
            return self.take_snapshot().await;
        };
        let Some((head, entries)) = self.deployment.changelog.since(self.scanned) else {
            return self.take_snapshot().await;
        };
        let sights = self.sights(&entries).await?;
        match netmaps::derive(&mut self.viewer, entries.iter().map(Arc::as_ref), &sights) {
            Derived::Removed => self.end_as_removed(),
            // It hears the reason when it asks again.
            Derived::Barred => self.ended = true,
            Derived::Changes {
                mut changes,
                mut joined,
                appeared,
                moved,
            } => {
                joined.append(&mut self.whole);
                if moved || !joined.is_empty() {
                    let whole = self.look_at_networks(&joined, moved).await?;
                    changes.extend(whole);
                }
                if !appeared.is_empty() {
                    changes.extend(self.look_at_peers(&appeared).await?);
                }
                self.scanned = head;
                // A map of a version that is too old could not be resumed from the log later.
                let far = head - sent > REPORT_AFTER;
                if even_if_empty || far || !changes.is_empty() {
                    self.push_delta(sent, head, changes);
                } else {
                    // The change means nothing for this device: it has it already.
                    self.deployment.confirm_device(self.viewer.device, head);
                }
            }
        }
        Ok(())
    }

    fn push_delta(&mut self, from: u64, to: u64, changes: Vec<Change>) {
        let confirm = self.deployment.awaiting.lock().asks(self.viewer.device, to);
        self.ready.push_back(MapEvent::Delta(Delta {
            from,
            to,
            lineage: Some(self.deployment.runs.present()),
            confirm,
            changes,
        }));
        self.sent = Some(to);
    }

    /// Returns the changes by which the device learns of peers that policy shows it from now on.
    async fn look_at_peers(
        &self,
        appeared: &BTreeMap<NetworkId, BTreeSet<HostIndex>>,
    ) -> Result<Vec<Change>, StoreError> {
        let mut tx = self.deployment.store.read().await?;
        let mut changes = Vec::new();
        for (network, hosts) in appeared {
            let members = members::of_network(&mut tx, self.viewer.org, *network).await?;
            changes.extend(netmaps::appearances(*network, &members, hosts));
        }
        Ok(changes)
    }

    /// Reacts to a change of the device's networks: if it `moved`, a ticket for the present ones
    /// goes out before the map names them, since relays must let the device in first. Returns the
    /// networks that it joined, each as a whole; one that it has left again is not among them.
    async fn look_at_networks(
        &mut self,
        joined: &BTreeSet<NetworkId>,
        moved: bool,
    ) -> Result<Vec<Change>, StoreError> {
        let mut tx = self.deployment.store.read().await?;
        let mut changes = Vec::new();
        // If the device was removed or barred meanwhile, the log says so in a moment.
        let device = devices::get(&mut tx, self.viewer.device).await?;
        let Some(device) = device.filter(|device| device.barred.is_none()) else {
            return Ok(changes);
        };
        let version = changes::version(&mut tx).await?;
        for id in joined {
            self.viewer.networks.remove(id);
            let Some(place) = device.place(*id) else {
                continue;
            };
            let Some(sight) = self.sight(&mut tx, *id).await? else {
                continue;
            };
            let view = views::network(&mut tx, device.org, place, sight.clone()).await?;
            if let Some(network) = netmaps::network(view, device.id) {
                let known = Knowledge {
                    at: version,
                    host: place.host,
                    sight,
                };
                self.viewer.networks.insert(*id, known);
                let network = Box::new(network);
                changes.push(Change::Network { id: *id, network });
            }
        }
        if moved {
            self.push_ticket(&device);
        }
        Ok(changes)
    }

    fn push_ticket(&mut self, device: &Device) {
        let keys = &self.deployment.keys;
        let ticket = keys.signer().issue(device, clock::wall());
        self.ready.push_back(MapEvent::Ticket {
            ticket: ticket.ticket,
            expires: ticket.expires,
            networks: ticket.networks,
            cas: keys.server().identity.cas(),
        });
    }

    async fn take_snapshot(&mut self) -> Result<(), StoreError> {
        let mut tx = self.deployment.store.read().await?;
        let Some(device) = devices::get(&mut tx, self.viewer.device).await? else {
            self.end_as_removed();
            return Ok(());
        };
        if device.barred.is_some() {
            self.ended = true;
            return Ok(());
        }
        let (mut netmap, networks) = self.snapshot(&mut tx, &device).await?;
        netmap.lineage = Some(self.deployment.runs.present());
        drop(tx);
        let before: BTreeSet<NetworkId> = self.viewer.networks.keys().copied().collect();
        self.viewer.networks = networks;
        self.whole.clear();
        // Not at the beginning of the stream, where the ticket follows anyway.
        if self.sent.is_some() && !before.iter().eq(self.viewer.networks.keys()) {
            self.push_ticket(&device);
        }
        let version = netmap.version;
        self.sent = Some(version);
        self.scanned = version;
        self.ready.push_back(MapEvent::Snapshot(Box::new(netmap)));
        if self
            .deployment
            .awaiting
            .lock()
            .asks(self.viewer.device, version)
        {
            self.push_delta(version, version, Vec::new());
        }
        Ok(())
    }

    /// Reads the whole map of `device` in one transaction, and what it knows by that.
    async fn snapshot(
        &self,
        tx: &mut Tx,
        device: &Device,
    ) -> Result<(Netmap, BTreeMap<NetworkId, Knowledge>), StoreError> {
        let at = changes::version(tx).await?;
        let mut views = Vec::with_capacity(device.places.len());
        let mut networks = BTreeMap::new();
        for place in &device.places {
            let Some(sight) = self.sight(tx, place.network).await? else {
                continue;
            };
            let (host, id) = (place.host, place.network);
            views.push(views::network(tx, device.org, place, sight.clone()).await?);
            networks.insert(id, Knowledge { at, host, sight });
        }
        let relays = views::relays(tx, device.org).await?;
        let domain = &self.deployment.domain;
        let netmap = netmaps::snapshot(at, views, relays, domain, device.id);
        Ok((netmap, networks))
    }

    fn end_as_removed(&mut self) {
        self.ready.push_back(MapEvent::Removed);
        self.ended = true;
    }
}

fn line(event: &MapEvent) -> Option<Bytes> {
    match serde_json::to_vec(event) {
        Ok(mut line) => {
            line.push(b'\n');
            Some(Bytes::from(line))
        }
        Err(error) => {
            tracing::error!(%error, "a netmap event does not serialise");
            None
        }
    }
}

/// The time after which a ticket is renewed: half of its life.
const TICKET_EVERY: Duration = Duration::from_secs(TICKET_LIFE_SECS / 2);

/// Versions that may pass without a delta: half of the log in memory.
const REPORT_AFTER: u64 = changelog::ENTRIES_MAX as u64 / 2;
