//! Reads the token of the job that this program runs in, from a file, a variable or GitHub. Decides
//! nothing: [`super::job`] chooses the place. The token is kept in memory only.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use http::Uri;
use overlan_protocol::HostPort;
use overlan_protocol::api::JoinString;
use overlan_protocol::key::Secret;
use overlan_transport::document::{self, Ask, Roots};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::job::{self, JobFacts, POD_TOKEN, TokenPlace};
use crate::commands::exit::{Code, Failure};
use crate::commands::upstream;

#[derive(Debug, Args)]
pub(crate) struct OidcArgs {
    /// Enrol by the job's own token in place of an auth key: on GitHub, GitLab and Kubernetes it is
    /// found by itself
    #[arg(
        long,
        env = "OVERLAN_OIDC",
        value_parser = BoolishValueParser::new(),
        conflicts_with = "auth_key_file"
    )]
    oidc: bool,
    /// Audience of that token [default: the controller's address: https://HOST:PORT]
    #[arg(long, env = "OVERLAN_OIDC_AUDIENCE", value_name = "TEXT")]
    oidc_audience: Option<String>,
    /// File with the token, for other systems; it is read again for each enrolment
    #[arg(long, env = "OVERLAN_OIDC_TOKEN_FILE", value_name = "PATH")]
    oidc_token_file: Option<PathBuf>,
    /// Variable that holds the token: the name below id_tokens in a job of GitLab
    #[arg(
        long,
        env = "OVERLAN_OIDC_VARIABLE",
        value_name = "NAME",
        default_value = "OVERLAN_ID_TOKEN"
    )]
    oidc_variable: String,
}

impl OidcArgs {
    /// Returns the job's token for the controller of `join`, if it is asked for.
    pub(super) async fn token(&self, join: Option<&JoinString>) -> Result<Option<Secret>, Failure> {
        if !self.oidc {
            return Ok(None);
        }
        let audience = match (&self.oidc_audience, join) {
            (Some(audience), _) => audience.clone(),
            (None, Some(join)) => audience(join),
            // Without a controller there is nothing to enrol at, which is said elsewhere.
            (None, None) => return Ok(None),
        };
        let token = match job::place(&self.facts(&audience))? {
            TokenPlace::File(path) => read_file(&path)?,
            TokenPlace::Variable(name) => variable(&name)?,
            TokenPlace::Request => request(&audience).await?,
        };
        Ok(Some(token))
    }

    /// Returns the name of the variable that holds a token, which no program needs to see.
    pub(crate) fn variable(&self) -> &str {
        &self.oidc_variable
    }

    fn facts(&self, audience: &str) -> JobFacts {
        let is_true = |name| text(name).is_some_and(|value| value.as_str() == "true");
        JobFacts {
            named_file: self.oidc_token_file.clone(),
            variable: self.oidc_variable.clone(),
            has_variable: text(&self.oidc_variable).is_some(),
            has_request: text(REQUEST_URL).is_some() && text(REQUEST_TOKEN).is_some(),
            has_pod_token: Path::new(POD_TOKEN).exists(),
            is_github: is_true("GITHUB_ACTIONS"),
            is_gitlab: is_true("GITLAB_CI"),
            is_pod: text("KUBERNETES_SERVICE_HOST").is_some(),
            audience: audience.to_owned(),
        }
    }
}

/// Returns the audience that tokens for the controller of `join` have unless another is chosen.
pub(crate) fn audience(join: &JoinString) -> String {
    format!("https://{}", join.server)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the variables belong to the CI system, and one of them is a secret"
)]
fn text(name: &str) -> Option<Zeroizing<String>> {
    let value = Zeroizing::new(std::env::var(name).ok()?);
    (!value.is_empty()).then_some(value)
}

fn variable(name: &str) -> Result<Secret, Failure> {
    let value = text(name).unwrap_or_default();
    checked(Secret::new(&value), &format!("${name}"))
}

fn read_file(path: &Path) -> Result<Secret, Failure> {
    let failed = |error: std::io::Error| {
        let text = format!("cannot read the token from {}: {error}", path.display());
        Failure::usage(text)
    };
    let file = File::open(path).map_err(failed)?;
    let mut text = Zeroizing::new(String::with_capacity(TOKEN_MAX + 1));
    let most = TOKEN_MAX as u64 + 1;
    file.take(most).read_to_string(&mut text).map_err(failed)?;
    checked(Secret::new(&text), &path.display().to_string())
}

fn checked(token: Secret, place: &str) -> Result<Secret, Failure> {
    let len = token.reveal().len();
    if len > TOKEN_MAX {
        let text = format!("{place} does not hold a token: it has more than {TOKEN_MAX} bytes");
        return Err(Failure::new(Code::NeedsLogin, text));
    }
    if token.reveal().split('.').count() != 3 {
        let text = format!(
            "{place} does not hold a token: three parts with dots between, as in eyJ….eyJ….…"
        );
        return Err(Failure::new(Code::NeedsLogin, text));
    }
    Ok(token)
}

/// Asks GitHub for a token to `audience`.
async fn request(audience: &str) -> Result<Secret, Failure> {
    let url = text(REQUEST_URL).unwrap_or_default();
    let bearer = text(REQUEST_TOKEN).unwrap_or_default();
    let bearer = Secret::new(&format!("Bearer {}", &*bearer));
    let failed = |what: &dyn std::fmt::Display| {
        let text = format!("GitHub gave no token for this job: {what}");
        Failure::new(Code::NeedsLogin, text).next(
            "$ACTIONS_ID_TOKEN_REQUEST_URL is set, so it may be a fault of theirs; try again.",
        )
    };
    let encoded = utf8_percent_encode(audience, NON_ALPHANUMERIC);
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}audience={encoded}", &*url);
    let uri: Uri = url.parse().map_err(|_| failed(&"its address is not one"))?;
    let is_secure = uri.scheme_str() == Some("https");
    let default = if is_secure { 443 } else { 80 };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let server = HostPort::parse_or(authority, default).map_err(|error| failed(&error))?;
    let is_here = server
        .address()
        .is_some_and(|address| address.is_loopback());
    if !is_secure && !is_here {
        return Err(failed(&"its address does not begin with https://"));
    }
    let ask = Ask {
        server: &server,
        path: uri.path_and_query().map_or("/", |path| path.as_str()),
        authorization: Some(&bearer),
        form: None,
        max: ANSWER_MAX,
    };
    let asked = async {
        let tcp = document::open(&upstream::outgoing(), &server).await;
        let tcp = tcp.map_err(|error| failed(&error))?;
        let answer = match is_secure {
            true => document::read_secure(tcp, &ask, Roots::public()).await,
            false => document::read_local(tcp, &ask).await,
        };
        answer.map_err(|error| failed(&format!("{server}: {error}")))
    };
    let answer = timeout(ASK_WITHIN, asked).await;
    let answer = answer.map_err(|_| failed(&format!("{server} does not answer")))??;
    let answer: GivenToken = serde_json::from_slice(&answer)
        .map_err(|_| failed(&format!("{server} answers with something else")))?;
    checked(answer.value, "GitHub's answer")
}

/// GitHub's answer.
#[derive(Deserialize)]
struct GivenToken {
    value: Secret,
}

/// The address at which a job of GitHub asks for a token, and what proves that it may.
const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// Time for GitHub to answer.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// Longest token, bytes: as much as the controller reads.
const TOKEN_MAX: usize = 12 * 1024;

/// Longest answer of GitHub, bytes: a token and some words.
const ANSWER_MAX: usize = 64 * 1024;
