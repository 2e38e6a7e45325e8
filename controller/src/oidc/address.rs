//! Decides at which addresses an issuer's keys may be fetched: at public ones, and in the ranges
//! that the controller's operator allowed for one host. Resolves nothing.

use std::net::IpAddr;
use std::str::FromStr;

use overlan_protocol::gateway::{is_in, is_public};

/// A range of addresses in which one issuer's host may be, although they are not public:
/// `gitlab.corp.example=10.0.0.0/8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerAddresses {
    host: String,
    begin: IpAddr,
    bits: u8,
}

/// The text does not allow an issuer any addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write HOST=ADDRESS/BITS, such as gitlab.corp.example=10.0.0.0/8 or HOST=ADDRESS")]
pub struct ParseIssuerAddressesError;

impl FromStr for IssuerAddresses {
    type Err = ParseIssuerAddressesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, range) = text.split_once('=').ok_or(ParseIssuerAddressesError)?;
        let (begin, bits) = match range.split_once('/') {
            Some((begin, bits)) => (begin, Some(bits)),
            None => (range, None),
        };
        let begin: IpAddr = begin.parse().map_err(|_| ParseIssuerAddressesError)?;
        let all = if begin.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(all), str::parse);
        let bits = bits.map_err(|_| ParseIssuerAddressesError)?;
        match bits <= all && !host.is_empty() {
            true => Ok(Self {
                host: host.to_ascii_lowercase(),
                begin,
                bits,
            }),
            false => Err(ParseIssuerAddressesError),
        }
    }
}

/// Decides whether the controller may connect to that address of an issuer's host.
pub(super) fn may_fetch(allowed: &[IssuerAddresses], host: &str, address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_allowed = |range: &IssuerAddresses| {
        range.host.eq_ignore_ascii_case(host) && is_in(address, range.begin, range.bits)
    };
    is_public(address) || allowed.iter().any(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_asked_unless_the_operator_allows_a_range_to_a_host() {
        let allowed = ["gitlab.corp=10.1.0.0/16", "cluster=fd12::7"];
        let allowed = allowed.map(|text| text.parse().unwrap());
        let may = |host: &str, address: &str| may_fetch(&allowed, host, address.parse().unwrap());
        assert!(may("any.example", "140.82.112.3"));
        assert!(may("any.example", "2606:50c0:8000::153"));
        for private in [
            "127.0.0.1",
            "::1",
            "0.0.0.0",
            "10.1.2.3",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "168.63.129.16",
            "224.0.0.1",
            "255.255.255.255",
            "fe80::1",
            "fd12::7",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
        ] {
            assert!(!may("any.example", private), "{private}");
        }
        assert!(may("GitLab.corp", "10.1.2.3") && may("gitlab.corp", "::ffff:10.1.2.3"));
        assert!(!may("gitlab.corp", "10.2.2.3") && !may("cluster", "10.1.2.3"));
        assert!(may("cluster", "fd12::7") && !may("cluster", "fd12::8"));
    }

    #[test]
    fn a_range_has_a_host_and_a_length_that_fits() {
        for wrong in [
            "",
            "a",
            "=10.0.0.0/8",
            "a=10.0.0.0/33",
            "a=b/8",
            "a=10.0.0.0/-1",
            "a=::/129",
        ] {
            let read: Result<IssuerAddresses, _> = wrong.parse();
            assert_eq!(read, Err(ParseIssuerAddressesError), "{wrong}");
        }
    }
}
