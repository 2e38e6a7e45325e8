use super::*;

const BULK: AttachId = AttachId(1);
const SPARSE: AttachId = AttachId(2);

fn to(host: u32) -> Destination {
    Destination { vni: 0x1000, host }
}

fn push(egress: &mut Egress<&'static str>, id: AttachId, flow: u8, frame: Vec<u8>) {
    let source = if id == BULK { "bulk" } else { "sparse" };
    egress.push(id, &source, flow, to(9), frame).unwrap();
}

#[test]
fn a_sparse_source_waits_for_one_quantum_of_a_bulk_source() {
    let mut egress = Egress::new();
    for _ in 0..32 {
        push(&mut egress, BULK, 1, vec![0; QUANTUM]);
    }
    push(&mut egress, SPARSE, 1, vec![1; 100]);
    let first = egress.take(2 * QUANTUM);
    let lengths: Vec<usize> = first.iter().map(Vec::len).collect();
    assert_eq!(lengths, [QUANTUM, 100, QUANTUM]);
}

#[test]
fn two_busy_sources_get_the_same_bytes_whatever_their_frame_sizes() {
    let mut egress = Egress::new();
    for _ in 0..16 {
        push(&mut egress, BULK, 1, vec![1; 65_000]);
    }
    for _ in 0..1_040 {
        push(&mut egress, SPARSE, 1, vec![2; 1_000]);
    }
    let mut bytes = [0_usize; 2];
    for frame in egress.take(800_000) {
        bytes[usize::from(frame[0]) - 1] += frame.len();
    }
    let difference = bytes[0].abs_diff(bytes[1]);
    assert!(difference <= 65_000 + QUANTUM, "{bytes:?}");
}

#[test]
fn many_flows_do_not_make_a_source_bigger_than_another() {
    let mut egress = Egress::new();
    for flow in 0..=255 {
        push(&mut egress, BULK, flow, vec![1; QUANTUM]);
    }
    for _ in 0..64 {
        push(&mut egress, SPARSE, 0, vec![2; QUANTUM]);
    }
    let frames = egress.take(64 * QUANTUM);
    assert_eq!(frames.iter().filter(|frame| frame[0] == 2).count(), 32);
}

#[test]
fn a_small_flow_does_not_wait_behind_a_big_flow_of_its_own_source() {
    let mut egress = Egress::new();
    for _ in 0..32 {
        push(&mut egress, BULK, 1, vec![1; 1_000]);
    }
    push(&mut egress, BULK, 2, vec![2; 10]);
    let frames = egress.take(2_000);
    assert_eq!(frames[1], vec![2; 10]);
}

#[test]
fn frames_of_one_flow_keep_their_order() {
    let mut egress = Egress::new();
    for number in 0..100 {
        push(&mut egress, BULK, 1, vec![number; 700]);
        push(&mut egress, SPARSE, 1, vec![number + 100; 9_000]);
    }
    let mut last = [None, None];
    let mut count = 0;
    while let frames @ [_, ..] = egress.take(10_000).as_slice() {
        for frame in frames {
            let (source, number) = (usize::from(frame[0] / 100), frame[0] % 100);
            assert!(last[source].is_none_or(|last| last < number));
            last[source] = Some(number);
            count += 1;
        }
    }
    assert_eq!(count, 200);
    assert_eq!(egress.cost(), 0);
}

#[test]
fn bytes_are_released_once_and_only_after_they_were_written() {
    let mut egress = Egress::new();
    push(&mut egress, BULK, 1, vec![0; 300]);
    push(&mut egress, BULK, 2, vec![0; 200]);
    push(&mut egress, SPARSE, 1, vec![0; 50]);
    assert_eq!(egress.handle_written(), []);
    assert_eq!(egress.take(10_000).len(), 3);
    let release = |source, bytes| Release {
        source,
        to: to(9),
        bytes,
    };
    let expected = [release("bulk", 500), release("sparse", 50)];
    assert_eq!(egress.handle_written(), expected);
    assert_eq!(egress.handle_written(), []);
}

#[test]
fn closing_tells_what_was_written_from_what_nobody_took() {
    let mut egress = Egress::new();
    push(&mut egress, BULK, 1, vec![0; 300]);
    assert_eq!(egress.take(1).len(), 1);
    push(&mut egress, BULK, 1, vec![0; 70]);
    let Closed { written, discarded } = egress.close();
    assert_eq!(written.iter().map(|r| r.bytes).collect::<Vec<_>>(), [300]);
    assert_eq!(discarded.iter().map(|r| r.bytes).collect::<Vec<_>>(), [70]);
    assert_eq!(egress.cost(), 0);
    assert!(egress.take(1_000).is_empty());
}

#[test]
fn a_receiver_never_holds_more_than_its_limit() {
    let mut egress = Egress::new();
    let mut refused = 0;
    for number in 0..(EGRESS_MAX / 60_000 + 10) {
        let id = AttachId(number as u64);
        if egress.push(id, &"x", 0, to(9), vec![0; 60_000]).is_err() {
            refused += 1;
        }
        assert!(egress.cost() <= EGRESS_MAX);
    }
    assert!(refused > 0);
    // Tiny frames are counted for what they take, not for their bytes.
    let mut egress = Egress::new();
    let mut frames = 0;
    while egress.push(BULK, &"x", 0, to(9), vec![0; 13]).is_ok() {
        frames += 1;
    }
    assert!(frames * FRAME_OVERHEAD <= EGRESS_MAX);
}

#[test]
fn a_newer_connection_takes_over_what_is_for_places_it_has() {
    let mut older = Egress::new();
    for number in 0..4 {
        push(&mut older, BULK, 1, vec![number; 100]);
    }
    push(&mut older, SPARSE, 1, vec![9; 100]);
    older.push(BULK, &"bulk", 2, to(8), vec![7; 50]).unwrap();
    let handed = older.hand_over(|place| place == to(9));
    let mut newer = Egress::new();
    assert_eq!(newer.take_over(handed), []);
    let firsts = |frames: Vec<Vec<u8>>| frames.iter().map(|it| it[0]).collect::<Vec<_>>();
    assert_eq!(firsts(newer.take(10_000)), [0, 1, 2, 3, 9]);
    assert_eq!(firsts(older.take(10_000)), [7]);
    assert_eq!((older.cost(), newer.cost()), (0, 0));
}
