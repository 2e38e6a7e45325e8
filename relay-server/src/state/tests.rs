use std::os::unix::fs::PermissionsExt;

use overlan_protocol::api::RelayOrders;
use overlan_protocol::key::RelayId;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
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
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    assert_eq!(state.registration().unwrap(), None);
    let registration = RelayRegisterResponse {
        relay: RelayId([1; 16]),
        name: "ams-1".to_owned(),
        orders: RelayOrders {
            version: 7,
            lineage: None,
            holders: Vec::new(),
            ticket_keys: Default::default(),
            revoked: Vec::new(),
        },
    };
    // What a crash in the middle of a write leaves behind.
    fs::write(dir.path().join(".registration.json.new"), "half").unwrap();
    state.store_registration(&registration).unwrap();
    assert_eq!(state.registration().unwrap(), Some(registration));
    let names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, [REGISTRATION]);
}

#[test]
fn a_damaged_file_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
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
            _ => state.registration().map(|_| ()),
        };
        let text = result.unwrap_err().to_string();
        assert!(text.contains(name) && text.contains(remedy), "{text}");
        assert!(!text.contains("garbage"), "{text}");
    }
}
