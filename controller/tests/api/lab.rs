//! A controller in this process, and members who talk with it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use overlan_controller::{Config, Controller, StartError, Timings};
use overlan_protocol::api::{
    AuthKeyRequest, AuthKeyResponse, Credential, EnrolRequest, EnrolResponse, JoinString,
    LoginResponse, ProblemKind, RelayHeartbeat, RelayOrders, RelayRegisterRequest,
    RelayRegisterResponse, RelayTokenRequest, RelayTokenResponse, SetupRequest, SetupResponse,
    path,
};
use overlan_protocol::frame::Vni;
use overlan_protocol::key::{
    DeviceId, Fingerprint, IdentitySecret, RelayId, Secret, TunnelKey, encode_signature,
    random_bytes,
};
use overlan_protocol::netmap::{MapEvent, Netmap};
use overlan_protocol::proof::{Principal, enrolment_message, tunnel_key_message};
use overlan_transport::https::{Connection, HttpsError, Lines};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_secs(20);

/// Between two questions for something that is not so yet.
const POLL: Duration = Duration::from_millis(5);

pub(crate) const EMAIL: &str = "owner@example.org";
pub(crate) const PASSWORD: &str = "correct horse battery staple";

pub(crate) struct Lab {
    pub(crate) dir: TempDir,
    pub(crate) join: JoinString,
    /// The port of the server; 0 until the first start, which takes a free one.
    port: u16,
    pub(crate) setup_token: Option<Secret>,
    metrics: Option<SocketAddr>,
    timings: Timings,
    sign_up: bool,
    /// The operator's limit of devices of one organisation.
    pub(crate) devices_max: Option<u32>,
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

/// Short enough for tests; what a test must not see is set long by it.
pub(crate) fn fast() -> Timings {
    Timings {
        presence_grace: Duration::from_millis(150),
        relay_lost_after: Duration::from_secs(30),
        heartbeat_hold: Duration::from_millis(300),
        ephemeral_after: Duration::from_secs(600),
        alive_every: Duration::from_secs(15),
        poll_every: Duration::from_millis(500),
        stranger_within: Duration::from_secs(10),
        arrive_within: Duration::from_millis(500),
        groups_every: Duration::from_millis(300),
    }
}

impl Lab {
    pub(crate) async fn start() -> Self {
        Self::start_with(fast()).await
    }

    pub(crate) async fn start_with(timings: Timings) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), timings).await
    }

    /// One that takes sign-ups.
    pub(crate) async fn start_with_sign_up() -> Self {
        let mut lab = Self::made(tempfile::tempdir().unwrap(), fast());
        lab.sign_up = true;
        lab.run().await;
        lab
    }

    /// One whose data directory is `data` in `dir`.
    pub(crate) async fn start_in(dir: TempDir, timings: Timings) -> Self {
        let mut lab = Self::made(dir, timings);
        lab.run().await;
        lab
    }

    fn made(dir: TempDir, timings: Timings) -> Self {
        Self {
            join: JoinString {
                // Until it has been started.
                server: "localhost:1".parse().unwrap(),
                ca: None,
                former: Default::default(),
            },
            port: 0,
            setup_token: None,
            metrics: None,
            timings,
            sign_up: false,
            devices_max: None,
            stop: CancellationToken::new(),
            running: None,
            dir,
        }
    }

    pub(crate) async fn run(&mut self) {
        let started = async {
            loop {
                match self.try_run().await {
                    // A process that another test has just forked holds the lock, too, until it
                    // becomes its program.
                    Err(StartError::DataDirInUse { .. }) => tokio::time::sleep(POLL).await,
                    other => break other,
                }
            }
        };
        timeout(WITHIN, started).await.unwrap().unwrap();
    }

    fn config(&self) -> Config {
        let listen = ([127, 0, 0, 1], self.port).into();
        let mut config = Config::new(listen, self.data_dir());
        config.domain = "overlan.lan".to_owned();
        config.timings = self.timings.clone();
        config.devices_per_organisation = self.devices_max;
        config.metrics = Some(([127, 0, 0, 1], 0).into());
        config.sign_up = self.sign_up;
        // Identity providers of tests are on this machine.
        config.issuer_addresses = vec!["127.0.0.1=127.0.0.1".parse().unwrap()];
        config
    }

    /// Starts again, or tells why that fails.
    pub(crate) async fn try_run(&mut self) -> Result<(), StartError> {
        self.run_as(self.config()).await
    }

    async fn run_as(&mut self, config: Config) -> Result<(), StartError> {
        let controller = Controller::bind(config).await?;
        self.join = controller.join();
        self.port = self.join.server.port();
        self.metrics = controller.metrics_addr();
        self.setup_token = controller.setup_token();
        self.stop = CancellationToken::new();
        self.running = Some(tokio::spawn(controller.run(self.stop.clone())));
        Ok(())
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        let running = self.running.take().unwrap();
        timeout(WITHIN, running).await.unwrap().unwrap();
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        self.run().await;
    }

    /// Changes the database behind the controller's back.
    pub(crate) async fn sql(&self, statement: &'static str) {
        let mut connection = self.database().await;
        connection.execute(statement).await.unwrap();
        connection.close().await.unwrap();
    }

    /// The first column of each row.
    pub(crate) async fn texts(&self, statement: &'static str) -> Vec<String> {
        let mut connection = self.database().await;
        let texts = sqlx::query_scalar(statement).fetch_all(&mut connection);
        let texts = texts.await.unwrap();
        connection.close().await.unwrap();
        texts
    }

    async fn database(&self) -> SqliteConnection {
        let file = self.data_dir().join("controller.db");
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.join, WITHIN).await.unwrap()
    }

    pub(crate) fn setup_request(&self) -> SetupRequest {
        SetupRequest {
            setup_token: self.setup_token.clone().unwrap(),
            email: EMAIL.to_owned(),
            password: Secret::new(PASSWORD),
            organisation: "Example".to_owned(),
            network: "demo".to_owned(),
        }
    }

    /// Returns the answer of the operator's door to `path`, the status line first.
    pub(crate) async fn operator(&self, path: &str) -> String {
        let mut tcp = TcpStream::connect(self.metrics.unwrap()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(WITHIN, tcp.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        answer
    }

    /// Sets up and answers the owner's session.
    pub(crate) async fn set_up(&self) -> LoginResponse {
        let mut connection = self.connect().await;
        let response: SetupResponse = connection
            .post(path::SETUP, &self.setup_request(), WITHIN)
            .await
            .unwrap();
        response.session
    }

    /// A connection of the person with this session.
    pub(crate) async fn person(&self, session: &LoginResponse) -> Connection {
        let mut connection = self.connect().await;
        connection.bearer(&session.session);
        connection
    }

    pub(crate) async fn auth_key(
        &self,
        owner: &LoginResponse,
        request: AuthKeyRequest,
    ) -> AuthKeyResponse {
        let mut connection = self.person(owner).await;
        connection
            .post(path::AUTH_KEYS, &request, WITHIN)
            .await
            .unwrap()
    }

    /// A key that enrols as many devices as a test likes.
    pub(crate) async fn reusable_key(&self, owner: &LoginResponse) -> Secret {
        let request = AuthKeyRequest {
            reusable: true,
            ..AuthKeyRequest::default()
        };
        self.auth_key(owner, request).await.key
    }

    pub(crate) async fn relay_token(&self, owner: &LoginResponse, name: &str) -> Secret {
        let mut connection = self.person(owner).await;
        let request = RelayTokenRequest {
            name: name.to_owned(),
        };
        let response: RelayTokenResponse = connection
            .post(path::RELAY_TOKENS, &request, WITHIN)
            .await
            .unwrap();
        response.token
    }

    /// Enrols a new device by auth key.
    pub(crate) async fn enrol(&self, key: &Secret, hostname: &str) -> Device {
        let device = Device::new();
        let credential = Credential::AuthKey(key.clone());
        device.enrol(self, credential, hostname).await.unwrap()
    }

    /// Registers a relay at `127.0.0.1:<port>`.
    pub(crate) async fn relay(&self, owner: &LoginResponse, name: &str, port: u16) -> Relay {
        let token = self.relay_token(owner, name).await;
        let relay = Relay::new(port);
        relay.register(self, &token).await.unwrap().0
    }
}

/// A device's keys, and the answer to its enrolment.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) secret: IdentitySecret,
    pub(crate) tunnel: TunnelKey,
    pub(crate) enrolled: Option<EnrolResponse>,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self {
            secret: IdentitySecret::generate(),
            tunnel: TunnelKey(random_bytes()),
            enrolled: None,
        }
    }

    pub(crate) fn request(
        &self,
        connection: &Connection,
        credential: Credential,
        hostname: &str,
    ) -> EnrolRequest {
        let identity = self.secret.public();
        let message = enrolment_message(connection.exporter(), &identity);
        EnrolRequest {
            credential,
            networks: Vec::new(),
            hostname: hostname.to_owned(),
            identity,
            proof: encode_signature(&self.secret.sign(&message)),
            tunnel: self.tunnel,
            tunnel_signature: encode_signature(
                &self.secret.sign(&tunnel_key_message(&self.tunnel)),
            ),
        }
    }

    pub(crate) async fn enrol(
        mut self,
        lab: &Lab,
        credential: Credential,
        hostname: &str,
    ) -> Result<Self, HttpsError> {
        let mut connection = lab.connect().await;
        let request = self.request(&connection, credential, hostname);
        self.enrolled = Some(connection.post(path::ENROL, &request, WITHIN).await?);
        Ok(self)
    }

    pub(crate) fn enrolled(&self) -> &EnrolResponse {
        self.enrolled.as_ref().unwrap()
    }

    pub(crate) fn id(&self) -> DeviceId {
        self.enrolled().device
    }

    pub(crate) fn label(&self) -> &str {
        &self.enrolled().label
    }

    pub(crate) async fn connect(&self, lab: &Lab) -> Connection {
        let mut connection = lab.connect().await;
        connection.prove(Principal::Device(self.id()), &self.secret);
        connection
    }

    /// Opens the netmap stream and reads up to the first map.
    pub(crate) async fn stream(&self, lab: &Lab) -> Stream {
        self.stream_of(lab, path::DEVICE_NETMAP).await
    }

    /// The same for a device whose map is of this version, and which has to get a whole one.
    pub(crate) async fn stream_since(&self, lab: &Lab, version: u64) -> Stream {
        let path = format!("{}?since={version}", path::DEVICE_NETMAP);
        self.stream_of(lab, &path).await
    }

    async fn stream_of(&self, lab: &Lab, path: &str) -> Stream {
        let lines = self.connect(lab).await;
        let mut lines = lines.lines(path, WITHIN).await.unwrap();
        let first = timeout(WITHIN, lines.next::<MapEvent>()).await.unwrap();
        let Ok(Some(MapEvent::Snapshot(map))) = first else {
            panic!("a stream begins with a snapshot, not {first:?}");
        };
        Stream {
            lines,
            map: *map,
            networks: Vec::new(),
        }
    }
}

/// A device's open stream and the map that it adds up to.
pub(crate) struct Stream {
    pub(crate) lines: Lines,
    pub(crate) map: Netmap,
    /// Those of the newest ticket.
    pub(crate) networks: Vec<Vni>,
}

impl Stream {
    /// The next event but tickets; deltas are applied.
    pub(crate) async fn next(&mut self) -> Option<MapEvent> {
        loop {
            let event = timeout(WITHIN, self.lines.next::<MapEvent>()).await;
            let event = event.expect("an event comes in time").unwrap()?;
            match &event {
                MapEvent::Delta(delta) => self.map.apply(delta).expect("deltas join on"),
                MapEvent::Snapshot(map) => self.map = Netmap::clone(map),
                MapEvent::Ticket { networks, .. } => {
                    self.networks.clone_from(networks);
                    continue;
                }
                MapEvent::Alive | MapEvent::Removed => {}
            }
            return Some(event);
        }
    }

    /// Follows the stream until the map is as wanted.
    pub(crate) async fn until(&mut self, what: &str, wanted: impl Fn(&Netmap) -> bool) {
        while !wanted(&self.map) {
            let event = self.next().await;
            assert!(event.is_some(), "the stream ended before {what}");
        }
    }

    /// Waits until the peer with this label is known and online, or is not.
    pub(crate) async fn until_online(&mut self, label: &str, online: bool) {
        self.until("a peer's state", |map| {
            peer(map, label).is_some_and(|peer| peer.online == online)
        })
        .await;
    }
}

pub(crate) fn network(map: &Netmap) -> &overlan_protocol::netmap::Network {
    map.networks.values().next().unwrap()
}

pub(crate) fn peer<'a>(map: &'a Netmap, label: &str) -> Option<&'a overlan_protocol::netmap::Peer> {
    network(map).peer_named(label).map(|(_, peer)| peer)
}

/// A relay's key, and what it tells.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) secret: IdentitySecret,
    pub(crate) id: RelayId,
    pub(crate) addresses: Vec<String>,
    pub(crate) pins: Vec<Fingerprint>,
}

impl Relay {
    pub(crate) fn new(port: u16) -> Self {
        Self {
            secret: IdentitySecret::generate(),
            id: RelayId([0; 16]),
            addresses: vec![format!("127.0.0.1:{port}")],
            pins: vec![Fingerprint(random_bytes())],
        }
    }

    pub(crate) async fn register(
        mut self,
        lab: &Lab,
        token: &Secret,
    ) -> Result<(Self, RelayOrders), HttpsError> {
        let mut connection = lab.connect().await;
        let identity = self.secret.public();
        let message = enrolment_message(connection.exporter(), &identity);
        let request = RelayRegisterRequest {
            token: token.clone(),
            identity,
            proof: encode_signature(&self.secret.sign(&message)),
            addresses: self.addresses.clone(),
            pins: self.pins.clone(),
        };
        let response: RelayRegisterResponse = connection
            .post(path::RELAY_REGISTER, &request, WITHIN)
            .await?;
        self.id = response.relay;
        Ok((self, response.orders))
    }

    pub(crate) async fn connect(&self, lab: &Lab) -> Connection {
        let mut connection = lab.connect().await;
        connection.prove(Principal::Relay(self.id), &self.secret);
        connection
    }

    pub(crate) fn beat(&self, applied: u64, wait: bool) -> RelayHeartbeat {
        RelayHeartbeat {
            clients: 0,
            applied,
            lineage: None,
            addresses: self.addresses.clone(),
            pins: self.pins.clone(),
            wait,
            ca: None,
        }
    }
}

/// The kind of problem that a call ran into.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, HttpsError>) -> ProblemKind {
    match result {
        Err(HttpsError::Problem(problem)) => problem.kind,
        other => panic!("expected a problem, got {other:?}"),
    }
}
