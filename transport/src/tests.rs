//! Helpers that the tests of this crate share: a deployment's CA, identities of servers, and TLS
//! over loopback.

use std::sync::Arc;

use overlan_protocol::HostPort;
use overlan_protocol::key::Fingerprint;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::tls::{self, ServerTrust, Stepwise};
use crate::{ConnectError, connect};

/// A CA that every deployment names alike.
pub(crate) struct Deployment {
    ca: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// The chain and the key that a server presents.
pub(crate) struct Identity {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
}

impl Deployment {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "Overlan deployment CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        Self {
            ca: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        tls::certificate_fingerprint(&self.ca)
    }

    /// Leaf and CA for a server with these names.
    pub(crate) fn identity(&self, names: &[&str]) -> Identity {
        self.identity_with(names, |_| {})
    }

    pub(crate) fn identity_with(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![leaf.der().clone(), self.ca.clone()],
            key: key.into(),
        }
    }
}

impl Identity {
    pub(crate) fn config(self, alpn: &[u8]) -> Arc<ServerConfig> {
        tls::server_config(self.chain, self.key, alpn).unwrap()
    }
}

pub(crate) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Lets a client that trusts so connect to a server that is so; the client's end and the server's.
pub(crate) async fn connect(
    server: Arc<ServerConfig>,
    trust: &ServerTrust,
    alpn: &[u8],
) -> Result<(TlsStream<Stepwise>, TlsStream<Stepwise>), ConnectError> {
    let (listener, port) = listen().await;
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(server).accept(Stepwise::new(tcp)).await
    };
    let config = tls::client_config(trust, alpn);
    let to = HostPort::new(HOST, port).unwrap();
    let (client, server) = tokio::join!(connect::direct(&to, config, WITHIN), accept);
    Ok((client?, server.unwrap().into()))
}

/// Both ends of a connection as client and relay have it.
pub(crate) async fn pair() -> (TlsStream<Stepwise>, TlsStream<Stepwise>) {
    let deployment = Deployment::new();
    let trust = ServerTrust::DeploymentCa(vec![deployment.fingerprint()]);
    let server = deployment.identity(&[HOST]).config(ALPN);
    connect(server, &trust, ALPN).await.unwrap()
}

pub(crate) const HOST: &str = "127.0.0.1";

pub(crate) const ALPN: &[u8] = b"overlan-test/1";

/// Longer than anything here takes on a busy machine.
pub(crate) const WITHIN: std::time::Duration = std::time::Duration::from_secs(20);
