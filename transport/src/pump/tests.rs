//! A pump over streams that are slow, stall or break when the test wants it. Time is virtual except where real TLS is used.

use std::sync::Arc;
use std::sync::Mutex;

use overlan_protocol::frame::{self, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{advance, sleep};

use super::*;
use crate::tests::{WITHIN, pair};

/// Why [`Scripted`] ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    InTime,
    Refused,
}

/// Notes the PINGs it gets and sends what it is given.
#[derive(Default)]
struct Scripted {
    tokens: Vec<u64>,
    /// Bytes that were shown and not taken.
    left: usize,
    to_send: Arc<Mutex<Vec<Vec<u8>>>>,
    waker: Arc<Mutex<Option<Waker>>>,
    fills: usize,
    end_at: Option<Instant>,
    /// A PING with this token ends it.
    refuses: Option<u64>,
    last_words: Vec<u8>,
}

impl Peer for Scripted {
    type End = Done;

    fn handle_bytes(&mut self, _now: Instant, bytes: &mut [u8]) -> Result<usize, Done> {
        let mut at = 0;
        while let Some((frame, taken)) = frame::decode(&bytes[at..], frame::BODY_MAX).unwrap() {
            let Frame::Ping { token } = frame else {
                panic!("{frame:?} was never sent");
            };
            self.tokens.push(token);
            if self.refuses == Some(token) {
                return Err(Done::Refused);
            }
            at += taken;
        }
        self.left = bytes.len() - at;
        Ok(at)
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Done> {
        match self.end_at {
            Some(at) if at <= now => Err(Done::InTime),
            _ => Ok(()),
        }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.end_at
    }

    fn fill(&mut self, _now: Instant, waker: &Waker, out: &mut Vec<u8>) -> Result<(), Done> {
        self.fills += 1;
        assert!(out.is_empty(), "all that was given before has been taken");
        let mut to_send = self.to_send.lock().unwrap();
        if !to_send.is_empty() {
            out.append(&mut to_send.remove(0));
        }
        *self.waker.lock().unwrap() = Some(waker.clone());
        Ok(())
    }

    fn last_words(&mut self, _end: &Done, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.last_words);
    }
}

impl Scripted {
    fn sending<const N: usize>(pieces: [Vec<u8>; N]) -> Self {
        Self {
            to_send: Arc::new(Mutex::new(pieces.into())),
            ..Self::default()
        }
    }

    fn ending_in(self, time: Duration) -> Self {
        Self {
            end_at: Some(now() + time),
            ..self
        }
    }
}

/// PINGs of different lengths: a reader takes a longer body than it knows.
fn pings(tokens: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for token in tokens {
        let padding = token as u8 % 7;
        bytes.extend([frame::kind::PING, 0, 0, 8 + padding]);
        bytes.extend(token.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xee, padding.into()));
    }
    bytes
}

/// A byte that tells where it belongs, with a period that no buffer size divides.
fn pattern(at: usize) -> u8 {
    (at % 251) as u8 ^ (at / 65_521) as u8
}

fn patterned(length: usize) -> Vec<u8> {
    (0..length).map(pattern).collect()
}

#[tokio::test(start_paused = true)]
async fn frames_that_come_byte_by_byte_are_handed_over_whole_and_once() {
    let (mut near, mut far) = duplex(1);
    let mut peer = Scripted::default();
    let writing = async {
        for byte in pings(1..=5) {
            far.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(far);
    };
    let (ended, ()) = tokio::join!(run_over(&mut near, &mut peer), writing);
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert_eq!(peer.tokens, [1, 2, 3, 4, 5]);
    assert_eq!(peer.left, 0);
}

#[tokio::test(start_paused = true)]
async fn what_arrives_together_with_the_end_is_handed_over_first() {
    let (mut near, mut far) = duplex(1 << 20);
    // More than one read of the pump, and half a frame at the end.
    let mut bytes = pings(0..30_000);
    assert!(bytes.len() > INBOUND);
    bytes.extend_from_slice(&pings([9])[..5]);
    far.write_all(&bytes).await.unwrap();
    drop(far);
    let mut peer = Scripted::default();
    let ended = run_over(&mut near, &mut peer).await;
    assert!(matches!(ended, Ended::Closed), "{ended:?}");
    assert!(peer.tokens.iter().copied().eq(0..30_000));
    assert_eq!(peer.left, 5);
}

/// Sends `to_send` bytes of the pattern and checks as many; ends when both are done.
struct Bulk {
    sent: usize,
    received: usize,
    length: usize,
}

impl Bulk {
    fn new(length: usize) -> Self {
        Self {
            sent: 0,
            received: 0,
            length,
        }
    }
}

impl Peer for Bulk {
    type End = ();

    fn handle_bytes(&mut self, _now: Instant, bytes: &mut [u8]) -> Result<usize, ()> {
        for byte in &*bytes {
            assert_eq!(*byte, pattern(self.received), "byte {}", self.received);
            self.received += 1;
        }
        Ok(bytes.len())
    }

    fn handle_timeout(&mut self, _now: Instant) -> Result<(), ()> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }

    fn fill(&mut self, _now: Instant, _waker: &Waker, out: &mut Vec<u8>) -> Result<(), ()> {
        let end = self.length.min(self.sent + FILL);
        out.extend((self.sent..end).map(pattern));
        self.sent = end;
        // Whatever was given before has been taken; so with nothing given now, all is out.
        let done = out.is_empty() && self.received == self.length;
        if done { Err(()) } else { Ok(()) }
    }

    fn last_words(&mut self, _end: &(), _out: &mut Vec<u8>) {}
}

async fn exchange(
    mut near: impl AsyncRead + AsyncWrite + Unpin,
    mut far: impl AsyncRead + AsyncWrite + Unpin,
    length: usize,
) {
    let (mut one, mut other) = (Bulk::new(length), Bulk::new(length));
    let both = async {
        tokio::join!(
            run_over(&mut near, &mut one),
            run_over(&mut far, &mut other)
        )
    };
    let (first, second) = timeout(WITHIN, both).await.expect("it comes to its end");
    for ended in [first, second] {
        // Who is done first closes, and the other may read that before it asks for more.
        assert!(
            matches!(ended, Ended::Peer(()) | Ended::Closed),
            "{ended:?}"
        );
    }
    assert_eq!((one.received, other.received), (length, length));
}

#[tokio::test(start_paused = true)]
async fn much_both_ways_at_once_through_a_narrow_pipe_loses_nothing() {
    let (near, far) = duplex(1_000);
    exchange(near, far, 3 << 20).await;
}

#[tokio::test]
async fn much_both_ways_at_once_over_tls_loses_nothing() {
    let (near, far) = pair().await;
    exchange(near, far, 12 << 20).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_everything() {
    let (mut near, mut far) = duplex(4_096);
    let length = 2 * FILL + 77;
    let mut peer = Bulk::new(length);
    let reading = async {
        let mut bytes = vec![0; length];
        for piece in bytes.chunks_mut(2_000) {
            sleep(WRITE_STALL / 3).await;
            far.read_exact(piece).await.unwrap();
        }
        bytes
    };
    let bytes = tokio::select! {
        ended = run_over(&mut near, &mut peer) => panic!("{ended:?}"),
        bytes = reading => bytes,
    };
    assert!(bytes == patterned(length));
}

/// A stream that takes everything written and puts it on its way when the gate opens.
struct Gate {
    is_open: bool,
    waiting: Option<Waker>,
    held: Vec<u8>,
    passed: Vec<u8>,
    /// Writes fail.
    broken: bool,
}

#[derive(Clone)]
struct Gated(Arc<Mutex<Gate>>);

impl Gated {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Gate {
            is_open: false,
            waiting: None,
            held: Vec::new(),
            passed: Vec::new(),
            broken: false,
        })))
    }

    fn open(&self) {
        let mut gate = self.0.lock().unwrap();
        gate.is_open = true;
        if let Some(waker) = gate.waiting.take() {
            waker.wake();
        }
    }
}

impl AsyncRead for Gated {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Gated {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut gate = self.0.lock().unwrap();
        if gate.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        gate.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut gate = self.0.lock().unwrap();
        if !gate.is_open {
            gate.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let mut held = std::mem::take(&mut gate.held);
        gate.passed.append(&mut held);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_ends_later_lets_the_peer_give_more() {
    let stream = Gated::new();
    let mut peer = Scripted::sending([b"one ".to_vec(), b"two ".to_vec(), b"three".to_vec()])
        .ending_in(WRITE_STALL / 2);
    let opener = stream.clone();
    // A task of its own, so that nothing but the pump's own wakers polls the pump.
    let opening = tokio::spawn(async move {
        sleep(Duration::from_secs(1)).await;
        let held = opener.0.lock().unwrap().held.clone();
        opener.open();
        held
    });
    let ended = run_over(&mut stream.clone(), &mut peer).await;
    assert!(matches!(ended, Ended::Peer(Done::InTime)), "{ended:?}");
    assert_eq!(opening.await.unwrap(), b"one ", "no more than was asked");
    assert_eq!(stream.0.lock().unwrap().passed, b"one two three");
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_never_ends_is_a_stall() {
    let mut stream = Gated::new();
    let mut peer = Scripted::sending([b"one".to_vec()]);
    let began = now();
    let ended = run_over(&mut stream, &mut peer).await;
    assert!(matches!(ended, Ended::Stalled), "{ended:?}");
    check_time(now() - began, WRITE_STALL);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_is_told() {
    let mut stream = Gated::new();
    stream.0.lock().unwrap().broken = true;
    let mut peer = Scripted::sending([b"one".to_vec()]);
    match run_over(&mut stream, &mut peer).await {
        Ended::Broken(error) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
        other @ (Ended::Closed | Ended::Stalled | Ended::Peer(_)) => panic!("{other:?}"),
    }
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
async fn a_socket_that_takes_nothing_is_a_stall() {
    let (mut near, _far) = duplex(10);
    let mut peer = Scripted::sending([vec![7; 100]]);
    let began = now();
    let ended = run_over(&mut near, &mut peer).await;
    assert!(matches!(ended, Ended::Stalled), "{ended:?}");
    check_time(now() - began, WRITE_STALL);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_takes_little_is_no_stall() {
    let (mut near, mut far) = duplex(10);
    let mut peer = Scripted::sending([vec![7; 40]]).ending_in(5 * WRITE_STALL);
    let reading = async {
        for _ in 0..4 {
            sleep(WRITE_STALL - Duration::from_millis(100)).await;
            far.read_exact(&mut [0; 10]).await.unwrap();
        }
    };
    let (ended, ()) = tokio::join!(run_over(&mut near, &mut peer), reading);
    assert!(matches!(ended, Ended::Peer(Done::InTime)), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn silence_with_nothing_to_send_is_no_stall() {
    let (mut near, _far) = duplex(10);
    let mut peer = Scripted::sending([vec![7; 10]]).ending_in(9 * WRITE_STALL);
    let began = now();
    let ended = run_over(&mut near, &mut peer).await;
    assert!(matches!(ended, Ended::Peer(Done::InTime)), "{ended:?}");
    check_time(now() - began, 9 * WRITE_STALL);
}

async fn read_to_end(mut far: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    far.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test(start_paused = true)]
async fn last_words_arrive_whole_behind_a_half_written_frame() {
    let (mut near, far) = duplex(10);
    let mut peer = Scripted {
        last_words: b"goodbye".to_vec(),
        ..Scripted::sending([patterned(100)]).ending_in(Duration::from_secs(1))
    };
    let reading = async {
        // Until the peer has ended it and the frame is stuck in the middle.
        sleep(Duration::from_millis(1_500)).await;
        read_to_end(far).await
    };
    let (ended, bytes) = tokio::join!(run_over(&mut near, &mut peer), reading);
    assert!(matches!(ended, Ended::Peer(Done::InTime)), "{ended:?}");
    assert_eq!(bytes, [patterned(100), b"goodbye".to_vec()].concat());
}

#[tokio::test(start_paused = true)]
async fn last_words_wait_only_a_moment_for_who_does_not_listen() {
    let (mut near, _far) = duplex(10);
    let mut peer = Scripted {
        last_words: b"goodbye".to_vec(),
        ..Scripted::sending([patterned(100)]).ending_in(Duration::from_secs(1))
    };
    let began = now();
    let ended = run_over(&mut near, &mut peer).await;
    assert!(matches!(ended, Ended::Peer(Done::InTime)), "{ended:?}");
    check_time(now() - began, Duration::from_secs(1) + LAST_WORDS);
}

#[tokio::test(start_paused = true)]
async fn bytes_that_the_peer_refuses_end_it_with_its_last_words() {
    let (mut near, mut far) = duplex(1_000);
    let mut peer = Scripted {
        refuses: Some(2),
        last_words: b"no".to_vec(),
        ..Scripted::default()
    };
    far.write_all(&pings(1..=3)).await.unwrap();
    let ended = run_over(&mut near, &mut peer).await;
    assert!(matches!(ended, Ended::Peer(Done::Refused)), "{ended:?}");
    assert_eq!(peer.tokens, [1, 2]);
    drop(near);
    assert_eq!(read_to_end(far).await, b"no");
}

#[tokio::test]
async fn last_words_and_the_end_arrive_over_tls() {
    let (mut near, mut far) = pair().await;
    let mut peer = Scripted {
        refuses: Some(2),
        last_words: b"no".to_vec(),
        ..Scripted::sending([patterned(70_000)])
    };
    far.write_all(&pings(1..=3)).await.unwrap();
    far.flush().await.unwrap();
    let mut bytes = Vec::new();
    let talk = async { tokio::join!(run(&mut near, &mut peer), far.read_to_end(&mut bytes)) };
    let (ended, read) = timeout(WITHIN, talk).await.unwrap();
    assert!(matches!(ended, Ended::Peer(Done::Refused)), "{ended:?}");
    read.expect("the end is announced, not torn off");
    assert!(bytes.ends_with(b"no"));
    let sent = &bytes[..bytes.len() - 2];
    assert!(
        sent.is_empty() || sent == patterned(70_000),
        "whole or not at all"
    );
}

#[tokio::test(start_paused = true)]
async fn who_wakes_is_asked_again() {
    let (mut near, mut far) = duplex(1_000);
    let mut peer = Scripted::default();
    let (to_send, waker) = (peer.to_send.clone(), peer.waker.clone());
    let talking = async {
        advance(Duration::from_secs(3_600)).await;
        to_send.lock().unwrap().push(b"later".to_vec());
        waker.lock().unwrap().take().unwrap().wake();
        let mut bytes = [0; 5];
        far.read_exact(&mut bytes).await.unwrap();
        bytes
    };
    let bytes = tokio::select! {
        ended = run_over(&mut near, &mut peer) => panic!("{ended:?}"),
        bytes = talking => bytes,
    };
    assert_eq!(&bytes, b"later");
    assert!(peer.fills < 10, "asked {} times for nothing", peer.fills);
}

/// Takes whatever is written, at once, for ever.
struct Sink;

impl AsyncRead for Sink {
    fn poll_read(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Sink {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn endless_work_leaves_others_their_turn() {
    let (mut sink, mut peer) = (Sink, Bulk::new(usize::MAX));
    let others = async {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        ended = run_over(&mut sink, &mut peer) => panic!("{ended:?}"),
        () = others => {}
    }
    assert!(peer.sent >= 3 * FILL, "it went on meanwhile");
}

#[tokio::test(start_paused = true)]
async fn work_for_more_than_one_turn_goes_on_by_itself() {
    let mut stream = Gated::new();
    stream.open();
    let mut peer = Scripted::default().ending_in(Duration::from_secs(1));
    *peer.to_send.lock().unwrap() = vec![vec![7]; 3 * TURNS];
    let ended = timeout(WITHIN, run_over(&mut stream, &mut peer)).await;
    assert!(matches!(ended, Ok(Ended::Peer(Done::InTime))), "{ended:?}");
    assert_eq!(stream.0.lock().unwrap().passed.len(), 3 * TURNS);
}
