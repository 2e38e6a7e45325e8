//! Memory for the rings of flows: decides how big a ring may be, which pages it gets and when they
//! go back to the kernel; holds no flow.
//!
//! It is the only place of the workspace with unsafe code. A vector cannot do this job: one of 64
//! KiB is resident as a whole (97 KiB for an idle socket instead of 9), a bigger one is cleared by
//! hand once the allocator recycles it (112 µs for 1 MiB), and none can give back the pages of a
//! ring that is idle while the connection lives on.
//!
//! No byte of one connection is ever shown to another: a ring that is lent reads as zeros, because
//! the pages are new, were given back to the kernel, or were cleared as far as the ring was used.
//! Places in a ring and places in the slot around it are two types, and the only way to memory is
//! [`Block::piece`], which checks in every build that it stays in the slot.

#![expect(
    unsafe_code,
    reason = "mappings, and slices of them that outlive a borrow; see above for the need"
)]

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::{Mutex, MutexGuard};
use smoltcp::iface::SocketSet;

/// The memory of all rings of all stacks that share it. Clones are the same memory, so stacks made
/// from clones of one
/// [`Config`](crate::Config) share one budget. Address space is taken as it is needed and pages as they are used.
#[derive(Clone)]
pub struct RingArena(Arc<Arena>);

/// What a [`RingArena`] holds, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RingUsage {
    /// Memory that rings in use have touched since they were lent or last given back, and the hot
    /// reserve.
    pub committed: usize,
    /// Sizes of all rings in use: what they would commit if all of them were full.
    pub lent: usize,
    /// Touched pages kept for the next short connections.
    pub hot: usize,
}

impl RingArena {
    /// `budget` is the number of committed bytes from which no ring is lent any more. Above half of
    /// it new rings have at most 1 MiB, above four fifths at most 256 KiB, above 95 % there are
    /// none.
    #[must_use]
    pub fn new(budget: usize) -> RingArena {
        RingArena(Arc::new(Arena::new(budget, None)))
    }

    /// The same for a process whose memory is limited: at most `pairs` flows have rings at once, a
    /// new ring gets a share of what the rings of busy flows leave of `budget`, and from `budget`
    /// on no ring grows. Data that would need more waits at its sender. Only the first bytes of an
    /// empty ring go beyond, up to a quarter of the budget.
    #[must_use]
    pub fn bounded(budget: usize, pairs: usize) -> RingArena {
        RingArena(Arc::new(Arena::new(budget, Some(pairs))))
    }

    /// What is held at the moment.
    #[must_use]
    pub fn usage(&self) -> RingUsage {
        let arena = &*self.0;
        let hot = arena.free().hot_bytes;
        RingUsage {
            committed: arena.committed.load(Relaxed) + hot,
            lent: arena.lent.load(Relaxed),
            hot,
        }
    }

    /// A receive and a transmit ring of at most these sizes, which are ring sizes; smaller ones
    /// when much of the budget is used, and `None` when nearly all of it is.
    pub(crate) fn lend(&self, rx: usize, tx: usize) -> Option<RingPair> {
        let most = self.largest()?.min(self.0.share_of_rest());
        if !self.0.reserve_pair() {
            return None;
        }
        let mut free = self.0.free();
        let rx = self.0.lend(&mut free, rx.min(most));
        let tx = self.0.lend(&mut free, tx.min(most));
        drop(free);
        self.0.lent.fetch_add(rx.len + tx.len, Relaxed);
        Some(RingPair {
            rx: Ring::new(self.0.clone(), rx),
            tx: Ring::new(self.0.clone(), tx),
        })
    }

    /// Pairs of rings in use, but for those whose pages were given back and not touched since.
    pub(crate) fn awake(&self) -> usize {
        self.0.awake.load(Relaxed).div_ceil(2)
    }

    fn largest(&self) -> Option<usize> {
        let arena = &*self.0;
        let per_mille = arena.committed.load(Relaxed).saturating_mul(1_000) / arena.budget.max(1);
        match per_mille {
            0..=500 => Some(usize::MAX),
            501..=800 => Some(RING_UNIT * 16),
            801..=950 => Some(RING_UNIT * 4),
            _ => None,
        }
    }
}

impl Default for RingArena {
    fn default() -> RingArena {
        RingArena::new(DEFAULT_BUDGET)
    }
}

impl fmt::Debug for RingArena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingArena")
            .field("budget", &self.0.budget)
            .field("usage", &self.usage())
            .finish()
    }
}

/// A thousand busy flows at the round trips of one site, or 64 over the longest paths.
const DEFAULT_BUDGET: usize = 512 << 20;

/// The two rings of one flow.
pub(crate) struct RingPair {
    pub(crate) rx: Ring,
    pub(crate) tx: Ring,
}

/// A socket set whose one socket has its buffers in two rings. The rings go back when it is
/// dropped.
///
/// Nobody outside ever sees the lifetime of those buffers: work on the sockets is done in closures
/// that have to be right for any lifetime, so none of them can keep a buffer or exchange it for
/// another.
pub(crate) struct SocketsOnRings {
    /// Declared first, so dropped first: the rings outlive what points into them.
    sockets: SocketSet<'static>,
    pub(crate) rx: Ring,
    pub(crate) tx: Ring,
}

impl SocketsOnRings {
    pub(crate) fn new(
        mut rings: RingPair,
        build: impl for<'a> FnOnce(&'a mut [u8], &'a mut [u8]) -> SocketSet<'a>,
    ) -> SocketsOnRings {
        // SAFETY: both rings own their memory alone and are kept beside the sockets until those are
        // dropped. `build` works for every lifetime, so it can put the slices nowhere but into what
        // it returns.
        let (rx, tx) = unsafe { (rings.rx.bytes(), rings.tx.bytes()) };
        SocketsOnRings {
            sockets: build(rx, tx),
            rx: rings.rx,
            tx: rings.tx,
        }
    }

    /// To look at: a buffer cannot be taken out through a shared reference, whatever lifetime it
    /// claims.
    pub(crate) fn get(&self) -> &SocketSet<'static> {
        &self.sockets
    }

    pub(crate) fn with<R>(&mut self, work: impl for<'a> FnOnce(&mut SocketSet<'a>) -> R) -> R {
        work(&mut self.sockets)
    }

    /// Gives the pages of both rings back to the kernel. The caller has made sure that neither
    /// holds a byte that is still needed.
    pub(crate) fn reclaim(&mut self) {
        self.reclaim_rx();
        // It starts anew when it is empty.
        self.tx.reclaim();
    }

    /// The same for the receive ring alone.
    pub(crate) fn reclaim_rx(&mut self) {
        self.rx.reclaim();
        // The socket goes on where it stopped, anywhere in the ring.
        self.rx.displaced = true;
    }

    /// Whether there are pages to give back that were not asked for before.
    pub(crate) fn is_committed(&self) -> bool {
        [&self.rx, &self.tx]
            .iter()
            .any(|ring| ring.block.mapped && ring.touched > InSlot(0) && !ring.asleep)
    }
}

/// Bytes from the start of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct InRing(usize);

/// Bytes from the start of a slot. Its ring begins behind them by the slot's colour;
/// [`Block::place`] leads from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct InSlot(usize);

/// What of a block may not be zeros.
#[derive(Debug, Clone, Copy)]
enum Dirty {
    Nothing,
    /// The ring up to here.
    Start(InRing),
    /// Any part of the ring.
    Anywhere,
}

/// Memory for one ring, which reads as zeros when it is lent.
pub(crate) struct Ring {
    arena: Arc<Arena>,
    block: Block,
    /// What may have been written since it was lent or given back; the same in whole pages.
    used: InRing,
    touched: InSlot,
    /// It was reclaimed while in use: then `used` and `touched` say how much, and not where.
    displaced: bool,
    /// It was not touched since it was reclaimed.
    asleep: bool,
}

impl Ring {
    fn new(arena: Arc<Arena>, block: Block) -> Ring {
        arena.committed.fetch_add(block.touched.0, Relaxed);
        arena.awaken(block.len);
        let (start, len) = block.ring();
        watch::allow(start, len);
        Ring {
            used: InRing(0),
            touched: block.touched,
            arena,
            block,
            displaced: false,
            asleep: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.block.len
    }

    /// Bytes that it counts as in memory.
    #[cfg(all(test, target_os = "linux"))]
    fn counted(&self) -> usize {
        self.touched.0
    }

    /// Takes note that the first `bytes` since it was lent or reclaimed may be written. Cheap
    /// unless pages are new.
    pub(crate) fn touch(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if std::mem::take(&mut self.asleep) {
            self.arena.awaken(self.block.len);
        }
        let reached = InRing(bytes.min(self.block.len));
        self.used = self.used.max(reached);
        let touched = self.pages(reached);
        if touched > self.touched {
            self.arena
                .committed
                .fetch_add(touched.0 - self.touched.0, Relaxed);
            self.touched = touched;
        }
    }

    /// What is resident once the first `bytes` were written.
    fn pages(&self, bytes: InRing) -> InSlot {
        // A displaced ring starts somewhere within a page.
        let extra = if self.displaced { PAGE } else { 0 };
        let pages = (self.block.place(bytes).0 + extra).next_multiple_of(PAGE);
        InSlot(pages).min(self.block.end())
    }

    /// Whether the arena has memory for the first `bytes`; `at_least` if nothing else is in the
    /// ring.
    pub(crate) fn has_room(&self, bytes: usize, at_least: bool) -> bool {
        let pages = self.pages(InRing(bytes.min(self.block.len)));
        let more = pages.0.saturating_sub(self.touched.0);
        bytes == 0 || more == 0 || self.arena.has_room(more, at_least)
    }

    /// How far from its start the ring may be written now, in bytes. Never less than one small
    /// message.
    pub(crate) fn reach(&self) -> usize {
        let whole = self.pages(InRing(self.block.len));
        if self.arena.pairs_max.is_none() || self.touched >= whole {
            return usize::MAX;
        }
        let committed = self.arena.committed.load(Relaxed);
        let more = self.arena.budget.saturating_sub(committed) / PAGE * PAGE;
        (self.touched.0 + more)
            .saturating_sub(self.block.colour)
            .max(SMALLEST)
    }

    /// # Safety
    /// The ring must outlive the slice, and there must be no other slice of it.
    unsafe fn bytes(&mut self) -> &'static mut [u8] {
        let (start, len) = self.block.ring();
        // SAFETY: these are initialised bytes that nobody else refers to; the rest is the caller's
        // promise.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Lets the kernel have the pages. Where it refuses, the memory is locked and there is nothing
    /// to be had: then the ring stays as it is, because its bytes belong to a socket and are not
    /// ours to write.
    fn reclaim(&mut self) {
        if !std::mem::replace(&mut self.asleep, true) {
            self.arena.put_to_sleep(self.block.len);
        }
        if self.touched == InSlot(0) || !self.block.give_back(self.resident()) {
            return;
        }
        self.arena.committed.fetch_sub(self.touched.0, Relaxed);
        self.touched = InSlot(0);
        self.used = InRing(0);
    }

    /// How far pages of the slot may be in memory.
    fn resident(&self) -> InSlot {
        match self.dirty() {
            Dirty::Anywhere => self.block.end(),
            Dirty::Nothing | Dirty::Start(_) => self.touched,
        }
    }

    fn dirty(&self) -> Dirty {
        match (self.touched, self.displaced) {
            (InSlot(0), _) => Dirty::Nothing,
            (_, true) => Dirty::Anywhere,
            (_, false) => Dirty::Start(self.used),
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.arena.lent.fetch_sub(self.block.len, Relaxed);
        if !self.asleep {
            self.arena.put_to_sleep(self.block.len);
        }
        self.arena.rings.fetch_sub(1, Relaxed);
        self.arena.committed.fetch_sub(self.touched.0, Relaxed);
        self.block.touched = self.resident();
        self.arena.take_back(Block { ..self.block }, self.dirty());
    }
}

/// One ring's piece of memory.
struct Block {
    slot: NonNull<u8>,
    /// Where in the slot the ring starts, in bytes.
    colour: usize,
    /// Bytes the ring has.
    len: usize,
    /// How far the slot is resident, in whole pages.
    touched: InSlot,
    /// A slot of a mapping, rather than an allocation of its own.
    mapped: bool,
}

impl Block {
    /// Where in the slot a place of the ring is.
    fn place(&self, place: InRing) -> InSlot {
        InSlot(self.colour + place.0)
    }

    /// Where the slot ends.
    fn end(&self) -> InSlot {
        InSlot(if self.mapped {
            slot_len(self.len)
        } else {
            self.len
        })
    }

    /// A piece of the slot and its length: the only pointer into it that there is.
    ///
    /// # Panics
    /// If the piece is not in the slot, in release builds, too: beyond it lie bytes of other
    /// connections.
    fn piece(&self, from: InSlot, to: InSlot) -> (*mut u8, usize) {
        assert!(
            from <= to && to <= self.end(),
            "{from:?} to {to:?} is not within {:?}",
            self.end()
        );
        // SAFETY: it lies within the slot, or at its end.
        let start = unsafe { self.slot.as_ptr().add(from.0) };
        (start, to.0 - from.0)
    }

    /// The piece that is the ring.
    fn ring(&self) -> (*mut u8, usize) {
        self.piece(self.place(InRing(0)), self.place(InRing(self.len)))
    }

    /// Makes the pages up to `to` zeros that take no memory, and returns whether that was so.
    /// Nobody needs their bytes, or touches them meanwhile; zeros are as valid as what they were.
    fn give_back(&self, to: InSlot) -> bool {
        let (start, len) = self.piece(InSlot(0), to);
        self.mapped && (len == 0 || pages::give_back(start, len))
    }

    /// Makes what may be dirty zeros. No socket has the ring any more.
    fn clear(&mut self, dirty: Dirty) {
        let to = match dirty {
            Dirty::Nothing => return,
            Dirty::Start(used) => used,
            Dirty::Anywhere => InRing(self.len),
        };
        let (start, len) = self.piece(self.place(InRing(0)), self.place(to));
        // SAFETY: a piece is memory of this block, which is borrowed as a whole.
        unsafe { start.write_bytes(0, len) };
    }
}

// SAFETY: a block is plain memory that exactly one owner refers to.
unsafe impl Send for Block {}

struct Arena {
    budget: usize,
    /// Bytes that rings in use have touched.
    committed: AtomicUsize,
    lent: AtomicUsize,
    /// Rings in use that are not asleep, and their sizes.
    awake: AtomicUsize,
    awake_len: AtomicUsize,
    /// Rings in use.
    rings: AtomicUsize,
    /// Pairs of rings that may be in use, where the budget is a bound.
    pairs_max: Option<usize>,
    free: Mutex<Free>,
}

/// What is not in use.
#[derive(Default)]
struct Free {
    classes: [Class; CLASSES],
    /// Touched bytes of all hot blocks.
    hot_bytes: usize,
    slabs: Vec<Slab>,
}

#[derive(Default)]
struct Class {
    /// Resident as far as they were touched, and cleared; the last one used is the first one lent.
    hot: Vec<Block>,
    cold: Vec<Block>,
    /// What is left of the newest slab of this class.
    rest: Option<Slab>,
}

impl Class {
    fn keep_hot(&mut self, block: Block) {
        let (start, len) = block.ring();
        watch::forbid(start, len);
        self.hot.push(block);
    }

    fn keep_cold(&mut self, block: Block) {
        let (start, len) = block.ring();
        watch::forbid(start, len);
        self.cold.push(block);
    }
}

/// Address space for many rings of one size.
struct Slab {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: as for blocks.
unsafe impl Send for Slab {}

impl Arena {
    fn new(budget: usize, pairs_max: Option<usize>) -> Arena {
        Arena {
            budget,
            committed: AtomicUsize::new(0),
            lent: AtomicUsize::new(0),
            awake: AtomicUsize::new(0),
            awake_len: AtomicUsize::new(0),
            rings: AtomicUsize::new(0),
            pairs_max,
            free: Mutex::default(),
        }
    }

    fn awaken(&self, len: usize) {
        self.awake.fetch_add(1, Relaxed);
        self.awake_len.fetch_add(len, Relaxed);
    }

    fn put_to_sleep(&self, len: usize) {
        self.awake.fetch_sub(1, Relaxed);
        self.awake_len.fetch_sub(len, Relaxed);
    }

    /// Counts two more rings, unless there are enough.
    fn reserve_pair(&self) -> bool {
        let most = self.pairs_max.map_or(usize::MAX, |pairs| 2 * pairs);
        self.rings
            .fetch_update(Relaxed, Relaxed, |rings| {
                (rings + 2 <= most).then_some(rings + 2)
            })
            .is_ok()
    }

    /// The largest ring that a new flow gets where the budget is a bound: flows at work together
    /// must find room in it when all of their rings are full.
    fn share_of_rest(&self) -> usize {
        if self.pairs_max.is_none() {
            return usize::MAX;
        }
        let rest = self.budget.saturating_sub(self.awake_len.load(Relaxed));
        let units = (rest / RINGS_PER_REST / RING_UNIT).max(1);
        RING_UNIT << units.ilog2()
    }

    /// Whether `more` bytes may be committed; `at_least` uses what is kept for rings that have
    /// nothing.
    fn has_room(&self, more: usize, at_least: bool) -> bool {
        let kept = if at_least { self.budget / 4 } else { 0 };
        self.pairs_max.is_none() || self.committed.load(Relaxed) + more <= self.budget + kept
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock()
    }

    fn lend(&self, free: &mut Free, len: usize) -> Block {
        let class = &mut free.classes[class_of(len)];
        if let Some(block) = class.hot.pop() {
            free.hot_bytes -= block.touched.0;
            return block;
        }
        if let Some(block) = class.cold.pop() {
            return block;
        }
        if class.rest.is_none() {
            let slab = pages::reserve(slot_len(len).max(SLAB));
            if let Some(slab) = slab {
                watch::forbid(slab.start.as_ptr(), slab.len);
                free.slabs.push(Slab { ..slab });
                class.rest = Some(slab);
            }
        }
        let Some(mut slab) = class.rest.take() else {
            return allocate(len);
        };
        let slot = slot_len(len);
        let block = Block {
            slot: slab.start,
            colour: (slot.max(SLAB) - slab.len) / slot * LINE % COLOURED,
            len,
            touched: InSlot(0),
            mapped: true,
        };
        slab.len -= slot;
        if slab.len >= slot {
            // SAFETY: a whole slot is left behind this one in the same mapping.
            slab.start = unsafe { slab.start.add(slot) };
            class.rest = Some(slab);
        }
        block
    }

    /// Makes a block of which so much may not be zeros ready to be lent again.
    fn take_back(&self, mut block: Block, dirty: Dirty) {
        if !block.mapped {
            return release(block);
        }
        if matches!(dirty, Dirty::Start(_)) && block.touched <= InSlot(HOT_RING + PAGE) {
            block.clear(dirty);
            let mut free = self.free();
            if free.hot_bytes + block.touched.0 <= HOT_RESERVE {
                free.hot_bytes += block.touched.0;
                free.classes[class_of(block.len)].keep_hot(block);
                return;
            }
        }
        if !block.give_back(block.touched) {
            // Locked memory stays where it is.
            block.clear(dirty);
        }
        block.touched = InSlot(0);
        self.free().classes[class_of(block.len)].keep_cold(block);
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // Every ring holds the arena, so none is left.
        for slab in std::mem::take(&mut self.free().slabs) {
            pages::release(&slab);
        }
    }
}

/// The unit of ring sizes, in bytes: a window field times a power of two. Then the announced window
/// is exactly the ring and never more than the free part of it. The engine's own window check is
/// only right for such rings.
pub(crate) const RING_UNIT: usize = 65_535;
/// A new ring may take one part in so many of what is left: a hundred flows get rings of 64 KiB to
/// 512 KiB of 32 MiB.
const RINGS_PER_REST: usize = 32;
/// Bytes that may always be written to an empty ring: with its colour, two pages.
const SMALLEST: usize = PAGE;
/// Bytes in which memory is counted: the smallest pages there are.
const PAGE: usize = 4_096;
/// Address space taken at once: few mappings, and no memory as long as nothing is touched.
const SLAB: usize = 64 << 20;
/// Ring sizes there are: 64 KiB to 64 MiB, each twice the one before.
const CLASSES: usize = 11;
/// A ring that touched more than this is not kept hot: to clear it costs more than new pages for
/// the little most connections need.
const HOT_RING: usize = 64 << 10;
/// Touched bytes kept for the next connections: both rings of a few hundred short ones at a page
/// each.
const HOT_RESERVE: usize = 2 << 20;

fn class_of(len: usize) -> usize {
    (len / RING_UNIT).trailing_zeros() as usize
}

/// What a ring of `len` bytes takes in a slab: its size to the next power of two, and room for its
/// colour.
///
/// Without colours the first bytes of all rings, which are all that most flows use, would share one
/// place in every cache and in the page tables, as they all were a power of two apart.
fn slot_len(len: usize) -> usize {
    ((len / RING_UNIT) << 16) + STEP
}

/// A page, or several where pages may be larger, so that slots begin and end with whole ones.
const STEP: usize = if cfg!(target_arch = "x86_64") {
    PAGE
} else {
    64 << 10
};
/// Bytes of one cache line, by which the colour of a slot differs from that of the one before.
const LINE: usize = 64;
/// Colours stay below this, so that a message of 2 KiB still takes one page.
const COLOURED: usize = PAGE / 2;

/// Memory for one ring where there are no mappings.
fn allocate(len: usize) -> Block {
    let bytes = Box::into_raw(vec![0_u8; len].into_boxed_slice());
    Block {
        slot: NonNull::new(bytes.cast()).expect("a box is not null"),
        colour: 0,
        len,
        touched: InSlot(0),
        mapped: false,
    }
}

fn release(block: Block) {
    let (start, len) = block.piece(InSlot(0), block.end());
    let bytes = std::ptr::slice_from_raw_parts_mut(start, len);
    // SAFETY: it came from `allocate` with this length, and its owner has let go of it.
    drop(unsafe { Box::from_raw(bytes) });
}

#[cfg(target_os = "linux")]
mod pages {
    use std::ptr::NonNull;

    use rustix::mm::{Advice, MapFlags, ProtFlags};

    use super::Slab;

    /// Address space that reads as zeros. `None` where the system does not give any.
    pub(super) fn reserve(len: usize) -> Option<Slab> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping wherever there is room touches nothing that exists.
        let start = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, access, flags) };
        let start = NonNull::new(start.ok()?.cast::<u8>())?;
        let slab = Slab { start, len };
        // With huge pages one byte in a ring would commit 2 MiB. A kernel without them refuses,
        // which is as good. SAFETY: the range is the mapping just made, and the advice changes no
        // contents.
        let _ = unsafe { rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
        Some(slab)
    }

    /// Returns whether the `len` bytes from a page's start on are no longer resident, and read as
    /// zeros. They are a piece of a slot whose owner needs none of them.
    pub(super) fn give_back(start: *mut u8, len: usize) -> bool {
        // SAFETY: the range lies within a slot. Its owner reads or writes none of the bytes
        // meanwhile; afterwards they are zeros, which is as valid as what they were.
        unsafe { rustix::mm::madvise(start.cast(), len, Advice::LinuxDontNeed) }.is_ok()
    }

    pub(super) fn release(slab: &Slab) {
        // SAFETY: nothing refers to the mapping any more.
        let _ = unsafe { rustix::mm::munmap(slab.start.as_ptr().cast(), slab.len) };
    }
}

#[cfg(not(target_os = "linux"))]
mod pages {
    use super::Slab;

    /// Elsewhere no advice promises zeros, so each ring is an allocation of its own.
    pub(super) fn reserve(_: usize) -> Option<Slab> {
        None
    }

    pub(super) fn give_back(_: *mut u8, _: usize) -> bool {
        false
    }

    pub(super) fn release(_: &Slab) {}
}

#[cfg(not(all(test, target_arch = "x86_64")))]
mod watch {
    //! Nobody watches.

    pub(super) fn allow(_: *mut u8, _: usize) {}
    pub(super) fn forbid(_: *mut u8, _: usize) {}
    #[cfg(test)]
    pub(super) fn is_on() -> bool {
        false
    }
}
#[cfg(all(test, target_arch = "x86_64"))]
mod watch;

#[cfg(all(test, target_os = "linux"))]
mod patterns;
#[cfg(test)]
mod tests;
