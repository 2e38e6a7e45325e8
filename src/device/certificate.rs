//! Certificates for this device's own names. Decides when new ones are requested, and whether an
//! answer can be used; holds no clock, socket or file.
//!
//! ```text
//! no certificates, or the names changed ──> ask now
//! two thirds of their life have passed  ──> ask now
//! otherwise                             ──> wait
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64;
use overlan_protocol::UnixTime;
use overlan_protocol::api::{CertificateRequest, CertificateResponse, NameKey, name_key_message};
use overlan_protocol::key::{DeviceId, NetworkId, Secret, encode_signature};
use overlan_protocol::netmap::Netmap;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

/// This device's name in each network.
pub(crate) type Names = BTreeMap<NetworkId, String>;

/// The certificates of a device, as its state keeps them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Held {
    /// PKCS #8, base64. It was made here and never leaves this device.
    key: Secret,
    /// The controller's answer.
    issued: CertificateResponse,
    /// The names that the device had when it asked.
    asked_for: Names,
    /// The time of that request.
    asked: UnixTime,
}

/// The time of the next request for certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Never: this device has no name.
    Never,
    /// Now.
    Now,
    /// At this time.
    At(UnixTime),
}

/// Lists the names that `netmap` gives its device.
pub(crate) fn names(netmap: &Netmap) -> Names {
    let name = |label: &str, network: &str| format!("{label}.{network}.{}", netmap.domain);
    let networks = netmap.networks.iter();
    networks
        .map(|(id, network)| (*id, name(&network.label, &network.name)))
        .collect()
}

/// Returns the time of the next request, for a device that has `names` and the certificates `held`.
pub(crate) fn due(now: UnixTime, held: Option<&Held>, names: &Names) -> Due {
    if names.is_empty() {
        return Due::Never;
    }
    match held {
        // The names of the request are compared, not those of the certificates: a controller that
        // leaves a name out would be asked without end.
        Some(held) if held.asked_for == *names => {
            let at = held.renew_at();
            if at <= now { Due::Now } else { Due::At(at) }
        }
        Some(_) | None => Due::Now,
    }
}

/// A request for certificates, with the key that they are to certify.
pub(crate) struct Asking {
    key: Secret,
    request: CertificateRequest,
}

impl Asking {
    /// Makes a new key for `device`; `None` if the system gives no randomness.
    pub(crate) fn new(device: DeviceId) -> Option<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()?;
        let key = NameKey(pair.public_key().as_ref().try_into().ok()?);
        let message = name_key_message(device, &key);
        let signature = pair.sign(&SystemRandom::new(), &message).ok()?;
        let document = pair.to_pkcs8v1().ok()?;
        Some(Self {
            key: Secret::new(&BASE64.encode(document.as_ref())),
            request: CertificateRequest {
                key,
                proof: encode_signature(signature.as_ref().try_into().ok()?),
            },
        })
    }

    /// Returns the request for the controller.
    pub(crate) fn request(&self) -> &CertificateRequest {
        &self.request
    }

    /// Joins the key and the controller's answer; `None` if the answer does not fit the key.
    pub(crate) fn answered(
        self,
        now: UnixTime,
        names: Names,
        issued: CertificateResponse,
    ) -> Option<Held> {
        let held = Held {
            key: self.key,
            issued,
            asked_for: names,
            asked: now,
        };
        held.keys().map(|_| held)
    }
}

impl Held {
    /// Returns the certificate and key for the TLS servers of each network; `None` if any of them
    /// is damaged.
    pub(crate) fn keys(&self) -> Option<BTreeMap<NetworkId, Arc<CertifiedKey>>> {
        let der = |text: &str| BASE64.decode(text.as_bytes()).ok();
        let key = PrivatePkcs8KeyDer::from(der(self.key.reveal())?);
        let key = any_ecdsa_type(&PrivateKeyDer::Pkcs8(key)).ok()?;
        let ca = CertificateDer::from(der(&self.issued.ca)?);
        let mut keys = BTreeMap::new();
        for issued in &self.issued.certificates {
            let certificate = CertificateDer::from(der(&issued.certificate)?);
            let certified = CertifiedKey::new(vec![certificate, ca.clone()], key.clone());
            certified.keys_match().ok()?;
            keys.insert(issued.network, Arc::new(certified));
        }
        Some(keys)
    }

    /// Lists the names for which certificates were issued.
    pub(crate) fn issued_for(&self) -> impl Iterator<Item = &str> {
        self.issued.certificates.iter().map(|it| it.name.as_str())
    }

    /// Returns the time when all of them expire.
    pub(crate) fn expires(&self) -> UnixTime {
        self.issued.expires
    }

    /// Returns the time when two thirds of their life have passed: the last third is for a
    /// controller that is away.
    fn renew_at(&self) -> UnixTime {
        let life = self.expires().since(self.asked);
        self.asked + (life / 3 * 2).max(RENEW_AFTER_MIN)
    }
}

/// Shortest time between two requests, also where the clocks differ so much that new
/// certificates have already expired.
const RENEW_AFTER_MIN: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests;
