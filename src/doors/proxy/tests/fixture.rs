//! A door whose overlay is a netmap of the test with one peer, for all rooms that the proxy leads
//! to.

use super::*;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::names::tests::netmap;
use crate::names::{self, Destination, DialError};

/// Ports of `web` and what happens there.
pub(crate) const ECHO: u16 = 80;
pub(crate) const DENIED: u16 = 81;
pub(crate) const NO_RELAY: u16 = 82;
pub(crate) const REFUSED: u16 = 83;
pub(crate) const TIMED_OUT: u16 = 84;
pub(crate) const UNSUPPORTED: u16 = 85;
pub(crate) const BROKEN: u16 = 86;
pub(crate) const SILENT: u16 = 87;
/// The service that a test put there.
pub(crate) const OWN: u16 = 88;

pub(crate) const WEB: &str = "web.demo.overlan.lan";

/// A door whose overlay is the fixture netmap, with an echo service for streams and datagrams as
/// the only peer.
pub(crate) struct Fixture {
    pub(crate) address: SocketAddr,
    pub(crate) overlay: Fake,
    pub(crate) ready: watch::Sender<bool>,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Fixture {
    pub(crate) async fn open(config: ProxyConfig) -> Self {
        Self::open_with(config, None).await
    }

    /// The same with a service of the test at port [`OWN`].
    pub(crate) async fn open_with(config: ProxyConfig, own: Option<SocketAddr>) -> Self {
        let listener = loopback_listener().await;
        let echo = loopback_listener().await;
        let echo_udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, is_ready) = watch::channel(true);
        let overlay = Fake {
            echo: echo.local_addr().unwrap(),
            echo_udp: echo_udp.local_addr().unwrap(),
            own,
            ready: is_ready,
        };
        let shutdown = CancellationToken::new();
        let door = tokio::spawn(serve(listener, config, overlay.clone(), shutdown.clone()));
        let stop = shutdown.clone();
        let echoing = tokio::spawn(async move {
            let vacancy = Vacancies::default().open("echo".to_owned(), 16, None);
            accept::run(
                echo,
                Arc::new(Semaphore::new(16)),
                &vacancy,
                &stop.into(),
                |mut stream, _| async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                },
            )
            .await;
        });
        let stop = shutdown.clone();
        let echoing_datagrams = tokio::spawn(async move {
            let mut data = vec![0; 65_535];
            while let Some(Ok((len, from))) = stop
                .run_until_cancelled(echo_udp.recv_from(&mut data))
                .await
            {
                echo_udp.send_to(&data[..len], from).await.unwrap();
            }
        });
        Self {
            address,
            overlay,
            ready,
            shutdown,
            tasks: vec![door, echoing, echoing_datagrams],
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub(crate) async fn close(self) {
        self.shutdown.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

pub(crate) async fn loopback_listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// The overlay of the fixture netmap.
#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) echo: SocketAddr,
    echo_udp: SocketAddr,
    own: Option<SocketAddr>,
    ready: watch::Receiver<bool>,
}

impl Overlay for Fake {
    type Stream = TcpStream;
    type Bound = FakePort;
    type Datagrams = FakeDatagrams;

    async fn ready(&self, _: &Destination) {
        let mut ready = self.ready.clone();
        ready.wait_for(|ready| *ready).await.unwrap();
    }

    async fn dial(&self, destination: Destination, port: u16) -> Result<TcpStream, DialError> {
        let device = names::resolve(&netmap(), &destination)?;
        if !device.online {
            return Err(DialError::Offline);
        }
        match (port, self.own) {
            (ECHO, _) => Ok(TcpStream::connect(self.echo).await?),
            (OWN, Some(own)) => Ok(TcpStream::connect(own).await?),
            (DENIED, _) => Err(DialError::DeniedByPolicy),
            (NO_RELAY, _) => Err(DialError::NoRelay),
            (REFUSED, _) => Err(DialError::Refused),
            (TIMED_OUT, _) => Err(DialError::TimedOut),
            (UNSUPPORTED, _) => Err(DialError::Unsupported),
            (SILENT, _) => std::future::pending().await,
            _ => Err(DialError::Internal("broken".into())),
        }
    }

    fn bind(&self, peer: &Destination) -> Result<FakePort, DialError> {
        names::resolve(&netmap(), peer)?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        Ok(FakePort(TcpListener::from_std(listener)?))
    }

    fn datagrams(&self) -> FakeDatagrams {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        FakeDatagrams {
            socket: UdpSocket::from_std(socket).unwrap(),
            echo: self.echo_udp,
            last: None,
        }
    }

    fn resolve(
        &self,
        query: Vec<u8>,
        transport: crate::names::lookup::DnsTransport,
    ) -> impl Future<Output = Option<Vec<u8>>> + Send + use<> {
        let answer = crate::names::lookup::tests::answer(&query, &netmap(), transport);
        async move { answer }
    }
}

pub(crate) struct FakePort(TcpListener);

impl PeerPort for FakePort {
    type Stream = TcpStream;

    fn local(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        self.0.accept().await.unwrap()
    }
}

/// Everything sent comes back from whom it was sent to last.
pub(crate) struct FakeDatagrams {
    socket: UdpSocket,
    echo: SocketAddr,
    last: Option<SocketAddr>,
}

impl Datagrams for FakeDatagrams {
    fn send_to(
        &mut self,
        data: &[u8],
        destination: &Destination,
        port: u16,
    ) -> Result<SocketAddr, DialError> {
        names::resolve(&netmap(), destination)?;
        if port == DENIED {
            return Err(DialError::DeniedByPolicy);
        }
        let remote = SocketAddr::from(([100, 64, 0, 2], port));
        self.last = Some(remote);
        self.socket.try_send_to(data, self.echo)?;
        Ok(remote)
    }

    async fn recv_from(&mut self, data: &mut [u8]) -> (usize, SocketAddr) {
        let (len, _) = self.socket.recv_from(data).await.unwrap();
        (len, self.last.unwrap())
    }
}

/// Closed, without a further byte; a reset is as good, where something of ours was not read.
pub(crate) async fn assert_closed(stream: &mut TcpStream) {
    match stream.read(&mut [0]).await {
        Ok(0) => {}
        Ok(_) => panic!("the door said more"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}
