//! The right by which a device is enrolled: the token of a job, an auth key, a login, or a person
//! who can be asked.
//! Decides from facts; reads nothing.

use overlan_protocol::UnixTime;
use overlan_protocol::api::{Credential, JoinString};
use overlan_protocol::key::Secret;

use super::state::{Device, Login};

/// The facts from which the right is chosen.
#[derive(Debug, Default)]
pub struct EnrolFacts {
    /// The controller that was named.
    pub server: Option<JoinString>,
    /// The token of the job that this is, if it is asked for.
    pub workload: Option<Secret>,
    /// The auth key that was given.
    pub auth_key: Option<Secret>,
    /// The stored login.
    pub session: Option<Login>,
    /// True if a person at a terminal can be asked.
    pub can_ask: bool,
    /// The present time.
    pub now: UnixTime,
}

/// The right by which a device is enrolled.
#[derive(Debug)]
pub enum EnrolRight {
    /// A credential is at hand.
    Credential {
        /// The controller.
        join: JoinString,
        /// The credential.
        credential: Credential,
    },
    /// A person has to be asked to log in.
    Person {
        /// The controller.
        join: JoinString,
    },
}

/// The reason for which a device cannot be enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoEnrolRight {
    /// There is a credential, but no controller is known.
    #[error("no controller is named")]
    NoServer,
    /// There is no credential, and no person who can be asked.
    #[error("this device is not enrolled, and there is no auth key and no login to enrol it by")]
    NoCredential {
        /// True if a controller is known.
        has_server: bool,
    },
}

/// The stored device belongs to another controller than the one that --server names.
#[derive(Debug, thiserror::Error)]
#[error("this state directory holds a device of {stored}, and --server names {named}")]
pub struct OtherController {
    /// The controller of the stored device.
    pub stored: Box<JoinString>,
    /// The one that was named.
    pub named: Box<JoinString>,
}

/// Returns the stored device, unless --server names another controller.
///
/// # Errors
/// [`OtherController`] in that case.
pub fn accept_stored(
    device: Device,
    server: Option<&JoinString>,
) -> Result<Device, OtherController> {
    match server {
        Some(named) if !device.join.is_known_as(named) => Err(OtherController {
            stored: Box::new(device.join),
            named: Box::new(named.clone()),
        }),
        Some(_) | None => Ok(device),
    }
}

/// Chooses the right for a new device: a job's token, else an auth key, else a login that is still
/// valid, else a person.
///
/// # Errors
/// [`NoEnrolRight`] if there is none of them, or no controller is known.
pub fn choose(facts: EnrolFacts) -> Result<EnrolRight, NoEnrolRight> {
    let session = facts.session.filter(|session| {
        let is_meant = facts
            .server
            .as_ref()
            .is_none_or(|server| session.join.is_known_as(server));
        is_meant && session.login.expires > facts.now
    });
    // The login knows the controller at least as well as what was written down once.
    let known = session.as_ref().map(|session| session.join.clone());
    let known = known.or(facts.server);
    let Some(join) = known else {
        let has_right = facts.workload.is_some() || facts.auth_key.is_some() || facts.can_ask;
        return Err(match has_right {
            true => NoEnrolRight::NoServer,
            false => NoEnrolRight::NoCredential { has_server: false },
        });
    };
    let token = facts.workload.map(Credential::Workload);
    let key = token.or_else(|| facts.auth_key.map(Credential::AuthKey));
    let session = || session.map(|session| Credential::Session(session.login.session));
    match key.or_else(session) {
        Some(credential) => Ok(EnrolRight::Credential { join, credential }),
        None if facts.can_ask => Ok(EnrolRight::Person { join }),
        None => Err(NoEnrolRight::NoCredential { has_server: true }),
    }
}

#[cfg(test)]
mod tests;
