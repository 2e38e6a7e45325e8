//! Opens TLS connections to servers, directly or through a proxy, or names the reason for a
//! failure. Decides what the failure of a handshake means; [`crate::outgoing`] chooses the way out,
//! and
//! [`crate::tls`] decides whether the server is the right one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use overlan_protocol::HostPort;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};

use crate::ConnectError;
use crate::outgoing::Outgoing;
use crate::tls::Stepwise;

/// Connects to `to` without a proxy and finishes the handshake within `within`.
///
/// # Errors
/// See [`ConnectError`].
pub async fn direct(
    to: &HostPort,
    config: Arc<ClientConfig>,
    within: Duration,
) -> Result<TlsStream<Stepwise>, ConnectError> {
    through(&Outgoing::direct(), to, config, within).await
}

/// Connects to `to` by way of `outgoing` and finishes the handshake within `within`.
///
/// # Errors
/// See [`ConnectError`].
pub async fn through(
    outgoing: &Outgoing,
    to: &HostPort,
    config: Arc<ClientConfig>,
    within: Duration,
) -> Result<TlsStream<Stepwise>, ConnectError> {
    let address = to.to_string();
    let attempt = async {
        let (tcp, opened_in) = outgoing.open(to).await?;
        let name =
            ServerName::try_from(to.host().to_owned()).map_err(|_| ConnectError::Resolve {
                host: to.host().to_owned(),
                source: io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "not a host name or IP address",
                ),
            })?;
        let stream = TlsConnector::from(config)
            .connect(name, Stepwise::opened_in(tcp, opened_in))
            .await
            .map_err(|source| classify_handshake_error(address.clone(), source))?;
        // A server that does not know ALPN passes the handshake; ours always name their protocol.
        if stream.get_ref().1.alpn_protocol().is_none() {
            return Err(ConnectError::Handshake {
                address: address.clone(),
                source: io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it did not agree on a protocol (ALPN)",
                ),
            });
        }
        Ok(stream.into())
    };
    match timeout(within, attempt).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut {
            address,
            waited: within,
        }),
    }
}

fn classify_handshake_error(address: String, source: io::Error) -> ConnectError {
    let tls = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        // The fingerprint of a join string leads to another error.
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)) => {
            ConnectError::WrongServer {
                address,
                reason: "no public CA vouches for it; \
                for a controller of your own, copy the whole join string, with the part after #"
                    .to_owned(),
            }
        }
        Some(rustls::Error::InvalidCertificate(reason)) => ConnectError::WrongServer {
            address,
            reason: reason.to_string(),
        },
        Some(rustls::Error::General(reason)) => ConnectError::WrongServer {
            address,
            reason: reason.clone(),
        },
        _ if closed(source.kind()) => ConnectError::Closed { address },
        _ => ConnectError::Handshake { address, source },
    }
}

/// Returns whether the other end closed the connection, in any of the ways in which that shows.
fn closed(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        kind,
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}
