//! The flags by which a device enrols, and the words for a device that cannot. Decides nothing: the
//! right is chosen by the library. `job` finds what a CI job brings, `token` reads it.

mod job;

mod token;

use clap::Args;
use overlan::program::enrol::EnrolError;
use overlan::program::right::{EnrolFacts, NoEnrolRight, OtherController};
use overlan_protocol::api::JoinString;

use crate::commands::api;
use crate::commands::exit::{Code, Failure};
use crate::commands::secret::{self, SecretSource};

use token::OidcArgs;
pub(crate) use token::audience;

#[derive(Debug, Args)]
pub(crate) struct EnrolArgs {
    /// Join string of the controller, as `overlan controller serve` prints it; needed to enrol only
    #[arg(long, env = "OVERLAN_SERVER", value_name = "JOIN")]
    pub(crate) server: Option<JoinString>,
    /// File with an auth key, needed to enrol only; - is standard input (or use $OVERLAN_AUTH_KEY)
    #[arg(long, env = "OVERLAN_AUTH_KEY_FILE", value_name = "PATH")]
    auth_key_file: Option<SecretSource>,
    #[command(flatten)]
    oidc: OidcArgs,
    /// Name of the new device in the overlay [default: the host's name]
    #[arg(long, env = "OVERLAN_HOSTNAME", value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Network that the new device joins; repeat it, or separate names by commas, for several; all
    /// = all networks of the key [default: all of the key's, or the organisation's default network]
    #[arg(
        long = "network",
        env = "OVERLAN_NETWORK",
        value_delimiter = ',',
        value_name = "NAME"
    )]
    pub(crate) networks: Vec<String>,
}

impl EnrolArgs {
    /// Reads what was given to enrol by: the job's token, or an auth key from its file or from the
    /// environment.
    pub(crate) async fn given(&self) -> Result<EnrolFacts, Failure> {
        Ok(EnrolFacts {
            server: self.server.clone(),
            workload: self.oidc.token(self.server.as_ref()).await?,
            auth_key: secret::auth_key(self.auth_key_file.as_ref())?,
            ..EnrolFacts::default()
        })
    }

    /// Returns the name of the variable that may hold the job's token.
    pub(crate) fn token_variable(&self) -> &str {
        self.oidc.variable()
    }

    /// Returns true if the auth key is on standard input.
    pub(crate) fn reads_stdin(&self) -> bool {
        self.auth_key_file == Some(SecretSource::Stdin)
    }
}

impl From<NoEnrolRight> for Failure {
    fn from(error: NoEnrolRight) -> Self {
        match error {
            NoEnrolRight::NoServer => Self::new(Code::Usage, error).next(
                "Give --server JOIN or $OVERLAN_SERVER; `overlan controller serve` prints the \
                 join string.",
            ),
            NoEnrolRight::NoCredential { .. } => Self::new(Code::NeedsLogin, error).next(
                "Do one of these:\n  \
                 give an auth key:   overlan up --server JOIN --auth-key-file PATH (or \
                 $OVERLAN_AUTH_KEY)\n  \
                 in a CI job:         overlan up --server JOIN --oidc\n  \
                 log in before:      overlan login --server JOIN, then overlan up\n  \
                 use a terminal:     overlan up --server JOIN asks for email and password",
            ),
        }
    }
}

impl From<OtherController> for Failure {
    fn from(error: OtherController) -> Self {
        Self::new(Code::Usage, error).next(
            "Give the other network its own --state-dir, or leave this one with `overlan logout`.",
        )
    }
}

impl From<EnrolError> for Failure {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::Controller(error) => api::as_person(error),
            EnrolError::State(error) => error.into(),
            EnrolError::NoRandomness => Self::new(Code::Other, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_right_is_told_the_ways_to_get_one() {
        let no_server = Failure::from(NoEnrolRight::NoServer);
        assert_eq!(no_server.code(), Code::Usage);
        let failure = Failure::from(NoEnrolRight::NoCredential { has_server: true });
        assert_eq!(failure.code(), Code::NeedsLogin);
        let text = failure.to_string();
        for way in [
            "--auth-key-file",
            "--oidc",
            "overlan login",
            "email and password",
        ] {
            assert!(text.contains(way), "{text}");
        }
    }

    #[test]
    fn a_device_of_another_controller_is_a_usage_error_that_names_logout() {
        let join = |host: &str| {
            let pin = overlan_protocol::key::Fingerprint([7; 32]);
            let join: JoinString = format!("https://{host}:8443#sha256:{pin}").parse().unwrap();
            Box::new(join)
        };
        let (stored, named) = (join("a"), join("b"));
        let failure = Failure::from(OtherController { stored, named });
        assert_eq!(failure.code(), Code::Usage);
        assert!(failure.to_string().contains("overlan logout"), "{failure}");
    }
}
