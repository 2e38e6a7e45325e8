use super::*;

fn ends(v6: bool) -> (SocketAddr, SocketAddr) {
    if v6 {
        (
            "[fd00::1]:1000".parse().unwrap(),
            "[fd00::2]:53".parse().unwrap(),
        )
    } else {
        (
            "100.64.0.1:1000".parse().unwrap(),
            "100.64.0.2:53".parse().unwrap(),
        )
    }
}

#[test]
fn what_is_built_is_understood() {
    for v6 in [false, true] {
        let (from, to) = ends(v6);
        let packet = udp_datagram(from, to, b"data");
        let ip = parse(&packet).unwrap();
        assert_eq!((ip.source, ip.destination), (from.ip(), to.ip()));
        assert!(matches!(
            ip.payload,
            Payload::Udp {
                source: 1000,
                destination: 53,
                data: b"data"
            }
        ));
        assert_eq!(super::ends(&packet), Some((from, to)));

        let packet = echo_request(from.ip(), to.ip(), 7, b"ping");
        let Payload::Icmp(Icmp::EchoRequest {
            ident: 7,
            sequence: 0,
            data: b"ping",
        }) = parse(&packet).unwrap().payload
        else {
            panic!("not the request that was built");
        };
        let packet = echo_reply(from.ip(), to.ip(), 7, 3, b"pong");
        assert!(matches!(
            parse(&packet).unwrap().payload,
            Payload::Icmp(Icmp::EchoReply {
                ident: 7,
                data: b"pong"
            })
        ));
    }
}

#[test]
fn an_unreachable_quotes_what_it_complains_of() {
    for v6 in [false, true] {
        let (from, to) = ends(v6);
        let offender = udp_datagram(from, to, &[0; 5_000]);
        let packet = port_unreachable(to.ip(), from.ip(), &offender);
        assert!(packet.len() < 576);
        let Payload::Icmp(Icmp::Unreachable {
            port: true,
            original,
        }) = parse(&packet).unwrap().payload
        else {
            panic!("not the error that was built");
        };
        assert_eq!(
            (original.source, original.destination, original.protocol),
            (from, to, UDP)
        );
    }
}

#[test]
fn a_reset_answers_what_it_is_for() {
    let (from, to) = ends(false);
    let syn = Tcp {
        source: 53,
        destination: 1_000,
        seq: u32::MAX,
        ack: None,
        syn: true,
        fin: false,
        rst: false,
        window: 0,
        payload_len: 0,
    };
    let reset = emitted_tcp(&reset_for(from, to, &syn)).unwrap();
    assert!(reset.rst);
    assert_eq!((reset.seq, reset.ack), (0, Some(0)));
    let data = Tcp {
        ack: Some(77),
        syn: false,
        payload_len: 10,
        ..syn
    };
    let reset = emitted_tcp(&reset_for(from, to, &data)).unwrap();
    assert_eq!((reset.seq, reset.ack), (77, None));
}

#[test]
fn every_truncation_is_refused() {
    for v6 in [false, true] {
        let (from, to) = ends(v6);
        for packet in [
            udp_datagram(from, to, b"data"),
            final_ack(from, to, 1, 2),
            echo_reply(from.ip(), to.ip(), 1, 1, b"x"),
        ] {
            assert!(parse(&packet).is_ok());
            for len in 0..packet.len() {
                assert_eq!(parse(&packet[..len]).unwrap_err(), Unusable::Malformed);
            }
        }
    }
}

#[test]
fn options_and_extension_headers_are_refused() {
    let (from, to) = ends(false);
    let mut options = udp_datagram(from, to, b"data");
    options[0] = 0x46;
    assert_eq!(parse(&options).unwrap_err(), Unusable::Unsupported);
    let (from, to) = ends(true);
    for header in [0, 43, 44, 60] {
        let mut extended = udp_datagram(from, to, b"data");
        extended[6] = header;
        assert_eq!(parse(&extended).unwrap_err(), Unusable::Unsupported);
    }
}

#[test]
fn narrowing_a_window_stops_at_zero() {
    let (from, to) = ends(true);
    let mut packet = final_ack(from, to, 1, 2);
    narrow_window(&mut packet);
    let window = |packet: &[u8]| TcpPacket::new_checked(&packet[40..]).unwrap().window_len();
    assert_eq!(window(&packet), 0);
    TcpPacket::new_unchecked(&mut packet[40..]).set_window_len(9);
    narrow_window(&mut packet);
    assert_eq!(window(&packet), 8);
}
