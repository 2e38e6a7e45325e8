//! A whole deployment in one process, for a first look: controller, two relays, and the devices
//! `laptop` and `web`.
//!
//! Everything is real: TLS, the database, the relays, the tunnels. Only the directory is temporary.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use overlan::program::enrol::{EnrolError, EnrolOptions, enrol};
use overlan::program::node::{Node, NodeError, NodeOptions, NotReady};
use overlan::program::proxy::{self, ProxyConfig};
use overlan::program::service::Serve;
use overlan::program::state::{StateDir, StateError};
use overlan_controller::Controller;
use overlan_protocol::api::{
    AuthKeyRequest, AuthKeyResponse, Credential, JoinString, RelayTokenRequest, RelayTokenResponse,
    SetupRequest, SetupResponse, path,
};
use overlan_protocol::key::{Secret, random_bytes};
use overlan_relay::Relay;
use overlan_transport::https::{Connection, HttpsError};
use overlan_transport::outgoing::Outgoing;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod check;
mod site;

pub(crate) use check::CheckReport;

/// The settings of the demo.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Port of the laptop's SOCKS5 proxy; 0 takes a free one.
    pub(crate) socks_port: u16,
    /// Port of the laptop's DNS resolver; 0 takes a free one.
    pub(crate) dns_port: u16,
}

/// The reason for which there is no demo.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// A port is taken.
    #[error(
        "port {port} on 127.0.0.1 is in use by another program; stop it, or choose another port \
         with {flag}"
    )]
    PortInUse {
        /// Its name.
        port: u16,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// The temporary directory cannot be made.
    #[error("cannot make a directory for the demo in {}: {source}", path.display())]
    Directory {
        /// The address or path.
        path: PathBuf,
        /// Reason.
        source: io::Error,
    },
    /// A listener of the demo.
    #[error("cannot listen on 127.0.0.1: {0}")]
    Listen(io::Error),
    /// The controller.
    #[error("the controller does not start: {0}")]
    Controller(#[from] overlan_controller::StartError),
    /// A relay.
    #[error("a relay does not start: {0}")]
    Relay(#[from] overlan_relay::StartError),
    /// The controller's answer.
    #[error(transparent)]
    Api(#[from] HttpsError),
    /// A device's enrolment.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// A device's state.
    #[error(transparent)]
    State(#[from] StateError),
    /// A device.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A device did not come up.
    #[error("{device} did not come up: {source}")]
    NotReady {
        /// Its name.
        device: &'static str,
        /// Reason.
        source: NotReady,
    },
}

/// A demo. It must be stopped, however far its start came: what runs still writes into the
/// directory.
pub(crate) struct Demo {
    /// The address of the laptop's SOCKS5 proxy.
    pub(crate) socks: SocketAddr,
    /// The address of the laptop's resolver, UDP and TCP.
    pub(crate) dns: SocketAddr,
    nodes: Vec<Node>,
    stop: CancellationToken,
    tasks: TaskTracker,
    directory: Directory,
}

/// The listeners of the laptop for programs.
pub(crate) struct LaptopListeners {
    socks: TcpListener,
    dns: (UdpSocket, TcpListener),
}

impl Demo {
    /// Takes the ports and makes the directory; nothing runs yet.
    pub(crate) async fn bind(options: Options) -> Result<(Self, LaptopListeners), DemoError> {
        // The ports a user chose come first: without them there is nothing to clean up.
        let doors = LaptopListeners {
            socks: bind_tcp(options.socks_port, "--socks-port").await?,
            dns: bind_dns(options.dns_port).await?,
        };
        let demo = Self {
            socks: doors.socks.local_addr().map_err(DemoError::Listen)?,
            dns: doors.dns.0.local_addr().map_err(DemoError::Listen)?,
            nodes: Vec::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            directory: Directory::new()?,
        };
        Ok((demo, doors))
    }

    /// Starts everything and waits until the laptop can reach the page. May be dropped half done.
    pub(crate) async fn start(&mut self, doors: LaptopListeners) -> Result<(), DemoError> {
        let (stop, tasks) = (self.stop.clone(), self.tasks.clone());
        let directory = self.directory.path.clone();
        // The database's own threads make files: a start that is dropped meanwhile leaves the wait
        // for them to `stop`.
        let binding = tasks.spawn(Controller::bind(overlan_controller::Config {
            domain: DOMAIN.to_owned(),
            ..overlan_controller::Config::new(LOOPBACK, directory.join("controller"))
        }));
        let controller = match binding.await {
            Ok(bound) => bound?,
            Err(died) => std::panic::resume_unwind(died.into_panic()),
        };
        let join = controller.join();
        let setup_token = controller.setup_token().unwrap_or_else(|| Secret::new(""));
        tasks.spawn(controller.run(stop.clone()));

        let mut owner = set_up(&join, setup_token).await?;
        for name in ["relay-1", "relay-2"] {
            let request = RelayTokenRequest {
                name: name.to_owned(),
            };
            let token: RelayTokenResponse =
                owner.post(path::RELAY_TOKENS, &request, PATIENCE).await?;
            let relay = Relay::bind(overlan_relay::Config {
                listen: LOOPBACK,
                addresses: Vec::new(),
                join: join.clone(),
                outgoing: Outgoing::direct(),
                token: Some(token.token),
                state_dir: directory.join(name),
                metrics: None,
            })
            .await?;
            tasks.spawn(relay.run(stop.clone()));
        }

        let site = TcpListener::bind(LOOPBACK)
            .await
            .map_err(DemoError::Listen)?;
        let site_address = site.local_addr().map_err(DemoError::Listen)?;
        tasks.spawn(site::serve(site, stop.clone()));

        let web = start_device("web", &join, &mut owner, &directory).await?;
        self.nodes.push(web.clone());
        web.serve(Serve::tcp(80, site_address))?;
        // For the ssh line: this machine's own sshd, if it runs one. Only the demo's own network
        // sees it.
        web.serve(Serve::tcp(22, SocketAddr::from((Ipv4Addr::LOCALHOST, 22))))?;
        let laptop = start_device("laptop", &join, &mut owner, &directory).await?;
        self.nodes.push(laptop.clone());
        wait_ready("web", &web).await?;
        wait_ready("laptop", &laptop).await?;
        // Both must know the other: a device drops what a stranger sends.
        wait_for_peer("laptop", &laptop, "web").await?;
        wait_for_peer("web", &web, "laptop").await?;

        tasks.spawn(proxy::serve(
            doors.socks,
            ProxyConfig {
                dns: Some(self.dns),
                ..ProxyConfig::default()
            },
            laptop.overlay(),
            stop.clone(),
        ));
        let (udp, tcp) = doors.dns;
        tasks.spawn(laptop.serve_dns(udp, tcp, stop));
        Ok(())
    }

    /// Does what the printed lines do, and reports each.
    pub(crate) async fn check(&self, report: impl FnMut(&CheckReport)) -> bool {
        check::run(self.socks, self.dns, report).await
    }

    /// The lines to paste.
    pub(crate) fn lines(&self) -> String {
        let (socks, dns) = (self.socks, self.dns);
        format!(
            "\
The demo runs: a controller, two relays, and the devices laptop and web in network {NETWORK}.
Try, in another terminal:

  curl --proxy socks5h://{socks} http://{WEB_NAME}/
  dig @{} -p {} {WEB_NAME} +short
  ssh -o ProxyCommand='nc -X 5 -x {socks} %h %p' {WEB_NAME}      (needs an sshd on this machine)

Ctrl-C ends it.",
            dns.ip(),
            dns.port(),
        )
    }

    /// Ends everything and waits for it; the directory goes with it.
    pub(crate) async fn stop(self) {
        for node in self.nodes.iter().rev() {
            node.shutdown().await;
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn set_up(join: &JoinString, setup_token: Secret) -> Result<Connection, DemoError> {
    let mut connection = Connection::open(join, PATIENCE).await?;
    let request = SetupRequest {
        setup_token,
        email: "owner@demo.invalid".to_owned(),
        // Nobody logs in to the demo; the password is as random as its directory is short-lived.
        password: Secret::new(&Fresh::text()),
        organisation: "Demo".to_owned(),
        network: NETWORK.to_owned(),
    };
    let done: SetupResponse = connection.post(path::SETUP, &request, PATIENCE).await?;
    connection.bearer(&done.session.session);
    Ok(connection)
}

async fn start_device(
    name: &'static str,
    join: &JoinString,
    owner: &mut Connection,
    directory: &Path,
) -> Result<Node, DemoError> {
    let key: AuthKeyResponse = owner
        .post(path::AUTH_KEYS, &AuthKeyRequest::default(), PATIENCE)
        .await?;
    let state = Arc::new(StateDir::open(&directory.join(name))?);
    let options = EnrolOptions {
        join: join.clone(),
        credential: Credential::AuthKey(key.key),
        hostname: name.to_owned(),
        networks: Vec::new(),
        outgoing: Outgoing::direct(),
        deadline: PATIENCE,
    };
    let device = enrol(options, &state).await?;
    Ok(Node::start(state, device, NodeOptions::default())?)
}

async fn wait_ready(device: &'static str, node: &Node) -> Result<(), DemoError> {
    node.ready(Some(PATIENCE))
        .await
        .map_err(|source| DemoError::NotReady { device, source })
}

/// A device is of use when it knows that `peer` is there.
async fn wait_for_peer(device: &'static str, node: &Node, peer: &str) -> Result<(), DemoError> {
    let mut netmap = node.netmap();
    let sees_peer = netmap.wait_for(|netmap| {
        let network = netmap.network_named(NETWORK);
        network
            .and_then(|(_, network)| network.peer_named(peer))
            .is_some_and(|(_, peer)| peer.online)
    });
    match tokio::time::timeout(PATIENCE, sees_peer).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(DemoError::NotReady {
            device,
            source: NotReady::Controller {
                waited: PATIENCE,
                error: format!("it did not say that {peer} is online"),
            },
        }),
    }
}

async fn bind_tcp(port: u16, flag: &'static str) -> Result<TcpListener, DemoError> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    bound.map_err(|source| listen_error(source, port, flag))
}

/// UDP and TCP on one port; a free one may be free for one of both only, so it is tried a few
/// times.
async fn bind_dns(port: u16) -> Result<(UdpSocket, TcpListener), DemoError> {
    let flag = "--dns-port";
    let mut attempts = if port == 0 { 16 } else { 1 };
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await;
        let udp = udp.map_err(|source| listen_error(source, port, flag))?;
        let chosen = udp.local_addr().map_err(DemoError::Listen)?.port();
        attempts -= 1;
        match bind_tcp(chosen, flag).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(error) if attempts == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

fn listen_error(source: io::Error, port: u16, flag: &'static str) -> DemoError {
    if source.kind() == io::ErrorKind::AddrInUse {
        DemoError::PortInUse { port, flag }
    } else {
        DemoError::Listen(source)
    }
}

/// A directory that goes away with its owner.
struct Directory {
    path: PathBuf,
}

impl Directory {
    fn new() -> Result<Self, DemoError> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("overlan-demo-{}", Fresh::text()));
        let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| DemoError::Directory {
            path: path.clone(),
            source,
        })?;
        Ok(Self { path })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the demo's directory stays");
        }
    }
}

/// Random text for names that must be new and passwords nobody types.
struct Fresh;

impl Fresh {
    fn text() -> String {
        overlan_protocol::key::DeviceId(random_bytes()).to_string()
    }
}

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The deployment's domain, the default one.
const DOMAIN: &str = "overlan.internal";

const NETWORK: &str = "demo";

/// The name of the page's device.
pub(crate) const WEB_NAME: &str = "web.demo.overlan.internal";

/// Everything is on this machine; what takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(30);
