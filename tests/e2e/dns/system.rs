//! The resolvers of systems, each set up by the lines that `docs/dns.md` shows and by nothing else.

use std::fs;
use std::path::Path;

use crate::lab::{DOMAIN, Device, Lab};
use crate::namespace::{is_inside, replace};
use crate::process::{LONGEST, Program, command, installed, run, skipped, until};

#[test]
fn dnsmasq_asks_the_device_by_the_documented_lines() {
    if !installed(&["dig", "dnsmasq"])
        || !is_inside(
            "dns::system::dnsmasq_asks_the_device_by_the_documented_lines",
            "true",
        )
    {
        return;
    }
    let (lab, laptop) = deployment();
    let config = lab.path("dnsmasq.conf");
    fs::write(&config, documented("dnsmasq", &laptop)).unwrap();
    let mut dnsmasq = command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--no-resolv",
        "--no-hosts",
        "--stop-dns-rebind",
    ]);
    dnsmasq.args([
        "--user=",
        "--group=",
        "--pid-file=",
        "--listen-address=127.0.0.1",
        "--bind-interfaces",
    ]);
    dnsmasq.arg(format!("--conf-file={}", config.display()));
    let _dnsmasq = Program::start("dnsmasq", &lab.path(""), &mut dnsmasq, "");
    answers("127.0.0.1", &lab);
}

#[test]
fn unbound_asks_the_device_by_the_documented_lines() {
    if !installed(&["dig", "unbound"])
        || !is_inside(
            "dns::system::unbound_asks_the_device_by_the_documented_lines",
            "true",
        )
    {
        return;
    }
    let (lab, laptop) = deployment();
    let lines = documented("unbound", &laptop);
    let config = lab.path("unbound.conf");
    // What a test has of its own: no user to become, no directory and no place to write to.
    // Debian's own file has the rest.
    let own = r#"server:
    username: ""
    chroot: ""
    directory: "/"
    pidfile: ""
    use-syslog: no
    interface: 127.0.0.1
"#;
    fs::write(&config, format!("{own}{lines}")).unwrap();
    let mut unbound = command("unbound");
    unbound.args(["-d", "-p", "-c"]).arg(&config);
    let _unbound = Program::start("unbound", &lab.path(""), &mut unbound, "");
    answers("127.0.0.1", &lab);
}

#[test]
fn systemd_resolved_asks_the_device_by_the_documented_lines() {
    let places = [
        "/usr/lib/systemd/systemd-resolved",
        "/lib/systemd/systemd-resolved",
    ];
    let Some(resolved) = places.into_iter().find(|place| Path::new(place).is_file()) else {
        return skipped("systemd-resolved not installed");
    };
    // It asks nobody while no link but loopback is up, and writes below /run.
    let enter = "ip link add link0 type veth peer name link1; ip link set link1 up; \
                 ip address add 10.9.0.1/24 dev link0; ip link set link0 up; \
                 mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/resolve";
    if !installed(&["dig"])
        || !is_inside(
            "dns::system::systemd_resolved_asks_the_device_by_the_documented_lines",
            enter,
        )
    {
        return;
    }
    let (lab, laptop) = deployment();
    let folder = lab.path("etc-systemd");
    fs::create_dir_all(folder.join("resolved.conf.d")).unwrap();
    let lines = documented("systemd-resolved", &laptop);
    fs::write(folder.join("resolved.conf.d/overlan.conf"), lines).unwrap();
    replace("/etc/systemd", &folder);
    // It becomes its own user, of which there is one in here.
    for (file, line) in [
        ("passwd", "systemd-resolve:x:0:0::/:/bin/false"),
        ("group", "systemd-resolve:x:0:"),
    ] {
        let known = fs::read_to_string(format!("/etc/{file}")).unwrap();
        let others = known
            .lines()
            .filter(|known| !known.starts_with("systemd-resolve:"));
        let lines: Vec<&str> = others.chain([line]).collect();
        fs::write(lab.path(file), lines.join("\n") + "\n").unwrap();
        replace(&format!("/etc/{file}"), &lab.path(file));
    }
    let _resolved = Program::start("resolved", &lab.path(""), &mut command(resolved), "");
    answers("127.0.0.53", &lab);
}

/// A deployment with two devices, and the one whose resolver is asked.
#[track_caller]
fn deployment() -> (Lab, Device) {
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    fs::write(lab.path("address"), &web.address).unwrap();
    fs::write(lab.path("address6"), web.run(&["ip", "-6"]).ok()).unwrap();
    // Its name stays when it goes.
    drop(web);
    (lab, laptop)
}

/// The lines of `docs/dns.md` below the heading `program`, with this deployment's domain and this
/// device's port.
#[track_caller]
fn documented(program: &str, device: &Device) -> String {
    let document = include_str!("../../../docs/dns.md");
    let (_, below) = document.split_once(&format!("### {program}\n")).unwrap();
    let (_, block) = below.split_once("```text\n").unwrap();
    let (lines, _) = block.split_once("```").unwrap();
    for text in ["overlan.internal", "1053"] {
        assert!(lines.contains(text), "{program}: no {text} in {lines}");
    }
    let lines = lines.replace("overlan.internal", DOMAIN);
    lines.replace("1053", &device.dns.port().to_string())
}

/// That the resolver at `server` knows the names of the deployment, and says of others what it
/// finds out without us.
#[track_caller]
fn answers(server: &str, lab: &Lab) {
    let ask = |name: &str, kind: &str, transport: &str| {
        let server = format!("@{server}");
        let args = [
            &*server,
            "+short",
            "+tries=1",
            "+timeout=5",
            transport,
            name,
            kind,
        ];
        run(command("dig").args(args), "")
    };
    let web = format!("web.home.{DOMAIN}");
    let known = |file: &str| fs::read_to_string(lab.path(file)).unwrap();
    until("an answer of the system's resolver", LONGEST, || {
        let outcome = ask(&web, "A", "+notcp");
        (outcome.stdout.trim_end() == known("address")).then_some(())
    });
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(ask(&web, "A", transport).ok(), known("address"));
        assert_eq!(ask(&web, "AAAA", transport).ok(), known("address6"));
        assert_eq!(
            ask(&format!("nobody.home.{DOMAIN}"), "A", transport).ok(),
            ""
        );
    }
}
