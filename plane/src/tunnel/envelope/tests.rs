use super::*;
use proptest::prelude::*;

#[test]
fn every_message_reads_back() {
    let noise_1 = [7; NOISE_1_LEN];
    assert_eq!(
        parse(&init(0x0102_0304, &noise_1)),
        Some(Message::Init {
            sender: 0x0102_0304,
            noise: &noise_1
        })
    );
    let noise_2 = [8; NOISE_2_LEN];
    assert_eq!(
        parse(&response(1, 2, &noise_2)),
        Some(Message::Response {
            sender: 1,
            receiver: 2,
            noise: &noise_2
        })
    );
    let keepalive = [&transport_header(9, 10)[..], &[0; TAG_LEN]].concat();
    assert_eq!(
        parse(&keepalive),
        Some(Message::Transport {
            receiver: 9,
            counter: 10
        })
    );
}

/// The bytes a second implementation has to produce.
#[test]
fn the_bytes_are_where_the_protocol_says() {
    assert_eq!(
        init(0x0a0b_0c0d, &[0xee; NOISE_1_LEN])[..9],
        [1, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0x0d, 0xee]
    );
    assert_eq!(
        response(0x0a0b_0c0d, 1, &[0xee; NOISE_2_LEN])[..13],
        [2, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0x0d, 0, 0, 0, 1, 0xee]
    );
    assert_eq!(
        transport_header(0x0a0b_0c0d, 0x0102_0304_0506_0708),
        [4, 0, 0, 0, 0x0a, 0x0b, 0x0c, 0x0d, 1, 2, 3, 4, 5, 6, 7, 8]
    );
}

#[test]
fn lengths_are_exact() {
    let messages = [
        init(1, &[0; NOISE_1_LEN]),
        response(1, 2, &[0; NOISE_2_LEN]),
    ];
    for message in messages {
        assert_eq!(parse(&message[..message.len() - 1]), None);
        assert_eq!(parse(&[&message[..], &[0]].concat()), None);
    }
    let mut transport = vec![0; TRANSPORT_HEADER_LEN + MAX_PACKET_LEN + TAG_LEN];
    transport[0] = TYPE_TRANSPORT;
    assert!(parse(&transport).is_some());
    assert_eq!(
        parse(&transport[..TRANSPORT_HEADER_LEN + TAG_LEN - 1]),
        None
    );
    transport.push(0);
    assert_eq!(parse(&transport), None);
}

#[test]
fn reserved_bytes_and_unknown_types_are_refused() {
    let good = [&transport_header(9, 10)[..], &[0; TAG_LEN]].concat();
    for reserved in 1..4 {
        let mut message = good.clone();
        message[reserved] = 1;
        assert_eq!(parse(&message), None);
    }
    for kind in [0, 3, 5, 255] {
        let mut message = good.clone();
        message[0] = kind;
        assert_eq!(parse(&message), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(kind in 0..6u8, rest in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&rest);
        let _ = parse(&[&[kind, 0, 0, 0], &rest[..]].concat());
    }
}
