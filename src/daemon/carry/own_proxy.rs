//! A proxy on a socket that its asker opened, for the asker's programs alone. Decides that only who
//! knows the asker's password comes in, and how long its connections may take at the end; what it
//! does with them is the proxy's.

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
    /// User name that programs give.
    pub user: String,
    /// Password that they give.
    pub password: Secret,
    /// Dial destinations outside the overlay from this host, also where the device's own proxy
    /// refuses them.
    pub direct: bool,
}

/// Serves until `stop`, then lets connections that are open deliver what they hold, for [`GRACE`].
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
        // Children that became another user know the password.
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

/// A program that has ended left its last bytes on this host's loopback: they need a moment, not
/// more.
const GRACE: Duration = Duration::from_secs(2);

/// Refused destinations that were not told yet; more are not told.
const NAMED_MAX: usize = 16;
