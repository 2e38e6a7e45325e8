//! The controller session against a real controller on loopback.

use std::os::unix::fs::PermissionsExt;

use overlan_controller::{Config, Controller};
use overlan_protocol::api::{
    AuthKeyRequest, AuthKeyResponse, Credential, JoinString, SetupRequest, SetupResponse,
};
use overlan_protocol::key::{DeviceId, Secret};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;
use crate::device::enrol::{EnrolOptions, enrol};

/// Longer than anything here takes on a busy machine.
const WITHIN: Duration = Duration::from_secs(30);

struct Lab {
    dir: TempDir,
    join: JoinString,
    key: Secret,
    owner: Secret,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Lab {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let controller = bind(&dir, 0).await;
        let (join, setup_token) = (controller.join(), controller.setup_token().unwrap());
        let stop = CancellationToken::new();
        let running = tokio::spawn(controller.run(stop.clone()));
        let mut connection = Connection::open(&join, WITHIN).await.unwrap();
        let request = SetupRequest {
            setup_token,
            email: "owner@example.org".to_owned(),
            password: Secret::new("correct horse battery staple"),
            organisation: "Example".to_owned(),
            network: "demo".to_owned(),
        };
        let done: SetupResponse = connection
            .post(path::SETUP, &request, WITHIN)
            .await
            .unwrap();
        connection.bearer(&done.session.session);
        let request = AuthKeyRequest {
            reusable: true,
            ..AuthKeyRequest::default()
        };
        let key: AuthKeyResponse = connection
            .post(path::AUTH_KEYS, &request, WITHIN)
            .await
            .unwrap();
        Self {
            dir,
            join,
            key: key.key,
            owner: done.session.session,
            stop,
            running,
        }
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        timeout(WITHIN, &mut self.running).await.unwrap().unwrap();
    }

    /// The same controller again, at the same port.
    async fn run_again(&mut self) {
        let controller = bind(&self.dir, self.join.server.port()).await;
        self.stop = CancellationToken::new();
        self.running = tokio::spawn(controller.run(self.stop.clone()));
    }

    async fn change(&self, member: &Member, what: &str) {
        let mut connection = Connection::open(&self.join, WITHIN).await.unwrap();
        connection.bearer(&self.owner);
        let path = format!("{}/{}/{what}", path::DEVICES, member.device.device);
        let nothing = serde_json::json!({});
        let changed = connection.post::<_, serde_json::Value>(&path, &nothing, WITHIN);
        changed.await.unwrap();
    }

    async fn member(&self, hostname: &str) -> Member {
        let dir = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(&dir.path().join("state")).unwrap());
        let options = EnrolOptions {
            join: self.join.clone(),
            credential: Credential::AuthKey(self.key.clone()),
            hostname: hostname.to_owned(),
            networks: Vec::new(),
            outgoing: Outgoing::direct(),
            deadline: WITHIN,
        };
        let device = enrol(options, &state).await.unwrap();
        Member {
            _dir: dir,
            state,
            device,
        }
    }
}

async fn bind(dir: &TempDir, port: u16) -> Controller {
    let config = Config::new(([127, 0, 0, 1], port).into(), dir.path().join("data"));
    Controller::bind(config).await.unwrap()
}

/// An enrolled device and its state directory.
struct Member {
    _dir: TempDir,
    state: Arc<StateDir>,
    device: Device,
}

impl Member {
    fn control(&self, netmap: Option<Netmap>) -> Arc<ControllerSession> {
        let ticket = self.state.load_ticket().unwrap().unwrap();
        self.control_with(netmap, ticket)
    }

    fn control_with(
        &self,
        netmap: Option<Netmap>,
        ticket: TicketResponse,
    ) -> Arc<ControllerSession> {
        let (state, device) = (self.state.clone(), self.device.clone());
        Arc::new(ControllerSession::new(
            state,
            device,
            netmap,
            Some(ticket),
            Outgoing::direct(),
        ))
    }

    /// A map as it may lie on disk, of this version and without networks.
    fn stored(&self, version: u64) -> Netmap {
        Netmap {
            version,
            lineage: None,
            domain: "elsewhere.test".to_owned(),
            device: self.device.device,
            networks: Default::default(),
            relays: Default::default(),
        }
    }
}

/// A controller session that runs.
struct Session {
    control: Arc<ControllerSession>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Session {
    fn start(control: Arc<ControllerSession>) -> Self {
        let stop = CancellationToken::new();
        let (runs, stopped) = (control.clone(), stop.clone());
        let running = tokio::spawn(async move { runs.run(stopped).await });
        Self {
            control,
            stop,
            running,
        }
    }

    /// Waits until the netmap is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Netmap) -> bool) -> Arc<Netmap> {
        let mut netmap = self.control.netmap();
        let seen = timeout(WITHIN, netmap.wait_for(|netmap| wanted(netmap))).await;
        seen.unwrap_or_else(|_| panic!("{what} in time"))
            .unwrap()
            .clone()
    }

    async fn until_health(&self, what: &str, wanted: impl Fn(&Health) -> bool) {
        let mut health = self.control.health();
        let seen = timeout(WITHIN, health.wait_for(|health| wanted(health))).await;
        assert!(seen.is_ok(), "{what} in time");
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(WITHIN, self.running).await.unwrap().unwrap();
    }
}

fn knows(netmap: &Netmap, label: &str) -> bool {
    let mut networks = netmap.networks.values();
    networks.any(|network| network.peer_named(label).is_some())
}

#[test]
fn a_ticket_is_refreshed_at_half_of_its_life() {
    let life = overlan_protocol::ticket::TICKET_LIFE_SECS;
    assert_eq!(
        refresh_wait(
            UnixTime::from_secs(1_000),
            UnixTime::from_secs(1_000 + life)
        ),
        Duration::from_secs(life / 2)
    );
    assert_eq!(
        refresh_wait(
            UnixTime::from_secs(1_000 + life),
            UnixTime::from_secs(1_000 + life)
        ),
        Duration::ZERO
    );
}

#[tokio::test]
async fn a_snapshot_comes_first_then_changes_and_the_end_writes_them_down() {
    let lab = Lab::start().await;
    let web = lab.member("web").await;
    let control = web.control(None);
    assert_eq!(control.netmap().borrow().version, 0);
    let session = Session::start(control);
    let first = session.until("a snapshot", |map| map.version > 0).await;
    assert_eq!(first.device, web.device.device);
    assert!(!knows(&first, "db"));
    session
        .until_health("connected", |health| {
            matches!(health, Health::Connected { .. })
        })
        .await;

    lab.member("db").await;
    let second = session.until("the new peer", |map| knows(map, "db")).await;
    assert!(second.version > first.version);

    let last = session.control.netmap().borrow().clone();
    session.end().await;
    assert_eq!(web.state.load_netmap().unwrap().as_ref(), Some(&*last));
}

#[tokio::test]
async fn a_disabled_device_says_why_keeps_its_keys_and_comes_back_by_itself() {
    let lab = Lab::start().await;
    let web = lab.member("web").await;
    let session = Session::start(web.control(None));
    session
        .until("a network", |map| !map.networks.is_empty())
        .await;
    lab.change(&web, "disable").await;
    session
        .until_health("the reason", |health| {
            let Health::Barred { why, reason } = health else {
                return false;
            };
            *why == Bar::Disabled && reason.contains("overlan admin device enable web.demo")
        })
        .await;
    assert!(session.control.netmap().borrow().networks.is_empty());
    assert!(web.state.load_device().unwrap().is_some());
    lab.change(&web, "enable").await;
    session
        .until("its network again", |map| !map.networks.is_empty())
        .await;
    session
        .until_health("connected", |health| {
            matches!(health, Health::Connected { .. })
        })
        .await;
    session.end().await;
}

#[tokio::test]
async fn a_map_that_the_controller_cannot_continue_is_replaced_by_a_snapshot() {
    let lab = Lab::start().await;
    let web = lab.member("web").await;
    let control = web.control(Some(web.stored(1_000_000)));
    assert_eq!(control.netmap().borrow().version, 1_000_000);
    let session = Session::start(control);
    let map = session
        .until("a snapshot", |map| map.version < 1_000_000)
        .await;
    assert_eq!(map.domain, web.device.domain);
    assert_eq!(map.networks.len(), 1);
    session.end().await;
}

#[tokio::test]
async fn what_happened_while_nobody_followed_is_told_afterwards() {
    let lab = Lab::start().await;
    let web = lab.member("web").await;
    let session = Session::start(web.control(None));
    session.until("a snapshot", |map| map.version > 0).await;
    session.end().await;

    lab.member("db").await;

    let stored = web.state.load_netmap().unwrap().unwrap();
    assert!(!knows(&stored, "db"));
    let session = Session::start(web.control(Some(stored)));
    session.until("the new peer", |map| knows(map, "db")).await;
    session.end().await;
}

#[tokio::test]
async fn a_controller_that_comes_back_is_followed_again() {
    let mut lab = Lab::start().await;
    let web = lab.member("web").await;
    let session = Session::start(web.control(None));
    let before = session.until("a snapshot", |map| map.version > 0).await;
    lab.stop().await;
    session
        .until_health("unreachable", |health| {
            matches!(health, Health::Unreachable { .. })
        })
        .await;
    let meanwhile = session.control.netmap().borrow().clone();
    assert_eq!(meanwhile.networks, before.networks, "the map stays in use");

    lab.run_again().await;
    lab.member("db").await;
    session.until("the new peer", |map| knows(map, "db")).await;
    session
        .until_health("connected", |health| {
            matches!(health, Health::Connected { .. })
        })
        .await;
    session.end().await;
}

#[tokio::test]
async fn a_ticket_past_its_time_is_replaced_and_kept() {
    let lab = Lab::start().await;
    let web = lab.member("web").await;
    let old = TicketResponse {
        ticket: "old".to_owned(),
        expires: UnixTime::from_secs(1),
        networks: Vec::new(),
    };
    web.state.save_ticket(&old).unwrap();
    let session = Session::start(web.control_with(None, old));
    let mut ticket = session.control.ticket();
    let fresh = timeout(WITHIN, ticket.wait_for(|ticket| ticket.ticket != "old")).await;
    let fresh = fresh.unwrap().unwrap().clone();
    assert!(fresh.expires > wall());
    let kept = web.state.load_ticket().unwrap().unwrap();
    assert!(kept.ticket != "old" && kept.expires >= fresh.expires);
    session.end().await;
}

#[tokio::test]
async fn a_removed_device_forgets_what_it_was() {
    let lab = Lab::start().await;
    let web = lab.member("web").await;
    let session = Session::start(web.control(None));
    session.until("a snapshot", |map| map.version > 0).await;
    let mut itself = Connection::open(&lab.join, WITHIN).await.unwrap();
    itself.prove(Principal::Device(web.device.device), &web.device.identity);
    itself.delete(path::DEVICE, WITHIN).await.unwrap();
    session
        .until_health("removed", |health| *health == Health::Removed)
        .await;
    assert!(session.control.netmap().borrow().networks.is_empty());
    session.end().await;
    assert!(web.state.load_device().unwrap().is_none());
    assert!(
        web.state.load_netmap().unwrap().is_none(),
        "nor written again"
    );
    assert!(web.state.load_ticket().unwrap().is_none());

    // Who finds out at the next start forgets as well.
    web.state.save_device(&web.device).unwrap();
    let ticket = TicketResponse {
        ticket: "old".to_owned(),
        expires: wall() + Duration::from_secs(overlan_protocol::ticket::TICKET_LIFE_SECS),
        networks: Vec::new(),
    };
    let session = Session::start(web.control_with(None, ticket));
    session
        .until_health("removed", |health| *health == Health::Removed)
        .await;
    session.end().await;
    assert!(web.state.load_device().unwrap().is_none());
}

/// Copies a directory of files.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_device_that_a_wrong_backup_does_not_know_is_kept_aside_and_comes_back() {
    let mut lab = Lab::start().await;
    let (data, wrong) = (lab.dir.path().join("data"), lab.dir.path().join("wrong"));
    let right = lab.dir.path().join("right");
    lab.stop().await;
    copy(&data, &wrong);
    lab.run_again().await;
    let web = lab.member("web").await;
    let session = Session::start(web.control(None));
    let before = session.until("a snapshot", |map| map.version > 0).await;
    lab.stop().await;
    copy(&data, &right);
    copy(&wrong, &data);
    lab.run_again().await;
    session
        .until_health("unknown", |health| *health == Health::Unknown)
        .await;
    let aside = web.state.path().join("device-unknown.json");
    let mode = std::fs::metadata(&aside).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(web.state.is_device_aside());
    let kept = web.state.load_device().unwrap().unwrap();
    assert_eq!(kept.device, web.device.device);
    let meanwhile = session.control.netmap().borrow().clone();
    assert_eq!(meanwhile.networks, before.networks, "the map stays in use");

    // The right one is found.
    lab.stop().await;
    copy(&right, &data);
    lab.run_again().await;
    session
        .until_health("known again", |health| {
            matches!(health, Health::Connected { .. })
        })
        .await;
    assert!(!aside.exists() && !web.state.is_device_aside());
    session.end().await;
    let back = web.state.load_device().unwrap().unwrap();
    assert_eq!(back.device, web.device.device);

    // Or not, and it is enrolled anew: the old keys go.
    lab.stop().await;
    copy(&wrong, &data);
    lab.run_again().await;
    let session = Session::start(web.control(None));
    session
        .until_health("unknown", |health| *health == Health::Unknown)
        .await;
    session.end().await;
    let options = EnrolOptions {
        join: lab.join.clone(),
        credential: Credential::AuthKey(lab.key.clone()),
        hostname: "web".to_owned(),
        networks: Vec::new(),
        outgoing: Outgoing::direct(),
        deadline: WITHIN,
    };
    let anew = enrol(options, &web.state).await.unwrap();
    assert_ne!(anew.device, web.device.device);
    assert!(!aside.exists());
    // A device of which nobody has the keys twice is not waited for.
    web.state.set_device_aside().unwrap();
    web.state.remove_device().unwrap();
    assert!(!aside.exists() && web.state.load_device().unwrap().is_none());
}

#[tokio::test]
async fn a_map_of_another_device_is_not_started_from() {
    let lab = Lab::start().await;
    let web = lab.member("web").await;
    let mut foreign = web.stored(7);
    foreign.device = DeviceId([1; 16]);
    let control = web.control(Some(foreign));
    let map = control.netmap().borrow().clone();
    assert_eq!((map.version, map.device), (0, web.device.device));
}

#[tokio::test]
async fn peers_of_an_old_map_may_be_there() {
    let lab = Lab::start().await;
    let web = lab.member("web").await;
    lab.member("db").await;
    let session = Session::start(web.control(None));
    session.until("the peer", |map| knows(map, "db")).await;
    session.end().await;
    let stored = web.state.load_netmap().unwrap().unwrap();
    let online = |map: &Netmap| {
        let network = map.networks.values().next().unwrap();
        network.peer_named("db").unwrap().1.online
    };
    assert!(!online(&stored), "it was never there");
    let control = web.control(Some(stored));
    let map = control.netmap().borrow().clone();
    assert!(online(&map), "an old no must not refuse anybody");
}
