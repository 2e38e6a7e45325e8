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
use overlan_protocol::gateway::{Answer, GatewayRoute, HEAD_LEN, Host, Request, may_dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{Instrument, debug, debug_span};

use crate::host::accept::{self, Until, Vacancy};
use crate::host::splice::splice;
use crate::host::{dial_times, direct};
use crate::names::Destination;
use crate::names::DialError;

/// The routes that are offered and approved, asked for each connection.
pub(crate) type Routes = Arc<dyn Fn() -> Vec<GatewayRoute> + Send + Sync>;

/// Serves the listener until the port is closed, and returns when every connection has ended, by
/// itself or with `until`.
pub(crate) async fn run(listener: TcpListener, routes: Routes, vacancy: &Vacancy, until: &Until) {
    accept::run_overlay(listener, vacancy, until, |incoming| {
        let routes = routes.clone();
        let span = debug_span!("peer", address = %incoming.remote());
        async move { connection(incoming, &routes).await }.instrument(span)
    })
    .await;
}

async fn connection(incoming: Incoming, routes: &Routes) {
    let mut overlay = incoming.accept();
    let Ok(Ok(Some(request))) = timeout(REQUEST_WITHIN, read_request(&mut overlay)).await else {
        debug!("a peer sent no valid request for a gateway host");
        return;
    };
    let flow = debug_span!("flow", destination = request.host, port = request.port);
    connect(overlay, &request, &routes()).instrument(flow).await;
}

/// Connects a peer to the host that it asks for, and moves bytes between them until both have
/// ended.
async fn connect(mut overlay: netstack::TcpStream, request: &Request, routes: &[GatewayRoute]) {
    let covers = |route: &GatewayRoute| route.covers(request.host(), request.port).is_some();
    let dialled = match routes.iter().any(covers) {
        true => timeout(dial_times::GATEWAY_DIAL, dial(request, routes)).await,
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
    if overlay.write_all(&[Answer::Connected.byte()]).await.is_ok() {
        let spliced = splice(&mut overlay, &mut target).await;
        debug!(?spliced, "a connection to a gateway host ended");
    }
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

/// Dials from this host, by its own resolver; each address that is found is judged.
async fn dial(request: &Request, routes: &[GatewayRoute]) -> Result<TcpStream, DialError> {
    let destination = match request.host() {
        Host::Address(address) => address.into(),
        Host::Name(name) => Destination::Name(name.to_owned()),
    };
    direct::dial_where(destination, request.port, |address| {
        let allowed = may_dial(routes, request, address, is_own);
        if !allowed {
            debug!(%address, "an address was left out: no route leads there, or it is our own");
        }
        allowed
    })
    .await
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
    let request = Request { host, port }.encode();
    let request = request.ok_or(DialError::UnknownName)?;
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
        Answer::Failed => Err(DialError::Internal(
            "the gateway could not connect".to_owned(),
        )),
    }
}

/// From the first byte of a connection to the end of its request: the asker sends both at once.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
