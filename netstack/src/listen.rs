//! Inbound connections as programs see them: taken one by one, and accepted or refused; decides
//! nothing.

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::core::{Core, Listener};
use crate::error::ListenError;
use crate::flow::End;
use crate::stream::TcpStream;
use crate::table::FlowCell;

/// Takes inbound connections to one port. Dropping it refuses those it holds and those that come
/// later.
pub struct TcpListener {
    core: Arc<Core>,
    shared: Arc<Listener>,
}

impl TcpListener {
    pub(crate) fn new(core: Arc<Core>, port: u16) -> Result<TcpListener, ListenError> {
        if port == 0 {
            return Err(ListenError::NoPort);
        }
        let shared = core.listeners.insert(port).ok_or(ListenError::InUse)?;
        Ok(TcpListener { core, shared })
    }

    /// The next connection that a remote wants: remotes take turns, however many each of them
    /// wants. It is not established before it is accepted.
    pub async fn accept(&self) -> Incoming {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The same for callers that poll; the last one to ask is woken.
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<Incoming> {
        self.shared.poll_next(cx).map(|flow| Incoming {
            core: self.core.clone(),
            flow: Some(flow),
        })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.shared.port
    }
}

impl Drop for TcpListener {
    fn drop(&mut self) {
        self.core.listeners.remove(self.shared.port);
        for flow in self.shared.close() {
            refuse(&self.core, &flow);
        }
    }
}

impl fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpListener")
            .field("port", &self.shared.port)
            .finish_non_exhaustive()
    }
}

/// A connection that a remote wants; its handshake waits for the answer. Dropping it refuses.
pub struct Incoming {
    core: Arc<Core>,
    /// `None` only while it is being consumed.
    flow: Option<Arc<FlowCell>>,
}

impl Incoming {
    /// The end that asks.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.cell().key.remote
    }

    /// The address and port of ours that it asks for.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.cell().key.local
    }

    /// Lets the handshake go on. The stream can be used at once; if the other side has given up
    /// meanwhile, it says so.
    #[must_use]
    pub fn accept(mut self) -> TcpStream {
        let flow = self
            .flow
            .take()
            .expect("an Incoming holds its flow until it is consumed");
        self.core.run(&flow, None, |flow, _| flow.accept());
        TcpStream::new(self.core.clone(), flow)
    }

    /// Tells the other side that nobody listens here.
    pub fn refuse(self) {
        drop(self);
    }

    fn cell(&self) -> &FlowCell {
        self.flow
            .as_ref()
            .expect("an Incoming holds its flow until it is consumed")
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(flow) = self.flow.take() {
            refuse(&self.core, &flow);
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("remote", &self.remote())
            .field("local", &self.local())
            .finish_non_exhaustive()
    }
}

fn refuse(core: &Core, flow: &Arc<FlowCell>) {
    core.run(flow, None, |flow, _| flow.reset(&core.config, End::Aborted));
}
