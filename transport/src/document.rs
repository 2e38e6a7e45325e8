//! Reads one document from a server of somebody else, over a connection that the caller opened:
//! HTTP/1.1 with TLS 1.3, or none on loopback. Follows no redirect, and reads a bounded
//! answer; the caller decides where the server is, and how long it has.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use overlan_protocol::HostPort;
use overlan_protocol::key::Secret;
use rustls::{AlertDescription, ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::ConnectError;
use crate::outgoing::Outgoing;

/// The document that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The server.
    pub server: &'a HostPort,
    /// Path and query.
    pub path: &'a str,
    /// The header field `Authorization`, which proves the right to it.
    pub authorization: Option<&'a Secret>,
    /// A form that is posted (`application/x-www-form-urlencoded`); it may hold secrets.
    pub form: Option<&'a Secret>,
    /// The most bytes that it may have.
    pub max: usize,
}

/// The reason why a document was not read. The texts name no server: the caller does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The server does not prove its name.
    #[error("it does not prove who it is: {0}")]
    Untrusted(String),
    /// The server has no TLS that we speak.
    #[error("it does not speak TLS 1.3")]
    OldTls,
    /// The answer leads elsewhere, where other rules may hold.
    #[error("it answers with a redirect, which is not followed")]
    Redirect,
    /// The answer is not the document.
    #[error("it answers with status {0}")]
    Status(u16),
    /// The server understands a posted form, and refuses what it asks for, by the code of an OAuth
    /// error (RFC 6749, 5.2); empty if it gives none.
    #[error("it refuses with status {status} {code:?}")]
    Refused {
        /// 400 or 401.
        status: u16,
        /// The code, such as `invalid_grant`.
        code: String,
    },
    /// The answer is longer than allowed.
    #[error("its answer has more than {} KiB", .0 / 1_024)]
    TooLarge(usize),
    /// The connection ended, or what came is not HTTP.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// Certificates of CAs by which a server is known.
#[derive(Debug, Clone)]
pub struct Roots(RootCertStore);

/// The text does not hold certificates of a CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must hold 1 to {ROOTS_MAX} certificates in PEM")]
pub struct RootsError;

impl Roots {
    /// The public CAs (webpki-roots; the host's store is not used).
    pub fn public() -> Self {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned();
        Self(RootCertStore::from_iter(roots))
    }

    /// Those in a PEM text, and no others.
    ///
    /// # Errors
    /// If it holds none, or too many.
    pub fn from_pem(pem: &str) -> Result<Self, RootsError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| RootsError)?;
            roots.add(certificate).map_err(|_| RootsError)?;
            if roots.len() > ROOTS_MAX {
                return Err(RootsError);
            }
        }
        match roots.is_empty() {
            true => Err(RootsError),
            false => Ok(Self(roots)),
        }
    }
}

/// Opens a TCP connection to `server` by way of `outgoing`.
///
/// # Errors
/// If nobody answers there.
pub async fn open(outgoing: &Outgoing, server: &HostPort) -> Result<TcpStream, ConnectError> {
    Ok(outgoing.open(server).await?.0)
}

/// Reads a document over TLS from a server that `roots` prove.
///
/// # Errors
/// See [`DocumentError`].
pub async fn read_secure(
    tcp: TcpStream,
    ask: &Ask<'_>,
    roots: Roots,
) -> Result<Bytes, DocumentError> {
    let name = ServerName::try_from(ask.server.host().to_owned());
    let name = name.map_err(|error| DocumentError::Untrusted(error.to_string()))?;
    let stream = TlsConnector::from(config(roots)).connect(name, tcp).await;
    exchange(stream.map_err(|error| no_tls(&error))?, ask).await
}

fn no_tls(error: &io::Error) -> DocumentError {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    match tls {
        Some(
            rustls::Error::PeerIncompatible(_)
            | rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
        ) => DocumentError::OldTls,
        Some(rustls::Error::InvalidCertificate(_)) => DocumentError::Untrusted(error.to_string()),
        _ => DocumentError::Broken(error.to_string()),
    }
}

/// Reads a document without TLS, from a server on this very host.
///
/// # Errors
/// See [`DocumentError`].
pub async fn read_local(tcp: TcpStream, ask: &Ask<'_>) -> Result<Bytes, DocumentError> {
    exchange(tcp, ask).await
}

async fn exchange<S>(stream: S, ask: &Ask<'_>) -> Result<Bytes, DocumentError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let method = match ask.form {
        Some(_) => Method::POST,
        None => Method::GET,
    };
    let mut request = Request::builder()
        .method(method)
        .uri(ask.path)
        .header(header::HOST, ask.server.to_string())
        .header(header::ACCEPT, "application/json")
        .header(
            header::USER_AGENT,
            concat!("overlan/", env!("CARGO_PKG_VERSION")),
        );
    if let Some(authorization) = ask.authorization {
        request = request.header(header::AUTHORIZATION, authorization.reveal());
    }
    let body = match ask.form {
        Some(form) => {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            Bytes::copy_from_slice(form.reveal().as_bytes())
        }
        None => Bytes::new(),
    };
    let request = request.body(Full::new(body));
    let request = request.map_err(|error| DocumentError::Broken(error.to_string()))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        read(response, ask).await
    };
    while_open(answer, connection).await
}

/// Completes with the answer. The connection moves meanwhile; its own end is not the answer's.
async fn while_open<T>(answer: impl Future<Output = T>, connection: impl Future) -> T {
    let (mut answer, mut connection) = (pin!(answer), pin!(connection));
    let mut is_open = true;
    loop {
        tokio::select! {
            answer = &mut answer => return answer,
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

async fn read(response: Response<Incoming>, ask: &Ask<'_>) -> Result<Bytes, DocumentError> {
    let status = response.status();
    if status.is_redirection() {
        return Err(DocumentError::Redirect);
    }
    let is_refusal = matches!(status, StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED);
    if is_refusal && ask.form.is_some() {
        let body = collect(response.into_body(), ask.max).await?;
        return Err(DocumentError::Refused {
            status: status.as_u16(),
            code: oauth_code(&body),
        });
    }
    if !status.is_success() {
        return Err(DocumentError::Status(status.as_u16()));
    }
    collect(response.into_body(), ask.max).await
}

/// Returns the code of an OAuth error, if the body has one of the usual form.
fn oauth_code(body: &[u8]) -> String {
    let body: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let code = body.as_ref().and_then(|body| body["error"].as_str());
    let is_usual = |code: &&str| {
        code.len() <= CODE_MAX
            && code
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
    };
    code.filter(is_usual).unwrap_or_default().to_owned()
}

async fn collect(body: Incoming, max: usize) -> Result<Bytes, DocumentError> {
    let body = Limited::new(body, max).collect().await;
    body.map(|body| body.to_bytes())
        .map_err(|error| match error.is::<LengthLimitError>() {
            true => DocumentError::TooLarge(max),
            false => DocumentError::Broken(error.to_string()),
        })
}

fn broken(error: hyper::Error) -> DocumentError {
    DocumentError::Broken(error.to_string())
}

fn config(Roots(roots): Roots) -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider supports TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Longest code of an OAuth error, characters; the standard ones have 25 at most.
const CODE_MAX: usize = 40;

/// Most certificates by which a server is known: some roots at a change of the CA.
const ROOTS_MAX: usize = 8;
