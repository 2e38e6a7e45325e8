//! Which way `up` comes to a device: the stored one, or an enrolment, by which right. Decides from facts; reads nothing.

use overlan::program::state::{Device, Login};
use overlan_protocol::api::{Credential, JoinString};
use overlan_protocol::key::Secret;

use crate::cli::exit::{Code, Failure};

/// What is known before anything is done.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The server that was named.
    pub(super) server: Option<JoinString>,
    /// The auth key that was given.
    pub(super) auth_key: Option<Secret>,
    /// The stored session.
    pub(super) session: Option<Login>,
    /// Whether a person sits at a terminal.
    pub(super) can_ask: bool,
    /// Seconds since the Unix epoch.
    pub(super) now: u64,
}

/// How this device is enrolled.
#[derive(Debug)]
pub(super) enum Way {
    /// At once.
    Enrol {
        /// Where.
        join: JoinString,
        /// By what right.
        credential: Credential,
    },
    /// After asking a person for account and password.
    Ask {
        /// Where.
        join: JoinString,
    },
}

/// The stored device, unless another server is named than the one that knows it.
pub(super) fn accept_stored(
    device: Device,
    server: Option<&JoinString>,
) -> Result<Device, Failure> {
    match server {
        Some(server) if *server != device.join => Err(Failure::usage(format!(
            "this state directory holds a device of {}, and --server names {server}",
            device.join
        ))
        .next(
            "Give the other network its own --state-dir, or leave this one with `overlan logout`.",
        )),
        Some(_) | None => Ok(device),
    }
}

/// The way without a stored device: a key, else a session that still lives, else a person.
pub(super) fn choose(facts: Facts) -> Result<Way, Failure> {
    let session = facts.session.filter(|session| {
        let is_meant = facts
            .server
            .as_ref()
            .is_none_or(|server| *server == session.join);
        is_meant && session.login.expires > facts.now
    });
    let known = facts
        .server
        .or_else(|| session.as_ref().map(|session| session.join.clone()));
    let Some(join) = known else {
        return Err(match facts.auth_key.is_some() || facts.can_ask {
            true => Failure::usage("no controller is named")
                .next("Give --server JOIN or $OVERLAN_SERVER; `overlan controller serve` prints the join string."),
            false => needs_login(),
        });
    };
    if let Some(key) = facts.auth_key {
        let credential = Credential::AuthKey(key);
        return Ok(Way::Enrol { join, credential });
    }
    if let Some(session) = session {
        let credential = Credential::Session(session.login.session);
        return Ok(Way::Enrol { join, credential });
    }
    if facts.can_ask {
        return Ok(Way::Ask { join });
    }
    Err(needs_login())
}

fn needs_login() -> Failure {
    Failure::new(
        Code::NeedsLogin,
        "this device is not enrolled, and there is no auth key and no login to enrol it by",
    )
    .next(
        "Do one of these:\n  \
         give an auth key:   overlan up --server JOIN --auth-key-file PATH (or $OVERLAN_AUTH_KEY)\n  \
         log in before:      overlan login --server JOIN, then overlan up\n  \
         use a terminal:     overlan up --server JOIN asks for email and password",
    )
}

#[cfg(test)]
mod tests;
