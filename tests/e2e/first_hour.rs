//! What a newcomer types in the first hour, and what is then on the screen.

use std::net::TcpListener;

use crate::lab::{Lab, state};
use crate::process::{overlan, run};
use crate::service::Service;

#[test]
fn serve_tells_what_to_pass_on_and_what_does_not_work() {
    let lab = Lab::start();
    let web = lab.up("web");
    let page = Service::http("a page\n");
    let target = page.address().to_string();
    let url = format!("http://{}:3000", web.name);

    let served = web.run(&["serve", "tcp", "3000", &format!("http://{target}")]);
    assert!(served.stderr.contains("Published"), "{served:#?}");
    assert!(!served.stderr.contains("Warning"), "{served:#?}");
    assert_eq!(served.ok(), url);
    // As it was made.
    web.run(&["serve", "remove", "tcp", "3000"]).ok();
    let list = web.run(&["serve", "list"]);
    assert!(list.stderr.contains("Nothing is published"), "{list:#?}");

    // A port alone, where nobody listens yet.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port().to_string();
    drop(free);
    let served = web.run(&["serve", &port]);
    for told in [
        "Warning",
        &format!("127.0.0.1:{port}"),
        "no program listens",
    ] {
        assert!(served.stderr.contains(told), "{told}: {served:#?}");
    }
    assert_eq!(served.ok(), format!("http://{}:{port}", web.name));
    web.run(&["serve", "remove", &port]).ok();

    // A misspelt network is told with those that there are, and nothing is published.
    web.run(&["serve", "3000", "--network", "nosuch"])
        .refused(2, &["not in network nosuch", "it is in home"]);
    let list = web.run(&["serve", "list"]);
    assert!(list.stderr.contains("Nothing is published"), "{list:#?}");
    let ssh = web.run(&["serve", "22"]).ok();
    assert_eq!(ssh, format!("{}:22", web.name));
}

#[test]
fn down_and_logout_say_what_they_did_and_nothing_comes_back() {
    let lab = Lab::start();
    let mut web = lab.up("web");
    web.run(&["serve", "3000"]).ok();
    web.run(&["serve", "route", "10.1.0.0/16"]).ok();
    let down = web.run(&["down"]);
    assert!(down.stderr.contains("Stopped"), "{down:#?}");
    assert!(web.program.ended().success());
    let directory = lab.path("web");
    let logout = |told: &[&str]| {
        let outcome = run(overlan().arg("logout").args(state(&directory)), "");
        for told in told {
            assert!(outcome.stderr.contains(told), "{told}: {outcome:#?}");
        }
        outcome.ok();
    };
    logout(&["Logged out", "device web", "2 published services"]);
    logout(&["Nobody was logged in", "no device and no login"]);

    // Whoever enrols here next begins with nothing.
    let again = lab.up("web");
    let list = again.run(&["serve", "list"]);
    assert!(list.stderr.contains("Nothing is published"), "{list:#?}");
    again.run(&["serve", "3000"]).ok();
    // By the running client as well.
    let by_client = again.run(&["logout"]);
    assert!(by_client.stderr.contains("1 published"), "{by_client:#?}");
    logout(&["Nobody was logged in"]);
}
