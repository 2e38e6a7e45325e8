//! Makes this device a member: new keys, one request to the controller, the answer on disk. Decides nothing about who may.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use overlan_protocol::api::{Credential, EnrolRequest, EnrolResponse, JoinString, path};
use overlan_protocol::key::{IdentitySecret, TunnelKey, encode_signature};
use overlan_protocol::proof::{enrolment_message, tunnel_key_message};
use overlan_transport::https::{Connection, HttpsError};

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
    /// Wanted network; `None` = the key's or the default one.
    pub network: Option<String>,
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

    let mut connection = Connection::open(&options.join, options.deadline).await?;
    let public = identity.public();
    let request = EnrolRequest {
        credential: options.credential,
        network: options.network,
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
