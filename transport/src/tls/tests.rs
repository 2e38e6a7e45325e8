use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use overlan_protocol::HostPort;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::NamedGroup;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::ConnectError;
use crate::connect::direct;
use crate::tests::{ALPN, Deployment, HOST, Identity, WITHIN, connect as connect_to, listen, pair};

fn here(port: u16) -> HostPort {
    HostPort::new(HOST, port).unwrap()
}

fn wrong_server<T: std::fmt::Debug>(result: Result<T, ConnectError>) -> String {
    match result {
        Err(ConnectError::WrongServer { reason, .. }) => reason,
        other => panic!("not refused as the wrong server: {other:?}"),
    }
}

/// A certificate nobody signed, for another name, that ended long ago.
fn outlandish() -> (Identity, Fingerprint) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["elsewhere.example".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2001, 1, 1);
    params.not_after = date_time_ymd(2002, 1, 1);
    let chain = vec![params.self_signed(&key).unwrap().der().clone()];
    let pin = key_fingerprint(&chain[0]).unwrap();
    let key = key.into();
    (Identity { chain, key }, pin)
}

#[tokio::test]
async fn the_deployments_ca_is_accepted_and_bytes_pass_both_ways() {
    let (mut client, mut server) = pair().await;
    client.write_all(b"there").await.unwrap();
    client.flush().await.unwrap();
    let mut bytes = [0; 5];
    server.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"there");
    server.write_all(b"again").await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"again");
    let TlsStream::Client(client) = &client else {
        panic!("the connecting side is the client");
    };
    let tls = client.get_ref().1;
    assert_eq!(tls.alpn_protocol(), Some(ALPN));
    assert_eq!(
        tls.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
}

#[tokio::test]
async fn another_ca_with_the_same_name_is_the_wrong_server() {
    let (ours, other) = (Deployment::new(), Deployment::new());
    let trust = ServerTrust::DeploymentCa(vec![ours.fingerprint()]);
    let server = other.identity(&[HOST]).config(ALPN);
    let reason = wrong_server(connect_to(server, &trust, ALPN).await);
    assert!(reason.contains("CA"), "{reason}");
}

#[tokio::test]
async fn our_ca_sent_along_vouches_for_no_foreign_leaf() {
    let (ours, other) = (Deployment::new(), Deployment::new());
    let mut forged = other.identity(&[HOST]);
    forged.chain[1] = ours.identity(&[HOST]).chain[1].clone();
    let trust = ServerTrust::DeploymentCa(vec![ours.fingerprint()]);
    wrong_server(connect_to(forged.config(ALPN), &trust, ALPN).await);
}

#[tokio::test]
async fn a_ca_that_is_not_sent_along_is_the_wrong_server() {
    let deployment = Deployment::new();
    let mut identity = deployment.identity(&[HOST]);
    identity.chain.truncate(1);
    let trust = ServerTrust::DeploymentCa(vec![deployment.fingerprint()]);
    wrong_server(connect_to(identity.config(ALPN), &trust, ALPN).await);
}

#[tokio::test]
async fn a_leaf_is_no_ca() {
    let deployment = Deployment::new();
    let identity = deployment.identity(&[HOST]);
    let trust = ServerTrust::DeploymentCa(vec![certificate_fingerprint(&identity.chain[0])]);
    wrong_server(connect_to(identity.config(ALPN), &trust, ALPN).await);
}

#[tokio::test]
async fn a_leaf_for_another_host_is_the_wrong_server() {
    let deployment = Deployment::new();
    let trust = ServerTrust::DeploymentCa(vec![deployment.fingerprint()]);
    let server = deployment.identity(&["elsewhere.example"]).config(ALPN);
    wrong_server(connect_to(server, &trust, ALPN).await);
}

#[tokio::test]
async fn a_leaf_that_ended_is_the_wrong_server() {
    let deployment = Deployment::new();
    let trust = ServerTrust::DeploymentCa(vec![deployment.fingerprint()]);
    let ended = deployment.identity_with(&[HOST], |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    wrong_server(connect_to(ended.config(ALPN), &trust, ALPN).await);
}

#[tokio::test]
async fn a_pinned_key_is_accepted_whatever_its_certificate_says() {
    let (identity, pin) = outlandish();
    let trust = ServerTrust::Pinned(vec![Fingerprint([1; 32]), pin]);
    connect_to(identity.config(ALPN), &trust, ALPN)
        .await
        .unwrap();
}

#[tokio::test]
async fn another_key_than_the_pinned_one_is_the_wrong_server() {
    let (_, pin) = outlandish();
    for trust in [ServerTrust::Pinned(vec![pin]), ServerTrust::Pinned(vec![])] {
        let (other, _) = outlandish();
        wrong_server(connect_to(other.config(ALPN), &trust, ALPN).await);
    }
}

#[tokio::test]
async fn a_stolen_certificate_without_its_key_is_refused() {
    let (identity, pin) = outlandish();
    let provider = provider();
    let other_key = PrivateKeyDer::from(KeyPair::generate().unwrap());
    let signing = provider.key_provider.load_private_key(other_key).unwrap();
    let stolen = rustls::sign::CertifiedKey::new(identity.chain, signing);
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(stolen)));
    server.alpn_protocols = vec![ALPN.to_vec()];
    let result = connect_to(Arc::new(server), &ServerTrust::Pinned(vec![pin]), ALPN).await;
    wrong_server(result);
}

#[tokio::test]
async fn a_private_certificate_has_no_public_roots() {
    let server = Deployment::new().identity(&[HOST]).config(ALPN);
    wrong_server(connect_to(server, &ServerTrust::PublicRoots, ALPN).await);
}

/// Connects to a server that reads the client's hello and answers with these bytes.
async fn connect_to_bytes(answer: Vec<u8>) -> Result<(), ConnectError> {
    let (listener, port) = listen().await;
    let serve = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        let mut hello = [0; 16_384];
        let count = tcp.read(&mut hello).await.unwrap();
        assert!(count > 0, "the client speaks first");
        tcp.write_all(&answer).await.unwrap();
        tcp.shutdown().await.unwrap();
        // Until the client is done with it; a reset must not overtake the answer.
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    };
    let config = client_config(&ServerTrust::Pinned(vec![]), ALPN);
    let to = here(port);
    let (result, ()) = tokio::join!(direct(&to, config, WITHIN), serve);
    result.map(drop)
}

#[tokio::test]
async fn a_server_of_tls_1_2_does_not_speak_this_protocol() {
    // ServerHello: version 1.2, random, no session, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, no
    // compression, no extensions.
    let mut hello = vec![2, 0, 0, 38, 3, 3];
    hello.extend([0x5a; 32]);
    hello.extend([0, 0xc0, 0x2f, 0]);
    let mut record = vec![22, 3, 3, 0, hello.len() as u8];
    record.append(&mut hello);
    let result = connect_to_bytes(record).await;
    let Err(ConnectError::Handshake { source, .. }) = result else {
        panic!("{result:?}");
    };
    let tls = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    assert!(
        matches!(tls, Some(rustls::Error::PeerIncompatible(_))),
        "{source:?}"
    );
}

#[tokio::test]
async fn a_client_of_tls_1_2_gets_no_further_than_its_hello() {
    // ClientHello: version 1.2 and no supported_versions, so 1.3 is out of the question.
    let mut hello = vec![1, 0, 0, 43, 3, 3];
    hello.extend([0x5a; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2f, 1, 0, 0, 0]);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8];
    record.append(&mut hello);
    let (listener, port) = listen().await;
    let server = Deployment::new().identity(&[HOST]).config(ALPN);
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(server).accept(tcp).await.map(drop)
    };
    let ask = async {
        let mut tcp = TcpStream::connect((HOST, port)).await.unwrap();
        tcp.write_all(&record).await.unwrap();
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (accepted, answer) = tokio::join!(accept, ask);
    assert!(accepted.is_err());
    assert_eq!(answer.first(), Some(&21), "an alert and nothing else");
}

#[tokio::test]
async fn a_server_of_plain_text_does_not_speak_this_protocol() {
    let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec();
    let result = connect_to_bytes(answer).await;
    assert!(
        matches!(result, Err(ConnectError::Handshake { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_server_that_hangs_up_is_told_from_one_that_speaks_something_else() {
    let result = connect_to_bytes(Vec::new()).await;
    let Err(error @ ConnectError::Closed { .. }) = result else {
        panic!("{result:?}");
    };
    let text = error.to_string();
    assert!(text.contains("closed the connection"), "{text}");
    assert!(!text.contains("protocol"), "{text}");
    // A server that is full does not read what was sent, so its system answers with a reset.
    let (listener, port) = listen().await;
    let serve = async { drop(listener.accept().await.unwrap()) };
    let config = client_config(&ServerTrust::Pinned(vec![]), ALPN);
    let to = here(port);
    let (result, ()) = tokio::join!(direct(&to, config, WITHIN), serve);
    assert!(
        matches!(result, Err(ConnectError::Closed { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn nobody_listening_is_no_connection() {
    let (listener, port) = listen().await;
    drop(listener);
    let config = client_config(&ServerTrust::PublicRoots, ALPN);
    let result = direct(&here(port), config, WITHIN).await;
    let Err(ConnectError::Connect { address, source }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(address, format!("{HOST}:{port}"));
    assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_waited_for_as_long_as_told() {
    let (listener, port) = listen().await;
    let config = client_config(&ServerTrust::PublicRoots, ALPN);
    let asked = tokio::time::Instant::now();
    let within = Duration::from_millis(1_500);
    let result = direct(&here(port), config, within).await;
    let Err(ConnectError::TimedOut { waited, .. }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(waited, within);
    let took = asked.elapsed();
    assert!(
        took >= within && took < within + Duration::from_millis(10),
        "{took:?}"
    );
    drop(listener);
}

#[tokio::test]
async fn the_exporter_is_the_same_at_both_ends_and_another_for_each_connection() {
    let (client, server) = pair().await;
    assert_eq!(exporter(&client), exporter(&server));
    let (other, _) = pair().await;
    assert_ne!(exporter(&client), exporter(&other));
}

#[tokio::test]
async fn a_server_of_another_protocol_is_refused() {
    let deployment = Deployment::new();
    let trust = ServerTrust::DeploymentCa(vec![deployment.fingerprint()]);
    let (listener, port) = listen().await;
    let server = deployment.identity(&[HOST]).config(b"overlan-other/1");
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        TlsAcceptor::from(server).accept(tcp).await.map(drop)
    };
    let config = client_config(&trust, ALPN);
    let to = here(port);
    let (result, accepted) = tokio::join!(direct(&to, config, WITHIN), accept);
    assert!(accepted.is_err());
    assert!(
        matches!(result, Err(ConnectError::Handshake { .. })),
        "{result:?}"
    );
}

#[tokio::test]
async fn a_server_that_names_no_protocol_is_refused() {
    let deployment = Deployment::new();
    let trust = ServerTrust::DeploymentCa(vec![deployment.fingerprint()]);
    let mut server = ServerConfig::clone(&deployment.identity(&[HOST]).config(ALPN));
    server.alpn_protocols.clear();
    let result = connect_to(Arc::new(server), &trust, ALPN).await;
    assert!(
        matches!(result, Err(ConnectError::Handshake { .. })),
        "{result:?}"
    );
}

/// Counts the tickets a server sends.
#[derive(Debug, Default)]
struct TicketCount(AtomicUsize);

impl ClientSessionStore for TicketCount {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }
    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {}
    fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
        self.0.fetch_add(1, SeqCst);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}

/// Tickets that a client that wants them has got when the server's first byte arrives.
async fn count_tickets(change: impl FnOnce(&mut ServerConfig)) -> usize {
    let deployment = Deployment::new();
    let mut server = ServerConfig::clone(&deployment.identity(&[HOST]).config(ALPN));
    change(&mut server);
    let trust = ServerTrust::DeploymentCa(vec![deployment.fingerprint()]);
    let mut config = ClientConfig::clone(&client_config(&trust, ALPN));
    let count = Arc::new(TicketCount::default());
    config.resumption = Resumption::store(count.clone());
    let (listener, port) = listen().await;
    let accept = async {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut server = TlsAcceptor::from(Arc::new(server))
            .accept(tcp)
            .await
            .unwrap();
        server.write_all(b"x").await.unwrap();
        server.flush().await.unwrap();
        server
    };
    let to = here(port);
    let (client, _server) = tokio::join!(direct(&to, Arc::new(config), WITHIN), accept);
    client.unwrap().read_u8().await.unwrap();
    count.0.load(SeqCst)
}

#[tokio::test]
async fn our_servers_send_no_tickets() {
    assert_eq!(count_tickets(|_| {}).await, 0);
    let with_tickets = count_tickets(|server| server.send_tls13_tickets = 2).await;
    assert_eq!(with_tickets, 2, "the count would see them");
}
