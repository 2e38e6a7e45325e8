//! The HTTP API: decides which handler answers which path. The only door to axum.

mod auth_keys;
mod body;
mod caller;
mod certificates;
mod changed;
mod channel;
mod device;
mod device_networks;
mod devices;
mod dns;
mod email;
mod enrol;
mod feed;
mod members;
mod networks;
mod problem;
mod relay;
mod relay_tokens;
mod relays;
mod routes;
mod sessions;
mod setup;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, post};
use overlan_protocol::api::path;
use tracing::{Instrument, field};

pub(crate) use axum::response::Response;

pub(crate) use self::channel::Channel;
pub(crate) use self::setup::SETUP_TOKEN;

use self::changed::What;
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
const ROUTINE: [&str; 4] = [
    path::DEVICE_REPORT,
    path::DEVICE_TICKET,
    path::DEVICE_CERTIFICATES,
    path::RELAY_HEARTBEAT,
];

/// Connects each path with its handler.
fn router(deployment: Arc<Deployment>) -> Router {
    people()
        .merge(machines())
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(deployment)
}

/// The paths of people, with the setup token, a password or a session.
fn people() -> Router<Arc<Deployment>> {
    let below = |path: &str, rest: &str| format!("{path}/{rest}");
    let own_sessions = get(sessions::list).delete(sessions::end_others);
    let relay_tokens = get(relay_tokens::list).post(relay_tokens::make);
    let approve = below(path::DEVICES, "{id}/approve");
    let member = below(path::NETWORKS, "{label}/devices/{id}");
    Router::new()
        .route(path::HEALTH, get(setup::health))
        .route(path::SETUP, post(setup::setup))
        .route(path::LOGIN, post(sessions::login))
        .route(path::PASSWORD, post(sessions::change_password))
        .route(path::SESSION, delete(sessions::logout))
        .route(path::SESSIONS, own_sessions)
        .route(&below(path::SESSIONS, "{id}"), delete(sessions::end))
        .route(path::NETWORKS, get(networks::list).post(networks::create))
        .route(&below(path::NETWORKS, "{label}"), delete(networks::remove))
        .route(
            &below(path::NETWORKS, "{label}/devices"),
            post(members::add),
        )
        .route(&member, delete(members::take_out))
        .route(path::DEVICES, get(devices::list))
        .route(&below(path::DEVICES, "{id}"), delete(devices::remove))
        .route(&approve, post(devices::approve))
        .route(path::ROUTES, get(routes::list).post(routes::approve))
        .route(path::AUTH_KEYS, get(auth_keys::list).post(auth_keys::make))
        .route(&below(path::AUTH_KEYS, "{id}"), delete(auth_keys::revoke))
        .route(path::RELAYS, get(relays::list))
        .route(&below(path::RELAYS, "{name}"), delete(relays::remove))
        .route(path::RELAY_TOKENS, relay_tokens)
        .route(
            &below(path::RELAY_TOKENS, "{id}"),
            delete(relay_tokens::revoke),
        )
        .route(path::DNS, get(dns::list))
        .route(path::DNS_RECORDS, post(dns::add_record))
        .route(path::DNS_RECORDS_REMOVE, post(dns::remove_records))
        .route(path::DNS_ZONES, post(dns::set_zone))
        .route(path::DNS_ZONES_REMOVE, post(dns::remove_zone))
        .route(path::NAMES_CA, get(certificates::names_ca))
}

/// The paths of devices and relays, with a key, a token or proof of their own key.
fn machines() -> Router<Arc<Deployment>> {
    let networks = get(device_networks::choices).post(device_networks::join);
    let network = format!("{}/{{label}}", path::DEVICE_NETWORKS);
    Router::new()
        .route(path::ENROL, post(enrol::enrol))
        .route(path::DEVICE_TICKET, post(device::ticket))
        .route(path::DEVICE_NETMAP, get(device::netmap))
        .route(path::DEVICE_REPORT, post(device::report))
        .route(path::DEVICE, delete(device::remove))
        .route(path::DEVICE_ROUTES, post(routes::offer))
        .route(path::DEVICE_CERTIFICATES, post(certificates::issue))
        .route(path::DEVICE_NETWORKS, networks)
        .route(&network, delete(device_networks::leave))
        .route(path::RELAY_REGISTER, post(relay::register))
        .route(path::RELAY_HEARTBEAT, post(relay::heartbeat))
}
