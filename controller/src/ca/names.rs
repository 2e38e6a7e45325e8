//! The CA of device names: decides what a device's certificate says, and for how long. It has a key
//! of its own and vouches for names below the deployment's domain only, never for the controller: a
//! program that trusts the one CA does not trust the other.

use std::time::Duration;

use std::fmt;
use std::path::Path;

use data_encoding::BASE64;
use overlan_protocol::UnixTime;
use overlan_protocol::api::NameKey;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;

use super::{DAY_SECS, StoredCertificate, common_name, parts, stored, validity};
use crate::key_file::{self, FileError};

/// Issues certificates for names of devices.
pub(crate) struct NamesCa {
    key: KeyPair,
    certificate: CertificateDer<'static>,
    domain: String,
}

impl fmt::Debug for NamesCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamesCa")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

impl NamesCa {
    /// Loads the CA of `domain` from `dir`, making it if it is missing, old or of another domain.
    pub(crate) fn load_or_make(dir: &Path, domain: &str, now: UnixTime) -> Result<Self, FileError> {
        let file = dir.join(FILE);
        let fits =
            |stored: &StoredCertificate| stored.names == [domain] && now < stored.made + RENEW;
        let stored = match key_file::read::<StoredCertificate>(&file)? {
            Some(stored) if fits(&stored) => stored,
            _ => {
                let made = make(domain, now).map_err(|error| FileError::new(&file, error))?;
                key_file::write(&file, &made)?;
                made
            }
        };
        let (key, certificate) = parts(&file, &stored)?;
        Ok(Self {
            key,
            certificate,
            domain: domain.to_owned(),
        })
    }

    /// Returns its certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Returns its certificate as PEM, for programs that have to trust it.
    pub(crate) fn pem(&self) -> String {
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let text = BASE64.encode(&self.certificate);
        let mut text = text.as_str();
        while !text.is_empty() {
            let (line, rest) = text.split_at(text.len().min(PEM_LINE));
            pem.push_str(line);
            pem.push('\n');
            text = rest;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// Issues a certificate over the key `device` for `name`, which ends at [`expires`].
    pub(crate) fn issue(
        &self,
        name: &str,
        device: &NameKey,
        now: UnixTime,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        let mut params = CertificateParams::new([name.to_owned()])?;
        params.distinguished_name = common_name("Overlan device");
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, CERTIFICATE_LIFE);
        let ca = params_of(&self.domain);
        let issued = params.signed_by(&Point(device), &Issuer::from_params(&ca, &self.key))?;
        Ok(issued.der().clone())
    }
}

/// Returns the end of a certificate that is issued `now`.
pub(crate) fn expires(now: UnixTime) -> UnixTime {
    now + CERTIFICATE_LIFE
}

fn make(domain: &str, now: UnixTime) -> Result<StoredCertificate, rcgen::Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = params_of(domain);
    validity(&mut params, now, LIFE);
    let certificate = params.self_signed(&key)?;
    Ok(stored(
        certificate.der(),
        &key,
        vec![domain.to_owned()],
        now,
    ))
}

fn params_of(domain: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Overlan device names CA");
    params
        .distinguished_name
        .push(DnType::OrganizationName, domain);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
        // A list of permitted names says nothing about addresses.
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    params
}

/// The key of a device, as certificates hold it.
struct Point<'a>(&'a NameKey);

impl PublicKeyData for Point<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.0.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// Characters of a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

pub(crate) const FILE: &str = "names-ca.json";

/// Ten years, since people have to tell browsers and other programs of it by hand; renewed a year
/// before it ends.
const LIFE: Duration = Duration::from_secs(10 * 365 * DAY_SECS);
const RENEW: Duration = Duration::from_secs(9 * 365 * DAY_SECS);

/// 14 days: longer than a controller is away, and short enough that a removed device is soon
/// without a certificate.
const CERTIFICATE_LIFE: Duration = Duration::from_secs(14 * DAY_SECS);

#[cfg(test)]
mod tests;
