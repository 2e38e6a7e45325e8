//! The controller session and its health: netmaps by deltas, fresh tickets, removal. Keeps netmap
//! and ticket on disk, so that a restarted device works while the controller is away. Decides when
//! to ask; what a netmap means is decided by the engine, and `confirm` says when that follows one.
//! `cas` follows the controller from one CA to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    Bar, CertificateRequest, CertificateResponse, Confirmation, JoinString, OfferRequest,
    ProblemKind, RouteSummary, TicketResponse, path,
};
use overlan_protocol::gateway::OfferedRoute;
use overlan_protocol::key::{Fingerprint, random_bytes};
use overlan_protocol::netmap::{MapEvent, Netmap};
use overlan_protocol::proof::Principal;
use overlan_transport::clock::{now, wall};
use overlan_transport::https::{Connection, HttpsError, Lines};
use overlan_transport::outgoing::Outgoing;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::device::state::{Device, StateDir};
use overlan_plane::backoff::{Backoff, BackoffBounds};

mod cas;
mod confirm;
mod health;

pub use health::Health;

use health::barred;

/// The controller session, with its newest netmap and ticket, shared by all tasks that use them.
#[derive(Debug)]
pub struct ControllerSession {
    state: Arc<StateDir>,
    device: Device,
    /// The controller, as it is recognised now.
    join: Mutex<JoinString>,
    /// The newest CA that is stored, while the controller has two.
    learnt: watch::Sender<Option<Fingerprint>>,
    outgoing: Outgoing,
    netmap: watch::Sender<Arc<Netmap>>,
    ticket: watch::Sender<TicketResponse>,
    health: watch::Sender<Health>,
    /// The netmap came from the controller in this process, so that it may send changes only.
    has_current_netmap: AtomicBool,
    /// The version that the controller asked to have confirmed last.
    asked: watch::Sender<Option<Confirmation>>,
    /// The version of the netmap that the engine follows.
    applied: watch::Sender<u64>,
    /// The device's keys had been put aside before this began.
    began_aside: bool,
    ticket_refused: Notify,
}

impl ControllerSession {
    /// Starts from the netmap and ticket on disk, and reaches the controller by `outgoing`. Version
    /// 0, an empty netmap, means that nothing is known yet.
    pub fn new(
        state: Arc<StateDir>,
        device: Device,
        netmap: Option<Netmap>,
        ticket: Option<TicketResponse>,
        outgoing: Outgoing,
    ) -> Self {
        let empty = || Netmap {
            version: 0,
            lineage: None,
            domain: device.domain.clone(),
            device: device.device,
            networks: Default::default(),
            relays: Default::default(),
        };
        let mut netmap = netmap
            .filter(|netmap| netmap.device == device.device)
            .unwrap_or_else(empty);
        // The stored netmap says which peers were online when it was written. Until the controller
        // reports it again, all count as online.
        for network in netmap.networks.values_mut() {
            for peer in network.peers.values_mut() {
                peer.online = true;
            }
        }
        Self {
            netmap: watch::Sender::new(Arc::new(netmap)),
            ticket: watch::Sender::new(ticket.unwrap_or(NO_TICKET)),
            health: watch::Sender::new(Health::Connecting),
            has_current_netmap: AtomicBool::new(false),
            asked: watch::Sender::new(None),
            applied: watch::Sender::new(0),
            ticket_refused: Notify::new(),
            began_aside: state.is_device_aside(),
            state,
            join: Mutex::new(device.join.clone()),
            learnt: watch::Sender::new(None),
            device,
            outgoing,
        }
    }

    /// Returns the newest netmap.
    pub fn netmap(&self) -> watch::Receiver<Arc<Netmap>> {
        self.netmap.subscribe()
    }

    /// Returns the newest ticket; its text is empty until there is one.
    pub fn ticket(&self) -> watch::Receiver<TicketResponse> {
        self.ticket.subscribe()
    }

    /// Returns the session's health.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// Fetches another ticket soon, because a relay refused this one.
    pub fn handle_ticket_refused(&self) {
        self.ticket_refused.notify_one();
    }

    /// Returns true if the controller did not know this device at the end of the last run, so that
    /// the start has to wait for the controller's answer.
    pub(crate) fn began_aside(&self) -> bool {
        self.began_aside
    }

    /// Keeps the session until `stop`, or until the controller has removed this device.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
            () = self.refresh_tickets() => {}
            () = self.keep_netmap() => {}
            () = self.confirm() => {}
            () = self.confirm_ca() => {}
        }
        // The writer above waits a little before it writes. At the end, nothing may wait.
        self.write_newest_netmap().await;
    }

    async fn follow(&self) {
        let mut backoff = Backoff::new(BackoffBounds::CONTROL, u64::from_le_bytes(random_bytes()));
        loop {
            let error = match self.open_stream().await {
                Ok(mut lines) => {
                    backoff.handle_success(now());
                    self.handle_known().await;
                    match self.read_stream(&mut lines).await {
                        StreamEnd::Removed => return self.handle_removed().await,
                        StreamEnd::Ended(error) => error,
                    }
                }
                Err(error) if error.problem() == Some(ProblemKind::DeviceRemoved) => {
                    return self.handle_removed().await;
                }
                Err(error) if error.problem() == Some(ProblemKind::DeviceUnknown) => {
                    // Its keys are in this memory only, so it will never be known again.
                    if self.state.is_in_memory() {
                        return self.handle_removed().await;
                    }
                    self.handle_unknown().await;
                    sleep(backoff.handle_failure(now())).await;
                    continue;
                }
                Err(error) => match barred(&error) {
                    Some(why) => {
                        self.handle_barred(why, error.to_string());
                        sleep(backoff.handle_failure(now())).await;
                        continue;
                    }
                    None => error,
                },
            };
            tracing::info!(%error, "the controller session ended; it is opened again soon");
            self.health.send_replace(Health::Unreachable {
                error: error.to_string(),
            });
            sleep(backoff.handle_failure(now())).await;
        }
    }

    async fn open_stream(&self) -> Result<Lines, HttpsError> {
        let connection = self.connect().await?;
        // The netmap from disk may be damaged, and does not say which peers are online: the first
        // session begins with a whole netmap.
        let known = {
            let netmap = self.netmap.borrow();
            let is_current = self.has_current_netmap.load(Relaxed);
            let lineage = netmap.lineage.filter(|_| is_current);
            lineage.map(|lineage| (netmap.version, lineage))
        };
        let path = match known {
            None | Some((0, _)) => path::DEVICE_NETMAP.to_owned(),
            Some((version, lineage)) => {
                format!("{}?since={version}&lineage={lineage}", path::DEVICE_NETMAP)
            }
        };
        connection.lines(&path, ANSWER_WITHIN).await
    }

    async fn read_stream(&self, lines: &mut Lines) -> StreamEnd {
        loop {
            let event = match timeout(SILENCE_MAX, lines.next()).await {
                Err(_) => return StreamEnd::Ended(HttpsError::TimedOut(SILENCE_MAX)),
                Ok(Err(error)) => return StreamEnd::Ended(error),
                Ok(Ok(None)) => {
                    return StreamEnd::Ended(HttpsError::Broken(
                        "the controller closed the session".to_owned(),
                    ));
                }
                Ok(Ok(Some(event))) => event,
            };
            match event {
                MapEvent::Snapshot(netmap) => {
                    // Other commands read it from disk, and may start as soon as this device is
                    // ready.
                    let netmap = Arc::new(*netmap);
                    self.write_netmap(Arc::clone(&netmap)).await;
                    self.netmap.send_replace(netmap);
                    self.handle_netmap();
                }
                MapEvent::Delta(delta) => {
                    let mut netmap = Netmap::clone(&self.netmap.borrow());
                    if let Err(gap) = netmap.apply(&delta) {
                        // Without a version the next stream starts with a snapshot.
                        self.netmap
                            .send_modify(|netmap| Arc::make_mut(netmap).version = 0);
                        return StreamEnd::Ended(HttpsError::NotUnderstood(gap.to_string()));
                    }
                    let asked = Confirmation {
                        version: netmap.version,
                        lineage: netmap.lineage,
                        ca: None,
                    };
                    self.netmap.send_replace(Arc::new(netmap));
                    self.handle_netmap();
                    if delta.confirm {
                        self.asked.send_replace(Some(asked));
                    }
                }
                MapEvent::Ticket {
                    ticket,
                    expires,
                    networks,
                    cas,
                } => {
                    let ticket = TicketResponse {
                        ticket,
                        expires,
                        networks,
                    };
                    self.keep_ticket(ticket).await;
                    self.handle_cas(&cas).await;
                }
                MapEvent::Alive => {}
                MapEvent::Removed => return StreamEnd::Removed,
            }
        }
    }

    /// Notes that the netmap is the controller's newest.
    fn handle_netmap(&self) {
        self.has_current_netmap.store(true, Relaxed);
        self.health.send_if_modified(|health| {
            let is_news = !matches!(health, Health::Connected { .. });
            if is_news {
                *health = Health::Connected { since: wall() };
            }
            is_news
        });
    }

    /// Puts the keys aside: an admin who restored the wrong backup may restore another one. Nothing
    /// is erased, and open links go on for as long as their ticket.
    async fn handle_unknown(&self) {
        if *self.health.borrow() == Health::Unknown {
            return;
        }
        let state = self.state.clone();
        blocking(move || match state.set_device_aside() {
            Ok(file) => tracing::warn!(
                file = %file.display(),
                "{UNKNOWN}. Its keys are put aside, and it comes back by itself once the \
                 controller knows it again. To enrol as a new device, restart `overlan up`"
            ),
            Err(error) => {
                tracing::warn!(%error, "{UNKNOWN}. Its keys could not be put aside");
            }
        })
        .await;
        // Last, so that every task that is woken finds the keys aside.
        self.health.send_replace(Health::Unknown);
    }

    /// Forgets the networks, in memory only: peers have forgotten this device, and every connection
    /// ends at once with a reason.
    fn handle_barred(&self, why: Bar, reason: String) {
        if matches!(*self.health.borrow(), Health::Barred { why: known, .. } if known == why) {
            return;
        }
        tracing::warn!("{reason}");
        self.has_current_netmap.store(false, Relaxed);
        self.netmap.send_modify(|netmap| {
            let netmap = Arc::make_mut(netmap);
            netmap.networks.clear();
            netmap.version = 0;
        });
        // Last, so that every task that is woken finds no network.
        self.health.send_replace(Health::Barred { why, reason });
    }

    async fn handle_known(&self) {
        let state = self.state.clone();
        blocking(move || {
            let was_aside = state.is_device_aside();
            match state.take_device_back() {
                Ok(()) if was_aside => tracing::warn!("the controller knows this device again"),
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot put this device's keys back into place")
                }
            }
        })
        .await;
    }

    async fn handle_removed(&self) {
        let state = self.state.clone();
        blocking(move || {
            if let Err(error) = state.remove_device() {
                tracing::warn!(%error, "cannot erase the state of this removed device");
            }
        })
        .await;
        self.netmap.send_modify(|netmap| {
            let netmap = Arc::make_mut(netmap);
            netmap.networks.clear();
            netmap.version = 0;
        });
        self.health.send_replace(Health::Removed);
        // The owner stops this task when it sees that; until then there is nothing to do.
        std::future::pending::<()>().await;
    }

    /// Gets a fresh ticket when the old one is past half of its life or was refused.
    async fn refresh_tickets(&self) {
        let mut backoff = Backoff::new(BackoffBounds::CONTROL, u64::from_le_bytes(random_bytes()));
        loop {
            let wait = refresh_wait(wall(), self.ticket.borrow().expires);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.ticket_refused.notified() => {}
            }
            match self.fetch_ticket().await {
                Ok(ticket) => {
                    self.keep_ticket(ticket).await;
                    backoff.handle_success(now());
                }
                Err(error) => {
                    tracing::info!(%error, "the controller gave no new ticket; it is asked again");
                }
            }
            // Also after a success: a relay that refuses every ticket must not cause a busy loop.
            sleep(backoff.handle_failure(now())).await;
        }
    }

    async fn fetch_ticket(&self) -> Result<TicketResponse, HttpsError> {
        let mut connection = self.connect().await?;
        connection
            .post(path::DEVICE_TICKET, &serde_json::json!({}), ANSWER_WITHIN)
            .await
    }

    /// Reports all routes that this device serves to the controller.
    pub async fn report_routes(&self, routes: &[OfferedRoute]) -> Result<(), HttpsError> {
        let mut connection = self.connect().await?;
        let request = OfferRequest {
            routes: routes.to_vec(),
        };
        let _: Vec<RouteSummary> = connection
            .post(path::DEVICE_ROUTES, &request, ANSWER_WITHIN)
            .await?;
        Ok(())
    }

    /// Requests certificates for all names of this device.
    pub(crate) async fn certify(
        &self,
        request: &CertificateRequest,
    ) -> Result<CertificateResponse, HttpsError> {
        let mut connection = self.connect().await?;
        connection
            .post(path::DEVICE_CERTIFICATES, request, ANSWER_WITHIN)
            .await
    }

    async fn connect(&self) -> Result<Connection, HttpsError> {
        let join = self.join.lock().clone();
        let mut connection = Connection::open_through(&self.outgoing, &join, ANSWER_WITHIN).await?;
        connection.prove(Principal::Device(self.device.device), &self.device.identity);
        Ok(connection)
    }

    async fn keep_ticket(&self, ticket: TicketResponse) {
        let (state, kept) = (self.state.clone(), ticket.clone());
        blocking(move || {
            if let Err(error) = state.save_ticket(&kept) {
                tracing::warn!(%error, "cannot store the ticket; {NEEDS_CONTROLLER}");
            }
        })
        .await;
        self.ticket.send_replace(ticket);
    }

    /// Stores the netmap a while after each change, since peers come and go in bursts.
    async fn keep_netmap(&self) {
        let mut changes = self.netmap.subscribe();
        while changes.changed().await.is_ok() {
            sleep(WRITE_DELAY).await;
            changes.mark_unchanged();
            self.write_newest_netmap().await;
        }
    }

    async fn write_newest_netmap(&self) {
        let netmap = self.netmap.borrow().clone();
        self.write_netmap(netmap).await;
    }

    async fn write_netmap(&self, netmap: Arc<Netmap>) {
        let state = self.state.clone();
        if netmap.version == 0 {
            return;
        }
        blocking(move || {
            if let Err(error) = state.save_netmap(&netmap) {
                tracing::warn!(%error, "cannot store the netmap; {NEEDS_CONTROLLER}");
            }
        })
        .await;
    }
}

/// The explanation of a device that its controller does not know.
pub(crate) const UNKNOWN: &str = "the controller does not know this device: it was restored from \
                                  an older backup, or it removed the device long ago";

/// The consequence of a netmap, ticket or certificate that cannot be stored.
pub(crate) const NEEDS_CONTROLLER: &str = "the next start has to wait for the controller";

enum StreamEnd {
    Removed,
    Ended(HttpsError),
}

/// Returns the time to wait before a ticket that ends at `expires` is refreshed: until half of a
/// ticket's life is left, or none if that has passed.
fn refresh_wait(now: UnixTime, expires: UnixTime) -> Duration {
    let half = Duration::from_secs(overlan_protocol::ticket::TICKET_LIFE_SECS / 2);
    (expires - half).since(now)
}

/// Runs work that waits for the disk.
pub(crate) async fn blocking(work: impl FnOnce() + Send + 'static) {
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::warn!("a write to the state directory was interrupted");
    }
}

/// The ticket of a device that has none yet.
const NO_TICKET: TicketResponse = TicketResponse {
    ticket: String::new(),
    expires: UnixTime::EPOCH,
    networks: Vec::new(),
};

/// Longest wait for an answer; a healthy controller answers within milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Longest silence on the open session: the controller sends a line every 15 s, and three missing
/// lines mean that it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// The time for which changes of the netmap are collected before it is stored.
const WRITE_DELAY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
