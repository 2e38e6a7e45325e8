//! One request and its answer: the head and the body go on, the answer of the service comes back,
//! both at once. Decides how an exchange ends when one side stops; which fields pass is decided
//! before.
//!
//! ```text
//! client ──> send: head, body, then watch the client ──> service
//! client <── receive: 1xx …, answer, body            <── service
//!            the first of the two to end decides
//! ```

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use super::body::{Decoder, Length, Piece};
use super::fields::{Fields, Writer};
use super::message::{HttpResponse, HttpVersion, Malformed};
use super::own::Fault;
use super::passing;
use super::session::Intermediary;
use super::wire::{Input, NoHead, Output, Wire};
use crate::doors::moves::Moves;

/// A request that goes on, and the properties that its answer depends on.
pub(super) struct Sent<'a> {
    pub(super) head: Vec<u8>,
    pub(super) length: Length,
    pub(super) method: &'a str,
    pub(super) version: HttpVersion,
    /// True if the client would send another request.
    pub(super) keep: bool,
    /// The protocols that were asked for.
    pub(super) upgrades: Vec<String>,
    pub(super) date: &'a str,
    /// Time without any movement after which the exchange ends; `None` = it does not.
    pub(super) idle: Option<Duration>,
}

/// The end of an exchange.
#[derive(Debug)]
pub(super) enum ExchangeEnd {
    /// The client has the answer; which of the connections may be used again, and whether the
    /// service has all of the request.
    Answered {
        client: bool,
        service: bool,
        whole: bool,
    },
    /// The client has a 101: bytes from here on.
    Switched,
    /// Nothing came back: a connection that was kept may have ended before the request.
    Nothing(String),
    /// The client has no answer yet, and gets one of ours.
    Failed(Fault),
    /// The client has a part of an answer, and sees that if `shows`.
    Cut { shows: bool },
    /// The client has left.
    Left,
}

/// Passes one request and its answer.
pub(super) async fn exchange<I: Intermediary>(
    client: &mut Wire<I::Client>,
    service: &mut Wire<I::Upstream>,
    sent: &Sent<'_>,
    intermediary: &I,
) -> ExchangeEnd {
    let moves = Moves::new();
    let progress = ExchangeProgress::default();
    service.begin();
    let (mut from_client, mut to_client) = client.split();
    let (mut from_service, mut to_service) = service.split();
    let sending = pin!(send(
        &mut from_client,
        &mut to_service,
        sent,
        intermediary,
        &progress,
        &moves
    ));
    let receiving = pin!(receive(
        &mut from_service,
        &mut to_client,
        sent,
        &progress,
        &moves
    ));
    let idled = async {
        match sent.idle {
            Some(idle) => moves.idle_for(idle).await,
            None => std::future::pending().await,
        }
    };
    let stopped = tokio::select! {
        biased;
        stopped = sending => stopped,
        ended = receiving => return ended,
        () = idled => Stopped::Silent,
    };
    match stopped {
        Stopped::Left => ExchangeEnd::Left,
        Stopped::Malformed(_) | Stopped::Silent if progress.begun() => ExchangeEnd::Cut {
            shows: progress.chunked.load(Relaxed),
        },
        Stopped::Malformed(malformed) => ExchangeEnd::Failed(Fault::Request(malformed)),
        Stopped::Silent => ExchangeEnd::Failed(Fault::Silent),
    }
}

/// The state that the two directions share.
#[derive(Default)]
struct ExchangeProgress {
    /// The client's whole request was read.
    sent: AtomicBool,
    /// The service takes nothing more.
    refused: AtomicBool,
    /// A part of the answer may be on its way to the client.
    begun: AtomicBool,
    /// In chunks, where an end that is missing shows.
    chunked: AtomicBool,
}

impl ExchangeProgress {
    fn begun(&self) -> bool {
        self.begun.load(Relaxed)
    }
}

/// The reason why the client's direction ends before the answer.
enum Stopped {
    Left,
    Malformed(Malformed),
    Silent,
}

impl From<Gone> for Stopped {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::Surely => Self::Left,
            Gone::Maybe => Self::Silent,
        }
    }
}

async fn send<I: Intermediary>(
    client: &mut Input<'_, I::Client>,
    service: &mut Output<'_, I::Upstream>,
    sent: &Sent<'_>,
    intermediary: &I,
    progress: &ExchangeProgress,
    moves: &Moves,
) -> Stopped {
    let mut decoder = Decoder::new(sent.length, Writer::Client);
    let mut bytes = sent.head.clone();
    loop {
        let piece = match decoder.decode(client.bytes) {
            Ok(piece) => piece,
            Err(malformed) => return Stopped::Malformed(malformed),
        };
        let is_end = matches!(piece, Piece::End(_));
        let needs_more = piece == Piece::More;
        match piece {
            Piece::Data(data) => sent.length.encode(&data, &mut bytes),
            Piece::End(mut trailers) => {
                passing::trailers(&mut trailers, |name| intermediary.passes(name));
                sent.length.encode_end(&trailers, &mut bytes);
            }
            Piece::More => {}
        }
        if is_end || needs_more || bytes.len() >= PIECE_MAX {
            tokio::select! {
                biased;
                () = push(service, &mut bytes, progress, moves) => {}
                // While the service takes nothing, nothing of the client is read, not even its end.
                gone = unseen(client, intermediary, moves, UNSEEN_MAX) => return gone.into(),
            }
        }
        if is_end {
            progress.sent.store(true, Relaxed);
            break;
        }
        if needs_more {
            match client.fill().await {
                // It has read enough of the answer to know that the rest is not wanted.
                Ok(0) if progress.begun() => break,
                Ok(0) => return Stopped::Malformed(Malformed::Cut),
                Ok(_) => moves.note(),
                Err(_) => return Stopped::Left,
            }
        }
    }
    left(client, intermediary, moves).await.into()
}

/// Writes to a service that still takes something; one that has answered early may not, and its
/// answer counts.
async fn push<U: AsyncWrite + Unpin>(
    service: &mut Output<'_, U>,
    bytes: &mut Vec<u8>,
    progress: &ExchangeProgress,
    moves: &Moves,
) {
    if !progress.refused.load(Relaxed) && service.write(bytes, moves).await.is_err() {
        progress.refused.store(true, Relaxed);
    }
    bytes.clear();
}

/// The certainty with which a client has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// The system says so.
    Surely,
    /// It may be there, and nothing has moved for too long.
    Maybe,
}

/// Returns when the client has left, or may have left and nothing has moved since. A client that
/// closes its side may still read; the intermediary knows more of it, or time decides.
pub(super) async fn left<I: Intermediary>(
    client: &mut Input<'_, I::Client>,
    intermediary: &I,
    moves: &Moves,
) -> Gone {
    let limit = loop {
        if client.is_full() {
            break UNSEEN_MAX;
        }
        match client.fill().await {
            Ok(0) => break HALF_CLOSED_MAX,
            Ok(_) => {}
            Err(_) => return Gone::Surely,
        }
    };
    for pause in [Duration::ZERO, GONE_AGAIN] {
        sleep(pause).await;
        if client.stream_is(|client| intermediary.has_left(client)) {
            return Gone::Surely;
        }
    }
    unseen(client, intermediary, moves, limit).await
}

/// Returns when nothing has moved for `limit`, or earlier if the intermediary finds that the client
/// has left.
async fn unseen<I: Intermediary>(
    client: &Input<'_, I::Client>,
    intermediary: &I,
    moves: &Moves,
    limit: Duration,
) -> Gone {
    let mut silent = LOOK;
    while silent < limit {
        moves.idle_for(silent).await;
        if client.stream_is(|client| intermediary.has_left(client)) {
            return Gone::Surely;
        }
        silent += LOOK;
    }
    moves.idle_for(limit).await;
    Gone::Maybe
}

async fn receive<C, U>(
    service: &mut Input<'_, U>,
    client: &mut Output<'_, C>,
    sent: &Sent<'_>,
    progress: &ExchangeProgress,
    moves: &Moves,
) -> ExchangeEnd
where
    C: AsyncWrite + Unpin,
    U: AsyncRead + Unpin,
{
    let mut answer = match final_head(service, client, sent, progress, moves).await {
        Ok(answer) => answer,
        Err(ended) => return ended,
    };
    let length = match Length::of_answer(sent.method, &answer) {
        Ok(length) => length,
        Err(malformed) => return ExchangeEnd::Failed(Fault::Answer(malformed)),
    };
    let has_two_lengths = length == Length::Chunked && answer.fields.has("content-length");
    let keep_service = answer.version == HttpVersion::Http11
        && length != Length::UntilClose
        && !has_two_lengths
        && !answer.fields.lists("connection", "close");
    // Chunks show where an answer without a length ends.
    let outbound = match (length, sent.version) {
        (Length::Chunked | Length::UntilClose, HttpVersion::Http11) => Length::Chunked,
        (Length::Chunked | Length::UntilClose, HttpVersion::Http10) => Length::UntilClose,
        (length @ (Length::None | Length::Exact(_)), _) => length,
    };
    // The rest of a request that nobody reads would look like the next one.
    let keep_client = sent.keep && progress.sent.load(Relaxed) && outbound != Length::UntilClose;
    passing::inbound(&mut answer, outbound, !keep_client, sent.date);
    progress.chunked.store(outbound == Length::Chunked, Relaxed);
    progress.begun.store(true, Relaxed);
    let framing = [length, outbound];
    if let Err(ended) = pass_body(service, client, answer.encode(), framing, moves).await {
        return ended;
    }
    let whole = progress.sent.load(Relaxed) && !progress.refused.load(Relaxed);
    ExchangeEnd::Answered {
        whole,
        client: keep_client,
        // Bytes beyond its answer belong to no request.
        service: keep_service && whole && service.bytes.is_empty(),
    }
}

/// Reads heads until that of the answer itself; the interim ones before it go on to the client.
async fn final_head<C, U>(
    service: &mut Input<'_, U>,
    client: &mut Output<'_, C>,
    sent: &Sent<'_>,
    progress: &ExchangeProgress,
    moves: &Moves,
) -> Result<HttpResponse, ExchangeEnd>
where
    C: AsyncWrite + Unpin,
    U: AsyncRead + Unpin,
{
    let mut heard = false;
    loop {
        let head = match service.head(begins_as_http).await {
            Ok(Some(head)) => head,
            Ok(None) if heard => return Err(no_answer("it closed the connection after a 1xx")),
            Ok(None) => return Err(ExchangeEnd::Nothing("it closed the connection".to_owned())),
            Err(NoHead::Malformed(malformed)) => {
                return Err(ExchangeEnd::Failed(Fault::Answer(malformed)));
            }
            Err(NoHead::Io(error)) if heard => return Err(no_answer(&error.to_string())),
            Err(NoHead::Io(error)) => return Err(ExchangeEnd::Nothing(error.to_string())),
        };
        moves.note();
        heard = true;
        let mut answer = match HttpResponse::parse(&head) {
            Ok(answer) => answer,
            Err(malformed) => return Err(ExchangeEnd::Failed(Fault::Answer(malformed))),
        };
        if answer.status == SWITCHING {
            let agreed =
                progress.sent.load(Relaxed) && passing::switched(&mut answer, &sent.upgrades);
            if !agreed {
                return Err(ExchangeEnd::Failed(Fault::UnaskedUpgrade));
            }
            return Err(match client.write(&answer.encode(), moves).await {
                Ok(()) => ExchangeEnd::Switched,
                Err(_) => ExchangeEnd::Left,
            });
        }
        if !answer.is_interim() {
            return Ok(answer);
        }
        // Clients of 1.0 take the first head for the answer (RFC 9110, section 15.2).
        if sent.version == HttpVersion::Http11 {
            passing::interim(&mut answer);
            if client.write(&answer.encode(), moves).await.is_err() {
                return Err(ExchangeEnd::Left);
            }
        }
    }
}

/// Passes a body after `bytes`, which are the head: it comes with the first framing and goes on
/// with the second.
async fn pass_body<C, U>(
    service: &mut Input<'_, U>,
    client: &mut Output<'_, C>,
    mut bytes: Vec<u8>,
    framing: [Length; 2],
    moves: &Moves,
) -> Result<(), ExchangeEnd>
where
    C: AsyncWrite + Unpin,
    U: AsyncRead + Unpin,
{
    let [inbound, outbound] = framing;
    let cut = ExchangeEnd::Cut {
        shows: outbound == Length::Chunked,
    };
    let mut decoder = Decoder::new(inbound, Writer::Service);
    let trailers = loop {
        let piece = match decoder.decode(service.bytes) {
            Ok(piece) => piece,
            Err(_) => return Err(cut),
        };
        let needs_more = piece == Piece::More;
        match piece {
            Piece::Data(data) => outbound.encode(&data, &mut bytes),
            Piece::End(trailers) => break trailers,
            Piece::More => {}
        }
        if needs_more || bytes.len() >= PIECE_MAX {
            if client.write(&bytes, moves).await.is_err() {
                return Err(ExchangeEnd::Left);
            }
            bytes.clear();
        }
        if needs_more {
            match service.fill().await {
                Ok(0) if decoder.ends_here() => break Fields::default(),
                Ok(0) | Err(_) => return Err(cut),
                Ok(_) => moves.note(),
            }
        }
    };
    let mut trailers = trailers;
    passing::trailers(&mut trailers, |_| true);
    outbound.encode_end(&trailers, &mut bytes);
    if client.write(&bytes, moves).await.is_err() {
        return Err(ExchangeEnd::Left);
    }
    Ok(())
}

fn no_answer(error: &str) -> ExchangeEnd {
    ExchangeEnd::Failed(Fault::NoAnswer(error.to_owned()))
}

/// Checks the first bytes of an answer: a service with another protocol may wait for an answer to
/// its own.
fn begins_as_http(bytes: &[u8]) -> Result<(), Malformed> {
    let len = bytes.len().min(MAGIC.len());
    match bytes[..len] == MAGIC[..len] {
        true => Ok(()),
        false => Err(Malformed::StartLine),
    }
}

/// The first bytes of an answer.
const MAGIC: &[u8] = b"HTTP/";

const SWITCHING: u16 = 101;

/// Time without a move once a client has closed its side: most have left, some (`nc -N`) wait for
/// the answer.
pub(super) const HALF_CLOSED_MAX: Duration = Duration::from_secs(10);

/// Time without a move while it cannot be seen whether the client is still there, because the bytes
/// before its end are not read: a service that takes that long for a piece of a body, or a client
/// that sends request upon request without an answer.
pub(super) const UNSEEN_MAX: Duration = Duration::from_secs(120);

/// Time after a client's end before its system is asked once more: a program that closes a
/// connection first ends its side, then lets go of it.
const GONE_AGAIN: Duration = Duration::from_millis(100);

/// Time between two questions whether a client that cannot be seen is still there, while nothing
/// moves.
const LOOK: Duration = Duration::from_secs(5);

/// Bytes that are put together before they are written.
const PIECE_MAX: usize = 64 * 1024;
