//! A QUIC server that gives one content to everybody, and a client that asks it for that.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::process::LONGEST;

/// A running server on a free port of 127.0.0.1.
pub(super) struct Server {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    endpoint: Endpoint,
    // Below the endpoint: its tasks run in here.
    _runtime: Runtime,
}

impl Server {
    /// Gives `content` on every stream that somebody opens.
    pub(super) fn start(content: Vec<u8>) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
        let runtime = Runtime::new().unwrap();
        let endpoint = {
            let _inside = runtime.enter();
            Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).unwrap()
        };
        let content = Arc::new(content);
        runtime.spawn({
            let endpoint = endpoint.clone();
            async move {
                while let Some(incoming) = endpoint.accept().await {
                    let content = content.clone();
                    tokio::spawn(async move {
                        let Ok(connection) = incoming.await else {
                            return;
                        };
                        while let Ok((mut answer, mut question)) = connection.accept_bi().await {
                            question.read_to_end(64).await.unwrap();
                            answer.write_all(&content).await.unwrap();
                            answer.finish().unwrap();
                        }
                    });
                }
            }
        });
        Self {
            address: endpoint.local_addr().unwrap(),
            certificate,
            endpoint,
            _runtime: runtime,
        }
    }

    /// The address on which it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// By which clients know it.
    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(0_u32.into(), b"");
    }
}

/// The answer of the server at `at`.
///
/// # Panics
/// If it has not come within [`LONGEST`].
pub(super) fn fetch(at: SocketAddr, certificate: CertificateDer<'static>) -> Vec<u8> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let runtime = Runtime::new().unwrap();
    let fetched = async {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connecting = endpoint.connect_with(config, at, NAME).unwrap();
        let connection = connecting.await.unwrap();
        let (mut question, mut answer) = connection.open_bi().await.unwrap();
        question.write_all(b"all of it").await.unwrap();
        question.finish().unwrap();
        let content = answer.read_to_end(CONTENT_MAX).await.unwrap();
        connection.close(0_u32.into(), b"");
        endpoint.wait_idle().await;
        content
    };
    runtime.block_on(async {
        timeout(LONGEST, fetched)
            .await
            .expect("the content in time")
    })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Of the server, in its certificate.
const NAME: &str = "quic.example";

/// A protocol of this test's own.
const ALPN: &[u8] = b"overlan-test";

/// Longest content, bytes.
const CONTENT_MAX: usize = 64 << 20;
