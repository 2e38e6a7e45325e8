//! Exchanges that do what a test wants and note what they get.

use std::sync::Arc;
use std::task::Waker;

use overlan_protocol::exchange::{Batch, FILL};
use overlan_protocol::frame::{self, Frame};
use parking_lot::Mutex;

use super::super::*;

/// The reason why [`Scripted`] ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    InTime,
    Refused,
}

/// Notes the PINGs it gets and sends what it is given.
#[derive(Default)]
pub(super) struct Scripted {
    pub(super) tokens: Vec<u64>,
    /// Bytes that were shown and not taken.
    pub(super) left: usize,
    pub(super) to_send: Arc<Mutex<Vec<Vec<u8>>>>,
    pub(super) waker: Arc<Mutex<Option<Waker>>>,
    pub(super) fills: usize,
    pub(super) end_at: Option<Instant>,
    /// A PING with this token ends it.
    pub(super) refuses: Option<u64>,
    pub(super) last_words: Vec<u8>,
}

impl Exchange for Scripted {
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

    fn fill(&mut self, _now: Instant, waker: &Waker, out: &mut Batch) -> Result<(), Done> {
        self.fills += 1;
        assert!(out.is_empty(), "all that was given before has been taken");
        let mut to_send = self.to_send.lock();
        if !to_send.is_empty() {
            out.packed().append(&mut to_send.remove(0));
        }
        *self.waker.lock() = Some(waker.clone());
        Ok(())
    }

    fn last_words(&mut self, _end: &Done, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.last_words);
    }
}

impl Scripted {
    pub(super) fn sending<const N: usize>(pieces: [Vec<u8>; N]) -> Self {
        Self {
            to_send: Arc::new(Mutex::new(pieces.into())),
            ..Self::default()
        }
    }

    pub(super) fn ending_in(self, time: Duration) -> Self {
        Self {
            end_at: Some(now() + time),
            ..self
        }
    }
}

/// Sends `length` bytes of the pattern and checks as many; ends when both are done.
pub(super) struct Bulk {
    pub(super) sent: usize,
    pub(super) received: usize,
    pub(super) length: usize,
}

impl Bulk {
    pub(super) fn new(length: usize) -> Self {
        Self {
            sent: 0,
            received: 0,
            length,
        }
    }
}

impl Exchange for Bulk {
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

    fn fill(&mut self, _now: Instant, _waker: &Waker, out: &mut Batch) -> Result<(), ()> {
        let end = self.length.min(self.sent + FILL);
        out.packed().extend((self.sent..end).map(pattern));
        self.sent = end;
        // Whatever was given before has been taken; so with nothing given now, all is out.
        let done = out.is_empty() && self.received == self.length;
        if done { Err(()) } else { Ok(()) }
    }

    fn last_words(&mut self, _end: &(), _out: &mut Vec<u8>) {}
}

/// A byte that tells where it belongs, with a period that no buffer size divides.
pub(super) fn pattern(at: usize) -> u8 {
    (at % 251) as u8 ^ (at / 65_521) as u8
}

pub(super) fn patterned(length: usize) -> Vec<u8> {
    (0..length).map(pattern).collect()
}
