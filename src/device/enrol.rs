//! Makes this device a member, and ends that: new keys, one request to the controller, the answer
//! in the state. Decides nothing about who may.

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

/// A request for enrolment: by which controller, and by what right.
#[derive(Debug, Clone)]
pub struct EnrolOptions {
    /// The controller.
    pub join: JoinString,
    /// Auth key or session.
    pub credential: Credential,
    /// Becomes the host label.
    pub hostname: String,
    /// Wanted networks; none = all of the key's, or the default one; `all` alone = all that the
    /// credential allows.
    pub networks: Vec<String>,
    /// The way to the controller.
    pub outgoing: Outgoing,
    /// The time that the controller is waited for.
    pub deadline: Duration,
}

/// The reason why the device is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The controller was not reached or said no.
    #[error(transparent)]
    Controller(#[from] HttpsError),
    /// The answer could not be kept, so the device would be lost at the next start.
    #[error(transparent)]
    State(#[from] StateError),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness for a key")]
    NoRandomness,
}

/// Enrols this device with new keys and keeps them in `state`, replacing what was there.
///
/// The keys are kept before the controller is asked: where the answer cannot be, or is lost, the
/// next attempt is the same device, and no key that enrols one device is used up for nobody. For
/// the same reason a controller that is busy, or that starts again meanwhile, is asked again until
/// the time for it is over; one that was never reached is told at once.
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
        tracing::debug!(%error, "the controller is asked again");
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

/// Returns how soon the same question may have another answer, if it may at all. A controller that
/// was there a moment ago may be there again.
fn again_after(error: &HttpsError, was_reached: bool) -> Option<Duration> {
    match error {
        HttpsError::Problem(problem) => {
            let passes = [ProblemKind::Unavailable, ProblemKind::TooMany].contains(&problem.kind);
            let told = problem.retry_after_secs.map(u64::from);
            passes.then_some(told.map_or(AGAIN, Duration::from_secs))
        }
        HttpsError::Broken(_) | HttpsError::Connect(ConnectError::Closed { .. }) => Some(AGAIN),
        HttpsError::Connect(ConnectError::Connect { .. } | ConnectError::TimedOut { .. }) => {
            was_reached.then_some(AGAIN)
        }
        HttpsError::Connect(_) | HttpsError::NotUnderstood(_) | HttpsError::TimedOut(_) => None,
    }
}

/// The keys of an enrolment at this controller that was not finished, or new ones that are kept.
fn keys(join: &JoinString, state: &StateDir) -> Result<Enrolling, EnrolError> {
    match state.load_enrolling() {
        Ok(Some(keys)) if keys.join == *join => return Ok(keys),
        // Those of another controller, or damaged ones, are of no use here.
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

/// The reason why the controller still knows what is forgotten here.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// Nothing changed.
    #[error(transparent)]
    State(#[from] StateError),
    /// It is forgotten here only.
    #[error("this device is removed here, and the controller could not be told: {0}")]
    NotTold(#[source] HttpsError),
    /// The keys could not be read, so the controller could not be told.
    #[error(
        "this device is removed here; its keys could not be read, so the controller was not told: {0}"
    )]
    NoKeys(String),
}

impl ForgetError {
    /// Says what is left at the controller, if anything is.
    #[must_use]
    pub fn next_step(&self) -> Option<&'static str> {
        match self {
            Self::State(_) => None,
            Self::NotTold(_) | Self::NoKeys(_) => Some(
                "It stays in `overlan admin device list`, offline; nobody can use it any more.",
            ),
        }
    }
}

/// Removes the device at the controller and in `state`, with its services and routes. Here it is
/// removed in any case: a person who logs out wants the keys gone. The controller is waited for at
/// most `within`.
pub async fn forget(
    state: &StateDir,
    outgoing: &Outgoing,
    within: Duration,
) -> Result<(), ForgetError> {
    let told = match state.load_device() {
        Ok(None) => return Ok(state.remove_services()?),
        Ok(Some(device)) => timeout(within, remove_at_controller(&device, outgoing, within))
            .await
            .unwrap_or(Err(HttpsError::TimedOut(within)))
            .map_err(ForgetError::NotTold),
        Err(StateError::Corrupt { reason, .. }) => Err(ForgetError::NoKeys(reason)),
        Err(error) => return Err(error.into()),
    };
    state.remove_services()?;
    state.remove_device()?;
    told
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

/// Returns what was removed before is as gone as what is removed now.
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

/// Returns what this host calls itself, the name of a device that is given none.
pub fn system_hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Before the controller is asked again, unless it says when; up to as much again is added, so that
/// many do not come at once.
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
