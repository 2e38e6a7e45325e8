use super::*;

const EGRESS_MAX: usize = 16 << 20;
const BULK: AttachId = AttachId(1);
const SPARSE: AttachId = AttachId(2);

fn to(host: u32) -> Place {
    let host = overlan_protocol::HostIndex::new(host).unwrap();
    Place { vni: 0x1000, host }
}

fn run(flow: u8, bytes: Vec<u8>) -> Run {
    Run {
        flow,
        frames: 1,
        bytes,
    }
}

fn push(egress: &mut Egress<&'static str>, id: AttachId, flow: u8, frame: Vec<u8>) {
    let source = if id == BULK { "bulk" } else { "sparse" };
    let now = overlan_transport::clock::now();
    let taken = egress.push(now, id, &source, to(9), run(flow, frame));
    assert!(taken.is_ok());
}

fn take(egress: &mut Egress<&'static str>, budget: usize) -> Vec<Vec<u8>> {
    let mut runs = Vec::new();
    egress.take(overlan_transport::clock::now(), budget, &mut runs);
    runs.into_iter().map(|run| run.bytes).collect()
}

fn firsts(frames: &[Vec<u8>]) -> Vec<u8> {
    frames.iter().map(|frame| frame[0]).collect()
}

#[test]
fn a_sparse_source_waits_for_one_quantum_of_a_bulk_source() {
    let mut egress = Egress::new(EGRESS_MAX);
    for _ in 0..32 {
        push(&mut egress, BULK, 1, vec![0; QUANTUM as usize]);
    }
    push(&mut egress, SPARSE, 1, vec![1; 100]);
    let first = take(&mut egress, 2 * QUANTUM as usize);
    let lengths: Vec<usize> = first.iter().map(Vec::len).collect();
    assert_eq!(lengths, [QUANTUM as usize, 100, QUANTUM as usize]);
}

#[test]
fn two_busy_sources_get_the_same_bytes_whatever_their_frame_sizes() {
    let mut egress = Egress::new(EGRESS_MAX);
    for _ in 0..16 {
        push(&mut egress, BULK, 1, vec![1; 65_000]);
    }
    for _ in 0..1_040 {
        push(&mut egress, SPARSE, 1, vec![2; 1_000]);
    }
    let mut bytes = [0_usize; 2];
    for frame in take(&mut egress, 800_000) {
        bytes[usize::from(frame[0]) - 1] += frame.len();
    }
    let difference = bytes[0].abs_diff(bytes[1]);
    assert!(difference <= 65_000 + QUANTUM as usize, "{bytes:?}");
}

#[test]
fn many_flows_do_not_make_a_source_bigger_than_another() {
    let mut egress = Egress::new(EGRESS_MAX);
    for flow in 0..=255 {
        push(&mut egress, BULK, flow, vec![1; QUANTUM as usize]);
    }
    for _ in 0..64 {
        push(&mut egress, SPARSE, 0, vec![2; QUANTUM as usize]);
    }
    let frames = take(&mut egress, 64 * QUANTUM as usize);
    assert_eq!(frames.iter().filter(|frame| frame[0] == 2).count(), 32);
}

#[test]
fn a_small_flow_does_not_wait_behind_a_big_flow_of_its_own_source() {
    let mut egress = Egress::new(EGRESS_MAX);
    for _ in 0..32 {
        push(&mut egress, BULK, 1, vec![1; 1_000]);
    }
    push(&mut egress, BULK, 2, vec![2; 10]);
    let frames = take(&mut egress, 2_000);
    assert_eq!(frames[1], vec![2; 10]);
}

#[test]
fn frames_of_one_flow_keep_their_order() {
    let mut egress = Egress::new(EGRESS_MAX);
    for number in 0..100 {
        push(&mut egress, BULK, 1, vec![number; 700]);
        push(&mut egress, SPARSE, 1, vec![number + 100; 9_000]);
    }
    let mut last = [None, None];
    let mut count = 0;
    while let frames @ [_, ..] = take(&mut egress, 10_000).as_slice() {
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
fn what_comes_for_an_idle_flow_goes_before_all_backlogs() {
    let mut egress = Egress::new(EGRESS_MAX);
    for _ in 0..8 {
        push(&mut egress, BULK, 1, vec![1; 16_000]);
        push(&mut egress, SPARSE, 1, vec![2; 16_000]);
    }
    // The first of each was of an idle flow too.
    assert_eq!(firsts(&take(&mut egress, 5 * 16_000)), [1, 2, 1, 2, 1]);
    push(&mut egress, BULK, 7, vec![7; 50]);
    push(&mut egress, SPARSE, 8, vec![8; 50]);
    assert_eq!(firsts(&take(&mut egress, 101)), [7, 8, 2]);
}

#[test]
fn a_source_cannot_live_before_the_backlogs_by_changing_its_flow() {
    let mut egress = Egress::new(EGRESS_MAX);
    for _ in 0..64 {
        push(&mut egress, SPARSE, 1, vec![2; 16_000]);
    }
    let mut bytes = [0_usize; 2];
    for flow in 0..64 {
        push(&mut egress, BULK, flow, vec![1; 16_000]);
        for frame in take(&mut egress, 16_000) {
            bytes[usize::from(frame[0]) - 1] += frame.len();
        }
    }
    assert!(bytes[0].abs_diff(bytes[1]) <= 3 * 16_000, "{bytes:?}");
}

#[test]
fn the_wait_of_a_standing_queue_is_told_and_that_of_a_sparse_flow_is_not() {
    let now = overlan_transport::clock::now();
    let later = |millis| now + Duration::from_millis(millis);
    let mut egress = Egress::new(EGRESS_MAX);
    let push_at = |egress: &mut Egress<_>, millis, id| {
        let taken = egress.push(later(millis), id, &"x", to(9), run(1, vec![0; 1_000]));
        assert!(taken.is_ok());
    };
    for millis in 0..4 {
        push_at(&mut egress, millis, BULK);
    }
    push_at(&mut egress, 4, SPARSE);
    let mut runs = Vec::new();
    let longest = egress.take(later(10), 10_000, &mut runs);
    assert_eq!(longest, Duration::from_millis(10));
    let stood: Vec<_> = written(&mut egress).iter().map(|it| it.stood).collect();
    assert_eq!(stood, [Some(Duration::from_millis(7)), None]);
}

fn written<S: Clone>(egress: &mut Egress<S>) -> Vec<Release<S>> {
    let mut free = Vec::new();
    egress.handle_written(&mut free);
    free
}

#[test]
fn bytes_are_released_once_and_only_after_they_were_written() {
    let mut egress = Egress::new(EGRESS_MAX);
    push(&mut egress, BULK, 1, vec![0; 300]);
    push(&mut egress, BULK, 2, vec![0; 200]);
    push(&mut egress, SPARSE, 1, vec![0; 50]);
    assert_eq!(written(&mut egress), []);
    assert_eq!(take(&mut egress, 10_000).len(), 3);
    let released: Vec<_> = written(&mut egress)
        .into_iter()
        .map(|it| (it.source, it.to, it.frames, it.bytes))
        .collect();
    assert_eq!(
        released,
        [("bulk", to(9), 2, 500), ("sparse", to(9), 1, 50)]
    );
    assert_eq!(written(&mut egress), []);
}

#[test]
fn closing_tells_what_was_written_from_what_nobody_took() {
    let mut egress = Egress::new(EGRESS_MAX);
    push(&mut egress, BULK, 1, vec![0; 300]);
    assert_eq!(take(&mut egress, 1).len(), 1);
    push(&mut egress, BULK, 1, vec![0; 70]);
    let Closed { written, discarded } = egress.close();
    assert_eq!(written.iter().map(|r| r.bytes).collect::<Vec<_>>(), [300]);
    assert_eq!(discarded.iter().map(|r| r.bytes).collect::<Vec<_>>(), [70]);
    assert_eq!(egress.cost(), 0);
    assert!(take(&mut egress, 1_000).is_empty());
}

#[test]
fn a_receiver_never_holds_more_than_its_limit() {
    let now = overlan_transport::clock::now();
    let mut egress = Egress::new(EGRESS_MAX);
    let mut refused = 0;
    for number in 0..(EGRESS_MAX / 60_000 + 10) {
        let id = AttachId(number as u64);
        let taken = egress.push(now, id, &"x", to(9), run(0, vec![0; 60_000]));
        if taken.is_err() {
            refused += 1;
        }
        assert!(egress.cost() <= EGRESS_MAX);
    }
    assert!(refused > 0);
    // Tiny frames are counted for what they take, not for their bytes.
    let mut egress = Egress::new(EGRESS_MAX);
    let mut frames = 0;
    while egress
        .push(now, BULK, &"x", to(9), run(0, vec![0; 13]))
        .is_ok()
    {
        frames += 1;
    }
    assert!(frames * waiting::RUN_OVERHEAD <= EGRESS_MAX);
}

#[test]
fn a_newer_connection_takes_over_what_is_for_places_it_has() {
    let mut older = Egress::new(EGRESS_MAX);
    for number in 0..4 {
        push(&mut older, BULK, 1, vec![number; 100]);
    }
    push(&mut older, SPARSE, 1, vec![9; 100]);
    let now = overlan_transport::clock::now();
    let taken = older.push(now, BULK, &"bulk", to(8), run(2, vec![7; 50]));
    assert!(taken.is_ok());
    let handed = older.hand_over(|place| place == to(9));
    let mut newer = Egress::new(EGRESS_MAX);
    assert_eq!(newer.take_over(handed), []);
    assert_eq!(firsts(&take(&mut newer, 10_000)), [0, 9, 1, 2, 3]);
    assert_eq!(firsts(&take(&mut older, 10_000)), [7]);
    assert_eq!((older.cost(), newer.cost()), (0, 0));
}
