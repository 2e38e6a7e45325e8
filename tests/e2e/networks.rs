//! One device in several networks at once, which all use the same addresses: by name, by address,
//! joining and leaving while it runs.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::lab::{DOMAIN, Device, Lab};
use crate::process::{LONGEST, Program, command, installed, run, until};
use crate::service::Service;

/// A second network beside `home`, and a device that serves a page in each.
struct Two {
    lab: Lab,
    /// In network home.
    web: Device,
    /// In network acme, at the address that `web` has in home.
    shop: Device,
    /// The page that they serve on port 80: the name of their network.
    _pages: [Service; 2],
}

fn two() -> Two {
    let lab = Lab::start();
    lab.admin(&["network", "create", "acme"]);
    let web = lab.up("web");
    let shop = lab.up_in("shop", "acme", &[]);
    assert_eq!(
        web.address, shop.address,
        "every network uses the same addresses"
    );
    let pages = [Service::http("home\n"), Service::http("acme\n")];
    web.serve(80, pages[0].address());
    shop.serve(80, pages[1].address());
    Two {
        lab,
        web,
        shop,
        _pages: pages,
    }
}

fn host(label: &str, network: &str) -> String {
    format!("{label}.{network}.{DOMAIN}")
}

fn url(label: &str, network: &str) -> String {
    format!("http://{}/", host(label, network))
}

#[test]
fn one_device_reaches_two_networks_that_use_the_same_addresses() {
    if !installed(&["curl", "dig"]) {
        return;
    }
    let Two {
        lab,
        web,
        shop,
        _pages,
    } = two();
    let laptop = lab.up_in("laptop", "home,acme", &[]);
    laptop.sees(&web, true);
    laptop.sees(&shop, true);

    // The name decides, at the same time.
    let urls = [url("web", "home"), url("shop", "acme")];
    let pages = laptop.curl(&["--parallel", &urls[0], &urls[1]]).ok();
    let mut pages: Vec<&str> = pages.lines().collect();
    pages.sort_unstable();
    assert_eq!(pages, ["acme", "home"]);
    let port = laptop.dns.port().to_string();
    let names = [host("web", "home"), host("shop", "acme")];
    let dig = ["@127.0.0.1", "-p", &port, "+short", &names[0], &names[1]];
    let answers = run(command("dig").args(dig), "").ok();
    assert_eq!(answers, format!("{0}\n{0}", web.address));

    // Neither network hears of the other.
    for (from, label, network) in [(&web, "shop", "acme"), (&shop, "web", "home")] {
        let outcome = from.curl(&[&url(label, network)]);
        assert_ne!(outcome.code, Some(0), "{outcome:#?}");
    }

    // A bare address means two devices.
    let bare = format!("http://{}/", web.address);
    let outcome = laptop.curl(&[&bare]);
    assert_ne!(outcome.code, Some(0), "{outcome:#?}");
    laptop
        .run(&["ping", "-c", "1", &web.address])
        .refused(1, &["several networks", "ADDRESS%NETWORK"]);
    for (args, name) in [
        (
            &["whois", "--network", "acme", &web.address][..],
            "shop.acme",
        ),
        (&["whois", &format!("{}%home", web.address)], "web.home"),
        (&["ping", "-c", "1", "--network", "home", "web"], "web"),
        (&["ping", "-c", "1", "shop.acme"], "shop"),
    ] {
        let told = laptop.run(args).ok();
        assert!(told.contains(name), "{args:?} {told}");
    }
    laptop.run(&["ip", "laptop"]).ok();

    let table = laptop.run(&["status"]).ok();
    for line in [
        host("laptop", "home"),
        host("laptop", "acme"),
        host("shop", "acme"),
    ] {
        assert!(table.contains(&line), "{table}");
    }
    let status = laptop.status();
    for network in status["networks"].as_array().unwrap() {
        assert_eq!(network["attached"], true, "{status:#}");
        assert_eq!(network["addresses"][0], "100.64.0.2", "{status:#}");
    }
    let devices = lab.admin(&["devices"]);
    assert_eq!(devices.matches("laptop").count(), 2, "{devices}");
}

#[test]
fn bare_addresses_mean_the_network_that_was_chosen_for_them() {
    if !installed(&["curl"]) {
        return;
    }
    let Two {
        lab,
        web,
        shop,
        _pages,
    } = two();
    let laptop = lab.up_in("laptop", "home,acme", &["--address-network", "acme"]);
    laptop.sees(&web, true);
    laptop.sees(&shop, true);
    let bare = format!("http://{}/", web.address);
    assert_eq!(laptop.curl(&[&bare]).ok(), "acme");
    assert_eq!(laptop.curl(&[&url("web", "home")]).ok(), "home");
}

#[test]
fn a_running_device_joins_and_leaves_while_its_connections_go_on() {
    if !installed(&["curl"]) {
        return;
    }
    // Sends until it is told to stop, and says how much that was.
    let stop = Arc::new(AtomicBool::new(false));
    let endless = Service::start({
        let stop = Arc::clone(&stop);
        move |mut stream| {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
            let chunk = [b'x'; 1 << 16];
            let mut sent = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                if stream.write_all(&chunk).is_err() {
                    return;
                }
                sent += chunk.len() as u64;
                thread::yield_now();
            }
            let _ = stream.write_all(format!("sent {sent}\n").as_bytes());
        }
    });
    let Two {
        lab,
        web,
        shop,
        _pages,
    } = two();
    web.serve(8080, endless.address());
    let laptop = lab.up_in("laptop", "home,acme", &["--network", "home"]);
    laptop.sees(&web, true);
    let may_join = laptop.run(&["network", "list"]).ok();
    assert!(may_join.contains("acme     may join"), "{may_join}");

    let file = lab.path("download");
    let mut args = laptop.curl_args(&[
        "--output",
        file.to_str().unwrap(),
        &format!("http://{}:8080/", host("web", "home")),
    ]);
    args.retain(|arg| arg != "--max-time" && arg != "30");
    let mut download = Program::start("curl", &lab.path(""), command("curl").args(args), "");
    let size = || std::fs::metadata(&file).map_or(0, |file| file.len());
    let grows = |what: &str| {
        let before = size();
        until(format!("the download goes on {what}"), LONGEST, || {
            (size() > before + (4 << 20)).then_some(())
        });
    };
    grows("before");

    // When the command returns, peers of the network can be reached.
    laptop.run(&["network", "join", "acme"]).ok();
    laptop.sees(&shop, true);
    assert_eq!(laptop.curl(&[&url("shop", "acme")]).ok(), "acme");
    grows("after joining");
    shop.sees_label("laptop", true);

    laptop.run(&["network", "leave", "acme"]).ok();
    let outcome = laptop.curl(&[&url("shop", "acme")]);
    assert_ne!(outcome.code, Some(0), "{outcome:#?}");
    shop.sees_label("laptop", false);
    grows("after leaving");
    laptop
        .run(&["network", "leave", "home"])
        .refused(6, &["last network", "overlan logout"]);

    stop.store(true, Ordering::Relaxed);
    assert!(download.ended().success(), "{}", download.output());
    let bytes = std::fs::read(&file).unwrap();
    let end = bytes.len() - 40;
    let tail = String::from_utf8_lossy(&bytes[end..]);
    let sent = tail.split("sent ").nth(1).unwrap().trim();
    let told = format!("sent {sent}\n").len();
    assert_eq!((bytes.len() - told).to_string(), sent, "no byte is lost");
}

#[test]
fn who_is_taken_out_of_a_network_is_out_at_once() {
    if !installed(&["curl"]) {
        return;
    }
    let Two {
        lab,
        web,
        shop,
        _pages,
    } = two();
    let laptop = lab.up("laptop");
    laptop.sees(&web, true);
    laptop
        .run(&["network", "join", "acme"])
        .refused(6, &["may not join", "overlan admin network add"]);

    lab.admin(&["network", "add", "acme", "laptop"]);
    laptop.sees(&shop, true);
    assert_eq!(laptop.curl(&[&url("shop", "acme")]).ok(), "acme");

    lab.admin(&["network", "remove", "acme", "laptop"]);
    shop.sees_label("laptop", false);
    laptop.until("it is in one network", |status| {
        status["networks"].as_array().unwrap().len() == 1 && status["state"] == "running"
    });
    let outcome = laptop.curl(&[&url("shop", "acme")]);
    assert_ne!(outcome.code, Some(0), "{outcome:#?}");
    assert_eq!(laptop.curl(&[&url("web", "home")]).ok(), "home");
    laptop
        .run(&["network", "join", "acme"])
        .refused(6, &["may not join"]);

    let listed: Value = serde_json::from_str(&lab.admin(&["networks", "--json"])).unwrap();
    assert_eq!(listed["networks"][0]["name"], "acme", "{listed:#}");
    assert_eq!(listed["networks"][0]["devices"], 1, "{listed:#}");
    let refused = run(&mut lab.admin_command(&["network", "delete", "acme"]), "");
    refused.refused(6, &["1 devices are in acme", "--force"]);
    lab.admin(&["network", "delete", "acme", "--force"]);
    lab.admin(&["device", "remove", "laptop"]);
    web.sees_label("laptop", false);
    for (args, text) in [
        (&["network", "add", "nowhere", "web"][..], "nowhere"),
        (&["network", "add", "home", "nobody"], "no device is called"),
        (&["network", "create", "No"], "lower-case"),
        (&["device", "remove", "laptop"], "no device is called"),
    ] {
        let outcome = run(&mut lab.admin_command(args), "");
        assert_ne!(outcome.code, Some(0), "{args:?}");
        assert!(outcome.stderr.contains(text), "{args:?} {}", outcome.stderr);
    }
}
