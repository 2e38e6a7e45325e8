//! Overlay addresses: one prefix per family for every network, plus a host index. Does not decide
//! which device has which index.

use std::borrow::Borrow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The number of a device in a network, [`HOST_MIN`] to [`HOST_MAX`]: the last bits of its two
/// addresses, and the host of a frame. JSON and the wire have the bare number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct HostIndex(u32);

/// A number that no device can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a host number: those are {HOST_MIN} to {HOST_MAX}")]
pub struct HostIndexError(u32);

impl HostIndex {
    /// The first number that is handed out.
    pub const MIN: Self = Self(HOST_MIN);

    /// The last number that is handed out.
    pub const MAX: Self = Self(HOST_MAX);

    /// Checks the bounds; `None` for the network's own number, its broadcast address and beyond.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number >= HOST_MIN && number <= HOST_MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The host of an overlay address; `None` for every other address.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Option<Self> {
        let number = match address {
            IpAddr::V4(v4) => {
                let bits = v4.to_bits();
                (bits & !V4_HOST_MASK == V4_PREFIX.to_bits()).then_some(bits & V4_HOST_MASK)?
            }
            IpAddr::V6(v6) => u32::try_from(v6.to_bits() ^ V6_PREFIX.to_bits()).ok()?,
        };
        Self::new(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The host's IPv4 address.
    #[must_use]
    pub const fn v4(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(V4_PREFIX.to_bits() | self.0)
    }

    /// The host's IPv6 address.
    #[must_use]
    pub const fn v6(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(V6_PREFIX.to_bits() | self.0 as u128)
    }

    /// Both addresses of the host, IPv4 first.
    #[must_use]
    pub fn addresses(self) -> [IpAddr; 2] {
        [self.v4().into(), self.v6().into()]
    }
}

impl TryFrom<u32> for HostIndex {
    type Error = HostIndexError;

    fn try_from(number: u32) -> Result<Self, HostIndexError> {
        Self::new(number).ok_or(HostIndexError(number))
    }
}

impl From<HostIndex> for u32 {
    fn from(index: HostIndex) -> Self {
        index.0
    }
}

/// Maps by host can be searched with the number of a frame, before anything has checked it.
impl Borrow<u32> for HostIndex {
    fn borrow(&self) -> &u32 {
        &self.0
    }
}

impl fmt::Display for HostIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns whether a device may have this index: the network's own address and its broadcast
/// address belong to no device.
pub fn is_host(index: u32) -> bool {
    (HOST_MIN..=HOST_MAX).contains(&index)
}

/// 100.64.0.0/10 (RFC 6598), the same in every network.
pub const V4_PREFIX: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 0);

/// A unique local prefix (RFC 4193) drawn once for Overlan, the same in every network.
pub const V6_PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd3b, 0x7e5c, 0x1a42, 0, 0, 0, 0, 0);

/// Bits of [`V4_PREFIX`].
pub const V4_PREFIX_LEN: u8 = 10;

/// Bits of [`V6_PREFIX`].
pub const V6_PREFIX_LEN: u8 = 64;

const V4_HOST_MASK: u32 = (1 << (32 - V4_PREFIX_LEN)) - 1;

/// First host index that is handed out.
pub const HOST_MIN: u32 = 1;

/// Last host index: the IPv4 prefix has 22 host bits, all ones is its broadcast address.
pub const HOST_MAX: u32 = V4_HOST_MASK - 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reserved_and_foreign_addresses_have_no_index() {
        assert_eq!(HostIndex::MIN.v4(), Ipv4Addr::new(100, 64, 0, 1));
        for foreign in [
            "100.64.0.0",
            "100.127.255.255",
            "100.63.0.1",
            "127.0.0.1",
            "fd3b:7e5c:1a42::",
            "::1",
            "fd3b:7e5c:1a42:1::1",
        ] {
            assert_eq!(
                HostIndex::of_address(foreign.parse().unwrap()),
                None,
                "{foreign}"
            );
        }
    }

    #[test]
    fn a_host_number_has_bounds_and_is_bare_in_json() {
        assert_eq!(HostIndex::new(0), None);
        assert_eq!(HostIndex::new(HOST_MAX + 1), None);
        assert_eq!(HostIndex::new(HOST_MIN), Some(HostIndex::MIN));
        assert_eq!(HostIndex::new(HOST_MAX), Some(HostIndex::MAX));
        let seven: HostIndex = serde_json::from_str("7").unwrap();
        assert_eq!(serde_json::to_string(&seven).unwrap(), seven.to_string());
        assert_eq!(seven.to_string(), "7");
        let error = serde_json::from_str::<HostIndex>("4194303").unwrap_err();
        assert!(error.to_string().contains("1 to 4194302"), "{error}");
    }

    proptest! {
        #[test]
        fn addresses_and_indices_are_one_to_one(index in HOST_MIN..=HOST_MAX) {
            let host = HostIndex::new(index).unwrap();
            for address in host.addresses() {
                prop_assert_eq!(HostIndex::of_address(address), Some(host));
            }
        }
    }
}
