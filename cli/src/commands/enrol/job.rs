//! The token of the CI job or pod that this program runs in. Decides from facts where it is, and
//! which lines a job lacks to have one; [`super::token`] reads it.

use std::path::PathBuf;

use super::super::exit::{Code, Failure};

/// The facts from which the place of the token is chosen.
#[derive(Debug, Default)]
pub(super) struct JobFacts {
    /// The file that was named.
    pub(super) named_file: Option<PathBuf>,
    /// The name of the variable that may hold the token, and true if it does.
    pub(super) variable: String,
    pub(super) has_variable: bool,
    /// `$ACTIONS_ID_TOKEN_REQUEST_URL` and `$ACTIONS_ID_TOKEN_REQUEST_TOKEN` are set.
    pub(super) has_request: bool,
    /// The file at [`POD_TOKEN`] is there.
    pub(super) has_pod_token: bool,
    /// This is a job of GitHub, of GitLab, or a container of a pod.
    pub(super) is_github: bool,
    pub(super) is_gitlab: bool,
    pub(super) is_pod: bool,
    /// The audience that the controller expects.
    pub(super) audience: String,
}

/// The place of a job's token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenPlace {
    /// A file.
    File(PathBuf),
    /// A variable of the environment, as GitLab sets it.
    Variable(String),
    /// GitHub gives one to those who ask.
    Request,
}

/// Chooses the place of the token: the file that was named, else GitLab's variable, GitHub's
/// answer, or a pod's file.
pub(super) fn place(facts: &JobFacts) -> Result<TokenPlace, Failure> {
    if let Some(file) = &facts.named_file {
        return Ok(TokenPlace::File(file.clone()));
    }
    if facts.has_variable {
        return Ok(TokenPlace::Variable(facts.variable.clone()));
    }
    if facts.has_request {
        return Ok(TokenPlace::Request);
    }
    if facts.has_pod_token {
        return Ok(TokenPlace::File(POD_TOKEN.into()));
    }
    Err(no_token(facts))
}

fn no_token(facts: &JobFacts) -> Failure {
    let JobFacts {
        audience, variable, ..
    } = facts;
    let github = "permissions:\n    id-token: write\n    contents: read".to_owned();
    let gitlab = format!("id_tokens:\n    {variable}:\n      aud: {audience}");
    let pod = format!(
        "volumes:\n  - name: overlan-token\n    projected:\n      sources:\n      \
         - serviceAccountToken: {{ audience: \"{audience}\", path: token }}\n  \
         and in the container:\n  volumeMounts:\n  \
         - {{ name: overlan-token, mountPath: {POD_DIRECTORY}, readOnly: true }}"
    );
    let (what, next) = match (facts.is_github, facts.is_gitlab, facts.is_pod) {
        (true, ..) => (
            "GitHub gives this job no token: $ACTIONS_ID_TOKEN_REQUEST_URL is not set".to_owned(),
            format!(
                "Add to the job:\n  {github}\nGitHub never gives one to a pull request from a fork."
            ),
        ),
        (_, true, _) => (
            format!("GitLab gives this job no token: ${variable} is not set"),
            format!("Add to the job:\n  {gitlab}"),
        ),
        (_, _, true) => (
            format!("this pod has no token for the controller: there is no {POD_TOKEN}"),
            format!("Add to the pod:\n  {pod}"),
        ),
        (false, false, false) => (
            "no token of a job is found".to_owned(),
            format!(
                "Name a file with --oidc-token-file, or let the job have one.\nGitHub:\n  {github}\
                 \nGitLab:\n  {gitlab}\nKubernetes:\n  {pod}"
            ),
        ),
    };
    Failure::new(Code::NeedsLogin, what).next(next)
}

/// The directory where a pod that follows our example has its token for the controller.
const POD_DIRECTORY: &str = "/var/run/secrets/overlan";

/// The token itself. The one that every pod has is for the cluster's own API.
pub(super) const POD_TOKEN: &str = "/var/run/secrets/overlan/token";

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> JobFacts {
        JobFacts {
            variable: "OVERLAN_ID_TOKEN".to_owned(),
            audience: "https://c.example:8443".to_owned(),
            ..JobFacts::default()
        }
    }

    #[test]
    fn what_was_named_counts_before_what_is_found() {
        let mut facts = facts();
        facts.has_pod_token = true;
        assert_eq!(place(&facts).unwrap(), TokenPlace::File(POD_TOKEN.into()));
        facts.has_request = true;
        assert_eq!(place(&facts).unwrap(), TokenPlace::Request);
        facts.has_variable = true;
        let variable = TokenPlace::Variable("OVERLAN_ID_TOKEN".to_owned());
        assert_eq!(place(&facts).unwrap(), variable);
        facts.named_file = Some("/t".into());
        assert_eq!(place(&facts).unwrap(), TokenPlace::File("/t".into()));
    }

    #[test]
    fn a_job_without_a_token_hears_which_lines_it_lacks() {
        let heard = |set: fn(&mut JobFacts)| {
            let mut facts = facts();
            set(&mut facts);
            let failure = place(&facts).unwrap_err();
            assert_eq!(failure.code(), Code::NeedsLogin);
            failure.to_string()
        };
        let github = heard(|facts| facts.is_github = true);
        assert!(github.contains("id-token: write"), "{github}");
        assert!(!github.contains("id_tokens"), "{github}");
        let gitlab = heard(|facts| facts.is_gitlab = true);
        assert!(gitlab.contains("id_tokens:\n    OVERLAN_ID_TOKEN:\n      aud: https://c.example"));
        let pod = heard(|facts| facts.is_pod = true);
        assert!(
            pod.contains("serviceAccountToken") && pod.contains(POD_DIRECTORY),
            "{pod}"
        );
        let nowhere = heard(|_| {});
        for way in [
            "--oidc-token-file",
            "id-token: write",
            "id_tokens",
            "serviceAccountToken",
        ] {
            assert!(nowhere.contains(way), "{nowhere}");
        }
    }
}
