//! Single sign-on by the commands that people type: a real provider, a plain browser, and a group
//! whose loss cuts what its policy lets reach.

use std::fs;

use serde_json::{Value, json};

use crate::lab::{Lab, state};
use crate::process::{Program, overlan, run};
use crate::provider::{Browser, CLIENT, Provider, SECRET};

/// A deployment whose organisation has an identity provider.
fn deployment() -> (Lab, Provider) {
    let lab = Lab::start();
    let provider = Provider::start();
    let ca = lab.path("provider.pem");
    fs::write(&ca, &provider.ca).unwrap();
    let ca = ca.to_str().unwrap().to_owned();
    let words = ["identity-provider", "set", "--issuer", &provider.url];
    let client = ["--client-id", CLIENT, "--client-secret-file", "-"];
    let more = ["--domain", "example.org", "--issuer-ca", &ca];
    let mut set = lab.admin_command(&[&words[..], &client, &more].concat());
    let set = run(&mut set, &format!("{SECRET}\n")).ok();
    let address = &lab.controller.address;
    assert_eq!(set.trim(), format!("https://{address}/sso/callback"));
    (lab, provider)
}

/// Logs the provider's person in with the state directory `name`.
fn log_in(lab: &Lab, provider: &Provider, name: &str) {
    let directory = lab.path(name);
    let mut login = overlan();
    login.args(["login", "--sso", "--no-browser", "--server"]);
    login.arg(&lab.controller.join).args(state(&directory));
    let mut login = Program::start(name, &lab.path(""), &mut login, "");
    let url = login.line("  https://");
    let url = format!("https://{}", url.trim());
    let join = lab.controller.join.parse().unwrap();
    let mut browser = Browser::new(&join, provider);
    let page = browser.open(&url);
    let code = page.body.split("<b><code>").nth(1).unwrap();
    let code = code.split('<').next().unwrap();
    assert!(login.output().contains(code), "{page:?}");
    let last = browser.follow(&page);
    assert!(last.body.contains("You may close this window"), "{last:?}");
    assert!(login.ended().success(), "{}", login.output());
}

#[test]
fn a_person_logs_in_by_a_browser_and_the_program_has_the_session() {
    let (lab, provider) = deployment();
    let test = lab.admin(&["identity-provider", "test", "--json"]);
    let test: Value = serde_json::from_str(&test).unwrap();
    assert_eq!(test["identity_provider_test"]["warnings"], json!([]));
    log_in(&lab, &provider, "ana");
    let people = lab.admin(&["person", "list"]);
    assert!(people.contains("ana@example.org"), "{people}");
    // A new key at the provider is found with the first token by it.
    provider.rotate();
    log_in(&lab, &provider, "ana-again");
    let shown = lab.admin(&["identity-provider", "show"]);
    assert!(shown.contains("makes members of example.org"), "{shown}");

    // The provider refuses, and the program says why.
    provider.known().twisted = json!({"sub": "u-9", "email_verified": false});
    let mut login = overlan();
    login.args(["login", "--sso", "--no-browser", "--server"]);
    login
        .arg(&lab.controller.join)
        .args(state(&lab.path("eve")));
    let mut login = Program::start("eve", &lab.path(""), &mut login, "");
    let url = format!("https://{}", login.line("  https://").trim());
    let mut browser = Browser::new(&lab.controller.join.parse().unwrap(), &provider);
    let page = browser.open(&url);
    assert_eq!(browser.follow(&page).status(), 403);
    assert!(!login.ended().success());
    let output = login.output();
    assert!(output.contains("an email is verified"), "{output}");

    // Without the provider nobody can begin.
    lab.admin(&["identity-provider", "remove"]);
    let mut login = overlan();
    login.args(["login", "--sso", "--no-browser", "--server"]);
    login
        .arg(&lab.controller.join)
        .args(state(&lab.path("ben")));
    run(&mut login, "").refused(1, &["has no identity provider"]);
    let people = lab.admin(&["person", "list"]);
    assert!(people.contains("ana@example.org"), "{people}");
}
