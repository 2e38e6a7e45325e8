//! A client in a memory cgroup of 64 MB, as a small container has it: it sizes itself by the limit
//! and lives through more than it can hold.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::lab::{DOMAIN, Device, KeyBy, Lab};
use crate::process::{LONGEST, Program, command, overlan, run, skipped, until};
use crate::service::Service;

#[test]
fn a_client_lives_through_a_hundred_downloads_and_uploads_in_64_mb() {
    let Some(group) = Group::make(LIMIT) else {
        return;
    };
    raise_file_limit();
    let pattern: Arc<[u8]> = pattern().into();
    let sent = Arc::clone(&pattern);
    let source = Service::start(move |mut stream| {
        // It may be cut off with the test.
        stream.write_all(&sent).ok();
    });
    let expected = Arc::clone(&pattern);
    let sink = Service::start(move |mut stream| {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).ok();
        let verdict = if heard[..] == expected[..] {
            b"good"
        } else {
            b"bad!"
        };
        stream.write_all(verdict).ok();
    });
    let echo = Service::start(|mut stream| {
        // It is silent for as long as the others load.
        stream.set_read_timeout(None).unwrap();
        let mut word = [0; 4];
        while stream.read_exact(&mut word).is_ok() && stream.write_all(&word).is_ok() {}
    });
    let lab = Lab::start();
    let web = lab.up("web");
    for (port, service) in [(80, &source), (81, &sink), (82, &echo)] {
        web.serve(port, service.address());
    }
    let key = lab.auth_key(&[]);
    let (up, stdin) = lab.up_command("small", KeyBy::Stdin(&key));
    let program = Program::start("small", &lab.path("."), &mut group.command(&up), stdin);
    let small = Device::ready(program, &lab.path("small"));
    small.sees(&web, true);
    let memory = &small.status()["memory"];
    assert_eq!(memory["limit"], LIMIT, "{memory}");
    assert_eq!(memory["source"], "cgroup", "{memory}");

    let mut idle: Vec<TcpStream> = (0..IDLE).map(|_| connect(&small, 82)).collect();
    let says = |stream: &mut TcpStream| {
        stream.write_all(b"here").unwrap();
        let mut word = [0; 4];
        stream.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"here");
    };
    idle.iter_mut().for_each(says);

    // Nobody reads before all have begun and much has come.
    let downloads: Vec<TcpStream> = (0..BUSY).map(|_| connect(&small, 80)).collect();
    small.until("data that waits", |status| {
        status["counters"]["ring_committed"].as_u64() > Some(6 << 20)
    });
    thread::scope(|scope| {
        for mut stream in downloads {
            let pattern = &pattern;
            scope.spawn(move || {
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).unwrap();
                assert!(heard[..] == pattern[..], "{} bytes", heard.len());
            });
        }
        for mut stream in (0..BUSY).map(|_| connect(&small, 81)) {
            let pattern = &pattern;
            scope.spawn(move || {
                stream.write_all(pattern).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut verdict = String::new();
                stream.read_to_string(&mut verdict).unwrap();
                assert_eq!(verdict, "good");
            });
        }
    });
    idle.iter_mut().for_each(says);
    assert_eq!(small.status()["state"], "running");
    group.assert_kept();
}

#[test]
fn a_memory_limit_that_no_client_can_keep_is_refused() {
    let up = |size: &str| {
        run(
            overlan().args(["up", "--state-dir", "mem:", "--memory", size]),
            "",
        )
    };
    up("16M").refused(2, &["16M is too little", "at least 32M"]);
    up("64MB").refused(2, &["such as 64M"]);
}

/// The bytes of one download or upload: none repeats at the distance of a ring.
fn pattern() -> Vec<u8> {
    let words = (0..BYTES / 4).map(|word: u32| word.wrapping_mul(2_654_435_761));
    words.flat_map(u32::to_le_bytes).collect()
}

/// A connection to web through the small device's proxy.
#[track_caller]
fn connect(device: &Device, port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(device.socks).unwrap();
    stream.set_read_timeout(Some(3 * LONGEST)).unwrap();
    stream.set_write_timeout(Some(3 * LONGEST)).unwrap();
    let name = format!("web.home.{DOMAIN}");
    let mut asked = vec![5, 1, 0, 5, 1, 0, 3, name.len() as u8];
    asked.extend_from_slice(name.as_bytes());
    asked.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&asked).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], [5, 0, 5, 0], "{answer:?}");
    stream
}

fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// A memory cgroup of either version, which goes with its owner.
pub(crate) struct Group {
    name: String,
    folder: PathBuf,
    peak: &'static str,
}

/// The number of processes of the memory cgroup `name` the kernel has killed for lack of memory.
pub(crate) fn kills(name: &str) -> Option<u64> {
    let files = [
        format!("/sys/fs/cgroup/memory/{name}/memory.oom_control"),
        format!("/sys/fs/cgroup/{name}/memory.events"),
    ];
    let told = files
        .iter()
        .find_map(|file| fs::read_to_string(file).ok())?;
    let count = told.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count?.parse().ok()
}

impl Group {
    /// `None`, and said so, where no such group can be made.
    pub(crate) fn make(limit: u64) -> Option<Self> {
        let name = format!("overlan-test-{}-{limit}", std::process::id());
        let version_1 = Path::new("/sys/fs/cgroup/memory").join(&name);
        if fs::create_dir(&version_1).is_ok() {
            let group = Self {
                name,
                folder: version_1,
                peak: "memory.max_usage_in_bytes",
            };
            fs::write(
                group.folder.join("memory.limit_in_bytes"),
                limit.to_string(),
            )
            .unwrap();
            return Some(group);
        }
        let version_2 = Path::new("/sys/fs/cgroup").join(&name);
        if fs::create_dir(&version_2).is_ok() {
            let group = Self {
                name,
                folder: version_2,
                peak: "memory.peak",
            };
            if fs::write(group.folder.join("memory.max"), limit.to_string()).is_ok() {
                return Some(group);
            }
        }
        skipped("no memory cgroup can be made here");
        None
    }

    /// `command` within the group. The process that is started becomes the program.
    pub(crate) fn command(&self, inner: &std::process::Command) -> std::process::Command {
        let mut outer = command("sh");
        outer.args(["-euc", "echo $$ > \"$1\"; shift; exec \"$@\"", "sh"]);
        outer.arg(self.folder.join("cgroup.procs"));
        outer.arg(inner.get_program()).args(inner.get_args());
        outer.envs(
            inner
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        outer
    }

    /// That nobody was killed for lack of memory, and that the most ever used is within the limit.
    #[track_caller]
    pub(crate) fn assert_kept(&self) {
        assert_eq!(kills(&self.name), Some(0));
        let peak = fs::read_to_string(self.folder.join(self.peak)).unwrap();
        let peak: u64 = peak.trim().parse().unwrap();
        assert!(peak <= LIMIT, "{peak}");
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The programs in it were dropped before, or the group stays until they are gone.
        until("the end of the memory cgroup", LONGEST, || {
            fs::remove_dir(&self.folder).ok()
        });
    }
}

/// The memory limit of small containers, bytes.
const LIMIT: u64 = 64 << 20;

/// Connections that say one word and then nothing.
const IDLE: usize = 600;

/// Connections that load, in each direction.
const BUSY: usize = 100;

/// Bytes of each.
const BYTES: u32 = 2 << 20;
