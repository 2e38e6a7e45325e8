//! Refusals as RFC 9457 problem documents. Decides which HTTP status each kind has.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use overlan_protocol::api::{PROBLEM_TYPE, Problem, ProblemKind};

use crate::auth::password::PasswordError;
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

    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status.as_u16();
        self
    }

    pub(super) fn retry_after(mut self, secs: u32) -> Self {
        self.0.retry_after_secs = Some(secs);
        self
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
