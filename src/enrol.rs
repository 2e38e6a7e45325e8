//! Makes this device a member, and ends that: new keys, one request to the controller, the answer in the state. Decides nothing
//! about who may.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use overlan_protocol::api::{
    Credential, EnrolRequest, EnrolResponse, JoinString, ProblemKind, path,
};
use overlan_protocol::key::{IdentitySecret, TunnelKey, encode_signature};
use overlan_protocol::proof::{Principal, enrolment_message, tunnel_key_message};
use overlan_transport::https::{Connection, HttpsError};
use overlan_transport::outgoing::Outgoing;
use tokio::time::timeout;

use crate::state::{Device, StateDir, StateError};
use crate::tunnel::StaticKey;

/// Who asks to be enrolled, where and by what right.
#[derive(Debug, Clone)]
pub struct EnrolOptions {
    /// The controller.
    pub join: JoinString,
    /// Auth key or session.
    pub credential: Credential,
    /// Becomes the host label.
    pub hostname: String,
    /// Wanted networks; none = all of the key's, or the default one; `all` alone = all that the credential allows.
    pub networks: Vec<String>,
    /// How the controller is reached.
    pub outgoing: Outgoing,
    /// How long the controller is waited for.
    pub deadline: Duration,
}

/// Why the device is not enrolled.
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
pub async fn enrol(options: EnrolOptions, state: &StateDir) -> Result<Device, EnrolError> {
    let identity = IdentitySecret::generate();
    let tunnel = StaticKey::generate(&SystemRandom::new()).map_err(|_| EnrolError::NoRandomness)?;
    let tunnel_public = TunnelKey(*tunnel.public());

    let mut connection =
        Connection::open_through(&options.outgoing, &options.join, options.deadline).await?;
    let public = identity.public();
    let request = EnrolRequest {
        credential: options.credential,
        networks: options.networks,
        hostname: options.hostname,
        identity: public,
        proof: encode_signature(&identity.sign(&enrolment_message(connection.exporter(), &public))),
        tunnel: tunnel_public,
        tunnel_signature: encode_signature(&identity.sign(&tunnel_key_message(&tunnel_public))),
    };
    let response: EnrolResponse = connection
        .post(path::ENROL, &request, options.deadline)
        .await?;

    let device = Device {
        join: options.join,
        device: response.device,
        identity: Arc::new(identity),
        tunnel_secret: tunnel.secret().clone(),
        label: response.label,
        network: response.network,
        domain: response.domain,
    };
    // What an earlier enrolment left behind belongs to another device.
    state.remove_device()?;
    state.save_device(&device)?;
    state.save_ticket(&response.ticket)?;
    Ok(device)
}

/// Why the controller still knows what is forgotten here.
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

/// Removes the device at the controller and in `state`, and what it publishes and offers. Here it is removed in any case: who logs
/// out wants the keys gone. The controller is waited for at most `within`.
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

/// What was removed before is as gone as what is removed now.
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

/// What this host calls itself, the name of a device that is given none.
pub fn system_hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
