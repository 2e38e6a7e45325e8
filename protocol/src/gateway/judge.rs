//! Decides which addresses a gateway may connect to: by what an address stands for, however it was
//! found and however it is written. Looks nothing up; the caller knows the gateway's own addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{GatewayRoute, Host, Request, is_in};
use crate::address::{V4_PREFIX, V4_PREFIX_LEN, V6_PREFIX, V6_PREFIX_LEN};

/// Returns whether a gateway may connect to that address at all, whatever its routes: not to
/// itself, not to what only its link or its cloud shows it, such as metadata services, and not into
/// an overlay. An IPv4 address within an IPv6 address is judged too.
#[must_use]
pub fn may_lead_to(address: IpAddr) -> bool {
    !meanings(address).any(|meaning| is_listed(meaning, &FORBIDDEN))
}

/// Returns whether everybody on the Internet means the same host by that address: it is neither
/// forbidden nor a site's own, and no IPv4 address within it is.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    may_lead_to(address) && !meanings(address).any(|meaning| is_listed(meaning, &PRIVATE))
}

/// Returns whether a gateway with these offered and approved `routes` may connect to `address`, one
/// of the addresses that the host of `request` has there.
///
/// - An address of the gateway's own (`is_own`) needs a route to it alone: a range does not include
///   the services of the gateway itself.
/// - The owner of a name chooses its addresses, so those that are not public are dialled only
///   inside a range that is approved too.
pub fn may_dial(
    routes: &[GatewayRoute],
    request: &Request,
    address: IpAddr,
    is_own: impl Fn(IpAddr) -> bool,
) -> bool {
    if !may_lead_to(address) {
        return false;
    }
    let leads_there =
        |route: &&GatewayRoute| route.covers(Host::Address(address), request.port).is_some();
    let mut leading = routes.iter().filter(leads_there);
    if meanings(address).any(is_own) {
        return leading.any(|route| route.one_host().is_some());
    }
    let by_name = matches!(request.host(), Host::Name(_));
    leading.next().is_some() || by_name && is_public(address)
}

fn is_listed(address: IpAddr, list: &[(IpAddr, u8)]) -> bool {
    list.iter()
        .any(|(begin, bits)| is_in(address, *begin, *bits))
}

/// The address, and those that it stands for: translators and tunnels on the way turn it into them.
fn meanings(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let address = address.to_canonical();
    let within = match address {
        IpAddr::V4(_) => [None, None],
        IpAddr::V6(v6) => embedded(v6),
    };
    let within = within.into_iter().flatten().map(IpAddr::V4);
    std::iter::once(address).chain(within)
}

/// IPv4 addresses within an IPv6 address, by the forms that have one.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let bits = address.to_bits();
    let at = |last: u32| Some(Ipv4Addr::from_bits((bits >> last) as u32));
    let segments = address.segments();
    match segments {
        // Compatible (RFC 4291), but for :: and ::1; translated (RFC 2765); the well-known prefix
        // of NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
            [at(0), None]
        }
        // 6to4 (RFC 3056).
        [0x2002, ..] => [at(80), None],
        // Teredo (RFC 4380): the server, and the client with its bits turned round.
        [0x2001, 0, ..] => [at(64), Some(Ipv4Addr::from_bits(!(bits as u32)))],
        // ISATAP (RFC 5214), below any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => [at(0), None],
        _ => [None, None],
    }
}

const fn v6(segments: [u16; 8]) -> IpAddr {
    let [a, b, c, d, e, f, g, h] = segments;
    IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h))
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

/// Ranges that no gateway connects to.
const FORBIDDEN: [(IpAddr, u8); 17] = [
    (v4(0, 0, 0, 0), 8),
    (v4(127, 0, 0, 0), 8),
    // Link-local; metadata of nearly all clouds.
    (v4(169, 254, 0, 0), 16),
    (v4(224, 0, 0, 0), 3),
    // Metadata of Azure; of Oracle's older cloud, with others of the protocol block. Alibaba's lies
    // in the overlay's range.
    (v4(168, 63, 129, 16), 32),
    (v4(192, 0, 0, 0), 24),
    (IpAddr::V4(V4_PREFIX), V4_PREFIX_LEN),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 128),
    (IpAddr::V6(Ipv6Addr::LOCALHOST), 128),
    // NAT64 of a site's own: where in it the IPv4 address lies only the site knows.
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0]), 48),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0]), 10),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0]), 8),
    // Metadata and what lies beside it: AWS, Google, Oracle, Scaleway.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0]), 32),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0]), 32),
    (v6([0xfd00, 0xc1, 0, 0, 0, 0, 0, 0]), 32),
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42]), 128),
    (IpAddr::V6(V6_PREFIX), V6_PREFIX_LEN),
];

/// Ranges that only a site itself can reach, besides the forbidden ones.
const PRIVATE: [(IpAddr, u8); 5] = [
    (v4(10, 0, 0, 0), 8),
    (v4(172, 16, 0, 0), 12),
    (v4(192, 168, 0, 0), 16),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0]), 7),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0]), 10),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_an_address_stands_for_is_judged_and_not_how_it_is_written() {
        for forbidden in [
            "0.0.0.0",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "::1",
            "fe80::1",
            "fe80::a9fe:a9fe",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::253",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd3b:7e5c:1a42::7",
            // The same in other words.
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::168.63.129.16",
            "64:ff9b::100.64.0.7",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "2001:0:a9fe:a9fe::1",
            "2001:0:808:808:0:0:5601:5601",
            "2a00::5efe:169.254.169.254",
            "fd12::200:5efe:127.0.0.1",
        ] {
            assert!(!may_lead_to(address(forbidden)), "{forbidden}");
        }
        for allowed in [
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "192.0.2.1",
            "93.184.216.34",
            "168.63.129.15",
            "fd12::1",
            "2a00::1",
            "64:ff9b::10.1.2.3",
            "64:ff9b::93.184.216.34",
            "2002:5db8:d822::1",
            "::ffff:10.1.2.3",
        ] {
            assert!(may_lead_to(address(allowed)), "{allowed}");
        }
    }

    #[test]
    fn a_name_leads_to_private_addresses_only_inside_an_approved_range() {
        let routes = [
            "*.corp.example",
            "db.example:5432",
            "10.1.0.0/16:443",
            "10.9.9.9",
        ]
        .map(|text| text.parse::<GatewayRoute>().unwrap());
        let own = [
            address("10.1.0.1"),
            address("10.9.9.9"),
            address("93.184.216.34"),
        ];
        for (host, port, dialled, allowed) in [
            // By address: the range, and not the gateway in it.
            ("10.1.2.3", 443, "10.1.2.3", true),
            ("10.1.2.3", 80, "10.1.2.3", false),
            ("10.1.0.1", 443, "10.1.0.1", false),
            // Its own address that is offered alone.
            ("10.9.9.9", 22, "10.9.9.9", true),
            // By name.
            ("www.corp.example", 443, "198.51.100.7", true),
            ("www.corp.example", 443, "10.1.2.3", true),
            ("www.corp.example", 80, "10.1.2.3", false),
            ("www.corp.example", 443, "::ffff:10.1.2.3", true),
            ("www.corp.example", 443, "10.2.0.1", false),
            ("www.corp.example", 443, "192.168.0.1", false),
            ("www.corp.example", 443, "172.31.0.1", false),
            ("www.corp.example", 443, "fd12::1", false),
            ("www.corp.example", 443, "64:ff9b::10.2.0.1", false),
            ("www.corp.example", 443, "2002:a02:1::", false),
            ("www.corp.example", 443, "2a00::1", true),
            ("www.corp.example", 443, "93.184.216.34", false),
            ("www.corp.example", 443, "64:ff9b::93.184.216.34", false),
            ("www.corp.example", 22, "10.9.9.9", true),
            ("www.corp.example", 443, "169.254.169.254", false),
            ("db.example", 5432, "10.1.2.3", false),
        ] {
            let request = Request {
                host: host.to_owned(),
                port,
            };
            let judged = may_dial(&routes, &request, address(dialled), |it| own.contains(&it));
            assert_eq!(judged, allowed, "{host}:{port} at {dialled}");
        }
    }
}
