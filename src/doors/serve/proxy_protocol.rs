//! The header of the PROXY protocol, version 2, by which a service learns who its peer is
//! (haproxy's proxy-protocol.txt, section 2.2).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Returns the header for a connection from `peer` to `own`, which is sent before the first byte.
pub(super) fn header(peer: SocketAddr, own: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(VERSION_AND_PROXY);
    match (peer.ip().to_canonical(), own.ip().to_canonical()) {
        (IpAddr::V4(peer), IpAddr::V4(own)) => {
            header.push(TCP_OVER_V4);
            header.extend_from_slice(&ADDRESSES_V4.to_be_bytes());
            header.extend_from_slice(&peer.octets());
            header.extend_from_slice(&own.octets());
        }
        (peer, own) => {
            header.push(TCP_OVER_V6);
            header.extend_from_slice(&ADDRESSES_V6.to_be_bytes());
            header.extend_from_slice(&v6(peer).octets());
            header.extend_from_slice(&v6(own).octets());
        }
    }
    header.extend_from_slice(&peer.port().to_be_bytes());
    header.extend_from_slice(&own.port().to_be_bytes());
    header
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// No other protocol begins like this.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, on behalf of another sender.
const VERSION_AND_PROXY: u8 = 0x21;

const TCP_OVER_V4: u8 = 0x11;
const TCP_OVER_V6: u8 = 0x21;

/// Bytes after the length: two addresses and two ports.
const ADDRESSES_V4: u16 = 12;
const ADDRESSES_V6: u16 = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_published_form() {
        let at = |text: &str| -> SocketAddr { text.parse().unwrap() };
        let v4 = header(at("100.64.0.2:50000"), at("100.64.0.1:80"));
        let start = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
        assert_eq!(v4[..16], start[..]);
        assert_eq!(v4[16..], [100, 64, 0, 2, 100, 64, 0, 1, 0xc3, 0x50, 0, 80]);
        let v6 = header(at("[fd00::2]:1"), at("[fd00::1]:2"));
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!((v6.len(), v6[31], v6[47]), (16 + 36, 2, 1));
        assert_eq!(v6[48..], [0, 1, 0, 2]);
    }
}
