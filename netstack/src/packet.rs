//! Decides whether bytes are a packet this stack may look at, and builds the packets that belong to
//! no flow; holds no state.

use std::net::{IpAddr, SocketAddr};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

/// A whole IP packet without options, extension headers or fragments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ip<'a> {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) payload: Payload<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Payload<'a> {
    Tcp(Tcp),
    Udp {
        source: u16,
        destination: u16,
        data: &'a [u8],
    },
    Icmp(Icmp<'a>),
}

/// The fields of a TCP header that are looked at outside of a flow's engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tcp {
    pub(crate) source: u16,
    pub(crate) destination: u16,
    pub(crate) seq: u32,
    /// `None` without the ACK flag.
    pub(crate) ack: Option<u32>,
    pub(crate) syn: bool,
    pub(crate) fin: bool,
    pub(crate) rst: bool,
    /// As it stands in the header, without its scale.
    pub(crate) window: u16,
    pub(crate) payload_len: usize,
}

impl Tcp {
    /// The sequence numbers that it takes: one for each byte, one for a SYN, one for a FIN.
    pub(crate) fn occupied(&self) -> u32 {
        // At most 65,535 bytes of payload fit into a packet.
        self.payload_len as u32 + u32::from(self.syn) + u32::from(self.fin)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Icmp<'a> {
    EchoRequest {
        ident: u16,
        sequence: u16,
        data: &'a [u8],
    },
    EchoReply {
        ident: u16,
        data: &'a [u8],
    },
    /// Something we sent did not arrive. `port` says that only that port is closed.
    Unreachable {
        port: bool,
        original: Original,
    },
}

/// The packet that an ICMP error complains of, as far as it is quoted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Original {
    pub(crate) protocol: u8,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

/// The reason for which bytes are not a packet for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Too short, or a length field that does not say what arrived, or impossible fields.
    Malformed,
    /// A fragment, options or extension headers: our own stacks send none, and we reassemble none.
    Unsupported,
    /// An address no single host can have.
    Address,
    /// A protocol, or an ICMP message, nobody here listens to.
    Protocol,
}

pub(crate) fn parse(packet: &[u8]) -> Result<Ip<'_>, Unusable> {
    let (source, destination, protocol, payload) = parse_ip(packet)?;
    if !is_host(source) || !is_host(destination) {
        return Err(Unusable::Address);
    }
    let payload = match (protocol, source.is_ipv4()) {
        (TCP, _) => Payload::Tcp(parse_tcp(payload)?),
        (UDP, _) => parse_udp(payload)?,
        (ICMPV4, true) => Payload::Icmp(parse_icmp(payload, &ICMP_V4)?),
        (ICMPV6, false) => Payload::Icmp(parse_icmp(payload, &ICMP_V6)?),
        _ => return Err(Unusable::Protocol),
    };
    Ok(Ip {
        source,
        destination,
        payload,
    })
}

fn parse_ip(packet: &[u8]) -> Result<(IpAddr, IpAddr, u8, &[u8]), Unusable> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => {
            let (header, payload) = packet
                .split_first_chunk::<IPV4_HEADER>()
                .ok_or(Unusable::Malformed)?;
            if header[0] & 0x0f != 5 {
                return Err(Unusable::Unsupported);
            }
            if usize::from(u16::from_be_bytes([header[2], header[3]])) != packet.len() {
                return Err(Unusable::Malformed);
            }
            // Everything but "do not fragment": more fragments, an offset, and the reserved bit.
            if (header[6] & 0xbf) | header[7] != 0 {
                return Err(Unusable::Unsupported);
            }
            let source: [u8; 4] = [header[12], header[13], header[14], header[15]];
            let destination: [u8; 4] = [header[16], header[17], header[18], header[19]];
            Ok((source.into(), destination.into(), header[9], payload))
        }
        Some(6) => {
            let (header, payload) = packet
                .split_first_chunk::<IPV6_HEADER>()
                .ok_or(Unusable::Malformed)?;
            if usize::from(u16::from_be_bytes([header[4], header[5]])) != payload.len() {
                return Err(Unusable::Malformed);
            }
            let (mut source, mut destination) = ([0; 16], [0; 16]);
            source.copy_from_slice(&header[8..24]);
            destination.copy_from_slice(&header[24..40]);
            match header[6] {
                TCP | UDP | ICMPV6 => Ok((source.into(), destination.into(), header[6], payload)),
                // Hop-by-hop, routing, fragment, destination options, authentication.
                0 | 43 | 44 | 60 | 51 => Err(Unusable::Unsupported),
                _ => Err(Unusable::Protocol),
            }
        }
        _ => Err(Unusable::Malformed),
    }
}

/// Returns whether one host can have this address.
pub(crate) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_loopback())
        }
        IpAddr::V6(address) => {
            !(address.is_unspecified() || address.is_multicast() || address.is_loopback())
        }
    }
}

fn parse_tcp(segment: &[u8]) -> Result<Tcp, Unusable> {
    let packet = TcpPacket::new_checked(segment).map_err(|_| Unusable::Malformed)?;
    if packet.src_port() == 0 || packet.dst_port() == 0 {
        return Err(Unusable::Malformed);
    }
    Ok(Tcp {
        source: packet.src_port(),
        destination: packet.dst_port(),
        seq: packet.seq_number().0 as u32,
        ack: packet.ack().then(|| packet.ack_number().0 as u32),
        syn: packet.syn(),
        fin: packet.fin(),
        rst: packet.rst(),
        window: packet.window_len(),
        payload_len: segment.len() - usize::from(packet.header_len()),
    })
}

/// Reads the TCP header of a packet a flow of this stack has just built.
pub(crate) fn emitted_tcp(packet: &[u8]) -> Option<Tcp> {
    let header = match packet.first()? >> 4 {
        4 => IPV4_HEADER,
        _ => IPV6_HEADER,
    };
    parse_tcp(packet.get(header..)?).ok()
}

/// Announces one unit less than the engine wants to.
///
/// A scaled window is rounded down, so the engine may take back up to one unit of what it has
/// announced; from a segment that was already under way it then cuts off those bytes, and believes
/// a FIN after them (<https://github.com/smoltcp-rs/smoltcp/pull/977>). With one unit in reserve
/// what was announced stays true.
pub(crate) fn narrow_window(packet: &mut [u8]) {
    if let Some(tcp) = tcp_of(packet) {
        let mut tcp = TcpPacket::new_unchecked(tcp);
        tcp.set_window_len(tcp.window_len().saturating_sub(1));
    }
}

pub(crate) fn set_sequence(packet: &mut [u8], seq: u32) {
    if let Some(tcp) = tcp_of(packet) {
        TcpPacket::new_unchecked(tcp).set_seq_number(TcpSeqNumber(seq as i32));
    }
}

/// The TCP segment in a packet that has just been built.
fn tcp_of(packet: &mut [u8]) -> Option<&mut [u8]> {
    let header = match packet.first()? >> 4 {
        4 => IPV4_HEADER,
        _ => IPV6_HEADER,
    };
    packet.get_mut(header..)
}

fn parse_udp(datagram: &[u8]) -> Result<Payload<'_>, Unusable> {
    let packet = UdpPacket::new_checked(datagram).map_err(|_| Unusable::Malformed)?;
    if usize::from(packet.len()) != datagram.len()
        || packet.dst_port() == 0
        || packet.src_port() == 0
    {
        return Err(Unusable::Malformed);
    }
    Ok(Payload::Udp {
        source: packet.src_port(),
        destination: packet.dst_port(),
        data: packet.payload(),
    })
}

fn parse_icmp<'a>(message: &'a [u8], numbers: &IcmpNumbers) -> Result<Icmp<'a>, Unusable> {
    let (header, data) = message
        .split_first_chunk::<ICMP_HEADER>()
        .ok_or(Unusable::Malformed)?;
    let ident = u16::from_be_bytes([header[4], header[5]]);
    let sequence = u16::from_be_bytes([header[6], header[7]]);
    let (kind, code) = (header[0], header[1]);
    if kind == numbers.echo_request && code == 0 {
        Ok(Icmp::EchoRequest {
            ident,
            sequence,
            data,
        })
    } else if kind == numbers.echo_reply && code == 0 {
        Ok(Icmp::EchoReply { ident, data })
    } else if kind == numbers.unreachable {
        let original = parse_original(data).ok_or(Unusable::Malformed)?;
        Ok(Icmp::Unreachable {
            port: code == numbers.port_unreachable,
            original,
        })
    } else {
        Err(Unusable::Protocol)
    }
}

/// The packet inside an ICMP error is usually cut off, so its length fields say nothing about what
/// is here.
fn parse_original(packet: &[u8]) -> Option<Original> {
    let (source, destination, protocol, payload): (IpAddr, IpAddr, u8, &[u8]) =
        match packet.first()? >> 4 {
            4 => {
                let (header, payload) = packet.split_first_chunk::<IPV4_HEADER>()?;
                let source: [u8; 4] = header[12..16].try_into().ok()?;
                let destination: [u8; 4] = header[16..20].try_into().ok()?;
                (source.into(), destination.into(), header[9], payload)
            }
            6 => {
                let (header, payload) = packet.split_first_chunk::<IPV6_HEADER>()?;
                let source: [u8; 16] = header[8..24].try_into().ok()?;
                let destination: [u8; 16] = header[24..40].try_into().ok()?;
                (source.into(), destination.into(), header[6], payload)
            }
            _ => return None,
        };
    let ports = payload.first_chunk::<4>()?;
    Some(Original {
        protocol,
        source: SocketAddr::new(source, u16::from_be_bytes([ports[0], ports[1]])),
        destination: SocketAddr::new(destination, u16::from_be_bytes([ports[2], ports[3]])),
    })
}

/// Both ends of a packet of ours, source first. For protocols without ports, the bytes in their
/// place.
pub(crate) fn ends(packet: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    parse_original(packet).map(|packet| (packet.source, packet.destination))
}

/// The answer to a segment that belongs to no flow, as RFC 9293 section 3.10.7.1 wants it.
pub(crate) fn reset_for(from: SocketAddr, to: SocketAddr, segment: &Tcp) -> Vec<u8> {
    let (seq, ack) = match segment.ack {
        Some(ack) => (ack, None),
        None => (0, Some(segment.seq.wrapping_add(segment.occupied()))),
    };
    bare_segment(from, to, TcpControl::Rst, seq, ack)
}

/// An acknowledgement without data and with an empty window: the last word of a closed connection.
pub(crate) fn final_ack(from: SocketAddr, to: SocketAddr, seq: u32, ack: u32) -> Vec<u8> {
    bare_segment(from, to, TcpControl::None, seq, Some(ack))
}

fn bare_segment(
    from: SocketAddr,
    to: SocketAddr,
    control: TcpControl,
    seq: u32,
    ack: Option<u32>,
) -> Vec<u8> {
    let segment = TcpRepr {
        src_port: from.port(),
        dst_port: to.port(),
        control,
        seq_number: TcpSeqNumber(seq as i32),
        ack_number: ack.map(|ack| TcpSeqNumber(ack as i32)),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None, None, None],
        timestamp: None,
        payload: &[],
    };
    let (mut packet, header) = ip_packet(from.ip(), to.ip(), IpProtocol::Tcp, segment.buffer_len());
    segment.emit(
        &mut TcpPacket::new_unchecked(&mut packet[header..]),
        &from.ip().into(),
        &to.ip().into(),
        &ChecksumCapabilities::ignored(),
    );
    packet
}

pub(crate) fn udp_datagram(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let datagram = UdpRepr {
        src_port: from.port(),
        dst_port: to.port(),
    };
    let (mut packet, header) =
        ip_packet(from.ip(), to.ip(), IpProtocol::Udp, UDP_HEADER + data.len());
    datagram.emit(
        &mut UdpPacket::new_unchecked(&mut packet[header..]),
        &from.ip().into(),
        &to.ip().into(),
        data.len(),
        |payload| payload.copy_from_slice(data),
        &ChecksumCapabilities::ignored(),
    );
    packet
}

pub(crate) fn echo_request(from: IpAddr, to: IpAddr, ident: u16, data: &[u8]) -> Vec<u8> {
    icmp(
        from,
        to,
        |numbers| (numbers.echo_request, 0),
        ident,
        0,
        data,
    )
}

pub(crate) fn echo_reply(
    from: IpAddr,
    to: IpAddr,
    ident: u16,
    sequence: u16,
    data: &[u8],
) -> Vec<u8> {
    icmp(
        from,
        to,
        |numbers| (numbers.echo_reply, 0),
        ident,
        sequence,
        data,
    )
}

/// The answer to `packet`, which arrived at `from` for a port that is closed.
pub(crate) fn port_unreachable(from: IpAddr, to: IpAddr, packet: &[u8]) -> Vec<u8> {
    let quoted = &packet[..packet.len().min(MAX_QUOTED)];
    icmp(
        from,
        to,
        |numbers| (numbers.unreachable, numbers.port_unreachable),
        0,
        0,
        quoted,
    )
}

fn icmp(
    from: IpAddr,
    to: IpAddr,
    kind_and_code: impl Fn(&IcmpNumbers) -> (u8, u8),
    ident: u16,
    sequence: u16,
    data: &[u8],
) -> Vec<u8> {
    let (protocol, numbers) = match from {
        IpAddr::V4(_) => (IpProtocol::Icmp, &ICMP_V4),
        IpAddr::V6(_) => (IpProtocol::Icmpv6, &ICMP_V6),
    };
    let (mut packet, header) = ip_packet(from, to, protocol, ICMP_HEADER + data.len());
    let (kind, code) = kind_and_code(numbers);
    let message = &mut packet[header..];
    message[0] = kind;
    message[1] = code;
    message[4..6].copy_from_slice(&ident.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    message[ICMP_HEADER..].copy_from_slice(data);
    packet
}

/// A packet with its IP header filled in and a payload of zeros, and the place where that payload
/// starts.
fn ip_packet(
    from: IpAddr,
    to: IpAddr,
    protocol: IpProtocol,
    payload_len: usize,
) -> (Vec<u8>, usize) {
    let header = IpRepr::new(from.into(), to.into(), protocol, payload_len, HOP_LIMIT);
    let mut packet = vec![0; header.buffer_len()];
    header.emit(&mut packet[..], &ChecksumCapabilities::ignored());
    (packet, header.header_len())
}

/// Bytes of IP and UDP header in front of a datagram's payload.
pub(crate) fn udp_overhead(address: IpAddr) -> usize {
    ip_header(address) + UDP_HEADER
}

/// Bytes of IP and ICMP header in front of an echo request's payload.
pub(crate) fn icmp_overhead(address: IpAddr) -> usize {
    ip_header(address) + ICMP_HEADER
}

fn ip_header(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(_) => IPV4_HEADER,
        IpAddr::V6(_) => IPV6_HEADER,
    }
}

pub(crate) const HOP_LIMIT: u8 = 64;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const ICMPV4: u8 = 1;
const ICMPV6: u8 = 58;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;
/// Bytes of the offending packet quoted in an ICMP error: enough for its headers, and the error
/// stays below 576 bytes.
const MAX_QUOTED: usize = 500;

/// The two versions of ICMP differ in these numbers only, as far as we use them.
struct IcmpNumbers {
    echo_request: u8,
    echo_reply: u8,
    unreachable: u8,
    port_unreachable: u8,
}

const ICMP_V4: IcmpNumbers = IcmpNumbers {
    echo_request: 8,
    echo_reply: 0,
    unreachable: 3,
    port_unreachable: 3,
};
const ICMP_V6: IcmpNumbers = IcmpNumbers {
    echo_request: 128,
    echo_reply: 129,
    unreachable: 1,
    port_unreachable: 4,
};

#[cfg(test)]
mod tests;
