//! The routes that this device serves as a gateway: they are reported to the controller, and served
//! in the networks where they are approved. Decides which hosts peers may reach: those in a route
//! that this device serves and an admin approved.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use overlan_protocol::gateway::{self, GatewayRoute, OfferedRoute, ROUTES_MAX};
use overlan_protocol::key::NetworkId;
use overlan_protocol::netmap::Netmap;
use tokio_util::sync::CancellationToken;

use super::{Inner, Node};
use crate::device::state::StateError;
use crate::device::status::RouteStatus;
use crate::doors::gateway as door;
use crate::host::accept::Until;
use overlan_plane::engine::Membership;

/// The networks and routes of the last report to the controller.
pub(super) type ReportedRoutes = (BTreeSet<NetworkId>, Vec<OfferedRoute>);

/// The listener for peers in one network.
pub(super) struct RouteListener {
    membership: Weak<Membership>,
    stop: CancellationToken,
}

/// The reason why the list of routes stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// The route is not in the list.
    #[error("this device does not serve the route {0}; `overlan serve list` shows its routes")]
    NotThere(GatewayRoute),
    /// The list is full.
    #[error("this device serves {ROUTES_MAX} routes already, and there cannot be more")]
    Full,
    /// The list could not be stored.
    #[error(transparent)]
    State(#[from] StateError),
}

impl Node {
    /// Serves a route to the members of this device's networks, from this moment and at later
    /// starts. It has no effect until an admin approves it; then its host also has the label of the
    /// route.
    pub fn add_route(&self, route: impl Into<OfferedRoute>) -> Result<(), RouteError> {
        self.change_routes(|routes| add(routes, route.into()))
    }

    /// Stops serving a route.
    pub fn remove_route(&self, route: &GatewayRoute) -> Result<(), RouteError> {
        self.change_routes(|routes| remove(routes, route))
    }

    fn change_routes(
        &self,
        change: impl FnOnce(&mut Vec<OfferedRoute>) -> Result<(), RouteError>,
    ) -> Result<(), RouteError> {
        let inner = &self.inner;
        let mut routes = inner.routes.lock().clone().unwrap_or_default();
        change(&mut routes)?;
        inner.state.save_routes(&routes)?;
        *inner.routes.lock() = Some(routes);
        inner.serve_routes();
        inner.report_routes();
        Ok(())
    }
}

/// Adds a route to a list. A route that is already there changes nothing but its label.
///
/// # Errors
/// [`RouteError::Full`].
pub fn add(routes: &mut Vec<OfferedRoute>, route: OfferedRoute) -> Result<(), RouteError> {
    if let Some(known) = routes.iter_mut().find(|it| it.route() == route.route()) {
        *known = route;
        return Ok(());
    }
    if routes.len() >= ROUTES_MAX {
        return Err(RouteError::Full);
    }
    routes.push(route);
    routes.sort();
    Ok(())
}

/// Removes a route from a list.
///
/// # Errors
/// [`RouteError::NotThere`].
pub fn remove(routes: &mut Vec<OfferedRoute>, route: &GatewayRoute) -> Result<(), RouteError> {
    let before = routes.len();
    routes.retain(|known| known.route() != route);
    match routes.len() < before {
        true => Ok(()),
        false => Err(RouteError::NotThere(route.clone())),
    }
}

impl Inner {
    /// Lists the routes that this device serves, and the networks where each is approved.
    pub(super) fn route_statuses(&self, netmap: &Netmap) -> Vec<RouteStatus> {
        let approved_in = |route: &GatewayRoute| {
            let networks = netmap.networks.values();
            let approving = networks.filter(|network| network.routes.contains(route));
            approving.map(|network| network.name.clone()).collect()
        };
        let routes = self.routes.lock().clone().unwrap_or_default();
        let status = |offer: OfferedRoute| RouteStatus {
            approved_in: approved_in(offer.route()),
            name: offer.name().map(str::to_owned),
            route: offer.route().clone(),
        };
        routes.into_iter().map(status).collect()
    }

    /// Listens in every network while there is a route.
    pub(super) fn serve_routes(self: &Arc<Self>) {
        let offers = self
            .routes
            .lock()
            .as_ref()
            .is_some_and(|routes| !routes.is_empty());
        let memberships = self.engine.memberships();
        let mut listening = self.route_listeners.lock();
        listening.retain(|network, entry| {
            let is_current = memberships.get(network).is_some_and(|membership| {
                let known = entry.membership.upgrade();
                known.is_some_and(|known| Arc::ptr_eq(&known, membership))
            });
            let keep = offers && is_current;
            if !keep {
                entry.stop.cancel();
            }
            keep
        });
        if !offers {
            return;
        }
        for (id, membership) in memberships.iter() {
            if listening.contains_key(id) {
                continue;
            }
            match membership.stack().listen(gateway::PORT) {
                Ok(listener) => {
                    let stop = self.stop.child_token();
                    let rights = self.gateway_rights(*id, Arc::downgrade(membership));
                    let vacancy = self.open_door("the port for hosts of this gateway".to_owned());
                    let until = Until {
                        closed: self.closing.clone(),
                        ended: stop.clone(),
                    };
                    let serving =
                        async move { door::run(listener, rights, &vacancy, &until).await };
                    self.tasks.spawn(self.serving.track_future(serving));
                    let membership = Arc::downgrade(membership);
                    listening.insert(*id, RouteListener { membership, stop });
                }
                Err(error) => tracing::warn!(
                    network = %id, %error,
                    "cannot serve routes: the overlay port of gateways is taken"
                ),
            }
        }
    }

    /// Returns what peers may reach by this gateway in that network, and when that may change.
    fn gateway_rights(
        self: &Arc<Self>,
        network: NetworkId,
        membership: Weak<Membership>,
    ) -> door::Rights {
        let changes = self.links_changed.subscribe();
        let inner = Arc::downgrade(self);
        let read = move || {
            let (inner, membership) = (inner.upgrade()?, membership.upgrade()?);
            let netmap = inner.control.netmap().borrow().clone();
            let approved = &netmap.networks.get(&network)?.routes;
            let offered = inner.routes.lock().clone().unwrap_or_default();
            let is_offered = |route: &&GatewayRoute| offered.iter().any(|it| it.route() == *route);
            Some(door::Right {
                routes: approved.iter().filter(is_offered).cloned().collect(),
                filter: membership.filter(),
            })
        };
        door::Rights {
            now: Arc::new(move || read().unwrap_or_default()),
            changes,
        }
    }

    /// Reports the routes to the controller, if they have changed. A report that fails is repeated
    /// after the next change of the netmap, which is the first message of a controller that is
    /// back.
    pub(super) fn report_routes(self: &Arc<Self>) {
        let netmap = self.control.netmap().borrow().clone();
        let Some(routes) = self.routes.lock().clone() else {
            return;
        };
        let news = (netmap.networks.keys().copied().collect(), routes);
        if netmap.version == 0 || self.reported_routes.lock().as_ref() == Some(&news) {
            return;
        }
        *self.reported_routes.lock() = Some(news.clone());
        let inner = self.clone();
        self.tasks.spawn(async move {
            let reported = inner
                .stop
                .run_until_cancelled(inner.control.report_routes(&news.1))
                .await;
            if let Some(Err(error)) = reported {
                tracing::warn!(%error, "the controller did not take this device's routes");
                let mut offered = inner.reported_routes.lock();
                if *offered == Some(news) {
                    *offered = None;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_routes_has_each_once_and_an_end() {
        let mut routes = Vec::new();
        let route = |number: usize| {
            format!("10.0.{number}.0/24")
                .parse::<OfferedRoute>()
                .unwrap()
        };
        for number in (0..ROUTES_MAX).chain(0..ROUTES_MAX) {
            add(&mut routes, route(number)).unwrap();
        }
        assert_eq!(routes.len(), ROUTES_MAX);
        assert!(matches!(
            add(&mut routes, route(200)),
            Err(RouteError::Full)
        ));
        remove(&mut routes, route(7).route()).unwrap();
        assert!(matches!(
            remove(&mut routes, route(7).route()),
            Err(RouteError::NotThere(_))
        ));
    }

    #[test]
    fn another_name_for_a_host_replaces_the_one_before() {
        let mut routes = Vec::new();
        let offer = |text: &str| text.parse::<OfferedRoute>().unwrap();
        for text in ["db.internal as db", "db.internal", "db.internal as sql"] {
            add(&mut routes, offer(text)).unwrap();
            assert_eq!(routes, [offer(text)]);
        }
    }
}
