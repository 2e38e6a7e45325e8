//! The sources of secrets without a person: a file, standard input or the environment. Never an
//! argument: every user of a host can read those.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use overlan_protocol::key::Secret;
use zeroize::Zeroizing;

use crate::commands::exit::{Code, Failure};

/// A place that holds one secret: a path, or `-` for a line of standard input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// The next line of standard input.
    Stdin,
    /// The content of this file.
    File(PathBuf),
}

impl FromStr for SecretSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "-" => Self::Stdin,
            path => Self::File(path.into()),
        })
    }
}

impl SecretSource {
    /// Reads the secret. `what` names it in errors.
    pub(crate) fn read(&self, what: &str) -> Result<Secret, Failure> {
        match self {
            Self::Stdin => read_line(&mut io::stdin().lock(), what),
            Self::File(path) => read_file(path, what),
        }
    }
}

/// A variable of the environment that may hold a secret. `exec` hands none of them to its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variable {
    /// A token by which a program calls the API for a person.
    ApiToken,
    /// A key by which a device enrols.
    AuthKey,
    /// The link of an invitation.
    Invitation,
    /// A person's password.
    Password,
    /// A token by which a relay registers.
    RelayToken,
    /// The token of a controller's first start.
    SetupToken,
}

impl Variable {
    /// Every one there is.
    pub(crate) const ALL: [Self; 6] = [
        Self::ApiToken,
        Self::AuthKey,
        Self::Invitation,
        Self::Password,
        Self::RelayToken,
        Self::SetupToken,
    ];

    /// Returns its name in the environment.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ApiToken => "OVERLAN_API_TOKEN",
            Self::AuthKey => "OVERLAN_AUTH_KEY",
            Self::Invitation => "OVERLAN_INVITATION",
            Self::Password => "OVERLAN_PASSWORD",
            Self::RelayToken => "OVERLAN_RELAY_TOKEN",
            Self::SetupToken => "OVERLAN_SETUP_TOKEN",
        }
    }
}

/// The secret in an environment variable, if it is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the argument parser would take the secret as an argument, too"
)]
pub(crate) fn from_environment(variable: Variable) -> Option<Secret> {
    let text = Zeroizing::new(std::env::var(variable.name()).ok()?);
    let secret = Secret::new(&text);
    (!secret.reveal().is_empty()).then_some(secret)
}

/// The auth key that a person gave: by the flag, else by the environment.
pub(crate) fn auth_key(flag: Option<&SecretSource>) -> Result<Option<Secret>, Failure> {
    let (key, place) = match flag {
        Some(SecretSource::Stdin) => (
            SecretSource::Stdin.read(AUTH_KEY)?,
            "standard input".to_owned(),
        ),
        Some(file @ SecretSource::File(path)) => (file.read(AUTH_KEY)?, path.display().to_string()),
        None => match from_environment(Variable::AuthKey) {
            Some(key) => (key, format!("${}", Variable::AuthKey.name())),
            None => return Ok(None),
        },
    };
    match key.reveal().starts_with(AUTH_KEY_PREFIX) {
        true => Ok(Some(key)),
        false => Err(Failure::new(
            Code::NeedsLogin,
            format!("{place} does not hold an auth key: those begin with {AUTH_KEY_PREFIX}"),
        )
        .next("Copy it whole and without quotes; `overlan admin auth-key create` prints one.")),
    }
}

/// The word for a key in errors.
const AUTH_KEY: &str = "auth key";

/// The first letters of every auth key.
const AUTH_KEY_PREFIX: &str = "ovk_";

fn read_file(path: &Path, what: &str) -> Result<Secret, Failure> {
    let failed = |error: io::Error| {
        let text = format!("cannot read the {what} from {}: {error}", path.display());
        Failure::new(Code::Usage, text)
    };
    let mut text = Zeroizing::new(String::with_capacity(SECRET_MAX as usize));
    let file = File::open(path).map_err(failed)?;
    file.take(SECRET_MAX)
        .read_to_string(&mut text)
        .map_err(failed)?;
    not_empty(Secret::new(&text), what)
}

fn read_line(input: &mut impl BufRead, what: &str) -> Result<Secret, Failure> {
    let mut line = Zeroizing::new(String::with_capacity(SECRET_MAX as usize));
    input.take(SECRET_MAX).read_line(&mut line)?;
    not_empty(Secret::new(&line), what)
}

fn not_empty(secret: Secret, what: &str) -> Result<Secret, Failure> {
    if secret.reveal().is_empty() {
        return Err(Failure::usage(format!("the {what} is empty")));
    }
    Ok(secret)
}

/// Longest secret, bytes: the longest password with room for UTF-8 and a line break.
const SECRET_MAX: u64 = 8 * 1024;

#[cfg(test)]
mod tests;
