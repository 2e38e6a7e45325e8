//! One HTTP/1.1 connection to the controller: requests with JSON bodies, problems as errors, and
//! the endless netmap stream.
//!
//! A connection knows its TLS exporter, so a proof made here is valid on this connection only. It
//! never reconnects by itself.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use overlan_protocol::api::{JoinString, Problem, ProblemKind, RESPONSE_MAX};
use overlan_protocol::key::{Fingerprint, IdentitySecret, Secret};
use overlan_protocol::netmap::MAP_EVENT_MAX;
use overlan_protocol::proof::{ChannelProof, Principal};
use overlan_protocol::{ALPN_CONTROLLER, Exporter};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Instrument;

mod date;

use crate::ConnectError;
use crate::connect;
use crate::connect_error;
use crate::outgoing::Outgoing;
use crate::tls::{self, ServerTrust};

/// The reason why a request has no answer. One variant per thing the caller does differently.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The controller refused the request.
    #[error("{}", describe(.0))]
    Problem(Problem),
    /// The connection broke or was closed; open another.
    #[error("the connection to the controller ended: {0}")]
    Broken(String),
    /// The answer does not have the form of the controller's API.
    #[error("cannot understand the controller's answer: {0}")]
    NotUnderstood(String),
    /// The controller did not answer in time.
    #[error("the controller did not answer within {} s", connect_error::tenths(*.0))]
    TimedOut(Duration),
}

impl HttpsError {
    /// The kind of problem, if the controller refused the request.
    pub fn problem(&self) -> Option<ProblemKind> {
        match self {
            Self::Problem(problem) => Some(problem.kind),
            Self::Connect(_) | Self::Broken(_) | Self::NotUnderstood(_) | Self::TimedOut(_) => None,
        }
    }
}

fn describe(problem: &Problem) -> String {
    // The title of a bad request says only that something is wrong; the detail says what.
    let text = if problem.detail.is_empty() {
        problem.title.clone()
    } else if problem.kind == ProblemKind::BadRequest {
        problem.detail.clone()
    } else {
        format!("{}: {}", problem.title, problem.detail)
    };
    // It reaches terminals and logs.
    text.replace(|c: char| c.is_control(), " ")
}

/// One connection. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    exporter: Exporter,
    /// The certificates of the server, without its own.
    shown: Vec<Fingerprint>,
    host: String,
    authorization: Option<Secret>,
    /// The server's clock at its last answer.
    server_time: Option<u64>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects to the controller of `join` within `within`, without a proxy.
    pub async fn open(join: &JoinString, within: Duration) -> Result<Self, HttpsError> {
        Self::open_through(&Outgoing::direct(), join, within).await
    }

    /// Connects to the controller of `join` within `within`, by way of `outgoing`.
    pub async fn open_through(
        outgoing: &Outgoing,
        join: &JoinString,
        within: Duration,
    ) -> Result<Self, HttpsError> {
        let trust = match join.ca {
            Some(_) => ServerTrust::DeploymentCa(join.trusted()),
            None => ServerTrust::PublicRoots,
        };
        let config = tls::client_config(&trust, ALPN_CONTROLLER);
        let stream = connect::through(outgoing, &join.server, config, within).await?;
        let exporter = tls::exporter(&stream);
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let shown = shown
            .iter()
            .skip(1)
            .map(tls::certificate_fingerprint)
            .collect();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let driver = async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the controller ended");
            }
        };
        // Its lines belong to the device or relay that opened the connection.
        let driver = tokio::spawn(driver.in_current_span());
        Ok(Self {
            sender,
            exporter,
            shown,
            host: join.server.to_string(),
            authorization: None,
            server_time: None,
            driver,
        })
    }

    /// This connection's TLS exporter.
    pub fn exporter(&self) -> &Exporter {
        &self.exporter
    }

    /// Returns whether the controller, recognised by `join`, has shown that its CAs are not those
    /// of `join`: a new one, or none before it any more.
    pub fn has_other_cas(&self, join: &JoinString) -> bool {
        // One CA; or the present one as the one before vouches for it, itself, and the one before.
        let present = match self.shown.as_slice() {
            [_, present, _] | [present] => *present,
            _ => return false,
        };
        let ends = join.former.ca_before.is_some() && self.shown.len() == 1;
        join.ca.is_some_and(|ca| ca != present || ends)
    }

    /// Authenticates further requests as a device or a relay.
    pub fn prove(&mut self, principal: Principal, secret: &IdentitySecret) {
        let proof = ChannelProof::sign(principal, secret, &self.exporter);
        self.authorization = Some(Secret::new(&proof.to_header()));
    }

    /// Authenticates further requests as the person of this session.
    pub fn bearer(&mut self, session: &Secret) {
        self.authorization = Some(Secret::new(&format!("Bearer {}", session.reveal())));
    }

    /// Sends `body` and reads the answer, within `within`.
    pub async fn post<B: Serialize + Sync, R: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &B,
        within: Duration,
    ) -> Result<R, HttpsError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| HttpsError::NotUnderstood(error.to_string()))?;
        self.exchange(Method::POST, path, body, within).await
    }

    /// Reads `path` within `within`.
    pub async fn get<R: DeserializeOwned>(
        &mut self,
        path: &str,
        within: Duration,
    ) -> Result<R, HttpsError> {
        self.exchange(Method::GET, path, Vec::new(), within).await
    }

    /// Deletes `path` within `within`.
    pub async fn delete(&mut self, path: &str, within: Duration) -> Result<(), HttpsError> {
        let _: serde_json::Value = self.remove(path, within).await?;
        Ok(())
    }

    /// Deletes `path` and reads the answer, within `within`.
    pub async fn remove<R: DeserializeOwned>(
        &mut self,
        path: &str,
        within: Duration,
    ) -> Result<R, HttpsError> {
        self.exchange(Method::DELETE, path, Vec::new(), within)
            .await
    }

    /// Opens an endless answer at `path`; its start must come within `within`.
    pub async fn lines(mut self, path: &str, within: Duration) -> Result<Lines, HttpsError> {
        let request = self.request(Method::GET, path, Vec::new())?;
        let response = timeout(within, self.send(request))
            .await
            .map_err(|_| HttpsError::TimedOut(within))??;
        Ok(Lines {
            body: response.into_body(),
            buffer: BytesMut::new(),
            searched: 0,
            _connection: self,
        })
    }

    async fn exchange<R: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<R, HttpsError> {
        let request = self.request(method, path, body)?;
        let exchange = async {
            let response = self.send(request).await?;
            let bytes = collect(response.into_body()).await?;
            let bytes: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
            serde_json::from_slice(bytes)
                .map_err(|error| HttpsError::NotUnderstood(error.to_string()))
        };
        timeout(within, exchange)
            .await
            .map_err(|_| HttpsError::TimedOut(within))?
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Request<Full<Bytes>>, HttpsError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.host)
            .header(
                header::USER_AGENT,
                concat!("overlan/", env!("CARGO_PKG_VERSION")),
            );
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization.reveal());
        }
        request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| HttpsError::NotUnderstood(error.to_string()))
    }

    /// Sends a request; an answer that is a problem becomes an error.
    async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, HttpsError> {
        self.sender.ready().await.map_err(broken)?;
        let response = self.sender.send_request(request).await.map_err(broken)?;
        let date = response.headers().get(header::DATE);
        self.server_time = date
            .and_then(|date| date.to_str().ok())
            .and_then(date::parse);
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let bytes = collect(response.into_body()).await?;
        Err(match serde_json::from_slice(&bytes) {
            Ok(problem) => HttpsError::Problem(problem),
            Err(_) => HttpsError::Problem(plain_problem(status)),
        })
    }
}

impl Connection {
    /// The server's clock at its last answer, if the answer had a date.
    pub fn server_time(&self) -> Option<u64> {
        self.server_time
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The lines of an endless answer.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
    searched: usize,
    _connection: Connection,
}

impl Lines {
    /// The next line, parsed; `None` at the regular end. Cancel safe.
    pub async fn next<R: DeserializeOwned>(&mut self) -> Result<Option<R>, HttpsError> {
        loop {
            if let Some(at) = self.buffer[self.searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                let parsed = serde_json::from_slice(&line);
                return parsed
                    .map(Some)
                    .map_err(|error| HttpsError::NotUnderstood(error.to_string()));
            }
            self.searched = self.buffer.len();
            if self.searched > MAP_EVENT_MAX {
                return Err(HttpsError::NotUnderstood(format!(
                    "a line exceeds {MAP_EVENT_MAX} bytes"
                )));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(broken(error)),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }
}

async fn collect(body: Incoming) -> Result<Bytes, HttpsError> {
    let collected = Limited::new(body, RESPONSE_MAX).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| {
        match error.downcast::<LengthLimitError>() {
            Ok(_) => HttpsError::NotUnderstood(format!("it exceeds {RESPONSE_MAX} bytes")),
            Err(error) => HttpsError::Broken(error.to_string()),
        }
    })
}

fn broken(error: hyper::Error) -> HttpsError {
    HttpsError::Broken(error.to_string())
}

/// Makes a problem from a refusal that does not have our form, as of a proxy on the way.
fn plain_problem(status: StatusCode) -> Problem {
    Problem {
        kind: ProblemKind::Other,
        title: format!("the server answered {status}"),
        status: status.as_u16(),
        detail: "this error is not in the controller's form; a proxy on the way may have sent it"
            .to_owned(),
        retry_after_secs: None,
    }
}

#[cfg(test)]
mod tests;
