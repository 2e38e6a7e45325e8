//! Reads bodies and paths of requests, and writes the bodies of answers. Knows no caller.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Path, Request};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use overlan_protocol::api::REQUEST_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::problem::Refusal;
use crate::deployment::Deployment;

/// The JSON body of a request. It comes after the caller in a handler's arguments, so that a
/// stranger's body is not read.
#[derive(Debug)]
pub(super) struct Json<T>(pub(super) T);

/// The same for a body that is as long as a policy. A person must have proved who asks.
#[derive(Debug)]
pub(super) struct LongJson<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Deployment>> for Json<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Arc<Deployment>) -> Result<Self, Refusal> {
        read_json(request, REQUEST_MAX).await.map(Self)
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Deployment>> for LongJson<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Arc<Deployment>) -> Result<Self, Refusal> {
        read_json(request, LONG_MAX).await.map(Self)
    }
}

async fn read_json<T: DeserializeOwned>(request: Request, max: usize) -> Result<T, Refusal> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_none_or(|value| value != JSON) {
        let refusal = Refusal::bad_request(format!("the content type must be {JSON}"));
        return Err(refusal.status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let body = read_within(request.into_body(), max).await?;
    serde_json::from_slice(&body).map_err(|error| {
        // The message of serde_json may repeat a secret from the body.
        let what = match error.classify() {
            serde_json::error::Category::Data => "a field is missing, unknown or malformed",
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => "the body is not JSON",
        };
        let (line, column) = (error.line(), error.column());
        Refusal::bad_request(format!("{what}, near line {line} column {column}"))
    })
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => json(body),
            Err(error) => Refusal::internal(&error).into_response(),
        }
    }
}

/// Reads a body of a bounded length, within a bounded time.
pub(super) async fn read(body: Body) -> Result<Bytes, Refusal> {
    read_within(body, REQUEST_MAX).await
}

async fn read_within(body: Body, max: usize) -> Result<Bytes, Refusal> {
    let body = Limited::new(body, max).collect();
    match timeout(BODY_WITHIN, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let refusal = Refusal::bad_request(format!("the body exceeds {max} bytes"));
            Err(refusal.status(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(_)) => Err(Refusal::bad_request("the body ended early")),
        Err(_) => {
            let refusal = Refusal::bad_request("the body took too long");
            Err(refusal.status(StatusCode::REQUEST_TIMEOUT))
        }
    }
}

/// Makes an answer of a JSON text.
pub(super) fn json(text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, JSON)], text.into()).into_response()
}

/// An empty JSON object.
#[derive(Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

/// Reads the parts of a path.
pub(super) fn readable<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Refusal> {
    path.map(|Path(inner)| inner)
        .map_err(|_| Refusal::bad_request("the path is not readable"))
}

/// Trims a text, and checks that it has `min` to `max` characters and no control characters.
pub(super) fn plain_text(
    what: &str,
    text: &str,
    min: usize,
    max: usize,
) -> Result<String, Refusal> {
    let text = text.trim();
    let fits = (min..=max).contains(&text.chars().count()) && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| Refusal::bad_request(format!("{what} must have {min} to {max} characters")))
}

/// Longest body with a policy, bytes: each character of the longest one may be escaped by another.
const LONG_MAX: usize = 3 * 1024 * 1024;

/// The one content type of requests and answers.
const JSON: &str = "application/json";

/// The time within which a body must follow its header.
const BODY_WITHIN: Duration = Duration::from_secs(15);
