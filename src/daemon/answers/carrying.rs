//! Carries out `nc`, `forward` and the proxy of `exec` for commands on the control socket. Decides
//! how many run at once, and the kind of refusal for each failure.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::daemon::carry::{self, CARRIES_MAX, Carry, CarryError, SOCKETS_MAX};
use crate::daemon::socket::{Answer, Handing, RefusalKind, Response, Running};
use crate::device::node::Node;
use crate::doors::proxy::ProxyConfig;
use crate::names::DialError;

use super::{not_reached, refused};

/// The carries that run.
#[derive(Debug)]
pub(super) struct Carrying {
    places: Arc<Semaphore>,
}

impl Carrying {
    pub(super) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(CARRIES_MAX)),
        }
    }

    /// Asks for the sockets, then carries. A proxy has the settings of `proxy`, except for the
    /// users that it admits.
    pub(super) fn begin(&self, node: &Node, carry: Carry, proxy: ProxyConfig) -> Answer {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let text = format!(
                "{CARRIES_MAX} `overlan nc`, `overlan forward` and `overlan exec` use this device \
                 already; end one, or use the SOCKS proxy"
            );
            return refused(RefusalKind::Conflict, text).into();
        };
        let sockets = match &carry {
            Carry::Connect { .. } | Carry::Accept { .. } | Carry::Proxy(_) => 1,
            Carry::Forward(forwards) if (1..=SOCKETS_MAX).contains(&forwards.len()) => {
                forwards.len()
            }
            Carry::Forward(forwards) => {
                let text = format!(
                    "{} forwards in one request; from 1 to {SOCKETS_MAX} are possible",
                    forwards.len()
                );
                return refused(RefusalKind::NotUnderstood, text).into();
            }
        };
        let node = node.clone();
        let begin = move |sockets| {
            let (events, progress) = mpsc::channel(EVENTS_MAX);
            let stop = CancellationToken::new();
            let work = {
                let stop = stop.clone();
                async move {
                    let _place = place;
                    let to = place_of(&carry);
                    match (
                        carry::run(&node, carry, &proxy, sockets, events, stop).await,
                        to,
                    ) {
                        (Ok(()), _) => Response::Done,
                        (Err(CarryError::Dial(error)), Some((peer, port))) => {
                            not_reached(&node, &peer, port, &error)
                        }
                        (Err(error), _) => refused(kind(&error), error.to_string()),
                    }
                }
            };
            Running {
                work: Box::pin(work),
                progress,
                stop,
            }
        };
        Answer::Handing(Handing {
            sockets,
            begin: Box::new(begin),
        })
    }
}

/// Returns the destination of a carry, if it has exactly one.
fn place_of(carry: &Carry) -> Option<(String, u16)> {
    match carry {
        Carry::Connect { peer, port, .. } => Some((peer.clone(), *port)),
        Carry::Forward(forwards) => match &forwards[..] {
            [one] => Some((one.peer.clone(), one.port)),
            _ => None,
        },
        Carry::Accept { .. } | Carry::Proxy(_) => None,
    }
}

fn kind(error: &CarryError) -> RefusalKind {
    match error {
        CarryError::Dial(error) => dial_kind(error),
        CarryError::PortTaken(_) => RefusalKind::Conflict,
        CarryError::Stopped => RefusalKind::Stopping,
        CarryError::NoNetwork | CarryError::Reset | CarryError::Socket(_) => RefusalKind::Failed,
    }
}

/// Chooses the kind of refusal for a destination that was not reached.
pub(super) fn dial_kind(error: &DialError) -> RefusalKind {
    match error {
        DialError::NoRule(_) | DialError::DeniedByPolicy => RefusalKind::Denied,
        DialError::NoRelay | DialError::NotReady => RefusalKind::RelayUnreachable,
        DialError::TimedOut => RefusalKind::TimedOut,
        // Waiting does not help: a person has to choose one.
        DialError::AmbiguousName(_) | DialError::AmbiguousAddress => RefusalKind::Conflict,
        DialError::Foreign
        | DialError::UnknownName
        | DialError::Untrusted
        | DialError::Missing(_)
        | DialError::NoRouteToPort(_)
        | DialError::NotADevice(_)
        | DialError::Offline
        | DialError::Unreachable
        | DialError::NoResolver
        | DialError::NoRoute
        | DialError::Refused
        | DialError::Unsupported
        | DialError::Internal(_) => RefusalKind::Failed,
    }
}

/// The number of events that wait to be reported: failures, which repeat, so a few are enough.
const EVENTS_MAX: usize = 16;
