//! The words for a service on the command line: its target, and the service that is removed.
//! Decides what they mean.

use std::net::Ipv4Addr;
use std::str::FromStr;

use overlan::program::service::{OverlayTransport, Target, UnusableTarget};
use overlan_protocol::gateway::{GatewayRoute, RouteTextError};
use overlan_protocol::host_port::{self, HostPortError};

use crate::commands::port;

/// An entry that can be taken off the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServedEntry {
    Port(u16, Option<OverlayTransport>),
    Route(GatewayRoute),
}

impl ServedEntry {
    /// Reads the words after `serve remove`: as it was served (`tcp 3000`), or in one word (`3000`,
    /// `udp:53`, a route).
    pub(super) fn from_words(words: &[String]) -> Result<Self, String> {
        match words {
            [kind, what] => match kind.as_str() {
                "tcp" | "http" | "unix" => format!("tcp:{what}").parse(),
                "udp" => format!("udp:{what}").parse(),
                "route" | "host" => what.parse().map(Self::Route).map_err(route_error),
                _ => Err(format!("{kind:?} is not a kind of service")),
            },
            _ => words.concat().parse(),
        }
    }
}

impl FromStr for ServedEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A host that is called tcp or udp is written with a dot after it.
        let (transport, number) = match (text.strip_prefix("tcp:"), text.strip_prefix("udp:")) {
            (Some(number), _) => (Some(OverlayTransport::Tcp), number),
            (None, Some(number)) => (Some(OverlayTransport::Udp), number),
            (None, None) => (None, text),
        };
        match is_number(number) {
            true => Ok(Self::Port(port::number(number, &port::ANY)?, transport)),
            false => text.parse().map(Self::Route).map_err(route_error),
        }
    }
}

fn route_error(error: RouteTextError) -> String {
    error.to_string()
}

/// Reads a target of `serve tcp`.
pub(super) fn parse_target(text: &str) -> Result<Target, String> {
    let place = place(text)?;
    if is_number(&place) {
        return port::number(&place, &port::ANY).map(same_port);
    }
    place.parse().map_err(|why: UnusableTarget| match why {
        UnusableTarget::Form if host_port::split(&place) != Err(HostPortError::Port) => {
            "give ADDRESS:PORT, HOST:PORT, or a port".to_owned()
        }
        UnusableTarget::Form | UnusableTarget::PortZero => port::wrong("the port", &port::ANY),
        UnusableTarget::RelativePath => why.to_string(),
    })
}

/// Returns true for digits alone: a port, whether it is a valid one or not.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Reads a target of `serve http`, which speaks HTTP without TLS.
pub(super) fn parse_http_target(text: &str) -> Result<Target, String> {
    match text.starts_with("https://") {
        true => Err(
            "requests are forwarded without TLS; use `overlan serve tcp` for a service that has \
             TLS itself"
                .to_owned(),
        ),
        false => parse_target(text),
    }
}

/// Reads a target of `serve udp`.
pub(super) fn parse_udp_target(text: &str) -> Result<Target, String> {
    match parse_target(text)? {
        Target::Unix(_) => Err("UDP has no Unix sockets".to_owned()),
        target @ (Target::Address(_) | Target::Host(..)) => Ok(target),
    }
}

/// Reads a target of `serve unix`.
pub(super) fn parse_path(text: &str) -> Result<Target, String> {
    format!("unix:{text}")
        .parse()
        .map_err(|why: UnusableTarget| why.to_string())
}

/// Returns the port of this host with the overlay port's number.
pub(super) fn same_port(port: u16) -> Target {
    Target::Address((Ipv4Addr::LOCALHOST, port).into())
}

/// Returns `HOST:PORT` of a URL, as people copy it from a browser; another text as it is.
fn place(text: &str) -> Result<String, String> {
    let schemes = [("http://", ":80"), ("https://", ":443"), ("tcp://", "")];
    let found = schemes
        .iter()
        .find_map(|(scheme, port)| Some((text.strip_prefix(scheme)?, *port)));
    let Some((rest, port)) = found else {
        return Ok(text.to_owned());
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err(format!(
            "a service is served whole: leave the path /{path} out"
        ));
    }
    // An IPv6 address has colons of its own.
    let after_address = host.rsplit(']').next().unwrap_or_default();
    match after_address.contains(':') {
        true => Ok(host.to_owned()),
        false => Ok(format!("{host}{port}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_address_or_a_local_port() {
        assert_eq!(parse_target("8080"), Ok("127.0.0.1:8080".parse().unwrap()));
        assert_eq!(parse_target("[::1]:22"), Ok("[::1]:22".parse().unwrap()));
        for wrong in ["", "0", "127.0.0.1", "127.0.0.1:0", "db:0", "65536"] {
            assert!(parse_target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_url_without_a_path_is_a_target() {
        for (url, meant) in [
            ("http://localhost:3000", "localhost:3000"),
            ("http://localhost:3000/", "localhost:3000"),
            ("http://127.0.0.1", "127.0.0.1:80"),
            ("https://[::1]", "[::1]:443"),
            ("http://[::1]:8080/", "[::1]:8080"),
            ("tcp://db:5432", "db:5432"),
        ] {
            assert_eq!(parse_target(url), Ok(meant.parse().unwrap()), "{url}");
        }
        let refused = parse_target("http://localhost:3000/app").unwrap_err();
        assert!(refused.contains("/app"), "{refused}");
        for wrong in [
            "http://",
            "http://localhost:x",
            "ftp://localhost",
            "tcp://db",
        ] {
            assert!(parse_target(wrong).is_err(), "{wrong}");
        }
        assert!(parse_http_target("http://localhost:3000").is_ok());
        let refused = parse_http_target("https://localhost:8443").unwrap_err();
        assert!(refused.contains("serve tcp"), "{refused}");
    }

    #[test]
    fn a_service_is_removed_by_the_same_words() {
        let removed = |line: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            ServedEntry::from_words(&words)
        };
        let tcp = ServedEntry::Port(3000, Some(OverlayTransport::Tcp));
        for line in ["tcp 3000", "http 3000", "unix 3000", "tcp:3000"] {
            assert_eq!(removed(line), Ok(tcp.clone()), "{line}");
        }
        let udp = Ok(ServedEntry::Port(53, Some(OverlayTransport::Udp)));
        assert_eq!(removed("udp 53"), udp);
        assert_eq!(removed("udp:53"), udp);
        assert_eq!(removed("3000"), Ok(ServedEntry::Port(3000, None)));
        for line in ["route 10.1.0.0/16", "10.1.0.0/16", "host db.internal:5432"] {
            assert!(matches!(removed(line), Ok(ServedEntry::Route(_))), "{line}");
        }
        for wrong in ["tcp 0", "tdp 80", "udp x", "0", "tcp db:80"] {
            assert!(removed(wrong).is_err(), "{wrong}");
        }
    }
}
