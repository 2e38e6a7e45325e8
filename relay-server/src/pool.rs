//! Keeps buffers for full frames between their uses. Decides only how many.

use std::sync::{Mutex, MutexGuard, PoisonError};

use overlan_protocol::TLS_RECORD_MAX;

/// Free buffers of one relay. The last one given back is the first one taken: it is still in a CPU's cache.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// An empty buffer with room for [`BUFFER`] bytes.
    pub(crate) fn take(&self) -> Vec<u8> {
        let pooled = self.lock().pop();
        pooled.unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }

    /// Takes buffers back; those of another size, and those beyond [`POOLED_MAX`], are freed.
    pub(crate) fn give(&self, buffers: impl Iterator<Item = Vec<u8>>) {
        let mut free = None;
        for mut buffer in buffers {
            if buffer.capacity() != BUFFER {
                continue;
            }
            let free = free.get_or_insert_with(|| self.lock());
            if free.len() == POOLED_MAX {
                return;
            }
            buffer.clear();
            free.push(buffer);
        }
    }

    /// How many buffers are free.
    pub(crate) fn free(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of a pooled buffer: what one TLS record carries.
pub(crate) const BUFFER: usize = TLS_RECORD_MAX;

/// Most buffers that wait for their next use: 8 MiB, what thirty receivers have under way at once.
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
