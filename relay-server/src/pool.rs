//! Keeps buffers for frames between their uses. Decides only how many.

use overlan_protocol::TLS_RECORD_MAX;
use parking_lot::Mutex;

/// Free buffers of one relay. The last one given back is the first one taken: it is still in a
/// CPU's cache.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    full: Vec<Vec<u8>>,
    small: Vec<Vec<u8>>,
}

impl Pool {
    /// An empty buffer with room for [`BUFFER`] bytes.
    pub(crate) fn take(&self) -> Vec<u8> {
        let pooled = self.free.lock().full.pop();
        pooled.unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }

    /// An empty buffer for `length` bytes that does not keep much more memory than that.
    pub(crate) fn take_for(&self, length: usize) -> Vec<u8> {
        if length > SMALL {
            return Vec::with_capacity(length);
        }
        let pooled = self.free.lock().small.pop();
        pooled.unwrap_or_else(|| Vec::with_capacity(SMALL))
    }

    /// Takes buffers back; those of another size, and those beyond [`POOLED_MAX`], are freed.
    pub(crate) fn give(&self, buffers: impl Iterator<Item = Vec<u8>>) {
        let mut free = None;
        for mut buffer in buffers {
            let capacity = buffer.capacity();
            if capacity != BUFFER && capacity != SMALL {
                continue;
            }
            let free = free.get_or_insert_with(|| self.free.lock());
            let kind = if capacity == BUFFER {
                &mut free.full
            } else {
                &mut free.small
            };
            if kind.len() < POOLED_MAX {
                buffer.clear();
                kind.push(buffer);
            }
        }
    }

    /// Number of free buffers for full frames.
    pub(crate) fn free(&self) -> usize {
        self.free.lock().full.len()
    }
}

/// Bytes of a pooled buffer: what one TLS record carries.
pub(crate) const BUFFER: usize = TLS_RECORD_MAX;

/// Bytes of a small one: a few acknowledgements, which take some hundred bytes together.
const SMALL: usize = 512;

/// Most buffers of a kind that wait for their next use: 8 MiB and 256 KiB, what thirty receivers
/// have under way at once.
const POOLED_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_buffer_given_is_the_next_one_taken_and_their_number_is_bounded() {
        let pool = Pool::default();
        let (mut one, two) = (pool.take(), pool.take());
        one.extend_from_slice(b"used");
        let address = one.as_ptr();
        pool.give([two, one, Vec::with_capacity(10)].into_iter());
        assert_eq!(pool.free(), 2);
        let again = pool.take();
        assert_eq!((again.as_ptr(), again.len()), (address, 0));
        pool.give((0..2 * POOLED_MAX).map(|_| Vec::with_capacity(BUFFER)));
        assert_eq!(pool.free(), POOLED_MAX);
    }
}
