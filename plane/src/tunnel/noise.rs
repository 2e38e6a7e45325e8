//! Decides which code does the cryptography of the handshake: `snow` runs the Noise pattern,
//! aws-lc-rs does every operation in it. It holds no session; `snow` is linked without primitives
//! of its own, so no other cipher can be used.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::digest;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::{Zeroize, Zeroizing};

use super::envelope::TAG_LEN;

/// The Noise protocol both devices run. It is fixed and part of the prologue, so nothing can be
/// negotiated down.
pub const SUITE: &str = "Noise_IK_25519_AESGCM_SHA256";

/// A device's secret X25519 tunnel key. Erased when dropped; `Debug` shows the public half only.
pub struct StaticKey {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl StaticKey {
    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate(random: &SystemRandom) -> Result<Self, Unspecified> {
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(&mut *secret)?;
        Ok(Self::from_secret(secret))
    }

    /// Takes a key from the device's state; any 32 bytes are a valid X25519 secret.
    #[must_use]
    pub fn from_secret(secret: Zeroizing<[u8; 32]>) -> Self {
        let mut dh = X25519Dh::default();
        dh.set(&*secret);
        let public = dh.public;
        Self { secret, public }
    }

    /// The half that peers know.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The half that only the device's own state file may hold.
    #[must_use]
    pub fn secret(&self) -> &Zeroizing<[u8; 32]> {
        &self.secret
    }
}

impl fmt::Debug for StaticKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.public;
        write!(f, "StaticKey(public {a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// The side that writes message 1.
pub(super) fn initiator(
    prologue: &[u8],
    local: &StaticKey,
    remote: &[u8; 32],
) -> Result<HandshakeState, snow::Error> {
    builder(prologue, local)?
        .remote_public_key(remote)?
        .build_initiator()
}

/// The side that reads message 1. It learns the writer's key and must compare it with the expected
/// one.
pub(super) fn responder(prologue: &[u8], local: &StaticKey) -> Result<HandshakeState, snow::Error> {
    builder(prologue, local)?.build_responder()
}

/// The key for one direction of transport messages, or for one step of a handshake.
///
/// Takes the secret by reference so that the caller can erase its copy.
pub(super) fn aes_key(secret: &[u8; 32]) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, secret).expect("32 bytes are an AES-256 key");
    LessSafeKey::new(key)
}

/// Noise's AESGCM nonce: 32 zero bits, then the counter big-endian.
pub(super) fn aes_nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn builder<'b>(prologue: &'b [u8], local: &'b StaticKey) -> Result<Builder<'b>, snow::Error> {
    Builder::with_resolver(SUITE.parse()?, Box::new(AwsLc))
        .local_private_key(&*local.secret)?
        .prologue(prologue)
}

/// Gives `snow` the four primitives of [`SUITE`] and no other.
///
/// Ephemeral keys come from the operating system even in simulations: no decision depends on their
/// value.
struct AwsLc;

impl CryptoResolver for AwsLc {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(OsRandom(SystemRandom::new())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        (*choice == DHChoice::Curve25519).then(|| Box::new(X25519Dh::default()) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        (*choice == HashChoice::SHA256).then(|| Box::new(Sha256::default()) as Box<dyn Hash>)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        (*choice == CipherChoice::AESGCM).then(|| Box::new(Aes256Gcm::default()) as Box<dyn Cipher>)
    }
}

struct OsRandom(SystemRandom);

impl Random for OsRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(dest).map_err(|Unspecified| snow::Error::Rng)
    }
}

#[derive(Default)]
struct X25519Dh {
    key: Option<PrivateKey>,
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Dh for X25519Dh {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    /// Sets the key. One that cannot be set clears it, and the next `dh` fails.
    fn set(&mut self, privkey: &[u8]) {
        self.key = PrivateKey::from_private_key(&X25519, privkey).ok();
        let public = self
            .key
            .as_ref()
            .and_then(|key| key.compute_public_key().ok());
        if let (Ok(secret), Some(public)) = (privkey.try_into(), public) {
            *self.secret = secret;
            self.public.copy_from_slice(public.as_ref());
        } else {
            *self = Self::default();
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(&mut *secret)?;
        self.set(&*secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        &*self.secret
    }

    /// `snow` passes a buffer longer than a key. aws-lc-rs refuses a peer key that would make the
    /// result zero.
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let key = self.key.as_ref().ok_or(snow::Error::Dh)?;
        let peer = pubkey.get(..32).ok_or(snow::Error::Dh)?;
        let out = out.get_mut(..32).ok_or(snow::Error::Dh)?;
        agree(
            key,
            UnparsedPublicKey::new(&X25519, peer),
            snow::Error::Dh,
            |shared| {
                out.copy_from_slice(shared);
                Ok(())
            },
        )
    }
}

#[derive(Default)]
struct Aes256Gcm {
    key: Option<LessSafeKey>,
}

impl Cipher for Aes256Gcm {
    fn name(&self) -> &'static str {
        "AESGCM"
    }

    fn set(&mut self, key: &[u8; 32]) {
        self.key = Some(aes_key(key));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let key = self
            .key
            .as_ref()
            .expect("snow asks for a key before it encrypts");
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let tag = key
            .seal_in_place_separate_tag(aes_nonce(nonce), Aad::from(authtext), text)
            .expect("a Noise message is far below what one AES-GCM nonce may seal");
        rest[..TAG_LEN].copy_from_slice(tag.as_ref());
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let key = self.key.as_ref().ok_or(snow::Error::Decrypt)?;
        let len = ciphertext
            .len()
            .checked_sub(TAG_LEN)
            .ok_or(snow::Error::Decrypt)?;
        let (text, tag) = ciphertext.split_at(len);
        let out = out.get_mut(..len).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(text);
        let opened =
            key.open_in_place_separate_tag(aes_nonce(nonce), Aad::from(authtext), tag, out);
        match opened {
            Ok(_) => Ok(len),
            Err(Unspecified) => {
                out.zeroize();
                Err(snow::Error::Decrypt)
            }
        }
    }
}

struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        32
    }

    fn reset(&mut self) {
        *self = Self::default();
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(self.0.clone().finish().as_ref());
    }
}

#[cfg(test)]
mod tests;
