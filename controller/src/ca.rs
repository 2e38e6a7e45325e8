//! The deployment's own CA and the server certificate that it issues. Decides when the server
//! certificate is renewed.
//!
//! Every device pins the CA by the SHA-256 of its certificate, so the CA is made once and never
//! changes.

pub(crate) mod names;

use std::path::Path;
use std::time::Duration;

use data_encoding::BASE64;
use overlan_protocol::UnixTime;
use overlan_protocol::key::{Fingerprint, Secret, random_bytes};
use overlan_transport::tls::{certificate_fingerprint, key_fingerprint};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
    date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

use crate::key_file::{self, FileError};

/// The chain and key that the TLS server presents.
#[derive(Debug)]
pub(crate) struct ServerIdentity {
    /// The leaf, then the CA.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// The SHA-256 of the CA's certificate, for the join string.
    pub(crate) ca: Fingerprint,
}

/// A certificate and its key, as they are stored in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredCertificate {
    /// DER in base64.
    certificate: String,
    /// PKCS #8 DER in base64.
    private_key: Secret,
    /// The names in the certificate.
    names: Vec<String>,
    /// The time at which it was made, seconds since the Unix epoch.
    made: UnixTime,
}

/// Loads CA and server certificate from `dir`. Makes what is missing, and replaces a server
/// certificate that is old, damaged or for other `names`. The CA must be the `known` one: devices
/// pin it, so another one would lock out all of them.
pub(crate) fn load_or_make(
    dir: &Path,
    names: &[String],
    now: UnixTime,
    known: Option<Fingerprint>,
) -> Result<ServerIdentity, FileError> {
    let (ca_file, leaf_file) = (dir.join(CA_FILE), dir.join(LEAF_FILE));
    let made = |file: &Path, made: Result<StoredCertificate, rcgen::Error>| {
        let made = made.map_err(|error| FileError::new(file, error))?;
        key_file::write(file, &made).map(|()| made)
    };
    let ca = match (key_file::read::<StoredCertificate>(&ca_file)?, known) {
        (Some(stored), _) => stored,
        (None, None) => made(&ca_file, make_ca(now))?,
        (None, Some(_)) => {
            return Err(FileError::new(
                &ca_file,
                "it is missing, but the database knows the CA",
            ));
        }
    };
    let (ca_key, ca_certificate) = parts(&ca_file, &ca)?;
    let ca = certificate_fingerprint(&ca_certificate);
    if known.is_some_and(|known| known != ca) {
        return Err(FileError::new(
            &ca_file,
            "it is damaged or belongs to another deployment: it does not hold the CA that the \
             database knows",
        ));
    }
    let fits = |leaf: &StoredCertificate| leaf.names == names && now < leaf.made + LEAF_RENEW;
    let found = key_file::read::<StoredCertificate>(&leaf_file);
    let found = found.and_then(|leaf| match leaf {
        Some(leaf) if fits(&leaf) => parts(&leaf_file, &leaf).map(Some),
        Some(_) | None => Ok(None),
    });
    let (key, leaf) = match found {
        Ok(Some(leaf)) => leaf,
        Ok(None) => parts(
            &leaf_file,
            &made(&leaf_file, make_leaf(&ca_key, names, now))?,
        )?,
        Err(error) => {
            tracing::warn!(%error, "the server's certificate cannot be used, and is made again");
            parts(
                &leaf_file,
                &made(&leaf_file, make_leaf(&ca_key, names, now))?,
            )?
        }
    };
    Ok(ServerIdentity {
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        ca,
        chain: vec![leaf, ca_certificate],
    })
}

fn make_ca(now: UnixTime) -> Result<StoredCertificate, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = ca_params();
    validity(&mut params, now, CA_LIFE);
    let certificate = params.self_signed(&key)?;
    Ok(stored(certificate.der(), &key, Vec::new(), now))
}

fn make_leaf(
    ca_key: &KeyPair,
    names: &[String],
    now: UnixTime,
) -> Result<StoredCertificate, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = common_name("Overlan controller");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, LEAF_LIFE);
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

fn validity(params: &mut CertificateParams, now: UnixTime, life: Duration) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + (now - BACKDATED).since(UnixTime::EPOCH);
    params.not_after = epoch + (now + life).since(UnixTime::EPOCH);
    params.serial_number = Some(SerialNumber::from_slice(&random_bytes::<SERIAL_LEN>()));
}

fn stored(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
    names: Vec<String>,
    made: UnixTime,
) -> StoredCertificate {
    StoredCertificate {
        certificate: BASE64.encode(certificate),
        private_key: Secret::new(&BASE64.encode(key.serialized_der())),
        names,
        made,
    }
}

/// Reads key and certificate of a file, which belong together.
fn parts(
    file: &Path,
    stored: &StoredCertificate,
) -> Result<(KeyPair, CertificateDer<'static>), FileError> {
    let damaged = |what| FileError::new(file, format!("it is damaged: {what}"));
    let der = BASE64.decode(stored.private_key.reveal().as_bytes());
    let der = der.map_err(|_| damaged("the key is not readable"))?;
    let key = KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(der),
        &PKCS_ECDSA_P256_SHA256,
    )
    .map_err(|_| damaged("the key is not readable"))?;
    let der = BASE64.decode(stored.certificate.as_bytes());
    let der = der.map_err(|_| damaged("the certificate is not readable"))?;
    let certificate = CertificateDer::from(der);
    let of_key = certificate_fingerprint(&CertificateDer::from(key.subject_public_key_info()));
    if key_fingerprint(&certificate) != Some(of_key) {
        return Err(damaged("key and certificate do not belong together"));
    }
    Ok((key, certificate))
}

pub(crate) const CA_FILE: &str = "ca.json";
const LEAF_FILE: &str = "server.json";

/// Ten years: every device pins the CA, so a new one means that all devices join again.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * DAY_SECS);

/// 90 days, renewed at a start after two thirds of them.
const LEAF_LIFE: Duration = Duration::from_secs(90 * DAY_SECS);
const LEAF_RENEW: Duration = Duration::from_secs(60 * DAY_SECS);

/// The time by which a certificate is backdated, seconds: room for clocks that differ.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// Seconds of a day.
const DAY_SECS: u64 = 24 * 3_600;

/// Bytes of a serial number, at most 20 (RFC 5280).
const SERIAL_LEN: usize = 16;

#[cfg(test)]
mod tests;
