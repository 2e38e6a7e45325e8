//! Connects peers to the hosts of this gateway, and asks other gateways for theirs. Decides what an
//! error here means for the peer; the caller says which hosts are allowed.
//!
//! The peer gets the result before the first byte of the host: a refusal there is a refusal here,
//! and a host that nobody reaches is unreachable.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use overlan_netstack::{self as netstack, Incoming, TcpListener};
use overlan_protocol::HostIndex;
use overlan_protocol::gateway::{Answer, GatewayRoute, HEAD_LEN, Host, Request, may_dial};
use overlan_protocol::policy::{Denial, Filter, Protocol, Verdict};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{Instrument, debug, debug_span};

use crate::host::accept::{self, Until, Vacancy};
use crate::host::splice::splice;
use crate::host::{dial_times, direct};
use crate::names::Destination;
use crate::names::DialError;

/// The reach of peers by this gateway, and a sign that it may have changed.
#[derive(Clone)]
pub(crate) struct Rights {
    /// Asked for each connection, and for all of them after a change.
    pub(crate) now: Arc<dyn Fn() -> Right + Send + Sync>,
    pub(crate) changes: watch::Receiver<u64>,
}

/// The same at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Right {
    /// The routes that are offered and approved.
    pub(crate) routes: Vec<GatewayRoute>,
    /// This device's rules.
    pub(crate) filter: Arc<Filter>,
}

impl Right {
    /// Returns whether a route leads to the host.
    fn covers(&self, request: &Request) -> bool {
        let covers = |route: &GatewayRoute| route.covers(request.host(), request.port).is_some();
        self.routes.iter().any(covers)
    }

    /// Returns whether policy lets a peer reach `host` on the port that it asks for.
    fn admits(&self, peer: HostIndex, host: Host<'_>, port: u16) -> bool {
        self.filter.judge_host_in(peer, host, port).is_allowed()
    }
}

/// Serves the listener until the port is closed, and returns when every connection has ended, by
/// itself or with `until`.
pub(crate) async fn run(listener: TcpListener, rights: Rights, vacancy: &Vacancy, until: &Until) {
    accept::run_overlay(listener, vacancy, until, |incoming| {
        let rights = rights.clone();
        let span = debug_span!("peer", address = %incoming.remote());
        async move { connection(incoming, rights).await }.instrument(span)
    })
    .await;
}

async fn connection(incoming: Incoming, rights: Rights) {
    let Some(peer) = HostIndex::of_address(incoming.remote().ip()) else {
        return incoming.refuse();
    };
    let mut overlay = incoming.accept();
    let Ok(Ok(Some(request))) = timeout(REQUEST_WITHIN, read_request(&mut overlay)).await else {
        debug!("a peer sent no valid request for a gateway host");
        return;
    };
    let flow = debug_span!("flow", destination = request.host, port = request.port);
    connect(overlay, peer, &request, rights)
        .instrument(flow)
        .await;
}

/// Connects a peer to the host that it asks for, and moves bytes between them until both have ended
/// or the peer may not reach the host any more.
async fn connect(
    mut overlay: netstack::TcpStream,
    peer: HostIndex,
    request: &Request,
    mut rights: Rights,
) {
    rights.changes.mark_unchanged();
    let right = (rights.now)();
    let dialled = match right.covers(request) {
        true => timeout(dial_times::GATEWAY_DIAL, dial(peer, request, &right)).await,
        false => Ok(Err(DialError::DeniedByPolicy)),
    };
    let mut target = match dialled.unwrap_or(Err(DialError::TimedOut)) {
        Ok(target) => target,
        Err(error) => {
            debug!(%error, "a peer was not connected to a gateway host");
            // A peer that is gone needs no answer.
            let _ = overlay.write_all(&[answer_to(&error).byte()]).await;
            let _ = overlay.shutdown().await;
            return;
        }
    };
    if overlay
        .write_all(&[Answer::Connected.byte()])
        .await
        .is_err()
    {
        return;
    }
    let address = target.peer_addr().map(|address| address.ip());
    let may_stay = |right: &Right| {
        let by_address = |address| right.admits(peer, Host::Address(address), request.port);
        let is_admitted = right.admits(peer, request.host(), request.port)
            || address.as_ref().is_ok_and(|address| by_address(*address));
        right.covers(request) && is_admitted
    };
    let spliced = tokio::select! {
        spliced = splice(&mut overlay, &mut target) => Some(spliced),
        () = lost(&mut rights, may_stay) => None,
    };
    match spliced {
        Some(spliced) => debug!(?spliced, "a connection to a gateway host ended"),
        None => {
            debug!("a connection to a gateway host lost its right");
            overlay.abort();
        }
    }
}

/// Returns when a connection may not go on.
async fn lost(rights: &mut Rights, may_stay: impl Fn(&Right) -> bool) {
    while rights.changes.changed().await.is_ok() {
        if !may_stay(&(rights.now)()) {
            return;
        }
    }
    // The device ends, and its connections with it.
    std::future::pending().await
}

async fn read_request(overlay: &mut netstack::TcpStream) -> io::Result<Option<Request>> {
    let mut head = [0; HEAD_LEN];
    overlay.read_exact(&mut head).await?;
    let Some(length) = Request::host_len(head) else {
        return Ok(None);
    };
    let mut host = vec![0; length];
    overlay.read_exact(&mut host).await?;
    Ok(Request::decode(head, &host))
}

/// Dials from this host, by its own resolver; each address that is found is judged. Policy lets a
/// peer reach a name, or the addresses that it has.
async fn dial(peer: HostIndex, request: &Request, right: &Right) -> Result<TcpStream, DialError> {
    let is_admitted = right.admits(peer, request.host(), request.port);
    if !is_admitted && matches!(request.host(), Host::Address(_)) {
        return Err(forbidden(request));
    }
    let destination = match request.host() {
        Host::Address(address) => address.into(),
        Host::Name(name) => Destination::Name(name.to_owned()),
    };
    let mut forbids = false;
    let dialled = direct::dial_where(destination, request.port, |address| {
        let allowed = may_dial(&right.routes, request, address, is_own);
        if !allowed {
            debug!(%address, "an address was left out: no route leads there, or it is our own");
        }
        let admitted = is_admitted || right.admits(peer, Host::Address(address), request.port);
        forbids |= allowed && !admitted;
        allowed && admitted
    })
    .await;
    match dialled {
        Err(DialError::DeniedByPolicy) if forbids => Err(forbidden(request)),
        dialled => dialled,
    }
}

/// Says that no rule lets the asker reach the host.
fn forbidden(request: &Request) -> DialError {
    let verdict = Verdict::Denied(Denial::NoRule);
    let names = ("this device", request.host.as_str());
    DialError::no_rule(names, Protocol::Tcp, request.port, &verdict)
}

/// Returns whether it is an address of this host. The kernel knows them all, also those of ranges
/// that are routed to it: it lets a socket have no other. If it cannot be asked, for lack of
/// descriptors for example, the address counts as ours and is not dialled.
fn is_own(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
    }
}

fn answer_to(error: &DialError) -> Answer {
    match error {
        DialError::Refused => Answer::Refused,
        DialError::TimedOut => Answer::TimedOut,
        DialError::Offline | DialError::NoRelay | DialError::Unreachable => Answer::Unreachable,
        DialError::UnknownName | DialError::Missing(_) => Answer::UnknownName,
        DialError::DeniedByPolicy => Answer::Denied,
        DialError::NoRule(_) => Answer::Forbidden,
        DialError::Foreign
        | DialError::AmbiguousAddress
        | DialError::Untrusted
        | DialError::AmbiguousName(_)
        | DialError::NoRouteToPort(_)
        | DialError::NotADevice(_)
        | DialError::NotReady
        | DialError::NoResolver
        | DialError::NoRoute
        | DialError::Unsupported
        | DialError::Internal(_) => Answer::Failed,
    }
}

/// Asks the gateway at the other end of `overlay` for one of its hosts. Afterwards the stream is
/// the host's.
pub(crate) async fn ask(
    overlay: &mut netstack::TcpStream,
    host: String,
    port: u16,
) -> Result<(), DialError> {
    let asked = Request { host, port };
    let request = asked.encode().ok_or(DialError::UnknownName)?;
    let gone = |error: io::Error| {
        DialError::Internal(format!("the gateway ended the connection: {error}"))
    };
    overlay.write_all(&request).await.map_err(gone)?;
    let answer = overlay.read_u8().await.map_err(gone)?;
    match Answer::from_byte(answer) {
        Answer::Connected => Ok(()),
        Answer::Refused => Err(DialError::Refused),
        Answer::TimedOut => Err(DialError::TimedOut),
        Answer::Unreachable => Err(DialError::Unreachable),
        Answer::UnknownName => Err(DialError::UnknownName),
        Answer::Denied => Err(DialError::DeniedByPolicy),
        Answer::Forbidden => Err(forbidden(&asked)),
        Answer::Failed => Err(DialError::Internal(
            "the gateway could not connect".to_owned(),
        )),
    }
}

/// From the first byte of a connection to the end of its request: the asker sends both at once.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
