use super::*;
use crate::doors::serve::service::Target;

fn at(seconds: u64) -> UnixTime {
    UnixTime::from_secs(seconds)
}

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
                    presence: Presence::Online,
                    relay: Some("ams-1".to_owned()),
                    sessions: 1,
                    routes: Vec::new(),
                },
                PeerStatus {
                    name: "ci-runner.home.overlan.internal".to_owned(),
                    label: "ci-runner".to_owned(),
                    addresses: vec!["100.64.0.33".parse().unwrap()],
                    online: false,
                    presence: Presence::Offline,
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
            round_trip_ms: Some(0),
            round_trip_us: Some(312),
            home: true,
            last_error: None,
        }],
        control: ControlStatus {
            state: LinkState::Connected,
            since: Some(at(1_000)),
            last_error: None,
        },
        socks: Some("127.0.0.1:1080".parse().unwrap()),
        certificates: None,
        serves: vec![Serve::tcp(80, "127.0.0.1:8080".parse::<Target>().unwrap())],
        counters: BTreeMap::from([("packets_dropped".to_owned(), 0)]),
        ..Status::starting()
    }
}

/// Everything that may be shown, where lines have no end.
const WHOLE: View = View {
    columns: None,
    verbose: true,
    colour: false,
};

#[test]
fn people_see_a_header_then_this_device_then_peers_then_connections() {
    let expected = "\
connected, home relay ams-1 (0.3 ms), 1 of 2 peers online

100.64.0.1   db.home.overlan.internal         this device  running

100.64.0.2   web.home.overlan.internal        active       relay ams-1
100.64.0.33  ci-runner.home.overlan.internal  offline      -

relay    ams-1 connected, home, 0.3 ms
control  connected for 5 min
socks    127.0.0.1:1080
dns      off
serve    tcp 80 -> 127.0.0.1:8080
";
    assert_eq!(running().table(at(1_300), WHOLE), expected);
}

#[test]
fn a_narrow_terminal_shows_all_that_matters_in_its_lines() {
    let mut status = running();
    status.control.last_error = Some("a long story of what happened to it ".repeat(4));
    status.control.state = LinkState::Waiting;
    status.counters = BTreeMap::from([("bytes_in".to_owned(), 1), ("bytes_out".to_owned(), 2)]);
    for (columns, shown, left_out) in [
        (
            80,
            &["web.home.overlan.internal  ", "relay ams-1"][..],
            "nothing at all",
        ),
        (60, &["web.home  ", "relay ams-1", "running"], ".internal"),
        (48, &["web.home  ", "offline"], "relay ams-1\n100"),
    ] {
        let view = View {
            columns: Some(columns),
            ..View::default()
        };
        let table = status.table(at(1_300), view);
        for line in table.lines() {
            let wide = line.chars().count();
            assert!(wide <= columns, "{wide} of {columns}: {line}");
        }
        for text in shown {
            assert!(table.contains(text), "{columns} {text}\n{table}");
        }
        assert!(!table.contains(left_out), "{columns} {left_out}\n{table}");
    }
}

#[test]
fn colours_say_the_state_and_change_no_width() {
    let colour = View {
        colour: true,
        ..WHOLE
    };
    let mut status = running();
    status.networks[0].peers[0].sessions = 0;
    let painted = status.table(at(1_300), colour);
    for text in [
        "\x1b[32mconnected\x1b[0m, home relay",
        "\x1b[32monline     \x1b[0m  relay ams-1",
        "\x1b[31moffline    \x1b[0m",
    ] {
        assert!(painted.contains(text), "{text:?}\n{painted}");
    }
    let mut bare = painted;
    for code in ["\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"] {
        bare = bare.replace(code, "");
    }
    assert_eq!(bare, status.table(at(1_300), WHOLE));
    status.state = State::PendingApproval;
    let waits = status.table(at(0), colour);
    assert!(
        waits.starts_with("\x1b[33mwaiting for the approval"),
        "{waits}"
    );
}

#[test]
fn internals_are_for_who_asks_for_them() {
    let mut status = running();
    status.counters = BTreeMap::from([
        ("bytes_in".to_owned(), 2_048),
        ("bytes_out".to_owned(), 10),
        ("credit_waits".to_owned(), 7),
    ]);
    let short = status.table(at(0), View::default());
    assert!(short.contains("traffic  in 2.0 KiB, out 10 B\n"), "{short}");
    assert!(!short.contains("credit"), "{short}");
    assert!(status.table(at(0), WHOLE).contains("for credit 7 times"));
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
    let table = status.table(at(0), WHOLE);
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
    let table = Status::starting().table(at(0), WHOLE);
    assert!(table.starts_with("starting\n"), "{table}");
    assert!(table.contains("control  idle"), "{table}");
}

#[test]
fn a_memory_limit_is_told_to_people_and_programs() {
    let budget = Budget::new(64 << 20, Origin::Cgroup).unwrap();
    let status = Status {
        memory: Some(budget.into()),
        ..running()
    };
    let table = status.table(at(1_000), WHOLE);
    assert!(
        table.contains("memory   64M, limit of the cgroup\n"),
        "{table}"
    );
    let told = serde_json::to_value(&status).unwrap();
    assert_eq!(told["memory"]["limit"], 64 << 20);
    assert_eq!(told["memory"]["source"], "cgroup");
    assert!(!running().table(at(1_000), WHOLE).contains("memory"));
}
