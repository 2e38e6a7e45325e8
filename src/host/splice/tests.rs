use super::*;

use std::cell::Cell;
use std::net::Ipv4Addr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// More than all buffers between two ends hold together.
const MUCH: usize = 6 * 1024 * 1024 + 13;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// Two outer ends with a splice between them.
async fn spliced() -> (TcpStream, TcpStream, JoinHandle<Spliced>) {
    let (left, mut left_inner) = pair().await;
    let (right, mut right_inner) = pair().await;
    let task = tokio::spawn(async move { splice(&mut left_inner, &mut right_inner).await });
    (left, right, task)
}

fn pattern(seed: u64) -> Vec<u8> {
    let mut state = seed;
    (0..MUCH)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Sends everything, closes its write side, and only then reads the answer to its end.
async fn ask(mut stream: TcpStream, request: Vec<u8>) -> Vec<u8> {
    stream.write_all(&request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    answer
}

/// Reads to the end, and only then answers.
async fn answer(mut stream: TcpStream, answer: Vec<u8>) -> Vec<u8> {
    let mut request = Vec::new();
    stream.read_to_end(&mut request).await.unwrap();
    stream.write_all(&answer).await.unwrap();
    stream.shutdown().await.unwrap();
    request
}

#[tokio::test]
async fn a_half_closed_left_side_still_gets_its_answer() {
    let (left, right, task) = spliced().await;
    let (request, reply) = (pattern(1), pattern(2));
    let (got_reply, got_request) =
        tokio::join!(ask(left, request.clone()), answer(right, reply.clone()));
    assert!(got_request == request && got_reply == reply);
    let end = task.await.unwrap();
    assert_eq!((end.to_right, end.to_left), (MUCH as u64, MUCH as u64));
    assert!(end.failure.is_none(), "{end:?}");
}

#[tokio::test]
async fn a_half_closed_right_side_still_gets_its_answer() {
    let (left, right, task) = spliced().await;
    let (request, reply) = (pattern(3), pattern(4));
    let (got_reply, got_request) =
        tokio::join!(ask(right, request.clone()), answer(left, reply.clone()));
    assert!(got_request == request && got_reply == reply);
    assert!(task.await.unwrap().failure.is_none());
}

#[tokio::test]
async fn both_ways_at_once_lose_nothing() {
    let (left, right, task) = spliced().await;
    let run = |stream: TcpStream, data: Vec<u8>| async move {
        let (mut read, mut write) = stream.into_split();
        let writing = async move {
            write.write_all(&data).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(writing, read.read_to_end(&mut got));
        read.unwrap();
        got
    };
    let (rightward, leftward) = (pattern(5), pattern(6));
    let (at_left, at_right) =
        tokio::join!(run(left, rightward.clone()), run(right, leftward.clone()));
    assert!(at_right == rightward && at_left == leftward);
    assert!(task.await.unwrap().failure.is_none());
}

#[tokio::test]
async fn a_reset_goes_through_both_directions() {
    for from_left in [true, false] {
        let (left, right, task) = spliced().await;
        let (mut dying, mut other) = if from_left {
            (left, right)
        } else {
            (right, left)
        };
        dying.write_all(b"last").await.unwrap();
        let mut last = [0; 4];
        other.read_exact(&mut last).await.unwrap();
        dying.set_zero_linger().unwrap();
        drop(dying);
        let error = other.read(&mut last).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let (side, _) = task.await.unwrap().failure.expect("a reset is no order");
        assert_eq!(side == SplicedSide::Left, from_left);
    }
}

/// A stream that takes nothing, and has an answer ready.
struct EarlyAnswer {
    answer: &'static [u8],
    closes: bool,
    aborted: Cell<bool>,
}

impl AsyncRead for EarlyAnswer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some((now, later)) = self.answer.split_at_checked(1) else {
            return Poll::Ready(if self.closes {
                Ok(())
            } else {
                Err(io::ErrorKind::ConnectionReset.into())
            });
        };
        buf.put_slice(now);
        self.answer = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for EarlyAnswer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl PourInto<Watched> for EarlyAnswer {}

impl PourInto<EarlyAnswer> for Watched {}

impl Abort for EarlyAnswer {
    fn abort(&self) {
        self.aborted.set(true);
    }
}

/// A socket that shows whether it was reset.
struct Watched(TcpStream, Cell<bool>);

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &bytes[..1])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Abort for Watched {
    fn abort(&self) {
        self.1.set(true);
    }
}

/// Returns the bytes that the client reads, how it ended, and whether the client was to be reset.
async fn early_answer(closes: bool) -> (Vec<u8>, Spliced, bool) {
    let (mut client, inner) = pair().await;
    let mut inner = Watched(inner, Cell::new(false));
    let mut server = EarlyAnswer {
        answer: b"413 too large",
        closes,
        aborted: Cell::new(false),
    };
    client.write_all(b"a large request").await.unwrap();
    client.shutdown().await.unwrap();
    let end = splice(&mut inner, &mut server).await;
    assert!(!server.aborted.get(), "the side that broke needs no reset");
    let reset = inner.1.get();
    drop(inner);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    (answer, end, reset)
}

#[tokio::test]
async fn an_early_answer_arrives_although_the_request_cannot_be_written() {
    let (answer, end, reset) = early_answer(false).await;
    assert_eq!(answer, b"413 too large");
    assert_eq!((end.to_right, end.to_left), (0, 13));
    assert!(
        matches!(end.failure, Some((SplicedSide::Right, _))),
        "{end:?}"
    );
    assert!(reset, "nobody knows whether the answer was whole");
}

#[tokio::test]
async fn an_answer_that_ended_in_order_is_followed_by_no_reset() {
    let (answer, end, reset) = early_answer(true).await;
    assert_eq!(answer, b"413 too large");
    assert_eq!((end.to_right, end.to_left), (0, 13));
    assert!(
        matches!(end.failure, Some((SplicedSide::Right, _))),
        "{end:?}"
    );
    assert!(!reset);
}

#[tokio::test]
async fn a_quiet_way_holds_no_buffer() {
    let (mut near, mut far) = pair().await;
    let (mut sink, _keep) = pair().await;
    let mut way = Direction::default();
    near.write_all(b"hello").await.unwrap();
    poll_fn(|cx| {
        assert!(way.poll(cx, &mut far, &mut sink).is_pending());
        if way.written == 5 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    assert_eq!(way.held.buffer_len(), 0);
}

#[tokio::test]
async fn an_end_that_no_source_made_is_a_reset_on_both_sides() {
    // The one that stops is the task, in the middle of an answer.
    let (mut left, mut right, task) = spliced().await;
    right.write_all(b"the first half").await.unwrap();
    let mut heard = [0; 14];
    left.read_exact(&mut heard).await.unwrap();
    task.abort();
    let _cancelled = task.await;
    for stream in [&mut left, &mut right] {
        let error = stream.read(&mut heard).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn a_stream_ends_with_a_reset_unless_it_was_ended_in_order() {
    for in_order in [false, true] {
        let (mut near, far) = pair().await;
        let mut far = ResetOnDrop::new(far);
        far.write_all(b"whole?").await.unwrap();
        if in_order {
            far.shutdown().await.unwrap();
        }
        drop(far);
        let mut heard = Vec::new();
        let end = near.read_to_end(&mut heard).await;
        assert_eq!(heard, b"whole?", "what was written arrives");
        assert_eq!(end.is_ok(), in_order, "{end:?}");
    }
}

#[tokio::test]
async fn what_a_slow_reader_has_not_taken_yet_arrives_before_the_reset() {
    let (mut left, mut right, task) = spliced().await;
    // More than the kernel holds for the reader, so that much waits on our side when the writer
    // breaks.
    let much = pattern(7);
    let writing = tokio::spawn({
        let much = much.clone();
        async move {
            right.write_all(&much).await.unwrap();
            right.set_zero_linger().unwrap();
            // All of it has left: what the reset overtakes here is not ours.
            poll_fn(|cx| right.poll_delivered(cx)).await;
        }
    });
    let mut heard = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    let end = loop {
        match left.read(&mut piece).await {
            Ok(0) => break Ok(()),
            Ok(count) => heard.extend_from_slice(&piece[..count]),
            Err(error) => break Err(error.kind()),
        }
        if heard.len() < much.len() / 2 {
            tokio::task::yield_now().await;
        }
    };
    writing.await.unwrap();
    assert_eq!(heard.len(), much.len());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
    assert!(task.await.unwrap().aborted);
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_connection_is_let_go_after_its_time_and_an_open_one_is_not() {
    let patience = Patience {
        idle: None,
        half_closed: Some(Duration::from_millis(50)),
    };
    let (mut left, mut left_inner) = pair().await;
    let (mut right, mut right_inner) = pair().await;
    let task =
        tokio::spawn(
            async move { splice_within(&mut left_inner, &mut right_inner, patience).await },
        );
    // Open, it may be silent for much longer.
    sleep(Duration::from_millis(200)).await;
    left.write_all(b"x").await.unwrap();
    let mut heard = [0; 1];
    right.read_exact(&mut heard).await.unwrap();
    left.shutdown().await.unwrap();
    assert_eq!(right.read(&mut heard).await.unwrap(), 0, "an orderly end");
    let spliced = task.await.unwrap();
    assert!(spliced.expired && spliced.aborted, "{spliced:?}");
    let error = left.read(&mut heard).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_program_that_still_sends_when_it_is_answered_is_not_reset_before_it_has_read() {
    let (mut left, mut right, task) = spliced().await;
    left.write_all(b"a long request").await.unwrap();
    right.read_exact(&mut [0; 4]).await.unwrap();
    right.write_all(b"too large").await.unwrap();
    // What it did not read makes this a reset.
    drop(right);
    let mut first = [0; 1];
    left.peek(&mut first).await.unwrap();
    left.write_all(&pattern(1)).await.unwrap();
    let mut answer = [0; 9];
    left.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"too large");
    let ended = task.await.unwrap();
    assert!(ended.aborted);
    let cut = left.read(&mut [0]).await.unwrap_err();
    assert_eq!(cut.kind(), io::ErrorKind::ConnectionReset);
}
