//! Jobs that come in by the token of their own provider, from a local issuer with tokens shaped as
//! GitHub, GitLab and Kubernetes document theirs, and every token that must not let anybody in.

pub(crate) mod issuer;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::Lab;
use crate::process::{LONGEST, Program, installed, overlan, run, until};
use crate::service::Service;
use issuer::{Issuer, now};

/// A deployment, an issuer, and a rule for each kind of job.
struct Jobs {
    lab: Lab,
    issuer: Issuer,
    /// The tokens that were made, as texts that must not be found anywhere.
    tokens: Vec<String>,
}

impl Jobs {
    fn start() -> Self {
        let jobs = Self {
            lab: Lab::start(),
            issuer: Issuer::start(),
            tokens: Vec::new(),
        };
        let ca = jobs.lab.path("issuer.pem");
        fs::write(&ca, &jobs.issuer.ca).unwrap();
        let main = "ref=refs/heads/main";
        let tail = [
            "--device-name",
            "ci-{run_id}",
            "--lifetime",
            "10m",
            "--tag",
            "ci",
        ];
        jobs.rule(
            "github",
            &["--claim", "repository_id=74", "--claim", main],
            &tail,
        );
        let protected = "ref_protected=true";
        jobs.rule(
            "gitlab",
            &["--claim", "project_id=22", "--claim", protected],
            &[],
        );
        let account = "sub=system:serviceaccount:my-namespace:my-serviceaccount";
        jobs.rule(
            "pods",
            &["--claim", account],
            &["--device-name", "{kubernetes.io/pod/name}"],
        );
        jobs
    }

    fn rule(&self, name: &str, claims: &[&str], more: &[&str]) -> String {
        let ca = self.lab.path("issuer.pem");
        let create = ["trust-rule", "create", name, "--issuer", &self.issuer.url];
        let create = [
            &create[..],
            &["--issuer-ca", ca.to_str().unwrap()],
            claims,
            more,
        ]
        .concat();
        let made = run(&mut self.lab.admin_command(&create), "");
        assert_eq!(made.code, Some(0), "{made:#?}");
        made.stderr
    }

    fn audience(&self) -> String {
        format!("https://{}", self.lab.controller.address)
    }

    /// The claims of a job of GitHub on the main branch, as its documents show them.
    fn github(&self) -> Value {
        json!({
            "jti": unique(), "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
            "aud": self.audience(), "ref": "refs/heads/main", "ref_type": "branch",
            "ref_protected": "true", "sha": "example-sha", "repository": "octo-org/octo-repo",
            "repository_id": "74", "repository_owner": "octo-org", "repository_owner_id": "65",
            "repository_visibility": "private", "actor": "octocat", "actor_id": "12",
            "workflow": "example-workflow", "head_ref": "", "base_ref": "", "run_id": "17",
            "run_number": "10", "run_attempt": "2", "event_name": "push",
            "runner_environment": "github-hosted", "iss": self.issuer.url,
            "job_workflow_ref": "octo-org/automation/.github/workflows/oidc.yml@refs/heads/main",
            "nbf": now() - 5, "iat": now(), "exp": now() + 300,
        })
    }

    /// The claims of a job of GitLab.
    fn gitlab(&self) -> Value {
        json!({
            "namespace_id": "72", "namespace_path": "my-group", "project_id": "22",
            "project_path": "my-group/my-project", "user_id": "1", "user_login": "sample-user",
            "user_email": "sample-user@example.com", "pipeline_id": "574",
            "pipeline_source": "push", "job_id": "302", "ref": "feature-branch-1",
            "ref_type": "branch", "ref_path": "refs/heads/feature-branch-1",
            "ref_protected": "true", "environment": "test-environment2", "runner_id": 1,
            "runner_environment": "self-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
            "project_visibility": "private", "jti": unique(), "iss": self.issuer.url,
            "iat": now(), "nbf": now() - 5, "exp": now() + 3_600, "aud": self.audience(),
            "sub": "project_path:my-group/my-project:ref_type:branch:ref:feature-branch-1",
        })
    }

    /// The claims of a pod: a list of audiences, no type, and claims within a claim.
    fn pod(&self) -> Value {
        json!({
            "aud": [self.audience()], "exp": now() + 3_600, "iat": now(), "nbf": now(),
            "iss": self.issuer.url, "jti": unique(),
            "kubernetes.io": {
                "namespace": "my-namespace",
                "node": {"name": "my-node", "uid": "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"},
                "pod": {"name": "my-pod", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
                "serviceaccount": {
                    "name": "my-serviceaccount", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798",
                },
            },
            "sub": "system:serviceaccount:my-namespace:my-serviceaccount",
        })
    }

    /// `exec --ephemeral --oidc` of a program, not started yet.
    fn exec(&self, program: &[&str]) -> Command {
        let mut exec = overlan();
        exec.args(["exec", "--ephemeral", "--oidc", "--server"]);
        exec.arg(&self.lab.controller.join).arg("--").args(program);
        exec
    }

    /// The same with a token in a file.
    fn exec_by(&mut self, token: String) -> Command {
        let file = self.lab.path("token-of-the-test");
        fs::write(&file, &token).unwrap();
        self.tokens.push(token);
        let mut exec = self.exec(&["true"]);
        exec.env("OVERLAN_OIDC_TOKEN_FILE", file);
        exec
    }

    /// That none of the tokens stands in any file of the deployment: states, database, logs.
    fn left_no_token(&self) {
        fs::remove_file(self.lab.path("token-of-the-test")).ok();
        let mut files = Vec::new();
        files_below(&self.lab.path(""), &mut files);
        assert!(files.len() > 10, "{files:?}");
        for (file, content) in files {
            for token in &self.tokens {
                let signature = token.rsplit_once('.').unwrap().1.as_bytes();
                // What is not a signature stands for a word in texts.
                let found = signature.len() > 40
                    && content
                        .windows(signature.len())
                        .any(|part| part == signature);
                assert!(!found, "a token is in {file}");
            }
        }
    }
}

fn files_below(directory: &Path, into: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, into);
        } else if path.is_file() {
            into.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}

fn unique() -> String {
    let bytes: [u8; 16] = overlan_protocol::key::random_bytes();
    data_encoding::HEXLOWER.encode(&bytes)
}

#[test]
fn jobs_of_three_kinds_come_in_by_their_own_token_and_are_gone_with_their_command() {
    if !installed(&["curl", "sh"]) {
        return;
    }
    let mut jobs = Jobs::start();
    let page = Service::http("a page of web\n");
    let web = jobs.lab.up("web");
    web.serve(80, page.address());
    let url = format!("http://{}/", web.name);
    // What the program sees of the command that started it must not have the token either.
    let script = format!(
        "tr '\\0' ' ' < /proc/$PPID/cmdline; env; curl --disable -sS --fail --max-time 30 {url}"
    );
    let program = ["sh", "-c", &script];

    let (door, secret) = jobs.issuer.door_for(&jobs.github());
    let mut github = jobs.exec(&program);
    github.env("GITHUB_ACTIONS", "true");
    github.env("ACTIONS_ID_TOKEN_REQUEST_URL", door);
    github.env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", secret);

    let token = jobs.issuer.sign(&jobs.gitlab());
    let mut gitlab = jobs.exec(&program);
    gitlab
        .env("GITLAB_CI", "true")
        .env("OVERLAN_ID_TOKEN", &token);
    jobs.tokens.push(token);

    let outcome = run(&mut github, "");
    assert!(outcome.stdout.ends_with("a page of web\n"), "{outcome:#?}");
    // The issuer was asked once for its document and once for its keys.
    let asked = ["/.well-known/openid-configuration", "/jwks"];
    assert_eq!(jobs.issuer.asked(), asked);
    let outcome = run(&mut gitlab, "");
    assert!(outcome.stdout.ends_with("a page of web\n"), "{outcome:#?}");
    assert!(!outcome.stdout.contains(&jobs.tokens[0]), "{outcome:#?}");
    assert_eq!(jobs.issuer.asked(), [""; 0]);

    // A new key at the issuer is found when the first token by it comes.
    jobs.issuer.rotate();
    let token = jobs.issuer.sign(&jobs.pod());
    let file = jobs.lab.path("token-of-the-test");
    fs::write(&file, format!("{token}\n")).unwrap();
    jobs.tokens.push(token);
    let mut pod = jobs.exec(&program);
    pod.env("OVERLAN_OIDC_TOKEN_FILE", &file);
    let outcome = run(&mut pod, "");
    assert!(outcome.stdout.ends_with("a page of web\n"), "{outcome:#?}");
    assert_eq!(jobs.issuer.asked(), asked);

    // The commands have ended, and their devices are gone.
    let devices = jobs.lab.admin(&["device", "list"]);
    assert!(
        devices.contains("web") && !devices.contains("ci-17"),
        "{devices}"
    );
    assert_eq!(devices.lines().count(), 2, "{devices}");
    let rules = jobs.lab.admin(&["trust-rule", "list", "--json"]);
    let rules: Value = serde_json::from_str(&rules).unwrap();
    for rule in rules["trust_rules"].as_array().unwrap() {
        assert_eq!(rule["uses"], 1, "{rule}");
        assert_eq!(rule["networks"], json!(["home"]), "{rule}");
    }
    jobs.left_no_token();
}

#[test]
fn tokens_that_must_not_let_anybody_in_are_refused_with_the_claim() {
    let mut jobs = Jobs::start();
    let with = |mut claims: Value, claim: &str, value: Value| {
        claims[claim] = value;
        claims
    };
    let good = |jobs: &Jobs| jobs.github();
    let cases: [(&str, Value, &str); 11] = [
        (
            "aud",
            json!("https://other.example"),
            "claim aud is \"https://other.example\"",
        ),
        (
            "aud",
            json!([jobs.audience(), "https://other.example"]),
            "claim aud names several",
        ),
        (
            "iss",
            json!("https://127.0.0.1:1"),
            "claim iss is \"https://127.0.0.1:1\"",
        ),
        (
            "repository_id",
            json!("75"),
            "claim \"repository_id\" is \"75\"",
        ),
        (
            "ref",
            json!("refs/pull/7/merge"),
            "claim \"ref\" is \"refs/pull/7/merge\"",
        ),
        ("ref", json!(null), "claim \"ref\" is missing"),
        ("exp", json!(now() - 3_600), "claim exp: the token expired"),
        ("exp", json!("never"), "claim exp is not a time"),
        (
            "nbf",
            json!(now() + 3_600),
            "claim nbf: the token is not valid for another",
        ),
        (
            "exp",
            json!(now() + 3_000_000),
            "claim exp: the token is valid for more than",
        ),
        ("aud", json!(7), "claim aud is not a text"),
    ];
    for (claim, value, refusal) in cases {
        let token = jobs.issuer.sign(&with(good(&jobs), claim, value));
        run(&mut jobs.exec_by(token), "").refused(4, &[refusal]);
    }
    let claims = good(&jobs);
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid, "typ": "JWT"});
    let none = jobs.issuer.sign_as(&header("none", "key-1"), &claims);
    let none = format!("{}.", none.rsplit_once('.').unwrap().0);
    // The public key is no secret, so whoever knows it could sign.
    let hs256 = signed_by_public_key(&jobs.issuer, &claims);
    let other = Issuer::start().sign(&claims);
    let unknown = jobs.issuer.sign_as(&header("RS256", "key-9"), &claims);
    for (token, refusal) in [
        (none, "header alg is \"none\""),
        (hs256, "header alg is \"HS256\""),
        (unknown, "header kid is \"key-9\""),
        (other, "the signature is not by the issuer's key"),
        ("not.a.token".to_owned(), "this is not a token"),
    ] {
        run(&mut jobs.exec_by(token), "").refused(4, &[refusal]);
    }
    // A token works once, also after the controller was started again.
    let once = jobs.issuer.sign(&claims);
    run(&mut jobs.exec_by(once.clone()), "").ok();
    run(&mut jobs.exec_by(once.clone()), "").refused(4, &["claim jti"]);
    jobs.lab.controller.program.stop();
    jobs.lab.restart_controller();
    run(&mut jobs.exec_by(once), "").refused(4, &["claim jti"]);
    let long = "a.".repeat(1_000_000);
    run(&mut jobs.exec_by(long), "").refused(4, &["does not hold a token", "12288 bytes"]);
    let devices = jobs.lab.admin(&["device", "list", "--json"]);
    assert!(
        devices.contains("\"devices\": []") || devices.contains("[]"),
        "{devices}"
    );
    jobs.left_no_token();
}

#[test]
fn issuers_that_cannot_be_asked_let_nobody_in_and_say_why() {
    let mut jobs = Jobs::start();
    let url = jobs.issuer.url.clone();
    let port = url.rsplit_once(':').unwrap().1.to_owned();
    let nobody = Service::start(drop).address();
    let ca = jobs.lab.path("issuer.pem");
    for (name, issuer, why) in [
        ("down", format!("https://{nobody}"), "is not reached"),
        (
            "private",
            format!("https://localhost:{port}"),
            "which is not a public address",
        ),
        (
            "elsewhere",
            format!("{url}/private"),
            "which is not a public address",
        ),
        ("redirect", format!("{url}/redirect"), "redirect"),
        ("huge", format!("{url}/huge"), "more than 256 KiB"),
        ("missing", format!("{url}/missing"), "status 404"),
    ] {
        let create = [
            "trust-rule",
            "create",
            name,
            "--issuer",
            &issuer,
            "--claim",
            "sub=x",
        ];
        let ca = ["--issuer-ca", ca.to_str().unwrap()];
        jobs.lab.admin(&[&create[..], &ca].concat());
        let mut claims = jobs.github();
        claims["iss"] = issuer.as_str().into();
        let token = jobs.issuer.sign(&claims);
        run(&mut jobs.exec_by(token), "").refused(8, &["claim iss", &issuer, why]);
    }
    // Without the CA nobody proves to be the issuer.
    let create = [
        "trust-rule",
        "create",
        "unproved",
        "--issuer",
        &url,
        "--claim",
        "sub=x",
    ];
    jobs.lab
        .admin(&[&create[..], &["--audience", "other"]].concat());
    let mut claims = jobs.github();
    claims["aud"] = "other".into();
    let token = jobs.issuer.sign(&claims);
    let mut exec = jobs.exec_by(token);
    run(exec.env("OVERLAN_OIDC_AUDIENCE", "other"), "").refused(8, &["does not prove who it is"]);

    // Keys that stand in the rule need no issuer.
    let keys = jobs.lab.path("jwks.json");
    fs::write(&keys, jobs.issuer.key_set().to_string()).unwrap();
    let cluster = "https://kubernetes.default.svc.cluster.local";
    let create = [
        "trust-rule",
        "create",
        "cluster",
        "--issuer",
        cluster,
        "--claim",
    ];
    let jwks = [
        "kubernetes.io/namespace=my-namespace",
        "--jwks",
        keys.to_str().unwrap(),
    ];
    jobs.lab.admin(&[&create[..], &jwks].concat());
    let mut claims = jobs.pod();
    claims["iss"] = cluster.into();
    let token = jobs.issuer.sign(&claims);
    run(&mut jobs.exec_by(token), "").ok();
}

#[test]
fn rules_are_shown_tested_and_removed() {
    let mut jobs = Jobs::start();
    let warned = jobs.rule("named", &["--claim", "repository=octo-org/octo-repo"], &[]);
    assert!(
        warned.contains("Warning: claim repository is only a name"),
        "{warned}"
    );
    assert!(warned.contains("repository_id"), "{warned}");
    let shown = jobs.lab.admin(&["trust-rule", "show", "github"]);
    for part in [
        "claim repository_id  74",
        "refs/heads/main",
        "600 s",
        "ci-{run_id}",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let admin = |jobs: &Jobs, args: &[&str]| {
        let args = [&["trust-rule"], args].concat();
        run(&mut jobs.lab.admin_command(&args), "")
    };
    let create = ["create", "wide", "--issuer", "github", "--claim"];
    let refused = admin(&jobs, &[&create[..], &["ref=refs/heads/main"]].concat());
    refused.refused(1, &["everybody", "repository_id"]);
    let named = admin(&jobs, &[&create[..], &["repository_id=octo/repo"]].concat());
    named.refused(1, &["repository_id is a number"]);
    let twice = ["create", "github", "--issuer", "github", "--claim", "sub=x"];
    admin(&jobs, &twice).refused(1, &["trust rule github already"]);

    let file = jobs.lab.path("token.txt");
    let path = file.to_str().unwrap().to_owned();
    fs::write(&file, jobs.issuer.sign(&jobs.github())).unwrap();
    for _ in 0..2 {
        let tested = admin(&jobs, &["test", &path]);
        assert_eq!(tested.code, Some(0), "{tested:#?}");
        assert!(tested.stderr.contains("rule github accepts"), "{tested:#?}");
    }
    let mut fork = jobs.github();
    fork["ref"] = "refs/pull/7/merge".into();
    fork["repository"] = "other/repo".into();
    fs::write(&file, jobs.issuer.sign(&fork)).unwrap();
    let tested = admin(&jobs, &["test", &path]);
    assert_eq!(tested.code, Some(6), "{tested:#?}");
    assert!(tested.stdout.contains("refs/pull/7/merge"), "{tested:#?}");
    assert!(tested.stdout.contains("refs/heads/main"), "{tested:#?}");

    admin(&jobs, &["remove", "github"]).ok();
    admin(&jobs, &["remove", "github"]).refused(1, &["no such trust rule"]);
    let token = jobs.issuer.sign(&jobs.github());
    // The rule by the name of the repository is left.
    run(&mut jobs.exec_by(token), "").ok();
    admin(&jobs, &["remove", "named"]).ok();
    let token = jobs.issuer.sign(&jobs.github());
    run(&mut jobs.exec_by(token), "").refused(4, &["the workload token is refused: claim"]);
}

#[test]
fn a_job_without_a_token_hears_what_its_file_lacks() {
    let lab = Lab::start();
    let exec = |system: &str| {
        let mut exec = overlan();
        exec.args([
            "exec",
            "--ephemeral",
            "--oidc",
            "--server",
            &lab.controller.join,
        ]);
        exec.args(["--", "true"]).env(system, "true");
        run(&mut exec, "")
    };
    exec("GITHUB_ACTIONS").refused(4, &["permissions:", "id-token: write"]);
    exec("GITLAB_CI").refused(
        4,
        &["id_tokens:", "OVERLAN_ID_TOKEN:", "aud: https://127.0.0.1:"],
    );
    exec("KUBERNETES_SERVICE_HOST").refused(4, &["serviceAccountToken", "mountPath"]);
    exec("OTHER").refused(4, &["--oidc-token-file"]);
}

#[test]
fn a_device_of_a_job_ends_with_its_life_although_it_is_online() {
    let mut jobs = Jobs::start();
    let rule = ["--claim", "project_id=23"];
    jobs.rule(
        "short",
        &rule,
        &["--lifetime", "10s", "--device-name", "short", "--tag", "ci"],
    );
    let mut claims = jobs.gitlab();
    claims["project_id"] = "23".into();
    let token = jobs.issuer.sign(&claims);
    let file = jobs.lab.path("token-of-the-test");
    fs::write(&file, &token).unwrap();
    jobs.tokens.push(token);
    let mut up = overlan();
    up.args([
        "up",
        "--oidc",
        "--socks",
        "127.0.0.1:0",
        "--dns",
        "off",
        "--server",
    ]);
    up.arg(&jobs.lab.controller.join)
        .arg("--state-dir")
        .arg(jobs.lab.path("short"));
    up.env("OVERLAN_OIDC_TOKEN_FILE", &file);
    let mut up = Program::start("short", &jobs.lab.path(""), &mut up, "");
    up.line("overlan is up: short.home");
    let tagged = jobs.lab.admin(&["device", "list", "--json"]);
    let tagged: Value = serde_json::from_str(&tagged).unwrap();
    assert_eq!(tagged["devices"][0]["tags"], json!(["ci"]), "{tagged}");
    until("the end of its life", LONGEST, || {
        (!jobs.lab.admin(&["device", "list"]).contains("short")).then_some(())
    });
    assert_eq!(up.ended().code(), Some(4), "{}", up.output());
    assert!(
        up.output().contains("removed this device"),
        "{}",
        up.output()
    );
    jobs.left_no_token();
}

/// An HMAC by the public key as text, which a careless program would accept as HS256.
fn signed_by_public_key(issuer: &Issuer, claims: &Value) -> String {
    use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
    use data_encoding::BASE64URL_NOPAD;
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let header = json!({"alg": "HS256", "kid": "key-1", "typ": "JWT"});
    let signed = format!("{}.{}", part(&header), part(claims));
    let key = issuer.key_set()["keys"][0]["n"]
        .as_str()
        .unwrap()
        .to_owned();
    let key = Key::new(
        HMAC_SHA256,
        &BASE64URL_NOPAD.decode(key.as_bytes()).unwrap(),
    );
    let tag = sign(&key, signed.as_bytes());
    format!("{signed}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))
}
