//! The deployment's own CA and the server certificate that it issues. Decides when a server certificate is made anew.
//!
//! Everybody who joins pins the CA by the SHA-256 of its certificate, so the CA is made once and never changes.

pub(crate) mod names;

use std::io;
use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64;
use overlan_protocol::key::{Fingerprint, Secret, random_bytes};
use overlan_transport::tls::certificate_fingerprint;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SerialNumber, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use crate::secret_file;

/// What the TLS server presents.
#[derive(Debug)]
pub(crate) struct ServerIdentity {
    /// Leaf, then CA.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// SHA-256 of the CA's certificate, for the join string.
    pub(crate) ca: Fingerprint,
}

/// A certificate and its key, as they lie in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// DER, base64.
    certificate: String,
    /// PKCS #8 DER, base64.
    private_key: Secret,
    /// Names in the certificate.
    names: Vec<String>,
    /// Seconds since the Unix epoch.
    made: u64,
}

/// Loads CA and server certificate from `dir`, making what is missing, old or for other `names`.
pub(crate) fn load_or_make(dir: &Path, names: &[String], now: u64) -> io::Result<ServerIdentity> {
    let ca = match secret_file::read::<Stored>(&dir.join(CA_FILE))? {
        Some(stored) => stored,
        None => {
            let made = make_ca(now).map_err(io::Error::other)?;
            secret_file::write(&dir.join(CA_FILE), &made)?;
            made
        }
    };
    let ca_certificate = certificate(&ca)?;
    let fits = |leaf: &Stored| leaf.names == names && now < leaf.made + LEAF_RENEW_SECS;
    let leaf = match secret_file::read::<Stored>(&dir.join(LEAF_FILE))? {
        Some(leaf) if fits(&leaf) => leaf,
        _ => {
            let made = make_leaf(&key(&ca)?, names, now).map_err(io::Error::other)?;
            secret_file::write(&dir.join(LEAF_FILE), &made)?;
            made
        }
    };
    Ok(ServerIdentity {
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key(&leaf)?.serialize_der())),
        ca: certificate_fingerprint(&ca_certificate),
        chain: vec![certificate(&leaf)?, ca_certificate],
    })
}

fn make_ca(now: u64) -> Result<Stored, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = ca_params();
    validity(&mut params, now, CA_LIFE_SECS);
    let certificate = params.self_signed(&key)?;
    Ok(stored(certificate.der(), &key, Vec::new(), now))
}

fn make_leaf(ca_key: &KeyPair, names: &[String], now: u64) -> Result<Stored, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = common_name("Overlan controller");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, LEAF_LIFE_SECS);
    let issuer = Issuer::new(ca_params(), ca_key);
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(stored(certificate.der(), &key, names.to_vec(), now))
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Overlan deployment CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}

fn validity(params: &mut CertificateParams, now: u64, life: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(BACKDATED_SECS));
    params.not_after = epoch + Duration::from_secs(now + life);
    params.serial_number = Some(SerialNumber::from_slice(&random_bytes::<SERIAL_LEN>()));
}

fn stored(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
    names: Vec<String>,
    made: u64,
) -> Stored {
    Stored {
        certificate: BASE64.encode(certificate),
        private_key: Secret::new(&BASE64.encode(key.serialized_der())),
        names,
        made,
    }
}

fn certificate(stored: &Stored) -> io::Result<CertificateDer<'static>> {
    let der = BASE64.decode(stored.certificate.as_bytes());
    Ok(CertificateDer::from(der.map_err(io::Error::other)?))
}

fn key(stored: &Stored) -> io::Result<KeyPair> {
    let der = BASE64
        .decode(stored.private_key.reveal().as_bytes())
        .map_err(|_| damaged())?;
    KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(der), &PKCS_ECDSA_P256_SHA256)
        .map_err(|_| damaged())
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a private key is damaged")
}

const CA_FILE: &str = "ca.json";
const LEAF_FILE: &str = "server.json";

/// Ten years: whoever joined pins the CA, so a new one means that everybody joins again.
const CA_LIFE_SECS: u64 = 10 * 365 * 24 * 3_600;

/// 90 days, made anew at a start behind two thirds of them.
const LEAF_LIFE_SECS: u64 = 90 * 24 * 3_600;
const LEAF_RENEW_SECS: u64 = LEAF_LIFE_SECS / 3 * 2;

/// How much earlier a certificate is valid than it was made: room for clocks that differ.
const BACKDATED_SECS: u64 = 3_600;

/// Bytes of a serial number, at most 20 (RFC 5280).
const SERIAL_LEN: usize = 16;

#[cfg(test)]
mod tests;
