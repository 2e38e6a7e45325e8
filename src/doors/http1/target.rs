//! The target of a request (RFC 9112, section 3.2): decides which of the four forms it has, and
//! whether an authority is valid.

use std::fmt;
use std::net::Ipv6Addr;

use super::message::Malformed;

/// A request target. It prints as it is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestTarget {
    /// `/path?query`.
    Origin(String),
    /// `http://host/path?query`.
    Absolute {
        /// In small letters.
        scheme: String,
        authority: Authority,
        /// Begins with `/`; `*` for `OPTIONS http://host`.
        path: String,
    },
    /// `host:port`, of `CONNECT`.
    Authority(Authority),
    /// `*`, of `OPTIONS`.
    Asterisk,
}

impl RequestTarget {
    pub(super) fn parse(method: &str, text: &str) -> Result<Self, Malformed> {
        if text.is_empty() || !text.bytes().all(is_of_url) {
            return Err(Malformed::Target);
        }
        if method == "CONNECT" {
            let authority = Authority::parse(text).map_err(|_| Malformed::ConnectTarget)?;
            let has_port = authority.port.is_some();
            return match has_port {
                true => Ok(Self::Authority(authority)),
                false => Err(Malformed::ConnectTarget),
            };
        }
        if text.starts_with('/') {
            return Ok(Self::Origin(text.to_owned()));
        }
        if text == "*" && method == "OPTIONS" {
            return Ok(Self::Asterisk);
        }
        let (scheme, rest) = text.split_once("://").ok_or(Malformed::Target)?;
        if !is_scheme(scheme) {
            return Err(Malformed::Target);
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = match path {
            // The server as a whole (RFC 9112, section 3.2.4).
            "" if method == "OPTIONS" => "*".to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            query => format!("/{query}"),
        };
        Ok(Self::Absolute {
            scheme: scheme.to_ascii_lowercase(),
            authority: Authority::parse(authority)?,
            path,
        })
    }

    /// Returns the form that the server itself gets, which is not a whole URL.
    pub(super) fn into_origin(self) -> Self {
        match self {
            Self::Absolute { path, .. } if path == "*" => Self::Asterisk,
            Self::Absolute { path, .. } => Self::Origin(path),
            other @ (Self::Origin(_) | Self::Authority(_) | Self::Asterisk) => other,
        }
    }
}

impl fmt::Display for RequestTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(path) => f.write_str(path),
            Self::Absolute {
                scheme,
                authority,
                path,
            } => write!(f, "{scheme}://{authority}{path}"),
            Self::Authority(authority) => authority.fmt(f),
            Self::Asterisk => f.write_str("*"),
        }
    }
}

/// A host and maybe a port. Prints as a `Host` field names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    /// As it stands in the URL: an IPv6 address in brackets.
    host: String,
    /// `None` = the scheme's own; an empty port says the same.
    pub(crate) port: Option<u16>,
}

impl Authority {
    pub(super) fn parse(text: &str) -> Result<Self, BadAuthority> {
        if text.contains('@') {
            return Err(BadAuthority::UserInfo);
        }
        let host_len = match text.strip_prefix('[') {
            Some(rest) => rest.find(']').ok_or(BadAuthority::Host)? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(host_len);
        if !is_host(host) {
            return Err(BadAuthority::Host);
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => None,
            None => return Err(BadAuthority::Host),
            Some("") => None,
            // `parse` alone would take a sign.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let port = digits.parse().ok().filter(|port| *port != 0);
                Some(port.ok_or(BadAuthority::Port)?)
            }
            Some(_) => return Err(BadAuthority::Port),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// Reads the value of a `Host` field, if it is valid.
    pub(crate) fn of_host(text: &str) -> Option<Self> {
        Self::parse(text).ok()
    }

    /// Returns the host as it is dialled: an IPv6 address without brackets, `%25` as `%`.
    pub(crate) fn host(&self) -> String {
        let bare = self.host.strip_prefix('[');
        let bare = bare.and_then(|host| host.strip_suffix(']'));
        bare.unwrap_or(&self.host).replace("%25", "%")
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => f.write_str(&self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

/// A fault of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BadAuthority {
    Host,
    Port,
    UserInfo,
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').unwrap_or(address);
        return address.parse::<Ipv6Addr>().is_ok();
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    !host.is_empty() && host.bytes().all(is_part) && has_whole_escapes(host)
}

/// Returns whether two hexadecimal digits follow each `%`.
fn has_whole_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

fn is_scheme(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(is_part)
}

/// Characters of URLs, and those that browsers send unescaped though they have no place there. A
/// fragment is never sent.
fn is_of_url(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !b"#<>`".contains(&byte)
}
