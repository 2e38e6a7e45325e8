//! One controller: its listeners, and its run until it is stopped. [`crate::start`] brings it up.

use std::fs::File;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use overlan_protocol::HostPort;
use overlan_protocol::api::{FormerCas, JoinString};
use overlan_protocol::key::Secret;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::deployment::Deployment;
use crate::limits::ConnectionBudget;
use crate::metrics::Counts;
use crate::seats::Seats;
use crate::start::{self, Opened, StartError};
use crate::{api, housekeeping, identities, operator, reach, server};

/// A controller that listens, and answers once [`Controller::run`] is awaited.
#[derive(Debug)]
pub struct Controller {
    deployment: Arc<Deployment>,
    listener: TcpListener,
    local: SocketAddr,
    server: HostPort,
    setup_token: Option<Secret>,
    seats: Arc<Seats>,
    counts: Arc<Counts>,
    metrics: Option<(TcpListener, SocketAddr)>,
    lock: File,
}

impl Controller {
    /// Listens, and opens the data directory, making what is missing there.
    ///
    /// # Errors
    /// If another program has the port or the directory, or something in the directory cannot be
    /// used.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        start::check_domain(&config.domain)?;
        let lock = start::take_data_dir(&config.data_dir)?;
        let (listener, local) = start::listen(config.listen).await?;
        let operator = start::listen_for_operator(config.metrics).await?;
        let server = reach::public_address(config.public_address.as_deref(), local)?;
        let names = reach::certificate_names(server.host(), local.ip(), &config.names);
        let Opened {
            deployment,
            setup_token,
        } = start::open(config, &names, &server).await?;
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Ok(Self {
            deployment,
            listener,
            local,
            server,
            setup_token,
            seats: Seats::new(ConnectionBudget::of_files(files)),
            counts: Arc::default(),
            metrics: operator,
            lock,
        })
    }

    /// Returns the address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the address that serves the metrics.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|(_, address)| *address)
    }

    /// Returns the join string, by which devices, relays and people reach the controller and
    /// recognise it.
    pub fn join(&self) -> JoinString {
        JoinString {
            server: self.server.clone(),
            ca: Some(self.deployment.keys.server().identity.ca),
            former: FormerCas::default(),
        }
    }

    /// Returns the secret that authorises setup; another one at every start, `None` once setup was
    /// done.
    pub fn setup_token(&self) -> Option<Secret> {
        self.setup_token.clone()
    }

    /// Answers until `stop` is cancelled, then ends all streams and connections, waits for every
    /// task of its own, and closes the database. Dropping the future ends them as well, without
    /// waiting.
    pub async fn run(self, stop: CancellationToken) {
        self.serve(stop).await;
    }

    /// Boxes what [`Controller::run`] does, so that it is compiled once, in this crate: an async
    /// function is compiled where it is polled.
    fn serve(self, stop: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.serve_until(stop))
    }

    async fn serve_until(self, stop: CancellationToken) {
        let deployment = self.deployment;
        let _stop_when_dropped = deployment.stop.clone().drop_guard();
        if let Err(error) = housekeeping::catch_up(&deployment).await {
            tracing::error!(%error, "cannot read the change log");
        }
        let tasks = TaskTracker::new();
        tasks.spawn(housekeeping::follow_changes(deployment.clone()));
        tasks.spawn(housekeeping::keep_house(deployment.clone()));
        tasks.spawn(identities::keep_groups(deployment.clone()));
        if let Some((listener, _)) = self.metrics {
            let door = Arc::new(operator::OperatorDoor {
                deployment: deployment.clone(),
                seats: self.seats.clone(),
                counts: self.counts.clone(),
                tried: Default::default(),
            });
            let respond = move |path: String| {
                let door = door.clone();
                async move { door.answer(&path).await }
            };
            let door =
                overlan_transport::operator::serve(listener, respond, deployment.stop.clone());
            tasks.spawn(door);
        }
        let api = api::Api::new(deployment.clone());
        let answers = server::Answers {
            deployment: deployment.clone(),
            api,
            seats: self.seats,
            counts: self.counts,
            stranger_within: deployment.timings.stranger_within,
        };
        let serve = server::serve(self.listener, answers, deployment.stop.clone());
        tokio::pin!(serve);
        tokio::select! {
            () = &mut serve => {}
            () = stop.cancelled() => {
                deployment.stop.cancel();
                serve.await;
            }
        }
        tasks.close();
        tasks.wait().await;
        deployment.store.close().await;
        drop(self.lock);
    }
}
