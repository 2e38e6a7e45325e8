//! TLS of the yardstick: TLS 1.3 with AES-128-GCM on aws-lc-rs, certificates of a CA that lives as
//! long as the chain.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::trouble::{During, Result};

/// The relay's name in its certificate.
pub(crate) const RELAY: &str = "relay.bench.example";

/// The exit's name in its certificate.
pub(crate) const EXIT: &str = "exit.bench.example";

/// Makes a CA and the certificates of relay and exit, and writes what the processes need to
/// `directory`.
pub(crate) fn write_certificates(directory: &Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::new()).during("CA")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca =
        CertifiedIssuer::self_signed(params, KeyPair::generate().during("CA key")?).during("CA")?;
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).during(name);
    write("ca.der", ca.der())?;
    for name in [RELAY, EXIT] {
        let key = KeyPair::generate().during("key")?;
        let params = CertificateParams::new(vec![name.to_owned()]).during("certificate")?;
        let certificate = params.signed_by(&key, &ca).during("certificate")?;
        write(&format!("{name}.der"), certificate.der())?;
        write(&format!("{name}.key"), &key.serialize_der())?;
    }
    Ok(())
}

/// A certificate for `name` that is signed by its own key, and that key, both as PEM in one text.
pub(crate) fn self_signed_pem(name: &str) -> Result<String> {
    let own = rcgen::generate_simple_self_signed([name.to_owned()]).during("certificate")?;
    Ok(own.cert.pem() + &own.signing_key.serialize_pem())
}

/// A certificate for `name` that is signed by its own key, and that key.
pub(crate) fn self_signed(
    name: &str,
) -> Result<(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>)> {
    let own = rcgen::generate_simple_self_signed([name.to_owned()]).during("certificate")?;
    let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
    Ok((own.cert.into(), key))
}

/// Trusts the CA in `directory` and nobody else.
pub(crate) fn client(directory: &Path) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate(directory, "ca")?).during("CA")?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .during("TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Is `name` by its certificate in `directory`.
pub(crate) fn server(directory: &Path, name: &str) -> Result<Arc<ServerConfig>> {
    let key = fs::read(directory.join(format!("{name}.key"))).during("key")?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .during("TLS")?
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate(directory, name)?],
            PrivatePkcs8KeyDer::from(key).into(),
        )
        .during("certificate")?;
    Ok(Arc::new(config))
}

fn certificate(directory: &Path, name: &str) -> Result<CertificateDer<'static>> {
    let bytes = fs::read(directory.join(format!("{name}.der"))).during("certificate")?;
    Ok(CertificateDer::from(bytes))
}

/// The fastest suite of this library, and the plain X25519 exchange: no handicap for the yardstick.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    })
}
