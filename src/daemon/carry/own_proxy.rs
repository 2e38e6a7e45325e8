//! A proxy on a socket that a command opened, for the programs of that command alone. Decides that
//! only programs with the command's password come in, and the time for their connections at the
//! end; the proxy itself is a door.

use std::io;
use std::net::TcpListener as HostListener;
use std::os::fd::OwnedFd;
use std::time::Duration;

use overlan_protocol::key::Secret;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{CarryError, Happened, tell};
use crate::device::node::Node;
use crate::doors::proxy::{self, ProxyConfig, ProxyCredentials, Until};

/// The user and password of the proxy, and what it may dial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnProxy {
    /// The user name that programs have to give.
    pub user: String,
    /// The password that they have to give.
    pub password: Secret,
    /// True if foreign destinations are dialled from this host, also where the device's own proxy
    /// refuses them.
    pub direct: bool,
}

/// Serves until `stop`, then gives open connections the time [`GRACE`] to deliver their last bytes.
pub(super) async fn run(
    node: &Node,
    own: OwnProxy,
    base: &ProxyConfig,
    socket: OwnedFd,
    events: mpsc::Sender<Happened>,
    stop: &CancellationToken,
) -> Result<(), CarryError> {
    let listener = HostListener::from(socket);
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let credentials = ProxyCredentials::new(own.user, own.password)
        .map_err(|unusable| io::Error::new(io::ErrorKind::InvalidInput, unusable))?;
    let (foreign, mut named) = mpsc::channel(NAMED_MAX);
    let config = ProxyConfig {
        credentials: Some(credentials),
        // A child that changed its user still knows the password.
        same_user: false,
        direct: base.direct || own.direct,
        foreign: Some(foreign),
        ..base.clone()
    };
    let until = Until {
        closed: stop.clone(),
        ended: CancellationToken::new(),
    };
    let ended = until.ended.clone();
    tell(&events, Happened::Listening).await;
    let mut serving = std::pin::pin!(proxy::serve(listener, config, node.overlay(), until));
    let mut grace = std::pin::pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
        ended.cancel();
    });
    let mut is_over = false;
    loop {
        tokio::select! {
            () = &mut serving => break,
            () = &mut grace, if !is_over => is_over = true,
            Some(host) = named.recv() => tell(&events, Happened::Foreign { host }).await,
        }
    }
    while let Ok(host) = named.try_recv() {
        tell(&events, Happened::Foreign { host }).await;
    }
    Err(CarryError::Stopped)
}

/// Time for the last bytes of programs that have ended: they only have to cross loopback.
const GRACE: Duration = Duration::from_secs(2);

/// The number of refused destinations that wait to be reported; more are not reported.
const NAMED_MAX: usize = 16;
