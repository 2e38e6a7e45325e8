//! The rules of a policy about hosts that run nothing of ours: the gateway holds them, and the
//! answer names the rule.

use std::io::Read;

use crate::full::connection;
use crate::lab::{KeyBy, Lab};
use crate::namespace::is_inside;
use crate::policy::{WITHIN, echo, echoes, explain, file, set};
use crate::process::{LONGEST, until};
use overlan_transport::clock::now;

const ENTER: &str = "ip address add 10.9.0.1/24 dev lo";

const PAGES: &str = "\
[hosts]
office = \"10.9.0.1\"

[services]
pages = [\"tcp/8080\"]

[[rules]]
id = \"read\"
from = \"device:laptop\"
to = \"host:office\"
services = \"pages\"

[[tests]]
from = \"device:laptop\"
to = \"host:office\"
allow = \"pages\"
deny = \"tcp/9090\"
";

#[test]
fn a_gateway_lets_through_what_a_rule_names_and_cuts_what_it_names_no_longer() {
    if is_inside(
        "gateway_rules::a_gateway_lets_through_what_a_rule_names_and_cuts_what_it_names_no_longer",
        ENTER,
    ) {
        inside();
    }
}

fn inside() {
    let (_pages, page_ends) = echo("10.9.0.1:8080");
    let (_rows, _row_ends) = echo("10.9.0.1:9090");
    let lab = Lab::start();
    let key = lab.auth_key(&[]);
    let gateway = lab.up_by("web", KeyBy::File(&key), &[]);
    let laptop = lab.up("laptop");
    lab.lead(&gateway, "10.9.0.1");
    laptop.sees_route("10.9.0.1");
    // Without a policy of one's own, whoever sees a gateway reaches all that it leads to.
    let mut rows = connection(&laptop, "10.9.0.1", 9090).unwrap();
    echoes(&mut rows);

    let began = now();
    let printed = set(&lab, &file(&lab, "pages.toml", PAGES));
    assert!(printed.contains("applied on 2 of 2 devices"), "{printed}");
    let cut = rows.read(&mut [0; 8]).map_err(|error| error.kind());
    assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    let mut page = connection(&laptop, "10.9.0.1", 8080).unwrap();
    echoes(&mut page);
    assert_eq!(laptop.socks_reply("http://10.9.0.1:9090/"), "2");
    let allowed = explain(&lab, "laptop", "10.9.0.1", "tcp/8080");
    assert_eq!(
        (&allowed["allowed"], &allowed["rule"]),
        (&true.into(), &"read".into()),
        "{allowed}"
    );
    let denied = explain(&lab, "laptop", "10.9.0.1", "tcp/9090");
    assert_eq!(denied["allowed"], false, "{denied}");
    let sentence = denied["sentence"].as_str().unwrap();
    laptop
        .run(&["nc", "10.9.0.1", "9090"])
        .refused(6, &[sentence]);
    // A host is no device: the rule opens no port of the gateway itself.
    let itself = explain(&lab, "laptop", "web", "tcp/8080");
    assert_eq!(itself["allowed"], false, "{itself}");

    // What nobody may reach any more ends, at the host too.
    let began = now();
    set(
        &lab,
        &file(
            &lab,
            "none.toml",
            &PAGES.replace("device:laptop", "device:web"),
        ),
    );
    let cut = page.read(&mut [0; 8]).map_err(|error| error.kind());
    assert!(matches!(cut, Ok(0) | Err(_)), "{cut:?}");
    page_ends.recv_timeout(LONGEST).unwrap();
    assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    until("a refusal", LONGEST, || {
        connection(&laptop, "10.9.0.1", 8080)
            .is_none()
            .then_some(())
    });
}
