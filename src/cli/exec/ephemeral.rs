//! The device that `exec --ephemeral` makes for its program alone, in memory. Decides how it comes and goes; what the program finds of
//! it is the parent module's.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use overlan::program::node::Node;
use overlan::{JoinString, UpError};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::exit::{Code, Failure};
use crate::cli::memory::MemoryArgs;
use crate::cli::output;
use crate::cli::secret::{self, Source};
use crate::cli::up::dns_sockets;
use crate::cli::upstream;

#[derive(Debug, Args)]
pub(super) struct EphemeralArgs {
    /// Make a device for this program alone, in memory, and remove it at the end; no `overlan up` is asked
    #[arg(long)]
    pub(super) ephemeral: bool,
    /// Join string of the controller
    #[arg(long, env = "OVERLAN_SERVER", value_name = "JOIN")]
    server: Option<JoinString>,
    /// File with an auth key; - is standard input ($OVERLAN_AUTH_KEY works, too)
    #[arg(long, env = "OVERLAN_AUTH_KEY_FILE", value_name = "PATH")]
    auth_key_file: Option<Source>,
    /// Name of the device [default: the host's name]
    #[arg(long, env = "OVERLAN_HOSTNAME", value_name = "NAME")]
    hostname: Option<String>,
    /// Networks to join, as for `overlan up` [default: all of the key's]
    #[arg(
        long = "network",
        env = "OVERLAN_NETWORK",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    networks: Vec<String>,
    #[command(flatten)]
    memory: MemoryArgs,
}

/// A device that is up, and its resolver.
pub(super) struct Ephemeral {
    pub(super) dns: SocketAddr,
    pub(super) node: Node,
    resolver: JoinHandle<()>,
    stop: CancellationToken,
}

impl EphemeralArgs {
    /// Enrols the device and waits until peers can reach it.
    pub(super) async fn up(&self, timeout: u32) -> Result<Ephemeral, Failure> {
        let server = self.server.clone().ok_or_else(|| {
            Failure::usage("a device for one program needs to know its controller").next(
                "Give --server or $OVERLAN_SERVER, the join string of `overlan controller serve`.",
            )
        })?;
        let key = secret::auth_key(self.auth_key_file.as_ref())?.ok_or_else(|| {
            Failure::new(Code::NeedsLogin, "a device for one program needs an auth key")
                .next("Give --auth-key-file or $OVERLAN_AUTH_KEY; `overlan admin auth-key create --ephemeral` makes one.")
        })?;
        let mut builder = Node::builder()
            .server(server)
            .auth_key(key)
            // Nobody reaches a program that only dials.
            .confirm(false)
            .ready_within((timeout > 0).then(|| Duration::from_secs(timeout.into())));
        if let Some(proxy) = upstream::outgoing().proxy() {
            builder = builder.upstream_proxy(proxy.clone());
        }
        if let Some(budget) = self.memory.budget()? {
            builder = builder.memory(budget);
        }
        if let Some(hostname) = &self.hostname {
            builder = builder.hostname(hostname);
        }
        for network in &self.networks {
            builder = builder.network(network);
        }
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (udp, tcp) = dns_sockets(loopback).await?;
        let dns = udp.local_addr()?;
        let node = builder.up().await.map_err(failure)?;
        let stop = CancellationToken::new();
        let resolver = tokio::spawn(node.serve_dns(udp, tcp, stop.clone()));
        Ok(Ephemeral {
            dns,
            node,
            resolver,
            stop,
        })
    }
}

impl Ephemeral {
    /// Ends the resolver and removes the device. What could not be removed is told; it changes no exit code.
    pub(super) async fn close(self) {
        self.stop.cancel();
        if let Err(error) = self.resolver.await {
            tracing::debug!(%error, "the resolver did not end in order");
        }
        if let Err(error) = self.node.close().await {
            output::note(&format!("The device stays at the controller: {error}"));
        }
    }
}

fn failure(error: UpError) -> Failure {
    match error {
        UpError::State(error) => error.into(),
        UpError::Enrol(error) => error.into(),
        UpError::NotReady(error) => error.into(),
        UpError::NotEnrolled | UpError::OtherServer(_) => Failure::new(Code::Other, error),
    }
}
