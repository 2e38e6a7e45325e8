//! The proof by which a device or a relay shows the controller, on each HTTP connection, that it
//! holds its identity key.
//!
//! The proof signs the TLS exporter of the connection it travels on, so there is no long-lived
//! bearer secret and a captured proof is worth nothing elsewhere. It stands in the `Authorization`
//! header.

use crate::Exporter;
use crate::key::{
    DeviceId, IdentityKey, IdentitySecret, RelayId, SIGNATURE_LEN, TunnelKey, decode_signature,
    encode_signature,
};

/// The claimed identity of the sender; [`ChannelProof::is_proved_by`] decides whether it is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal {
    /// An enrolled device.
    Device(DeviceId),
    /// A registered relay.
    Relay(RelayId),
}

impl Principal {
    fn parts(self) -> (&'static str, [u8; 16]) {
        match self {
            Self::Device(id) => ("device", id.0),
            Self::Relay(id) => ("relay", id.0),
        }
    }
}

/// A claim and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelProof {
    /// The claimed identity.
    pub principal: Principal,
    signature: [u8; SIGNATURE_LEN],
}

impl ChannelProof {
    /// Signs for the connection that `exporter` comes from.
    pub fn sign(principal: Principal, secret: &IdentitySecret, exporter: &Exporter) -> Self {
        Self {
            principal,
            signature: secret.sign(&channel_message(principal, exporter)),
        }
    }

    /// Returns whether the holder of `key` made this proof for this very connection.
    #[must_use]
    pub fn is_proved_by(&self, key: &IdentityKey, exporter: &Exporter) -> bool {
        key.verifies(&channel_message(self.principal, exporter), &self.signature)
    }

    /// The value of the `Authorization` header: `Overlan-Proof device <id> <signature>`.
    pub fn to_header(&self) -> String {
        let signature = encode_signature(&self.signature);
        match self.principal {
            Principal::Device(id) => format!("{SCHEME} device {id} {signature}"),
            Principal::Relay(id) => format!("{SCHEME} relay {id} {signature}"),
        }
    }

    /// Reads the header's value.
    pub fn from_header(value: &str) -> Option<Self> {
        let mut words = value.split(' ');
        if words.next()? != SCHEME {
            return None;
        }
        let (role, id, signature) = (words.next()?, words.next()?, words.next()?);
        let principal = match role {
            "device" => Principal::Device(id.parse().ok()?),
            "relay" => Principal::Relay(id.parse().ok()?),
            _ => return None,
        };
        let signature = decode_signature(signature).ok()?;
        words.next().is_none().then_some(Self {
            principal,
            signature,
        })
    }
}

fn channel_message(principal: Principal, exporter: &Exporter) -> Vec<u8> {
    let (role, id) = principal.parts();
    [CHANNEL_LABEL, role.as_bytes(), b"\0", exporter, &id].concat()
}

/// The bytes that a device signs with its new identity key when it enrols, or a relay when it
/// registers: proof that it holds the key, on this connection.
pub fn enrolment_message(exporter: &Exporter, identity: &IdentityKey) -> Vec<u8> {
    [ENROL_LABEL, exporter, &identity.0].concat()
}

/// The bytes that a device's identity key signs to certify its tunnel key. Peers check them, so
/// that a controller cannot swap a tunnel key without swapping the whole identity.
pub fn tunnel_key_message(tunnel: &TunnelKey) -> Vec<u8> {
    [TUNNEL_KEY_LABEL, &tunnel.0[..]].concat()
}

const SCHEME: &str = "Overlan-Proof";
const CHANNEL_LABEL: &[u8] = b"overlan channel proof 1\0";
const ENROL_LABEL: &[u8] = b"overlan enrolment 1\0";
const TUNNEL_KEY_LABEL: &[u8] = b"overlan tunnel key 1\0";

#[cfg(test)]
mod tests;
