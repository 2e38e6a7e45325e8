//! Where a program wants to go, as it said it. Decides what is an address and which form it has;
//! what a name means is decided elsewhere.

use std::fmt;
use std::net::IpAddr;

use super::in_overlay;

/// The place where a program wants to go, as it said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A name, not looked at yet.
    Name(String),
    /// An address.
    Address(Canonical),
    /// An overlay address of the network with this label: several networks use the same addresses.
    AddressIn(Canonical, String),
}

/// An address in its one form, with which all others are compared: an IPv4 address that is written
/// as one of IPv6 (`::ffff:100.64.0.1`) is the IPv4 address. There is no other way to make one than
/// `From`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Canonical(IpAddr);

impl Canonical {
    /// The address.
    #[must_use]
    pub fn get(self) -> IpAddr {
        self.0
    }
}

impl From<IpAddr> for Canonical {
    fn from(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

impl fmt::Display for Canonical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Destination {
    /// An address if the text is one, since some programs send an address as a name;
    /// `100.64.0.2%acme` is that address in network `acme`; otherwise a name.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        if let Ok(address) = text.parse::<IpAddr>() {
            return address.into();
        }
        if let Some((address, network)) = text.split_once('%')
            && let Ok(address) = address.parse::<IpAddr>()
            && in_overlay(address.to_canonical())
        {
            return Self::AddressIn(address.into(), network.to_ascii_lowercase());
        }
        Self::Name(text.to_owned())
    }

    /// The address, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::Address(address) | Self::AddressIn(address, _) => Some(address.get()),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
            Self::AddressIn(address, network) => write!(f, "{address}%{network}"),
        }
    }
}

impl From<IpAddr> for Destination {
    fn from(address: IpAddr) -> Self {
        Self::Address(address.into())
    }
}
