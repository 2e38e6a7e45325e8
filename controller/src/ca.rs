//! The deployment's own CA and the server certificate that it issues. Decides when the server
//! certificate is renewed, and how a new CA takes the place of the one before.
//!
//! Every device pins the CA by the SHA-256 of its certificate. The CA before vouches for a new one,
//! and its key is gone with that: the chain has both, so that each pin verifies it, until a time.

pub(crate) mod names;

use std::path::Path;
use std::time::Duration;

use data_encoding::{BASE64, HEXLOWER};
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
    /// The leaf, then the CA. While there is one before: the leaf, the CA as that one vouches for
    /// it, the CA, and the one before.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// The SHA-256 of the CA's certificate, for the join string.
    pub(crate) ca: Fingerprint,
    /// The time at which the CA was made.
    pub(crate) made: UnixTime,
    /// The CA before and its end, as long as it counts.
    pub(crate) previous: Option<(Fingerprint, UnixTime)>,
}

impl ServerIdentity {
    /// Returns the CAs by which the controller is recognised, the present one first.
    pub(crate) fn cas(&self) -> Vec<Fingerprint> {
        let previous = self.previous.map(|(ca, _)| ca);
        [self.ca].into_iter().chain(previous).collect()
    }
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
    /// The CA that issued it, if it is a server certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<Fingerprint>,
    /// The CA before, if it is a CA that replaced one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<StoredPrevious>,
}

/// A CA that was replaced. Its key is not kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPrevious {
    /// DER in base64.
    certificate: String,
    /// The certificate of the CA that replaced it, issued by it; DER in base64.
    vouched: String,
    /// From then on it does not count, seconds since the Unix epoch.
    ends: UnixTime,
}

/// Loads CA and server certificate from `dir`. Makes what is missing, and replaces a server
/// certificate that is old, damaged, of another CA or for other `names`. The CA must be the `known`
/// one, or have replaced it: devices pin it, so another one would lock out all of them.
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
    let (made_at, subject) = (ca.made, subject(&ca));
    let before = before(&ca_file, &ca)?;
    let ca = certificate_fingerprint(&ca_certificate);
    let replaced = before.as_ref().map(|before| before.ca);
    if known.is_some_and(|known| known != ca && Some(known) != replaced) {
        return Err(FileError::new(
            &ca_file,
            "it is damaged or belongs to another deployment: it does not hold the CA that the \
             database knows",
        ));
    }
    let fits = |leaf: &StoredCertificate| {
        // One that does not say it is of an earlier version, which never replaced a CA.
        let is_of_ca = leaf
            .issuer
            .map_or(replaced.is_none(), |issuer| issuer == ca);
        is_of_ca && leaf.names == names && now < leaf.made + LEAF_RENEW
    };
    let (key, leaf) = match usable(&leaf_file, fits) {
        Some(leaf) => leaf,
        None => {
            let issuer = Issuer::new(ca_params(&subject), &ca_key);
            let leaf = make_leaf(&issuer, ca, names, now);
            parts(&leaf_file, &made(&leaf_file, leaf)?)?
        }
    };
    let before = before.filter(|before| now < before.ends);
    let previous = before.as_ref().map(|before| (before.ca, before.ends));
    let chain = match before {
        None => vec![leaf, ca_certificate],
        Some(before) => vec![leaf, before.vouched, ca_certificate, before.certificate],
    };
    Ok(ServerIdentity {
        key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        ca,
        made: made_at,
        previous,
        chain,
    })
}

/// Reads the server's certificate, if it can be used and fits.
fn usable(
    file: &Path,
    fits: impl Fn(&StoredCertificate) -> bool,
) -> Option<(KeyPair, CertificateDer<'static>)> {
    let found = key_file::read::<StoredCertificate>(file);
    let found = found.and_then(|leaf| match leaf {
        Some(leaf) if fits(&leaf) => parts(file, &leaf).map(Some),
        Some(_) | None => Ok(None),
    });
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "the server's certificate cannot be used, and is made again");
        None
    })
}

/// Puts a new CA into the place of the one of `dir`, which vouches for it and counts until `ends`.
/// One write does all of it: after a crash there is the old CA or the new one with the old beside
/// it.
pub(crate) fn rotate(dir: &Path, now: UnixTime, ends: UnixTime) -> Result<(), RotateCaError> {
    let file = dir.join(CA_FILE);
    let stored = key_file::read::<StoredCertificate>(&file)?;
    let stored = stored.ok_or_else(|| FileError::new(&file, "it is missing"))?;
    if let Some(previous) = &stored.previous
        && now < previous.ends
    {
        return Err(RotateCaError::TooSoon {
            ends: previous.ends,
        });
    }
    let (old_key, _) = parts(&file, &stored)?;
    let rotated = replace(&stored, &old_key, now, ends);
    let rotated = rotated.map_err(|error| FileError::new(&file, error))?;
    Ok(key_file::write(&file, &rotated)?)
}

/// The reason why the CA is not rotated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateCaError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The CA before the last rotation still counts.
    #[error("the CA was rotated already, and the one before counts until {ends}")]
    TooSoon {
        /// Its end.
        ends: UnixTime,
    },
}

fn replace(
    old: &StoredCertificate,
    old_key: &KeyPair,
    now: UnixTime,
    ends: UnixTime,
) -> Result<StoredCertificate, rcgen::Error> {
    // The CAs have different names, so that a verifier does not take one for the other.
    let name = format!(
        "{CA_NAME} {}",
        HEXLOWER.encode(&random_bytes::<CA_ID_LEN>())
    );
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut own = ca_params(&name);
    validity(&mut own, now, CA_LIFE);
    let mut vouched = ca_params(&name);
    validity(&mut vouched, now, ends.since(now));
    let issuer = Issuer::new(ca_params(&subject(old)), old_key);
    let vouched = vouched.signed_by(&key, &issuer)?;
    let certificate = own.self_signed(&key)?;
    Ok(StoredCertificate {
        previous: Some(StoredPrevious {
            certificate: old.certificate.clone(),
            vouched: BASE64.encode(vouched.der()),
            ends,
        }),
        ..stored(certificate.der(), &key, vec![name], now)
    })
}

/// The CA before, as the chain needs it.
struct Before {
    ca: Fingerprint,
    certificate: CertificateDer<'static>,
    vouched: CertificateDer<'static>,
    ends: UnixTime,
}

fn before(file: &Path, ca: &StoredCertificate) -> Result<Option<Before>, FileError> {
    let Some(previous) = &ca.previous else {
        return Ok(None);
    };
    let der = |text: &str| {
        let der = BASE64.decode(text.as_bytes());
        let damaged = "it is damaged: the certificate of the CA before is not readable";
        der.map(CertificateDer::from)
            .map_err(|_| FileError::new(file, damaged))
    };
    let certificate = der(&previous.certificate)?;
    Ok(Some(Before {
        ca: certificate_fingerprint(&certificate),
        certificate,
        vouched: der(&previous.vouched)?,
        ends: previous.ends,
    }))
}

/// Returns the name of a CA: the first one of a deployment has the plain one.
fn subject(ca: &StoredCertificate) -> String {
    ca.names
        .first()
        .cloned()
        .unwrap_or_else(|| CA_NAME.to_owned())
}

fn make_ca(now: UnixTime) -> Result<StoredCertificate, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = ca_params(CA_NAME);
    validity(&mut params, now, CA_LIFE);
    let certificate = params.self_signed(&key)?;
    Ok(stored(certificate.der(), &key, Vec::new(), now))
}

fn make_leaf(
    issuer: &Issuer<'_, &KeyPair>,
    ca: Fingerprint,
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
    let certificate = params.signed_by(&key, issuer)?;
    Ok(StoredCertificate {
        issuer: Some(ca),
        ..stored(certificate.der(), &key, names.to_vec(), now)
    })
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
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
        issuer: None,
        previous: None,
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

/// The name in the certificate of the first CA; a later one has some digits after it.
const CA_NAME: &str = "Overlan deployment CA";
/// Bytes of those digits.
const CA_ID_LEN: usize = 4;

/// Ten years: a CA ends by a rotation, not by its date.
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
