use std::fs;
use std::os::unix::fs::PermissionsExt;

use overlan_protocol::api::RelayOrders;
use overlan_protocol::key::RelayId;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn private_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    dir
}

#[test]
fn keys_are_made_once_and_are_the_owners_alone() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("a/relay");
    let state = StateDir::open(&dir).unwrap();
    let (identity, tls) = (state.identity().unwrap(), state.tls().unwrap());
    let again = StateDir::open(&dir).unwrap();
    assert_eq!(again.identity().unwrap().public(), identity.public());
    assert_eq!(again.tls().unwrap().pin, tls.pin);
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join(IDENTITY)), 0o600);
    assert_eq!(mode(&dir.join(TLS_KEY)), 0o600);
}

#[test]
fn a_registration_comes_back_and_leaves_no_temporary_file() {
    let dir = private_dir();
    let state = StateDir::open(dir.path()).unwrap();
    let identity = state.identity().unwrap().public();
    assert_eq!(state.registration(identity).unwrap(), None);
    let answer = RelayRegisterResponse {
        relay: RelayId([1; 16]),
        name: "ams-1".to_owned(),
        orders: RelayOrders {
            version: 7,
            lineage: None,
            holders: Vec::new(),
            ticket_keys: Default::default(),
            revoked: Vec::new(),
            cas: Vec::new(),
        },
    };
    let mut join: JoinString = format!("https://c.example#sha256:{}", Fingerprint([1; 32]))
        .parse()
        .unwrap();
    join.learn(&[Fingerprint([2; 32]), Fingerprint([1; 32])]);
    let registration = Registration {
        answer: answer.clone(),
        join: Some(join),
    };
    // What a crash in the middle of a write leaves behind.
    fs::write(dir.path().join(".registration.json.part"), "half").unwrap();
    state.store_registration(identity, &registration).unwrap();
    assert_eq!(
        state.registration(identity).unwrap(),
        Some(registration.clone())
    );
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, [IDENTITY, REGISTRATION]);
    // One of an older version does not tell its key.
    let bytes = serde_json::to_vec(&answer).unwrap();
    fs::write(dir.path().join(REGISTRATION), bytes).unwrap();
    let older = Registration { answer, join: None };
    assert_eq!(state.registration(identity).unwrap(), Some(older));
}

/// A key of 32 other bytes is a good key, and the controller does not know it.
#[test]
fn a_changed_identity_is_found_before_the_controller_refuses_it() {
    let dir = private_dir();
    let state = StateDir::open(dir.path()).unwrap();
    let answer = RelayRegisterResponse {
        relay: RelayId([1; 16]),
        name: "ams-1".to_owned(),
        orders: RelayOrders {
            version: 7,
            lineage: None,
            holders: Vec::new(),
            ticket_keys: Default::default(),
            revoked: Vec::new(),
            cas: Vec::new(),
        },
    };
    let identity = state.identity().unwrap().public();
    let registration = Registration { answer, join: None };
    state.store_registration(identity, &registration).unwrap();
    let file = dir.path().join(IDENTITY);
    let mut seed = fs::read(&file).unwrap();
    seed[16] ^= 1;
    fs::write(&file, seed).unwrap();
    let identity = state.identity().unwrap().public();
    let text = state.registration(identity).unwrap_err().to_string();
    assert!(
        text.contains(IDENTITY) && text.contains("relay token"),
        "{text}"
    );
}

#[test]
fn a_directory_that_others_may_enter_is_refused_and_left_as_it_is() {
    let outer = tempfile::tempdir().unwrap();
    for bits in [0o750, 0o755, 0o777, 0o701, 0o710, 0o1777] {
        let dir = outer.path().join(format!("{bits:o}"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(bits)).unwrap();
        let text = StateDir::open(&dir).unwrap_err().to_string();
        let way_out = match bits & 0o1000 {
            0 => "chmod 700",
            _ => "another --state-dir",
        };
        assert!(text.contains(way_out), "{text}");
        assert_eq!(mode(&dir), bits & 0o777);
    }
}

#[test]
fn a_damaged_file_is_named_with_a_remedy() {
    let dir = private_dir();
    let state = StateDir::open(dir.path()).unwrap();
    for (name, remedy) in [
        (IDENTITY, "relay token"),
        (TLS_KEY, "remove the file"),
        (REGISTRATION, "relay token"),
    ] {
        fs::write(dir.path().join(name), "garbage").unwrap();
        let result = match name {
            IDENTITY => state.identity().map(|_| ()),
            TLS_KEY => state.tls().map(|_| ()),
            _ => {
                let identity = IdentitySecret::from_seed([1; KEY_LEN]).public();
                state.registration(identity).map(|_| ())
            }
        };
        let text = result.unwrap_err().to_string();
        assert!(text.contains(name) && text.contains(remedy), "{text}");
        assert!(!text.contains("garbage"), "{text}");
    }
}
