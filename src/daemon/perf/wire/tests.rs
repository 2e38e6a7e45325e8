use proptest::prelude::*;

use super::super::{SECONDS_MAX, STREAMS_MAX};
use super::*;

fn any_message() -> impl Strategy<Value = Message> {
    let plan = (1..=SECONDS_MAX, 0..=STREAMS_MAX, 0..=STREAMS_MAX)
        .prop_map(|(seconds, up, down)| Plan::new(seconds, up, down).unwrap());
    let role = prop_oneof![
        any::<u8>().prop_map(Role::Up),
        any::<u8>().prop_map(Role::Down),
        Just(Role::Echo),
    ];
    let counts = (
        any::<u64>(),
        any::<[u64; FIELDS]>(),
        prop::collection::vec(any::<u64>(), 0..=usize::from(STREAMS_MAX)),
    )
        .prop_map(|(elapsed_us, fields, received)| {
            Message::Counts(Counts {
                elapsed_us,
                sample: Sample::from_fields(fields),
                received,
            })
        });
    prop_oneof![
        (any::<SessionId>(), plan).prop_map(|(session, plan)| Message::Open { session, plan }),
        (any::<SessionId>(), role).prop_map(|(session, role)| Message::Join { session, role }),
        Just(Message::Start),
        Just(Message::Ask),
        Just(Message::Ready),
        Just(Message::Refused(Refused::Busy)),
        Just(Message::Refused(Refused::Unknown)),
        counts,
    ]
}

fn parts(bytes: &[u8]) -> (u8, &[u8]) {
    let body = &bytes[HEADER_LEN..];
    assert_eq!(
        usize::from(u16::from_be_bytes([bytes[1], bytes[2]])),
        body.len()
    );
    (bytes[0], body)
}

proptest! {
    #[test]
    fn what_is_encoded_comes_back(message in any_message()) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let (kind, body) = parts(&bytes);
        prop_assert!(body.len() <= BODY_MAX);
        prop_assert_eq!(Message::decode(kind, body), Ok(message.clone()));
        // Nothing shorter is the same message.
        for length in 0..body.len() {
            prop_assert_ne!(Message::decode(kind, &body[..length]), Ok(message.clone()));
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_garbled(
        kind in 0_u8..9,
        body in prop::collection::vec(any::<u8>(), 0..BODY_MAX),
    ) {
        if let Ok(message) = Message::decode(kind, &body) {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            prop_assert_eq!(parts(&bytes), (kind, &body[..]));
        }
    }
}

#[test]
fn the_first_message_is_fixed_in_bytes() {
    let mut bytes = Vec::new();
    let plan = Plan::new(300, 2, 1).unwrap();
    let session = [0xab; 16];
    Message::Open { session, plan }.encode(&mut bytes);
    let mut golden = vec![1, 0, 21, 1];
    golden.extend_from_slice(&[0xab; 16]);
    golden.extend_from_slice(&[1, 44, 2, 1]);
    assert_eq!(bytes, golden);
}

#[test]
fn plans_beyond_the_limits_and_other_versions_are_garbled() {
    let open = |version: u8, seconds: u16, up: u8| {
        let mut body = vec![version];
        body.extend_from_slice(&[0; 16]);
        body.extend_from_slice(&seconds.to_be_bytes());
        body.extend_from_slice(&[up, 0]);
        Message::decode(kind::OPEN, &body)
    };
    assert!(open(VERSION, 5, 1).is_ok());
    assert_eq!(open(VERSION + 1, 5, 1), Err(Garbled));
    assert_eq!(open(VERSION, 0, 1), Err(Garbled));
    assert_eq!(open(VERSION, SECONDS_MAX + 1, 1), Err(Garbled));
    assert_eq!(open(VERSION, 5, STREAMS_MAX + 1), Err(Garbled));
    let beyond = vec![0; BODY_MAX + 8];
    assert_eq!(Message::decode(kind::COUNTS, &beyond), Err(Garbled));
}
