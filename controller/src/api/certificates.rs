//! Issues certificates for the names of devices. The roster decides which names a device has, never
//! the request.

use std::sync::Arc;

use axum::extract::State;
use data_encoding::BASE64;
use overlan_protocol::api::{
    CertificateRequest, CertificateResponse, NameCertificate, NamesCaResponse,
};

use super::body::Json;
use super::caller::DeviceCaller;
use super::problem::Refusal;
use crate::ca::names;
use crate::clock;
use crate::deployment::Deployment;
use crate::store::{self, names::Holder};

/// Answers anybody with the CA: it is not a secret, and the connection proves whose it is.
pub(super) async fn names_ca(State(deployment): State<Arc<Deployment>>) -> Json<NamesCaResponse> {
    Json(NamesCaResponse {
        certificate: deployment.names_ca.pem(),
        domain: deployment.domain.clone(),
    })
}

/// Issues one certificate for each network of the device that asks.
pub(super) async fn issue(
    State(deployment): State<Arc<Deployment>>,
    DeviceCaller(device): DeviceCaller,
    Json(request): Json<CertificateRequest>,
) -> Result<Json<CertificateResponse>, Refusal> {
    if !request.is_proved_by(device.id) {
        return Err(Refusal::bad_request(
            "the proof is not made by the key that the certificates are for",
        ));
    }
    let counted = deployment
        .budgets
        .lock()
        .certificates
        .count(clock::now(), device.id);
    let what = "this device asks for certificates too often";
    counted.map_err(|wait| Refusal::too_often(what, wait))?;
    let now = clock::wall();
    let mut certificates = Vec::with_capacity(device.places.len());
    let mut tx = deployment.store.read().await?;
    for place in &device.places {
        // The holder of the name in its network counts, not the label of the device.
        let holder = store::names::holder(&mut tx, place.network, &place.label).await?;
        if holder != Some(Holder::Device(device.id)) {
            let (device, name) = (device.id, &place.label);
            tracing::error!(%device, name, "a device does not hold its own name");
            continue;
        }
        let name = format!("{}.{}.{}", place.label, place.name, deployment.domain);
        let issued = deployment.names_ca.issue(&name, &request.key, now);
        let issued = issued.map_err(|error| Refusal::internal(&error))?;
        certificates.push(NameCertificate {
            network: place.network,
            certificate: BASE64.encode(&issued),
            name,
        });
    }
    Ok(Json(CertificateResponse {
        certificates,
        ca: BASE64.encode(deployment.names_ca.certificate()),
        expires: names::expires(now),
    }))
}
