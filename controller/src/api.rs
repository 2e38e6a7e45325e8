//! The HTTP API: `table` says who may call which path, and which handler answers. The only door to
//! axum.
//!
//! The people of an organisation have `people`, `organisations`, `invitations`, `resets` (of
//! passwords), `signup`, `closing` (of an organisation), `login_requests` (granted elsewhere),
//! `identity_provider`, and `sso` for logins by one; the deployment has `keys`.

mod api_tokens;
mod arrival;
mod auth_keys;
mod body;
mod caller;
mod certificates;
mod changed;
mod channel;
mod closing;
mod describe;
mod device;
mod device_changes;
mod device_networks;
mod devices;
mod dns;
mod email;
mod endpoint;
mod enrol;
mod etag;
mod feed;
mod idempotency;
mod identity_provider;
mod invitations;
mod keys;
mod login_requests;
mod members;
mod networks;
mod openapi;
mod organisations;
mod pages;
mod people;
mod policy;
mod problem;
mod relay;
mod relay_tokens;
mod relays;
mod resets;
mod routes;
mod sessions;
mod setup;
mod signup;
mod sso;
mod table;
mod trust_rules;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::response::IntoResponse;
use overlan_protocol::api::path;
use tracing::{Instrument, field};

pub(crate) use axum::response::Response;

pub(crate) use self::channel::Channel;
pub use self::openapi::openapi;
pub(crate) use self::setup::SETUP_TOKEN;

use self::changed::What;
use self::endpoint::Endpoint;
use crate::deployment::Deployment;
use crate::limits::NoRoom;

/// The API of one controller. A clone is the same API.
#[derive(Debug, Clone)]
pub(crate) struct Api(Router);

impl Api {
    pub(crate) fn new(deployment: Arc<Deployment>) -> Self {
        Self(router(deployment))
    }

    /// Returns the answer to a connection that cannot stay; the connection closes with it.
    pub(crate) fn no_room(reason: NoRoom) -> Response {
        let mut response = problem::Refusal::no_room(reason).into_response();
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
        response
    }

    /// Answers a request that came on `channel`. Every failure is an answer as well.
    pub(crate) async fn answer(
        mut self,
        request: hyper::Request<hyper::body::Incoming>,
        channel: Channel,
    ) -> Response {
        let mut request: Request = request.map(Body::new);
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        request.extensions_mut().insert(channel.clone());
        // Handlers record the network that they work on.
        let span = tracing::error_span!("request", path, network = field::Empty);
        let answered = tower_service::Service::call(&mut self.0, request);
        let mut response = match answered.instrument(span.clone()).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let _entered = span.entered();
        let changes = method != Method::GET && !ROUTINE.contains(&path.as_str());
        if changes && response.status().is_success() {
            let by = channel.seat.holder();
            match response.extensions_mut().remove::<What>() {
                Some(What(what)) if what.is_empty() => {}
                Some(What(what)) => tracing::info!(by, what, "changed"),
                None => debug_assert!(false, "{method} {path} says nothing of what it changed"),
            }
        }
        response
    }
}

/// Requests that devices and relays make all the time, and that change nothing worth a line in the
/// log.
const ROUTINE: [&str; 5] = [
    path::DEVICE_REPORT,
    path::DEVICE_APPLIED,
    path::DEVICE_TICKET,
    path::DEVICE_CERTIFICATES,
    path::RELAY_HEARTBEAT,
];

/// Connects each route of the table.
fn router(deployment: Arc<Deployment>) -> Router {
    let mount = |router, endpoint: Endpoint| endpoint.mount(router, &deployment);
    table::all()
        .fold(Router::new(), mount)
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(deployment)
}
