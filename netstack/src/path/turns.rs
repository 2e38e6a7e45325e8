//! Decides which of the flows with one remote emits next, and how much of what is not a flow may
//! wait; holds names of flows, not their contents.
//!
//! Three lines are served in this order: flows that were idle and have a word to say, flows that
//! were idle and have data, and those that have had their quantum and want more. The last take
//! turns by bytes (deficit round robin), so that a flow with large packets gets no more than one
//! with small ones.

use std::collections::VecDeque;

/// All that waits to be sent to one remote. Flows wait here by name: their bytes stay in their
/// rings until they are pulled.
pub(crate) struct TurnQueue<F> {
    /// Whole packets that go before everything else: resets and answers.
    control: PacketQueue,
    /// Whole UDP packets; together they take turns like one flow.
    datagrams: PacketQueue,
    /// Flows that were idle until now and have no data to send: acknowledgements, and the words
    /// that open and close. Each sends one small packet that another flow, here or at the remote,
    /// waits for.
    words: VecDeque<Turn<F>>,
    /// Flows that were idle until now; served first, for one quantum.
    sparse: VecDeque<Turn<F>>,
    /// Flows that have had their quantum and want more.
    bulk: VecDeque<Turn<F>>,
    datagrams_wait: bool,
    /// The shell knows that something is here.
    announced: bool,
    resets: TokenBucket,
    answers: TokenBucket,
}

/// The turn of one source: what it may still emit before the others.
pub(crate) struct Turn<F> {
    pub(crate) source: TurnSource<F>,
    deficit: i64,
    was_sparse: bool,
    has_words: bool,
}

pub(crate) enum TurnSource<F> {
    Flow(F),
    Datagrams,
}

/// The wish of a source after it emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    More,
    Nothing,
}

/// The outcome of putting a packet into a bounded queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// The shell must be notified that packets wait.
    pub(crate) announce: bool,
    /// Packets that had to leave, or were not let in, for lack of room or of tokens.
    pub(crate) dropped: u64,
}

impl<F> TurnQueue<F> {
    pub(crate) fn new() -> TurnQueue<F> {
        TurnQueue {
            control: PacketQueue::default(),
            datagrams: PacketQueue::default(),
            words: VecDeque::new(),
            sparse: VecDeque::new(),
            bulk: VecDeque::new(),
            datagrams_wait: false,
            announced: false,
            resets: TokenBucket::default(),
            answers: TokenBucket::default(),
        }
    }

    /// Appends a flow that was not in the queue. Returns whether to notify the shell.
    #[must_use]
    pub(crate) fn push_flow(&mut self, flow: F, quantum: usize, has_data: bool) -> bool {
        let line = if has_data {
            &mut self.sparse
        } else {
            &mut self.words
        };
        line.push_back(Turn {
            source: TurnSource::Flow(flow),
            deficit: quantum as i64,
            was_sparse: has_data,
            has_words: !has_data,
        });
        self.announce()
    }

    /// A reset: its own rate, because a burst of refused connections is ordinary.
    #[must_use]
    pub(crate) fn push_reset(&mut self, now: i64, packet: Vec<u8>) -> Pushed {
        if !self.resets.take(now, RESETS_PER_SECOND) {
            return Pushed {
                announce: false,
                dropped: 1,
            };
        }
        self.push_control(packet)
    }

    /// An answer to something a remote may send as often as it likes.
    #[must_use]
    pub(crate) fn push_answer(&mut self, now: i64, packet: Vec<u8>) -> Pushed {
        if !self.answers.take(now, ANSWERS_PER_SECOND) {
            return Pushed {
                announce: false,
                dropped: 1,
            };
        }
        self.push_control(packet)
    }

    /// A packet of our own making, such as the last word of a flow.
    #[must_use]
    pub(crate) fn push_control(&mut self, packet: Vec<u8>) -> Pushed {
        let dropped = self
            .control
            .push(packet, MAX_CONTROL_PACKETS, MAX_CONTROL_BYTES);
        Pushed {
            announce: self.announce(),
            dropped,
        }
    }

    #[must_use]
    pub(crate) fn push_datagram(&mut self, packet: Vec<u8>, quantum: usize) -> Pushed {
        let dropped = self
            .datagrams
            .push(packet, MAX_DATAGRAMS, MAX_DATAGRAM_BYTES);
        if !self.datagrams_wait {
            self.datagrams_wait = true;
            self.sparse.push_back(Turn {
                source: TurnSource::Datagrams,
                deficit: quantum as i64,
                was_sparse: true,
                has_words: false,
            });
        }
        Pushed {
            announce: self.announce(),
            dropped,
        }
    }

    pub(crate) fn pop_control(&mut self) -> Option<Vec<u8>> {
        self.control.pop()
    }

    /// Takes the source whose turn it is. It comes back by `finish_turn`.
    /// `None` means that nothing waits and that the shell must be notified of the next packet.
    pub(crate) fn take_turn(&mut self, quantum: usize) -> Option<Turn<F>> {
        loop {
            let next = self
                .words
                .pop_front()
                .or_else(|| self.sparse.pop_front())
                .or_else(|| self.bulk.pop_front());
            let Some(mut turn) = next else {
                self.announced = false;
                return None;
            };
            if turn.deficit > 0 {
                return Some(turn);
            }
            // Many flows at work make a round long in any case; longer turns then keep the bytes of
            // one flow together, and its reader is woken for more of them.
            let packets = (self.bulk.len() / FLOWS_PER_EXTRA_PACKET).clamp(1, TURN_PACKETS_MAX);
            turn.deficit += (packets * quantum) as i64;
            turn.was_sparse = false;
            self.bulk.push_back(turn);
        }
    }

    /// Accounts for what a source emitted. Returns whether it stays in the queue, and whether to
    /// notify the shell.
    ///
    /// A source that ran empty during its first quantum stays for one round among the others:
    /// otherwise one that asks for a packet at a time would always go first.
    #[must_use]
    pub(crate) fn finish_turn(
        &mut self,
        mut turn: Turn<F>,
        emitted: usize,
        wants: Wants,
    ) -> (bool, bool) {
        turn.deficit -= emitted as i64;
        let stays = match wants {
            Wants::More => true,
            Wants::Nothing => turn.was_sparse && emitted > 0 && !self.bulk.is_empty(),
        };
        if matches!(turn.source, TurnSource::Datagrams) {
            self.datagrams_wait = stays;
        }
        if !stays {
            return (false, false);
        }
        if std::mem::take(&mut turn.has_words) {
            // Data came up meanwhile, so it is a flow like others.
            turn.was_sparse = true;
        }
        if turn.deficit > 0 && wants == Wants::More {
            if turn.was_sparse {
                &mut self.sparse
            } else {
                &mut self.bulk
            }
            .push_front(turn);
        } else {
            turn.was_sparse = false;
            self.bulk.push_back(turn);
        }
        (true, self.announce())
    }

    /// Takes the datagram whose turn it is. Returns it, and whether to notify the shell.
    #[must_use]
    pub(crate) fn finish_datagram_turn(&mut self, turn: Turn<F>) -> (Option<Vec<u8>>, bool) {
        let packet = self.datagrams.pop();
        let wants = if self.datagrams.packets.is_empty() {
            Wants::Nothing
        } else {
            Wants::More
        };
        let len = packet.as_ref().map_or(0, Vec::len);
        let (_, announce) = self.finish_turn(turn, len, wants);
        (packet, announce)
    }

    /// Forgets every waiting packet and source. Returns the flows among them.
    pub(crate) fn clear(&mut self) -> Vec<F> {
        self.control = PacketQueue::default();
        self.datagrams = PacketQueue::default();
        self.datagrams_wait = false;
        self.announced = false;
        let turns = [&mut self.words, &mut self.sparse, &mut self.bulk]
            .into_iter()
            .flat_map(|line| line.drain(..));
        turns
            .filter_map(|turn| match turn.source {
                TurnSource::Flow(flow) => Some(flow),
                TurnSource::Datagrams => None,
            })
            .collect()
    }

    /// Returns whether nobody waits for a turn.
    pub(crate) fn is_empty(&self) -> bool {
        self.control.packets.is_empty()
            && self.words.is_empty()
            && self.sparse.is_empty()
            && self.bulk.is_empty()
    }

    fn announce(&mut self) -> bool {
        !std::mem::replace(&mut self.announced, true)
    }
}

/// Packets of resets and answers one remote may have waiting, and their bytes: a burst of refused
/// connections fits, a flood of pings is cut off.
const MAX_CONTROL_PACKETS: usize = 1_024;
const MAX_CONTROL_BYTES: usize = 1 << 20;
/// UDP packets one remote may have waiting, and their bytes: about 10 ms of a gigabit. Older ones
/// are worth less.
const MAX_DATAGRAMS: usize = 512;
const MAX_DATAGRAM_BYTES: usize = 1 << 20;
/// Resets one remote may cause per second, and at once.
const RESETS_PER_SECOND: i64 = 2_000;
/// Echo replies, port-unreachables and repeated last acknowledgements one remote may cause per
/// second, and at once.
const ANSWERS_PER_SECOND: i64 = 500;

/// Bounded; the oldest packet leaves first.
#[derive(Default)]
struct PacketQueue {
    packets: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl PacketQueue {
    /// Returns how many packets had to leave.
    fn push(&mut self, packet: Vec<u8>, max_packets: usize, max_bytes: usize) -> u64 {
        self.bytes += packet.len();
        self.packets.push_back(packet);
        let mut dropped = 0;
        while self.packets.len() > max_packets || self.bytes > max_bytes {
            self.pop();
            dropped += 1;
        }
        dropped
    }

    fn pop(&mut self) -> Option<Vec<u8>> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.len();
        Some(packet)
    }
}

/// Each of so many flows at work adds a packet to a turn.
const FLOWS_PER_EXTRA_PACKET: usize = 8;

/// Packets of one turn at most: with the large MTU, what a reader takes in one go.
const TURN_PACKETS_MAX: usize = 4;

/// A token bucket that holds one second's worth.
#[derive(Default)]
struct TokenBucket {
    /// In millionths of a token, below what a full bucket holds.
    missing: i64,
    last: i64,
}

impl TokenBucket {
    fn take(&mut self, now: i64, per_second: i64) -> bool {
        let passed = (now - self.last).clamp(0, 1_000_000);
        self.last = self.last.max(now);
        self.missing = (self.missing - passed * per_second).max(0);
        let granted = self.missing + 1_000_000 <= per_second * 1_000_000;
        if granted {
            self.missing += 1_000_000;
        }
        granted
    }
}

#[cfg(test)]
mod tests;
