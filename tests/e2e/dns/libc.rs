//! The resolvers inside programs: those of glibc and musl, which read `/etc/resolv.conf` and ask
//! port 53.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::dnsmasq;
use crate::lab::{DOMAIN, Device, Lab, state};
use crate::namespace::{is_inside, replace};
use crate::process::{Program, command, installed, overlan, run};

#[test]
fn the_resolvers_of_glibc_and_musl_find_names_by_their_files_alone() {
    let enter = "ip address add 10.9.0.53/24 dev lo";
    if !is_inside(
        "dns::libc::the_resolvers_of_glibc_and_musl_find_names_by_their_files_alone",
        enter,
    ) || !installed(&["gcc", "musl-gcc", "getent", "dnsmasq"])
    {
        return;
    }
    let lab = Lab::start();
    let many: Vec<String> = (1..=80)
        .map(|last| format!("--host-record=many.example.org,192.0.2.{last}"))
        .collect();
    let mut args = vec![
        "--host-record=www.example.org,192.0.2.80",
        "--local=/example.org/",
        "--local=/nobody/",
    ];
    args.extend(many.iter().map(String::as_str));
    let _world = dnsmasq(&lab, "world", "10.9.0.53", &args);
    let resolv = lab.path("resolv.conf");
    fs::write(
        &resolv,
        format!("nameserver 127.0.0.1\nsearch home.{DOMAIN}\n"),
    )
    .unwrap();
    replace("/etc/resolv.conf", &resolv);
    let nsswitch = lab.path("nsswitch.conf");
    fs::write(&nsswitch, "hosts: files dns\n").unwrap();
    replace("/etc/nsswitch.conf", &nsswitch);
    let programs = ["gcc", "musl-gcc"].map(|compiler| built(&lab, compiler));

    let web = lab.up("web");
    let laptop = at_port_53(&lab);
    laptop.sees(&web, true);
    let v6 = web.run(&["ip", "-6"]).ok();
    let both: BTreeSet<String> = [web.address.clone(), v6].into();
    let web_name = format!("web.home.{DOMAIN}");
    for program in &programs {
        let found = |name: &str| {
            let lines = run(command(program).arg(name), "").ok();
            lines.lines().map(str::to_owned).collect::<BTreeSet<_>>()
        };
        let nothing = BTreeSet::from(["no such name".to_owned()]);
        for name in [&*web_name, "web", "WEB", &format!("{web_name}.")] {
            assert_eq!(found(name), both, "{program:?} {name}");
        }
        assert_eq!(found("www.example.org"), ["192.0.2.80".to_owned()].into());
        // Longer than a datagram: glibc asks again over TCP. musl does since 1.2.4, looks at 48 at
        // most, and takes what fits before.
        let many = found("many.example.org").len();
        match program.ends_with("gcc") {
            true => assert_eq!(many, 80),
            false => assert!((25..=48).contains(&many), "{many}"),
        }
        for name in [
            "nobody",
            &format!("nobody.home.{DOMAIN}"),
            "nobody.example.org",
        ] {
            assert_eq!(found(name), nothing, "{program:?} {name}");
        }
    }
    // It leaves IPv6 out where the host has none.
    let listed = run(command("getent").args(["ahosts", "web"]), "").ok();
    assert!(listed.contains(&web.address), "{listed}");
}

/// The program that asks the C library, built against one of them.
#[track_caller]
fn built(lab: &Lab, compiler: &str) -> PathBuf {
    let (source, program) = (lab.path("resolve.c"), lab.path(compiler));
    fs::write(&source, include_str!("resolve.c")).unwrap();
    let args = [Path::new("-o"), &program, &source];
    run(command(compiler).args(args), "").ok();
    program
}

/// A device that answers where every resolver asks.
#[track_caller]
fn at_port_53(lab: &Lab) -> Device {
    let (key, state_dir) = (lab.path("laptop.key"), lab.path("laptop"));
    fs::write(&key, lab.auth_key(&[])).unwrap();
    let mut up = overlan();
    up.args(["up", "--hostname", "laptop", "--socks", "127.0.0.1:0"]);
    up.args(["--dns", "127.0.0.1:53", "--dns-forward", "10.9.0.53"]);
    up.args(["--server", &lab.controller.join, "--auth-key-file"])
        .arg(key);
    up.args(state(&state_dir));
    Device::ready(
        Program::start("laptop", &lab.path(""), &mut up, ""),
        &state_dir,
    )
}
