//! A device under the hands of an admin, while it runs: another name, out and in again, and a right
//! that ends and is proved anew.

use serde_json::Value;

use crate::lab::{DOMAIN, Device, KeyBy, Lab, OWNER, PASSWORD, state};
use crate::process::{LONGEST, installed, overlan, run, until};
use crate::service::Service;

const PAGE: &str = "the same device\n";

fn url(label: &str) -> String {
    format!("http://{label}.home.{DOMAIN}/")
}

#[track_caller]
fn fetches(laptop: &Device, label: &str) {
    until(format_args!("the page of {label}"), LONGEST, || {
        let outcome = laptop.curl(&[&url(label)]);
        (outcome.code == Some(0)).then(|| assert_eq!(outcome.stdout, PAGE))
    });
}

#[track_caller]
fn shown(lab: &Lab, device: &str) -> Value {
    let text = lab.admin(&["device", "show", device, "--json"]);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["schema_version"], 1, "{document}");
    document["device"].clone()
}

#[test]
fn a_running_device_is_renamed_disabled_and_let_in_again() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http(PAGE);
    let lab = Lab::start();
    let (laptop, web) = lab.pair();
    web.serve(80, page.address());
    fetches(&laptop, "web");

    lab.admin(&["device", "rename", "web", "www"]);
    laptop.sees_label("www", true);
    fetches(&laptop, "www");
    laptop
        .curl(&[&url("web")])
        .code
        .filter(|code| *code != 0)
        .expect("its old name is nobody's");
    web.until("its new name", |status| {
        status.to_string().contains(&format!("www.home.{DOMAIN}"))
    });

    lab.admin(&["device", "disable", "www"]);
    laptop.sees_label("www", false);
    assert_ne!(laptop.curl(&[&url("www")]).code, Some(0));
    web.until("the word of the admin", |status| {
        status["state"] == "disabled"
    });
    let status = web.run(&["status"]);
    assert!(status.stdout.contains("disabled by an admin"), "{status:?}");
    assert_eq!(shown(&lab, "www")["barred"]["why"], "disabled");
    let names = lab.admin(&["device", "list"]);
    assert!(names.contains("disabled"), "{names}");

    lab.admin(&["device", "enable", "www"]);
    web.until("to be let in", |status| status["state"] == "running");
    fetches(&laptop, "www");
    assert_eq!(shown(&lab, "www")["barred"], Value::Null);
    let by_address = laptop.curl(&[&format!("http://{}/", web.address)]);
    assert_eq!(by_address.ok(), PAGE.trim_end(), "it kept its address");
}

/// A running device waits, and says so. Started again, it proves its right by what it is given, and
/// is the same device.
#[test]
fn a_right_that_ended_is_proved_again_by_the_same_device() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http(PAGE);
    let lab = Lab::start();
    let (laptop, mut web) = lab.pair();
    web.serve(80, page.address());
    fetches(&laptop, "web");
    let id = shown(&lab, "web")["id"].clone();
    let expire = || lab.admin(&["device", "expire", "web", "--in", "0"]);

    expire();
    laptop.sees_label("web", false);
    web.until("the end of its right", |status| {
        status["state"] == "expired"
    });
    assert_eq!(shown(&lab, "web")["barred"]["why"], "expired");
    assert!(web.program.stop().success());

    // Without a key and without a login it ends, and says how it comes back.
    let (mut command, stdin) = lab.up_command("web", KeyBy::Nothing);
    run(&mut command, stdin).refused(4, &["expired", "overlan login", "overlan up"]);

    let key = lab.auth_key(&[]);
    let by_key = lab.up_by("web", KeyBy::File(&key), &[]);
    let said = by_key.program.output();
    let proved = "The right of this device has expired; it is proved again.";
    assert!(said.contains(proved), "{said}");
    assert_eq!(by_key.address, web.address);
    assert_eq!(shown(&lab, "web")["id"], id);
    fetches(&laptop, "web");

    // A person's login is a right, too.
    expire();
    by_key.run(&["down"]).ok();
    drop(by_key);
    let mut login = overlan();
    login
        .args(["login", "--email", OWNER, "--password-stdin"])
        .args(["--server", &lab.controller.join])
        .args(state(&lab.path("web")));
    run(&mut login, &format!("{PASSWORD}\n")).ok();
    let by_login = lab.up_by("web", KeyBy::Nothing, &[]);
    assert_eq!(shown(&lab, "web")["id"], id);
    fetches(&laptop, "web");
    drop(by_login);
}
