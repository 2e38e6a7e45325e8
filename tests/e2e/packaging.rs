//! The files of `examples/deploy`, run as far as this machine can: the GitHub action by node, the
//! containers' settings as processes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::lab::{DOMAIN, Device, Lab};
use crate::oidc::issuer::{Issuer, now};
use crate::process::{
    LONGEST, Program, command, installed, overlan, path, python_with, repository, run, until,
};
use crate::service::Service;
use crate::upstream::free_port;

fn example(path: &str) -> PathBuf {
    repository("examples/deploy").join(path)
}

#[test]
fn the_github_action_brings_a_job_in_and_takes_it_out_again() {
    if !installed(&["curl", "node"]) {
        return;
    }
    let lab = Lab::start();
    let page = Service::http("a page of web\n");
    let web = lab.up("web");
    web.serve(80, page.address());
    let key = lab.auth_key(&["--reusable", "--ephemeral"]);
    let runner = lab.path("runner");
    fs::create_dir(&runner).unwrap();
    let file = |name: &str| runner.join(name);
    let told = |name: &str| -> BTreeMap<String, String> {
        let text = fs::read_to_string(file(name)).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let issuer = Issuer::start();
    let ca = lab.path("issuer.pem");
    fs::write(&ca, &issuer.ca).unwrap();
    let create = ["trust-rule", "create", "job", "--issuer", &issuer.url];
    let rule = [
        "--issuer-ca",
        ca.to_str().unwrap(),
        "--claim",
        "repository_id=74",
    ];
    lab.admin(&[&create[..], &rule].concat());
    let claims = json!({"repository_id": "74", "iat": now(), "exp": now() + 300, "jti": "1"});
    let (door, secret) = issuer.door_for(&claims);
    let step = |script: &str, key: &str, ping: &str| {
        let mut node = command("node");
        node.arg(example("github-action").join(script))
            .env("RUNNER_TEMP", &runner)
            .env("ACTIONS_ID_TOKEN_REQUEST_URL", &door)
            .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", secret);
        for name in ["GITHUB_STATE", "GITHUB_OUTPUT", "GITHUB_ENV"] {
            node.env(name, file(name));
        }
        for (name, value) in told("GITHUB_STATE") {
            node.env(format!("STATE_{name}"), value);
        }
        let inputs = [
            ("SERVER", lab.controller.join.as_str()),
            ("AUTHKEY", key),
            ("HOSTNAME", "job"),
            ("NETWORK", "home"),
            ("PING", ping),
            ("TIMEOUT", "30"),
            ("ARGS", "--hold 5"),
            ("PROXY-ENV", "true"),
            ("BINARY", env!("CARGO_BIN_EXE_overlan")),
        ];
        for (name, value) in inputs {
            node.env(format!("INPUT_{name}"), value);
        }
        run(&mut node, "")
    };

    // Without a key it comes in by the job's own token.
    let main = step("main.js", "", "web").ok();
    assert!(
        main.contains("overlan is up: job.home") && main.contains("pong from web"),
        "{main}"
    );
    let variables = told("GITHUB_ENV");
    assert_eq!(
        variables["ALL_PROXY"],
        format!("socks5h://{}", told("GITHUB_OUTPUT")["socks"])
    );
    let mut curl = command("curl");
    curl.args(["--silent", "--fail", &format!("http://{}/", web.name)])
        .envs(&variables);
    assert_eq!(run(&mut curl, "").ok(), "a page of web");
    assert!(lab.admin(&["devices"]).contains("job"));

    step("post.js", &key, "").ok();
    assert!(!lab.admin(&["devices"]).contains("job"));
    assert!(!Path::new(&variables["OVERLAN_STATE_DIR"]).exists());

    let with_key = step("main.js", &key, "web").ok();
    assert!(with_key.contains("overlan is up: job.home"), "{with_key}");
    assert!(!with_key.contains(&key), "{with_key}");
    step("post.js", &key, "").ok();
    assert!(!lab.admin(&["devices"]).contains("job"));

    fs::remove_file(file("GITHUB_STATE")).unwrap();
    let refused = step("main.js", "ovk_wrong_key", "");
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stdout.contains("::error::overlan"), "{refused:#?}");
    assert!(refused.stderr.contains("auth key"), "{refused:#?}");
}

/// A document of `examples/deploy` as JSON, anchors and merges resolved.
fn yaml(python: &str, path: &str) -> Value {
    let script = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let mut python = command(python);
    let text = run(python.args(["-c", script]).arg(example(path)), "").ok();
    serde_json::from_str(&text).unwrap()
}

/// `overlan up` with the settings that a container gets; what belongs to the place is another one
/// here.
fn as_container(lab: &Lab, name: &str, settings: &BTreeMap<String, String>) -> Device {
    let state = lab.path(name);
    let mut up = overlan();
    up.arg("up").envs(settings);
    up.env("OVERLAN_SERVER", &lab.controller.join);
    up.env("OVERLAN_STATE_DIR", &state);
    if !settings["OVERLAN_SOCKS"].starts_with("unix:") {
        up.env("OVERLAN_SOCKS", "127.0.0.1:0");
    }
    up.env("OVERLAN_DNS", "127.0.0.1:0");
    Device::ready(Program::start(name, &lab.path(""), &mut up, ""), &state)
}

/// Makes a trust rule for the service account of the example, and the file with a token of it.
fn token_of_a_pod(lab: &Lab) -> String {
    let cluster = Issuer::start();
    let name = "https://kubernetes.default.svc.cluster.local";
    let (keys, file) = (lab.path("jwks.json"), lab.path("pod.token"));
    fs::write(&keys, cluster.key_set().to_string()).unwrap();
    let account = "system:serviceaccount:default:default";
    let create = ["trust-rule", "create", "pods", "--issuer", name, "--jwks"];
    let claim = format!("sub={account}");
    let rule = [
        keys.to_str().unwrap(),
        "--claim",
        &claim,
        "--lifetime",
        "7d",
    ];
    lab.admin(&[&create[..], &rule].concat());
    let claims = json!({
        "iss": name, "aud": [format!("https://{}", lab.controller.address)], "sub": account,
        "iat": now(), "nbf": now(), "exp": now() + 3_600,
    });
    fs::write(&file, cluster.sign(&claims)).unwrap();
    file.display().to_string()
}

#[test]
fn the_containers_settings_bring_an_application_in() {
    if !installed(&["curl"]) {
        return;
    }
    let Some(python) = python_with("yaml") else {
        return;
    };
    let lab = Lab::start();
    let page = Service::http("a page of web\n");
    let web = lab.up("web");
    web.serve(80, page.address());

    let compose = yaml(&python, "container/compose.yaml");
    let service = &compose["services"]["overlan"];
    let mut settings: BTreeMap<String, String> =
        serde_json::from_value(service["environment"].clone()).unwrap();
    let password = lab.path("proxy-password");
    fs::write(&password, "secret\n").unwrap();
    let key = lab.path("application.key");
    fs::write(&key, lab.auth_key(&[])).unwrap();
    for (name, file) in [("SOCKS_PASSWORD", &password), ("AUTH_KEY", &key)] {
        let variable = format!("OVERLAN_{name}_FILE");
        settings.insert(variable, file.display().to_string());
    }
    settings.remove("OVERLAN_AUTH_KEY");
    let beside = as_container(&lab, "application", &settings);
    let proxy = format!("socks5h://application:secret@{}", beside.socks);
    let url = format!("http://web.home.{DOMAIN}/");
    let reached = until("web", LONGEST, || {
        let curl = ["--silent", "--fail", "--proxy", &proxy, &url];
        Some(run(command("curl").args(curl), "")).filter(|outcome| outcome.code == Some(0))
    });
    assert_eq!(reached.ok(), "a page of web");
    let check: Vec<&str> = service["healthcheck"]["test"].as_array().unwrap()[2..]
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    beside.run(&check).ok();
    for service in ["overlan", "overlan-by-socket"] {
        let service = &compose["services"][service];
        assert_eq!(service["read_only"], true);
        assert_eq!(service["cap_drop"][0], "ALL");
        assert_eq!(service["mem_limit"], "64m");
    }

    let pod = yaml(&python, "container/kubernetes.yaml");
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(sidecar["resources"]["limits"]["memory"], "64Mi");
    let fixed = sidecar["env"].as_array().unwrap().iter();
    let mut settings: BTreeMap<String, String> = fixed
        .filter_map(|one| {
            let value = one["value"].as_str()?;
            Some((one["name"].as_str()?.to_owned(), value.to_owned()))
        })
        .collect();
    // The token that the cluster puts there is a file here.
    let token = &pod["spec"]["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["path"], "token");
    assert_eq!(
        sidecar["volumeMounts"][1]["mountPath"],
        "/var/run/secrets/overlan"
    );
    let file = token_of_a_pod(&lab);
    settings.insert("OVERLAN_OIDC_TOKEN_FILE".to_owned(), file);
    let sidecar_device = as_container(&lab, "pod", &settings);
    sidecar_device.sees(&web, true);
    assert_eq!(sidecar_device.curl(&[&url]).ok(), "a page of web");
    for probe in ["startupProbe", "livenessProbe"] {
        let words = sidecar[probe]["exec"]["command"].as_array().unwrap();
        let words: Vec<&str> = words[1..]
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        sidecar_device.run(&words).ok();
    }
}

#[test]
fn the_jobs_of_gitlab_come_in_without_a_secret() {
    if !installed(&["curl", "sh"]) {
        return;
    }
    let Some(python) = python_with("yaml") else {
        return;
    };
    let lab = Lab::start();
    let page = Service::http("a page of web\n");
    let web = lab.up("web");
    web.serve(80, page.address());
    let gitlab = Issuer::start();
    let ca = lab.path("issuer.pem");
    fs::write(&ca, &gitlab.ca).unwrap();
    let create = [
        "trust-rule",
        "create",
        "build",
        "--issuer",
        &gitlab.url,
        "--claim",
    ];
    let rule = ["project_id=22", "--claim", "ref_protected=true"];
    let ca = ["--issuer-ca", ca.to_str().unwrap()];
    lab.admin(&[&create[..], &rule, &ca].concat());
    let jobs = yaml(&python, "gitlab-ci.yml");
    let audience = jobs[".overlan"]["id_tokens"]["OVERLAN_ID_TOKEN"]["aud"].as_str();
    assert!(audience.unwrap().starts_with("https://"), "{audience:?}");
    let binary = Path::new(env!("CARGO_BIN_EXE_overlan")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), path().display());
    for (number, name) in ["one-command", "several-commands"].into_iter().enumerate() {
        let job = &jobs[name];
        assert_eq!(job["extends"], ".overlan");
        let token = gitlab.sign(&json!({
            "iss": gitlab.url, "aud": format!("https://{}", lab.controller.address),
            "project_id": "22", "ref_protected": "true", "jti": name,
            "iat": now(), "exp": now() + 300,
        }));
        let lines = ["before_script", "script", "after_script"]
            .iter()
            .flat_map(|part| job[part].as_array().into_iter().flatten());
        let lines: Vec<&str> = lines.map(|line| line.as_str().unwrap()).collect();
        // Names and ports of this machine.
        let script = format!("set -e\n{}\n", lines.join("\n"))
            .replace("overlan.internal", DOMAIN)
            .replace("127.0.0.1:1080", &format!("127.0.0.1:{}", free_port()));
        let mut shell = command("sh");
        shell.args(["-c", &script]).env("PATH", &path);
        shell.env("OVERLAN_SERVER", &lab.controller.join);
        shell.env("CI_JOB_ID", number.to_string());
        shell.env("OVERLAN_STATE_DIR", lab.path(name));
        shell.env("OVERLAN_ID_TOKEN", token);
        shell.env("OVERLAN_OIDC", job_variable(&jobs, "OVERLAN_OIDC"));
        let said = run(&mut shell, "").ok();
        assert!(said.contains("a page of web"), "{name}: {said}");
        assert!(!lab.admin(&["devices"]).contains("ci-"), "{name}");
    }
}

fn job_variable(jobs: &Value, name: &str) -> String {
    jobs[".overlan"]["variables"][name]
        .as_str()
        .unwrap()
        .to_owned()
}
