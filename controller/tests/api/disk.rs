//! A full disk: failures are reported, and later writes succeed.

use std::path::{Path, PathBuf};
use std::process::Command;

use overlan_protocol::api::{AuthKeyRequest, AuthKeyResponse, ProblemKind, path};

use tokio::time::timeout;

use crate::lab::{Lab, WITHIN, fast, refused};

/// A small file system of its own; needs root.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: PathBuf) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=3m,mode=0700", "tmpfs"])
            .arg(&at)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(at))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Said past the test harness, which shows the output of failures only.
fn skipped(why: &str) {
    use std::io::Write;
    let line = format!("\nskipped: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Takes all the room that is left.
fn fill(dir: &Path) -> PathBuf {
    use std::io::Write;
    let file = dir.join("fill");
    let mut open = std::fs::File::create(&file).unwrap();
    while open.write_all(&[0; 4_096]).is_ok() {}
    file
}

/// A key with a long note: a commit of several pages.
fn request() -> AuthKeyRequest {
    AuthKeyRequest {
        note: "n".repeat(100),
        ..AuthKeyRequest::default()
    }
}

#[tokio::test]
async fn the_controller_writes_again_when_the_full_disk_has_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(dir.path().join("data")) else {
        return skipped("mounting a tmpfs needs root");
    };
    let lab = Lab::start_in(dir, fast()).await;
    let owner = lab.set_up().await;
    let mut connection = lab.person(&owner).await;
    let fill = fill(&disk.0);
    let mut failed = None;
    for _ in 0..2_000 {
        let made: Result<AuthKeyResponse, _> =
            connection.post(path::AUTH_KEYS, &request(), WITHIN).await;
        if made.is_err() {
            failed = Some(made);
            break;
        }
    }
    assert_eq!(
        refused(failed.expect("the disk is full")),
        ProblemKind::Internal
    );
    let ready = async || lab.operator("/readyz").await;
    let answer = ready().await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("cannot write"), "{answer}");
    let metrics = lab.operator("/metrics").await;
    assert!(
        metrics.contains("\noverlan_controller_can_write 0\n"),
        "{metrics}"
    );
    assert!(
        lab.operator("/healthz")
            .await
            .starts_with("HTTP/1.1 200 OK")
    );
    std::fs::remove_file(fill).unwrap();
    let mut connection = lab.person(&owner).await;
    let made: AuthKeyResponse = connection
        .post(path::AUTH_KEYS, &request(), WITHIN)
        .await
        .unwrap();
    assert!(!made.summary.id.is_empty());
    let again = async {
        while !ready().await.starts_with("HTTP/1.1 200 OK") {
            tokio::task::yield_now().await;
        }
    };
    timeout(WITHIN, again)
        .await
        .expect("it says that it writes again");
}
