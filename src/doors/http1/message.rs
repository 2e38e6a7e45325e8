//! The heads of requests and answers, from bytes and to bytes (RFC 9112, sections 2 to 4). Decides
//! whether a head is sound.

use super::fields::{Fields, Writer, is_token};
use super::target::{Authority, BadAuthority, RequestTarget};

/// The version of HTTP that the sender of a message speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HttpVersion {
    /// No chunks, no 1xx, one request for each connection.
    Http10,
    /// Also 1.2 and higher.
    Http11,
}

impl HttpVersion {
    /// As `Via` names it.
    pub(super) fn number(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
        }
    }

    fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let digits = text.strip_prefix(b"HTTP/").ok_or(Malformed::StartLine)?;
        match digits {
            [b'1', b'.', b'0'] => Ok(Self::Http10),
            [b'1', b'.', b'1'..=b'9'] => Ok(Self::Http11),
            [b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Malformed::Version),
            _ => Err(Malformed::StartLine),
        }
    }
}

/// A request's head.
#[derive(Debug, Clone)]
pub(crate) struct HttpRequest {
    pub(crate) method: String,
    pub(crate) target: RequestTarget,
    pub(crate) version: HttpVersion,
    pub(crate) fields: Fields,
}

impl HttpRequest {
    /// Reads a head up to and with its empty line.
    pub(super) fn parse(head: &[u8]) -> Result<Self, Malformed> {
        let (line, rest) = first_line(head)?;
        let line = str::from_utf8(line).map_err(|_| Malformed::StartLine)?;
        let mut parts = line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Malformed::StartLine);
        };
        if !is_token(method) {
            return Err(Malformed::StartLine);
        }
        let version = HttpVersion::parse(version.as_bytes())?;
        let fields = Fields::parse(rest, Writer::Client)?;
        let target = RequestTarget::parse(method, target)?;
        check_host(version, &fields)?;
        Ok(Self {
            method: method.to_owned(),
            target,
            version,
            fields,
        })
    }

    /// The bytes of the head.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        self.fields.encode(&mut bytes);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    /// Returns whether doing it twice does what doing it once does (RFC 9110, section 9.2.2).
    pub(super) fn is_idempotent(&self) -> bool {
        let known = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
        known.contains(&self.method.as_str())
    }
}

/// Checks that there is one `Host`, and a valid one (RFC 9112, section 3.2): all who read the
/// request must see the same host.
fn check_host(version: HttpVersion, fields: &Fields) -> Result<(), Malformed> {
    let mut hosts = fields.all("host");
    let host = match (hosts.next(), version) {
        (Some(host), _) => host,
        (None, HttpVersion::Http10) => return Ok(()),
        (None, HttpVersion::Http11) => return Err(Malformed::NoHost),
    };
    if hosts.next().is_some() {
        return Err(Malformed::ManyHosts);
    }
    // A URL without an authority has an empty one.
    if host.is_empty() {
        return Ok(());
    }
    let host = str::from_utf8(host).map_err(|_| Malformed::Host)?;
    Authority::parse(host).map_err(|_| Malformed::Host)?;
    Ok(())
}

/// An answer's head.
#[derive(Debug, Clone)]
pub(super) struct HttpResponse {
    pub(super) version: HttpVersion,
    pub(super) status: u16,
    pub(super) reason: Vec<u8>,
    pub(super) fields: Fields,
}

impl HttpResponse {
    /// Reads a head up to and with its empty line.
    pub(super) fn parse(head: &[u8]) -> Result<Self, Malformed> {
        let (line, rest) = first_line(head)?;
        let (version, rest_of_line) = line
            .split_at_checked("HTTP/1.1".len())
            .ok_or(Malformed::StartLine)?;
        let version = HttpVersion::parse(version)?;
        let (status, reason) = match rest_of_line {
            [b' ', a, b, c] => ([*a, *b, *c], &[][..]),
            [b' ', a, b, c, b' ', reason @ ..] => ([*a, *b, *c], reason),
            _ => return Err(Malformed::StartLine),
        };
        if !status.iter().all(u8::is_ascii_digit) || status[0] == b'0' {
            return Err(Malformed::StartLine);
        }
        if reason
            .iter()
            .any(|byte| byte.is_ascii_control() && *byte != b'\t')
        {
            return Err(Malformed::StartLine);
        }
        let digits = status.map(|digit| u16::from(digit - b'0'));
        Ok(Self {
            version,
            status: digits[0] * 100 + digits[1] * 10 + digits[2],
            reason: reason.to_vec(),
            fields: Fields::parse(rest, Writer::Service)?,
        })
    }

    /// The bytes of the head. The version is ours, whatever the service's is (RFC 9110, section
    /// 6.2).
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} ", self.status).into_bytes();
        bytes.extend_from_slice(&self.reason);
        bytes.extend_from_slice(b"\r\n");
        self.fields.encode(&mut bytes);
        bytes.extend_from_slice(b"\r\n");
        bytes
    }

    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status)
    }
}

/// Splits off the first line, without its line end. A CR anywhere else does not end it.
fn first_line(head: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = head.iter().position(|byte| *byte == b'\n');
    let (line, rest) = head.split_at(end.ok_or(Malformed::StartLine)?);
    Ok((line.strip_suffix(b"\r").unwrap_or(line), &rest[1..]))
}

/// Bytes of empty lines that may stand before a request line, as some clients put them after a
/// body (RFC 9112, section 2.2).
pub(super) fn empty_lines(bytes: &[u8]) -> usize {
    let is_line_end = |byte: &&u8| matches!(**byte, b'\r' | b'\n');
    bytes.iter().take_while(is_line_end).count()
}

/// Finds the end of a head, after its empty line. `seen` bytes were looked at before and hold no
/// end.
pub(super) fn head_end(bytes: &[u8], seen: usize) -> Option<usize> {
    // An end may have begun before: at most three bytes of it.
    let from = seen.saturating_sub(3);
    let ends = bytes[from..].iter().enumerate();
    let ends = ends.filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| from + at + 1)
        .find_map(|at| match &bytes[at..] {
            [b'\n', ..] => Some(at + 1),
            [b'\r', b'\n', ..] => Some(at + 2),
            _ => None,
        })
}

/// A fault of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the first line is not one of HTTP/1.1")]
    StartLine,
    #[error("the version is not HTTP/1.1 or HTTP/1.0")]
    Version,
    #[error(
        "the request target is not a URL or a path, or holds a character that URLs do not have"
    )]
    Target,
    #[error("the port of the URL is not a number from 1 to 65535")]
    Port,
    #[error("CONNECT needs a host and a port from 1 to 65535")]
    ConnectTarget,
    #[error("the URL names no valid host")]
    Authority,
    #[error("the URL holds a user name or a password before its host")]
    UserInfo,
    #[error("the request has no Host field")]
    NoHost,
    #[error("the request has more than one Host field")]
    ManyHosts,
    #[error("the Host field is not HOST or HOST:PORT")]
    Host,
    #[error("the request line is longer than 64 KiB")]
    TargetTooLong,
    #[error("the head is longer than 64 KiB")]
    HeadTooLong,
    #[error("the head has more than 100 fields")]
    TooManyFields,
    #[error("a line of the head has no colon")]
    NoColon,
    #[error("a space stands before the colon of a field")]
    SpaceBeforeColon,
    #[error("the name of a field holds a character that names do not have")]
    FieldName,
    #[error("the value of a field holds a control character")]
    FieldValue,
    #[error("a line begins with a space; fields of several lines are obsolete")]
    Folded,
    #[error("Content-Length is not one number")]
    Length,
    #[error("the body is framed by Content-Length and by Transfer-Encoding")]
    TwoLengths,
    #[error(
        "Transfer-Encoding does not end with one `chunked`, or stands in a message of HTTP/1.0"
    )]
    Coding,
    #[error("a transfer coding other than `chunked` is not understood here")]
    UnknownCoding,
    #[error("a chunk of the body does not have the form of one")]
    Chunk,
    #[error("the body ended before its end")]
    Cut,
    #[error("CONNECT has no body")]
    ConnectBody,
}

impl From<BadAuthority> for Malformed {
    fn from(bad: BadAuthority) -> Self {
        match bad {
            BadAuthority::Host => Self::Authority,
            BadAuthority::Port => Self::Port,
            BadAuthority::UserInfo => Self::UserInfo,
        }
    }
}

impl Malformed {
    /// Returns the status with which a request of this fault is refused.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::HeadTooLong | Self::TooManyFields => 431,
            Self::UnknownCoding => 501,
            Self::Version => 505,
            Self::StartLine
            | Self::Target
            | Self::Port
            | Self::ConnectTarget
            | Self::Authority
            | Self::UserInfo
            | Self::NoHost
            | Self::ManyHosts
            | Self::Host
            | Self::NoColon
            | Self::SpaceBeforeColon
            | Self::FieldName
            | Self::FieldValue
            | Self::Folded
            | Self::Length
            | Self::TwoLengths
            | Self::Coding
            | Self::Chunk
            | Self::Cut
            | Self::ConnectBody => 400,
        }
    }
}
