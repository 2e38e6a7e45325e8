//! Settings from a file, manual pages, and `up` in the background.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::lab::{DOMAIN, Device, KeyBy, Lab, state};
use crate::process::{LONGEST, Program, command, installed, overlan, run, until};
use crate::service::Service;

#[test]
fn a_device_starts_in_the_background_by_its_configuration_file_and_comes_down() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    let page = Service::http("a page of web\n");
    let web = lab.up("web");
    web.serve(80, page.address());
    let (key, file, directory) = (
        lab.path("key"),
        lab.path("overlan.toml"),
        lab.path("laptop"),
    );
    fs::write(&key, lab.auth_key(&[])).unwrap();
    let text = format!(
        "state-dir = {:?}\n[up]\nserver = {:?}\nauth-key-file = {:?}\n\
         hostname = \"laptop\"\nsocks = \"127.0.0.1:0\"\n\
         dns = \"off\"\nbackground = true\n",
        directory.to_str().unwrap(),
        lab.controller.join,
        key.to_str().unwrap(),
    );
    fs::write(&file, text).unwrap();
    let with_file = |args: &[&str]| {
        let mut command = overlan();
        command.arg("--config").arg(&file).args(args);
        command
    };
    // It would outlive a test that fails.
    let _down = Down(&directory);
    let ready = run(&mut with_file(&["up"]), "");
    assert!(ready.stderr.contains("up.log"), "{ready:#?}");
    let ready = ready.ok();
    let rest = ready
        .strip_prefix(&format!("overlan is up: laptop.home.{DOMAIN} "))
        .unwrap();
    let (_, socks) = rest.split_once("socks5h://").unwrap();
    until("web", LONGEST, || {
        let url = format!("http://{}/", web.name);
        let curl = [
            "--silent",
            "--fail",
            "--proxy",
            &format!("socks5h://{socks}"),
            &url,
        ];
        let outcome = run(command("curl").args(curl), "");
        (outcome.code == Some(0)).then_some(())
    });
    let status: Value =
        serde_json::from_str(&run(&mut with_file(&["status", "--json"]), "").ok()).unwrap();
    assert_eq!(status["state"], "running");

    // A second one says why not, with the code of that.
    let second = run(&mut with_file(&["up"]), "");
    second.refused(1, &["another `overlan up` runs"]);
    let shown = run(&mut with_file(&["config", "show"]), "").ok();
    let row = shown
        .lines()
        .find(|line| line.starts_with("hostname "))
        .unwrap();
    assert!(
        row.contains("laptop") && row.ends_with("overlan.toml"),
        "{row}"
    );
    let mut by_variable = with_file(&["config", "show", "--json"]);
    let shown = run(by_variable.env("OVERLAN_HOSTNAME", "other"), "").ok();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let settings = shown["settings"].as_array().unwrap();
    let hostname = settings
        .iter()
        .find(|setting| setting["key"] == "hostname")
        .unwrap();
    assert_eq!(hostname["value"], "other");
    assert_eq!(hostname["from"], "OVERLAN_HOSTNAME");

    run(&mut with_file(&["down"]), "").ok();
    run(&mut with_file(&["status"]), "").refused(3, &["no `overlan up` runs"]);

    // Without its controller and its keys it has nothing to wait for.
    let mut fresh = overlan();
    fresh.args([
        "up",
        "--background",
        "--socks",
        "127.0.0.1:0",
        "--dns",
        "off",
    ]);
    let refused = run(fresh.args(state(&lab.path("fresh"))), "");
    refused.refused(4, &["this device is not enrolled"]);
    let mut nowhere = overlan();
    nowhere.args(["up", "--background", "--state-dir", "mem:"]);
    run(&mut nowhere, "").refused(2, &["in memory"]);
    fs::write(&file, "hostnam = \"x\"\n").unwrap();
    run(&mut with_file(&["status"]), "").refused(2, &["hostnam", "not a setting of any command"]);
}

#[test]
fn the_log_of_a_client_in_the_background_does_not_grow_for_ever() {
    let lab = Lab::start();
    let directory = lab.path("chatty");
    let (mut up, _) = lab.up_command("chatty", KeyBy::Environment(&lab.auth_key(&[])));
    up.args(["--background", "--log", "overlan=debug"]);
    let _down = Down(&directory);
    let ready = run(&mut up, "").ok();
    let (_, rest) = ready.split_once("socks5h://").unwrap();
    let socks = rest.split(',').next().unwrap();

    // Each datagram to a name that nobody has is a line.
    let mut control = TcpStream::connect(socks).unwrap();
    control
        .write_all(&[5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0])
        .unwrap();
    let mut answer = [0; 12];
    control.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], [5, 0, 5, 0], "{answer:?}");
    let relay = ("127.0.0.1", u16::from_be_bytes([answer[10], answer[11]]));
    let name = format!("{}.home.{DOMAIN}", ["x".repeat(60).as_str(); 3].join("."));
    let mut datagram = vec![0, 0, 0, 3, name.len() as u8];
    datagram.extend_from_slice(name.as_bytes());
    datagram.extend_from_slice(&[0, 53, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (log, old) = (directory.join("up.log"), directory.join("up.log.old"));
    until("a second log", 3 * LONGEST, || {
        for _ in 0..50 {
            socket.send_to(&datagram, relay).unwrap();
        }
        old.exists().then_some(())
    });
    let len = |path: &Path| fs::metadata(path).map_or(0, |about| about.len());
    until("lines in the second log", LONGEST, || {
        socket.send_to(&datagram, relay).unwrap();
        (len(&log) > 0).then_some(())
    });
    let most = 4 << 20;
    assert!(len(&old) > most / 2, "{}", len(&old));
    assert!(len(&old) <= most && len(&log) < most);
    let about = fs::metadata(&log).unwrap();
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let first = fs::read_to_string(&old).unwrap();
    assert!(
        first.contains("attached to a relay"),
        "the first one is kept"
    );
}

/// Stops what runs in the background with this state directory.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        run(overlan().arg("down").args(state(self.0)), "");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let root = tempfile::tempdir().unwrap();
    let mut man = overlan();
    run(man.args(["man", "--dir"]).arg(root.path()), "").ok();
    for page in [
        "overlan.1",
        "overlan-up.1",
        "overlan-serve-tcp.1",
        "overlan-admin-auth-key-create.1",
    ] {
        let text = fs::read_to_string(root.path().join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
        // What all commands have stands on the first page only.
        let first = page == "overlan.1";
        assert_eq!(
            text.contains("upstream\\-proxy\\-password\\-file"),
            first,
            "{page}"
        );
    }
    let mut one = overlan();
    assert!(run(one.arg("man"), "").ok().contains(".TH overlan 1"));
}

#[test]
fn a_hangup_reads_the_settings_again_and_no_connection_notices() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    let echo = Service::start(|stream| {
        let mut back = stream.try_clone().unwrap();
        io::copy(&mut &stream, &mut back).ok();
    });
    let page = Service::http("a page of web\n");
    let web = lab.up("web");
    web.serve(80, page.address());
    web.serve(7, echo.address());
    let (file, password, unix) = (
        lab.path("overlan.toml"),
        lab.path("password"),
        lab.path("door"),
    );
    let write = |settings: &str| {
        let text = format!("[up]\n{settings}\n");
        // A reader must not see half of it while it is written.
        let new = file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    let plain = "dns = \"127.0.0.1:0\"\nsocks = \"127.0.0.1:0\"";
    write(plain);
    let ready_file = lab.path("ready");
    let key = lab.auth_key(&[]);
    let mut up = overlan();
    up.arg("--config")
        .arg(&file)
        .args(["up", "--server", &lab.controller.join]);
    up.args([
        "--hostname",
        "laptop",
        "--auth-key-file",
        "-",
        "--ready-file",
    ])
    .arg(&ready_file);
    up.args(state(&lab.path("laptop")));
    let program = Program::start("laptop", &lab.path("."), &mut up, &key);
    let mut laptop = Device::ready(program, &lab.path("laptop"));
    laptop.sees(&web, true);
    let again = |laptop: &mut Device, sentence: &str| {
        laptop.program.signal(Signal::HUP);
        laptop.program.line(sentence)
    };
    let url = format!("http://{}/", web.name);
    let page_by = |proxy: &str| {
        let curl = [
            "--disable",
            "-sS",
            "--fail",
            "--max-time",
            "30",
            "--proxy",
            proxy,
            &url,
        ];
        run(command("curl").args(curl), "")
    };

    // A connection that is open all the time.
    let mut socket = TcpStream::connect(laptop.socks).unwrap();
    let name = web.name.as_bytes();
    let mut request = vec![5, 1, 0, 5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend_from_slice(name);
    request.extend_from_slice(&[0, 7]);
    socket.write_all(&request).unwrap();
    socket.read_exact(&mut [0; 12]).unwrap();
    let mut echoes = |text: &str| {
        socket.write_all(text.as_bytes()).unwrap();
        let mut back = vec![0; text.len()];
        socket.read_exact(&mut back).unwrap();
        assert_eq!(back, text.as_bytes());
    };
    echoes("before");

    // A password from now on, one more place, and a setting that has to wait.
    fs::write(&password, "a long password\n").unwrap();
    let both = format!(
        "dns = \"off\"\nsocks = [\"127.0.0.1:0\", \"unix:{}\"]",
        unix.display()
    );
    let user = format!("socks-user = \"ci\"\nsocks-password-file = {password:?}");
    // The line says the host's name, too, and comes first; nothing says how many threads.
    write(&format!(
        "{both}\n{user}\nhostname = \"other\"\nthreads = 2"
    ));
    let told = again(&mut laptop, "Settings were read again; changed: ");
    assert_eq!(
        told,
        "dns, socks, socks-password-file, socks-user; threads will change at the next start."
    );
    echoes("after");
    assert_eq!(laptop.status()["dns"], Value::Null);
    let at = laptop.socks;
    assert_eq!(
        page_by(&format!("socks5h://{at}")).code,
        Some(97),
        "no password was asked for"
    );
    assert_eq!(
        page_by(&format!("socks5h://ci:a%20long%20password@{at}")).ok(),
        "a page of web"
    );
    let by_unix = format!(
        "socks5h://ci:a%20long%20password@localhost{}",
        unix.display()
    );
    assert_eq!(page_by(&by_unix).ok(), "a page of web");
    assert_eq!(
        laptop.status()["proxies"][1],
        format!("unix:{}", unix.display())
    );

    // Another password in the same file, and later a place less.
    fs::write(&password, "another password\n").unwrap();
    again(
        &mut laptop,
        "Settings were read again; changed: socks-password-file.",
    );
    assert_eq!(
        page_by(&format!("socks5h://ci:another%20password@{at}")).ok(),
        "a page of web"
    );
    write(&format!("{plain}\nmemory-of-an-elephant = 1"));
    let told = again(
        &mut laptop,
        "Settings were read again, and none is changed. ",
    );
    assert!(told.contains("memory-of-an-elephant"), "{told}");
    assert_eq!(
        page_by(&by_unix.replace("a%20long", "another")).ok(),
        "a page of web"
    );
    write(&format!("{plain}\nhold = 3"));
    again(
        &mut laptop,
        "Settings were read again; changed: dns, hold, socks,",
    );
    assert!(laptop.status()["dns"].is_string());
    assert_eq!(page_by(&format!("socks5h://{at}")).ok(), "a page of web");
    until("the Unix socket is gone", LONGEST, || {
        (!unix.exists()).then_some(())
    });
    let line = fs::read_to_string(&ready_file).unwrap();
    assert!(line.contains(&at.to_string()), "{line}");
    echoes("at the end");
    assert!(laptop.program.stop().success());
}
