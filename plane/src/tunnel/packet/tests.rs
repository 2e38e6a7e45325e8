use super::*;

mod properties;

const A4: [u8; 4] = [100, 64, 0, 1];
const B4: [u8; 4] = [100, 64, 0, 2];
const A6: [u8; 16] = [0xfd, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 1];
const B6: [u8; 16] = [0xfd, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0, 0, 0, 0, 2];

#[test]
fn tcp_is_read_in_both_versions() {
    let segment = tcp(40_000, 443, SYN, &[2, 4, 0x05, 0xb4, 1, 3, 3, 7]);
    for packet in [v4(PROTO_TCP, &segment), v6(PROTO_TCP, &segment)] {
        let parsed = Packet::parse(&packet).unwrap();
        assert_eq!(parsed.ports(), Some((40_000, 443)));
        assert_eq!(parsed.protocol(), Protocol::Tcp);
        let Transport::Tcp { flags, .. } = parsed.transport else {
            panic!("{parsed:?}");
        };
        assert!(flags.opens() && flags.syn() && !flags.ack() && !flags.fin() && !flags.rst());
        assert_eq!(flags.bits(), SYN);
    }
}

#[test]
fn addresses_and_versions_are_read() {
    let parsed = Packet::parse(&v4(PROTO_UDP, &udp(1, 2, b"x"))).unwrap();
    assert_eq!(parsed.version(), Version::V4);
    assert_eq!(parsed.source, IpAddr::from(A4));
    assert_eq!(parsed.destination, IpAddr::from(B4));
    let parsed = Packet::parse(&v6(PROTO_UDP, &udp(1, 2, b"x"))).unwrap();
    assert_eq!(parsed.version(), Version::V6);
    assert_eq!(parsed.source, IpAddr::from(A6));
    assert_eq!(parsed.destination, IpAddr::from(B6));
}

/// A ping written out by hand, so that the builders below cannot hide a mistake they share with the
/// parser.
#[test]
fn a_ping_written_out_is_read() {
    let ping = data_encoding::HEXLOWER
        .decode(
            b"4500005400004000400126a77f0000017f0000010800d0e0000100015b3c5b6600000000\
              d2c3010000000000101112131415161718191a1b1c1d1e1f202122232425262728292a2b\
              2c2d2e2f3031323334353637"
                .iter()
                .filter(|byte| !byte.is_ascii_whitespace())
                .copied()
                .collect::<Vec<_>>()
                .as_slice(),
        )
        .unwrap();
    assert_eq!(ping.len(), 0x54);
    assert_eq!(
        Packet::parse(&ping),
        Ok(Packet {
            source: [127, 0, 0, 1].into(),
            destination: [127, 0, 0, 1].into(),
            transport: Transport::Icmp(IcmpKind::EchoRequest),
        })
    );
}

#[test]
fn icmp_passes_for_ping_and_unreachable_only() {
    let accepted_v4 = [
        (8, 0, IcmpKind::EchoRequest),
        (0, 0, IcmpKind::EchoReply),
        (3, 0, IcmpKind::Unreachable),
        (3, 15, IcmpKind::Unreachable),
    ];
    let accepted_v6 = [
        (128, 0, IcmpKind::EchoRequest),
        (129, 0, IcmpKind::EchoReply),
        (1, 0, IcmpKind::Unreachable),
        (1, 8, IcmpKind::Unreachable),
    ];
    for (accepted, build, codes) in [
        (accepted_v4, v4_icmp as fn(u8, u8) -> Vec<u8>, 16),
        (accepted_v6, v6_icmp as fn(u8, u8) -> Vec<u8>, 9),
    ] {
        for (kind, code, expected) in accepted {
            let parsed = Packet::parse(&build(kind, code)).unwrap();
            assert_eq!(parsed.transport, Transport::Icmp(expected));
            assert_eq!((parsed.protocol(), parsed.ports()), (Protocol::Icmp, None));
        }
        let passing = (0..=255)
            .flat_map(|kind| (0..=255).map(move |code| (kind, code)))
            .filter(|(kind, code)| Packet::parse(&build(*kind, *code)).is_ok())
            .count();
        assert_eq!(passing, 2 + codes, "no other type or code");
    }
}

#[test]
fn icmp_of_the_other_version_is_refused() {
    let echo = [128, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(
        Packet::parse(&v4(PROTO_ICMPV6, &echo)),
        Err(Reject::Protocol)
    );
    assert_eq!(Packet::parse(&v6(PROTO_ICMP, &echo)), Err(Reject::Protocol));
}

#[test]
fn every_other_protocol_is_refused() {
    let payload = tcp(1, 2, ACK, &[]);
    for protocol in 0..=255 {
        let v4_passes = Packet::parse(&v4(protocol, &payload)) != Err(Reject::Protocol);
        assert_eq!(v4_passes, [1, 6, 17].contains(&protocol), "{protocol}");
        // Hop-by-hop, routing, fragment and destination options are among the refused.
        let v6_passes = Packet::parse(&v6(protocol, &payload)) != Err(Reject::Protocol);
        assert_eq!(v6_passes, [6, 17, 58].contains(&protocol), "{protocol}");
    }
}

#[test]
fn neither_version_four_nor_six_is_refused() {
    for version in (0..16).filter(|version| ![4, 6].contains(version)) {
        let mut packet = v4(PROTO_UDP, &udp(1, 2, b""));
        packet[0] = version << 4 | 5;
        assert_eq!(Packet::parse(&packet), Err(Reject::Version));
    }
    assert_eq!(Packet::parse(&[]), Err(Reject::Truncated));
}

#[test]
fn ipv4_options_are_refused() {
    for ihl in (0..16).filter(|ihl| *ihl != 5) {
        let mut packet = v4(PROTO_TCP, &[0; 64]);
        packet[0] = 0x40 | ihl;
        assert_eq!(Packet::parse(&packet), Err(Reject::IpOptions));
    }
}

#[test]
fn every_kind_of_fragment_is_refused() {
    for bit in 0..16 {
        let mut packet = v4(PROTO_UDP, &udp(1, 2, b"part"));
        let field = 1u16 << bit;
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        let expected = if field == 0x4000 {
            Ok(())
        } else {
            Err(Reject::Fragment)
        };
        assert_eq!(Packet::parse(&packet).map(|_| ()), expected, "bit {bit}");
    }
}

#[test]
fn lengths_are_exact() {
    for build in [v4 as fn(u8, &[u8]) -> Vec<u8>, v6] {
        let packet = build(PROTO_UDP, &udp(1, 2, b"payload"));
        assert!(Packet::parse(&packet).is_ok());
        for len in 0..packet.len() {
            assert!(Packet::parse(&packet[..len]).is_err(), "cut to {len}");
        }
        let longer = [&packet[..], &[0]].concat();
        assert_eq!(Packet::parse(&longer), Err(Reject::Length));
        // The same within the datagram, where only UDP's own length disagrees.
        let mut short = udp(1, 2, b"payload");
        short[5] -= 1;
        assert_eq!(
            Packet::parse(&build(PROTO_UDP, &short)),
            Err(Reject::Length)
        );
        let mut long = udp(1, 2, b"payload");
        long[5] += 1;
        assert_eq!(Packet::parse(&build(PROTO_UDP, &long)), Err(Reject::Length));
    }
}

#[test]
fn incomplete_transport_headers_are_refused() {
    for (protocol, header) in [
        (PROTO_TCP, tcp(1, 2, ACK, &[])),
        (PROTO_UDP, udp(1, 2, b"")),
        (PROTO_ICMP, vec![8, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        assert!(Packet::parse(&v4(protocol, &header)).is_ok());
        for len in 0..header.len() {
            let cut = v4(protocol, &header[..len]);
            assert_eq!(
                Packet::parse(&cut),
                Err(Reject::Truncated),
                "{protocol} cut to {len}"
            );
        }
    }
    let mut options_missing = tcp(1, 2, ACK, &[]);
    options_missing[12] = 6 << 4;
    assert_eq!(
        Packet::parse(&v4(PROTO_TCP, &options_missing)),
        Err(Reject::Truncated)
    );
    for words in 0..5 {
        let mut impossible = tcp(1, 2, ACK, &[]);
        impossible[12] = words << 4;
        assert_eq!(
            Packet::parse(&v4(PROTO_TCP, &impossible)),
            Err(Reject::Length)
        );
    }
}

#[test]
fn port_zero_is_refused() {
    for (source, destination) in [(0, 80), (80, 0), (0, 0)] {
        let segment = tcp(source, destination, ACK, &[]);
        assert_eq!(
            Packet::parse(&v4(PROTO_TCP, &segment)),
            Err(Reject::PortZero)
        );
        let datagram = udp(source, destination, b"");
        assert_eq!(
            Packet::parse(&v6(PROTO_UDP, &datagram)),
            Err(Reject::PortZero)
        );
    }
}

#[test]
fn only_flags_of_an_honest_connection_pass() {
    for flags in 0..=255u8 {
        let segment = tcp(1, 2, flags, &[]);
        let [fin, syn, rst, ack] = [FIN, SYN, RST, ACK].map(|bit| flags & bit != 0);
        let honest = matches!(
            (syn, fin, rst, ack),
            (true, false, false, _) | (false, false, true, _) | (false, _, false, true)
        );
        let expected = if honest {
            Ok(())
        } else {
            Err(Reject::TcpFlags)
        };
        assert_eq!(
            Packet::parse(&v4(PROTO_TCP, &segment)).map(|_| ()),
            expected,
            "{flags:#010b}"
        );
    }
    for reserved in 1..16 {
        let mut segment = tcp(1, 2, ACK, &[]);
        segment[12] |= reserved;
        assert_eq!(
            Packet::parse(&v4(PROTO_TCP, &segment)),
            Err(Reject::TcpFlags)
        );
    }
}

#[test]
fn the_listed_tcp_options_pass() {
    let timestamps = [8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let linux_syn = [&[2, 4, 5, 0xb4, 4, 2][..], &timestamps, &[1, 3, 3, 7]].concat();
    let sack =
        |blocks: usize| [&[1, 1, 5, 2 + 8 * blocks as u8][..], &vec![9; 8 * blocks]].concat();
    for options in [
        vec![],
        vec![1, 1, 1, 1],
        vec![0, 0, 0, 0],
        vec![1, 0, 0, 0],
        vec![2, 4, 5, 0xb4],
        linux_syn,
        sack(1),
        sack(4),
        [&[1, 1][..], &timestamps, &sack(3)].concat(),
    ] {
        let segment = tcp(1, 2, ACK, &options);
        assert!(
            Packet::parse(&v4(PROTO_TCP, &segment)).is_ok(),
            "{options:?}"
        );
    }
}

#[test]
fn other_and_malformed_tcp_options_are_refused() {
    for options in [
        vec![19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], // MD5
        vec![34, 4, 0, 0],                                                  // Fast Open
        vec![253, 4, 0, 0],                                                 // experimental
        vec![2, 3, 5, 0xb4],                                                // MSS too short
        vec![2, 0, 0, 0],                         // a length that goes nowhere
        vec![1, 1, 1, 2],                         // ends before its length
        vec![1, 1, 2, 4],                         // ends before its value
        vec![5, 2, 1, 1],                         // SACK without blocks
        vec![5, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], // half a SACK block
        vec![3, 4, 7, 0],                         // window scale too long
        vec![0, 2, 4, 5],                         // something after the end
    ] {
        let segment = tcp(1, 2, ACK, &options);
        assert_eq!(
            Packet::parse(&v4(PROTO_TCP, &segment)),
            Err(Reject::TcpOptions),
            "{options:?}"
        );
    }
}

#[test]
fn reasons_have_distinct_stable_names() {
    let names: std::collections::BTreeSet<_> = Reject::ALL.map(Reject::name).into();
    assert_eq!(names.len(), Reject::ALL.len());
    assert_eq!(Reject::IpOptions.name(), "ip_options");
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0, len.to_be_bytes()[0], len.to_be_bytes()[1]];
    packet.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(A4);
    packet.extend(B4);
    packet.extend(payload);
    packet
}

fn v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend(A6);
    packet.extend(B6);
    packet.extend(payload);
    packet
}

fn tcp(source: u16, destination: u16, flags: u8, options: &[u8]) -> Vec<u8> {
    assert_eq!(options.len() % 4, 0);
    let mut segment = Vec::new();
    segment.extend(source.to_be_bytes());
    segment.extend(destination.to_be_bytes());
    segment.extend([1, 2, 3, 4, 5, 6, 7, 8]);
    segment.extend([((5 + options.len() / 4) as u8) << 4, flags]);
    segment.extend([0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(options);
    segment
}

fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend(source.to_be_bytes());
    datagram.extend(destination.to_be_bytes());
    datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

fn v4_icmp(kind: u8, code: u8) -> Vec<u8> {
    v4(PROTO_ICMP, &[kind, code, 0, 0, 0, 0, 0, 0])
}

fn v6_icmp(kind: u8, code: u8) -> Vec<u8> {
    v6(PROTO_ICMPV6, &[kind, code, 0, 0, 0, 0, 0, 0])
}
