use super::*;
use crate::state::Target;

fn running() -> Status {
    Status {
        state: State::Running,
        device: Some(DeviceStatus {
            id: DeviceId([1; 16]),
            label: "db".to_owned(),
            name: "db.home.overlan.internal".to_owned(),
            addresses: vec!["100.64.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        }),
        domain: Some("overlan.internal".to_owned()),
        networks: vec![NetworkStatus {
            name: "home".to_owned(),
            vni: Vni::new(70_000).unwrap(),
            device: "db.home.overlan.internal".to_owned(),
            addresses: vec!["100.64.0.1".parse().unwrap()],
            attached: true,
            peers: vec![
                PeerStatus {
                    name: "web.home.overlan.internal".to_owned(),
                    label: "web".to_owned(),
                    addresses: vec!["100.64.0.2".parse().unwrap()],
                    online: true,
                    relay: Some("ams-1".to_owned()),
                    sessions: 1,
                    routes: Vec::new(),
                },
                PeerStatus {
                    name: "ci-runner.home.overlan.internal".to_owned(),
                    label: "ci-runner".to_owned(),
                    addresses: vec!["100.64.0.33".parse().unwrap()],
                    online: false,
                    relay: None,
                    sessions: 0,
                    routes: Vec::new(),
                },
            ],
        }],
        relays: vec![RelayStatus {
            name: "ams-1".to_owned(),
            id: RelayId([2; 16]),
            state: LinkState::Connected,
            round_trip_ms: Some(12),
            home: true,
            last_error: None,
        }],
        control: ControlStatus {
            state: LinkState::Connected,
            since: Some(1_000),
            last_error: None,
        },
        socks: Some("127.0.0.1:1080".parse().unwrap()),
        certificates: None,
        serves: vec![Serve::tcp(80, "127.0.0.1:8080".parse::<Target>().unwrap())],
        counters: BTreeMap::from([("packets_dropped".to_owned(), 0)]),
        ..Status::starting()
    }
}

#[test]
fn the_table_shows_this_device_then_peers_then_connections() {
    let expected = "\
100.64.0.1   db.home.overlan.internal         this device  running
100.64.0.2   web.home.overlan.internal        active       relay ams-1
100.64.0.33  ci-runner.home.overlan.internal  offline      -

relay    ams-1 connected, home, 12 ms
control  connected for 5 min
socks    127.0.0.1:1080
dns      off
serve    tcp 80 -> 127.0.0.1:8080
";
    assert_eq!(running().table(1_300), expected);
}

#[test]
fn the_table_says_what_is_wrong_and_cannot_command_a_terminal() {
    let mut status = running();
    status.control = ControlStatus {
        state: LinkState::Waiting,
        since: None,
        last_error: Some("no\u{1b}[2J route".to_owned()),
    };
    status.networks[0].peers[0].relay = Some("\u{7}bell".to_owned());
    let table = status.table(0);
    assert!(
        table.contains("# The controller is not connected"),
        "{table}"
    );
    assert!(table.contains("no [2J route"), "{table}");
    assert!(!table.contains(['\u{1b}', '\u{7}']), "{table}");
}

#[test]
fn the_document_carries_its_version_and_comes_back_as_it_was() {
    let status = running();
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["state"], "running");
    assert_eq!(json["serves"][0]["kind"], "tcp");
    assert_eq!(
        json["networks"][0]["peers"][0]["addresses"][0],
        "100.64.0.2"
    );
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
}

#[test]
fn a_client_that_knows_nothing_yet_shows_its_state() {
    let table = Status::starting().table(0);
    assert!(table.starts_with("starting\n"), "{table}");
    assert!(table.contains("control  idle"), "{table}");
}

#[test]
fn a_memory_limit_is_told_to_people_and_programs() {
    let budget = Budget::new(64 << 20, Source::Cgroup).unwrap();
    let status = Status {
        memory: Some(budget.into()),
        ..running()
    };
    let table = status.table(1_000);
    assert!(
        table.contains("memory   64M, limit of the cgroup\n"),
        "{table}"
    );
    let told = serde_json::to_value(&status).unwrap();
    assert_eq!(told["memory"]["limit"], 64 << 20);
    assert_eq!(told["memory"]["source"], "cgroup");
    assert!(!running().table(1_000).contains("memory"));
}
