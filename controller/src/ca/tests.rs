use super::*;
use std::os::unix::fs::PermissionsExt;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn the_ca_stays_and_the_leaf_is_renewed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let names = names(&["controller.example", "127.0.0.1", "::1"]);
    let first = load_or_make(dir.path(), &names, NOW, None).unwrap();
    let same = load_or_make(dir.path(), &names, NOW + LEAF_RENEW - SECOND, None).unwrap();
    assert_eq!(first.chain, same.chain);
    let renewed = load_or_make(dir.path(), &names, NOW + LEAF_RENEW, None).unwrap();
    assert_ne!(first.chain[0], renewed.chain[0]);
    assert_eq!(first.chain[1], renewed.chain[1]);
    assert_eq!(first.ca, renewed.ca);
}

#[test]
fn other_names_make_another_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let first = load_or_make(dir.path(), &names(&["one.example"]), NOW, None).unwrap();
    let second = load_or_make(dir.path(), &names(&["two.example"]), NOW, None).unwrap();
    assert_ne!(first.chain[0], second.chain[0]);
    assert_eq!(first.ca, second.ca);
}

#[test]
fn the_files_are_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    load_or_make(dir.path(), &names(&["one.example"]), NOW, None).unwrap();
    for file in [CA_FILE, LEAF_FILE] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_damaged_ca_file_is_an_error_and_not_a_new_ca() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(CA_FILE), "{").unwrap();
    assert!(load_or_make(dir.path(), &names(&["one.example"]), NOW, None).is_err());
}

/// Changes one character of a base64 field in a file.
fn flip(file: &Path, field: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    let at = text.find(&format!("\"{field}\": \"")).unwrap() + field.len() + 5 + 60;
    let other = if &text[at..=at] == "A" { "B" } else { "A" };
    std::fs::write(file, format!("{}{other}{}", &text[..at], &text[at + 1..])).unwrap();
}

#[test]
fn one_wrong_character_in_the_ca_is_noticed() {
    for field in ["certificate", "private_key"] {
        let dir = tempfile::tempdir().unwrap();
        let names = names(&["one.example"]);
        let made = load_or_make(dir.path(), &names, NOW, None).unwrap();
        flip(&dir.path().join(CA_FILE), field);
        let error = load_or_make(dir.path(), &names, NOW, Some(made.ca)).unwrap_err();
        assert!(
            error.to_string().contains("ca.json: it is damaged"),
            "{error}"
        );
    }
}

#[test]
fn the_ca_of_another_deployment_is_refused_and_so_is_a_lost_one() {
    let dir = tempfile::tempdir().unwrap();
    let names = names(&["one.example"]);
    let made = load_or_make(dir.path(), &names, NOW, None).unwrap();
    assert!(load_or_make(dir.path(), &names, NOW, Some(made.ca)).is_ok());
    assert!(load_or_make(dir.path(), &names, NOW, Some(Fingerprint([7; 32]))).is_err());
    std::fs::remove_file(dir.path().join(CA_FILE)).unwrap();
    let error = load_or_make(dir.path(), &names, NOW, Some(made.ca)).unwrap_err();
    assert!(error.to_string().contains("it is missing"), "{error}");
}

#[test]
fn a_damaged_server_certificate_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let names = names(&["one.example"]);
    let made = load_or_make(dir.path(), &names, NOW, None).unwrap();
    for damage in ["", "{", "garbage"] {
        std::fs::write(dir.path().join(LEAF_FILE), damage).unwrap();
        let again = load_or_make(dir.path(), &names, NOW, Some(made.ca)).unwrap();
        assert_eq!(again.ca, made.ca);
    }
    flip(&dir.path().join(LEAF_FILE), "private_key");
    load_or_make(dir.path(), &names, NOW, Some(made.ca)).unwrap();
}
