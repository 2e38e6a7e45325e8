//! Decides, for one remote, which of its flows emits next and how its clock runs; holds no flow's contents.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::RING_UNIT;
use crate::table::FlowCell;

/// Everything that is shared by the flows with one remote.
pub(crate) struct Path {
    pub(crate) remote: IpAddr,
    /// Flows that the remote has opened.
    pub(crate) inbound: AtomicUsize,
    /// Measured by the owner, in microseconds; `UNKNOWN` before.
    round_trip: AtomicU32,
    /// Flows that have much to send.
    busy: AtomicUsize,
    clock: Clock,
    queue: Mutex<Queue>,
}

/// One point in time, in ticks (microseconds) on the two clocks a flow knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Since the stack was made.
    pub(crate) real: i64,
    /// The same without the time this path was stalled.
    pub(crate) path: i64,
}

impl Path {
    pub(crate) fn new(remote: IpAddr) -> Path {
        Path {
            remote,
            inbound: AtomicUsize::new(0),
            round_trip: AtomicU32::new(UNKNOWN),
            busy: AtomicUsize::new(0),
            clock: Clock {
                skipped: AtomicI64::new(0),
                stalled_since: AtomicI64::new(RUNNING),
            },
            queue: Mutex::new(Queue::default()),
        }
    }

    pub(crate) fn moment(&self, real: i64) -> Moment {
        Moment {
            real,
            path: self.clock.read(real),
        }
    }

    /// When the path's clock shows `path` ticks. `None` while it stands still.
    pub(crate) fn real(&self, path: i64) -> Option<i64> {
        let running = self.clock.stalled_since.load(Relaxed) == RUNNING;
        running.then(|| path.saturating_add(self.clock.skipped.load(Relaxed)))
    }

    pub(crate) fn set_round_trip(&self, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(UNKNOWN - 1);
        self.round_trip.store(micros.min(UNKNOWN - 1), Relaxed);
    }

    /// The ring that keeps a gigabit per second going over one round trip, in bytes. A smaller one would cost no less
    /// on a short path: below 256 KiB the packets it holds are too few for a batch. There a flow has
    /// room for what keeps every process of the way at work while fewer than `FEW_FLOWS` are `awake`.
    pub(crate) fn ring(&self, awake: usize) -> usize {
        match self.round_trip.load(Relaxed) {
            0..=SHORT if awake >= FEW_FLOWS => RING_UNIT * 4,
            0..=SHORT => SHARED_WINDOW,
            2_001..=8_000 | UNKNOWN => RING_UNIT * 16,
            8_001..=33_000 => RING_UNIT * 64,
            _ => RING_UNIT * 256,
        }
    }

    /// Bytes that each flow may have under way: over a short path flows share what keeps it busy, as more would only wait in
    /// the sockets between here and there, and so would what a person waits for.
    pub(crate) fn share(&self) -> usize {
        if self.round_trip.load(Relaxed) > SHORT {
            return usize::MAX;
        }
        let busy = self.busy.load(Relaxed).max(1);
        (SHARED_WINDOW / busy).max(RING_UNIT * 4)
    }

    /// A flow with this remote has much to send from now on, or no longer.
    pub(crate) fn set_busy(&self, busy: bool) {
        if busy {
            self.busy.fetch_add(1, Relaxed);
        } else {
            self.busy.fetch_sub(1, Relaxed);
        }
    }

    pub(crate) fn stall(&self, real: i64) {
        let _ = self
            .clock
            .stalled_since
            .compare_exchange(RUNNING, real, Relaxed, Relaxed);
    }

    /// Returns whether the path was stalled.
    pub(crate) fn resume(&self, real: i64) -> bool {
        let since = self.clock.stalled_since.load(Relaxed);
        if since == RUNNING {
            return false;
        }
        self.clock.skipped.fetch_add((real - since).max(0), Relaxed);
        self.clock.stalled_since.store(RUNNING, Relaxed);
        true
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether forgetting this path loses nothing. Only true for one no flow holds.
    pub(crate) fn is_idle(&self) -> bool {
        self.clock.stalled_since.load(Relaxed) == RUNNING && self.queue().is_empty()
    }
}

/// Readers may see a stall begin or end a moment late; a flow never lets its own clock run backwards because of it.
struct Clock {
    skipped: AtomicI64,
    stalled_since: AtomicI64,
}

impl Clock {
    fn read(&self, real: i64) -> i64 {
        let since = self.stalled_since.load(Relaxed);
        let until = if since == RUNNING {
            real
        } else {
            real.min(since)
        };
        until - self.skipped.load(Relaxed)
    }
}

/// A round trip in microseconds within one machine or rack, where distance is no reason for a big window.
const SHORT: u32 = 2_000;

/// Bytes under way that keep sender, relay and receiver at work at once where the path itself holds none: with 256 KiB one stream
/// took a third more processor time, because each had to wait for the others.
const SHARED_WINDOW: usize = RING_UNIT * 16;

/// Flows with memory in their rings beside which another still gets rings for `SHARED_WINDOW` over a short path.
const FEW_FLOWS: usize = 4;

/// Longer than any round trip.
const UNKNOWN: u32 = u32::MAX;

/// No tick is this small.
const RUNNING: i64 = i64::MIN;

/// What waits to be sent to one remote. Flows wait here by name: their bytes stay in their rings until they are pulled.
#[derive(Default)]
pub(crate) struct Queue {
    /// Whole packets that go before everything else: resets and answers.
    control: PacketQueue,
    /// Whole UDP packets; together they take turns like one flow.
    datagrams: PacketQueue,
    /// Flows that were idle until now and have no data to send: acknowledgements, and the words that open and close.
    /// Each sends one small packet that another flow, here or at the remote, waits for.
    words: VecDeque<Turn>,
    /// Flows that were idle until now; served first, for one quantum.
    sparse: VecDeque<Turn>,
    /// Flows that have had their quantum and want more.
    bulk: VecDeque<Turn>,
    datagrams_wait: bool,
    /// The shell knows that something is here.
    announced: bool,
    resets: Bucket,
    answers: Bucket,
}

pub(crate) struct Turn {
    pub(crate) source: Source,
    deficit: i64,
    was_sparse: bool,
    has_words: bool,
}

pub(crate) enum Source {
    Flow(Arc<FlowCell>),
    Datagrams,
}

/// What a source has to say after it emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wants {
    More,
    Nothing,
}

/// What became of a packet that was put into a bounded queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// The shell has to be told that packets wait.
    pub(crate) announce: bool,
    /// Packets that had to leave, or were not let in, for lack of room or of tokens.
    pub(crate) dropped: u64,
}

impl Queue {
    /// Appends a flow that was not in the queue. Returns whether the shell has to be told.
    #[must_use]
    pub(crate) fn push_flow(
        &mut self,
        flow: Arc<FlowCell>,
        quantum: usize,
        has_data: bool,
    ) -> bool {
        let line = if has_data {
            &mut self.sparse
        } else {
            &mut self.words
        };
        line.push_back(Turn {
            source: Source::Flow(flow),
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
                source: Source::Datagrams,
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

    pub(crate) fn pop_datagram(&mut self) -> Option<Vec<u8>> {
        self.datagrams.pop()
    }

    /// Takes the source whose turn it is. It comes back by `finish_turn`.
    /// `None` means that nothing waits and that the shell has to be told about the next packet.
    pub(crate) fn take_turn(&mut self, quantum: usize) -> Option<Turn> {
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
            // Many flows at work make a round long in any case; longer turns then keep the bytes of one flow together, and its
            // reader is woken for more of them.
            let packets = (self.bulk.len() / FLOWS_PER_EXTRA_PACKET).clamp(1, TURN_PACKETS_MAX);
            turn.deficit += (packets * quantum) as i64;
            turn.was_sparse = false;
            self.bulk.push_back(turn);
        }
    }

    /// Accounts for what a source emitted. Returns whether it stays in the queue, and whether the shell has to be told.
    ///
    /// A source that ran empty during its first quantum stays for one round among the others: otherwise one that asks
    /// for a packet at a time would go first for ever.
    #[must_use]
    pub(crate) fn finish_turn(
        &mut self,
        mut turn: Turn,
        emitted: usize,
        wants: Wants,
    ) -> (bool, bool) {
        turn.deficit -= emitted as i64;
        let stays = match wants {
            Wants::More => true,
            Wants::Nothing => turn.was_sparse && emitted > 0 && !self.bulk.is_empty(),
        };
        if matches!(turn.source, Source::Datagrams) {
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

    /// Forgets every waiting packet and source.
    pub(crate) fn clear(&mut self) -> Vec<Arc<FlowCell>> {
        self.control = PacketQueue::default();
        self.datagrams = PacketQueue::default();
        self.datagrams_wait = false;
        self.announced = false;
        let turns = [&mut self.words, &mut self.sparse, &mut self.bulk]
            .into_iter()
            .flat_map(|line| line.drain(..));
        turns
            .filter_map(|turn| match turn.source {
                Source::Flow(flow) => Some(flow),
                Source::Datagrams => None,
            })
            .collect()
    }

    pub(crate) fn has_datagrams(&self) -> bool {
        !self.datagrams.packets.is_empty()
    }

    /// Whether nobody waits for a turn.
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

/// Packets of resets and answers one remote may have waiting, and their bytes: a burst of refused connections fits,
/// a flood of pings is cut off.
const MAX_CONTROL_PACKETS: usize = 1_024;
const MAX_CONTROL_BYTES: usize = 1 << 20;
/// UDP packets one remote may have waiting, and their bytes: about 10 ms of a gigabit. Older ones are worth less.
const MAX_DATAGRAMS: usize = 512;
const MAX_DATAGRAM_BYTES: usize = 1 << 20;
/// Resets one remote may cause per second, and at once.
const RESETS_PER_SECOND: i64 = 2_000;
/// Echo replies, port-unreachables and repeated last acknowledgements one remote may cause per second, and at once.
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
struct Bucket {
    /// In millionths of a token, below what a full bucket holds.
    missing: i64,
    last: i64,
}

impl Bucket {
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
