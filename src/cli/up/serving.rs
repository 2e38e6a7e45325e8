//! The tasks behind the doors of a running `up`. Decides which of them end, stay or begin when doors change.

use std::net::SocketAddr;

use overlan::program::node::Node;
use overlan::program::proxy::{self, ProxyConfig, Until};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::doors::{Doors, Socket};

/// Where a running `up` lets programs in.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    /// Where the SOCKS door is.
    pub(super) socks: Option<SocketAddr>,
    /// Every place of the proxy, for people.
    pub(super) proxies: Vec<String>,
    /// Where the DNS door is.
    pub(super) dns: Option<SocketAddr>,
    /// How the proxy behaves.
    pub(super) config: ProxyConfig,
}

/// The doors, served.
#[derive(Debug)]
pub(super) struct Serving {
    node: Node,
    doors: Doors,
    tasks: JoinSet<()>,
    /// Ends everything.
    stop: CancellationToken,
    /// Lets nobody in any more at the places of the proxy as they are configured now.
    closed: CancellationToken,
    /// Ends the resolver.
    dns_stop: CancellationToken,
}

impl Serving {
    /// Serves them until `stop`.
    pub(super) fn begin(node: &Node, doors: Doors, stop: &CancellationToken) -> Self {
        let mut serving = Self {
            node: node.clone(),
            doors,
            tasks: JoinSet::new(),
            stop: stop.clone(),
            closed: stop.child_token(),
            dns_stop: stop.child_token(),
        };
        serving.serve_proxy();
        serving.serve_dns();
        serving
    }

    /// What is open.
    pub(super) fn doors(&self) -> &Doors {
        &self.doors
    }

    pub(super) fn places(&self) -> Places {
        Places {
            socks: self.doors.proxy.addresses().first().copied(),
            proxies: self.doors.proxy.places(),
            dns: self.doors.dns.address,
            config: self.doors.proxy.config.clone(),
        }
    }

    /// Serves these instead, which were opened beside the present ones. Who came in before stays, by the rules of then.
    pub(super) fn change(&mut self, doors: Doors) {
        while let Some(ended) = self.tasks.try_join_next() {
            report(ended);
        }
        doors.proxy.set_modes();
        let resolver_stays = doors.dns.sockets.is_none() && doors.dns.address.is_some();
        self.doors = doors;
        self.closed.cancel();
        self.closed = self.stop.child_token();
        self.serve_proxy();
        if !resolver_stays {
            self.dns_stop.cancel();
            self.dns_stop = self.stop.child_token();
            self.serve_dns();
        }
    }

    /// Lets nobody in any more.
    pub(super) fn close(&self) {
        self.closed.cancel();
        self.dns_stop.cancel();
    }

    /// Waits until everything has ended, which [`Serving::close`] and `stop` ask for. Cancel safe.
    pub(super) async fn ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            report(ended);
        }
    }

    fn serve_proxy(&mut self) {
        let until = Until {
            closed: self.closed.clone(),
            ended: self.stop.clone(),
        };
        for socket in self.doors.proxy.sockets().cloned() {
            let (config, overlay) = (self.doors.proxy.config.clone(), self.node.overlay());
            let until = until.clone();
            match socket {
                Socket::Tcp(listener) => {
                    self.tasks
                        .spawn(proxy::serve(listener, config, overlay, until));
                }
                Socket::Unix(door) => {
                    self.tasks
                        .spawn(proxy::serve_unix(door, config, overlay, until));
                }
            }
        }
    }

    fn serve_dns(&mut self) {
        if let Some((udp, tcp)) = self.doors.dns.sockets.take() {
            let stop = self.dns_stop.clone();
            self.tasks.spawn(self.node.serve_dns(udp, tcp, stop));
        }
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a door failed");
    }
}
