//! One netmap stream: decides which event comes next. [`crate::netmaps`] makes the deltas.
//!
//! Nothing is queued for a slow reader: the next event is made from the newest state when the
//! connection has room for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use overlan_protocol::key::{Lineage, NetworkId};
use overlan_protocol::netmap::{Change, Delta, MapEvent, Netmap};
use overlan_protocol::ticket::TICKET_LIFE_SECS;
use tokio::sync::watch;

use super::problem::Refusal;
use crate::changelog;
use crate::clock;
use crate::deployment::{Attached, Deployment};
use crate::lineage::Claim;
use crate::netmaps::{self, Derived, Viewer};
use crate::store::devices::Device;
use crate::store::{StoreError, Tx, changes, devices, views};

/// An open stream. The device counts as online until this is dropped.
#[derive(Debug)]
pub(super) struct Feed {
    deployment: Arc<Deployment>,
    viewer: Viewer,
    head: watch::Receiver<u64>,
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
            head: deployment.changelog.watch(),
            _attached: deployment.attach(device.id),
            sent: None,
            scanned: 0,
            ready: VecDeque::new(),
            alive_at: now + deployment.timings.alive_every,
            ticket_at: now,
            ended: false,
            // The log tells which networks it joined and left after `since`.
            viewer: device.viewer(0),
            deployment,
        };
        feed.sent = since.filter(|since| feed.deployment.changelog.since(*since).is_some());
        feed.scanned = feed.sent.unwrap_or(0);
        if feed.sent.is_some() {
            // Sent even if nothing changed: the device learns that its map is current.
            feed.follow(true).await?;
        } else {
            feed.take_snapshot().await?;
        }
        Ok(feed)
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
        match netmaps::derive(&mut self.viewer, entries.iter().map(Arc::as_ref)) {
            Derived::Removed => self.end_as_removed(),
            // It hears the reason when it asks again.
            Derived::Barred => self.ended = true,
            Derived::Changes {
                mut changes,
                joined,
                moved,
            } => {
                if moved {
                    let whole = self.look_at_networks(&joined).await?;
                    changes.extend(whole);
                }
                self.scanned = head;
                // A map of a version that is too old could not be resumed from the log later.
                let far = head - sent > REPORT_AFTER;
                if even_if_empty || far || !changes.is_empty() {
                    self.ready.push_back(MapEvent::Delta(Delta {
                        from: sent,
                        to: head,
                        lineage: Some(self.deployment.runs.present()),
                        changes,
                    }));
                    self.sent = Some(head);
                }
            }
        }
        Ok(())
    }

    /// Reacts to a change of the device's networks: a ticket for the present ones goes out before
    /// the map names them, since relays must let the device in first. Returns the networks that it
    /// joined, each as a whole; one that it has left again is not among them.
    async fn look_at_networks(
        &mut self,
        joined: &BTreeSet<NetworkId>,
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
            let whole = match device.place(*id) {
                Some(place) => {
                    let view = views::network(&mut tx, device.org, place).await?;
                    netmaps::network(view, device.id)
                }
                None => None,
            };
            if let Some(network) = whole {
                self.viewer.networks.insert(*id, version);
                let network = Box::new(network);
                changes.push(Change::Network { id: *id, network });
            } else {
                self.viewer.networks.remove(id);
            }
        }
        self.push_ticket(&device);
        Ok(changes)
    }

    fn push_ticket(&mut self, device: &Device) {
        let ticket = self.deployment.signer.issue(device, clock::wall());
        self.ready.push_back(MapEvent::Ticket {
            ticket: ticket.ticket,
            expires: ticket.expires,
            networks: ticket.networks,
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
        let mut netmap = snapshot(&mut tx, &device, &self.deployment.domain).await?;
        netmap.lineage = Some(self.deployment.runs.present());
        drop(tx);
        let before: BTreeSet<NetworkId> = self.viewer.networks.keys().copied().collect();
        self.viewer = device.viewer(netmap.version);
        // Not at the beginning of the stream, where the ticket follows anyway.
        if self.sent.is_some() && !before.iter().eq(self.viewer.networks.keys()) {
            self.push_ticket(&device);
        }
        self.sent = Some(netmap.version);
        self.scanned = netmap.version;
        self.ready.push_back(MapEvent::Snapshot(Box::new(netmap)));
        Ok(())
    }

    fn end_as_removed(&mut self) {
        self.ready.push_back(MapEvent::Removed);
        self.ended = true;
    }
}

/// Reads the whole map of `device` in one transaction.
async fn snapshot(tx: &mut Tx, device: &Device, domain: &str) -> Result<Netmap, StoreError> {
    let version = changes::version(tx).await?;
    let mut views = Vec::with_capacity(device.places.len());
    for place in &device.places {
        views.push(views::network(tx, device.org, place).await?);
    }
    let relays = views::relays(tx, device.org).await?;
    Ok(netmaps::snapshot(version, views, relays, domain, device.id))
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
