//! Decides which IP packets may leave the tunnel for the stack: a profile far narrower than the
//! standards, since both ends are ours. It holds nothing and verifies no checksum: the tunnel's
//! AEAD already proves that no byte has changed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

/// The facts of one packet inside the profile that filter and policy judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source, of the same version as `destination`.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// The content of the packet.
    pub transport: Transport,
}

/// The transport header's facts. Ports are never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment with a complete header.
    Tcp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
        /// The flags, of a combination that occurs in an honest connection.
        flags: TcpFlags,
    },
    /// A UDP datagram whose length fits the packet exactly.
    Udp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
    },
    /// An ICMP message, or an `ICMPv6` message in an IPv6 packet.
    Icmp(IcmpKind),
}

/// The protocol alone, for policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP for IPv4, `ICMPv6` for IPv6.
    Icmp,
}

/// The version of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The few ICMP messages that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// A ping.
    EchoRequest,
    /// Its answer.
    EchoReply,
    /// A destination is unreachable; the offending packet's head follows, unverified.
    Unreachable,
}

/// The low eight TCP flags as they are in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(u8);

impl TcpFlags {
    /// The raw bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// No more data follows.
    #[must_use]
    pub fn fin(self) -> bool {
        self.0 & FIN != 0
    }

    /// A connection opens.
    #[must_use]
    pub fn syn(self) -> bool {
        self.0 & SYN != 0
    }

    /// A connection is torn down.
    #[must_use]
    pub fn rst(self) -> bool {
        self.0 & RST != 0
    }

    /// The acknowledgement number counts.
    #[must_use]
    pub fn ack(self) -> bool {
        self.0 & ACK != 0
    }

    /// The first segment of a connection: SYN without ACK.
    #[must_use]
    pub fn opens(self) -> bool {
        self.0 & (SYN | ACK) == SYN
    }
}

/// The reason why a packet is outside the profile. Counted and dropped.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Reject {
    /// Neither IPv4 nor IPv6.
    #[error("not an IP packet")]
    Version,
    /// Shorter than its headers.
    #[error("cut off")]
    Truncated,
    /// A length field that does not agree with the packet.
    #[error("a length field is wrong")]
    Length,
    /// IPv4 options.
    #[error("IPv4 options")]
    IpOptions,
    /// A fragment, or IPv4's reserved flag.
    #[error("a fragment")]
    Fragment,
    /// Not TCP, UDP or ICMP of this IP version. Every IPv6 extension header ends here.
    #[error("a protocol outside the profile")]
    Protocol,
    /// A port is zero.
    #[error("port zero")]
    PortZero,
    /// Flags no honest connection has, or reserved bits.
    #[error("impossible TCP flags")]
    TcpFlags,
    /// A TCP option that is malformed or outside the list.
    #[error("a TCP option outside the profile")]
    TcpOptions,
    /// An ICMP type or code outside the list.
    #[error("an ICMP message outside the profile")]
    IcmpKind,
}

impl Reject {
    /// Every reason, for registering one counter each.
    pub const ALL: [Self; 10] = [
        Self::Version,
        Self::Truncated,
        Self::Length,
        Self::IpOptions,
        Self::Fragment,
        Self::Protocol,
        Self::PortZero,
        Self::TcpFlags,
        Self::TcpOptions,
        Self::IcmpKind,
    ];

    /// The name for metrics. It never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Truncated => "truncated",
            Self::Length => "length",
            Self::IpOptions => "ip_options",
            Self::Fragment => "fragment",
            Self::Protocol => "protocol",
            Self::PortZero => "port_zero",
            Self::TcpFlags => "tcp_flags",
            Self::TcpOptions => "tcp_options",
            Self::IcmpKind => "icmp_kind",
        }
    }
}

impl Packet {
    /// Reads one whole IP packet, no byte more and no byte less.
    ///
    /// # Errors
    /// The first rule of the profile that it breaks.
    pub fn parse(packet: &[u8]) -> Result<Self, Reject> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::parse_v4(packet),
            Some(6) => Self::parse_v6(packet),
            Some(_) => Err(Reject::Version),
            None => Err(Reject::Truncated),
        }
    }

    /// The IP version.
    #[must_use]
    pub fn version(&self) -> Version {
        match self.source {
            IpAddr::V4(_) => Version::V4,
            IpAddr::V6(_) => Version::V6,
        }
    }

    /// The protocol without its details.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        match self.transport {
            Transport::Tcp { .. } => Protocol::Tcp,
            Transport::Udp { .. } => Protocol::Udp,
            Transport::Icmp(_) => Protocol::Icmp,
        }
    }

    /// Source and destination port; `None` for ICMP.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp {
                source_port,
                destination_port,
                ..
            }
            | Transport::Udp {
                source_port,
                destination_port,
            } => Some((source_port, destination_port)),
            Transport::Icmp(_) => None,
        }
    }

    fn parse_v4(packet: &[u8]) -> Result<Self, Reject> {
        let (header, payload) = packet
            .split_first_chunk::<IPV4_HEADER_LEN>()
            .ok_or(Reject::Truncated)?;
        let [
            first,
            _tos,
            len_hi,
            len_lo,
            _,
            _,
            frag_hi,
            frag_lo,
            _ttl,
            protocol,
            _,
            _,
            a @ ..,
        ] = *header;
        if first & 0x0f != 5 {
            return Err(Reject::IpOptions);
        }
        if usize::from(u16::from_be_bytes([len_hi, len_lo])) != packet.len() {
            return Err(Reject::Length);
        }
        // "Don't fragment" may be set or not; no other bit of flags and offset may.
        if u16::from_be_bytes([frag_hi, frag_lo]) & !0x4000 != 0 {
            return Err(Reject::Fragment);
        }
        let transport = match protocol {
            PROTO_TCP => parse_tcp(payload),
            PROTO_UDP => parse_udp(payload),
            PROTO_ICMP => parse_icmp(payload, icmp_v4),
            _ => Err(Reject::Protocol),
        }?;
        Ok(Self {
            source: Ipv4Addr::new(a[0], a[1], a[2], a[3]).into(),
            destination: Ipv4Addr::new(a[4], a[5], a[6], a[7]).into(),
            transport,
        })
    }

    fn parse_v6(packet: &[u8]) -> Result<Self, Reject> {
        let (fixed, rest) = packet.split_first_chunk::<8>().ok_or(Reject::Truncated)?;
        let (source, rest) = rest.split_first_chunk::<16>().ok_or(Reject::Truncated)?;
        let (destination, payload) = rest.split_first_chunk::<16>().ok_or(Reject::Truncated)?;
        let [_, _, _, _, len_hi, len_lo, next_header, _hop_limit] = *fixed;
        if usize::from(u16::from_be_bytes([len_hi, len_lo])) != payload.len() {
            return Err(Reject::Length);
        }
        let transport = match next_header {
            PROTO_TCP => parse_tcp(payload),
            PROTO_UDP => parse_udp(payload),
            PROTO_ICMPV6 => parse_icmp(payload, icmp_v6),
            _ => Err(Reject::Protocol),
        }?;
        Ok(Self {
            source: Ipv6Addr::from(*source).into(),
            destination: Ipv6Addr::from(*destination).into(),
            transport,
        })
    }
}

fn parse_tcp(segment: &[u8]) -> Result<Transport, Reject> {
    let (header, rest) = segment
        .split_first_chunk::<TCP_HEADER_LEN>()
        .ok_or(Reject::Truncated)?;
    let (source_port, destination_port) = parse_ports(header)?;
    let [offset, flags] = [header[12], header[13]];
    let header_len = usize::from(offset >> 4) * 4;
    let options_len = header_len
        .checked_sub(TCP_HEADER_LEN)
        .ok_or(Reject::Length)?;
    let options = rest.get(..options_len).ok_or(Reject::Truncated)?;
    let controls = (flags & (SYN | FIN | RST)).count_ones();
    // Every segment after the first acknowledges; only a bare SYN or RST does not.
    let stands_alone = flags & (SYN | RST) != 0;
    if offset & 0x0f != 0 || controls > 1 || (flags & ACK == 0 && !stands_alone) {
        return Err(Reject::TcpFlags);
    }
    check_tcp_options(options)?;
    Ok(Transport::Tcp {
        source_port,
        destination_port,
        flags: TcpFlags(flags),
    })
}

/// MSS, window scale, SACK-permitted, SACK, timestamps, no-op and end, each with its exact length.
fn check_tcp_options(mut options: &[u8]) -> Result<(), Reject> {
    while let Some((&kind, rest)) = options.split_first() {
        let len = match (kind, rest.first()) {
            // After the end there is only padding.
            (0, _) if rest.iter().all(|&byte| byte == 0) => return Ok(()),
            (1, _) => 1,
            (2, Some(4)) => 4,
            (3, Some(3)) => 3,
            (4, Some(2)) => 2,
            (5, Some(&len @ (10 | 18 | 26 | 34))) => usize::from(len),
            (8, Some(10)) => 10,
            _ => return Err(Reject::TcpOptions),
        };
        options = options.get(len..).ok_or(Reject::TcpOptions)?;
    }
    Ok(())
}

fn parse_udp(datagram: &[u8]) -> Result<Transport, Reject> {
    let header = datagram
        .first_chunk::<UDP_HEADER_LEN>()
        .ok_or(Reject::Truncated)?;
    let (source_port, destination_port) = parse_ports(header)?;
    if usize::from(u16::from_be_bytes([header[4], header[5]])) != datagram.len() {
        return Err(Reject::Length);
    }
    Ok(Transport::Udp {
        source_port,
        destination_port,
    })
}

fn parse_ports<const N: usize>(header: &[u8; N]) -> Result<(u16, u16), Reject> {
    const { assert!(N >= 4, "ports are the first four bytes") };
    let source = u16::from_be_bytes([header[0], header[1]]);
    let destination = u16::from_be_bytes([header[2], header[3]]);
    if source == 0 || destination == 0 {
        return Err(Reject::PortZero);
    }
    Ok((source, destination))
}

fn parse_icmp(message: &[u8], kind: fn(u8, u8) -> Option<IcmpKind>) -> Result<Transport, Reject> {
    let [icmp_type, code, ..] = *message
        .first_chunk::<ICMP_HEADER_LEN>()
        .ok_or(Reject::Truncated)?;
    kind(icmp_type, code)
        .map(Transport::Icmp)
        .ok_or(Reject::IcmpKind)
}

fn icmp_v4(icmp_type: u8, code: u8) -> Option<IcmpKind> {
    match (icmp_type, code) {
        (8, 0) => Some(IcmpKind::EchoRequest),
        (0, 0) => Some(IcmpKind::EchoReply),
        (3, 0..=15) => Some(IcmpKind::Unreachable),
        _ => None,
    }
}

fn icmp_v6(icmp_type: u8, code: u8) -> Option<IcmpKind> {
    match (icmp_type, code) {
        (128, 0) => Some(IcmpKind::EchoRequest),
        (129, 0) => Some(IcmpKind::EchoReply),
        (1, 0..=8) => Some(IcmpKind::Unreachable),
        _ => None,
    }
}

const IPV4_HEADER_LEN: usize = 20;
const TCP_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;
/// Type, code, checksum and the four bytes every message of the profile has.
const ICMP_HEADER_LEN: usize = 8;

const PROTO_ICMP: u8 = 1;
const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;
const PROTO_ICMPV6: u8 = 58;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

#[cfg(test)]
mod tests;
