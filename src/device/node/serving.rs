//! The services that this device serves: they are opened in the networks that they name, and stored
//! for later starts. Decides which ports are open in which network.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use overlan_protocol::key::NetworkId;
use tokio_util::sync::CancellationToken;

use super::{Inner, Node};
use crate::device::controller_session::blocking;
use crate::device::state::StateError;
use crate::doors::serve::service::{OverlayPort, OverlayTransport, Serve};
use crate::doors::serve::{self, ServedPort};
use crate::host::accept::Until;
use crate::host::splice::Patience;
use overlan_plane::engine::Membership;

/// A port that is open in one network.
pub(super) struct OpenPort {
    membership: Weak<Membership>,
    serve: Serve,
    stop: CancellationToken,
}

impl Node {
    /// Serves a local service in the networks that it names, or in all, from this moment and at
    /// later starts. It replaces the service on the same port.
    pub fn serve(&self, serve: Serve) -> Result<(), StateError> {
        self.change_serves(|serves| {
            serves.insert(serve.overlay_port(), serve);
        })
    }

    /// Stops serving a port. Returns true if it was served.
    pub fn unserve(&self, port: OverlayPort) -> Result<bool, StateError> {
        let mut was_there = false;
        self.change_serves(|serves| was_there = serves.remove(&port).is_some())?;
        Ok(was_there)
    }

    /// Lists the services.
    pub fn serves(&self) -> Vec<Serve> {
        self.inner.serves.lock().values().cloned().collect()
    }

    fn change_serves(
        &self,
        change: impl FnOnce(&mut BTreeMap<OverlayPort, Serve>),
    ) -> Result<(), StateError> {
        let all: Vec<Serve> = {
            let mut serves = self.inner.serves.lock();
            change(&mut serves);
            serves.values().cloned().collect()
        };
        self.inner.serve_ports();
        self.inner.state.save_serves(&all)
    }
}

impl Inner {
    /// Opens the ports of all services, and closes those whose service is gone.
    pub(super) fn serve_ports(self: &Arc<Self>) {
        if self.closing.is_cancelled() {
            return;
        }
        self.follow_renamed();
        let serves = self.serves.lock().clone();
        let labels: BTreeMap<NetworkId, String> = {
            let netmap = self.control.netmap();
            let netmap = netmap.borrow();
            let networks = netmap.networks.iter();
            networks.map(|(id, it)| (*id, it.name.clone())).collect()
        };
        let is_in = |serve: &Serve, network: &NetworkId| {
            serve.networks.is_empty() || labels.get(network).is_some_and(|label| serve.is_in(label))
        };
        self.certificates
            .want(serves.values().any(|serve| serve.tls));
        let memberships = self.engine.memberships();
        let mut served = self.served_ports.lock();
        served.retain(|(network, port), entry| {
            let is_current = memberships.get(network).is_some_and(|membership| {
                entry
                    .membership
                    .upgrade()
                    .is_some_and(|known| Arc::ptr_eq(&known, membership))
            });
            let keep = is_current
                && serves.get(port) == Some(&entry.serve)
                && is_in(&entry.serve, network);
            if !keep {
                entry.stop.cancel();
            }
            keep
        });
        for (id, membership) in memberships.iter() {
            for (port, serve) in &serves {
                if !is_in(serve, id) || served.contains_key(&(*id, *port)) {
                    continue;
                }
                let stop = self.stop.child_token();
                if let Err(error) = self.open_port(*id, membership, serve, stop.clone()) {
                    tracing::warn!(%port, %error, "cannot serve an overlay port");
                    continue;
                }
                let entry = OpenPort {
                    membership: Arc::downgrade(membership),
                    serve: serve.clone(),
                    stop,
                };
                served.insert((*id, *port), entry);
            }
        }
    }

    /// Brings services that name a network by its old label to the present one, before that label
    /// ends. Their connections stay.
    fn follow_renamed(self: &Arc<Self>) {
        let renamed: Vec<(String, String)> = {
            let netmap = self.control.netmap();
            let netmap = netmap.borrow();
            let networks = netmap.networks.values().flat_map(|network| {
                let former = network.dns.former.iter();
                former.map(|former| (former.clone(), network.name.clone()))
            });
            networks.collect()
        };
        let follow = |serve: &mut Serve| {
            renamed.iter().fold(false, |moved, (former, label)| {
                serve.follow_renamed(former, label) || moved
            })
        };
        let changed: Vec<Serve> = {
            let mut serves = self.serves.lock();
            let moved = serves
                .values_mut()
                .filter_map(|serve| follow(serve).then_some(()))
                .count();
            match moved {
                0 => return,
                _ => serves.values().cloned().collect(),
            }
        };
        for open in self.served_ports.lock().values_mut() {
            follow(&mut open.serve);
        }
        let state = self.state.clone();
        self.tasks.spawn(blocking(move || {
            if let Err(error) = state.save_serves(&changed) {
                tracing::warn!(%error, "cannot store the services under a network's new name");
            }
        }));
    }

    fn open_port(
        self: &Arc<Self>,
        network: NetworkId,
        membership: &Membership,
        serve: &Serve,
        stop: CancellationToken,
    ) -> Result<(), String> {
        let stack = membership.stack();
        let until = Until {
            closed: self.closing.clone(),
            ended: stop,
        };
        match serve.kind.transport() {
            OverlayTransport::Tcp => {
                let listener = stack.listen(serve.port);
                let listener = listener.map_err(|error| error.to_string())?;
                let mut config = ServedPort::new(serve);
                config.patience = Patience {
                    idle: serve.idle_timeout.map(Duration::from_secs),
                    ..self.options.silence
                };
                config.securing = serve
                    .tls
                    .then(|| self.certificates.securing(network, config.http));
                let vacancy = self.open_door(format!("the served port {}", serve.overlay_port()));
                let identify = self.identify_in(network);
                let serving =
                    async move { serve::run(listener, config, identify, &vacancy, until).await };
                let serving = self.serving.track_future(serving);
                self.tasks.spawn(self.clone().until_closed(serving));
            }
            OverlayTransport::Udp => {
                let socket = stack.bind_udp(serve.port);
                let socket = socket.map_err(|error| error.to_string())?;
                let serving = serve::datagrams::run(socket, serve.target.clone(), until);
                self.tasks.spawn(self.clone().until_closed(serving));
            }
        }
        Ok(())
    }

    /// Runs `serving` to its end, which frees the port for another service.
    async fn until_closed(self: Arc<Self>, serving: impl Future<Output = ()>) {
        serving.await;
        if !self.stop.is_cancelled() {
            self.serve_ports();
        }
    }
}
