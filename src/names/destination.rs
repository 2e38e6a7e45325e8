//! The destination that a program or a person gives. Decides which texts are addresses, and the one
//! form of each; leaves the meaning of names to `meaning.rs`.

use std::fmt;
use std::net::IpAddr;

use super::in_overlay;

/// A destination, as a program or a person gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A name. Its meaning is not known yet.
    Name(String),
    /// An address.
    Address(Canonical),
    /// An overlay address in the network with this label: all networks use the same addresses.
    AddressIn(Canonical, String),
}

/// An address in the form by which addresses are compared: an IPv4 address that is written as an
/// IPv6 address (`::ffff:100.64.0.1`) becomes the IPv4 address. `From` is the only way to make one.
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
    /// Reads an address where the text is one, since some programs send addresses as names, and a
    /// name otherwise. `100.64.0.2%acme` is the address `100.64.0.2` in network `acme`.
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
