//! One direction of a connection: bytes go in, and come out later, in order, at a rate, in pieces
//! that do not respect frames.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::script::Dice;

#[derive(Debug)]
pub(crate) struct Wire {
    delay: Duration,
    rate: u64,
    /// Pieces with the time of their arrival.
    pieces: VecDeque<(Instant, Vec<u8>)>,
    in_flight: usize,
    last: Instant,
    /// The far end is gone: what goes in is lost.
    is_hole: bool,
}

impl Wire {
    pub(crate) fn new(now: Instant, delay: Duration, rate: u64) -> Self {
        Self {
            delay,
            rate,
            pieces: VecDeque::new(),
            in_flight: 0,
            last: now,
            is_hole: false,
        }
    }

    /// A wire whose far end is gone.
    pub(crate) fn hole(now: Instant) -> Self {
        Self {
            is_hole: true,
            ..Self::new(now, Duration::ZERO, 1)
        }
    }

    /// A socket takes only so much before it makes the writer wait.
    pub(crate) fn has_room(&self) -> bool {
        self.in_flight < SOCKET_BUFFER
    }

    pub(crate) fn send(&mut self, now: Instant, dice: &mut Dice, bytes: &[u8]) {
        if self.is_hole {
            // A full socket buffer is what a writer into nothing sees.
            self.in_flight += bytes.len();
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(dice.between(1, 40_000) as usize));
            rest = after;
            let serialisation =
                Duration::from_nanos(piece.len() as u64 * 1_000_000_000 / self.rate);
            self.last = self.last.max(now + self.delay) + serialisation;
            self.in_flight += piece.len();
            self.pieces.push_back((self.last, piece.to_vec()));
        }
    }

    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.pieces.front().map(|(at, _)| *at)
    }

    pub(crate) fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.next_arrival()? > now {
            return None;
        }
        let (_, piece) = self.pieces.pop_front()?;
        self.in_flight -= piece.len();
        Some(piece)
    }
}

/// Bytes under way before the writer has to wait.
const SOCKET_BUFFER: usize = 256 * 1024;
