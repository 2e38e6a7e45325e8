//! A data directory that is not what a controller left there: refused with the file and the way
//! out, never taken for a new one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use overlan_protocol::api::{Health, path};

use crate::lab::{Lab, WITHIN};

/// A deployment that is set up and stopped.
async fn stopped() -> Lab {
    let mut lab = Lab::start().await;
    let owner = lab.set_up().await;
    lab.reusable_key(&owner).await;
    lab.stop().await;
    lab
}

async fn refused(lab: &mut Lab) -> String {
    let started = lab.try_run().await;
    started.expect_err("it must not start").to_string()
}

fn file(lab: &Lab, name: &str) -> PathBuf {
    lab.data_dir().join(name)
}

#[tokio::test]
async fn a_deployment_without_its_database_is_not_a_new_one() {
    for how in ["missing", "empty", "only the header"] {
        let mut lab = stopped().await;
        let database = file(&lab, "controller.db");
        match how {
            "missing" => fs::remove_file(&database).unwrap(),
            "empty" => fs::write(&database, "").unwrap(),
            _ => {
                // As a copy without the write-ahead log looks that has all tables: a header and one
                // empty page.
                fs::remove_file(&database).unwrap();
                lab.sql("PRAGMA journal_mode = WAL").await;
                lab.sql("PRAGMA user_version = 0").await;
                assert!(fs::metadata(&database).unwrap().len() > 0);
            }
        }
        let answer = refused(&mut lab).await;
        assert!(answer.contains("is missing or empty"), "{how}: {answer}");
        assert!(answer.contains("ca.json"), "{how}: {answer}");
        assert!(
            answer.contains("overlan controller restore"),
            "{how}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_copy_of_the_database_without_its_log_has_an_owner() {
    let mut lab = Lab::start().await;
    // Its tables lie in the file, and nothing else yet.
    lab.restart().await;
    lab.set_up().await;
    let copy = tempfile::tempdir().unwrap();
    fs::copy(file(&lab, "controller.db"), copy.path().join("copied")).unwrap();
    lab.stop().await;
    for name in ["controller.db-wal", "controller.db-shm"] {
        let _ = fs::remove_file(file(&lab, name));
    }
    fs::copy(copy.path().join("copied"), file(&lab, "controller.db")).unwrap();
    lab.run().await;
    assert!(lab.setup_token.is_none(), "nobody may set it up once more");
    let mut connection = lab.connect().await;
    let health: Health = connection.get(path::HEALTH, WITHIN).await.unwrap();
    assert!(health.set_up);
}

#[tokio::test]
async fn a_database_that_is_damaged_or_of_another_program_is_refused() {
    let mut lab = stopped().await;
    let database = file(&lab, "controller.db");
    let whole = fs::read(&database).unwrap();
    let mut truncated = whole.clone();
    truncated.truncate(whole.len() / 2);
    let mut torn = whole.clone();
    let middle = whole.len() / 4096 / 2 * 4096;
    torn[middle..middle + 4096].fill(0xa5);
    for (what, bytes) in [
        (
            "garbage",
            b"not a database, but long enough to be looked at".repeat(30),
        ),
        ("half of it", truncated),
        ("a page of noise", torn),
    ] {
        fs::write(&database, bytes).unwrap();
        let answer = refused(&mut lab).await;
        assert!(answer.contains("it is damaged"), "{what}: {answer}");
        assert!(answer.contains("controller.db"), "{what}: {answer}");
    }
    fs::remove_file(&database).unwrap();
    lab.sql("CREATE TABLE moz_cookies (id INTEGER)").await;
    let answer = refused(&mut lab).await;
    assert!(answer.contains("another program"), "{answer}");
    fs::write(&database, whole).unwrap();
    lab.run().await;
}

#[tokio::test]
async fn damaged_keys_are_named_with_their_way_out() {
    let mut lab = stopped().await;
    for (name, way_out) in [
        ("ca.json", "overlan controller restore"),
        ("names-ca.json", "move it away"),
        ("ticket-key.json", "move it away"),
    ] {
        let path = file(&lab, name);
        let whole = fs::read_to_string(&path).unwrap();
        let mut flipped = whole.clone().into_bytes();
        let secret = whole.rfind("\": \"").unwrap_or(0).min(whole.len() - 60) + 40;
        flipped[secret] ^= 1;
        for damaged in [
            String::new(),
            whole[..whole.len() / 2].to_owned(),
            format!("{whole}garbage"),
        ] {
            fs::write(&path, &damaged).unwrap();
            let answer = refused(&mut lab).await;
            assert!(
                answer.contains(name) && answer.contains(way_out),
                "{answer}"
            );
        }
        fs::write(&path, &whole).unwrap();
    }
    // A missing CA is never replaced while devices trust it.
    let ca = file(&lab, "ca.json");
    let whole = fs::read(&ca).unwrap();
    fs::remove_file(&ca).unwrap();
    let answer = refused(&mut lab).await;
    assert!(answer.contains("it is missing"), "{answer}");
    fs::write(&ca, whole).unwrap();
    // The server's own certificate is.
    let join = lab.join.clone();
    fs::write(file(&lab, "server.json"), "garbage").unwrap();
    lab.run().await;
    assert_eq!(lab.join.ca, join.ca);
}

#[tokio::test]
async fn another_key_under_the_same_name_is_damage() {
    let mut lab = stopped().await;
    let path = file(&lab, "ticket-key.json");
    let mut key: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    key["seed"] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into();
    fs::write(&path, key.to_string()).unwrap();
    let answer = refused(&mut lab).await;
    assert!(answer.contains("it is damaged"), "{answer}");
    fs::remove_file(&path).unwrap();
    lab.run().await;
}

#[tokio::test]
async fn a_directory_of_others_stays_as_it_is() {
    let mut lab = stopped().await;
    let dir = lab.data_dir();
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
    let answer = refused(&mut lab).await;
    assert!(
        answer.contains(&format!("chmod 700 {}", dir.display())),
        "{answer}"
    );
    let mode = fs::metadata(&dir).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "nobody changed it");
    fs::set_permissions(&dir, PermissionsExt::from_mode(0o700)).unwrap();
    lab.run().await;
}
