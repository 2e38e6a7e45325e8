//! One ring's piece of memory, and the address space that it is cut from: decides where in a slot a
//! ring lies, and that no access leaves the slot. Knows nothing of budgets.
//!
//! Places in a ring and places in the slot around it are two types, and the only way to memory is
//! [`Block::piece`], which checks in every build that it stays in the slot.

#![expect(
    unsafe_code,
    reason = "pointers into mappings; see the arena for the need"
)]

use std::ptr::NonNull;

use super::{RING_UNIT, pages, watch};

/// Bytes from the start of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InRing(pub(super) usize);

/// Bytes from the start of a slot. Its ring begins later, by the slot's colour; [`Block::place`]
/// leads from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct InSlot(pub(super) usize);

/// The part of a block that may hold bytes other than zeros.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dirty {
    Nothing,
    /// The ring up to here.
    Start(InRing),
    /// Any part of the ring.
    Anywhere,
}

/// One ring's piece of memory.
pub(super) struct Block {
    slot: NonNull<u8>,
    /// The start of the ring within the slot, in bytes.
    pub(super) colour: usize,
    /// Bytes the ring has.
    pub(super) len: usize,
    /// The end of the resident part of the slot, in whole pages.
    pub(super) touched: InSlot,
    /// A slot of a mapping, rather than an allocation of its own.
    pub(super) mapped: bool,
}

impl Block {
    /// Memory for one ring where there are no mappings.
    pub(super) fn allocate(len: usize) -> Block {
        let bytes = Box::into_raw(vec![0_u8; len].into_boxed_slice());
        Block {
            slot: NonNull::new(bytes.cast()).expect("a box is not null"),
            colour: 0,
            len,
            touched: InSlot(0),
            mapped: false,
        }
    }

    /// Frees a block that was allocated.
    ///
    /// # Panics
    /// If it belongs to a mapping.
    pub(super) fn release(self) {
        assert!(!self.mapped, "a mapping is released as a whole");
        let (start, len) = self.piece(InSlot(0), self.end());
        let bytes = std::ptr::slice_from_raw_parts_mut(start, len);
        // SAFETY: it came from `allocate` with this length, and its owner has let go of it.
        drop(unsafe { Box::from_raw(bytes) });
    }

    /// Leaves the block to another owner. The caller does nothing more with its own.
    pub(super) fn hand_over(&self) -> Block {
        Block { ..*self }
    }

    /// The place in the slot for a place of the ring.
    pub(super) fn place(&self, place: InRing) -> InSlot {
        InSlot(self.colour + place.0)
    }

    /// The end of the slot.
    pub(super) fn end(&self) -> InSlot {
        InSlot(if self.mapped {
            slot_len(self.len)
        } else {
            self.len
        })
    }

    /// A piece of the slot and its length: the only pointer into it that there is.
    ///
    /// # Panics
    /// If the piece is not in the slot, in release builds as well: beyond it lie bytes of other
    /// connections.
    pub(super) fn piece(&self, from: InSlot, to: InSlot) -> (*mut u8, usize) {
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
    pub(super) fn ring(&self) -> (*mut u8, usize) {
        self.piece(self.place(InRing(0)), self.place(InRing(self.len)))
    }

    /// Makes the pages up to `to` zeros that take no memory, and returns whether that was so.
    /// Nobody needs their bytes, or touches them meanwhile; zeros are as valid as what they were.
    pub(super) fn give_back(&self, to: InSlot) -> bool {
        let (start, len) = self.piece(InSlot(0), to);
        self.mapped && (len == 0 || pages::give_back(start, len))
    }

    /// Makes what may be dirty zeros. No socket has the ring any more.
    pub(super) fn clear(&mut self, dirty: Dirty) {
        let to = match dirty {
            Dirty::Nothing => return,
            Dirty::Start(used) => used,
            Dirty::Anywhere => InRing(self.len),
        };
        let (start, len) = self.piece(self.place(InRing(0)), self.place(to));
        // SAFETY: a piece is memory of this block, which is borrowed as a whole.
        unsafe { start.write_bytes(0, len) };
    }

    #[cfg(test)]
    pub(super) fn slot(&self) -> NonNull<u8> {
        self.slot
    }
}

// SAFETY: a block is plain memory that exactly one owner refers to.
unsafe impl Send for Block {}

/// Address space for many rings of one size.
pub(super) struct Slab {
    start: NonNull<u8>,
    len: usize,
}

impl Slab {
    /// Address space at `start`, `len` bytes long.
    #[cfg(target_os = "linux")]
    pub(super) fn new(start: NonNull<u8>, len: usize) -> Slab {
        Slab { start, len }
    }

    /// Address space for rings of `len` bytes. `None` where the system does not give any.
    pub(super) fn reserve(len: usize) -> Option<Slab> {
        let slab = pages::reserve(slot_len(len).max(SLAB))?;
        watch::forbid(slab.start.as_ptr(), slab.len);
        Some(slab)
    }

    /// The same range, to be unmapped once no block of it is in use.
    pub(super) fn range(&self) -> Slab {
        Slab { ..*self }
    }

    #[cfg(target_os = "linux")]
    pub(super) fn start(&self) -> NonNull<u8> {
        self.start
    }

    #[cfg(target_os = "linux")]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Cuts off the slot for a ring of `len` bytes. Returns it, and the rest if it has a slot.
    pub(super) fn cut(mut self, len: usize) -> (Block, Option<Slab>) {
        let slot = slot_len(len);
        let block = Block {
            slot: self.start,
            colour: (slot.max(SLAB) - self.len) / slot * LINE % COLOURED,
            len,
            touched: InSlot(0),
            mapped: true,
        };
        self.len -= slot;
        if self.len < slot {
            return (block, None);
        }
        // SAFETY: a whole slot is left after this one in the same mapping.
        self.start = unsafe { self.start.add(slot) };
        (block, Some(self))
    }
}

// SAFETY: as for blocks.
unsafe impl Send for Slab {}

/// The bytes that a ring of `len` bytes takes in a slab: its size to the next power of two, and
/// room for its colour.
///
/// Without colours the first bytes of all rings, which are all that most flows use, would share one
/// place in every cache and in the page tables, as they all were a power of two apart.
pub(super) fn slot_len(len: usize) -> usize {
    ((len / RING_UNIT) << 16) + STEP
}

/// Bytes in which memory is counted: the smallest pages there are.
pub(super) const PAGE: usize = 4_096;
/// Address space taken at once, in bytes: few mappings, and no memory as long as nothing is
/// touched.
const SLAB: usize = 64 << 20;
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
