#![expect(
    unsafe_code,
    reason = "the tests look at the memory of rings without a socket on it"
)]

use smoltcp::iface::SocketSet;

#[cfg(target_os = "linux")]
use super::block::slot_len;
use super::block::{Block, InRing, InSlot, PAGE};
use super::free::{HOT_RESERVE, HOT_RING};
use super::*;

const SMALL: usize = RING_UNIT * 4;

fn write(pair: &mut RingPair, rx: &[u8], tx: &[u8]) {
    for (ring, data) in [(&mut pair.rx, rx), (&mut pair.tx, tx)] {
        // SAFETY: the slice does not outlive this turn.
        let bytes = unsafe { ring.bytes() };
        bytes[..data.len()].copy_from_slice(data);
        ring.touch(data.len());
    }
}

fn is_zero(ring: &mut Ring) -> bool {
    // SAFETY: the slice does not outlive the statement.
    unsafe { ring.bytes() }.iter().all(|byte| *byte == 0)
}

/// All of the ring, for as long as the test does nothing else with it.
pub(super) fn bytes(ring: &mut Ring) -> &mut [u8] {
    // SAFETY: the slice borrows the ring, and no socket of a test uses the memory.
    unsafe { ring.bytes() }
}

/// The parts of the ring's slot that belong to no ring: before its colour, and after its end.
/// Nothing, where valgrind sees to it.
#[cfg(target_os = "linux")]
pub(super) fn slack(ring: &mut Ring) -> [&mut [u8]; 2] {
    if watch::is_on() {
        return [&mut [], &mut []];
    }
    let (slot, colour, end) = (
        ring.block.slot().as_ptr(),
        ring.block.colour,
        ring.block.colour + ring.len(),
    );
    // SAFETY: the slot is a mapping that long, and nothing but a test refers to these parts of it.
    unsafe {
        [
            std::slice::from_raw_parts_mut(slot, colour),
            std::slice::from_raw_parts_mut(slot.add(end), slot_len(ring.len()) - end),
        ]
    }
}

/// Bytes of the ring's slot that are in memory, as the kernel tells it page by page.
#[cfg(target_os = "linux")]
pub(super) fn resident(ring: &Ring) -> usize {
    use std::os::unix::fs::FileExt;

    let first = ring.block.slot().as_ptr() as usize / PAGE;
    let mut entries = vec![0; slot_len(ring.len()) / PAGE * 8];
    let file = std::fs::File::open("/proc/self/pagemap").unwrap();
    file.read_exact_at(&mut entries, first as u64 * 8).unwrap();
    // The top bit of each little-endian entry.
    let present = |entry: &&[u8]| entry[7] & 0x80 != 0;
    entries.chunks(8).filter(present).count() * PAGE
}

#[test]
fn a_used_ring_comes_back_hot_and_clean() {
    let arena = RingArena::new(1 << 30);
    let mut pair = arena.lend(SMALL, SMALL).unwrap();
    write(&mut pair, &[7; 5_000], &[9; 100]);
    assert_eq!(arena.usage().committed, 3 * PAGE);
    assert_eq!(arena.usage().lent, 2 * SMALL);
    let places = [pair.rx.block.slot(), pair.tx.block.slot()];
    drop(pair);
    let usage = arena.usage();
    assert_eq!(
        (usage.lent, usage.hot, usage.committed),
        (0, 3 * PAGE, 3 * PAGE)
    );
    let mut again = arena.lend(SMALL, SMALL).unwrap();
    assert!(places.contains(&again.rx.block.slot()) && places.contains(&again.tx.block.slot()));
    assert!(is_zero(&mut again.rx) && is_zero(&mut again.tx));
    assert_eq!(arena.usage().hot, 0);
}

#[test]
fn a_ring_that_was_full_comes_back_clean_and_cold() {
    let arena = RingArena::new(1 << 30);
    let mut pair = arena.lend(SMALL, SMALL).unwrap();
    write(&mut pair, &[7; SMALL], &[]);
    let place = pair.rx.block.slot();
    drop(pair);
    assert_eq!(arena.usage(), RingUsage::default());
    let mut others: Vec<_> = (0..2).map(|_| arena.lend(SMALL, SMALL).unwrap()).collect();
    let mut rings = others
        .iter_mut()
        .flat_map(|pair| [&mut pair.rx, &mut pair.tx]);
    let again = rings.find(|ring| ring.block.slot() == place).unwrap();
    assert!(is_zero(again));
}

#[test]
fn the_hot_reserve_has_an_end() {
    let arena = RingArena::new(1 << 30);
    let mut pairs: Vec<_> = (0..100)
        .map(|_| arena.lend(SMALL, SMALL).unwrap())
        .collect();
    for pair in &mut pairs {
        write(pair, &[1; HOT_RING], &[]);
    }
    assert!(arena.usage().committed >= 100 * HOT_RING);
    drop(pairs);
    let usage = arena.usage();
    assert!((HOT_RESERVE - HOT_RING - PAGE..=HOT_RESERVE).contains(&usage.hot));
    assert_eq!(usage.committed, usage.hot);
}

#[cfg(target_os = "linux")]
#[test]
fn reclaimed_rings_hold_no_pages_and_go_on() {
    let arena = RingArena::new(1 << 30);
    let pair = arena.lend(RING_UNIT * 64, RING_UNIT * 64).unwrap();
    let mut sockets = SocketsOnRings::new(pair, |rx, tx| {
        rx[10_000] = 1;
        tx.fill(2);
        SocketSet::new(Vec::new())
    });
    sockets.rx.touch(10_001);
    sockets.tx.touch(RING_UNIT * 64);
    assert!(sockets.is_committed());
    assert!(resident(&sockets.tx) >= RING_UNIT * 64);
    sockets.reclaim();
    assert!(!sockets.is_committed());
    assert_eq!(resident(&sockets.tx), 0);
    assert_eq!(arena.usage().committed, 0);
    // What is used after a reclaim may lie anywhere, so all of it goes back at the end.
    sockets.rx.touch(10);
    assert_eq!(sockets.rx.counted(), 2 * PAGE);
    drop(sockets);
    assert_eq!(arena.usage(), RingUsage::default());
}

#[test]
fn the_budget_decides_how_big_a_new_ring_is() {
    const LARGE: usize = RING_UNIT * 64;
    let arena = RingArena::new(100 * PAGE);
    let sizes = |arena: &RingArena| {
        let pair = arena.lend(LARGE, SMALL)?;
        Some((pair.rx.len(), pair.tx.len()))
    };
    let mut hog = arena.lend(LARGE, LARGE).unwrap();
    for (pages, expected) in [
        (50, Some((LARGE, SMALL))),
        (51, Some((RING_UNIT * 16, SMALL))),
        (80, Some((RING_UNIT * 16, SMALL))),
        (81, Some((SMALL, SMALL))),
        (95, Some((SMALL, SMALL))),
        (96, None),
    ] {
        hog.rx.touch(pages * PAGE);
        assert_eq!(sizes(&arena), expected, "{pages} pages");
    }
    drop(hog);
    assert_eq!(sizes(&arena), Some((LARGE, SMALL)));
    // A ring below the pressed size stays as it is.
    assert_eq!(
        arena.lend(RING_UNIT, RING_UNIT).unwrap().rx.len(),
        RING_UNIT
    );
}

#[test]
fn rings_without_a_mapping_work_and_are_freed() {
    let arena = RingArena::new(1 << 30);
    let mut ring = Ring::new(arena.0.clone(), Block::allocate(SMALL));
    arena.0.lent.fetch_add(SMALL, Relaxed);
    arena.0.rings.fetch_add(1, Relaxed);
    assert!(is_zero(&mut ring));
    ring.touch(SMALL);
    ring.reclaim();
    assert!(arena.usage().committed >= SMALL);
    drop(ring);
    assert_eq!(arena.usage(), RingUsage::default());
}

#[test]
fn a_bounded_arena_gives_new_rings_a_share_of_what_is_left() {
    const LARGE: usize = RING_UNIT * 256;
    let arena = RingArena::bounded(22 << 20, 100);
    let pairs: Vec<_> = (0..100)
        .map(|_| arena.lend(LARGE, LARGE).unwrap())
        .collect();
    let sizes: Vec<_> = pairs.iter().map(|pair| pair.rx.len() / RING_UNIT).collect();
    assert!(sizes.is_sorted_by(|one, next| one >= next), "{sizes:?}");
    assert_eq!((sizes[0], sizes[99]), (8, 1));
    let full: usize = pairs.iter().map(|pair| pair.rx.len()).sum();
    assert!(full < 22 << 20, "one direction of all fits: {full}");
    assert!(
        arena.lend(RING_UNIT, RING_UNIT).is_none(),
        "there are enough"
    );
    drop(pairs);
    let again = arena.lend(LARGE, LARGE).unwrap();
    assert_eq!(again.rx.len(), 8 * RING_UNIT);
}

#[test]
fn a_bounded_arena_does_not_count_rings_that_sleep() {
    let arena = RingArena::bounded(22 << 20, 100);
    let mut pairs: Vec<_> = (0..90).map(|_| arena.lend(SMALL, SMALL).unwrap()).collect();
    assert_eq!(arena.lend(SMALL, SMALL).unwrap().rx.len(), RING_UNIT);
    for pair in &mut pairs {
        pair.rx.reclaim();
        pair.tx.reclaim();
    }
    assert_eq!(arena.lend(SMALL, SMALL).unwrap().rx.len(), SMALL);
}

#[test]
fn rings_of_a_bounded_arena_do_not_grow_beyond_its_budget() {
    let arena = RingArena::bounded(8 * PAGE, 10);
    let mut one = arena.lend(RING_UNIT, RING_UNIT).unwrap();
    let mut other = arena.lend(RING_UNIT, RING_UNIT).unwrap();
    assert!(one.rx.has_room(6 * PAGE, false));
    one.rx.touch(6 * PAGE);
    let used = arena.usage().committed;
    assert!(!other.rx.has_room(3 * PAGE, false), "{used}");
    assert!(
        other.rx.has_room(PAGE, true),
        "an empty ring gets the first bytes"
    );
    assert!(!other.rx.has_room(8 * PAGE, true), "and no more");
    assert!(one.rx.has_room(6 * PAGE, false), "what is touched stays");
    assert!(other.tx.reach() < 3 * PAGE && other.tx.reach() >= PAGE);
    drop(one);
    assert!(other.rx.has_room(3 * PAGE, false));
    // Where the budget is none, nothing is asked.
    let free = RingArena::new(PAGE).lend(RING_UNIT, RING_UNIT).unwrap();
    assert!(free.rx.has_room(RING_UNIT, false) && free.tx.reach() == usize::MAX);
    other.tx.touch(RING_UNIT);
    assert_eq!(other.tx.reach(), usize::MAX, "all of it is touched");
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn valgrind_knows_what_may_be_touched() {
    let arena = RingArena::new(1 << 30);
    let mut pair = arena.lend(RING_UNIT, RING_UNIT).unwrap();
    let ring = bytes(&mut pair.rx).as_mut_ptr_range();
    let allowed = |byte: *mut u8| watch::is_allowed(byte);
    let lent = [
        allowed(ring.start),
        allowed(ring.end.wrapping_sub(1)),
        allowed(ring.end),
    ];
    drop(pair);
    let returned = [allowed(ring.start), allowed(ring.end.wrapping_sub(1))];
    if watch::is_on() {
        assert_eq!((lent, returned), ([true, true, false], [false; 2]));
    }
}

#[test]
#[should_panic(expected = "is not within")]
fn a_piece_beyond_the_slot_is_refused() {
    let arena = RingArena::new(1 << 30);
    let pair = arena.lend(RING_UNIT, RING_UNIT).unwrap();
    let block = &pair.tx.block;
    // A length from the slot's start, taken for one from the ring's.
    let _ = block.piece(InSlot(0), block.place(InRing(block.end().0)));
}
