//! The API answers what its own document says, to any request: schemathesis makes them from the
//! document, for a program whose token may do everything.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::lab::Lab;
use crate::process::{command, installed, overlan, run, run_within};

/// Some 70 operations with 60 to 200 requests each take a third of it on a quiet machine.
const LONGEST_RUN: Duration = Duration::from_secs(240);

/// Every answer is one that the document names, and its body is as the schema says. No request
/// makes an error of the server. 503 may come: a connection on which nobody has proved who they are
/// takes a few requests, so that strangers leave room for others.
const SETTINGS: &str = r#"
continue-on-failure = true
headers = { Authorization = "Bearer ${OVERLAN_API_TOKEN}" }

[generation]
max-examples = 12

[phases]
stateful.enabled = false

[checks]
enabled = false
not_a_server_error.enabled = true
not_a_server_error.expected-statuses = ["2xx", "4xx", "503"]
status_code_conformance.enabled = true
content_type_conformance.enabled = true
response_schema_conformance.enabled = true
"#;

#[test]
fn every_answer_is_one_of_those_in_the_document() {
    if !installed(&["schemathesis"]) {
        return;
    }
    let lab = Lab::start_logging("warn");
    let text = run(overlan().args(["controller", "openapi"]), "").ok();
    let document: Value = serde_json::from_str(&text).unwrap();
    let scopes = scopes(&document);
    assert!(scopes.len() > 15, "{scopes:?}");
    let token = lab.admin(&["api-token", "create", "all", "--scope", &scopes.join(",")]);
    fs::write(lab.path("openapi.json"), &text).unwrap();
    fs::write(lab.path("schemathesis.toml"), SETTINGS).unwrap();

    let mut calls = command("schemathesis");
    calls
        .args(["--config-file", "schemathesis.toml", "run", "openapi.json"])
        .args(["--url", &format!("https://{}", lab.controller.address)])
        .args(["--include-path-regex", "^/api/v1/", "--seed", "1"])
        // It checks answers, not certificates; the pin of the join string is no authority for it.
        .args(["--tls-verify", "false"])
        // A connection that stays a stranger ends after a while, perhaps as the next request comes.
        .args(["--request-retries", "3", "--no-color"])
        .env("OVERLAN_API_TOKEN", &token)
        .current_dir(lab.path("."));
    let outcome = run_within(LONGEST_RUN, &mut calls, "");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stdout);
    let is_alive = lab.admin(&["organisation", "show"]);
    assert!(!is_alive.is_empty());
}

/// Every permission that an operation of the document names.
fn scopes(document: &Value) -> Vec<String> {
    let mut found: Vec<String> = operations(document)
        .filter_map(|operation| operation["x-overlan-access"].as_str())
        .filter(|access| access.contains(':'))
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

fn operations(document: &Value) -> impl Iterator<Item = &Value> {
    let paths = document["paths"].as_object().unwrap().values();
    paths.flat_map(|item| item.as_object().unwrap().values())
}
