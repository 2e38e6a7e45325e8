//! Hosts from which only a proxy leads out: everything that a device says to controller and relays
//! goes through it.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use crate::lab::{Device, KeyBy, Lab};
use crate::process::{LONGEST, Program, command, installed, until};
use crate::service::Service;

/// A running tinyproxy that wants the password `secret` of `me`.
struct Tinyproxy {
    _program: Program,
    port: u16,
    log: PathBuf,
}

impl Tinyproxy {
    fn start(lab: &Lab) -> Self {
        // It cannot choose a port by itself.
        let port = free_port();
        let (config, log) = (lab.path("tinyproxy.conf"), lab.path("tinyproxy.log"));
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogFile \"{}\"\n\
             LogLevel Connect\nBasicAuth me secret\n",
            log.display()
        );
        fs::write(&config, text).unwrap();
        let mut program = command("tinyproxy");
        program.arg("-d").arg("-c").arg(&config);
        let program = Program::start("tinyproxy", &lab.path(""), &mut program, "");
        until("tinyproxy", LONGEST, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self {
            _program: program,
            port,
            log,
        }
    }

    fn url(&self) -> String {
        format!("http://me@127.0.0.1:{}", self.port)
    }

    /// Requests for a connection with `address`.
    fn asked_for(&self, address: &str) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        log.matches(&format!("CONNECT {address} ")).count()
    }
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn page_of(web: &Device, through: &Device) -> String {
    through.curl(&[&format!("http://{}/", web.name)]).ok()
}

#[test]
fn a_device_behind_an_http_proxy_takes_part_through_it_alone() {
    if !installed(&["curl", "tinyproxy"]) {
        return;
    }
    let lab = Lab::start();
    let page = Service::http("a page of web\n");
    let web = lab.up("web");
    web.serve(80, page.address());
    let proxy = Tinyproxy::start(&lab);
    let (good, wrong) = (lab.path("good"), lab.path("wrong"));
    fs::write(&good, "secret\n").unwrap();
    fs::write(&wrong, "guess\n").unwrap();
    let way = |password: &PathBuf| {
        let password = password.to_str().unwrap().to_owned();
        [
            "--upstream-proxy".to_owned(),
            proxy.url(),
            "--upstream-proxy-password-file".to_owned(),
            password,
        ]
    };

    let key = lab.auth_key(&["--reusable"]);
    let (mut up, _) = lab.up_command("laptop", KeyBy::File(&key));
    let refused = crate::process::run(up.args(way(&wrong)), "");
    refused.refused(
        8,
        &[
            "the upstream proxy http://127.0.0.1",
            "refused the password",
        ],
    );
    assert!(!refused.stderr.contains("guess"), "{refused:#?}");

    let args = way(&good);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &args);
    assert_eq!(page_of(&web, &laptop), "a page of web");
    assert!(proxy.asked_for(&lab.controller.address) > 0);
    let relays: usize = lab
        .relays
        .iter()
        .map(|relay| proxy.asked_for(&relay.address))
        .sum();
    assert!(relays > 0, "{}", fs::read_to_string(&proxy.log).unwrap());
    let shown = format!("http://127.0.0.1:{}", proxy.port);
    assert_eq!(laptop.status()["upstream_proxy"], shown.as_str());
    let table = laptop.run(&["status"]).ok();
    assert!(table.contains(&format!("upstream {shown}\n")), "{table}");

    // A device for one program takes the same way.
    let before = proxy.asked_for(&lab.controller.address);
    let file = lab.path("laptop.key");
    let mut job = crate::process::overlan();
    job.args([
        "exec",
        "--ephemeral",
        "--hostname",
        "job",
        "--server",
        &lab.controller.join,
    ]);
    job.arg("--auth-key-file").arg(&file).args(&args);
    job.args([
        "--",
        "curl",
        "--silent",
        "--fail",
        &format!("http://{}/", web.name),
    ]);
    assert_eq!(crate::process::run(&mut job, "").ok(), "a page of web");
    assert!(proxy.asked_for(&lab.controller.address) > before);

    let before = proxy.asked_for(&lab.controller.address);
    // It reads the netmap that is on disk, some seconds after the first one came.
    until("the netmap is kept", LONGEST, || {
        laptop
            .state_dir()
            .join("netmap.json")
            .exists()
            .then_some(())
    });
    let checked = laptop.run(&[&["netcheck"], &args[..]].concat()).ok();
    assert!(checked.contains("TLS after"), "{checked}");
    assert!(proxy.asked_for(&lab.controller.address) > before);
    drop(proxy);
    laptop
        .run(&["netcheck", "--upstream-proxy", &shown])
        .code
        .filter(|code| *code == 9)
        .expect("no relay is reached without the proxy");
}

#[test]
fn a_device_behind_a_socks_proxy_takes_part_and_no_proxy_leads_in_a_circle() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    let page = Service::http("a page of web\n");
    let key = lab.auth_key(&["--reusable"]);
    // Its proxy leads outside, too.
    let web = lab.up_by("web", KeyBy::File(&key), &["--proxy-direct"]);
    web.serve(80, page.address());
    let socks = format!("socks5://{}", web.socks);
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &["--upstream-proxy", &socks]);
    assert_eq!(page_of(&web, &laptop), "a page of web");
    assert_eq!(laptop.status()["upstream_proxy"], socks.as_str());

    let port = free_port();
    let (door, own) = (
        format!("127.0.0.1:{port}"),
        format!("socks5://127.0.0.1:{port}"),
    );
    let (mut up, _) = lab.up_command("alone", KeyBy::File(&key));
    let mut args: Vec<String> = up
        .get_args()
        .map(|arg| arg.to_str().unwrap().to_owned())
        .collect();
    let at = args.iter().position(|arg| arg == "--socks").unwrap() + 1;
    args[at] = door;
    args.extend(["--upstream-proxy".to_owned(), own]);
    up = crate::process::overlan();
    let program = Program::start("alone", &lab.path(""), up.args(args), "");
    let alone = Device::ready(program, &lab.path("alone"));
    assert!(
        alone
            .program
            .output()
            .contains("is this program itself; it is left out")
    );
    assert_eq!(page_of(&web, &alone), "a page of web");

    // A variable that cannot be used stops who leaves the host, and nobody else.
    let mut status = laptop.command(&["status", "--check", "live"]);
    crate::process::run(status.env("HTTPS_PROXY", "https://proxy:443"), "").ok();
    let mut check = laptop.command(&["netcheck"]);
    crate::process::run(check.env("HTTPS_PROXY", "https://proxy:443"), "")
        .refused(2, &["$HTTPS_PROXY", "reached over TLS is not supported"]);

    // What the environment names is not for this very host; and a wrong word is told.
    let (mut up, _) = lab.up_command("by-variable", KeyBy::File(&key));
    up.env("HTTPS_PROXY", "http://127.0.0.1:9");
    let program = Program::start("by-variable", &lab.path(""), &mut up, "");
    Device::ready(program, &lab.path("by-variable"));
    laptop
        .run(&[
            "netcheck",
            "--upstream-proxy",
            "http://me:secret@127.0.0.1:9",
        ])
        .refused(
            2,
            &[
                "could be read by every user",
                "--upstream-proxy-password-file",
            ],
        );
}
