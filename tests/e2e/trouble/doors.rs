//! Doors that cannot be opened, or not by everybody: ports in use, public addresses, passwords,
//! foreign destinations.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use super::up;
use crate::lab::{DOMAIN, KeyBy, Lab, NETWORK, state};
use crate::process::{Outcome, installed, overlan, run};
use crate::service::Service;

#[test]
fn a_port_in_use_is_named_and_costs_no_key() {
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let (tcp, udp) = (
        TcpListener::bind("127.0.0.1:0").unwrap(),
        UdpSocket::bind("127.0.0.1:0").unwrap(),
    );
    let taken = tcp.local_addr().unwrap().to_string();
    let taken_udp = udp.local_addr().unwrap().to_string();

    let joining = |doors: &[&str]| {
        run(
            overlan()
                .args(["up", "--auth-key-file", "-", "--server"])
                .arg(&lab.controller.join)
                .args(doors)
                .args(state(&lab.path("new"))),
            &key,
        )
    };
    joining(&["--socks", &taken, "--dns", "off"])
        .refused(1, &[&taken, "for --socks", "Another program has the port"]);
    joining(&["--socks", "off", "--dns", &taken])
        .refused(1, &[&taken, "for --dns", "Another program has the port"]);
    joining(&["--socks", "off", "--dns", &taken_udp]).refused(
        1,
        &[&taken_udp, "for --dns", "Another program has the port"],
    );
    let another = "Give --listen another port.";
    run(
        overlan()
            .args(["controller", "serve", "--listen", &taken, "--data-dir"])
            .arg(lab.path("another controller")),
        "",
    )
    .refused(1, &[&taken, "in use", another]);
    run(
        overlan()
            .args([
                "controller",
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
            ])
            .arg(lab.path("controller")),
        "",
    )
    .refused(1, &["another controller uses", "controller"]);
    let relay = |listen: &str| {
        run(
            overlan()
                .args(["relay", "serve", "--listen", listen, "--server"])
                .arg(&lab.controller.join)
                .args(state(&lab.path("another relay"))),
            "",
        )
    };
    relay(&taken).refused(1, &[&taken, "in use", another]);
    relay("127.0.0.1:0").refused(4, &["no relay token", "overlan admin relay-token create"]);

    // One is enough for a device, and it is still good.
    lab.up_by("new", KeyBy::Stdin(&key), &[]);
}

#[test]
fn the_proxy_asks_for_its_password_and_stays_inside() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("from web\n");
    let foreign = Service::http("from elsewhere\n");
    let lab = Lab::start();
    let key = lab.auth_key(&["--reusable"]);

    // An address that others reach needs three words, and each message says the next.
    let public = |args: &[&str]| {
        let mut command = overlan();
        command.args(["up", "--dns", "off", "--socks", "0.0.0.0:0"]);
        run(command.args(args).args(state(&lab.path("public"))), "")
    };
    let (file, password) = (lab.path("socks-password"), "seven small ships");
    fs::write(&file, format!("{password}\n")).unwrap();
    let credentials = [
        "--socks-user",
        "alice",
        "--socks-password-file",
        file.to_str().unwrap(),
    ];
    public(&[]).refused(2, &["not a loopback address", "--socks-user"]);
    public(&credentials).refused(2, &["not a loopback address", "--socks-public"]);
    public(&["--socks-public"]).refused(2, &["--socks-user"]);
    public(&["--socks-user", "alice"]).refused(2, &["--socks-password-file"]);

    let web = lab.up_by("web", KeyBy::Stdin(&key), &[]);
    web.serve(80, page.address());
    let url = format!("http://web.{NETWORK}.{DOMAIN}/");
    let open = [&credentials[..], &["--proxy-direct"]].concat();
    let open = lab.up_by("open", KeyBy::Stdin(&key), &open);
    open.sees(&web, true);
    let as_user = |user: &str| open.curl(&["--proxy-user", user, &url]);
    assert_eq!(as_user(&format!("alice:{password}")).ok(), "from web");
    for wrong in [
        "alice:seven small shipss",
        "alice:",
        "bob:seven small ships",
    ] {
        refused_by_proxy(&as_user(wrong), "rejected");
    }
    refused_by_proxy(&open.curl(&[&url]), "authentication");

    // Outside the overlay there is nothing to reach, unless that is asked for.
    let elsewhere = [
        format!("http://{}/", foreign.address()),
        format!("http://localhost:{}/", foreign.address().port()),
    ];
    for url in &elsewhere {
        refused_by_proxy(&web.curl(&[url]), "(2)");
        let right = format!("alice:{password}");
        let direct = open.curl(&["--proxy-user", &right, url]);
        assert_eq!(direct.ok(), "from elsewhere", "{url}");
    }
    // The overlay's own names never leave, however wrong they are.
    let right = format!("alice:{password}");
    let nobody = format!("http://nobody.{NETWORK}.{DOMAIN}/");
    refused_by_proxy(&open.curl(&["--proxy-user", &right, &nobody]), "(4)");

    up(&lab, "web", &key, &["--socks-password-file", "-"]).refused(2, &["--socks-user"]);
}

/// curl's code for a proxy that says no, and its words.
#[track_caller]
fn refused_by_proxy(outcome: &Outcome, text: &str) {
    assert_eq!(outcome.code, Some(97), "{outcome:#?}");
    let said = outcome.stderr.to_lowercase();
    assert!(said.contains(text), "not {text:?}: {outcome:#?}");
}

#[test]
fn few_files_are_told_before_somebody_waits_for_one() {
    let lab = Lab::start();
    let (up, _) = lab.up_command("few", KeyBy::Nothing);
    let mut few = Command::new("bash");
    few.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]);
    few.arg(up.get_program()).args(up.get_args());
    let outcome = run(&mut few, "");
    assert!(outcome.stderr.contains("may open 64 files"), "{outcome:?}");
}
