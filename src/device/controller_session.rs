//! Follows the controller: netmap by deltas, fresh tickets, removal. Keeps both on disk, so that a
//! restarted client works while the controller is away. What a netmap means is the engine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    CertificateRequest, CertificateResponse, DeviceReport, OfferRequest, ProblemKind, RouteSummary,
    TicketResponse, path,
};
use overlan_protocol::gateway::OfferedRoute;
use overlan_protocol::key::random_bytes;
use overlan_protocol::netmap::{MapEvent, Netmap};
use overlan_protocol::proof::Principal;
use overlan_transport::clock::{now, wall};
use overlan_transport::https::{Connection, HttpsError, Lines};
use overlan_transport::outgoing::Outgoing;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::device::state::{Device, StateDir};
use overlan_plane::backoff::{Backoff, BackoffBounds};

/// The knowledge of the control session, shared with all who use it.
#[derive(Debug)]
pub struct Control {
    state: Arc<StateDir>,
    device: Device,
    outgoing: Outgoing,
    netmap: watch::Sender<Arc<Netmap>>,
    ticket: watch::Sender<TicketResponse>,
    health: watch::Sender<Health>,
    /// The controller told the map in this process: what follows may be told as changes of it.
    told: AtomicBool,
    /// The device's keys were kept aside when this began.
    began_aside: bool,
    ticket_refused: Notify,
}

/// The health of the control session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// No attempt has ended yet.
    Connecting,
    /// The netmap is what the controller says now, since this time (seconds since the Unix epoch).
    Connected {
        /// Since when.
        since: u64,
    },
    /// The last attempt failed, and another follows.
    Unreachable {
        /// The reason.
        error: String,
    },
    /// The controller does not know this device: it was brought back from a backup, or removed the
    /// device long ago. The keys are kept aside and the controller is asked again.
    Unknown,
    /// The controller removed this device; its state was erased.
    Removed,
}

impl Control {
    /// Starts from what is on disk; the controller is reached by the way `outgoing`. An empty
    /// netmap of version 0 means that nothing is known yet.
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
        // Who is online was true when the map was written, not now; until the controller says so
        // nobody believes it.
        for network in netmap.networks.values_mut() {
            for peer in network.peers.values_mut() {
                peer.online = true;
            }
        }
        Self {
            netmap: watch::Sender::new(Arc::new(netmap)),
            ticket: watch::Sender::new(ticket.unwrap_or(NO_TICKET)),
            health: watch::Sender::new(Health::Connecting),
            told: AtomicBool::new(false),
            ticket_refused: Notify::new(),
            began_aside: state.is_device_aside(),
            state,
            device,
            outgoing,
        }
    }

    /// The newest netmap.
    pub fn netmap(&self) -> watch::Receiver<Arc<Netmap>> {
        self.netmap.subscribe()
    }

    /// The newest ticket; its text is empty until there is one.
    pub fn ticket(&self) -> watch::Receiver<TicketResponse> {
        self.ticket.subscribe()
    }

    /// Returns how the session does.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    /// A relay refused the ticket: get another one soon.
    pub fn handle_ticket_refused(&self) {
        self.ticket_refused.notify_one();
    }

    /// Returns whether the controller did not know this device when it was heard last, before this
    /// process. Whoever starts waits for what it says now.
    pub(crate) fn began_aside(&self) -> bool {
        self.began_aside
    }

    /// Follows the controller until `stop`, or until it removed this device.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
            () = self.refresh_tickets() => {}
            () = self.keep_netmap() => {}
        }
        // The writer above waits a little before it writes; the end does not.
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
                    // Nobody else has its keys and nobody will come back for it.
                    if self.state.is_in_memory() {
                        return self.handle_removed().await;
                    }
                    self.handle_unknown().await;
                    sleep(backoff.handle_failure(now())).await;
                    continue;
                }
                Err(error) => error,
            };
            tracing::info!(%error, "the control session ended");
            self.health.send_replace(Health::Unreachable {
                error: error.to_string(),
            });
            sleep(backoff.handle_failure(now())).await;
        }
    }

    async fn open_stream(&self) -> Result<Lines, HttpsError> {
        let connection = self.connect().await?;
        // What lies on disk may be damaged, and says nothing of who is there now: the first session
        // begins with the whole map.
        let known = {
            let netmap = self.netmap.borrow();
            let told = self.told.load(Relaxed);
            let lineage = netmap.lineage.filter(|_| told);
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
                        "the controller closed it".to_owned(),
                    ));
                }
                Ok(Ok(Some(event))) => event,
            };
            match event {
                MapEvent::Snapshot(netmap) => {
                    // Other commands read it from there, and may be started as soon as this device
                    // is ready.
                    let netmap = Arc::new(*netmap);
                    self.write_netmap(Arc::clone(&netmap)).await;
                    self.netmap.send_replace(netmap);
                    self.handle_told();
                }
                MapEvent::Delta(delta) => {
                    let mut netmap = Netmap::clone(&self.netmap.borrow());
                    if let Err(gap) = netmap.apply(&delta) {
                        // Without a version the next stream starts with a snapshot.
                        self.netmap
                            .send_modify(|netmap| Arc::make_mut(netmap).version = 0);
                        return StreamEnd::Ended(HttpsError::NotUnderstood(gap.to_string()));
                    }
                    self.netmap.send_replace(Arc::new(netmap));
                    self.handle_told();
                }
                MapEvent::Ticket {
                    ticket,
                    expires,
                    networks,
                } => {
                    let ticket = TicketResponse {
                        ticket,
                        expires,
                        networks,
                    };
                    self.keep_ticket(ticket).await;
                }
                MapEvent::Alive => {}
                MapEvent::Removed => return StreamEnd::Removed,
            }
        }
    }

    /// The map is what the controller says now.
    fn handle_told(&self) {
        self.told.store(true, Relaxed);
        self.health.send_if_modified(|health| {
            let is_news = !matches!(health, Health::Connected { .. });
            if is_news {
                *health = Health::Connected {
                    since: wall().as_secs(),
                };
            }
            is_news
        });
    }

    /// Returns who brought back the wrong backup brings back another one: nothing is erased, and
    /// what runs goes on as long as its ticket.
    async fn handle_unknown(&self) {
        if *self.health.borrow() == Health::Unknown {
            return;
        }
        let state = self.state.clone();
        blocking(move || match state.set_device_aside() {
            Ok(file) => tracing::warn!(
                file = %file.display(),
                "{UNKNOWN}; this device's keys are kept aside, and it comes back by itself if the controller knows it again. If not, restart \
                 `overlan up`: it enrols as a new device"
            ),
            Err(error) => tracing::warn!(%error, "{UNKNOWN}, and its keys could not be put aside"),
        })
        .await;
        // Whoever hears of it finds the keys aside.
        self.health.send_replace(Health::Unknown);
    }

    async fn handle_known(&self) {
        let state = self.state.clone();
        blocking(move || {
            let was_aside = state.is_device_aside();
            match state.take_device_back() {
                Ok(()) if was_aside => tracing::warn!("the controller knows this device again"),
                Ok(()) => {}
                Err(error) => {
                    tracing::warn!(%error, "the device's keys could not be put back into place")
                }
            }
        })
        .await;
    }

    async fn handle_removed(&self) {
        let state = self.state.clone();
        blocking(move || {
            if let Err(error) = state.remove_device() {
                tracing::warn!(%error, "the state of the removed device could not be erased");
            }
        })
        .await;
        self.netmap.send_modify(|netmap| {
            let netmap = Arc::make_mut(netmap);
            netmap.networks.clear();
            netmap.version = 0;
        });
        self.health.send_replace(Health::Removed);
        // The owner sees it and stops; until then this side holds still.
        std::future::pending::<()>().await;
    }

    /// Gets a fresh ticket when the old one is past half of its life or was refused.
    async fn refresh_tickets(&self) {
        let mut backoff = Backoff::new(BackoffBounds::CONTROL, u64::from_le_bytes(random_bytes()));
        loop {
            let wait = refresh_wait(wall(), UnixTime::from_secs(self.ticket.borrow().expires));
            tokio::select! {
                () = sleep(wait) => {}
                () = self.ticket_refused.notified() => {}
            }
            match self.fetch_ticket().await {
                Ok(ticket) => {
                    self.keep_ticket(ticket).await;
                    backoff.handle_success(now());
                }
                Err(error) => tracing::info!(%error, "no fresh ticket yet"),
            }
            // Also after a success: a relay that refuses every ticket must not become a loop.
            sleep(backoff.handle_failure(now())).await;
        }
    }

    async fn fetch_ticket(&self) -> Result<TicketResponse, HttpsError> {
        let mut connection = self.connect().await?;
        connection
            .post(path::DEVICE_TICKET, &serde_json::json!({}), ANSWER_WITHIN)
            .await
    }

    /// Tells the controller what this device measured. Nothing waits for it, so a failure is only
    /// logged.
    pub async fn report(&self, report: &DeviceReport) {
        let exchange = async {
            let mut connection = self.connect().await?;
            connection
                .post::<_, serde_json::Value>(path::DEVICE_REPORT, report, ANSWER_WITHIN)
                .await
        };
        if let Err(error) = exchange.await {
            tracing::debug!(%error, "the report did not reach the controller");
        }
    }

    /// Tells the controller that this device ends, if the session with it is open: peers hear of it
    /// at once.
    pub async fn leave(&self) {
        if matches!(*self.health.borrow(), Health::Connected { .. }) {
            let report = DeviceReport {
                leaving: true,
                ..DeviceReport::default()
            };
            self.report(&report).await;
        }
    }

    /// Tells the controller all that this device leads to.
    pub async fn offer(&self, routes: &[OfferedRoute]) -> Result<(), HttpsError> {
        let mut connection = self.connect().await?;
        let request = OfferRequest {
            routes: routes.to_vec(),
        };
        let _: Vec<RouteSummary> = connection
            .post(path::DEVICE_ROUTES, &request, ANSWER_WITHIN)
            .await?;
        Ok(())
    }

    /// Asks for certificates for all names of this device.
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
        let mut connection =
            Connection::open_through(&self.outgoing, &self.device.join, ANSWER_WITHIN).await?;
        connection.prove(Principal::Device(self.device.device), &self.device.identity);
        Ok(connection)
    }

    async fn keep_ticket(&self, ticket: TicketResponse) {
        let (state, kept) = (self.state.clone(), ticket.clone());
        blocking(move || {
            if let Err(error) = state.save_ticket(&kept) {
                tracing::warn!(%error, "the ticket could not be kept; a restart needs the controller");
            }
        })
        .await;
        self.ticket.send_replace(ticket);
    }

    /// Writes the netmap some time after it changed: peers come and go in bursts.
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
                tracing::warn!(%error, "the netmap could not be kept; a restart needs the controller");
            }
        })
        .await;
    }
}

/// The words of a device that its controller does not know.
pub(crate) const UNKNOWN: &str = "the controller does not know this device: it was brought back from a backup that is older, or removed the device long ago";

enum StreamEnd {
    Removed,
    Ended(HttpsError),
}

/// Returns the time when a ticket that ends at `expires` is refreshed: at half of a ticket's life,
/// at once if that is past.
fn refresh_wait(now: UnixTime, expires: UnixTime) -> Duration {
    let half = Duration::from_secs(overlan_protocol::ticket::TICKET_LIFE_SECS / 2);
    (expires - half).since(now)
}

/// Runs work that waits for the disk.
pub(crate) async fn blocking(work: impl FnOnce() + Send + 'static) {
    if tokio::task::spawn_blocking(work).await.is_err() {
        tracing::warn!("a write to the state directory was cut off");
    }
}

/// Stands for a ticket that is still to be fetched.
const NO_TICKET: TicketResponse = TicketResponse {
    ticket: String::new(),
    expires: 0,
    networks: Vec::new(),
};

/// A controller that is well answers sooner.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The controller says something every 15 s; three times nothing means that it is gone.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// The time that changes of the netmap are gathered before they are written.
const WRITE_DELAY: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
