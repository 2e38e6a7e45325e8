//! Records that arrive: in pieces, at the end, damaged, or read before the pump took over.

use super::*;

#[tokio::test(start_paused = true)]
async fn frames_that_come_byte_by_byte_are_handed_over_whole_and_once() {
    let (pump, mut far) = over_pipe(1);
    let mut exchange = Scripted::default();
    let writing = async {
        let sealed = [
            far.wire.seal(&pings(1..=3)),
            far.wire.seal(&pings(4..=4)),
            far.wire.seal(&pings(5..=5)),
        ];
        for byte in sealed.concat() {
            far.socket.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(far);
    };
    let (ended, ()) = tokio::join!(run_pump(pump, &mut exchange), writing);
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert_eq!(exchange.tokens, [1, 2, 3, 4, 5]);
    assert_eq!(exchange.left, 0);
}

#[tokio::test(start_paused = true)]
async fn frames_cut_anywhere_by_the_other_sides_records_arrive_whole_and_once() {
    // Short records cut headers, long ones hold many frames; one frame needs several full records.
    for cut in [1, 3, 13, 1_000, record::BODY_MAX] {
        let (pump, mut far) = over_pipe(10_000);
        let largest = ping_of(7, frame::HEADER_LEN + frame::BODY_MAX);
        let bytes = [pings(0..7), largest, pings(8..2_000)].concat();
        let writing = async {
            for piece in bytes.chunks(cut) {
                far.send(piece).await;
            }
            drop(far);
        };
        let mut exchange = Scripted::default();
        let (ended, ()) = tokio::join!(run_pump(pump, &mut exchange), writing);
        assert!(matches!(ended, Ended::Closed), "{ended:?}");
        assert!(exchange.tokens.iter().copied().eq(0..2_000), "cut at {cut}");
        assert_eq!(exchange.left, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_arrives_together_with_the_end_is_handed_over_first() {
    let (pump, mut far) = over_pipe(1 << 20);
    // More than one read of the pump, and half a frame at the end.
    let mut bytes = pings(0..30_000);
    assert!(bytes.len() > INBOUND);
    bytes.extend_from_slice(&pings([9])[..5]);
    far.send(&bytes).await;
    drop(far);
    let mut exchange = Scripted::default();
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert!(exchange.tokens.iter().copied().eq(0..30_000));
    assert_eq!(exchange.left, 5);
}

#[tokio::test(start_paused = true)]
async fn an_announced_end_ends_it_at_once_and_nothing_behind_it_counts() {
    let (pump, mut far) = over_pipe(1_000);
    let before = far.wire.seal(&pings(1..=2));
    let close = far.wire.seal_close();
    let after = far.wire.seal(&pings(3..=3));
    let sealed = [before, close, after].concat();
    far.socket.write_all(&sealed).await.unwrap();
    // The socket stays open: only the record says that it is over.
    let mut exchange = Scripted::default();
    let ended = timeout(WITHIN, run_pump(pump, &mut exchange)).await;
    assert!(matches!(ended, Ok(Ended::Closed)), "{ended:?}");
    assert_eq!(exchange.tokens, [1, 2]);
}

/// Puts these bytes after a good record: the record is handed over, and the connection breaks
/// without another word.
async fn breaks_by(make: impl FnOnce(&mut Wire) -> Vec<u8>) {
    let (pump, mut far) = over_pipe(40_000);
    far.send(&pings(1..=2)).await;
    let bad = make(&mut far.wire);
    far.socket.write_all(&bad).await.unwrap();
    let mut exchange = Scripted {
        last_words: b"never said".to_vec(),
        ..Scripted::default()
    };
    let ended = timeout(WITHIN, run_pump(pump, &mut exchange))
        .await
        .unwrap();
    let Ended::Broken(error) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(exchange.tokens, [1, 2]);
    while far.read(1_000).await {}
    assert!(far.wire.records.is_empty() && !far.wire.closed);
}

#[tokio::test(start_paused = true)]
async fn a_forged_record_breaks_it_behind_what_was_good() {
    breaks_by(|wire| {
        let mut sealed = wire.seal(&pings(3..=3));
        *sealed.last_mut().unwrap() ^= 1;
        sealed
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_lost_breaks_it() {
    breaks_by(|wire| {
        wire.seal(&pings(3..=3));
        wire.seal(&pings(4..=4))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_claims_too_much_breaks_it_before_it_came() {
    breaks_by(|_| vec![23, 3, 3, 0xff, 0xff]).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_is_handed_over_first() {
    let (mut pump, mut far) = over_pipe(1_000);
    let bytes = pings(1..=4);
    let cut = pings(1..=2).len() + 5;
    pump.carried = bytes[..cut].to_vec();
    far.send(&bytes[cut..]).await;
    drop(far);
    let mut exchange = Scripted::default();
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert_eq!(exchange.tokens, [1, 2, 3, 4]);
    assert_eq!(exchange.left, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_read_before_waits_for_nothing_to_arrive() {
    let (mut pump, mut far) = over_pipe(1_000);
    pump.carried = pings(1..=2);
    let mut exchange = Scripted {
        refuses: Some(2),
        ..Scripted::default()
    };
    let ended = timeout(WITHIN, run_pump(pump, &mut exchange)).await;
    assert!(matches!(ended, Ok(Ended::Ours(Done::Refused))), "{ended:?}");
    assert_eq!(exchange.tokens, [1, 2]);
    assert_eq!(far.read_to_end().await, b"");
}

#[tokio::test]
async fn what_tls_had_read_before_is_handed_over_first() {
    let (mut near, mut far) = pair().await;
    let bytes = pings(1..=5);
    far.write_all(&bytes).await.unwrap();
    far.flush().await.unwrap();
    // The first frame is asked for; the record's others are in the hands of TLS then.
    let mut first = pings(1..=1);
    near.read_exact(&mut first).await.unwrap();
    assert_eq!(first, pings(1..=1));
    let mut exchange = Scripted {
        refuses: Some(7),
        ..Scripted::default()
    };
    let more = async {
        far.write_all(&pings(6..=7)).await.unwrap();
        far.flush().await.unwrap();
    };
    let talk = async { tokio::join!(run(near, &mut exchange), more) };
    let (ended, ()) = timeout(WITHIN, talk).await.unwrap();
    assert!(matches!(ended, Ended::Ours(Done::Refused)), "{ended:?}");
    assert_eq!(exchange.tokens, [2, 3, 4, 5, 6, 7]);
}
