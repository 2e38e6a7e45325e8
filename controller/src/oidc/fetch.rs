//! Reads one document from an issuer over HTTPS: the only place where the controller connects to a
//! server that somebody else named. It connects to addresses that were judged, follows no redirect,
//! and reads no more than [`BODY_MAX`] bytes within [`FETCH_WITHIN`].

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use overlan_protocol::key::Secret;
use overlan_transport::document::{Ask, DocumentError, Roots, RootsError, read_secure};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::address::{IssuerAddresses, may_fetch};
use super::discovery::IssuerUrl;

/// The reason why a document was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// The name of the server leads nowhere.
    #[error("the name {host} cannot be resolved: {reason}")]
    Resolve { host: String, reason: String },
    /// The server is not at a public address.
    #[error(
        "{host} is at {address}, which is not a public address; the operator can allow it: \
         `overlan controller serve --issuer-addresses {host}={address}`"
    )]
    Private { host: String, address: String },
    /// The server does not take connections.
    #[error("{server} is not reached: {reason}")]
    Connect { server: String, reason: String },
    /// The answer is not the document.
    #[error("{url}: {error}")]
    Document { url: String, error: DocumentError },
    /// The answer does not come.
    #[error("{server} does not answer within {} s", FETCH_WITHIN.as_secs())]
    TimedOut { server: String },
}

impl FetchError {
    /// Returns the code with which the server refused a form.
    pub(super) fn refused(&self) -> Option<&str> {
        if let Self::Document { error, .. } = self
            && let DocumentError::Refused { code, .. } = error
        {
            return Some(code);
        }
        None
    }
}

/// Checks the certificates of a CA, in PEM.
pub(crate) fn check_ca(pem: &str) -> Result<(), RootsError> {
    Roots::from_pem(pem).map(|_| ())
}

/// The credential or the form that goes with a question.
#[derive(Debug, Clone, Copy)]
pub(super) enum With<'a> {
    Nothing,
    /// The right to a document of one person.
    Authorization(&'a Secret),
    /// A form that is posted, and the right to do so unless that stands in it.
    Form {
        form: &'a Secret,
        authorization: Option<&'a Secret>,
    },
}

/// Reads the document at `url`. The server proves its name by a public CA, or by `ca` if there is
/// one.
pub(super) async fn get(
    url: &IssuerUrl,
    ca: Option<&str>,
    allowed: &[IssuerAddresses],
) -> Result<Bytes, FetchError> {
    ask(url, ca, allowed, With::Nothing).await
}

/// The same for a question that holds more than its address.
pub(super) async fn ask(
    url: &IssuerUrl,
    ca: Option<&str>,
    allowed: &[IssuerAddresses],
    with: With<'_>,
) -> Result<Bytes, FetchError> {
    let document = |error| FetchError::Document {
        url: url.text().to_owned(),
        error,
    };
    let attempt = async {
        let roots = match ca {
            Some(ca) => Roots::from_pem(ca)
                .map_err(|error| document(DocumentError::Untrusted(error.to_string())))?,
            None => Roots::public(),
        };
        let ask = Ask {
            server: url.server(),
            path: url.path(),
            authorization: match with {
                With::Nothing => None,
                With::Authorization(right) => Some(right),
                With::Form { authorization, .. } => authorization,
            },
            form: match with {
                With::Form { form, .. } => Some(form),
                With::Nothing | With::Authorization(_) => None,
            },
            max: BODY_MAX,
        };
        let tcp = open(url, allowed).await?;
        read_secure(tcp, &ask, roots).await.map_err(document)
    };
    let within = timeout(FETCH_WITHIN, attempt).await;
    within.unwrap_or_else(|_| {
        let server = url.server().to_string();
        Err(FetchError::TimedOut { server })
    })
}

/// Resolves the server's name once, and connects to one of its addresses that may be asked: there
/// is no second look, which could find others.
async fn open(url: &IssuerUrl, allowed: &[IssuerAddresses]) -> Result<TcpStream, FetchError> {
    let (host, port) = (url.server().host(), url.server().port());
    let unresolved = |reason: String| FetchError::Resolve {
        host: host.to_owned(),
        reason,
    };
    let found = lookup_host((host, port)).await;
    let found: Vec<SocketAddr> = found
        .map_err(|error| unresolved(error.to_string()))?
        .collect();
    let may = |address: &&SocketAddr| may_fetch(allowed, host, address.ip());
    let good = found.iter().filter(may).take(ADDRESSES_MAX).copied();
    let good: Vec<SocketAddr> = good.collect();
    match (good.is_empty(), found.first()) {
        (false, _) => {}
        (true, None) => return Err(unresolved("it has no address".to_owned())),
        (true, Some(private)) => {
            return Err(FetchError::Private {
                host: host.to_owned(),
                address: private.ip().to_string(),
            });
        }
    }
    let connected = TcpStream::connect(&good[..]).await;
    connected.map_err(|error| FetchError::Connect {
        server: url.server().to_string(),
        reason: error.to_string(),
    })
}

/// Time for one document, from the name to its last byte: a job waits for it.
const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// Largest document of an issuer, bytes; vendors have ten thousand.
const BODY_MAX: usize = 256 * 1_024;

/// Addresses of a server that are tried.
const ADDRESSES_MAX: usize = 4;
