//! The rings of one flow, and the sockets that lie on them: decides which pages a ring counts as
//! used; knows no budget but by asking the arena.

#![expect(
    unsafe_code,
    reason = "slices of mappings that outlive a borrow; see the arena for the need"
)]

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use smoltcp::iface::SocketSet;

use super::block::{Block, Dirty, InRing, InSlot, PAGE};
use super::{Arena, free, watch};

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
        // It starts again from its first byte when it is empty.
        self.tx.reclaim();
    }

    /// The same for the receive ring alone.
    pub(crate) fn reclaim_rx(&mut self) {
        self.rx.reclaim();
        // The socket goes on where it stopped, anywhere in the ring.
        self.rx.displaced = true;
    }

    /// Returns whether there are pages to give back that were not asked for before.
    pub(crate) fn is_committed(&self) -> bool {
        [&self.rx, &self.tx]
            .iter()
            .any(|ring| ring.block.mapped && ring.touched > InSlot(0) && !ring.asleep)
    }
}

/// Memory for one ring, which reads as zeros when it is lent.
pub(crate) struct Ring {
    arena: Arc<Arena>,
    pub(super) block: Block,
    /// The part that may have been written since it was lent or given back; the same in whole
    /// pages.
    used: InRing,
    touched: InSlot,
    /// It was reclaimed while in use: then `used` and `touched` say how much, and not where.
    pub(super) displaced: bool,
    /// It was not touched since it was reclaimed.
    asleep: bool,
}

impl Ring {
    pub(super) fn new(arena: Arc<Arena>, block: Block) -> Ring {
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
    pub(super) fn counted(&self) -> usize {
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

    /// The part of the slot that is resident once the first `bytes` were written.
    fn pages(&self, bytes: InRing) -> InSlot {
        // A displaced ring starts somewhere within a page.
        let extra = if self.displaced { PAGE } else { 0 };
        let pages = (self.block.place(bytes).0 + extra).next_multiple_of(PAGE);
        InSlot(pages).min(self.block.end())
    }

    /// Returns whether the arena has memory for the first `bytes`; `at_least` if nothing else is in
    /// the ring.
    pub(crate) fn has_room(&self, bytes: usize, at_least: bool) -> bool {
        let pages = self.pages(InRing(bytes.min(self.block.len)));
        let more = pages.0.saturating_sub(self.touched.0);
        bytes == 0 || more == 0 || self.arena.has_room(more, at_least)
    }

    /// The end of the part that may be written now, in bytes from the start. Never less than one
    /// small message.
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
    pub(super) unsafe fn bytes(&mut self) -> &'static mut [u8] {
        let (start, len) = self.block.ring();
        // SAFETY: these are initialised bytes that nobody else refers to; the rest is the caller's
        // promise.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Lets the kernel have the pages. Where it refuses, the memory is locked and there is nothing
    /// to be had: then the ring stays as it is, because its bytes belong to a socket and are not
    /// ours to write.
    pub(super) fn reclaim(&mut self) {
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

    /// The end of the part of the slot that may be in memory.
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
        free::take_back(&self.arena.free, self.block.hand_over(), self.dirty());
    }
}

/// Bytes that may always be written to an empty ring: with its colour, two pages.
const SMALLEST: usize = PAGE;
