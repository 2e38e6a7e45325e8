//! Servers that are reached without the proxy. Decides whether an entry of the list covers a
//! server; asks no resolver.

use std::net::IpAddr;

use overlan_protocol::{HostPort, host_port};

/// One entry of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Except {
    what: What,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    All,
    /// A name and all below it, lower case.
    Name(String),
    /// Addresses that begin like this one, and the number of bits.
    Range(IpAddr, u32),
}

impl Except {
    /// Reads an entry; `None` if it has no known form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "*" {
            let what = What::All;
            return Some(Self { what, port: None });
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits = bits.parse().ok().filter(|bits| *bits <= width(address))?;
            let what = What::Range(address, bits);
            return Some(Self { what, port: None });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            let what = What::Range(address, width(address));
            return Some(Self { what, port: None });
        }
        let (host, port) = host_port::split(text).ok()?;
        let what = match host.parse::<IpAddr>() {
            Ok(address) => What::Range(address, width(address)),
            Err(_) => {
                let name = host.strip_prefix('*').unwrap_or(host);
                let name = name.strip_prefix('.').unwrap_or(name);
                What::Name((!name.is_empty()).then(|| name.to_ascii_lowercase())?)
            }
        };
        Some(Self { what, port })
    }

    pub(super) fn covers(&self, to: &HostPort) -> bool {
        if self.port.is_some_and(|wanted| wanted != to.port()) {
            return false;
        }
        match &self.what {
            What::All => true,
            What::Name(name) => {
                let host = to.host().to_ascii_lowercase();
                let host = host.strip_suffix('.').unwrap_or(&host);
                let above = host.strip_suffix(name.as_str());
                above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            What::Range(begin, bits) => to.address().is_some_and(|address| {
                let address = address.to_canonical();
                let differ = match (begin, address) {
                    (IpAddr::V4(one), IpAddr::V4(other)) => {
                        u128::from(one.to_bits() ^ other.to_bits()) << 96
                    }
                    (IpAddr::V6(one), IpAddr::V6(other)) => one.to_bits() ^ other.to_bits(),
                    (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                        return false;
                    }
                };
                differ.leading_zeros() >= *bits
            }),
        }
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}
