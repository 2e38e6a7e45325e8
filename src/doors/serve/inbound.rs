//! A peer's connection with a served port, in plain or under TLS. Decides when TLS is ready for the
//! service; the bytes inside are the service's business.

mod postgres;

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use overlan_netstack as netstack;
use rustls::ServerConfig;
use rustls::server::{Acceptor, ResolvesServerCert};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::host::splice::{Abort, Broken, HeldBytes, HostSocket, PourInto};

/// Ends TLS here, by the newest certificate that there is.
#[derive(Clone)]
pub(crate) struct Securing {
    config: Arc<ServerConfig>,
    /// For clients of Postgres; `None` = the service speaks HTTP.
    postgres: Option<Arc<ServerConfig>>,
}

impl Securing {
    /// Shows the certificate that `certificates` gives. HTTP services name HTTP/1.1 to clients that
    /// ask for a protocol.
    pub(crate) fn new(certificates: Arc<dyn ResolvesServerCert>, http: bool) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("the provider supports TLS 1.3")
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.send_tls13_tickets = 0;
        let postgres = if http {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            None
        } else {
            let mut config = config.clone();
            config.alpn_protocols = vec![postgres::ALPN.to_vec()];
            Some(Arc::new(config))
        };
        Self {
            config: Arc::new(config),
            postgres,
        }
    }

    /// Does the handshake.
    ///
    /// # Errors
    /// The fault of the peer, or [`io::ErrorKind::TimedOut`].
    pub(super) async fn accept(&self, overlay: netstack::TcpStream) -> io::Result<Inbound> {
        match timeout(HANDSHAKE_TIMEOUT, self.secure(overlay)).await {
            Ok(secured) => Ok(Inbound::Secured(Box::new(secured?))),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn secure(
        &self,
        mut overlay: netstack::TcpStream,
    ) -> io::Result<TlsStream<netstack::TcpStream>> {
        let mut acceptor = Acceptor::default();
        if self.postgres.is_some() {
            let begun = postgres::agree(&mut overlay).await?;
            // Zero bytes would be the end.
            if !begun.is_empty() {
                acceptor.read_tls(&mut begun.as_slice())?;
            }
        }
        let hello = LazyConfigAcceptor::new(acceptor, overlay).await?;
        let is_postgres = hello
            .client_hello()
            .alpn()
            .is_some_and(|mut offered| offered.any(|it| it == postgres::ALPN));
        let config = match &self.postgres {
            // A client that offers others gets none: only the service knows what it speaks.
            Some(postgres) if is_postgres => postgres,
            Some(_) | None => &self.config,
        };
        hello.into_stream(Arc::clone(config)).await
    }
}

impl fmt::Debug for Securing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Securing").finish_non_exhaustive()
    }
}

/// Equal are clones only: ports differ in their other settings.
impl PartialEq for Securing {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl Eq for Securing {}

/// The connection.
pub(crate) enum Inbound {
    Plain(netstack::TcpStream),
    Secured(Box<TlsStream<netstack::TcpStream>>),
}

impl Abort for Inbound {
    /// The reset follows what was written: the stream's own `abort`, which has the same name, would
    /// overtake it.
    fn abort(&self) {
        let overlay = match self {
            Self::Plain(overlay) => overlay,
            Self::Secured(secured) => secured.get_ref().0,
        };
        Abort::abort(overlay);
    }
}

impl<S: HostSocket> PourInto<Inbound> for S {
    fn poll_pour(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Inbound,
        held: &mut HeldBytes,
    ) -> Poll<Result<usize, Broken>> {
        match to {
            Inbound::Plain(overlay) => self.poll_pour(cx, overlay, held),
            Inbound::Secured(secured) => held.poll_pour_through(cx, self, &mut **secured),
        }
    }
}

impl<S: HostSocket> PourInto<S> for Inbound {
    fn poll_pour(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut S,
        held: &mut HeldBytes,
    ) -> Poll<Result<usize, Broken>> {
        match self {
            Self::Plain(overlay) => overlay.poll_pour(cx, to, held),
            Self::Secured(secured) => held.poll_pour_through(cx, &mut **secured, to),
        }
    }
}

impl AsyncRead for Inbound {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        window: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(overlay) => Pin::new(overlay).poll_read(cx, window),
            Self::Secured(secured) => Pin::new(secured).poll_read(cx, window),
        }
    }
}

impl AsyncWrite for Inbound {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(overlay) => Pin::new(overlay).poll_write(cx, bytes),
            Self::Secured(secured) => Pin::new(secured).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(overlay) => Pin::new(overlay).poll_write_vectored(cx, parts),
            Self::Secured(secured) => Pin::new(secured).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(overlay) => overlay.is_write_vectored(),
            Self::Secured(secured) => secured.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(overlay) => Pin::new(overlay).poll_flush(cx),
            Self::Secured(secured) => Pin::new(secured).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(overlay) => Pin::new(overlay).poll_shutdown(cx),
            Self::Secured(secured) => Pin::new(secured).poll_shutdown(cx),
        }
    }
}

/// For the whole handshake: a peer that opens a connection and says nothing keeps one to the
/// service.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
