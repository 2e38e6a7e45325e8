//! Certificates for this device's own names: decides when others are asked for, and what is made of
//! an answer. Holds no clock, socket or file.
//!
//! ```text
//! none, or the names changed ──> ask now      two thirds of their life passed ──> ask now      otherwise ──> wait
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use data_encoding::BASE64;
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
    /// PKCS #8, base64. Made here, and told to nobody.
    key: Secret,
    /// The controller's answer.
    issued: CertificateResponse,
    /// The names that the device had when it asked.
    asked_for: Names,
    /// The time when that was, seconds since the Unix epoch.
    asked: u64,
}

/// The time when certificates are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing needs one.
    Never,
    /// Now.
    Now,
    /// At this time, seconds since the Unix epoch.
    At(u64),
}

/// The names that `netmap` gives its device.
pub(crate) fn names(netmap: &Netmap) -> Names {
    let name = |label: &str, network: &str| format!("{label}.{network}.{}", netmap.domain);
    let networks = netmap.networks.iter();
    networks
        .map(|(id, network)| (*id, name(&network.label, &network.name)))
        .collect()
}

/// Returns the time when a device that is called `names` and has `held` must ask.
pub(crate) fn due(now: u64, held: Option<&Held>, names: &Names) -> Due {
    if names.is_empty() {
        return Due::Never;
    }
    match held {
        // Not whether it has them all: a controller that knows of another name would be asked for
        // ever.
        Some(held) if held.asked_for == *names => {
            let at = held.renew_at();
            if at <= now { Due::Now } else { Due::At(at) }
        }
        Some(_) | None => Due::Now,
    }
}

/// A key that certificates are asked for.
pub(crate) struct Asking {
    key: Secret,
    request: CertificateRequest,
}

impl Asking {
    /// A new key of `device`; `None` if the system has no randomness.
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

    /// The request for the controller.
    pub(crate) fn request(&self) -> &CertificateRequest {
        &self.request
    }

    /// Returns what the device has when the controller answered; `None` if it could not use that.
    pub(crate) fn answered(
        self,
        now: u64,
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
    /// Returns what a TLS server shows in each network; `None` if something in it is damaged.
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

    /// The names that certificates were issued for.
    pub(crate) fn issued_for(&self) -> impl Iterator<Item = &str> {
        self.issued.certificates.iter().map(|it| it.name.as_str())
    }

    /// End of all of them, seconds since the Unix epoch.
    pub(crate) fn expires(&self) -> u64 {
        self.issued.expires
    }

    /// Behind two thirds of their life: the rest is time for a controller that is away.
    fn renew_at(&self) -> u64 {
        let life = self.issued.expires.saturating_sub(self.asked);
        self.asked + (life / 3 * 2).max(RENEW_AFTER_MIN_SECS)
    }
}

/// Nobody is asked sooner again, also where the clocks differ by so much that what comes has ended
/// already.
const RENEW_AFTER_MIN_SECS: u64 = 3_600;

#[cfg(test)]
mod tests;
