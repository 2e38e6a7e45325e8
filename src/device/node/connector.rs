//! HTTP clients in the overlay: dials for hyper's client, or for any other that takes a connector.
//! Decides the port of a URI without one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::client::legacy::connect::{self, Connection};
use hyper_util::rt::TokioIo;
use overlan_protocol::HostPort;
use tower_service::Service;

use super::{Node, Stream};
use crate::names::DialError;

/// Connects to the host and port of a URI, through the overlay only. It does no TLS: for `https`,
/// whose port is 443, wrap it in a connector that does.
///
/// ```no_run
/// # async fn example(node: overlan::Node) -> Result<(), Box<dyn std::error::Error>> {
/// use hyper_util::client::legacy::Client;
/// use hyper_util::rt::TokioExecutor;
///
/// let client = Client::builder(TokioExecutor::new())
///     .build::<_, String>(overlan::Connector::new(node));
/// let answer = client.get("http://web.acme/".parse()?).await?;
/// # drop(answer);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Connector {
    node: Node,
}

impl Connector {
    /// Makes a connector that dials by `node` and keeps it up.
    #[must_use]
    pub fn new(node: Node) -> Self {
        Self { node }
    }
}

/// A connection of a [`Connector`]: a [`Stream`] with hyper's traits.
pub type Connected = TokioIo<Stream>;

impl Connection for Stream {
    fn connected(&self) -> connect::Connected {
        connect::Connected::new()
    }
}

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Connected, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let node = self.node.clone();
        Box::pin(async move {
            let stream = node.dial_host(&host_port(&uri)?).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// Returns the host and port of a URI, whose scheme knows the port if the URI has none.
fn host_port(uri: &Uri) -> Result<HostPort, DialError> {
    let default = match uri.scheme_str() {
        Some("https" | "wss") => 443,
        Some(_) | None => 80,
    };
    let host = uri
        .host()
        .ok_or_else(|| DialError::Internal(format!("{uri} has no host")))?;
    let port = uri.port_u16().unwrap_or(default);
    let wrong = |error| DialError::Internal(format!("{uri} has no usable host and port: {error}"));
    HostPort::parse_or(host, port).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_without_a_port_means_that_of_its_scheme() {
        for (uri, expected) in [
            ("http://web.acme/", "web.acme:80"),
            ("https://web.acme/x?y", "web.acme:443"),
            ("http://web.acme:8080/", "web.acme:8080"),
            ("http://[fd00::7]/", "[fd00::7]:80"),
        ] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(host_port(&uri).unwrap().to_string(), expected);
        }
        let nowhere: Uri = "/path".parse().unwrap();
        assert!(host_port(&nowhere).is_err());
    }
}
