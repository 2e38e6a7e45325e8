//! Answers `/metrics` and `/healthz` at the operator's door, and nothing else. Decides nothing and
//! changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use overlan_transport::operator::{self, Page};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::hub::Hub;

/// Answers until `stop`.
pub(crate) async fn serve(hub: Arc<Hub>, listener: TcpListener, stop: CancellationToken) {
    let respond = move |path: String| std::future::ready(respond(&hub, &path));
    operator::serve(listener, respond, stop).await;
}

fn respond(hub: &Hub, path: &str) -> Page {
    match path {
        "/metrics" => Page::metrics(hub.metrics.render(hub.gauges())),
        "/healthz" => {
            let serving = hub.serving.load(Ordering::Relaxed);
            let gauges = hub.gauges();
            let document = serde_json::json!({
                "status": if serving { "ok" } else { "not serving" },
                "version": env!("CARGO_PKG_VERSION"),
                "relay": hub.id,
                "orders_version": gauges.orders_version,
                "clients": gauges.clients,
            });
            Page::health(serving, &document)
        }
        _ => Page::not_found("/metrics or /healthz"),
    }
}
