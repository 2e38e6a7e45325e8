#![expect(
    clippy::disallowed_methods,
    reason = "the tests stand where the engine's shell stands, which reads the clock"
)]

use super::*;

use std::net::IpAddr;
use std::time::Instant;

use overlan_netstack::{Config, ConnectError, Shell, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

/// Two stacks and the task that carries packets between them.
struct Overlay {
    peer: Stack,
    server: Stack,
    server_address: IpAddr,
    wire: JoinSet<()>,
}

struct Wake(Arc<Notify>);

impl Shell for Wake {
    fn packets_ready(&self, _: IpAddr) {
        self.0.notify_one();
    }

    fn timer_changed(&self) {
        self.0.notify_one();
    }
}

impl Overlay {
    fn new() -> Self {
        let address = |host| IpAddr::from(overlan_protocol::address::v4(host).unwrap());
        let notify = Arc::new(Notify::new());
        let stack = |host: u32| {
            Stack::new(
                Config::default(),
                &[address(host)],
                Instant::now(),
                [host as u8; 32],
                Arc::new(Wake(notify.clone())),
            )
        };
        let (peer, server) = (stack(1), stack(2));
        let mut wire = JoinSet::new();
        wire.spawn(carry(
            (peer.clone(), address(1)),
            (server.clone(), address(2)),
            notify,
        ));
        Self {
            peer,
            server,
            server_address: address(2),
            wire,
        }
    }

    async fn connect(&self) -> Result<overlan_netstack::TcpStream, ConnectError> {
        let remote = SocketAddr::new(self.server_address, PUBLISHED);
        self.peer.connect(Instant::now(), remote)?.await
    }
}

async fn carry(a: (Stack, IpAddr), b: (Stack, IpAddr), notify: Arc<Notify>) {
    let mut packet = Vec::new();
    loop {
        let mut moved = false;
        for ((from, _), (to, address)) in [(&a, &b), (&b, &a)] {
            from.handle_timeout(Instant::now());
            packet.clear();
            while from
                .poll_packet(Instant::now(), *address, &mut packet)
                .is_some()
            {
                to.handle_packet(Instant::now(), &packet, &|_, _, _| true);
                packet.clear();
                moved = true;
            }
        }
        if moved {
            tokio::task::yield_now().await;
            continue;
        }
        match [&a, &b]
            .iter()
            .filter_map(|(stack, _)| stack.poll_timeout())
            .min()
        {
            Some(due) => {
                let _ = tokio::time::timeout_at(due.into(), notify.notified()).await;
            }
            None => notify.notified().await,
        }
    }
}

const PUBLISHED: u16 = 80;

/// These services do not hear who asks.
fn nobody() -> Identify {
    Arc::new(|_| None)
}

#[tokio::test]
async fn a_peer_talks_with_a_local_service_and_each_side_may_close_first() {
    let overlay = Overlay::new();
    let service = tokio::net::TcpListener::bind(local_target(0))
        .await
        .unwrap();
    let config = ExposeConfig::new(&Serve::tcp(1, service.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let exposed = tokio::spawn(run(
        overlay.server.listen(PUBLISHED).unwrap(),
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
    };
    let (answer, ()) = tokio::join!(serving, echoing);
    assert!(answer == data, "the service closed first");

    shutdown.cancel();
    exposed.await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_not_there_is_connection_refused() {
    let overlay = Overlay::new();
    // Bound and not listening: nobody else gets the port meanwhile.
    let unused = tokio::net::TcpSocket::new_v4().unwrap();
    unused.bind(local_target(0)).unwrap();
    let config = ExposeConfig::new(&Serve::tcp(1, unused.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let exposed = run(
        overlay.server.listen(PUBLISHED).unwrap(),
        config,
        nobody(),
        shutdown.clone(),
    );
    let asking = async {
        let refused = overlay.connect().await.map(|_| ());
        shutdown.cancel();
        refused
    };
    let ((), refused) = tokio::join!(exposed, asking);
    assert_eq!(refused, Err(ConnectError::Refused));
}

#[tokio::test]
async fn a_reset_by_the_service_reaches_the_peer_and_the_end_ends_all() {
    let mut overlay = Overlay::new();
    let service = tokio::net::TcpListener::bind(local_target(0))
        .await
        .unwrap();
    let config = ExposeConfig::new(&Serve::tcp(1, service.local_addr().unwrap()));
    let shutdown = CancellationToken::new();
    let exposed = tokio::spawn(run(
        overlay.server.listen(PUBLISHED).unwrap(),
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
    exposed.await.unwrap();
    assert_eq!(local.read(&mut [0]).await.unwrap(), 0);
    assert_eq!(
        overlay.connect().await.map(|_| ()),
        Err(ConnectError::Refused),
        "nobody listens any more"
    );
    overlay.wire.shutdown().await;
}
