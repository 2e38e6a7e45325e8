//! Memory that no ring uses: decides which block is lent next, and which of those that come back
//! keep their pages.

use parking_lot::Mutex;

use super::block::{Block, Dirty, InSlot, PAGE, Slab};
use super::{RING_UNIT, pages, watch};

/// Blocks by the size of their rings, and the mappings they come from.
#[derive(Default)]
pub(super) struct FreeBlocks {
    classes: [SizeClass; CLASSES],
    /// Touched bytes of all hot blocks.
    pub(super) hot_bytes: usize,
    /// All mappings, to be released.
    slabs: Vec<Slab>,
}

/// Blocks whose rings have one size.
#[derive(Default)]
struct SizeClass {
    /// Resident as far as they were touched, and cleared; the last one used is the first one lent.
    hot: Vec<Block>,
    cold: Vec<Block>,
    /// The unused part of the newest slab of this class.
    rest: Option<Slab>,
}

impl FreeBlocks {
    /// A block for a ring of `len` bytes, which reads as zeros.
    pub(super) fn lend(&mut self, len: usize) -> Block {
        let class = &mut self.classes[class_of(len)];
        if let Some(block) = class.hot.pop() {
            self.hot_bytes -= block.touched.0;
            return block;
        }
        if let Some(block) = class.cold.pop() {
            return block;
        }
        if class.rest.is_none()
            && let Some(slab) = Slab::reserve(len)
        {
            self.slabs.push(slab.range());
            class.rest = Some(slab);
        }
        let Some(slab) = class.rest.take() else {
            return Block::allocate(len);
        };
        let (block, rest) = slab.cut(len);
        class.rest = rest;
        block
    }

    /// Keeps a cleared block with its pages, if the reserve has room for it; else returns it.
    fn keep_hot(&mut self, block: Block) -> Option<Block> {
        if self.hot_bytes + block.touched.0 > HOT_RESERVE {
            return Some(block);
        }
        self.hot_bytes += block.touched.0;
        forbid(&block);
        self.classes[class_of(block.len)].hot.push(block);
        None
    }

    fn keep_cold(&mut self, block: Block) {
        forbid(&block);
        self.classes[class_of(block.len)].cold.push(block);
    }
}

impl Drop for FreeBlocks {
    fn drop(&mut self) {
        // Every ring holds the arena, so none is left.
        for slab in &self.slabs {
            pages::release(slab);
        }
    }
}

/// Makes a block ready to be lent again, of which `dirty` may hold other bytes than zeros. `free`
/// is only locked where the block is put.
pub(super) fn take_back(free: &Mutex<FreeBlocks>, mut block: Block, dirty: Dirty) {
    if !block.mapped {
        return block.release();
    }
    if matches!(dirty, Dirty::Start(_)) && block.touched <= InSlot(HOT_RING + PAGE) {
        block.clear(dirty);
        match free.lock().keep_hot(block) {
            Some(left) => block = left,
            None => return,
        }
    }
    if !block.give_back(block.touched) {
        // Locked memory stays where it is.
        block.clear(dirty);
    }
    block.touched = InSlot(0);
    free.lock().keep_cold(block);
}

fn forbid(block: &Block) {
    let (start, len) = block.ring();
    watch::forbid(start, len);
}

fn class_of(len: usize) -> usize {
    (len / RING_UNIT).trailing_zeros() as usize
}

/// Ring sizes there are: 64 KiB to 64 MiB, each twice the one before.
const CLASSES: usize = 11;
/// A ring that touched more bytes than this is not kept hot: to clear it costs more than new pages
/// for the little most connections need.
pub(super) const HOT_RING: usize = 64 << 10;
/// Touched bytes kept for the next connections: both rings of a few hundred short ones at a page
/// each.
pub(super) const HOT_RESERVE: usize = 2 << 20;
