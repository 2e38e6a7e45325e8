use overlan_protocol::frame::{BODY_MAX, Frame, decode};
use overlan_protocol::hello::Welcome;
use overlan_protocol::key::DeviceId;

use super::*;
use crate::switch::AttachId;

const fn host(number: u32) -> HostIndex {
    HostIndex::new(number).unwrap()
}

const TO: Place = Place {
    vni: 0x1000,
    host: host(2),
};

fn receiver() -> Arc<Client> {
    let welcome = Welcome {
        version: 1,
        credit_window: 1_000,
        keepalive_ms: 1_000,
        reconnect_spread_ms: 0,
    };
    Client::new(AttachId(1), DeviceId([1; 16]), welcome, Vec::new(), 1 << 20)
}

/// Flow, first byte and length of each frame in a run.
fn frames(run: &Run) -> Vec<(u8, u8, usize)> {
    let mut rest = &run.bytes[..];
    let mut found = Vec::new();
    while let Some((frame, length)) = decode(rest, BODY_MAX).unwrap() {
        let Frame::Data { address, message } = frame else {
            panic!("{frame:?}");
        };
        assert_eq!((address.vni, address.host), (TO.vni, 9), "stamped");
        found.push((address.flow, message[0], message.len()));
        rest = &rest[length..];
    }
    assert_eq!(found.len(), run.frames as usize);
    found
}

#[test]
fn frames_of_one_flow_are_joined_up_to_a_record_and_keep_their_order() {
    let pool = Pool::default();
    let mut gathering = Gathering::new(TO, Some((receiver(), host(9))), 1 << 20, VecDeque::new());
    for (number, (flow, length)) in [
        (1, 100),
        (1, 200),
        (2, 300),
        (1, 400),
        (1, BUFFER - DATA_HEADER_LEN),
        (1, 60_000),
        (1, 10),
    ]
    .into_iter()
    .enumerate()
    {
        let message = vec![number as u8; length];
        gathering.add(&pool, flow, &message).unwrap();
    }
    gathering.trim_last(&pool);
    let runs: Vec<_> = gathering.runs.iter().map(frames).collect();
    let expected = [
        vec![(1, 0, 100), (1, 1, 200)],
        vec![(2, 2, 300)],
        vec![(1, 3, 400)],
        vec![(1, 4, BUFFER - DATA_HEADER_LEN)],
        vec![(1, 5, 60_000)],
        vec![(1, 6, 10)],
    ];
    assert_eq!(runs, expected);
    for run in &gathering.runs {
        let wasted = run.bytes.capacity() - run.bytes.len();
        assert!(
            wasted <= 512 || run.bytes.len() >= LARGE,
            "small runs keep little memory"
        );
    }
    assert_eq!(pool.free(), 1, "the buffer of the small ones went round");
}

#[test]
fn credit_ends_within_a_batch_behind_the_frame_that_crosses_it() {
    let pool = Pool::default();
    let mut gathering = Gathering::new(TO, Some((receiver(), host(9))), 150, VecDeque::new());
    assert_eq!(gathering.add(&pool, 1, &[0; 100]), Ok(()));
    assert_eq!(gathering.add(&pool, 1, &[0; 100]), Ok(()));
    assert_eq!(gathering.add(&pool, 1, &[0; 1]), Err(Overrun));
    assert_eq!(gathering.bytes, 2 * (100 + DATA_HEADER_LEN));
}

#[test]
fn for_nobody_frames_are_counted_and_not_kept() {
    let pool = Pool::default();
    let mut gathering = Gathering::new(TO, None, 1 << 20, VecDeque::new());
    gathering.add(&pool, 1, &[0; 100]).unwrap();
    assert_eq!(gathering.bytes, 100 + DATA_HEADER_LEN);
    assert!(gathering.runs.is_empty());
}
