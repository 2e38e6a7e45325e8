//! TLS as all our programs use it: 1.3 only between ourselves, one provider, servers known by a pin
//! or by public roots.
//!
//! There is no switch to accept any server: each is recognised by its deployment's CA, by its key,
//! or by a public chain.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use overlan_protocol::key::Fingerprint;
use overlan_protocol::{EXPORTER_LABEL, EXPORTER_LEN, Exporter};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime as CertificateTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

mod stepwise;

pub use stepwise::{STRANGER_MAX, Stepwise};

/// The means by which a server is recognised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerTrust {
    /// Its certificate chains to a public root (webpki-roots; the host's store is not used).
    PublicRoots,
    /// Its certificate chains to a CA with one of these certificate fingerprints, which the server
    /// sends along.
    DeploymentCa(Vec<Fingerprint>),
    /// Its key is one of these (SHA-256 of the SPKI); name, dates and issuer of the certificate do
    /// not matter.
    Pinned(Vec<Fingerprint>),
}

/// A TLS configuration for connections to servers known by `trust` that speak `alpn`.
pub fn client_config(trust: &ServerTrust, alpn: &[u8]) -> Arc<ClientConfig> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider supports TLS 1.3");
    let mut config = match trust {
        ServerTrust::PublicRoots => builder
            .with_root_certificates(RootCertStore::from_iter(
                webpki_roots::TLS_SERVER_ROOTS.iter().cloned(),
            ))
            .with_no_client_auth(),
        ServerTrust::DeploymentCa(fingerprints) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(DeploymentCaVerifier {
                fingerprints: fingerprints.clone(),
                provider,
            }))
            .with_no_client_auth(),
        ServerTrust::Pinned(pins) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(PinnedKeyVerifier {
                pins: pins.clone(),
                algorithms: provider.signature_verification_algorithms,
            }))
            .with_no_client_auth(),
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    // Each connection has its own proof over its own exporter; resumption would cost the server
    // more than a handshake.
    config.resumption = rustls::client::Resumption::disabled();
    // The pump takes the connection over after the handshake.
    config.enable_secret_extraction = true;
    Arc::new(config)
}

/// A TLS configuration for a server with this chain (leaf first) and key that speaks `alpn`.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[u8],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider supports TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.send_tls13_tickets = 0;
    // The pump takes the connection over after the handshake.
    config.enable_secret_extraction = true;
    Ok(Arc::new(config))
}

/// Sets up a socket that carries frames, at either end: bytes that are written go out at once, and
/// the rest waits in the program, where urgent frames overtake others.
///
/// # Errors
/// Those of the system, as for a socket that is already broken.
pub fn set_up(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket2::SockRef::from(socket).set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    Ok(())
}

/// Returns the bytes of the TLS exporter after a finished handshake.
pub fn exporter<S>(stream: &TlsStream<S>) -> Exporter {
    let output = [0; EXPORTER_LEN];
    match stream {
        TlsStream::Client(stream) => {
            stream
                .get_ref()
                .1
                .export_keying_material(output, EXPORTER_LABEL, None)
        }
        TlsStream::Server(stream) => {
            stream
                .get_ref()
                .1
                .export_keying_material(output, EXPORTER_LABEL, None)
        }
    }
    .expect("the handshake is finished and the length is one hash")
}

/// SHA-256 of a certificate.
pub fn certificate_fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    fingerprint(certificate)
}

/// SHA-256 of a certificate's SPKI; `None` if it does not parse.
pub fn key_fingerprint(certificate: &CertificateDer<'_>) -> Option<Fingerprint> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    Some(fingerprint(&certificate.subject_public_key_info()))
}

fn fingerprint(bytes: &[u8]) -> Fingerprint {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    Fingerprint(out)
}

/// Returns aws-lc-rs with AES-128-GCM first: the outer layer protects sizes and addresses, the
/// inner one the content, and 128 bits cost a tenth less than 256.
fn provider() -> Arc<CryptoProvider> {
    use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider};
    let cipher_suites = vec![
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider {
        cipher_suites,
        ..default_provider()
    })
}

/// Accepts a chain whose root, which the server sends too, is a pinned CA.
#[derive(Debug)]
struct DeploymentCaVerifier {
    fingerprints: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for DeploymentCaVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: CertificateTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut roots = RootCertStore::empty();
        for certificate in intermediates {
            if self
                .fingerprints
                .contains(&certificate_fingerprint(certificate))
            {
                roots.add(certificate.clone().into_owned())?;
            }
        }
        if roots.is_empty() {
            return Err(rustls::Error::General(
                "its CA is not the one in the join string; copy the join string again".into(),
            ));
        }
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Accepts a server whose key is pinned; the handshake's signature proves that it holds the key.
#[derive(Debug)]
struct PinnedKeyVerifier {
    pins: Vec<Fingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedKeyVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: CertificateTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match key_fingerprint(end_entity) {
            Some(key) if self.pins.contains(&key) => Ok(ServerCertVerified::assertion()),
            _ => Err(rustls::Error::General(
                "its key is not the one in the netmap".into(),
            )),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Bytes that may wait in a socket until the network takes them: a later frame never waits for
/// more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NOTSENT_LOWAT: u32 = 128 * 1024;

#[cfg(test)]
mod tests;
