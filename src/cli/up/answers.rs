//! What a running `up` answers on its control socket. Decides how each request is carried out by the node.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use overlan::DialError;
use overlan::program::carry::CarryError;
use overlan::program::enrol::{ForgetError, forget};
use overlan::program::node::Node;
use overlan::program::node::routes::RouteError;
use overlan::program::service::{Serve, Transport};
use overlan::program::socket::{
    Answer, PING_WITHIN_MAX, Refusal, RefusalKind, Request, Response, Running,
};
use overlan::program::state::{StateDir, StateError};
use overlan::program::status::Status;
use overlan_protocol::gateway::{GatewayRoute, OfferedRoute};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::cli::exit::Failure;
use crate::cli::serve::{self, ServeConflict};
use crate::cli::up::carrying::{Carrying, dial_kind};
use crate::cli::up::measure::Measuring;
use crate::cli::up::serving::Places;
use crate::cli::{api, upstream};

/// A running client, as its control socket sees it.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) node: Node,
    pub(super) state: Arc<StateDir>,
    /// Where the doors are.
    pub(super) places: Mutex<Places>,
    /// Ends `up`.
    pub(super) stop: CancellationToken,
    /// Held while the published services are looked at and changed.
    pub(super) changing: Mutex<()>,
    /// Who measures the way to peers, and lets them measure.
    pub(super) measuring: Measuring,
    /// What is carried for `nc`.
    pub(super) carrying: Carrying,
}

impl Answers {
    /// Carries out one request.
    pub(super) async fn answer(&self, request: Request) -> Answer {
        let response = match request {
            Request::Status => Response::Status(Box::new(self.status())),
            Request::Version => Response::Version(env!("CARGO_PKG_VERSION").to_owned()),
            Request::ServeAdd(service) => done(self.publish(service)),
            Request::ServeRemove { port, transport } => done(self.unpublish(port, transport)),
            Request::RouteAdd(route) => done(self.offer(route)),
            Request::RouteRemove(route) => done(self.withdraw(&route)),
            Request::Down => {
                self.stop.cancel();
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

    /// The node's status with the doors that this program opened.
    pub(super) fn status(&self) -> Status {
        let Places {
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

    /// Where the doors are, to be told or changed.
    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, service: Serve) -> Result<(), ChangeError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        serve::add(&mut self.node.serves(), &service)?;
        Ok(self.node.serve(service)?)
    }

    fn unpublish(&self, port: u16, transport: Option<Transport>) -> Result<(), ChangeError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        for removed in serve::remove(&mut self.node.serves(), port, transport)? {
            self.node.unserve(removed)?;
        }
        Ok(())
    }

    fn offer(&self, route: OfferedRoute) -> Result<(), ChangeError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.node.add_route(route)?)
    }

    fn withdraw(&self, route: &GatewayRoute) -> Result<(), ChangeError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.node.remove_route(route)?)
    }

    /// Ends early when the asker does, or the client.
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
        // Nothing is told before the answer.
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

    /// The node goes down first: what it writes on its way must not outlive the device.
    async fn log_out(&self) -> Response {
        self.node.shutdown().await;
        let forgotten = forget(&self.state, &upstream::outgoing(), api::WITHIN).await;
        self.stop.cancel();
        match forgotten {
            Ok(()) => Response::Done,
            Err(error) => {
                let kind = match &error {
                    ForgetError::NotTold(_) => RefusalKind::ControllerUnreachable,
                    ForgetError::State(_) | ForgetError::NoKeys(_) => RefusalKind::Failed,
                };
                refused(kind, Failure::from(error).to_string())
            }
        }
    }
}

/// Why the published services stay as they are.
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

/// What an asker hears who did not reach `port` of `peer`; 0 for no port.
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
