//! Answers the operator: `/metrics`, `/healthz` and `/readyz`, nothing else. Decides when to try
//! again whether the database takes writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use overlan_transport::operator::Page;
use parking_lot::Mutex;

use crate::clock;
use crate::deployment::Deployment;
use crate::metrics::{Counts, Gauges};
use crate::seats::Seats;

/// The state that the operator can see.
#[derive(Debug)]
pub(crate) struct OperatorDoor {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) counts: Arc<Counts>,
    /// The time of the last trial write, and the reason if it failed.
    pub(crate) tried: Mutex<Option<(Instant, Option<String>)>>,
}

impl OperatorDoor {
    pub(crate) async fn answer(&self, path: &str) -> Page {
        let version = env!("CARGO_PKG_VERSION");
        match path {
            // The program runs and answers: whatever restarts it must look no further.
            "/healthz" => {
                let document = serde_json::json!({ "status": "ok", "version": version });
                Page::health(true, &document)
            }
            "/readyz" => {
                let failed = self.write_failure().await;
                let document = serde_json::json!({
                    "status": match failed {
                        None => "ok",
                        Some(_) => "cannot write",
                    },
                    "reason": failed,
                    "version": version,
                });
                Page::health(failed.is_none(), &document)
            }
            "/metrics" => {
                let (open, budget) = self.seats.open();
                let gauges = Gauges {
                    open,
                    budget,
                    can_write: self.write_failure().await.is_none(),
                    totals: self.deployment.store.totals().await.ok(),
                    version: self.deployment.changelog.head(),
                };
                Page::metrics(self.counts.render(gauges))
            }
            _ => Page::not_found("/metrics, /healthz or /readyz"),
        }
    }

    /// Returns the reason why the database does not take writes, by a trial now or shortly before.
    async fn write_failure(&self) -> Option<String> {
        let now = clock::now();
        let known = self.tried.lock().clone();
        if let Some((at, failed)) = known
            && now.saturating_duration_since(at) < TRY_EVERY
        {
            return failed;
        }
        let result = self.deployment.store.check_write().await;
        let failed = result.err().map(|error| error.to_string());
        *self.tried.lock() = Some((clock::now(), failed.clone()));
        failed
    }
}

/// The time between two trial writes, however many ask.
const TRY_EVERY: Duration = Duration::from_secs(2);
