//! Any order of lending, using, giving back and dropping, with every ring full of its own pattern:
//! no ring ever shows a byte that was written to another, and what a ring has in memory is what it
//! counts.

use proptest::prelude::*;

use smoltcp::iface::SocketSet;

use super::block::PAGE;
use super::tests::{bytes, resident, slack};
use super::*;

/// One thing done to the rings that are lent. `pair` chooses among them.
#[derive(Debug, Clone)]
enum Step {
    Lend { rx: usize, tx: usize },
    Write { pair: usize, len: usize },
    Fill { pair: usize },
    Reclaim { pair: usize },
    ReclaimRx { pair: usize },
    Drop { pair: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..3_u32, 0..2_u32).prop_map(|(rx, tx)| Step::Lend { rx: 1 << rx, tx: 1 << tx }),
        4 => (any::<usize>(), 0..9_000_usize).prop_map(|(pair, len)| Step::Write { pair, len }),
        3 => any::<usize>().prop_map(|pair| Step::Fill { pair }),
        3 => any::<usize>().prop_map(|pair| Step::Reclaim { pair }),
        1 => any::<usize>().prop_map(|pair| Step::ReclaimRx { pair }),
        3 => any::<usize>().prop_map(|pair| Step::Drop { pair }),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The thing to look at after each step: to read a byte brings its page into memory, so not both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Bytes,
    Memory,
}

/// A pair of rings and what each of them must contain.
struct Lent {
    sockets: SocketsOnRings,
    rx: Expected,
    tx: Expected,
}

struct Expected {
    bytes: Vec<u8>,
    /// The bytes beside the ring in its slot, as they were last seen.
    slack: [Vec<u8>; 2],
    /// The place of the next byte.
    at: usize,
    /// Bytes that were written since the ring was lent or given back.
    used: usize,
    pattern: u8,
}

impl Expected {
    fn new(ring: &mut Ring, pattern: u8, look: Look) -> Expected {
        let mut slack = slack(ring);
        if look == Look::Bytes {
            slack.iter_mut().for_each(|slack| slack.fill(pattern));
        }
        Expected {
            slack: slack.map(|slack| match look {
                Look::Bytes => slack.to_vec(),
                Look::Memory => Vec::new(),
            }),
            bytes: vec![0; ring.len()],
            at: 0,
            used: 0,
            pattern,
        }
    }

    /// Writes as the engine does: onwards from where it stopped, and round the end.
    fn write(&mut self, ring: &mut Ring, len: usize) {
        let len = len.min(ring.len() - self.used);
        self.used += len;
        ring.touch(self.used);
        let first = len.min(ring.len() - self.at);
        for (at, len) in [(self.at, first), (0, len - first)] {
            bytes(ring)[at..at + len].fill(self.pattern);
            self.bytes[at..at + len].fill(self.pattern);
        }
        self.at = (self.at + len) % ring.len();
    }

    fn given_back(&mut self, ring: &mut Ring, restarts: bool) {
        if !self.slack[1].is_empty() {
            self.slack = slack(ring).map(|slack| slack.to_vec());
        }
        self.bytes.fill(0);
        self.used = 0;
        if restarts {
            self.at = 0;
        }
    }

    fn check(&self, ring: &mut Ring, look: Look) {
        if look == Look::Bytes {
            assert!(bytes(ring) == self.bytes, "ring {}", self.pattern);
            assert!(slack(ring) == self.slack, "beside ring {}", self.pattern);
        } else {
            // A ring that goes on in its middle may begin and end within a page.
            let spare = if ring.displaced { PAGE } else { 0 };
            let (resident, counted) = (resident(ring), ring.counted() + spare);
            assert!(resident <= counted, "{resident} of {counted}");
        }
    }
}

impl Lent {
    fn new(arena: &RingArena, (rx, tx): (usize, usize), pattern: u8, look: Look) -> Lent {
        let rings = arena.lend(rx * RING_UNIT, tx * RING_UNIT);
        let mut rings = rings.expect("the budget is far away");
        Lent {
            rx: Expected::new(&mut rings.rx, pattern, look),
            tx: Expected::new(&mut rings.tx, pattern + 1, look),
            sockets: SocketsOnRings::new(rings, |_, _| SocketSet::new(Vec::new())),
        }
    }

    fn write(&mut self, len: usize) {
        self.rx.write(&mut self.sockets.rx, len);
        self.tx.write(&mut self.sockets.tx, len);
    }

    fn check(&mut self, look: Look) {
        self.rx.check(&mut self.sockets.rx, look);
        self.tx.check(&mut self.sockets.tx, look);
    }
}

fn run(steps: Vec<Step>, look: Look) {
    let arena = RingArena::new(1 << 30);
    let mut lent: Vec<Lent> = Vec::new();
    let mut next = 1_u8;
    for step in steps {
        let chosen = match step {
            Step::Lend { rx, tx } => {
                if lent.len() < MAX_PAIRS {
                    lent.push(Lent::new(&arena, (rx, tx), next, look));
                    next = if next < 250 { next + 2 } else { 1 };
                }
                continue;
            }
            Step::Write { pair, .. }
            | Step::Fill { pair }
            | Step::Reclaim { pair }
            | Step::ReclaimRx { pair }
            | Step::Drop { pair } => pair % lent.len().max(1),
        };
        let Some(pair) = lent.get_mut(chosen) else {
            continue;
        };
        match step {
            Step::Lend { .. } => {}
            Step::Write { len, .. } => pair.write(len),
            Step::Fill { .. } => pair.write(usize::MAX),
            Step::Reclaim { .. } => {
                pair.sockets.reclaim();
                pair.rx.given_back(&mut pair.sockets.rx, false);
                pair.tx.given_back(&mut pair.sockets.tx, true);
            }
            Step::ReclaimRx { .. } => {
                pair.sockets.reclaim_rx();
                pair.rx.given_back(&mut pair.sockets.rx, false);
            }
            Step::Drop { .. } => drop(lent.swap_remove(chosen)),
        }
        lent.iter_mut().for_each(|lent| lent.check(look));
    }
    drop(lent);
    let usage = arena.usage();
    assert_eq!((usage.lent, usage.committed), (0, usage.hot));
}

/// Rings of one size have thirty-two colours, after which the first comes again.
const MAX_PAIRS: usize = 40;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_ring_shows_what_was_written_to_another(steps in steps()) {
        run(steps, Look::Bytes);
    }

    #[test]
    fn a_ring_has_no_more_in_memory_than_it_counts(steps in steps()) {
        run(steps, Look::Memory);
    }
}

#[test]
fn a_ring_that_was_given_back_and_used_again_leaves_its_neighbour_alone() {
    // Thirty-two slots of one size use up the colours, so one of the last colour lies before one of
    // the first.
    let lend = (0..33).map(|_| Step::Lend { rx: 1, tx: 2 });
    let fill = (0..33).map(|pair| Step::Fill { pair });
    let mut steps: Vec<_> = lend.chain(fill).collect();
    steps.extend([
        Step::Reclaim { pair: 31 },
        Step::Write { pair: 31, len: 10 },
        Step::Drop { pair: 31 },
        Step::Lend { rx: 1, tx: 1 },
        Step::Write { pair: 0, len: 0 },
    ]);
    run(steps, Look::Bytes);
}
