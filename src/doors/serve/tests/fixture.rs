//! Two stacks with a wire between them, and a port that one of them serves.

use super::*;

use std::net::{IpAddr, SocketAddr};

use overlan_netstack::{Config, ConnectError, Shell, Stack};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Two stacks and the task that carries packets between them.
pub(crate) struct Overlay {
    pub(crate) peer: Stack,
    pub(crate) server: Stack,
    pub(super) server_address: IpAddr,
    pub(super) wire: JoinSet<()>,
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
    pub(crate) fn new() -> Self {
        let address = |host| IpAddr::from(overlan_protocol::HostIndex::new(host).unwrap().v4());
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

    pub(crate) async fn connect(&self) -> Result<overlan_netstack::TcpStream, ConnectError> {
        let remote = SocketAddr::new(self.server_address, SERVED_PORT);
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

pub(crate) const SERVED_PORT: u16 = 80;

/// Serves a port until `stop`.
pub(crate) async fn serve_port(
    listener: overlan_netstack::TcpListener,
    config: ServedPort,
    identify: Identify,
    stop: CancellationToken,
) {
    serve_many(1_024, listener, config, identify, stop).await;
}

/// The same, to so many connections at once.
pub(super) async fn serve_many(
    max: usize,
    listener: overlan_netstack::TcpListener,
    config: ServedPort,
    identify: Identify,
    stop: CancellationToken,
) {
    let vacancy = accept::Vacancies::default().open("a port".to_owned(), max, None);
    run(listener, config, identify, &vacancy, stop).await;
}
