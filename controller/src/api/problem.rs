//! Refusals as RFC 9457 problem documents. Decides which HTTP status each kind has.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use overlan_protocol::api::{PROBLEM_TYPE, Problem, ProblemKind};

use crate::auth::password::PasswordError;
use crate::limits;
use crate::store::StoreError;

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Refusal(Box<Problem>);

impl Refusal {
    /// `title` says what happened, `detail` why and what to do next.
    pub(super) fn new(kind: ProblemKind, title: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind,
            title: title.to_owned(),
            status: status(kind).as_u16(),
            detail: detail.into(),
            retry_after_secs: None,
        }))
    }

    /// A value that is malformed or out of range.
    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(
            ProblemKind::BadRequest,
            "the request is not understood",
            detail,
        )
    }

    /// A fault of ours; the reason goes to the log and not to the caller.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(
            ProblemKind::Internal,
            "the controller failed",
            "its log says why; try again later",
        )
    }

    /// Too much to do at once.
    pub(super) fn busy(detail: &str) -> Self {
        Self::new(
            ProblemKind::Unavailable,
            "the controller is busy now",
            detail,
        )
        .retry_after(1)
    }

    /// No place for the connection.
    pub(super) fn no_room(refusal: limits::Refusal) -> Self {
        let detail = match refusal {
            limits::Refusal::Strangers => "too many connect at once",
            limits::Refusal::Source => {
                "too many connect at once from this address without proving who they are"
            }
            limits::Refusal::Callers => {
                "it has as many connections as its limit of open files allows"
            }
            limits::Refusal::Caller => "this caller has too many connections or requests open",
        };
        Self::new(
            ProblemKind::Unavailable,
            "the controller has no room for this connection",
            detail,
        )
        .retry_after(NO_ROOM_SECS)
    }

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status.as_u16();
        self
    }

    pub(super) fn retry_after(mut self, secs: u32) -> Self {
        self.0.retry_after_secs = Some(secs);
        self
    }
}

impl From<limits::Refusal> for Refusal {
    fn from(refusal: limits::Refusal) -> Self {
        Self::no_room(refusal)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::busy("the database has too many requests waiting"),
            StoreError::Conflict | StoreError::Failed(_) => Self::internal(&error),
        }
    }
}

impl From<PasswordError> for Refusal {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::busy("too many people log in at once"),
            PasswordError::Failed(_) => Self::internal(&error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.0).expect("a struct of plain fields serialises");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if let Some(secs) = self.0.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}

/// Answers every unknown path.
pub(super) async fn no_such_path() -> Refusal {
    Refusal::new(ProblemKind::NotFound, "there is no such path", "")
}

/// Answers every known path with a wrong method.
pub(super) async fn no_such_method() -> Refusal {
    Refusal::bad_request("this path has no such method").status(StatusCode::METHOD_NOT_ALLOWED)
}

/// When to knock again: strangers that hold places have gone by then, or have proved who they are.
const NO_ROOM_SECS: u32 = 5;

fn status(kind: ProblemKind) -> StatusCode {
    match kind {
        ProblemKind::BadRequest => StatusCode::BAD_REQUEST,
        ProblemKind::WrongPassword
        | ProblemKind::NotAuthenticated
        | ProblemKind::KeyUnknown
        | ProblemKind::DeviceRemoved
        | ProblemKind::DeviceUnknown
        | ProblemKind::RelayUnknown => StatusCode::UNAUTHORIZED,
        ProblemKind::SetupRefused
        | ProblemKind::Forbidden
        | ProblemKind::KeyExpired
        | ProblemKind::KeyUsed
        | ProblemKind::KeyRevoked => StatusCode::FORBIDDEN,
        ProblemKind::NotFound | ProblemKind::UnknownNetwork => StatusCode::NOT_FOUND,
        ProblemKind::NameTaken => StatusCode::CONFLICT,
        ProblemKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        ProblemKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ProblemKind::Internal | ProblemKind::Other => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
