//! A pump over sockets that are slow, stall or break when the test wants it. Time is virtual except
//! where a real socket is used.

mod arriving;
mod both_ways;
mod exchanges;
mod last_words;
mod packing;
mod sockets;
mod stalls;
mod turns;

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

/// Timers are as exact as the runtime's wheel, one millisecond.
fn check_time(took: Duration, expected: Duration) {
    let late = took.checked_sub(expected);
    assert!(
        late.is_some_and(|late| late < Duration::from_millis(5)),
        "{took:?} instead of {expected:?}"
    );
}
