//! Properties over packets that were built and over noise.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Packet::parse(&bytes);
    }

    /// Nearly right packets get further into the parser than noise does.
    #[test]
    fn no_damage_makes_it_panic(
        packet in honest_packet(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = packet.bytes;
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = Packet::parse(&bytes);
        let _ = Packet::parse(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn an_honest_packet_is_read_as_it_was_built(packet in honest_packet()) {
        prop_assert_eq!(Packet::parse(&packet.bytes), Ok(packet.expected));
    }

    /// Facts of a packet that passes are found in its bytes alone, where the standards put them.
    #[test]
    fn what_passes_says_what_the_standards_say(bytes in nearly_ip()) {
        let Ok(packet) = Packet::parse(&bytes) else {
            return Ok(());
        };
        let transport = match packet.version() {
            Version::V4 => {
                prop_assert_eq!(packet.source, v4_at(&bytes, 12));
                prop_assert_eq!(packet.destination, v4_at(&bytes, 16));
                (bytes[9], &bytes[20..])
            }
            Version::V6 => {
                prop_assert_eq!(packet.source, v6_at(&bytes, 8));
                prop_assert_eq!(packet.destination, v6_at(&bytes, 24));
                (bytes[6], &bytes[40..])
            }
        };
        let number = match packet.protocol() {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Icmp if packet.version() == Version::V4 => 1,
            Protocol::Icmp => 58,
        };
        prop_assert_eq!(number, transport.0);
        if let Some((source, destination)) = packet.ports() {
            let ports = [source.to_be_bytes(), destination.to_be_bytes()].concat();
prop_assert_eq!(&ports, &transport.1[..4]);
        }
    }
}

#[derive(Debug)]
struct Honest {
    bytes: Vec<u8>,
    expected: Packet,
}

fn honest_packet() -> impl Strategy<Value = Honest> {
    let flags = prop::sample::select(vec![SYN, SYN | ACK, ACK, FIN | ACK, RST, RST | ACK, 0x18]);
    let payload = prop::collection::vec(any::<u8>(), 0..100);
    (
        any::<bool>(),
        0..3u8,
        1..=u16::MAX,
        1..=u16::MAX,
        flags,
        payload,
    )
        .prop_map(
            |(six, kind, source_port, destination_port, flags, payload)| {
                let (transport, protocol, body) = match kind {
                    0 => (
                        Transport::Tcp {
                            source_port,
                            destination_port,
                            flags: TcpFlags(flags),
                        },
                        PROTO_TCP,
                        [
                            tcp(source_port, destination_port, flags, &[4, 2, 1, 1]),
                            payload,
                        ]
                        .concat(),
                    ),
                    1 => (
                        Transport::Udp {
                            source_port,
                            destination_port,
                        },
                        PROTO_UDP,
                        udp(source_port, destination_port, &payload),
                    ),
                    _ => {
                        let (kind, protocol) = if six {
                            (129, PROTO_ICMPV6)
                        } else {
                            (0, PROTO_ICMP)
                        };
                        (
                            Transport::Icmp(IcmpKind::EchoReply),
                            protocol,
                            [&[kind, 0, 1, 2, 3, 4, 5, 6][..], &payload].concat(),
                        )
                    }
                };
                let (bytes, source, destination) = if six {
                    (v6(protocol, &body), A6.into(), B6.into())
                } else {
                    (v4(protocol, &body), A4.into(), B4.into())
                };
                Honest {
                    bytes,
                    expected: Packet {
                        source,
                        destination,
                        transport,
                    },
                }
            },
        )
}

fn v4_at(bytes: &[u8], at: usize) -> IpAddr {
    let octets: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
    octets.into()
}

fn v6_at(bytes: &[u8], at: usize) -> IpAddr {
    let octets: [u8; 16] = bytes[at..at + 16].try_into().unwrap();
    octets.into()
}

/// Noise after correct versions, lengths and often correct protocols: much of it passes.
fn nearly_ip() -> impl Strategy<Value = Vec<u8>> {
    let protocol = prop::sample::select(vec![1, 6, 6, 6, 17, 17, 58, 0, 44]);
    let noise = prop::collection::vec(any::<u8>(), 8..60);
    (any::<bool>(), protocol, noise, any::<u8>()).prop_map(|(six, protocol, mut body, flags)| {
        let len = body.len() as u16;
        match protocol {
            6 if body.len() >= 20 => body[12..14].copy_from_slice(&[0x50, flags]),
            17 => body[4..6].copy_from_slice(&len.to_be_bytes()),
            1 => body[..2].copy_from_slice(&[flags & 8, 0]),
            58 => body[..2].copy_from_slice(&[128 | flags & 1, 0]),
            _ => {}
        }
        if six {
            v6(protocol, &body)
        } else {
            v4(protocol, &body)
        }
    })
}
