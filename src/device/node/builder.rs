//! Brings a device up for a program that uses the library: the stored device, or a new one. Decides
//! the order of things.

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

/// Settings by which a node comes up. Made by [`Node::builder`].
#[derive(Debug)]
#[must_use = "`up` brings the node up"]
pub struct Builder {
    place: Place,
    server: Option<JoinString>,
    auth_key: Option<Secret>,
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

/// The reason why a node is not up. Nothing of it runs then.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The state cannot be used, or another node or `overlan up` uses it.
    #[error(transparent)]
    State(#[from] StateError),
    /// The state holds no device, and there is no controller or no auth key to make one by.
    #[error("the state holds no device; the first start needs a server and an auth key")]
    NotEnrolled,
    /// The state holds a device of another controller than the one that was named.
    #[error(
        "the state holds a device of {0}, not of the server that was named; give each its own state"
    )]
    OtherServer(Box<JoinString>),
    /// The controller was not reached, or did not take the auth key.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// Peers could not reach it in time.
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
    /// Describes a node to bring up: in memory, with this host's name, ready within 60 s, unless
    /// said otherwise.
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
    /// Keeps the device in a directory of its own, which is made if it is missing: mode 0700, for
    /// one node at a time. Later starts need no auth key, and no controller.
    pub fn state_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::Directory(path.into());
        self
    }

    /// Keeps the device in memory, as without this call: it is a new one at every start, and
    /// [`Node::close`] removes it.
    pub fn in_memory(mut self) -> Self {
        self.place = Place::Given(StateDir::in_memory());
        self
    }

    /// The controller, by the join string that `overlan controller serve` prints:
    /// `"https://…#sha256:…".parse()?`.
    pub fn server(mut self, join: JoinString) -> Self {
        self.server = Some(join);
        self
    }

    /// The auth key by which the device is enrolled. It is used if the state holds no device, or
    /// one that was removed. Read it from a file or the environment, not from an argument, which
    /// every user of the host sees.
    pub fn auth_key(mut self, key: Secret) -> Self {
        self.auth_key = Some(key);
        self
    }

    /// Name of a new device in its network; the controller may append a number. Without it, this
    /// host's name.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = Some(name.into());
        self
    }

    /// A network that a new device joins, by label; again for one more. Without it, all of the auth
    /// key's.
    pub fn network(mut self, label: impl Into<String>) -> Self {
        self.networks.push(label.into());
        self
    }

    /// Network that a bare overlay address means where this device is in several, which all use the
    /// same ones. Without it only names, and addresses such as `100.64.0.2%acme`, lead anywhere
    /// then.
    pub fn address_network(mut self, label: impl Into<String>) -> Self {
        self.options.address_network = Some(label.into());
        self
    }

    /// Returns whether [`Node::close`] removes the device at the controller and in the state. In
    /// memory it always does. A process that dies closes nothing: give it an ephemeral auth key,
    /// whose devices the controller removes ten minutes after they went away.
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.ephemeral = ephemeral;
        self
    }

    /// Returns the time that [`Builder::up`] waits for the controller, and then for a relay, each;
    /// `None` = for a relay for ever.
    pub fn ready_within(mut self, within: Option<Duration>) -> Self {
        self.ready_within = within;
        self
    }

    /// Returns whether [`Builder::up`] also waits until every peer that is online has heard of this
    /// node, so that a name dialled there leads here at the first attempt. It does, for at most 2
    /// s, unless this says otherwise; a node that only dials need not.
    pub fn confirm(mut self, confirm: bool) -> Self {
        self.confirm = confirm;
        self
    }

    /// Reaches controller and relays through a proxy, `"http://proxy.example:3128".parse()?` or
    /// `socks5://…`. Without it, straight; no variable of the environment is looked at.
    pub fn upstream_proxy(mut self, proxy: UpstreamProxy) -> Self {
        self.options.outgoing = Outgoing::through(proxy);
        self
    }

    /// Returns the time that a dial may take in all; 30 s without this call.
    pub fn dial_timeout(mut self, timeout: Duration) -> Self {
        self.options.dial_timeout = timeout;
        self
    }

    /// Keeps the node's connections within what `budget` leaves for them; without it nothing is
    /// limited by memory. The library asks no cgroup by itself:
    /// [`crate::host::memory::cgroup_limit`] does.
    pub fn memory(mut self, budget: Budget) -> Self {
        self.options.memory = Some(budget);
        self
    }

    /// Sizes and limits of the TCP/IP stack of each network.
    pub fn netstack(mut self, config: netstack::Config) -> Self {
        self.options.netstack = config;
        self
    }

    /// Brings the node up: uses the stored device or enrols a new one, then waits until peers can
    /// reach it.
    ///
    /// It reads no environment, installs nothing process-wide and writes nowhere but to the state.
    /// What happens is told by `tracing`, to whatever subscriber the program has.
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
            // It was away for too long, most often, and there is a key for another one.
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

    /// Starts and waits. If that fails nothing runs any more, and what is owned comes back.
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
                // A device in memory must not stay behind at the controller.
                if let Err(left) = node.close().await {
                    tracing::debug!(error = %left, "a node that did not come up left something");
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
        // A library has neither a login nor a person to ask.
        let facts = EnrolFacts {
            server: self.server.clone(),
            auth_key: self.auth_key.clone(),
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

/// The time that a start may take before somebody must hear of it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The time that the controller is waited for when the device is enrolled.
const ENROL_WITHIN: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
