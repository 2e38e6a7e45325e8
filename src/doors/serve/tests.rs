#![expect(
    clippy::disallowed_methods,
    reason = "the tests stand where the engine's shell stands, which reads the clock"
)]

use super::*;
use tokio_util::sync::CancellationToken;

use overlan_netstack::ConnectError;
use parking_lot::Mutex;
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{PrivatePkcs8KeyDer, ServerName};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

mod fixture;

pub(crate) use fixture::*;

/// These services do not hear who asks.
fn nobody() -> Identify {
    Arc::new(|_| None)
}

#[tokio::test]
async fn a_peer_talks_with_a_local_service_and_each_side_may_close_first() {
    let overlay = Overlay::new();
    let service = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let config = ServedPort::new(&Serve::tcp(1, service.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let serving_port = tokio::spawn(serve_port(
        overlay.server.listen(SERVED_PORT).unwrap(),
        config,
        nobody(),
        shutdown.clone(),
    ));
    let data: Vec<u8> = (0..3_000_001u32).map(|n| ((n * 7) >> 5) as u8).collect();

    let serving = async {
        let (mut local, _) = service.accept().await.unwrap();
        let mut request = Vec::new();
        local.read_to_end(&mut request).await.unwrap();
        local.write_all(&request).await.unwrap();
    };
    let asking = async {
        let mut peer = overlay.connect().await.unwrap();
        peer.write_all(&data).await.unwrap();
        peer.shutdown().await.unwrap();
        let mut answer = Vec::new();
        peer.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let ((), answer) = tokio::join!(serving, asking);
    assert!(answer == data, "the peer closed first");

    let serving = async {
        let (mut local, _) = service.accept().await.unwrap();
        local.write_all(&data).await.unwrap();
        local.shutdown().await.unwrap();
        let mut answer = Vec::new();
        local.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let echoing = async {
        let mut peer = overlay.connect().await.unwrap();
        let mut request = Vec::new();
        peer.read_to_end(&mut request).await.unwrap();
        peer.write_all(&request).await.unwrap();
        peer.shutdown().await.unwrap();
    };
    let (answer, ()) = tokio::join!(serving, echoing);
    assert!(answer == data, "the service closed first");

    shutdown.cancel();
    serving_port.await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_not_there_is_connection_refused() {
    let overlay = Overlay::new();
    // Bound and not listening: nobody else gets the port meanwhile.
    let unused = tokio::net::TcpSocket::new_v4().unwrap();
    unused
        .bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .unwrap();
    let config = ServedPort::new(&Serve::tcp(1, unused.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let serving_port = serve_port(
        overlay.server.listen(SERVED_PORT).unwrap(),
        config,
        nobody(),
        shutdown.clone(),
    );
    let asking = async {
        let refused = overlay.connect().await.map(|_| ());
        shutdown.cancel();
        refused
    };
    let ((), refused) = tokio::join!(serving_port, asking);
    assert_eq!(refused, Err(ConnectError::Refused));
}

#[tokio::test]
async fn a_reset_by_the_service_reaches_the_peer_and_the_end_ends_all() {
    let mut overlay = Overlay::new();
    let service = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let config = ServedPort::new(&Serve::tcp(1, service.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let serving_port = tokio::spawn(serve_port(
        overlay.server.listen(SERVED_PORT).unwrap(),
        config,
        nobody(),
        shutdown.clone(),
    ));
    let (peer, local) = tokio::join!(overlay.connect(), service.accept());
    let (mut peer, (local, _)) = (peer.unwrap(), local.unwrap());
    local.set_zero_linger().unwrap();
    drop(local);
    let error = peer.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);

    let (peer, local) = tokio::join!(overlay.connect(), service.accept());
    let (_peer, (mut local, _)) = (peer.unwrap(), local.unwrap());
    shutdown.cancel();
    serving_port.await.unwrap();
    let end = local.read(&mut [0]).await.map_err(|error| error.kind());
    assert_eq!(
        end,
        Err(io::ErrorKind::ConnectionReset),
        "the peer has not ended"
    );
    assert_eq!(
        overlay.connect().await.map(|_| ()),
        Err(ConnectError::Refused),
        "nobody listens any more"
    );
    overlay.wire.shutdown().await;
}

#[tokio::test]
async fn a_udp_port_with_sessions_is_free_as_soon_as_its_service_has_ended() {
    let mut overlay = Overlay::new();
    let served = SocketAddr::new(overlay.server_address, SERVED_PORT);
    for answer in [b"first", b"later"] {
        let service = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap();
        let target = service.local_addr().unwrap().into();
        let shutdown = CancellationToken::new();
        let socket = overlay.server.bind_udp(SERVED_PORT).unwrap();
        let serving_port = datagrams::run(socket, target, shutdown.clone());
        let server = overlay.server.clone();
        // At once, before any other task has its turn.
        let serving_port = tokio::spawn(async move {
            serving_port.await;
            server.bind_udp(SERVED_PORT).map(drop)
        });

        let peer = overlay.peer.bind_udp(0).unwrap();
        peer.send_to(b"question", served).unwrap();
        let mut data = [0; 16];
        let (_, session) = service.recv_from(&mut data).await.unwrap();
        service.send_to(answer, session).await.unwrap();
        let (len, _) = peer.recv_from(&mut data).await.unwrap();
        assert_eq!(&data[..len], answer);

        shutdown.cancel();
        serving_port.await.unwrap().expect("the port is free");
    }
    overlay.wire.shutdown().await;
}

/// Shows what was put there last.
#[derive(Debug)]
struct Newest(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Newest {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().clone())
    }
}

fn certified() -> Arc<CertifiedKey> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let key = any_ecdsa_type(&key.into()).unwrap();
    Arc::new(CertifiedKey::new(vec![made.cert.der().clone()], key))
}

/// A peer that trusts one certificate.
async fn secured(
    overlay: &Overlay,
    trusted: &CertifiedKey,
) -> io::Result<TlsStream<overlan_netstack::TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.cert[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = overlay.connect().await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(NAME).unwrap();
    connector.connect(name, stream).await
}

const NAME: &str = "web.home.overlan.lan";

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_ends_no_open_one() {
    let overlay = Overlay::new();
    let service = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let mut config = ServedPort::new(&Serve::tcp(1, service.local_addr().unwrap()));
    let (old, new) = (certified(), certified());
    let newest = Arc::new(Newest(Mutex::new(old.clone())));
    config.securing = Some(Securing::new(newest.clone(), false));
    let shutdown = CancellationToken::new();
    let serving_port = tokio::spawn(serve_port(
        overlay.server.listen(SERVED_PORT).unwrap(),
        config,
        nobody(),
        shutdown.clone(),
    ));
    let (ended, mut endings) = tokio::sync::mpsc::unbounded_channel();
    let echoing = tokio::spawn(async move {
        while let Ok((mut local, _)) = service.accept().await {
            let ended = ended.clone();
            tokio::spawn(async move {
                let (mut read, mut write) = local.split();
                let echoed = tokio::io::copy(&mut read, &mut write).await;
                ended.send(echoed.map_err(|error| error.kind())).unwrap();
            });
        }
    });
    async fn echoes(peer: &mut TlsStream<overlan_netstack::TcpStream>, data: &[u8]) {
        peer.write_all(data).await.unwrap();
        peer.flush().await.unwrap();
        let mut answer = vec![0; data.len()];
        peer.read_exact(&mut answer).await.unwrap();
        assert!(answer == data);
    }

    let mut first = secured(&overlay, &old).await.unwrap();
    echoes(&mut first, b"before").await;
    *newest.0.lock() = new.clone();
    assert!(secured(&overlay, &old).await.is_err(), "it is gone");
    assert_eq!(
        endings.recv().await,
        Some(Err(io::ErrorKind::ConnectionReset)),
        "nothing was said"
    );
    let mut second = secured(&overlay, &new).await.unwrap();
    echoes(&mut second, b"another").await;
    echoes(&mut first, &[7; 10_000]).await;

    // The end of one side is the end of that side.
    first.shutdown().await.unwrap();
    assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(endings.recv().await, Some(Ok(10_006)));
    // An end that the peer did not say is no end: somebody may have cut it off.
    let (mut plain, _) = second.into_inner();
    plain.shutdown().await.unwrap();
    let cut = endings.recv().await.unwrap();
    assert_eq!(cut, Err(io::ErrorKind::ConnectionReset));

    shutdown.cancel();
    serving_port.await.unwrap();
    echoing.abort();
}

#[tokio::test]
async fn what_a_service_wrote_before_its_reset_arrives_before_ours() {
    let overlay = Overlay::new();
    let service = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let shutdown = CancellationToken::new();
    let serving_port = tokio::spawn(serve_port(
        overlay.server.listen(SERVED_PORT).unwrap(),
        ServedPort::new(&Serve::tcp(1, service.local_addr().unwrap())),
        nobody(),
        shutdown.clone(),
    ));
    let (peer, served) = tokio::join!(overlay.connect(), service.accept());
    let (mut peer, (mut served, _)) = (peer.unwrap(), served.unwrap());
    // More than the peer has room for before it reads: the rest waits at our end.
    let said = vec![7; 1_500_000];
    served.write_all(&said).await.unwrap();
    std::future::poll_fn(|cx| served.poll_delivered(cx)).await;
    served.abort();
    drop(served);
    let mut heard = Vec::new();
    let end = peer.read_to_end(&mut heard).await;
    assert_eq!(heard.len(), said.len());
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    shutdown.cancel();
    serving_port.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn that_a_service_is_gone_is_said_once_and_again_when_it_was_back() {
    let (presence, begin) = (Presence::default(), Instant::now());
    let at = |seconds| begin + Duration::from_secs(seconds);
    assert!(!presence.handle_asked(at(0), true), "it was never gone");
    assert!(presence.handle_asked(at(1), false));
    for seconds in 2..300 {
        assert!(!presence.handle_asked(at(seconds), false), "{seconds}");
    }
    assert!(presence.handle_asked(at(300), true), "it is back");
    assert!(presence.handle_asked(at(301), false));
    // One that comes and goes is no flood.
    assert!(presence.handle_asked(at(302), true));
    assert!(!presence.handle_asked(at(303), false));
    assert!(presence.handle_asked(at(362), true));
    assert!(presence.handle_asked(at(363), false));
}

#[tokio::test]
async fn one_peer_cannot_take_all_places_of_a_port() {
    let overlay = Overlay::new();
    let service = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let config = ServedPort::new(&Serve::tcp(1, service.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let serving_port = tokio::spawn(serve_many(
        4 * crate::host::shares::SOURCES_AT_LEAST,
        overlay.server.listen(SERVED_PORT).unwrap(),
        config,
        nobody(),
        shutdown.clone(),
    ));
    let mut idle = Vec::new();
    for _ in 0..4 {
        idle.push(overlay.connect().await.unwrap());
    }
    let one_more = overlay.connect().await.map(drop);
    assert_eq!(
        one_more,
        Err(ConnectError::Refused),
        "three quarters are for others"
    );
    // A place comes back with its connection.
    let (mut served, _) = service.accept().await.unwrap();
    idle.remove(0).shutdown().await.unwrap();
    assert_eq!(served.read(&mut [0]).await.unwrap(), 0);
    drop(served);
    let again = async {
        loop {
            match overlay.connect().await {
                Err(ConnectError::Refused) => tokio::task::yield_now().await,
                other => return other.map(drop),
            }
        }
    };
    let again = timeout(Duration::from_secs(20), again).await;
    assert_eq!(again.expect("the place comes back"), Ok(()));
    shutdown.cancel();
    serving_port.await.unwrap();
}

#[tokio::test]
async fn a_peer_sees_that_an_answer_was_cut_when_the_port_is_served_no_more() {
    let overlay = Overlay::new();
    let service = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let shutdown = CancellationToken::new();
    let serving_port = tokio::spawn(serve_port(
        overlay.server.listen(SERVED_PORT).unwrap(),
        ServedPort::new(&Serve::tcp(1, service.local_addr().unwrap())),
        nobody(),
        shutdown.clone(),
    ));
    let mut peer = overlay.connect().await.unwrap();
    let (mut served, _) = service.accept().await.unwrap();
    served.write_all(b"the first half").await.unwrap();
    let mut heard = [0; 14];
    peer.read_exact(&mut heard).await.unwrap();
    shutdown.cancel();
    serving_port.await.unwrap();
    let end = peer.read(&mut heard).await.map_err(|error| error.kind());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
    let end = served.read(&mut heard).await.map_err(|error| error.kind());
    assert_eq!(
        end,
        Err(io::ErrorKind::ConnectionReset),
        "so does the service"
    );
}
