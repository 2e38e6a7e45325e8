//! The CAs by which the controller is recognised: takes up those that it names, stores them, and
//! says so while it has two.

use overlan_protocol::api::{Confirmation, path};
use overlan_protocol::key::Fingerprint;

use super::{ANSWER_WITHIN, ControllerSession};
use crate::device::state::{Device, StateError};

impl ControllerSession {
    /// Follows the controller to the CAs that it names. Nothing is said to be known before it is
    /// stored.
    pub(super) async fn handle_cas(&self, cas: &[Fingerprint]) {
        let mut join = self.join.lock().clone();
        let is_news = join.learn(cas);
        let ca = join.ca;
        if is_news {
            let device = Device {
                join: join.clone(),
                ..self.device.clone()
            };
            let state = self.state.clone();
            let stored = tokio::task::spawn_blocking(move || state.save_device(&device)).await;
            match stored {
                Ok(Ok(())) => tracing::info!("the CAs of the controller changed, and are stored"),
                Ok(Err(error)) => return not_stored(&error),
                // The runtime ends.
                Err(_) => return,
            }
            *self.join.lock() = join;
        }
        if cas.len() > 1 && ca.as_ref() == cas.first() {
            self.learnt.send_replace(ca);
        }
    }

    /// Tells the controller which CA is stored, until the session ends.
    pub(super) async fn confirm_ca(&self) {
        let mut learnt = self.learnt.subscribe();
        while learnt.changed().await.is_ok() {
            let confirmation = Confirmation {
                version: 0,
                lineage: None,
                ca: *learnt.borrow_and_update(),
            };
            let exchange = async {
                let mut connection = self.connect().await?;
                connection
                    .post::<_, serde_json::Value>(
                        path::DEVICE_APPLIED,
                        &confirmation,
                        ANSWER_WITHIN,
                    )
                    .await
            };
            if let Err(error) = exchange.await {
                tracing::debug!(%error, "a confirmation did not reach the controller");
            }
        }
    }
}

fn not_stored(error: &StateError) {
    tracing::warn!(
        %error,
        "cannot store the controller's new CA; without it this device needs a new join string once \
         the one before ends"
    );
}
