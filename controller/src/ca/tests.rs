use super::*;
use std::os::unix::fs::PermissionsExt;

use overlan_transport::tls::{self, ServerTrust};
use rustls_pki_types::ServerName;

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

const DAY: Duration = Duration::from_secs(DAY_SECS);

/// Says whether a client that trusts this CA takes the server for the controller.
async fn is_taken(server: &ServerIdentity, trusted: &[Fingerprint]) -> bool {
    let alpn = overlan_protocol::ALPN_CONTROLLER;
    let config = tls::client_config(&ServerTrust::DeploymentCa(trusted.to_vec()), alpn);
    let shown = tls::server_config(server.chain.clone(), server.key.clone_key(), alpn).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("one.example").unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let acceptor = tokio_rustls::TlsAcceptor::from(shown);
    let (client, _) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    client.is_ok()
}

#[tokio::test]
async fn a_rotated_ca_is_known_by_both_pins_until_the_one_before_ends() {
    let dir = tempfile::tempdir().unwrap();
    let names = names(&["one.example"]);
    // Today, as the client's clock is the real one here.
    let now = crate::clock::wall();
    let ends = now + 30 * DAY;
    let old = load_or_make(dir.path(), &names, now, None).unwrap();
    assert_eq!(old.cas(), [old.ca]);
    rotate(dir.path(), now, ends).unwrap();
    // The database still knows the old one if the controller died after the write.
    let new = load_or_make(dir.path(), &names, now, Some(old.ca)).unwrap();
    assert_eq!(new.cas(), [new.ca, old.ca]);
    assert_eq!(new.previous, Some((old.ca, ends)));
    for (trusted, taken) in [
        (vec![old.ca], true),
        (vec![new.ca], true),
        (vec![new.ca, old.ca], true),
        (vec![Fingerprint([7; 32])], false),
    ] {
        assert_eq!(is_taken(&new, &trusted).await, taken, "{trusted:?}");
    }
    // Who knows the new one only is not fooled by the old one's key.
    assert!(!is_taken(&old, &[new.ca]).await);

    let last = load_or_make(dir.path(), &names, ends - SECOND, Some(new.ca)).unwrap();
    assert_eq!(last.chain, new.chain);
    let ended = load_or_make(dir.path(), &names, ends, Some(new.ca)).unwrap();
    assert_eq!((ended.cas(), ended.chain.len()), (vec![new.ca], 2));
    assert!(!is_taken(&ended, &[old.ca]).await);
    assert!(is_taken(&ended, &[new.ca]).await);
}

#[test]
fn a_third_ca_waits_until_the_first_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let names = names(&["one.example"]);
    let first = load_or_make(dir.path(), &names, NOW, None).unwrap();
    rotate(dir.path(), NOW, NOW + DAY).unwrap();
    let file = std::fs::read(dir.path().join(CA_FILE)).unwrap();
    let refused = rotate(dir.path(), NOW + DAY - SECOND, NOW + 2 * DAY);
    assert!(matches!(refused, Err(RotateCaError::TooSoon { ends }) if ends == NOW + DAY));
    assert_eq!(std::fs::read(dir.path().join(CA_FILE)).unwrap(), file);
    let second = load_or_make(dir.path(), &names, NOW + DAY, Some(first.ca)).unwrap();
    rotate(dir.path(), NOW + DAY, NOW + 2 * DAY).unwrap();
    let third = load_or_make(dir.path(), &names, NOW + DAY, Some(second.ca)).unwrap();
    assert_eq!(third.cas(), [third.ca, second.ca]);
    assert!(load_or_make(dir.path(), &names, NOW + DAY, Some(first.ca)).is_err());
    // The old key is not kept anywhere.
    let text = String::from_utf8(std::fs::read(dir.path().join(CA_FILE)).unwrap()).unwrap();
    assert_eq!(text.matches("private_key").count(), 1);
}

#[test]
fn a_server_certificate_of_the_ca_before_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let names = names(&["one.example"]);
    let first = load_or_make(dir.path(), &names, NOW, None).unwrap();
    let leaf = std::fs::read(dir.path().join(LEAF_FILE)).unwrap();
    rotate(dir.path(), NOW, NOW + DAY).unwrap();
    let second = load_or_make(dir.path(), &names, NOW, Some(first.ca)).unwrap();
    assert_ne!(first.chain[0], second.chain[0]);
    // A crash may leave the old one, also for longer than the CA before lives.
    std::fs::write(dir.path().join(LEAF_FILE), leaf).unwrap();
    let again = load_or_make(dir.path(), &names, NOW + 2 * DAY, Some(second.ca)).unwrap();
    assert_ne!(first.chain[0], again.chain[0]);
}
