//! TLS for the names of devices: real clients that trust the deployment's CA of names and nothing
//! else, and those that do not.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;

use crate::lab::{DOMAIN, Device, KeyBy, Lab};
use crate::process::{LONGEST, command, installed, run, until};
use crate::programs::noise;
use crate::service::Service;

#[test]
fn curl_and_openssl_trust_a_device_by_its_name_and_it_goes_on_without_the_controller() {
    if !installed(&["curl", "openssl"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    // Answers with the head of the request.
    let echo = Service::start(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let answer = format!("HTTP/1.0 200 OK\r\n\r\n{head}");
        // A client that went away is the client's test.
        let _ = stream.write_all(answer.as_bytes());
    });
    let mut lab = Lab::start();
    lab.admin(&["network", "create", "acme"]);
    let both = || lab.auth_key(&["--network", "home,acme"]);
    let mut web = lab.up_by("web", KeyBy::File(&both()), &[]);
    let laptop = lab.up_by("laptop", KeyBy::File(&both()), &[]);
    laptop.sees(&web, true);
    let (target, head) = (page.address().to_string(), echo.address().to_string());
    web.run(&["serve", "tcp", "443", &target, "--tls"]).ok();
    web.run(&["serve", "http", "444", &head, "--tls"]).ok();
    web.run(&["serve", "udp", "443", &target, "--tls"])
        .refused(2, &["--tls"]);
    assert!(web.run(&["serve", "list"]).ok().contains("(TLS)"));
    has_certificates(&web, &["web.acme", "web.home"]);

    let ca = lab.path("names-ca.pem");
    fs::write(&ca, laptop.run(&["ca"]).ok() + "\n").unwrap();
    let ca = ca.to_str().unwrap();
    let url = |network: &str, port: u16| format!("https://web.{network}.{DOMAIN}:{port}/");
    let trusting = |args: &[&str]| laptop.curl(&[&["--cacert", ca], args].concat());
    for network in ["home", "acme"] {
        assert_eq!(trusting(&[&url(network, 443)]).ok(), "a page of web");
    }
    // TLS and the word of who asks, together.
    let told = trusting(&[&url("home", 444)]).ok().to_ascii_lowercase();
    let told_by = format!("x-overlan-name: laptop.home.{DOMAIN}");
    assert!(told.contains(&told_by), "{told}");
    let (posted, echoed) = (lab.path("posted"), lab.path("echoed"));
    fs::write(&posted, noise(4 << 20)).unwrap();
    let data = format!("@{}", posted.display());
    let out = echoed.to_str().unwrap();
    trusting(&["--data-binary", &data, "-o", out, &url("home", 443)]).ok();
    assert!(fs::read(&echoed).unwrap() == fs::read(&posted).unwrap());

    // By address it is nobody, by another CA it is nobody, by the system's roots it is nobody:
    // curl's "cannot verify".
    let by_address = format!("https://{}%home:443/", web.address);
    assert_ne!(trusting(&[&by_address]).code, Some(0));
    let (_other, pem) = Service::https("", "web.home.overlan.lan");
    let wrong = lab.path("wrong.pem");
    fs::write(&wrong, pem).unwrap();
    let wrong = ["--cacert", wrong.to_str().unwrap(), &url("home", 443)];
    assert_eq!(laptop.curl(&wrong).code, Some(60));
    assert_eq!(laptop.curl(&[&url("home", 443)]).code, Some(60));

    // Each network sees its own name only.
    let shown = openssl(&laptop, ca, "home");
    assert!(shown.contains("Verify return code: 0 (ok)"), "{shown}");
    let names = certificate_names(&shown);
    assert!(
        names.contains("DNS:web.home") && !names.contains("acme"),
        "{names}"
    );

    // A name that comes and goes.
    web.run(&["network", "leave", "acme"]).ok();
    has_certificates(&web, &["web.home"]);
    web.run(&["network", "join", "acme"]).ok();
    has_certificates(&web, &["web.acme", "web.home"]);
    until("web in acme", LONGEST, || {
        (trusting(&[&url("acme", 443)]).code == Some(0)).then_some(())
    });

    // A restart while the controller is away uses what is there.
    let file = web.state_dir().join("certificates.json");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let before = fs::read(&file).unwrap();
    assert!(lab.controller.program.stop().success());
    laptop.run(&["ca"]).refused(8, &["cannot connect"]);
    assert!(web.program.stop().success());
    let web = lab.up_by("web", KeyBy::Nothing, &[]);
    until("web again", LONGEST, || {
        (trusting(&[&url("home", 443)]).code == Some(0)).then_some(())
    });
    assert_eq!(fs::read(&file).unwrap(), before);

    // Nothing served, nothing needed. A deployment that was there before gets its CA at the next
    // start, and keeps it.
    lab.restart_controller();
    until("the controller", LONGEST, || {
        let asked = laptop.run(&["ca"]);
        (asked.code == Some(0))
            .then(|| assert_eq!(asked.ok() + "\n", fs::read_to_string(ca).unwrap()))
    });
    for port in ["443", "444"] {
        web.run(&["serve", "remove", port]).ok();
    }
    assert!(web.status()["certificates"].is_null());
}

/// Waits until the device has certificates for exactly these names, without the domain.
#[track_caller]
fn has_certificates(device: &Device, names: &[&str]) {
    let names: Vec<String> = names.iter().map(|it| format!("{it}.{DOMAIN}")).collect();
    device.until("certificates", |status| {
        let held = status["certificates"]["names"].as_array();
        let mut held: Vec<&str> = held
            .into_iter()
            .flatten()
            .filter_map(|name| name.as_str())
            .collect();
        held.sort_unstable();
        held == names
    });
}

/// The report of `openssl s_client` about port 443 of web in `network`, with its certificate.
fn openssl(device: &Device, ca: &str, network: &str) -> String {
    let name = format!("web.{network}.{DOMAIN}");
    let mut client = command("openssl");
    client.args(["s_client", "-proxy", &device.socks.to_string()]);
    client.args(["-connect", &format!("{name}:443"), "-servername", &name]);
    client.args(["-CAfile", ca, "-no-CApath", "-verify_hostname", &name]);
    client.args(["-verify_return_error", "-x509_strict"]);
    run(&mut client, "Q\n").ok()
}

fn certificate_names(shown: &str) -> String {
    let mut x509 = command("openssl");
    x509.args(["x509", "-noout", "-ext", "subjectAltName"]);
    run(&mut x509, shown).ok()
}

#[test]
fn clients_of_postgres_ask_for_tls_in_their_own_way() {
    if !installed(&["psql", "openssl"]) {
        return;
    }
    let Some(postgres) = crate::forward::Postgres::start() else {
        return;
    };
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    let target = postgres.address().to_string();
    web.run(&["serve", "tcp", "5433", &target, "--tls"]).ok();
    has_certificates(&web, &["web.home"]);
    let ca = lab.path("names-ca.pem");
    fs::write(&ca, laptop.run(&["ca"]).ok() + "\n").unwrap();
    let (_forward, here) = crate::forward::forwards(&lab, &laptop, &["0:web:5433"]);
    let psql = |mode: &str, name: &str| {
        let place = format!(
            "host={name} hostaddr={} port={} user=overlan dbname=postgres \
             sslmode={mode} sslrootcert={}",
            here.ip(),
            here.port(),
            ca.display()
        );
        run(command("psql").args([&place, "-Atc", "select 6*7"]), "")
    };
    assert_eq!(psql("verify-full", &web.name).ok(), "42");
    assert_eq!(psql("require", "any.example").ok(), "42");
    assert_ne!(psql("verify-full", "any.example").code, Some(0));
    assert_ne!(
        psql("disable", &web.name).code,
        Some(0),
        "plain text goes nowhere"
    );
    // Clients that begin with TLS at once insist on this protocol (libpq 17); others offer what
    // they like.
    let agreed = |offered: &str| {
        let mut client = command("openssl");
        client.args(["s_client", "-connect", &here.to_string(), "-alpn", offered]);
        let told = run(&mut client, "");
        told.stdout
    };
    assert!(agreed("postgresql").contains("ALPN protocol: postgresql"));
    assert!(agreed("h2,http/1.1").contains("No ALPN negotiated"));
}
