//! The relay's session with the controller: registers once, then trades heartbeats for orders for
//! as long as it runs. Decides when to try again; what orders mean is the hub's business.

use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    JoinString, ProblemKind, RELAY_HEARTBEAT_SECS, RelayHeartbeat, RelayOrders,
    RelayRegisterRequest, RelayRegisterResponse, path,
};
use overlan_protocol::key::{
    Fingerprint, IdentityKey, IdentitySecret, Secret, encode_signature, random_bytes,
};
use overlan_protocol::proof::{Principal, enrolment_message};
use overlan_transport::ConnectError;
use overlan_transport::clock;
use overlan_transport::https::{Connection, HttpsError};
use overlan_transport::outgoing::Outgoing;
use parking_lot::Mutex;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;
use crate::state::{Registration, StateDir, StateError};

/// The facts that the relay reports to the controller about itself.
#[derive(Debug)]
pub(crate) struct Session {
    /// The controller, as it is recognised now.
    pub(crate) join: Mutex<JoinString>,
    pub(crate) outgoing: Outgoing,
    pub(crate) identity: IdentitySecret,
    pub(crate) addresses: Vec<String>,
    pub(crate) pins: Vec<Fingerprint>,
}

/// The reason why a relay is not registered.
#[derive(Debug)]
pub(crate) enum RegisterError {
    /// The controller could not be reached, or not understood, for `tried`.
    Unreachable { last: HttpsError, tried: Duration },
    /// It refuses the relay, and another attempt has the same answer.
    Refused(HttpsError),
}

impl Session {
    /// Registers with a relay token; tries again for `within` while the controller does not answer.
    pub(crate) async fn register(
        &self,
        token: &Secret,
        within: Duration,
    ) -> Result<RelayRegisterResponse, RegisterError> {
        let started = clock::now();
        let mut backoff = Backoff::new();
        loop {
            let error = match self.try_register(token).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if !may_pass(&error) {
                return Err(RegisterError::Refused(error));
            }
            let pause = backoff.next(random_byte());
            let tried = clock::now() - started;
            if tried + pause > within {
                return Err(RegisterError::Unreachable { last: error, tried });
            }
            tracing::debug!(%error, "registration failed; trying again");
            sleep(pause).await;
        }
    }

    async fn connect(&self) -> Result<Connection, HttpsError> {
        let join = self.join.lock().clone();
        Connection::open_through(&self.outgoing, &join, CONNECT_WITHIN).await
    }

    async fn try_register(&self, token: &Secret) -> Result<RelayRegisterResponse, HttpsError> {
        let mut connection = self.connect().await?;
        let identity = self.identity.public();
        let proof = self
            .identity
            .sign(&enrolment_message(connection.exporter(), &identity));
        let request = RelayRegisterRequest {
            token: token.clone(),
            identity,
            proof: encode_signature(&proof),
            addresses: self.addresses.clone(),
            pins: self.pins.clone(),
        };
        connection
            .post(path::RELAY_REGISTER, &request, ANSWER_WITHIN)
            .await
    }

    /// Takes up the CAs that the controller names, and returns the registration with them.
    pub(crate) fn registered(&self, answer: RelayRegisterResponse) -> Registration {
        let mut join = self.join.lock();
        join.learn(&answer.orders.cas);
        Registration {
            join: (!answer.orders.cas.is_empty()).then(|| join.clone()),
            answer,
        }
    }

    /// Sends heartbeats until `stop`. While the controller is away, the orders in force stay so.
    pub(crate) async fn run(
        &self,
        hub: Arc<Hub>,
        state: StateDir,
        mut registration: Registration,
        stop: CancellationToken,
    ) {
        let mut backoff = Backoff::new();
        let mut connection = None;
        let mut away = false;
        let mut clocks = Clock::default();
        loop {
            let beat = self.heartbeat(&hub, &registration, &mut connection);
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                answer = beat => answer,
            };
            let pause = match answer {
                Ok((orders, took)) => {
                    if std::mem::take(&mut away) {
                        tracing::info!("the controller answers again");
                    }
                    backoff = Backoff::new();
                    let theirs = connection.as_ref().and_then(Connection::server_time);
                    clocks.compare(clock::wall(), theirs.map(UnixTime::from_secs));
                    if orders != registration.answer.orders {
                        registration.answer.orders = orders;
                        registration = self.registered(registration.answer);
                        hub.apply(registration.answer.orders.clone());
                        let version = registration.answer.orders.version;
                        tracing::info!(version, "new orders");
                        let identity = self.identity.public();
                        if let Err(error) = store(&state, identity, &registration).await {
                            tracing::error!(
                                %error,
                                "the new orders are in force, but could not be written to disk"
                            );
                            // It must not say that it has a CA that the next start forgets.
                            registration.join = None;
                        }
                    }
                    BEAT_MIN.saturating_sub(took)
                }
                Err(error) => {
                    connection = None;
                    if std::mem::replace(&mut away, true) {
                        tracing::debug!(%error, "the controller is still away");
                    } else {
                        tracing::warn!(
                            %error,
                            "cannot reach the controller; the last orders stay in force"
                        );
                    }
                    backoff.next(random_byte())
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// One heartbeat and how long it took.
    async fn heartbeat(
        &self,
        hub: &Hub,
        registration: &Registration,
        connection: &mut Option<Connection>,
    ) -> Result<(RelayOrders, Duration), HttpsError> {
        let started = clock::now();
        let connection = match connection {
            Some(connection) => connection,
            None => {
                let mut fresh = self.connect().await?;
                fresh.prove(Principal::Relay(hub.id), &self.identity);
                connection.insert(fresh)
            }
        };
        let gauges = hub.gauges();
        let beat = RelayHeartbeat {
            clients: u32::try_from(gauges.clients).unwrap_or(u32::MAX),
            applied: gauges.orders_version,
            lineage: registration.answer.orders.lineage,
            addresses: self.addresses.clone(),
            pins: self.pins.clone(),
            wait: true,
            ca: registration.join.as_ref().and_then(|join| join.ca),
        };
        let orders = connection
            .post(path::RELAY_HEARTBEAT, &beat, HELD_WITHIN)
            .await?;
        Ok((orders, clock::now() - started))
    }
}

/// Compares this machine's clock with the controller's. Tickets are made by one and judged by the
/// other.
#[derive(Debug, Default)]
struct Clock {
    /// The log says that they differ.
    is_logged: bool,
}

impl Clock {
    /// Logs a change. `theirs`: the controller's clock in the answer that has just come.
    fn compare(&mut self, ours: UnixTime, theirs: Option<UnixTime>) {
        let Some(theirs) = theirs else { return };
        let differ = ours.abs_diff(theirs) > CLOCKS_DIFFER;
        match (differ, std::mem::replace(&mut self.is_logged, differ)) {
            (true, false) => {
                let ahead_secs = ours.as_secs() as i64 - theirs.as_secs() as i64;
                tracing::warn!(
                    ahead_secs,
                    "the clocks of this relay and of the controller differ, so devices may be \
                     refused; set both clocks, for example by NTP"
                );
            }
            (false, true) => tracing::info!("the clocks of relay and controller agree again"),
            _ => {}
        }
    }
}

/// Writes the registration on a thread that may block.
async fn store(
    state: &StateDir,
    identity: IdentityKey,
    registration: &Registration,
) -> Result<(), StateError> {
    let (state, registration) = (state.clone(), registration.clone());
    let written =
        tokio::task::spawn_blocking(move || state.store_registration(identity, &registration))
            .await;
    // Only a runtime that shuts down cancels it; then nobody waits for the answer.
    written.unwrap_or(Ok(()))
}

/// Returns whether another attempt can have another result.
fn may_pass(error: &HttpsError) -> bool {
    match error {
        HttpsError::Connect(ConnectError::WrongServer { .. }) => false,
        HttpsError::Connect(_) | HttpsError::Broken(_) | HttpsError::TimedOut(_) => true,
        HttpsError::NotUnderstood(_) => false,
        HttpsError::Problem(problem) => matches!(
            problem.kind,
            ProblemKind::Unavailable | ProblemKind::TooMany | ProblemKind::Internal
        ),
    }
}

/// Pauses between attempts: they double from [`BACKOFF_MIN`] to [`BACKOFF_MAX`], less up to half of
/// it at random.
#[derive(Debug)]
struct Backoff {
    next: Duration,
}

impl Backoff {
    fn new() -> Self {
        Self { next: BACKOFF_MIN }
    }

    /// `random` spreads the relays of a deployment after an outage.
    fn next(&mut self, random: u8) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(BACKOFF_MAX);
        full - full.mul_f32(f32::from(random) / 512.0)
    }
}

fn random_byte() -> u8 {
    let [byte] = random_bytes();
    byte
}

/// Difference of two clocks that is worth a line of log: a fifth of the difference that a ticket
/// allows for.
const CLOCKS_DIFFER: Duration = Duration::from_secs(60);

const BACKOFF_MIN: Duration = Duration::from_secs(1);

const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Time for TCP and TLS to the controller.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Time for an answer that is not held back.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Time for an answer that the controller may hold back.
const HELD_WITHIN: Duration = Duration::from_secs(RELAY_HEARTBEAT_SECS + 10);

/// Shortest time between heartbeats, even if a controller answers all of them at once.
const BEAT_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
