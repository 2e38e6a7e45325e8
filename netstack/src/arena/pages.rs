//! The kernel's part in the memory of rings: address space that reads as zeros, and pages that go
//! back. Decides nothing.

#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "mappings; see the arena for the need")
)]

use super::block::Slab;

#[cfg(target_os = "linux")]
mod system {
    use std::ptr::NonNull;

    use rustix::mm::{Advice, MapFlags, ProtFlags};

    use super::Slab;

    /// Address space that reads as zeros. `None` where the system does not give any.
    pub(in super::super) fn reserve(len: usize) -> Option<Slab> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new anonymous mapping wherever there is room touches nothing that exists.
        let start = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, access, flags) };
        let start = NonNull::new(start.ok()?.cast::<u8>())?;
        // With huge pages one byte in a ring would commit 2 MiB. A kernel without them refuses,
        // which is as good.
        //
        // SAFETY: the range is the mapping just made, and the advice changes no contents.
        let _ = unsafe { rustix::mm::madvise(start.as_ptr().cast(), len, Advice::LinuxNoHugepage) };
        Some(Slab::new(start, len))
    }

    /// Returns whether the `len` bytes from a page's start on are no longer resident, and read as
    /// zeros. They are a piece of a slot whose owner needs none of them.
    pub(in super::super) fn give_back(start: *mut u8, len: usize) -> bool {
        // SAFETY: the range lies within a slot. Its owner reads or writes none of the bytes
        // meanwhile; afterwards they are zeros, which is as valid as what they were.
        unsafe { rustix::mm::madvise(start.cast(), len, Advice::LinuxDontNeed) }.is_ok()
    }

    pub(in super::super) fn release(slab: &Slab) {
        // SAFETY: nothing refers to the mapping any more.
        let _ = unsafe { rustix::mm::munmap(slab.start().as_ptr().cast(), slab.len()) };
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::Slab;

    /// Elsewhere no advice promises zeros, so each ring is an allocation of its own.
    pub(in super::super) fn reserve(_: usize) -> Option<Slab> {
        None
    }

    pub(in super::super) fn give_back(_: *mut u8, _: usize) -> bool {
        false
    }

    pub(in super::super) fn release(_: &Slab) {}
}

pub(super) use system::{give_back, release, reserve};
