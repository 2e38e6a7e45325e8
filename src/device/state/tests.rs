use std::fs;
use std::os::unix::fs::PermissionsExt;

use data_encoding::BASE64URL_NOPAD;
use overlan_protocol::UnixTime;
use overlan_protocol::api::LoginResponse;
use overlan_protocol::key::{IdentityKey, IdentitySecret, Secret};

use super::*;
use crate::doors::serve::service::Target;

struct Fixture {
    _root: tempfile::TempDir,
    dir: StateDir,
}

fn fixture() -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let dir = StateDir::open(&root.path().join("deep/state")).unwrap();
    Fixture { _root: root, dir }
}

fn device() -> Device {
    Device {
        join: "https://controller.example:8443".parse().unwrap(),
        device: DeviceId([7; 16]),
        identity: Arc::new(IdentitySecret::from_seed([1; 32])),
        tunnel_secret: Zeroizing::new([2; 32]),
        label: "db".to_owned(),
        network: "home".to_owned(),
        domain: "overlan.internal".to_owned(),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn nothing_is_there_at_first_and_everything_comes_back_as_it_was_stored() {
    let Fixture { dir, _root } = fixture();
    stores_everything(&dir);
}

#[test]
fn a_state_in_memory_keeps_the_same_and_touches_no_disk() {
    let dir = StateDir::in_memory();
    stores_everything(&dir);
    dir.remove_device().unwrap();
    assert!(dir.clone().load_device().unwrap().is_none());
    assert!(!Path::new(IN_MEMORY).exists());

    let lock = dir.lock().unwrap();
    let taken = dir.clone().lock();
    assert!(matches!(taken, Err(StateError::InUse { .. })), "{taken:?}");
    drop(lock);
    dir.lock().unwrap();
    assert!(!format!("{dir:?}").contains("secret"));
}

fn stores_everything(dir: &StateDir) {
    assert!(dir.load_device().unwrap().is_none());
    assert!(dir.load_netmap().unwrap().is_none());
    assert!(dir.load_ticket().unwrap().is_none());
    assert!(dir.load_login().unwrap().is_none());
    assert!(dir.load_serves().unwrap().is_empty());
    assert!(dir.load_known_peers().unwrap().is_empty());

    let stored = device();
    dir.save_device(&stored).unwrap();
    let loaded = dir.load_device().unwrap().unwrap();
    assert_eq!(loaded.join, stored.join);
    assert_eq!(loaded.device, stored.device);
    assert_eq!(loaded.identity.seed(), stored.identity.seed());
    assert_eq!(loaded.tunnel_secret, stored.tunnel_secret);
    assert_eq!(
        (loaded.label, loaded.network, loaded.domain),
        (stored.label, stored.network, stored.domain)
    );

    let serves = [Serve::tcp(80, "127.0.0.1:8080".parse::<Target>().unwrap())];
    dir.save_serves(&serves).unwrap();
    assert_eq!(dir.load_serves().unwrap(), serves);

    let known = KnownPeer {
        identity: IdentityKey([4; 32]),
        named: UnixTime::from_secs(5),
    };
    let peers = BTreeMap::from([(DeviceId([3; 16]), known)]);
    dir.save_known_peers(&peers).unwrap();
    assert_eq!(dir.load_known_peers().unwrap(), peers);

    let ticket = TicketResponse {
        ticket: "v4.public.x".to_owned(),
        expires: UnixTime::from_secs(5),
        networks: Vec::new(),
    };
    dir.save_ticket(&ticket).unwrap();
    assert_eq!(dir.load_ticket().unwrap(), Some(ticket));

    let session = Login {
        join: stored.join,
        login: LoginResponse {
            session: Secret::new("ovs_abc"),
            expires: UnixTime::from_secs(9),
            email: "a@example.com".to_owned(),
            organisation: "acme".to_owned(),
        },
    };
    dir.save_login(&session).unwrap();
    let loaded = dir.load_login().unwrap().unwrap();
    assert_eq!(loaded.join, session.join);
    assert_eq!(loaded.login.session.reveal(), "ovs_abc");
    dir.remove_login().unwrap();
    dir.remove_login().unwrap();
    assert!(dir.load_login().unwrap().is_none());
}

#[test]
fn a_netmap_with_peers_under_numbers_comes_back_whole() {
    let Fixture { dir, _root } = fixture();
    let netmap: Netmap = serde_json::from_value(serde_json::json!({
        "version": 3, "domain": "overlan.internal", "device": "07".repeat(16),
        "networks": { "01".repeat(16): {
            "name": "home", "vni": 70000, "host": 1, "label": "db", "relays": [],
            "filter": overlan_protocol::policy::Filter::starter(),
            "peers": { "2": {
                "device": "02".repeat(16), "label": "web", "relays": [], "online": true,
                "identity": IdentityKey([1; 32]).to_string(),
                "tunnel": IdentityKey([2; 32]).to_string(), "tunnel_signature": "s",
            }}
        }},
        "relays": {}
    }))
    .unwrap();
    dir.save_netmap(&netmap).unwrap();
    assert_eq!(dir.load_netmap().unwrap(), Some(netmap));
}

#[test]
fn directory_and_files_are_for_the_owner_alone() {
    let Fixture { dir, _root } = fixture();
    dir.save_device(&device()).unwrap();
    let _lock = dir.lock().unwrap();
    assert_eq!(mode(dir.path()), 0o700);
    assert_eq!(mode(&dir.path().join(DEVICE)), 0o600);
    assert_eq!(mode(&dir.path().join(LOCK)), 0o600);
}

#[test]
fn a_directory_that_others_may_enter_is_refused_with_the_command_that_mends_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    fs::create_dir(&path).unwrap();
    for open in [0o750, 0o705, 0o710, 0o777] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
        let error = StateDir::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("chmod 700 {}", path.display())),
            "{error}"
        );
        assert!(error.contains(&format!("{open:04o}")), "{error}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o1777)).unwrap();
    let error = StateDir::open(&path).unwrap_err().to_string();
    assert!(!error.contains("chmod"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    StateDir::open(&path).unwrap();
}

#[test]
fn a_file_in_place_of_the_directory_is_an_error_that_names_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    fs::write(&path, "").unwrap();
    let error = StateDir::open(&path).unwrap_err();
    assert!(matches!(error, StateError::Unsafe { .. }));
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
}

#[test]
fn a_failed_write_leaves_the_old_file_and_a_leftover_does_not_hinder_the_next() {
    let Fixture { dir, _root } = fixture();
    dir.save_serves(&[Serve::tcp(1, "127.0.0.1:1".parse::<Target>().unwrap())])
        .unwrap();
    let before = dir.load_serves().unwrap();

    // A directory in the part file's place: the write cannot even begin.
    let part = dir.path().join(format!(".{SERVES}.part"));
    fs::create_dir(&part).unwrap();
    let failed = dir.save_serves(&[]);
    assert!(matches!(failed, Err(StateError::Io { .. })));
    assert_eq!(dir.load_serves().unwrap(), before);
    fs::remove_dir(&part).unwrap();

    // What a crash in the middle of a write leaves.
    fs::write(&part, "{\"schema_ver").unwrap();
    assert_eq!(dir.load_serves().unwrap(), before);
    dir.save_serves(&[]).unwrap();
    assert!(dir.load_serves().unwrap().is_empty());
    assert!(!part.exists());
    assert_eq!(mode(&dir.path().join(SERVES)), 0o600);
}

#[test]
fn writers_at_the_same_time_never_leave_a_mixed_file() {
    let Fixture { dir, _root } = fixture();
    std::thread::scope(|scope| {
        for port in 1..=4_u16 {
            let dir = &dir;
            scope.spawn(move || {
                let serves =
                    vec![Serve::tcp(port, "127.0.0.1:1".parse::<Target>().unwrap()); port.into()];
                for _ in 0..20 {
                    dir.save_serves(&serves).unwrap();
                    let seen = dir.load_serves().unwrap();
                    assert_eq!(seen.len(), usize::from(seen[0].port));
                }
            });
        }
    });
}

#[test]
fn a_damaged_file_is_named_with_the_way_out_and_without_its_content() {
    let Fixture { dir, _root } = fixture();
    let file = dir.path().join(DEVICE);
    dir.save_device(&device()).unwrap();
    let whole = fs::read_to_string(&file).unwrap();
    let seed = BASE64URL_NOPAD.encode(&[1; 32]);
    assert!(whole.contains(&seed));
    let wrong_type = whole.replace(
        "\"label\":\"db\",\"network\":\"home\"",
        &format!("\"label\":[\"{seed}\"],\"network\":\"home\""),
    );
    let short_key = whole.replace(&seed, &seed[1..]);
    let cases = [
        &whole[..whole.len() / 2],
        "",
        "garbage",
        "[]",
        &wrong_type,
        &short_key,
    ];
    for content in cases {
        fs::write(&file, content).unwrap();
        let error = dir.load_device().unwrap_err();
        assert!(matches!(error, StateError::Corrupt { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(file.to_str().unwrap()), "{text}");
        assert!(text.contains("overlan logout"), "{text}");
        assert!(!text.contains(&seed[1..]), "{text}");
    }
    // The way out works on a damaged file.
    dir.remove_device().unwrap();
    assert!(dir.load_device().unwrap().is_none());
}

#[test]
fn a_file_of_another_version_says_so_even_if_its_value_is_not_understood() {
    let Fixture { dir, _root } = fixture();
    let file = dir.path().join(SERVES);
    fs::write(&file, r#"{"schema_version":2,"value":["something new"]}"#).unwrap();
    let text = dir.load_serves().unwrap_err().to_string();
    assert!(text.contains("schema version 2"), "{text}");
    assert!(text.contains("add the services again"), "{text}");
}

#[test]
fn a_turned_bit_is_noticed_wherever_it_lies() {
    let Fixture { dir, _root } = fixture();
    let known = KnownPeer {
        identity: IdentityKey([4; 32]),
        named: UnixTime::from_secs(5),
    };
    let peers = BTreeMap::from([(DeviceId([3; 16]), known)]);
    dir.save_known_peers(&peers).unwrap();
    let file = dir.path().join(KNOWN_PEERS);
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut turned = whole.clone();
        turned[at] ^= 1;
        fs::write(&file, &turned).unwrap();
        // Where it changes no value, as in a name that is not needed, nothing is lost.
        match dir.load_known_peers() {
            Ok(loaded) => assert_eq!(loaded, peers, "byte {at}"),
            Err(error) => assert!(matches!(error, StateError::Corrupt { .. }), "{error:?}"),
        }
    }
    // A file of an earlier version has no sum.
    fs::write(&file, r#"{"schema_version":1,"value":{}}"#).unwrap();
    assert!(dir.load_known_peers().unwrap().is_empty());
}

#[test]
fn a_damaged_copy_of_what_the_controller_has_is_none() {
    let Fixture { dir, _root } = fixture();
    for content in ["", "{", r#"{"schema_version":1,"value":[]}"#] {
        fs::write(dir.path().join(TICKET), content).unwrap();
        fs::write(dir.path().join(NETMAP), content).unwrap();
        assert!(dir.load_ticket().unwrap().is_none());
        assert!(dir.load_netmap().unwrap().is_none());
    }
}

#[test]
fn an_endless_file_is_not_read_whole() {
    let Fixture { dir, _root } = fixture();
    let file = File::create(dir.path().join(SERVES)).unwrap();
    file.set_len(FILE_MAX + 10).unwrap();
    let text = dir.load_serves().unwrap_err().to_string();
    assert!(text.contains("larger than"), "{text}");
}

#[test]
fn logging_out_forgets_device_ticket_and_netmap_but_not_what_is_served() {
    let Fixture { dir, _root } = fixture();
    dir.save_device(&device()).unwrap();
    dir.save_ticket(&TicketResponse {
        ticket: "t".to_owned(),
        expires: UnixTime::from_secs(1),
        networks: Vec::new(),
    })
    .unwrap();
    dir.save_serves(&[Serve::tcp(1, "127.0.0.1:1".parse::<Target>().unwrap())])
        .unwrap();
    dir.remove_device().unwrap();
    assert!(dir.load_device().unwrap().is_none());
    assert!(dir.load_ticket().unwrap().is_none());
    assert_eq!(dir.load_serves().unwrap().len(), 1);
}

#[test]
fn one_directory_is_for_one_up() {
    let Fixture { dir, _root } = fixture();
    let first = dir.lock().unwrap();
    let error = dir.lock().unwrap_err();
    assert!(matches!(error, StateError::InUse { .. }));
    assert!(error.to_string().contains("overlan down"), "{error}");
    drop(first);
    dir.lock().unwrap();
}

#[test]
fn secrets_are_not_in_debug_output() {
    let text = format!("{:?}", device());
    let secrets = [
        BASE64URL_NOPAD.encode(&[1; 32]),
        BASE64URL_NOPAD.encode(&[2; 32]),
        "2, 2, 2".to_owned(),
        "1, 1, 1".to_owned(),
    ];
    for secret in secrets {
        assert!(!text.contains(&secret), "{text}");
    }
}

#[test]
fn a_directory_that_is_only_named_is_not_made_and_reads_as_empty() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("mistyped");
    let named = StateDir::existing(&path).unwrap();
    assert!(!named.exists());
    assert!(named.load_device().unwrap().is_none());
    assert!(named.load_serves().unwrap().is_empty());
    named.remove_device().unwrap();
    named.save_serves(&[]).unwrap_err();
    assert!(named.lock().is_err());
    assert!(!path.exists());
    // One that exists is held against the same rules as ever.
    let open = StateDir::open(&path).unwrap();
    assert!(open.exists());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = StateDir::existing(&path).unwrap_err();
    assert!(matches!(refused, StateError::Unsafe { .. }), "{refused}");
}

#[test]
fn what_was_half_written_does_not_outlive_the_attempt_nor_the_device() {
    let Fixture { dir, _root } = fixture();
    let part = dir.path().join(format!(".{DEVICE}.part"));
    // A file cannot take the place of a directory.
    fs::create_dir(dir.path().join(DEVICE)).unwrap();
    let failed = dir.save_device(&device()).unwrap_err().to_string();
    assert!(
        failed.contains(DEVICE) && !failed.contains(".part"),
        "{failed}"
    );
    assert!(!part.exists());
    fs::remove_dir(dir.path().join(DEVICE)).unwrap();

    // As a crash leaves it.
    fs::write(&part, "keys").unwrap();
    dir.remove_device().unwrap();
    assert!(!part.exists());
}
