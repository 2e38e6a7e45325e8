use super::*;
use proptest::prelude::*;

const ADDRESS: Address = Address {
    vni: 0x00_1234,
    flow: 0x56,
    host: 0x0000_0789,
};

fn check_golden(frame: Frame<'_>, golden: &[u8]) {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    assert_eq!(bytes, golden, "{frame:?} encodes to its golden bytes");
    assert_eq!(decode(&bytes, BODY_MAX), Ok(Some((frame, golden.len()))));
}

/// The same bytes stand in `docs/protocol.md`; `golden_bytes_stand_in_the_protocol_document`
/// compares them.
fn goldens() -> Vec<(Frame<'static>, Vec<u8>)> {
    vec![
        (
            Frame::Ping {
                token: 0x0102030405060708,
            },
            vec![0x04, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        ),
        (
            Frame::Pong {
                token: 0x0102030405060708,
            },
            vec![0x05, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        ),
        (
            Frame::Drain { within_ms: 5_000 },
            vec![0x06, 0, 0, 4, 0, 0, 0x13, 0x88],
        ),
        (
            Frame::Data {
                address: ADDRESS,
                message: b"sealed",
            },
            vec![
                0x10, 0, 0, 14, 0x00, 0x12, 0x34, 0x56, 0, 0, 0x07, 0x89, b's', b'e', b'a', b'l',
                b'e', b'd',
            ],
        ),
        (
            Frame::Credit {
                address: Address { flow: 0, ..ADDRESS },
                released: 0x1_0000_0000,
                window: 524_288,
            },
            vec![
                0x11, 0, 0, 20, 0x00, 0x12, 0x34, 0, 0, 0, 0x07, 0x89, 0, 0, 0, 1, 0, 0, 0, 0, 0,
                8, 0, 0,
            ],
        ),
        (
            Frame::PeerGone {
                address: Address { flow: 0, ..ADDRESS },
                reason: GoneReason::NotHere,
            },
            vec![0x12, 0, 0, 9, 0x00, 0x12, 0x34, 0, 0, 0, 0x07, 0x89, 1],
        ),
    ]
}

#[test]
fn frames_match_their_golden_bytes() {
    for (frame, golden) in goldens() {
        check_golden(frame, &golden);
    }
}

#[test]
fn golden_bytes_stand_in_the_protocol_document() {
    let document = include_str!("../../../docs/protocol.md");
    for (frame, golden) in goldens() {
        let hex = golden
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<Vec<_>>()
            .join(" ");
        assert!(
            document.contains(&hex),
            "docs/protocol.md lacks {frame:?}: {hex}"
        );
    }
}

#[test]
fn an_unknown_kind_is_skipped_by_its_length() {
    let bytes = [
        0x7f, 0, 0, 3, 9, 9, 9, 0x04, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1,
    ];
    let (frame, taken) = decode(&bytes, BODY_MAX).unwrap().unwrap();
    assert_eq!((frame, taken), (Frame::Unknown { kind: 0x7f }, 7));
    let (frame, _) = decode(&bytes[taken..], BODY_MAX).unwrap().unwrap();
    assert_eq!(frame, Frame::Ping { token: 1 });
}

#[test]
fn every_truncation_waits_for_more_and_never_panics() {
    for (_, golden) in goldens() {
        for end in 0..golden.len() {
            assert_eq!(decode(&golden[..end], BODY_MAX), Ok(None));
        }
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_the_body_arrives() {
    assert_eq!(
        decode(&[kind::HELLO, 0, 0x10, 0x01], UNPROVEN_BODY_MAX),
        Err(FrameError::TooLong {
            kind: kind::HELLO,
            length: 4097,
            max: UNPROVEN_BODY_MAX
        })
    );
    assert!(decode(&[kind::DATA, 0xff, 0xff, 0xff], BODY_MAX).is_err());
}

#[test]
fn a_body_shorter_than_its_fixed_part_is_an_error() {
    assert_eq!(
        decode(&[kind::PING, 0, 0, 1, 0], BODY_MAX),
        Err(FrameError::TooShort { kind: kind::PING })
    );
    assert_eq!(
        decode(&[kind::DATA, 0, 0, 4, 0, 0, 0, 0], BODY_MAX),
        Err(FrameError::TooShort { kind: kind::DATA })
    );
}

#[test]
fn reserved_network_numbers_are_not_vnis() {
    assert!(Vni::new(0).is_none() && Vni::new(0xfff).is_none() && Vni::new(0xff_ffff).is_none());
    assert_eq!(Vni::new(0x1000).map(Vni::get), Some(0x1000));
}

proptest! {
    #[test]
    fn data_round_trips(
        vni in 0u32..1 << 24,
        flow: u8,
        host: u32,
        message in proptest::collection::vec(any::<u8>(), 0..2048),
    ) {
        let address = Address { vni, flow, host };
        let mut bytes = Vec::new();
        Frame::Data { address, message: &message }.encode(&mut bytes);
        prop_assert_eq!(&bytes[..DATA_HEADER_LEN], &data_header(address, message.len())[..]);
        let decoded = decode(&bytes, BODY_MAX).unwrap();
        prop_assert_eq!(decoded, Some((Frame::Data { address, message: &message }, bytes.len())));
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_take_more_than_there_is(
        bytes in proptest::collection::vec(any::<u8>(), 0..512),
    ) {
        if let Ok(Some((_, taken))) = decode(&bytes, BODY_MAX) {
            prop_assert!(taken <= bytes.len());
        }
    }
}
