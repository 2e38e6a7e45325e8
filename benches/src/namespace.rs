//! Enters the network namespace that the suite measures in, and sets it up. Never changes a setting
//! of the host.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::options::Run;
use crate::process;
use crate::trouble::{During, Result, Trouble};

/// Starts this program again inside fresh namespaces, unless that has been done; then sets them up.
pub(crate) fn enter(run: &Run) -> Result<()> {
    if run.inside {
        return set_up();
    }
    let unshare = process::find("unshare")?;
    // With a namespace of process ids nothing can outlive the suite. Some containers allow no new
    // /proc, hence the second try.
    let user: &[&str] = if rustix::process::geteuid().is_root() {
        &[]
    } else {
        &["--user", "--map-root-user"]
    };
    let with_pids = ["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let without = ["--net"];
    let ways = [&with_pids[..], &without[..]];
    let works = |way: &&[&str]| {
        let mut trial = process::clean(&unshare);
        process::output(trial.args(user).args(*way).arg("true"), "").is_ok()
    };
    let way = ways.into_iter().find(works).ok_or_else(|| {
        Trouble::failed(
            "unshare cannot make a network namespace: run as root, or allow user namespaces \
             (sysctl kernel.unprivileged_userns_clone, user.max_net_namespaces)",
        )
    })?;
    let program = std::env::current_exe().during("find this program")?;
    let error = Command::new(unshare)
        .args(user)
        .args(way)
        .arg(program)
        .args(std::env::args_os().skip(1))
        .arg("--inside")
        .exec();
    Err(error).during("start again inside the namespace")
}

/// Returns the settings, for the report.
pub(crate) fn settings() -> Vec<(String, String)> {
    SETTINGS
        .iter()
        .map(|(name, _)| {
            let value = fs::read_to_string(Path::new(ROOT).join(name)).unwrap_or_default();
            let words: Vec<&str> = value.split_ascii_whitespace().collect();
            (name.replace('/', "."), words.join(" "))
        })
        .chain([("open files".to_owned(), open_files().to_string())])
        .collect()
}

/// The number of files that each process may open.
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

const ROOT: &str = "/proc/sys/net";

/// bbr, a common default, paces and so halves plain loopback; the rest keeps short connections from
/// running out of ports.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv4/tcp_congestion_control", "reno"),
    ("ipv4/ip_local_port_range", "1024 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("core/somaxconn", "8192"),
];

fn set_up() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).during("raise the limit of open files")?;
    process::output(
        process::clean(process::find("ip")?).args(["link", "set", "lo", "up"]),
        "",
    )?;
    for (name, value) in SETTINGS {
        if let Err(error) = fs::write(Path::new(ROOT).join(name), value) {
            eprintln!("cannot set net.{}: {error}", name.replace('/', "."));
        }
    }
    Ok(())
}
