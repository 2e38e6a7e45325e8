//! Brings a node up for a program that uses the library, from the stored device or a new one.
//! Decides the order of the steps.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use overlan_netstack as netstack;
use overlan_protocol::api::JoinString;
use overlan_protocol::key::Secret;
use overlan_transport::outgoing::{Outgoing, UpstreamProxy};

use super::close::Owned;
use super::confirm::CONFIRM_WITHIN;
use super::{Node, NodeError, NodeOptions, NotReady};
use crate::device::enrol::{EnrolError, EnrolOptions, enrol, system_hostname};
use crate::device::right::{self, EnrolFacts, EnrolRight};
use crate::device::state::{Device, StateDir, StateError};
use crate::host::memory::Budget;

/// The settings of a new node, from [`Node::builder`].
#[derive(Debug)]
#[must_use = "`up` brings the node up"]
pub struct Builder {
    place: Place,
    server: Option<JoinString>,
    auth_key: Option<Secret>,
    workload: Option<Secret>,
    hostname: Option<String>,
    networks: Vec<String>,
    ephemeral: bool,
    ready_within: Option<Duration>,
    confirm: bool,
    options: NodeOptions,
}

#[derive(Debug)]
enum Place {
    Directory(PathBuf),
    Given(StateDir),
}

/// The reason why a node did not come up. No task of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The state cannot be used, or another node or `overlan up` has it.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state holds no device, and a new one needs both a controller and an auth key.
    #[error("the state holds no device; the first start needs a server and an auth key")]
    NotEnrolled,
    /// The state holds a device of another controller than [`Builder::server`] names.
    #[error(
        "the state holds a device of {0}, not of the given server; give each server its own state"
    )]
    OtherServer(Box<JoinString>),
    /// The controller was not reached, or it did not accept the auth key.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The device was not ready in time.
    #[error(transparent)]
    NotReady(#[from] NotReady),
}

impl From<NodeError> for UpError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::State(error) => Self::State(error),
        }
    }
}

impl Node {
    /// Begins a new node. Without further settings it is in memory, has this host's name, and must
    /// be ready within 60 s.
    ///
    /// ```no_run
    /// # async fn example(key: &str) -> Result<(), Box<dyn std::error::Error>> {
    /// use overlan::{Node, Secret};
    ///
    /// let node = Node::builder()
    ///     .state_dir("/var/lib/reports/overlan")
    ///     .server("https://controller.example:8443#sha256:…".parse()?)
    ///     .auth_key(Secret::new(key)) // needed at the first start only
    ///     .hostname("reports")
    ///     .up()
    ///     .await?;
    /// let stream = node.dial("db.acme:5432").await?;
    /// # drop(stream);
    /// node.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder() -> Builder {
        Builder {
            place: Place::Given(StateDir::in_memory()),
            server: None,
            auth_key: None,
            workload: None,
            hostname: None,
            networks: Vec::new(),
            ephemeral: false,
            ready_within: Some(READY_WITHIN),
            confirm: true,
            options: NodeOptions::default(),
        }
    }
}

impl Builder {
    /// Stores the device in a directory of its own, with mode 0700, which is made if it is missing
    /// and serves one node at a time. Later starts need no auth key, and no controller.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::Directory(path.into());
        self
    }

    /// Keeps the device in memory, which is the default: every start makes a new device, and
    /// [`Node::close`] removes it.
    pub fn in_memory(mut self) -> Self {
        self.place = Place::Given(StateDir::in_memory());
        self
    }

    /// Sets the controller, by the join string that `overlan controller serve` prints:
    /// `"https://…#sha256:…".parse()?`.
    pub fn server(mut self, join: JoinString) -> Self {
        self.server = Some(join);
        self
    }

    /// Sets the auth key for the enrolment. It is used if the state holds no device, or one that
    /// was removed. Read it from a file or the environment, not from an argument, which every user
    /// of the host can see.
    pub fn auth_key(mut self, key: Secret) -> Self {
        self.auth_key = Some(key);
        self
    }

    /// Sets the token that an identity provider signed for this job, in place of an auth key. The
    /// controller accepts it once, by a trust rule.
    pub fn workload_token(mut self, token: Secret) -> Self {
        self.workload = Some(token);
        self
    }

    /// Sets the name of a new device in its network, in place of this host's name. The controller
    /// may append a number.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = Some(name.into());
        self
    }

    /// Adds a network that a new device joins, by label. Without any, it joins all of the auth
    /// key's.
    pub fn network(mut self, label: impl Into<String>) -> Self {
        self.networks.push(label.into());
        self
    }

    /// Sets the network that a bare overlay address means, by label. It matters for a device in
    /// several networks, since all networks use the same addresses: without it, such a device dials
    /// names, and addresses like `100.64.0.2%acme`.
    pub fn address_network(mut self, label: impl Into<String>) -> Self {
        self.options.address_network = Some(label.into());
        self
    }

    /// Lets [`Node::close`] remove the device at the controller and in the state. For a device in
    /// memory it always does. A process that may die without `close` should have an ephemeral auth
    /// key: the controller removes its devices ten minutes after they went offline.
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.ephemeral = ephemeral;
        self
    }

    /// Sets the longest time that [`Builder::up`] waits for the controller, and then for a relay.
    /// With `None` it waits for a relay without end.
    pub fn ready_within(mut self, within: Option<Duration>) -> Self {
        self.ready_within = within;
        self
    }

    /// Lets [`Builder::up`] also wait until all online peers know this node, so that their first
    /// dial of its name succeeds. It does so, for at most 2 s, unless this is set to false; a node
    /// that only dials does not need it.
    pub fn confirm(mut self, confirm: bool) -> Self {
        self.confirm = confirm;
        self
    }

    /// Reaches controller and relays through a proxy, `"http://proxy.example:3128".parse()?` or
    /// `socks5://…`. Without it they are reached directly; no environment variable is read.
    pub fn upstream_proxy(mut self, proxy: UpstreamProxy) -> Self {
        self.options.outgoing = Outgoing::through(proxy);
        self
    }

    /// Sets the longest time of a dial, in place of 30 s.
    pub fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.options.dial_timeout = timeout;
        self
    }

    /// Keeps the node's connections within `budget`. Without it, memory sets no limit: the library
    /// does not look at the cgroup by itself, but [`crate::host::memory::cgroup_limit`] does.
    pub fn memory(mut self, budget: Budget) -> Self {
        self.options.memory = Some(budget);
        self
    }

    /// Sets sizes and limits of the TCP/IP stack of each network.
    pub fn netstack(mut self, config: netstack::Config) -> Self {
        self.options.netstack = config;
        self
    }

    /// Brings the node up: uses the stored device or enrols a new one, then waits until peers can
    /// reach it.
    ///
    /// It reads no environment variable, installs nothing process-wide, and writes to the state
    /// only. Its events go to `tracing`, and so to the subscriber that the program has.
    ///
    /// # Errors
    /// See [`UpError`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub async fn up(self) -> Result<Node, UpError> {
        let state = match &self.place {
            Place::Directory(path) => StateDir::open(path)?,
            Place::Given(state) => state.clone(),
        };
        let state = Arc::new(state);
        let mut owned = Owned {
            lock: Some(state.lock()?),
            ephemeral: self.ephemeral || state.is_in_memory(),
        };
        let (device, is_new) = match state.load_device()? {
            Some(device) => (self.accept(device)?, false),
            None => (self.enrol(&state).await?, true),
        };
        let node = match self.start(&state, device, &mut owned).await {
            // Most often it was an ephemeral device that was away for too long, and the key enrols
            // another.
            Err((UpError::NotReady(NotReady::Removed | NotReady::Unknown), lock))
                if !is_new && self.can_enrol() =>
            {
                owned = lock;
                let device = self.enrol(&state).await?;
                self.start(&state, device, &mut owned).await
            }
            started => started,
        };
        node.map_err(|(error, _)| error)
    }

    /// Starts the node and waits until it is ready. After a failure no task runs any more, and the
    /// lock comes back.
    async fn start(
        &self,
        state: &Arc<StateDir>,
        device: Device,
        owned: &mut Owned,
    ) -> Result<Node, (UpError, Owned)> {
        let node = match Node::start(Arc::clone(state), device, self.options.clone()) {
            Ok(node) => node,
            Err(error) => return Err((error.into(), std::mem::take(owned))),
        };
        *node.inner.owned.lock() = std::mem::take(owned);
        match node.ready(self.ready_within).await {
            Ok(()) => {
                if self.confirm {
                    node.confirm(CONFIRM_WITHIN).await;
                }
                Ok(node)
            }
            Err(error @ (NotReady::Removed | NotReady::Unknown)) => {
                node.shutdown().await;
                let owned = std::mem::take(&mut *node.inner.owned.lock());
                Err((error.into(), owned))
            }
            Err(error) => {
                // The controller must not keep a device that was in memory only.
                if let Err(left) = node.close().await {
                    tracing::debug!(error = %left, "a node that did not come up left a device");
                }
                Err((error.into(), Owned::default()))
            }
        }
    }

    fn accept(&self, device: Device) -> Result<Device, UpError> {
        let accepted = right::accept_stored(device, self.server.as_ref());
        accepted.map_err(|other| UpError::OtherServer(other.stored))
    }

    fn can_enrol(&self) -> bool {
        self.server.is_some() && self.auth_key.is_some()
    }

    async fn enrol(&self, state: &StateDir) -> Result<Device, UpError> {
        // A program has neither a login nor a person who could be asked.
        let facts = EnrolFacts {
            server: self.server.clone(),
            auth_key: self.auth_key.clone(),
            workload: self.workload.clone(),
            ..EnrolFacts::default()
        };
        let Ok(EnrolRight::Credential { join, credential }) = right::choose(facts) else {
            return Err(UpError::NotEnrolled);
        };
        let options = EnrolOptions {
            join,
            credential,
            hostname: self.hostname.clone().unwrap_or_else(system_hostname),
            networks: self.networks.clone(),
            outgoing: self.options.outgoing.clone(),
            deadline: self
                .ready_within
                .map_or(ENROL_WITHIN, |within| within.min(ENROL_WITHIN)),
        };
        Ok(enrol(options, state).await?)
    }
}

/// Longest start without an error, unless the program sets another.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Longest wait for the controller during the enrolment.
const ENROL_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
