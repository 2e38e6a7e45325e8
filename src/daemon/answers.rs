//! The answers of a running `up` on its control socket. Decides which call of the node carries out
//! each request.

use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::gateway::{GatewayRoute, OfferedRoute};
use overlan_transport::outgoing::Outgoing;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::daemon::carry::CarryError;
use crate::daemon::listeners::ListenerPlaces;
use crate::daemon::serve_list::{self, ServeConflict};
use crate::daemon::socket::{
    Answer, PING_WITHIN_MAX, Refusal, RefusalKind, Request, Response, Running,
};
use crate::device::enrol::{ForgetError, forget};
use crate::device::node::Node;
use crate::device::node::routes::RouteError;
use crate::device::state::{StateDir, StateError};
use crate::device::status::Status;
use crate::doors::serve::service::{OverlayTransport, Serve};
use crate::names::DialError;

use carrying::{Carrying, dial_kind};
use measuring::Measuring;

mod carrying;

mod measuring;

/// A running client, as its control socket sees it.
#[derive(Debug)]
pub struct Answers {
    node: Node,
    state: Arc<StateDir>,
    /// The listeners for programs.
    places: Mutex<ListenerPlaces>,
    /// The way by which the controller is reached.
    outgoing: Mutex<Outgoing>,
    /// Ends `up` when it is cancelled.
    down: CancellationToken,
    /// Locked while the list of services or routes is read and changed.
    changing: Mutex<()>,
    measuring: Measuring,
    carrying: Carrying,
}

impl Answers {
    /// Makes the answers of `node`; a request for the end cancels `down`.
    pub(super) fn new(
        node: &Node,
        state: &Arc<StateDir>,
        places: ListenerPlaces,
        outgoing: Outgoing,
        down: &CancellationToken,
    ) -> Self {
        Self {
            node: node.clone(),
            state: Arc::clone(state),
            places: Mutex::new(places),
            outgoing: Mutex::new(outgoing),
            down: down.clone(),
            changing: Mutex::new(()),
            measuring: Measuring::new(down),
            carrying: Carrying::new(),
        }
    }

    /// Uses changed listeners, and another way to the controller, for later answers.
    pub(super) fn change(&self, places: ListenerPlaces, outgoing: Outgoing) {
        *self.places.lock() = places;
        *self.outgoing.lock() = outgoing;
    }

    /// Carries out one request.
    pub(super) async fn answer(&self, request: Request) -> Answer {
        let response = match request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Version => Response::Version(env!("CARGO_PKG_VERSION").to_owned()),
            Request::ServeAdd(service) => done(self.add_service(service)),
            Request::ServeRemove { port, transport } => done(self.remove_service(port, transport)),
            Request::RouteAdd(route) => done(self.add_route(route)),
            Request::RouteRemove(route) => done(self.remove_route(&route)),
            Request::Down => {
                self.down.cancel();
                Response::Done
            }
            Request::Logout => self.log_out().await,
            Request::Perf { peer, port, plan } => {
                return self.measuring.run(&self.node, peer, port, plan);
            }
            Request::PerfServe { port } => return self.measuring.serve(&self.node, port),
            Request::Carry(carry) => {
                return self
                    .carrying
                    .begin(&self.node, carry, self.places().config.clone());
            }
            Request::Ping { peer, within_ms } => return self.ping(peer, within_ms),
            Request::Whois { peer } => self.whois(&peer),
            Request::DnsQuery { name, kind } => self.dns_query(&name, &kind).await,
        };
        response.into()
    }

    /// Returns the node's status with the listeners of this program.
    pub fn status(&self) -> Status {
        let ListenerPlaces {
            socks,
            proxies,
            dns,
            config: _,
        } = self.places().clone();
        Status {
            socks,
            proxies,
            dns,
            ..self.node.status()
        }
    }

    fn places(&self) -> MutexGuard<'_, ListenerPlaces> {
        self.places.lock()
    }

    fn add_service(&self, service: Serve) -> Result<(), ChangeError> {
        let _changing = self.changing.lock();
        serve_list::add(&mut self.node.serves(), &service)?;
        Ok(self.node.serve(service)?)
    }

    fn remove_service(
        &self,
        port: u16,
        transport: Option<OverlayTransport>,
    ) -> Result<(), ChangeError> {
        let _changing = self.changing.lock();
        for removed in serve_list::remove(&mut self.node.serves(), port, transport)? {
            self.node.unserve(removed)?;
        }
        Ok(())
    }

    fn add_route(&self, route: OfferedRoute) -> Result<(), ChangeError> {
        let _changing = self.changing.lock();
        Ok(self.node.add_route(route)?)
    }

    fn remove_route(&self, route: &GatewayRoute) -> Result<(), ChangeError> {
        let _changing = self.changing.lock();
        Ok(self.node.remove_route(route)?)
    }

    /// Pings a peer. The ping ends early when the command or this client ends.
    fn ping(&self, peer: String, within_ms: u32) -> Answer {
        let node = self.node.clone();
        let within = Duration::from_millis(u64::from(within_ms)).min(PING_WITHIN_MAX);
        let stop = CancellationToken::new();
        let work = {
            let stop = stop.clone();
            async move {
                let ping = async {
                    let destination = node.find(&peer);
                    let pong = match &destination {
                        Ok(destination) => node.ping(destination, within).await,
                        Err(error) => Err(error.clone()),
                    };
                    pong.map_err(|error| not_reached(&node, &peer, 0, &error))
                };
                match stop.run_until_cancelled(ping).await {
                    Some(Ok(pong)) => Response::Pong(pong),
                    Some(Err(refusal)) => refusal,
                    None => refused(RefusalKind::Stopping, CarryError::Stopped.to_string()),
                }
            }
        };
        // A ping has no progress to report.
        let (_, progress) = mpsc::channel(1);
        Answer::Running(Running {
            work: Box::pin(work),
            progress,
            stop,
        })
    }

    async fn dns_query(&self, name: &str, kind: &str) -> Response {
        match self.node.query_dns(name, kind).await {
            Ok(explained) => Response::DnsAnswer(Box::new(explained)),
            Err(error) => refused(RefusalKind::NotUnderstood, error.to_string()),
        }
    }

    fn whois(&self, peer: &str) -> Response {
        let destination = self.node.find(peer);
        let whois = destination.and_then(|destination| self.node.whois(&destination));
        match whois {
            Ok(whois) => Response::Whois(Box::new(whois)),
            Err(error) => not_reached(&self.node, peer, 0, &error),
        }
    }

    /// Logs the device out. The node ends first, since its last writes must not outlive the device.
    async fn log_out(&self) -> Response {
        self.node.shutdown().await;
        let outgoing = self.outgoing.lock().clone();
        let forgotten = forget(&self.state, &outgoing, FORGET_WITHIN).await;
        self.down.cancel();
        match forgotten {
            Ok(()) => Response::Done,
            Err(error) => {
                let kind = match &error {
                    ForgetError::NotReported(_) => RefusalKind::ControllerUnreachable,
                    ForgetError::State(_) | ForgetError::NoKeys(_) => RefusalKind::Failed,
                };
                Response::Refused(Refusal {
                    kind,
                    message: error.to_string(),
                    next: error.next_step().map(str::to_owned),
                })
            }
        }
    }
}

/// The reason why the list of services or routes stays as it is.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error(transparent)]
    Conflict(#[from] ServeConflict),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    State(#[from] StateError),
}

fn done(result: Result<(), ChangeError>) -> Response {
    match result {
        Ok(()) => Response::Done,
        Err(
            error @ (ChangeError::Conflict(_)
            | ChangeError::Route(RouteError::NotThere(_) | RouteError::Full)),
        ) => refused(RefusalKind::Conflict, error.to_string()),
        Err(error @ (ChangeError::State(_) | ChangeError::Route(RouteError::State(_)))) => {
            refused(RefusalKind::Failed, error.to_string())
        }
    }
}

/// Refuses a request after a dial of `port` of `peer` failed; port 0 stands for none.
pub(super) fn not_reached(node: &Node, peer: &str, port: u16, error: &DialError) -> Response {
    Response::Refused(Refusal {
        kind: dial_kind(error),
        message: error.to_string(),
        next: node.next_step(peer, port, error),
    })
}

pub(super) fn refused(kind: RefusalKind, message: String) -> Response {
    Response::Refused(Refusal {
        kind,
        message,
        next: None,
    })
}

/// Time for a logout at the controller, with the connection to it.
const FORGET_WITHIN: Duration = Duration::from_secs(10);
