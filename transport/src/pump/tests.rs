//! A pump over sockets that are slow, stall or break when the test wants it. Time is virtual except
//! where a real socket is used.

mod exchanges;
mod sockets;

use overlan_protocol::exchange::{Batch, FILL};
use overlan_protocol::frame::{self, Frame};
use std::task::Waker;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::{advance, sleep};

use self::exchanges::{Bulk, Done, Scripted, patterned};
use self::sockets::{Gated, Sink, Wire, keys, over, over_pipe};
use super::batch::PARTS_MAX;
use super::*;
use crate::tests::{WITHIN, pair};

/// Runs a pump to its end.
async fn run_pump<S, P>(mut pump: Pump<S>, exchange: &mut P) -> Ended<P::End>
where
    S: AsyncRead + AsyncWrite + Unpin,
    P: Exchange,
{
    drive(&mut pump, exchange).await.0
}

/// On the wire, `length` bytes in one record.
const fn sealed_len(length: usize) -> usize {
    record::HEADER_LEN + length + record::TRAILER_LEN
}

/// A PING that is longer than it must be: a reader takes a longer body than it knows.
fn ping(token: u64, padding: usize) -> Vec<u8> {
    let mut bytes = ((8 + padding) as u32).to_be_bytes().to_vec();
    bytes[0] = frame::kind::PING;
    bytes.extend(token.to_be_bytes());
    bytes.resize(bytes.len() + padding, 0xee);
    bytes
}

/// PINGs of different lengths.
fn pings(tokens: impl IntoIterator<Item = u64>) -> Vec<u8> {
    tokens
        .into_iter()
        .flat_map(|token| ping(token, token as usize % 7))
        .collect()
}

/// A PING that takes `length` bytes with its header.
fn ping_of(token: u64, length: usize) -> Vec<u8> {
    ping(token, length - frame::HEADER_LEN - 8)
}

/// The tokens of PINGs, all of them whole.
fn tokens(mut bytes: &[u8]) -> Vec<u64> {
    let mut tokens = Vec::new();
    while !bytes.is_empty() {
        let decoded = frame::decode(bytes, frame::BODY_MAX).unwrap();
        let Some((Frame::Ping { token }, taken)) = decoded else {
            panic!("{decoded:?} is no whole PING");
        };
        tokens.push(token);
        bytes = &bytes[taken..];
    }
    tokens
}

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

#[tokio::test(start_paused = true)]
async fn much_both_ways_at_once_through_a_narrow_pipe_loses_nothing() {
    let length = 3 << 20;
    let (near, far) = duplex(1_000);
    let ((sealer, opener), (far_sealer, far_opener)) = keys();
    let near = Pump::new(near, sealer, opener, Vec::new());
    let far = Pump::new(far, far_sealer, far_opener, Vec::new());
    let (mut one, mut other) = (Bulk::new(length), Bulk::new(length));
    let both = async { tokio::join!(run_pump(near, &mut one), run_pump(far, &mut other)) };
    let (first, second) = timeout(WITHIN, both).await.expect("it comes to its end");
    for ended in [first, second] {
        // Who is done first closes, and the other may read that before it asks for more.
        assert!(
            matches!(ended, Ended::Ours(()) | Ended::Closed),
            "{ended:?}"
        );
    }
    assert_eq!((one.received, other.received), (length, length));
}

/// One side is a pump, the other knows nothing of it.
async fn exchange_with_plain_tls(pumped: TlsStream<Stepwise>, plain: TlsStream<Stepwise>) {
    let length = 8 << 20;
    let mut exchange = Bulk::new(length);
    let (mut reader, mut writer) = tokio::io::split(plain);
    let reading = async {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).await.map(|_| bytes)
    };
    let writing = async {
        // Pieces of all kinds, cut into records by the other implementation.
        for piece in patterned(length).chunks(100_003) {
            writer.write_all(piece).await.unwrap();
        }
        writer.flush().await.unwrap();
    };
    let talk = async { tokio::join!(run(pumped, &mut exchange), reading, writing) };
    let (ended, bytes, ()) = timeout(WITHIN, talk).await.expect("it comes to its end");
    assert!(matches!(ended, Ended::Ours(())), "{ended:?}");
    let bytes = bytes.expect("the end is announced, not torn off");
    assert!(bytes == patterned(length));
    assert_eq!(exchange.received, length);
}

#[tokio::test]
async fn a_client_exchanges_much_with_plain_tls() {
    let (client, server) = pair().await;
    exchange_with_plain_tls(client, server).await;
}

#[tokio::test]
async fn a_server_exchanges_much_with_plain_tls() {
    let (client, server) = pair().await;
    exchange_with_plain_tls(server, client).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_everything() {
    let (pump, mut far) = over_pipe(4_096);
    let length = 2 * FILL + 77;
    let mut exchange = Bulk::new(length);
    let reading = async {
        while far.wire.records.iter().map(Vec::len).sum::<usize>() < length {
            sleep(WRITE_STALL / 3).await;
            assert!(far.read(2_000).await);
        }
    };
    tokio::select! {
        ended = run_pump(pump, &mut exchange) => panic!("{ended:?}"),
        () = reading => {}
    }
    assert!(far.wire.bytes() == patterned(length));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_ends_later_lets_the_peer_give_more() {
    let socket = Gated::default();
    let (pump, wire) = over(socket.clone());
    let mut exchange = Scripted::sending([b"one ".to_vec(), b"two ".to_vec(), b"three".to_vec()])
        .ending_in(WRITE_STALL / 2);
    let (opener, to_send) = (socket.clone(), exchange.to_send.clone());
    // A task of its own, so that nothing but the pump's own wakers polls the pump.
    let opening = tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        let left = to_send.lock().len();
        opener.open();
        left
    });
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    assert_eq!(opening.await.unwrap(), 2, "no more than one was asked for");
    assert_eq!(socket.passed(wire), b"one two three");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_never_ends_is_found_as_soon_as_silence() {
    let (pump, _wire) = over(Gated::default());
    let mut exchange = Scripted::sending([b"one".to_vec()]);
    let began = now();
    let ended = timeout(WITHIN, run_pump(pump, &mut exchange)).await;
    assert!(matches!(ended, Ok(Ended::Silent)), "{ended:?}");
    check_time(now() - began, SILENCE);
}

/// Hundreds of silent connections must not keep the memory of an old burst.
#[tokio::test(start_paused = true)]
async fn the_buffer_grows_with_what_comes_and_shrinks_while_nothing_does() {
    let (mut pump, mut far) = over_pipe(INBOUND);
    assert_eq!(pump.inbound.len(), INBOUND_AT_REST);
    let mut exchange = Scripted::sending([]).ending_in(Duration::from_secs(60));
    let mut most = 0;
    for pause in [0, 0, 0, 30] {
        sleep(Duration::from_secs(pause)).await;
        if pause == 0 {
            far.send(&pings(0..10_000)).await;
        } else {
            far.send(&ping(1, 0)).await;
        }
        for _ in 0..TURNS {
            let read = poll_fn(|cx| Poll::Ready(pump.poll_read(cx, &mut exchange, now()))).await;
            assert!(read.is_ok());
        }
        most = most.max(pump.inbound.len());
    }
    assert_eq!(most, INBOUND);
    assert_eq!(pump.inbound.len(), INBOUND_AT_REST);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_and_is_heard_gets_longer() {
    let (pump, mut far) = over_pipe(100);
    let mut exchange = Scripted::sending([vec![7; 1_000]]).ending_in(3 * WRITE_STALL);
    let began = now();
    let talking = async {
        loop {
            far.send(&ping(1, 0)).await;
            sleep(SILENCE / 2).await;
        }
    };
    tokio::select! {
    ended = run_pump(pump, &mut exchange) => {
    assert!(matches!(ended, Ended::Stalled), "{ended:?}");
    }
            () = talking => {}
        }
    check_time(now() - began, WRITE_STALL);
}

/// The owner's question lies after bytes that cannot be written, and so would last words to an end
/// that hears nothing.
#[tokio::test(start_paused = true)]
async fn an_owner_that_gives_up_who_is_silent_waits_for_no_last_words() {
    let (pump, _far) = over_pipe(10);
    let mut exchange = Scripted {
        last_words: b"goodbye".to_vec(),
        ..Scripted::sending([patterned(100)]).ending_in(SILENCE)
    };
    let began = now();
    let _ = run_pump(pump, &mut exchange).await;
    check_time(now() - began, SILENCE);
}

/// Otherwise the end lies after bytes that the other side's socket does not take, and that side
/// goes on for minutes.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_given_up_is_reset() {
    let (near, far) = pair().await;
    let mut exchange = Bulk::new(64 * 1024 * 1024);
    let ended = run(near, &mut exchange).await;
    assert!(matches!(ended, Ended::Silent), "{ended:?}");
    let TlsStream::Server(far) = far else {
        panic!("the far end is the server");
    };
    let mut socket = far.into_inner().0;
    let mut chunk = vec![0; 65_536];
    let error = loop {
        match socket.read(&mut chunk).await {
            Ok(0) => panic!("an end in order"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_breaks_is_told() {
    let socket = Gated::default();
    socket.0.lock().broken = true;
    let (pump, _wire) = over(socket);
    let mut exchange = Scripted::sending([b"one".to_vec()]);
    let ended = run_pump(pump, &mut exchange).await;
    let Ended::Broken(error) = ended else {
        panic!("{ended:?}");
    };
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

/// Timers are as exact as the runtime's wheel, one millisecond.
fn check_time(took: Duration, expected: Duration) {
    let late = took.checked_sub(expected);
    assert!(
        late.is_some_and(|late| late < Duration::from_millis(5)),
        "{took:?} instead of {expected:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_a_part_and_then_nothing_is_a_stall() {
    let (pump, _far) = over_pipe(10);
    let mut exchange = Scripted::sending([vec![7; 100]]);
    let began = now();
    let ended = timeout(WITHIN, run_pump(pump, &mut exchange)).await;
    assert!(matches!(ended, Ok(Ended::Silent)), "{ended:?}");
    check_time(now() - began, SILENCE);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_little_is_no_stall() {
    let (pump, mut far) = over_pipe(10);
    // Five times what the socket holds: it fills at once, and each read makes room for as much
    // again.
    let mut exchange = Scripted::sending([vec![7; 50 - sealed_len(0)]]).ending_in(6 * SILENCE);
    let reading = async {
        for _ in 0..4 {
            sleep(SILENCE - Duration::from_millis(100)).await;
            far.socket.read_exact(&mut [0; 10]).await.unwrap();
        }
    };
    let (ended, ()) = tokio::join!(run_pump(pump, &mut exchange), reading);
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_with_nothing_to_send_is_no_stall() {
    // A socket that is exactly full has taken everything.
    let (pump, _far) = over_pipe(sealed_len(10));
    let mut exchange = Scripted::sending([vec![7; 10]]).ending_in(9 * WRITE_STALL);
    let began = now();
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    // The announcement of the end finds no room.
    check_time(now() - began, 9 * WRITE_STALL + LAST_WORDS);
}

#[tokio::test(start_paused = true)]
async fn last_words_arrive_whole_behind_a_half_written_record() {
    let (pump, mut far) = over_pipe(10);
    let mut exchange = Scripted {
        last_words: b"goodbye".to_vec(),
        ..Scripted::sending([patterned(100)]).ending_in(Duration::from_secs(1))
    };
    let reading = async {
        // Until the exchange has ended it and the record is stuck in the middle.
        sleep(Duration::from_millis(1_500)).await;
        far.read_to_end().await
    };
    let (ended, bytes) = tokio::join!(run_pump(pump, &mut exchange), reading);
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    assert_eq!(bytes, [patterned(100), b"goodbye".to_vec()].concat());
}

#[tokio::test(start_paused = true)]
async fn last_words_wait_only_a_moment_for_who_does_not_listen() {
    let (pump, _far) = over_pipe(10);
    let mut exchange = Scripted {
        last_words: b"goodbye".to_vec(),
        ..Scripted::sending([patterned(100)]).ending_in(Duration::from_secs(1))
    };
    let began = now();
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    check_time(now() - began, Duration::from_secs(1) + LAST_WORDS);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_the_peer_refuses_end_it_with_its_last_words() {
    let (pump, mut far) = over_pipe(1_000);
    let mut exchange = Scripted {
        refuses: Some(2),
        last_words: b"no".to_vec(),
        ..Scripted::default()
    };
    far.send(&pings(1..=3)).await;
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::Refused)), "{ended:?}");
    assert_eq!(exchange.tokens, [1, 2]);
    assert_eq!(far.read_to_end().await, b"no");
}

#[tokio::test]
async fn last_words_and_the_end_arrive_at_plain_tls() {
    let (near, mut far) = pair().await;
    let mut exchange = Scripted {
        refuses: Some(2),
        last_words: b"no".to_vec(),
        ..Scripted::sending([patterned(70_000)])
    };
    far.write_all(&pings(1..=3)).await.unwrap();
    far.flush().await.unwrap();
    let mut bytes = Vec::new();
    let talk = async { tokio::join!(run(near, &mut exchange), far.read_to_end(&mut bytes)) };
    let (ended, read) = timeout(WITHIN, talk).await.unwrap();
    assert!(matches!(ended, Ended::Ours(Done::Refused)), "{ended:?}");
    read.expect("the end is announced, not torn off");
    assert!(bytes.ends_with(b"no"));
    let sent = &bytes[..bytes.len() - 2];
    assert!(
        sent.is_empty() || sent == patterned(70_000),
        "whole or not at all"
    );
}

#[tokio::test]
async fn plain_tls_that_closes_ends_it() {
    let (near, mut far) = pair().await;
    let mut exchange = Scripted::default();
    let closing = async {
        far.write_all(&pings(1..=3)).await.unwrap();
        far.shutdown().await.unwrap();
    };
    let talk = async { tokio::join!(run(near, &mut exchange), closing) };
    let (ended, ()) = timeout(WITHIN, talk).await.unwrap();
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert_eq!(exchange.tokens, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn who_wakes_is_asked_again() {
    let (pump, mut far) = over_pipe(1_000);
    let mut exchange = Scripted::default();
    let (to_send, waker) = (exchange.to_send.clone(), exchange.waker.clone());
    let talking = async {
        advance(Duration::from_secs(3_600)).await;
        to_send.lock().push(b"later".to_vec());
        waker.lock().take().unwrap().wake();
        far.read_bytes(5).await
    };
    let bytes = tokio::select! {
        ended = run_pump(pump, &mut exchange) => panic!("{ended:?}"),
        bytes = talking => bytes,
    };
    assert_eq!(bytes, b"later");
    assert!(
        exchange.fills < 10,
        "asked {} times for nothing",
        exchange.fills
    );
}

#[tokio::test(start_paused = true)]
async fn all_records_of_one_fill_go_in_one_write() {
    let sink = Sink::default();
    let (pump, _wire) = over(sink.clone());
    let frames = (0..).map(|token| ping_of(token, record::BODY_MAX));
    let count = FILL / record::BODY_MAX;
    let frames: Vec<_> = frames.take(count).collect();
    let mut exchange = Scripted::sending([frames.concat()]).ending_in(Duration::from_secs(1));
    let ended = run_pump(pump, &mut exchange).await;
    assert!(matches!(ended, Ended::Ours(Done::InTime)), "{ended:?}");
    let writes = sink.0.lock();
    assert_eq!(writes[0], count * sealed_len(record::BODY_MAX));
}

#[tokio::test(start_paused = true)]
async fn endless_work_leaves_others_their_turn() {
    let (pump, _wire) = over(Sink::default());
    let mut exchange = Bulk::new(usize::MAX);
    let others = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = run_pump(pump, &mut exchange) => panic!("{ended:?}"),
        () = others => {}
    }
    assert!(exchange.sent >= 3 * FILL, "it went on meanwhile");
}

#[tokio::test(start_paused = true)]
async fn work_for_more_than_one_turn_goes_on_by_itself() {
    let socket = Gated::default();
    socket.open();
    let (pump, wire) = over(socket.clone());
    let mut exchange = Scripted::default().ending_in(Duration::from_secs(1));
    *exchange.to_send.lock() = vec![vec![7]; 3 * TURNS];
    let ended = timeout(WITHIN, run_pump(pump, &mut exchange)).await;
    assert!(matches!(ended, Ok(Ended::Ours(Done::InTime))), "{ended:?}");
    assert_eq!(socket.passed(wire), [7; 3 * TURNS]);
}
