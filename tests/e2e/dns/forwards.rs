//! Names outside the overlay, handed on to a real resolver of the host's network.

use super::{dig, dnsmasq};
use crate::lab::{DOMAIN, KeyBy, Lab};
use crate::namespace::is_inside;
use crate::process::{command, installed, run};

#[test]
fn other_names_are_handed_on_only_if_told_and_cannot_name_what_is_private() {
    let enter = "ip address add 10.9.0.53/24 dev lo";
    if !is_inside(
        "dns::forwards::other_names_are_handed_on_only_if_told_and_cannot_name_what_is_private",
        enter,
    ) || !installed(&["dig", "dnsmasq"])
    {
        return;
    }
    let lab = Lab::start();
    let text = "x".repeat(200);
    let long = format!(
        "--txt-record=long.example.org{}",
        format!(",{text}").repeat(10)
    );
    let world = dnsmasq(
        &lab,
        "world",
        "10.9.0.53",
        &[
            "--host-record=www.example.org,192.0.2.80,2001:db8::80",
            "--host-record=nas.example.org,192.168.1.5",
            "--host-record=evil.example.org,100.64.0.1",
            "--host-record=gate.example.org,10.77.0.1",
            "--host-record=local.example.org,127.0.0.1",
            "--host-record=meta.example.org,169.254.169.254",
            &long,
            "--local=/example.org/",
        ],
    );
    let web = lab.up("web");
    lab.lead(&web, "10.77.0.0/16");
    let key = lab.auth_key(&[]);
    // Nobody listens at the first one.
    let forwards = ["--dns-forward", "10.9.0.53:54,10.9.0.53"];
    let laptop = lab.up_by("laptop", KeyBy::File(&key), &forwards);
    laptop.sees_route("10.77.0.0/16");

    assert_eq!(dig(&laptop, "www.example.org", "A"), "192.0.2.80");
    assert_eq!(dig(&laptop, "www.example.org", "AAAA"), "2001:db8::80");
    assert_eq!(dig(&laptop, "nas.example.org", "A"), "192.168.1.5");
    for name in ["evil", "gate", "local", "meta", "nobody"] {
        assert_eq!(
            dig(&laptop, &format!("{name}.example.org"), "A"),
            "",
            "{name}"
        );
    }
    // What fits no datagram comes over TCP, on both ways.
    assert_eq!(
        dig(&laptop, "long.example.org", "TXT")
            .matches(&text)
            .count(),
        10
    );
    let port = laptop.dns.port().to_string();
    let cut = [
        "@127.0.0.1",
        "-p",
        &port,
        "+ignore",
        "long.example.org",
        "TXT",
    ];
    let cut = run(command("dig").args(cut), "").ok();
    assert!(
        cut.contains(" tc ") && cut.matches(&text).count() < 10,
        "{cut}"
    );

    // Ours stay here, those of nobody too.
    assert_eq!(dig(&laptop, &web.name, "A"), web.address);
    let nobody = format!("nobody.other.{DOMAIN}");
    assert_eq!(dig(&laptop, &nobody, "A"), "");
    assert_eq!(dig(&laptop, "9.0.64.100.in-addr.arpa", "PTR"), "");
    let heard = world.output();
    assert!(heard.contains("query[A] www.example.org"), "{heard}");
    assert!(
        !heard.contains(DOMAIN) && !heard.contains("100.in-addr"),
        "{heard}"
    );

    let asked = laptop.run(&["dns", "query", "www.example.org"]).ok();
    assert!(
        asked.contains("forwarded to 10.9.0.53:53, from the cache"),
        "{asked}"
    );
    let status = laptop.run(&["dns", "status"]).ok();
    for line in [
        "forwarded to 10.9.0.53:54, did not answer: ",
        "forwarded to 10.9.0.53:53, answered",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    // The proxy leads to no more than before.
    let outside = laptop.curl(&["http://www.example.org/"]);
    assert!(outside.stderr.contains("(2)"), "{outside:#?}");
}

#[test]
fn a_forward_that_cannot_be_is_refused_at_the_start() {
    let lab = Lab::start();
    for (dns, forward, text) in [
        ("127.0.0.1:1", "127.0.0.1:1", "own DNS server"),
        ("off", "192.0.2.1", "--dns is off"),
        ("127.0.0.1:0", "100.64.0.7", "address of the overlay"),
        ("127.0.0.1:0", "0.0.0.0", "not an address"),
        ("127.0.0.1:0", "192.0.2.1,off", "together"),
        (
            "127.0.0.1:0",
            "10.0.0.1,10.0.0.2,10.0.0.3,10.0.0.4",
            "at most",
        ),
        ("127.0.0.1:0", "resolver.example", "numeric"),
        ("0.0.0.0:0", "192.0.2.1", "open resolver"),
    ] {
        let mut up = crate::process::overlan();
        up.args([
            "up",
            "--socks",
            "off",
            "--dns",
            dns,
            "--dns-forward",
            forward,
        ]);
        up.args(crate::lab::state(&lab.path("other")));
        run(&mut up, "").refused(2, &[text]);
    }
}
