use super::*;
use std::os::unix::fs::PermissionsExt;

const NOW: u64 = 1_800_000_000;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_ca_stays_and_the_leaf_is_renewed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let names = names(&["controller.example", "127.0.0.1", "::1"]);
    let first = load_or_make(dir.path(), &names, NOW).unwrap();
    let same = load_or_make(dir.path(), &names, NOW + LEAF_RENEW_SECS - 1).unwrap();
    assert_eq!(first.chain, same.chain);
    let renewed = load_or_make(dir.path(), &names, NOW + LEAF_RENEW_SECS).unwrap();
    assert_ne!(first.chain[0], renewed.chain[0]);
    assert_eq!(first.chain[1], renewed.chain[1]);
    assert_eq!(first.ca, renewed.ca);
}

#[test]
fn other_names_make_another_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let first = load_or_make(dir.path(), &names(&["one.example"]), NOW).unwrap();
    let second = load_or_make(dir.path(), &names(&["two.example"]), NOW).unwrap();
    assert_ne!(first.chain[0], second.chain[0]);
    assert_eq!(first.ca, second.ca);
}

#[test]
fn the_files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    load_or_make(dir.path(), &names(&["one.example"]), NOW).unwrap();
    for file in [CA_FILE, LEAF_FILE] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_damaged_ca_file_is_an_error_and_not_a_new_ca() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(CA_FILE), "{").unwrap();
    assert!(load_or_make(dir.path(), &names(&["one.example"]), NOW).is_err());
}
