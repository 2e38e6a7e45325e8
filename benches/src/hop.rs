//! The yardstick: three single-threaded programs that only encrypt. SOCKS5 → TLS 1.3 → relay that
//! re-encrypts → TLS 1.3 → exit.
//!
//! ```text
//! client ─SOCKS5→ entry ─TLS→ relay ─TLS→ exit ─TCP→ target
//! ```
//! A TLS connection per SOCKS connection. After each TLS handshake of the entry goes one line
//! `host:port`, which the relay passes on like all else; the exit answers it with [`CONNECTED`]
//! once the target has accepted, and only then the client gets its SOCKS reply, as with Overlan.
//! There are no limits or timeouts: it is a yardstick, not a product.

mod tls;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{
    AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional_with_sizes,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

pub(crate) use self::tls::{self_signed, self_signed_pem, write_certificates};

use crate::accept;
use crate::chain::runtime;
use crate::options::Hop;
use crate::socks;
use crate::trouble::{During, Result, Trouble};

/// SOCKS5 in, TLS out.
pub(crate) fn entry(hop: &Hop) -> Result<()> {
    let (config, next) = (tls::client(&hop.certificates)?, next(hop)?);
    serve(hop.listen, move |mut near| {
        let config = Arc::clone(&config);
        async move {
            let destination = socks::accept(&mut near).await?;
            let mut far = connect(next, tls::RELAY, config).await?;
            let line = format!("{destination}\n");
            far.write_all(line.as_bytes())
                .await
                .during("ask the exit")?;
            far.flush().await.during("ask the exit")?;
            let answer = far.read_u8().await.during("the exit's answer")?;
            if answer != CONNECTED {
                return Err(Trouble::failed("the exit did not reach the target"));
            }
            near.write_all(&socks::CONNECTED)
                .await
                .during("SOCKS reply")?;
            pump(near, far).await
        }
    })
}

/// TLS in, TLS out.
pub(crate) fn relay(hop: &Hop) -> Result<()> {
    let own = tls::server(&hop.certificates, tls::RELAY)?;
    let (config, next) = (tls::client(&hop.certificates)?, next(hop)?);
    serve(hop.listen, move |near| {
        let (own, config) = (Arc::clone(&own), Arc::clone(&config));
        async move {
            let near = take(near, own).await?;
            let far = connect(next, tls::EXIT, config).await?;
            pump(near, far).await
        }
    })
}

/// TLS in, TCP out.
pub(crate) fn exit(hop: &Hop) -> Result<()> {
    let own = tls::server(&hop.certificates, tls::EXIT)?;
    serve(hop.listen, move |near| {
        let own = Arc::clone(&own);
        async move {
            // Small: it reads the line; the pump's large reads go past it.
            let mut near = BufReader::with_capacity(LINE, take(near, own).await?);
            let mut line = String::new();
            near.read_line(&mut line).await.during("the entry's line")?;
            let far = TcpStream::connect(line.trim_end())
                .await
                .during("dial the target")?;
            far.set_nodelay(true).during("TCP_NODELAY")?;
            near.write_u8(CONNECTED).await.during("answer")?;
            near.flush().await.during("answer")?;
            pump(near, far).await
        }
    })
}

/// The exit's answer once the target has accepted.
const CONNECTED: u8 = 0;

/// Each direction's buffer, bytes: the size with the least CPU per byte here; four full TLS
/// records.
const BUFFER: usize = 64 * 1024;

/// The longest `host:port` line, bytes.
const LINE: usize = 300;

/// TCP below TLS. rustls itself asks for 4 KiB at a time; this reads as much as the pump's buffers
/// hold.
type Wide = BufReader<TcpStream>;

fn next(hop: &Hop) -> Result<SocketAddr> {
    hop.next
        .ok_or_else(|| Trouble::failed("--next is missing: the address of the next process"))
}

/// Serves on one thread until the process ends.
fn serve<F>(listen: SocketAddr, handle: impl Fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    runtime()?.block_on(accept::serve(listen, handle))
}

async fn connect(
    next: SocketAddr,
    name: &'static str,
    config: Arc<ClientConfig>,
) -> Result<client::TlsStream<Wide>> {
    let tcp = TcpStream::connect(next).await.during("connect")?;
    tcp.set_nodelay(true).during("TCP_NODELAY")?;
    let name = name.try_into().during("server name")?;
    let wide = BufReader::with_capacity(BUFFER, tcp);
    TlsConnector::from(config)
        .connect(name, wide)
        .await
        .during("TLS")
}

async fn take(tcp: TcpStream, config: Arc<ServerConfig>) -> Result<server::TlsStream<Wide>> {
    let wide = BufReader::with_capacity(BUFFER, tcp);
    TlsAcceptor::from(config).accept(wide).await.during("TLS")
}

/// Copies both ways with half-close, until both have ended.
async fn pump<A, B>(mut near: A, mut far: B) -> Result<()>
where
    A: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER, BUFFER)
        .await
        .during("copy")?;
    Ok(())
}
