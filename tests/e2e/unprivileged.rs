//! The promise of the product's first sentence: a client without root, without a capability,
//! without a TUN device, on a root file system that it cannot write, still brings curl into the
//! overlay.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::PathBuf;
use std::process::Command;

use crate::lab::{DOMAIN, Device, Lab};
use crate::process::{LONGEST, Program, command, installed, run, skipped, until};
use crate::service::Service;

#[test]
fn a_client_with_no_privilege_at_all_reaches_the_overlay() {
    if !installed(&["curl", "unshare", "setpriv", "mount"]) {
        return;
    }
    let Some(jail) = Jail::make() else { return };
    let page = Service::http(PAGE);
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());

    let key = lab.auth_key(&[]);
    let state = jail.state.to_str().unwrap();
    let doors = ["--socks", "127.0.0.1:0", "--dns", "127.0.0.1:0"];
    let up = [
        "up",
        "--hostname",
        "jailed",
        "--server",
        &lab.controller.join,
        "--auth-key-file",
        "-",
        "--state-dir",
        state,
    ];
    let mut up = jail.command(&jail.binary, &[&up[..], &doors].concat());
    let jailed = Device::ready(
        Program::start("jailed", &lab.path("."), &mut up, &key),
        &jail.state,
    );

    jail.assert_powerless(jailed.program.id());
    let address = run(
        &mut jail.command(&jail.binary, &["ip", "-4", "--state-dir", state]),
        "",
    )
    .ok();
    assert_eq!(address, jailed.address);

    let curl = jailed.curl_args(&[&format!("http://web.home.{DOMAIN}/")]);
    let reached = until("web online at the jailed device", LONGEST, || {
        let outcome = run(&mut jail.command("curl", &curl), "");
        // SOCKS reply 4: it has not heard yet that web is online.
        (outcome.code != Some(97)).then_some(outcome)
    });
    assert_eq!(reached.ok(), PAGE.trim_end());

    // And the other way: its service is reached from outside.
    let target = page.address().to_string();
    let serve = ["serve", "tcp", "8080", &target, "--state-dir", state];
    run(&mut jail.command(&jail.binary, &serve), "").ok();
    web.sees(&jailed, true);
    let url = format!("http://jailed.home.{DOMAIN}:8080/");
    assert_eq!(web.curl(&[&url]).ok(), PAGE.trim_end());
}

/// The way to run programs without privileges, and the only directory that they may write.
struct Jail {
    /// A copy of the binary that everybody may execute.
    binary: PathBuf,
    state: PathBuf,
    namespaces: &'static [&'static str],
    user: &'static [&'static str],
    _directory: tempfile::TempDir,
}

impl Jail {
    /// `None`, and said so, where the system allows no mounts of our own.
    fn make() -> Option<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let (namespaces, user): (&[_], &[_]) = if is_root {
            (
                &["--mount"],
                &["--reuid=65534", "--regid=65534", "--clear-groups"],
            )
        } else {
            (
                &["--user", "--map-current-user", "--mount", "--keep-caps"],
                &[],
            )
        };
        let trial = run(command("unshare").args(namespaces).arg("true"), "");
        if trial.code != Some(0) {
            skipped("unshare --mount not allowed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let jail = Self {
            binary: directory.path().join("overlan"),
            state: directory.path().join("state"),
            namespaces,
            user,
            _directory: directory,
        };
        fs::copy(env!("CARGO_BIN_EXE_overlan"), &jail.binary).unwrap();
        DirBuilder::new().mode(0o700).create(&jail.state).unwrap();
        if is_root {
            chown(&jail.state, Some(NOBODY), Some(NOBODY)).unwrap();
            let directory = jail.state.parent().unwrap();
            fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Some(jail)
    }

    /// `program` with `args`, without privileges. The process that is started becomes the program:
    /// their id is the same.
    fn command(&self, program: impl AsRef<OsStr>, args: &[impl AsRef<OsStr>]) -> Command {
        let mut jailed = command("unshare");
        jailed
            .args(self.namespaces)
            .args(["--", "sh", "-euc", ENTER, "sh"])
            .arg(&self.state);
        jailed.arg("setpriv").args(self.user);
        jailed.args([
            "--no-new-privs",
            "--inh-caps=-all",
            "--ambient-caps=-all",
            "--bounding-set=-all",
            "--",
        ]);
        jailed.arg(program).args(args);
        jailed
    }

    /// The kernel's report of the process `id`, and the rights of a program in its place.
    #[track_caller]
    fn assert_powerless(&self, id: u32) {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let field = |name: &str| {
            let found = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found
                .unwrap_or_else(|| panic!("no {name} in {status}"))
                .trim()
                .to_owned()
        };
        assert_eq!(field("Name"), "overlan", "it became the program");
        for user in field("Uid").split_whitespace() {
            assert_ne!(user, "0", "{status}");
        }
        for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(
                field(capabilities).trim_start_matches('0'),
                "",
                "{capabilities} in {status}"
            );
        }
        assert_eq!(field("NoNewPrivs"), "1", "{status}");

        // The same view of the file system, tried out by a program that says what happened.
        for folder in ["/", "/tmp", "/var/tmp", "/dev/shm"] {
            let tried = run(
                &mut self.command("touch", &[&format!("{folder}/overlan-was-here")]),
                "",
            );
            assert_eq!(tried.code, Some(1), "{tried:#?}");
            assert!(tried.stderr.contains("Read-only file system"), "{tried:#?}");
        }
        let in_state = self.state.join("touched");
        run(
            &mut self.command("touch", &[in_state.to_str().unwrap()]),
            "",
        )
        .ok();
        let tun = run(&mut self.command("test", &["-e", "/dev/net/tun"]), "");
        assert_eq!(tun.code, Some(1), "/dev/net/tun exists: {tun:#?}");
    }
}

/// Makes every mount read-only but the first argument's, hides TUN, and runs the other arguments.
/// Mounts that do not let themselves be changed, such as locked ones, stay; what must be read-only
/// is tried out by the test.
const ENTER: &str = r#"
state=$1; shift
mount --make-rprivate /
mount --bind "$state" "$state"
if [ -d /dev/net ]; then mount -t tmpfs -o mode=755 none /dev/net; fi
cut -d ' ' -f 5 /proc/self/mountinfo | while read -r point; do
    [ "$point" = "$state" ] || mount -o remount,bind,ro "$point" 2>/dev/null || :
done
exec "$@"
"#;

const PAGE: &str = "reached without privileges\n";

/// The user `nobody`.
const NOBODY: u32 = 65_534;
