//! Reports to the controller: its links and round trips, that it leaves, and versions of the netmap
//! that the engine follows, if it is asked.

use overlan_protocol::api::{DeviceReport, path};
use tokio::time::timeout;

use super::{ANSWER_WITHIN, ControllerSession, Health};

impl ControllerSession {
    /// Notes that the engine follows the netmap of this version: what it forbids has ended.
    pub(crate) fn handle_applied(&self, version: u64) {
        self.applied.send_replace(version);
    }

    /// Confirms until the session ends.
    pub(super) async fn confirm(&self) {
        let mut asked = self.asked.subscribe();
        while asked.changed().await.is_ok() {
            let Some(wanted) = asked.borrow_and_update().clone() else {
                continue;
            };
            let mut applied = self.applied.subscribe();
            let is_applied = applied.wait_for(|version| *version >= wanted.version);
            // A later netmap may come from a database of an earlier time.
            if !matches!(timeout(ANSWER_WITHIN, is_applied).await, Ok(Ok(_))) {
                continue;
            }
            let exchange = async {
                let mut connection = self.connect().await?;
                connection
                    .post::<_, serde_json::Value>(path::DEVICE_APPLIED, &wanted, ANSWER_WITHIN)
                    .await
            };
            if let Err(error) = exchange.await {
                tracing::debug!(%error, "a confirmation did not reach the controller");
            }
        }
    }

    /// Reports this device's links and round trips to the controller. A failure is only logged,
    /// since nothing waits for the report.
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

    /// Reports to the controller that this device ends, if the session is open, so that peers hear
    /// of it at once.
    pub async fn leave(&self) {
        if matches!(*self.health.borrow(), Health::Connected { .. }) {
            let report = DeviceReport {
                leaving: true,
                ..DeviceReport::default()
            };
            self.report(&report).await;
        }
    }
}
