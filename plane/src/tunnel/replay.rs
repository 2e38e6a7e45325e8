//! Decides whether a message counter is new. Holds the last [`WINDOW`] counters of one key and no
//! key.

/// The counters seen under one key: everything older than the window counts as seen.
#[derive(Debug)]
pub(super) struct ReplayWindow {
    /// One more than the highest counter accepted.
    next: u64,
    /// Bit `counter % WINDOW` for each counter in `next - WINDOW .. next`.
    seen: Box<[u64; WORDS]>,
}

impl ReplayWindow {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            seen: Box::new([0; WORDS]),
        }
    }

    /// Returns whether `counter` has not been accepted and is not too old. Ask before the cipher
    /// does its work.
    pub(super) fn is_new(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        let (word, bit) = place(counter);
        self.next - counter <= WINDOW && self.seen[word] & bit == 0
    }

    /// Marks `counter` as seen. Only for a counter whose message is authentic and
    /// [`is_new`](Self::is_new).
    ///
    /// `counter` is below `u64::MAX`: sessions end long before.
    pub(super) fn accept(&mut self, counter: u64) {
        if counter >= self.next {
            self.forget(counter);
            self.next = counter + 1;
        }
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
    }

    /// Clears the places that `next ..= newest` will use. They hold counters that now leave the
    /// window.
    fn forget(&mut self, newest: u64) {
        if newest - self.next >= WINDOW - 1 {
            self.seen.fill(0);
            return;
        }
        let mut counter = self.next;
        while counter <= newest {
            let (word, bit) = place(counter);
            if bit == 1 && newest - counter >= 63 {
                self.seen[word] = 0;
                counter += 64;
            } else {
                self.seen[word] &= !bit;
                counter += 1;
            }
        }
    }
}

fn place(counter: u64) -> (usize, u64) {
    let index = counter % WINDOW;
    // Below WORDS, so the cast is exact.
    ((index / 64) as usize, 1 << (index % 64))
}

/// Counters that may arrive out of order, in messages. The same as the kernel's WireGuard: frames
/// that are sent again after a relay is lost arrive after many newer ones.
pub(super) const WINDOW: u64 = 8192;
const WORDS: usize = (WINDOW / 64) as usize;

#[cfg(test)]
mod tests;
