//! The deployment itself: each part ends and comes back where it was, and the others find it again.

use crate::lab::{DOMAIN, KeyBy, Lab};
use crate::process::{LONGEST, installed, until};
use crate::service::Service;

#[test]
fn every_part_ends_and_comes_back() {
    if !installed(&["curl"]) {
        return;
    }
    let page = Service::http("still here\n");
    let mut lab = Lab::start();
    let (web_key, laptop_key) = (lab.auth_key(&[]), lab.auth_key(&["--ephemeral"]));
    let mut web = lab.up_by("web", KeyBy::Stdin(&web_key), &[]);
    let laptop = lab.up_by("laptop", KeyBy::Environment(&laptop_key), &[]);
    web.serve(80, page.address());
    let fetch = || laptop.curl(&[&format!("http://web.home.{DOMAIN}/")]);
    let fetched = |when: &str| {
        let page = until(format_args!("the page {when}"), LONGEST, || {
            (fetch().code == Some(0)).then(|| fetch().ok())
        });
        assert_eq!(page, "still here", "{when}");
    };
    fetched("at first");

    // The data plane does without a controller, and finds it again.
    let address = lab.controller.address.clone();
    lab.controller.program.kill();
    assert_eq!(fetch().ok(), "still here", "without a controller");
    lab.restart_controller();
    assert_eq!(lab.controller.address, address);
    laptop.until("the controller back", |status| {
        status["control"]["state"] == "connected"
    });

    // An enrolled device needs no key and keeps its name, its address and its services.
    let (name, overlay_address) = (web.name.clone(), web.address.clone());
    web.program.kill();
    drop(web);
    web = lab.up_by("web", KeyBy::Nothing, &[]);
    assert_eq!((&web.name, &web.address), (&name, &overlay_address));
    fetched("from a device that came back");

    // Whichever relay carried it: with one of both gone the other does.
    for place in 0..lab.relays.len() {
        lab.relays[place].program.kill();
        fetched("with a relay less");
        let back = lab.restart_relay(&lab.relays[place]);
        assert_eq!(back.address, lab.relays[place].address);
        lab.relays[place] = back;
    }
    fetched("with all relays back");
    assert_eq!(web.run(&["down"]).code, Some(0));
    assert!(web.program.ended().success());
}
