//! Refusals as RFC 9457 problem documents. Decides the HTTP status of each kind.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use overlan_protocol::api::{PROBLEM_TYPE, Problem, ProblemKind};

use crate::auth::password::PasswordError;
use crate::enrol::{KeyEnd, KeyKind, QuotaError};
use crate::limits::NoRoom;
use crate::people::choice::ChoiceError;
use crate::people::rank::RankError;
use crate::people::room::NoRoomFor;
use crate::roster::JoinError;
use crate::store::StoreError;

/// An answer that refuses.
#[derive(Debug)]
pub(super) struct Refusal(Box<Problem>);

impl Refusal {
    /// Makes a refusal: `title` says what happened, `detail` why and what to do next.
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

    /// A fault of the controller; the reason goes to the log and not to the caller.
    pub(super) fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(
            ProblemKind::Internal,
            "the controller failed",
            "the reason is in its log; try again later",
        )
    }

    /// The controller has too much to do.
    pub(super) fn busy(detail: &str) -> Self {
        Self::new(ProblemKind::Unavailable, "the controller is busy", detail).retry_after(1)
    }

    /// There is no room for the connection.
    pub(super) fn no_room(reason: NoRoom) -> Self {
        let detail = match reason {
            NoRoom::Strangers => "too many callers connect at once",
            NoRoom::Source => {
                "too many connections from this address have not proved who holds them"
            }
            NoRoom::Callers => "it has as many connections as its limit of open files allows",
            NoRoom::Caller => "this caller has too many connections or requests open",
        };
        Self::new(
            ProblemKind::Unavailable,
            "the controller has no room for this connection",
            detail,
        )
        .retry_after(NO_ROOM_SECS)
    }

    /// The caller has used up its share, and may ask again after `wait`.
    pub(super) fn too_often(what: &str, wait: Duration) -> Self {
        let secs = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        let secs = secs.saturating_add(1);
        let again = format!("try again in {secs} s");
        Self::new(ProblemKind::TooMany, what, again).retry_after(secs)
    }

    /// A key or token that this controller does not know.
    pub(super) fn key_unknown(kind: KeyKind) -> Self {
        Self::new(
            ProblemKind::KeyUnknown,
            &format!("this {kind} is not known"),
            "copy all of it; if that does not help, it was made by another controller or ended \
             long ago: make a new one",
        )
    }

    /// A key or token that cannot be used any more, which came to its end `ago`.
    pub(super) fn key_ended(kind: KeyKind, id: &str, end: KeyEnd, ago: Duration) -> Self {
        let secs = ago.as_secs();
        let other = match kind {
            KeyKind::AuthKey => "a new one or a reusable one",
            KeyKind::RelayToken => "a new one",
        };
        let (problem, became, detail) = match end {
            KeyEnd::Revoked => (
                ProblemKind::KeyRevoked,
                "was revoked",
                format!("{secs} s ago; make a new one"),
            ),
            KeyEnd::Used => (
                ProblemKind::KeyUsed,
                "was already used",
                format!("{secs} s ago, as often as it may be; make {other}"),
            ),
            KeyEnd::Expired => (
                ProblemKind::KeyExpired,
                "has expired",
                format!("{secs} s ago; make a new one"),
            ),
        };
        Self::new(problem, &format!("{kind} {id} {became}"), detail)
    }

    /// Returns the whole in one line, as clients print it.
    pub(super) fn text(&self) -> String {
        format!("{}: {}", self.0.title, self.0.detail)
    }

    pub(super) fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
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

impl From<NoRoom> for Refusal {
    fn from(reason: NoRoom) -> Self {
        Self::no_room(reason)
    }
}

impl From<QuotaError> for Refusal {
    fn from(error: QuotaError) -> Self {
        let next = match error {
            QuotaError::Waiting => {
                "an admin approves or removes some: `overlan admin device list` shows them"
            }
            QuotaError::WaitingOfKey => {
                "an admin approves or removes some, or makes another key; `overlan admin device \
                 list` shows the waiting ones"
            }
            QuotaError::DevicesOfOrg { .. } => {
                "an admin removes one that is not needed: `overlan admin device list --sort \
                 last-seen`, then `overlan admin device remove NAME`; or the controller's operator \
                 raises --devices-per-organisation"
            }
            QuotaError::DevicesOfPerson { .. } => {
                "remove one that is not needed: `overlan logout` on it, or `overlan admin device \
                 remove NAME`; or the controller's operator raises --devices-per-person"
            }
            QuotaError::AuthKeys => {
                "ended keys leave the list 90 days after their end; `overlan admin auth-key list` \
                 shows them"
            }
            QuotaError::TrustRules => "remove one first: `overlan admin trust-rule remove NAME`",
            QuotaError::Networks => "delete one first: `overlan admin network delete NETWORK`",
            QuotaError::Relays => "remove one first: `overlan admin relay remove NAME`",
        };
        Self::new(ProblemKind::Forbidden, &error.to_string(), next)
    }
}

impl From<ChoiceError> for Refusal {
    fn from(error: ChoiceError) -> Self {
        match error {
            ChoiceError::None => Self::new(
                ProblemKind::Forbidden,
                &error.to_string(),
                "an admin of an organisation invites it: `overlan admin invitation create EMAIL`",
            ),
            ChoiceError::Several(_) | ChoiceError::Unknown { .. } | ChoiceError::Ambiguous(_) => {
                Self::new(
                    ProblemKind::ChooseOrganisation,
                    &error.to_string(),
                    "name one: `overlan login --organisation NAME`; its number does, too",
                )
            }
        }
    }
}

impl From<NoRoomFor> for Refusal {
    fn from(error: NoRoomFor) -> Self {
        let next = match error {
            NoRoomFor::Person => "remove somebody first: `overlan admin person remove EMAIL`",
            NoRoomFor::Invitation => "ended invitations leave the list 30 days after their end",
            NoRoomFor::Organisation => "the operator of the controller can tell more",
            NoRoomFor::Home => "leave one, or use another account",
        };
        Self::new(ProblemKind::Forbidden, &error.to_string(), next)
    }
}

impl From<RankError> for Refusal {
    fn from(error: RankError) -> Self {
        let next = match error {
            RankError::LastOwner => {
                "make another owner first: `overlan admin person set-role EMAIL owner`"
            }
            RankError::OwnersOnly | RankError::NotOwners | RankError::NotAllowed(_) => {
                "`overlan admin organisation show` names the owners"
            }
        };
        Self::new(ProblemKind::Forbidden, &error.to_string(), next)
    }
}

impl From<JoinError> for Refusal {
    fn from(error: JoinError) -> Self {
        let text = error.to_string();
        match error {
            JoinError::NameTaken(_) => Self::new(
                ProblemKind::NameTaken,
                &text,
                "choose another host name, remove the other device, or use a key with another name \
                 policy",
            ),
            JoinError::NetworkFull => {
                Self::new(ProblemKind::Forbidden, "the network is full", text)
            }
            JoinError::TooManyNetworks => Self::new(
                ProblemKind::Forbidden,
                "the device is in too many networks",
                text,
            ),
            JoinError::Store(error) => error.into(),
        }
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
        *response.status_mut() = self.status_code();
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
    Refusal::new(
        ProblemKind::NotFound,
        "there is no such path",
        "if caller and controller are of different versions, update the older one",
    )
}

/// Answers every known path with a wrong method.
pub(super) async fn no_such_method() -> Refusal {
    Refusal::bad_request("this path has no such method").status(StatusCode::METHOD_NOT_ALLOWED)
}

/// The time after which a connection may be tried again: by then strangers have left, or have
/// proved who they are.
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
        | ProblemKind::TokenRefused
        | ProblemKind::DeviceDisabled
        | ProblemKind::DeviceExpired
        | ProblemKind::KeyExpired
        | ProblemKind::KeyUsed
        | ProblemKind::KeyRevoked => StatusCode::FORBIDDEN,
        ProblemKind::NotFound | ProblemKind::UnknownNetwork => StatusCode::NOT_FOUND,
        ProblemKind::NameTaken
        | ProblemKind::ChooseOrganisation
        | ProblemKind::Conflict
        | ProblemKind::PolicyChanged => StatusCode::CONFLICT,
        ProblemKind::PolicyRefused => StatusCode::UNPROCESSABLE_ENTITY,
        ProblemKind::TooMany => StatusCode::TOO_MANY_REQUESTS,
        ProblemKind::IssuerUnreachable => StatusCode::BAD_GATEWAY,
        ProblemKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ProblemKind::Internal | ProblemKind::Other => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
