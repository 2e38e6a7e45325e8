//! Echo requests as programs see them; decides nothing.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::core::{Core, PendingEcho, Pong};
use crate::error::PingError;
use crate::packet;

/// A waiting echo request; resolves when its reply arrives. Dropping it forgets the request.
#[must_use = "dropping it forgets the request"]
pub struct Ping {
    core: Arc<Core>,
    ident: u16,
    pending: Arc<PendingEcho>,
}

impl Ping {
    pub(crate) fn new(
        core: Arc<Core>,
        now: Instant,
        remote: IpAddr,
        payload: &[u8],
    ) -> Result<Ping, PingError> {
        let local = core
            .local_address_for(remote)
            .filter(|_| packet::is_host(remote))
            .ok_or(PingError::NoAddress)?;
        if payload.len() > core.config.mtu - packet::icmp_overhead(remote) {
            return Err(PingError::TooLarge);
        }
        let path = core.path(remote).ok_or(PingError::TooMany)?;
        let (ident, pending) = core
            .echoes
            .insert(remote, core.random())
            .ok_or(PingError::TooMany)?;
        let request = packet::echo_request(local, remote, ident, payload);
        let pushed = path.queue().push_control(request);
        core.pushed(&path, pushed);
        // The clock is an argument of everything that sends, though this packet starts no timer.
        let _ = now;
        Ok(Ping {
            core,
            ident,
            pending,
        })
    }
}

impl Future for Ping {
    type Output = Result<Pong, PingError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.pending.poll(cx)
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        self.core.echoes.remove(self.ident, &self.pending);
    }
}

impl fmt::Debug for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ping")
            .field("ident", &self.ident)
            .finish_non_exhaustive()
    }
}
