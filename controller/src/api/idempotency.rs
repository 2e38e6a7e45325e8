//! `Idempotency-Key`: a POST that a caller sends again, because it did not hear the answer, is done
//! once. [`crate::repeats`] decides which one repeats another.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::HeaderName;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use overlan_protocol::api::{ProblemKind, RESPONSE_MAX};

use super::body;
use super::caller::Person;
use super::changed::What;
use super::problem::Refusal;
use crate::auth;
use crate::clock;
use crate::deployment::Deployment;
use crate::repeats::{End, Repeat};
use crate::store::accounts::Digest;

/// The request header with the key.
pub(super) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// Runs a request, or answers as an earlier one with the same key was answered.
pub(super) async fn once(
    deployment: &Arc<Deployment>,
    mut parts: Parts,
    body: Body,
    handler: Next,
) -> Result<Response, Refusal> {
    let Some(key) = key(&parts)? else {
        return Ok(handler.run(Request::from_parts(parts, body)).await);
    };
    let person = parts.extensions.get::<Person>().copied();
    let person = person.ok_or_else(|| Refusal::internal(&"a key came with no person"))?;
    let body = body::read(body).await?;
    let request = auth::digest(
        [
            &person.org.0.to_be_bytes()[..],
            parts.method.as_str().as_bytes(),
            parts.uri.to_string().as_bytes(),
            &body,
        ]
        .concat(),
    );
    let began = deployment
        .repeats
        .lock()
        .begin(clock::now(), person.account, key, request);
    match began {
        Repeat::First => {}
        Repeat::Answered(answer) => return Ok(again(answer)),
        Repeat::Running => return Err(still_running()),
        Repeat::Lost => return Err(lost()),
        Repeat::Other => return Err(other_request()),
    }
    let mut running = Running {
        deployment: deployment.clone(),
        account: person.account,
        key,
        end: Some(End::Left),
    };
    parts.headers.remove(HEADER);
    let response = handler.run(Request::from_parts(parts, body.into())).await;
    if !response.status().is_success() {
        running.end = Some(End::Refused);
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let answer = to_bytes(body, RESPONSE_MAX).await;
    let answer = answer.map_err(|error| Refusal::internal(&error))?;
    running.end = Some(End::Done(answer.clone()));
    Ok(Response::from_parts(parts, answer.into()))
}

/// A first request, whose end is noted in every case.
struct Running {
    deployment: Arc<Deployment>,
    account: i64,
    key: Digest,
    end: Option<End>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            let mut repeats = self.deployment.repeats.lock();
            repeats.finish(self.account, &self.key, end);
        }
    }
}

fn key(parts: &Parts) -> Result<Option<Digest>, Refusal> {
    let Some(value) = parts.headers.get(HEADER) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let fits = (1..=KEY_MAX).contains(&text.len()) && text.bytes().all(|byte| byte != b',');
    match fits {
        true => Ok(Some(auth::digest(text))),
        false => Err(Refusal::bad_request(format!(
            "an Idempotency-Key has 1 to {KEY_MAX} visible characters and no comma"
        ))),
    }
}

fn again(answer: Bytes) -> Response {
    let mut response = body::json(answer).into_response();
    // The change is in the log already.
    response.extensions_mut().insert(What(String::new()));
    response
}

fn still_running() -> Refusal {
    let title = "a request with this Idempotency-Key is being answered";
    Refusal::new(ProblemKind::Conflict, title, "send it again in a second").retry_after(1)
}

fn lost() -> Refusal {
    Refusal::new(
        ProblemKind::Conflict,
        "the answer to the request with this Idempotency-Key is lost",
        "look whether it was done, and send another key if it was not",
    )
}

fn other_request() -> Refusal {
    Refusal::new(
        ProblemKind::Conflict,
        "this Idempotency-Key belongs to another request",
        "use a new key for each new request",
    )
}

/// Longest key, characters: two UUIDs.
pub(super) const KEY_MAX: usize = 80;
