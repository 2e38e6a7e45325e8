//! One name means one device at every door, short or whole, and what means none says why and what
//! to do.

use crate::forward::forwards;
use crate::lab::{DOMAIN, Device, Lab};
use crate::process::{Outcome, command, installed, run};
use crate::service::Service;

/// The answer of the HTTP proxy of `device` to a request for `url`: status and text.
fn by_http(device: &Device, url: &str) -> String {
    let proxy = format!("http://{}", device.socks);
    let args = [
        "--silent",
        "--write-out",
        "\n%{http_code}",
        "--proxy",
        &proxy,
    ];
    run(command("curl").args(args).arg(url), "").stdout
}

fn nc(device: &Device, host: &str, port: &str) -> Outcome {
    let request = "GET / HTTP/1.0\r\n\r\n";
    run(&mut device.command(&["nc", host, port]), request)
}

#[test]
fn a_short_name_means_the_same_at_every_door() {
    if !installed(&["curl", "dig"]) {
        return;
    }
    let page = Service::http("a page of web\n");
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, page.address());
    lab.admin(&["dns", "add", "site", "CNAME", &web.name]);
    laptop.until("the record", |_| {
        let asked = laptop.run(&["dns", "query", &format!("site.home.{DOMAIN}")]);
        asked.code == Some(0)
    });
    let whole = web.name.clone();
    let dotted = format!("{whole}.");
    for name in [
        "web",
        "WEB",
        "web.home",
        "Web.Home",
        &whole,
        &dotted,
        "site",
        "site.home",
    ] {
        let url = format!("http://{name}/");
        assert_eq!(laptop.curl(&[&url]).ok(), "a page of web", "{name}");
        let told = by_http(&laptop, &url);
        assert_eq!(told, "a page of web\n\n200", "{name}");
        let told = nc(&laptop, name, "80").ok();
        assert!(told.ends_with("a page of web"), "{name}: {told}");
        let (_forward, here) = forwards(&lab, &laptop, &[&format!("0:{name}:80")]);
        let args = ["--silent", "--noproxy", "*", &format!("http://{here}/")];
        assert_eq!(run(command("curl").args(args), "").ok(), "a page of web");
        let told = laptop.run(&["dns", "query", name]).ok();
        assert!(told.contains(&web.address), "{name}: {told}");
        laptop.run(&["ping", "-c", "1", name]).ok();
        assert_eq!(laptop.run(&["ip", "-4", name]).ok(), web.address, "{name}");
        let told = laptop.run(&["whois", name]).ok();
        assert!(told.contains(&whole), "{name}: {told}");
        let waited = ["wait", "--for", &format!("peer:{name}"), "--timeout", "20"];
        laptop.run(&waited).ok();
    }
    // DNS on the wire knows whole names only: a network called dev does not answer for the public
    // web.dev.
    let port = laptop.dns.port().to_string();
    for name in ["web", "web.home"] {
        let args = ["@127.0.0.1", "-p", &port, name];
        let told = run(command("dig").args(args), "").ok();
        assert!(told.contains("status: REFUSED"), "{name}: {told}");
    }
    // The root's dot says that nothing is left out.
    for name in ["web.", "web.home."] {
        assert_eq!(
            laptop.socks_reply(&format!("http://{name}/")),
            "2",
            "{name}"
        );
        laptop.run(&["nc", name, "80"]).refused(1, &["outside"]);
    }
}

#[test]
fn a_name_that_means_nothing_says_why_and_what_to_do() {
    if !installed(&["curl"]) {
        return;
    }
    let lab = Lab::start();
    lab.admin(&["network", "create", "acme"]);
    let (laptop, web) = lab.pair();
    let wrong_domain = "web.home.overlan.local";
    let missing = format!("nosuch.home.{DOMAIN}");
    let typed = format!("wbe.home.{DOMAIN}");
    let other = format!("web.acme.{DOMAIN}");
    for (name, reply, texts) in [
        ("nosuch", "2", &["nosuch", "home", "overlan status"][..]),
        (
            "nosuch.home",
            "2",
            &["network home", "nosuch", "overlan status"],
        ),
        (&missing, "4", &["network home", "nosuch", "overlan status"]),
        ("wbe", "2", &["Did you mean", &web.name]),
        ("wbe.home", "2", &["Did you mean", &web.name]),
        ("web.hoem", "2", &["Did you mean", &web.name]),
        (&typed, "4", &["Did you mean", &web.name]),
        (wrong_domain, "2", &["Did you mean", &web.name]),
        (&other, "4", &["acme", "home", "overlan network join acme"]),
    ] {
        let url = format!("http://{name}/");
        assert_eq!(laptop.socks_reply(&url), reply, "{name}");
        let told = by_http(&laptop, &url);
        laptop.run(&["nc", name, "80"]).refused(1, texts);
        laptop
            .run(&["ping", "-c", "1", name])
            .refused(1, &texts[..1]);
        for text in texts {
            assert!(told.contains(text), "{name}: {text:?} is missing in {told}");
        }
        assert!(!told.contains("--proxy-direct"), "{name}: {told}");
    }
    let told = by_http(&laptop, "http://www.example.org/");
    assert!(told.contains("--proxy-direct"), "{told}");

    // Not served, and away.
    let told = by_http(&laptop, "http://web:81/");
    for text in [&*web.name, "81", "overlan serve list", "502"] {
        assert!(told.contains(text), "{text:?} is missing in {told}");
    }
    laptop.run(&["nc", "web", "81"]).refused(
        1,
        &["connection refused", &web.name, "overlan serve tcp 81"],
    );
    web.run(&["down"]).ok();
    laptop.sees(&web, false);
    let told = by_http(&laptop, "http://web/");
    for text in ["offline", &*web.name, "overlan up", "503"] {
        assert!(told.contains(text), "{text:?} is missing in {told}");
    }
    laptop
        .run(&["nc", "web", "80"])
        .refused(1, &["offline", &web.name, "overlan up"]);
}

#[test]
fn a_name_in_two_networks_is_refused_unless_it_is_one_device() {
    if !installed(&["curl"]) {
        return;
    }
    let pages = ["home\n", "acme\n", "both\n"].map(Service::http);
    let lab = Lab::start();
    lab.admin(&["network", "create", "acme"]);
    let web = lab.up("web");
    let shop = lab.up_in("shop", "acme", &[]);
    lab.admin(&[
        "dns",
        "add",
        "web",
        "CNAME",
        &shop.name,
        "--network",
        "acme",
    ]);
    let both = lab.up_in("both", "home,acme", &[]);
    let laptop = lab.up_in("laptop", "home,acme", &[]);
    for (device, page) in [&web, &shop, &both].into_iter().zip(&pages) {
        device.serve(80, page.address());
        laptop.sees(device, true);
    }
    let other = format!("web.acme.{DOMAIN}");
    laptop.until("the record", |_| {
        laptop.run(&["whois", "web.acme"]).code == Some(0)
    });
    let names = [&*web.name, &*other];
    assert_eq!(laptop.socks_reply("http://web/"), "4");
    let told = by_http(&laptop, "http://web/");
    for text in names {
        assert!(told.contains(text), "{text:?} is missing in {told}");
    }
    for args in [
        &["nc", "web", "80"][..],
        &["ping", "-c", "1", "web"],
        &["whois", "web"],
        &["ip", "web"],
        &["forward", "0:web:80"],
        &["dns", "query", "web"],
    ] {
        laptop.run(args).refused(1, &names);
    }
    for (name, page) in [("web.home", "home"), ("web.acme", "acme"), ("both", "both")] {
        assert_eq!(laptop.curl(&[&format!("http://{name}/")]).ok(), page);
        assert!(nc(&laptop, name, "80").ok().ends_with(page), "{name}");
    }
    for args in [
        &["ping", "-c", "1", "both"][..],
        &["whois", "both"],
        &["ip", "both"],
        &["dns", "query", "both"],
        &["dns", "query", "laptop"],
        &["ip", "laptop"],
    ] {
        laptop.run(args).ok();
    }
}
