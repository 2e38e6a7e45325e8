//! The words about a service that is served: the names to pass on, and a target that does not
//! answer. Decides from facts. It reads the kernel's table of listeners, because a connection for a
//! test could be the only one that a service takes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use overlan::program::service::{Serve, ServeKind, Target};
use overlan::program::status::Status;

/// A network of this device, and its full name there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServedNetwork {
    pub(super) network: String,
    pub(super) name: String,
}

/// Returns the networks of a running client.
pub(super) fn places(status: &Status) -> Vec<ServedNetwork> {
    let place = |network: &overlan::program::status::NetworkStatus| ServedNetwork {
        network: network.name.clone(),
        name: network.device.clone(),
    };
    status.networks.iter().map(place).collect()
}

/// Names the networks in `wanted` that this device is not in. Returns `None` while no network is
/// known.
pub(super) fn unknown_networks(wanted: &[String], places: &[ServedNetwork]) -> Option<String> {
    let is_unknown = |wanted: &&String| !places.iter().any(|place| place.network == **wanted);
    let unknown: Vec<String> = wanted.iter().filter(is_unknown).cloned().collect();
    if unknown.is_empty() || places.is_empty() {
        return None;
    }
    let known: Vec<&str> = places.iter().map(|place| place.network.as_str()).collect();
    Some(format!(
        "this device is not in network {}; it is in {}",
        unknown.join(", "),
        known.join(", ")
    ))
}

/// Returns a line for each network in which it is served, to pass on to a colleague: a URL, or
/// `NAME:PORT` for a port that no browser opens.
pub(super) fn reached(serve: &Serve, places: &[ServedNetwork]) -> Vec<String> {
    let port = serve.port;
    let scheme = match (serve.kind, serve.tls) {
        (ServeKind::Udp, _) => None,
        (ServeKind::Tcp, _) if NOT_WEB.contains(&port) => None,
        (ServeKind::Tcp | ServeKind::Http, true) => Some("https"),
        (ServeKind::Tcp, false) if port == 443 => Some("https"),
        (ServeKind::Tcp | ServeKind::Http, false) => Some("http"),
    };
    let line = |place: &ServedNetwork| match (scheme, port) {
        (Some(scheme @ "http"), 80) | (Some(scheme @ "https"), 443) => {
            format!("{scheme}://{}", place.name)
        }
        (Some(scheme), _) => format!("{scheme}://{}:{port}", place.name),
        (None, _) => format!("{}:{port}", place.name),
    };
    let is_in = |place: &&ServedNetwork| serve.is_in(&place.network);
    places.iter().filter(is_in).map(line).collect()
}

/// Warns of a target that does not answer, where this host can tell.
pub(super) fn dead_target(serve: &Serve) -> Option<String> {
    let why = match &serve.target {
        Target::Unix(path) if !path.exists() => "the socket does not exist",
        Target::Address(address) if address.ip().is_loopback() => {
            if is_bound(*address, serve.kind)? {
                return None;
            }
            "no program listens there"
        }
        Target::Host(host) if host.host().eq_ignore_ascii_case("localhost") => {
            let v4 = is_bound((Ipv4Addr::LOCALHOST, host.port()).into(), serve.kind)?;
            let v6 = is_bound((Ipv6Addr::LOCALHOST, host.port()).into(), serve.kind)?;
            if v4 || v6 {
                return None;
            }
            "no program listens there"
        }
        Target::Unix(_) | Target::Address(_) | Target::Host(..) => return None,
    };
    Some(format!(
        "Warning: {} does not answer now ({why}); connections of peers are refused until it does.",
        serve.target
    ))
}

/// Returns true if a program has the address; `None` if the kernel does not say.
fn is_bound(address: SocketAddr, kind: ServeKind) -> Option<bool> {
    let (tables, state) = match kind {
        ServeKind::Tcp | ServeKind::Http => (["/proc/net/tcp", "/proc/net/tcp6"], LISTENS),
        ServeKind::Udp => (["/proc/net/udp", "/proc/net/udp6"], UNCONNECTED),
    };
    let mut seen = false;
    for table in tables {
        let Ok(table) = fs::read_to_string(table) else {
            continue;
        };
        seen = true;
        if has_listener(&table, state, address) {
            return Some(true);
        }
    }
    seen.then_some(false)
}

/// Returns true if a table such as `/proc/net/tcp` has a socket in `state` that `address` reaches.
fn has_listener(table: &str, state: &str, address: SocketAddr) -> bool {
    table.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().and_then(socket);
        let found = fields.nth(1) == Some(state);
        local.is_some_and(|local| {
            let is_its = local.ip() == address.ip() || local.ip().is_unspecified();
            found && is_its && local.port() == address.port()
        })
    })
}

/// Reads an address of the table: words of the host's byte order, in hexadecimal digits.
fn socket(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let digits = address.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            IpAddr::from(<[u8; 16]>::try_from(words).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// State of a TCP socket that listens, in the kernel's table.
const LISTENS: &str = "0A";

/// State of a UDP socket that takes datagrams from everybody.
const UNCONNECTED: &str = "07";

/// Ports of widely used protocols that are not HTTP (IANA's registry): a URL would mislead.
const NOT_WEB: &[u16] = &[
    21, 22, 23, 25, 53, 88, 110, 111, 123, 143, 389, 445, 465, 587, 636, 873, 993, 995, 1433, 1521,
    1883, 2049, 3306, 3389, 4222, 5060, 5222, 5432, 5671, 5672, 5900, 6379, 6380, 6667, 8883, 9042,
    9092, 11211, 27017, 50051,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(network: &str) -> ServedNetwork {
        ServedNetwork {
            network: network.to_owned(),
            name: format!("dave.{network}.overlan.internal"),
        }
    }

    fn serve(port: u16) -> Serve {
        Serve::tcp(port, "127.0.0.1:1".parse::<Target>().unwrap())
    }

    #[test]
    fn a_colleague_gets_a_url_or_what_other_programs_take() {
        let dev = [at("dev")];
        assert_eq!(
            reached(&serve(3000), &dev),
            ["http://dave.dev.overlan.internal:3000"]
        );
        assert_eq!(
            reached(&serve(80), &dev),
            ["http://dave.dev.overlan.internal"]
        );
        let tls = Serve {
            tls: true,
            kind: ServeKind::Http,
            ..serve(443)
        };
        assert_eq!(reached(&tls, &dev), ["https://dave.dev.overlan.internal"]);
        assert_eq!(reached(&serve(22), &dev), ["dave.dev.overlan.internal:22"]);
        let udp = Serve::udp(5353, "127.0.0.1:1".parse::<Target>().unwrap());
        assert_eq!(reached(&udp, &dev), ["dave.dev.overlan.internal:5353"]);
        // A line for each network where it is served.
        let both = [at("dev"), at("prod")];
        assert_eq!(reached(&serve(3000), &both).len(), 2);
        let only = Serve {
            networks: vec!["prod".to_owned()],
            ..serve(3000)
        };
        assert_eq!(
            reached(&only, &both),
            ["http://dave.prod.overlan.internal:3000"]
        );
    }

    #[test]
    fn an_unknown_network_is_named_with_those_that_there_are() {
        let wanted = ["dev".to_owned(), "nosuch".to_owned()];
        let both = [at("dev"), at("prod")];
        assert_eq!(
            unknown_networks(&wanted, &both).unwrap(),
            "this device is not in network nosuch; it is in dev, prod"
        );
        assert!(unknown_networks(&wanted[..1], &both).is_none());
        assert!(unknown_networks(&[], &both).is_none());
        assert!(unknown_networks(&wanted, &[]).is_none(), "it cannot tell");
    }

    #[test]
    fn the_kernel_knows_who_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = |address: SocketAddr| Serve::tcp(80, Target::Address(address));
        assert_eq!(dead_target(&target(address)), None);
        drop(listener);
        let warning = dead_target(&target(address)).unwrap();
        assert!(warning.contains("no program listens there"), "{warning}");
        assert!(warning.contains(&address.to_string()), "{warning}");
        let elsewhere = "192.0.2.1:80".parse().unwrap();
        assert_eq!(dead_target(&target(elsewhere)), None, "it cannot know");
        let nowhere = Serve::tcp(80, "unix:/nowhere/x".parse::<Target>().unwrap());
        assert!(dead_target(&nowhere).unwrap().contains("does not exist"));
        // One that listens on all addresses, by IPv6 too.
        let all = std::net::TcpListener::bind("[::]:0").unwrap();
        let port = all.local_addr().unwrap().port();
        let by_v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert_eq!(dead_target(&target(by_v4)), None);
        let by_name = Serve::tcp(80, format!("localhost:{port}").parse::<Target>().unwrap());
        assert_eq!(dead_target(&by_name), None);
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        assert_eq!(dead_target(&Serve::udp(53, Target::Address(address))), None);
    }
}
