//! Opens connections from this host: directly, or through a proxy where a firewall lets nothing
//! else out. Decides for which servers the proxy is asked, and asks it. The bytes that follow are
//! TLS from end to end: the proxy learns names, times and sizes.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::HostPort;
use overlan_protocol::host_port::HostPortError;
use overlan_protocol::key::Secret;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::ConnectError;
use crate::tls::set_up;

mod ask;
mod except;

use except::Except;

/// The way that connections take. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outgoing(Option<Arc<UpstreamProxy>>);

/// A proxy that connects this host with others.
#[derive(Debug, Clone)]
pub struct UpstreamProxy {
    kind: Kind,
    at: HostPort,
    user: Option<String>,
    password: Option<Secret>,
    except: Vec<Except>,
    loopback: bool,
}

/// The protocol of the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// HTTP CONNECT.
    Http,
    /// SOCKS5; the proxy resolves names.
    Socks5,
}

/// A text that does not name a usable proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a proxy: {0}; write it as http://proxy.example:3128 or socks5://proxy.example:1080")]
pub struct ParseProxyError(&'static str);

impl Outgoing {
    /// Directly, without a proxy.
    #[must_use]
    pub fn direct() -> Self {
        Self(None)
    }

    /// Through `proxy`, except to the hosts that it is not for.
    #[must_use]
    pub fn through(proxy: UpstreamProxy) -> Self {
        Self(Some(Arc::new(proxy)))
    }

    /// The proxy, if there is one.
    #[must_use]
    pub fn proxy(&self) -> Option<&UpstreamProxy> {
        self.0.as_deref()
    }

    /// Opens a TCP connection to `to`. Returns also the time that the network took for it, unless
    /// there is a proxy on the way.
    pub(crate) async fn open(
        &self,
        to: &HostPort,
    ) -> Result<(TcpStream, Option<Duration>), ConnectError> {
        let Some(proxy) = self.proxy().filter(|proxy| proxy.is_for(to)) else {
            let (stream, opened_in) = connect_tcp(to).await?;
            return Ok((stream, Some(opened_in)));
        };
        let failed = |reason: String| ConnectError::Proxy {
            proxy: proxy.to_string(),
            address: to.to_string(),
            reason,
        };
        let (stream, _) = connect_tcp(&proxy.at)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let stream = match proxy.kind {
            Kind::Http => ask::http(stream, proxy, to).await,
            Kind::Socks5 => ask::socks5(stream, proxy, to).await,
        };
        Ok((stream.map_err(failed)?, None))
    }
}

impl UpstreamProxy {
    /// Sets the user's password.
    #[must_use]
    pub fn with_password(mut self, password: Secret) -> Self {
        self.password = Some(password);
        self
    }

    /// Excludes the hosts of `list`: names with all that lies below them, addresses, ranges such as
    /// `10.0.0.0/8`, each with a port or without, or `*` for all, separated by commas or white
    /// space. Other entries are ignored.
    #[must_use]
    pub fn except(mut self, list: &str) -> Self {
        let entries = list.split([',', ' ', '\t']).take(EXCEPT_MAX);
        self.except = entries.filter_map(Except::parse).collect();
        self
    }

    /// Excludes this very host, as is usual for a proxy that the environment names.
    #[must_use]
    pub fn not_for_loopback(mut self) -> Self {
        self.loopback = false;
        self
    }

    /// Returns whether the proxy itself listens at `address`.
    #[must_use]
    pub fn is_at(&self, address: SocketAddr) -> bool {
        let same_host = match self.at.address() {
            Some(host) => {
                host == address.ip() || host.is_loopback() && address.ip().is_unspecified()
            }
            None => {
                self.at.host() == "localhost"
                    && (address.ip().is_loopback() || address.ip().is_unspecified())
            }
        };
        self.at.port() == address.port() && same_host
    }

    /// Returns whether the text that it was parsed from held a password.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    fn is_for(&self, to: &HostPort) -> bool {
        let is_loopback = to.host() == "localhost"
            || to
                .address()
                .is_some_and(|address| address.to_canonical().is_loopback());
        (self.loopback || !is_loopback) && !self.except.iter().any(|it| it.covers(to))
    }
}

impl FromStr for UpstreamProxy {
    type Err = ParseProxyError;

    fn from_str(text: &str) -> Result<Self, ParseProxyError> {
        let (scheme, rest) = text
            .trim()
            .split_once("://")
            .unwrap_or(("http", text.trim()));
        let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Http, 80),
            "socks5" | "socks5h" | "socks" => (Kind::Socks5, 1_080),
            "https" => {
                return Err(ParseProxyError(
                    "a proxy that is itself reached over TLS is not supported",
                ));
            }
            _ => return Err(ParseProxyError("it must begin with http:// or socks5://")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, authority) = match rest.rsplit_once('@') {
            Some((credentials, authority)) => (Some(credentials), authority),
            None => (None, rest),
        };
        let at = HostPort::parse_or(&authority.to_ascii_lowercase(), default_port)
            .map_err(|error| ParseProxyError(error.reason()))?;
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
        if !at.host().bytes().all(is_host) {
            return Err(ParseProxyError(HostPortError::Host.reason()));
        }
        let (user, password) = match credentials.map(|it| it.split_once(':').unwrap_or((it, ""))) {
            None | Some(("", _)) => (None, None),
            Some((user, password)) => {
                let password = (!password.is_empty())
                    .then(|| decoded(password))
                    .transpose()?;
                (
                    Some(decoded(user)?),
                    password.map(|text| Secret::new(&text)),
                )
            }
        };
        Ok(Self {
            kind,
            at,
            user,
            password,
            except: Vec::new(),
            loopback: true,
        })
    }
}

/// Prints the proxy without user and password, for errors and the status.
impl fmt::Display for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.at)
    }
}

fn decoded(text: &str) -> Result<String, ParseProxyError> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| ParseProxyError("its user or password is not UTF-8"))?;
    if text.len() > CREDENTIAL_MAX || text.contains(char::is_control) {
        return Err(ParseProxyError(
            "its user or password is too long, or has control characters",
        ));
    }
    Ok(text.into_owned())
}

async fn connect_tcp(to: &HostPort) -> Result<(TcpStream, Duration), ConnectError> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((to.host(), to.port()))
        .await
        .map_err(|source| ConnectError::Resolve {
            host: to.host().to_owned(),
            source,
        })?
        .take(ADDRESSES_MAX)
        .collect();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let attempt = async {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            let asked = Instant::now();
            let stream = timeout(ADDRESS_TIMEOUT, socket.connect(address)).await??;
            let opened_in = asked.elapsed();
            set_up(&stream)?;
            Ok((stream, opened_in))
        };
        match attempt.await {
            Ok(opened) => return Ok(opened),
            Err(error) => last = error,
        }
    }
    Err(ConnectError::Connect {
        address: to.to_string(),
        source: last,
    })
}

/// Most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// The time for which one address is tried before the next one.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest user name or password, bytes (RFC 1929).
const CREDENTIAL_MAX: usize = 255;

/// Most entries of a list of exceptions; the rest is ignored.
const EXCEPT_MAX: usize = 256;

#[cfg(test)]
mod tests;
