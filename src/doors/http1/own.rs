//! Answers of our own: decides how they are written, not what they say.

use std::fmt;

use super::fields::Fields;
use super::message::{HttpVersion, Malformed};

/// An answer of this intermediary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) status: u16,
    /// Without those that frame the body.
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
}

impl Own {
    /// An answer of plain text, for people.
    pub(crate) fn text(status: u16, text: impl Into<Vec<u8>>) -> Self {
        let mut fields = Fields::default();
        fields.push("Content-Type", "text/plain; charset=utf-8");
        Self {
            status,
            fields,
            body: text.into(),
        }
    }

    /// Returns its bytes; `HEAD` gets only the head.
    pub(super) fn encode(&self, is_head: bool, close: bool, date: &str) -> Vec<u8> {
        let reason = reason(self.status);
        let mut bytes =
            format!("HTTP/1.1 {} {reason}\r\nDate: {date}\r\n", self.status).into_bytes();
        self.fields.encode(&mut bytes);
        let len = self.body.len();
        bytes.extend_from_slice(format!("Content-Length: {len}\r\n").as_bytes());
        if close {
            bytes.extend_from_slice(b"Connection: close\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        if !is_head {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }
}

/// The reason why an exchange failed, and whose fault it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The client's request is not sound.
    Request(Malformed),
    /// The client began with a request and did not end it in time.
    SlowRequest,
    /// The service's answer is not sound.
    Answer(Malformed),
    /// The service changed to a protocol that was not asked for.
    UnaskedUpgrade,
    /// The service ended the connection, or it broke, before there was an answer.
    NoAnswer(String),
    /// The service neither takes the request nor answers.
    Silent,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(malformed) => write!(f, "the request cannot be understood: {malformed}"),
            Self::SlowRequest => f.write_str("the request did not arrive in time"),
            Self::Answer(malformed) => {
                write!(
                    f,
                    "the answer of the service cannot be understood: {malformed}"
                )
            }
            Self::UnaskedUpgrade => {
                f.write_str("the service changed to a protocol that was not asked for")
            }
            Self::NoAnswer(error) => write!(f, "the service gave no answer: {error}"),
            Self::Silent => {
                f.write_str("the service neither took the request nor answered in time")
            }
        }
    }
}

/// Returns the reason phrase of a status, for people who read heads.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// The head of the tunnel that `CONNECT` asked for. It has no body, and so nothing that frames one
/// (RFC 9110, section 9.3.6).
pub(super) fn connected(date: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nDate: {date}\r\n\r\n").into_bytes()
}

/// Answers a client that asked how its request arrives (RFC 9110, section 9.3.8), or for the
/// options of this server.
pub(super) fn last_recipient(method: &str, head: &[u8]) -> Own {
    let mut own = Own::text(200, "");
    own.fields = Fields::default();
    if method == "TRACE" {
        own.fields.push("Content-Type", "message/http");
        own.body = head.to_vec();
    }
    own
}

/// Returns whether a client of this version keeps its connection. With those of 1.0 a proxy must
/// not (RFC 9112, appendix C.2.2).
pub(super) fn keeps(version: HttpVersion, fields: &Fields) -> bool {
    version == HttpVersion::Http11 && !fields.lists("connection", "close")
}
