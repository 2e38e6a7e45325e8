use super::*;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use overlan_transport::tls::{self, ServerTrust};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::{
    PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime as CertificateTime,
};

use crate::ca::load_or_make;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const SECOND: Duration = Duration::from_secs(1);
const DOMAIN: &str = "overlan.lan";
const NAME: &str = "web.home.overlan.lan";

fn device() -> (KeyPair, NameKey) {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let point = NameKey(pair.der_bytes().try_into().unwrap());
    (pair, point)
}

/// Judges a server as an ordinary client does that trusts `root`.
fn judged(
    root: &CertificateDer<'static>,
    leaf: &CertificateDer<'_>,
    name: &str,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let now = CertificateTime::since_unix_epoch(now.since(UnixTime::EPOCH));
    verifier
        .verify_server_cert(leaf, &[], &name, &[], now)
        .map(drop)
}

#[test]
fn a_certificate_is_for_one_name_of_the_domain_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let ca = NamesCa::load_or_make(dir.path(), DOMAIN, NOW).unwrap();
    let (_, key) = device();
    let issued = ca.issue(NAME, &key, NOW).unwrap();
    judged(ca.certificate(), &issued, NAME, NOW).unwrap();
    judged(ca.certificate(), &issued, NAME, expires(NOW) - SECOND).unwrap();
    assert!(judged(ca.certificate(), &issued, NAME, expires(NOW) + SECOND).is_err());
    assert!(judged(ca.certificate(), &issued, "db.home.overlan.lan", NOW).is_err());
    // Even if the controller issued it, nobody takes it.
    for stolen in ["www.example.com", "overlan.lan.example.com", "127.0.0.1"] {
        let issued = ca.issue(stolen, &key, NOW).unwrap();
        let judged = judged(ca.certificate(), &issued, stolen, NOW);
        assert!(judged.is_err(), "{stolen}");
    }
}

#[test]
fn the_ca_stays_for_its_domain_and_is_its_owners_only() {
    let dir = tempfile::tempdir().unwrap();
    let made = |domain, now| {
        let ca = NamesCa::load_or_make(dir.path(), domain, now).unwrap();
        ca.certificate().clone()
    };
    let first = made(DOMAIN, NOW);
    assert_eq!(made(DOMAIN, NOW + RENEW - SECOND), first);
    assert_ne!(made(DOMAIN, NOW + RENEW), first);
    assert_ne!(made("other.internal", NOW), first);
    let mode = std::fs::metadata(dir.path().join(FILE)).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
}

/// A server that shows `chain` and holds its key, and what a client with `config` that wants `name`
/// says of it.
async fn handshake(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
    config: Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<()> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let server = tls::server_config(chain, key, overlan_protocol::ALPN_CONTROLLER).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(config);
    let acceptor = tokio_rustls::TlsAcceptor::from(server);
    let (client, _) = tokio::join!(connector.connect(name, near), acceptor.accept(far));
    client.map(drop)
}

#[tokio::test]
async fn a_certificate_of_a_device_is_refused_where_the_controller_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    // Today, as the client's clock is the real one here.
    let now = crate::clock::wall();
    let names = [NAME.to_owned(), "127.0.0.1".to_owned()];
    let controller = load_or_make(dir.path(), &names, now, None).unwrap();
    let ca = NamesCa::load_or_make(dir.path(), DOMAIN, now).unwrap();
    let (pair, key) = device();
    let config = tls::client_config(
        &ServerTrust::DeploymentCa(vec![controller.ca]),
        overlan_protocol::ALPN_CONTROLLER,
    );
    // The control: the controller itself is taken under that name.
    let PrivateKeyDer::Pkcs8(own) = &controller.key else {
        panic!("another form of key");
    };
    let own = KeyPair::from_pkcs8_der_and_sign_algo(own, &PKCS_ECDSA_P256_SHA256).unwrap();
    handshake(controller.chain.clone(), &own, config.clone(), NAME)
        .await
        .unwrap();
    // The device shows its certificate for that very name, followed by each CA, in any order.
    let leaf = ca.issue(NAME, &key, now).unwrap();
    let (names_ca, deployment_ca) = (ca.certificate().clone(), controller.chain[1].clone());
    for issuers in [
        vec![names_ca.clone()],
        vec![deployment_ca.clone()],
        vec![names_ca.clone(), deployment_ca.clone()],
        vec![deployment_ca, names_ca],
    ] {
        let chain = [vec![leaf.clone()], issuers].concat();
        let refused = handshake(chain, &pair, config.clone(), NAME).await;
        assert!(refused.is_err(), "a device was taken for the controller");
    }
    // And the other way: the deployment's CA does not vouch for a device.
    let judged = judged(ca.certificate(), &controller.chain[0], NAME, now);
    assert_eq!(
        judged,
        Err(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer
        ))
    );
}
