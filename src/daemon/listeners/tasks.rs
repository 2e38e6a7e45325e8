//! The tasks that serve the listeners of a running `up`. Decides which of them end, stay or begin
//! when the settings change.

use std::net::SocketAddr;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Listeners, ProxySocket};
use crate::device::node::Node;
use crate::doors::proxy::{self, ProxyConfig, Until};

/// The places of a running `up` for programs, as its status names them.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListenerPlaces {
    /// The first address of the proxy.
    pub(crate) socks: Option<SocketAddr>,
    /// Every place of the proxy, for people.
    pub(crate) proxies: Vec<String>,
    /// The address of the DNS server.
    pub(crate) dns: Option<SocketAddr>,
    /// The settings of the proxy.
    pub(crate) config: ProxyConfig,
}

/// The tasks that serve the listeners.
#[derive(Debug)]
pub(crate) struct ListenerTasks {
    node: Node,
    listeners: Listeners,
    tasks: JoinSet<()>,
    /// Ends all tasks.
    stop: CancellationToken,
    /// Closes the present places of the proxy to new connections.
    closed: CancellationToken,
    /// Ends the DNS server.
    dns_stop: CancellationToken,
}

impl ListenerTasks {
    /// Serves `listeners` until `stop`.
    pub(crate) fn begin(node: &Node, listeners: Listeners, stop: &CancellationToken) -> Self {
        let mut serving = Self {
            node: node.clone(),
            listeners,
            tasks: JoinSet::new(),
            stop: stop.clone(),
            closed: stop.child_token(),
            dns_stop: stop.child_token(),
        };
        serving.serve_proxy();
        serving.serve_dns();
        serving
    }

    /// Returns the open listeners.
    pub(crate) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    pub(crate) fn places(&self) -> ListenerPlaces {
        ListenerPlaces {
            socks: self.listeners.proxy.addresses().first().copied(),
            proxies: self.listeners.proxy.places(),
            dns: self.listeners.dns.address,
            config: self.listeners.proxy.config.clone(),
        }
    }

    /// Serves `listeners`, which were opened beside the present ones, in place of those. Open
    /// connections stay, under the rules by which they were admitted.
    pub(crate) fn change(&mut self, listeners: Listeners) {
        while let Some(ended) = self.tasks.try_join_next() {
            report(ended);
        }
        let resolver_stays = listeners.dns.sockets.is_none() && listeners.dns.address.is_some();
        self.listeners = listeners;
        self.closed.cancel();
        self.closed = self.stop.child_token();
        self.serve_proxy();
        if !resolver_stays {
            self.dns_stop.cancel();
            self.dns_stop = self.stop.child_token();
            self.serve_dns();
        }
    }

    /// Closes all places to new connections.
    pub(crate) fn close(&self) {
        self.closed.cancel();
        self.dns_stop.cancel();
    }

    /// Waits until all tasks have ended, which [`ListenerTasks::close`] and `stop` ask for. It is
    /// cancel safe.
    pub(crate) async fn ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            report(ended);
        }
    }

    fn serve_proxy(&mut self) {
        let until = Until {
            closed: self.closed.clone(),
            ended: self.stop.clone(),
        };
        for socket in self.listeners.proxy.sockets().cloned() {
            let (config, overlay) = (self.listeners.proxy.config.clone(), self.node.overlay());
            let until = until.clone();
            match socket {
                ProxySocket::Tcp(listener) => {
                    self.tasks
                        .spawn(proxy::serve(listener, config, overlay, until));
                }
                ProxySocket::Unix(door) => {
                    self.tasks
                        .spawn(proxy::serve_unix(door, config, overlay, until));
                }
            }
        }
    }

    fn serve_dns(&mut self) {
        if let Some((udp, tcp)) = self.listeners.dns.sockets.take() {
            let stop = self.dns_stop.clone();
            self.tasks.spawn(self.node.serve_dns(udp, tcp, stop));
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a listener failed");
    }
}
