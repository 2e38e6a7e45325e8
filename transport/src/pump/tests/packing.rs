//! Frames on their way out: what shares a record, what has one for itself, and what comes back.

use super::*;

/// The content of each record when an exchange gives all these frames at once, through a socket
/// that takes `capacity` bytes a time.
async fn packed(frames: &[Vec<u8>], capacity: usize) -> Vec<Vec<u8>> {
    let (pump, mut far) = over_pipe(capacity);
    let mut exchange = Scripted::sending([frames.concat()]).ending_in(Duration::from_secs(1));
    let (ended, bytes) = tokio::join!(run_pump(pump, &mut exchange), far.read_to_end());
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    assert!(bytes == frames.concat());
    far.wire.records
}

#[tokio::test(start_paused = true)]
async fn many_small_frames_share_one_record() {
    let frames: Vec<_> = (0..1_000).map(|token| pings([token])).collect();
    let records = packed(&frames, 1 << 20).await;
    assert_eq!(records.len(), 1);
    assert!(tokens(&records[0]).into_iter().eq(0..1_000));
}

#[tokio::test(start_paused = true)]
async fn frames_that_fit_a_record_never_straddle_two() {
    // Lengths of all kinds, among them those next to a full record, in an order without pattern;
    // more than one fill's worth, and more records than one write has parts for.
    let mut frames: Vec<_> = (0..300)
        .map(|token: u64| {
            ping_of(
                token,
                12 + (token as usize * 7_919) % (record::BODY_MAX - 11),
            )
        })
        .collect();
    for (token, missing) in (300..).zip([0, 1, 0, 12, 11, 0]) {
        frames.push(ping_of(token, record::BODY_MAX - missing));
        frames.push(ping_of(token, 12));
    }
    for capacity in [777, 1 << 24] {
        let records = packed(&frames, capacity).await;
        assert!(records.len() > PARTS_MAX);
        let mut rest = frames.iter();
        for record in &records {
            let count = tokens(record).len();
            let length: usize = rest.by_ref().take(count).map(Vec::len).sum();
            assert_eq!(record.len(), length);
            let next = rest.as_slice().first();
            assert!(
                next.is_none_or(|next| length + next.len() > record::BODY_MAX),
                "one more would have fit"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_larger_than_a_record_goes_over_several_and_has_them_for_itself() {
    let full = record::BODY_MAX;
    let frames = [
        ping_of(1, 20),
        ping_of(2, 2 * full + 100),
        ping_of(3, 20),
        ping_of(4, 2 * full),
        ping_of(5, full + 1),
        ping_of(6, 20),
        ping_of(7, 20),
    ];
    let records = packed(&frames, 1 << 20).await;
    let lengths: Vec<_> = records.iter().map(Vec::len).collect();
    assert_eq!(lengths, [20, full, full, 100, 20, full, full, full, 1, 40]);
}

/// Gives one batch of bytes and buffers in turn, notes what comes back, and ends.
struct Mixed {
    pieces: Vec<Vec<u8>>,
    spent: Vec<usize>,
}

impl Exchange for Mixed {
    type End = ();

    fn handle_bytes(&mut self, _now: Instant, bytes: &mut [u8]) -> Result<usize, ()> {
        Ok(bytes.len())
    }

    fn handle_timeout(&mut self, _now: Instant) -> Result<(), ()> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }

    fn fill(&mut self, _now: Instant, _waker: &Waker, out: &mut Batch) -> Result<(), ()> {
        self.spent.extend(out.take_spent().map(|it| it.len()));
        if self.pieces.is_empty() {
            return Err(());
        }
        for (index, piece) in self.pieces.drain(..).enumerate() {
            if index % 3 == 0 {
                out.push(piece);
            } else {
                out.packed().extend_from_slice(&piece);
            }
        }
        Ok(())
    }

    fn last_words(&mut self, _end: &(), _out: &mut Vec<u8>) {}
}

#[tokio::test(start_paused = true)]
async fn buffers_are_records_of_their_own_between_what_is_packed_and_come_back() {
    let full = record::BODY_MAX;
    let pieces = vec![
        ping_of(0, full),
        ping_of(1, 20),
        ping_of(2, 20),
        ping_of(3, 5_000),
        ping_of(4, 20),
        ping_of(5, 2 * full + 5),
        ping_of(6, full + 1),
        ping_of(7, 20),
    ];
    for capacity in [777, 1 << 20] {
        let (pump, mut far) = over_pipe(capacity);
        let mut exchange = Mixed {
            pieces: pieces.clone(),
            spent: Vec::new(),
        };
        let (ended, bytes) = tokio::join!(run_pump(pump, &mut exchange), far.read_to_end());
        assert!(matches!(ended, Ended::Ours(())), "{ended:?}");
        assert!(bytes == pieces.concat());
        let lengths: Vec<_> = far.wire.records.iter().map(Vec::len).collect();
        assert_eq!(lengths, [full, 40, 5_000, 20, full, full, 5, full, 1, 20]);
        assert_eq!(exchange.spent, [full, 5_000, full + 1]);
    }
}

#[tokio::test(start_paused = true)]
async fn frames_larger_than_a_record_arrive_whole_at_another_pump() {
    let (near, far) = duplex(10_000);
    let ((sealer, opener), (far_sealer, far_opener)) = keys();
    let sending = Pump::new(near, sealer, opener, Vec::new());
    let receiving = Pump::new(far, far_sealer, far_opener, Vec::new());
    let large = frame::HEADER_LEN + frame::BODY_MAX;
    let first = [pings(1..=2), ping_of(3, large), pings(4..=4)].concat();
    let second = [ping_of(5, large), ping_of(6, large)].concat();
    let mut sender = Scripted::sending([first, second]).ending_in(Duration::from_secs(1));
    let mut receiver = Scripted::default();
    let (sent, received) = tokio::join!(
        run_pump(sending, &mut sender),
        run_pump(receiving, &mut receiver)
    );
    assert!(matches!(sent, Ended::Ours(Done::InTime)), "{sent:?}");
    assert!(matches!(received, Ended::Closed), "{received:?}");
    assert_eq!(receiver.tokens, [1, 2, 3, 4, 5, 6]);
    assert_eq!(receiver.left, 0);
}
