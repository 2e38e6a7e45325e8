//! Tells valgrind which bytes of the mappings may be touched: those of rings that are lent, and no
//! other. It knows of mappings, but not of the rings in them. Without valgrind all of this does
//! nothing.

#![expect(unsafe_code, reason = "valgrind is asked by instructions")]

use std::arch::asm;

/// These bytes may be read and written, and are initialised.
pub(super) fn allow(start: *mut u8, len: usize) {
    request(MAKE_DEFINED, [start as usize, len, 0]);
}

/// A read or write of one of these bytes is reported.
pub(super) fn forbid(start: *mut u8, len: usize) {
    request(MAKE_NO_ACCESS, [start as usize, len, 0]);
}

/// Returns whether valgrind runs this program.
pub(super) fn is_on() -> bool {
    request(RUNNING_ON_VALGRIND, [0; 3]) > 0
}

/// Returns whether this byte may be touched. Says nothing unless valgrind runs the program.
pub(super) fn is_allowed(byte: *mut u8) -> bool {
    let mut bits = 0_u8;
    request(GET_BITS, [byte as usize, (&raw mut bits) as usize, 1]) == 1
}

/// Asks valgrind for something, as its header `valgrind.h` does it; 0 without it.
fn request(code: usize, arguments: [usize; 3]) -> usize {
    let [first, second, third] = arguments;
    let words = [code, first, second, third, 0, 0];
    let mut answer = 0_usize;
    // SAFETY: the rotations add up to two whole turns and the exchange is with itself, so a
    // processor does nothing. Valgrind takes them for a question, reads `words` and puts its answer
    // into the one register that is declared as changed.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") words.as_ptr(),
            inout("rdx") answer,
            options(nostack),
        );
    }
    answer
}

/// From `valgrind.h` and `memcheck.h`.
const RUNNING_ON_VALGRIND: usize = 0x1001;
const MEMCHECK: usize = 0x4d43_0000;
const MAKE_NO_ACCESS: usize = MEMCHECK;
const MAKE_DEFINED: usize = MEMCHECK + 2;
const GET_BITS: usize = MEMCHECK + 8;
