//! `admin trust-rule`: rules by which CI jobs and pods enrol with the token of their own provider.
//! Decides how rules are written and shown; the controller decides which make sense.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use overlan_protocol::UnixTime;
use overlan_protocol::api::{
    ClaimMismatch, LIFETIME_MAX_SECS, LIFETIME_MIN_SECS, TokenTestRequest, TokenTestResponse,
    TrustRuleRequest, TrustRuleSummary, path,
};
use overlan_protocol::tag::Tag;
use overlan_transport::clock::wall;

use super::device;
use super::{List, ListArgs, columns, end, versioned};
use crate::commands::exit::{Code, Failure};
use crate::commands::secret::SecretSource;
use crate::commands::{StateArgs, api, duration, enrol, output};

#[derive(Debug, Subcommand)]
pub(crate) enum TrustRuleCommand {
    /// Let jobs enrol whose token has these claims
    Create(Box<CreateRuleArgs>),
    /// List rules
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one rule with all its claims and warnings
    Show(ShowRuleArgs),
    /// Remove a rule; devices that it enrolled stay until their life ends
    #[command(aliases = ["revoke", "delete"], after_help = REMOVE_EXAMPLES)]
    Remove(RuleName),
    /// Say which rule accepts a token, or which claims do not fit; the token is not used up
    Test(TestArgs),
}

#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub(crate) struct CreateRuleArgs {
    /// Name of the rule: a short one of lower-case letters, digits and hyphens
    name: String,
    /// Issuer of the tokens: github, gitlab, or an address as claim iss has it
    #[arg(long, value_parser = issuer, value_name = "URL")]
    issuer: String,
    /// Claim of the token and the exact value that it must have; repeat it for several
    #[arg(long = "claim", required = true, value_parser = claim, value_name = "NAME=VALUE")]
    claims: Vec<(String, String)>,
    /// Audience that the token must have [default: the controller's address: https://HOST:PORT]
    #[arg(long, value_name = "TEXT")]
    audience: Option<String>,
    /// Network that devices join by it; repeat it, or separate names by commas, for several
    /// [default: the organisation's default network]
    #[arg(long = "network", value_delimiter = ',', value_name = "NAME")]
    networks: Vec<String>,
    /// A tag that its devices get; repeat it, or separate tags by commas, for several
    #[arg(long = "tag", value_delimiter = ',', value_name = "TAG")]
    tags: Vec<Tag>,
    /// Name of its devices, in which {CLAIM} is replaced by the claim's value
    /// [default: the name that the job asks for]
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "TEMPLATE"
    )]
    device_name: String,
    /// Time after which a device is removed in any case: seconds, or with a unit (90m)
    /// [default: 6h]
    #[arg(
        long,
        value_parser = duration::within::<u64>(LIFETIME_MIN_SECS..=LIFETIME_MAX_SECS),
        value_name = "TIME"
    )]
    lifetime: Option<u64>,
    /// File with the certificate of the CA by which the issuer's server is known, in PEM
    #[arg(long, value_name = "PATH")]
    issuer_ca: Option<PathBuf>,
    /// File with the issuer's JSON Web Key Set, if the controller cannot reach the issuer
    #[arg(long, value_name = "PATH", conflicts_with = "issuer_ca")]
    jwks: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  Jobs of one repository of GitHub, on its main branch (`gh api repos/OWNER/REPO --jq .id`):
    overlan admin trust-rule create deploy --issuer github --claim repository_id=74 \\
      --claim ref=refs/heads/main --network prod --tag ci --device-name 'ci-{run_id}'
  Jobs of one project of a GitLab of your own, with its CA:
    overlan admin trust-rule create build --issuer https://gitlab.corp.example \\
      --issuer-ca ca.pem --claim project_id=22 --claim ref_protected=true
  Pods of one service account, of a cluster that the controller cannot reach:
    kubectl get --raw /openid/v1/jwks > jwks.json
    overlan admin trust-rule create pods --issuer https://kubernetes.default.svc.cluster.local \\
      --jwks jwks.json --claim sub=system:serviceaccount:web:app --lifetime 7d

Pin ids, which are never given to anybody else: names such as repository can be registered again.";

const LIST_EXAMPLES: &str = "\
Examples:
  overlan admin trust-rule list
  overlan admin trust-rule list --json | jq -r '.trust_rules[] | select(.warnings != []) | .name'";

const REMOVE_EXAMPLES: &str = "\
Examples:
  overlan admin trust-rule list                shows the names
  overlan admin trust-rule remove deploy";

#[derive(Debug, Args)]
pub(crate) struct RuleName {
    /// The rule's name, as `overlan admin trust-rule list` shows it
    name: String,
    #[command(flatten)]
    state: StateArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  overlan admin trust-rule show deploy")]
pub(crate) struct ShowRuleArgs {
    #[command(flatten)]
    rule: RuleName,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = TEST_EXAMPLES)]
pub(crate) struct TestArgs {
    /// File with the token of a job; - is standard input
    file: SecretSource,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    state: StateArgs,
}

const TEST_EXAMPLES: &str = "\
Examples:
  overlan admin trust-rule test token.txt
  kubectl exec POD -- cat /var/run/secrets/overlan/token | overlan admin trust-rule test -

Exit codes: 0 a rule accepts it, 6 none does.";

pub(super) async fn run(command: TrustRuleCommand) -> Result<(), Failure> {
    match command {
        TrustRuleCommand::Create(args) => create(*args).await,
        TrustRuleCommand::List(args) => {
            let now = wall();
            let rows = |rule: &TrustRuleSummary| [row(rule, now)];
            super::list(&args, path::TRUST_RULES, RULES, rows).await
        }
        TrustRuleCommand::Show(args) => show(&args).await,
        TrustRuleCommand::Remove(args) => remove(&args).await,
        TrustRuleCommand::Test(args) => test(&args).await,
    }
}

async fn create(args: CreateRuleArgs) -> Result<(), Failure> {
    let state = args.state.open()?;
    let claims: BTreeMap<String, String> = args.claims.iter().cloned().collect();
    if claims.len() < args.claims.len() {
        return Err(Failure::usage(
            "a claim is named twice, and can have one value only",
        ));
    }
    let audience = match args.audience {
        Some(audience) => audience,
        None => enrol::audience(&api::controller(&state)?),
    };
    let request = TrustRuleRequest {
        name: args.name,
        issuer: args.issuer,
        audience,
        claims,
        networks: args.networks,
        tags: args.tags.into_iter().collect(),
        device_name: args.device_name,
        lifetime_secs: args.lifetime,
        issuer_ca: read(args.issuer_ca.as_deref())?,
        jwks: read(args.jwks.as_deref())?,
    };
    let mut connection = api::open_as_person(&state).await?;
    let made: TrustRuleSummary = connection
        .post(path::TRUST_RULES, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    if args.json {
        return output::json(&versioned("trust_rule", &made));
    }
    output::note(&format!(
        "Made trust rule {} for network {}. Jobs come in by it with\n  \
         overlan exec --ephemeral --oidc --server JOIN{} -- PROGRAM",
        made.name,
        made.networks.join(" and "),
        match made.audience == enrol::audience(&api::controller(&state)?) {
            true => String::new(),
            false => format!(" --oidc-audience {}", made.audience),
        }
    ));
    for warning in &made.warnings {
        output::note(&format!("Warning: {warning}."));
    }
    Ok(())
}

async fn show(args: &ShowRuleArgs) -> Result<(), Failure> {
    let mut connection = api::open_as_person(&args.rule.state.open()?).await?;
    let rules: Vec<TrustRuleSummary> = connection
        .get(path::TRUST_RULES, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    let found = rules.into_iter().find(|rule| rule.name == args.rule.name);
    let rule = found.ok_or_else(|| {
        let text = format!("there is no trust rule {:?}", args.rule.name);
        Failure::new(Code::Other, text).next("`overlan admin trust-rule list` shows the rules.")
    })?;
    if args.json {
        return output::json(&versioned("trust_rule", &rule));
    }
    output::answer(&described(&rule, wall()))
}

async fn remove(args: &RuleName) -> Result<(), Failure> {
    let name = super::parse_label(&args.name).map_err(Failure::usage)?;
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    connection
        .delete(&format!("{}/{name}", path::TRUST_RULES), api::WITHIN)
        .await
        .map_err(api::as_person)?;
    output::note(&format!(
        "Removed trust rule {name}. Devices that it enrolled stay until their life ends."
    ));
    Ok(())
}

async fn test(args: &TestArgs) -> Result<(), Failure> {
    let request = TokenTestRequest {
        token: args.file.read("token")?,
    };
    let mut connection = api::open_as_person(&args.state.open()?).await?;
    let judged: TokenTestResponse = connection
        .post(path::TRUST_RULES_TEST, &request, api::WITHIN)
        .await
        .map_err(api::as_person)?;
    match args.json {
        true => output::json(&versioned("token_test", &judged))?,
        false => {
            if let Some(rule) = &judged.rule {
                output::note(&format!("Trust rule {rule} accepts this token."));
            }
            if let Some(table) = mismatches(&judged.rules) {
                output::answer(&table)?;
            }
        }
    }
    match judged.refusal {
        Some(refusal) => Err(Failure::new(Code::Denied, refusal)),
        None => Ok(()),
    }
}

/// Returns a table of the claims that do not fit, unless all do.
fn mismatches(rules: &BTreeMap<String, Vec<ClaimMismatch>>) -> Option<String> {
    let mut rows = vec![["RULE", "CLAIM", "TOKEN", "RULE WANTS"].map(str::to_owned)];
    for (rule, wrong) in rules {
        rows.extend(wrong.iter().map(|wrong| {
            let found = wrong.found.clone();
            [
                rule.clone(),
                wrong.claim.clone(),
                plain(&found.unwrap_or_else(|| "(missing)".to_owned())),
                wrong.wanted.clone(),
            ]
        }));
    }
    (rows.len() > 1).then(|| columns(&rows))
}

fn described(rule: &TrustRuleSummary, now: UnixTime) -> String {
    let mut rows = vec![
        ["name".to_owned(), rule.name.clone()],
        ["id".to_owned(), rule.id.clone()],
        ["issuer".to_owned(), rule.issuer.clone()],
        ["audience".to_owned(), rule.audience.clone()],
    ];
    let claims = rule.claims.iter();
    rows.extend(claims.map(|(claim, value)| [format!("claim {claim}"), value.clone()]));
    let name = match rule.device_name.as_str() {
        "" => "as the job asks",
        template => template,
    };
    let keys = match (rule.has_jwks, rule.has_issuer_ca) {
        (true, _) => "stand in the rule",
        (false, true) => "fetched from the issuer, known by the rule's CA",
        (false, false) => "fetched from the issuer",
    };
    let used = match rule.last_used {
        Some(at) => format!("{}, last {}", rule.uses, end(at, now)),
        None => "never".to_owned(),
    };
    for (name, value) in [
        ("networks", rule.networks.join(", ")),
        ("tags", device::tag_list(&rule.tags)),
        ("device name", name.to_owned()),
        ("lifetime", format!("{} s", rule.lifetime_secs)),
        ("keys", keys.to_owned()),
        ("used", used),
    ] {
        rows.push([name.to_owned(), value]);
    }
    rows.extend(
        rule.warnings
            .iter()
            .map(|text| ["warning".to_owned(), text.clone()]),
    );
    columns(&rows)
}

const RULES: List<6> = List {
    name: "trust_rules",
    head: ["NAME", "ISSUER", "CLAIMS", "NETWORKS", "USED", "WARNINGS"],
    if_empty: "No trust rule yet. `overlan admin trust-rule create --help` shows how to make one.",
};

fn row(rule: &TrustRuleSummary, now: UnixTime) -> [String; 6] {
    let claims = rule
        .claims
        .iter()
        .map(|(claim, value)| format!("{claim}={value}"));
    [
        rule.name.clone(),
        rule.issuer.clone(),
        claims.collect::<Vec<_>>().join(" "),
        rule.networks.join(","),
        rule.last_used
            .map_or_else(|| "never".to_owned(), |at| end(at, now)),
        rule.warnings.len().to_string(),
    ]
}

fn issuer(text: &str) -> Result<String, String> {
    Ok(match text {
        "github" => "https://token.actions.githubusercontent.com".to_owned(),
        "gitlab" => "https://gitlab.com".to_owned(),
        "" => return Err("give github, gitlab or an address".to_owned()),
        other if other.starts_with("https://") => other.to_owned(),
        _ => return Err("an issuer's address begins with https://".to_owned()),
    })
}

fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((claim, value)) if !claim.is_empty() => Ok((claim.to_owned(), value.to_owned())),
        Some(_) | None => Err("write NAME=VALUE, such as repository_id=74".to_owned()),
    }
}

/// The one that made the token chose its values.
fn plain(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

fn read(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let Some(file) = file else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_holds_does_not_reach_the_terminal_as_it_is() {
        let wrong = ClaimMismatch {
            claim: "ref".to_owned(),
            wanted: "main".to_owned(),
            found: Some("\u{1b}]0;x\u{7}\nfork".to_owned()),
        };
        let rules = BTreeMap::from([("deploy".to_owned(), vec![wrong])]);
        let table = mismatches(&rules).unwrap();
        assert!(
            table.contains("fork") && !table.contains('\u{1b}'),
            "{table}"
        );
        assert_eq!(table.lines().count(), 2, "{table}");
        assert_eq!(
            mismatches(&BTreeMap::from([("deploy".to_owned(), Vec::new())])),
            None
        );
    }

    #[test]
    fn a_claim_has_a_name_and_a_value_that_may_have_anything_in_it() {
        let pair = |claim: &str, value: &str| Ok((claim.to_owned(), value.to_owned()));
        assert_eq!(claim("sub=a=b"), pair("sub", "a=b"));
        assert_eq!(claim("environment="), pair("environment", ""));
        assert!(claim("ref").is_err() && claim("=x").is_err());
    }
}
