use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::oidc::{KeySet, Signer, Token};

fn rule(name: &str, claims: &[(&str, &str)]) -> TrustRule {
    TrustRule {
        id: name.to_owned(),
        org: OrgId(1),
        name: name.to_owned(),
        issuer: "https://issuer.example".to_owned(),
        audience: "https://controller.example".to_owned(),
        claims: pairs(claims),
        issuer_ca: None,
        jwks: None,
        networks: BTreeSet::new(),
        tags: BTreeSet::new(),
        device_name: String::new(),
        lifetime: Duration::from_secs(60),
    }
}

fn pairs(claims: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = claims
        .iter()
        .map(|(claim, value)| (claim.to_string(), value.to_string()));
    owned.collect()
}

/// Claims as a token proves them: there is no other way to make them.
fn believed<T>(claims: &Value, judge: impl FnOnce(&Claims) -> T) -> T {
    let signer = Signer::new();
    let text = signer.token(claims);
    let keys = KeySet::parse(signer.key_set().as_bytes()).unwrap();
    let verified = Token::parse(&text).unwrap().verified(&keys).unwrap();
    judge(verified.claims())
}

#[test]
fn every_claim_of_a_rule_must_have_its_very_value() {
    let main = rule(
        "main",
        &[("repository_id", "74"), ("ref", "refs/heads/main")],
    );
    let rules = [main];
    let chosen = |claims: Value| believed(&claims, |claims| choose(&rules, claims).cloned());
    let good = json!({"repository_id": "74", "ref": "refs/heads/main"});
    assert_eq!(chosen(good).unwrap().name, "main");
    let number = json!({"repository_id": 74, "ref": "refs/heads/main"});
    assert_eq!(chosen(number).unwrap().name, "main");
    let text = |claims: Value| chosen(claims).unwrap_err().to_string();
    let fork = json!({"repository_id": "74", "ref": "refs/pull/7/merge"});
    assert_eq!(
        text(fork),
        r#"claim "ref" is "refs/pull/7/merge", which no trust rule accepts"#
    );
    let other = json!({"repository_id": "75", "ref": "refs/heads/main"});
    assert!(text(other).contains("repository_id"));
    let case = json!({"repository_id": "74", "ref": "refs/heads/MAIN"});
    assert!(text(case).contains("MAIN"));
    let none = json!({"repository_id": "74"});
    assert!(text(none).contains(r#""ref" is missing"#));
    let nothing: [TrustRule; 0] = [];
    assert_eq!(
        believed(&json!({}), |claims| choose(&nothing, claims).cloned()),
        Err(ClaimRefusal::NoRule)
    );
}

#[test]
fn the_rule_that_asks_for_most_is_chosen() {
    let rules = [
        rule("a", &[("repository_id", "74")]),
        rule("b", &[("repository_id", "74"), ("environment", "prod")]),
        rule("c", &[("repository_id", "74"), ("ref", "main")]),
    ];
    let claims = json!({"repository_id": "74", "environment": "prod", "ref": "main"});
    let chosen = believed(&claims, |claims| {
        choose(&rules, claims).unwrap().name.clone()
    });
    assert_eq!(chosen, "b");
    let claims = json!({"repository_id": "74"});
    let chosen = believed(&claims, |claims| {
        choose(&rules, claims).unwrap().name.clone()
    });
    assert_eq!(chosen, "a");
}

#[test]
fn a_template_makes_a_label_of_whatever_the_claims_hold() {
    let named = |template: &str, claims: Value| {
        let mut rule = rule("r", &[]);
        rule.device_name = template.to_owned();
        believed(&claims, |claims| rule.device_name(claims))
    };
    assert_eq!(named("", json!({})), Ok(None));
    let run = json!({"run_id": "17", "ref": "refs/heads/v1.2", "x": "\u{1b}[31m<b>"});
    let label = |template| named(template, run.clone()).unwrap().unwrap();
    assert_eq!(label("ci-{run_id}"), "ci-17");
    assert_eq!(label("{ref}-{run_id}"), "refs-heads-v1-2-17");
    assert_eq!(label("{x}"), "31m-b");
    let missing = named("ci-{job}", run.clone()).unwrap_err();
    assert!(
        missing.to_string().contains(r#""job" is missing"#),
        "{missing}"
    );
}

#[test]
fn rules_that_let_in_strangers_are_refused_or_warned_of() {
    let examined = |claims: &[(&str, &str)]| examine(&pairs(claims), "");
    assert_eq!(examined(&[]), Err(WeakRule::Everybody));
    let circumstances = [("ref", "refs/heads/main"), ("environment", "prod")];
    assert_eq!(examined(&circumstances), Err(WeakRule::Everybody));
    assert_eq!(
        examined(&[("repository_id", "acme/app")]),
        Err(WeakRule::NotNumeric("repository_id".to_owned()))
    );
    let main = ("ref", "refs/heads/main");
    assert_eq!(examined(&[("repository_id", "74"), main]), Ok(Vec::new()));
    for (name, value) in [
        ("repository", "acme/app"),
        ("sub", "repo:acme/app:ref:refs/heads/main"),
        ("sub", "project_path:acme/app:ref_type:branch:ref:main"),
        ("project_path", "acme/app"),
    ] {
        let warnings = examined(&[(name, value), main]).unwrap();
        assert!(
            warnings[0].contains(&format!("claim {name} is only a name")),
            "{warnings:?}"
        );
        assert!(warnings[0].contains("_id"), "{warnings:?}");
        let with_id = [(name, value), main, ("repository_id", "74")];
        assert_eq!(examined(&with_id), Ok(Vec::new()), "{name}");
    }
    for good in [
        "repo:acme@12/app@74:ref:refs/heads/main",
        "system:serviceaccount:ci:runner",
    ] {
        assert_eq!(examined(&[("sub", good)]), Ok(Vec::new()), "{good}");
    }
    let wide = examined(&[("repository_id", "74")]).unwrap();
    assert!(wide[0].contains("pull request"), "{wide:?}");
    let template = |text| examine(&pairs(&[("sub", "x")]), text);
    for wrong in ["{", "}", "{}", "a}b{c}", "{a{b}}", "{a"] {
        assert_eq!(template(wrong), Err(WeakRule::Template), "{wrong}");
    }
    assert_eq!(template("a-{b}-{c/d}"), Ok(Vec::new()));
}

proptest! {
    #[test]
    fn a_rule_is_chosen_exactly_if_all_its_claims_are_there(
        asked in proptest::collection::btree_map("[a-c]", "[xy]", 1..4),
        have in proptest::collection::btree_map("[a-c]", "[xy]", 0..4),
    ) {
        let mut only = rule("only", &[]);
        only.claims = asked.clone();
        let rules = [only];
        let chosen = believed(&json!(have), |claims| choose(&rules, claims).is_ok());
        let fits = asked.iter().all(|(claim, value)| have.get(claim) == Some(value));
        prop_assert_eq!(chosen, fits);
    }

    #[test]
    fn every_template_that_is_accepted_makes_a_label(text in "[a{}.é -]{0,12}") {
        if check_template(&text).is_ok() {
            let mut rule = rule("r", &[]);
            rule.device_name = text;
            let name = believed(&json!({"a": "x.y"}), |claims| rule.device_name(claims));
            if let Ok(Some(name)) = name {
                prop_assert!(overlan_protocol::name::is_label(&name));
            }
        }
    }
}
