//! The device that `exec --ephemeral` makes for its program alone, in memory. Decides how it comes
//! and goes; what the program finds of it is the parent module's.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use overlan::UpError;
use overlan::program::listeners::dns_sockets;
use overlan::program::node::Node;
use overlan::program::right::{self, EnrolRight, NoEnrolRight};
use overlan_protocol::api::Credential;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::commands::enrol::EnrolArgs;
use crate::commands::exit::{Code, Failure};
use crate::commands::memory::MemoryArgs;
use crate::commands::output;
use crate::commands::upstream;

#[derive(Debug, Args)]
pub(super) struct EphemeralArgs {
    /// Enrol a device for this program alone, in memory, and remove it at the end; `overlan up` is
    /// not needed
    #[arg(long)]
    pub(super) ephemeral: bool,
    #[command(flatten)]
    enrol: EnrolArgs,
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
    /// Returns the name of the variable that may hold the job's token.
    pub(super) fn token_variable(&self) -> &str {
        self.enrol.token_variable()
    }

    /// Enrols the device and waits until peers can reach it.
    pub(super) async fn up(&self, timeout: u32) -> Result<Ephemeral, Failure> {
        let (server, credential) = match right::choose(self.enrol.given().await?) {
            Ok(EnrolRight::Credential { join, credential }) => (join, credential),
            Err(NoEnrolRight::NoServer | NoEnrolRight::NoCredential { has_server: false }) => {
                return Err(no_server());
            }
            Ok(_) | Err(NoEnrolRight::NoCredential { .. }) => return Err(no_key()),
        };
        let builder = Node::builder();
        let builder = match credential {
            Credential::AuthKey(key) => builder.auth_key(key),
            Credential::Workload(token) => builder.workload_token(token),
            // No login is looked for.
            Credential::Session(_) => return Err(no_key()),
        };
        let mut builder = builder
            .server(server)
            // Nobody reaches a program that only dials.
            .confirm(false)
            .ready_within((timeout > 0).then(|| Duration::from_secs(timeout.into())));
        if let Some(proxy) = upstream::outgoing().proxy() {
            builder = builder.upstream_proxy(proxy.clone());
        }
        if let Some(budget) = self.memory.budget()? {
            builder = builder.memory(budget);
        }
        if let Some(hostname) = &self.enrol.hostname {
            builder = builder.hostname(hostname);
        }
        for network in &self.enrol.networks {
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
    /// Ends the resolver and removes the device. What could not be removed is
    /// printed; it does not change the exit code.
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

fn no_server() -> Failure {
    Failure::usage("a device for one program needs to know its controller")
        .next("Give --server or $OVERLAN_SERVER, the join string of `overlan controller serve`.")
}

fn no_key() -> Failure {
    let text = "a device for one program needs an auth key or the token of a job";
    Failure::new(Code::NeedsLogin, text).next(
        "Give --oidc in a CI job, or --auth-key-file or $OVERLAN_AUTH_KEY; `overlan admin auth-key \
         create --ephemeral` makes one.",
    )
}

fn failure(error: UpError) -> Failure {
    match error {
        UpError::State(error) => error.into(),
        UpError::Enrol(error) => error.into(),
        UpError::NotReady(error) => error.into(),
        UpError::NotEnrolled | UpError::OtherServer(_) => Failure::new(Code::Other, error),
    }
}
