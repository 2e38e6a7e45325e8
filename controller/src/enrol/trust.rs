//! Trust rules. Decides which rule accepts the claims of a believed token, how a device that comes
//! by it is called, and which rules let in more than their maker may mean. Checks no signature.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use overlan_protocol::api::ClaimMismatch;
use overlan_protocol::key::NetworkId;
use overlan_protocol::name::label_from_hostname;
use overlan_protocol::tag::Tag;

use crate::netmaps::OrgId;
use crate::oidc::{Claims, Shown};

/// A rule by which jobs enrol with the token of their own provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrustRule {
    pub(crate) id: String,
    pub(crate) org: OrgId,
    pub(crate) name: String,
    pub(crate) issuer: String,
    pub(crate) audience: String,
    pub(crate) claims: BTreeMap<String, String>,
    /// The CA by which the issuer's server is known, in PEM.
    pub(crate) issuer_ca: Option<String>,
    /// The issuer's keys, if it cannot be reached.
    pub(crate) jwks: Option<String>,
    /// The networks that its devices may be in.
    pub(crate) networks: BTreeSet<NetworkId>,
    /// The tags that its devices get.
    pub(crate) tags: BTreeSet<Tag>,
    /// The name of its devices, with `{claim}` in place of values.
    pub(crate) device_name: String,
    pub(crate) lifetime: Duration,
}

/// The reason why no rule accepts the claims of a token. It names the claim that is wrong in the
/// rule that fits best, and not the value that the rule asks for: that is for its owners.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimRefusal {
    /// The claim has another value.
    #[error("claim {claim} is {is}, which no trust rule accepts")]
    Other { claim: Shown, is: Shown },
    /// The claim is missing.
    #[error("claim {claim} is missing, which the trust rule asks for")]
    Missing { claim: Shown },
    /// There is no rule.
    #[error("no trust rule is for tokens of this issuer")]
    NoRule,
}

impl TrustRule {
    /// Returns the claims that do not have the value that this rule asks for.
    pub(crate) fn mismatches(&self, claims: &Claims) -> Vec<ClaimMismatch> {
        let each = self.claims.iter().filter_map(|(claim, wanted)| {
            let found = claims.value(claim);
            (found.as_ref() != Some(wanted)).then(|| ClaimMismatch {
                claim: claim.clone(),
                wanted: wanted.clone(),
                found,
            })
        });
        each.collect()
    }

    /// Returns the name that a device gets, and `None` if it is the job's choice.
    pub(crate) fn device_name(&self, claims: &Claims) -> Result<Option<String>, ClaimRefusal> {
        let mut name = String::new();
        let mut rest = self.device_name.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (claim, after) = after.split_once('}').unwrap_or((after, ""));
            let value = claims.value(claim).ok_or_else(|| ClaimRefusal::Missing {
                claim: Shown::new(claim),
            })?;
            name.push_str(before);
            // A dot would end the label.
            name.push_str(&value.replace('.', "-"));
            rest = after;
        }
        name.push_str(rest);
        Ok((!name.is_empty()).then(|| label_from_hostname(&name)))
    }
}

/// Chooses the rule for a token among `rules`, which are of its issuer and audience: of those that
/// accept it the one that asks for most claims, and the first of these by name.
pub(crate) fn choose<'a>(
    rules: &'a [TrustRule],
    claims: &Claims,
) -> Result<&'a TrustRule, ClaimRefusal> {
    let judged = rules.iter().map(|rule| (rule, rule.mismatches(claims)));
    let judged: Vec<_> = judged.collect();
    let fitting = judged.iter().filter(|(_, wrong)| wrong.is_empty());
    // The first one of the best: `max_by_key` returns the last.
    if let Some((rule, _)) = fitting.rev().max_by_key(|(rule, _)| rule.claims.len()) {
        return Ok(rule);
    }
    let nearest = judged.iter().min_by_key(|(_, wrong)| wrong.len());
    let wrong = nearest.and_then(|(_, wrong)| wrong.first());
    let wrong = wrong.ok_or(ClaimRefusal::NoRule)?;
    let claim = Shown::new(&wrong.claim);
    Err(match &wrong.found {
        Some(found) => {
            let is = Shown::new(found);
            ClaimRefusal::Other { claim, is }
        }
        None => ClaimRefusal::Missing { claim },
    })
}

/// The reason why the claims of a rule are not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WeakRule {
    /// Nothing says whose job it is.
    #[error(
        "no claim of the rule says whose job it is, so everybody who gets a token of this issuer \
         could come in; pin repository_id (GitHub), project_id (GitLab) or sub"
    )]
    Everybody,
    /// The value of a numeric id is a name.
    #[error(
        "claim {0} is a number, and the rule has another value; the token of a job shows it, and \
         `overlan admin trust-rule test FILE` prints what a token has"
    )]
    NotNumeric(String),
    /// The name template cannot be read.
    #[error("the device name has a brace without its other half, or nothing between two")]
    Template,
}

/// Decides whether a rule with these claims and this name template makes sense, and returns what
/// its maker should know of it.
pub(crate) fn examine(
    claims: &BTreeMap<String, String>,
    device_name: &str,
) -> Result<Vec<String>, WeakRule> {
    check_template(device_name)?;
    if claims
        .keys()
        .all(|claim| CIRCUMSTANCES.contains(&claim.as_str()))
    {
        return Err(WeakRule::Everybody);
    }
    let is_number = |value: &str| !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    let numeric = claims.iter().filter(|(claim, _)| is_id(claim));
    if let Some((claim, _)) = numeric.clone().find(|(_, value)| !is_number(value)) {
        return Err(WeakRule::NotNumeric(claim.clone()));
    }
    let mut warnings = Vec::new();
    if numeric.count() == 0 {
        let names = NAMES.iter().filter(|(name, _)| {
            claims
                .get(*name)
                .is_some_and(|value| is_renewable(name, value))
        });
        if let Some((name, id)) = names.into_iter().next() {
            warnings.push(format!(
                "claim {name} is only a name: once its owner renames or deletes what it names, \
                 anybody can register it again and come in; pin {id}, too"
            ));
        }
    }
    let has = |claim: &str| claims.contains_key(claim);
    let is_narrow = NARROWING.iter().any(|claim| has(claim));
    if !is_narrow {
        for (claim, whose) in [
            (
                "repository_id",
                "every branch and pull request of the repository",
            ),
            (
                "project_id",
                "every branch and merge request of the project",
            ),
            ("repository_owner_id", "every repository of the owner"),
            ("namespace_id", "every project of the namespace"),
        ] {
            if has(claim) {
                warnings.push(format!(
                    "{whose} comes in; pin ref or environment, too, to let in fewer jobs"
                ));
                break;
            }
        }
    }
    Ok(warnings)
}

fn check_template(text: &str) -> Result<(), WeakRule> {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (claim, after) = after.split_once('}').ok_or(WeakRule::Template)?;
        if claim.is_empty() || claim.contains('{') || before.contains('}') {
            return Err(WeakRule::Template);
        }
        rest = after;
    }
    match rest.contains('}') {
        true => Err(WeakRule::Template),
        false => Ok(()),
    }
}

fn is_id(claim: &str) -> bool {
    IDS.contains(&claim)
}

/// Says whether a value is a name that somebody else can have one day. A subject is one only in the
/// forms in which GitHub and GitLab make it of names; GitHub's newer form has ids after an `@`.
fn is_renewable(claim: &str, value: &str) -> bool {
    if claim != "sub" {
        return true;
    }
    match value.strip_prefix("repo:") {
        Some(repository) => !repository.contains('@'),
        None => value.starts_with("project_path:"),
    }
}

/// Claims whose values are numbers that are never given to anybody else.
const IDS: [&str; 5] = [
    "repository_id",
    "repository_owner_id",
    "project_id",
    "namespace_id",
    "enterprise_id",
];

/// Claims whose values are names, and what to pin beside each.
const NAMES: [(&str, &str); 8] = [
    ("sub", "repository_id (GitHub) or project_id (GitLab)"),
    ("repository", "repository_id"),
    ("job_workflow_ref", "repository_id"),
    ("workflow_ref", "repository_id"),
    ("project_path", "project_id"),
    ("ci_config_ref_uri", "project_id"),
    ("repository_owner", "repository_owner_id"),
    ("namespace_path", "namespace_id"),
];

/// Claims that leave only some jobs of a repository.
const NARROWING: [&str; 7] = [
    "ref",
    "environment",
    "sub",
    "job_workflow_ref",
    "workflow_ref",
    "ci_config_ref_uri",
    "ref_protected",
];

/// Claims that say under which circumstances a job runs, and not whose it is.
const CIRCUMSTANCES: [&str; 19] = [
    "iss",
    "aud",
    "typ",
    "ref",
    "ref_type",
    "ref_protected",
    "ref_path",
    "base_ref",
    "head_ref",
    "environment",
    "environment_protected",
    "deployment_tier",
    "event_name",
    "pipeline_source",
    "runner_environment",
    "repository_visibility",
    "project_visibility",
    "workflow",
    "run_attempt",
];

#[cfg(test)]
mod tests;
