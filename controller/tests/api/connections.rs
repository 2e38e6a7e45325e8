//! Connections are given out by claim when many want one.

use futures_util::StreamExt;
use futures_util::stream::iter;
use overlan_controller::Timings;
use overlan_protocol::ALPN_CONTROLLER;
use overlan_protocol::api::{
    AuthKeyRequest, LoginRequest, LoginResponse, NetworkRequest, NetworkSummary, Problem,
    ProblemKind, path,
};
use overlan_protocol::key::Secret;
use overlan_protocol::netmap::Peer;
use overlan_transport::tls::{ServerTrust, client_config};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::lab::{EMAIL, Lab, PASSWORD, WITHIN, fast, network};

/// This process is all clients and the controller.
fn raise_open_files() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// A TLS connection of a stranger from this address.
async fn knock(lab: &Lab, from: [u8; 4]) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let tcp = socket
        .connect(([127, 0, 0, 1], lab.join.server.port()).into())
        .await?;
    let trust = ServerTrust::DeploymentCa(vec![lab.join.ca.unwrap()]);
    let connector = TlsConnector::from(client_config(&trust, ALPN_CONTROLLER));
    let name = ServerName::try_from("127.0.0.1").unwrap();
    connector.connect(name, tcp).await
}

/// The head and body of the answer to one request, as far as they came.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 4_096];
    let read = timeout(WITHIN, stream.read(&mut answer)).await??;
    answer.truncate(read);
    Ok(String::from_utf8(answer).unwrap())
}

/// Takes as many places as it gets from `from`, each with one request; also returns how many were
/// refused by an answer.
async fn occupy(
    lab: &Lab,
    from: [u8; 4],
    attempts: usize,
) -> (Vec<TlsStream<TcpStream>>, Vec<String>) {
    let results = iter(0..attempts)
        .map(|_| async move {
            let mut stream = knock(lab, from).await.ok()?;
            let answer = ask(&mut stream, path::HEALTH).await.ok()?;
            Some((stream, answer))
        })
        .buffer_unordered(50)
        .collect::<Vec<_>>()
        .await;
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for (stream, answer) in results.into_iter().flatten() {
        if answer.starts_with("HTTP/1.1 200") {
            held.push(stream);
        } else if !answer.is_empty() {
            refused.push(answer);
        }
    }
    (held, refused)
}

#[tokio::test]
async fn places_held_from_two_addresses_do_not_keep_the_owner_out() {
    raise_open_files();
    let patient = Timings {
        stranger_within: Duration::from_secs(120),
        ..fast()
    };
    let lab = Lab::start_with(patient).await;
    lab.set_up().await;
    let (one, refused) = occupy(&lab, [127, 0, 0, 2], 770).await;
    let (two, _) = occupy(&lab, [127, 0, 0, 3], 770).await;
    assert!(
        one.len() + two.len() >= 100,
        "the attack holds places: {} and {}",
        one.len(),
        two.len()
    );
    let request = LoginRequest {
        email: EMAIL.to_owned(),
        password: Secret::new(PASSWORD),
        organisation: None,
    };
    let mut connection = lab.connect().await;
    let owner: LoginResponse = connection
        .post(path::LOGIN, &request, WITHIN)
        .await
        .unwrap();
    let key = lab.reusable_key(&owner).await;
    lab.enrol(&key, "web").await;
    lab.relay(&owner, "ams-1", 4_430).await;
    // A refused connection gets an answer, if there is room for one.
    let answer = refused.first().expect("some were answered");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("\r\nretry-after: "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let problem: Problem = serde_json::from_str(body).unwrap();
    assert_eq!(problem.kind, ProblemKind::Unavailable);
}

#[tokio::test]
async fn an_office_of_hundreds_of_devices_behind_one_address_works() {
    raise_open_files();
    let lab = Lab::start().await;
    let owner = lab.set_up().await;
    let mut keys = Vec::new();
    for number in 0..8 {
        let name = format!("floor-{number}");
        let request = NetworkRequest { name: name.clone() };
        let mut connection = lab.person(&owner).await;
        let _: NetworkSummary = connection
            .post(path::NETWORKS, &request, WITHIN)
            .await
            .unwrap();
        let request = AuthKeyRequest {
            networks: vec![name],
            reusable: true,
            ..AuthKeyRequest::default()
        };
        keys.push(lab.auth_key(&owner, request).await.key);
    }
    let (lab_of, keys_of) = (&lab, &keys);
    let devices: Vec<_> = iter(0..DEVICES)
        .map(|number| async move {
            let key = &keys_of[number % keys_of.len()];
            lab_of.enrol(key, &format!("desk-{number}")).await
        })
        .buffer_unordered(32)
        .collect()
        .await;
    let streams: Vec<_> = iter(&devices)
        .map(|device| device.stream(lab_of))
        .buffer_unordered(32)
        .collect()
        .await;
    assert_eq!(streams.len(), DEVICES);
    for number in 0..20 {
        let key = &keys[number % keys.len()];
        lab.enrol(key, &format!("guest-{number}")).await;
    }
    // Nobody had to make room for another: each is still there, and hears of a guest of its
    // network.
    iter(streams)
        .for_each_concurrent(None, |mut stream| async move {
            let is_guest = |peer: &Peer| peer.label.starts_with("guest-");
            stream
                .until("a guest", |map| network(map).peers.values().any(is_guest))
                .await;
        })
        .await;
}

#[tokio::test]
async fn a_stranger_has_to_prove_itself_soon_and_a_device_stays() {
    let hasty = Timings {
        stranger_within: Duration::from_millis(300),
        alive_every: Duration::from_millis(100),
        ..fast()
    };
    let lab = Lab::start_with(hasty).await;
    let owner = lab.set_up().await;
    let key = lab.reusable_key(&owner).await;
    let mut stream = lab.enrol(&key, "web").await.stream(&lab).await;
    let mut stranger = knock(&lab, [127, 0, 0, 1]).await.unwrap();
    // It may ask some things, and has to go all the same; as it has not asked too much, nothing
    // else ends it.
    for _ in 0..4 {
        match ask(&mut stranger, path::HEALTH).await {
            Ok(answer) if !answer.is_empty() => assert!(answer.starts_with("HTTP/1.1 200")),
            Ok(_) | Err(_) => break,
        }
    }
    let ended = timeout(WITHIN, stranger.read(&mut [0])).await;
    let ended = ended.expect("a stranger stays");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    stream.next().await.expect("a device's stream goes on");
}

#[tokio::test]
async fn a_stranger_may_ask_a_few_times_only() {
    let lab = Lab::start().await;
    let mut stranger = knock(&lab, [127, 0, 0, 1]).await.unwrap();
    for _ in 0..8 {
        let answer = ask(&mut stranger, path::HEALTH).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let answer = ask(&mut stranger, path::HEALTH).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

/// More than one source could hold before there were separate budgets.
const DEVICES: usize = 800;
