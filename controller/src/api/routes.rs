//! `/api/v1/routes` and `/v1/device/routes`: devices offer routes as gateways, people approve them.
//! [`overlan_protocol::gateway`] says what a route covers.

use std::sync::Arc;

use axum::extract::State;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{ApproveRequest, OfferRequest, ProblemKind, RouteSummary};
use overlan_protocol::gateway::{GatewayRoute, OfferedRoute, ROUTES_MAX};
use overlan_protocol::key::NetworkId;

use super::body::Json;
use super::caller::{ChangingDevice, Person, device_removed};
use super::changed::{Changed, and};
use super::devices::known_device;
use super::dns;
use super::networks::named_or_default;
use super::problem::Refusal;
use crate::clock;
use crate::deployment::Deployment;
use crate::gateway_names;
use crate::netmaps::Fact;
use crate::records::NameUse;
use crate::store::accounts::NetworkRow;
use crate::store::devices::{self, Device};
use crate::store::{LIST_MAX, Tx, changes, routes};

/// Takes all routes that a device offers, in place of those that it offered before.
pub(super) async fn offer(
    State(deployment): State<Arc<Deployment>>,
    ChangingDevice(device): ChangingDevice,
    Json(request): Json<OfferRequest>,
) -> Result<Changed<Vec<RouteSummary>>, Refusal> {
    if request.routes.len() > ROUTES_MAX {
        return Err(Refusal::bad_request(format!(
            "a device offers at most {ROUTES_MAX} routes"
        )));
    }
    if let Some(route) = request
        .routes
        .iter()
        .map(OfferedRoute::route)
        .find(|route| route.is_below(&deployment.domain))
    {
        return Err(Refusal::bad_request(format!(
            "{route} is in {}, whose names are those of devices",
            deployment.domain
        )));
    }
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    // The proof was checked before this transaction began.
    let device = devices::get(&mut tx, device.id)
        .await?
        .ok_or_else(device_removed)?;
    let mut is_news = false;
    for place in &device.places {
        let network = place.network;
        let kept = |offer: &OfferedRoute| request.routes.contains(offer);
        gateway_names::withdraw(&mut tx, device.org, network, device.id, kept, now).await?;
        if routes::offer(&mut tx, device.id, network, &request.routes, now).await? {
            tell(&mut tx, &device, network, now).await?;
            is_news = true;
        }
    }
    let offered = routes::of_device(&mut tx, device.id).await?;
    deployment.store.commit(tx).await?;
    if !is_news {
        return Ok(Changed::nothing(offered));
    }
    let routes = request.routes.iter().map(|offer| offer.route().to_string());
    Ok(Changed::new(format!("offers {}", and(routes)), offered))
}

pub(super) async fn list(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
) -> Result<Json<Vec<RouteSummary>>, Refusal> {
    let mut tx = deployment.store.read().await?;
    Ok(Json(routes::of_org(&mut tx, person.org, LIST_MAX).await?))
}

pub(super) async fn approve(
    State(deployment): State<Arc<Deployment>>,
    person: Person,
    Json(request): Json<ApproveRequest>,
) -> Result<Changed<RouteSummary>, Refusal> {
    let ApproveRequest {
        device,
        network,
        route,
        approved,
    } = request;
    let now = clock::wall();
    let mut tx = deployment.store.write().await?;
    let network = named_or_default(&mut tx, person.org, Some(&network)).await?;
    let device = known_device(&mut tx, person.org, device).await?;
    if !routes::approve(&mut tx, device.id, network.id, &route, approved).await? {
        return Err(Refusal::new(
            ProblemKind::NotFound,
            &format!("that device does not offer {route} in {}", network.name),
            "a device offers a route by `overlan serve route`; `overlan admin route list` shows \
             all",
        ));
    }
    name_host(&deployment, &mut tx, &device, &network, &route, approved).await?;
    tell(&mut tx, &device, network.id, now).await?;
    let offered = routes::of_device(&mut tx, device.id).await?;
    deployment.store.commit(tx).await?;
    let mut known = offered.into_iter();
    let summary = known.find(|known| known.network == network.name && known.route == route);
    let verb = match approved {
        true => "approved",
        false => "rejected",
    };
    let what = format!(
        "{verb} route {route} of device {} in network {}",
        device.called(),
        network.name
    );
    summary
        .map(|summary| Changed::new(what, summary))
        .ok_or_else(|| Refusal::internal(&"a route vanished"))
}

/// Gives the host of an approved route the name that the device wished for it, or takes that back.
async fn name_host(
    deployment: &Deployment,
    tx: &mut Tx,
    device: &Device,
    network: &NetworkRow,
    route: &GatewayRoute,
    approved: bool,
) -> Result<(), Refusal> {
    let offers = routes::of_device(tx, device.id).await?;
    let mut offers = offers.into_iter();
    let offer = offers.find(|offer| offer.network == network.name && offer.route == *route);
    let Some(name) = offer.and_then(|offer| offer.name) else {
        return Ok(());
    };
    if !approved {
        let kept = |offer: &OfferedRoute| offer.route() != route;
        let now = clock::wall();
        gateway_names::withdraw(tx, device.org, network.id, device.id, kept, now).await?;
    } else if let Some(record) = gateway_names::record(route) {
        let place = (device.org, network);
        let name_use = NameUse::Exclusive;
        let (name, is_news) = dns::put(deployment, tx, place, &name, &record, name_use).await?;
        if is_news {
            routes::set_record(tx, device.id, network.id, route, &name).await?;
        }
    }
    Ok(())
}

/// Tells the members of the network the present routes of the device.
async fn tell(
    tx: &mut Tx,
    device: &Device,
    network: NetworkId,
    now: UnixTime,
) -> Result<(), Refusal> {
    let current = devices::get(tx, device.id)
        .await?
        .ok_or_else(device_removed)?;
    if let Some(place) = current.place(network) {
        let fact = Fact::Device(Box::new(current.member(place)));
        changes::append(tx, current.org, Some(network), &fact, now).await?;
        // Rules about gateway hosts may mean it.
        changes::append(tx, current.org, Some(network), &Fact::Policy, now).await?;
    }
    Ok(())
}
