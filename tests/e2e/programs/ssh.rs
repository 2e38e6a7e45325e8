//! OpenSSH through the SOCKS proxy to an sshd of this test, and what people do over it: commands,
//! scp, git.

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::lab::{DOMAIN, Lab};
use crate::process::{Owned, command, find, installed, path, run};
use crate::service::Service;

#[test]
fn ssh_scp_and_git_work_through_socks() {
    if !installed(&["ssh", "sshd", "ssh-keygen", "scp", "git", "nc"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let keys = Keys::make(directory.path());
    let sshd = keys.serve();
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(22, sshd.address());
    let config = keys.client_config(&format!("nc -X 5 -x {} %h %p", laptop.socks));

    commands(&config);
    copies(&config, directory.path());
    repositories(&config, directory.path());
}

/// A command's input, output and exit code pass.
fn commands(config: &str) {
    let text = "a line of text that goes there and back\n".repeat(25_000);
    let there_and_back = run(
        command("ssh").args(["-F", config, "web", "cat; exit 7"]),
        &text,
    );
    assert_eq!(there_and_back.code, Some(7), "{}", there_and_back.stderr);
    assert!(there_and_back.stdout == text, "1 MB through ssh differs");
}

fn copies(config: &str, directory: &Path) {
    let (here, there, back) = (
        directory.join("here"),
        directory.join("there"),
        directory.join("back"),
    );
    fs::write(&here, super::noise(1 << 20)).unwrap();
    let remote = format!("web:{}", there.display());
    run(
        command("scp")
            .args(["-q", "-F", config])
            .arg(&here)
            .arg(&remote),
        "",
    )
    .ok();
    run(
        command("scp")
            .args(["-q", "-F", config, &remote])
            .arg(&back),
        "",
    )
    .ok();
    assert!(
        fs::read(&there).unwrap() == fs::read(&here).unwrap(),
        "scp to web"
    );
    assert!(
        fs::read(&back).unwrap() == fs::read(&here).unwrap(),
        "scp from web"
    );
}

fn repositories(config: &str, directory: &Path) {
    let (origin, clone) = (directory.join("origin"), directory.join("clone"));
    let git = |at: &Path, args: &[&str]| {
        let mut git = command("git");
        git.current_dir(at)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_SSH_COMMAND", format!("ssh -F {config}"));
        git.args(["-c", "user.name=Test", "-c", "user.email=test@acme.example"])
            .args(args);
        run(&mut git, "").ok()
    };
    fs::create_dir(&origin).unwrap();
    fs::write(origin.join("bulk"), super::noise(3 << 20)).unwrap();
    fs::write(origin.join("README"), "cloned through the overlay\n").unwrap();
    git(&origin, &["init", "--quiet"]);
    git(&origin, &["add", "."]);
    git(&origin, &["commit", "--quiet", "--message", "first"]);

    let url = format!("ssh://web{}", origin.display());
    git(
        directory,
        &["clone", "--quiet", &url, clone.to_str().unwrap()],
    );
    for file in ["bulk", "README"] {
        assert!(
            fs::read(clone.join(file)).unwrap() == fs::read(origin.join(file)).unwrap(),
            "{file} differs in the clone"
        );
    }
    let head = git(&clone, &["rev-parse", "HEAD"]);
    assert_eq!(head, git(&origin, &["rev-parse", "HEAD"]));

    fs::write(clone.join("answer"), super::noise(1 << 20)).unwrap();
    git(&clone, &["add", "."]);
    git(&clone, &["commit", "--quiet", "--message", "second"]);
    git(
        &clone,
        &["push", "--quiet", "origin", "HEAD:refs/heads/answer"],
    );
    let pushed = git(&origin, &["rev-parse", "answer"]);
    assert_eq!(pushed, git(&clone, &["rev-parse", "HEAD"]));
    assert_ne!(pushed, head);
}

/// Keys and settings of both sides, in a directory of the test's own.
pub(crate) struct Keys {
    directory: PathBuf,
    user: String,
}

impl Keys {
    pub(crate) fn make(directory: &Path) -> Self {
        for key in ["host_key", "user_key"] {
            let file = directory.join(key);
            run(
                command("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(file),
                "",
            )
            .ok();
        }
        fs::copy(
            directory.join("user_key.pub"),
            directory.join("authorized_keys"),
        )
        .unwrap();
        Self {
            directory: directory.to_owned(),
            user: run(command("id").arg("-un"), "").ok(),
        }
    }

    /// An sshd for the user who runs the test, started for each connection: so the port is chosen
    /// by the system.
    pub(crate) fn serve(&self) -> Service {
        let sshd = find("sshd").expect("it was asked for above");
        if self.user == "root" {
            // A package's start script makes it, and sshd of root insists on it.
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let (config, log) = (
            self.directory.join("sshd_config"),
            self.directory.join("sshd.log"),
        );
        let lines = [
            format!("HostKey {}", self.directory.join("host_key").display()),
            format!(
                "AuthorizedKeysFile {}",
                self.directory.join("authorized_keys").display()
            ),
            format!("SetEnv PATH={}", path().display()),
            "Subsystem sftp internal-sftp".to_owned(),
            "StrictModes no".to_owned(),
            "UsePAM no".to_owned(),
            "PasswordAuthentication no".to_owned(),
            "PidFile none".to_owned(),
        ];
        fs::write(&config, lines.join("\n") + "\n").unwrap();
        Service::start(move |stream: TcpStream| {
            let log = File::options()
                .create(true)
                .append(true)
                .open(&log)
                .unwrap();
            let socket = || Stdio::from(OwnedFd::from(stream.try_clone().unwrap()));
            let mut sshd = command(&sshd);
            sshd.args(["-i", "-e", "-f"]).arg(&config);
            let child = sshd
                .stdin(socket())
                .stdout(socket())
                .stderr(log)
                .spawn()
                .unwrap();
            Owned::new(child).ended("sshd");
        })
    }

    /// A file for `ssh -F` in which `web` is the device of that name, reached by `proxy_command`.
    pub(crate) fn client_config(&self, proxy_command: &str) -> String {
        let host = format!("web.home.{DOMAIN}");
        let known_hosts = self.directory.join("known_hosts");
        let host_key = fs::read_to_string(self.directory.join("host_key.pub")).unwrap();
        fs::write(&known_hosts, format!("{host} {host_key}")).unwrap();
        let config = self.directory.join("ssh_config");
        let lines = [
            "Host web".to_owned(),
            format!("HostName {host}"),
            format!("User {}", self.user),
            format!("IdentityFile {}", self.directory.join("user_key").display()),
            format!("UserKnownHostsFile {}", known_hosts.display()),
            format!("ProxyCommand {proxy_command}"),
            "GlobalKnownHostsFile none".to_owned(),
            "IdentitiesOnly yes".to_owned(),
            "StrictHostKeyChecking yes".to_owned(),
            "BatchMode yes".to_owned(),
        ];
        fs::write(&config, lines.join("\n") + "\n").unwrap();
        config.to_str().unwrap().to_owned()
    }
}
