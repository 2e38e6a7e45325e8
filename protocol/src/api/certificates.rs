//! Requests and responses for certificates of device names, and for the CA that signs them.
//! Re-exported by [`crate::api`].
//!
//! That CA is not the one by which the controller is known: nothing that it signs can be used to
//! impersonate the controller.

use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};

use crate::UnixTime;
use crate::key::{DeviceId, NetworkId, decode_signature};

/// Asks for certificates for all names of the device. It lists none: the controller knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// The key that the certificates are for.
    pub key: NameKey,
    /// ECDSA signature (r ‖ s, base64url) by that key over [`name_key_message`]: nobody gets a
    /// certificate over another's key.
    pub proof: String,
}

impl CertificateRequest {
    /// Returns whether `device` holds the secret half of the key.
    #[must_use]
    pub fn is_proved_by(&self, device: DeviceId) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.key.0[..]);
        let message = name_key_message(device, &self.key);
        decode_signature(&self.proof).is_ok_and(|proof| key.verify(&message, &proof).is_ok())
    }
}

/// The bytes that the key of a [`CertificateRequest`] signs.
#[must_use]
pub fn name_key_message(device: DeviceId, key: &NameKey) -> Vec<u8> {
    [NAME_KEY_LABEL, &device.0, &key.0].concat()
}

/// A public ECDSA key on P-256 for certificates, which browsers know: its uncompressed point.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NameKey(pub [u8; NAME_KEY_LEN]);

/// Bytes of a [`NameKey`].
pub const NAME_KEY_LEN: usize = 65;

impl fmt::Debug for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameKey({})", String::from(*self))
    }
}

impl TryFrom<String> for NameKey {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or("not a valid name key: expected 65 bytes as base64url")
    }
}

impl From<NameKey> for String {
    fn from(key: NameKey) -> Self {
        BASE64URL_NOPAD.encode(&key.0)
    }
}

/// The certificates of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateResponse {
    /// One for each network that the device is in.
    pub certificates: Vec<NameCertificate>,
    /// The CA's certificate, which servers send after their own: DER as base64.
    pub ca: String,
    /// The end of all of them.
    pub expires: UnixTime,
}

/// The certificate for a device's name in one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCertificate {
    /// The id of the network.
    pub network: NetworkId,
    /// `host.network.domain`.
    pub name: String,
    /// DER as base64.
    pub certificate: String,
}

/// The CA of all device names, for programs and people that want to trust it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NamesCaResponse {
    /// PEM.
    pub certificate: String,
    /// The domain in which all names lie that it can vouch for.
    pub domain: String,
}

const NAME_KEY_LABEL: &[u8] = b"overlan name key 1\0";

#[cfg(test)]
mod tests {
    use super::*;

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use proptest::prelude::*;

    use crate::key::encode_signature;

    fn request(device: DeviceId) -> CertificateRequest {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let key = NameKey(pair.public_key().as_ref().try_into().unwrap());
        let message = name_key_message(device, &key);
        let signature = pair.sign(&SystemRandom::new(), &message).unwrap();
        CertificateRequest {
            key,
            proof: encode_signature(&signature.as_ref().try_into().unwrap()),
        }
    }

    #[test]
    fn only_the_holder_of_a_key_gets_certificates_over_it_and_only_for_itself() {
        let (device, other) = (DeviceId([1; 16]), DeviceId([2; 16]));
        let good = request(device);
        assert!(good.is_proved_by(device));
        assert!(!good.is_proved_by(other), "replayed by another device");
        let foreign = CertificateRequest {
            key: request(device).key,
            ..good.clone()
        };
        assert!(!foreign.is_proved_by(device));
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(
            serde_json::from_str::<CertificateRequest>(&text).unwrap(),
            good
        );
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_a_proof_by_chance(
            key in "[A-Za-z0-9_-]{0,100}",
            proof in ".{0,100}",
        ) {
            let text = serde_json::json!({ "key": key, "proof": proof });
            if let Ok(request) = serde_json::from_value::<CertificateRequest>(text) {
                prop_assert!(!request.is_proved_by(DeviceId([1; 16])));
            }
        }
    }
}
