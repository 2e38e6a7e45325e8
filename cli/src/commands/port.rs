//! Ports, and addresses with a port, on the command line. Decides which numbers a port may have,
//! and holds the one sentence about those that it may not have.

#[cfg(feature = "server")]
use std::net::SocketAddr;
use std::ops::RangeInclusive;

#[cfg(feature = "server")]
use overlan_protocol::host_port::{self, HostPortError};

/// Ports that somebody can connect to.
pub(crate) const ANY: RangeInclusive<u16> = 1..=u16::MAX;

/// Ports of this host to listen on; 0 takes a free one.
pub(crate) const OR_FREE: RangeInclusive<u16> = 0..=u16::MAX;

/// Overlay ports for streams: port 1 is where gateways answer.
pub(crate) const SERVED: RangeInclusive<u16> = 2..=u16::MAX;

/// Returns the parser of a port in `range`, for clap.
pub(crate) fn within(
    range: RangeInclusive<u16>,
) -> impl Fn(&str) -> Result<u16, String> + Clone + Send + Sync {
    move |text| number(text, &range)
}

/// Reads a port in `range`. A sign is not part of a number here.
pub(crate) fn number(text: &str, range: &RangeInclusive<u16>) -> Result<u16, String> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| range.contains(port));
    port.filter(|_| is_digits)
        .ok_or_else(|| wrong("the port", range))
}

/// Says which numbers `port` may be.
pub(crate) fn wrong(port: &str, range: &RangeInclusive<u16>) -> String {
    format!(
        "{port} must be a number from {} to {}",
        range.start(),
        range.end()
    )
}

/// Reads an address to listen on, where port 0 takes a free one.
#[cfg(feature = "server")]
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match host_port::split(text) {
        Err(HostPortError::Port) => wrong("the port", &OR_FREE),
        Ok(_) | Err(_) => {
            "give ADDRESS:PORT with a numeric address, such as 0.0.0.0:8443".to_owned()
        }
    })
}

/// Checks the port of a server's public address. The server itself judges the host, and adds a port
/// that is left out.
#[cfg(feature = "server")]
pub(crate) fn public_address(text: &str) -> Result<String, String> {
    match host_port::split(text) {
        Err(HostPortError::Port) => Err(wrong("the port", &ANY)),
        Ok(_) | Err(_) => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    #[cfg(feature = "server")]
    use overlan_protocol::key::Fingerprint;

    use super::*;
    use crate::commands::Cli;

    #[test]
    fn every_command_refuses_a_port_in_the_same_words() {
        let from = |least: &str| format!("must be a number from {least} to 65535");
        for (line, least) in [
            ("serve tcp 99999", "2"),
            ("serve tcp 1", "2"),
            ("serve tcp -- -3", "2"),
            ("serve tcp +80", "2"),
            ("serve tcp web", "2"),
            ("serve unix 99999 /run/x", "2"),
            ("serve http 99999", "2"),
            ("serve udp 0", "1"),
            ("serve udp 99999", "1"),
            ("serve tcp 80 99999", "1"),
            ("serve tcp 80 0", "1"),
            ("serve tcp 80 db:99999", "1"),
            ("serve tcp 80 127.0.0.1:99999", "1"),
            ("serve tcp 80 [::1]:0", "1"),
            ("serve http 80 http://localhost:99999", "1"),
            ("serve udp 53 db:0", "1"),
            ("serve route db:99999", "1"),
            ("serve host db:0 --as db", "1"),
            ("nc web 99999", "1"),
            ("nc web 0", "1"),
            ("perf web --port 99999", "1"),
            ("forward 80:web:99999", "1"),
            ("forward 80:web:0", "1"),
            ("forward 99999:web:80", "0"),
            ("exec -L 0:web:99999 true", "1"),
            ("up --socks 99999", "0"),
            ("up --socks 127.0.0.1:99999", "0"),
            ("up --dns [::1]:99999", "0"),
            ("up --dns-forward 192.0.2.1:99999", "1"),
            ("up --dns-forward 192.0.2.1:0", "1"),
        ] {
            refused(line, &from(least));
        }
    }

    #[cfg(feature = "server")]
    #[test]
    fn servers_refuse_a_port_in_the_same_words() {
        let join = format!("https://c.example:8443#sha256:{}", Fingerprint([7; 32]));
        let join = format!("relay serve --server {join}");
        let relay = |rest: &str| format!("{join} {rest}");
        let from = |least: &str| format!("must be a number from {least} to 65535");
        for (line, least) in [
            (relay("--listen 0.0.0.0:99999"), "0"),
            (relay("--metrics 127.0.0.1:99999"), "0"),
            (relay("--address r.example:99999"), "1"),
            (relay("--address r.example:0"), "1"),
            ("controller serve --listen 0.0.0.0:99999".to_owned(), "0"),
            ("controller serve --metrics 127.0.0.1:x".to_owned(), "0"),
            ("controller serve --public-address c:99999".to_owned(), "1"),
            ("demo --socks-port 99999".to_owned(), "0"),
            ("demo --dns-port x".to_owned(), "0"),
        ] {
            refused(&line, &from(least));
        }
        refused("controller serve --listen c.example:80", "numeric address");
    }

    fn refused(line: &str, with: &str) {
        let words = std::iter::once("overlan").chain(line.split(' '));
        let error = Cli::try_parse_from(words).unwrap_err().to_string();
        assert!(error.contains(with), "{line}\n{error}");
    }

    #[test]
    fn the_sentence_is_that_of_host_and_port() {
        let port = overlan_protocol::host_port::HostPortError::Port;
        assert_eq!(wrong("the port", &ANY), port.reason());
    }

    #[test]
    fn port_0_is_a_free_one_where_something_listens() {
        #[cfg(feature = "server")]
        assert_eq!(
            listen_address("127.0.0.1:0"),
            Ok("127.0.0.1:0".parse().unwrap())
        );
        assert_eq!(within(OR_FREE)("0"), Ok(0));
        assert_eq!(number("65535", &ANY), Ok(65_535));
    }
}
