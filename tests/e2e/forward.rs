//! Ports of peers at this host, used by programs that know nothing of it: curl, psql with a real
//! Postgres, dig.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::lab::{DOMAIN, Device, Lab};
use crate::process::{LONGEST, Owned, Program, command, find, installed, run, skipped, until};
use crate::programs::noise;
use crate::service::Service;

#[test]
fn curl_reaches_a_peer_by_a_port_and_by_a_path_of_this_host() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let (mut laptop, web) = lab.pair();
    web.serve(80, page.address());
    let socket = lab.path("web.sock");
    let by_path = format!("{}:web:80", socket.display());
    let (mut forward, here) = forwards(&lab, &laptop, &["0:web:80", "-L", &by_path]);
    let url = format!("http://{}/", here);
    let curl = |args: &[&str]| {
        let args = [&["--silent", "--show-error", "--noproxy", "*"], args].concat();
        run(command("curl").args(args), "")
    };
    assert_eq!(curl(&[&url]).ok(), "a page of web");
    let path = socket.to_str().unwrap();
    let by_path = curl(&["--unix-socket", path, "http://web/"]).ok();
    assert_eq!(by_path, "a page of web");
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o700);

    let (posted, echoed) = (lab.path("posted"), lab.path("echoed"));
    fs::write(&posted, noise(4 << 20)).unwrap();
    let data = format!("@{}", posted.display());
    curl(&["--data-binary", &data, "-o", echoed.to_str().unwrap(), &url]).ok();
    assert!(fs::read(&echoed).unwrap() == fs::read(&posted).unwrap());

    // The way is open, what it leads to is not: the program sees a reset, the person a reason.
    web.run(&["serve", "remove", "80"]).ok();
    // A reset that overtakes curl is a failed connect to it.
    let reset = curl(&[&url]);
    assert!(matches!(reset.code, Some(56 | 7)), "{reset:#?}");
    forward.line(&format!("{} -> web:80: connection refused", here));
    let taken = format!("{}:web:80", here.port());
    laptop
        .run(&["forward", &taken])
        .refused(1, &["cannot listen", "port 0"]);

    forward.signal(Signal::INT);
    assert!(forward.ended().success());
    assert!(!socket.exists(), "the file of the socket stays");
    assert_eq!(curl(&[&url]).code, Some(7), "nobody listens any more");

    let (mut forward, _) = forwards(&lab, &laptop, &["0:web:80"]);
    laptop.program.kill();
    assert_eq!(forward.ended().code(), Some(3));
}

#[test]
fn every_line_about_a_forward_names_its_peer() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("a page\n");
    let lab = Lab::start_logging("info,overlan::daemon::carry=debug");
    let (laptop, web) = lab.pair();
    let db = lab.up("db");
    laptop.sees(&db, true);
    for (name, device) in [("web", &web), ("db", &db)] {
        device.serve(80, page.address());
        let (_forward, here) = forwards(&lab, &laptop, &[&format!("0:{name}:80")]);
        let url = format!("http://{here}/");
        let args = ["--silent", "--show-error", "--noproxy", "*", &url];
        assert_eq!(run(command("curl").args(args), "").ok(), "a page");
        let span = format!("peer{{name=\"{name}\" port=80}}");
        until(&span, LONGEST, || {
            let output = laptop.program.output();
            let ended = |line: &str| line.contains("a forwarded connection ended");
            let found = output
                .lines()
                .any(|line| ended(line) && line.contains(&span));
            found.then_some(())
        });
    }
    let output = laptop.program.output();
    let about = |line: &&str| line.contains("overlan::daemon::carry");
    let unnamed = output
        .lines()
        .filter(about)
        .find(|line| !line.contains("peer{"));
    assert_eq!(unnamed, None, "{output}");
}

#[test]
fn what_cannot_be_forwarded_is_said_before_anything_listens() {
    let lab = Lab::start();
    let laptop = lab.up("laptop");
    laptop
        .run(&["forward", "0:nobody:80"])
        .refused(1, &["nobody", "overlan status"]);
    laptop
        .run(&["forward", "0.0.0.0:0:web:80"])
        .refused(2, &["--gateway"]);
    laptop
        .run(&["forward", "80:web"])
        .refused(2, &["[BIND:]PORT:HOST:PORT"]);
    let own = format!("0:{}:80", laptop.name);
    let many: Vec<&str> = [own.as_str()].repeat(33);
    laptop
        .run(&[&["forward"], &many[..]].concat())
        .refused(2, &["at most 32"]);
    let report = forward_json(&laptop, &many[..32]);
    assert_eq!(report["forwards"].as_array().unwrap().len(), 32, "{report}");
    assert_eq!(report["schema_version"], 1, "{report}");
}

#[test]
fn psql_reaches_a_real_postgres() {
    if !installed(&["psql"]) {
        return;
    }
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(5432, postgres.address());
    let (_forward, here) = forwards(&lab, &laptop, &["0:web:5432"]);
    let psql = |script: &str| {
        let mut psql = command("psql");
        psql.args(["-h", "127.0.0.1", "-p", &here.port().to_string()])
            .args(["-U", "overlan", "-d", "postgres", "-X", "-q", "-A", "-t"])
            .args(["-v", "ON_ERROR_STOP=1"]);
        run(&mut psql, script).ok()
    };
    let rows: String = (0..20_000)
        .map(|row| format!("{row}\t{row:064}\n"))
        .collect();
    psql(&format!(
        "create table t (id int, text text);\ncopy t from stdin;\n{rows}\\.\n"
    ));
    assert_eq!(psql("select count(*), sum(id) from t"), "20000|199990000");
    let copied = psql("copy t to stdout");
    assert!(copied == rows.trim_end(), "1.4 MB through the forward");
}

#[test]
fn dig_asks_through_a_forward_of_datagrams() {
    if !installed(&["dig"]) {
        return;
    }
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    // A question to web's overlay port 53 gets what web's own resolver answers.
    let mut listening = web
        .command(&["nc", "-l", "-u", "53"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut output, mut input) = (
        listening.stdout.take().unwrap(),
        listening.stdin.take().unwrap(),
    );
    let _listening = Owned::new(listening);
    let resolver = web.dns;
    thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(resolver).unwrap();
        let mut datagram = vec![0; 4_096];
        while let Ok(len @ 1..) = output.read(&mut datagram) {
            socket.send(&datagram[..len]).unwrap();
            let len = socket.recv(&mut datagram).unwrap();
            input.write_all(&datagram[..len]).unwrap();
        }
    });
    let (_forward, here) = forwards(&lab, &laptop, &["--udp", "0:web:53"]);
    let name = format!("web.home.{DOMAIN}");
    let port = here.port().to_string();
    let answer = run(
        command("dig").args(["@127.0.0.1", "-p", &port, "+notcp", "+short", &name]),
        "",
    );
    assert_eq!(answer.ok(), web.address);
}

/// A running `forward`, and the first address that it says.
pub(crate) fn forwards(lab: &Lab, device: &Device, args: &[&str]) -> (Program, SocketAddr) {
    let mut command = device.command(&[&["forward"], args].concat());
    let mut program = Program::start("forward", &lab.path(""), &mut command, "");
    let line = program.line("127.0.0.1:");
    let port: u16 = line.split(' ').next().unwrap().parse().unwrap();
    (program, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// The output of `forward --json`.
fn forward_json(device: &Device, args: &[&str]) -> Value {
    let mut command = device.command(&[&["forward", "--json"], args].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().unwrap();
    let _ends = Owned::new(child);
    let mut documents = serde_json::Deserializer::from_reader(output).into_iter();
    documents.next().unwrap().unwrap()
}

/// A real Postgres with a user `overlan` whom it trusts. It ends with this.
pub(crate) struct Postgres {
    server: Program,
    port: u16,
    // Below the program: it ends before its directory does.
    _directory: tempfile::TempDir,
}

impl Postgres {
    /// `None`, and a word about it, where it is not installed.
    #[track_caller]
    pub(crate) fn start() -> Option<Self> {
        let Some(initdb) = postgres_program("initdb") else {
            skipped("initdb of Postgres is not installed");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        for_postgres(directory.path());
        run(
            as_postgres(&mut command(&initdb))
                .args([
                    "--username",
                    "overlan",
                    "--auth",
                    "trust",
                    "--no-sync",
                    "-D",
                ])
                .arg(&data)
                .current_dir(directory.path()),
            "",
        )
        .ok();
        let port = {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap().port()
        };
        let mut server = command(postgres_program("postgres").unwrap());
        as_postgres(&mut server)
            .arg("-D")
            .arg(&data)
            .args(["-F", "-h", "127.0.0.1", "-p", &port.to_string()])
            .args(["-c", "unix_socket_directories="])
            .current_dir(directory.path());
        let server = Program::start("postgres", directory.path(), &mut server, "");
        until("Postgres answers", LONGEST, || {
            let ready = server.output().contains("ready to accept connections");
            ready.then_some(())
        });
        Some(Self {
            server,
            port,
            _directory: directory,
        })
    }

    /// The address on which it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.server.signal(Signal::QUIT);
        self.server.ended();
    }
}

/// Postgres keeps its server out of PATH, below a directory of its version.
fn postgres_program(name: &str) -> Option<std::path::PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin").join(name)))
        .filter(|program| program.is_file())
        .collect();
    found.sort();
    found.pop().or_else(|| find(name))
}

/// Its server refuses to run as root.
fn as_postgres(command: &mut Command) -> &mut Command {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn for_postgres(directory: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// A user who owns nothing.
const NOBODY: u32 = 65_534;
