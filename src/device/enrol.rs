//! Enrols this device, and removes it again: new keys, one request to the controller, the answer in
//! the state. Decides when a request is repeated; the controller decides which devices may join.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use overlan_protocol::api::{
    Credential, EnrolRequest, EnrolResponse, JoinString, ProblemKind, path,
};
use overlan_protocol::key::{IdentitySecret, TunnelKey, encode_signature, random_bytes};
use overlan_protocol::proof::{Principal, enrolment_message, tunnel_key_message};
use overlan_transport::ConnectError;
use overlan_transport::https::{Connection, HttpsError};
use overlan_transport::outgoing::Outgoing;
use tokio::time::{Instant, sleep, timeout};

use crate::device::state::{Device, Enrolling, StateDir, StateError};
use overlan_plane::tunnel::StaticKey;

/// The settings of an enrolment: the controller, the credential and the wishes of the device.
#[derive(Debug, Clone)]
pub struct EnrolOptions {
    /// The controller.
    pub join: JoinString,
    /// The auth key or login.
    pub credential: Credential,
    /// The wanted host label; the controller may append a number.
    pub hostname: String,
    /// Wanted networks, by label. Without any, all of the auth key's, or the default one; `all`
    /// alone means all that the credential allows.
    pub networks: Vec<String>,
    /// The way to the controller.
    pub outgoing: Outgoing,
    /// Longest wait for the controller.
    pub deadline: Duration,
}

/// The reason why the device is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The controller was not reached, or it refused.
    #[error(transparent)]
    Controller(#[from] HttpsError),
    /// The answer could not be stored, so the device would be lost at the next start.
    #[error(transparent)]
    State(#[from] StateError),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness for a key")]
    NoRandomness,
}

/// Enrols this device with new keys and stores it in `state`, in place of the device there.
///
/// The keys are stored before the controller is asked: if the answer is lost or cannot be stored,
/// the next attempt enrols the same device, so that an auth key for one device is not wasted. For
/// the same reason, a controller that is busy or restarts meanwhile is asked again until the
/// deadline. A controller that was never reached is an error at once.
pub async fn enrol(options: EnrolOptions, state: &StateDir) -> Result<Device, EnrolError> {
    let keys = keys(&options.join, state)?;
    let until = Instant::now() + options.deadline;
    let mut was_reached = false;
    let response = loop {
        let left = until.saturating_duration_since(Instant::now());
        let error = match ask(&options, &keys, left).await {
            Ok(response) => break response,
            Err(error) => error,
        };
        let [spread] = random_bytes();
        let pause = again_after(&error, was_reached)
            .map(|pause| pause.mul_f32(1.0 + f32::from(spread) / 256.0))
            .filter(|pause| Instant::now() + *pause < until);
        let Some(pause) = pause else {
            return Err(error.into());
        };
        tracing::debug!(%error, "the enrolment did not succeed; the controller is asked again");
        was_reached = true;
        sleep(pause).await;
    };

    let device = Device {
        join: options.join,
        device: response.device,
        identity: keys.identity,
        tunnel_secret: keys.tunnel_secret,
        label: response.label,
        network: response.network,
        domain: response.domain,
    };
    state.replace_device(&device, &response.ticket)?;
    Ok(device)
}

/// Proves the right of the enrolled `device` again by the credential of `options`, with its own
/// keys: it stays the same device.
pub async fn renew(
    options: &EnrolOptions,
    device: &Device,
    state: &StateDir,
) -> Result<(), EnrolError> {
    let keys = Enrolling {
        join: device.join.clone(),
        identity: device.identity.clone(),
        tunnel_secret: device.tunnel_secret.clone(),
    };
    let response = ask(options, &keys, options.deadline).await?;
    Ok(state.save_ticket(&response.ticket)?)
}

async fn ask(
    options: &EnrolOptions,
    keys: &Enrolling,
    within: Duration,
) -> Result<EnrolResponse, HttpsError> {
    let tunnel = StaticKey::from_secret(keys.tunnel_secret.clone());
    let tunnel = TunnelKey(*tunnel.public());
    let mut connection = Connection::open_through(&options.outgoing, &options.join, within).await?;
    let public = keys.identity.public();
    let sign = |message: &[u8]| encode_signature(&keys.identity.sign(message));
    let request = EnrolRequest {
        credential: options.credential.clone(),
        networks: options.networks.clone(),
        hostname: options.hostname.clone(),
        identity: public,
        proof: sign(&enrolment_message(connection.exporter(), &public)),
        tunnel,
        tunnel_signature: sign(&tunnel_key_message(&tunnel)),
    };
    connection.post(path::ENROL, &request, within).await
}

/// Returns the pause before the same request may succeed; `None` if it never will. A controller
/// that was reached a moment ago may be reached again.
fn again_after(error: &HttpsError, was_reached: bool) -> Option<Duration> {
    match error {
        HttpsError::Problem(problem) => {
            let passes = [ProblemKind::Unavailable, ProblemKind::TooMany].contains(&problem.kind);
            let wanted = problem.retry_after_secs.map(u64::from);
            passes.then_some(wanted.map_or(AGAIN, Duration::from_secs))
        }
        HttpsError::Broken(_) | HttpsError::Connect(ConnectError::Closed { .. }) => Some(AGAIN),
        HttpsError::Connect(ConnectError::Connect { .. } | ConnectError::TimedOut { .. }) => {
            was_reached.then_some(AGAIN)
        }
        HttpsError::Connect(_) | HttpsError::NotUnderstood(_) | HttpsError::TimedOut(_) => None,
    }
}

/// Returns the keys of an unfinished enrolment at this controller, or makes and stores new ones.
fn keys(join: &JoinString, state: &StateDir) -> Result<Enrolling, EnrolError> {
    match state.load_enrolling() {
        Ok(Some(keys)) if keys.join.is_known_as(join) => return Ok(keys),
        // Keys for another controller, or damaged ones, are replaced.
        Ok(_) | Err(StateError::Corrupt { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let tunnel = StaticKey::generate(&SystemRandom::new()).map_err(|_| EnrolError::NoRandomness)?;
    let keys = Enrolling {
        join: join.clone(),
        identity: Arc::new(IdentitySecret::generate()),
        tunnel_secret: tunnel.secret().clone(),
    };
    state.save_enrolling(&keys)?;
    Ok(keys)
}

/// The reason why a device was not removed everywhere.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The state could not be changed; the device is still there.
    #[error(transparent)]
    State(#[from] StateError),
    /// The device is removed here only: the controller was not reached.
    #[error("this device is removed here, but not at the controller: {0}")]
    NotReported(#[source] HttpsError),
    /// The device is removed here only: without its keys, the controller cannot be asked.
    #[error("this device is removed here, but not at the controller: its keys are damaged: {0}")]
    NoKeys(String),
}

impl ForgetError {
    /// Returns the next step, where the device is still known to the controller.
    #[must_use]
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::State(_) => None,
            Self::NotReported(_) | Self::NoKeys(_) => Some(
                "The controller still lists it as offline, and nobody can use it any more; \
                 `overlan admin device remove` removes it there, too.",
            ),
        }
    }
}

/// Removes the device at the controller, for which there is the time `within`, and then in `state`
/// with its services and routes. It is removed from `state` in any case, since a person who logs
/// out wants the keys gone.
pub async fn forget(
    state: &StateDir,
    outgoing: &Outgoing,
    within: Duration,
) -> Result<(), ForgetError> {
    let removed = match state.load_device() {
        Ok(None) => return Ok(state.remove_services()?),
        Ok(Some(device)) => timeout(within, remove_at_controller(&device, outgoing, within))
            .await
            .unwrap_or(Err(HttpsError::TimedOut(within)))
            .map_err(ForgetError::NotReported),
        Err(StateError::Corrupt { reason, .. }) => Err(ForgetError::NoKeys(reason)),
        Err(error) => return Err(error.into()),
    };
    state.remove_services()?;
    state.remove_device()?;
    removed
}

async fn remove_at_controller(
    device: &Device,
    outgoing: &Outgoing,
    within: Duration,
) -> Result<(), HttpsError> {
    let mut connection = Connection::open_through(outgoing, &device.join, within).await?;
    connection.prove(Principal::Device(device.device), &device.identity);
    is_gone(connection.delete(path::DEVICE, within).await)
}

/// Counts a device or login that was removed before as removed.
pub fn is_gone(removed: Result<(), HttpsError>) -> Result<(), HttpsError> {
    match removed {
        Err(error)
            if matches!(
                error.problem(),
                Some(
                    ProblemKind::NotAuthenticated
                        | ProblemKind::DeviceRemoved
                        | ProblemKind::DeviceUnknown
                        | ProblemKind::NotFound
                )
            ) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// Returns this host's own name, which a device gets when nobody names it.
pub fn system_hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The pause before the controller is asked again, unless it names another. Up to as much again is
/// added at random, so that many devices do not ask at once.
const AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use overlan_protocol::api::Problem;

    use super::*;

    #[test]
    fn what_may_pass_is_asked_again_and_what_was_never_there_is_told_at_once() {
        let problem = |kind, retry_after_secs| {
            HttpsError::Problem(Problem {
                kind,
                title: String::new(),
                status: 0,
                detail: String::new(),
                retry_after_secs,
            })
        };
        let refused = || {
            HttpsError::Connect(ConnectError::Connect {
                address: "c:1".to_owned(),
                source: std::io::ErrorKind::ConnectionRefused.into(),
            })
        };
        let closed = HttpsError::Connect(ConnectError::Closed {
            address: "c:1".to_owned(),
        });
        let busy = problem(ProblemKind::Unavailable, Some(3));
        assert_eq!(again_after(&busy, false), Some(Duration::from_secs(3)));
        let many = problem(ProblemKind::TooMany, None);
        assert_eq!(again_after(&many, false), Some(AGAIN));
        let broken = HttpsError::Broken("reset".to_owned());
        assert_eq!(again_after(&broken, false), Some(AGAIN));
        assert_eq!(again_after(&closed, false), Some(AGAIN));
        assert_eq!(again_after(&refused(), false), None);
        assert_eq!(again_after(&refused(), true), Some(AGAIN));
        for no in [ProblemKind::KeyUsed, ProblemKind::Forbidden] {
            assert_eq!(again_after(&problem(no, None), true), None);
        }
    }
}
