//! Requests and responses about invitations and passwords that are lost: the ways to an account
//! that begin with a token that works once. Re-exported by [`crate::api`].

use serde::{Deserialize, Serialize};

use super::join_string::{JoinString, ParseJoinError};
use super::rights::Role;
use crate::UnixTime;
use crate::key::Secret;

/// Invites somebody into the organisation.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InvitationRequest {
    /// The email address that the person's account has or will have.
    pub email: String,
    /// The role that the person will have.
    pub role: Role,
    /// Life in seconds, at most [`INVITATION_LIFE_MAX_SECS`]; otherwise [`INVITATION_LIFE_SECS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_secs: Option<u64>,
}

/// Default life of an invitation, seconds.
pub const INVITATION_LIFE_SECS: u64 = 7 * 24 * 3_600;
/// Longest life of an invitation, seconds.
pub const INVITATION_LIFE_MAX_SECS: u64 = 30 * 24 * 3_600;

/// A new invitation with its secret, which is shown only here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InvitationResponse {
    /// `ovi_…`.
    pub token: Secret,
    /// Its row in lists.
    #[serde(flatten)]
    pub summary: InvitationSummary,
}

/// An invitation, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InvitationSummary {
    /// The public part of the token.
    pub id: String,
    /// The email address that is invited.
    pub email: String,
    /// The role that the person will have.
    pub role: Role,
    /// Its end.
    pub expires: UnixTime,
    /// Its state at the time of the answer.
    pub state: InvitationState,
    /// The email of the person who made it, unless that account is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The state of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum InvitationState {
    /// It can be accepted.
    Open,
    /// It was accepted.
    Accepted,
    /// Somebody took it back.
    Revoked,
    /// Its life is over.
    Expired,
}

impl InvitationState {
    /// Returns its word in lists.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// Asks about an invitation by its token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InvitationLookRequest {
    /// The token.
    pub token: Secret,
}

/// An open invitation, as the invited person sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InvitationInfo {
    /// Name of the organisation.
    pub organisation: String,
    /// The email address that is invited.
    pub email: String,
    /// The role that the person will have.
    pub role: Role,
    /// An account with that email exists: its password accepts. Otherwise a new one does.
    pub account: bool,
    /// Its end.
    pub expires: UnixTime,
}

/// Accepts an invitation: with the password of the account that has the invited email, or with a
/// new one, which makes the account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InvitationAcceptRequest {
    /// The token.
    pub token: Secret,
    /// The password of the account, or that of the account to be made.
    pub password: Secret,
}

/// A one-time way to a new password.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasswordResetResponse {
    /// `ovp_…`.
    pub token: Secret,
    /// Its end.
    pub expires: UnixTime,
}

/// Life of a way to a new password, seconds: long enough to reach a person, short enough that a
/// forgotten mail opens nothing.
pub const PASSWORD_RESET_LIFE_SECS: u64 = 24 * 3_600;

/// Sets a new password by a one-time token; all sessions of the account end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PasswordResetRequest {
    /// The token.
    pub token: Secret,
    /// The new password.
    pub new: Secret,
}

/// Makes an account with an organisation of its own, or a further organisation of an account that
/// exists, by its password.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SignUpRequest {
    /// The email address of the account.
    pub email: String,
    /// Its password, which is a new one for a new account.
    pub password: Secret,
    /// Organisation's name, for people.
    pub organisation: String,
    /// Label of its first network, the default one.
    pub network: String,
}

/// A token that works once, with the controller that made it, in one text: the join string with
/// a path and the token, such as `https://controller.example/invitation#sha256:…;ovi_…`.
///
/// The part after `#` is never sent to a server by a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneTimeLink {
    /// The controller.
    pub join: JoinString,
    /// The token.
    pub token: Secret,
}

/// A text that is not a link with a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseLinkError {
    /// It names no controller.
    #[error(transparent)]
    Join(#[from] ParseJoinError),
    /// The part after `#` does not end in a token.
    #[error("the token at the end of the link is missing; copy all of it")]
    NoToken,
}

impl OneTimeLink {
    /// Returns the text, which is as secret as the token.
    pub fn text(&self) -> Secret {
        let token = self.token.reveal();
        let path = match token.starts_with(INVITATION_PREFIX) {
            true => INVITATION_PATH,
            false => RESET_PATH,
        };
        let pin = match &self.join.ca {
            Some(ca) => format!("sha256:{ca};"),
            None => String::new(),
        };
        Secret::new(&format!("https://{}{path}#{pin}{token}", self.join.server))
    }

    /// Reads what [`OneTimeLink::text`] returns.
    ///
    /// # Errors
    /// If the text names no controller, or holds no token.
    pub fn parse(text: &Secret) -> Result<Self, ParseLinkError> {
        let text = text.reveal();
        let (server, fragment) = text.split_once('#').ok_or(ParseLinkError::NoToken)?;
        let server = [INVITATION_PATH, RESET_PATH]
            .iter()
            .find_map(|path| server.strip_suffix(path))
            .unwrap_or(server);
        let (pin, token) = match fragment.rsplit_once(';') {
            Some((pin, token)) => (format!("#{pin}"), token),
            None => (String::new(), fragment),
        };
        if ![INVITATION_PREFIX, RESET_PREFIX]
            .iter()
            .any(|prefix| token.starts_with(prefix))
        {
            return Err(ParseLinkError::NoToken);
        }
        Ok(Self {
            join: format!("{server}{pin}").parse()?,
            token: Secret::new(token),
        })
    }
}

/// Prefix of the tokens of invitations.
pub const INVITATION_PREFIX: &str = "ovi_";
/// Prefix of the tokens by which passwords are reset.
pub const RESET_PREFIX: &str = "ovp_";

const INVITATION_PATH: &str = "/invitation";
const RESET_PATH: &str = "/password";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_names_the_controller_and_holds_the_token() {
        let pin = crate::key::Fingerprint([7; 32]);
        for (join, token) in [
            (
                format!("https://10.0.0.1:8443#sha256:{pin}"),
                "ovi_0011_abc",
            ),
            (format!("https://[::1]:8443#sha256:{pin}"), "ovp_0011_abc"),
            ("https://controller.example".to_owned(), "ovi_0011_abc"),
        ] {
            let link = OneTimeLink {
                join: join.parse().unwrap(),
                token: Secret::new(token),
            };
            let text = link.text();
            assert_eq!(OneTimeLink::parse(&text), Ok(link), "{}", text.reveal());
        }
    }

    #[test]
    fn half_a_link_is_refused_and_not_repeated() {
        let pin = crate::key::Fingerprint([7; 32]);
        for text in [
            "https://controller.example/invitation".to_owned(),
            format!("https://10.0.0.1:8443/invitation#sha256:{pin}"),
            "https://10.0.0.1:8443/invitation#ovi_secret".to_owned(),
            "ovi_secret".to_owned(),
            "http://controller.example/invitation#ovi_secret".to_owned(),
        ] {
            let error = OneTimeLink::parse(&Secret::new(&text)).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
