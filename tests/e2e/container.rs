//! The client in a real container: crun, the seccomp profile that Podman ships, a user that nobody
//! knows, a root file system with nothing in it but the program and its libraries, 64 MB.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::{DOMAIN, Device, Lab};
use crate::memory::kills;
use crate::process::{LONGEST, Outcome, Program, command, find, installed, run, skipped, until};
use crate::service::Service;

#[test]
fn a_container_with_default_confinement_reaches_the_overlay_and_is_reached() {
    let Some(runtime) = Runtime::find(&["curl", "dig"]) else {
        return;
    };
    let page = Service::http(PAGE);
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    for state in ["/state", "mem:"] {
        let name = if state == "mem:" { "box-memory" } else { "box" };
        let key = lab.auth_key(&[]);
        let mut bundle = runtime.bundle(&lab.path(""), name, &[]);
        fs::write(bundle.folder.join("volume/password"), "secret\n").unwrap();
        let settings = [
            ("OVERLAN_STATE_DIR", state),
            ("OVERLAN_SERVER", &lab.controller.join),
            ("OVERLAN_AUTH_KEY", &key),
            ("OVERLAN_HOSTNAME", name),
            ("OVERLAN_SOCKS", "127.0.0.1:0"),
            ("OVERLAN_DNS", "127.0.0.1:0"),
            ("OVERLAN_SOCKS_USER", "application"),
            ("OVERLAN_SOCKS_PASSWORD_FILE", "/state/password"),
        ];
        bundle.configure(&["/usr/bin/overlan", "up"], &settings);
        let program = Program::start(name, &lab.path(""), &mut bundle.start(), "");
        let mut device = Device::ready(program, &bundle.folder.join("volume"));
        bundle.assert_confined();

        let url = format!("http://web.home.{DOMAIN}/");
        let proxy = format!("socks5h://application:secret@{}", device.socks);
        let reached = until("web online at the container", LONGEST, || {
            let curl = ["--silent", "--fail", "--proxy", &proxy, &url];
            let outcome = run(command("curl").args(curl), "");
            // SOCKS reply 4: it has not heard yet that web is online.
            (outcome.code != Some(97)).then_some(outcome)
        });
        assert_eq!(reached.ok(), PAGE.trim_end());
        let (port, host) = (device.dns.port().to_string(), web.name.as_str());
        let dig = ["@127.0.0.1", "-p", &port, "+short", host];
        assert_eq!(run(command("dig").args(dig), "").ok(), web.address);

        if state == "/state" {
            // The health check of the image, and whatever else asks the running client.
            let overlan = |args: &[&str]| bundle.exec(&[&["/usr/bin/overlan"], args].concat());
            overlan(&["status", "--check", "ready"]).ok();
            let status: Value = serde_json::from_str(&overlan(&["status", "--json"]).ok()).unwrap();
            assert_eq!(status["memory"]["limit"], LIMIT, "{}", status["memory"]);
            assert_eq!(status["memory"]["source"], "cgroup");
            let target = page.address().to_string();
            overlan(&["serve", "tcp", "8080", &target]).ok();
            web.sees(&device, true);
            let url = format!("http://{name}.home.{DOMAIN}:8080/");
            assert_eq!(web.curl(&[&url]).ok(), PAGE.trim_end());
        }
        let killed = kills(&bundle.group);
        assert_eq!(killed, Some(0), "in {}", bundle.group);
        bundle.stop();
        assert_eq!(device.program.ended().code(), Some(0));
    }
}

#[test]
fn one_program_runs_behind_an_ephemeral_device_in_a_container() {
    let Some(runtime) = Runtime::find(&["curl"]) else {
        return;
    };
    let page = Service::http(PAGE);
    let lab = Lab::start();
    let web = lab.up("web");
    web.serve(80, page.address());
    let key = lab.auth_key(&["--ephemeral"]);
    let mut bundle = runtime.bundle(&lab.path(""), "job", &["curl"]);
    let settings = [
        ("OVERLAN_SERVER", lab.controller.join.as_str()),
        ("OVERLAN_AUTH_KEY", &key),
        ("OVERLAN_HOSTNAME", "job"),
    ];
    let url = format!("http://web.home.{DOMAIN}/");
    let curl = ["--", "/usr/bin/curl", "--silent", "--fail", "--retry", "5"];
    let line = [
        &["/usr/bin/overlan", "exec", "--ephemeral"],
        &curl[..],
        &["--retry-all-errors", &url],
    ];
    bundle.configure(&line.concat(), &settings);
    assert_eq!(run(&mut bundle.start(), "").ok(), PAGE.trim_end());
    assert!(!lab.admin(&["devices"]).contains("job"));
}

/// A container runtime that runs here.
struct Runtime {
    seccomp: Value,
}

impl Runtime {
    /// `None`, and said so, where there is none, or no right to use it.
    fn find(programs: &[&str]) -> Option<Self> {
        if !installed(&[&["crun", "ldd", "unshare"], programs].concat()) {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skipped("only root may make a container that is another user");
            return None;
        }
        let Ok(profile) = fs::read_to_string(PROFILE) else {
            skipped(&format!("{PROFILE} is not installed"));
            return None;
        };
        let profile: Value = serde_json::from_str(&profile).unwrap();
        Some(Self {
            seccomp: seccomp(&profile),
        })
    }

    /// A bundle with a root file system that holds the program, those named besides, and the
    /// libraries of all.
    fn bundle(&self, directory: &Path, name: &str, programs: &[&str]) -> Bundle {
        let folder = directory.join(format!("bundle-{name}"));
        let root = folder.join("rootfs");
        for empty in ["proc", "dev", "sys/fs/cgroup", "state", "etc", "usr/bin"] {
            fs::create_dir_all(root.join(empty)).unwrap();
        }
        let volume = folder.join("volume");
        DirBuilder::new().mode(0o700).create(&volume).unwrap();
        chown(&volume, Some(USER), Some(USER)).unwrap();
        let ours = PathBuf::from(env!("CARGO_BIN_EXE_overlan"));
        let others = programs.iter().map(|program| find(program).unwrap());
        for program in [ours].into_iter().chain(others) {
            let name = program.file_name().unwrap();
            fs::copy(&program, root.join("usr/bin").join(name)).unwrap();
            let listed = run(command("ldd").arg(&program), "").ok();
            let libraries = listed.split_whitespace().filter(|it| it.starts_with('/'));
            for library in libraries {
                let place = root.join(&library[1..]);
                fs::create_dir_all(place.parent().unwrap()).unwrap();
                fs::copy(library, place).unwrap();
            }
        }
        let id = format!("overlan-test-{}-{name}", std::process::id());
        Bundle {
            runtime: folder.join("runtime"),
            seccomp: self.seccomp.clone(),
            group: id.clone(),
            id,
            folder,
        }
    }
}

/// A profile as container engines keep it, as the kernel gets it for a process without
/// capabilities on this architecture.
fn seccomp(profile: &Value) -> Value {
    let lists = |rule: &Value, what: &str, of: &str| {
        let words = rule[what][of].as_array().cloned().unwrap_or_default();
        let words: Vec<_> = words
            .iter()
            .map(|it| it.as_str().unwrap().to_owned())
            .collect();
        words
    };
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let rules = profile["syscalls"].as_array().unwrap().iter();
    let applies = |rule: &&Value| {
        let arches = lists(rule, "includes", "arches");
        let here = arches.is_empty() || arches.iter().any(|arch| arch == own);
        here && lists(rule, "includes", "caps").is_empty()
            && !lists(rule, "excludes", "arches")
                .iter()
                .any(|arch| arch == own)
    };
    let rules: Vec<Value> = rules
        .filter(applies)
        .map(|rule| {
            let mut kept = json!({ "names": rule["names"], "action": rule["action"] });
            for part in ["args", "errnoRet"] {
                if !rule[part].is_null() {
                    kept[part] = rule[part].clone();
                }
            }
            kept
        })
        .collect();
    assert!(rules.len() > 5, "{profile}");
    json!({
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "syscalls": rules,
    })
}

/// One container and all that belongs to it; it is removed with its owner.
struct Bundle {
    id: String,
    folder: PathBuf,
    /// The directory in which the runtime keeps its notes.
    runtime: PathBuf,
    seccomp: Value,
    /// Its cgroup.
    group: String,
}

impl Bundle {
    fn configure(&mut self, args: &[&str], settings: &[(&str, &str)]) {
        let env: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let none: [&str; 0] = [];
        let ids = json!([{ "containerID": 0, "hostID": 0, "size": USER + 1 }]);
        let kinds = ["pid", "mount", "ipc", "uts", "user"];
        let namespaces: Vec<_> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        let mount = |at: &str, kind: &str, options: &[&str]| {
            let source = kind;
            json!({ "destination": at, "type": kind, "source": source, "options": options })
        };
        let config = json!({
            "ociVersion": "1.0.0",
            "root": { "path": "rootfs", "readonly": true },
            "process": {
                "user": { "uid": USER, "gid": USER },
                "cwd": "/",
                "args": args,
                "env": env,
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": none, "effective": none, "inheritable": none,
                    "permitted": none, "ambient": none,
                },
            },
            "mounts": [
                mount("/proc", "proc", &[]),
                mount("/dev", "tmpfs", &["nosuid", "mode=755", "size=64k"]),
                mount("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
                {
                    "destination": "/state",
                    "type": "bind",
                    "source": self.folder.join("volume"),
                    "options": ["bind", "nosuid", "nodev"],
                },
            ],
            "linux": {
                "namespaces": namespaces,
                "uidMappings": ids,
                "gidMappings": ids,
                "resources": { "memory": { "limit": LIMIT } },
                "cgroupsPath": format!("/{}", self.group),
                "seccomp": self.seccomp,
            },
        });
        fs::write(self.folder.join("config.json"), config.to_string()).unwrap();
    }

    /// The runtime, with a word for it. It takes a host for one of two minds about cgroups if both
    /// versions have controllers, so it does not see the second there.
    fn crun(&self, args: &[&str]) -> Command {
        let mut crun = command("unshare");
        let hide = "if [ -d /sys/fs/cgroup/memory ]; then \
                    umount /sys/fs/cgroup/unified 2>/dev/null || :; fi; exec crun \"$@\"";
        crun.args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-euc",
            hide,
            "sh",
            "--root",
        ]);
        crun.arg(&self.runtime).args(args);
        crun
    }

    /// Runs the container until its program ends.
    fn start(&self) -> Command {
        self.crun(&["run", "--bundle", self.folder.to_str().unwrap(), &self.id])
    }

    /// Runs another program in it, as the container's user and as confined, which is how engines
    /// run health checks.
    fn exec(&self, args: &[&str]) -> Outcome {
        let config = fs::read_to_string(self.folder.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&config).unwrap();
        let mut process = config["process"].take();
        process["args"] = json!(args);
        let file = self.folder.join("process.json");
        fs::write(&file, process.to_string()).unwrap();
        let exec = ["exec", "--process", file.to_str().unwrap(), &self.id];
        run(&mut self.crun(&exec), "")
    }

    /// Asks its program to end.
    fn stop(&self) {
        run(&mut self.crun(&["kill", &self.id, "TERM"]), "").ok();
    }

    /// The kernel's report of the program in it.
    #[track_caller]
    fn assert_confined(&self) {
        let state = run(&mut self.crun(&["state", &self.id]), "").ok();
        let state: Value = serde_json::from_str(&state).unwrap();
        let place = format!("/proc/{}", state["pid"]);
        let read = |file: &str| fs::read_to_string(format!("{place}/{file}")).unwrap();
        let status = read("status");
        let field = |name: &str| {
            let found = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.unwrap_or_else(|| panic!("{name}: {status}")).trim()
        };
        assert_eq!(field("Name"), "overlan");
        assert_eq!(field("Seccomp"), "2", "a filter is on");
        assert_eq!(field("NoNewPrivs"), "1");
        assert_eq!(field("Uid").split_whitespace().next(), Some("123456"));
        for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(capabilities).trim_start_matches('0'), "", "{status}");
        }
        let mounts = read("mountinfo");
        let root = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some("/"));
        let options = root.and_then(|line| line.split(' ').nth(5)).unwrap();
        assert!(options.split(',').any(|option| option == "ro"), "{mounts}");
        assert!(!Path::new(&format!("{place}/root/dev/net")).exists());
        assert!(!Path::new(&format!("{place}/root/bin/sh")).exists());
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        // It is gone if its program ended.
        run(&mut self.crun(&["delete", "--force", &self.id]), "");
    }
}

const PAGE: &str = "a page for a container\n";

/// The profile that Debian's package golang-github-containers-common brings, which is Podman's
/// default.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// A user that no file names, as some platforms give every container one of its own.
const USER: u32 = 123_456;

/// The container's memory, bytes.
const LIMIT: u64 = 64 << 20;
