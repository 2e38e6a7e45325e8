//! Keeps certificates for this device's names while a port is served with TLS: asks the controller,
//! stores the answer, and uses it from the next handshake on. [`crate::device::certificate`]
//! decides when.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::key::{NetworkId, random_bytes};
use overlan_transport::clock::{now, wall};
use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::Inner;
use crate::device::certificate::{Asking, Due, Held, Names, due, names};
use crate::device::controller_session::NEEDS_CONTROLLER;
use crate::device::status::CertificateStatus;
use crate::doors::serve::inbound::Securing;
use overlan_plane::backoff::{Backoff, BackoffBounds};

/// The certificates of a node.
pub(super) struct Certificates {
    /// True while a port is served with TLS.
    wanted: watch::Sender<bool>,
    current: Arc<Mutex<Current>>,
}

#[derive(Default)]
struct Current {
    keys: BTreeMap<NetworkId, Arc<CertifiedKey>>,
    status: CertificateStatus,
}

impl Certificates {
    pub(super) fn new() -> Self {
        Self {
            wanted: watch::Sender::new(false),
            current: Arc::default(),
        }
    }

    /// Notes whether a port is served with TLS.
    pub(super) fn want(&self, wanted: bool) {
        self.wanted.send_if_modified(|before| {
            let is_news = *before != wanted;
            *before = wanted;
            is_news
        });
    }

    /// Returns the TLS side of a port in that network.
    pub(super) fn securing(&self, network: NetworkId, http: bool) -> Securing {
        let shown = Shown {
            network,
            current: self.current.clone(),
        };
        Securing::new(Arc::new(shown), http)
    }

    /// Returns the certificates for the status; `None` while no port is served with TLS.
    pub(super) fn status(&self) -> Option<CertificateStatus> {
        let wanted = *self.wanted.borrow();
        wanted.then(|| self.current.lock().status.clone())
    }

    fn show(&self, held: &Held) {
        let Some(keys) = held.keys() else { return };
        let mut current = self.current.lock();
        current.keys = keys;
        current.status = CertificateStatus {
            names: held.issued_for().map(str::to_owned).collect(),
            expires: Some(held.expires()),
            error: None,
        };
    }
}

/// The certificate for handshakes in one network. Each handshake asks for it, so that a renewal
/// needs no new listener.
struct Shown {
    network: NetworkId,
    current: Arc<Mutex<Current>>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.lock().keys.get(&self.network).cloned()
    }
}

impl Inner {
    /// Requests certificates whenever they are due, until the node ends.
    pub(super) async fn certify(self: Arc<Self>) {
        let mut held = match self.state.load_certificates() {
            // Damaged ones are requested again.
            Ok(held) => held.filter(|held| held.keys().is_some()),
            Err(error) => {
                tracing::warn!(%error, "the stored certificates are ignored");
                None
            }
        };
        if let Some(held) = &held {
            self.certificates.show(held);
        }
        let mut netmap = self.control.netmap();
        let mut wanted = self.certificates.wanted.subscribe();
        let mut backoff = Backoff::new(RETRY, u64::from_ne_bytes(random_bytes()));
        // The names of the last request that failed, and the time of the next one.
        let mut failed: Option<(Names, std::time::Instant)> = None;
        loop {
            let names = match *wanted.borrow_and_update() {
                true => names(&netmap.borrow_and_update()),
                false => Names::new(),
            };
            let wait = match due(wall(), held.as_ref(), &names) {
                Due::Never => None,
                // The wall clock may be set to another time meanwhile.
                Due::At(at) => {
                    let rest = at.since(wall());
                    Some(now() + rest.min(LOOK_AGAIN))
                }
                Due::Now => match &failed {
                    Some((same, until)) if *same == names && now() < *until => Some(*until),
                    Some(_) | None => {
                        let asked = self.ask_for_certificates(names.clone());
                        match self.stop.run_until_cancelled(asked).await {
                            None => return,
                            Some(Ok(renewed)) => {
                                self.certificates.show(&renewed);
                                held = Some(renewed);
                                failed = None;
                                backoff.handle_success(now());
                            }
                            Some(Err(error)) => {
                                tracing::warn!(%error, "{NOT_CERTIFIED}");
                                self.certificates.current.lock().status.error = Some(error);
                                let until = now() + backoff.handle_failure(now());
                                failed = Some((names, until));
                            }
                        }
                        continue;
                    }
                },
            };
            let due = async {
                match wait {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = due => {}
                changed = netmap.changed() => if changed.is_err() { return },
                changed = wanted.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn ask_for_certificates(&self, names: Names) -> Result<Held, String> {
        let asking = Asking::new(self.device.device)
            .ok_or("the operating system gave no randomness for a key")?;
        let answer = self.control.certify(asking.request()).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let held = asking
            .answered(wall(), names, answer)
            .ok_or("the controller's answer has no certificates for this device's key")?;
        if let Err(error) = self.state.save_certificates(&held) {
            tracing::warn!(%error, "cannot store the certificates; {NEEDS_CONTROLLER}");
        }
        Ok(held)
    }
}

/// The warning about a request that failed.
const NOT_CERTIFIED: &str = "the controller gave no certificates for this device's names; those \
                             that it has are used until they expire";

/// The pauses between failed requests: certificates have days left when they are renewed.
const RETRY: BackoffBounds = BackoffBounds {
    base: Duration::from_secs(2),
    cap: Duration::from_secs(300),
};

/// Longest time between two looks at the wall clock.
const LOOK_AGAIN: Duration = Duration::from_secs(3_600);
