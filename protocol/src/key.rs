//! Identities and keys: their types, their text forms, and signatures.
//!
//! Stores nothing: the owner of a secret decides where it lies on disk.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A text that does not hold a key or an id of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: expected {expected}")]
pub struct ParseKeyError {
    what: &'static str,
    expected: &'static str,
}

/// Writes the type of a random 16-byte id with its text form, 32 lower-case hexadecimal digits.
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; ID_LEN]);

        impl $name {
            /// A new random id.
            pub fn random() -> Self {
                Self(random_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;
            fn from_str(text: &str) -> Result<Self, ParseKeyError> {
                HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(Self)
                    .ok_or(ParseKeyError { what: $what, expected: "32 hexadecimal digits" })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Writes the type of a public 32-byte value with its text form, unpadded URL-safe base64.
macro_rules! public_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; KEY_LEN]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&BASE64URL_NOPAD.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}…)", stringify!($name), &self.to_string()[..8])
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;
            fn from_str(text: &str) -> Result<Self, ParseKeyError> {
                BASE64URL_NOPAD
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(Self)
                    .ok_or(ParseKeyError {
                        what: $what,
                        expected: "43 characters of URL-safe base64",
                    })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type!(
    /// One enrolment of one device. A device that enrols again is a new device.
    DeviceId,
    "device id"
);
id_type!(
    /// One registered relay.
    RelayId,
    "relay id"
);
id_type!(
    /// One network of one organisation. On the wire a network is its VNI; the id never changes.
    NetworkId,
    "network id"
);
id_type!(
    /// One run of a controller over its database. A number that the controller counts up means
    /// something only together with the run that counted it: after a restore from a backup the same
    /// numbers are counted again, for other things.
    Lineage,
    "lineage"
);
public_type!(
    /// Public Ed25519 key that proves who a device or a relay is (DIK, RIK).
    IdentityKey,
    "identity key"
);
public_type!(
    /// Public X25519 key of a device's end-to-end sessions (DTK).
    TunnelKey,
    "tunnel key"
);
public_type!(
    /// SHA-256 over a certificate or over a public key in SPKI form, used as a pin.
    Fingerprint,
    "fingerprint"
);

impl IdentityKey {
    /// Returns whether `signature` over `message` was made by the secret half of this key.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(message, signature)
            .is_ok()
    }
}

/// Secret half of an [`IdentityKey`]: a 32-byte Ed25519 seed, wiped when dropped, never printed.
pub struct IdentitySecret {
    seed: Zeroizing<[u8; KEY_LEN]>,
    pair: Ed25519KeyPair,
}

impl IdentitySecret {
    /// A new key from the operating system's randomness.
    pub fn generate() -> Self {
        Self::from_seed(random_bytes())
    }

    /// The key that `seed` stands for.
    pub fn from_seed(seed: [u8; KEY_LEN]) -> Self {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are an Ed25519 seed");
        Self {
            seed: Zeroizing::new(seed),
            pair,
        }
    }

    /// The seed, to be written only to the owner's state file.
    pub fn seed(&self) -> &[u8; KEY_LEN] {
        &self.seed
    }

    /// The public half.
    pub fn public(&self) -> IdentityKey {
        let mut key = [0; KEY_LEN];
        key.copy_from_slice(self.pair.public_key().as_ref());
        IdentityKey(key)
    }

    /// Signs `message`; Ed25519 is deterministic.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let mut signature = [0; SIGNATURE_LEN];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for IdentitySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentitySecret([redacted])")
    }
}

/// A text that may not appear in a log: tokens, passwords, auth keys. `Debug` and `Display` print
/// `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text; surrounding white space, as an editor or `echo` leaves it, is not part of a
    /// secret.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// The text itself. The caller sends it or compares it, and does not print it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A signature in text form, unpadded URL-safe base64.
pub fn encode_signature(signature: &[u8; SIGNATURE_LEN]) -> String {
    BASE64URL_NOPAD.encode(signature)
}

/// Reads what [`encode_signature`] wrote.
pub fn decode_signature(text: &str) -> Result<[u8; SIGNATURE_LEN], ParseKeyError> {
    BASE64URL_NOPAD
        .decode(text.as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(ParseKeyError {
            what: "signature",
            expected: "86 characters of URL-safe base64",
        })
}

/// `N` bytes of the operating system's randomness.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the operating system gives randomness or the process cannot go on safely");
    bytes
}

/// Bytes of an id.
pub const ID_LEN: usize = 16;

/// Bytes of a public or secret key.
pub const KEY_LEN: usize = 32;

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

#[cfg(test)]
mod tests;
